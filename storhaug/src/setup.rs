//! `storhaug setup`: makes the cluster what its configuration says.
//!
//! Every step looks first whether it was done already, so that a run that was
//! interrupted anywhere is completed by the next one, and a run with nothing
//! to do calls neither pcs nor changes the CIB.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use storhaug_agents::deadline::{Deadline, until};

use crate::agreement;
use crate::cluster::{Cluster, Fencing};
use crate::config::{Loaded, Secret};
use crate::corosync::{self, Corosync};
use crate::desired::{self, Kind};
use crate::machine::{Machine, facts};
use crate::pacemaker::{self, Push};
use crate::pcs::{self, Retry};
use crate::plan::{self, Plan};
use crate::preflight;
use crate::progress::Progress;
use crate::rehearsal::{self, Power};
use crate::state::State;

/// How often the cluster is looked at while it is waited for. A look costs
/// about 20 ms.
const EVERY: Duration = Duration::from_millis(500);

/// How long the members may take to find each other.
const JOINING: Duration = Duration::from_secs(180);

/// How long the resources may take altogether.
const SETTLING: Duration = Duration::from_secs(600);

/// After so long without anything going on, what does not run will not run.
const QUIET: Duration = Duration::from_secs(30);

/// How often a push is tried again when somebody else was faster.
const PUSHES: usize = 10;

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

/// Makes the cluster what `loaded` says.
///
/// # Errors
/// What is in the way, or what does not run in the end, and why.
pub fn run(
    machine: Machine<'_>,
    loaded: &Loaded,
    adopt: Adopt,
    progress: &mut Progress,
) -> anyhow::Result<Outcome> {
    preflight::root()?;
    if let Some(corosync) = Corosync::read(machine.root)? {
        loaded.check_name(&corosync.name)?;
    }
    let host = preflight::host_name()?;
    preflight::check_networks(loaded, &host)?;
    let password = loaded.password()?;
    preflight::check(&loaded.cluster, machine.root, &host)?;
    apply(machine, loaded, &password, adopt, progress)
}

/// What [`run`] does once the machine has been found fit.
///
/// # Errors
/// As [`run`].
pub fn apply(
    machine: Machine<'_>,
    loaded: &Loaded,
    password: &Secret,
    adopt: Adopt,
    progress: &mut Progress,
) -> anyhow::Result<Outcome> {
    let cluster = &loaded.cluster;
    let _lock = machine.lock()?;
    let corosync = Corosync::read(machine.root)?;
    let setup = Setup {
        machine,
        loaded,
        cluster,
        adopt,
    };
    let mut changed = false;
    match &corosync {
        Some(corosync) => {
            let live = plan::Live {
                corosync: Some(corosync.clone()),
                cib: None,
            };
            // Refuses another cluster before anything is done to it.
            let (facts, _) = facts(loaded, &live);
            Plan::make(cluster, &facts, &live)?;
            changed |= setup.resume(progress)?;
        }
        None => {
            setup.rehearse(progress)?;
            progress.begin("making this node known to the others");
            setup.pcs(&pcs::host_auth(cluster, password))?;
            setup.create(progress)?;
            changed = true;
        }
    }
    changed |= setup.join(progress)?;
    // Before anything else is changed: this refuses the cluster of others.
    let (pushed, leaving) = setup.push(progress, corosync.is_none())?;
    changed |= pushed;
    changed |= setup.retune(progress)?;
    setup.settle(&leaving, progress)?;
    if cluster.fencing == Fencing::Refused {
        progress.warn(WITHOUT_FENCING);
    }
    Ok(if changed {
        Outcome::Done
    } else {
        Outcome::NothingToDo
    })
}

/// What is repeated to who goes without fencing.
pub const WITHOUT_FENCING: &str =
    "there is no fencing: a node that is cut off may go on writing, and data may be lost";

struct Setup<'a> {
    machine: Machine<'a>,
    loaded: &'a Loaded,
    cluster: &'a Cluster,
    adopt: Adopt,
}

impl Setup<'_> {
    fn pcs(&self, cmd: &storhaug_agents::exec::Cmd) -> anyhow::Result<()> {
        let output = self
            .machine
            .runner
            .run(cmd, Deadline::after(pcs::PATIENCE))?;
        output.checked().map(drop)
    }

    /// Makes and starts the cluster. A mark on this machine says, to a later
    /// run, since when a call may have left something half made; it stays
    /// until the members have met.
    fn create(&self, progress: &mut Progress) -> anyhow::Result<()> {
        let mark = self.mark();
        if !self.marked() {
            if let Some(directory) = mark.parent() {
                std::fs::create_dir_all(directory)
                    .with_context(|| format!("making {}", directory.display()))?;
            }
            std::fs::write(&mark, self.call())
                .with_context(|| format!("writing {}", mark.display()))?;
        }
        let names: Vec<&str> = self
            .cluster
            .nodes
            .iter()
            .map(|node| node.name.as_str())
            .collect();
        let names = names.join(", ");
        progress.begin(&format!(
            "making the cluster {} of {names}",
            self.cluster.name
        ));
        let Err(error) = self.pcs(&pcs::setup(self.cluster, Retry::No)) else {
            return Ok(());
        };
        progress.warn(&format!("{error:#}"));
        progress.begin("trying once more");
        let retry = self.retry();
        let result = self.pcs(&pcs::setup(self.cluster, retry));
        if result.is_err() && retry == Retry::No {
            self.unmark()?;
        }
        result
    }

    /// Whether what is half made on other nodes is ours to replace. pcs looks
    /// at every node, and refuses one of another cluster, before it writes
    /// anything; so it is, once pcs has written something here since the mark.
    fn retry(&self) -> Retry {
        let written = |path: &str| {
            let when = std::fs::metadata(self.machine.path(path)).and_then(|file| file.modified());
            when.ok()
        };
        let marked = std::fs::metadata(self.mark())
            .and_then(|mark| mark.modified())
            .ok();
        let files = [corosync::PATH, corosync::KEY];
        let since = files
            .into_iter()
            .filter_map(written)
            .any(|when| Some(when) >= marked);
        if since && marked.is_some() {
            Retry::Interrupted
        } else {
            Retry::No
        }
    }

    fn mark(&self) -> PathBuf {
        self.machine.path("/var/lib/storhaug/making-cluster")
    }

    /// Whether the mark is that of this very call. One with other members is
    /// another matter: a node of this one may be in somebody's cluster.
    fn marked(&self) -> bool {
        std::fs::read_to_string(self.mark()).is_ok_and(|call| call == self.call())
    }

    fn call(&self) -> String {
        pcs::setup(self.cluster, Retry::No).to_string()
    }

    fn unmark(&self) -> anyhow::Result<()> {
        let mark = self.mark();
        match std::fs::remove_file(&mark) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("removing {}", mark.display()))
            }
            _ => Ok(()),
        }
    }

    /// Starts a cluster that was made and does not run.
    fn resume(&self, progress: &mut Progress) -> anyhow::Result<bool> {
        if pacemaker::query(self.machine.runner).is_ok() {
            return Ok(false);
        }
        progress.begin("starting the cluster");
        match self.start() {
            Err(_) if self.marked() => self.create(progress)?,
            result => result?,
        }
        Ok(true)
    }

    fn start(&self) -> anyhow::Result<()> {
        // In this order, because a cluster that runs is not started again.
        self.pcs(&pcs::enable())?;
        self.pcs(&pcs::start())
    }

    /// Waits until the members have found each other. In a cluster that has
    /// never been set up all have to; later a majority is enough, and a node
    /// that its administrator has stopped stays stopped.
    fn join(&self, progress: &mut Progress) -> anyhow::Result<bool> {
        let mut started = false;
        let began = Instant::now();
        let deadline = Deadline::after(JOINING);
        let mut last = String::from("a cluster that answers");
        let result = until(deadline, EVERY, "the members of the cluster", || {
            let runner = self.machine.runner;
            let (Ok(state), Ok(cib)) = (pacemaker::state(runner), pacemaker::query(runner)) else {
                progress.waiting("waiting for the cluster to answer");
                return Ok(None);
            };
            let known = |name: &str| state.nodes.get(name);
            let absent: Vec<&str> = self
                .cluster
                .nodes
                .iter()
                .map(|node| node.name.as_str())
                .filter(|name| known(name).is_none_or(|node| !node.online))
                .collect();
            let complete = plan::is_ours(&cib);
            if state.dc.is_none() {
                last = "the election of a coordinator".into();
            } else if !state.quorum {
                last = "quorum".into();
            } else if !absent.is_empty() && !complete {
                last = absent.join(", ");
                // An interrupted run may have reached only some of them.
                if !started && began.elapsed() > JOINING / 4 {
                    started = true;
                    if self.marked() {
                        self.create(progress)?;
                    } else {
                        self.start()?;
                    }
                }
            } else {
                return Ok(Some(absent.join(", ")));
            }
            progress.waiting(&format!("waiting for {last}"));
            Ok(None)
        });
        let absent = result.with_context(|| format!("still missing: {last}"))?;
        self.unmark()?;
        if !absent.is_empty() {
            progress.warn(&format!(
                "{absent}: not in the cluster now; start it with `pcs cluster start`"
            ));
        }
        Ok(started)
    }

    /// Gives Corosync the timeouts that the configuration asks for.
    fn retune(&self, progress: &mut Progress) -> anyhow::Result<bool> {
        let wanted = corosync::Totem::of(self.cluster.failover);
        match Corosync::read(self.machine.root)? {
            Some(corosync) if corosync.totem != wanted => {
                progress.begin("changing Corosync's timeouts");
                self.pcs(&pcs::retune(wanted))?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// Asks every fence agent for the state of its node.
    fn rehearse(&self, progress: &mut Progress) -> anyhow::Result<()> {
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
    fn push(
        &self,
        progress: &mut Progress,
        mut rehearsed: bool,
    ) -> anyhow::Result<(bool, Vec<String>)> {
        for _ in 0..PUSHES {
            let live = self.machine.look()?;
            let (facts, _) = facts(self.loaded, &live);
            if let Some(cib) = &live.cib {
                self.alone(cib)?;
            }
            let plan = Plan::make(self.cluster, &facts, &live)?;
            if plan.changes.is_empty() {
                return Ok((false, Vec::new()));
            }
            if plan.touches_fencing() && !rehearsed {
                self.rehearse(progress)?;
                rehearsed = true;
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
        bail!("somebody else keeps changing the cluster's configuration; run setup again")
    }

    /// Refuses a cluster that serves something else, unless told to adopt it.
    fn alone(&self, cib: &crate::xml::Element) -> anyhow::Result<()> {
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
    fn settle(&self, leaving: &[String], progress: &mut Progress) -> anyhow::Result<()> {
        let wanted = desired::wanted(self.cluster);
        let deadline = Deadline::after(SETTLING);
        let mut before = State::default();
        let mut changed = Instant::now();
        until(deadline, EVERY, "the cluster's services", || {
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
            if changed.elapsed() > QUIET {
                let mut words: Vec<String> =
                    missing.iter().map(agreement::Missing::in_words).collect();
                words.extend(staying.iter().map(|gone| format!("{gone} has not stopped")));
                bail!(
                    "not everything runs:\n  {}\n`storhaug status` says more",
                    words.join("\n  ")
                );
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
        })
    }
}
