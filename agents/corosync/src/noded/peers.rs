//! The other nodes: their addresses, and which of them are known to be dead.
//!
//! A TCP socket to a node that lost its power waits for a keepalive or a
//! timeout of its own: 42 s in Gluster, 25 s in CTDB. The cluster knows sooner.
//! So once a node is known to be dead, this node's sockets to it are destroyed,
//! and everything that waits goes on.
//!
//! Dead means fenced, by Pacemaker's own record. A node that merely cannot be
//! reached may still be writing; its locks must not be given away. A node whose
//! cluster was stopped on purpose is alive, and so may be a login to it: its
//! services closed their connections themselves. Whoever has no quorum destroys
//! nothing, as it is the one to be fenced. And one that was gone before this
//! daemon started is not asked about: it may have been switched on again since,
//! and be alive without its cluster.
//!
//! A node's addresses are those of its Corosync links, and all others that its
//! daemon told of while it lived: of its storage network, above all.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use storhaug_agents::daemon::Node;

/// What is known of the other nodes.
#[derive(Debug, Default)]
pub struct Peers {
    nodes: BTreeMap<u32, Peer>,
    present: BTreeSet<u32>,
    missing: BTreeSet<u32>,
    quorate: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Peer {
    name: String,
    /// Of its links.
    addresses: BTreeSet<IpAddr>,
    /// That its daemon told of last.
    told: BTreeSet<IpAddr>,
}

impl Peers {
    /// Corosync's view of a node that is or was a member: its name and the
    /// addresses of its links. An empty list does not replace what was known,
    /// as it is that of a node that is gone.
    pub fn learn(&mut self, node: u32, name: String, addresses: BTreeSet<IpAddr>) {
        let peer = self.nodes.entry(node).or_default();
        if !name.is_empty() {
            peer.name = name;
        }
        if !addresses.is_empty() {
            peer.addresses = addresses;
        }
    }

    /// A node's daemon says which addresses it has.
    pub fn told(&mut self, node: u32, addresses: BTreeSet<IpAddr>) {
        self.nodes.entry(node).or_default().told = addresses;
    }

    /// Which nodes are members of Corosync now, and whether they have quorum.
    pub fn members(&mut self, quorate: bool, members: &BTreeSet<u32>) {
        self.quorate = quorate;
        self.missing.extend(self.present.difference(members));
        self.missing.retain(|node| !members.contains(node));
        self.present.clone_from(members);
    }

    /// Whether this node's part of the cluster has quorum.
    pub fn quorate(&self) -> bool {
        self.quorate
    }

    /// The nodes that left while this one watched, and of which nothing more is
    /// known. It is of use to ask about them only with quorum.
    pub fn missing(&self) -> Vec<u32> {
        if self.quorate {
            self.missing.iter().copied().collect()
        } else {
            Vec::new()
        }
    }

    /// The node left on purpose, or nothing more will be heard of it.
    pub fn settled(&mut self, node: u32) {
        self.missing.remove(&node);
    }

    /// The node is known to be dead: the addresses whose sockets are to be
    /// destroyed. None of them is also another living node's, or one of `own`,
    /// or one of `vips`, which move. Empty without quorum, or if the node has
    /// come back.
    pub fn dead(
        &mut self,
        node: u32,
        own: &BTreeSet<IpAddr>,
        vips: &BTreeSet<IpAddr>,
    ) -> Vec<IpAddr> {
        if !self.quorate || !self.missing.remove(&node) {
            return Vec::new();
        }
        let Some(peer) = self.nodes.get(&node) else {
            return Vec::new();
        };
        let living = |address: &IpAddr| {
            self.nodes.iter().any(|(id, other)| {
                *id != node
                    && self.present.contains(id)
                    && (other.addresses.contains(address) || other.told.contains(address))
            })
        };
        peer.addresses
            .union(&peer.told)
            .filter(|address| !own.contains(address) && !vips.contains(address))
            .filter(|address| !living(address))
            .copied()
            .collect()
    }

    /// A node by its number.
    pub fn node(&self, id: u32) -> Node {
        let name = self
            .nodes
            .get(&id)
            .map(|peer| peer.name.clone())
            .unwrap_or_default();
        Node { id, name }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three() -> Peers {
        let mut peers = Peers::default();
        for node in 1..=3_u8 {
            let address = IpAddr::from([10, 0, 0, node]);
            peers.learn(node.into(), format!("node{node}"), [address].into());
        }
        peers.members(true, &[1, 2, 3].into());
        peers
    }

    fn own() -> BTreeSet<IpAddr> {
        [IpAddr::from([10, 0, 0, 1])].into()
    }

    fn vips() -> BTreeSet<IpAddr> {
        [IpAddr::from([10, 0, 0, 100])].into()
    }

    #[test]
    fn a_missing_node_is_asked_about_and_then_dead_once() {
        let mut peers = three();
        assert!(peers.missing().is_empty());
        peers.members(true, &[1, 2].into());
        peers.learn(3, String::new(), BTreeSet::new());
        assert_eq!(peers.missing(), [3]);
        assert_eq!(
            peers.dead(3, &own(), &vips()),
            [IpAddr::from([10, 0, 0, 3])]
        );
        assert!(peers.dead(3, &own(), &vips()).is_empty());
        assert!(peers.missing().is_empty());
    }

    #[test]
    fn without_quorum_nobody_is_dead() {
        let mut peers = three();
        peers.members(false, &[1].into());
        assert!(peers.missing().is_empty());
        assert!(peers.dead(3, &own(), &vips()).is_empty());
        peers.members(true, &[1, 2].into());
        assert_eq!(peers.missing(), [3]);
    }

    #[test]
    fn a_node_that_came_back_is_not_dead() {
        let mut peers = three();
        peers.members(true, &[1, 2].into());
        peers.members(true, &[1, 2, 3].into());
        assert!(peers.dead(3, &own(), &vips()).is_empty());
    }

    #[test]
    fn an_address_that_somebody_alive_has_is_spared() {
        let mut peers = three();
        let shared = [[10, 0, 0, 1], [10, 0, 0, 2], [10, 0, 0, 33]].map(IpAddr::from);
        peers.learn(3, "node3".into(), shared.into());
        peers.members(true, &[1, 2].into());
        assert_eq!(
            peers.dead(3, &own(), &vips()),
            [IpAddr::from([10, 0, 0, 33])]
        );
    }

    #[test]
    fn the_addresses_that_a_node_told_of_go_with_it_but_for_those_that_move() {
        let mut peers = three();
        let link = IpAddr::from([10, 0, 0, 3]);
        let storage = IpAddr::from([10, 1, 0, 3]);
        let moved = IpAddr::from([10, 0, 0, 44]);
        let told = [link, storage, moved, IpAddr::from([10, 0, 0, 100])];
        peers.told(3, told.into());
        peers.members(true, &[1, 2].into());
        // What storhaug does not know as a virtual address, and is elsewhere by now.
        peers.told(2, [moved].into());
        assert_eq!(peers.dead(3, &own(), &vips()), [link, storage]);
    }
}
