//! Telling the neighbours that an address is here now: gratuitous ARP for IPv4
//! (RFC 5227 §3, RFC 826), an unsolicited neighbour advertisement for IPv6
//! (RFC 4861 §7.2.6).
//!
//! One announcement is one or two frames and returns at once. It can be lost,
//! and Linux ignores a change that comes within a second of the last one, so
//! that whoever wants to be heard announces again: `storhaug-noded` does, in the
//! rounds of its tickles.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};

use anyhow::{Context, anyhow, bail};
use nix::libc;
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, SockaddrLike, bind, socket,
};

use crate::addresses::{Link, Network};

/// A hardware address.
pub type Mac = [u8; 6];

const BROADCAST: Mac = [0xff; 6];
const ETHERTYPE_ARP: [u8; 2] = [0x08, 0x06];
const ETHERTYPE_IPV6: [u8; 2] = [0x86, 0xdd];
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
const NEXT_HEADER_ICMPV6: u8 = 58;
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// What an ARP packet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    Request = 1,
    Reply = 2,
}

/// Announces an address, as often as asked.
///
/// To be kept while there is something else to be done in a hurry: closing a
/// packet socket waits for every processor to have noticed (`packet_release`),
/// some ten milliseconds.
#[derive(Debug)]
pub struct Announcer {
    ip: IpAddr,
    /// None where there are no neighbours to hear anything: on the loopback
    /// interface and on point-to-point links.
    ethernet: Option<Ethernet>,
}

impl Announcer {
    /// For `ip`, which is up on the interface called `nic`.
    pub fn open(nic: &str, ip: IpAddr) -> anyhow::Result<Self> {
        let links = Network::open()?.links()?;
        let link = links
            .iter()
            .find(|link| link.called(nic))
            .with_context(|| format!("no interface is called {nic}"))?;
        Self::on(link, ip)
    }

    fn on(link: &Link, ip: IpAddr) -> anyhow::Result<Self> {
        let deaf = matches!(
            link.hardware,
            libc::ARPHRD_LOOPBACK | libc::ARPHRD_PPP | libc::ARPHRD_NONE
        );
        let ethernet = if deaf {
            None
        } else {
            Some(Ethernet::open(link, None)?)
        };
        Ok(Self { ip, ethernet })
    }

    /// Announces it once.
    pub fn announce(&self) -> anyhow::Result<()> {
        let Some(ethernet) = &self.ethernet else {
            return Ok(());
        };
        match self.ip {
            IpAddr::V4(ip) => {
                // Some hosts take notice of the one, some of the other.
                ethernet.send(&arp(Operation::Request, ethernet.mac, ip, [0; 6], ip))?;
                ethernet.send(&arp(Operation::Reply, ethernet.mac, ip, ethernet.mac, ip))
            }
            IpAddr::V6(ip) => ethernet.send(&advertisement(ethernet.mac, ip)),
        }
    }
}

/// Announces `ip`, which is up on this interface, once.
pub fn announce_on(link: &Link, ip: IpAddr) -> anyhow::Result<()> {
    Announcer::on(link, ip)?.announce()
}

/// A packet socket on one Ethernet interface. It leaves the interface's mode
/// alone: nothing becomes promiscuous.
#[derive(Debug)]
pub struct Ethernet {
    fd: OwnedFd,
    mac: Mac,
}

impl Ethernet {
    /// Opens the interface for sending and, of one Ethernet type, receiving.
    pub fn open(link: &Link, ethertype: Option<u16>) -> anyhow::Result<Self> {
        let (libc::ARPHRD_ETHER, Some(mac)) = (link.hardware, link.mac) else {
            bail!(
                "{} is no Ethernet (hardware type {})",
                link.name,
                link.hardware
            );
        };
        // Without a protocol nothing is received until the socket is bound to
        // the one interface and the one protocol.
        let fd = socket(
            AddressFamily::Packet,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            None,
        )
        .context("opening a packet socket")?;
        let address = link_address(link.index, ethertype.unwrap_or(0))
            .ok_or_else(|| anyhow!("interface number {} is out of range", link.index))?;
        bind(fd.as_raw_fd(), &address).context("binding a packet socket")?;
        Ok(Self { fd, mac })
    }

    /// The socket, from which frames of the Ethernet type can be read.
    #[must_use]
    pub fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    fn send(&self, frame: &[u8]) -> anyhow::Result<()> {
        nix::sys::socket::send(self.fd.as_raw_fd(), frame, MsgFlags::empty())
            .context("sending a frame")?;
        Ok(())
    }

    /// Asks who has `ip` without claiming it: an ARP probe (RFC 5227 §2.1.1) or
    /// the solicitation of duplicate address detection (RFC 4862 §5.4.2). No
    /// host learns anything from either.
    pub fn probe(&self, ip: IpAddr) -> anyhow::Result<()> {
        match ip {
            IpAddr::V4(ip) => self.send(&arp(
                Operation::Request,
                self.mac,
                Ipv4Addr::UNSPECIFIED,
                [0; 6],
                ip,
            )),
            IpAddr::V6(ip) => self.send(&solicitation(self.mac, ip)),
        }
    }
}

/// The address of an interface for bind(2), packet(7).
#[expect(
    unsafe_code,
    reason = "nix makes a LinkAddr only from what a C function filled in"
)]
fn link_address(index: u32, ethertype: u16) -> Option<LinkAddr> {
    let address = libc::sockaddr_ll {
        sll_family: u16::try_from(libc::AF_PACKET).ok()?,
        sll_protocol: ethertype.to_be(),
        sll_ifindex: i32::try_from(index).ok()?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let length = libc::socklen_t::try_from(size_of_val(&address)).ok()?;
    // SAFETY: the pointer is to a whole sockaddr_ll, whose family and length say
    // so, and it is copied before `address` goes.
    unsafe { LinkAddr::from_raw((&raw const address).cast(), Some(length)) }
}

fn arp(operation: Operation, mac: Mac, ip: Ipv4Addr, target_mac: Mac, target: Ipv4Addr) -> Vec<u8> {
    let mut frame = ethernet_header(BROADCAST, mac, ETHERTYPE_ARP);
    // Hardware Ethernet, protocol IPv4, and the lengths of their addresses.
    frame.extend_from_slice(&[0, 1, 8, 0, 6, 4, 0, operation as u8]);
    frame.extend_from_slice(&mac);
    frame.extend_from_slice(&ip.octets());
    frame.extend_from_slice(&target_mac);
    frame.extend_from_slice(&target.octets());
    frame
}

/// Says to all that `ip` is at `mac`, and to override what they knew.
fn advertisement(mac: Mac, ip: Ipv6Addr) -> Vec<u8> {
    const OVERRIDE: u8 = 0x20;
    let mut message = vec![NEIGHBOUR_ADVERTISEMENT, 0, 0, 0, OVERRIDE, 0, 0, 0];
    message.extend_from_slice(&ip.octets());
    // The option "target link-layer address", eight octets long.
    message.extend_from_slice(&[2, 1]);
    message.extend_from_slice(&mac);
    icmpv6(mac, ip, ALL_NODES, message)
}

/// Asks whether anybody has `ip`, from nobody in particular.
fn solicitation(mac: Mac, ip: Ipv6Addr) -> Vec<u8> {
    let mut message = vec![NEIGHBOUR_SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
    message.extend_from_slice(&ip.octets());
    // The solicited-node multicast address (RFC 4291 §2.7.1).
    let [.., a, b, c] = ip.octets();
    let group = Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c]);
    icmpv6(mac, Ipv6Addr::UNSPECIFIED, group, message)
}

/// A frame with an ICMPv6 `message`, whose checksum is filled in, to a
/// multicast group on the link.
fn icmpv6(mac: Mac, source: Ipv6Addr, group: Ipv6Addr, mut message: Vec<u8>) -> Vec<u8> {
    let length = u8::try_from(message.len()).unwrap_or(u8::MAX);
    let mut pseudo = Vec::with_capacity(40 + message.len());
    pseudo.extend_from_slice(&source.octets());
    pseudo.extend_from_slice(&group.octets());
    pseudo.extend_from_slice(&[0, 0, 0, length, 0, 0, 0, NEXT_HEADER_ICMPV6]);
    pseudo.extend_from_slice(&message);
    message[2..4].copy_from_slice(&checksum(&pseudo).to_be_bytes());

    let [.., a, b, c, d] = group.octets();
    let mut frame = ethernet_header([0x33, 0x33, a, b, c, d], mac, ETHERTYPE_IPV6);
    // Neighbour discovery is only believed with the hop limit 255, which no
    // router lets through.
    frame.extend_from_slice(&[0x60, 0, 0, 0, 0, length, NEXT_HEADER_ICMPV6, 255]);
    frame.extend_from_slice(&source.octets());
    frame.extend_from_slice(&group.octets());
    frame.extend_from_slice(&message);
    frame
}

fn ethernet_header(to: Mac, from: Mac, ethertype: [u8; 2]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(86);
    frame.extend_from_slice(&to);
    frame.extend_from_slice(&from);
    frame.extend_from_slice(&ethertype);
    frame
}

/// The Internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)])))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = [0x02, 0, 0, 0, 0, 0x0a];

    #[test]
    fn gratuitous_arp_byte_for_byte() {
        let ip = Ipv4Addr::new(10, 9, 0, 100);
        let expected = [
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 0x0a, 8, 6, // Ethernet
            0, 1, 8, 0, 6, 4, 0, 1, // request
            2, 0, 0, 0, 0, 0x0a, 10, 9, 0, 100, // sender
            0, 0, 0, 0, 0, 0, 10, 9, 0, 100, // target
        ];
        assert_eq!(arp(Operation::Request, MAC, ip, [0; 6], ip), expected);
        let reply = arp(Operation::Reply, MAC, ip, MAC, ip);
        assert_eq!(reply[21], 2);
        assert_eq!(reply[32..38], MAC);
    }

    #[test]
    fn advertisement_byte_for_byte() {
        let ip: Ipv6Addr = "fd09::100".parse().unwrap();
        let frame = advertisement(MAC, ip);
        assert_eq!(frame.len(), 86);
        assert_eq!(frame[..6], [0x33, 0x33, 0, 0, 0, 1]);
        assert_eq!(frame[14..22], [0x60, 0, 0, 0, 0, 32, 58, 255]);
        assert_eq!(frame[22..38], ip.octets());
        assert_eq!(frame[38..54], ALL_NODES.octets());
        assert_eq!(frame[54..56], [136, 0]);
        assert_eq!(frame[58..62], [0x20, 0, 0, 0]);
        assert_eq!(frame[62..78], ip.octets());
        assert_eq!(frame[78..], [2, 1, 2, 0, 0, 0, 0, 0x0a]);
    }

    #[test]
    fn solicitation_goes_to_the_addresss_own_group() {
        let frame = solicitation(MAC, "fd09::12:3456".parse().unwrap());
        assert_eq!(frame[..6], [0x33, 0x33, 0xff, 0x12, 0x34, 0x56]);
        assert_eq!(frame[22..38], [0; 16]);
        assert_eq!(
            frame[38..54],
            "ff02::1:ff12:3456".parse::<Ipv6Addr>().unwrap().octets()
        );
    }

    #[test]
    fn checksums_verify() {
        for frame in [
            advertisement(MAC, "fd09::100".parse().unwrap()),
            solicitation(MAC, "fd09::ffff:ffff".parse().unwrap()),
        ] {
            let mut pseudo = frame[22..54].to_vec();
            pseudo.extend_from_slice(&[0, 0, 0, frame[19], 0, 0, 0, 58]);
            pseudo.extend_from_slice(&frame[54..]);
            assert_eq!(checksum(&pseudo), 0);
        }
        // RFC 1071 §3's own example, whose sum is 0xddf2.
        assert_eq!(checksum(&[0, 1, 0xf2, 3, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
        assert_eq!(checksum(&[1]), !0x0100);
    }
}
