//! CTDB's list of nodes. A node's place in it is its number, for good: a node
//! that was removed leaves its place behind, marked with `#`, which is no
//! comment there (ctdb(7), "PRIVATE ADDRESSES").

use std::{fmt, net::IpAddr, net::UdpSocket, str::FromStr};

use anyhow::{Context, bail};

/// The list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nodes(Vec<Slot>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Slot {
    address: IpAddr,
    removed: bool,
}

impl Nodes {
    /// Whether one of the addresses, not that of a removed node, is one of
    /// this machine's.
    pub fn has_this_node(&self) -> bool {
        let mut live = self.0.iter().filter(|slot| !slot.removed);
        // Only an own address can be bound.
        live.any(|slot| UdpSocket::bind((slot.address, 0)).is_ok())
    }
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
        assert!(here.has_this_node());
        let removed: Nodes = "192.0.2.1 #127.0.0.1".parse().unwrap();
        assert!(!removed.has_this_node());
    }
}
