//! What in a smb.conf does not go with a cluster whose addresses are
//! Pacemaker's and whose files are on a shared file system. A pure function of
//! what Samba says its settings are and of what is mounted.
//!
//! Sources: smb.conf(5), vfs_fileid(8); what CTDB tells smbd about addresses
//! while CTDB has some (Samba's `source3/smbd/smb2_ioctl_network_fs.c`,
//! `source3/rpc_server/witness`).

use std::path::Path;

use super::settings::{Settings, Share};
use crate::{
    ctdbd,
    mounts::{Mount, is_within},
};

/// Directories of files that one node's daemons have among themselves. With
/// another node's in them, sockets and locks are taken for one's own.
const PRIVATE: [&str; 6] = [
    "private dir",
    "lock directory",
    "state directory",
    "cache directory",
    "pid directory",
    "ncalrpc dir",
];

/// Modules by which a file has the same identity on every node.
const SAME_FILE: [&str; 3] = ["fileid", "glusterfs_fuse", "gpfs"];

/// The longest NetBIOS name.
const LONGEST: usize = 15;

/// How bad a fault is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Gravity {
    /// The nodes do not know of each other's locks, or write over each
    /// other's state: better no service.
    Danger,
    /// Files are safe, and some clients are served less well.
    Weakness,
}

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// How bad it is.
    pub gravity: Gravity,
    /// The share that it is about, if it is not about all.
    pub share: Option<String>,
    /// What is wrong and what to write instead.
    pub text: String,
}

/// Where the settings are to be used.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The machine's name, as `uname -n` prints it.
    pub node: &'a str,
    /// What is mounted on it.
    pub mounts: &'a [Mount],
}

/// What is wrong with `settings`, the worst first.
pub fn faults(settings: &Settings, place: Place) -> Vec<Fault> {
    let mut found = Vec::new();
    if !settings.is_on("clustering") {
        found.push(danger(
            "`clustering` is off, and every node has locks, sessions and accounts of its own: \
             write `clustering = yes` into [global]",
        ));
    }
    let socket = settings.global("ctdbd socket");
    if !socket.is_empty() && socket.trim_start_matches("/var") != ctdbd::SOCKET {
        found.push(danger(format!(
            "`ctdbd socket = {socket}` is not where CTDB listens: leave it out"
        )));
    }
    for name in PRIVATE {
        let directory = Path::new(settings.global(name));
        if let Some(mount) = shared(directory, place.mounts) {
            found.push(danger(format!(
                "`{name} = {}` is on {mount}, and has to be on this node's own disk: leave it out",
                directory.display()
            )));
        }
    }
    found.extend(
        settings
            .shares()
            .filter_map(|share| of_share(&share, place)),
    );
    found.extend(weaknesses(settings, place));
    found
}

/// Device numbers are counted by each node for itself, and Samba has its locks
/// by device and inode.
fn of_share(share: &Share, place: Place) -> Option<Fault> {
    let mount = shared(share.path, place.mounts)?;
    let known = share.modules().any(|module| SAME_FILE.contains(&module));
    let own = share.modules().any(|module| module == "fileid")
        && share.get("fileid:algorithm") == "hostname";
    if known && !own {
        return None;
    }
    let remedy = if own {
        "`fileid:algorithm = hostname` makes a file of each node another one: write `fsname`"
    } else {
        "nodes do not see each other's locks there: add `fileid` to its `vfs objects`"
    };
    Some(Fault {
        gravity: Gravity::Danger,
        share: Some(share.name.to_owned()),
        text: format!("[{}] is on {mount}: {remedy}", share.name),
    })
}

fn weaknesses(settings: &Settings, place: Place) -> Vec<Fault> {
    let mut found = Vec::new();
    if settings.is_on("server multi channel support") {
        found.push(weakness(
            "`server multi channel support` is on, and clients open channels to addresses that \
             stay with the node or move on their own: write `server multi channel support = no`",
        ));
    }
    if settings.is_on("bind interfaces only") {
        found.push(weakness(
            "`bind interfaces only` is on, and smbd does not listen on an address that comes to \
             the node later: write `bind interfaces only = no`",
        ));
    }
    if settings
        .global("netbios name")
        .eq_ignore_ascii_case(&own_name(place.node))
    {
        found.push(weakness(format!(
            "`netbios name` is this node's own, {}, and every node is another server to clients \
             and to a domain: write one name on all of them",
            own_name(place.node)
        )));
    }
    if settings.global("passdb backend").starts_with("smbpasswd") {
        found.push(weakness(
            "`passdb backend = smbpasswd` keeps accounts on this node alone: write `tdbsam`, \
             which is in CTDB",
        ));
    }
    found
}

/// The name Samba takes where none is written.
fn own_name(node: &str) -> String {
    let host = node.split('.').next().unwrap_or_default();
    host.chars()
        .take(LONGEST)
        .collect::<String>()
        .to_uppercase()
}

/// The mount that a path is on, if more than one machine can have it.
fn shared<'a>(path: &Path, mounts: &'a [Mount]) -> Option<&'a Mount> {
    let root = Path::new("/");
    let of = mounts
        .iter()
        .filter(|mount| mount.point == root || is_within(path.as_os_str(), &mount.point))
        // A later mount covers an earlier one.
        .max_by_key(|mount| mount.point.as_os_str().len())?;
    let fstype = of.fstype.as_str();
    let network = [
        "afs", "beegfs", "ceph", "cifs", "gfs2", "gpfs", "lustre", "ocfs2", "smb3",
    ];
    (fstype.starts_with("fuse.") || fstype.starts_with("nfs") || network.contains(&fstype))
        .then_some(of)
}

fn danger(text: impl Into<String>) -> Fault {
    Fault {
        gravity: Gravity::Danger,
        share: None,
        text: text.into(),
    }
}

fn weakness(text: impl Into<String>) -> Fault {
    Fault {
        gravity: Gravity::Weakness,
        ..danger(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "[global]\n\tclustering = Yes\n\tnetbios name = STORHAUG\n\tctdbd socket = \n\
        \tprivate dir = /var/lib/samba/private\n\tlock directory = /run/samba\n\
        \tserver multi channel support = No\n\tpassdb backend = tdbsam\n\
        [share]\n\tpath = /run/storhaug/share\n\tvfs objects = fileid\n\tfileid:algorithm = fsname\n";

    fn mount(device: &str, point: &str, fstype: &str, source: &str) -> Mount {
        Mount {
            device: device.to_owned(),
            point: point.into(),
            fstype: fstype.to_owned(),
            source: source.into(),
        }
    }

    /// What is said about `GOOD` with one text in the place of another.
    fn said(from: &str, to: &str) -> Vec<(Gravity, String)> {
        let mounts = [
            mount("8:1", "/", "ext4", "/dev/sda1"),
            mount("0:22", "/run", "tmpfs", "tmpfs"),
            mount(
                "0:50",
                "/run/storhaug/share",
                "fuse.glusterfs",
                "localhost:/share",
            ),
        ];
        let place = Place {
            node: "node1.example.org",
            mounts: &mounts,
        };
        assert!(GOOD.contains(from), "{from}");
        let faults = faults(&Settings::parse(&GOOD.replace(from, to)), place);
        faults
            .into_iter()
            .map(|fault| (fault.gravity, fault.text))
            .collect()
    }

    #[test]
    fn a_configuration_that_fits_has_none() {
        assert_eq!(said("[global]", "[global]"), []);
        let fits = [
            ("ctdbd socket = ", "ctdbd socket = /run/ctdb/ctdbd.socket"),
            (
                "ctdbd socket = ",
                "ctdbd socket = /var/run/ctdb/ctdbd.socket",
            ),
            ("\tfileid:algorithm = fsname\n", ""),
            ("= fileid\n", "= acl_xattr glusterfs_fuse\n"),
            ("\tvfs objects = fileid", "\tvfs objects = glusterfs"),
            ("/run/storhaug/share\n\tvfs objects = fileid", "/srv/local"),
            // Beside the mount, and not in it.
            (
                "/run/storhaug/share\n\tvfs objects = fileid",
                "/run/storhaug/share2",
            ),
        ];
        for (from, to) in fits {
            assert_eq!(said(from, to), [], "{to}");
        }
    }

    #[test]
    fn each_fault_is_found_and_says_what_to_write() {
        use Gravity::{Danger, Weakness};
        let cases = [
            (
                "clustering = Yes",
                "clustering = No",
                Danger,
                "write `clustering = yes`",
            ),
            (
                "socket = ",
                "socket = /tmp/ctdb.socket",
                Danger,
                "`ctdbd socket = /tmp/ctdb.socket`",
            ),
            (
                "/var/lib/samba/private",
                "/run/storhaug/share/private",
                Danger,
                "`private dir = /run/storhaug/share/private` is on localhost:/share (fuse.glusterfs)",
            ),
            (
                "= /run/samba",
                "= /run/storhaug/share",
                Danger,
                "`lock directory",
            ),
            (
                "vfs objects = fileid",
                "vfs objects = acl_xattr",
                Danger,
                "[share] is on localhost:/share",
            ),
            ("\tvfs objects = fileid\n", "", Danger, "add `fileid`"),
            ("= fsname", "= hostname", Danger, "write `fsname`"),
            (
                "support = No",
                "support = Yes",
                Weakness,
                "`server multi channel support = no`",
            ),
            (
                "[share]",
                "\tbind interfaces only = Yes\n[share]",
                Weakness,
                "`bind interfaces only = no`",
            ),
            ("= STORHAUG", "= node1", Weakness, "this node's own, NODE1"),
            ("= tdbsam", "= smbpasswd:/etc/x", Weakness, "write `tdbsam`"),
        ];
        for (from, to, gravity, part) in cases {
            let said = said(from, to);
            assert_eq!(said.len(), 1, "{to}: {said:?}");
            assert_eq!(said[0].0, gravity, "{to}");
            assert!(said[0].1.contains(part), "{to}: {}", said[0].1);
        }
    }

    #[test]
    fn the_last_mount_on_a_path_counts() {
        let mounts = [
            mount("8:1", "/", "ext4", "/dev/sda1"),
            mount("0:50", "/srv", "nfs4", "server:/srv"),
            mount("8:2", "/srv/own", "ext4", "/dev/sdb1"),
            mount("0:51", "/srv/own", "ceph", "mon:/"),
        ];
        assert_eq!(shared(Path::new("/srv/own/x"), &mounts), Some(&mounts[3]));
        assert_eq!(shared(Path::new("/srv/own/x"), &mounts[..3]), None);
        assert_eq!(shared(Path::new("/srv/x"), &mounts), Some(&mounts[1]));
        assert_eq!(shared(Path::new("/x"), &mounts), None);
    }
}
