//! The lab itself: what a killed run leaves behind.

use std::time::Duration;

use anyhow::{Result, ensure};
use storhaug_lab::Cmd;

use crate::cluster::{Cluster, scratch};

const COMMAND: &str = env!("CARGO_BIN_EXE_storhaug-lab");
const NAME: &str = "killed";

/// `down` after a killed `up` leaves no process, no mount, no namespace.
pub fn killed(c: &Cluster) -> Result<()> {
    let lab = |verb: &[&str]| {
        Cmd::new(COMMAND)
            .args(verb.iter().copied())
            .args(["--name", NAME])
    };
    let mut up = lab(&["up", "--blank"]).spawn(&scratch("killed.log"))?;
    c.until(60, "a machine runs", || {
        Ok(c.traces_of(NAME)?
            .iter()
            .any(|trace| trace.starts_with("/proc/")))
    })?;
    up.kill()?;
    up.wait()?;
    lab(&["down"]).limit(Duration::from_secs(120)).run()?;
    let left = c.traces_of(NAME)?;
    ensure!(left.is_empty(), "left behind: {left:?}");
    Ok(())
}
