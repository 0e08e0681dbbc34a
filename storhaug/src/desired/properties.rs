//! What holds for the whole cluster: its properties, the capacity of its
//! nodes, and the configuration itself.

use base64::{Engine, prelude::BASE64_STANDARD};

use super::resource::pairs;
use super::{Facts, Item, Place};
use crate::cluster::{Cluster, Fencing, Placement};

/// Id of the set of our cluster properties.
pub const PROPERTIES: &str = "storhaug-properties";

/// Id of the set that keeps the configuration that was applied.
pub const CONFIGURATION: &str = "storhaug-configuration";

/// Name of the utilization attribute: addresses carried, out of addresses
/// that fit.
pub const ADDRESSES: &str = "storhaug-addresses";

/// What goes in front of a node's name in the id of its utilization.
const UTILIZATION: &str = "storhaug-utilization-";

/// Whether an id is that of a utilization set of ours.
pub fn is_utilization(id: &str) -> bool {
    id.starts_with(UTILIZATION)
}

pub(super) fn items(cluster: &Cluster, facts: &Facts) -> Vec<Item> {
    let fencing = cluster.fencing != Fencing::Refused;
    let balanced = cluster.placement == Placement::Balanced;
    let mut properties = vec![
        ("no-quorum-policy", "stop".to_owned()),
        ("stonith-enabled", fencing.to_string()),
        // A start that fails counts like any other failure.
        ("start-failure-is-fatal", "false".to_owned()),
        // On a busy node Pacemaker else takes one action at a time in the whole
        // cluster, and an address waits for the start of another node's CTDB.
        ("load-threshold", "0%".to_owned()),
    ];
    if balanced {
        properties.push(("placement-strategy", "balanced".to_owned()));
    }
    let stored = [
        ("storhaug-fingerprint", facts.fingerprint.clone()),
        // Pacemaker 2.1 loses newlines and what is not ASCII.
        (CONFIGURATION, BASE64_STANDARD.encode(&facts.canonical)),
    ];
    let mut items = vec![
        Item {
            place: Place::Properties,
            element: pairs("cluster_property_set", PROPERTIES, &properties),
            purpose: "properties of the whole cluster".into(),
        },
        Item {
            place: Place::Properties,
            element: pairs("cluster_property_set", CONFIGURATION, &stored),
            purpose: "the configuration that was applied, without secrets".into(),
        },
    ];
    if balanced {
        // Room for all addresses, so that capacity is compared and never
        // forbids.
        let room = [(ADDRESSES, cluster.vips.len().to_string())];
        let nodes = cluster.nodes.iter();
        // Pacemaker itself makes the entry of a node, when it meets it.
        let met = nodes.filter(|node| !facts.joining.contains(&node.name));
        items.extend(met.map(|node| Item {
            place: Place::Node(node.name.clone()),
            element: pairs("utilization", &format!("{UTILIZATION}{}", node.name), &room),
            purpose: format!("room for addresses on {}", node.name),
        }));
    }
    items
}
