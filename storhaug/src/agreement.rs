//! Whether Pacemaker agrees: what should run, runs, and where it should.

use std::collections::BTreeMap;

use crate::desired::{Kind, Nodes, Wanted};
use crate::state::{Failure, State};

/// What is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// The resource.
    pub resource: String,
    /// What it is.
    pub kind: Kind,
    /// The nodes on which it should run and does not; empty where any node
    /// would do.
    pub nodes: Vec<String>,
    /// Why, as far as its agent said so.
    pub failures: Vec<Failure>,
}

impl Missing {
    /// In words, with the exit reason.
    pub fn in_words(&self) -> String {
        let place = match &self.nodes[..] {
            [] => "does not run anywhere".to_owned(),
            nodes => format!("does not run on {}", nodes.join(", ")),
        };
        let mut words = format!("{} {place}", self.resource);
        // The same failure on several nodes is said once.
        let mut said: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for failure in &self.failures {
            said.entry(failure.what()).or_default().push(&failure.node);
        }
        for (what, mut nodes) in said {
            nodes.sort_unstable();
            words.push_str(&format!("; on {}: {what}", nodes.join(", ")));
        }
        words
    }
}

impl Failure {
    /// In words.
    pub fn in_words(&self) -> String {
        format!("{} on {}: {}", self.resource, self.node, self.what())
    }

    /// What failed and why.
    fn what(&self) -> String {
        match self.reason.as_str() {
            "" | "none" => format!("{}: {}", self.operation, self.status),
            reason => format!("{}: {}: {reason}", self.operation, self.status),
        }
    }
}

/// What of `wanted` does not run where it should. A node that does not take
/// part, or was told to run nothing, is not asked for anything.
pub fn missing(wanted: &[Wanted], state: &State) -> Vec<Missing> {
    let available = |name: &str| {
        let node = state.nodes.get(name);
        node.is_some_and(|node| node.online && !node.standby && !node.maintenance)
    };
    let mut missing = Vec::new();
    for Wanted {
        resource,
        kind,
        nodes,
    } in wanted
    {
        let running = state.running(resource);
        let absent = match nodes {
            Nodes::OneOf(nodes) => {
                if !running.is_empty() || !nodes.iter().any(|node| available(node)) {
                    continue;
                }
                Vec::new()
            }
            Nodes::Each(nodes) => {
                let absent = nodes
                    .iter()
                    .filter(|node| available(node) && !running.contains(&node.as_str()));
                let absent: Vec<String> = absent.cloned().collect();
                if absent.is_empty() {
                    continue;
                }
                absent
            }
        };
        let failures = state.failures.iter().filter(|failure| {
            failure.resource == *resource && (absent.is_empty() || absent.contains(&failure.node))
        });
        let failures = failures.cloned().collect();
        missing.push(Missing {
            resource: resource.clone(),
            kind: *kind,
            nodes: absent,
            failures,
        });
    }
    missing
}
