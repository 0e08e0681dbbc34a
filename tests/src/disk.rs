//! A machine's disk: an overlay of layers on the image for its root, and a
//! plain directory for Gluster's bricks.
//!
//! Bricks are no part of the overlay because Gluster names every file twice by
//! a hard link, and an overlay breaks hard links when it copies a file up. The
//! layers, lowest first: the image, what all machines of the lab have in
//! common, one layer per snapshot, and the writable one.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::command::Cmd;
use crate::layout::{Facts, Layout};

/// The pseudo-machine whose writable layer all machines have in common.
pub const COMMON: &str = "common";

/// Makes an empty disk.
pub fn create(layout: &Layout, machine: &str) -> Result<()> {
    let disk = layout.disk(machine);
    for dir in ["layers", "upper", "work", "root", "bricks"] {
        let dir = disk.join(dir);
        fs::create_dir_all(&dir).with_context(|| format!("creating {}", dir.display()))?;
    }
    Ok(())
}

/// Mounts a machine's root, if it is not mounted.
pub fn attach(layout: &Layout, facts: &Facts, machine: &str) -> Result<PathBuf> {
    let root = layout.root(machine);
    if !mounted_below(&root)?.is_empty() {
        return Ok(root);
    }
    let disk = layout.disk(machine);
    let mut lower: Vec<PathBuf> = snapshots(layout, machine)?;
    lower.reverse();
    if machine != COMMON {
        lower.push(layout.disk(COMMON).join("upper"));
    }
    lower.push(facts.image.clone());
    let lower: Vec<_> = lower.iter().map(|dir| dir.display().to_string()).collect();
    let options = format!(
        "lowerdir={},upperdir={},workdir={},index=off,metacopy=off",
        lower.join(":"),
        disk.join("upper").display(),
        disk.join("work").display()
    );
    mount(
        Some("overlay"),
        &root,
        Some("overlay"),
        MsFlags::empty(),
        Some(options.as_str()),
    )
    .with_context(|| format!("mounting {} with {options}", root.display()))?;
    Ok(root)
}

/// Unmounts a machine's root.
pub fn detach(layout: &Layout, machine: &str) -> Result<()> {
    unmount_below(&layout.root(machine))
}

/// Unmounts and deletes the disks of a lab.
pub fn destroy(layout: &Layout) -> Result<()> {
    clear(&layout.disks())
}

/// Removes a directory, having unmounted everything in it.
pub fn clear(dir: &Path) -> Result<()> {
    unmount_below(dir)?;
    remove(dir)
}

/// Freezes what the machine, which is off, has on its disk. It goes on from
/// there, and `restore` comes back to it.
pub fn snapshot(layout: &Layout, machine: &str) -> Result<()> {
    detach(layout, machine)?;
    let disk = layout.disk(machine);
    let layer = disk
        .join("layers")
        .join(snapshots(layout, machine)?.len().to_string());
    fs::rename(disk.join("upper"), &layer)
        .with_context(|| format!("keeping {}", layer.display()))?;
    remove(&disk.join("work"))?;
    remove(&disk.join("bricks.kept"))?;
    copy(&disk.join("bricks"), &disk.join("bricks.kept"))?;
    create(layout, machine)
}

/// Brings the disk of a machine, which is off, back to its latest snapshot.
pub fn restore(layout: &Layout, machine: &str) -> Result<()> {
    detach(layout, machine)?;
    let disk = layout.disk(machine);
    for dir in ["upper", "work", "bricks"] {
        remove(&disk.join(dir))?;
    }
    copy(&disk.join("bricks.kept"), &disk.join("bricks"))?;
    create(layout, machine)
}

/// The layers of earlier snapshots, oldest first.
fn snapshots(layout: &Layout, machine: &str) -> Result<Vec<PathBuf>> {
    let dir = layout.disk(machine).join("layers");
    let count = fs::read_dir(&dir)
        .with_context(|| format!("reading {}", dir.display()))?
        .count();
    Ok((0..count).map(|n| dir.join(n.to_string())).collect())
}

/// A copy with all that a brick is made of: hard links and extended
/// attributes.
fn copy(from: &Path, to: &Path) -> Result<()> {
    Cmd::new("cp")
        .args(["-a", "--reflink=auto"])
        .arg(from.display().to_string())
        .arg(to.display().to_string())
        .run()?;
    Ok(())
}

fn remove(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", dir.display()))
        }
        _ => Ok(()),
    }
}

/// Unmounts everything at and below a directory, latest first; what is busy
/// only loses its place and goes when its last user does.
fn unmount_below(dir: &Path) -> Result<()> {
    for point in mounted_below(dir)?.iter().rev() {
        umount2(point, MntFlags::empty())
            .or_else(|_| umount2(point, MntFlags::MNT_DETACH))
            .with_context(|| format!("unmounting {}", point.display()))?;
    }
    Ok(())
}

fn mounted_below(dir: &Path) -> Result<Vec<PathBuf>> {
    let file = "/proc/self/mountinfo";
    let table = fs::read_to_string(file).with_context(|| format!("reading {file}"))?;
    Ok(points_below(&table, dir))
}

/// Mount points at and below a directory, from `/proc/self/mountinfo`
/// (`proc_pid_mountinfo(5)`), whose fifth field they are.
fn points_below(table: &str, dir: &Path) -> Vec<PathBuf> {
    table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(PathBuf::from)
        .filter(|point| point.starts_with(dir))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_below_is_found() {
        let table = "\
22 1 254:0 / / rw shared:1 - ext4 /dev/vda rw
40 22 0:40 / /x/lab/node1/root rw - overlay overlay rw
41 22 0:41 / /x/lab2/node1/root rw - overlay overlay rw
42 40 0:42 / /x/lab/node1/root/run rw - tmpfs tmpfs rw
";
        assert_eq!(
            points_below(table, Path::new("/x/lab")),
            [
                PathBuf::from("/x/lab/node1/root"),
                PathBuf::from("/x/lab/node1/root/run")
            ]
        );
    }
}
