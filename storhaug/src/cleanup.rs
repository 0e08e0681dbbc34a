//! `storhaug cleanup`: Pacemaker forgets failures, and tries again what it gave
//! up.

use std::collections::BTreeSet;
use std::time::Duration;

use storhaug_agents::deadline::Deadline;
use storhaug_agents::exec::Cmd;

use crate::apply::Outcome;
use crate::machine::Machine;
use crate::pacemaker;
use crate::plan;
use crate::progress::Progress;

/// How long Pacemaker may take; it looks at a resource anew on every node.
const PATIENCE: Duration = Duration::from_secs(120);

/// Whose failures are forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// Those of storhaug's own resources.
    Ours,
    /// Those of every resource of the cluster.
    Everybodys,
}

/// Forgets failures, and says which they were.
///
/// # Errors
/// The cluster does not run here, or does not do it.
pub fn run(machine: Machine<'_>, whose: Whose, progress: &mut Progress) -> anyhow::Result<Outcome> {
    let _lock = machine.lock()?;
    let (_, cib) = machine.member()?;
    let ours = plan::our_primitives(&cib);
    let state = pacemaker::state(machine.runner)?;
    let failures = state.failures.iter();
    let failures =
        failures.filter(|failure| whose == Whose::Everybodys || ours.contains(&failure.resource));
    let mut places = BTreeSet::new();
    for failure in failures {
        progress.done(&format!(
            "forgotten: {} ({})",
            failure.in_words(),
            failure.when
        ));
        places.insert((failure.resource.as_str(), failure.node.as_str()));
    }
    for (resource, node) in &places {
        forget(machine, resource, node)?;
    }
    Ok(match places.is_empty() {
        true => Outcome::NothingToDo,
        false => Outcome::Done,
    })
}

/// Forgets the failures of storhaug's resources on one node.
///
/// # Errors
/// The cluster does not do it.
pub fn on_node(machine: Machine<'_>, node: &str) -> anyhow::Result<()> {
    let ours = plan::our_primitives(&pacemaker::query(machine.runner)?);
    let state = pacemaker::state(machine.runner)?;
    let here = state.failures.iter().filter(|failure| failure.node == node);
    let failed: BTreeSet<&String> = here.map(|failure| &failure.resource).collect();
    for resource in failed.into_iter().filter(|failed| ours.contains(failed)) {
        forget(machine, resource, node)?;
    }
    Ok(())
}

fn forget(machine: Machine<'_>, resource: &str, node: &str) -> anyhow::Result<()> {
    let cmd = Cmd::new("crm_resource").args(["--cleanup", "--resource", resource, "--node", node]);
    let output = machine.runner.run(&cmd, Deadline::after(PATIENCE))?;
    output.checked().map(drop)
}
