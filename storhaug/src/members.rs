//! `storhaug add` and `storhaug remove`: a node joins the cluster or leaves it,
//! and no service of another node is restarted.
//!
//! Both go by way of a node that only votes, from which everything is banned.
//! One that joins is that before Corosync takes it: Pacemaker would start
//! services there at once, and CTDB's agent fails for good on a node that its
//! list of nodes does not name. As soon as it takes part, one change names it
//! and lifts the bans. One that leaves is that first, so each address leaves it
//! once, for its new home, and CTDB forgets the node when it is gone.
//!
//! Meanwhile the cluster keeps the configuration that it had as the one that
//! was applied. The file is written when the new one is. Every step looks first
//! whether it was done already, so the same command completes a run that was
//! interrupted anywhere.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Instant;

use anyhow::{Context, bail};
use storhaug_agents::deadline::{Deadline, until};

use crate::apply::{Apply, EVERY, JOINING, Outcome, Rehearsed, Slots, Stops};
use crate::apply::{outcome, running, write};
use crate::cleanup;
use crate::cluster::{Cluster, Fencing, Node};
use crate::config::edit::{Edit, NewNode, NewVip, Sources};
use crate::config::{self, Loaded, Places};
use crate::corosync::Corosync;
use crate::desired;
use crate::drain;
use crate::machine::{self, Machine, applied};
use crate::pacemaker;
use crate::pcs;
use crate::plan::{self, Live};
use crate::preflight;
use crate::progress::Progress;
use crate::quorum;

/// What a node brings along.
#[derive(Clone, Debug)]
pub struct Addition {
    /// The node.
    pub node: NewNode,
    /// Addresses to be added with it.
    pub vips: Vec<NewVip>,
}

/// Makes a node a member. `host` is the name of this machine.
///
/// # Errors
/// What is in the way, or does not run in the end, and why.
pub fn add(
    machine: Machine<'_>,
    host: &str,
    addition: &Addition,
    places: &Places,
    progress: &mut Progress,
) -> anyhow::Result<Outcome> {
    let name = addition.node.name.as_str();
    let _lock = machine.lock()?;
    let sources = machine.sources(places)?;
    let before = sources.load()?;
    let change = Change::look(machine, name, &before)?;
    let edited = sources.edited(&additions(addition, &before.cluster)?)?;
    let loaded = edited.load()?;
    preflight::check_networks(&loaded, host)?;
    let node = loaded.cluster.node(name).context("the node is not there")?;
    let by_hand = without(&sources, name);
    let builds_on = vec![before.fingerprint, loaded.fingerprint.clone()];
    let builds_on = builds_on.into_iter().chain(by_hand).collect();
    let apply = change.apply(&loaded.cluster, builds_on)?;
    let staged = edited.stage(&sources)?;
    let mut changed = false;
    // One that serves already is left alone.
    if !change.member || change.known.node(name) != Some(node) {
        if !change.member {
            let state = pacemaker::state(machine.runner)?;
            quorum::after_joining(&change.members, name, &state)?;
            introduce(&apply, node, &loaded, progress)?;
        }
        let voting = change.voting(node, &loaded.cluster);
        let (pushed, _) = change.step(&voting).push(progress, Rehearsed::No)?;
        changed |= pushed;
        if !change.member {
            changed = true;
            change.take_in(node, &apply, progress)?;
        }
        changed |= join(&apply, name, progress)?;
        // What was tried on it before it was prepared is tried again.
        cleanup::on_node(machine, name)?;
    }
    let (pushed, leaving) = apply.push(progress, Rehearsed::No)?;
    changed |= pushed;
    changed |= write(staged, progress)?;
    apply.settle(&leaving, progress)?;
    Ok(outcome(changed))
}

/// Takes a node out; `force`, whatever becomes of the volumes, and even if it is
/// the last one that serves. `host` is the name of this machine.
///
/// # Errors
/// What would be lost with it, or what is in the way, and why.
pub fn remove(
    machine: Machine<'_>,
    host: &str,
    name: &str,
    force: bool,
    places: &Places,
    progress: &mut Progress,
) -> anyhow::Result<Outcome> {
    if name == host {
        bail!("a node does not take itself out; run `storhaug remove {name}` on another one");
    }
    let _lock = machine.lock()?;
    let sources = machine.sources(places)?;
    let before = sources.load()?;
    let change = Change::look(machine, name, &before)?;
    let written = before.cluster.node(name);
    let known = change.known.node(name);
    if written.is_none() && known.is_none() && !change.member {
        let members = change.members.join(", ");
        progress.warn(&format!(
            "{name} is not in the cluster; there are {members}"
        ));
    }
    let edits = written.map(|_| Edit::RemoveNode(name.to_owned()));
    let edited = sources.edited(edits.as_slice())?;
    let loaded = edited.load()?;
    let mut builds_on = vec![before.fingerprint.clone(), loaded.fingerprint.clone()];
    if without(&Sources::applied(&change.known), name).as_ref() == Some(&loaded.fingerprint) {
        builds_on.push(config::fingerprint(&change.known));
    }
    let apply = change.apply(&loaded.cluster, builds_on)?;
    let staged = edited.stage(&sources)?;
    let mut changed = false;
    if change.member {
        let state = pacemaker::state(machine.runner)?;
        let found = state.nodes.get(name).cloned().unwrap_or_default();
        if found.unclean {
            bail!("{name} is lost and not fenced yet; wait until it is, or confirm that it is off");
        }
        quorum::after_leaving(&change.members, name, &state)?;
        if found.online {
            quorum::all_told(&change.members, name, &state)?;
            if !force {
                drain::affordable(machine, &change.known, &change.members, name, progress)?;
            }
            if let Some(node) = known {
                change.empty(node, progress)?;
            }
        } else {
            progress.warn(&format!(
                "{name} is offline and cannot be told; before it is started again, run `pcs \
                 cluster destroy` on it"
            ));
            if let Err(error) = quorum::all_told(&change.members, name, &state) {
                progress.warn(&format!(
                    "{error:#}; or, when it is up, run `pcs cluster sync corosync` here"
                ));
            }
        }
        progress.begin(&format!("taking {name} out of {}", change.known.name));
        if let Err(error) = apply.pcs(&pcs::node_remove(name, found.online)) {
            if is_member(machine, name)? {
                progress.begin(&format!("giving {name} its services back"));
                if let Err(error) = change.step(&change.known).push(progress, Rehearsed::Yes) {
                    progress.warn(&format!("{error:#}"));
                }
                return Err(error);
            }
            progress.warn(&format!("{error:#}"));
        }
        changed = true;
    }
    changed |= forget(&apply, progress)?;
    let (pushed, leaving) = apply.push(progress, Rehearsed::No)?;
    changed |= pushed;
    changed |= write(staged, progress)?;
    apply.settle(&leaving, progress)?;
    Ok(outcome(changed))
}

/// Has the cluster forget the nodes that Corosync's configuration no longer
/// names: `pcs` was interrupted while it removed them. Whether there were any.
///
/// What it has done by then is not known: it gives the others the new list of
/// members, has their Corosync load it, and has Pacemaker forget the node, in this
/// order (pcs 0.11 and 0.12, `lib/commands/cluster.py`, `remove_nodes`).
///
/// # Errors
/// They are not forgotten.
pub fn forget(apply: &Apply<'_>, progress: &mut Progress) -> anyhow::Result<bool> {
    let machine = apply.machine;
    let left = left_behind(machine)?;
    if left.is_empty() {
        return Ok(false);
    }
    let names = left.join(", ");
    let nodes = pacemaker::state(machine.runner)?.nodes;
    let there = |name: &&String| {
        nodes
            .get(*name)
            .is_some_and(|node| node.online || node.unclean)
    };
    if let Some(name) = left.iter().find(there) {
        bail!(
            "{name} is in the cluster and not in this node's /etc/corosync/corosync.conf, which is \
             out of date; run `pcs cluster sync corosync` on a node where it is"
        );
    }
    progress.begin(&format!("having the cluster forget {names}"));
    if let Err(error) = apply.pcs(&pcs::sync()) {
        // It gives up at the first that is down.
        progress.warn(&format!("{error:#}"));
    }
    apply.pcs(&pcs::reload())?;
    for name in &left {
        apply.pcs(&pcs::node_clear(name))?;
    }
    until(
        Deadline::after(JOINING),
        EVERY,
        "Pacemaker to forget it",
        || Ok(left_behind(machine)?.is_empty().then_some(())),
    )
    .with_context(|| format!("see `pcs cluster node clear {names}`"))?;
    Ok(true)
}

/// The nodes that Pacemaker knows and Corosync's configuration does not name.
fn left_behind(machine: Machine<'_>) -> anyhow::Result<Vec<String>> {
    let Live {
        corosync: Some(corosync),
        cib: Some(cib),
    } = machine.look()?
    else {
        return Ok(Vec::new());
    };
    let known = plan::members(&cib).into_iter();
    Ok(known
        .filter(|name| !corosync.nodes.contains(name))
        .collect())
}

/// The cluster that a node comes into or goes out of, as it was at the
/// beginning.
struct Change<'a> {
    machine: Machine<'a>,
    /// The node.
    name: &'a str,
    /// Corosync's members.
    members: Vec<String>,
    /// Whether it is one of them.
    member: bool,
    /// The configuration that was applied.
    known: Cluster,
    /// CTDB's slots.
    slots: Vec<String>,
}

impl<'a> Change<'a> {
    fn look(machine: Machine<'a>, name: &'a str, loaded: &Loaded) -> anyhow::Result<Change<'a>> {
        let (corosync, cib) = running(machine, loaded)?;
        Ok(Change {
            machine,
            name,
            member: corosync.nodes.iter().any(|known| known == name),
            members: corosync.nodes,
            known: applied(&cib).context(
                "the configuration that was applied is not in the cluster; run `storhaug setup`",
            )?,
            slots: plan::slots(&cib),
        })
    }

    /// The change to `cluster`, which may have been made from any of
    /// `builds_on`.
    fn apply<'b>(
        &'b self,
        cluster: &'b Cluster,
        builds_on: Vec<String>,
    ) -> anyhow::Result<Apply<'b>> {
        if !builds_on.contains(&config::fingerprint(&self.known)) {
            bail!(
                "the configuration on this node differs from the cluster's by more than {name}: \
                 take {name} back, look at `storhaug plan`, run `storhaug setup` if that is \
                 right, and then this again",
                name = self.name
            );
        }
        Ok(Apply {
            joining: BTreeSet::from([self.name.to_owned()]),
            slots: self.slots(cluster)?,
            stops: Stops::On(self.name),
            builds_on,
            ..Apply::new(self.machine, cluster)
        })
    }

    /// A step on the way, from what was applied.
    fn step<'b>(&'b self, voting: &'b Cluster) -> Apply<'b> {
        Apply {
            joining: BTreeSet::from([self.name.to_owned()]),
            slots: Slots::Kept,
            stops: Stops::On(self.name),
            keeps: Some(&self.known),
            builds_on: vec![config::fingerprint(&self.known)],
            ..Apply::new(self.machine, voting)
        }
    }

    /// What was applied, with `node` as one that only votes, and fenced as in
    /// `fenced`.
    fn voting(&self, node: &Node, fenced: &Cluster) -> Cluster {
        let mut voting = self.known.clone();
        let all = fenced.nodes.iter();
        let at = all.take_while(|known| known.name != node.name).count();
        voting.nodes.retain(|known| known.name != node.name);
        let voter = Node {
            storage: false,
            ..node.clone()
        };
        voting.nodes.insert(at.min(voting.nodes.len()), voter);
        for vip in &mut voting.vips {
            vip.prefer.retain(|home| *home != node.name);
        }
        voting.fencing = fenced.fencing.clone();
        voting
    }

    /// CTDB's slots in `cluster`. Those of the other nodes are what they were:
    /// a name that leads to another address today would take SMB down.
    fn slots(&self, cluster: &Cluster) -> anyhow::Result<Slots> {
        if cluster.smb.is_none() {
            return Ok(Slots::Kept);
        }
        let live = self.machine.look()?;
        let (facts, doubts) = machine::facts(cluster, &live);
        if !doubts.is_empty() {
            bail!("{}", doubts.join("\n"));
        }
        let all = facts.slots.iter().enumerate();
        let differing = all.filter(|(at, slot)| self.slots.get(*at) != Some(*slot));
        if differing.count() > 1 {
            bail!(
                "CTDB knows the nodes as {}, and by their names they would be {}; give the nodes \
                 in the configuration their addresses, or correct /etc/hosts",
                self.slots.join(" "),
                facts.slots.join(" ")
            );
        }
        Ok(Slots::These(facts.slots))
    }

    /// Has Corosync take a node that is prepared for. Where it is refused,
    /// nothing of it is left.
    fn take_in(
        &self,
        node: &Node,
        apply: &Apply<'_>,
        progress: &mut Progress,
    ) -> anyhow::Result<()> {
        let name = self.name;
        progress.begin(&format!("making {name} a member of {}", self.known.name));
        let Err(error) = apply.pcs(&pcs::node_add(node)) else {
            return Ok(());
        };
        if is_member(self.machine, name)? {
            progress.warn(&format!("{error:#}"));
            return Ok(());
        }
        progress.begin("taking back what was prepared for it");
        if let Err(error) = self.step(&self.known).push(progress, Rehearsed::Yes) {
            progress.warn(&format!("{error:#}"));
        }
        Err(error)
    }

    /// Has a node that will leave serve nothing, and waits until it does not.
    fn empty(&self, node: &Node, progress: &mut Progress) -> anyhow::Result<()> {
        let voting = self.voting(node, &self.known);
        let step = self.step(&voting);
        progress.begin(&format!("stopping the services on {}", node.name));
        let (_, leaving) = step.push(progress, Rehearsed::No)?;
        // What fails elsewhere is no reason to stop half-way.
        if let Err(error) = step.settle(&leaving, progress) {
            progress.warn(&format!("{error:#}"));
        }
        let stay = desired::wanted(&voting);
        let services = desired::wanted(&self.known).into_iter();
        let services: Vec<String> = services
            .filter(|wanted| !stay.contains(wanted))
            .map(|wanted| wanted.resource)
            .collect();
        let what = "a node that serves nothing";
        let emptied = until(Deadline::after(JOINING), EVERY, what, || {
            let state = pacemaker::state(self.machine.runner)?;
            let busy = state.instances.iter().find(|instance| {
                services.contains(&instance.resource) && instance.nodes.contains(&node.name)
            });
            let Some(busy) = busy else {
                return Ok(Some(()));
            };
            let what = format!("waiting until {} has left {}", busy.resource, node.name);
            progress.waiting(&what);
            Ok(None)
        });
        emptied.context("`storhaug status` says more")
    }
}

/// The fingerprint of what `sources` would say without a node.
fn without(sources: &Sources, name: &str) -> Option<String> {
    let edited = sources.edited(&[Edit::RemoveNode(name.to_owned())]).ok()?;
    Some(edited.load().ok()?.fingerprint)
}

/// What of an addition is not written yet.
fn additions(addition: &Addition, cluster: &Cluster) -> anyhow::Result<Vec<Edit>> {
    let node = &addition.node;
    let mut edits = Vec::new();
    match cluster.node(&node.name) {
        Some(known) => {
            let address = node.address.as_ref();
            let same = address.is_none_or(|address| known.address.as_ref() == Some(address));
            if !same || known.storage && !node.storage {
                bail!(
                    "{} is written down already, otherwise: change that, or say nothing else \
                     about it here",
                    node.name
                );
            }
        }
        None => {
            if let Fencing::Device { nodes, .. } = &cluster.fencing
                && !nodes.is_empty()
                && node.fencing.is_empty()
            {
                bail!(
                    "nothing could switch off {}; say what its device needs, as in --fence \
                     ip=10.1.0.9",
                    node.name
                );
            }
            edits.push(Edit::AddNode(node.clone()));
        }
    }
    for vip in &addition.vips {
        let address = vip.address.split('/').next().unwrap_or_default();
        let address: Option<IpAddr> = address.parse().ok();
        let mut known = cluster.vips.iter().map(|known| Some(known.address));
        if !known.any(|known| known == address) {
            edits.push(Edit::AddVip(vip.clone()));
        }
    }
    Ok(edits)
}

/// Makes the pcsd of a new node known to the others. Without a password, it may
/// be known already.
fn introduce(
    apply: &Apply<'_>,
    node: &Node,
    loaded: &Loaded,
    progress: &mut Progress,
) -> anyhow::Result<()> {
    match loaded.password() {
        Ok(password) => {
            progress.begin(&format!("making {} known to the others", node.name));
            apply.pcs(&pcs::host_auth(std::slice::from_ref(node), &password))
        }
        Err(_) if pcs::knows(apply.machine.root, &node.name) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn is_member(machine: Machine<'_>, name: &str) -> anyhow::Result<bool> {
    let corosync = Corosync::read(machine.root)?;
    Ok(corosync.is_some_and(|corosync| corosync.nodes.iter().any(|node| node == name)))
}

/// Waits until a new node takes part. Whether it had to be started.
fn join(apply: &Apply<'_>, name: &str, progress: &mut Progress) -> anyhow::Result<bool> {
    let runner = apply.machine.runner;
    let mut started = false;
    let began = Instant::now();
    let joined = until(Deadline::after(JOINING), EVERY, "the new member", || {
        progress.waiting(&format!("waiting for {name}"));
        let (Ok(state), Ok(cib)) = (pacemaker::state(runner), pacemaker::query(runner)) else {
            return Ok(None);
        };
        let online = state.nodes.get(name).is_some_and(|node| node.online);
        if online && plan::met(&cib).contains(name) {
            return Ok(Some(()));
        }
        // The run that made it a member may have been interrupted.
        if !started && began.elapsed() > JOINING / 4 {
            started = true;
            apply.pcs(&pcs::node_enable(name))?;
            apply.pcs(&pcs::node_start(name))?;
        }
        Ok(None)
    });
    joined.with_context(|| {
        format!("{name} is a member and does not take part; look at the journal there")
    })?;
    Ok(started)
}
