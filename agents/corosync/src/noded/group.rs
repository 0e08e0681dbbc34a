//! The group of all daemons, Corosync's quorum and its list of nodes.
//!
//! Everything that Corosync says arrives on one thread, which does nothing but
//! read it and pass it on: who is slow here is cut off by Corosync's flow
//! control. Messages are delivered to every member, the sender included, in one
//! order that is the same everywhere.
//!
//! When Corosync is gone the thread tries to reach it again for ever, at most
//! every two seconds: if it stays away, Pacemaker, which stopped with it, stops
//! this daemon.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use rust_corosync::{CsError, DispatchFlags, NodeId, TrackFlags, cmap, cpg, quorum};

use super::priority;

/// The name of the CPG group.
const NAME: &str = "storhaug-noded";

/// How many messages may wait for Corosync to take them. More, and the
/// connection is given up and everything said again on the next one.
const BACKLOG: usize = 8192;

/// How soon Corosync is asked again to take a message that it refused for now.
const REFUSED: Duration = Duration::from_millis(5);

/// The pauses between attempts to reach Corosync.
const AGAIN: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// What Corosync says.
#[derive(Debug)]
pub enum Event {
    /// It can be reached, and this is its number of this node.
    Connected { me: u32 },
    /// It cannot be reached any more.
    Disconnected { reason: String },
    /// The nodes in the group changed.
    Members {
        members: BTreeSet<u32>,
        joined: BTreeSet<u32>,
        left: BTreeMap<u32, Departure>,
    },
    /// A message.
    Delivered { from: u32, bytes: Vec<u8> },
    /// The nodes in the cluster, or whether they have quorum, changed.
    Quorum {
        quorate: bool,
        members: BTreeSet<u32>,
    },
    /// A node, its name and the addresses of its links, as far as known.
    Node {
        id: u32,
        name: String,
        addresses: BTreeSet<IpAddr>,
    },
}

/// How a member left the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Departure {
    /// Corosync lost its node.
    Node,
    /// Its daemon stopped, and the node is still there.
    Daemon,
}

/// The connection to Corosync, which lives until this is dropped.
#[derive(Debug)]
pub struct Group {
    outgoing: Option<Sender<Vec<u8>>>,
    wake: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
}

/// Takes what Corosync says.
type Sink = Box<dyn Fn(Event)>;

thread_local! {
    /// Where the callbacks, which are plain functions, pass things on to.
    static SINK: RefCell<Option<Sink>> = const { RefCell::new(None) };
}

impl Group {
    /// Starts the thread, which gives every event to `sink`.
    pub fn start(sink: impl Fn(Event) + Send + 'static) -> anyhow::Result<Self> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let wake = Arc::new(EventFd::from_value_and_flags(0, flags)?);
        let (outgoing, messages) = channel();
        let woken = Arc::clone(&wake);
        let thread = std::thread::Builder::new()
            .name("corosync".into())
            .spawn(move || {
                priority::raise();
                SINK.set(Some(Box::new(sink)));
                run(&messages, &woken);
            })?;
        Ok(Self {
            outgoing: Some(outgoing),
            wake,
            thread: Some(thread),
        })
    }

    /// Sends a message to every member; lost while Corosync cannot be reached.
    pub fn send(&self, message: Vec<u8>) {
        if let Some(outgoing) = &self.outgoing {
            // The thread ends only when this is dropped.
            let _ = outgoing.send(message);
            let _ = self.wake.write(1);
        }
    }
}

/// Leaves the group, so that the others see that it was on purpose.
impl Drop for Group {
    fn drop(&mut self) {
        self.outgoing = None;
        let _ = self.wake.write(1);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Whether the daemon is being stopped.
#[derive(PartialEq, Eq)]
enum Stopped {
    Yes,
    No,
}

fn run(messages: &Receiver<Vec<u8>>, wake: &EventFd) {
    let mut pause = AGAIN.0;
    loop {
        let reason = match Session::open() {
            Ok(mut session) => {
                pause = AGAIN.0;
                match session.serve(messages, wake) {
                    Ok(()) => return,
                    Err(error) => error,
                }
            }
            Err(error) => error,
        };
        tell(Event::Disconnected {
            reason: format!("{reason:#}"),
        });
        if wait(messages, wake, pause) == Stopped::Yes {
            return;
        }
        pause = AGAIN.1.min(pause * 2);
    }
}

/// Waits before the next attempt; messages that come meanwhile are lost.
fn wait(messages: &Receiver<Vec<u8>>, wake: &EventFd, pause: Duration) -> Stopped {
    let until = std::time::Instant::now() + pause;
    loop {
        if drain(messages, |_| ()) == Stopped::Yes {
            return Stopped::Yes;
        }
        let left = until.saturating_duration_since(std::time::Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        let mut fds = [PollFd::new(wake.as_fd(), PollFlags::POLLIN)];
        let _ = poll(&mut fds, timeout);
        let _ = wake.read();
        if left.is_zero() {
            return Stopped::No;
        }
    }
}

fn drain(messages: &Receiver<Vec<u8>>, mut each: impl FnMut(Vec<u8>)) -> Stopped {
    loop {
        match messages.try_recv() {
            Ok(message) => each(message),
            Err(TryRecvError::Empty) => return Stopped::No,
            Err(TryRecvError::Disconnected) => return Stopped::Yes,
        }
    }
}

fn tell(event: Event) {
    SINK.with_borrow(|sink| {
        if let Some(sink) = sink {
            sink(event);
        }
    });
}

/// One connection to each of Corosync's services.
struct Session {
    cpg: cpg::Handle,
    quorum: quorum::Handle,
    cmap: cmap::Handle,
    /// Messages that Corosync has not taken yet.
    waiting: VecDeque<Vec<u8>>,
    /// The members when the nodes' addresses were last read.
    known: BTreeSet<u32>,
}

thread_local! {
    /// The members that the quorum service told last.
    static MEMBERS: RefCell<BTreeSet<u32>> = const { RefCell::new(BTreeSet::new()) };
}

impl Session {
    fn open() -> anyhow::Result<Self> {
        let cmap = cmap::initialize(cmap::Map::Icmap).context("connecting to cmap")?;
        let model = quorum::ModelData::ModelV1(quorum::Model1Data {
            flags: quorum::Model1Flags::None,
            quorum_notification_fn: Some(quorum_changed),
            nodelist_notification_fn: None,
        });
        let (quorum, _) = quorum::initialize(&model, 0).context("connecting to quorum")?;
        let model = cpg::ModelData::ModelV1(cpg::Model1Data {
            flags: cpg::Model1Flags::None,
            deliver_fn: Some(delivered),
            confchg_fn: Some(members_changed),
            totem_confchg_fn: None,
        });
        let cpg = cpg::initialize(&model, 0).context("connecting to cpg")?;
        let me = cpg::local_get(&cpg).context("asking for this node's number")?;
        MEMBERS.set(BTreeSet::new());
        tell(Event::Connected { me: me.into() });
        quorum::trackstart(&quorum, TrackFlags::Changes).context("following quorum")?;
        cpg::join(&cpg, NAME).context("joining the group")?;
        let mut session = Self {
            cpg,
            quorum,
            cmap,
            waiting: VecDeque::new(),
            known: BTreeSet::new(),
        };
        session.tell_nodes()?;
        let quorate = quorum::getquorate(&session.quorum).context("asking for quorum")?;
        let members = session.members()?;
        tell(Event::Quorum { quorate, members });
        Ok(session)
    }

    /// Reads what Corosync says and sends what is to be sent, until the daemon
    /// is stopped.
    fn serve(&mut self, messages: &Receiver<Vec<u8>>, wake: &EventFd) -> anyhow::Result<()> {
        let cpg_fd = cpg::fd_get(&self.cpg).context("polling cpg")?;
        let quorum_fd = quorum::fd_get(&self.quorum).context("polling quorum")?;
        loop {
            let timeout = if self.waiting.is_empty() {
                PollTimeout::NONE
            } else {
                PollTimeout::try_from(REFUSED).unwrap_or(PollTimeout::MAX)
            };
            let mut fds = [
                PollFd::new(borrow(cpg_fd), PollFlags::POLLIN),
                PollFd::new(borrow(quorum_fd), PollFlags::POLLIN),
                PollFd::new(wake.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut fds, timeout) {
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(error) => return Err(error).context("polling"),
            }
            let ready = fds.map(|fd| fd.any().unwrap_or(false));
            let _ = wake.read();
            // First the message of a change, then what was sent after it.
            if ready[1] {
                settle(quorum::dispatch(&self.quorum, DispatchFlags::All)).context("quorum")?;
                self.tell_nodes()?;
            }
            if ready[0] {
                settle(cpg::dispatch(&self.cpg, DispatchFlags::All)).context("cpg")?;
            }
            let waiting = &mut self.waiting;
            if drain(messages, |message| waiting.push_back(message)) == Stopped::Yes {
                // Best effort: without it the others see the process end.
                let _ = cpg::leave(&self.cpg, NAME);
                return Ok(());
            }
            self.flush()?;
        }
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        while let Some(message) = self.waiting.front() {
            match cpg::mcast_joined(&self.cpg, cpg::Guarantee::TypeAgreed, message) {
                Ok(()) => drop(self.waiting.pop_front()),
                Err(CsError::CsErrTryAgain) if self.waiting.len() <= BACKLOG => return Ok(()),
                Err(CsError::CsErrTryAgain) => bail!("{BACKLOG} messages are waiting"),
                Err(error) => return Err(error).context("sending to the group"),
            }
        }
        Ok(())
    }

    /// The nodes that are members now, by Corosync's own list: the quorum
    /// service tells only of changes.
    fn members(&self) -> anyhow::Result<BTreeSet<u32>> {
        let mut members = BTreeSet::new();
        for (key, value) in entries(&self.cmap, "runtime.members.")? {
            let node = key
                .strip_suffix(".status")
                .and_then(|node| node.parse::<u32>().ok());
            members.extend(node.filter(|_| value == "joined"));
        }
        Ok(members)
    }

    /// Tells of the nodes' names and addresses, if the members have changed.
    fn tell_nodes(&mut self) -> anyhow::Result<()> {
        let members = MEMBERS.with_borrow(Clone::clone);
        if !self.known.is_empty() && members.is_subset(&self.known) {
            self.known = members;
            return Ok(());
        }
        self.known = members;
        let listed = entries(&self.cmap, "nodelist.node.")?;
        let runtime = entries(&self.cmap, "runtime.members.")?;
        for (id, (name, addresses)) in nodes(&listed, &runtime) {
            tell(Event::Node {
                id,
                name,
                addresses,
            });
        }
        Ok(())
    }
}

/// The keys below `prefix`, without it, and their values as text.
fn entries(cmap: &cmap::Handle, prefix: &str) -> anyhow::Result<Vec<(String, String)>> {
    let iteration = cmap::CmapIterStart::new(cmap, prefix)
        .with_context(|| format!("reading {prefix} from cmap"))?;
    let strip = |entry: cmap::CmapIter| {
        let value = match entry.data() {
            cmap::Data::String(text) => text.trim_end_matches('\0').to_owned(),
            cmap::Data::UInt32(number) => number.to_string(),
            _ => return None,
        };
        Some((entry.key_name().strip_prefix(prefix)?.to_owned(), value))
    };
    Ok(iteration.into_iter().filter_map(strip).collect())
}

/// Names and addresses of the nodes: from the configuration (`0.nodeid`,
/// `0.name`, `0.ring0_addr`) and, because an address there may be a name, from
/// what Corosync made of it (`1.ip` is `r(0) ip(10.0.0.1) r(1) ip(…)`).
fn nodes(
    listed: &[(String, String)],
    runtime: &[(String, String)],
) -> BTreeMap<u32, (String, BTreeSet<IpAddr>)> {
    let mut nodes: BTreeMap<u32, (String, BTreeSet<IpAddr>)> = BTreeMap::new();
    let identities = listed.iter().filter_map(|(key, value)| {
        Some((key.strip_suffix(".nodeid")?, value.parse::<u32>().ok()?))
    });
    for (place, id) in identities {
        let (name, addresses) = nodes.entry(id).or_default();
        for (key, value) in listed {
            let Some(key) = key
                .strip_prefix(place)
                .and_then(|key| key.strip_prefix('.'))
            else {
                continue;
            };
            if key == "name" {
                name.clone_from(value);
            } else if key.starts_with("ring") && key.ends_with("_addr") {
                addresses.extend(value.parse::<IpAddr>());
            }
        }
    }
    for (key, value) in runtime {
        if let Some(id) = key.strip_suffix(".ip").and_then(|id| id.parse().ok()) {
            let found = value
                .split("ip(")
                .skip(1)
                .filter_map(|rest| rest.split(')').next());
            nodes
                .entry(id)
                .or_default()
                .1
                .extend(found.filter_map(|ip| ip.parse::<IpAddr>().ok()));
        }
    }
    nodes
}

/// Corosync asks to be asked again where there is nothing to do.
fn settle(result: rust_corosync::Result<()>) -> anyhow::Result<()> {
    match result {
        Ok(()) | Err(CsError::CsErrTryAgain) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[expect(
    unsafe_code,
    reason = "libcpg and libquorum lend their descriptors as plain numbers"
)]
fn borrow(fd: i32) -> BorrowedFd<'static> {
    // SAFETY: it belongs to a handle of the session, which outlives its use.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

fn quorum_changed(_: &quorum::Handle, quorate: bool, _: quorum::RingId, members: Vec<NodeId>) {
    let members: BTreeSet<u32> = members.into_iter().map(u32::from).collect();
    MEMBERS.set(members.clone());
    tell(Event::Quorum { quorate, members });
}

fn delivered(_: &cpg::Handle, _: String, from: NodeId, _: u32, message: &[u8], _: usize) {
    tell(Event::Delivered {
        from: from.into(),
        bytes: message.to_vec(),
    });
}

fn members_changed(
    _: &cpg::Handle,
    _: &str,
    members: Vec<cpg::Address>,
    left: Vec<cpg::Address>,
    joined: Vec<cpg::Address>,
) {
    let nodes = |list: Vec<cpg::Address>| {
        list.into_iter()
            .map(|address| address.nodeid.into())
            .collect()
    };
    let departures = left.into_iter().map(|address| {
        let departure = match address.reason {
            cpg::Reason::NodeDown => Departure::Node,
            _ => Departure::Daemon,
        };
        (address.nodeid.into(), departure)
    });
    tell(Event::Members {
        left: departures.collect(),
        members: nodes(members),
        joined: nodes(joined),
    });
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    proptest! {
        #[test]
        fn no_keys_make_it_panic(
            listed in vec(("[0-2]?[.]?(nodeid|name|ring0_addr|x)?", "[0-9.:a-f]{0,12}"), 0..6),
            runtime in vec(("[0-9]{0,12}[.]?(ip)?", "(r[(]0[)] |ip[(]|10.0.0.1|[)]|\\PC){0,8}"), 0..4),
        ) {
            let _ = nodes(&listed, &runtime);
        }
    }

    #[test]
    fn names_and_addresses_come_from_both_places() {
        let pair = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
        let listed = [
            ("0.nodeid", "1"),
            ("0.name", "server1"),
            ("0.ring0_addr", "server1.example.com"),
            ("0.ring1_addr", "fd00::1"),
            ("10.nodeid", "2"),
            ("10.name", "server2"),
        ]
        .map(pair);
        let runtime = [
            ("1.ip", "r(0) ip(10.0.0.1) r(1) ip(fd00::1) "),
            ("1.status", "joined"),
            ("2.ip", "r(0) ip("),
            ("x.ip", "r(0) ip(10.0.0.9)"),
        ]
        .map(pair);
        let nodes = nodes(&listed, &runtime);
        let addresses = ["10.0.0.1", "fd00::1"].map(|ip| ip.parse().unwrap());
        assert_eq!(nodes[&1], ("server1".to_owned(), addresses.into()));
        assert_eq!(nodes[&2], ("server2".to_owned(), BTreeSet::new()));
        assert_eq!(nodes.len(), 2);
    }
}
