//! `corosync.conf`: which cluster this machine belongs to, and how soon it
//! notices a lost node.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;

use crate::cluster::Failover;

/// Where Corosync is configured.
pub const PATH: &str = "/etc/corosync/corosync.conf";

/// The key of the cluster, which pcs hands out before the configuration.
pub const KEY: &str = "/etc/corosync/authkey";

/// What of `corosync.conf` matters here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Corosync {
    /// `totem.cluster_name`; empty where there is none.
    pub name: String,
    /// The nodes' names.
    pub nodes: Vec<String>,
    /// The timeouts of `totem`.
    pub totem: Totem,
    /// Whether a node has the loopback address, as no real one has.
    example: bool,
}

/// The timeouts that decide when a node is lost (corosync.conf(5)), in
/// milliseconds; `None` for Corosync's own value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totem {
    /// Without a token for so long, a node is missing.
    pub token: Option<u32>,
    /// Added to `token` for every node after the second; 650 by default.
    pub token_coefficient: Option<u32>,
    /// How long the others then take to agree; 1.2 times the token by default.
    pub consensus: Option<u32>,
}

impl Totem {
    /// The timeouts that go with a choice of speed.
    ///
    /// Fast means a token of one second, Corosync 2's own default: on a local
    /// network its four retransmissions are 238 ms apart, far above a round
    /// trip, and what is left to fear is a node that pauses. The token does
    /// not grow with the nodes, of which there are a handful, so that the
    /// consensus stays at the 1.2 tokens that corosync.conf(5) asks for.
    pub fn of(failover: Failover) -> Totem {
        match failover {
            Failover::Default => Totem::default(),
            Failover::Fast => Totem {
                token: Some(1000),
                token_coefficient: Some(0),
                consensus: Some(1200),
            },
        }
    }

    /// What a cluster with these timeouts is to have. Only what an earlier choice
    /// of `fast` has set is taken back: others are the administrator's own.
    pub fn wanted(self, failover: Failover) -> Totem {
        match failover {
            Failover::Default if self != Totem::of(Failover::Fast) => self,
            chosen => Totem::of(chosen),
        }
    }

    /// How long after a node's silent death the others have agreed on it.
    pub fn detection(&self, nodes: usize) -> Duration {
        self.token(nodes) + self.consensus(nodes)
    }

    /// The token timeout that a cluster of so many nodes runs with.
    pub fn token(&self, nodes: usize) -> Duration {
        let further = u32::try_from(nodes.saturating_sub(2)).unwrap_or(u32::MAX);
        let coefficient = u64::from(self.token_coefficient.unwrap_or(650));
        let token = u64::from(self.token.unwrap_or(3000));
        Duration::from_millis(token + coefficient * u64::from(further))
    }

    /// The consensus timeout that it runs with.
    pub fn consensus(&self, nodes: usize) -> Duration {
        match self.consensus {
            Some(consensus) => Duration::from_millis(u64::from(consensus)),
            None => self.token(nodes) * 6 / 5,
        }
    }
}

impl Corosync {
    /// Reads the file under `root`; `None` where the machine is in no cluster:
    /// there is no file, or it is the example that Debian's package brings,
    /// whose one node is the loopback address.
    ///
    /// # Errors
    /// There is one, and it cannot be read.
    pub fn read(root: &Path) -> anyhow::Result<Option<Corosync>> {
        let path = root.join(PATH.trim_start_matches('/'));
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(Some(Corosync::parse(&text)).filter(|found| !found.example)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
        }
    }

    fn parse(text: &str) -> Corosync {
        let mut corosync = Corosync::default();
        let mut sections: Vec<&str> = Vec::new();
        for line in text.lines().map(str::trim) {
            if let Some(section) = line.strip_suffix('{') {
                sections.push(section.trim());
            } else if line == "}" {
                sections.pop();
            } else if let Some((key, value)) = line.split_once(':') {
                let (key, value) = (key.trim(), value.trim());
                match (&sections[..], key) {
                    (["totem"], "cluster_name") => corosync.name = value.to_owned(),
                    (["totem"], "token") => corosync.totem.token = value.parse().ok(),
                    (["totem"], "token_coefficient") => {
                        corosync.totem.token_coefficient = value.parse().ok();
                    }
                    (["totem"], "consensus") => corosync.totem.consensus = value.parse().ok(),
                    (["nodelist", "node"], "ring0_addr") => {
                        corosync.example |= value.starts_with("127.");
                    }
                    (["nodelist", "node"], "name") => corosync.nodes.push(value.to_owned()),
                    _ => {}
                }
            }
        }
        corosync
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITTEN_BY_PCS: &str = "\
totem {
    version: 2
    cluster_name: storhaug
    transport: knet
    token: 1000
}

nodelist {
    node {
        ring0_addr: 10.77.0.11
        name: node1
        nodeid: 1
    }

    node {
        ring0_addr: 10.77.0.12
        name: node2
        nodeid: 2
    }
}

quorum {
    provider: corosync_votequorum
    two_node: 1
}
";

    #[test]
    fn what_pcs_writes_is_read() {
        let corosync = Corosync::parse(WRITTEN_BY_PCS);
        assert_eq!(corosync.name, "storhaug");
        assert_eq!(corosync.nodes, ["node1", "node2"]);
        assert_eq!(corosync.totem.token, Some(1000));
        assert_eq!(corosync.totem.consensus, None);
        assert!(!corosync.example);
        let example = WRITTEN_BY_PCS.replace("10.77.0.11", "127.0.0.1");
        assert!(Corosync::parse(&example).example);
    }

    #[test]
    fn timeouts_of_others_stay() {
        let fast = Totem::of(Failover::Fast);
        let own = Totem {
            token: Some(10_000),
            ..Totem::default()
        };
        assert_eq!(own.wanted(Failover::Default), own);
        assert_eq!(own.wanted(Failover::Fast), fast);
        assert_eq!(fast.wanted(Failover::Default), Totem::default());
    }

    /// The figures of corosync.conf(5), and those measured on three nodes.
    #[test]
    fn detection_takes_token_and_consensus() {
        let ms = |failover, nodes| Totem::of(failover).detection(nodes).as_millis();
        assert_eq!(ms(Failover::Default, 2), 6600);
        assert_eq!(ms(Failover::Default, 3), 8030);
        assert_eq!(ms(Failover::Fast, 2), 2200);
        assert_eq!(ms(Failover::Fast, 5), 2200);
    }
}
