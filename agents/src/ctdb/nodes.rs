//! CTDB's list of nodes. A node's place in it is its number, for good: a node
//! that was removed leaves its place behind, marked with `#`, which is no
//! comment there (ctdb(7), "PRIVATE ADDRESSES").

use std::{fmt, net::IpAddr, net::UdpSocket, str::FromStr};

use anyhow::{Context, bail};

use crate::ctdbd::Node;

/// The list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nodes(Vec<Slot>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Slot {
    address: IpAddr,
    removed: bool,
}

impl Nodes {
    /// The number of the node whose address, not that of a removed node, is
    /// one of this machine's.
    pub fn this_node(&self) -> Option<usize> {
        // Only an own address can be bound.
        let ours = |slot: &Slot| !slot.removed && UdpSocket::bind((slot.address, 0)).is_ok();
        self.0.iter().position(ours)
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
        let here: Nodes = "192.0.2.1 127.0.0.1".parse().unwrap();
        assert_eq!(here.this_node(), Some(1));
        let removed: Nodes = "192.0.2.1 #127.0.0.1".parse().unwrap();
        assert_eq!(removed.this_node(), None);
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
