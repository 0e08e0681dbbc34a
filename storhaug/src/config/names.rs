//! Which words may name what.

use std::collections::BTreeMap;
use std::path::{Component, Path};

use crate::cluster::Smb;

fn all(word: &str, more: &str) -> bool {
    word.chars()
        .all(|c| c.is_ascii_alphanumeric() || more.contains(c))
}

/// What `import` leaves to be filled in: `<what>`, which names nothing.
pub(super) fn is_open(word: &str) -> bool {
    word.len() > 2 && word.starts_with('<') && word.ends_with('>')
}

/// A cluster: what Corosync, pcs and file names take without quoting.
pub(super) fn is_cluster(name: &str) -> bool {
    name.len() <= 32 && name.starts_with(|c: char| c.is_ascii_alphanumeric()) && all(name, "._-")
}

/// A node: what uname(2) may report, `HOST_NAME_MAX` bytes at most.
pub(super) fn is_node(name: &str) -> bool {
    name.len() <= 64 && name.starts_with(|c: char| c.is_ascii_alphanumeric()) && all(name, "._-")
}

/// A host: an address or a name that is resolved.
pub(super) fn is_host(name: &str) -> bool {
    name.parse::<std::net::IpAddr>().is_ok()
        || name.len() <= 253
            && name.starts_with(|c: char| c.is_ascii_alphanumeric())
            && all(name, "._-")
            // All digits and dots would be an address, had it been right.
            && name.contains(|c: char| c.is_ascii_alphabetic())
}

/// A resource in the CIB, whose ids are NCNames. Of those the ASCII ones.
pub(super) fn is_resource(name: &str) -> bool {
    name.len() <= 64
        && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && all(name, "._-")
}

/// A network interface: `IFNAMSIZ` with its closing zero is 16.
pub(super) fn is_interface(name: &str) -> bool {
    (1..=15).contains(&name.len())
        && name != "."
        && name != ".."
        && name
            .chars()
            .all(|c| c.is_ascii_graphic() && !"/:\"'\\".contains(c))
}

/// A fence agent, which is a program without a directory.
pub(super) fn is_fence_agent(name: &str) -> bool {
    name.len() > "fence_".len() && name.starts_with("fence_") && all(name, "_-")
}

/// A parameter of a fence agent.
pub(super) fn is_option(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && all(name, "_-")
}

/// A parameter of a fence agent whose value nobody but root may see.
pub(super) fn is_secret(name: &str) -> bool {
    [
        "passwd",
        "password",
        "secret",
        "secret_key",
        "snmp_priv_passwd",
    ]
    .iter()
    .any(|secret| name == *secret || name.ends_with(&format!("_{secret}")))
}

/// A parameter that names a file with such a value, which a fence agent will
/// be told to read by a command.
pub(crate) fn is_secret_file(name: &str) -> bool {
    name.strip_suffix("_file").is_some_and(is_secret)
}

/// An absolute path that needs no quoting in a file of any of the services.
pub(super) fn is_plain_path(path: &str) -> bool {
    path.len() > 1
        && path.starts_with('/')
        && all(path, "/._-")
        && Path::new(path)
            .components()
            .all(|part| part != Component::ParentDir)
}

/// What `setup` calls its own resources.
const OURS: [&str; 8] = [
    "ctdb",
    "ganesha",
    "ganesha_state",
    "ganesha_trigger",
    "nmbd",
    "noded",
    "smbd",
    "winbindd",
];

/// What the ids of our constraints, devices, triggers and property sets begin
/// with.
const OUR_PREFIXES: [&str; 3] = ["storhaug", "fence-", "trigger-"];

/// The agents' directories in `/run/storhaug`, where volumes are mounted by their
/// names.
const DIRECTORIES: [&str; 3] = ["attributes", "ganesha", "starting"];

/// Whether a volume of this name would be mounted over what agents keep.
pub(super) fn is_directory(name: &str) -> bool {
    DIRECTORIES.contains(&name)
}

/// Whether `setup` uses `name` for something of its own.
pub(super) fn is_ours(name: &str) -> bool {
    OURS.contains(&name.strip_suffix("-clone").unwrap_or(name))
        || OUR_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// The resource names that are in use, and by what.
#[derive(Debug)]
pub(super) struct Taken(BTreeMap<String, String>);

impl Taken {
    /// The names of the volumes' resources.
    pub(super) fn by(smb: Option<&Smb>) -> Taken {
        let volumes = smb.map(|smb| smb.volumes.as_slice()).unwrap_or_default();
        Taken(
            volumes
                .iter()
                .flat_map(|volume| [volume.clone(), format!("{volume}-clone")])
                .map(|name| (name, "a volume".to_string()))
                .collect(),
        )
    }

    /// Takes `name` for a virtual address; `Err` says what has it already.
    pub(super) fn take(&mut self, name: &str) -> Result<(), String> {
        if is_ours(name) {
            return Err("a resource of storhaug itself".into());
        }
        match self
            .0
            .insert(name.to_string(), "another virtual address".into())
        {
            None => Ok(()),
            Some(owner) => Err(owner),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_from_what_is_none() {
        type Rule = fn(&str) -> bool;
        let long = "a".repeat(65);
        let table: [(Rule, &[&str], &[&str]); 8] = [
            (
                is_cluster,
                &["storhaug", "c1", "a.b_c-d"],
                &["", "a b", "-a", &long, "ä", "a/b"],
            ),
            (
                is_node,
                &["server1", "server1.example.com", "1a"],
                &["", "a b", ".a", &long, "a;b"],
            ),
            (
                is_host,
                &["10.0.0.1", "fd00::1", "localhost"],
                &["", "10.0.0.300", "10.0.0.1/24", "a b"],
            ),
            (
                is_resource,
                &["vip1", "_x", "vip-fd00--1"],
                &["", "1vip", "-a", "a:b", "a b", &long],
            ),
            (
                is_interface,
                &["eth0", "bond0.7", "eth0@x"],
                &["", "averyveryverylongname", "a/b", ".."],
            ),
            (
                is_fence_agent,
                &["fence_ipmilan"],
                &["", "fence_", "ipmilan", "fence_x;y", "../fence_x"],
            ),
            (
                is_plain_path,
                &["/run/storhaug", "/a"],
                &["", "/", "run", "/a/../b", "/a b", "/a;b"],
            ),
            (
                is_secret,
                &["passwd", "password", "ipmi_password"],
                &["password_file", "passwd_script", "ip"],
            ),
        ];
        for (index, (rule, good, bad)) in table.into_iter().enumerate() {
            for word in good {
                assert!(rule(word), "row {index}: {word}");
            }
            for word in bad {
                assert!(!rule(word), "row {index}: {word}");
            }
        }
    }
}
