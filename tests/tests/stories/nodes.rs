//! Nodes that die, leave, come back, or lose their network.

use anyhow::{Result, ensure};
use storhaug_lab::writer::Writer;

use crate::client::{Waiting, Watch};
use crate::cluster::Cluster;

/// The node that holds an address loses its power while a client writes.
pub fn crash(c: &Cluster) -> Result<()> {
    let vip = c.vips[0];
    let holder = c.holder(vip)?;
    let elsewhere = c.vip_not_on(&holder)?;
    c.upload(vip, "before.dat", "written before the crash")?;
    ensure!(c.download(elsewhere, "before.dat")? == "written before the crash");

    let writer = Writer::start(&c.lab, vip, "crash")?;
    writer.wait_for(10)?;
    let boots = c.lab.boots(&holder)?;
    c.lab.crash(&holder)?;
    c.until(60, "the address is on a survivor", || c.left(vip, &holder))?;
    // Nobody but the cluster's own fencing gives the node its power back.
    c.until(60, "the node was fenced", || {
        Ok(c.lab.boots(&holder)? > boots)
    })?;
    writer.wait_for(10)?;
    ensure!(c.download(vip, "before.dat")? == "written before the crash");
    c.upload(vip, "after.dat", "written after the crash")?;

    c.settled()?;
    ensure!(
        c.lab.boots(&holder)? == boots + 1,
        "{holder} was fenced more than once"
    );
    let log = writer.finish()?;
    c.note(&format!(
        "longest gap of the writer: {:.1} s",
        log.longest_gap().as_secs_f64()
    ));
    log.verify(&c.lab, elsewhere)
}

/// A crashed node comes back: no address waits for it, and whatever moves back
/// does so when smbd serves there, and is away for two seconds at most.
pub fn returning(c: &Cluster) -> Result<()> {
    let node = c.holder(c.vips[0])?;
    c.lab.crash(&node)?;
    c.until(90, "every address is on a survivor", || c.all_left(&node))?;
    c.until(30, "every address serves", || {
        Ok(c.vips.iter().all(|vip| c.serves(*vip)))
    })?;
    let watch = Watch::start(c)?;
    c.settled()?;
    for (vip, away) in watch.finish()? {
        c.note(&format!("{vip} was away for {away:.2} s"));
        ensure!(
            away <= 2.0,
            "{vip} was away for {away:.2} s while {node} came back"
        );
    }
    Ok(())
}

/// `systemctl reboot` of a holder moves its addresses and needs no fencing.
pub fn reboot(c: &Cluster) -> Result<()> {
    let vip = c.vips[0];
    let holder = c.holder(vip)?;
    let (boots, fencings) = (c.lab.boots(&holder)?, c.fencings(&holder)?);
    let watch = Watch::start(c)?;
    c.run(&holder, "systemctl reboot --no-block")?;
    c.until(60, "the address is on another node", || {
        c.left(vip, &holder)
    })?;
    c.until(120, "the node has rebooted", || {
        Ok(c.lab.boots(&holder)? > boots)
    })?;
    c.settled()?;
    ensure!(
        c.lab.boots(&holder)? == boots + 1,
        "{holder} was powered on more than once"
    );
    ensure!(c.fencings(&holder)? == fencings, "{holder} was fenced");
    for (vip, away) in watch.finish()? {
        c.note(&format!("{vip} was away for {away:.2} s"));
        ensure!(away <= 5.0, "{vip} was away for {away:.2} s");
    }
    Ok(())
}

/// A node that lives on without its network is fenced, and the majority serves.
pub fn cut_off(c: &Cluster) -> Result<()> {
    let vip = c.vips[0];
    let holder = c.holder(vip)?;
    let elsewhere = c.vip_not_on(&holder)?;
    let writer = Writer::start(&c.lab, vip, "cut-off")?;
    writer.wait_for(5)?;
    let boots = c.lab.boots(&holder)?;
    c.lab.cut(&holder)?;
    c.until(60, "the isolated node was fenced", || {
        Ok(c.lab.boots(&holder)? > boots)
    })?;
    c.until(60, "the address is on the majority's side", || {
        c.left(vip, &holder)
    })?;
    writer.wait_for(10)?;
    c.lab.heal(&holder)?;
    c.settled()?;
    writer.finish()?.verify(&c.lab, elsewhere)
}

/// Clients blocked in a receive learn of the failover at once, from noded.
pub fn clients_that_wait(c: &Cluster) -> Result<()> {
    let vip = c.vips[0];
    let holder = c.holder(vip)?;
    let waiting = Waiting::connect(c, vip, 50)?;
    // Two accesses take longer than a connection stays unknown to the others.
    ensure!(c.serves(vip) && c.serves(vip));
    c.lab.crash(&holder)?;
    c.until(60, "the address is on a survivor", || c.left(vip, &holder))?;
    let reset = waiting.reset()?;
    c.note(&format!("{reset} of 50 waiting clients were reset"));
    ensure!(reset == 50, "{reset} of 50 waiting clients were reset");
    c.settled()
}
