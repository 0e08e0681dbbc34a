//! What every verb that changes the cluster does with a configuration: ask the
//! fence agents, push the difference as one change, and wait until Pacemaker
//! agrees.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use storhaug_agents::deadline::{Deadline, until};
use storhaug_agents::exec::Cmd;

use crate::agreement::{self, Missing};
use crate::cluster::{Cluster, Fencing};
use crate::config::edit::Staged;
use crate::config::{self, Loaded};
use crate::corosync::Corosync;
use crate::desired::{self, Facts, Kind, Nodes, Wanted};
use crate::drain;
use crate::history;
use crate::machine::{self, Machine};
use crate::pacemaker::{self, Foretold, Push};
use crate::pcs;
use crate::plan::{self, Live, Plan};
use crate::progress::Progress;
use crate::rehearsal::{self, Power};
use crate::state::State;
use crate::xml::Element;

/// How often the cluster is looked at while it is waited for. A look costs
/// about 20 ms.
pub const EVERY: Duration = Duration::from_millis(500);

/// How long an address may take to be on another node; it takes a second.
pub const MOVING: Duration = Duration::from_secs(60);

/// How long the members may take to find each other.
pub const JOINING: Duration = Duration::from_secs(180);

/// How long the resources may take altogether.
const SETTLING: Duration = Duration::from_secs(600);

/// After so long without anything going on, what does not run will not run.
const QUIET: Duration = Duration::from_secs(30);

/// How often a push is tried again when somebody else was faster.
pub const PUSHES: usize = 10;

/// What is repeated to who goes without fencing.
pub const WITHOUT_FENCING: &str =
    "there is no fencing: a node that is cut off may go on writing, and data may be lost";

/// What is said of a configuration that is not the one that was applied.
pub const NOT_THE_SAME: &str = "the configuration on this node is not the one that the cluster \
    has: the cluster's was changed from another node, or this one without a setup; `storhaug \
    plan` shows the difference; run `storhaug setup` if this one is right, or else bring it up to \
    date";

/// Whether resources of others may be in the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adopt {
    /// The administrator said so.
    Yes,
    /// Nobody said so.
    No,
}

/// What a setup came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Everything was as it should be.
    NothingToDo,
    /// It is now.
    Done,
}

/// Whether the fence agents were asked already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rehearsed {
    /// They were.
    Yes,
    /// They are asked if a device is made or changed.
    No,
}

/// Where CTDB's slots come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Slots {
    /// From the nodes' addresses; those that are known keep their places.
    Resolved,
    /// They are those that the cluster has, because no node comes or goes.
    Kept,
    /// They are these.
    These(Vec<String>),
}

/// Where a change may have services stop or restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stops<'a> {
    /// Wherever the difference needs it.
    Anywhere,
    /// On this node alone, which comes or goes.
    On(&'a str),
    /// Nowhere.
    Nowhere,
}

/// A configuration on its way into the cluster.
#[derive(Clone, Debug)]
pub struct Apply<'a> {
    /// Where it is done.
    pub machine: Machine<'a>,
    /// What is asked for.
    pub cluster: &'a Cluster,
    /// Whether a cluster that serves something else may be changed.
    pub adopt: Adopt,
    /// Its nodes that need not be in the cluster yet.
    pub joining: BTreeSet<String>,
    /// Where CTDB's slots come from.
    pub slots: Slots,
    /// Where services may stop; the change is refused if more would.
    pub stops: Stops<'a>,
    /// What the cluster keeps as the configuration that was applied, if it is
    /// not this one, which then is a step on the way to another.
    pub keeps: Option<&'a Cluster>,
    /// The fingerprints of what the cluster may have been given before; empty
    /// if that does not matter. An edit is made in the file of one node, and
    /// must not undo what was made in that of another.
    pub builds_on: Vec<String>,
}

impl<'a> Apply<'a> {
    /// `cluster`, all of whose nodes are in the cluster already.
    pub fn new(machine: Machine<'a>, cluster: &'a Cluster) -> Apply<'a> {
        Apply {
            machine,
            cluster,
            adopt: Adopt::No,
            joining: BTreeSet::new(),
            slots: Slots::Resolved,
            stops: Stops::Anywhere,
            keeps: None,
            builds_on: Vec::new(),
        }
    }

    fn facts(&self, live: &Live) -> anyhow::Result<Facts> {
        let mut facts = match &self.slots {
            Slots::These(slots) => Facts {
                slots: slots.clone(),
                ..machine::kept(self.cluster, live)
            },
            Slots::Kept => match machine::kept(self.cluster, live) {
                facts if facts.slots.is_empty() && self.cluster.smb.is_some() => bail!(
                    "CTDB's list of nodes is not in the cluster's configuration; run `storhaug \
                     setup`"
                ),
                facts => facts,
            },
            Slots::Resolved => match machine::facts(self.cluster, live) {
                (facts, doubts) if doubts.is_empty() => facts,
                // A wrong address in CTDB's list takes SMB down everywhere.
                (_, doubts) => bail!("{}", doubts.join("\n")),
            },
        };
        let met = live.cib.as_ref().map(plan::met).unwrap_or_default();
        facts.joining = self.joining.difference(&met).cloned().collect();
        if let Some(kept) = self.keeps {
            facts.canonical = config::canonical(kept);
            facts.fingerprint = config::fingerprint(kept);
        }
        // An edit is made while a node may be drained from another one; setup
        // tidies up.
        if let Some(cib) = live.cib.as_ref().filter(|_| !self.builds_on.is_empty()) {
            facts.spared = drain::bans_for(cib, self.cluster);
        }
        Ok(facts)
    }

    /// Refuses a cluster that has something else than what the change was made
    /// from.
    ///
    /// # Errors
    /// It has.
    pub fn check_base(&self, cib: &Element) -> anyhow::Result<()> {
        // The fingerprint that the cluster keeps may be of an older form.
        let known = machine::applied(cib).map(|cluster| config::fingerprint(&cluster));
        let same = known.is_some_and(|known| self.builds_on.contains(&known));
        match same || self.builds_on.is_empty() {
            true => Ok(()),
            false => bail!("{NOT_THE_SAME}"),
        }
    }

    /// Runs a command of pcs.
    ///
    /// # Errors
    /// What it says.
    pub fn pcs(&self, cmd: &Cmd) -> anyhow::Result<()> {
        let deadline = Deadline::after(pcs::PATIENCE);
        self.machine.runner.run(cmd, deadline)?.checked().map(drop)
    }

    /// Asks every fence agent for the state of its node.
    ///
    /// # Errors
    /// One does not know it.
    pub fn rehearse(&self, progress: &mut Progress) -> anyhow::Result<()> {
        for device in desired::devices(self.cluster) {
            progress.waiting(&format!(
                "asking {} about {}",
                device.agent,
                device.victims.join(", ")
            ));
            for (node, power) in rehearsal::power(self.machine.runner, &device)? {
                if power == Power::Off {
                    progress.warn(&format!("{} says that {node} is off", device.agent));
                }
            }
        }
        if self.cluster.fencing != Fencing::Refused {
            progress.done("fencing answers for every node");
        }
        Ok(())
    }

    /// Pushes the difference, as one change. Whether there was one, and the
    /// resources that go with it.
    ///
    /// # Errors
    /// The cluster is another one, or does not take the change.
    pub fn push(
        &self,
        progress: &mut Progress,
        mut rehearsed: Rehearsed,
    ) -> anyhow::Result<(bool, Vec<String>)> {
        for _ in 0..PUSHES {
            let live = self.machine.look()?;
            if let Some(cib) = &live.cib {
                self.check_base(cib)?;
                self.alone(cib)?;
            }
            let facts = self.facts(&live)?;
            let plan = Plan::make(self.cluster, &facts, &live)?;
            if plan.changes.is_empty() {
                return Ok((false, Vec::new()));
            }
            if plan.touches_fencing() && rehearsed == Rehearsed::No {
                self.rehearse(progress)?;
                rehearsed = Rehearsed::Yes;
            }
            pacemaker::verify(self.machine.runner, &plan.after)?;
            if let Some(cib) = &live.cib {
                for entry in history::misleading(cib, &plan.reconfigured()) {
                    pacemaker::forget(self.machine.runner, &entry)?;
                }
            }
            self.spare(&plan)?;
            match pacemaker::push(self.machine.runner, &plan.before, &plan.after)? {
                Push::Done => {
                    let count = plan.changes.len();
                    let s = if count == 1 { "" } else { "s" };
                    progress.done(&format!(
                        "{count} change{s} to the cluster's configuration made"
                    ));
                    return Ok((true, plan.leaving()));
                }
                Push::Outdated => {
                    progress.waiting("the cluster was changed meanwhile, comparing again")
                }
            }
        }
        bail!("somebody else keeps changing the cluster's configuration; run it again")
    }

    /// Refuses a change that has a service stop where none may.
    fn spare(&self, plan: &Plan) -> anyhow::Result<()> {
        if self.stops == Stops::Anywhere {
            return Ok(());
        }
        let runner = self.machine.runner;
        let now = pacemaker::query(runner)?;
        let after = plan.after.clone().holding(now.find("status").cloned());
        // What is about to happen anyway is nobody's fault.
        let anyway = pacemaker::foretell(runner, &now)?;
        let foretold = pacemaker::foretell(runner, &after)?;
        let wanted = desired::wanted(self.cluster);
        let service = |step: &Foretold| {
            wanted.iter().any(|w| {
                // One that runs on a single node goes where an address goes.
                let everywhere = matches!(w.nodes, Nodes::Each(_));
                w.kind == Kind::Service && everywhere && w.resource == step.primitive()
            })
        };
        let elsewhere = |step: &Foretold| match self.stops {
            Stops::On(node) => step.place() != Some(node),
            Stops::Anywhere | Stops::Nowhere => true,
        };
        // A service that starts interrupts nobody, nor does a reload.
        let stops = |step: &&Foretold| {
            ["stop", "restart", "move", "recover"].contains(&step.action.as_str())
        };
        let mut stops = foretold.iter().filter(stops);
        match stops.find(|step| service(step) && elsewhere(step) && !anyway.contains(step)) {
            None => Ok(()),
            Some(step) => bail!(
                "{} would {} on {} ({}), which this is not worth; nothing was changed. Run \
                 `storhaug setup` first if it may, which brings what is pending; `storhaug plan` \
                 shows that",
                step.primitive(),
                step.action,
                step.place().unwrap_or("a node"),
                step.reason.as_deref().unwrap_or("no reason is given"),
            ),
        }
    }

    /// Refuses a cluster that serves something else, unless told to adopt it.
    fn alone(&self, cib: &Element) -> anyhow::Result<()> {
        let foreign = plan::foreign(cib);
        if self.adopt == Adopt::No && !plan::is_ours(cib) && !foreign.is_empty() {
            bail!(
                "the cluster `{}` already runs {}; look at `storhaug plan`, which shows the \
                 properties that would hold for these too, and run `storhaug setup --adopt`",
                self.cluster.name,
                foreign.join(", ")
            );
        }
        Ok(())
    }

    /// The first thing that Pacemaker has still to do about `wanted`. It takes
    /// some milliseconds before it begins with what was pushed, and meanwhile
    /// everything may run that is about to be restarted.
    fn due(&self, wanted: &[Wanted]) -> anyhow::Result<Option<Foretold>> {
        let runner = self.machine.runner;
        let foretold = pacemaker::foretell(runner, &pacemaker::query(runner)?)?;
        let ours = |step: &Foretold| wanted.iter().any(|w| w.resource == step.primitive());
        Ok(foretold.into_iter().find(ours))
    }

    /// Waits until everything runs where it should, nothing more is to be done
    /// about it, and what was taken out has stopped.
    ///
    /// # Errors
    /// What does not, and why.
    pub fn settle(&self, leaving: &[String], progress: &mut Progress) -> anyhow::Result<()> {
        let wanted = desired::wanted(self.cluster);
        let names = wanted.iter().map(|wanted| wanted.resource.as_str());
        let names: BTreeSet<&str> = names.chain(leaving.iter().map(String::as_str)).collect();
        let deadline = Deadline::after(SETTLING);
        let mut before = State::default();
        let mut changed = Instant::now();
        let mut lacking = String::new();
        let result = until(deadline, EVERY, "the cluster's services", || {
            // What becomes of others neither helps nor hinders.
            let state = pacemaker::state(self.machine.runner)?.about(&names);
            let mut lack = Lack {
                missing: agreement::missing(&wanted, &state),
                staying: leaving.iter().filter(|gone| state.active(gone)).collect(),
                due: None,
            };
            if lack.is_empty() {
                lack.due = self.due(&wanted)?;
            }
            if lack.is_empty() {
                return Ok(Some(()));
            }
            if state.busy() || state != before {
                changed = Instant::now();
            }
            lacking = lack.in_words();
            if changed.elapsed() > QUIET {
                match lack.due {
                    // Everything runs, and that is what counts.
                    Some(_) => return Ok(Some(())),
                    None => bail!("nothing is being done about it any more"),
                }
            }
            progress.waiting(&lack.first());
            before = state;
            Ok(None)
        });
        result.with_context(|| match lacking.is_empty() {
            true => "what runs by now is not known; `storhaug status` says more".to_owned(),
            false => format!(
                "not everything is as it should be:\n  {lacking}\n`storhaug status` says more"
            ),
        })
    }
}

/// What a change is still waiting for.
struct Lack<'a> {
    /// What does not run.
    missing: Vec<Missing>,
    /// What was taken out and has not stopped.
    staying: Vec<&'a String>,
    /// What Pacemaker has still to do, though everything runs.
    due: Option<Foretold>,
}

impl Lack<'_> {
    fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.staying.is_empty() && self.due.is_none()
    }

    /// All of it, with the reasons, a line for each.
    fn in_words(&self) -> String {
        let mut words: Vec<String> = self.missing.iter().map(Missing::in_words).collect();
        let staying = self.staying.iter();
        words.extend(staying.map(|gone| format!("{gone} has not stopped")));
        words.extend(self.due.iter().map(|step| {
            let place = step.place().map(|node| format!(" on {node}"));
            let reason = step.reason.as_ref().map(|reason| format!(" ({reason})"));
            format!(
                "Pacemaker has still to {} {}{}{}",
                step.action,
                step.primitive(),
                place.unwrap_or_default(),
                reason.unwrap_or_default()
            )
        }));
        words.join("\n  ")
    }

    /// What is waited for first.
    fn first(&self) -> String {
        let mut missing = self.missing.iter();
        let service = missing.find(|missing| missing.kind != Kind::Address);
        if let Some(missing) = service.or(self.missing.first()) {
            let resource = &missing.resource;
            return match &missing.nodes[..] {
                [] => format!("waiting for {resource}"),
                nodes => format!("waiting for {resource} on {}", nodes.join(", ")),
            };
        }
        match (self.staying.first(), &self.due) {
            (Some(gone), _) => format!("waiting until {gone} has stopped"),
            (None, Some(step)) => format!("waiting for {} to {}", step.primitive(), step.action),
            (None, None) => "waiting".to_owned(),
        }
    }
}

/// The cluster as it runs, which is the one that is meant, and ours.
///
/// # Errors
/// It is not, or does not run.
pub fn running(machine: Machine<'_>, loaded: &Loaded) -> anyhow::Result<(Corosync, Element)> {
    let Live {
        corosync: Some(corosync),
        cib: Some(cib),
    } = machine.look()?
    else {
        bail!("this machine is in no cluster; write the nodes down and run `storhaug setup`");
    };
    loaded.check_name(&corosync.name)?;
    if !plan::is_ours(&cib) {
        bail!("the cluster was not set up by storhaug yet; run `storhaug setup` first");
    }
    Ok((corosync, cib))
}

/// Puts the files that an edit has changed in their places. Whether there were
/// any.
///
/// # Errors
/// One was changed meanwhile, or cannot be written.
pub fn write(staged: Staged, progress: &mut Progress) -> anyhow::Result<bool> {
    let written = staged.commit()?;
    for file in &written {
        progress.done(&format!("{} is written", file.display()));
    }
    Ok(!written.is_empty())
}

/// What it came to.
pub fn outcome(changed: bool) -> Outcome {
    match changed {
        true => Outcome::Done,
        false => Outcome::NothingToDo,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything runs, and one thing is to be restarted all the time: the error
    /// at the end names it.
    #[test]
    fn what_is_due_is_lacking() {
        let gone = String::from("vip-10.0.0.9");
        let mut lack = Lack {
            missing: Vec::new(),
            staying: Vec::new(),
            due: None,
        };
        assert!(lack.is_empty());
        lack.due = Some(Foretold {
            action: "restart".into(),
            what: "smbd:1".into(),
            from: Some("node2".into()),
            to: Some("node2".into()),
            reason: Some("resource definition change".into()),
        });
        assert!(!lack.is_empty());
        assert_eq!(lack.first(), "waiting for smbd to restart");
        let due = "Pacemaker has still to restart smbd on node2 (resource definition change)";
        assert_eq!(lack.in_words(), due);
        lack.staying.push(&gone);
        assert_eq!(lack.first(), "waiting until vip-10.0.0.9 has stopped");
        assert_eq!(
            lack.in_words(),
            format!("vip-10.0.0.9 has not stopped\n  {due}")
        );
    }
}
