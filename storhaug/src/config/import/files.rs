//! Which files are read, and what each of them is: told by what is in it, and
//! only where that says nothing by its name.

use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::draft::Form;
use super::super::places::{self, Found};
use super::super::{ConfigError, ConfigErrors, tables};
use super::{Origin, nothing};

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Lines of `KEY="value"`: an old storhaug.conf, ganesha-ha.conf, CTDB's
    /// options.
    Settings,
    /// CTDB's ctdb.conf, from version 4.9 on.
    CtdbConf,
    /// CTDB's list of nodes: an address in each line.
    Nodes,
    /// CTDB's public addresses: an address with its prefix, and interfaces.
    PublicAddresses,
    /// hosts(5).
    Hosts,
}

/// Where files are, below `/`; in a directory of copies only their names count.
const KNOWN: [&str; 12] = [
    "etc/sysconfig/storhaug.conf",
    "etc/sysconfig/nfs-ha.conf",
    "etc/sysconfig/smb-ha.conf",
    "etc/ganesha/ganesha-ha.conf",
    "etc/ctdb/nodes",
    "etc/ctdb/public_addresses",
    "etc/sysconfig/ctdb",
    "etc/default/ctdb",
    "etc/ctdb/ctdbd.conf",
    "etc/ctdb/ctdb.conf",
    "etc/ctdb/script.options",
    "etc/hosts",
];

/// Directories whose files `*.conf` are parts of an old storhaug.conf.
const DROP_INS: [&str; 3] = [
    "etc/sysconfig/storhaug.d",
    "etc/default/storhaug.d",
    "storhaug.d",
];

/// Where CTDB has its event scripts, from version 4.9 on.
const SCRIPTS: [&str; 2] = ["etc/ctdb/events/legacy", "events/legacy"];

/// The event scripts that CTDB was told to run, in the directory of `origin`: a
/// link, or a program.
pub(super) fn scripts(origin: &Origin) -> Vec<PathBuf> {
    let Origin::Directory(directory) = origin else {
        return Vec::new();
    };
    let entries = SCRIPTS
        .iter()
        .filter_map(|place| directory.join(place).read_dir().ok());
    let enabled = |path: &PathBuf| {
        let found = path.symlink_metadata();
        path.extension()
            .is_some_and(|extension| extension == "script")
            && found.is_ok_and(|found| found.is_symlink() || found.mode() & 0o111 != 0)
    };
    let mut scripts: Vec<PathBuf> = entries
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(enabled)
        .collect();
    scripts.sort();
    scripts
}

/// Reads the files of `origin`. There is at least one that says something
/// beside hosts.
pub(super) fn find(origin: &Origin) -> Result<Vec<(Found, Kind)>, ConfigErrors> {
    let mut errors = Vec::new();
    let mut files = Vec::new();
    match origin {
        Origin::Files(paths) => {
            for path in paths {
                match places::read(path).and_then(known) {
                    Ok(file) => files.push(file),
                    Err(error) => errors.push(error),
                }
            }
        }
        Origin::Directory(directory) => {
            for path in candidates(directory).map_err(|error| {
                ConfigError::whole(
                    directory,
                    format!("reading the directory: {error}"),
                    "name one that root can read",
                )
            })? {
                match places::read(&path) {
                    // What a package installed, and nobody filled in.
                    Ok(file) if file.says_nothing() => {}
                    Ok(file) => match known(file) {
                        Ok(file) => files.push(file),
                        Err(error) => errors.push(error),
                    },
                    Err(error) => errors.push(error),
                }
            }
        }
    }
    ConfigErrors::unless_empty(errors)?;
    if files.iter().all(|(_, kind)| *kind == Kind::Hosts) {
        let place = match origin {
            Origin::Files(paths) => paths.first().map_or(Path::new("."), |path| path),
            Origin::Directory(directory) => directory,
        };
        return Err(nothing(place, &KNOWN[..11]));
    }
    Ok(files)
}

/// The files of known names that there are.
fn candidates(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    directory.read_dir()?;
    let mut paths: Vec<PathBuf> = Vec::new();
    for known in KNOWN {
        let name = Path::new(known).file_name().unwrap_or_default();
        for path in [directory.join(known), directory.join(name)] {
            if !paths.contains(&path) {
                paths.push(path);
            }
        }
    }
    let more = paths.iter().position(|path| path.ends_with("nfs-ha.conf"));
    for drop_ins in DROP_INS {
        let found = places::drop_ins(&directory.join(drop_ins))?;
        let at = more.unwrap_or(0);
        paths.splice(at..at, found);
    }
    // A directory may have the name of a file, as /etc/ctdb has.
    paths.retain(|path| path.is_file());
    Ok(paths)
}

/// What a file is.
fn known(file: Found) -> Result<(Found, Kind), ConfigError> {
    if file.says_nothing() {
        return Err(ConfigError::whole(
            &file.path,
            "there is nothing in it",
            "leave it out",
        ));
    }
    if is_ours(&file) {
        return Err(ConfigError::whole(
            &file.path,
            "it is a storhaug.conf in the TOML form already",
            "use it as it is",
        ));
    }
    match kind(&file.text).or_else(|| by_name(&file.path)) {
        Some(kind) => Ok((file, kind)),
        None => Err(ConfigError::whole(
            &file.path,
            "nothing tells what file this is",
            "name a storhaug.conf, a ganesha-ha.conf, or CTDB's nodes, public_addresses, \
             ctdb.conf or /etc/sysconfig/ctdb",
        )),
    }
}

/// Whether it is in the TOML form.
fn is_ours(file: &Found) -> bool {
    if file.form() != Some(Form::Toml) || file.text.parse::<toml_edit::DocumentMut>().is_err() {
        return false;
    }
    let mut errors = Vec::new();
    let path: &Arc<Path> = &file.path;
    let draft = tables::read(path, &file.text, &mut errors);
    draft.says_something() && (errors.is_empty() || !draft.vips.is_empty())
}

/// What a text is, by the first line that tells.
fn kind(text: &str) -> Option<Kind> {
    let lines = text.lines().map(str::trim);
    lines
        .filter(|line| !line.is_empty() && !line.starts_with(['#', ';']))
        .find_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let address = |word: &str| word.parse::<IpAddr>().is_ok();
            let first = words.first()?;
            let (before, rest) = first.split_once('/').unwrap_or((first, ""));
            if line.starts_with('[') {
                Some(Kind::CtdbConf)
            } else if address(before) && !rest.is_empty() {
                Some(Kind::PublicAddresses)
            } else if address(first) && words.len() == 1 {
                Some(Kind::Nodes)
            } else if address(first) {
                Some(Kind::Hosts)
            } else if line.starts_with(|c: char| c.is_ascii_uppercase()) && line.contains('=') {
                Some(Kind::Settings)
            } else {
                None
            }
        })
}

fn by_name(path: &Path) -> Option<Kind> {
    match path.file_name()?.to_str()? {
        "nodes" => Some(Kind::Nodes),
        "public_addresses" => Some(Kind::PublicAddresses),
        "hosts" => Some(Kind::Hosts),
        "ctdb.conf" => Some(Kind::CtdbConf),
        "ctdb" | "ctdbd.conf" | "script.options" | "storhaug.conf" | "ganesha-ha.conf" => {
            Some(Kind::Settings)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_told_by_what_is_in_it() {
        for (text, expected) in [
            ("# a comment\n\n192.168.122.100\n", Some(Kind::Nodes)),
            ("#10.0.0.1\nfd00::2\n", Some(Kind::Nodes)),
            ("192.168.122.200/24 eth0\n", Some(Kind::PublicAddresses)),
            ("192.168.122.200/24\n", Some(Kind::PublicAddresses)),
            ("127.0.0.1 localhost\n", Some(Kind::Hosts)),
            ("[cluster]\n\tcluster lock = /x\n", Some(Kind::CtdbConf)),
            (
                "ulimit -n 10000\nCTDB_NODES=/etc/ctdb/nodes\n",
                Some(Kind::Settings),
            ),
            ("HA_NAME=\"x\"\n", Some(Kind::Settings)),
            ("ulimit -n 10000\n", None),
            ("once upon a time\n", None),
        ] {
            assert_eq!(kind(text), expected, "{text}");
        }
    }
}
