//! Control groups of the lab's processes. A process cannot leave its group, so
//! whatever a lab ever started is found again, however its `up` ended.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::layout::Layout;
use crate::wait;

/// A killed process may have to wait for its disk.
const DEATH: Duration = Duration::from_secs(30);

/// Moves this process into a cell of the lab: `rack`, a machine's name, or
/// that of another helper.
pub fn enter(layout: &Layout, cell: &str) -> Result<()> {
    let cells = cells(layout);
    if cells.is_empty() {
        bail!("no control group file system with systemd's hierarchy under /sys/fs/cgroup");
    }
    for group in cells.iter().map(|base| base.join(cell)) {
        fs::create_dir_all(&group).with_context(|| format!("creating {}", group.display()))?;
        fs::write(group.join("cgroup.procs"), "0")
            .with_context(|| format!("entering {}", group.display()))?;
    }
    Ok(())
}

/// Whether a process of the cell is alive.
pub fn is_alive(layout: &Layout, cell: &str) -> Result<bool> {
    let groups = cells(layout);
    let mut members = groups.iter().map(|base| members(&base.join(cell)));
    members.try_fold(false, |alive, found| Ok(alive || !found?.is_empty()))
}

/// Kills all processes of one cell and waits until they are gone.
pub fn kill_cell(layout: &Layout, cell: &str) -> Result<()> {
    cells(layout)
        .iter()
        .try_for_each(|base| kill_group(&base.join(cell)))
}

/// Kills all processes of the lab and removes its groups.
pub fn kill_all(layout: &Layout) -> Result<()> {
    for group in cells(layout) {
        kill_group(&group)?;
        remove(&group)?;
    }
    Ok(())
}

/// Kills processes until `pids` finds none.
pub fn kill_until_gone(what: &str, pids: impl Fn() -> Result<BTreeSet<i32>>) -> Result<()> {
    wait::until_true(&format!("killing the processes of {what}"), DEATH, || {
        let left = pids()?;
        for pid in &left {
            // It may be gone already.
            let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
        }
        Ok(left.is_empty())
    })
}

/// The lab's group in each hierarchy that systemd uses: the unified one, or,
/// on a machine with the old ones, those mounted at these places.
fn cells(layout: &Layout) -> Vec<PathBuf> {
    [
        "/sys/fs/cgroup",
        "/sys/fs/cgroup/systemd",
        "/sys/fs/cgroup/unified",
    ]
    .iter()
    .map(Path::new)
    .filter(|root| root.join("cgroup.procs").exists())
    .map(|root| root.join("storhaug-lab").join(layout.name()))
    .collect()
}

fn kill_group(group: &Path) -> Result<()> {
    kill_until_gone(&group.display().to_string(), || members(group))
}

/// Every process in the group and below.
fn members(group: &Path) -> Result<BTreeSet<i32>> {
    let mut pids = BTreeSet::new();
    for group in tree(group) {
        // A group that goes away meanwhile has no members.
        let text = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
        pids.extend(text.lines().filter_map(|pid| pid.parse::<i32>().ok()));
    }
    // Zombies stay members until somebody reaps them, and are dead.
    pids.retain(|pid| alive(*pid));
    Ok(pids)
}

/// Whether a process exists and is not a zombie.
pub fn alive(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        !stat
            .rsplit(')')
            .next()
            .is_some_and(|rest| rest.starts_with(" Z"))
    })
}

/// The group and all below it, parents first.
fn tree(group: &Path) -> Vec<PathBuf> {
    let mut found = vec![group.to_owned()];
    let mut next = 0;
    while next < found.len() {
        if let Ok(entries) = fs::read_dir(&found[next]) {
            found.extend(
                entries
                    .flatten()
                    .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
                    .map(|entry| entry.path()),
            );
        }
        next += 1;
    }
    found
}

/// Zombies keep a group busy until they are reaped, which is up to the
/// machine's init; such a group is left, empty of anything alive.
fn remove(group: &Path) -> Result<()> {
    for group in tree(group).iter().rev() {
        match fs::remove_dir(group) {
            Err(error)
                if !matches!(
                    error.kind(),
                    std::io::ErrorKind::NotFound | std::io::ErrorKind::ResourceBusy
                ) =>
            {
                return Err(error).with_context(|| format!("removing {}", group.display()));
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_alive_and_an_impossible_one_is_not() {
        assert!(alive(i32::try_from(std::process::id()).unwrap()));
        assert!(!alive(i32::MAX));
    }
}
