//! Nodes that die, leave, come back, or lose their network.

use anyhow::{Result, ensure};
use storhaug_lab::cluster::View;
use storhaug_lab::writer::Writer;

use crate::client::{Listening, Waiting, Watch, Writing};
use crate::cluster::Cluster;

/// A port that nothing else uses.
const PORT: u16 = 4450;

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
    c.until(60, "every address serves", || {
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

/// A node lives on without its network, something on it writes on, and its
/// fencing takes its time. Until then nobody takes over, and neither side
/// destroys what may be in use; then the majority does, at once, and serves.
pub fn cut_off(c: &Cluster) -> Result<()> {
    let vip = c.vips[0];
    let lost = c.holder(vip)?;
    let elsewhere = c.vip_not_on(&lost)?;
    let between = Between::connect(c, &lost, &c.holder(elsewhere)?)?;
    let writer = Writer::start(&c.lab, vip, "cut-off")?;
    writer.wait_for(5)?;
    let boots = c.lab.boots(&lost)?;

    c.hold_fencing(&lost)?;
    c.lab.cut(&lost)?;
    c.until(60, "the isolated node gives its address up", || {
        Ok(c.lab.holder(vip)?.is_none())
    })?;
    c.until(60, "the majority wants the node to be fenced", || {
        Ok(View::of(&c.lab.node(&between.peer))?.nodes[&lost].unclean)
    })?;
    between.all_there()?;
    c.let_fence(&lost)?;
    c.until(60, "the isolated node was fenced", || {
        Ok(c.lab.boots(&lost)? > boots)
    })?;
    c.until(60, "the address is on the majority's side", || {
        c.left(vip, &lost)
    })?;
    writer.wait_for(10)?;

    let late = between.gone()? - c.lab.died(&lost)?;
    c.note(&format!("{:.0} ms from death to reset", late * 1000.0));
    ensure!(late <= 2.0, "sockets gone {late:.2} s after the death");
    c.fence_as_ever(&lost)?;
    c.lab.heal(&lost)?;
    c.settled()?;
    writer.finish()?.verify(&c.lab, elsewhere)
}

/// Connections between a node and one that will be lost, made in both directions
/// by programs that have nothing to do with the cluster: one writes all the time,
/// the others wait.
struct Between<'a> {
    c: &'a Cluster,
    lost: String,
    peer: String,
    waiting: Waiting,
    _writing: Writing,
    _servers: [Listening; 2],
}

impl<'a> Between<'a> {
    const WAITING: usize = 10;

    fn connect(c: &'a Cluster, lost: &str, peer: &str) -> Result<Self> {
        let _servers = [
            Listening::start(c, lost, PORT, &[])?,
            Listening::start(c, peer, PORT, &[])?,
        ];
        let (from, to) = (c.lab.node(peer), c.address(lost)?);
        let waiting = Waiting::connect(from, "waiting", to, PORT, Self::WAITING)?;
        let _writing = Writing::start(c.lab.node(lost), c.address(peer)?, PORT)?;
        Ok(Self {
            c,
            lost: lost.to_owned(),
            peer: peer.to_owned(),
            waiting,
            _writing,
            _servers,
        })
    }

    /// Neither end misses one.
    fn all_there(&self) -> Result<()> {
        for (node, other) in [(&self.lost, &self.peer), (&self.peer, &self.lost)] {
            let other = self.c.address(other)?;
            let ports = format!("( sport = {PORT} or dport = {PORT} )");
            let filter = format!("state established dst {other} {ports}");
            let there = self.c.connections(node, &filter)?;
            let all = Self::WAITING + 1;
            ensure!(there == all, "{node} has {there} of {all} connections");
        }
        Ok(())
    }

    /// When the last of those that wait broke, in seconds since 1970; all have
    /// to.
    fn gone(self) -> Result<f64> {
        let broken = self.waiting.breaks()?;
        let (count, all) = (broken.len(), Self::WAITING);
        ensure!(count == all, "{count} of {all} connections are gone");
        Ok(broken.into_iter().fold(0.0, f64::max))
    }
}
