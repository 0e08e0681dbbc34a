//! What this machine must have before anything is changed.

use std::net::{IpAddr, ToSocketAddrs};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use ipnetwork::IpNetwork;
use storhaug_agents::addresses::Network;
use storhaug_agents::deadline::Deadline;
use storhaug_agents::exec::Runner;
use storhaug_agents::glusterfs;

use crate::cluster::{Cluster, Node, Storage};
use crate::config::Loaded;
use crate::corosync::{self, Corosync};
use crate::finding::Finding;
use crate::progress::Progress;

/// The programs that `setup` runs.
const TOOLS: [&str; 5] = ["pcs", "cibadmin", "crm_diff", "crm_mon", "crm_verify"];

/// The agents that every cluster needs, as they are installed on every node.
const AGENTS: [&str; 5] = ["ctdb", "glusterfs", "noded", "samba", "vip"];

/// Those that NFS needs as well.
const NFS_AGENTS: [&str; 2] = ["ganesha", "ganesha_trigger"];

/// How long GlusterFS may take to tell about a volume.
const ANSWER: Duration = Duration::from_secs(20);

/// Whether the one who runs this may change the cluster.
///
/// # Errors
/// Only root may.
pub fn root() -> anyhow::Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!("only root may change the cluster; run it with sudo");
    }
    Ok(())
}

/// Everything that is wrong with this machine, all at once.
///
/// # Errors
/// A list with what to do about each.
pub fn check(cluster: &Cluster, root: &Path, host: &str) -> anyhow::Result<()> {
    let wrong = findings(cluster, root, host)?;
    let wrong: Vec<String> = wrong.iter().map(Finding::to_string).collect();
    match wrong.is_empty() {
        true => Ok(()),
        false => bail!("{}", wrong.join("\n")),
    }
}

/// What is wrong with this machine, called `host`.
///
/// # Errors
/// A file cannot be read.
pub fn findings(cluster: &Cluster, root: &Path, host: &str) -> anyhow::Result<Vec<Finding>> {
    let mut wrong = Vec::new();
    for tool in TOOLS {
        if which::which(tool).is_err() {
            wrong.push(Finding::error(
                "tool",
                format!("{tool} is not installed"),
                "install pcs and pacemaker-cli-utils",
            ));
        }
    }
    let nfs = cluster.nfs.iter().flat_map(|_| NFS_AGENTS);
    for agent in AGENTS.into_iter().chain(nfs) {
        let path = root.join("usr/lib/ocf/resource.d/storhaug").join(agent);
        if !path.exists() {
            wrong.push(Finding::error(
                "agent",
                format!("{} is missing", path.display()),
                "install storhaug on every node",
            ));
        }
    }
    let example = root.join(corosync::PATH.trim_start_matches('/'));
    if example.exists() && Corosync::read(root)?.is_none() {
        wrong.push(Finding::error(
            "corosync-example",
            format!(
                "{} is the example of a package, and pcs takes it for a cluster",
                example.display()
            ),
            "remove it on every node",
        ));
    }
    if cluster.node(host).is_none() {
        let names: Vec<&str> = cluster
            .nodes
            .iter()
            .map(|node| node.name.as_str())
            .collect();
        wrong.push(Finding::error(
            "no-member",
            format!(
                "this machine is called {host}, which is none of {}",
                names.join(", ")
            ),
            "run it on a member, or write the names that `uname -n` gives",
        ));
    }
    let nodes = cluster.nodes.iter();
    wrong.extend(nodes.filter_map(|node| resolve(node, &[]).err()));
    Ok(wrong)
}

/// Whether every node sees at once what another one writes to the volumes, as far
/// as this machine has the `gluster` command to ask. The agent asks again every
/// minute.
///
/// # Errors
/// A volume keeps something back, and the commands that end it.
pub fn check_volumes(
    runner: &dyn Runner,
    cluster: &Cluster,
    progress: &mut Progress,
) -> anyhow::Result<()> {
    let Storage::GlusterFs { server, .. } = &cluster.storage else {
        return Ok(());
    };
    if which::which("gluster").is_err() {
        return Ok(());
    }
    let mut wrong = Vec::new();
    for volume in cluster.volumes() {
        match glusterfs::incoherence(runner, Deadline::after(ANSWER), server, volume) {
            Ok(found) => wrong.extend(found.map(|found| format!("volume {volume}: {found}"))),
            // Whether it can be mounted is seen when it is.
            Err(error) => progress.warn(&format!("asking about the volume {volume}: {error:#}")),
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

/// The address of a node. A name may have several, in an order that changes;
/// one of `known`, those in use, is taken before others.
///
/// # Errors
/// It has none, or one that only it can reach.
pub fn resolve(node: &Node, known: &[String]) -> Result<IpAddr, Finding> {
    let name = node.address.as_deref().unwrap_or(&node.name);
    let addresses = (name, 0).to_socket_addrs().map_err(|error| {
        Finding::error(
            "name",
            format!("looking up {name}: {error}"),
            "give the node an address, or write it into /etc/hosts",
        )
    })?;
    let addresses: Vec<IpAddr> = addresses.map(|address| address.ip()).collect();
    choose(name, &addresses, known)
}

fn choose(name: &str, addresses: &[IpAddr], known: &[String]) -> Result<IpAddr, Finding> {
    let known = |ip: &&IpAddr| known.iter().any(|known| known.parse() == Ok(**ip));
    let in_use = addresses.iter().find(known);
    match in_use.or(addresses.first()).copied() {
        Some(address) if address.is_loopback() => Err(Finding::error(
            "name-loopback",
            format!("{name} is {address}, which other nodes cannot reach"),
            "take the name off the loopback address in /etc/hosts",
        )),
        Some(address) => Ok(address),
        None => Err(Finding::error(
            "name",
            format!("{name} has no address"),
            "give the node one, or write it into /etc/hosts",
        )),
    }
}

/// Whether this machine has `address`.
///
/// # Errors
/// The kernel does not say.
pub fn has(address: IpAddr) -> anyhow::Result<bool> {
    let addresses = Network::open()?.addresses()?;
    Ok(addresses.iter().any(|own| own.ip == address))
}

/// Whether this machine, called `host`, has a network for every address that
/// it may have to carry.
///
/// # Errors
/// An address is in none of them, and its interface is not named.
pub fn check_networks(loaded: &Loaded, host: &str) -> anyhow::Result<()> {
    if loaded.cluster.node(host).is_some_and(|node| node.storage) {
        loaded.check_networks(&networks()?)?;
    }
    Ok(())
}

/// The networks of this machine's interfaces, but for loopback.
fn networks() -> anyhow::Result<Vec<IpNetwork>> {
    let addresses = Network::open()?.addresses()?.into_iter();
    addresses
        .filter(|address| !address.ip.is_loopback())
        .map(|address| {
            IpNetwork::new(address.ip, address.prefix)
                .with_context(|| format!("reading the network of {}", address.ip))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_addresses_the_one_in_use_stays() {
        let ips = |texts: &[&str]| -> Vec<IpAddr> {
            texts.iter().map(|text| text.parse().unwrap()).collect()
        };
        let both = ips(&["fd00::1", "10.0.0.1"]);
        assert_eq!(choose("a", &both, &[]).unwrap(), both[0]);
        let known = ["10.0.0.2".to_owned(), "10.0.0.1".to_owned()];
        assert_eq!(choose("a", &both, &known).unwrap(), both[1]);
        let error = choose("a", &ips(&["127.0.1.1"]), &[]).unwrap_err();
        assert!(error.to_string().contains("/etc/hosts"), "{error}");
        assert!(choose("a", &[], &[]).is_err());
    }
}
