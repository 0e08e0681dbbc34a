//! What the daemon does about the addresses: a machine of states without a
//! clock, a socket or a thread, which is told what happened and says what to do.
//!
//! Only the node that holds an address speaks about its connections. What it
//! says of them it has written into its own table at once; who holds an address
//! is decided by the order in which the group delivers messages, the same on
//! every node.

use std::collections::{BTreeMap, BTreeSet};
use std::iter;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use storhaug_agents::daemon::{Answer, Reason, Tickled};

use super::connection::Connection;
use super::group::Departure;
use super::message::{self, Body, CONNECTIONS_LIMIT, Message, Part};
use super::sockets::ADDRESSES_LIMIT;
use super::table::{Left, Table};

/// How long a release waits until every node knows the last connections. A
/// group that is just losing a member takes as long as its detection; an
/// address must not wait for that.
const RELEASE: Duration = Duration::from_secs(2);

/// A node that has an address twice in a row, while another holds it, has not
/// only said so before it knew of the other.
const ASTRAY: u32 = 2;

/// Stands for this node while Corosync has not said its number.
const NOBODY: u32 = 0;

/// Whom an answer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send this to the group.
    Send(Message),
    /// Answer a question.
    Answer(Ticket, Answer),
    /// Tickle these clients, and answer after the first round.
    Tickle {
        ticket: Ticket,
        vip: IpAddr,
        nic: String,
        clients: Vec<Connection>,
    },
    /// Stop tickling.
    Hush(IpAddr),
    /// List the connections of the address and give them to [`Engine::final_list`].
    ListFinally(IpAddr),
    /// See whether this node has the address, and tell [`Engine::looked`].
    Look(IpAddr),
    /// Find out why the address has left this node, and tell
    /// [`Engine::explained`].
    Explain(IpAddr),
    /// Announce the address, if this node has it.
    Announce(IpAddr),
    /// Destroy the sockets of the address, unless this node has it after all,
    /// and answer with their number, if somebody asked.
    Sweep { vip: IpAddr, ticket: Option<Ticket> },
}

/// The machine.
#[derive(Debug, Default)]
pub struct Engine {
    me: Option<u32>,
    members: BTreeSet<u32>,
    table: Table,
    /// The addresses that this node has, by what its agents say.
    held: BTreeSet<IpAddr>,
    /// When the nodes were last heard of.
    heard: BTreeMap<u32, Instant>,
    /// How often in a row a node had an address that another holds.
    astray: BTreeMap<(IpAddr, u32), u32>,
    /// Releases that wait for their message to come back.
    releasing: BTreeMap<IpAddr, (Instant, Vec<Ticket>)>,
    outputs: Vec<Output>,
}

impl Engine {
    /// What is to be done about all that has happened.
    pub fn outputs(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.outputs)
    }

    /// What is known.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// The nodes in the group.
    pub fn members(&self) -> &BTreeSet<u32> {
        &self.members
    }

    /// The addresses whose connections are to be listed.
    pub fn watched(&self) -> Vec<IpAddr> {
        self.held
            .iter()
            .copied()
            .filter(|vip| self.holds(*vip))
            .collect()
    }

    /// The agent says that this node has the address.
    pub fn hold(&mut self, vip: IpAddr, ticket: Ticket, wall: u64, now: Instant) {
        if !self.held.contains(&vip) && self.held.len() >= ADDRESSES_LIMIT {
            let reason = format!("{ADDRESSES_LIMIT} addresses are held already");
            self.outputs
                .push(Output::Answer(ticket, Answer::Refused { reason }));
            return;
        }
        self.claim(vip, wall, now);
        self.outputs.push(Output::Answer(ticket, Answer::Held {}));
    }

    /// The agent says that the address is up and announced.
    pub fn tickle(&mut self, vip: IpAddr, nic: String, ticket: Ticket) {
        let clients = self.table.get(vip).map_or_else(Vec::new, |entry| {
            let mut clients = entry.inherited();
            // Connections that are known to be of this very node are well.
            if entry.holder != Some(self.node()) {
                clients.extend(entry.live());
            }
            clients
        });
        self.outputs.push(Output::Tickle {
            ticket,
            vip,
            nic,
            clients,
        });
    }

    /// The agent says that it has removed the address.
    pub fn release(&mut self, vip: IpAddr, ticket: Ticket, now: Instant) {
        self.outputs.push(Output::Hush(vip));
        let ours = self.held.remove(&vip) && self.holds(vip);
        if let Some((_, tickets)) = self.releasing.get_mut(&vip) {
            tickets.push(ticket);
        } else if ours {
            self.releasing.insert(vip, (now, vec![ticket]));
            self.outputs.push(Output::ListFinally(vip));
        } else {
            self.outputs.push(Output::Sweep {
                vip,
                ticket: Some(ticket),
            });
        }
    }

    /// The last connections of an address that is being released.
    pub fn final_list(&mut self, vip: IpAddr, connections: &BTreeSet<Connection>, now: Instant) {
        self.report(vip, connections);
        self.send(
            Message {
                vip,
                body: Body::Release,
            },
            now,
        );
        self.outputs.push(Output::Explain(vip));
    }

    /// Why an address has left this node, after [`Output::Explain`].
    pub fn explained(&mut self, vip: IpAddr, reason: Reason, now: Instant) {
        let body = Body::Cause(reason);
        self.send(Message { vip, body }, now);
    }

    /// What has been done about the clients of an address of ours.
    pub fn tickled(&mut self, vip: IpAddr, tickled: Tickled, now: Instant) {
        let body = Body::Tickled(tickled);
        self.send(Message { vip, body }, now);
    }

    /// A node is there, and its kernel has these addresses. While one of them is
    /// a copy of an address of this node, and once more when it is gone, this
    /// node announces its own, so that neighbours which have asked and were
    /// answered there come back (RFC 5227 §2.4).
    pub fn heard(&mut self, node: u32, addresses: &BTreeSet<IpAddr>, now: Instant) {
        let me = self.node();
        self.heard.insert(node, now);
        for (vip, entry) in self.table.iter() {
            let holder = entry.holder.filter(|holder| *holder != node);
            let Some(holder) = holder.filter(|_| addresses.contains(vip)) else {
                let times = self.astray.remove(&(*vip, node)).unwrap_or_default();
                if times >= ASTRAY {
                    tracing::info!("{vip} is not on node {node} any more");
                    if entry.holder == Some(me) {
                        self.outputs.push(Output::Announce(*vip));
                    }
                }
                continue;
            };
            let times = self.astray.entry((*vip, node)).or_default();
            *times = times.saturating_add(1);
            if *times >= ASTRAY && holder == me {
                self.outputs.push(Output::Announce(*vip));
            }
            if *times == ASTRAY {
                tracing::error!("{vip} is on node {node}, though node {holder} holds it");
            }
        }
    }

    /// The nodes that have an address though another holds it.
    pub fn astray(&self, vip: IpAddr) -> impl Iterator<Item = u32> {
        let holder = self.table.get(vip).and_then(|entry| entry.holder);
        let nodes = self.astray.range((vip, 0)..=(vip, u32::MAX));
        nodes
            .filter(move |((_, node), times)| **times >= ASTRAY && Some(*node) != holder)
            .map(|((_, node), _)| *node)
    }

    /// A node that was lost has been fenced.
    pub fn fenced(&mut self, node: u32) {
        self.table.fenced(node);
    }

    /// The connections of an address that this node has.
    pub fn listed(&mut self, vip: IpAddr, connections: &BTreeSet<Connection>) {
        if self.held.contains(&vip) && self.holds(vip) {
            self.report(vip, connections);
        }
    }

    /// Whether this node has the address, after [`Output::Look`].
    pub fn looked(&mut self, vip: IpAddr, here: bool, wall: u64, now: Instant) {
        let holder = self.table.get(vip).and_then(|entry| entry.holder);
        if !here {
            self.held.remove(&vip);
            self.outputs.push(Output::Hush(vip));
            self.outputs.push(Output::Sweep { vip, ticket: None });
        } else if let Some(other) = holder.filter(|holder| *holder != self.node()) {
            tracing::error!("{vip} is on this node, and node {other} says that it has it as well");
        } else {
            self.claim(vip, wall, now);
        }
    }

    /// Corosync can be reached, and says this node's number.
    pub fn connected(&mut self, me: u32, now: Instant) {
        let before = self.node();
        self.me = Some(me);
        if before != me {
            self.table.gone(before, Left::UNKNOWN, now);
        }
    }

    /// Corosync cannot be reached: this node is alone.
    pub fn disconnected(&mut self, now: Instant) {
        let me = self.node();
        for node in std::mem::take(&mut self.members) {
            if node != me {
                self.table.gone(node, Left::UNKNOWN, now);
            }
        }
        for vip in self.releasing.keys().copied().collect::<Vec<_>>() {
            self.released(vip);
        }
    }

    /// The nodes in the group changed.
    pub fn members_changed(
        &mut self,
        members: BTreeSet<u32>,
        joined: &BTreeSet<u32>,
        left: &BTreeMap<u32, Departure>,
        now: Instant,
    ) {
        self.members = members;
        for (node, departure) in left {
            let heard = self.heard.remove(node);
            self.astray.retain(|(_, stray), _| stray != node);
            let left = match departure {
                Departure::Node => Left {
                    at: heard,
                    reason: Reason::Lost,
                },
                // The address is still there, and nobody says when it goes.
                Departure::Daemon => Left::UNKNOWN,
            };
            self.table.gone(*node, left, now);
        }
        if joined.is_empty() {
            return;
        }
        let me = self.node();
        if joined.contains(&me) {
            // Others may have taken over meanwhile.
            self.table.gone(me, Left::UNKNOWN, now);
            self.outputs
                .extend(self.held.iter().map(|vip| Output::Look(*vip)));
            return;
        }
        let spokesman = self.members.difference(joined).next() == Some(&me);
        let mut messages = Vec::new();
        for (vip, entry) in self.table.iter() {
            let moved = entry.moved.filter(|_| spokesman).map(Body::Moved);
            match entry.holder {
                Some(holder) if holder == me => {
                    let since = entry.since.unwrap_or_default();
                    messages.push(Message {
                        vip: *vip,
                        body: Body::Hold {
                            since,
                            previous: entry.previous,
                        },
                    });
                    messages.extend(message::all(*vip, &entry.live()));
                    let inherited = entry.inherited();
                    messages.extend(inherited.chunks(CONNECTIONS_LIMIT).map(|chunk| Message {
                        vip: *vip,
                        body: Body::Update {
                            part: Part::Inherited,
                            added: chunk.to_vec(),
                            removed: Vec::new(),
                        },
                    }));
                    let tickled = entry.tickled.clone().map(Body::Tickled);
                    messages.extend(tickled.map(|body| Message { vip: *vip, body }));
                }
                None if spokesman => {
                    let mut connections = entry.live();
                    connections.extend(entry.inherited());
                    let mut parts = connections.chunks(CONNECTIONS_LIMIT);
                    // At least once: its last holder may be the one who joined.
                    let first = parts.next().unwrap_or_default();
                    messages.extend(iter::once(first).chain(parts).map(|part| Message {
                        vip: *vip,
                        body: Body::Orphan {
                            holder: entry.previous,
                            connections: part.to_vec(),
                        },
                    }));
                }
                _ => {}
            }
            messages.extend(moved.map(|body| Message { vip: *vip, body }));
        }
        self.outputs.extend(messages.into_iter().map(Output::Send));
    }

    /// The group delivered a message.
    pub fn delivered(&mut self, from: u32, message: &Message, now: Instant) {
        let me = self.node();
        let vip = message.vip;
        self.heard.insert(from, now);
        let holder = self.table.get(vip).and_then(|entry| entry.holder);
        match &message.body {
            Body::Hold { since, previous } => {
                let entry = self.table.entry(vip);
                entry.hold(from, *since, now);
                entry.succeeds(previous.filter(|previous| *previous != from));
                if from != me && holder != Some(from) {
                    self.outputs.push(Output::Look(vip));
                } else if from == me && !self.held.contains(&vip) {
                    // Released before this message came back.
                    self.send(
                        Message {
                            vip,
                            body: Body::Release,
                        },
                        now,
                    );
                }
            }
            Body::Release => {
                let left = Left {
                    at: Some(now),
                    reason: Reason::Unknown,
                };
                self.table.entry(vip).release(from, left, now);
                if from == me {
                    self.released(vip);
                    if self.held.contains(&vip) {
                        // Taken again before this message came back.
                        self.outputs.push(Output::Look(vip));
                    }
                }
            }
            Body::Update {
                part,
                added,
                removed,
            } => {
                if from != me && holder == Some(from) {
                    self.table.entry(vip).update(*part, added, removed);
                }
            }
            Body::Orphan {
                holder: last,
                connections,
            } => {
                if from != me && holder.is_none() {
                    self.table.entry(vip).orphan(*last, connections, now);
                    if *last == Some(me) && !self.held.contains(&vip) {
                        self.outputs.push(Output::Look(vip));
                    }
                }
            }
            Body::Moved(moved) => {
                if from != me {
                    self.table.entry(vip).told(*moved);
                }
            }
            Body::Cause(reason) => {
                self.table
                    .entry(vip)
                    .explain(from, Reason::Unknown, *reason);
            }
            Body::Tickled(tickled) => {
                if holder == Some(from) {
                    self.table.entry(vip).tickled = Some(tickled.clone());
                }
            }
        }
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Instant) {
        let late: Vec<_> = self
            .releasing
            .iter()
            .filter(|(_, (began, _))| now.duration_since(*began) >= RELEASE)
            .map(|(vip, _)| *vip)
            .collect();
        for vip in late {
            tracing::warn!("{vip} is released before every node knows its last connections");
            self.released(vip);
        }
        self.table.forget(now);
    }

    fn node(&self) -> u32 {
        self.me.unwrap_or(NOBODY)
    }

    /// Whether the group knows that this node holds the address.
    fn holds(&self, vip: IpAddr) -> bool {
        self.table
            .get(vip)
            .is_some_and(|entry| entry.holder == Some(self.node()))
    }

    /// Says that this node holds the address, if that is not known.
    fn claim(&mut self, vip: IpAddr, wall: u64, now: Instant) {
        self.held.insert(vip);
        if !self.holds(vip) {
            self.send(
                Message {
                    vip,
                    body: Body::Hold {
                        since: wall,
                        previous: None,
                    },
                },
                now,
            );
        }
    }

    /// Says what has changed among the connections of an address of ours.
    fn report(&mut self, vip: IpAddr, connections: &BTreeSet<Connection>) {
        let entry = self.table.entry(vip);
        let (added, removed) = entry.differs(connections);
        if added.is_empty() && removed.is_empty() {
            return;
        }
        entry.update(Part::Change, &added, &removed);
        if !self.members.is_empty() {
            let changes = message::changes(vip, &added, &removed);
            self.outputs.extend(changes.into_iter().map(Output::Send));
        }
    }

    /// Sends to the group; while there is none, to oneself.
    fn send(&mut self, message: Message, now: Instant) {
        if self.members.is_empty() {
            self.delivered(self.node(), &message, now);
        } else {
            self.outputs.push(Output::Send(message));
        }
    }

    /// The others know: the sockets may go.
    fn released(&mut self, vip: IpAddr) {
        if let Some((_, tickets)) = self.releasing.remove(&vip) {
            let sweep = |ticket| Output::Sweep {
                vip,
                ticket: Some(ticket),
            };
            self.outputs.extend(tickets.into_iter().map(sweep));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 100));

    fn connections(ports: &[u16]) -> BTreeSet<Connection> {
        let connection = |port: &u16| Connection {
            client: "10.0.0.7".parse().unwrap(),
            client_port: *port,
            server_port: 445,
        };
        ports.iter().map(connection).collect()
    }

    /// Engines on a bus that delivers in one order, and what else they want.
    struct Cluster {
        engines: BTreeMap<u32, Engine>,
        wanted: Vec<(u32, Output)>,
        addresses: BTreeSet<(u32, IpAddr)>,
        now: Instant,
        tickets: u64,
    }

    impl Cluster {
        fn new(nodes: &[u32]) -> Self {
            let mut cluster = Self {
                engines: BTreeMap::new(),
                wanted: Vec::new(),
                addresses: BTreeSet::new(),
                now: Instant::now(),
                tickets: 0,
            };
            for node in nodes {
                cluster.join(*node);
            }
            cluster
        }

        fn join(&mut self, node: u32) {
            self.engines.insert(node, Engine::default());
            self.engines
                .get_mut(&node)
                .unwrap()
                .connected(node, self.now);
            self.members(&[node].into(), &BTreeMap::new());
        }

        fn leave(&mut self, node: u32) {
            self.engines.remove(&node);
            self.members(&BTreeSet::new(), &[(node, Departure::Node)].into());
        }

        fn members(&mut self, joined: &BTreeSet<u32>, left: &BTreeMap<u32, Departure>) {
            let members: BTreeSet<_> = self.engines.keys().copied().collect();
            for engine in self.engines.values_mut() {
                engine.members_changed(members.clone(), joined, left, self.now);
            }
            self.settle();
        }

        /// Takes over the address on `node`, as Pacemaker would.
        fn hold(&mut self, node: u32) {
            self.addresses.insert((node, VIP));
            self.tickets += 1;
            let (ticket, now) = (Ticket(self.tickets), self.now);
            self.engine(node).hold(VIP, ticket, 5, now);
            self.settle();
        }

        fn release(&mut self, node: u32, connections: &BTreeSet<Connection>) {
            self.addresses.remove(&(node, VIP));
            self.tickets += 1;
            let (ticket, now) = (Ticket(self.tickets), self.now);
            self.engine(node).release(VIP, ticket, now);
            let outputs = self.engine(node).outputs();
            assert!(outputs.contains(&Output::ListFinally(VIP)), "{outputs:?}");
            self.engine(node).final_list(VIP, connections, now);
            self.settle();
        }

        fn listed(&mut self, node: u32, ports: &[u16]) {
            self.engine(node).listed(VIP, &connections(ports));
            self.settle();
        }

        fn engine(&mut self, node: u32) -> &mut Engine {
            self.engines.get_mut(&node).unwrap()
        }

        fn tickled(&mut self, node: u32) -> BTreeSet<u16> {
            self.engine(node).tickle(VIP, "eth0".into(), Ticket(0));
            match self.engine(node).outputs().pop() {
                Some(Output::Tickle { clients, .. }) => {
                    clients.iter().map(|client| client.client_port).collect()
                }
                other => panic!("{other:?}"),
            }
        }

        /// Delivers until nobody says anything any more.
        fn settle(&mut self) {
            loop {
                let mut said = Vec::new();
                for (node, engine) in &mut self.engines {
                    for output in engine.outputs() {
                        match output {
                            Output::Send(message) => said.push((*node, message)),
                            Output::Look(vip) => {
                                let here = self.addresses.contains(&(*node, vip));
                                engine.looked(vip, here, 6, self.now);
                            }
                            other => self.wanted.push((*node, other)),
                        }
                    }
                }
                let quiet = self
                    .engines
                    .values()
                    .all(|engine| engine.outputs.is_empty());
                if said.is_empty() && quiet {
                    return;
                }
                for (from, message) in said {
                    let message = Message::decode(&message.encode()).unwrap();
                    for engine in self.engines.values_mut() {
                        engine.delivered(from, &message, self.now);
                    }
                }
            }
        }

        fn clients(&self, node: u32) -> usize {
            self.engines[&node]
                .table()
                .get(VIP)
                .map_or(0, |entry| entry.clients())
        }

        fn holder(&self, node: u32) -> Option<u32> {
            self.engines[&node]
                .table()
                .get(VIP)
                .and_then(|entry| entry.holder)
        }
    }

    #[test]
    fn what_the_holder_has_is_known_everywhere_and_what_it_lost_is_not() {
        let mut cluster = Cluster::new(&[1, 2, 3]);
        cluster.hold(1);
        cluster.listed(1, &[1, 2, 3]);
        assert_eq!([1, 2, 3].map(|node| cluster.clients(node)), [3, 3, 3]);
        cluster.listed(1, &[3]);
        assert_eq!([1, 2, 3].map(|node| cluster.clients(node)), [1, 1, 1]);
        assert_eq!([1, 2, 3].map(|node| cluster.holder(node)), [Some(1); 3]);
    }

    #[test]
    fn a_node_that_joins_is_told_where_an_address_came_from() {
        let mut cluster = Cluster::new(&[1, 2, 3]);
        cluster.hold(1);
        cluster.addresses.clear();
        cluster.leave(1);
        cluster.hold(2);
        cluster.join(1);
        let moves = [1, 2, 3].map(|node| {
            let entry = cluster.engines[&node].table().get(VIP).unwrap();
            (entry.holder, entry.previous, entry.since)
        });
        assert_eq!(moves, [(Some(2), Some(1), Some(5)); 3]);
    }

    #[test]
    fn two_crashes_one_after_the_other_tickle_everybody() {
        let mut cluster = Cluster::new(&[1, 2, 3]);
        cluster.hold(1);
        cluster.listed(1, &[1, 2, 3]);
        cluster.leave(1);
        cluster.hold(2);
        assert_eq!(cluster.tickled(2), [1, 2, 3].into());
        cluster.listed(2, &[3, 4]);
        cluster.leave(2);
        cluster.hold(3);
        assert_eq!(cluster.tickled(3), [1, 2, 3, 4].into());
    }

    #[test]
    fn one_who_joins_gets_everything_whoever_holds_it() {
        let mut cluster = Cluster::new(&[1, 2]);
        cluster.hold(2);
        let many: Vec<u16> = (1..=2500).collect();
        cluster.listed(2, &many);
        cluster.join(3);
        assert_eq!((cluster.clients(3), cluster.holder(3)), (2500, Some(2)));
        cluster.leave(2);
        cluster.join(4);
        assert_eq!((cluster.clients(4), cluster.holder(4)), (2500, None));
        cluster.hold(4);
        assert_eq!(cluster.tickled(4).len(), 2500);
    }

    #[test]
    fn a_restarted_daemon_learns_from_the_others_that_it_holds_an_address() {
        let mut cluster = Cluster::new(&[1, 2, 3]);
        cluster.hold(1);
        cluster.listed(1, &[1, 2]);
        cluster.leave(1);
        assert_eq!(cluster.holder(2), None);
        cluster.join(1);
        assert_eq!([1, 2, 3].map(|node| cluster.holder(node)), [Some(1); 3]);
        cluster.listed(1, &[2, 3]);
        assert!(cluster.tickled(1).contains(&1), "not known to be well");
        assert!(!cluster.tickled(1).contains(&2), "well");
    }

    #[test]
    fn so_does_one_whose_address_has_no_clients() {
        let mut cluster = Cluster::new(&[1, 2]);
        cluster.hold(1);
        cluster.leave(1);
        cluster.join(1);
        assert_eq!([1, 2].map(|node| cluster.holder(node)), [Some(1); 2]);
    }

    #[test]
    fn a_release_answers_once_the_others_know_the_last_connections() {
        let mut cluster = Cluster::new(&[1, 2]);
        cluster.hold(1);
        cluster.listed(1, &[1]);
        cluster.wanted.clear();
        cluster.release(1, &connections(&[1, 2]));
        assert_eq!((cluster.clients(2), cluster.holder(2)), (2, None));
        let ticket = Some(Ticket(cluster.tickets));
        assert!(
            cluster
                .wanted
                .contains(&(1, Output::Sweep { vip: VIP, ticket }))
        );
        cluster.hold(2);
        assert_eq!(cluster.tickled(2), [1, 2].into());
    }

    #[test]
    fn an_address_that_is_taken_again_during_its_release_is_held() {
        let mut cluster = Cluster::new(&[1, 2]);
        cluster.hold(1);
        let now = cluster.now;
        let engine = cluster.engine(1);
        engine.release(VIP, Ticket(7), now);
        engine.final_list(VIP, &connections(&[1]), now);
        engine.hold(VIP, Ticket(8), 5, now);
        cluster.settle();
        assert_eq!([1, 2].map(|node| cluster.holder(node)), [Some(1); 2]);
        cluster.listed(1, &[1, 2]);
        assert_eq!(cluster.clients(2), 2);
    }

    #[test]
    fn an_address_that_is_released_twice_during_one_release_is_not_held() {
        let mut cluster = Cluster::new(&[1, 2]);
        cluster.hold(1);
        let now = cluster.now;
        let engine = cluster.engine(1);
        engine.release(VIP, Ticket(7), now);
        engine.final_list(VIP, &connections(&[1]), now);
        engine.hold(VIP, Ticket(8), 5, now);
        engine.release(VIP, Ticket(9), now);
        cluster.settle();
        assert_eq!([1, 2].map(|node| cluster.holder(node)), [None; 2]);
        for ticket in [7, 9] {
            let ticket = Some(Ticket(ticket));
            let swept = (1, Output::Sweep { vip: VIP, ticket });
            assert!(cluster.wanted.contains(&swept), "{ticket:?}");
        }
    }

    #[test]
    fn a_release_does_not_wait_for_a_group_that_is_gone_or_stuck() {
        for gone in [true, false] {
            let mut cluster = Cluster::new(&[1, 2]);
            cluster.hold(1);
            let now = cluster.now;
            let engine = cluster.engine(1);
            engine.release(VIP, Ticket(9), now);
            engine.final_list(VIP, &connections(&[]), now);
            let sweep = Output::Sweep {
                vip: VIP,
                ticket: Some(Ticket(9)),
            };
            assert!(!engine.outputs().contains(&sweep));
            if gone {
                engine.disconnected(now);
            } else {
                engine.tick(now + RELEASE);
            }
            assert!(engine.outputs().contains(&sweep));
        }
    }

    #[test]
    fn alone_an_address_is_held_and_known() {
        let now = Instant::now();
        let mut engine = Engine::default();
        engine.hold(VIP, Ticket(1), 5, now);
        engine.listed(VIP, &connections(&[1, 2]));
        assert_eq!(engine.table().get(VIP).unwrap().clients(), 2);
        assert_eq!(
            engine.outputs(),
            [Output::Answer(Ticket(1), Answer::Held {})]
        );
    }

    #[test]
    fn sockets_do_not_survive_on_a_node_that_lost_the_address_without_a_word() {
        let mut cluster = Cluster::new(&[1, 2]);
        cluster.hold(1);
        cluster.addresses.clear();
        cluster.wanted.clear();
        cluster.hold(2);
        assert!(cluster.wanted.contains(&(
            1,
            Output::Sweep {
                vip: VIP,
                ticket: None
            }
        )));
        assert!(cluster.engine(1).watched().is_empty());
    }

    #[test]
    fn only_the_holder_is_believed() {
        let mut cluster = Cluster::new(&[1, 2, 3]);
        cluster.hold(1);
        cluster.listed(1, &[1]);
        let forged = message::changes(VIP, &connections(&[7]).into_iter().collect::<Vec<_>>(), &[]);
        let now = cluster.now;
        cluster.engine(3).delivered(2, &forged[0], now);
        assert_eq!(cluster.clients(3), 1);
    }

    #[test]
    fn a_release_before_the_hold_came_back_leaves_nobody_holding() {
        let mut cluster = Cluster::new(&[1, 2]);
        let now = cluster.now;
        cluster.engine(1).hold(VIP, Ticket(1), 5, now);
        cluster.engine(1).release(VIP, Ticket(2), now);
        cluster.settle();
        assert_eq!([1, 2].map(|node| cluster.holder(node)), [None; 2]);
    }

    #[test]
    fn a_copy_is_one_that_stays() {
        let mut cluster = Cluster::new(&[1, 2]);
        cluster.hold(1);
        let now = cluster.now;
        let engine = cluster.engine(2);
        let copies = |engine: &Engine| engine.astray(VIP).collect::<Vec<_>>();
        let (with, without) = ([VIP].into(), BTreeSet::new());
        for (node, addresses, expected) in [
            (1, &with, &[][..]),
            (2, &with, &[]),
            (1, &with, &[]),
            (2, &with, &[2]),
            (1, &without, &[2]),
            (2, &without, &[]),
            (2, &with, &[]),
        ] {
            engine.heard(node, addresses, now);
            assert_eq!(copies(engine), expected, "{node} has {addresses:?}");
        }
        // Its holder defends it, and the other does not.
        for (node, expected) in [(1, vec![Output::Announce(VIP); 2]), (2, vec![])] {
            let engine = cluster.engine(node);
            engine.outputs();
            for addresses in [&with, &with, &without, &without] {
                engine.heard(2, addresses, now);
            }
            assert_eq!(engine.outputs(), expected, "node {node}");
        }
        let engine = cluster.engine(2);
        engine.heard(2, &with, now);
        // The one with the copy takes over, and nobody is wrong any more.
        engine.heard(2, &with, now);
        cluster.hold(2);
        assert!(copies(cluster.engine(2)).is_empty());
    }
}
