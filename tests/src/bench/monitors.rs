//! What one monitor of each agent costs, beside that of the agent it replaces:
//! all on one node, one after the other, while the cluster serves.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};

use super::figures::{Cost, Monitor, Monitors, Origin};
use crate::layout::{CLIENT, PREFIX};
use crate::{Lab, Machine};

/// Runs of each; the median counts.
const RUNS: &str = "20";
const AGENTS: &str = "/usr/lib/ocf/resource.d";
const SHARE: &str = "/run/storhaug/share";
const LOCK: &str = "!/usr/libexec/storhaug/storhaug-ctdb-lock";

/// An agent, which agent of ours takes its place, and its parameters.
type Candidate<'a> = (&'a str, Option<&'a str>, &'a [(&'a str, &'a str)]);

/// Measures all of them on the node that has the first address of a cluster of
/// ours.
pub fn measure(lab: &Lab) -> Result<Monitors> {
    let address = *lab.vips().first().context("a lab has addresses")?;
    let holder = lab.holder(address)?.context("the address is nowhere")?;
    let node = lab.node(&holder);
    let (address, prefix) = (address.to_string(), PREFIX.to_string());
    let machines = lab.facts().machine_names();
    let nodes = machines.iter().filter(|name| *name != CLIENT);
    let nodes = nodes.map(|name| Ok(lab.facts().address(name)?.to_string()));
    let nodes = nodes.collect::<Result<Vec<_>>>()?.join(" ");
    let vip = [("ip", address.as_str()), ("cidr_netmask", &prefix)];
    let mount = [
        ("device", "localhost:/share"),
        ("directory", SHARE),
        ("fstype", "glusterfs"),
    ];
    let candidates: [Candidate; 8] = [
        ("storhaug/vip", None, &vip),
        ("heartbeat/IPaddr2", Some("storhaug/vip"), &vip),
        (
            "storhaug/glusterfs",
            None,
            &[("volume", "share"), ("directory", SHARE)],
        ),
        ("heartbeat/Filesystem", Some("storhaug/glusterfs"), &mount),
        ("storhaug/ctdb", None, &[("nodes", &nodes)]),
        (
            "heartbeat/CTDB",
            Some("storhaug/ctdb"),
            &[("ctdb_recovery_lock", LOCK)],
        ),
        ("storhaug/samba", None, &[("daemon", "smbd")]),
        ("storhaug/noded", None, &[]),
    ];
    let agents = candidates
        .into_iter()
        .map(|(agent, replaced_by, parameters)| {
            Ok(Monitor {
                agent: agent.to_owned(),
                replaced_by: replaced_by.map(str::to_owned),
                cost: cost(&node, agent, parameters).with_context(|| agent.to_owned())?,
            })
        });
    Ok(Monitors {
        agents: agents.collect::<Result<_>>()?,
        origin: Origin::here()?,
    })
}

/// Runs an agent's monitor as Pacemaker would.
fn cost(node: &Machine, agent: &str, parameters: &[(&str, &str)]) -> Result<Cost> {
    let (provider, kind) = agent.split_once('/').context("an agent has a provider")?;
    let mut environment: BTreeMap<String, &str> = [
        ("OCF_ROOT", "/usr/lib/ocf"),
        ("OCF_RA_VERSION_MAJOR", "1"),
        ("OCF_RA_VERSION_MINOR", "1"),
        ("OCF_RESOURCE_INSTANCE", "measured"),
        ("OCF_RESOURCE_PROVIDER", provider),
        ("OCF_RESOURCE_TYPE", kind),
        ("OCF_RESKEY_CRM_meta_interval", "10000"),
        ("OCF_RESKEY_CRM_meta_timeout", "20000"),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    for (name, value) in parameters {
        environment.insert(format!("OCF_RESKEY_{name}"), value);
    }
    let environment = serde_json::to_string(&environment)?;
    let program = format!("{AGENTS}/{agent}");
    let printed = node
        .command(["python3", "-", &environment, RUNS, &program, "monitor"])?
        .input(include_str!("monitors.py"))
        .run()?;
    let cost: Cost = serde_json::from_str(&printed)?;
    ensure!(cost.status == 0, "its monitor ends with {}", cost.status);
    Ok(cost)
}
