//! Clients of an address that moves: because somebody wants it, or because its
//! node died.

use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use storhaug_lab::layout::{PREFIX, PREFIX6, free_addresses6};
use storhaug_lab::network::INTERFACE;

use crate::client::{Fared, Listening, Moving, Waiting};
use crate::cluster::Cluster;

/// A port that nothing else uses.
const PORT: u16 = 4450;
/// The port of SMB. smbd closes what has been silent from the start for a minute.
const SMB: u16 = 445;
/// How late an idle client is told, at most, in milliseconds.
const LATEST: f64 = 150.0;
/// As many clients as a story has, unless it is about their number.
const CLIENTS: usize = 50;

/// An administrator moves an address and lets it go home, again and again: its
/// clients go straight to the new owner, from the ports they had, and nothing of
/// theirs is left on the old one.
pub fn planned(c: &Cluster) -> Result<()> {
    let vip = c.vips[0];
    let home = c.holder(vip)?;
    let away = c.another(&home)?;
    let _servers = serve(c, &[])?;
    let there = format!("pcs resource move-with-constraint vip-{vip} {away}");
    let back = format!("pcs resource clear vip-{vip}");
    let mut gaps = Vec::new();
    for _ in 0..4 {
        for (command, old, new) in [(&there, &*home, away), (&back, away, &*home)] {
            let moving = Moving::connect(c, vip, PORT, CLIENTS)?;
            c.run(c.first(), command)?;
            c.until(30, &format!("every client is connected to {new}"), || {
                let here = format!("state established src {vip} sport = {PORT}");
                Ok(c.connections(new, &here)? == CLIENTS)
            })?;
            let left = c.connections(old, &format!("state connected src {vip}"))?;
            ensure!(left == 0, "{left} sockets of {vip} are left on {old}");
            let clients = moving.finish()?;
            // Who had to repeat its SYN is a second late.
            let straight = |client: &Fared| client.server == new && client.connecting < 0.9;
            ensure!(clients.iter().all(straight), "to {new}: {clients:?}");
            gaps.push(clients[0].silence * 1000.0);
        }
    }
    gaps.sort_by(f64::total_cmp);
    c.note(&format!("gaps of a client that asks: {gaps:.0?} ms"));
    let median = gaps[gaps.len() / 2];
    ensure!(median <= 400.0, "median gap {median:.0} ms of {gaps:.0?}");
    c.settled()
}

/// Somebody adds an address to a second node by hand: Pacemaker finds it, calls it
/// that node's failure and removes it there. Clients of the address notice nothing.
pub fn copied(c: &Cluster) -> Result<()> {
    let vip = c.vips[0];
    let home = c.holder(vip)?;
    let wrong = c.another(&home)?;
    let _servers = serve(c, &[])?;
    let moving = Moving::connect(c, vip, PORT, CLIENTS)?;
    let add = format!("ip address add {vip}/{PREFIX} dev {INTERFACE}");
    c.run(wrong, &add)?;
    let found = format!("{wrong}: vip-{vip}_monitor_30000");
    let show = format!("ip -oneline address show to {vip}");
    c.until(60, "the copy is found and removed", || {
        let failures = c.lab.view()?.failures;
        let blamed = failures.iter().any(|failure| failure.starts_with(&found));
        Ok(blamed && c.run(wrong, &show)?.is_empty())
    })?;
    let told = format!("{vip} is on {wrong} as well");
    c.until(20, "noded knows that it is gone", || {
        Ok(!c.exec(&home, "storhaug status")?.stdout().contains(&told))
    })?;
    ensure!(c.holder(vip)? == home, "{vip} left its node");
    let clients = moving.finish()?;
    // None of them had to connect again.
    let calm = |client: &Fared| client.server == home && client.connecting == 0.0;
    ensure!(clients.iter().all(calm), "{clients:?}");
    let silence = clients[0].silence;
    c.note(&format!("longest silence {:.0} ms", silence * 1000.0));
    ensure!(silence < 2.0, "a client had no answer for {silence} s");
    c.forgiven()
}

/// Two nodes die one after the other, the second when the first is back: all
/// clients are reset, those too who were connected all the time.
pub fn two_crashes(c: &Cluster) -> Result<()> {
    let _servers = serve(c, &[])?;
    let first = c.quiet_vip()?;
    let second = c.vip_not_on(&c.holder(first)?)?;
    let lasting = wait_at(c, second, "lasting")?;
    let waiting = wait_at(c, first, "first")?;
    c.known(first, CLIENTS)?;
    crash_resets(c, first, [waiting])?;
    c.settled()?;

    let waiting = wait_at(c, second, "second")?;
    c.known(second, 2 * CLIENTS)?;
    crash_resets(c, second, [lasting, waiting])?;
    c.settled()
}

/// noded is killed where an address is, and does not come back: the address
/// stays, and when its node dies the others still know its clients.
pub fn noded_killed(c: &Cluster) -> Result<()> {
    let _servers = serve(c, &[])?;
    let vip = c.quiet_vip()?;
    let holder = c.holder(vip)?;
    let waiting = wait_at(c, vip, "waiting")?;
    c.known(vip, CLIENTS)?;
    // Until the next boot.
    c.run(&holder, "systemctl mask --runtime storhaug-noded")?;
    c.run(&holder, "pkill -9 -x storhaug-noded")?;
    c.until(60, "Pacemaker cannot start noded", || {
        let failed = |failure: &String| failure.contains("noded_start");
        Ok(c.lab.view()?.failures.iter().any(failed))
    })?;
    ensure!(c.holder(vip)? == holder, "{vip} left with noded");
    crash_resets(c, vip, [waiting])?;
    c.settled()
}

/// Every node's noded is restarted, one after the other: each knows all clients
/// again, and a failover resets them.
pub fn noded_restarted(c: &Cluster) -> Result<()> {
    let _servers = serve(c, &[])?;
    let vip = c.quiet_vip()?;
    let waiting = wait_at(c, vip, "waiting")?;
    for node in &c.nodes {
        c.run(node, "systemctl restart storhaug-noded")?;
        c.known(vip, CLIENTS)?;
    }
    // A monitor may have met one that was about to start.
    c.forgiven()?;
    c.known(vip, CLIENTS)?;
    crash_resets(c, vip, [waiting])?;
    c.settled()
}

/// Every idle client is reset within 150 ms of the address being on a survivor:
/// over IPv4 and IPv6, and though connection tracking drops what it finds
/// invalid, in a firewall on the client and in a gateway that translates.
pub fn idle_clients(c: &Cluster) -> Result<()> {
    let six = free_addresses6().next().map(IpAddr::V6);
    let six = six.context("no IPv6 address is free")?;
    let vip = format!("\n[[vip]]\naddress = \"{six}/{PREFIX6}\"\n");
    c.set_up_with(&(c.conf()? + &vip))?;
    let latest = crash_before_idle_clients(c, six)?;
    c.settled()?;
    // Once a machine may have been busy with something else.
    if latest > LATEST {
        let latest = crash_before_idle_clients(c, six)?;
        ensure!(latest <= LATEST, "p99 {latest:.0} ms");
        c.settled()?;
    }
    Ok(())
}

/// The holder of this IPv6 address and of an IPv4 one dies, and all of their
/// clients are told. The p99 of the group that was told last, in milliseconds
/// after its address arrived.
fn crash_before_idle_clients(c: &Cluster, six: IpAddr) -> Result<f64> {
    // Every node had an address before this one came.
    let holder = c.holder(six)?;
    let four = c.vips.iter().copied();
    let mut four = four.filter(|vip| c.holder(*vip).is_ok_and(|node| node == holder));
    let four = four.next().context("the addresses are not spread evenly")?;

    for vip in [four, six] {
        c.known(vip, 0)?;
    }
    let servers = serve(c, &[four, six])?;
    let (plain, wall, nat) = (c.lab.client(), c.lab.firewalled()?, c.lab.gateway()?);
    let mut groups = Vec::new();
    for (name, place, vip, port, count) in [
        ("ipv4", &plain, four, PORT, 200),
        ("ipv6", &plain, six, PORT, 200),
        ("firewall-ipv4", &wall, four, PORT, 50),
        ("firewall-ipv6", &wall, six, PORT, 50),
        ("nat", &nat, four, PORT, 50),
        ("smb", &plain, four, SMB, 50),
    ] {
        let waiting = Waiting::connect(place.clone(), name, vip, port, count)?;
        groups.push((name, vip, count, waiting));
    }
    c.known(four, 350)?;
    c.known(six, 250)?;
    c.lab.crash(&holder)?;
    for vip in [four, six] {
        c.until(60, "the address is on a survivor", || c.left(vip, &holder))?;
    }

    let mut told = Vec::new();
    for (name, vip, count, waiting) in groups {
        told.push((name, vip, count, waiting.breaks()?));
    }
    let mut arrivals = Vec::new();
    for (node, server) in c.nodes.iter().zip(servers) {
        if *node != holder {
            arrivals.extend(server.arrivals()?);
        }
    }
    let mut latest: f64 = 0.0;
    for (name, vip, count, breaks) in told {
        let arrived = arrivals.iter().filter(|(address, _)| *address == vip);
        let arrived = arrived.map(|(_, at)| *at).min_by(f64::total_cmp);
        let arrived = arrived.context("nobody has seen the address arrive")?;
        let mut delays: Vec<f64> = breaks.iter().map(|at| (at - arrived) * 1000.0).collect();
        delays.sort_by(f64::total_cmp);
        let reset = delays.len();
        ensure!(reset == count, "{name}: {reset} of {count} were reset");
        let p99 = delays[(count * 99).div_ceil(100) - 1];
        c.note(&format!(
            "{name}: {reset} of {count} reset, p99 {p99:.0} ms after the address arrived"
        ));
        latest = latest.max(p99);
    }
    Ok(latest)
}

/// Servers on all nodes, which see these addresses arrive.
fn serve(c: &Cluster, vips: &[IpAddr]) -> Result<Vec<Listening>> {
    let nodes = c.nodes.iter();
    nodes
        .map(|node| Listening::start(c, node, PORT, vips))
        .collect()
}

/// Clients that wait at an address; `name` tells them from others.
fn wait_at(c: &Cluster, vip: IpAddr, name: &str) -> Result<Waiting> {
    Waiting::connect(c.lab.client(), name, vip, PORT, CLIENTS)
}

/// The holder of an address dies, and all of these clients of it are told.
fn crash_resets<const N: usize>(c: &Cluster, vip: IpAddr, waiting: [Waiting; N]) -> Result<()> {
    let holder = c.holder(vip)?;
    c.lab.crash(&holder)?;
    c.until(60, "the address is on a survivor", || c.left(vip, &holder))?;
    for clients in waiting {
        let reset = clients.breaks()?.len();
        ensure!(reset == CLIENTS, "{reset} of {CLIENTS} were reset");
    }
    Ok(())
}
