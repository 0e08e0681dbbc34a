//! Just enough of netlink(7) to ask the kernel a question and to read its
//! answers: requests and their attributes in bytes, a socket, and dumps that
//! start again when the tables changed under them.
//!
//! Blocking and small on purpose. The packet crates for netlink change their
//! interface every few months; the few messages an agent needs have been the
//! same for twenty years.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt, socket,
    sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

/// `struct nlmsghdr`: length, type, flags, sequence number, sender.
const HEADER: usize = 16;

/// Larger than any datagram of a dump: the kernel fills 32 KiB at most.
const BUFFER: usize = 64 << 10;

/// How often a dump is read again because the kernel's tables changed while it
/// was under way. Each attempt takes well under a millisecond, so that changes
/// would have to come without a pause to exhaust them.
const ATTEMPTS: usize = 8;

/// How long the kernel may take to answer, in seconds. It answers at once,
/// unless something else sits on its networking lock.
const PATIENCE: i64 = 5;

/// A question to the kernel, or an order.
#[derive(Debug, Clone)]
pub struct Request {
    kind: u16,
    flags: u16,
    body: Vec<u8>,
}

impl Request {
    /// A request of type `kind` (`RTM_*`) with `NLM_F_*` flags beyond those
    /// that every request has; `header` is the message's fixed part.
    #[must_use]
    pub fn new(kind: u16, flags: libc::c_int, header: &[u8]) -> Self {
        Self {
            kind,
            flags: low(flags),
            body: header.to_vec(),
        }
    }

    /// The same with one attribute more.
    #[must_use]
    pub fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
        self.body.extend_from_slice(&length.to_ne_bytes());
        self.body.extend_from_slice(&kind.to_ne_bytes());
        self.body.extend_from_slice(value);
        self.body.resize(self.body.len().next_multiple_of(4), 0);
        self
    }

    /// The same as the kernel would say it.
    #[cfg(test)]
    pub(crate) fn as_message(&self) -> Message {
        Message {
            kind: self.kind,
            body: self.body.clone(),
        }
    }

    fn bytes(&self, sequence: u32) -> Vec<u8> {
        let length = u32::try_from(HEADER + self.body.len()).unwrap_or(u32::MAX);
        // An acknowledgement ends every exchange that a dump's end does not.
        let flags = low(libc::NLM_F_REQUEST | libc::NLM_F_ACK) | self.flags;
        let mut bytes = Vec::with_capacity(HEADER + self.body.len());
        bytes.extend_from_slice(&length.to_ne_bytes());
        bytes.extend_from_slice(&self.kind.to_ne_bytes());
        bytes.extend_from_slice(&flags.to_ne_bytes());
        bytes.extend_from_slice(&sequence.to_ne_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

/// One message of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its type, `RTM_*`.
    pub kind: u16,
    /// What follows the netlink header: the fixed part, then the attributes.
    pub body: Vec<u8>,
}

/// The attributes in `bytes`, type (without the flag bits) and value, up to the
/// end or to the first that does not fit.
pub fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(bytes, 0)?);
        let kind = u16_at(bytes, 2)? & low(libc::NLA_TYPE_MASK);
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The number in native byte order that starts at `offset`, if there is one.
#[must_use]
pub fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    let bytes = bytes.get(offset..)?.first_chunk()?;
    Some(u16::from_ne_bytes(*bytes))
}

/// The number in native byte order that starts at `offset`, if there is one.
#[must_use]
pub fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    let bytes = bytes.get(offset..)?.first_chunk()?;
    Some(u32::from_ne_bytes(*bytes))
}

/// A socket to the kernel.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    sequence: u32,
}

impl Socket {
    /// Opens a socket of one of netlink's protocols, such as
    /// `SockProtocol::NetlinkRoute`.
    pub fn open(protocol: SockProtocol) -> nix::Result<Self> {
        let fd = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            protocol,
        )?;
        setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::seconds(PATIENCE))?;
        Ok(Self { fd, sequence: 0 })
    }

    /// Sends `request` and returns every message of the answer. The kernel's
    /// refusal is the error.
    pub fn ask(&mut self, request: &Request) -> nix::Result<Vec<Message>> {
        for _ in 0..ATTEMPTS {
            self.sequence = self.sequence.wrapping_add(1);
            send(
                self.fd.as_raw_fd(),
                &request.bytes(self.sequence),
                MsgFlags::empty(),
            )?;
            if let Some(messages) = self.answer()? {
                return Ok(messages);
            }
        }
        Err(Errno::EBUSY)
    }

    /// Reads one answer to its end; none when the tables changed meanwhile.
    fn answer(&mut self) -> nix::Result<Option<Vec<Message>>> {
        let mut answer = Answer::new(self.sequence);
        let mut buffer = vec![0; BUFFER];
        loop {
            let length = match recv(self.fd.as_raw_fd(), &mut buffer, MsgFlags::MSG_TRUNC) {
                Err(Errno::EINTR) => continue,
                length => length?,
            };
            let datagram = buffer.get(..length).ok_or(Errno::EMSGSIZE)?;
            if answer.read(datagram)? {
                return Ok((!answer.interrupted).then_some(answer.messages));
            }
        }
    }
}

/// An answer as it comes in, datagram by datagram.
#[derive(Debug)]
struct Answer {
    sequence: u32,
    messages: Vec<Message>,
    interrupted: bool,
}

impl Answer {
    fn new(sequence: u32) -> Self {
        Self {
            sequence,
            messages: Vec::new(),
            interrupted: false,
        }
    }

    /// Takes one datagram apart; true when it ended the answer.
    fn read(&mut self, mut datagram: &[u8]) -> nix::Result<bool> {
        while !datagram.is_empty() {
            let field = |offset| u32_at(datagram, offset).ok_or(Errno::EBADMSG);
            let length = usize::try_from(field(0)?).map_err(|_| Errno::EBADMSG)?;
            let kind = u16_at(datagram, 4).ok_or(Errno::EBADMSG)?;
            let flags = u16_at(datagram, 6).ok_or(Errno::EBADMSG)?;
            let sequence = field(8)?;
            let body = datagram.get(HEADER..length).ok_or(Errno::EBADMSG)?;
            datagram = datagram
                .get(length.next_multiple_of(4)..)
                .unwrap_or_default();
            if sequence != self.sequence {
                continue;
            }
            self.interrupted |= flags & low(libc::NLM_F_DUMP_INTR) != 0;
            match i32::from(kind) {
                libc::NLMSG_DONE | libc::NLMSG_ERROR => {
                    // Both carry an error number, negative or zero.
                    return match u32_at(body, 0).map_or(0, u32::cast_signed) {
                        0 => Ok(true),
                        error => Err(Errno::from_raw(error.wrapping_neg())),
                    };
                }
                libc::NLMSG_NOOP => {}
                _ => self.messages.push(Message {
                    kind,
                    body: body.to_vec(),
                }),
            }
        }
        Ok(false)
    }
}

/// The low half of a constant that the C library declares as an int.
const fn low(constant: libc::c_int) -> u16 {
    constant.cast_unsigned() as u16
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn message(kind: i32, flags: i32, sequence: u32, body: &[u8]) -> Vec<u8> {
        let mut request = Request::new(low(kind), flags, body).bytes(sequence);
        request[6..8].copy_from_slice(&low(flags).to_ne_bytes());
        request
    }

    #[test]
    fn attributes_come_back_as_they_were_put() {
        let request = Request::new(20, 0, &[])
            .attribute(1, b"abcde")
            .attribute(0x8002, b"")
            .attribute(3, &[1, 2, 3, 4]);
        let read: Vec<_> = attributes(&request.body).collect();
        assert_eq!(
            read,
            [(1, &b"abcde"[..]), (2, &b""[..]), (3, &[1, 2, 3, 4][..])]
        );
    }

    #[test]
    fn attributes_end_at_what_does_not_fit() {
        for bytes in [&[][..], &[3, 0, 1], &[3, 0, 1, 0], &[9, 0, 1, 0, 7, 7]] {
            assert_eq!(attributes(bytes).count(), 0, "{bytes:?}");
        }
    }

    #[test]
    fn an_answer_is_what_carries_our_number() {
        let mut datagram = message(20, libc::NLM_F_MULTI, 6, b"old!");
        datagram.extend(message(20, libc::NLM_F_MULTI, 7, b"one!"));
        datagram.extend(message(20, libc::NLM_F_MULTI, 7, b"two!"));
        let mut answer = Answer::new(7);
        assert_eq!(answer.read(&datagram), Ok(false));
        let end = message(libc::NLMSG_DONE, libc::NLM_F_MULTI, 7, &[0; 4]);
        assert_eq!(answer.read(&end), Ok(true));
        let bodies: Vec<_> = answer.messages.iter().map(|m| &m.body[..]).collect();
        assert_eq!(bodies, [b"one!", b"two!"]);
        assert!(!answer.interrupted);
    }

    #[test]
    fn a_refusal_is_the_errors_number() {
        let body = (-libc::EPERM).to_ne_bytes();
        let refusal = message(libc::NLMSG_ERROR, 0, 1, &body);
        assert_eq!(Answer::new(1).read(&refusal), Err(Errno::EPERM));
    }

    #[test]
    fn a_dump_under_which_the_table_changed_is_marked() {
        let mut answer = Answer::new(1);
        let end = message(libc::NLMSG_DONE, libc::NLM_F_DUMP_INTR, 1, &[0; 4]);
        assert_eq!(answer.read(&end), Ok(true));
        assert!(answer.interrupted);
    }

    #[test]
    fn no_datagram_makes_it_panic_or_hang() {
        let good = message(20, 0, 1, b"body");
        for cut in 1..good.len() {
            assert_eq!(Answer::new(1).read(&good[..cut]), Err(Errno::EBADMSG));
        }
        for length in 0..HEADER as u32 {
            let mut bad = good.clone();
            bad[..4].copy_from_slice(&length.to_ne_bytes());
            assert_eq!(Answer::new(1).read(&bad), Err(Errno::EBADMSG));
        }
    }

    proptest! {
        /// Messages of every length and number, whole and cut off.
        #[test]
        fn any_datagram_is_read_or_refused(
            lengths in vec((any::<u16>(), 0..4_u16, vec(any::<u8>(), 0..64)), 0..4),
            cut in any::<usize>(),
        ) {
            let mut datagram = Vec::new();
            for (kind, flags, body) in lengths {
                datagram.extend(message(i32::from(kind), i32::from(flags), 1, &body));
            }
            let cut = cut % (datagram.len() + 1);
            let _ = Answer::new(1).read(&datagram[..cut]);
        }

        #[test]
        fn any_attributes_are_within_their_bytes(bytes in vec(any::<u8>(), 0..256)) {
            let total: usize = attributes(&bytes).map(|(_, value)| 4 + value.len()).sum();
            prop_assert!(total <= bytes.len());
        }
    }
}
