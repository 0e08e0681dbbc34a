//! Nodes that are taken out, put in and emptied by the administrator, under a
//! client that writes.

use anyhow::{Result, ensure};
use storhaug_lab::writer::Writer;

use crate::cluster::Cluster;

/// The longest a writer may be held up, in seconds: two attempts that run into
/// their patience of three, on a busy machine. A crash takes longer.
const GAP: f64 = 8.0;

/// The daemons that a change of the members must leave alone.
const DAEMONS: [&str; 2] = ["smbd", "ctdbd"];

/// From three nodes to two and back: a client of a node that stays notices
/// nothing, no daemon of another node restarts, and the file follows.
pub fn removed_and_added(c: &Cluster) -> Result<()> {
    let node = c.last();
    let others: Vec<&String> = c.nodes.iter().filter(|other| *other != node).collect();
    let vip = c.vip_not_on(node)?;
    let lives = || -> Result<Vec<String>> {
        let daemons = others
            .iter()
            .flat_map(|other| DAEMONS.map(|daemon| c.life(other, daemon)));
        daemons.collect()
    };
    let (before, holder) = (lives()?, c.holder(vip)?);
    let writer = Writer::start(&c.lab, vip, "members")?;
    writer.wait_for(5)?;

    c.run(c.first(), &format!("storhaug remove {node}"))?;
    ensure!(c.holder(vip)? == holder, "{vip} moved");
    ensure!(lives()? == before, "a daemon was restarted");
    for place in [
        "cat /etc/storhaug/storhaug.conf",
        "cat /etc/corosync/corosync.conf",
        "cibadmin --query --scope=configuration",
    ] {
        let text = c.run(c.first(), place)?;
        ensure!(!text.contains(node), "{node} is still in\n{text}");
    }
    let slots = c.run(c.first(), "cat /etc/ctdb/nodes")?;
    ensure!(slots.lines().count() == 3, "its slot is gone: {slots}");
    ensure!(
        slots
            .lines()
            .last()
            .is_some_and(|last| last.starts_with('#'))
    );
    c.run(c.first(), "storhaug plan")?;

    let (address, new) = (c.address(node)?, c.free_address()?);
    c.run(
        c.first(),
        &format!("storhaug add {node} --address {address} --fence plug={node} --vip {new}/24"),
    )?;
    c.settled()?;
    ensure!(c.serves(new), "{new} does not serve");
    ensure!(c.holder(vip)? == holder, "{vip} moved");
    ensure!(lives()? == before, "a daemon was restarted");
    let slots = c.run(c.first(), "cat /etc/ctdb/nodes")?;
    ensure!(!slots.contains('#'), "its slot was not used again: {slots}");
    c.run(c.first(), "storhaug plan")?;

    writer.wait_for(5)?;
    let log = writer.finish()?;
    let gap = log.longest_gap().as_secs_f64();
    c.note(&format!("longest gap of the writer: {gap:.1} s"));
    ensure!(gap <= GAP, "the writer was held up for {gap:.1} s");
    log.verify(&c.lab, vip)
}

/// Each node in turn is emptied, as for an upgrade, and takes its work again.
pub fn drained_in_turn(c: &Cluster) -> Result<()> {
    let vip = c.vips[0];
    let before = c.configuration()?;
    let writer = Writer::start(&c.lab, vip, "drained")?;
    writer.wait_for(5)?;
    for node in &c.nodes {
        c.run(c.first(), &format!("storhaug drain --wait {node}"))?;
        ensure!(c.all_left(node)?, "an address is still on {node}");
        ensure!(
            c.main_pid(node, "smbd")? == "0",
            "smbd still runs on {node}"
        );
        c.run(c.first(), &format!("storhaug undrain {node}"))?;
        c.settled()?;
    }
    writer.wait_for(5)?;
    ensure!(c.configuration()? == before, "something is left behind");
    let log = writer.finish()?;
    let gap = log.longest_gap().as_secs_f64();
    c.note(&format!("longest gap of the writer: {gap:.1} s"));
    ensure!(gap <= GAP, "the writer was held up for {gap:.1} s");
    log.verify(&c.lab, vip)
}
