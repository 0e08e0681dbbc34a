//! The virtual addresses: where each may be, and where it would rather be.

use storhaug_agents::ocf::Agent;
use storhaug_agents::vip;

use super::nfs::{self, GANESHA};
use super::properties::ADDRESSES;
use super::resource::{Ours, add_meta, pairs};
use super::services::{NODED, SMBD};
use super::{Facts, Item, PREFIX, banned, constraint, resource};
use crate::cluster::{Cluster, Placement, Service, Vip};
use crate::placement::{self, Preference};
use crate::xml::Element;

pub(super) fn items(cluster: &Cluster, facts: &Facts) -> Vec<Item> {
    let preferences = placement::preferences(cluster, &facts.homes);
    let vips = cluster.vips.iter().zip(&preferences);
    let mut resources = Vec::new();
    let mut constraints = Vec::new();
    for (vip, preferred) in vips {
        let network = match vip.prefix {
            Some(prefix) => format!("{}/{prefix}", vip.address),
            None => vip.address.to_string(),
        };
        let primitive = primitive(cluster, vip);
        resources.push(resource(primitive, format!("the address {network}")));
        constraints.extend(vip.services.iter().map(|service| only_where(vip, *service)));
        let voters = cluster.nodes.iter().filter(|node| !node.storage);
        constraints.extend(
            voters.map(|node| banned(&vip.name, &node.name, format!("{} only votes", node.name))),
        );
        constraints.extend(preferred.iter().map(|preference| prefers(vip, *preference)));
        constraints.push(leaves_before(
            vip,
            NODED,
            "so that its clients are known elsewhere",
        ));
        for service in &vip.services {
            let clone = match service {
                Service::Smb => SMBD,
                Service::Nfs => GANESHA,
            };
            constraints.push(leaves_before(
                vip,
                clone,
                "so that nobody meets a closed port",
            ));
        }
        if let Some(served) = &cluster.nfs
            && vip.services.contains(&Service::Nfs)
        {
            resources.push(nfs::trigger(cluster, served, vip));
            constraints.extend(nfs::beside(vip));
        }
    }
    resources.extend(constraints);
    resources
}

fn primitive(cluster: &Cluster, vip: &Vip) -> Element {
    let mut parameters = vec![(&vip::IP, vip.address.to_string())];
    parameters.extend(
        vip.prefix
            .map(|prefix| (&vip::CIDR_NETMASK, prefix.to_string())),
    );
    parameters.extend(vip.nic.iter().map(|nic| (&vip::NIC, nic.clone())));
    let ours = Ours {
        id: &vip.name,
        agent: &vip::Vip::METADATA,
        parameters,
    };
    let mut primitive = ours.primitive();
    // Addresses go home as soon as they can: staying where a failure has put
    // them would leave the load uneven for good. Pacemaker places those that are
    // at home first, for their score there, and then the others on what is
    // emptiest; a priority would spoil that.
    // Where a copy of an address is found, it is removed there, and the address
    // itself left alone.
    let own = [
        ("resource-stickiness", "0".to_owned()),
        ("multiple-active", "stop_unexpected".to_owned()),
    ];
    add_meta(&mut primitive, &own);
    let operations = primitive.entry("operations");
    operations.children.push(elsewhere(&vip.name));
    if cluster.placement == Placement::Balanced {
        let one = [(ADDRESSES, "1".to_owned())];
        primitive.children.push(pairs(
            "utilization",
            &format!("{}-utilization", vip.name),
            &one,
        ));
    }
    primitive
}

/// Looks for a copy of the address on every node where it shall not be: one that
/// an interrupted change has left, or somebody has added by hand. Found, it is a
/// failure of that node, where Pacemaker removes it. It costs what any monitor
/// does, and delays no start: Pacemaker ends it on the node that gets the
/// address, killing what of it runs at that moment, at the same time as it stops
/// or fences the node that had it.
fn elsewhere(name: &str) -> Element {
    // An interval that no other monitor has: Pacemaker ignores the second of
    // two that have the same ("pcmk_sched_recurring.c", `is_op_dup`).
    Element::new("op")
        .with("id", format!("{name}-monitor-elsewhere"))
        .with("name", "monitor")
        .with("role", "Stopped")
        .with("interval", "30s")
        .with("timeout", "20s")
}

/// The attribute of the nodes on which a service works.
pub fn ready(service: Service) -> &'static str {
    match service {
        Service::Smb => storhaug_agents::samba::READY.name(),
        Service::Nfs => storhaug_agents::ganesha::READY.name(),
    }
}

/// The address stays away from where the service has not said that it works.
/// A rule and no order: an order would make the address wait in one
/// transition with whatever else starts, on any node.
fn only_where(vip: &Vip, service: Service) -> Item {
    let name = &vip.name;
    let attribute = ready(service);
    let id = format!("{PREFIX}{name}-where-{service}");
    let undefined = Element::new("expression")
        .with("id", format!("{id}-undefined"))
        .with("attribute", attribute)
        .with("operation", "not_defined");
    let unset = Element::new("expression")
        .with("id", format!("{id}-unset"))
        .with("attribute", attribute)
        .with("operation", "ne")
        .with("value", "1");
    let rule = Element::new("rule")
        .with("id", format!("{id}-rule"))
        .with("score", "-INFINITY")
        .with("boolean-op", "or")
        .child(undefined)
        .child(unset);
    let location = Element::new("rsc_location")
        .with("id", &id)
        .with("rsc", name)
        .child(rule);
    constraint(location, format!("{name} goes only where {service} works"))
}

fn prefers(vip: &Vip, (node, score): Preference<'_>) -> Item {
    let name = &vip.name;
    let location = Element::new("rsc_location")
        .with("id", format!("{PREFIX}{name}-prefers-{node}"))
        .with("rsc", name)
        .with("node", node)
        .with("score", score);
    constraint(
        location,
        format!("{name} prefers {node}, with a score of {score}"),
    )
}

/// The address whose preference `location` is, the node that it prefers, and by
/// how much.
pub fn home(location: &Element) -> Option<(&str, &str, usize)> {
    let of = |name| location.get(name);
    let (vip, node, score) = (of("rsc")?, of("node")?, of("score")?);
    let ours = location.id() == format!("{PREFIX}{vip}-prefers-{node}");
    Some((vip, node, score.parse().ok()?)).filter(|_| ours)
}

/// Where both stop, the address goes first. Nothing of the sort for starts.
fn leaves_before(vip: &Vip, clone: &str, why: &str) -> Item {
    let name = &vip.name;
    let order = Element::new("rsc_order")
        .with("id", format!("{PREFIX}{name}-leaves-before-{clone}"))
        .with("first", name)
        .with("first-action", "stop")
        .with("then", clone)
        .with("then-action", "stop")
        .with("kind", "Optional")
        .with("symmetrical", "false");
    constraint(order, format!("{name} leaves before {clone} stops, {why}"))
}
