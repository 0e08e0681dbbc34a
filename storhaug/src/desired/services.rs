//! The services on every node, and what each of them needs on its own node.

use std::path::Path;

use storhaug_agents::ctdb::{self, Ctdb};
use storhaug_agents::glusterfs::{self, GlusterFs};
use storhaug_agents::noded::Noded;
use storhaug_agents::ocf::Agent;
use storhaug_agents::samba::{self, Samba};

use super::resource::{Ours, clone_of};
use super::{Facts, Item, Kind, Nodes, PREFIX, Wanted, banned, constraint, resource};
use crate::cluster::{Cluster, Smb, Storage};
use crate::xml::Element;

/// Id of the clone of storhaug-noded.
pub const NODED: &str = "noded-clone";

/// Id of the clone of smbd.
pub const SMBD: &str = "smbd-clone";

/// The ids that services have; a volume of such a name gets another id.
const TAKEN: [&str; 5] = ["ctdb", "nmbd", "noded", "smbd", "winbindd"];

/// The resource that mounts `volume`.
fn mount_id(volume: &str) -> String {
    let ncname = volume.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let clash = TAKEN.contains(&volume) || volume.starts_with(PREFIX) || volume.starts_with("vip-");
    if ncname && !clash {
        volume.to_owned()
    } else {
        format!("mount-{volume}")
    }
}

pub(super) fn items(cluster: &Cluster, facts: &Facts) -> Vec<Item> {
    let daemon = Ours {
        id: "noded",
        agent: &Noded::METADATA,
        parameters: vec![],
    };
    let mut items = vec![resource(
        clone_of(daemon.primitive()),
        "knows the clients of every address",
    )];
    if let Some(smb) = &cluster.smb {
        items.extend(smb_items(cluster, smb, facts));
    }
    items
}

fn smb_items(cluster: &Cluster, smb: &Smb, facts: &Facts) -> Vec<Item> {
    let mut clones = Vec::new();
    let mut constraints = Vec::new();
    for volume in &smb.volumes {
        let id = mount_id(volume);
        if let Some(mount) = mount(cluster, &id, volume) {
            clones.push(mount);
            constraints.extend(needs("smbd", &id));
            let directory = cluster.storage.directory(volume);
            let lock = smb.cluster_lock.as_ref();
            if lock.is_some_and(|lock| Path::new(lock).starts_with(directory)) {
                constraints.extend(needs("ctdb", &id));
            }
        }
    }
    let mut parameters = vec![(&ctdb::NODES, facts.slots.join(" "))];
    let lock = smb.cluster_lock.iter().cloned();
    parameters.extend(lock.map(|lock| (&ctdb::CLUSTER_LOCK, lock)));
    let database = Ours {
        id: "ctdb",
        agent: &Ctdb::METADATA,
        parameters,
    };
    clones.push(resource(
        clone_of(database.primitive()),
        "Samba's clustered databases",
    ));
    if smb.winbind {
        clones.push(samba_clone("winbindd", "domain users for Samba"));
        constraints.extend(needs("winbindd", "ctdb"));
        constraints.push(constraint(
            order("winbindd", "smbd").with("kind", "Optional"),
            "winbindd starts before smbd where both start",
        ));
    }
    clones.push(samba_clone("smbd", "SMB"));
    constraints.extend(needs("smbd", "ctdb"));
    if smb.netbios {
        clones.push(samba_clone("nmbd", "NetBIOS names"));
        constraints.extend(needs("nmbd", "ctdb"));
    }
    placed(cluster, clones, constraints)
}

/// The mount of `volume` on every node, unless something else mounts it.
pub(super) fn mount(cluster: &Cluster, id: &str, volume: &str) -> Option<Item> {
    let Storage::GlusterFs {
        server, options, ..
    } = &cluster.storage
    else {
        return None;
    };
    let directory = cluster.storage.directory(volume).display().to_string();
    let purpose = format!("mounts the Gluster volume {volume} on {directory}");
    let mut parameters = vec![
        (&glusterfs::VOLUME, volume.to_owned()),
        (&glusterfs::DIRECTORY, directory),
        (&glusterfs::SERVER, server.clone()),
    ];
    let options = options.iter().cloned();
    parameters.extend(options.map(|options| (&glusterfs::OPTIONS, options)));
    let mount = Ours {
        id,
        agent: &GlusterFs::METADATA,
        parameters,
    };
    Some(resource(clone_of(mount.primitive()), purpose))
}

/// The clones with their constraints, and kept from the nodes that only vote.
pub(super) fn placed(cluster: &Cluster, clones: Vec<Item>, constraints: Vec<Item>) -> Vec<Item> {
    let voters = cluster.nodes.iter().filter(|node| !node.storage);
    let bans = voters.flat_map(|node| {
        clones.iter().map(|clone| {
            let purpose = format!("{} only votes", node.name);
            banned(clone.element.id(), &node.name, purpose)
        })
    });
    let bans: Vec<Item> = bans.collect();
    clones.into_iter().chain(constraints).chain(bans).collect()
}

fn samba_clone(daemon: &'static str, purpose: &str) -> Item {
    let parameters = vec![(&samba::DAEMON, daemon.to_owned())];
    let daemon = Ours {
        id: daemon,
        agent: &Samba::METADATA,
        parameters,
    };
    resource(clone_of(daemon.primitive()), purpose)
}

/// On every node, `service` runs only with `needed`, and starts after it.
pub(super) fn needs(service: &str, needed: &str) -> [Item; 2] {
    let with = Element::new("rsc_colocation")
        .with("id", format!("{PREFIX}{service}-with-{needed}"))
        .with("rsc", format!("{service}-clone"))
        .with("with-rsc", format!("{needed}-clone"))
        .with("score", "INFINITY");
    [
        constraint(
            order(needed, service).with("kind", "Mandatory"),
            format!("{service} starts after {needed} and stops before it"),
        ),
        constraint(with, format!("{service} runs only where {needed} runs")),
    ]
}

fn order(first: &str, then: &str) -> Element {
    Element::new("rsc_order")
        .with("id", format!("{PREFIX}{first}-then-{then}"))
        .with("first", format!("{first}-clone"))
        .with("then", format!("{then}-clone"))
}

pub(super) fn wanted(cluster: &Cluster) -> Vec<Wanted> {
    let everywhere = cluster.nodes.iter().map(|node| node.name.clone()).collect();
    let storage: Vec<String> = cluster
        .storage_nodes()
        .map(|node| node.name.clone())
        .collect();
    let mut wanted = vec![Wanted {
        resource: "noded".into(),
        kind: Kind::Service,
        nodes: Nodes::Each(everywhere),
    }];
    let Some(smb) = &cluster.smb else {
        return wanted;
    };
    let mut names = Vec::new();
    if matches!(cluster.storage, Storage::GlusterFs { .. }) {
        names.extend(smb.volumes.iter().map(|volume| mount_id(volume)));
    }
    names.push("ctdb".into());
    names.extend(smb.winbind.then(|| "winbindd".into()));
    names.push("smbd".into());
    names.extend(smb.netbios.then(|| "nmbd".into()));
    wanted.extend(names.into_iter().map(|resource| Wanted {
        resource,
        kind: Kind::Service,
        nodes: Nodes::Each(storage.clone()),
    }));
    wanted
}
