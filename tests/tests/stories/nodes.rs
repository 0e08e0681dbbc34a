//! Nodes that die, leave, come back, or lose their network.

use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use storhaug_lab::layout::{PREFIX6, free_addresses6};
use storhaug_lab::writer::Writer;

use crate::client::{Listening, Waiting, Watch};
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
    let waiting = Waiting::connect(c.lab.client(), "waiting", vip, 445, 50)?;
    // Two accesses take longer than a connection stays unknown to the others.
    ensure!(c.serves(vip) && c.serves(vip));
    c.lab.crash(&holder)?;
    c.until(60, "the address is on a survivor", || c.left(vip, &holder))?;
    let reset = waiting.resets()?.len();
    c.note(&format!("{reset} of 50 waiting clients were reset"));
    ensure!(reset == 50, "{reset} of 50 waiting clients were reset");
    c.settled()
}

/// Nor does connection tracking keep it from them: neither a firewall on the
/// client nor a gateway that translates addresses, over IPv4 and IPv6, and all
/// of them within 150 ms of the address being on the survivor.
pub fn clients_behind_nat(c: &Cluster) -> Result<()> {
    const PORT: u16 = 4450;
    let six = free_addresses6().next().map(IpAddr::V6);
    let six = six.context("no IPv6 address is free")?;
    let conf = c.conf()?;
    c.write_conf(&format!("{conf}\n[[vip]]\naddress = \"{six}/{PREFIX6}\"\n"))?;
    c.run(c.first(), "storhaug setup")?;
    c.settled()?;
    c.until(30, "the new address is on a node", || {
        Ok(c.lab.holder(six)?.is_some())
    })?;
    // Every node had an address already.
    let holder = c.holder(six)?;
    let four = c.vips.iter().copied();
    let mut four = four.filter(|vip| c.holder(*vip).is_ok_and(|node| node == holder));
    let four = four.next().context("the addresses are not spread evenly")?;

    let listen = |node: &String| Listening::start(c, node, PORT, &[four, six]);
    let servers: Vec<_> = c.nodes.iter().map(listen).collect::<Result<_>>()?;
    let (plain, wall, nat) = (c.lab.client(), c.lab.firewalled()?, c.lab.gateway()?);
    let mut groups = Vec::new();
    for (name, place, vip, count) in [
        ("ipv4", &plain, four, 200),
        ("ipv6", &plain, six, 200),
        ("firewall-ipv4", &wall, four, 50),
        ("firewall-ipv6", &wall, six, 50),
        ("nat", &nat, four, 50),
    ] {
        let waiting = Waiting::connect(place.clone(), name, vip, PORT, count)?;
        groups.push((name, vip, count, waiting));
    }
    // Two accesses take longer than a connection stays unknown to the others.
    ensure!(c.serves(four) && c.serves(four));
    c.lab.crash(&holder)?;
    for vip in [four, six] {
        c.until(60, "the address is on a survivor", || c.left(vip, &holder))?;
    }

    let mut told = Vec::new();
    for (name, vip, count, waiting) in groups {
        told.push((name, vip, count, waiting.resets()?));
    }
    let mut arrivals = Vec::new();
    for (node, server) in c.nodes.iter().zip(servers) {
        if *node != holder {
            arrivals.extend(server.arrivals()?);
        }
    }
    for (name, vip, count, resets) in told {
        let arrived = arrivals.iter().find(|(address, _)| *address == vip);
        let (_, arrived) = arrived.context("nobody has seen the address arrive")?;
        let mut delays: Vec<f64> = resets.iter().map(|at| (at - arrived) * 1000.0).collect();
        delays.sort_by(f64::total_cmp);
        let (reset, p99) = (delays.len(), delays.get((count * 99).div_ceil(100) - 1));
        c.note(&format!(
            "{name}: {reset} of {count} reset, p99 {:.0} ms after the address arrived",
            p99.copied().unwrap_or(f64::NAN)
        ));
        ensure!(reset == count, "{name}: {reset} of {count} were reset");
        ensure!(
            p99.is_some_and(|p99| *p99 <= 150.0),
            "{name}: p99 {p99:?} ms"
        );
    }
    c.settled()
}
