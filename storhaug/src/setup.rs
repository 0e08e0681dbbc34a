//! `storhaug setup`: makes the cluster what its configuration says.
//!
//! Every step looks first whether it was done already, so that a run that was
//! interrupted anywhere is completed by the next one, and a run with nothing
//! to do calls neither pcs nor changes the CIB.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context;
use storhaug_agents::deadline::{Deadline, until};

use crate::apply::{Adopt, Apply, EVERY, JOINING, Outcome, Rehearsed, WITHOUT_FENCING};
use crate::cluster::{Cluster, Fencing};
use crate::config::Loaded;
use crate::corosync::{self, Corosync};
use crate::machine::{Machine, facts};
use crate::members;
use crate::pacemaker;
use crate::pcs::{self, Retry};
use crate::plan::{self, Plan};
use crate::preflight;
use crate::progress::Progress;

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
    match Corosync::read(machine.root)? {
        Some(corosync) => {
            loaded.check_name(&corosync.name)?;
            loaded.check_password()?;
        }
        None => drop(loaded.password()?),
    }
    let host = preflight::host_name()?;
    preflight::check_networks(loaded, &host)?;
    preflight::check(&loaded.cluster, machine.root, &host)?;
    preflight::check_volumes(machine.runner, &loaded.cluster, progress)?;
    apply(machine, loaded, adopt, progress)
}

/// What [`run`] does once the machine has been found fit.
///
/// # Errors
/// As [`run`].
pub fn apply(
    machine: Machine<'_>,
    loaded: &Loaded,
    adopt: Adopt,
    progress: &mut Progress,
) -> anyhow::Result<Outcome> {
    let cluster = &loaded.cluster;
    let _lock = machine.lock()?;
    let corosync = Corosync::read(machine.root)?;
    let setup = Setup {
        machine,
        cluster,
        apply: Apply {
            adopt,
            ..Apply::new(machine, cluster)
        },
    };
    let mut changed = false;
    match &corosync {
        Some(corosync) => {
            let live = plan::Live {
                corosync: Some(corosync.clone()),
                cib: None,
            };
            // Refuses another cluster before anything is done to it.
            let (facts, _) = facts(&loaded.cluster, &live);
            Plan::make(cluster, &facts, &live)?;
            changed |= setup.resume(progress)?;
        }
        None => {
            setup.apply.rehearse(progress)?;
            progress.begin("making this node known to the others");
            setup
                .apply
                .pcs(&pcs::host_auth(&cluster.nodes, &loaded.password()?))?;
            setup.create(progress)?;
            changed = true;
        }
    }
    changed |= setup.join(progress)?;
    // Before anything else is changed: this refuses the cluster of others.
    let rehearsed = match corosync {
        None => Rehearsed::Yes,
        Some(_) => Rehearsed::No,
    };
    let (pushed, leaving) = setup.apply.push(progress, rehearsed)?;
    changed |= pushed;
    changed |= members::forget(&setup.apply, progress)?;
    changed |= setup.retune(progress)?;
    setup.apply.settle(&leaving, progress)?;
    if cluster.fencing == Fencing::Refused {
        progress.warn(WITHOUT_FENCING);
    }
    Ok(if changed {
        Outcome::Done
    } else {
        Outcome::NothingToDo
    })
}

struct Setup<'a> {
    machine: Machine<'a>,
    cluster: &'a Cluster,
    apply: Apply<'a>,
}

impl Setup<'_> {
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
        let Err(error) = self.apply.pcs(&pcs::setup(self.cluster, Retry::No)) else {
            return Ok(());
        };
        progress.warn(&format!("{error:#}"));
        progress.begin("trying once more");
        let retry = self.retry();
        let result = self.apply.pcs(&pcs::setup(self.cluster, retry));
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
        self.apply.pcs(&pcs::enable())?;
        self.apply.pcs(&pcs::start())
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
        let corosync = Corosync::read(self.machine.root)?;
        let found = corosync.map(|corosync| corosync.totem);
        let wanted = found.map(|found| found.wanted(self.cluster.failover));
        match wanted.filter(|_| found != wanted) {
            Some(wanted) => {
                progress.begin("changing Corosync's timeouts");
                self.apply.pcs(&pcs::retune(wanted))?;
                Ok(true)
            }
            None => Ok(false),
        }
    }
}
