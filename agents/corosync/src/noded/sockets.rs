//! The kernel's TCP sockets: those of an address listed, and destroyed.
//!
//! sock_diag(7) in its first form, `TCPDIAG_GETSOCK`: the only one that lists
//! both families in one walk over the kernel's table, which is what a listing
//! of few connections among few costs. Which sockets are wanted is told as byte
//! code (`linux/inet_diag.h`) and decided in the kernel. A condition on an IPv4
//! address matches v4-mapped sockets as well.
//!
//! The tracepoint `sock:inet_sock_set_state` would tell of every connection at
//! once, but it sees those of all network namespaces and does not say which, so
//! that a container's connections would be taken for ours.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};

use anyhow::{Context, bail, ensure};
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt, socket,
    sockopt,
};
use nix::sys::time::TimeVal;

/// The most addresses in one question: what its 16-bit lengths allow.
pub const ADDRESSES_LIMIT: usize = 1024;

const TCPDIAG_GETSOCK: u16 = 18;
const SOCK_DESTROY: u16 = 21;
const INET_DIAG_REQ_BYTECODE: u16 = 1;
const INET_DIAG_BC_JMP: u8 = 1;
const INET_DIAG_BC_S_COND: u8 = 7;
const INET_DIAG_BC_D_COND: u8 = 8;

const HEADER: usize = 16;
const ID: usize = 48;

/// How many sockets are destroyed with one call.
const BATCH: usize = 64;

/// Which end of a connection an address is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// This host's.
    Local,
    /// The other one.
    Remote,
}

/// Which states of TCP are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum States {
    /// Established connections.
    Established,
    /// Everything but listening sockets.
    Connected,
}

impl States {
    /// A bit for each state of `net/tcp_states.h`: `TCP_ESTABLISHED` is 1,
    /// `TCP_CLOSE` 7, `TCP_LISTEN` 10, `TCP_NEW_SYN_RECV` 12.
    fn bits(self) -> u32 {
        match self {
            Self::Established => 1 << 1,
            Self::Connected => 0x1fff & !(1 << 10) & !(1 << 7) & !1,
        }
    }
}

/// A connected TCP socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Socket {
    /// This host's address; that of a v4-mapped socket is its IPv4 address.
    pub local: IpAddr,
    /// This host's port.
    pub local_port: u16,
    /// The other end's address.
    pub remote: IpAddr,
    /// The other end's port.
    pub remote_port: u16,
    family: u8,
    id: [u8; ID],
}

/// A connection to the kernel.
#[derive(Debug)]
pub struct Kernel {
    fd: OwnedFd,
    buffer: Vec<u8>,
    sequence: u32,
}

impl Kernel {
    /// Asks the kernel of the calling thread's network namespace.
    pub fn open() -> anyhow::Result<Self> {
        let fd = socket(
            AddressFamily::Netlink,
            SockType::Datagram,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkSockDiag,
        )
        .context("opening a sock_diag socket")?;
        // The kernel answers while it is asked; nothing waits here unless the
        // answer was lost.
        setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::new(1, 0))?;
        Ok(Self {
            fd,
            buffer: vec![0; 64 << 10],
            sequence: 0,
        })
    }

    /// Calls `each` for every socket in one of `states` whose `end` is one of
    /// `addresses`.
    pub fn list(
        &mut self,
        end: End,
        addresses: &[IpAddr],
        states: States,
        mut each: impl FnMut(&Socket),
    ) -> anyhow::Result<()> {
        ensure!(
            addresses.len() <= ADDRESSES_LIMIT,
            "{} addresses at once",
            addresses.len()
        );
        if addresses.is_empty() {
            return Ok(());
        }
        let code = byte_code(end, addresses);
        let mut body = vec![0; 4 + ID];
        body.extend(states.bits().to_ne_bytes());
        body.extend(0_u32.to_ne_bytes());
        body.extend(u16::try_from(4 + code.len())?.to_ne_bytes());
        body.extend(INET_DIAG_REQ_BYTECODE.to_ne_bytes());
        body.extend(code);
        self.sequence += 1;
        let flags = libc::NLM_F_REQUEST | libc::NLM_F_DUMP;
        let request = message(TCPDIAG_GETSOCK, flags, self.sequence, &body);
        self.send(&request)?;
        loop {
            let length = self.receive()?;
            for reply in Replies(&self.buffer[..length]) {
                let reply = reply?;
                if reply.sequence != self.sequence {
                    continue;
                }
                match i32::from(reply.kind) {
                    libc::NLMSG_DONE => return Ok(()),
                    libc::NLMSG_ERROR => {
                        return Err(reply.error()?).context("listing TCP sockets");
                    }
                    _ => {
                        if let Some(socket) = Socket::decode(reply.body)? {
                            each(&socket);
                        }
                    }
                }
            }
        }
    }

    /// Destroys these sockets: who uses one gets `ECONNABORTED`, and the other
    /// end a reset, if this host still has the address to send it from. Returns
    /// how many were still there.
    ///
    /// # Errors
    /// The kernel destroys none of them: it may have been built without
    /// `CONFIG_INET_DIAG_DESTROY`.
    pub fn destroy(&mut self, sockets: &[Socket]) -> anyhow::Result<usize> {
        let mut toll = Toll::default();
        for batch in sockets.chunks(BATCH) {
            let first = self.sequence + 1;
            let mut requests = Vec::with_capacity(batch.len() * (HEADER + 8 + ID));
            for socket in batch {
                self.sequence += 1;
                let mut body = vec![socket.family, libc::IPPROTO_TCP as u8, 0, 0];
                body.extend(u32::MAX.to_ne_bytes());
                body.extend(socket.id);
                let flags = libc::NLM_F_REQUEST | libc::NLM_F_ACK;
                requests.extend(message(SOCK_DESTROY, flags, self.sequence, &body));
            }
            self.send(&requests)?;
            let mut missing = batch.len();
            while missing > 0 {
                let length = self.receive().context("destroying TCP sockets")?;
                for reply in Replies(&self.buffer[..length]) {
                    let reply = reply?;
                    if reply.sequence < first || i32::from(reply.kind) != libc::NLMSG_ERROR {
                        continue;
                    }
                    missing = missing.saturating_sub(1);
                    toll.count(reply.error()?);
                }
            }
        }
        toll.total().context("destroying TCP sockets")
    }

    /// Destroys every connected socket whose `end` is one of `addresses`.
    pub fn sweep(&mut self, end: End, addresses: &[IpAddr]) -> anyhow::Result<usize> {
        let mut sockets = Vec::new();
        self.list(end, addresses, States::Connected, |socket| {
            sockets.push(*socket)
        })?;
        self.destroy(&sockets)
    }

    fn send(&self, bytes: &[u8]) -> anyhow::Result<()> {
        send(self.fd.as_raw_fd(), bytes, MsgFlags::empty()).context("asking sock_diag")?;
        Ok(())
    }

    fn receive(&mut self) -> anyhow::Result<usize> {
        loop {
            match recv(self.fd.as_raw_fd(), &mut self.buffer, MsgFlags::empty()) {
                Ok(0) => bail!("sock_diag closed the connection"),
                Ok(length) => return Ok(length),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error).context("reading from sock_diag"),
            }
        }
    }
}

/// What became of sockets that were to be destroyed.
#[derive(Debug, Default)]
struct Toll {
    destroyed: usize,
    refused: Option<Errno>,
}

impl Toll {
    /// What the kernel answered for one of them. One that refuses must not save
    /// the others: before Linux 6.0 none in TIME-WAIT is destroyed.
    fn count(&mut self, answer: Errno) {
        match answer {
            Errno::UnknownErrno => self.destroyed += 1,
            Errno::ENOENT => {}
            error => self.refused = Some(error),
        }
    }

    fn total(self) -> Result<usize, Errno> {
        match self.refused {
            Some(error) if self.destroyed == 0 => Err(error),
            _ => Ok(self.destroyed),
        }
    }
}

impl Socket {
    /// From `struct inet_diag_msg`; none of a family other than the two.
    ///
    /// # Errors
    /// It is cut short.
    pub fn decode(body: &[u8]) -> anyhow::Result<Option<Self>> {
        let Some((head, rest)) = body.split_first_chunk::<4>() else {
            bail!("cut short")
        };
        let Some((id, _)) = rest.split_first_chunk::<ID>() else {
            bail!("cut short")
        };
        let family = head[0];
        let port = |at: usize| u16::from_be_bytes([id[at], id[at + 1]]);
        let mut words = [[0; 16]; 2];
        words[0].copy_from_slice(&id[4..20]);
        words[1].copy_from_slice(&id[20..36]);
        let address = |octets: [u8; 16]| match i32::from(family) {
            libc::AF_INET => Some(Ipv4Addr::new(octets[0], octets[1], octets[2], octets[3]).into()),
            libc::AF_INET6 => Some(IpAddr::from(Ipv6Addr::from(octets)).to_canonical()),
            _ => None,
        };
        let (Some(local), Some(remote)) = (address(words[0]), address(words[1])) else {
            return Ok(None);
        };
        let (local_port, remote_port) = (port(0), port(2));
        Ok(Some(Self {
            local,
            local_port,
            remote,
            remote_port,
            family,
            id: *id,
        }))
    }
}

/// Byte code that accepts a socket whose `end` is any of `addresses`: for each
/// of them a condition, which either falls through to a jump to the end, or
/// skips that jump. The last one needs no jump; failing, it goes past the end,
/// which means no.
fn byte_code(end: End, addresses: &[IpAddr]) -> Vec<u8> {
    let code = match end {
        End::Local => INET_DIAG_BC_S_COND,
        End::Remote => INET_DIAG_BC_D_COND,
    };
    let mut program = Vec::new();
    // From the back, as every jump to the end has to know how far it is.
    for (number, address) in addresses.iter().rev().enumerate() {
        let (family, octets) = match address {
            IpAddr::V4(address) => (libc::AF_INET, address.octets().to_vec()),
            IpAddr::V6(address) => (libc::AF_INET6, address.octets().to_vec()),
        };
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the limit of addresses keeps it small"
        )]
        let operation = |code: u8, yes: usize, no: usize| {
            let no = (no as u16).to_ne_bytes();
            [code, yes as u8, no[0], no[1]]
        };
        let length = 4 + 8 + octets.len();
        let mut step = operation(code, length, length + 4).to_vec();
        step.push(family as u8);
        step.push(octets.len() as u8 * 8);
        step.extend([0, 0]);
        step.extend((-1_i32).to_ne_bytes());
        step.extend(octets);
        if number > 0 {
            step.extend(operation(INET_DIAG_BC_JMP, 4, 4 + program.len()));
        }
        step.extend(program);
        program = step;
    }
    program
}

/// A netlink message (netlink(7)). All of ours are a multiple of four long.
fn message(kind: u16, flags: i32, sequence: u32, body: &[u8]) -> Vec<u8> {
    debug_assert!(body.len().is_multiple_of(4));
    let mut bytes = Vec::with_capacity(HEADER + body.len());
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a request is some kilobytes"
    )]
    bytes.extend(((HEADER + body.len()) as u32).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend((flags as u16).to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend(0_u32.to_ne_bytes());
    bytes.extend(body);
    bytes
}

/// One message of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply<'a> {
    /// Its type: `NLMSG_*`, or what was asked for.
    pub kind: u16,
    /// The number of the question.
    pub sequence: u32,
    /// What follows the netlink header.
    pub body: &'a [u8],
}

impl Reply<'_> {
    /// The error number of an `NLMSG_ERROR`; `UnknownErrno` is 0, success.
    ///
    /// # Errors
    /// It is cut short.
    pub fn error(&self) -> anyhow::Result<Errno> {
        let Some(code) = self.body.first_chunk::<4>() else {
            bail!("cut short")
        };
        Ok(Errno::from_raw(i32::from_ne_bytes(*code).wrapping_neg()))
    }
}

/// The messages in what was read.
#[derive(Debug, Clone)]
pub struct Replies<'a>(pub &'a [u8]);

impl<'a> Iterator for Replies<'a> {
    type Item = anyhow::Result<Reply<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let reply = self.split();
        if reply.is_none() {
            self.0 = &[];
        }
        Some(reply.context("an answer of sock_diag is cut short"))
    }
}

impl<'a> Replies<'a> {
    fn split(&mut self) -> Option<Reply<'a>> {
        let length = u32::from_ne_bytes(*self.0.first_chunk()?) as usize;
        let whole = self.0.get(..length)?;
        let reply = Reply {
            kind: u16::from_ne_bytes([*whole.get(4)?, *whole.get(5)?]),
            sequence: u32::from_ne_bytes(*whole.get(8..)?.first_chunk()?),
            body: whole.get(HEADER..)?,
        };
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(reply)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_address_is_one_condition() {
        let code = byte_code(End::Local, &["10.0.0.100".parse().unwrap()]);
        let mut expected = vec![7, 16];
        expected.extend(20_u16.to_ne_bytes());
        expected.extend([2, 32, 0, 0, 255, 255, 255, 255, 10, 0, 0, 100]);
        assert_eq!(code, expected);
    }

    /// Runs byte code as the kernel does (`inet_diag_bc_run`), for conditions
    /// on whole addresses alone.
    fn accepts(code: &[u8], local: IpAddr) -> bool {
        let mut at = 0;
        while at < code.len() {
            let no = usize::from(u16::from_ne_bytes([code[at + 2], code[at + 3]]));
            let octets = match local {
                IpAddr::V4(address) => address.octets().to_vec(),
                IpAddr::V6(address) => address.octets().to_vec(),
            };
            let yes = code[at] == INET_DIAG_BC_S_COND
                && usize::from(code[at + 5]) == octets.len() * 8
                && code[at + 12..at + 12 + octets.len()] == octets;
            at += if yes { usize::from(code[at + 1]) } else { no };
        }
        at == code.len()
    }

    proptest! {
        #[test]
        fn any_of_the_addresses_is_accepted_and_no_other(
            wanted in prop::collection::btree_set(0_u8..40, 1..20), asked in 0_u8..40,
        ) {
            let address = |n: u8| -> IpAddr {
                if n.is_multiple_of(2) {
                    Ipv4Addr::new(10, 0, 0, n).into()
                } else {
                    Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, n.into()).into()
                }
            };
            let addresses: Vec<_> = wanted.iter().map(|n| address(*n)).collect();
            let code = byte_code(End::Local, &addresses);
            prop_assert_eq!(accepts(&code, address(asked)), wanted.contains(&asked));
        }

        #[test]
        fn no_answer_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            for reply in Replies(&bytes).flatten() {
                let _ = Socket::decode(reply.body);
                let _ = reply.error();
            }
        }
    }

    #[test]
    fn a_socket_that_cannot_be_destroyed_does_not_save_the_others() {
        let total = |answers: &[Errno]| {
            let mut toll = Toll::default();
            answers.iter().for_each(|answer| toll.count(*answer));
            toll.total()
        };
        let (done, gone, refused) = (Errno::UnknownErrno, Errno::ENOENT, Errno::EOPNOTSUPP);
        assert_eq!(total(&[done, refused, gone, done]), Ok(2));
        assert_eq!(total(&[gone]), Ok(0));
        assert_eq!(total(&[refused, gone]), Err(refused));
    }

    #[test]
    fn a_v4_mapped_socket_is_its_ipv4_connection() {
        let mut body = vec![libc::AF_INET6 as u8, 1, 0, 0];
        body.extend(445_u16.to_be_bytes());
        body.extend(50000_u16.to_be_bytes());
        body.extend("::ffff:10.0.0.100".parse::<Ipv6Addr>().unwrap().octets());
        body.extend("::ffff:10.0.0.7".parse::<Ipv6Addr>().unwrap().octets());
        body.extend([0; 12]);
        let socket = Socket::decode(&body).unwrap().unwrap();
        assert_eq!(socket.local, "10.0.0.100".parse::<IpAddr>().unwrap());
        assert_eq!(socket.remote, "10.0.0.7".parse::<IpAddr>().unwrap());
        assert_eq!((socket.local_port, socket.remote_port), (445, 50000));
    }
}
