//! A lab from its `up` to its `down`.

use std::fmt;
use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde::Serialize;

use crate::command::{self, Cmd};
use crate::image::{self, Release};
use crate::layout::{self, CLIENT, Facts, Layout, MOST_NODES};
use crate::machine::Machine;
use crate::power::{self, Power, Request};
use crate::{cell, collect, disk, gluster, network, prepare, program, wait};

/// A machine boots in ten seconds when the host has nothing else to do.
const BOOT: Duration = Duration::from_secs(240);
/// Stopping a cluster and a machine in good order.
const SHUTDOWN: Duration = Duration::from_secs(180);

/// Places on the network without machines of their own.
const FIREWALL: &str = "firewall";
const GATEWAY: &str = "gateway";
const INSIDE: &str = "inside";

const FILTER: &str = "
table inet filter {
    chain input { type filter hook input priority filter; ct state invalid drop; }
    chain forward { type filter hook forward priority filter; ct state invalid drop; }
}
";
const MASQUERADE: &str = "
table ip nat {
    chain postrouting {
        type nat hook postrouting priority srcnat; oifname \"eth0\" masquerade;
    }
}
";

/// The programs the lab itself runs, and the Debian packages they are in.
const PROGRAMS: &[(&str, &str)] = &[
    ("apt-get", "apt"),
    ("chroot", "coreutils"),
    ("ip", "iproute2"),
    ("make", "make"),
    ("mmdebstrap", "mmdebstrap"),
    ("nsenter", "util-linux"),
    ("setpriv", "util-linux"),
    ("systemd-nspawn", "systemd-container"),
];

/// What to build.
#[derive(Debug, Clone)]
pub struct Options {
    /// The lab's name; labs of different names do not see each other.
    pub name: String,
    /// Number of nodes, 1 to 16.
    pub nodes: u8,
    /// Number of further machines, which have no power, no part of the volumes
    /// and no mention in the configuration: for a cluster that grows.
    pub spares: u8,
    /// What the machines run.
    pub release: Release,
    /// Machines only: nothing of storhaug in them, no Gluster volumes.
    pub blank: bool,
    /// The project's source tree, built.
    pub source: PathBuf,
    /// Where programs are looked for, from the environment.
    pub path: std::ffi::OsString,
}

/// A lab that is up.
#[derive(Debug, Clone)]
pub struct Lab {
    layout: Layout,
    facts: Facts,
}

/// What there is in a lab, and how it is.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// The lab's name.
    pub name: String,
    /// The Debian release of its machines.
    pub release: String,
    /// The nodes, in order.
    pub nodes: Vec<NodeStatus>,
    /// The client host.
    pub client: ClientStatus,
    /// The network all are in.
    pub network: String,
    /// Addresses that nobody has, for virtual addresses.
    pub free: Vec<Ipv4Addr>,
    /// The same for IPv6.
    pub free6: Vec<Ipv6Addr>,
}

/// How a node is.
#[derive(Debug, Clone, Serialize)]
pub struct NodeStatus {
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: Ipv4Addr,
    /// Its IPv6 address.
    pub address6: Ipv6Addr,
    /// Whether it really has power.
    pub power: Power,
    /// Whether its network is cut.
    pub cut: bool,
    /// How often it was powered on: an unchanged number means it was not
    /// fenced.
    pub boots: u64,
}

/// Where the client host is.
#[derive(Debug, Clone, Serialize)]
pub struct ClientStatus {
    /// Its address.
    pub address: Ipv4Addr,
    /// Its IPv6 address.
    pub address6: Ipv6Addr,
}

impl Lab {
    /// Builds a lab and waits until it is ready. What an attempt that fails
    /// has built stays for a look, until `down`.
    pub fn up(options: &Options) -> Result<Self> {
        let layout = Layout::new(&options.name)?;
        ensure!(
            (1..=MOST_NODES).contains(&options.nodes)
                && options.spares <= MOST_NODES - options.nodes,
            "a lab has 1 to {MOST_NODES} nodes"
        );
        check_programs(&options.path)?;
        let image = image::get(options.release)?;
        let facts = Facts {
            nodes: options.nodes,
            spares: options.spares,
            release: options.release.to_string(),
            image,
        };
        claim(&layout)?;
        layout.remember(&facts)?;
        let source = (!options.blank).then_some(options.source.as_path());
        prepare::common(&layout, &facts, source)?;
        for machine in facts.machine_names() {
            prepare::machine(&layout, &facts, &machine, !options.blank)?;
        }
        network::create(&layout)?;
        let lab = Self { layout, facts };
        lab.start_rack()?;
        lab.power_on_all()?;
        if !options.blank {
            gluster::create(&lab.nodes())?;
        }
        Ok(lab)
    }

    /// A lab that is up already.
    pub fn open(name: &str) -> Result<Self> {
        let layout = Layout::new(name)?;
        let facts = layout.facts()?;
        Ok(Self { layout, facts })
    }

    /// Takes a lab down, or what is left of one; nothing happens if there is
    /// none. Everything is found by the lab's name, not by what it remembers.
    pub fn down(name: &str) -> Result<()> {
        let layout = Layout::new(name)?;
        cell::kill_all(&layout)?;
        network::destroy(&layout)?;
        disk::destroy(&layout)?;
        match fs::remove_dir_all(layout.run()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("removing {}", layout.run().display()))
            }
            _ => Ok(()),
        }
    }

    /// Names and places of this lab.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// What is remembered about this lab.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// A node by its name.
    pub fn node(&self, name: &str) -> Machine {
        Machine::new(&self.layout, name)
    }

    /// All nodes.
    pub fn nodes(&self) -> Vec<Machine> {
        let names = self.facts.node_names();
        names.iter().map(|name| self.node(name)).collect()
    }

    /// The client host.
    pub fn client(&self) -> Machine {
        Machine::new(&self.layout, CLIENT)
    }

    /// The client host behind a firewall of its own, which drops what its
    /// connection tracking finds invalid.
    pub fn firewalled(&self) -> Result<Machine> {
        network::seat(&self.layout, FIREWALL, 113)?;
        let seat = self.client().at(FIREWALL);
        rules(&seat, FILTER)?;
        Ok(seat)
    }

    /// The client host behind a gateway that translates addresses, and drops
    /// what its connection tracking finds invalid. IPv4 alone.
    pub fn gateway(&self) -> Result<Machine> {
        network::seat(&self.layout, GATEWAY, 112)?;
        network::behind(&self.layout, GATEWAY, INSIDE)?;
        rules(&self.client().at(GATEWAY), &format!("{FILTER}{MASQUERADE}"))?;
        Ok(self.client().at(INSIDE))
    }

    /// Pulls a node's power cord.
    pub fn crash(&self, node: &str) -> Result<()> {
        self.ask(node, Request::Off)
    }

    /// Takes a node's network away; the node lives on.
    pub fn cut(&self, node: &str) -> Result<()> {
        self.ask(node, Request::Cut)
    }

    /// Gives a node its network back.
    pub fn heal(&self, node: &str) -> Result<()> {
        self.ask(node, Request::Heal)
    }

    /// Powers a node on. It has not booted when this returns; see
    /// [`Lab::wait_booted`].
    pub fn start(&self, node: &str) -> Result<()> {
        self.ask(node, Request::On)
    }

    /// Powers the first spare on, and waits until it has booted: the lab with it
    /// as its last node.
    pub fn with_spare(&self) -> Result<Self> {
        let spares = self.facts.spare_names();
        let spare = spares.first().context("the lab has no spare")?;
        self.start(spare)?;
        self.wait_booted(spare)?;
        let mut lab = self.clone();
        lab.facts.nodes += 1;
        lab.facts.spares -= 1;
        Ok(lab)
    }

    /// A node's real power, from the lab and not from the cluster.
    pub fn power(&self, node: &str) -> Result<Power> {
        self.machine(node).map(|machine| machine.power)
    }

    /// How often a node was powered on since the lab came up.
    pub fn boots(&self, node: &str) -> Result<u64> {
        self.machine(node).map(|machine| machine.boots)
    }

    /// When a node last lost its power, in seconds since 1970.
    pub fn died(&self, node: &str) -> Result<f64> {
        let died = self.machine(node)?.died;
        died.with_context(|| format!("{node} never lost its power"))
    }

    /// Waits until a node has booted: its init has nothing left to start, and
    /// the daemons that clusters are set up with answer.
    pub fn wait_booted(&self, node: &str) -> Result<()> {
        let machine = self.node(node);
        wait::until_true(&format!("{node} has booted"), BOOT, || {
            let state = machine.exec(["systemctl", "is-system-running", "--wait"])?;
            if !["running", "degraded"].contains(&state.stdout().trim()) {
                bail!("systemd is {}", state.stdout().trim());
            }
            let ports = machine.run(["ss", "--no-header", "--listening", "--tcp", "--numeric"])?;
            for (daemon, port) in [("pcsd", 2224), ("glusterd", 24007)] {
                ensure!(listens(&ports, port), "{daemon} does not listen");
            }
            Ok(true)
        })
    }

    /// Waits until `condition` gives a value; see [`wait::until`].
    pub fn wait<T>(
        &self,
        what: &str,
        limit: Duration,
        condition: impl FnMut() -> Result<Option<T>>,
    ) -> Result<T> {
        wait::until(what, limit, condition)
    }

    /// Shuts all nodes down in good order, keeps what they have on disk, and
    /// boots them again.
    pub fn snapshot(&self) -> Result<()> {
        self.shut_down()?;
        self.each_disk(disk::snapshot)?;
        self.power_on_all()
    }

    /// Throws away what the nodes did since the snapshot, and boots them.
    pub fn restore(&self) -> Result<()> {
        self.each_disk(disk::restore)?;
        self.power_on_all()
    }

    /// Writes what is needed to understand the lab into a directory.
    pub fn collect(&self, dir: &Path) -> Result<()> {
        collect::collect(self, dir)
    }

    /// What there is, and how it is.
    pub fn status(&self) -> Result<Status> {
        let machines = power::machines(&self.layout.socket())?;
        let node = |name: String| {
            let machine = machines.get(&name).with_context(|| format!("no {name}"))?;
            Ok(NodeStatus {
                address: self.facts.address(&name)?,
                address6: self.facts.address6(&name)?,
                power: machine.power,
                cut: machine.cut,
                boots: machine.boots,
                name,
            })
        };
        Ok(Status {
            name: self.layout.name().to_owned(),
            release: self.facts.release.clone(),
            nodes: self
                .facts
                .node_names()
                .into_iter()
                .map(node)
                .collect::<Result<_>>()?,
            client: ClientStatus {
                address: self.facts.address(CLIENT)?,
                address6: self.facts.address6(CLIENT)?,
            },
            network: layout::NETWORK.to_owned(),
            free: layout::free_addresses().collect(),
            free6: layout::free_addresses6().collect(),
        })
    }

    /// A command outside all machines that ends with the lab, whoever started
    /// it: a virtual machine on the switch, for example. `cell` names it, and
    /// [`cell::kill_cell`] ends it sooner.
    pub fn confined<I, S>(&self, cell: &str, argv: I) -> Result<Cmd>
    where
        I: IntoIterator<Item = S>,
        S: Into<String>,
    {
        Ok(Cmd::new(program("storhaug-lab")?)
            .args(["confine", "--name", self.layout.name(), cell, "--"])
            .args(argv))
    }

    fn start_rack(&self) -> Result<()> {
        fs::create_dir_all(self.layout.fence_dir())
            .with_context(|| format!("creating {}", self.layout.fence_dir().display()))?;
        let rack = program("storhaug-lab")?;
        let argv = [rack.as_str(), "rack", "--name", self.layout.name()];
        self.confined("rack", argv)?
            .directory(Path::new("/"))
            .spawn(&self.layout.log())?;
        wait::until("the rack answers", Duration::from_secs(20), || {
            power::machines(&self.layout.socket()).map(Some)
        })
        .with_context(|| format!("see {}", self.layout.log().display()))?;
        Ok(())
    }

    /// All but the spares.
    fn power_on_all(&self) -> Result<()> {
        let nodes = self.facts.node_names();
        self.ask(CLIENT, Request::On)?;
        for node in &nodes {
            self.ask(node, Request::On)?;
        }
        nodes.iter().try_for_each(|node| self.wait_booted(node))
    }

    fn shut_down(&self) -> Result<()> {
        for node in self.nodes() {
            if self.power(node.name())? == Power::On {
                node.run(["systemctl", "poweroff", "--no-block"])?;
            }
        }
        wait::until_true("all nodes are off", SHUTDOWN, || {
            let machines = power::machines(&self.layout.socket())?;
            Ok(self
                .facts
                .node_names()
                .iter()
                .all(|node| machines[node].power == Power::Off))
        })
    }

    /// Does something to the disk of every machine, while all are off: one
    /// left on would have the others fenced, and so booted.
    fn each_disk(&self, change: fn(&Layout, &str) -> Result<()>) -> Result<()> {
        let machines = self.facts.machine_names();
        for machine in &machines {
            self.ask(machine, Request::Off)?;
            self.ask(machine, Request::Heal)?;
        }
        for machine in &machines {
            change(&self.layout, machine)?;
        }
        Ok(())
    }

    fn machine(&self, name: &str) -> Result<power::Machine> {
        power::machines(&self.layout.socket())?
            .remove(name)
            .with_context(|| format!("there is no machine `{name}`"))
    }

    fn ask(&self, machine: &str, request: fn(String) -> Request) -> Result<()> {
        power::ask(&self.layout.socket(), &request(machine.to_owned()))
            .map(drop)
            .with_context(|| machine.to_owned())
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "lab {} ({}), network {}",
            self.name, self.release, self.network
        )?;
        for node in &self.nodes {
            let power = match node.power {
                Power::On => "on",
                Power::Off => "off",
            };
            let cut = if node.cut { ", cut" } else { "" };
            writeln!(f, "{:8} {:12} {power}{cut}", node.name, node.address)?;
        }
        writeln!(f, "{CLIENT:8} {}", self.client.address)?;
        let (Some(first), Some(last)) = (self.free.first(), self.free.last()) else {
            return Ok(());
        };
        writeln!(
            f,
            "{:8} {} addresses from {first} to {last}",
            "free",
            self.free.len()
        )
    }
}

/// Loads a ruleset of nft in a place on the network.
fn rules(place: &Machine, ruleset: &str) -> Result<()> {
    place
        .command(["nft", "--file", "-"])?
        .input(ruleset)
        .run()?;
    Ok(())
}

/// Makes the lab's directory, which only one can.
fn claim(layout: &Layout) -> Result<()> {
    let run = layout.run();
    if let Some(all) = run.parent() {
        fs::create_dir_all(all).with_context(|| format!("creating {}", all.display()))?;
    }
    match fs::create_dir(&run) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => bail!(
            "lab `{0}` exists already; take it down with `down --name {0}`, or choose another --name",
            layout.name()
        ),
        made => made.with_context(|| format!("creating {}", run.display())),
    }
}

fn check_programs(path: &std::ffi::OsStr) -> Result<()> {
    let missing: Vec<_> = PROGRAMS
        .iter()
        .filter(|(program, _)| !command::found(program, path))
        .map(|(program, package)| format!("{program} (package {package})"))
        .collect();
    ensure!(missing.is_empty(), "missing: {}", missing.join(", "));
    ensure!(
        nix::unistd::geteuid().is_root(),
        "a lab is made of namespaces and mounts, so it needs root"
    );
    Ok(())
}

/// Whether something listens at a port, by the output of `ss -Hltn`, whose
/// fourth column is the local address.
fn listens(sockets: &str, port: u16) -> bool {
    sockets
        .lines()
        .filter_map(|line| line.split_whitespace().nth(3))
        .filter_map(|local| local.rsplit_once(':'))
        .any(|(_, local)| local.parse() == Ok(port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listening_port_is_found_in_any_address_form() {
        let sockets = "\
LISTEN 0 1024 0.0.0.0:24007 0.0.0.0:*
LISTEN 0 128 *:2224 *:*
LISTEN 0 128 [::]:111 [::]:*
";
        assert!(listens(sockets, 24007) && listens(sockets, 2224) && listens(sockets, 111));
        assert!(!listens(sockets, 4007));
    }
}
