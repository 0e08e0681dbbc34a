//! The commands of pcs: host authentication and the life cycle of the
//! cluster, which are the two things only pcs does.
//!
//! A call takes about a second, so there are as few as can be, and their
//! number does not depend on what the cluster serves.

use std::path::Path;
use std::time::Duration;

use storhaug_agents::exec::Cmd;

use crate::cluster::{Cluster, Failover, Node};
use crate::config::Secret;
use crate::corosync::Totem;

/// How long a call may take: it starts a cluster on every node.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// The user whose password opens pcsd.
const USER: &str = "hacluster";

/// Makes this node known to the pcsd of each of `nodes`. The password goes in by
/// standard input: arguments and environment can be read by others.
pub fn host_auth(nodes: &[Node], password: &Secret) -> Cmd {
    Cmd::new("pcs")
        .args(["host", "auth"])
        .args(members(nodes))
        .args(["-u", USER, "--request-timeout=120"])
        .stdin(format!("{}\n", password.expose()))
}

/// Makes the cluster, starts it, and lets every node start it at boot.
/// `Retry::Interrupted` also replaces what an earlier call left behind.
pub fn setup(cluster: &Cluster, retry: Retry) -> Cmd {
    let mut cmd = Cmd::new("pcs")
        .args(["cluster", "setup", &cluster.name])
        .args(members(&cluster.nodes));
    if cluster.failover != Failover::Default {
        cmd = cmd.arg("totem").args(totem(Totem::of(cluster.failover)));
    }
    cmd = cmd.args(["--start", "--enable"]);
    match retry {
        Retry::No => cmd,
        Retry::Interrupted => cmd.arg("--force"),
    }
}

/// Whether a call repeats one that was interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// It is the first.
    No,
    /// An earlier one was interrupted, and what it left is ours to replace.
    Interrupted,
}

/// Changes the timeouts of a cluster that runs.
pub fn retune(wanted: Totem) -> Cmd {
    // An empty value takes an option away.
    let options = [
        ("token", wanted.token),
        ("token_coefficient", wanted.token_coefficient),
        ("consensus", wanted.consensus),
    ];
    let options = options.map(|(name, value)| {
        format!(
            "{name}={}",
            value.map(|value| value.to_string()).unwrap_or_default()
        )
    });
    Cmd::new("pcs")
        .args(["cluster", "config", "update", "totem"])
        .args(options)
}

/// Makes a node a member of the cluster, starts it, and lets it start at boot.
pub fn node_add(node: &Node) -> Cmd {
    Cmd::new("pcs")
        .args(["cluster", "node", "add"])
        .args(members(std::slice::from_ref(node)))
        .args(["--start", "--enable"])
}

/// Stops the cluster on a node and takes it out. One that cannot be reached is
/// only forgotten by the others.
pub fn node_remove(name: &str, reached: bool) -> Cmd {
    let cmd = Cmd::new("pcs").args(["cluster", "node", "remove", name]);
    if reached {
        cmd
    } else {
        // Quorum without it is asked of the node itself, and that nobody answers
        // is an error, unless forced (pcs/lib/commands/cluster.py, `remove_nodes`).
        // Whether the others keep quorum is looked at before. It is asked for its
        // authorization, for that, and to go, each time for a minute by default.
        cmd.args(["--skip-offline", "--force", "--request-timeout=20"])
    }
}

/// Gives every node the list of members that this one has.
pub fn sync() -> Cmd {
    Cmd::new("pcs").args(["cluster", "sync", "corosync"])
}

/// Has the Corosync of every node load its configuration again.
pub fn reload() -> Cmd {
    Cmd::new("pcs").args(["cluster", "reload", "corosync"])
}

/// Has Pacemaker forget a node that is no member any more.
pub fn node_clear(name: &str) -> Cmd {
    Cmd::new("pcs").args(["cluster", "node", "clear", name])
}

/// Whether the pcsd of a node was made known to this machine before.
pub fn knows(root: &Path, name: &str) -> bool {
    let file = root.join("var/lib/pcsd/known-hosts");
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let hosts: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    hosts["known_hosts"].get(name).is_some()
}

/// Starts the cluster on one node.
pub fn node_start(name: &str) -> Cmd {
    Cmd::new("pcs").args(["cluster", "start", name])
}

/// Lets one node start the cluster at boot.
pub fn node_enable(name: &str) -> Cmd {
    Cmd::new("pcs").args(["cluster", "enable", name])
}

/// Starts the cluster on every node.
pub fn start() -> Cmd {
    Cmd::new("pcs").args(["cluster", "start", "--all"])
}

/// Lets every node start the cluster at boot.
pub fn enable() -> Cmd {
    Cmd::new("pcs").args(["cluster", "enable", "--all"])
}

/// Stops the cluster on every node.
pub fn stop() -> Cmd {
    Cmd::new("pcs").args(["cluster", "stop", "--all"])
}

/// Takes the cluster's configuration off every node.
pub fn destroy() -> Cmd {
    Cmd::new("pcs").args(["cluster", "destroy", "--all"])
}

/// The nodes with their addresses, as `host auth` and `cluster setup` take
/// them.
fn members(nodes: &[Node]) -> Vec<String> {
    let mut words = Vec::new();
    for node in nodes {
        words.push(node.name.clone());
        words.extend(node.address.iter().map(|address| format!("addr={address}")));
    }
    words
}

fn totem(totem: Totem) -> Vec<String> {
    let options = [
        ("token", totem.token),
        ("token_coefficient", totem.token_coefficient),
        ("consensus", totem.consensus),
    ];
    let given = options
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)));
    given
        .map(|(name, value)| format!("{name}={value}"))
        .collect()
}
