//! Asking CTDB's daemon over its own Unix socket, which costs 10 ms and no
//! process; `ctdb status` costs a process and a second.
//!
//! The protocol is CTDB's own (Samba, `ctdb/protocol/protocol.h`): a header of
//! eight numbers, then the body, all in the machine's byte order. The few
//! questions asked here have had the same form since CTDB 4.16.

use std::{
    fmt,
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::Path,
    time::Duration,
};

use anyhow::{Context, anyhow, bail};
use nix::{
    errno::Errno,
    sys::socket::{
        AddressFamily, SockFlag, SockType, UnixAddr, connect, getsockopt, socket, sockopt,
    },
    unistd::Pid,
};

use crate::deadline::Deadline;

/// Where the daemon of most distributions listens.
pub const SOCKET: &str = "/run/ctdb/ctdbd.socket";

const MAGIC: u32 = 0x4354_4442;
const VERSION: u32 = 1;
const HEADER: usize = 32;
const REQ_MESSAGE: u32 = 5;
const REQ_CONTROL: u32 = 7;
const REPLY_CONTROL: u32 = 8;
const CURRENT_NODE: u32 = 0xF000_0001;
const UNKNOWN_PNN: u32 = 0xFFFF_FFFF;
/// Where the leader says every second who it is.
const SRVID_LEADER: u64 = 0xF101_0000_0000_0000;

const GET_RECMODE: u32 = 15;
const REGISTER_SRVID: u32 = 23;
const GET_PNN: u32 = 35;
const SHUTDOWN: u32 = 36;
const GET_NODEMAP: u32 = 91;
const GET_RUNSTATE: u32 = 138;

/// No answer to the questions here comes near this many bytes.
const LIMIT: usize = 1 << 20;

/// How far the daemon has come. Source: `enum ctdb_runstate`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunState {
    /// Not said, or not known here.
    Unknown,
    /// Reading its configuration.
    Init,
    /// Running the event `setup`.
    Setup,
    /// Waiting for its first recovery.
    FirstRecovery,
    /// Running the event `startup`.
    Startup,
    /// Serving.
    Running,
    /// Going down.
    Shutdown,
}

/// The name as `ctdb runstate` prints it.
impl fmt::Display for RunState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "UNKNOWN",
            Self::Init => "INIT",
            Self::Setup => "SETUP",
            Self::FirstRecovery => "FIRST_RECOVERY",
            Self::Startup => "STARTUP",
            Self::Running => "RUNNING",
            Self::Shutdown => "SHUTDOWN",
        })
    }
}

/// What is special about a node. Source: `NODE_FLAGS_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flags(pub u32);

impl Flags {
    const NAMES: [(u32, &'static str); 6] = [
        (0x01, "DISCONNECTED"),
        (0x02, "UNHEALTHY"),
        (0x04, "DISABLED"),
        (0x08, "BANNED"),
        (0x10, "DELETED"),
        (0x20, "STOPPED"),
    ];

    /// Whether the node takes no part in the databases
    /// (`NODE_FLAGS_INACTIVE`).
    pub fn inactive(self) -> bool {
        self.0 & 0x39 != 0
    }

    /// Whether no daemon of that node is connected with this one.
    pub fn disconnected(self) -> bool {
        self.0 & 0x01 != 0
    }

    /// Whether the node was removed, and only its number is kept.
    pub fn deleted(self) -> bool {
        self.0 & 0x10 != 0
    }

    /// Whether an event script of CTDB's has found something wrong.
    pub fn unhealthy(self) -> bool {
        self.0 & 0x02 != 0
    }
}

/// The names as `ctdb status` prints them.
impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = Self::NAMES.iter().filter(|(bit, _)| self.0 & bit != 0);
        let names: Vec<_> = names.map(|(_, name)| *name).collect();
        f.write_str(if names.is_empty() { "OK" } else { "" })?;
        f.write_str(&names.join("|"))
    }
}

/// A node as CTDB knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its number.
    pub pnn: u32,
    /// What is special about it.
    pub flags: Flags,
    /// Its address.
    pub address: IpAddr,
}

/// A connection to the daemon.
#[derive(Debug)]
pub struct Ctdbd {
    stream: UnixStream,
    requests: u32,
    deadline: Deadline,
}

impl Ctdbd {
    /// Connects to the daemon that listens at `socket`; none where there is
    /// none. Whatever is asked over the connection has to be answered by
    /// `deadline`.
    ///
    /// # Errors
    /// The daemon is there and takes no connection: it hangs.
    pub fn connect(path: &Path, deadline: Deadline) -> anyhow::Result<Option<Self>> {
        let at = || format!("connecting to {}", path.display());
        // A daemon that hangs has a full queue at some time, and a blocking
        // connect would wait for it.
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket: OwnedFd = socket(AddressFamily::Unix, SockType::Stream, flags, None)
            .context("making a socket")?;
        match connect(socket.as_raw_fd(), &UnixAddr::new(path).with_context(at)?) {
            Ok(()) => {}
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ECONNREFUSED) => return Ok(None),
            Err(Errno::EAGAIN) => bail!("ctdbd hangs: it takes no connection"),
            Err(error) => return Err(error).with_context(at),
        }
        let stream = UnixStream::from(socket);
        stream.set_nonblocking(false).with_context(at)?;
        Ok(Some(Self {
            stream,
            requests: 0,
            deadline,
        }))
    }

    /// The process that listens.
    ///
    /// # Errors
    /// The kernel does not say.
    pub fn pid(&self) -> anyhow::Result<Pid> {
        let peer = getsockopt(&self.stream, sockopt::PeerCredentials);
        Ok(Pid::from_raw(peer.context("asking who listens")?.pid()))
    }

    /// From now on, what is asked has to be answered by `deadline`.
    pub fn by(&mut self, deadline: Deadline) {
        self.deadline = deadline;
    }

    /// How far it has come.
    ///
    /// # Errors
    /// It does not answer in time, or not as it should.
    pub fn run_state(&mut self) -> anyhow::Result<RunState> {
        let reply = self.control(GET_RUNSTATE, 0)?;
        let mut data = Fields(&reply.checked()?.data);
        Ok(match data.u32()? {
            1 => RunState::Init,
            2 => RunState::Setup,
            3 => RunState::FirstRecovery,
            4 => RunState::Startup,
            5 => RunState::Running,
            6 => RunState::Shutdown,
            _ => RunState::Unknown,
        })
    }

    /// Whether the databases are frozen for a recovery.
    ///
    /// # Errors
    /// It does not answer in time, or not as it should.
    pub fn recovering(&mut self) -> anyhow::Result<bool> {
        match self.control(GET_RECMODE, 0)?.status {
            0 => Ok(false),
            1 => Ok(true),
            other => bail!("ctdbd answers with the recovery mode {other}"),
        }
    }

    /// Its node's number.
    ///
    /// # Errors
    /// It does not answer in time, or not as it should.
    pub fn pnn(&mut self) -> anyhow::Result<u32> {
        let reply = self.control(GET_PNN, 0)?;
        u32::try_from(reply.status).map_err(|_| anyhow!("ctdbd does not know its own number"))
    }

    /// All nodes.
    ///
    /// # Errors
    /// It does not answer in time, or not as it should.
    pub fn nodes(&mut self) -> anyhow::Result<Vec<Node>> {
        let reply = self.control(GET_NODEMAP, 0)?;
        node_map(&reply.checked()?.data)
    }

    /// Asks to hear who the leader is.
    ///
    /// # Errors
    /// It does not answer in time, or not as it should.
    pub fn listen_to_leader(&mut self) -> anyhow::Result<()> {
        self.control(REGISTER_SRVID, SRVID_LEADER)?
            .checked()
            .map(drop)
    }

    /// The leader, as soon as one says so, which it does every second; none
    /// where nobody does by the deadline. To be asked for before:
    /// [`Ctdbd::listen_to_leader`].
    ///
    /// # Errors
    /// The daemon is gone.
    pub fn leader(&mut self) -> anyhow::Result<Option<u32>> {
        loop {
            match self.packet() {
                Ok(Packet::Message { srvid, data }) if srvid == SRVID_LEADER => {
                    let leader = Fields(&data).u32()?;
                    if leader != UNKNOWN_PNN {
                        return Ok(Some(leader));
                    }
                }
                Ok(_) => {}
                Err(_) if self.deadline.expired() => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }

    /// Tells it to go down, and does not wait for that.
    ///
    /// # Errors
    /// It cannot be told.
    pub fn shut_down(&mut self) -> anyhow::Result<()> {
        self.send(SHUTDOWN, 0).map(drop)
    }

    fn control(&mut self, opcode: u32, srvid: u64) -> anyhow::Result<Reply> {
        let request = self.send(opcode, srvid)?;
        loop {
            if let Packet::Reply(reply) = self.packet()?
                && reply.request == request
            {
                return Ok(reply);
            }
        }
    }

    fn send(&mut self, opcode: u32, srvid: u64) -> anyhow::Result<u32> {
        self.requests += 1;
        let packet = control(self.requests, opcode, srvid);
        let left = Some(self.deadline.left()).filter(|left| !left.is_zero());
        let left = left.context("no time left to ask ctdbd")?;
        self.stream
            .set_write_timeout(Some(left))
            .and_then(|()| self.stream.write_all(&packet))
            .map_err(unanswered)?;
        Ok(self.requests)
    }

    fn packet(&mut self) -> anyhow::Result<Packet> {
        let mut length = [0; 4];
        self.fill(&mut length)?;
        let size = u32::from_ne_bytes(length) as usize;
        if !(HEADER..LIMIT).contains(&size) {
            bail!("ctdbd answers with a packet of {size} bytes");
        }
        let mut packet = vec![0; size];
        packet[..4].copy_from_slice(&length);
        self.fill(&mut packet[4..])?;
        Packet::parse(&packet)
    }

    fn fill(&mut self, mut buffer: &mut [u8]) -> anyhow::Result<()> {
        while !buffer.is_empty() {
            let left = self.deadline.left().max(Duration::from_micros(1));
            self.stream.set_read_timeout(Some(left))?;
            match self.stream.read(buffer) {
                Ok(0) => bail!("ctdbd closed the connection"),
                Ok(size) => buffer = &mut buffer[size..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(unanswered(error)),
            }
            if self.deadline.expired() && !buffer.is_empty() {
                bail!("ctdbd does not answer in time");
            }
        }
        Ok(())
    }
}

fn unanswered(error: io::Error) -> anyhow::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            anyhow!("ctdbd does not answer in time")
        }
        _ => anyhow!(error).context("asking ctdbd"),
    }
}

/// A question, `struct ctdb_req_control` without data.
fn control(request: u32, opcode: u32, srvid: u64) -> Vec<u8> {
    // The body is 28 bytes long; packets are padded to a multiple of 8.
    const LENGTH: u32 = 64;
    let header = [
        LENGTH,
        MAGIC,
        VERSION,
        0,
        REQ_CONTROL,
        CURRENT_NODE,
        CURRENT_NODE,
        request,
    ];
    let mut packet: Vec<u8> = header.into_iter().flat_map(u32::to_ne_bytes).collect();
    packet.extend(opcode.to_ne_bytes());
    packet.extend([0; 4]);
    packet.extend(srvid.to_ne_bytes());
    packet.resize(LENGTH as usize, 0);
    packet
}

/// An answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Reply {
    request: u32,
    status: i32,
    data: Vec<u8>,
    error: String,
}

impl Reply {
    fn checked(self) -> anyhow::Result<Self> {
        if self.status == 0 {
            return Ok(self);
        }
        bail!("ctdbd refuses, status {}: {}", self.status, self.error)
    }
}

/// What the daemon says.
#[derive(Debug, PartialEq, Eq)]
pub enum Packet {
    /// The answer to a question.
    Reply(Reply),
    /// A message that was asked for, by the number of its kind.
    Message { srvid: u64, data: Vec<u8> },
    /// Something that is not needed here.
    Other,
}

impl Packet {
    /// Takes a whole packet apart.
    ///
    /// # Errors
    /// It is cut short, or of another protocol.
    pub fn parse(packet: &[u8]) -> anyhow::Result<Self> {
        let mut fields = Fields(packet);
        let mut header = [0; 8];
        for field in &mut header {
            *field = fields.u32()?;
        }
        let [_, magic, version, _, operation, _, _, request] = header;
        if (magic, version) != (MAGIC, VERSION) {
            bail!("ctdbd speaks another protocol");
        }
        match operation {
            REPLY_CONTROL => {
                let status = fields.u32()?.cast_signed();
                let (data, error) = (fields.u32()? as usize, fields.u32()? as usize);
                let data = fields.take(data)?.to_vec();
                let error = String::from_utf8_lossy(fields.take(error)?);
                Ok(Self::Reply(Reply {
                    request,
                    status,
                    data,
                    error: error.trim_end_matches('\0').to_owned(),
                }))
            }
            REQ_MESSAGE => {
                let srvid = fields.u64()?;
                let length = fields.u32()? as usize;
                let data = fields.take(length)?.to_vec();
                Ok(Self::Message { srvid, data })
            }
            _ => Ok(Self::Other),
        }
    }
}

/// Reads a `struct ctdb_node_map`; an address is a `sockaddr_in` or
/// `sockaddr_in6`, in the room of the larger one.
///
/// # Errors
/// It is cut short, or an address of another family.
pub fn node_map(data: &[u8]) -> anyhow::Result<Vec<Node>> {
    let mut fields = Fields(data);
    let count = fields.u32()?;
    let mut nodes = Vec::new();
    for _ in 0..count {
        let (pnn, flags) = (fields.u32()?, Flags(fields.u32()?));
        let mut address = Fields(fields.take(28)?);
        let family = i32::from(u16::from_ne_bytes(address.array()?));
        let address = match family {
            nix::libc::AF_INET => {
                address.take(2)?;
                IpAddr::from(Ipv4Addr::from(address.array::<4>()?))
            }
            nix::libc::AF_INET6 => {
                address.take(6)?;
                IpAddr::from(Ipv6Addr::from(address.array::<16>()?))
            }
            other => bail!("ctdbd answers with an address of family {other}"),
        };
        nodes.push(Node {
            pnn,
            flags,
            address,
        });
    }
    Ok(nodes)
}

/// What is left of a packet.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, count: usize) -> anyhow::Result<&'a [u8]> {
        let (taken, rest) = self
            .0
            .split_at_checked(count)
            .context("ctdbd answers with a packet that is cut short")?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> anyhow::Result<[u8; N]> {
        Ok(self.take(N)?.try_into()?)
    }

    fn u32(&mut self) -> anyhow::Result<u32> {
        Ok(u32::from_ne_bytes(self.array()?))
    }

    fn u64(&mut self) -> anyhow::Result<u64> {
        Ok(u64::from_ne_bytes(self.array()?))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a CTDB 4.17 daemon answers to GET_NODEMAP with two nodes.
    fn nodemap() -> Vec<u8> {
        let mut data = 2u32.to_ne_bytes().to_vec();
        for (pnn, flags) in [(0u32, 0u32), (1, 0x0a)] {
            data.extend(pnn.to_ne_bytes());
            data.extend(flags.to_ne_bytes());
            let mut address = vec![0; 28];
            address[..2].copy_from_slice(&2u16.to_ne_bytes());
            address[2..4].copy_from_slice(&4379u16.to_be_bytes());
            address[4..8].copy_from_slice(&[10, 77, 0, 11 + u8::try_from(pnn).unwrap()]);
            data.extend(address);
        }
        data
    }

    #[test]
    fn nodes() {
        let nodes = node_map(&nodemap()).unwrap();
        assert_eq!(nodes[0].flags.to_string(), "OK");
        assert!(!nodes[0].flags.inactive());
        assert_eq!(nodes[1].flags.to_string(), "UNHEALTHY|BANNED");
        assert!(nodes[1].flags.inactive());
        assert_eq!(nodes[1].address, IpAddr::from([10, 77, 0, 12]));
        assert!(node_map(&nodemap()[..75]).is_err());
    }

    #[test]
    fn a_question() {
        let packet = control(7, GET_RUNSTATE, 0);
        assert_eq!(packet.len(), 64);
        assert_eq!(packet[..4], 64u32.to_ne_bytes());
        assert_eq!(packet[4..8], *b"BDTC", "on a little-endian machine");
        assert_eq!(packet[28..32], 7u32.to_ne_bytes());
        assert_eq!(packet[32..36], 138u32.to_ne_bytes());
    }

    proptest! {
        #[test]
        fn no_packet_is_a_panic(packet: Vec<u8>, operation in 4u32..9) {
            let _ = Packet::parse(&packet);
            let _ = node_map(&packet);
            let header = [64, MAGIC, VERSION, 0, operation, 0, 0, 1];
            let mut whole: Vec<u8> = header.into_iter().flat_map(u32::to_ne_bytes).collect();
            whole.extend(packet);
            let _ = Packet::parse(&whole);
        }
    }
}
