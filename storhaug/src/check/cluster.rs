//! What is asked of the cluster and of its fence devices.

use crate::apply::{NOT_THE_SAME, WITHOUT_FENCING};
use crate::check::Local;
use crate::cluster::Fencing;
use crate::config;
use crate::corosync::Corosync;
use crate::desired;
use crate::finding::Finding;
use crate::machine::applied;
use crate::pacemaker;
use crate::rehearsal::{self, Power};

/// Whether a lost node can be switched off: every device is asked for its nodes.
pub fn fencing(local: &Local<'_>) -> anyhow::Result<Vec<Finding>> {
    let cluster = &local.loaded.cluster;
    if cluster.fencing == Fencing::Refused {
        return Ok(vec![Finding::warning(
            "no-fencing",
            WITHOUT_FENCING,
            "write [fencing] and run storhaug setup",
        )]);
    }
    let mut found = Vec::new();
    for device in desired::devices(cluster) {
        match rehearsal::power(local.machine.runner, &device) {
            Ok(states) => {
                let off = states.into_iter().filter(|(_, power)| *power == Power::Off);
                found.extend(off.map(|(node, _)| {
                    Finding::warning(
                        "fence-off",
                        format!("{} says that {node} is off", device.agent),
                        "switch it on, or correct the device's options",
                    )
                }));
            }
            Err(error) => found.push(Finding::error(
                "fence-device",
                format!("{error:#}"),
                "correct [fencing], or what it leads to",
            )),
        }
    }
    Ok(found)
}

/// Whether the cluster has the configuration that is written here.
pub fn configuration(local: &Local<'_>) -> anyhow::Result<Vec<Finding>> {
    if Corosync::read(local.machine.root)?.is_none() {
        return Ok(Vec::new());
    }
    let cib = pacemaker::query(local.machine.runner)?;
    let known = applied(&cib).map(|cluster| config::fingerprint(&cluster));
    Ok(match known {
        Some(known) if known != local.loaded.fingerprint => vec![Finding::warning(
            "configuration",
            NOT_THE_SAME,
            "storhaug plan",
        )],
        _ => Vec::new(),
    })
}

/// Whether all members of a cluster that runs have the same Pacemaker.
pub fn versions(local: &Local<'_>) -> anyhow::Result<Vec<Finding>> {
    if Corosync::read(local.machine.root)?.is_none() {
        return Ok(Vec::new());
    }
    let state = pacemaker::state(local.machine.runner)?;
    Ok(match state.mixed {
        true => vec![Finding::warning(
            "mixed-versions",
            "the nodes have different versions of Pacemaker, as during an upgrade",
            "upgrade all of them",
        )],
        false => Vec::new(),
    })
}
