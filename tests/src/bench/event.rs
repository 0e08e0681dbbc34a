//! What happens to clusters, and what is seen of it.

use std::fmt;
use std::fs;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Stack;
use super::clients::{Fresh, Watchers};
use super::figures::{Measurement, Origin, longest_gap, thousandths};
use crate::{Lab, wait};

/// How long a stack may take to serve again.
const SERVED: Duration = Duration::from_secs(240);

/// What happens to the node that holds the address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Event {
    /// It loses its power, silently, and comes back.
    Crash,
    /// The address is moved to another node.
    Move,
    /// Its smbd is killed.
    Kill,
    /// It loses its network, and lives on.
    Cut,
}

impl Event {
    /// All of them, in the order of the tables.
    pub const ALL: [Self; 4] = [Self::Crash, Self::Move, Self::Kill, Self::Cut];

    /// Whether the node is lost by it.
    fn loses_node(self) -> bool {
        matches!(self, Self::Crash | Self::Cut)
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Crash => "crash",
            Self::Move => "move",
            Self::Kill => "kill",
            Self::Cut => "cut",
        })
    }
}

/// Has something happen once in a cluster that is whole. One of ours is whole
/// again afterwards; what others take to get there is not asked.
pub fn measure(lab: &Lab, stack: Stack, event: Event, repeat: u32) -> Result<Measurement> {
    let address = *lab.vips().first().context("a lab has addresses")?;
    let holder = lab.holder(address)?.context("the address is nowhere")?;
    let watchers = Watchers::start(lab, address)?;
    stack.learn(lab, &holder, address)?;

    let begun = now();
    let target = happen(lab, event, &holder, address)?;
    let happened = now();
    let new = wait::until("the address serves again", SERVED, || {
        let Some(target) = &target else {
            return Ok(Some(happened));
        };
        Ok((lab.holder(address)?.as_ref() == Some(target)).then(now))
    })?;
    let mut held = event != Event::Crash;
    wait::until_true("new connections succeed", SERVED, || {
        // A server's self test takes longer than the lab's: the sockets of its
        // former life are not reset before the figures are taken.
        if !held && fencing(lab, &holder, begun)?.is_some() {
            lab.crash(&holder)?;
            held = true;
        }
        watchers.served_since(new)
    })?;
    let served = now();
    let lost = event.loses_node().then_some(holder.as_str());
    let (seen, fresh) = watchers.leave(lost)?;
    let left = now();
    let settled = if stack.ours() {
        restore(lab, event, &holder, address)?;
        stack.settle(lab)?;
        Some(now())
    } else {
        None
    };
    let fresh = Fresh::finish(fresh)?;

    let after = |moment: f64| thousandths(moment - begun);
    let arrivals = seen.arrivals.iter().copied();
    let address_at = arrivals
        .filter(|at| (begun..served).contains(at))
        .min_by(f64::total_cmp);
    let new = match event {
        Event::Move => address_at.unwrap_or(new),
        Event::Crash | Event::Kill | Event::Cut => happened,
    };
    let first = |successes: &[(f64, f64)]| {
        let successes = successes.iter().filter(|(began, _)| *began >= new);
        let first = successes.map(|(_, ended)| *ended).min_by(f64::total_cmp);
        first
            .map(after)
            .context("no connection succeeded after all")
    };
    let smb: Vec<f64> = fresh.smb.iter().map(|(_, ended)| *ended).collect();
    let timeline = |find: fn(&Lab, &str, f64) -> Result<Option<f64>>| -> Result<Option<f64>> {
        let found = lost.map(|lost| find(lab, lost, begun)).transpose()?;
        Ok(found.flatten().map(after))
    };
    let since = match event {
        Event::Kill => begun,
        Event::Crash | Event::Move | Event::Cut => address_at.unwrap_or(begun),
    };
    let clients = seen.clients.iter();
    let clients = clients.map(|(way, crowd)| Ok((way.clone(), crowd.figures(since)?)));
    Ok(Measurement {
        stack,
        event,
        repeat,
        origin: Origin::here()?,
        membership_s: timeline(membership)?,
        fenced_s: timeline(fencing)?,
        address_s: address_at.map(after),
        tcp_s: first(&fresh.tcp)?,
        smb_s: first(&fresh.smb)?,
        smb_gap_s: thousandths(longest_gap(begun, &smb, left)),
        return_gap_s: lost
            .and(settled)
            .map(|settled| thousandths(longest_gap(left, &smb, settled))),
        kernel: seen.kernel,
        clients: clients.collect::<Result<_>>()?,
    })
}

/// Takes back what happened, as far as the cluster does not do so itself.
fn restore(lab: &Lab, event: Event, holder: &str, address: IpAddr) -> Result<()> {
    let node = lab.node(holder);
    match event {
        Event::Crash => {
            lab.start(holder)?;
            lab.wait_booted(holder)?;
        }
        Event::Cut => lab.heal(holder)?,
        Event::Move => drop(node.run(["crm_resource", "--clear", "-r", &resource(address)])?),
        Event::Kill => drop(node.run(["crm_resource", "--cleanup"])?),
    }
    Ok(())
}

/// Where the address has to be in the end, if that is known.
fn happen(lab: &Lab, event: Event, holder: &str, address: IpAddr) -> Result<Option<String>> {
    match event {
        Event::Crash => lab.crash(holder)?,
        Event::Cut => lab.cut(holder)?,
        Event::Kill => {
            let node = lab.node(holder);
            let pid = node.run(["systemctl", "show", "--property=MainPID", "--value", "smbd"])?;
            ensure!(pid.trim() != "0", "smbd does not run on {holder}");
            node.run(["kill", "-9", pid.trim()])?;
        }
        Event::Move => {
            let other = lab
                .facts()
                .node_names()
                .into_iter()
                .find(|node| node != holder);
            let other = other.context("there is no other node")?;
            let resource = resource(address);
            let r#move = ["crm_resource", "--move", "-r", &resource, "-N", &other];
            lab.node(holder).run(r#move)?;
            return Ok(Some(other));
        }
    }
    Ok(None)
}

/// The name that ours have for an address.
fn resource(address: IpAddr) -> String {
    format!("vip-{address}")
}

/// When Corosync on a survivor first had another membership.
fn membership(lab: &Lab, lost: &str, begun: f64) -> Result<Option<f64>> {
    let mut first: Option<f64> = None;
    for node in lab.nodes().iter().filter(|node| node.name() != lost) {
        let since = format!("--since=@{begun:.6}");
        let entries = node.exec([
            "journalctl",
            "--output=json",
            "--unit=corosync",
            "--grep=A new membership",
            &since,
        ])?;
        for entry in entries.stdout().lines() {
            let entry: Value = serde_json::from_str(entry).context("reading the journal")?;
            let at = entry["__REALTIME_TIMESTAMP"].as_str().unwrap_or_default();
            let at = at.parse::<f64>().context("reading the journal")? / 1e6;
            first = Some(first.map_or(at, |first| first.min(at)));
        }
    }
    Ok(first)
}

/// When the rack had the lost node's power off at the cluster's wish.
fn fencing(lab: &Lab, lost: &str, begun: f64) -> Result<Option<f64>> {
    let log = fs::read_to_string(lab.layout().log()).context("reading the rack's log")?;
    Ok(fenced(&log, lost, begun))
}

/// The log has lines of the time in seconds, what was asked, and the answer.
fn fenced(log: &str, node: &str, begun: f64) -> Option<f64> {
    log.lines()
        .filter_map(|line| line.split_once(' '))
        .filter(|(_, text)| *text == format!("Reboot(\"{node}\"): Done"))
        .filter_map(|(at, _)| at.parse::<f64>().ok())
        .find(|at| *at > begun)
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fencing_is_found_in_the_racks_log() {
        let log = "\
100.000001 Reboot(\"node1\"): Done
120.500000 Off(\"node1\"): Done
127.250000 Reboot(\"node2\"): Done
127.500000 Reboot(\"node1\"): Error(\"x\")
128.750000 Reboot(\"node1\"): Done
";
        assert_eq!(fenced(log, "node1", 120.0), Some(128.75));
        assert_eq!(fenced(log, "node1", 129.0), None);
    }
}
