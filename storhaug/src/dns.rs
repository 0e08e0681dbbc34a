//! `storhaug dns`: the addresses as records of one name, for clients to be
//! spread over them, in the form that zone files have (RFC 1035, section 5).

use std::fmt::Write;
use std::net::IpAddr;

use anyhow::bail;

use crate::state::{DEGRADED, State};
use crate::status::Status;

/// The records of `name` with a time to live of `ttl` seconds: the addresses
/// that a healthy node holds. There is always one: where no node is healthy, all
/// that are held, and where none is held, all.
///
/// # Errors
/// `name` is none, or there is no address.
pub fn zone(status: &Status, name: &str, ttl: u32) -> anyhow::Result<String> {
    if !is_name(name) {
        bail!("`{name}` is no name of DNS; write one such as files, files.example.com. or @");
    }
    if status.addresses.is_empty() {
        bail!("there is no address of storhaug's here; `storhaug status` tells why");
    }
    let all: Vec<(&str, IpAddr)> = status
        .addresses
        .iter()
        .map(|(resource, address)| (resource.as_str(), *address))
        .collect();
    let chosen = |wanted: fn(&State, &str) -> bool| -> Vec<IpAddr> {
        let chosen = all.iter().filter(|(resource, _)| {
            let holders = status.state.running(resource);
            holders.iter().any(|node| wanted(&status.state, node))
        });
        chosen.map(|(_, address)| *address).collect()
    };
    let (healthy, held) = (chosen(is_healthy), chosen(|_, _| true));
    let (remark, mut addresses) = match (healthy.is_empty(), held.is_empty()) {
        (false, _) => ("", healthy),
        (true, false) => ("; no node is healthy: every address that is held\n", held),
        (true, true) => (
            "; no address is held: all of them\n",
            all.iter().map(|(_, address)| *address).collect(),
        ),
    };
    addresses.sort_unstable();
    let mut text = remark.to_owned();
    for address in addresses {
        let kind = if address.is_ipv4() { "A" } else { "AAAA" };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name}\t{ttl}\tIN\t{kind}\t{address}");
    }
    Ok(text)
}

/// Whether clients are well served by a node: it takes part and stays, and
/// nothing of ours limps there.
fn is_healthy(state: &State, node: &str) -> bool {
    let part = state.nodes.get(node);
    let limps = state
        .failures
        .iter()
        .any(|failure| failure.node == node && failure.status == DEGRADED && !failure.over);
    part.is_some_and(|part| part.online && !part.unclean && !part.standby) && !limps
}

/// Whether a zone file can have `name` at the beginning of a line: labels of
/// letters, digits and `-`, of 63 at most, or `@`. BIND takes `_` for no address's
/// name.
fn is_name(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
            && !(label.starts_with('-') || label.ends_with('-'))
    };
    let relative = name.strip_suffix('.').unwrap_or(name);
    name == "@" || name.len() <= 254 && relative.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for name in ["files", "files.example.com.", "x.y-1", "@", &"a".repeat(63)] {
            assert!(is_name(name), "{name}");
        }
        for name in [
            "",
            ".",
            "a b",
            "a..b",
            "$INCLUDE",
            "a\n",
            ";",
            "ä",
            &"a".repeat(64),
        ] {
            assert!(!is_name(name), "{name}");
        }
    }
}
