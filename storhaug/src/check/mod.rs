//! `storhaug check`: what is wrong with this machine, and with the others, before
//! it hurts. Nothing is changed.
//!
//! A look is a function that reads files or asks a tool for something made for
//! programs, and says what it found; one that cannot be taken here says why. What
//! only a comparison shows, such as a clock that is wrong, is seen where the
//! others are asked as well, by ssh, with the same command on their side.

mod between;
mod cluster;
mod firewall;
mod kernel;
mod leftovers;
mod others;
mod packages;
mod report;
mod samba;
mod units;
mod volumes;

use std::time::SystemTime;

use anyhow::Context;
use serde_json::{Value as Json, json};

use crate::config::Loaded;
use crate::finding::{Finding, Severity};
use crate::machine::Machine;
use crate::preflight;

pub use report::{Report, Unseen};

/// Version of the JSON documents. Fields are added without a new version.
const SCHEMA: u32 = 1;

/// Which nodes are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// This one; and which commands look at the others is said.
    Here,
    /// This one, and not a word of others.
    Local,
    /// All of them, by ssh.
    Ssh,
}

/// What a look needs.
#[derive(Clone, Copy, Debug)]
pub struct Local<'a> {
    /// This machine.
    pub machine: Machine<'a>,
    /// The configuration.
    pub loaded: &'a Loaded,
    /// The name of this machine.
    pub host: &'a str,
}

/// A look: what it found.
type Look = fn(&Local<'_>) -> anyhow::Result<Vec<Finding>>;

/// All of them, in the order in which they are shown.
const LOOKS: [(&str, Look); 14] = [
    ("machine", machine),
    ("networks", networks),
    ("units", units::owned),
    ("clock", units::clock),
    ("firewalld", firewall::zones),
    ("netfilter", firewall::chains),
    ("kernel", kernel::settings),
    ("selinux", kernel::selinux),
    ("leftovers", leftovers::look),
    ("volumes", volumes::look),
    ("samba", samba::look),
    ("fencing", cluster::fencing),
    ("configuration", cluster::configuration),
    ("versions", cluster::versions),
];

/// Everything that was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// The nodes that were looked at, this one first.
    pub reports: Vec<Report>,
    /// What is wrong between them.
    pub between: Vec<Finding>,
    /// The nodes that were not looked at.
    pub others: Vec<String>,
}

impl Checked {
    /// The worst that was found.
    pub fn worst(&self) -> Option<Severity> {
        let own = self.reports.iter().flat_map(|report| &report.findings);
        own.chain(&self.between)
            .map(|finding| finding.severity)
            .max()
    }
}

/// Looks at this machine, called `host`, and at those in `reach`.
pub fn run(machine: Machine<'_>, loaded: &Loaded, host: &str, reach: Reach) -> Checked {
    let here = report(&Local {
        machine,
        loaded,
        host,
    });
    let nodes = loaded.cluster.nodes.iter();
    let others = nodes.filter(|node| node.name != host);
    let mut checked = Checked {
        reports: vec![here],
        ..Checked::default()
    };
    match reach {
        Reach::Local => {}
        Reach::Here => checked.others = others.map(|node| node.name.clone()).collect(),
        Reach::Ssh => {
            for node in others {
                match others::ask(machine.runner, node) {
                    Ok(asked) => {
                        checked.between.extend(between::clocks(host, &asked));
                        checked.reports.push(asked.report);
                    }
                    Err(finding) => {
                        checked.others.push(node.name.clone());
                        checked.between.push(finding);
                    }
                }
            }
            checked
                .between
                .extend(between::differences(&checked.reports));
        }
    }
    checked
}

/// What every look at this machine found.
fn report(local: &Local<'_>) -> Report {
    let mut report = Report {
        schema: SCHEMA,
        node: local.host.to_owned(),
        time: between::milliseconds(SystemTime::now()),
        versions: packages::versions(local.machine.runner),
        addresses: between::addresses(&local.loaded.cluster),
        files: between::files(local),
        ..Report::default()
    };
    for (name, look) in LOOKS {
        match look(local) {
            Ok(found) => {
                report.looked.push(name.to_owned());
                report.findings.extend(found);
            }
            Err(error) => report.unseen.push(Unseen {
                what: name.to_owned(),
                why: format!("{error:#}"),
            }),
        }
    }
    report
}

/// What has to be here before anything is set up.
fn machine(local: &Local<'_>) -> anyhow::Result<Vec<Finding>> {
    preflight::findings(&local.loaded.cluster, local.machine.root, local.host)
}

/// Whether the addresses are in networks of this machine, and its own address is
/// on one of its interfaces.
fn networks(local: &Local<'_>) -> anyhow::Result<Vec<Finding>> {
    let mut found = Vec::new();
    if let Err(error) = preflight::check_networks(local.loaded, local.host) {
        found.push(Finding::error(
            "networks",
            format!("{error:#}"),
            "correct the address, or name its interface with `nic`",
        ));
    }
    let Some(node) = local.loaded.cluster.node(local.host) else {
        return Ok(found);
    };
    // That it has none, or one of loopback, is found elsewhere.
    if let Ok(address) = preflight::resolve(node, &[])
        && !preflight::has(address).context("asking for this machine's addresses")?
    {
        found.push(Finding::error(
            "address-elsewhere",
            format!(
                "{} is {address}, which this machine does not have",
                node.name
            ),
            "correct /etc/hosts, or the node's address in the configuration",
        ));
    }
    Ok(found)
}

/// For people.
pub fn text(checked: &Checked) -> String {
    let mut text = String::new();
    for report in &checked.reports {
        report.write(&mut text);
    }
    if !checked.between.is_empty() {
        text.push_str("between the nodes\n");
        report::write_findings(&mut text, &checked.between);
    }
    if !checked.others.is_empty() {
        text.push_str(&format!(
            "not looked at: {}; run `storhaug check --local` there, or `storhaug check --ssh` \
             here, where root may log in to them\n",
            checked.others.join(", ")
        ));
    }
    let own = checked.reports.iter().flat_map(|report| &report.findings);
    let all: Vec<&Finding> = own.chain(&checked.between).collect();
    let count = |severity| {
        let count = all.iter().filter(|found| found.severity == severity);
        let count = count.count();
        let s = if count == 1 { "" } else { "s" };
        format!("{count} {}{s}", severity.as_str())
    };
    text.push_str(&format!(
        "{}, {}\n",
        count(Severity::Error),
        count(Severity::Warning)
    ));
    text
}

/// For programs.
pub fn json(checked: &Checked) -> Json {
    json!({
        "schema": SCHEMA,
        "worst": checked.worst(),
        "nodes": checked.reports,
        "between": checked.between,
        "not_looked_at": checked.others,
    })
}
