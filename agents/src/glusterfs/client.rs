//! The process that serves a mount, and what it was told when it was started.

use std::{ffi::OsString, fs, os::unix::ffi::OsStringExt, path::Path};

/// The program, as the kernel names its processes.
const NAME: &str = "glusterfs";

/// The arguments of the client that has mounted a volume at `directory`, which is
/// the last of them (`mount.glusterfs`); none where no such process is seen, in
/// this list of mounts. Only a client's arguments are read: those of a process that
/// hangs in a mount may hang as well.
pub fn arguments(proc: &Path, directory: &Path) -> Option<Vec<OsString>> {
    let namespace = |process: &Path| fs::read_link(process.join("ns/mnt")).ok();
    let own = namespace(&proc.join("self"));
    let processes = fs::read_dir(proc).into_iter().flatten().flatten();
    let mut arguments = processes.filter_map(|process| {
        let process = process.path();
        let name = fs::read_to_string(process.join("comm")).ok()?;
        if name.trim_end() != NAME || namespace(&process) != own {
            return None;
        }
        let text = fs::read(process.join("cmdline")).ok()?;
        let arguments = text.split(|&byte| byte == 0).filter(|a| !a.is_empty());
        let arguments = arguments.map(|argument| OsString::from_vec(argument.to_vec()));
        Some(arguments.collect::<Vec<_>>())
    });
    arguments.find(|arguments| {
        let last = arguments.last();
        last.is_some_and(|last| Path::new(last) == directory)
    })
}
