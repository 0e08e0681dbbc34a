//! Pacemaker's own tools: reading the cluster, checking a configuration,
//! foretelling its effect, and pushing a change.

use std::io::Write;
use std::time::Duration;

use anyhow::{Context, bail};
use storhaug_agents::deadline::Deadline;
use storhaug_agents::exec::{Cmd, Runner};

use crate::state::State;
use crate::xml::Element;

/// How long one of the tools may take. They answer within 50 ms; with a
/// controller that is being elected they wait.
const PATIENCE: Duration = Duration::from_secs(30);

/// `cibadmin`'s exit code for a difference that was made from another version
/// of the CIB (`CRM_EX_OLD`; the same in Pacemaker 2.1 and 3.0).
const OUTDATED: i32 = 103;

/// The whole CIB.
///
/// # Errors
/// The cluster does not run here.
pub fn query(runner: &dyn Runner) -> anyhow::Result<Element> {
    query_by(runner, Deadline::after(PATIENCE))
}

/// The whole CIB, by `deadline`.
///
/// # Errors
/// The cluster does not run here, or does not answer.
pub fn query_by(runner: &dyn Runner, deadline: Deadline) -> anyhow::Result<Element> {
    let output = runner.run(&Cmd::new("cibadmin").arg("--query"), deadline)?;
    Element::parse(
        &output
            .checked()
            .context("reading the cluster's configuration")?,
    )
}

/// What Pacemaker says of the cluster now.
///
/// # Errors
/// The cluster does not run here.
pub fn state(runner: &dyn Runner) -> anyhow::Result<State> {
    state_by(runner, Deadline::after(PATIENCE))
}

/// What Pacemaker says of the cluster now, by `deadline`.
///
/// # Errors
/// The cluster does not run here, or does not answer.
pub fn state_by(runner: &dyn Runner, deadline: Deadline) -> anyhow::Result<State> {
    let cmd = Cmd::new("crm_mon").args(["--one-shot", "--inactive", "--output-as=xml"]);
    let output = runner.run(&cmd, deadline)?;
    State::parse(&output.checked().context("asking for the cluster's state")?)
}

/// Checks a configuration.
///
/// # Errors
/// Pacemaker finds something wrong with it, and says what.
pub fn verify(runner: &dyn Runner, cib: &Element) -> anyhow::Result<()> {
    let cmd = Cmd::new("crm_verify")
        .args(["--xml-pipe", "--verbose"])
        .stdin(cib.to_string());
    let output = runner.run(&cmd, Deadline::after(PATIENCE))?;
    let said = String::from_utf8_lossy(&output.stderr);
    // It also fails for what it only warns of, such as startup-fencing.
    let errors: Vec<&str> = said.lines().filter(|line| line.contains("error")).collect();
    if output.success() || errors.is_empty() && output.code() == Some(78) {
        return Ok(());
    }
    match errors[..] {
        [] => bail!("checking the new configuration: {}", output.complaint()),
        _ => bail!("checking the new configuration: {}", errors.join("; ")),
    }
}

/// How a push ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Push {
    /// The CIB is now the new one.
    Done,
    /// Somebody else was faster: the CIB is no longer the one that was read.
    Outdated,
}

/// Pushes what `after` differs from `before`, as one change that the cluster
/// takes only as long as its configuration is that of `before`.
///
/// # Errors
/// The cluster does not take it for another reason.
pub fn push(runner: &dyn Runner, before: &Element, after: &Element) -> anyhow::Result<Push> {
    let difference = difference(runner, before, after)?;
    let cmd = Cmd::new("cibadmin")
        .args(["--patch", "--sync-call", "--xml-pipe"])
        .stdin(difference);
    let output = runner.run(&cmd, Deadline::after(PATIENCE))?;
    if output.success() {
        return Ok(Push::Done);
    }
    match output.code() {
        Some(OUTDATED) => Ok(Push::Outdated),
        _ => bail!(
            "changing the cluster's configuration: {}",
            output.complaint()
        ),
    }
}

/// Has Pacemaker forget the entry of its status at `path`, an XPath; what is
/// not there is forgotten.
///
/// # Errors
/// The cluster does not do it.
pub fn forget(runner: &dyn Runner, path: &str) -> anyhow::Result<()> {
    let cmd = Cmd::new("cibadmin").args(["--delete", "--force", "--sync-call", "--xpath", path]);
    let output = runner.run(&cmd, Deadline::after(PATIENCE))?;
    output
        .checked()
        .context("forgetting an outdated result")
        .map(drop)
}

/// How often a push is tried again when somebody else was faster.
const PUSHES: usize = 10;

/// Changes the configuration by what `to` makes of it.
///
/// # Errors
/// The cluster does not take it, or somebody else keeps changing it.
pub fn change(runner: &dyn Runner, to: impl Fn(&Element) -> Element) -> anyhow::Result<()> {
    for _ in 0..PUSHES {
        let mut before = query(runner)?;
        before.children.retain(|section| section.name != "status");
        let after = to(&before);
        if after == before || push(runner, &before, &after)? == Push::Done {
            return Ok(());
        }
    }
    bail!("somebody else keeps changing the cluster's configuration; run it again")
}

/// The difference in Pacemaker's own format, with both versions: `admin_epoch`
/// and `epoch`, which count changes of the configuration. `num_updates` counts
/// changes of the status too, each result of a monitor, and is left out:
/// Pacemaker takes a version without it for its own. The files the difference
/// is made from hold what the CIB holds, and are readable by root alone.
fn difference(runner: &dyn Runner, before: &Element, after: &Element) -> anyhow::Result<Vec<u8>> {
    let file = |cib: &Element| -> anyhow::Result<tempfile::NamedTempFile> {
        let mut file = tempfile::NamedTempFile::new().context("making a temporary file")?;
        file.write_all(cib.to_string().as_bytes())
            .context("writing a temporary file")?;
        Ok(file)
    };
    let (before, after) = (file(before)?, file(after)?);
    let cmd = Cmd::new("crm_diff").arg("--original").arg(before.path());
    let output = runner.run(
        &cmd.arg("--new").arg(after.path()),
        Deadline::after(PATIENCE),
    )?;
    // 1 says that they differ.
    if output.code() != Some(1) {
        bail!("comparing two configurations: {}", output.complaint());
    }
    let mut difference = Element::parse(&output.text())?;
    for version in &mut difference.entry("version").children {
        version.attributes.retain(|(name, _)| name != "num_updates");
    }
    Ok(difference.to_string().into_bytes())
}

/// Something Pacemaker would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foretold {
    /// `start`, `stop`, `move`, `restart`, …
    pub action: String,
    /// The resource or the node.
    pub what: String,
    /// Where from.
    pub from: Option<String>,
    /// Where to.
    pub to: Option<String>,
    /// Why, in Pacemaker's words, where it gives them.
    pub reason: Option<String>,
}

impl Foretold {
    /// The primitive that is meant; an instance of a clone carries a number.
    pub fn primitive(&self) -> &str {
        self.what.split(':').next().unwrap_or_default()
    }

    /// The node where it begins.
    pub fn place(&self) -> Option<&str> {
        self.from.as_deref().or(self.to.as_deref())
    }
}

/// What Pacemaker would do about `cib`, whose status is that of the cluster.
///
/// # Errors
/// `crm_simulate` is not installed, or does not understand it.
pub fn foretell(runner: &dyn Runner, cib: &Element) -> anyhow::Result<Vec<Foretold>> {
    let cmd = Cmd::new("crm_simulate")
        .args(["--xml-pipe", "--simulate", "--output-as=xml"])
        .stdin(cib.to_string());
    let output = runner.run(&cmd, Deadline::after(PATIENCE))?;
    let told = Element::parse(&output.checked().context("foretelling the effect")?)?;
    let actions = told
        .find("actions")
        .map_or(&[][..], |actions| &actions.children);
    // What is blocked is not done.
    let possible = actions
        .iter()
        .filter(|action| action.get("blocked") != Some("true"));
    let actions = possible.filter_map(|action| {
        let text = |name| action.get(name).map(str::to_owned);
        Some(Foretold {
            action: text("action").or_else(|| text("task"))?.to_lowercase(),
            what: text("resource").or_else(|| text("node"))?,
            from: text("source"),
            to: text("dest").or_else(|| text("node")),
            reason: text("reason"),
        })
    });
    Ok(actions.collect())
}

/// The CIB after some nodes were lost, before anything is done about it.
///
/// # Errors
/// `crm_simulate` is not installed, or does not understand it.
pub fn without_nodes(
    runner: &dyn Runner,
    cib: &Element,
    nodes: &[String],
) -> anyhow::Result<Element> {
    // In two calls with what follows: crm_simulate 3.0 does one or the other.
    let after = tempfile::NamedTempFile::new().context("making a temporary file")?;
    let mut cmd = Cmd::new("crm_simulate")
        .args(["--xml-pipe", "--output-as=xml", "--save-output"])
        .arg(after.path());
    for node in nodes {
        cmd = cmd.args(["--node-fail", node]);
    }
    let output = runner.run(&cmd.stdin(cib.to_string()), Deadline::after(PATIENCE))?;
    output.checked().context("foretelling the loss")?;
    let text = std::fs::read_to_string(after.path()).context("reading what would be left")?;
    Element::parse(&text)
}
