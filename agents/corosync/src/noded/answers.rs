//! Who answers a tickle.
//!
//! A client whose connection is reset by its own answer needs no second
//! tickle, and an administrator wants to know how many did. A raw socket gets a
//! copy of every TCP segment that arrives for the address (raw(7)); whatever a
//! client still says on the old connection, other than a new start of it, is an
//! answer, as this host has no such connection and resets it.

use std::io::IoSliceMut;
use std::net::{IpAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, OwnedFd};

use anyhow::Context;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, SockaddrIn6,
    SockaddrStorage, bind, recvmsg, setsockopt, socket, sockopt,
};

use super::connection::Connection;

/// How many bytes may wait to be read: the answers of some ten thousand
/// clients, which are read after every batch of tickles.
const ROOM: usize = 16 << 20;

/// Enough for the headers of IPv4, with all options, and TCP.
const HEADERS: usize = 80;

/// The most segments that are taken at once. On a busy server there are always
/// more, and there are tickles to be sent.
const SEGMENTS: usize = 20_000;

const SYN: u8 = 0x02;
const RST: u8 = 0x04;

/// What a client has said on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// The connection.
    pub connection: Connection,
    /// The client's own sequence and acknowledgement number; none if it has
    /// reset the connection itself, and thus has it no more.
    pub numbers: Option<(u32, u32)>,
}

/// The segments that arrive for one address.
#[derive(Debug)]
pub struct Answers {
    vip: IpAddr,
    fd: OwnedFd,
}

impl Answers {
    /// Keeps what arrives for `vip`, which is on this host, from now on.
    ///
    /// # Errors
    /// This process is not root, or the address is not here.
    pub fn open(vip: IpAddr) -> anyhow::Result<Self> {
        let family = match vip {
            IpAddr::V4(_) => AddressFamily::Inet,
            IpAddr::V6(_) => AddressFamily::Inet6,
        };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(family, SockType::Raw, flags, SockProtocol::Tcp)
            .context("opening a raw socket")?;
        setsockopt(&fd, sockopt::RcvBufForce, &ROOM)?;
        let raw = fd.as_raw_fd();
        match vip {
            IpAddr::V4(vip) => bind(raw, &SockaddrIn::from(SocketAddrV4::new(vip, 0))),
            IpAddr::V6(vip) => bind(raw, &SockaddrIn6::from(SocketAddrV6::new(vip, 0, 0, 0))),
        }
        .with_context(|| format!("binding to {vip}"))?;
        Ok(Self { vip, fd })
    }

    /// Gives what has arrived to `each`, as far as it is an answer.
    pub fn take(&self, mut each: impl FnMut(Answer)) {
        let mut headers = [0; HEADERS];
        for _ in 0..SEGMENTS {
            let mut into = [IoSliceMut::new(&mut headers)];
            let received =
                recvmsg::<SockaddrStorage>(self.fd.as_raw_fd(), &mut into, None, MsgFlags::empty())
                    .map(|message| (message.address.and_then(ip), message.bytes));
            match received {
                Ok((Some(client), length)) => {
                    let packet = &headers[..length.min(HEADERS)];
                    if let Some(answer) = answer(self.vip, client, packet) {
                        each(answer);
                    }
                }
                Ok((None, _)) | Err(Errno::EINTR) => {}
                Err(_) => return,
            }
        }
    }
}

fn ip(address: SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|address| address.ip().into());
    v4.or_else(|| address.as_sockaddr_in6().map(|address| address.ip().into()))
}

/// What a segment from `client` says; none if it starts a connection. IPv4 comes
/// with its own header, IPv6 without (raw(7), ipv6(7)).
pub fn answer(vip: IpAddr, client: IpAddr, packet: &[u8]) -> Option<Answer> {
    let segment = match vip {
        IpAddr::V4(_) => packet.get(usize::from(packet.first()? & 0xf) * 4..)?,
        IpAddr::V6(_) => packet,
    };
    let head = segment.first_chunk::<14>()?;
    let half = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
    let number = |at: usize| u32::from(half(at)) << 16 | u32::from(half(at + 2));
    let flags = head[13];
    (flags & SYN == 0).then_some(Answer {
        connection: Connection {
            client,
            client_port: half(0),
            server_port: half(2),
        },
        numbers: (flags & RST == 0).then_some((number(4), number(8))),
    })
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::noded::packet::{v4, v6};

    #[test]
    fn an_answer_is_what_the_client_says_on_the_connection() {
        let (client, vip) = ("10.0.0.7".parse().unwrap(), "10.0.0.100".parse().unwrap());
        let numbers = (0x0102_0304, 0xfffe_fdfc);
        let mut packet = v4((client, 50000), (vip, 445), numbers);
        let connection = Connection {
            client: client.into(),
            client_port: 50000,
            server_port: 445,
        };
        let said = |numbers| {
            Some(Answer {
                connection,
                numbers,
            })
        };
        assert_eq!(
            answer(vip.into(), client.into(), &packet),
            said(Some(numbers))
        );
        packet[20 + 13] |= RST;
        assert_eq!(answer(vip.into(), client.into(), &packet), said(None));
        packet[20 + 13] |= SYN;
        assert_eq!(answer(vip.into(), client.into(), &packet), None);

        let (client, vip) = ("fd00::7".parse().unwrap(), "fd00::100".parse().unwrap());
        let packet = v6((client, 50000), (vip, 445), numbers);
        let connection = Connection {
            client: client.into(),
            ..connection
        };
        let expected = Answer {
            connection,
            numbers: Some(numbers),
        };
        let segment = &packet[40..];
        assert_eq!(answer(vip.into(), client.into(), segment), Some(expected));
    }

    proptest! {
        /// Anybody on the network can send anything.
        #[test]
        fn no_packet_makes_it_panic(packet in vec(any::<u8>(), 0..HEADERS), v4: bool) {
            let vip: IpAddr = if v4 { "10.0.0.1" } else { "fd00::1" }.parse().unwrap();
            let _ = answer(vip, vip, &packet);
        }
    }
}
