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

const SYN: u8 = 0x02;

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

    /// Gives the connection of every segment that has arrived to `each`.
    pub fn take(&self, mut each: impl FnMut(Connection)) {
        let mut headers = [0; HEADERS];
        loop {
            let mut into = [IoSliceMut::new(&mut headers)];
            let received =
                recvmsg::<SockaddrStorage>(self.fd.as_raw_fd(), &mut into, None, MsgFlags::empty())
                    .map(|message| (message.address.and_then(ip), message.bytes));
            match received {
                Ok((Some(client), length)) => {
                    let packet = &headers[..length.min(HEADERS)];
                    if let Some(connection) = connection(self.vip, client, packet) {
                        each(connection);
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

/// The connection that a segment from `client` belongs to; none if it starts
/// one. IPv4 comes with its own header, IPv6 without (raw(7), ipv6(7)).
pub fn connection(vip: IpAddr, client: IpAddr, packet: &[u8]) -> Option<Connection> {
    let segment = match vip {
        IpAddr::V4(_) => packet.get(usize::from(packet.first()? & 0xf) * 4..)?,
        IpAddr::V6(_) => packet,
    };
    let [from, from_low, to, to_low, ..] = *segment.first_chunk::<14>()?;
    (segment[13] & SYN == 0).then_some(Connection {
        client,
        client_port: u16::from_be_bytes([from, from_low]),
        server_port: u16::from_be_bytes([to, to_low]),
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
        let mut packet = v4((client, 50000), (vip, 445), (1, 2));
        let expected = Connection {
            client: client.into(),
            client_port: 50000,
            server_port: 445,
        };
        assert_eq!(
            connection(vip.into(), client.into(), &packet),
            Some(expected)
        );
        packet[20 + 13] |= SYN;
        assert_eq!(connection(vip.into(), client.into(), &packet), None);

        let (client, vip) = ("fd00::7".parse().unwrap(), "fd00::100".parse().unwrap());
        let packet = v6((client, 50000), (vip, 445), (1, 2));
        let expected = Connection {
            client: client.into(),
            ..expected
        };
        let segment = &packet[40..];
        assert_eq!(
            connection(vip.into(), client.into(), segment),
            Some(expected)
        );
    }

    proptest! {
        /// Anybody on the network can send anything.
        #[test]
        fn no_packet_makes_it_panic(packet in vec(any::<u8>(), 0..HEADERS), v4: bool) {
            let vip: IpAddr = if v4 { "10.0.0.1" } else { "fd00::1" }.parse().unwrap();
            let _ = connection(vip, vip, &packet);
        }
    }
}
