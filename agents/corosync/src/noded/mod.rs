//! `storhaug-noded`: what the nodes must know of each other within
//! milliseconds, without the shared file system and without Pacemaker.
//!
//! It learns the TCP connections of the virtual addresses on this node
//! ([`arrivals`], [`sockets`]), tells the other nodes ([`group`], [`message`],
//! [`table`]), makes the clients of an address that has moved here reconnect at
//! once ([`tickle`], [`packet`], [`answers`]), notes why it moved ([`cause`]), and
//! destroys the sockets to a node that is
//! known to be dead ([`peers`], [`vigil`]), ahead of what else a node does then
//! ([`priority`]). The agents ask it through a Unix
//! socket ([`door`]). What is done about all that happens is decided in
//! [`engine`], and carried out here, on one thread.

pub mod answers;
pub mod arrivals;
pub mod cause;
pub mod connection;
pub mod door;
pub mod engine;
pub mod group;
pub mod message;
pub mod packet;
pub mod peers;
pub mod priority;
pub mod sockets;
pub mod table;
pub mod tickle;
pub mod vigil;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::convert::Infallible;
use std::net::IpAddr;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use nix::sys::signal::{SigSet, Signal};
use storhaug_agents::addresses::{Address, Network};
use storhaug_agents::announce::announce_on;
use storhaug_agents::daemon::{
    Answer, Known, Moved, Node, Question, Reason, Reset, Status, Tickled, Vip,
};

use self::arrivals::{Arrivals, Counters};
use self::connection::Connection;
use self::engine::{Engine, Output, Ticket};
use self::group::{Event, Group};
use self::message::{Heard, Said};
use self::peers::{Nearness, Peers};
use self::sockets::{End, Kernel, States};
use self::tickle::Progress;
use crate::lost::Gone;

/// How often the kernel is asked whether there are new connections, which takes
/// it some microseconds.
const LOOK: Duration = Duration::from_millis(20);

/// How long the listing of connections pauses for each unit of time that it
/// takes: a host to which connections come all the time spends a tenth of a core.
const PAUSE: u32 = 10;

/// How long it pauses at the least for each: it goes before whatever else a
/// processor has to do ([`priority`]), and takes no more than a third of it. A
/// list that takes 45 ms or more makes new connections known later for this.
const SHORTEST: u32 = 2;

/// How long after it was established a connection is on a list, at most: it may
/// just have been missed by one, and then waits for the pause and for all of the
/// next. With tens of thousands of connections this makes pauses shorter. The
/// other nodes shall know of it within 250 ms.
const LISTED: Duration = Duration::from_millis(180);

/// How soon connections that were closed leave the table.
const CLOSED: Duration = Duration::from_secs(1);

/// How often connections are listed though nothing seems to have changed.
const REPAIR: Duration = Duration::from_secs(10);

/// How often the daemon looks at the clock when nothing happens.
const IDLE: Duration = Duration::from_secs(1);

/// How often the other nodes are told that this one is there.
const PRESENCE: Duration = Duration::from_secs(1);

/// How many resets of dead nodes' sockets are remembered for the status.
const RESETS: usize = 32;

/// Something happened.
#[derive(Debug)]
enum Happened {
    Corosync(Event),
    Asked(Question, SyncSender<Answer>),
    Tickled {
        vip: IpAddr,
        ticket: Ticket,
        progress: anyhow::Result<Progress>,
    },
    Explained(IpAddr, Reason),
    Gone(u32, Gone),
    Stopped,
}

/// Listens at `socket` and runs until SIGTERM or SIGINT. To be called before any thread is started.
///
/// # Errors
/// The kernel cannot be asked, or another daemon runs already. That Corosync
/// cannot be reached is no error.
pub fn run(socket: &Path) -> anyhow::Result<()> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    signals.thread_block()?;

    let (sender, happened) = channel();
    let mut daemon = Daemon::new(sender.clone())?;
    let sink = sender.clone();
    door::open(socket, move |question, reply| {
        let _ = sink.send(Happened::Asked(question, reply));
    })?;
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            let _ = signals.wait();
            let _ = sender.send(Happened::Stopped);
        })?;
    tracing::info!("listening at {}", socket.display());
    priority::raise();
    daemon.serve(&happened);
    tracing::info!("stopping");
    drop(daemon);
    std::fs::remove_file(socket).with_context(|| format!("removing {}", socket.display()))
}

struct Daemon {
    engine: Engine,
    peers: Peers,
    group: Group,
    /// Is told which nodes are missing.
    vigil: Sender<Vec<u32>>,
    /// Is told which addresses have left this node.
    cause: Sender<(IpAddr, u32)>,
    reset_dead_peers: bool,
    /// The kinds of messages that were heard and are not known.
    unknown: BTreeSet<u8>,
    kernel: Kernel,
    watch: Watch,
    happened: Sender<Happened>,
    me: Option<u32>,
    replies: BTreeMap<Ticket, SyncSender<Answer>>,
    tickets: u64,
    /// The rounds of tickles under way: dropped, they end.
    tickling: BTreeMap<IpAddr, Sender<Infallible>>,
    tickled: BTreeMap<IpAddr, Tickled>,
    /// When the others were last told that this node is there.
    present: Option<Instant>,
    resets: VecDeque<Reset>,
}

impl Daemon {
    fn new(happened: Sender<Happened>) -> anyhow::Result<Self> {
        let sink = happened.clone();
        let vigil = vigil::start(move |node, gone| {
            let _ = sink.send(Happened::Gone(node, gone));
        })?;
        let sink = happened.clone();
        let cause = cause::start(move |vip, reason| {
            let _ = sink.send(Happened::Explained(vip, reason));
        })?;
        let sink = happened.clone();
        let group = Group::start(move |event| {
            let _ = sink.send(Happened::Corosync(event));
        })?;
        Ok(Self {
            engine: Engine::default(),
            peers: Peers::default(),
            group,
            vigil,
            cause,
            reset_dead_peers: true,
            unknown: BTreeSet::new(),
            kernel: Kernel::open()?,
            watch: Watch::new()?,
            happened,
            me: None,
            replies: BTreeMap::new(),
            tickets: 0,
            tickling: BTreeMap::new(),
            tickled: BTreeMap::new(),
            present: None,
            resets: VecDeque::new(),
        })
    }

    fn serve(&mut self, happened: &Receiver<Happened>) {
        loop {
            let pause = if self.engine.watched().is_empty() {
                IDLE
            } else {
                self.watch.pause(Instant::now())
            };
            match happened.recv_timeout(pause) {
                Ok(Happened::Stopped) | Err(RecvTimeoutError::Disconnected) => return,
                Ok(happened) => self.handle(happened),
                Err(RecvTimeoutError::Timeout) => {}
            }
            self.engine.tick(Instant::now());
            self.learn();
            self.carry_out();
            self.be_present();
        }
    }

    fn handle(&mut self, happened: Happened) {
        let now = Instant::now();
        match happened {
            Happened::Corosync(event) => self.corosync(event, now),
            Happened::Asked(question, reply) => {
                self.tickets += 1;
                let ticket = Ticket(self.tickets);
                self.replies.insert(ticket, reply);
                self.asked(question, ticket, now);
            }
            Happened::Tickled {
                vip,
                ticket,
                progress,
            } => self.tickled(vip, ticket, progress),
            Happened::Explained(vip, reason) => self.engine.explained(vip, reason, now),
            Happened::Gone(node, Gone::Fenced) => {
                self.engine.fenced(node);
                if self.reset_dead_peers {
                    self.bury(node);
                } else {
                    self.peers.spare(node);
                }
            }
            Happened::Gone(node, Gone::Left) => {
                tracing::info!("node {node} left in good order");
                self.peers.settled(node);
            }
            Happened::Stopped => {}
        }
    }

    fn corosync(&mut self, event: Event, now: Instant) {
        match event {
            Event::Connected { me } => {
                tracing::info!("connected to Corosync as node {me}");
                self.me = Some(me);
                self.engine.connected(me, now);
            }
            Event::Disconnected { reason } => {
                if self.me.take().is_some() {
                    tracing::warn!("Corosync is gone: {reason}");
                    self.peers.members(false, &BTreeSet::new());
                    self.watch_over_the_missing();
                } else {
                    tracing::debug!("Corosync is not there: {reason}");
                }
                self.engine.disconnected(now);
            }
            Event::Members {
                members,
                joined,
                left,
            } => {
                tracing::info!("the group is {members:?}, joined {joined:?}, left {left:?}");
                if !joined.is_empty() {
                    self.present = None;
                }
                self.engine.members_changed(members, &joined, &left, now);
            }
            Event::Delivered { from, bytes } => match Said::decode(&bytes) {
                Ok(Heard::Said(Said::Message(message))) => {
                    self.engine.delivered(from, &message, now);
                }
                Ok(Heard::Said(Said::Presence(addresses))) => {
                    self.engine.heard(from, &addresses, now);
                    self.peers.told(from, addresses);
                }
                Ok(Heard::Unknown(kind)) => {
                    if self.unknown.insert(kind) {
                        tracing::debug!("node {from} says something of kind {kind}, unknown here");
                    }
                }
                Err(error) => tracing::warn!("reading a message of node {from}: {error:#}"),
            },
            Event::Quorum { quorate, members } => {
                tracing::info!("the cluster is {members:?}, quorate: {quorate}");
                self.peers.members(quorate, &members);
                self.watch_over_the_missing();
            }
            Event::Node {
                id,
                name,
                addresses,
            } => self.peers.learn(id, name, addresses),
        }
    }

    fn asked(&mut self, question: Question, ticket: Ticket, now: Instant) {
        match question {
            Question::Hold { vip } => self.hold(vip.to_canonical(), ticket, now),
            Question::Tickle { vip, nic } => self.engine.tickle(vip.to_canonical(), nic, ticket),
            Question::Release { vip } => self.engine.release(vip.to_canonical(), ticket, now),
            Question::Known { vip } => {
                let entry = self.engine.table().get(vip.to_canonical());
                let holder = entry
                    .and_then(|entry| entry.holder)
                    .filter(|node| *node != 0);
                let known = Known {
                    clients: entry.map_or(0, |entry| entry.clients()),
                    holder: holder.map(|node| self.peers.node(node)),
                    also_on: self.also_on(vip),
                };
                self.answer(ticket, Answer::Known(known));
            }
            Question::Clients { port } => {
                let vips = self.engine.table().iter();
                let vips = vips.map(|(vip, entry)| (*vip, entry.clients_at(port)));
                let vips = vips.collect();
                self.answer(ticket, Answer::Clients { vips });
            }
            Question::Configure { reset_dead_peers } => {
                self.reset_dead_peers = reset_dead_peers;
                if reset_dead_peers {
                    let spared = self.peers.no_longer_spared().into_iter();
                    spared.for_each(|node| self.bury(node));
                }
                self.answer(ticket, Answer::Configured {});
            }
            Question::Status {} => {
                let status = self.status();
                self.answer(ticket, Answer::Status(Box::new(status)));
            }
        }
    }

    /// The agent says that this node has the address. It is looked at, because
    /// a monitor may say so that was overtaken by the stop, and by the start on
    /// another node.
    fn hold(&mut self, vip: IpAddr, ticket: Ticket, now: Instant) {
        let reason = match here(vip) {
            Ok(true) => return self.engine.hold(vip, ticket, wall(), now),
            Ok(false) => format!("{vip} is not on this node"),
            Err(error) => format!("looking for {vip}: {error:#}"),
        };
        self.answer(ticket, Answer::Refused { reason });
    }

    fn watch_over_the_missing(&self) {
        // The thread lives as long as this.
        let _ = self.vigil.send(self.peers.missing());
    }

    fn answer(&mut self, ticket: Ticket, answer: Answer) {
        if let Some(reply) = self.replies.remove(&ticket) {
            // Whoever asked may have gone.
            let _ = reply.try_send(answer);
        }
    }

    /// Does what the engine wants, until it wants nothing more.
    fn carry_out(&mut self) {
        loop {
            let outputs = self.engine.outputs();
            if outputs.is_empty() {
                return;
            }
            for output in outputs {
                self.carry_out_one(output);
            }
        }
    }

    fn carry_out_one(&mut self, output: Output) {
        match output {
            Output::Send(message) => self.group.send(message.encode()),
            Output::Announce(vip) => {
                if let Err(error) = announce(vip) {
                    tracing::warn!("announcing {vip}: {error:#}");
                }
            }
            Output::Explain(vip) => {
                if let Some(me) = self.me {
                    // The thread lives as long as this.
                    let _ = self.cause.send((vip, me));
                }
            }
            Output::Answer(ticket, answer) => self.answer(ticket, answer),
            Output::Tickle {
                ticket,
                vip,
                nic,
                clients,
            } => self.tickle(ticket, vip, nic, clients),
            Output::Hush(vip) => drop(self.tickling.remove(&vip)),
            Output::ListFinally(vip) => {
                let connections = match list(&mut self.kernel, &[vip]) {
                    Ok(mut lists) => lists.remove(&vip).unwrap_or_default(),
                    Err(error) => {
                        tracing::warn!("listing the last connections of {vip}: {error:#}");
                        let entry = self.engine.table().get(vip);
                        entry
                            .map(|entry| entry.live().into_iter().collect())
                            .unwrap_or_default()
                    }
                };
                self.engine.final_list(vip, &connections, Instant::now());
            }
            Output::Look(vip) => match here(vip) {
                Ok(here) => self.engine.looked(vip, here, wall(), Instant::now()),
                Err(error) => tracing::warn!("looking for {vip}: {error:#}"),
            },
            Output::Sweep { vip, ticket } => {
                let answer = match self.sweep(vip) {
                    Ok(sockets) => Answer::Released { sockets },
                    Err(error) => Answer::Refused {
                        reason: format!("{error:#}"),
                    },
                };
                if let Answer::Refused { reason } = &answer {
                    tracing::warn!("{reason}");
                }
                if let Some(ticket) = ticket {
                    self.answer(ticket, answer);
                }
            }
        }
    }

    /// Destroys the sockets of an address that this node does not have.
    fn sweep(&mut self, vip: IpAddr) -> anyhow::Result<usize> {
        let context = || format!("destroying the sockets of {vip}");
        if here(vip).with_context(context)? {
            anyhow::bail!("{vip} is still on this node: its sockets are left alone");
        }
        let sockets = self
            .kernel
            .sweep(End::Local, &[vip])
            .with_context(context)?;
        if sockets > 0 {
            tracing::info!("{vip}: {sockets} sockets destroyed");
        }
        Ok(sockets)
    }

    fn tickle(&mut self, ticket: Ticket, vip: IpAddr, nic: String, clients: Vec<Connection>) {
        let (running, cancelled) = channel();
        // Ends the rounds that are under way, if the address was here before.
        self.tickling.insert(vip, running);
        self.tickled.insert(
            vip,
            Tickled {
                at: wall(),
                clients: clients.len(),
                answered: None,
                packets: 0,
                first_round_us: 0,
            },
        );
        let happened = self.happened.clone();
        let rounds = move || {
            priority::raise();
            tickle::rounds(vip, &nic, &clients, &cancelled, |progress| {
                let _ = happened.send(Happened::Tickled {
                    vip,
                    ticket,
                    progress,
                });
            });
        };
        if let Err(error) = std::thread::Builder::new()
            .name("tickle".into())
            .spawn(rounds)
        {
            let reason = format!("tickling the clients of {vip}: {error}");
            self.answer(ticket, Answer::Refused { reason });
        }
    }

    fn tickled(&mut self, vip: IpAddr, ticket: Ticket, progress: anyhow::Result<Progress>) {
        let Some(tickled) = self.tickled.get_mut(&vip) else {
            return;
        };
        let clients = tickled.clients;
        match progress {
            Ok(Progress::Sent(round)) => {
                tickled.packets += round.packets;
                if round.number == 0 {
                    tickled.first_round_us =
                        u64::try_from(round.took.as_micros()).unwrap_or(u64::MAX);
                }
                tracing::info!(
                    "{vip}: round {} of tickles: {} packets in {:?}, {} not sent",
                    round.number + 1,
                    round.packets,
                    round.took,
                    round.unsent,
                );
                let tickled = tickled.clone();
                self.engine.tickled(vip, tickled, Instant::now());
                self.answer(ticket, Answer::Tickled { clients });
            }
            Ok(Progress::Answered(answered)) => {
                tickled.answered = answered;
                if let Some(answered) = answered {
                    tracing::info!("{vip}: {answered} of {clients} clients have answered");
                }
                let tickled = tickled.clone();
                self.engine.tickled(vip, tickled, Instant::now());
            }
            Err(error) => {
                let reason = format!("tickling the clients of {vip}: {error:#}");
                tracing::warn!("{reason}");
                self.answer(ticket, Answer::Refused { reason });
            }
        }
    }

    /// Tells the others, every second, that this node is there, and which
    /// addresses it has.
    fn be_present(&mut self) {
        let now = Instant::now();
        let told = |at: Instant| now.duration_since(at) < PRESENCE;
        if self.engine.members().is_empty() || self.present.is_some_and(told) {
            return;
        }
        self.present = Some(now);
        match own_addresses() {
            Ok(mut own) => {
                own.retain(is_global);
                self.group.send(Said::Presence(own).encode());
            }
            Err(error) => tracing::warn!("{error:#}"),
        }
    }

    /// A node is dead: destroys the sockets to it.
    fn bury(&mut self, node: u32) {
        let own = Network::open().and_then(|mut network| network.addresses());
        let sockets = own.and_then(|own| {
            let vips = self.engine.table().iter().map(|(vip, _)| *vip).collect();
            let addresses = self
                .peers
                .dead(node, |address| nearness(address, &own), &vips);
            if addresses.is_empty() {
                return Ok(None);
            }
            tracing::info!("node {node} is dead: destroying the sockets to {addresses:?}");
            self.kernel.sweep(End::Remote, &addresses).map(Some)
        });
        match sockets {
            Ok(Some(sockets)) => {
                tracing::info!("{sockets} sockets to node {node} destroyed");
                self.resets.truncate(RESETS - 1);
                let node = self.peers.node(node);
                self.resets.push_front(Reset {
                    node,
                    at: wall(),
                    sockets,
                });
            }
            Ok(None) => tracing::info!("node {node} is dead, and nothing is to be done about it"),
            Err(error) => tracing::warn!("destroying the sockets to node {node}: {error:#}"),
        }
    }

    /// Lists the connections, if it is time to.
    fn learn(&mut self) {
        let watched = self.engine.watched();
        if !self.watch.due(&watched, Instant::now()) {
            return;
        }
        let began = Instant::now();
        match list(&mut self.kernel, &watched) {
            Ok(lists) => {
                for (vip, connections) in lists {
                    self.engine.listed(vip, &connections);
                }
            }
            Err(error) => tracing::warn!("listing connections: {error:#}"),
        }
        self.watch.listed(watched, began, began.elapsed());
    }

    /// The other nodes that have an address as well.
    fn also_on(&self, vip: IpAddr) -> Vec<Node> {
        let nodes = self.engine.astray(vip);
        nodes.map(|node| self.peers.node(node)).collect()
    }

    fn status(&self) -> Status {
        let node = |id: Option<u32>| id.filter(|id| *id != 0).map(|id| self.peers.node(id));
        let vips = self.engine.table().iter().map(|(address, entry)| Vip {
            address: *address,
            holder: node(entry.holder),
            also_on: self.also_on(*address),
            since: entry.since,
            previous: node(entry.previous),
            clients: entry.clients(),
            moved: entry
                .moved
                .filter(|moved| moved.from != 0)
                .map(|moved| Moved {
                    from: self.peers.node(moved.from),
                    to: self.peers.node(moved.to),
                    at: moved.at,
                    away_ms: moved.away_ms,
                    reason: moved.reason,
                }),
            tickled: entry.tickled.clone(),
        });
        Status {
            node: node(self.me),
            group: self
                .engine
                .members()
                .iter()
                .map(|id| self.peers.node(*id))
                .collect(),
            quorate: self.peers.quorate(),
            reset_dead_peers: self.reset_dead_peers,
            vips: vips.collect(),
            resets: self.resets.iter().rev().cloned().collect(),
        }
    }
}

/// When to list the connections.
struct Watch {
    arrivals: Arrivals,
    /// What the counters said when it was last looked.
    seen: Counters,
    /// The addresses that were last listed.
    listed: Vec<IpAddr>,
    /// Connections have come since the last list.
    new: bool,
    /// One may have been counted but not established yet when that was taken.
    confirm: bool,
    /// When the last list was begun.
    last: Instant,
    /// Not before then, however new.
    rest: Instant,
}

impl Watch {
    fn new() -> anyhow::Result<Self> {
        let arrivals = Arrivals::open()?;
        let (seen, now) = (arrivals.read()?, Instant::now());
        let listed = Vec::new();
        Ok(Self {
            arrivals,
            seen,
            listed,
            new: false,
            confirm: false,
            last: now,
            rest: now,
        })
    }

    /// How long there is nothing to be looked for.
    fn pause(&self, now: Instant) -> Duration {
        let rest = self.rest.saturating_duration_since(now);
        if rest.is_zero() { LOOK } else { rest }
    }

    /// Whether the connections of these addresses are to be listed now.
    fn due(&mut self, vips: &[IpAddr], now: Instant) -> bool {
        if vips.is_empty() || now < self.rest {
            return false;
        }
        let age = now.duration_since(self.last);
        match self.arrivals.read() {
            Ok(counters) => {
                if counters.opened != self.seen.opened {
                    self.new = true;
                    self.confirm = true;
                }
                self.seen.opened = counters.opened;
                // Otherwise it is seen again later.
                if counters.established >= self.seen.established || age >= CLOSED {
                    self.new |= counters.established < self.seen.established;
                    self.seen.established = counters.established;
                }
            }
            Err(error) => {
                tracing::warn!("{error:#}");
                self.new = true;
            }
        }
        self.new || self.listed != vips || age >= REPAIR
    }

    fn listed(&mut self, vips: Vec<IpAddr>, began: Instant, took: Duration) {
        self.listed = vips;
        self.new = std::mem::take(&mut self.confirm);
        self.last = began;
        self.rest = Instant::now() + rest(took);
    }
}

/// How long the listing pauses after a list that took so long.
fn rest(took: Duration) -> Duration {
    (took * PAUSE)
        .min(LISTED.saturating_sub(took * 2))
        .max(took * SHORTEST)
}

/// The established connections of each of `vips`, by address.
fn list(
    kernel: &mut Kernel,
    vips: &[IpAddr],
) -> anyhow::Result<BTreeMap<IpAddr, BTreeSet<Connection>>> {
    let mut lists: BTreeMap<IpAddr, Vec<Connection>> =
        vips.iter().map(|vip| (*vip, Vec::new())).collect();
    kernel.list(End::Local, vips, States::Established, |socket| {
        if let Some(list) = lists.get_mut(&socket.local) {
            list.push(Connection {
                client: socket.remote,
                client_port: socket.remote_port,
                server_port: socket.local_port,
            });
        }
    })?;
    Ok(lists
        .into_iter()
        .map(|(vip, list)| (vip, list.into_iter().collect()))
        .collect())
}

/// The addresses of this host.
fn own_addresses() -> anyhow::Result<BTreeSet<IpAddr>> {
    let interfaces = nix::ifaddrs::getifaddrs().context("listing this node's addresses")?;
    let address = |address: nix::sys::socket::SockaddrStorage| {
        let v4 = address.as_sockaddr_in().map(|address| address.ip().into());
        v4.or_else(|| address.as_sockaddr_in6().map(|address| address.ip().into()))
    };
    Ok(interfaces
        .filter_map(|interface| interface.address.and_then(address))
        .collect())
}

/// Others may have sockets to it that mean this host.
fn is_global(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !address.is_loopback() && !address.is_link_local(),
        IpAddr::V6(address) => !address.is_loopback() && !address.is_unicast_link_local(),
    }
}

/// Where an address is, as seen from a host with the addresses `own`.
fn nearness(address: IpAddr, own: &[Address]) -> Nearness {
    if own.iter().any(|own| own.ip == address) {
        Nearness::Own
    } else if own.iter().any(|own| own.network_contains(address)) {
        Nearness::Neighbour
    } else {
        Nearness::Elsewhere
    }
}

/// Announces an address once, wherever it is on this host.
fn announce(vip: IpAddr) -> anyhow::Result<()> {
    let mut network = Network::open()?;
    for address in network.holding(vip)? {
        if let Some(link) = network.link(address.index)? {
            announce_on(&link, vip)?;
        }
    }
    Ok(())
}

fn here(vip: IpAddr) -> anyhow::Result<bool> {
    Ok(own_addresses()?.contains(&vip))
}

/// Milliseconds since 1970.
fn wall() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listing_rests_long_enough_and_not_too_long() {
        let ms = Duration::from_millis;
        for (took, expected) in [
            (0, 0),
            (2, 20),
            (12, 120),
            (30, 120),
            (36, 108),
            (50, 100),
            (100, 200),
        ] {
            assert_eq!(rest(ms(took)), ms(expected), "{took} ms");
        }
    }
}
