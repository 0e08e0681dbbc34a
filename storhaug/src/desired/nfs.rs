//! NFS: Ganesha on every node, and beside each address with NFS what lets its
//! clients reclaim their locks.

use storhaug_agents::ganesha::{self, Ganesha};
use storhaug_agents::ganesha_trigger::{self, GaneshaTrigger};
use storhaug_agents::ocf::Agent;

use super::resource::{Ours, add_meta, clone_of};
use super::services::{mount, needs, placed};
use super::{Item, Kind, Nodes, PREFIX, Wanted, constraint, resource};
use crate::cluster::{Cluster, Nfs, Service, Storage, Vip};
use crate::xml::Element;

/// Id of the clone of NFS-Ganesha.
pub const GANESHA: &str = "ganesha-clone";

/// Id of the mount of the state.
const STATE: &str = "ganesha_state";

pub(super) fn items(cluster: &Cluster) -> Vec<Item> {
    let Some(nfs) = &cluster.nfs else {
        return Vec::new();
    };
    let mut clones = Vec::new();
    let mut constraints = Vec::new();
    if let Some(mount) = mount(cluster, STATE, &nfs.state_volume) {
        clones.push(mount);
        constraints.extend(needs("ganesha", STATE));
    }
    let ganesha = Ours {
        id: "ganesha",
        agent: &Ganesha::METADATA,
        parameters: vec![
            (&ganesha::STATE_DIRECTORY, state_directory(cluster, nfs)),
            (&ganesha::CONFIG, nfs.config.display().to_string()),
            (&ganesha::SCOPE, cluster.name.clone()),
        ],
    };
    clones.push(resource(clone_of(ganesha.primitive()), "NFS"));
    placed(cluster, clones, constraints)
}

/// What lets the clients of `vip` reclaim their locks.
pub(super) fn trigger(cluster: &Cluster, nfs: &Nfs, vip: &Vip) -> Item {
    let trigger = Ours {
        id: &trigger_id(vip),
        agent: &GaneshaTrigger::METADATA,
        parameters: vec![
            (&ganesha_trigger::IP, vip.address.to_string()),
            (
                &ganesha_trigger::STATE_DIRECTORY,
                state_directory(cluster, nfs),
            ),
        ],
    };
    let mut primitive = trigger.primitive();
    // An address never stays away or moves for want of it: what it prefers, and
    // where it has failed, does not count for the address.
    add_meta(&mut primitive, &[("critical", "false".to_owned())]);
    let purpose = format!("lets NFS clients of {} reclaim their locks", vip.address);
    resource(primitive, purpose)
}

/// It goes where the address goes, ahead of it.
pub(super) fn beside(vip: &Vip) -> [Item; 2] {
    let (name, trigger) = (&vip.name, trigger_id(vip));
    // Where it cannot start, the address comes without it: it is waited for only
    // where both start at once.
    let with = Element::new("rsc_colocation")
        .with("id", format!("{PREFIX}{trigger}-with-{name}"))
        .with("rsc", &trigger)
        .with("with-rsc", name)
        .with("score", "INFINITY");
    let order = Element::new("rsc_order")
        .with("id", format!("{PREFIX}{trigger}-then-{name}"))
        .with("first", &trigger)
        .with("then", name)
        .with("kind", "Optional");
    [
        constraint(with, format!("{trigger} goes where {name} goes")),
        constraint(
            order,
            format!("{trigger} comes before {name}, and leaves after it"),
        ),
    ]
}

/// What programs that use the cluster's files have to know.
pub fn limits(cluster: &Cluster) -> Vec<&'static str> {
    let with_nfs = |vip: &&Vip| vip.services.contains(&Service::Nfs);
    let several = cluster.vips.iter().filter(with_nfs).count() > 1;
    let gluster = matches!(cluster.storage, Storage::GlusterFs { .. });
    // FSAL_GLUSTER drops a lock on the bricks when the descriptor is closed that
    // it was taken with; seen with 4.3 and 6.5.
    let limit = "NFS clients that lock the same files have to use the same address: Ganesha keeps \
                 locks on Gluster to its own node";
    (several && gluster).then_some(limit).into_iter().collect()
}

fn trigger_id(vip: &Vip) -> String {
    format!("trigger-{}", vip.name)
}

/// Where Ganesha keeps its state: not the root of the volume, whose rights are
/// those of whoever made it.
fn state_directory(cluster: &Cluster, nfs: &Nfs) -> String {
    let volume = cluster.storage.directory(&nfs.state_volume);
    volume.join("ganesha").display().to_string()
}

pub(super) fn wanted(cluster: &Cluster) -> Vec<Wanted> {
    if cluster.nfs.is_none() {
        return Vec::new();
    }
    let nodes = || {
        cluster
            .storage_nodes()
            .map(|node| node.name.clone())
            .collect()
    };
    let mounted = matches!(cluster.storage, Storage::GlusterFs { .. });
    let mount = mounted.then_some(STATE).into_iter();
    let each = mount.chain(["ganesha"]).map(|resource| Wanted {
        resource: resource.to_owned(),
        kind: Kind::Service,
        nodes: Nodes::Each(nodes()),
    });
    let vips = cluster.vips.iter();
    let triggers = vips
        .filter(|vip| vip.services.contains(&Service::Nfs))
        .map(|vip| Wanted {
            resource: trigger_id(vip),
            kind: Kind::Service,
            nodes: Nodes::OneOf(nodes()),
        });
    each.chain(triggers).collect()
}
