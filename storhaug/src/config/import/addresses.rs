//! Names of nodes that are known by their addresses alone.

use std::net::IpAddr;

use super::super::places::Found;
use super::open;

/// What a file of hosts(5) says.
#[derive(Debug, Default)]
pub(super) struct Hosts(Vec<(IpAddr, Vec<String>)>);

impl Hosts {
    pub(super) fn of<'a>(files: impl Iterator<Item = &'a Found>) -> Hosts {
        let mut hosts = Vec::new();
        for line in files.flat_map(|file| file.text.lines()) {
            let mut words = line.split('#').next().unwrap_or("").split_whitespace();
            let Some(Ok(address)) = words.next().map(str::parse::<IpAddr>) else {
                continue;
            };
            let names: Vec<String> = words.map(str::to_owned).collect();
            if !names.is_empty() && !address.is_loopback() {
                hosts.push((address, names));
            }
        }
        Hosts(hosts)
    }

    /// The name of the node with this address, or what asks for it.
    pub(super) fn name_of(&self, address: IpAddr) -> String {
        match self.names(address).first() {
            Some(name) => name.clone(),
            None => open(&format!("name-of-{address}")),
        }
    }

    /// Every name of the host with this address, the canonical one first.
    pub(super) fn names(&self, address: IpAddr) -> &[String] {
        let host = self.0.iter().find(|(other, _)| *other == address);
        host.map_or(&[], |(_, names)| names)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn names() {
        let file = Found {
            path: Path::new("hosts").into(),
            text: "127.0.1.1 n0\n10.0.0.1 n1.example.com n1 # first\n# 10.0.0.2 n2\nx y\n".into(),
            private: false,
        };
        let hosts = Hosts::of([&file].into_iter());
        let of = |address: &str| hosts.name_of(address.parse().unwrap());
        assert_eq!(of("10.0.0.1"), "n1.example.com");
        assert_eq!(of("10.0.0.2"), "<name-of-10.0.0.2>");
        assert_eq!(of("127.0.1.1"), "<name-of-127.0.1.1>");
        let names = hosts.names("10.0.0.1".parse().unwrap());
        assert_eq!(names, ["n1.example.com", "n1"]);
    }
}
