//! Asking fence agents, before anything relies on them, whether they reach
//! what they would have to switch off.

use std::fmt::Write;
use std::time::Duration;

use anyhow::{Context, bail};
use storhaug_agents::deadline::Deadline;
use storhaug_agents::exec::{Cmd, Runner};

use crate::desired::Device;

/// How long an agent may take to answer.
const PATIENCE: Duration = Duration::from_secs(40);

/// The power state of everything that `device` fences, asked of its agent as
/// Pacemaker would: options on standard input, never in arguments.
///
/// # Errors
/// The agent is not installed, or does not know the state.
pub fn power(runner: &dyn Runner, device: &Device) -> anyhow::Result<Vec<(String, Power)>> {
    let states = device.victims.iter().map(|victim| {
        let mut options = String::from("action=status\n");
        for (name, value) in &device.options {
            // These are Pacemaker's own.
            if !name.starts_with("pcmk_") {
                writeln!(options, "{name}={value}")?;
            }
        }
        writeln!(options, "nodename={victim}")?;
        let option = |name| device.options.get(name).map(String::as_str);
        let argument = option("pcmk_host_argument").unwrap_or("plug");
        if argument != "none"
            && !["plug", "port", argument]
                .iter()
                .any(|n| option(n).is_some())
        {
            let plug = option("pcmk_host_map").and_then(|map| mapped(map, victim));
            writeln!(options, "{argument}={}", plug.unwrap_or(victim))?;
        }
        let cmd = Cmd::new(&device.agent).stdin(options);
        let output = runner
            .run(&cmd, Deadline::after(PATIENCE))
            .with_context(|| {
                format!(
                    "asking {} for {victim}; is it installed on every node?",
                    device.agent
                )
            })?;
        let power = match output.code() {
            Some(0) => Power::On,
            Some(2) => Power::Off,
            _ => bail!(
                "{} cannot tell whether {victim} is on, so it could not switch it off either; \
                 correct [fencing]: {}",
                device.agent,
                output.complaint()
            ),
        };
        Ok((victim.clone(), power))
    });
    states.collect()
}

/// What the device calls `node`: `server1:1;server2:2` (pacemaker-fenced(7)).
fn mapped<'a>(map: &'a str, node: &str) -> Option<&'a str> {
    let entries = map.split([';', ' ', '\t']);
    let mut pairs = entries.filter_map(|entry| entry.split_once([':', '=']));
    pairs.find(|(name, _)| *name == node).map(|(_, plug)| plug)
}

/// Whether a machine is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Power {
    /// It is.
    On,
    /// It is not.
    Off,
}
