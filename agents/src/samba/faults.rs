//! What in a smb.conf does not go with a cluster whose addresses are
//! Pacemaker's and whose files are on a shared file system. A function of what
//! Samba says its settings are, of what is mounted, and of the symbolic links on
//! the machine's own disk; a file system that may hang is not looked at.
//!
//! Sources: smb.conf(5), vfs_fileid(8), and for the lists that it takes
//! `fileid_mount_entry_allowed` in `source3/modules/vfs_fileid.c`; what CTDB tells smbd about addresses
//! while CTDB has some (Samba's `source3/smbd/smb2_ioctl_network_fs.c`,
//! `source3/rpc_server/witness`).

use std::{
    collections::VecDeque,
    fs,
    path::{Component, Path, PathBuf},
};

use super::settings::{Directory, Settings, Share};
use crate::{
    ctdbd,
    mounts::{self, Mount},
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

/// Modules by which a file has the same identity on every node; `fileid` has to
/// be looked at more closely.
const SAME_FILE: [&str; 3] = ["fileid", "glusterfs_fuse", "gpfs"];

/// How many symbolic links a path may lead through, as in Linux.
const LINKS: u32 = 40;

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
#[derive(Clone, Debug)]
pub struct Place {
    /// The machine's name, as `uname -n` prints it.
    pub node: String,
    /// What is mounted on it.
    pub mounts: Vec<Mount>,
    /// The homes of the users that it has itself.
    pub homes: Vec<PathBuf>,
    /// The root of its file system, `/` but in tests.
    pub root: PathBuf,
}

/// What is wrong with `settings`, the worst first.
pub fn faults(settings: &Settings, place: &Place) -> Vec<Fault> {
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
        if let Some(mount) = place.shared(directory) {
            found.push(danger(format!(
                "`{name} = {}` is on {mount}, and has to be on this node's own disk: leave it out",
                directory.display()
            )));
        }
    }
    found.extend(
        settings
            .shares()
            .filter_map(|share| of_share(&share, settings, place)),
    );
    found.extend(weaknesses(settings, place));
    found
}

/// Device numbers are counted by each node for itself, and Samba has its locks
/// by device and inode.
fn of_share(share: &Share, settings: &Settings, place: &Place) -> Option<Fault> {
    let mount = match share.directory {
        Directory::At(path) => place.shared(path),
        Directory::Varying(path) => place.maybe_shared(path),
        Directory::Home => {
            let template = Path::new(settings.global("template homedir"));
            let mut homes = place.homes.iter();
            homes
                .find_map(|home| place.shared(home))
                .or_else(|| place.maybe_shared(template))
        }
    }?;
    let remedy = incoherence(share, mount).or_else(|| staleness(share))?;
    Some(Fault {
        gravity: Gravity::Danger,
        share: Some(share.name.to_owned()),
        text: format!("[{}] is on {mount}: {remedy}", share.name),
    })
}

/// What sends clients the contents that a file had earlier, and what to write
/// instead. From Linux 6.5 on sendfile(2) reads through the kernel's cache even
/// where a file is opened without it (fs/fuse/file.c, `fuse_splice_read`).
fn staleness(share: &Share) -> Option<String> {
    let remedy =
        "sendfile reads what another node may have written over: write `use sendfile = no`";
    share.is_on("use sendfile").then(|| remedy.to_owned())
}

/// What makes a file on `mount` another one on each node, and what to write
/// instead.
fn incoherence(share: &Share, mount: &Mount) -> Option<String> {
    for module in share.modules().filter(|module| SAME_FILE.contains(module)) {
        if module != "fileid" {
            return None;
        }
        let algorithm = match share.get("fileid:algorithm") {
            "" => share.get("fileid:mapping"),
            algorithm => algorithm,
        };
        if algorithm == "next_module" {
            continue;
        }
        if algorithm == "hostname" || share.is_on("fileid:nolock_all_inodes") {
            let setting = if algorithm == "hostname" {
                "algorithm = hostname"
            } else {
                "nolock_all_inodes"
            };
            return Some(format!(
                "`fileid:{setting}` makes a file of each node another one: write \
                 `fileid:algorithm = fsname` alone"
            ));
        }
        // A mount that is passed over has the device number of each node.
        let point = mount.point.to_string_lossy();
        for (kind, value) in [("fstype", mount.fstype.as_str()), ("mntdir", &point)] {
            let list = |which| share.list(&format!("fileid:{kind} {which}"));
            let (denied, allowed) = (list("deny"), list("allow"));
            if denied.contains(&value) {
                return Some(format!(
                    "`fileid:{kind} deny` makes `fileid` pass it over: leave {value} out of it"
                ));
            }
            if !allowed.is_empty() && !allowed.contains(&value) {
                return Some(format!(
                    "`fileid:{kind} allow` makes `fileid` pass it over: add {value} to it"
                ));
            }
        }
        return None;
    }
    let remedy = "nodes do not see each other's locks there: add `fileid` to its `vfs objects`";
    Some(remedy.into())
}

fn weaknesses(settings: &Settings, place: &Place) -> Vec<Fault> {
    let mut found = Vec::new();
    if settings.is_on("server multi channel support") {
        found.push(weakness(
            "`server multi channel support` is on, and clients open channels to addresses that \
             stay with the node or move on their own: write `server multi channel support = no`",
        ));
    }
    if settings.global("rpc start on demand helpers") == "No" {
        found.push(weakness(
            "`rpc start on demand helpers` is off, and from Samba 4.20 on clients may be offered a \
             Witness, to which CTDB tells no address: leave it out",
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
        .eq_ignore_ascii_case(&own_name(&place.node))
    {
        found.push(weakness(format!(
            "`netbios name` is this node's own, {}, and every node is another server to clients \
             and to a domain: write one name on all of them",
            own_name(&place.node)
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

impl Place {
    /// The mount that a path leads to.
    pub fn mount(&self, path: &Path) -> Option<&Mount> {
        mounts::of(&self.followed(path), &self.mounts)
    }

    /// The same, if more than one machine can have it.
    fn shared(&self, path: &Path) -> Option<&Mount> {
        self.mount(path).filter(|mount| mount.is_shared())
    }

    /// The same for a path of which smbd puts in what has `%` in it: a mount that it
    /// may lead to.
    fn maybe_shared(&self, path: &Path) -> Option<&Mount> {
        let varies = |part: &Component| part.as_os_str().as_encoded_bytes().contains(&b'%');
        let fixed: PathBuf = path.components().take_while(|part| !varies(part)).collect();
        let fixed = self.followed(&fixed);
        let rest: PathBuf = path.components().skip_while(|part| !varies(part)).collect();
        let pattern = fixed.join(rest);
        let covers = |mount: &&Mount| {
            let mut parts = pattern.components();
            let mut within = mount.point.components();
            within.all(|point| {
                let part = parts.next();
                part.is_some_and(|part| varies(&part) || part == point)
            })
        };
        let mut further = self.mounts.iter().filter(|mount| mount.is_shared());
        self.shared(&fixed).or_else(|| further.find(covers))
    }

    /// A path with its symbolic links followed, as far as that goes without a look
    /// into a file system that may hang.
    fn followed(&self, path: &Path) -> PathBuf {
        let parts = |path: &Path| -> VecDeque<PathBuf> {
            let parts = path.components();
            parts.map(|part| PathBuf::from(part.as_os_str())).collect()
        };
        let (mut reached, mut left, mut links) = (PathBuf::new(), parts(path), 0);
        while let Some(part) = left.pop_front() {
            if part == Path::new("..") {
                reached.pop();
                continue;
            }
            let next = reached.join(&part);
            if mounts::of(&next, &self.mounts).is_some_and(Mount::may_hang) {
                return left.iter().fold(next, |path, part| path.join(part));
            }
            let on_disk = self.root.join(next.strip_prefix("/").unwrap_or(&next));
            match fs::read_link(on_disk) {
                Ok(target) if links < LINKS => {
                    links += 1;
                    let mut through = parts(&target);
                    through.append(&mut left);
                    left = through;
                }
                _ => reached = next,
            }
        }
        reached
    }
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
    use std::os::unix::fs::symlink;

    use super::*;

    const GOOD: &str = "[global]\n\tclustering = Yes\n\tnetbios name = STORHAUG\n\tctdbd socket = \n\
        \tprivate dir = /var/lib/samba/private\n\tlock directory = /run/samba\n\
        \tserver multi channel support = No\n\tpassdb backend = tdbsam\n\
        [share]\n\tpath = /run/storhaug/share\n\tvfs objects = fileid\n\tfileid:algorithm = fsname\n";

    fn mount(point: &str, fstype: &str, source: &str) -> Mount {
        Mount {
            device: "0:50".to_owned(),
            point: point.into(),
            fstype: fstype.to_owned(),
            source: source.into(),
        }
    }

    /// What is said about `GOOD` with one text in the place of another.
    fn said(from: &str, to: &str) -> Vec<(Gravity, String)> {
        let mounts = vec![
            mount("/", "ext4", "/dev/sda1"),
            mount("/run", "tmpfs", "tmpfs"),
            mount("/run/storhaug/share", "fuse.glusterfs", "localhost:/share"),
            mount("/srv/desktop", "fuse.gvfsd-fuse", "gvfsd-fuse"),
            mount("/home", "autofs", "auto.home"),
            mount("/home/bob", "nfs4", "server:/bob"),
        ];
        let root = tempfile::tempdir().unwrap();
        for (link, target) in [
            ("srv/data", "../run/storhaug/./share/data"),
            ("srv/all", "/run/storhaug"),
            ("srv/loop", "loop"),
            ("home/alice", "/run/storhaug/share"),
        ] {
            let link = root.path().join(link);
            fs::create_dir_all(link.parent().unwrap()).unwrap();
            symlink(target, link).unwrap();
        }
        let place = Place {
            node: "node1.example.org".to_owned(),
            mounts,
            homes: vec!["/nonexistent".into(), "/srv/data/alice".into()],
            root: root.path().to_owned(),
        };
        assert!(GOOD.contains(from), "{from}");
        let faults = faults(&Settings::parse(&GOOD.replace(from, to)), &place);
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
            ("/run/storhaug/share\n\tvfs objects = fileid", "/srv/loop/x"),
            ("/run/storhaug/share\n\tvfs objects = fileid", "/srv/%U/x"),
            (
                "/run/storhaug/share\n\tvfs objects = fileid",
                "/srv/desktop/x",
            ),
            // Nobody looks where that would have something mounted.
            ("/run/storhaug/share\n\tvfs objects = fileid", "/home/alice"),
            (
                "/run/storhaug/share\n\tvfs objects = fileid",
                "/%U/storhaug",
            ),
            // The home of a user is where a symbolic link leads to.
            ("[share]\n\tpath = /run/storhaug/share\n", "[homes]\n"),
            (
                "= fileid\n",
                "= fileid gpfs\n\tfileid:algorithm = next_module\n",
            ),
            (
                "= fileid\n",
                "= fileid\n\tfileid:fstype deny = nfs tmpfs\n\tfileid:mntdir allow = /a /run/storhaug/share\n",
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
            (
                "vfs objects = fileid",
                "vfs objects = fileid\n\tuse sendfile = Yes",
                Danger,
                "write `use sendfile = no`",
            ),
            (
                "clustering = Yes",
                "clustering = Yes\n\trpc start on demand helpers = No",
                Weakness,
                "CTDB tells no address: leave it out",
            ),
            (
                "= fsname",
                "= hostname",
                Danger,
                "write `fileid:algorithm = fsname`",
            ),
            (
                "= fsname",
                "= fsname\n\tfileid:nolock_all_inodes = yes",
                Danger,
                "`fileid:nolock_all_inodes` makes",
            ),
            ("= fsname", "= next_module", Danger, "add `fileid`"),
            (
                "= fsname",
                "= fsname\n\tfileid:fstype deny = nfs, fuse.glusterfs",
                Danger,
                "leave fuse.glusterfs out",
            ),
            (
                "= fsname",
                "= fsname\n\tfileid:mntdir allow = /srv",
                Danger,
                "`fileid:mntdir allow` makes `fileid` pass it over: add /run/storhaug/share to it",
            ),
            (
                "/run/storhaug/share\n\tvfs objects = fileid",
                "/run/storhaug/share/%U",
                Danger,
                "add `fileid`",
            ),
            (
                "/run/storhaug/share\n\tvfs objects = fileid",
                "/srv/all/%S/x",
                Danger,
                "[share] is on localhost:/share",
            ),
            (
                "/run/storhaug/share\n\tvfs objects = fileid",
                "/%D/storhaug/%U",
                Danger,
                "[share] is on localhost:/share",
            ),
            (
                "/run/storhaug/share\n\tvfs objects = fileid",
                "/srv/data",
                Danger,
                "[share] is on localhost:/share",
            ),
            (
                "/run/storhaug/share\n\tvfs objects = fileid",
                "/home/bob/x",
                Danger,
                "[share] is on server:/bob",
            ),
            (
                "/var/lib/samba/private",
                "/srv/data/private",
                Danger,
                "`private dir = /srv/data/private` is on",
            ),
            (
                "[share]\n\tpath = /run/storhaug/share\n\tvfs objects = fileid\n",
                "[homes]\n",
                Danger,
                "[homes] is on localhost:/share",
            ),
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
}
