//! What only shows when nodes are compared: versions, files and names that
//! differ, and clocks.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use sha2::{Digest, Sha256};

use crate::check::others::Asked;
use crate::check::{Local, Report};
use crate::cluster::Cluster;
use crate::finding::Finding;
use crate::preflight;

/// How much clocks may differ, in milliseconds.
const TOLERANCE: u64 = 1000;

/// A moment in milliseconds since 1970.
pub fn milliseconds(moment: SystemTime) -> u64 {
    let since = moment.duration_since(SystemTime::UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}

/// The addresses of the nodes, by their names.
pub fn addresses(cluster: &Cluster) -> BTreeMap<String, String> {
    let nodes = cluster.nodes.iter().filter_map(|node| {
        let address = preflight::resolve(node, &[]).ok()?;
        Some((node.name.clone(), address.to_string()))
    });
    nodes.collect()
}

/// Checksums of the files that have to be the same everywhere, as far as they are
/// there; and the configuration's fingerprint.
pub fn files(local: &Local<'_>) -> BTreeMap<String, String> {
    let cluster = &local.loaded.cluster;
    let smb = cluster.smb.iter().map(|_| "/etc/samba/smb.conf".to_owned());
    let nfs = cluster.nfs.iter();
    let nfs = nfs.map(|nfs| nfs.config.display().to_string());
    let files = smb.chain(nfs).filter_map(|path| {
        let text = std::fs::read(local.machine.path(&path)).ok()?;
        let sum = Sha256::digest(text);
        let sum = sum.iter().map(|byte| format!("{byte:02x}"));
        Some((path, sum.collect()))
    });
    let own = ("storhaug.conf".to_owned(), local.loaded.fingerprint.clone());
    files.chain([own]).collect()
}

/// How far the clock of a node that was asked is from this one's, of `host`. It
/// was read at some time between the question and the answer.
pub fn clocks(host: &str, asked: &Asked) -> Option<Finding> {
    let (before, after) = asked.between;
    let (time, node) = (asked.report.time, &asked.report.node);
    let apart = before.saturating_sub(time).max(time.saturating_sub(after));
    (apart > TOLERANCE).then(|| {
        Finding::warning(
            "clocks-differ",
            format!(
                "the clocks of {host} and {node} are {:.1} s apart",
                apart as f64 / 1000.0
            ),
            "run a time service on every node, such as chrony",
        )
    })
}

/// What differs between the nodes.
pub fn differences(reports: &[Report]) -> Vec<Finding> {
    let mut found = compared(
        reports,
        |report| &report.versions,
        |name, nodes| {
            Finding::warning(
                "versions-differ",
                format!("{name} has different versions: {nodes}"),
                "install the same one everywhere; CTDB refuses others than its own",
            )
        },
    );
    found.extend(compared(
        reports,
        |report| &report.addresses,
        |name, nodes| {
            Finding::error(
                "names-differ",
                format!("the name {name} leads to different addresses: {nodes}"),
                "write the same into /etc/hosts everywhere, or the node's address into the \
             configuration",
            )
        },
    ));
    found.extend(compared(
        reports,
        |report| &report.files,
        |name, nodes| {
            let short = nodes
                .split(", ")
                .map(|node| node.split(' ').next().unwrap_or_default());
            let short: Vec<&str> = short.collect();
            Finding::warning(
                "files-differ",
                format!("{name} is not the same on {}", short.join(", ")),
                "copy the one that is right to all of them",
            )
        },
    ));
    found
}

/// What `of` says differently on different nodes, as `finding` puts it. Where one
/// says nothing, that is found by itself.
fn compared(
    reports: &[Report],
    of: fn(&Report) -> &BTreeMap<String, String>,
    finding: fn(&str, &str) -> Finding,
) -> Vec<Finding> {
    let names: BTreeSet<&String> = reports
        .iter()
        .flat_map(|report| of(report).keys())
        .collect();
    let mut found = Vec::new();
    for name in names {
        let all = reports.iter();
        let said = all.filter_map(|report| Some((&report.node, of(report).get(name)?)));
        let said: Vec<(&String, &String)> = said.collect();
        let different: BTreeSet<&String> = said.iter().map(|(_, value)| *value).collect();
        if different.len() > 1 {
            let nodes = said.iter().map(|(node, value)| format!("{node} {value}"));
            found.push(finding(name, &nodes.collect::<Vec<_>>().join(", ")));
        }
    }
    found
}
