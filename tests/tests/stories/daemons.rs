//! Daemons that are killed, frozen, or cannot come back, and a mount that goes.

use anyhow::{Result, ensure};

use crate::client::Session;
use crate::cluster::Cluster;

/// smbd and winbindd are killed one after the other; each is noticed and comes
/// back, and the addresses serve.
pub fn killed(c: &Cluster) -> Result<()> {
    for daemon in ["smbd", "winbindd"] {
        let vip = c.vips[0];
        let holder = c.holder(vip)?;
        let before = c.main_pid(&holder, daemon)?;
        c.run(&holder, &format!("kill -9 {before}"))?;
        c.until(120, &format!("{daemon} runs again"), || {
            let now = c.main_pid(&holder, daemon)?;
            Ok(now != before && now != "0")
        })?;
        c.until(120, "the address serves", || Ok(c.serves(vip)))?;
        c.forgiven()?;
    }
    Ok(())
}

/// A stopped ctdbd answers nobody and still has its process: the monitor sees
/// it, and the address serves again.
pub fn frozen_ctdbd(c: &Cluster) -> Result<()> {
    let vip = c.vips[0];
    let holder = c.holder(vip)?;
    let frozen = c.main_pid(&holder, "ctdbd")?;
    c.run(&holder, &format!("kill -STOP {frozen}"))?;
    c.until(120, "the frozen ctdbd is gone", || {
        Ok(c.main_pid(&holder, "ctdbd")? != frozen)
    })?;
    c.until(120, "the address serves", || Ok(c.serves(vip)))?;
    c.forgiven()
}

/// A daemon whose binary is gone cannot come back: its node's addresses are
/// served elsewhere within a minute.
pub fn gone(c: &Cluster) -> Result<()> {
    for daemon in ["smbd", "ctdbd"] {
        let vip = c.vips[0];
        let holder = c.holder(vip)?;
        let binary = format!("/usr/sbin/{daemon}");
        c.run(&holder, &format!("mv {binary} {binary}.away"))?;
        c.run(&holder, &format!("pkill -9 -x {daemon}"))?;
        c.until(
            60,
            &format!("{holder} without {daemon} has no address, and they serve"),
            || Ok(c.all_left(&holder)? && c.serves(vip)),
        )?;
        c.run(&holder, &format!("mv {binary}.away {binary}"))?;
        c.forgiven()?;
    }
    Ok(())
}

/// A winbindd that cannot come back breaks no SMB session, and no address moves.
pub fn winbindd(c: &Cluster) -> Result<()> {
    let vip = c.vips[0];
    let before = c.holders()?;
    let holder = c.holder(vip)?;
    let session = Session::start(c, vip)?;
    c.run(&holder, "mv /usr/sbin/winbindd /usr/sbin/winbindd.away")?;
    c.run(&holder, "pkill -9 -x winbindd")?;
    c.until(120, "Pacemaker has seen winbindd fail", || {
        Ok(c.lab
            .view()?
            .failures
            .iter()
            .any(|failure| failure.contains("winbindd")))
    })?;
    c.run(&holder, "mv /usr/sbin/winbindd.away /usr/sbin/winbindd")?;
    c.forgiven()?;
    let writes = session.finish()?;
    ensure!(writes > 10, "only {writes} writes over the session");
    ensure!(c.holders()? == before, "an address moved");
    Ok(())
}

/// The share is unmounted behind the agent's back.
pub fn unmounted(c: &Cluster) -> Result<()> {
    let vip = c.vips[0];
    let holder = c.holder(vip)?;
    c.upload(vip, "mounted.dat", "before")?;
    c.run(&holder, "umount -l /run/storhaug/share")?;
    c.until(120, "the share is mounted again", || {
        c.succeeds(&holder, "mountpoint -q /run/storhaug/share")
    })?;
    c.until(120, "the file is read through the address", || {
        Ok(c.download(vip, "mounted.dat")? == "before")
    })?;
    c.forgiven()
}
