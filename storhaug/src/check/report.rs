//! What was found on one node, as it is shown, and as one node tells another.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::finding::{Finding, Severity};

/// What was found on one node. It is told from node to node: a newer one may say
/// more, and an older one less.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Version of the document.
    pub schema: u32,
    /// The node's name.
    pub node: String,
    /// Its clock when it began to look, in milliseconds since 1970.
    pub time: u64,
    /// The version of each package that matters.
    #[serde(default)]
    pub versions: BTreeMap<String, String>,
    /// The addresses by which it reaches the nodes.
    #[serde(default)]
    pub addresses: BTreeMap<String, String>,
    /// Checksums of the files that have to be the same everywhere.
    #[serde(default)]
    pub files: BTreeMap<String, String>,
    /// The looks that were taken.
    #[serde(default)]
    pub looked: Vec<String>,
    /// Those that could not be.
    #[serde(default)]
    pub unseen: Vec<Unseen>,
    /// What they found.
    pub findings: Vec<Finding>,
}

/// A look that could not be taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unseen {
    /// Its name.
    pub what: String,
    /// What was in the way.
    pub why: String,
}

impl Report {
    /// For people.
    pub fn write(&self, text: &mut String) {
        let looked = self.looked.join(", ");
        text.push_str(&format!("{}\n  looked at: {looked}\n", self.node));
        for unseen in &self.unseen {
            let why = unseen.why.replace('\n', " ");
            text.push_str(&format!("  not {}: {why}\n", unseen.what));
        }
        write_findings(text, &self.findings);
    }
}

/// Findings for people, the worst first.
pub fn write_findings(text: &mut String, findings: &[Finding]) {
    for severity in [Severity::Error, Severity::Warning, Severity::Note] {
        for found in findings.iter().filter(|found| found.severity == severity) {
            text.push_str(&format!(
                "! {} ({}): {}\n    {}\n",
                severity.as_str(),
                found.id,
                found.problem,
                found.remedy
            ));
        }
    }
}
