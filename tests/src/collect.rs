//! Gathers what is needed to understand a lab afterwards.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};

use crate::command::Cmd;
use crate::lab::{Lab, NodeStatus};
use crate::machine::Machine;
use crate::power::Power;

/// A broken cluster is slow to answer, and this is for broken ones.
const ANSWER: Duration = Duration::from_secs(30);

/// What a living node is asked, and the file its answer goes to.
const QUESTIONS: &[(&str, &[&str])] = &[
    (
        "journal.txt",
        &["journalctl", "--no-pager", "--output=short-precise"],
    ),
    ("cib.xml", &["cibadmin", "--query"]),
    (
        "crm_mon.xml",
        &["crm_mon", "--output-as=xml", "--inactive", "--failcounts"],
    ),
    ("crm_mon.txt", &["crm_mon", "-1", "-rfntA"]),
    ("corosync-quorum.txt", &["corosync-quorumtool", "-s"]),
    ("corosync-cmap.txt", &["corosync-cmapctl"]),
    ("ctdb-status.txt", &["ctdb", "status"]),
    ("gluster-peers.txt", &["gluster", "peer", "status"]),
    ("gluster-volumes.txt", &["gluster", "volume", "status"]),
    (
        "storhaug-status.json",
        &["storhaug", "status", "--output", "json"],
    ),
    ("processes.txt", &["ps", "-efwwH"]),
    ("addresses.txt", &["ip", "address"]),
    ("sockets.txt", &["ss", "-tanop"]),
    ("mounts.txt", &["cat", "/proc/self/mountinfo"]),
    ("failed-units.txt", &["systemctl", "--no-pager", "--failed"]),
];

/// What is taken from a node's disk, whether it lives or not. No key and no
/// password is in any of them.
const FILES: &[&str] = &[
    "etc/corosync/corosync.conf",
    "etc/ctdb/ctdb.conf",
    "etc/ctdb/nodes",
    "etc/samba/smb.conf",
    "etc/storhaug/storhaug.conf",
    "var/lib/pacemaker/cib/cib.xml",
    "var/lib/pacemaker/pengine",
    "var/log/cluster",
    "var/log/corosync",
    "var/log/ctdb",
    "var/log/glusterfs",
    "var/log/pacemaker",
    "var/log/pcsd",
    "var/log/samba",
];

/// Writes what can be had into `dir`, a directory per node. What cannot be
/// had is noted there, and is no error: a lab is collected when it is broken.
pub fn collect(lab: &Lab, dir: &Path) -> Result<()> {
    make(dir)?;
    let status = lab.status()?;
    fs::write(dir.join("lab.json"), serde_json::to_string_pretty(&status)?)?;
    // A lab whose rack is gone has none.
    let _ = fs::copy(lab.layout().log(), dir.join("rack.log"));
    std::thread::scope(|scope| {
        let nodes = status.nodes.iter();
        let threads: Vec<_> = nodes
            .map(|node| scope.spawn(|| collect_node(lab, node, &dir.join(&node.name))))
            .collect();
        threads.into_iter().try_for_each(|thread| {
            let collected = thread.join();
            collected.map_err(|_| anyhow!("collecting from a node panicked"))?
        })
    })
}

fn collect_node(lab: &Lab, node: &NodeStatus, into: &Path) -> Result<()> {
    make(into)?;
    let disk = lab.layout().disk(&node.name);
    let _ = fs::copy(disk.join("console.log"), into.join("console.txt"));
    let root = lab.layout().root(&node.name);
    take_files(&root, into);
    match node.power {
        Power::On => ask_all(&lab.node(&node.name), into),
        Power::Off => {
            let journal = root.join("var/log/journal");
            let read = Cmd::new("journalctl")
                .args(["--no-pager", "--output=short-precise", "--directory"])
                .arg(journal.display().to_string());
            note(&into.join("journal.txt"), &read)
        }
    }
}

fn ask_all(node: &Machine, into: &Path) -> Result<()> {
    for (file, argv) in QUESTIONS {
        match node.command(argv.iter().copied()) {
            Ok(command) => note(&into.join(file), &command)?,
            Err(error) => fs::write(into.join(file), format!("{error:#}\n"))?,
        }
    }
    Ok(())
}

/// The command's output, or why there is none.
fn note(file: &Path, command: &Cmd) -> Result<()> {
    let bytes = match command.clone().limit(ANSWER).output() {
        Ok(output) if output.stdout.is_empty() => output.stderr,
        Ok(output) => output.stdout,
        Err(error) => format!("{error:#}\n").into_bytes(),
    };
    fs::write(file, bytes).with_context(|| format!("writing {}", file.display()))
}

fn take_files(root: &Path, into: &Path) {
    for file in FILES {
        let source = root.join(file);
        if !source.exists() {
            continue;
        }
        let copied = Cmd::new("cp")
            .args(["-r", "--no-preserve=all", "--parents", file])
            .arg(into.display().to_string())
            .directory(root)
            .run();
        if let Err(error) = copied {
            eprintln!("collecting {}: {error:#}", source.display());
        }
    }
}

fn make(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))
}
