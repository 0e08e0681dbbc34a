//! Where everything of a lab is: its names, directories and addresses, all
//! derived from the lab's name, so that a lab whose `up` was killed can be
//! cleaned up by name alone.

use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use serde::{Deserialize, Serialize};

/// Holds one directory per lab with what is gone after a reboot.
const RUN: &str = "/run/storhaug-lab";
/// Holds one directory per lab with the machines' disks.
const DISKS: &str = "/var/lib/storhaug-lab";
/// The client host, a machine as the nodes are, without an init.
pub const CLIENT: &str = "client";
/// The network of every lab; each has its own, none leads anywhere.
pub const NETWORK: &str = "10.77.0.0/24";
/// Prefix length of [`NETWORK`].
pub const PREFIX: u8 = 24;
/// Prefix length of the IPv6 network.
pub const PREFIX6: u8 = 64;
/// The directory inside a node, shared with the lab, in which the socket of
/// the fence agent is: the out of band network.
pub const FENCE_DIR: &str = "/var/lib/fence_lab";
/// More nodes than this make no sense on one machine, nor to Corosync.
pub const MOST_NODES: u8 = 16;

/// The names and places of one lab.
#[derive(Debug, Clone)]
pub struct Layout {
    name: String,
}

/// What has to be remembered about a lab while it exists.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// Number of nodes, named `node1` and so on.
    pub nodes: u8,
    /// Number of further machines, named as nodes that come after them.
    pub spares: u8,
    /// The Debian release the machines run.
    pub release: String,
    /// The image under every machine's disk.
    pub image: PathBuf,
}

impl Layout {
    /// A lab's layout; the name is a short word, because names of machines,
    /// namespaces and directories are made of it.
    pub fn new(name: &str) -> Result<Self> {
        let valid = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        ensure!(
            (1..=24).contains(&name.len()) && name.chars().all(valid) && !name.starts_with('-'),
            "lab name `{name}`: use 1 to 24 of a-z, 0-9 and `-`"
        );
        Ok(Self {
            name: name.to_owned(),
        })
    }

    /// The lab's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What is gone after a reboot. It exists as long as the lab does.
    pub fn run(&self) -> PathBuf {
        Path::new(RUN).join(&self.name)
    }

    /// The machines' disks.
    pub fn disks(&self) -> PathBuf {
        Path::new(DISKS).join(&self.name)
    }

    /// One machine's disk: layers, bricks, console log.
    pub fn disk(&self, machine: &str) -> PathBuf {
        self.disks().join(machine)
    }

    /// The root file system of a machine.
    pub fn root(&self, machine: &str) -> PathBuf {
        self.disk(machine).join("root")
    }

    /// The directory that every node shares with the lab, seen from outside.
    pub fn fence_dir(&self) -> PathBuf {
        self.run().join("fence")
    }

    /// The socket on which the rack is asked for power.
    pub fn socket(&self) -> PathBuf {
        self.fence_dir().join("socket")
    }

    /// The rack's own log.
    pub fn log(&self) -> PathBuf {
        self.run().join("rack.log")
    }

    /// The network namespace of a machine, or of the switch.
    pub fn namespace(&self, machine: &str) -> String {
        format!("storhaug-lab.{}.{machine}", self.name)
    }

    /// What the names of all the lab's network namespaces begin with.
    pub fn namespaces(&self) -> String {
        self.namespace("")
    }

    /// Reads what `up` wrote about the lab.
    pub fn facts(&self) -> Result<Facts> {
        let file = self.run().join("lab.json");
        let text = match fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                bail!(
                    "there is no lab `{0}`; start one with `up --name {0}`",
                    self.name
                )
            }
            Err(error) => {
                return Err(error).with_context(|| format!("reading {}", file.display()));
            }
        };
        serde_json::from_str(&text).with_context(|| format!("reading {}", file.display()))
    }

    /// Writes what has to be remembered about the lab.
    pub fn remember(&self, facts: &Facts) -> Result<()> {
        let file = self.run().join("lab.json");
        fs::write(&file, serde_json::to_string_pretty(facts)?)
            .with_context(|| format!("writing {}", file.display()))
    }
}

impl Facts {
    /// The nodes' names.
    pub fn node_names(&self) -> Vec<String> {
        (1..=self.nodes).map(|n| format!("node{n}")).collect()
    }

    /// The spares' names.
    pub fn spare_names(&self) -> Vec<String> {
        let spares = self.nodes..self.nodes + self.spares;
        spares.map(|n| format!("node{}", n + 1)).collect()
    }

    /// The names of all machines.
    pub fn machine_names(&self) -> Vec<String> {
        let mut names = self.node_names();
        names.extend(self.spare_names());
        names.push(CLIENT.to_owned());
        names
    }

    /// The last octet of a machine's address.
    pub fn host_number(&self, machine: &str) -> Result<u8> {
        if machine == CLIENT {
            return Ok(110);
        }
        machine
            .strip_prefix("node")
            .and_then(|n| n.parse().ok())
            .filter(|n| (1..=self.nodes + self.spares).contains(n))
            .map(|n| 10 + n)
            .with_context(|| {
                format!(
                    "there is no machine `{machine}`; there are {}",
                    self.machine_names().join(", ")
                )
            })
    }

    /// A machine's address.
    pub fn address(&self, machine: &str) -> Result<Ipv4Addr> {
        self.host_number(machine).map(address)
    }

    /// A machine's IPv6 address.
    pub fn address6(&self, machine: &str) -> Result<Ipv6Addr> {
        self.host_number(machine).map(address6)
    }
}

/// The address in [`NETWORK`] with this last octet.
pub fn address(host: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, host)
}

/// The IPv6 address that goes with it, the same digits.
pub fn address6(host: u8) -> Ipv6Addr {
    let digits = u16::from(host / 100) << 8 | u16::from(host / 10 % 10) << 4 | u16::from(host % 10);
    Ipv6Addr::new(0xfd00, 0x77, 0, 0, 0, 0, 0, digits)
}

/// Addresses that nobody has, for virtual addresses.
pub fn free_addresses() -> impl Iterator<Item = Ipv4Addr> {
    (101..=109).chain(120..=250).map(address)
}

/// IPv6 addresses that nobody has.
pub fn free_addresses6() -> impl Iterator<Item = Ipv6Addr> {
    (101..=109).chain(120..=250).map(address6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_leave_their_place_are_refused() {
        for bad in ["", "../x", "a.b", "A", "-x", "a b", &"x".repeat(25)] {
            assert!(Layout::new(bad).is_err(), "{bad:?}");
        }
        assert!(Layout::new("stories-1").is_ok());
    }

    #[test]
    fn machines_have_the_documented_addresses() {
        let facts = Facts {
            nodes: 3,
            spares: 1,
            release: "bookworm".into(),
            image: PathBuf::new(),
        };
        assert_eq!(
            facts.address("node3").unwrap(),
            Ipv4Addr::new(10, 77, 0, 13)
        );
        assert_eq!(
            facts.address(CLIENT).unwrap(),
            Ipv4Addr::new(10, 77, 0, 110)
        );
        assert_eq!(facts.address6("node1").unwrap().to_string(), "fd00:77::11");
        assert_eq!(facts.address6(CLIENT).unwrap().to_string(), "fd00:77::110");
        assert_eq!(facts.node_names(), ["node1", "node2", "node3"]);
        assert_eq!(facts.spare_names(), ["node4"]);
        assert_eq!(
            facts.address("node4").unwrap(),
            Ipv4Addr::new(10, 77, 0, 14)
        );
        for unknown in ["node0", "node5", "node", "switch"] {
            assert!(facts.address(unknown).is_err(), "{unknown}");
        }
    }
}
