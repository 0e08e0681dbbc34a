//! The processes that keep a mount busy: found in `/proc` without a look into
//! the mount, which may hang.

use std::{
    collections::BTreeSet,
    ffi::{OsStr, OsString},
    fs,
    path::Path,
};

use nix::unistd::{Pid, getpid};

use crate::mounts::{self, Mount, is_within};

/// The processes, but this one, that have a file, a directory, their root or a
/// mapping in `mount`. A process that ends meanwhile is not one of them.
pub fn users(proc: &Path, mount: &Mount) -> BTreeSet<Pid> {
    let namespace = |pid: &OsStr| fs::read_link(proc.join(pid).join("ns/mnt")).ok();
    let own = namespace(OsStr::new("self"));
    let processes = fs::read_dir(proc).into_iter().flatten().flatten();
    let using = processes.filter_map(|entry| {
        let name = entry.file_name();
        let pid = Pid::from_raw(name.to_str()?.parse().ok()?);
        let process = entry.path();
        // In another namespace the same path may be another file system.
        let uses = pid != getpid()
            && holds(&process, &mount.point)
            && (namespace(&name) == own || has(&process, mount));
        uses.then_some(pid)
    });
    using.collect()
}

/// Whether a process holds something at or below `directory`.
fn holds(process: &Path, directory: &Path) -> bool {
    let within =
        |link: &Path| fs::read_link(link).is_ok_and(|path| is_within(path.as_os_str(), directory));
    let files = || {
        let files = fs::read_dir(process.join("fd"))
            .into_iter()
            .flatten()
            .flatten();
        files.into_iter().any(|file| within(&file.path()))
    };
    ["cwd", "root", "exe"]
        .iter()
        .any(|link| within(&process.join(link)))
        || files()
        || fs::read(process.join("maps")).is_ok_and(|maps| maps_within(&maps, directory))
}

/// Whether `maps` lists a file at or below `directory`. Source: proc(5).
fn maps_within(maps: &[u8], directory: &Path) -> bool {
    maps.split(|&byte| byte == b'\n').any(|line| {
        let path = line
            .iter()
            .position(|&byte| byte == b'/')
            .map(|at| &line[at..]);
        path.is_some_and(|path| is_within(&unescape_newlines(path), directory))
    })
}

/// Undoes the one escape of `maps`.
fn unescape_newlines(path: &[u8]) -> OsString {
    String::from_utf8_lossy(path).replace("\\012", "\n").into()
}

/// Whether a process's own namespace has `mount` at the same place.
fn has(process: &Path, mount: &Mount) -> bool {
    mounts::read(&process.join("mountinfo")).is_ok_and(|mounts| {
        let same = |other: &Mount| other.device == mount.device && other.point == mount.point;
        mounts.iter().any(same)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mappings() {
        let maps = b"7f00-7f01 r-xp 00000000 00:2f 12 /run/share/lib.so\n\
                     7f01-7f02 rw-p 00000000 00:00 0 [heap]\n";
        assert!(maps_within(maps, Path::new("/run/share")));
        assert!(!maps_within(maps, Path::new("/run/shar")));
    }
}
