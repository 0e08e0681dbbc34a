//! Sends tickles, in rounds.
//!
//! Three rounds at 0, 1.1 and 2.2 s, each after an announcement of its own.
//! Further apart than a second, because Linux ignores announcements that
//! follow closer; further apart than 500 ms, because a socket answers packets
//! that do not fit it no more often. A packet that was sent before the client
//! learnt where the address is now went to the old place, and the next round
//! makes up for it. Clients that have answered ([`super::answers`]) are left in
//! peace; the announcement is repeated for all others on the network.

use std::collections::BTreeSet;
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

/// How many clients' packets are handed to the kernel with one call.
const BATCH: usize = 128;

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
        let silent: Vec<Connection> = audience.silent.iter().copied().collect();
        let sent = send(vip, &silent, || audience.hear());
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

/// The clients, and which of them have not answered.
struct Audience {
    answers: Option<Answers>,
    clients: usize,
    silent: BTreeSet<Connection>,
}

impl Audience {
    fn new(vip: IpAddr, clients: &[Connection]) -> Self {
        // Without it every client is tickled in every round.
        let answers = match Answers::open(vip) {
            Ok(answers) => Some(answers),
            Err(error) => {
                tracing::warn!("listening for the answers of the clients of {vip}: {error:#}");
                None
            }
        };
        let silent: BTreeSet<_> = clients.iter().copied().collect();
        Self {
            answers,
            clients: silent.len(),
            silent,
        }
    }

    /// Takes note of what has arrived.
    fn hear(&mut self) {
        if let Some(answers) = &self.answers {
            answers.take(|connection| {
                self.silent.remove(&connection);
            });
        }
    }

    /// Takes note of what arrives in this time; true if `cancelled` meanwhile.
    fn listen(&mut self, time: Duration, cancelled: &Receiver<std::convert::Infallible>) -> bool {
        let until = Instant::now() + time;
        loop {
            self.hear();
            let left = until.saturating_duration_since(Instant::now());
            let awaited = self.answers.is_some() && !self.silent.is_empty();
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
        self.answers.as_ref()?;
        Some(self.clients - self.silent.len())
    }
}

/// Sends every variant to every client once, and does something else `between`
/// the batches. Returns how many packets were sent, and how many were not.
pub fn send(
    vip: IpAddr,
    clients: &[Connection],
    between: impl FnMut(),
) -> anyhow::Result<(usize, usize)> {
    match vip {
        IpAddr::V4(vip) => {
            // Bound, so that a policy route from this address is followed.
            let fd = raw(AddressFamily::Inet)?;
            bind(fd.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(vip, 0)))
                .with_context(|| format!("binding to {vip}"))?;
            transmit(&fd, clients, between, |connection, numbers| {
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
            transmit(&fd, clients, between, |connection, numbers| {
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
    clients: &[Connection],
    mut between: impl FnMut(),
    build: impl Fn(&Connection, (u32, u32)) -> Option<([u8; N], A)>,
) -> anyhow::Result<(usize, usize)> {
    let (mut sent, mut unsent) = (0, 0);
    let mut headers = MultiHeaders::preallocate(BATCH * packet::VARIANTS.len(), None);
    for batch in clients.chunks(BATCH) {
        between();
        let built: Vec<([u8; N], A)> = batch
            .iter()
            .flat_map(|client| packet::VARIANTS.map(|numbers| build(client, numbers)))
            .flatten()
            .collect();
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
    Ok((sent, unsent))
}
