//! Asking another node, by ssh, for what it finds on itself.

use std::time::{Duration, SystemTime};

use storhaug_agents::deadline::Deadline;
use storhaug_agents::exec::{Cmd, Runner};

use crate::check::{Report, between};
use crate::cluster::Node;
use crate::finding::Finding;

/// How long it may take: it asks the fence devices, GlusterFS and more.
const PATIENCE: Duration = Duration::from_secs(180);

/// What a node said, and when it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// What it said.
    pub report: Report,
    /// This machine's clock before it was asked and after it had answered, in
    /// milliseconds since 1970.
    pub between: (u64, u64),
}

/// Asks `node`. Nothing is typed in: root has to be let in by a key.
///
/// # Errors
/// It cannot be reached, or says nothing that can be understood.
pub fn ask(runner: &dyn Runner, node: &Node) -> Result<Asked, Finding> {
    let place = node.address.as_ref().unwrap_or(&node.name);
    let cmd = Cmd::new("ssh")
        .args(["-o", "BatchMode=yes", "-o", "ConnectTimeout=5", "--"])
        .arg(format!("root@{place}"))
        .args(["storhaug", "check", "--local", "--output", "json"]);
    let now = || between::milliseconds(SystemTime::now());
    let asked = now();
    let finding = |why: String| {
        Finding::warning(
            "not-reached",
            format!("{} was not looked at: {why}", node.name),
            format!("run `storhaug check --local` on {}", node.name),
        )
    };
    let output = runner
        .run(&cmd, Deadline::after(PATIENCE))
        .map_err(|error| finding(format!("{error:#}")))?;
    let answered = now();
    let told: Result<serde_json::Value, _> = serde_json::from_slice(&output.stdout);
    let report = told.and_then(|mut told| {
        let report = told.pointer_mut("/nodes/0").map(serde_json::Value::take);
        serde_json::from_value(report.unwrap_or_default())
    });
    match report {
        Ok(report) => Ok(Asked {
            report,
            between: (asked, answered),
        }),
        Err(_) => Err(finding(output.complaint())),
    }
}
