//! The cluster configuration (CIB) that a [`Cluster`] asks for, and nothing
//! else: a list of elements with ids of our own, each with its place.

mod fencing;
mod nfs;
mod properties;
mod resource;
mod services;
mod vips;

use std::collections::{BTreeMap, BTreeSet};

use crate::cluster::Cluster;
use crate::xml::Element;

pub use fencing::{Device, devices};
pub use nfs::limits;
pub use properties::{CONFIGURATION, PROPERTIES, is_utilization};
pub use vips::{home, ready};

/// Id of the tag that lists our resources and constraints.
pub const TAG: &str = "storhaug";

/// What goes in front of the ids of constraints.
const PREFIX: &str = "storhaug-";

/// An element of ours in the CIB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Where it belongs.
    pub place: Place,
    /// The element.
    pub element: Element,
    /// What it is for, in words.
    pub purpose: String,
}

/// Where an element of ours belongs in the CIB's `configuration`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In `crm_config`.
    Properties,
    /// In the entry of the node of this name in `nodes`.
    Node(String),
    /// In `resources`.
    Resources,
    /// In `constraints`.
    Constraints,
}

/// What the desired configuration depends on beside [`Cluster`].
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// CTDB's slots in their order: addresses, and `#` and an address for a
    /// slot whose node was removed.
    pub slots: Vec<String>,
    /// The nodes at which addresses are at home so far, by the addresses' names.
    pub homes: BTreeMap<String, String>,
    /// Nodes of the cluster that Pacemaker has not met yet.
    pub joining: BTreeSet<String>,
    /// Ids of elements of ours that nobody asks for and that stay, because
    /// another run may be using them.
    pub spared: BTreeSet<String>,
    /// [`crate::config::canonical`].
    pub canonical: String,
    /// [`crate::config::fingerprint`].
    pub fingerprint: String,
}

/// Everything that `cluster` asks for, in the order in which it is shown.
pub fn items(cluster: &Cluster, facts: &Facts) -> Vec<Item> {
    let mut items = properties::items(cluster, facts);
    items.extend(fencing::items(cluster));
    items.extend(services::items(cluster, facts));
    items.extend(nfs::items(cluster));
    items.extend(vips::items(cluster, facts));
    items
}

/// Ids of the resources that must run, with where.
pub fn wanted(cluster: &Cluster) -> Vec<Wanted> {
    let mut wanted = fencing::wanted(cluster);
    wanted.extend(services::wanted(cluster));
    wanted.extend(nfs::wanted(cluster));
    wanted.extend(cluster.vips.iter().map(|vip| Wanted {
        resource: vip.name.clone(),
        kind: Kind::Address,
        nodes: Nodes::OneOf(cluster.storage_nodes().map(|n| n.name.clone()).collect()),
    }));
    wanted
}

/// A resource that has to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Id of the primitive.
    pub resource: String,
    /// What it is.
    pub kind: Kind,
    /// The nodes it has to run on.
    pub nodes: Nodes,
}

/// Where a resource has to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Nodes {
    /// On each of these.
    Each(Vec<String>),
    /// On one of these, whichever.
    OneOf(Vec<String>),
}

impl Nodes {
    /// Their names.
    pub fn names(&self) -> &[String] {
        match self {
            Nodes::Each(names) | Nodes::OneOf(names) => names,
        }
    }
}

/// What a resource is, to those who look at the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A fencing device.
    Fencing,
    /// A service on every node.
    Service,
    /// A virtual address.
    Address,
}

/// An order or a location, as an item.
fn constraint(element: Element, purpose: impl Into<String>) -> Item {
    Item {
        place: Place::Constraints,
        element,
        purpose: purpose.into(),
    }
}

/// A resource as an item.
fn resource(element: Element, purpose: impl Into<String>) -> Item {
    Item {
        place: Place::Resources,
        element,
        purpose: purpose.into(),
    }
}

/// `resource` must not run on `node`.
fn banned(resource: &str, node: &str, purpose: impl Into<String>) -> Item {
    let element = Element::new("rsc_location")
        .with("id", format!("{PREFIX}{resource}-not-on-{node}"))
        .with("rsc", resource)
        .with("node", node)
        .with("score", "-INFINITY");
    constraint(element, purpose)
}
