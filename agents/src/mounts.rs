//! The mounts of a mount namespace, from `mountinfo`: read without a look at
//! any of the file systems. Source: proc(5), "/proc/pid/mountinfo".

use std::{
    ffi::{OsStr, OsString},
    fs,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
};

use anyhow::Context;

/// File systems that more than one machine can have. What others serve in user
/// space is this machine's own, archives and windows to a desktop for instance.
const SHARED: [&str; 21] = [
    "afs",
    "beegfs",
    "ceph",
    "cifs",
    "fuse.ceph",
    "fuse.ceph-fuse",
    "fuse.glusterfs",
    "fuse.juicefs",
    "fuse.mfs",
    "fuse.rclone",
    "fuse.s3fs",
    "fuse.seaweedfs",
    "fuse.sshfs",
    "gfs2",
    "gpfs",
    "lustre",
    "nfs",
    "nfs4",
    "ocfs2",
    "orangefs",
    "smb3",
];

/// A mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// `major:minor` of the file system; the number that all of its mounts, in
    /// all namespaces, have in common.
    pub device: String,
    /// Where it is mounted.
    pub point: PathBuf,
    /// Type, with the subtype of FUSE: `fuse.glusterfs`.
    pub fstype: String,
    /// What is mounted; `server:/volume` for GlusterFS.
    pub source: OsString,
}

impl Mount {
    /// Whether something is mounted below it as soon as somebody looks for it.
    pub fn is_on_demand(&self) -> bool {
        self.fstype == "autofs"
    }

    /// Whether more than one machine can have the file system.
    pub fn is_shared(&self) -> bool {
        SHARED.contains(&self.fstype.as_str())
    }

    /// Whether a look at the file system may have to wait for more than this
    /// machine's own kernel.
    pub fn may_hang(&self) -> bool {
        self.is_shared() || self.is_on_demand() || self.fstype.starts_with("fuse")
    }
}

impl std::fmt::Display for Mount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.source.display(), self.fstype)
    }
}

/// The mounts that `mountinfo` lists, in its order: a mount comes after the
/// one that it covers.
///
/// # Errors
/// It cannot be read.
pub fn read(mountinfo: &Path) -> anyhow::Result<Vec<Mount>> {
    let text = fs::read(mountinfo).with_context(|| format!("reading {}", mountinfo.display()))?;
    Ok(parse(&text))
}

fn parse(text: &[u8]) -> Vec<Mount> {
    text.split(|&byte| byte == b'\n')
        .filter_map(mount)
        .collect()
}

fn mount(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|&byte| byte == b' ');
    let device = fields.nth(2)?;
    let point = fields.nth(1)?;
    // Some optional fields come before the separator.
    fields.next()?;
    fields.by_ref().find(|field| field == b"-")?;
    Some(Mount {
        device: String::from_utf8(device.to_vec()).ok()?,
        fstype: String::from_utf8(unescape(fields.next()?)).ok()?,
        source: OsString::from_vec(unescape(fields.next()?)),
        point: OsString::from_vec(unescape(point)).into(),
    })
}

/// Undoes the octal escapes that the kernel writes for space, tab, newline,
/// backslash and `#`.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, after)) = rest.split_first() {
        let escape = (byte == b'\\').then(|| after.get(..3)).flatten();
        let value = escape
            .and_then(|digits| str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        plain.push(value.unwrap_or(byte));
        rest = if value.is_some() { &after[3..] } else { after };
    }
    plain
}

/// The mount that a path without symbolic links is on.
pub fn of<'a>(path: &Path, mounts: &'a [Mount]) -> Option<&'a Mount> {
    let root = Path::new("/");
    let over = |mount: &&Mount| mount.point == root || is_within(path.as_os_str(), &mount.point);
    // A later mount covers an earlier one.
    let length = |mount: &&Mount| mount.point.as_os_str().len();
    mounts.iter().filter(over).max_by_key(length)
}

/// Whether `path` is `directory` or below it. Works on the text alone, which
/// may be a link of `/proc` that ends in ` (deleted)`.
pub fn is_within(path: &OsStr, directory: &Path) -> bool {
    let rest = path
        .as_bytes()
        .strip_prefix(directory.as_os_str().as_bytes());
    rest.is_some_and(|rest| rest.is_empty() || rest[0] == b'/' || rest == b" (deleted)")
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    proptest! {
        #[test]
        fn no_text_makes_it_panic(
            text in vec(prop::sample::select(&b"09az /:,\\\n-"[..]), 0..200),
            bytes: Vec<u8>,
        ) {
            let _ = (parse(&text), parse(&bytes));
        }
    }

    #[test]
    fn lines() {
        let text = b"22 1 0:2 / / rw shared:1 - ext4 /dev/sda1 rw\n\
            36 22 0:47 / /run/a\\040b rw,relatime shared:5 master:1 - fuse.glusterfs n1:/s%\\134s rw,fd=4\n\
            37 22 0:48 / /x rw - tmpfs - rw\n\
            torn 22 0:4";
        let mounts = parse(text);
        assert_eq!(mounts.len(), 3);
        let gluster = &mounts[1];
        assert_eq!(gluster.point, Path::new("/run/a b"));
        assert_eq!(gluster.to_string(), r"n1:/s%\s (fuse.glusterfs)");
        assert_eq!(gluster.device, "0:47");
        assert_eq!(mounts[2].to_string(), "- (tmpfs)");
    }

    #[test]
    fn the_last_mount_on_a_path_counts() {
        let mount = |point: &str, fstype: &str| Mount {
            device: "0:50".to_owned(),
            point: point.into(),
            fstype: fstype.to_owned(),
            source: "none".into(),
        };
        let mounts = [
            mount("/", "ext4"),
            mount("/srv", "nfs4"),
            mount("/srv/own", "ext4"),
            mount("/srv/own", "ceph"),
        ];
        let of = |path: &str, mounts| of(Path::new(path), mounts);
        assert_eq!(of("/srv/own/x", &mounts), Some(&mounts[3]));
        assert_eq!(of("/srv/own/x", &mounts[..3]), Some(&mounts[2]));
        assert_eq!(of("/srv/x", &mounts), Some(&mounts[1]));
        assert_eq!(of("/x", &mounts), Some(&mounts[0]));
        assert_eq!(of("/x", &mounts[1..]), None);
    }

    #[test]
    fn this_process_has_a_root() {
        let mounts = read(Path::new("/proc/self/mountinfo")).unwrap();
        assert!(mounts.iter().any(|mount| mount.point == Path::new("/")));
    }

    #[test]
    fn a_directory_is_no_pattern() {
        let within =
            |path: &str, directory: &str| is_within(OsStr::new(path), Path::new(directory));
        assert!(within("/a/b", "/a/b"));
        assert!(within("/a/b/c", "/a/b"));
        assert!(within("/a/b (deleted)", "/a/b"));
        assert!(!within("/a/bc", "/a/b"));
        assert!(!within("/axb", "/a.b"));
        assert!(!within("/a", "/a/b"));
    }
}
