//! `storhaug teardown`: takes out of the cluster what storhaug has put in,
//! and the cluster itself when nothing else is in it. Data stays.

use std::time::Duration;

use anyhow::{Context, bail};
use storhaug_agents::deadline::{Deadline, until};
use storhaug_agents::exec::Cmd;

use crate::apply::Outcome;
use crate::corosync::Corosync;
use crate::machine::Machine;
use crate::pacemaker;
use crate::pcs;
use crate::plan;
use crate::preflight;
use crate::progress::Progress;
use crate::xml::Element;

/// How often the cluster is looked at while it is waited for.
const EVERY: Duration = Duration::from_millis(500);

/// How long everything may take to stop.
const STOPPING: Duration = Duration::from_secs(300);

/// How long a cluster that did not run may take to answer.
const STARTING: Duration = Duration::from_secs(120);

/// Takes everything of ours away. A cluster in which there is nothing of ours
/// is taken apart only where it is called `configured`: what is left of a
/// setup that was interrupted.
///
/// # Errors
/// What does not stop, and why.
pub fn run(
    machine: Machine<'_>,
    configured: Option<&str>,
    progress: &mut Progress,
) -> anyhow::Result<Outcome> {
    preflight::root()?;
    apply(machine, configured, progress)
}

/// What [`run`] does for root.
///
/// # Errors
/// As [`run`].
pub fn apply(
    machine: Machine<'_>,
    configured: Option<&str>,
    progress: &mut Progress,
) -> anyhow::Result<Outcome> {
    let _lock = machine.lock()?;
    let Some(Corosync { name, .. }) = Corosync::read(machine.root)? else {
        return Ok(Outcome::NothingToDo);
    };
    let configured = configured == Some(name.as_str());
    let call = |cmd: &Cmd| -> anyhow::Result<()> {
        let output = machine.runner.run(cmd, Deadline::after(pcs::PATIENCE))?;
        output.checked().map(drop)
    };
    if pacemaker::query(machine.runner).is_err() {
        if !configured {
            bail!(
                "the cluster `{name}` does not run, and there is no configuration that says it \
                 is storhaug's; start it with `pcs cluster start --all` to have a look, or take \
                 it apart with `pcs cluster destroy --all`"
            );
        }
        progress.begin("starting the cluster, to stop its services in order");
        call(&pcs::start())?;
    }
    until(
        Deadline::after(STARTING),
        EVERY,
        "a cluster with quorum",
        || {
            progress.waiting("waiting for the cluster");
            let state = pacemaker::state(machine.runner).ok();
            Ok(state
                .is_some_and(|state| state.dc.is_some() && state.quorum)
                .then_some(()))
        },
    )
    .context("start the other nodes, or take each apart with `pcs cluster destroy`")?;
    let cib = pacemaker::query(machine.runner)?;
    let ours = plan::our_primitives(&cib);
    if !plan::is_ours(&cib) {
        if !plan::foreign(&cib).is_empty() {
            return Ok(Outcome::NothingToDo);
        }
        if !configured {
            bail!(
                "there is nothing of storhaug in the cluster `{name}`, and no configuration that \
                 says it is storhaug's; take it apart with `pcs cluster destroy --all`"
            );
        }
    }
    if !ours.is_empty() {
        progress.begin("stopping addresses and services");
        pacemaker::change(machine.runner, plan::all_stopped)?;
        let devices = fencing(&cib);
        let stopping: Vec<&String> = ours.iter().filter(|id| !devices.contains(*id)).collect();
        wait_gone(machine, &stopping, progress)?;
    }
    pacemaker::change(machine.runner, plan::without_ours)?;
    wait_gone(machine, &ours.iter().collect::<Vec<_>>(), progress)?;
    progress.done("nothing of storhaug is left in the cluster");
    let others = plan::foreign(&pacemaker::query(machine.runner)?);
    if others.is_empty() {
        progress.begin("taking the cluster off every node");
        call(&pcs::stop())?;
        call(&pcs::destroy())?;
    } else {
        progress.done(&format!(
            "the cluster stays, for it also runs {}",
            others.join(", ")
        ));
    }
    Ok(Outcome::Done)
}

/// Ids of the fencing devices.
fn fencing(cib: &Element) -> Vec<String> {
    let resources = cib
        .at(&["configuration", "resources"])
        .map(Element::walk)
        .unwrap_or_default();
    let devices = resources
        .into_iter()
        .filter(|r| r.get("class") == Some("stonith"));
    devices.map(|device| device.id().to_owned()).collect()
}

fn wait_gone(
    machine: Machine<'_>,
    resources: &[&String],
    progress: &mut Progress,
) -> anyhow::Result<()> {
    let mut failures = String::new();
    let result = until(
        Deadline::after(STOPPING),
        EVERY,
        "everything to stop",
        || {
            let state = pacemaker::state(machine.runner)?;
            let active: Vec<&str> = resources
                .iter()
                .map(|id| id.as_str())
                .filter(|id| state.active(id))
                .collect();
            let Some(first) = active.first() else {
                return Ok(Some(()));
            };
            progress.waiting(&format!("waiting until {first} has stopped"));
            let of_these = state
                .failures
                .iter()
                .filter(|f| active.contains(&f.resource.as_str()));
            failures = of_these
                .map(|f| f.in_words())
                .collect::<Vec<_>>()
                .join("; ");
            Ok(None)
        },
    );
    result.with_context(|| match failures.is_empty() {
        true => "`storhaug status` says more".to_owned(),
        false => failures,
    })
}
