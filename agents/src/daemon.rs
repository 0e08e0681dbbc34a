//! How the agents talk to `storhaug-noded`: the protocol of its Unix socket,
//! and a client that never waits past a deadline.
//!
//! A client connects, sends one line of JSON and reads one line of JSON; then
//! the connection is closed. Both lines are bounded, and both carry the version
//! of the protocol. Within a version the state that is told may gain fields: who
//! reads ignores those that it does not know, and takes one that is missing as
//! not known. Everything else that is unknown is an error: a half-understood
//! question is worse than none.
//!
//! The daemon helps a failover along, it never decides one. So whoever calls
//! here logs an error and carries on.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, Read, Write};
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, UnixAddr, connect, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::deadline::Deadline;

/// Where the daemon listens, unless told otherwise.
pub const SOCKET: &str = "/run/storhaug/noded.sock";

/// The version of the protocol. Both ends are installed together, so a
/// difference means a daemon that was not restarted after an upgrade.
pub const VERSION: u32 = 1;

/// The longest question, in bytes, newline included.
pub const QUESTION_LIMIT: usize = 4 << 10;

/// The longest answer, in bytes, newline included: the status of some thousand
/// addresses.
pub const ANSWER_LIMIT: usize = 1 << 20;

/// One line, either way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line<T> {
    /// [`VERSION`] of the sender.
    pub version: u32,
    /// What it has to say.
    pub body: T,
}

/// What the daemon can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Question {
    /// This node has the address now: learn its connections.
    Hold { vip: IpAddr },
    /// The address is up on this interface and announced: make its clients
    /// reconnect.
    Tickle { vip: IpAddr, nic: String },
    /// The address has been removed from this node.
    Release { vip: IpAddr },
    /// How many clients are known for this address?
    Known { vip: IpAddr },
    /// Which clients does every address have at this port?
    Clients { port: u16 },
    /// Everything that the daemon knows of itself.
    Status {},
    /// These are the agent's parameters.
    Configure { reset_dead_peers: bool },
}

/// What it answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Answer {
    /// The address is being watched.
    Held {},
    /// The first round of tickles has been sent to this many clients.
    Tickled { clients: usize },
    /// Every other node knows the last connections, and this many sockets were
    /// destroyed here.
    Released { sockets: usize },
    /// The clients of one address.
    Known(Known),
    /// The clients of every address that is known, at the port asked about.
    Clients {
        vips: BTreeMap<IpAddr, BTreeSet<IpAddr>>,
    },
    /// The daemon's state.
    Status(Box<Status>),
    /// The parameters are taken over.
    Configured {},
    /// The question could not be answered, and why.
    Refused { reason: String },
}

/// The clients of one address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// How many connections to the address this node knows.
    pub clients: usize,
    /// The node that says it holds the address.
    pub holder: Option<Node>,
    /// Other nodes that have the address as well.
    #[serde(default)]
    pub also_on: Vec<Node>,
}

/// A node of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Corosync's number of it.
    pub id: u32,
    /// Its name in corosync.conf, empty where it has none.
    pub name: String,
}

/// The daemon's state. Times are milliseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// This node; none while Corosync cannot be reached.
    pub node: Option<Node>,
    /// The nodes whose daemon is in the group.
    pub group: Vec<Node>,
    /// Whether this node's part of the cluster has quorum.
    pub quorate: bool,
    /// Whether sockets to dead nodes are destroyed.
    pub reset_dead_peers: bool,
    /// The addresses, in order.
    pub vips: Vec<Vip>,
    /// Sockets to dead nodes that were destroyed here, newest last.
    pub resets: Vec<Reset>,
}

/// One address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vip {
    /// The address.
    pub address: IpAddr,
    /// The node that holds it.
    pub holder: Option<Node>,
    /// Other nodes that have it as well, for a second or more, though they do
    /// not hold it.
    #[serde(default)]
    pub also_on: Vec<Node>,
    /// Since when it holds it, as far as this node's daemon was there. A time
    /// during which nobody held it is not counted, if it is the same node.
    pub since: Option<u64>,
    /// Another node, which held it before; the last one, if nobody holds it.
    pub previous: Option<Node>,
    /// How many connections are known.
    pub clients: usize,
    /// How it came to the node that held it last.
    #[serde(default)]
    pub moved: Option<Moved>,
    /// What its last holder's tickle did.
    pub tickled: Option<Tickled>,
}

/// The last time that an address went from one node to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// The node that had it.
    pub from: Node,
    /// The node that has it since.
    pub to: Node,
    /// When it was there.
    pub at: u64,
    /// For how many milliseconds no node had it: since it was removed, or, if
    /// its node was lost, since that was last heard of, which it is every
    /// second.
    pub away_ms: Option<u64>,
    /// Why it left.
    pub reason: Reason,
}

/// Why an address left a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// The node was lost, and has been fenced.
    Fenced,
    /// The node was lost.
    Lost,
    /// The node's cluster was being stopped.
    Stopping,
    /// The node was in standby.
    Standby,
    /// The address failed there.
    Failed,
    /// A service that the address needs did not work there.
    Service,
    /// Somebody asked for it, as `pcs resource move` does.
    Asked,
    /// None of these: Pacemaker placed it anew.
    Placed,
    /// Not known.
    #[serde(other)]
    Unknown,
}

/// What a tickle did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tickled {
    /// When its first round began.
    pub at: u64,
    /// To how many clients.
    pub clients: usize,
    /// How many of them have answered so far: their connections are reset.
    #[serde(default)]
    pub answered: Option<usize>,
    /// How many packets were sent so far, in all rounds.
    pub packets: usize,
    /// How long the first round took, in microseconds.
    pub first_round_us: u64,
}

/// Sockets to a dead node that were destroyed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reset {
    /// The dead node.
    pub node: Node,
    /// When.
    pub at: u64,
    /// How many sockets.
    pub sockets: usize,
}

/// A client of the daemon.
#[derive(Debug, Clone)]
pub struct Daemon {
    socket: PathBuf,
}

impl Daemon {
    /// A client of the daemon that listens at `socket`; nothing is connected yet.
    #[must_use]
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self {
            socket: socket.into(),
        }
    }

    /// Says that this node holds `vip`, so that its connections are learnt and
    /// the other nodes told. May be repeated as often as one likes.
    pub fn hold(&self, vip: IpAddr, deadline: Deadline) -> anyhow::Result<()> {
        match self.ask(&Question::Hold { vip }, deadline)? {
            Answer::Held {} => Ok(()),
            other => self.surprised(&other),
        }
    }

    /// Makes the clients of `vip`, which is up on `nic` and announced, notice
    /// that their connections are gone. Returns after the first round of
    /// packets, the number of clients; the other rounds follow by themselves.
    pub fn tickle(&self, vip: IpAddr, nic: &str, deadline: Deadline) -> anyhow::Result<usize> {
        match self.ask(
            &Question::Tickle {
                vip,
                nic: nic.to_owned(),
            },
            deadline,
        )? {
            Answer::Tickled { clients } => Ok(clients),
            other => self.surprised(&other),
        }
    }

    /// Says that `vip` has been removed from this node. Returns once every
    /// other node knows the connections that it had, and the sockets here are
    /// destroyed: how many.
    pub fn release(&self, vip: IpAddr, deadline: Deadline) -> anyhow::Result<usize> {
        match self.ask(&Question::Release { vip }, deadline)? {
            Answer::Released { sockets } => Ok(sockets),
            other => self.surprised(&other),
        }
    }

    /// How many clients of `vip` this node knows, and who holds it.
    pub fn known(&self, vip: IpAddr, deadline: Deadline) -> anyhow::Result<Known> {
        match self.ask(&Question::Known { vip }, deadline)? {
            Answer::Known(known) => Ok(known),
            other => self.surprised(&other),
        }
    }

    /// The clients that every known address has, or had until a moment ago, at a
    /// port of this number: their addresses.
    pub fn clients(
        &self,
        port: u16,
        deadline: Deadline,
    ) -> anyhow::Result<BTreeMap<IpAddr, BTreeSet<IpAddr>>> {
        match self.ask(&Question::Clients { port }, deadline)? {
            Answer::Clients { vips } => Ok(vips),
            other => self.surprised(&other),
        }
    }

    /// The daemon's whole state.
    pub fn status(&self, deadline: Deadline) -> anyhow::Result<Status> {
        match self.ask(&Question::Status {}, deadline)? {
            Answer::Status(status) => Ok(*status),
            other => self.surprised(&other),
        }
    }

    /// Sets whether sockets to dead nodes are destroyed; they are, until told
    /// otherwise.
    ///
    /// # Errors
    /// The daemon does not answer by `deadline`.
    pub fn configure(&self, reset_dead_peers: bool, deadline: Deadline) -> anyhow::Result<()> {
        match self.ask(&Question::Configure { reset_dead_peers }, deadline)? {
            Answer::Configured {} => Ok(()),
            other => self.surprised(&other),
        }
    }

    fn ask(&self, question: &Question, deadline: Deadline) -> anyhow::Result<Answer> {
        self.exchange(question, deadline)
            .with_context(|| format!("asking storhaug-noded at {}", self.socket.display()))
    }

    fn exchange(&self, question: &Question, deadline: Deadline) -> anyhow::Result<Answer> {
        let mut stream = dial(&self.socket, deadline)?;
        let mut line = serde_json::to_vec(&Line {
            version: VERSION,
            body: question,
        })?;
        line.push(b'\n');
        stream.write_all(&line).context("writing the question")?;
        let line = read_line(&mut stream, ANSWER_LIMIT, deadline).context("reading the answer")?;
        let answer: Line<Answer> = decode(&line).context("reading the answer")?;
        match answer.body {
            Answer::Refused { reason } => bail!("{reason}"),
            answer => Ok(answer),
        }
    }

    fn surprised<T>(&self, answer: &Answer) -> anyhow::Result<T> {
        bail!(
            "storhaug-noded at {} answered another question: {answer:?}",
            self.socket.display()
        )
    }
}

/// Reads one line, without its newline, of at most `limit` bytes, before
/// `deadline`. The end of the stream before the newline is an error.
pub fn read_line(
    stream: &mut UnixStream,
    limit: usize,
    deadline: Deadline,
) -> anyhow::Result<Vec<u8>> {
    let mut line = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        stream.set_read_timeout(Some(patience(deadline)?))?;
        let length = match stream.read(&mut chunk) {
            Ok(0) => bail!("the connection was closed"),
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error.into()),
        };
        let end = chunk[..length].iter().position(|byte| *byte == b'\n');
        line.extend_from_slice(&chunk[..end.unwrap_or(length)]);
        if line.len() >= limit {
            bail!("more than {limit} bytes");
        }
        if end.is_some() {
            return Ok(line);
        }
    }
}

/// Takes one line apart, whose newline is gone, and checks its version before
/// anything else in it.
pub fn decode<T: DeserializeOwned>(line: &[u8]) -> anyhow::Result<Line<T>> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    let Versioned { version } = serde_json::from_slice(line).context("reading its version")?;
    if version != VERSION {
        bail!("protocol version {version} instead of {VERSION}: restart storhaug-noded");
    }
    Ok(serde_json::from_slice(line)?)
}

/// Connects. The timeout is set first, because a connect(2) blocks for as long
/// as the listener's queue is full.
fn dial(path: &Path, deadline: Deadline) -> anyhow::Result<UnixStream> {
    let fd: OwnedFd = socket(
        AddressFamily::Unix,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    let patience = patience(deadline)?;
    let timeout = TimeVal::new(
        i64::try_from(patience.as_secs())?,
        i64::from(patience.subsec_micros().max(1)),
    );
    setsockopt(&fd, sockopt::SendTimeout, &timeout)?;
    connect(fd.as_raw_fd(), &UnixAddr::new(path)?).context("connecting")?;
    Ok(UnixStream::from(fd))
}

/// What is left of the deadline, and an error once nothing is: a timeout of
/// zero would mean for ever.
fn patience(deadline: Deadline) -> anyhow::Result<Duration> {
    let left = deadline.left();
    if left.is_zero() {
        bail!("no answer in time");
    }
    Ok(left)
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    /// What a line is made of.
    const PARTS: [&str; 16] = [
        "{",
        "}",
        ":",
        ",",
        "[",
        "]",
        "1",
        "-1",
        "null",
        "\"version\"",
        "\"body\"",
        "\"status\"",
        "\"hold\"",
        "\"vip\"",
        "\"10.0.0.1\"",
        "\u{e9}",
    ];

    proptest! {
        /// Whoever listens, or asks.
        #[test]
        fn no_line_makes_it_panic(
            bytes in vec(any::<u8>(), 0..100),
            parts in vec(prop::sample::select(&PARTS[..]), 0..12),
        ) {
            let text = parts.concat();
            let whole = format!(r#"{{"version":1,"body":{text}}}"#);
            for line in [&bytes[..], text.as_bytes(), whole.as_bytes()] {
                let _ = (decode::<Question>(line), decode::<Answer>(line));
            }
        }
    }
}
