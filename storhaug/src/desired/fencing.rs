//! Fencing devices: one per node, so that each can have options of its own.

use std::collections::BTreeMap;

use super::resource::{meta_id, pairs};
use super::{Item, Kind, Nodes, Wanted, banned, resource};
use crate::cluster::{Cluster, Fencing};
use crate::config::is_secret_file;
use crate::xml::Element;

/// How long the first of two nodes is spared, in seconds, so that two nodes
/// that do not see each other do not switch each other off.
const HEAD_START: u32 = 5;

/// A device and what it fences.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// The resource's id.
    pub id: String,
    /// The fence agent.
    pub agent: String,
    /// The nodes it fences.
    pub victims: Vec<String>,
    /// Its options as the CIB has them.
    pub options: BTreeMap<String, String>,
}

/// The devices of a cluster; none where fencing is refused.
pub fn devices(cluster: &Cluster) -> Vec<Device> {
    let Fencing::Device {
        agent,
        options,
        nodes,
    } = &cluster.fencing
    else {
        return Vec::new();
    };
    let all = cluster.nodes.iter().enumerate();
    let devices = all.map(|(index, node)| {
        let mut own = options.clone();
        own.extend(nodes.get(&node.name).cloned().unwrap_or_default());
        let mut own: BTreeMap<String, String> = own.into_iter().map(scripted).collect();
        own.insert("pcmk_host_list".into(), node.name.clone());
        if cluster.nodes.len() == 2 && index == 0 {
            let delay = format!("{HEAD_START}s");
            own.entry("pcmk_delay_base".into()).or_insert(delay);
        }
        Device {
            id: format!("fence-{}", node.name),
            agent: agent.clone(),
            victims: vec![node.name.clone()],
            options: own,
        }
    });
    devices.collect()
}

/// A file with a password becomes the script that prints it: fence agents
/// know `password_script` and the like, and so the password stays out of the
/// CIB.
fn scripted((name, value): (String, String)) -> (String, String) {
    match name.strip_suffix("_file") {
        Some("passwd") => ("password_script".into(), format!("/bin/cat {value}")),
        Some(secret) if is_secret_file(&name) => {
            (format!("{secret}_script"), format!("/bin/cat {value}"))
        }
        _ => (name, value),
    }
}

/// Whether a node may carry a device: a node does not watch over its own
/// fencing, where there is another that can.
fn watches(cluster: &Cluster, device: &Device, node: &str) -> bool {
    cluster.nodes.len() == 1 || !device.victims.iter().any(|victim| victim == node)
}

pub(super) fn items(cluster: &Cluster) -> Vec<Item> {
    let mut items = Vec::new();
    for device in devices(cluster) {
        let options: Vec<(&String, String)> = device
            .options
            .iter()
            .map(|(name, value)| (name, value.clone()))
            .collect();
        let id = &device.id;
        let set = format!("{id}-instance_attributes");
        let monitor = Element::new("op")
            .with("id", format!("{id}-monitor-60s"))
            .with("name", "monitor")
            .with("interval", "60s")
            .with("timeout", "60s");
        // A device that answers again is used again, however often it failed.
        // It stays where it is, so that nothing but a lost node touches it.
        let meta = [
            ("failure-timeout", "60s".to_owned()),
            ("resource-stickiness", "100".to_owned()),
        ];
        let primitive = Element::new("primitive")
            .with("id", id)
            .with("class", "stonith")
            .with("type", &device.agent)
            .child(pairs("instance_attributes", &set, &options))
            .child(pairs("meta_attributes", &meta_id(id), &meta))
            .child(Element::new("operations").child(monitor));
        let victim = device.victims.join(", ");
        items.push(resource(
            primitive,
            format!("switches off {victim} with {}", device.agent),
        ));
        let idle = cluster.nodes.iter().map(|node| node.name.as_str());
        let idle = idle.filter(|node| !watches(cluster, &device, node));
        items.extend(
            idle.map(|node| banned(id, node, "a node does not watch over its own fencing")),
        );
    }
    items
}

pub(super) fn wanted(cluster: &Cluster) -> Vec<Wanted> {
    let devices = devices(cluster).into_iter();
    devices
        .map(|device| {
            let nodes = cluster.nodes.iter().map(|node| node.name.clone());
            let nodes = nodes.filter(|node| watches(cluster, &device, node));
            Wanted {
                nodes: Nodes::OneOf(nodes.collect()),
                resource: device.id,
                kind: Kind::Fencing,
            }
        })
        .collect()
}
