//! Sends tickles, in rounds.
//!
//! Three rounds at 0, 1.1 and 2.2 s, each after an announcement of its own.
//! Further apart than a second, because Linux ignores announcements that
//! follow closer; further apart than 500 ms, because a socket answers packets
//! that do not fit it no more often. A packet that was sent before the client
//! learnt where the address is now went to the old place, and the next round
//! makes up for it. The announcement is repeated for all others on the network.
//!
//! A client that has answered ([`super::answers`]) is reset by this host's
//! kernel, which may have been lost on the way. So in the next round it gets one
//! more packet, made of the numbers that it has told: as a keepalive probe does,
//! it makes a client that still has the connection answer again. One that resets
//! the connection itself, or says nothing more, is left in peace.

use std::collections::{BTreeMap, BTreeSet};
use std::io::IoSlice;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, MultiHeaders, SockFlag, SockProtocol, SockType, SockaddrIn,
    SockaddrIn6, SockaddrLike, bind, sendmmsg, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;
use storhaug_agents::announce::Announcer;

use super::answers::Answers;
use super::connection::Connection;
use super::{here, packet};

/// When each round begins, after the first.
const ROUNDS: [Duration; 3] = [
    Duration::ZERO,
    Duration::from_millis(1100),
    Duration::from_millis(2200),
];

/// How long answers are counted after the last round.
const LAST: Duration = Duration::from_secs(1);

/// How often answers are read while some are missing: often enough for a busy
/// server's traffic, which arrives with them, not to push them out.
const READ: Duration = Duration::from_millis(10);

/// How many packets are handed to the kernel with one call.
const BATCH: usize = 512;

/// The longest that one call may wait for a device that does not send.
const STALLED: TimeVal = TimeVal::new(0, 500_000);

/// What one round did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Round {
    /// Which one, from 0.
    pub number: usize,
    /// How many packets were sent.
    pub packets: usize,
    /// How many could not be sent, because there is no way to the client.
    pub unsent: usize,
    /// How long it took.
    pub took: Duration,
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// A round was sent.
    Sent(Round),
    /// So many clients have answered until now; none if nobody listens.
    Answered(Option<usize>),
}

/// Sends all rounds to `clients` of `vip`, which is up on `nic`, and reports
/// each, and after each who has answered. Ends early when the address is not on
/// this node any more, or when the other end of `cancelled` is dropped; the
/// first round is reported in any case.
pub fn rounds(
    vip: IpAddr,
    nic: &str,
    clients: &[Connection],
    cancelled: &Receiver<std::convert::Infallible>,
    mut report: impl FnMut(anyhow::Result<Progress>),
) {
    let began = Instant::now();
    let announcer = Announcer::open(nic, vip);
    let mut audience = Audience::new(vip, clients);
    for (number, start) in ROUNDS.into_iter().enumerate() {
        let pause = start.saturating_sub(began.elapsed());
        // Not before the first: somebody waits for what becomes of it.
        if number > 0 {
            let ended = audience.listen(pause, cancelled);
            report(Ok(Progress::Answered(audience.answered())));
            if ended {
                return;
            }
        }
        // An announcement of an address that has left takes it from its new
        // owner.
        match here(vip) {
            Ok(true) => {}
            Ok(false) => return report(Err(anyhow!("it is not on this node"))),
            Err(error) => return report(Err(error)),
        }
        let round = Instant::now();
        // Without an announcement some clients do not hear the tickle, with it
        // all do; either way most hear it in the end.
        let announced = match &announcer {
            Ok(announcer) => announcer.announce(),
            Err(error) => Err(anyhow::anyhow!("{error:#}")),
        };
        if let Err(error) = announced {
            tracing::warn!("announcing {vip} on {nic}: {error:#}");
        }
        let packets = audience.next();
        let sent = send(vip, packets, || audience.hear());
        report(sent.map(|(packets, unsent)| {
            Progress::Sent(Round {
                number,
                packets,
                unsent,
                took: round.elapsed(),
            })
        }));
    }
    audience.listen(LAST, cancelled);
    report(Ok(Progress::Answered(audience.answered())));
}

/// One packet to a client, and the numbers that are in it.
type Tickle = (Connection, (u32, u32));

/// The clients, and what they have answered.
struct Audience {
    /// Nobody listens any more once everybody has answered.
    answers: Option<Answers>,
    /// Whether anybody has listened.
    heard: bool,
    clients: usize,
    /// Those that have not answered.
    silent: BTreeSet<Connection>,
    /// Those that have, since the last round, without resetting the connection
    /// themselves, and their numbers.
    unsure: BTreeMap<Connection, (u32, u32)>,
}

impl Audience {
    fn new(vip: IpAddr, clients: &[Connection]) -> Self {
        // Without it every client is tickled in every round.
        let silent: BTreeSet<_> = clients.iter().copied().collect();
        let answers = match Answers::open(vip) {
            Ok(answers) => Some(answers),
            Err(error) => {
                tracing::warn!("listening for the answers of the clients of {vip}: {error:#}");
                None
            }
        };
        Self {
            heard: answers.is_some(),
            answers: answers.filter(|_| !silent.is_empty()),
            clients: silent.len(),
            silent,
            unsure: BTreeMap::new(),
        }
    }

    /// The packets of the next round.
    fn next(&mut self) -> impl Iterator<Item = Tickle> + use<> {
        // Of its own: answers are read while they are sent.
        let silent: Vec<Connection> = self.silent.iter().copied().collect();
        let unsure = std::mem::take(&mut self.unsure);
        let variants = |client| packet::VARIANTS.map(|numbers| (client, numbers));
        let probe = |(client, numbers)| (client, packet::probe(numbers));
        silent
            .into_iter()
            .flat_map(variants)
            .chain(unsure.into_iter().map(probe))
    }

    /// Takes note of what has arrived.
    fn hear(&mut self) {
        let Some(answers) = &self.answers else {
            return;
        };
        answers.take(|answer| {
            let client = answer.connection;
            let first = self.silent.remove(&client);
            match answer.numbers {
                Some(numbers) if first => drop(self.unsure.insert(client, numbers)),
                Some(_) => {}
                None => drop(self.unsure.remove(&client)),
            }
        });
        if self.silent.is_empty() {
            self.answers = None;
        }
    }

    /// Takes note of what arrives in this time; true if `cancelled` meanwhile.
    fn listen(&mut self, time: Duration, cancelled: &Receiver<std::convert::Infallible>) -> bool {
        let until = Instant::now() + time;
        loop {
            self.hear();
            let left = until.saturating_duration_since(Instant::now());
            let awaited = self.answers.is_some();
            let pause = if awaited { left.min(READ) } else { left };
            if cancelled.recv_timeout(pause) == Err(RecvTimeoutError::Disconnected) {
                return true;
            }
            if pause == left {
                self.hear();
                return false;
            }
        }
    }

    /// How many have answered.
    fn answered(&self) -> Option<usize> {
        self.heard.then(|| self.clients - self.silent.len())
    }
}

/// Sends the packets, and does something else `between` the batches. Returns how
/// many were sent, and how many were not.
fn send(
    vip: IpAddr,
    packets: impl Iterator<Item = Tickle>,
    between: impl FnMut(),
) -> anyhow::Result<(usize, usize)> {
    match vip {
        IpAddr::V4(vip) => {
            // Bound, so that a policy route from this address is followed.
            let fd = raw(AddressFamily::Inet)?;
            bind(fd.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(vip, 0)))
                .with_context(|| format!("binding to {vip}"))?;
            transmit(&fd, packets, between, |(connection, numbers): Tickle| {
                let client = ipv4(connection.client)?;
                let from = (vip, connection.server_port);
                let packet = packet::v4(from, (client, connection.client_port), numbers);
                Some((packet, SockaddrIn::from(SocketAddrV4::new(client, 0))))
            })
        }
        IpAddr::V6(vip) => {
            let fd = raw(AddressFamily::Inet6)?;
            bind(
                fd.as_raw_fd(),
                &SockaddrIn6::from(SocketAddrV6::new(vip, 0, 0, 0)),
            )
            .with_context(|| format!("binding to {vip}"))?;
            transmit(&fd, packets, between, |(connection, numbers): Tickle| {
                let client = ipv6(connection.client)?;
                let from = (vip, connection.server_port);
                let packet = packet::v6(from, (client, connection.client_port), numbers);
                Some((
                    packet,
                    SockaddrIn6::from(SocketAddrV6::new(client, 0, 0, 0)),
                ))
            })
        }
    }
}

fn ipv4(address: IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}

fn ipv6(address: IpAddr) -> Option<Ipv6Addr> {
    match address {
        IpAddr::V4(_) => None,
        IpAddr::V6(address) => Some(address),
    }
}

/// A socket that sends whole packets (`IPPROTO_RAW`, raw(7)).
fn raw(family: AddressFamily) -> anyhow::Result<OwnedFd> {
    let fd = socket(
        family,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::Raw,
    )
    .context("opening a raw socket")?;
    setsockopt(&fd, sockopt::SendTimeout, &STALLED)?;
    Ok(fd)
}

fn transmit<const N: usize, A: SockaddrLike + Copy>(
    fd: &OwnedFd,
    packets: impl Iterator<Item = Tickle>,
    mut between: impl FnMut(),
    build: impl Fn(Tickle) -> Option<([u8; N], A)>,
) -> anyhow::Result<(usize, usize)> {
    let (mut sent, mut unsent) = (0, 0);
    let mut headers = MultiHeaders::preallocate(BATCH, None);
    let mut packets = packets.filter_map(build);
    loop {
        between();
        let built: Vec<([u8; N], A)> = packets.by_ref().take(BATCH).collect();
        if built.is_empty() {
            return Ok((sent, unsent));
        }
        let mut next = 0;
        while next < built.len() {
            let slices: Vec<_> = built[next..]
                .iter()
                .map(|(packet, _)| [IoSlice::new(packet)])
                .collect();
            let addresses: Vec<_> = built[next..].iter().map(|(_, to)| Some(*to)).collect();
            let result = sendmmsg(
                fd.as_raw_fd(),
                &mut headers,
                &slices,
                &addresses,
                [],
                MsgFlags::empty(),
            );
            match result.map(Iterator::count) {
                Ok(count) if count > 0 => {
                    sent += count;
                    next += count;
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Err(Errno::EAGAIN).context("sending tickles"),
                // The first of them has no way to its client; the others may.
                Ok(_) | Err(_) => {
                    unsent += 1;
                    next += 1;
                }
            }
        }
    }
}
