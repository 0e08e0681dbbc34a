//! `storhaug drain` and `storhaug undrain`: a node is emptied for maintenance,
//! and takes its work again.
//!
//! Its addresses leave one by one, each with its clients told, and only then
//! do its services stop: it is put on standby. A ban that makes an address
//! leave is listed as ours and asked for by no configuration, so whatever an
//! interrupted run has left goes with the next one, or with `storhaug setup`.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, bail};
use storhaug_agents::deadline::{Deadline, until};
use storhaug_agents::exec::Cmd;
use storhaug_agents::glusterfs;

use crate::apply::{Apply, EVERY, MOVING, Outcome};
use crate::cluster::{Cluster, Storage};
use crate::desired::{self, TAG};
use crate::machine::{Machine, applied};
use crate::pacemaker;
use crate::plan;
use crate::progress::Progress;
use crate::quorum;
use crate::state::State;
use crate::xml::Element;

/// How long services may take to stop.
const STOPPING: Duration = Duration::from_secs(300);

/// How long a backlog is given to be healed before a node is refused for it.
/// After the return of a node it is a matter of seconds.
const HEALING: Duration = Duration::from_secs(120);

/// How long GlusterFS, or a tool of Pacemaker, may take for an answer.
const ANSWER: Duration = Duration::from_secs(60);

/// How a node is emptied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Manner {
    /// Also wait until its services have stopped.
    pub wait: bool,
    /// Whatever it costs.
    pub force: bool,
}

/// Empties a node.
///
/// # Errors
/// What it would cost, or what does not move or stop, and why.
pub fn drain(
    machine: Machine<'_>,
    name: &str,
    manner: Manner,
    progress: &mut Progress,
) -> anyhow::Result<Outcome> {
    let _lock = machine.lock()?;
    let member = Member::look(machine, name)?;
    let node = member.before.nodes.get(name).cloned().unwrap_or_default();
    let drained = node.standby && member.bans().is_empty();
    if !drained {
        if !node.online {
            bail!("{name} is not up, so that nothing runs on it");
        }
        if !manner.force {
            affordable(machine, &member.cluster, &member.members, name, progress)?;
        }
        let vips = member.cluster.vips.iter().map(|vip| vip.name.as_str());
        let held = vips.filter(|vip| member.before.running(vip).contains(&name));
        let held: Vec<&str> = held.collect();
        let stranded = match member.stranded(&held) {
            // It is told nothing that it would heed.
            Err(_) if manner.force => held.iter().map(|vip| (*vip).to_owned()).collect(),
            stranded => stranded?,
        };
        if let Some(vip) = stranded.first().filter(|_| !manner.force) {
            bail!(
                "no other node can serve {vip} now; `storhaug status` tells why, and --force has \
                 it served nowhere"
            );
        }
        for vip in held {
            member.lead_away(vip, stranded.contains(vip), progress)?;
        }
        progress.begin(&format!("stopping the services on {name}"));
        pacemaker::change(machine.runner, |cib| {
            standing_by(&without_bans(cib, name), name)
        })?;
    }
    if manner.wait {
        member.wait_stopped(progress)?;
    }
    Ok(if drained {
        Outcome::NothingToDo
    } else {
        Outcome::Done
    })
}

/// Has a drained node take its work again, and waits until it has.
///
/// # Errors
/// What does not run in the end, and why.
pub fn undrain(
    machine: Machine<'_>,
    name: &str,
    progress: &mut Progress,
) -> anyhow::Result<Outcome> {
    let _lock = machine.lock()?;
    let member = Member::look(machine, name)?;
    let node = member.before.nodes.get(name).cloned().unwrap_or_default();
    let drained = node.standby || !member.bans().is_empty();
    if drained {
        progress.begin(&format!("starting the services on {name}"));
        pacemaker::change(machine.runner, |cib| {
            not_standing_by(&without_bans(cib, name), name)
        })?;
        if standing_aside(&member.cib, name) {
            let cmd = Cmd::new("crm_attribute")
                .args(["--node", name, "--name", STANDBY])
                .args(["--lifetime", "reboot", "--delete"]);
            let output = machine.runner.run(&cmd, Deadline::after(ANSWER))?;
            output.checked().context("ending the node's standby")?;
        }
    }
    if !node.online {
        progress.warn(&format!(
            "{name} is not up; it serves again when `pcs cluster start {name}` has started it"
        ));
    }
    Apply::new(machine, &member.cluster).settle(&[], progress)?;
    Ok(if drained {
        Outcome::Done
    } else {
        Outcome::NothingToDo
    })
}

/// The node that is meant, and its cluster as it was applied and as it is at
/// the beginning.
struct Member<'a> {
    machine: Machine<'a>,
    members: Vec<String>,
    cib: Element,
    cluster: Cluster,
    before: State,
    node: &'a str,
}

impl<'a> Member<'a> {
    fn look(machine: Machine<'a>, node: &'a str) -> anyhow::Result<Member<'a>> {
        let (corosync, cib) = machine.member()?;
        let cluster = applied(&cib)
            .context("the cluster was not set up by storhaug; run `storhaug setup` first")?;
        if !corosync.nodes.iter().any(|known| known == node) {
            let known = corosync.nodes.join(", ");
            bail!("there is no node {node}; there are {known}");
        }
        Ok(Member {
            machine,
            members: corosync.nodes,
            cib,
            cluster,
            before: pacemaker::state(machine.runner)?,
            node,
        })
    }

    /// The bans that an interrupted run has left.
    fn bans(&self) -> Vec<String> {
        bans(&self.cib, self.node)
    }

    /// Those of `held`, the addresses on the node, which Pacemaker would put
    /// nowhere.
    fn stranded(&self, held: &[&str]) -> anyhow::Result<BTreeSet<String>> {
        let runner = self.machine.runner;
        let cib = pacemaker::query(runner)?;
        let emptied = held
            .iter()
            .fold(cib, |cib, vip| with_ban(&cib, vip, self.node));
        let foretold = pacemaker::foretell(runner, &emptied)?;
        let stranded = held.iter().filter(|vip| {
            let mut steps = foretold.iter().filter(|step| step.what == **vip);
            steps.next_back().is_none_or(|step| step.action == "stop")
        });
        Ok(stranded.map(|vip| (*vip).to_owned()).collect())
    }

    /// Has one address leave the node, and waits until it serves elsewhere, or
    /// just until it has left where no other node can serve it.
    fn lead_away(&self, vip: &str, stranded: bool, progress: &mut Progress) -> anyhow::Result<()> {
        let (runner, node) = (self.machine.runner, self.node);
        pacemaker::change(runner, |cib| with_ban(cib, vip, node))?;
        progress.waiting(&format!("waiting until {vip} has left {node}"));
        let moved = until(
            Deadline::after(MOVING),
            EVERY / 5,
            "an address to move",
            || {
                let state = pacemaker::state(runner)?;
                let holders = state.running(vip);
                let gone = stranded && !state.active(vip);
                let away = !holders.is_empty() && !holders.contains(&node);
                Ok((gone || away).then(|| holders.join(", ")))
            },
        );
        match moved {
            Ok(holder) if holder.is_empty() => {
                progress.warn(&format!("{vip} is served nowhere"));
                Ok(())
            }
            Ok(holder) => {
                progress.done(&format!("{vip} is on {holder}"));
                Ok(())
            }
            Err(error) => {
                pacemaker::change(runner, |cib| without_bans(cib, node))?;
                Err(error.context(format!(
                    "{vip} does not leave {node}; `crm_resource --why --resource {vip}` tells more"
                )))
            }
        }
    }

    fn wait_stopped(&self, progress: &mut Progress) -> anyhow::Result<()> {
        let wanted = desired::wanted(&self.cluster);
        until(
            Deadline::after(STOPPING),
            EVERY,
            "the services to stop",
            || {
                let state = pacemaker::state(self.machine.runner)?;
                let mut active = state.instances.iter().filter(|instance| {
                    wanted
                        .iter()
                        .any(|wanted| wanted.resource == instance.resource)
                        && instance.nodes.iter().any(|node| node == self.node)
                });
                let Some(active) = active.next() else {
                    return Ok(Some(()));
                };
                progress.waiting(&format!("waiting until {} has stopped", active.resource));
                Ok(None)
            },
        )
        .context("`storhaug status` says more")
    }
}

/// Refuses to go on without `name`, one of `members`, where that would cost the
/// cluster more than a node.
///
/// # Errors
/// What it would cost.
pub fn affordable(
    machine: Machine<'_>,
    cluster: &Cluster,
    members: &[String],
    name: &str,
    progress: &mut Progress,
) -> anyhow::Result<()> {
    let state = pacemaker::state(machine.runner)?;
    quorum::after_leaving(members, name, &state)?;
    let mut others = cluster.storage_nodes().filter(|node| node.name != name);
    let serving = others.any(|node| {
        let state = state.nodes.get(&node.name);
        state.is_some_and(|node| node.online && !node.standby && !node.maintenance)
    });
    if !serving {
        bail!("{name} is the last node that serves; bring another one up first");
    }
    let Storage::GlusterFs { server, .. } = &cluster.storage else {
        return Ok(());
    };
    let mut complaint = String::new();
    let healed = until(Deadline::after(HEALING), EVERY * 2, "the volumes", || {
        for volume in cluster.volumes() {
            let deadline = Deadline::after(ANSWER);
            let found = match glusterfs::redundancy(machine.runner, deadline, server, volume) {
                Ok(found) => found,
                // It refuses while it is busy with something else.
                Err(error) => Some(format!("{error:#}")),
            };
            if let Some(found) = found {
                complaint = format!("the volume {volume}: {found}");
                // A brick does not come back by waiting.
                if found.contains("offline") {
                    bail!("it is not as redundant as it should be");
                }
                progress.waiting(&format!("waiting for GlusterFS: {complaint}"));
                return Ok(None);
            }
        }
        Ok(Some(()))
    });
    healed.with_context(|| {
        format!(
            "without {name} data might be missing, or the last good copy ({complaint}); see \
             `gluster volume heal`, or insist with --force"
        )
    })
}

/// What the ids of the bans on `node` end with.
fn ending(node: &str) -> String {
    format!("-leaves-{node}")
}

/// All bans: their ids, the addresses, and the nodes that these leave.
fn all_bans(cib: &Element) -> impl Iterator<Item = (&str, &str, &str)> {
    let constraints = cib.at(&["configuration", "constraints"]);
    let constraints = constraints.map_or(&[][..], |section| &section.children);
    constraints.iter().filter_map(|location| {
        let (vip, node) = (location.get("rsc")?, location.get("node")?);
        let id = location.id();
        id.ends_with(&ending(node)).then_some((id, vip, node))
    })
}

/// The bans on `node`.
fn bans(cib: &Element, node: &str) -> Vec<String> {
    let on_node = all_bans(cib).filter(|(_, _, on)| *on == node);
    on_node.map(|(id, ..)| id.to_owned()).collect()
}

/// The bans that say something to `cluster`.
pub fn bans_for(cib: &Element, cluster: &Cluster) -> BTreeSet<String> {
    let known = all_bans(cib).filter(|(_, vip, node)| {
        cluster.node(node).is_some() && cluster.vips.iter().any(|known| known.name == *vip)
    });
    known.map(|(id, ..)| id.to_owned()).collect()
}

fn with_ban(cib: &Element, vip: &str, node: &str) -> Element {
    let mut after = cib.clone();
    let id = format!("storhaug-{vip}{}", ending(node));
    let configuration = after.entry("configuration");
    let constraints = &mut configuration.entry("constraints").children;
    if constraints.iter().all(|location| location.id() != id) {
        let ban = Element::new("rsc_location")
            .with("id", &id)
            .with("rsc", vip)
            .with("node", node)
            .with("score", "-INFINITY");
        constraints.push(ban);
        let tags = configuration.entry("tags").children.iter_mut();
        for tag in tags.filter(|tag| tag.id() == TAG) {
            tag.children.push(Element::new("obj_ref").with("id", &id));
        }
        plan::next_epoch(&mut after);
    }
    after
}

fn without_bans(cib: &Element, node: &str) -> Element {
    let mut after = cib.clone();
    let gone = bans(cib, node);
    if gone.is_empty() {
        return after;
    }
    let stays = |element: &Element| !gone.iter().any(|id| id == element.id());
    let configuration = after.entry("configuration");
    configuration.entry("constraints").children.retain(stays);
    let tags = configuration.entry("tags").children.iter_mut();
    tags.for_each(|tag| tag.children.retain(stays));
    plan::next_epoch(&mut after);
    after
}

/// The name of the attribute that keeps everything off a node.
const STANDBY: &str = "standby";

fn standing_by(cib: &Element, node: &str) -> Element {
    let mut after = not_standing_by(cib, node);
    let nodes = after
        .entry("configuration")
        .entry("nodes")
        .children
        .iter_mut();
    for entry in nodes.filter(|entry| entry.get("uname") == Some(node)) {
        // The ids are those that Pacemaker's own tools use.
        let set = format!("nodes-{}", entry.id());
        let pair = Element::new("nvpair")
            .with("id", format!("{set}-{STANDBY}"))
            .with("name", STANDBY)
            .with("value", "on");
        let own = entry.children.iter_mut();
        match own.into_iter().find(|child| child.id() == set) {
            Some(attributes) => attributes.children.push(pair),
            None => entry.children.push(
                Element::new("instance_attributes")
                    .with("id", &set)
                    .child(pair),
            ),
        }
    }
    plan::next_epoch(&mut after);
    after
}

/// Whether a node is on standby until it leaves the cluster: somebody has said
/// so with `crm_standby --lifetime reboot`.
fn standing_aside(cib: &Element, node: &str) -> bool {
    let states = cib
        .find("status")
        .map_or(&[][..], |status| &status.children);
    let mut own = states
        .iter()
        .filter(|state| state.get("uname") == Some(node));
    let attributes = own.find_map(|state| state.find("transient_attributes"));
    let mut all = attributes
        .map(Element::walk)
        .unwrap_or_default()
        .into_iter();
    all.any(|pair| pair.name == "nvpair" && pair.get("name") == Some(STANDBY))
}

/// Takes the attribute away, and the set with it that it leaves empty.
fn not_standing_by(cib: &Element, node: &str) -> Element {
    let mut after = cib.clone();
    let nodes = after
        .entry("configuration")
        .entry("nodes")
        .children
        .iter_mut();
    for entry in nodes.filter(|entry| entry.get("uname") == Some(node)) {
        for set in entry.children.iter_mut() {
            if set.name == "instance_attributes" {
                set.children
                    .retain(|pair| pair.get("name") != Some(STANDBY));
            }
        }
        let empty = |set: &Element| set.name == "instance_attributes" && set.children.is_empty();
        entry.children.retain(|set| !empty(set));
    }
    plan::next_epoch(&mut after);
    after
}
