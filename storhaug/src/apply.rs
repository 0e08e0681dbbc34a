//! What every verb that changes the cluster does with a configuration: ask the
//! fence agents, push the difference as one change, and wait until Pacemaker
//! agrees.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use storhaug_agents::deadline::{Deadline, until};
use storhaug_agents::exec::Cmd;

use crate::agreement;
use crate::cluster::{Cluster, Fencing};
use crate::config::edit::Staged;
use crate::config::{self, Loaded};
use crate::corosync::Corosync;
use crate::desired::{self, Facts, Kind};
use crate::machine::{self, Machine};
use crate::pacemaker::{self, Push};
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slots {
    /// From the nodes' addresses; those that are known keep their places.
    Resolved,
    /// They are those that the cluster has, because no node comes or goes.
    Kept,
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
            builds_on: Vec::new(),
        }
    }

    fn facts(&self, live: &Live) -> anyhow::Result<Facts> {
        let mut facts = match self.slots {
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
        Ok(facts)
    }

    /// Whether the cluster has what the change was made from.
    fn check_base(&self, cib: &Element) -> anyhow::Result<()> {
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

    /// Waits until everything runs where it should, and what was taken out has
    /// stopped.
    ///
    /// # Errors
    /// What does not, and why.
    pub fn settle(&self, leaving: &[String], progress: &mut Progress) -> anyhow::Result<()> {
        let wanted = desired::wanted(self.cluster);
        let deadline = Deadline::after(SETTLING);
        let mut before = State::default();
        let mut changed = Instant::now();
        let mut lacking = String::new();
        let result = until(deadline, EVERY, "the cluster's services", || {
            let state = pacemaker::state(self.machine.runner)?;
            let missing = agreement::missing(&wanted, &state);
            let staying: Vec<&str> = leaving
                .iter()
                .map(String::as_str)
                .filter(|gone| state.active(gone))
                .collect();
            if missing.is_empty() && staying.is_empty() {
                return Ok(Some(()));
            }
            if state.busy() || state != before {
                changed = Instant::now();
            }
            let mut words: Vec<String> = missing.iter().map(agreement::Missing::in_words).collect();
            words.extend(staying.iter().map(|gone| format!("{gone} has not stopped")));
            lacking = words.join("\n  ");
            if changed.elapsed() > QUIET {
                bail!("nothing is being done about it any more");
            }
            let first = missing
                .iter()
                .find(|m| m.kind != Kind::Address)
                .or(missing.first());
            progress.waiting(&match (first, staying.first()) {
                (Some(missing), _) if missing.nodes.is_empty() => {
                    format!("waiting for {}", missing.resource)
                }
                (Some(missing), _) => {
                    format!(
                        "waiting for {} on {}",
                        missing.resource,
                        missing.nodes.join(", ")
                    )
                }
                (None, gone) => format!("waiting until {} has stopped", gone.unwrap_or(&"all")),
            });
            before = state;
            Ok(None)
        });
        result.with_context(|| match lacking.is_empty() {
            true => "what runs by now is not known; `storhaug status` says more".to_owned(),
            false => format!("not everything runs:\n  {lacking}\n`storhaug status` says more"),
        })
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
