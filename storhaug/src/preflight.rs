//! What this machine must have before anything is changed.

use std::net::{IpAddr, ToSocketAddrs};
use std::path::Path;

use anyhow::{Context, bail};
use ipnetwork::IpNetwork;
use nix::ifaddrs::InterfaceAddress;

use crate::cluster::{Cluster, Node};
use crate::corosync::{self, Corosync};

/// The programs that `setup` runs.
const TOOLS: [&str; 5] = ["pcs", "cibadmin", "crm_diff", "crm_mon", "crm_verify"];

/// The agents that the cluster needs, as they are installed on every node.
const AGENTS: [&str; 5] = ["ctdb", "glusterfs", "noded", "samba", "vip"];

/// Everything that is wrong with this machine, all at once.
///
/// # Errors
/// A list with what to do about each.
pub fn check(cluster: &Cluster, root: &Path, host: &str) -> anyhow::Result<()> {
    let mut wrong = Vec::new();
    if !nix::unistd::geteuid().is_root() {
        wrong.push("only root may change the cluster; run it with sudo".to_owned());
    }
    for tool in TOOLS {
        if which::which(tool).is_err() {
            wrong.push(format!(
                "{tool} is not installed; install pcs and pacemaker-cli-utils"
            ));
        }
    }
    for agent in AGENTS {
        let path = root.join("usr/lib/ocf/resource.d/storhaug").join(agent);
        if !path.exists() {
            wrong.push(format!(
                "{} is missing; install storhaug on every node",
                path.display()
            ));
        }
    }
    let example = root.join(corosync::PATH.trim_start_matches('/'));
    if example.exists() && Corosync::read(root)?.is_none() {
        wrong.push(format!(
            "{} is the example of a package, and pcs takes it for a cluster; remove it on \
             every node",
            example.display()
        ));
    }
    if cluster.node(host).is_none() {
        let names: Vec<&str> = cluster
            .nodes
            .iter()
            .map(|node| node.name.as_str())
            .collect();
        wrong.push(format!(
            "this machine is called {host}, which is none of {}; run setup on a member, or \
             write the names that `uname -n` gives",
            names.join(", ")
        ));
    }
    for node in &cluster.nodes {
        if let Err(error) = resolve(node) {
            wrong.push(format!("{error:#}"));
        }
    }
    match wrong.is_empty() {
        true => Ok(()),
        false => bail!("{}", wrong.join("\n")),
    }
}

/// The name of this machine, as Pacemaker knows it.
///
/// # Errors
/// The kernel does not say.
pub fn host_name() -> anyhow::Result<String> {
    let name = nix::sys::utsname::uname().context("asking for the name of this machine")?;
    Ok(name.nodename().to_string_lossy().into_owned())
}

/// The address of a node.
///
/// # Errors
/// It has none, or one that only it can reach.
pub fn resolve(node: &Node) -> anyhow::Result<IpAddr> {
    let name = node.address.as_deref().unwrap_or(&node.name);
    let mut addresses = (name, 0)
        .to_socket_addrs()
        .with_context(|| {
            format!("looking up {name}; give the node an address, or write it into /etc/hosts")
        })?
        .map(|address| address.ip());
    match addresses.next() {
        Some(address) if address.is_loopback() => bail!(
            "{name} is {address}, which other nodes cannot reach; take the name off the \
             loopback address in /etc/hosts"
        ),
        Some(address) => Ok(address),
        None => bail!("{name} has no address; give the node one, or write it into /etc/hosts"),
    }
}

/// The networks of this machine's interfaces, but for loopback.
///
/// # Errors
/// The kernel does not list them.
pub fn networks() -> anyhow::Result<Vec<IpNetwork>> {
    let interfaces = nix::ifaddrs::getifaddrs().context("listing the addresses of this machine")?;
    let networks = interfaces.filter_map(|interface| network(&interface));
    Ok(networks
        .filter(|network| !network.ip().is_loopback())
        .collect())
}

fn network(interface: &InterfaceAddress) -> Option<IpNetwork> {
    let (address, mask) = (interface.address?, interface.netmask?);
    let (address, mask): (IpAddr, IpAddr) = match (address.as_sockaddr_in(), mask.as_sockaddr_in())
    {
        (Some(address), Some(mask)) => (address.ip().into(), mask.ip().into()),
        _ => (
            address.as_sockaddr_in6()?.ip().into(),
            mask.as_sockaddr_in6()?.ip().into(),
        ),
    };
    IpNetwork::with_netmask(address, mask).ok()
}
