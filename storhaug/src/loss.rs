//! `storhaug plan --lose`: what would become of everything if nodes were lost
//! now, as Pacemaker's own scheduler foretells it.

use anyhow::bail;

use crate::machine::{Machine, applied};
use crate::pacemaker::{self, Foretold};
use crate::quorum;
use crate::status;

/// What would happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// The nodes that are lost.
    pub nodes: Vec<String>,
    /// How many members would be left.
    pub left: usize,
    /// How many are needed.
    pub needed: usize,
    /// What would become of each address, in order.
    pub addresses: Vec<Fate>,
    /// Everything that Pacemaker would do at once.
    pub foretold: Vec<Foretold>,
}

/// What would become of an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fate {
    /// Its resource.
    pub name: String,
    /// Who holds it.
    pub from: Option<String>,
    /// Who would hold it.
    pub to: Option<String>,
    /// How many clients are connected to it; `None` where nobody knows.
    pub clients: Option<usize>,
}

impl Loss {
    /// Whether the others would go on.
    pub fn quorum(&self) -> bool {
        self.left >= self.needed
    }

    /// The addresses that clients would notice.
    pub fn felt(&self) -> impl Iterator<Item = &Fate> {
        self.addresses.iter().filter(|fate| fate.from != fate.to)
    }
}

/// Foretells the loss of `nodes`, all at once.
///
/// # Errors
/// One of them is no member, or the cluster cannot be asked.
pub fn foretell(machine: Machine<'_>, nodes: &[String]) -> anyhow::Result<Loss> {
    let (corosync, cib) = machine.member()?;
    if let Some(unknown) = nodes.iter().find(|node| !corosync.nodes.contains(*node)) {
        let known = corosync.nodes.join(", ");
        bail!("there is no node {unknown}; there are {known}");
    }
    let found = status::know(machine)?;
    let left = corosync.nodes.iter().filter(|node| {
        let up = found.state.nodes.get(*node).is_some_and(|node| node.online);
        up && !nodes.contains(node)
    });
    let (left, needed) = (left.count(), quorum::needed(corosync.nodes.len()));
    let mut lost = cib.clone();
    for state in &mut lost.entry("status").children {
        // What an agent has published goes with its node.
        if nodes.iter().any(|node| state.get("uname") == Some(node)) {
            state
                .children
                .retain(|child| child.name != "transient_attributes");
        }
    }
    // Without quorum everything stops, by `no-quorum-policy`.
    let foretold = match left >= needed {
        true => {
            let after = pacemaker::without_nodes(machine.runner, &lost, nodes)?;
            pacemaker::foretell(machine.runner, &after)?
        }
        false => Vec::new(),
    };
    let vips = applied(&cib)
        .map(|cluster| cluster.vips)
        .unwrap_or_default();
    let holder = |resource: &str| {
        found
            .state
            .running(resource)
            .first()
            .map(|node| (*node).to_owned())
    };
    let addresses = vips.iter().map(|vip| {
        let from = holder(&vip.name);
        let mut steps = foretold.iter().filter(|step| step.what == vip.name);
        let to = match (&from, steps.next_back()) {
            _ if left < needed => None,
            (_, Some(step)) if step.action == "stop" => None,
            (_, Some(step)) => step.to.clone(),
            // A node that is lost takes along what nobody takes over.
            (Some(node), None) if nodes.contains(node) => None,
            (from, None) => from.clone(),
        };
        let known = found
            .clients
            .as_ref()
            .and_then(|clients| clients.of(vip.address));
        Fate {
            name: vip.name.clone(),
            from,
            to,
            clients: known.map(|known| known.clients),
        }
    });
    Ok(Loss {
        nodes: nodes.to_vec(),
        left,
        needed,
        addresses: addresses.collect(),
        foretold,
    })
}
