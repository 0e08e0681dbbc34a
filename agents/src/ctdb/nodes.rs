//! CTDB's list of nodes. A node's place in it is its number, for good: a node
//! that was removed leaves its place behind, marked with `#`, which is no
//! comment there (ctdb(7), "PRIVATE ADDRESSES").

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr},
    str::FromStr,
};

use anyhow::{Context, bail};

use crate::{addresses::Network, ctdbd::Node};

/// The list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nodes(Vec<Slot>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Slot {
    address: IpAddr,
    removed: bool,
}

impl Nodes {
    /// The list that a daemon has loaded, by its [`label`].
    pub fn loaded(label: &str) -> Option<Self> {
        let slots = label.split(' ').map(|word| {
            let removed = word == "-";
            let address = if removed {
                Ipv4Addr::UNSPECIFIED.into()
            } else {
                word.parse().ok()?
            };
            Some(Slot { address, removed })
        });
        slots.collect::<Option<_>>().map(Self)
    }

    /// The number of the node whose address, not that of a removed node, is
    /// one of this machine's.
    ///
    /// # Errors
    /// The kernel does not say which addresses this machine has.
    pub fn this_node(&self) -> anyhow::Result<Option<usize>> {
        let own = Network::open()?.addresses()?;
        let ours =
            |slot: &Slot| !slot.removed && own.iter().any(|address| address.ip == slot.address);
        Ok(self.0.iter().position(ours))
    }

    /// Whether the node of this number is removed.
    pub fn removes(&self, number: usize) -> bool {
        self.0.get(number).is_some_and(|slot| slot.removed)
    }

    /// Why a daemon that has loaded `other` can never load this list; none
    /// where it can. Source: `check_node_map` in CTDB's tool.
    pub fn conflict(&self, other: &Self) -> Option<String> {
        for (number, loaded) in other.0.iter().enumerate() {
            let address = loaded.address;
            match self.0.get(number) {
                None => return Some(format!("keep the place of node {number}, #{address}")),
                Some(slot) if slot.removed || loaded.removed || slot.address == address => {}
                Some(slot) => {
                    return Some(format!(
                        "node {number} is {address}, and gets no other address: write #{address} \
                         in its place, and {} at the end",
                        slot.address
                    ));
                }
            }
        }
        None
    }

    /// The list in the form of [`label`].
    pub fn label(&self) -> String {
        labelled(
            self.0
                .iter()
                .map(|slot| (!slot.removed).then_some(slot.address)),
        )
    }
}

/// A list that a daemon has loaded in one line, to be compared: it keeps no
/// address of a removed node, so `-` stands for each.
pub fn label(loaded: &[Node]) -> String {
    labelled(
        loaded
            .iter()
            .map(|node| (!node.flags.deleted()).then_some(node.address)),
    )
}

fn labelled(slots: impl Iterator<Item = Option<IpAddr>>) -> String {
    let words = slots.map(|slot| slot.map_or_else(|| "-".to_owned(), |slot| slot.to_string()));
    words.collect::<Vec<_>>().join(" ")
}

/// Reads the parameter: addresses with white space between.
impl FromStr for Nodes {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let mut slots: Vec<Slot> = Vec::new();
        for word in text.split_whitespace() {
            let (address, removed) = match word.strip_prefix('#') {
                Some(address) => (address, true),
                None => (word, false),
            };
            let address = address
                .parse()
                .with_context(|| format!("{word:?} is not an IP address"))?;
            if slots
                .iter()
                .any(|slot| slot.address == address && !slot.removed && !removed)
            {
                bail!("{address} is there twice");
            }
            slots.push(Slot { address, removed });
        }
        if slots.iter().all(|slot| slot.removed) {
            bail!("it names no node");
        }
        Ok(Self(slots))
    }
}

/// Writes the file `nodes`: an address in each line.
impl fmt::Display for Nodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Slot { address, removed } in &self.0 {
            let mark = if *removed { "#" } else { "" };
            writeln!(f, "{mark}{address}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists() {
        let nodes: Nodes = "10.0.0.1  #10.0.0.2\nFD00::3".parse().unwrap();
        assert_eq!(nodes.to_string(), "10.0.0.1\n#10.0.0.2\nfd00::3\n");
        for (text, error) in [
            ("", "it names no node"),
            ("#10.0.0.1", "it names no node"),
            ("node1", "\"node1\" is not an IP address"),
            ("10.0.0.1/24", "\"10.0.0.1/24\" is not an IP address"),
            ("10.0.0.1 10.0.0.1", "10.0.0.1 is there twice"),
        ] {
            let found = text.parse::<Nodes>().unwrap_err().to_string();
            assert_eq!(found, error, "{text}");
        }
    }

    #[test]
    fn this_node() {
        let here: Nodes = "198.51.100.1 127.0.0.1".parse().unwrap();
        assert_eq!(here.this_node().unwrap(), Some(1));
        let removed: Nodes = "198.51.100.1 #127.0.0.1".parse().unwrap();
        assert_eq!(removed.this_node().unwrap(), None);
    }

    #[test]
    fn what_a_daemon_never_loads() {
        let conflict = |from: &str, to: &str| {
            let to: Nodes = to.parse().unwrap();
            to.conflict(&Nodes::loaded(from).unwrap())
        };
        for (from, to) in [
            ("10.0.0.1 10.0.0.2", "10.0.0.1 10.0.0.2 10.0.0.3"),
            ("10.0.0.1 10.0.0.2", "10.0.0.1 #10.0.0.2 10.0.0.9"),
            ("10.0.0.1 -", "10.0.0.1 10.0.0.2"),
        ] {
            assert_eq!(conflict(from, to), None, "{from} {to}");
        }
        assert_eq!(
            conflict("10.0.0.1 10.0.0.2", "10.0.0.1 10.0.0.9").unwrap(),
            "node 1 is 10.0.0.2, and gets no other address: write #10.0.0.2 in its place, and \
             10.0.0.9 at the end"
        );
        assert_eq!(
            conflict("10.0.0.1 10.0.0.2", "10.0.0.1").unwrap(),
            "keep the place of node 1, #10.0.0.2"
        );
        assert_eq!(Nodes::loaded("10.0.0.1 x"), None);
        let loaded = Nodes::loaded("10.0.0.1 -").unwrap();
        assert_eq!(loaded.to_string(), "10.0.0.1\n#0.0.0.0\n");
        assert_eq!(loaded.label(), "10.0.0.1 -");
    }

    #[test]
    fn what_a_daemon_has_loaded_is_compared_with_the_list() {
        let node = |pnn, flags, address: [u8; 4]| Node {
            pnn,
            flags: crate::ctdbd::Flags(flags),
            address: address.into(),
        };
        let loaded = [
            node(0, 0, [10, 0, 0, 1]),
            node(1, 0x11, [0, 0, 0, 0]),
            node(2, 0x03, [10, 0, 0, 3]),
        ];
        assert_eq!(label(&loaded), "10.0.0.1 - 10.0.0.3");
        let same: Nodes = "10.0.0.1 #10.0.0.2 10.0.0.3".parse().unwrap();
        assert_eq!(same.label(), label(&loaded));
        for other in ["10.0.0.1 10.0.0.2 10.0.0.3", "10.0.0.1 #10.0.0.2"] {
            let other: Nodes = other.parse().unwrap();
            assert_ne!(other.label(), label(&loaded));
        }
    }
}
