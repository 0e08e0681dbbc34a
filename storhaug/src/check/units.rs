//! The units of systemd: what Pacemaker shall start must not be started by
//! anything else, and what it needs has to run.

use std::time::Duration;

use storhaug_agents::deadline::Deadline;
use storhaug_agents::exec::{Cmd, Runner};

use crate::check::Local;
use crate::corosync::Corosync;
use crate::finding::Finding;

/// What Pacemaker owns where SMB is served, by the names of all distributions.
const SMB: [&str; 7] = [
    "ctdb.service",
    "nmb.service",
    "nmbd.service",
    "samba-ad-dc.service",
    "smb.service",
    "smbd.service",
    "winbind.service",
];

/// The same for NFS. The kernel's server would take Ganesha's port.
const NFS: [&str; 3] = [
    "nfs-ganesha-lock.service",
    "nfs-ganesha.service",
    "nfs-server.service",
];

/// What a member of a cluster starts at boot.
const CLUSTER: [&str; 2] = ["corosync.service", "pacemaker.service"];

/// The daemon that `pcs` talks to.
const PCSD: &str = "pcsd.service";

/// How long systemd may take.
const ANSWER: Duration = Duration::from_secs(10);

/// A unit as systemd knows it (org.freedesktop.systemd1(5)).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unit {
    /// `Id`, the name that it has beside its aliases.
    pub id: String,
    /// `UnitFileState`: `enabled`, `disabled`, `static`, `masked`, …; empty where
    /// there is none.
    pub file: String,
    /// `ActiveState`: `active`, `inactive`, `failed`, ….
    pub active: String,
}

/// What systemd knows of `names`, each once.
///
/// # Errors
/// It does not answer.
pub fn show(runner: &dyn Runner, names: &[&str]) -> anyhow::Result<Vec<Unit>> {
    let cmd = Cmd::new("systemctl")
        .args(["show", "-p", "Id", "-p", "UnitFileState"])
        .args(["-p", "ActiveState", "--"])
        .args(names);
    let output = runner.run(&cmd, Deadline::after(ANSWER))?.checked()?;
    let mut units: Vec<Unit> = output.split("\n\n").map(parse).collect();
    units.retain(|unit| !unit.id.is_empty());
    units.sort_by(|a, b| a.id.cmp(&b.id));
    units.dedup();
    Ok(units)
}

fn parse(block: &str) -> Unit {
    let mut unit = Unit::default();
    for (name, value) in block.lines().filter_map(|line| line.split_once('=')) {
        match name {
            "Id" => value.clone_into(&mut unit.id),
            "UnitFileState" => value.clone_into(&mut unit.file),
            "ActiveState" => value.clone_into(&mut unit.active),
            _ => {}
        }
    }
    unit
}

/// Whether Pacemaker's units are left to it.
pub fn owned(local: &Local<'_>) -> anyhow::Result<Vec<Finding>> {
    let cluster = &local.loaded.cluster;
    let smb = cluster.smb.iter().flat_map(|_| SMB);
    let nfs = cluster.nfs.iter().flat_map(|_| NFS);
    let ours: Vec<&str> = smb.chain(nfs).collect();
    let all = [&ours[..], &CLUSTER, &[PCSD]].concat();
    let units = show(local.machine.runner, &all)?;
    let member = Corosync::read(local.machine.root)?.is_some();
    let mut found = Vec::new();
    for unit in &units {
        let id = unit.id.as_str();
        let enabled = unit.file.starts_with("enabled");
        let active = unit.active == "active";
        if id == PCSD {
            if !active || !enabled {
                found.push(Finding::error(
                    "pcsd",
                    "pcsd does not run, or not after the next boot",
                    "systemctl enable --now pcsd",
                ));
            }
        } else if CLUSTER.contains(&id) {
            if member && !enabled {
                found.push(Finding::warning(
                    "cluster-at-boot",
                    format!("{id} is not started at boot, and so this node stays out after one"),
                    "pcs cluster enable",
                ));
            }
        } else if enabled {
            found.push(Finding::error(
                "unit-enabled",
                format!("{id} is started at boot, and is Pacemaker's to start"),
                format!("systemctl disable {id}"),
            ));
        } else if active && !member {
            found.push(Finding::error(
                "unit-running",
                format!("{id} runs, and is Pacemaker's to start"),
                format!("systemctl stop {id}"),
            ));
        }
    }
    Ok(found)
}

/// Whether the clock is set by somebody.
pub fn clock(local: &Local<'_>) -> anyhow::Result<Vec<Finding>> {
    let cmd = Cmd::new("timedatectl").args(["show", "--property=NTPSynchronized", "--value"]);
    let output = local.machine.runner.run(&cmd, Deadline::after(ANSWER))?;
    Ok(match output.checked()?.trim() {
        "no" => vec![Finding::warning(
            "clock",
            "the clock is not synchronized: times in logs, and Kerberos, need one that is",
            "run a time service on every node, such as chrony",
        )],
        _ => Vec::new(),
    })
}
