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
//! A node's addresses are those of its Corosync links, and of the others that its
//! daemon told of while it lived those in a network that this node is connected
//! to as well: of its storage network, above all. An address elsewhere, such as
//! that of a bridge for containers, may mean another host from here.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use storhaug_agents::daemon::Node;

/// What is known of the other nodes.
#[derive(Debug, Default)]
pub struct Peers {
    nodes: BTreeMap<u32, Peer>,
    present: BTreeSet<u32>,
    missing: BTreeSet<u32>,
    /// Those of the missing that are known to be dead, and whose sockets are
    /// left alone for now.
    spared: BTreeSet<u32>,
    quorate: bool,
}

/// Where an address is, as seen from this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nearness {
    /// It is this node's.
    Own,
    /// It is in a network that this node has an address in.
    Neighbour,
    /// It is in none of them.
    Elsewhere,
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
        self.spared.retain(|node| !members.contains(node));
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

    /// The node is known to be dead, and its sockets are left alone.
    pub fn spare(&mut self, node: u32) {
        if self.missing.contains(&node) {
            self.spared.insert(node);
        }
    }

    /// Those who were spared and have not come back since. They are not any more.
    pub fn no_longer_spared(&mut self) -> BTreeSet<u32> {
        std::mem::take(&mut self.spared)
    }

    /// The node left on purpose, or nothing more will be heard of it.
    pub fn settled(&mut self, node: u32) {
        self.missing.remove(&node);
    }

    /// The node is known to be dead: the addresses whose sockets are to be
    /// destroyed. None of them is also another living node's, or one of this
    /// node, as `own` tells, or one of `vips`, which move; those that are no
    /// link's are in a network of this node. Empty without quorum, or if the
    /// node has come back.
    pub fn dead(
        &mut self,
        node: u32,
        own: impl Fn(IpAddr) -> Nearness,
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
            .filter(|address| match own(**address) {
                Nearness::Own => false,
                Nearness::Neighbour => true,
                Nearness::Elsewhere => peer.addresses.contains(address),
            })
            .filter(|address| !vips.contains(address) && !living(address))
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

    /// The first node has 10.0.0.1/24 and 10.1.0.1/24.
    fn own(address: IpAddr) -> Nearness {
        match address {
            IpAddr::V4(v4) => match v4.octets() {
                [10, 0 | 1, 0, 1] => Nearness::Own,
                [10, 0 | 1, 0, _] => Nearness::Neighbour,
                _ => Nearness::Elsewhere,
            },
            IpAddr::V6(_) => Nearness::Elsewhere,
        }
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
        assert_eq!(peers.dead(3, own, &vips()), [IpAddr::from([10, 0, 0, 3])]);
        assert!(peers.dead(3, own, &vips()).is_empty());
        assert!(peers.missing().is_empty());
    }

    #[test]
    fn without_quorum_nobody_is_dead() {
        let mut peers = three();
        peers.members(false, &[1].into());
        assert!(peers.missing().is_empty());
        assert!(peers.dead(3, own, &vips()).is_empty());
        peers.members(true, &[1, 2].into());
        assert_eq!(peers.missing(), [3]);
    }

    #[test]
    fn a_node_that_came_back_is_not_dead() {
        let mut peers = three();
        peers.members(true, &[1, 2].into());
        peers.members(true, &[1, 2, 3].into());
        assert!(peers.dead(3, own, &vips()).is_empty());
    }

    #[test]
    fn a_node_that_was_spared_and_came_back_is_asked_about_again() {
        let mut peers = three();
        peers.members(true, &[1, 2].into());
        peers.spare(3);
        peers.spare(2);
        let mut later = three();
        later.members(true, &[1, 2].into());
        later.spare(3);
        assert_eq!(peers.no_longer_spared(), [3].into());
        assert!(peers.no_longer_spared().is_empty());
        // It was spared, is back, and is lost again: nobody has fenced it yet.
        later.members(true, &[1, 2, 3].into());
        later.members(true, &[1, 2].into());
        assert!(later.no_longer_spared().is_empty());
        assert_eq!(later.missing(), [3]);
    }

    #[test]
    fn an_address_in_a_network_of_its_own_may_be_another_hosts() {
        let mut peers = three();
        let bridge = IpAddr::from([172, 17, 0, 1]);
        let storage = IpAddr::from([10, 1, 0, 3]);
        // A link may be routed; Corosync says that it is this node.
        let link = IpAddr::from([192, 0, 2, 3]);
        peers.learn(3, "node3".into(), [link].into());
        peers.told(3, [bridge, storage, link].into());
        peers.members(true, &[1, 2].into());
        assert_eq!(peers.dead(3, own, &vips()), [storage, link]);
    }

    #[test]
    fn an_address_that_somebody_alive_has_is_spared() {
        let mut peers = three();
        let shared = [[10, 0, 0, 1], [10, 0, 0, 2], [10, 0, 0, 33]].map(IpAddr::from);
        peers.learn(3, "node3".into(), shared.into());
        peers.members(true, &[1, 2].into());
        assert_eq!(peers.dead(3, own, &vips()), [IpAddr::from([10, 0, 0, 33])]);
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
        assert_eq!(peers.dead(3, own, &vips()), [link, storage]);
    }
}
