//! What SMB clients see of the cluster: one server, whichever address they
//! come through.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use storhaug_lab::smb;

use crate::client::{Counting, Sessions};
use crate::cluster::Cluster;

/// Patience with one access of a client to a share.
const ACCESS: Duration = Duration::from_secs(20);
/// What smbtorture looks at: what clients on different nodes rely on. Other cases
/// of its ask for what this share does not have, such as streams and ACLs of
/// Windows, or for a server that is no cluster.
const CASES: [&str; 7] = [
    "smb2.lock",
    "smb2.rw.rw1",
    "smb2.rw.rw2",
    "smb2.read",
    "smb2.sharemode",
    "smb2.deny",
    "smb2.openattr",
];
/// Asks for resilient handles, which no smbd has.
const NOT_SAMBA: &str = "replay_broken_windows";
/// Patience with one of them.
const JUDGED: Duration = Duration::from_secs(120);
/// By default GlusterFS has a node that writes after another one wait for a second
/// (`cluster.post-op-delay-secs`).
const TURNS: u64 = 25;

/// Programs on all nodes that keep a file open, and count in it by turns under a
/// lock, miss no turn: a node sees at once what another one has written, whether
/// it was flushed or not.
pub fn counting(c: &Cluster) -> Result<()> {
    let file = "/run/storhaug/share/count";
    for flush in [true, false] {
        c.run(c.first(), &format!("rm -f {file}"))?;
        c.run(c.first(), &format!("touch {file}"))?;
        let nodes = c.nodes.iter();
        let counting: Vec<_> = nodes
            .map(|node| Counting::start(c, node, file, flush))
            .collect::<Result<_>>()?;
        c.until(120, "they have taken turns", || {
            Ok(c.run(c.first(), &format!("cat {file}"))?
                .trim()
                .parse()
                .unwrap_or(0)
                > TURNS)
        })?;
        let turns: Vec<_> = counting
            .into_iter()
            .map(Counting::finish)
            .collect::<Result<_>>()?;
        let all: u64 = turns.iter().sum();
        let counted: u64 = c.run(c.last(), &format!("cat {file}"))?.trim().parse()?;
        c.note(&format!("turns on each node: {turns:?}, flushed: {flush}"));
        ensure!(counted == all, "{} of {all} turns are lost", all - counted);
        ensure!(turns.iter().all(|turns| *turns > 2), "turns: {turns:?}");
    }
    Ok(())
}

/// A volume with which nodes do not see at once what others write is refused,
/// before anything changes, with the command that ends it.
pub fn late_volume(c: &Cluster) -> Result<()> {
    let (first, epoch, conf) = (c.first(), c.epoch()?, c.conf()?);
    let set = |value: &str| {
        let option = "gluster --mode=script volume set state performance.write-behind";
        c.run(first, &format!("{option} {value}"))
    };
    c.edit_conf("[\"share\"]", "[\"share\", \"state\"]")?;
    set("on")?;
    let said = c.refused(first, "storhaug setup")?;
    set("off")?;
    let remedy = "gluster volume set state performance.write-behind off";
    ensure!(said.contains(remedy), "{said}");
    ensure!(!said.contains("volume share"), "{said}");
    ensure!(c.epoch()? == epoch, "the CIB changed");
    c.write_conf(&conf)
}

/// Samba's own judge of servers finds no fault with a node of the cluster.
pub fn smbtorture(c: &Cluster) -> Result<()> {
    for case in CASES {
        let server = format!("//{}/share", c.vips[0]);
        let argv = ["smbtorture", "-N", "--format=subunit", &server, case];
        let said = c.lab.client().command(argv)?.limit(JUDGED).output()?;
        let said = said.stdout();
        let found = |verdict: &str| -> Vec<&str> {
            let lines = said.lines().filter_map(|line| line.strip_prefix(verdict));
            lines.filter_map(|name| name.split(' ').nth(1)).collect()
        };
        let (good, bad) = (
            found("success:"),
            [found("failure:"), found("error:")].concat(),
        );
        let bad: Vec<_> = bad.iter().filter(|test| **test != NOT_SAMBA).collect();
        ensure!(
            bad.is_empty() && !good.is_empty(),
            "{case}: {bad:?}: {said}"
        );
        c.note(&format!("{case}: {} tests", good.len()));
    }
    Ok(())
}

/// Sixteen sessions lock, open and rename the same files through all
/// addresses while two nodes crash one after the other: nobody is given what
/// another one has, nothing acknowledged is lost, and what one session caches
/// under a lease is there before another one reads.
pub fn sessions(c: &Cluster) -> Result<()> {
    let sessions = Sessions::start(c)?;
    for vip in &c.vips[..2] {
        let holder = c.holder(*vip)?;
        c.lab.crash(&holder)?;
        c.until(60, "the address is on a survivor", || c.left(*vip, &holder))?;
        c.settled()?;
    }
    let seen = sessions.finish()?;
    c.note(&format!("16 sessions: {seen}"));
    let broken = seen["broken"].as_array().context("no verdict")?;
    ensure!(broken.is_empty(), "promises were broken: {broken:?}");
    let rounds = |kind: &str| seen["rounds"][kind].as_u64().unwrap_or(0);
    for kind in ["lock", "alone", "rename"] {
        ensure!(rounds(kind) > 20, "only {} rounds of {kind}", rounds(kind));
    }
    for vip in &c.vips {
        let done = rounds(&vip.to_string());
        ensure!(done > 20, "only {done} rounds through {vip}");
    }
    ensure!(
        seen["lost"].as_u64() > Some(0),
        "no session was on a node that crashed"
    );
    Ok(())
}

/// A share made by `net conf` on one node is there on all of them at once, and
/// gone at once when another node deletes it.
pub fn registry_shares(c: &Cluster) -> Result<()> {
    let (first, last) = (c.first(), c.last());
    let conf = c.run(first, "cat /etc/samba/smb.conf")?;
    configure(c, &format!("{conf}\n[global]\n    include = registry\n"))?;
    let directory = "/run/storhaug/share/registry";
    c.run(first, &format!("mkdir -p {directory}"))?;
    c.exec(first, "net conf delshare extra")?;
    let add = format!("net conf addshare extra {directory} writeable=y guest_ok=y");
    c.run(first, &add)?;
    for (name, value) in [
        ("vfs objects", "fileid"),
        ("fileid:algorithm", "fsname"),
        ("force user", "root"),
    ] {
        let node = c.lab.node(last);
        node.run(["net", "conf", "setparm", "extra", name, value])?;
    }
    for vip in &c.vips {
        let commands = format!("put /etc/hostname {vip}");
        smb::run_on(&c.lab, *vip, "extra", &commands, Vec::new(), ACCESS)
            .with_context(|| format!("through {vip}"))?;
    }
    let there = c.run(first, &format!("ls {directory}"))?;
    ensure!(there.lines().count() == c.vips.len(), "written: {there}");
    c.run(last, "net conf delshare extra")?;
    for vip in &c.vips {
        let Err(gone) = smb::run_on(&c.lab, *vip, "extra", "ls", Vec::new(), ACCESS) else {
            bail!("the share is still there through {vip}");
        };
        let gone = format!("{gone:#}");
        ensure!(gone.contains("NT_STATUS_BAD_NETWORK_NAME"), "{vip}: {gone}");
    }
    configure(c, &conf)
}

/// Gives all nodes a smb.conf, while smbd runs.
fn configure(c: &Cluster, conf: &str) -> Result<()> {
    c.nodes.iter().try_for_each(|node| {
        let machine = c.lab.node(node);
        machine.write("/etc/samba/smb.conf", conf.as_bytes(), 0o644)?;
        c.run(node, "smbcontrol smbd reload-config").map(drop)
    })
}
