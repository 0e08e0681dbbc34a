//! The addresses, interfaces and routes of this network namespace, as the
//! kernel knows them, over rtnetlink(7): no process is started, and a look at
//! all of them takes well under a millisecond.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::Context;
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::SockProtocol;

use crate::netlink::{Message, Request, Socket, attributes, u16_at, u32_at};

/// `struct ifaddrmsg`: family, prefix, flags, scope, interface.
const ADDRESS_HEADER: usize = 8;
/// `struct ifinfomsg`: family, padding, type, index, flags, change.
const LINK_HEADER: usize = 16;
/// `struct rtmsg`: family, destination, source, tos, table, protocol, scope,
/// type, flags.
const ROUTE_HEADER: usize = 12;

/// "For ever" among the lifetimes of an address.
const FOREVER: u32 = u32::MAX;

/// An address of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The address itself, never its peer.
    pub ip: IpAddr,
    /// The length of its network's prefix, in bits.
    pub prefix: u8,
    /// The interface that carries it.
    pub index: u32,
    flags: u32,
    /// The kernel's description, with which the same address can be added again.
    body: Vec<u8>,
}

impl Address {
    /// Duplicate address detection is still under way, and the address not yet
    /// usable (IPv6).
    #[must_use]
    pub fn tentative(&self) -> bool {
        self.flags & libc::IFA_F_TENTATIVE != 0
    }

    /// Another host answered for the address, which therefore is not usable
    /// (IPv6).
    #[must_use]
    pub fn dad_failed(&self) -> bool {
        self.flags & libc::IFA_F_DADFAILED != 0
    }

    /// The address came after another of its network (IPv4), which takes it
    /// along when it goes, unless `promote_secondaries` says otherwise.
    #[must_use]
    pub fn secondary(&self) -> bool {
        self.ip.is_ipv4() && self.flags & libc::IFA_F_SECONDARY != 0
    }

    /// Whether the network of this address has `ip` in it.
    #[must_use]
    pub fn network_contains(&self, ip: IpAddr) -> bool {
        self.ip.is_ipv4() == ip.is_ipv4()
            && bits(self.ip) & mask(self.ip, self.prefix) == bits(ip) & mask(ip, self.prefix)
    }

    /// From the kernel's `RTM_NEWADDR` (rtnetlink(7)).
    #[must_use]
    pub fn parse(message: &Message) -> Option<Self> {
        let body = &message.body;
        let [_, prefix, flags, ..] = *body.first_chunk::<ADDRESS_HEADER>()?;
        let mut address = Self {
            ip: Ipv4Addr::UNSPECIFIED.into(),
            prefix,
            index: u32_at(body, 4)?,
            flags: flags.into(),
            body: body.clone(),
        };
        let (mut local, mut peer) = (None, None);
        for (kind, value) in attributes(body.get(ADDRESS_HEADER..)?) {
            match kind {
                libc::IFA_LOCAL => local = ip(value),
                libc::IFA_ADDRESS => peer = ip(value),
                libc::IFA_FLAGS => address.flags = u32_at(value, 0)?,
                _ => {}
            }
        }
        // IFA_ADDRESS is the other end of a point-to-point interface, where
        // there is one; IPv6 leaves IFA_LOCAL out where there is none.
        address.ip = local.or(peer)?;
        Some(address)
    }
}

/// An interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its number, which stays when its name changes.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its other names (`ip link property add altname`).
    pub altnames: Vec<String>,
    /// Its kind of hardware, `ARPHRD_*`.
    pub hardware: u16,
    /// Its hardware address, if it has one of the kind that Ethernet has.
    pub mac: Option<[u8; 6]>,
    flags: u32,
}

impl Link {
    /// Whether it goes by this name.
    #[must_use]
    pub fn called(&self, name: &str) -> bool {
        self.name == name || self.altnames.iter().any(|other| other == name)
    }

    /// The administrator has it up.
    #[must_use]
    pub fn up(&self) -> bool {
        self.flags & libc::IFF_UP.cast_unsigned() != 0
    }

    /// It has a carrier: a cable, a bond with a working port, a VLAN on such.
    #[must_use]
    pub fn carrier(&self) -> bool {
        self.flags & libc::IFF_LOWER_UP.cast_unsigned() != 0
    }

    /// From the kernel's `RTM_NEWLINK` (rtnetlink(7)).
    #[must_use]
    pub fn parse(message: &Message) -> Option<Self> {
        let body = &message.body;
        let mut link = Self {
            index: u32_at(body, 4)?,
            name: String::new(),
            altnames: Vec::new(),
            hardware: u16_at(body, 2)?,
            mac: None,
            flags: u32_at(body, 8)?,
        };
        for (kind, value) in attributes(body.get(LINK_HEADER..)?) {
            match kind {
                libc::IFLA_IFNAME => link.name = text(value),
                libc::IFLA_ADDRESS => link.mac = value.try_into().ok(),
                libc::IFLA_PROP_LIST => link.altnames.extend(
                    attributes(value)
                        .filter(|(kind, _)| *kind == libc::IFLA_ALT_IFNAME)
                        .map(|(_, name)| text(name)),
                ),
                _ => {}
            }
        }
        Some(link)
    }
}

/// Where the kernel would send a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Through which interface.
    pub index: u32,
    /// The length of the route's prefix, in bits.
    pub prefix: u8,
    /// Whether a router is on the way.
    pub gateway: bool,
}

impl Route {
    /// From the kernel's `RTM_NEWROUTE` (rtnetlink(7)), if it leads anywhere.
    #[must_use]
    pub fn parse(message: &Message) -> Option<Self> {
        let body = &message.body;
        let [_, prefix, .., kind] = *body.first_chunk::<8>()?;
        if kind != libc::RTN_UNICAST {
            return None;
        }
        let mut route = Self {
            index: 0,
            prefix,
            gateway: false,
        };
        for (kind, value) in attributes(body.get(ROUTE_HEADER..)?) {
            match kind {
                libc::RTA_OIF => route.index = u32_at(value, 0)?,
                libc::RTA_GATEWAY | libc::RTA_VIA => route.gateway = true,
                _ => {}
            }
        }
        (route.index != 0).then_some(route)
    }
}

/// An address to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewAddress {
    /// The address.
    pub ip: IpAddr,
    /// The length of its network's prefix, in bits.
    pub prefix: u8,
    /// The interface to carry it.
    pub index: u32,
    /// Usable at once, without duplicate address detection (IPv6).
    pub nodad: bool,
    /// For how many seconds it may be the source of new connections; none means
    /// for ever, 0 never.
    pub preferred: Option<u32>,
}

/// This namespace's network.
#[derive(Debug)]
pub struct Network {
    socket: Socket,
}

impl Network {
    /// Opens a way to the kernel.
    pub fn open() -> anyhow::Result<Self> {
        let socket = Socket::open(SockProtocol::NetlinkRoute).context("opening rtnetlink")?;
        Ok(Self { socket })
    }

    /// All addresses, of both families.
    pub fn addresses(&mut self) -> anyhow::Result<Vec<Address>> {
        let request = Request::new(
            libc::RTM_GETADDR,
            libc::NLM_F_DUMP,
            &address_header(libc::AF_UNSPEC, 0, 0, 0),
        );
        let messages = self.socket.ask(&request).context("reading the addresses")?;
        Ok(messages.iter().filter_map(Address::parse).collect())
    }

    /// The addresses that are `ip`: none, one, or several if the same address
    /// is on more than one interface or there with more than one prefix.
    pub fn holding(&mut self, ip: IpAddr) -> anyhow::Result<Vec<Address>> {
        let mut addresses = self.addresses()?;
        addresses.retain(|address| address.ip == ip);
        Ok(addresses)
    }

    /// All interfaces.
    pub fn links(&mut self) -> anyhow::Result<Vec<Link>> {
        let request = link_request(0, libc::NLM_F_DUMP);
        let messages = self
            .socket
            .ask(&request)
            .context("reading the interfaces")?;
        Ok(messages.iter().filter_map(Link::parse).collect())
    }

    /// The interface of this number; none if it is gone.
    pub fn link(&mut self, index: u32) -> anyhow::Result<Option<Link>> {
        match self.socket.ask(&link_request(index, 0)) {
            Ok(messages) => Ok(messages.iter().find_map(Link::parse)),
            Err(Errno::ENODEV) => Ok(None),
            Err(error) => Err(error).context(format!("reading interface {index}")),
        }
    }

    /// The route to `ip`; none if there is none, or none to another host.
    pub fn route(&mut self, ip: IpAddr) -> anyhow::Result<Option<Route>> {
        let mut header = [0; ROUTE_HEADER];
        header[0] = family(ip);
        header[1] = width(ip);
        // The route itself, rather than its result for this one address, so
        // that its prefix can be told.
        header[8..].copy_from_slice(&libc::RTM_F_FIB_MATCH.to_ne_bytes());
        let request =
            Request::new(libc::RTM_GETROUTE, 0, &header).attribute(libc::RTA_DST, &octets(ip));
        match self.socket.ask(&request) {
            Ok(messages) => Ok(messages.iter().find_map(Route::parse)),
            Err(Errno::ENETUNREACH | Errno::EHOSTUNREACH | Errno::EACCES | Errno::EINVAL) => {
                Ok(None)
            }
            Err(error) => Err(error).context(format!("looking up the route to {ip}")),
        }
    }

    /// Adds an address. One that is there already with the same prefix stays as
    /// it is.
    pub fn add(&mut self, new: &NewAddress) -> nix::Result<()> {
        let ip = octets(new.ip);
        let flags = if new.nodad && new.ip.is_ipv6() {
            libc::IFA_F_NODAD
        } else {
            0
        };
        let mut lifetimes = [0; 16];
        lifetimes[..4].copy_from_slice(&new.preferred.unwrap_or(FOREVER).to_ne_bytes());
        lifetimes[4..8].copy_from_slice(&FOREVER.to_ne_bytes());
        let mut request = Request::new(
            libc::RTM_NEWADDR,
            libc::NLM_F_CREATE | libc::NLM_F_EXCL,
            &address_header(family(new.ip).into(), new.prefix, 0, new.index),
        )
        .attribute(libc::IFA_LOCAL, &ip)
        .attribute(libc::IFA_ADDRESS, &ip)
        .attribute(libc::IFA_FLAGS, &flags.to_ne_bytes())
        .attribute(libc::IFA_CACHEINFO, &lifetimes);
        if let Some(broadcast) = broadcast(new.ip, new.prefix) {
            request = request.attribute(libc::IFA_BROADCAST, &broadcast.octets());
        }
        self.settle(&request, Errno::EEXIST)
    }

    /// Removes an address, if it is still there.
    pub fn remove(&mut self, address: &Address) -> nix::Result<()> {
        let family = family(address.ip).into();
        let header = address_header(family, address.prefix, 0, address.index);
        let request = Request::new(libc::RTM_DELADDR, 0, &header)
            .attribute(libc::IFA_LOCAL, &octets(address.ip));
        match self.settle(&request, Errno::EADDRNOTAVAIL) {
            Err(Errno::ENODEV) => Ok(()),
            result => result,
        }
    }

    /// Adds an address again as it was when it was read.
    pub fn restore(&mut self, address: &Address) -> nix::Result<()> {
        let flags = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
        let request = Request::new(libc::RTM_NEWADDR, flags, &address.body);
        self.settle(&request, Errno::EEXIST)
    }

    /// Sends an order, for which `done` says that nothing was left to do.
    fn settle(&mut self, order: &Request, done: Errno) -> nix::Result<()> {
        match self.socket.ask(order) {
            Err(error) if error != done => Err(error),
            _ => Ok(()),
        }
    }
}

/// The highest prefix length of an address's family, in bits.
#[must_use]
pub fn width(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 32 } else { 128 }
}

fn address_header(family: libc::c_int, prefix: u8, scope: u8, index: u32) -> [u8; ADDRESS_HEADER] {
    let mut header = [family.cast_unsigned() as u8, prefix, 0, scope, 0, 0, 0, 0];
    header[4..].copy_from_slice(&index.to_ne_bytes());
    header
}

fn link_request(index: u32, flags: libc::c_int) -> Request {
    let mut header = [0; LINK_HEADER];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    // Statistics are the larger part of a link's description.
    Request::new(libc::RTM_GETLINK, flags, &header).attribute(
        libc::IFLA_EXT_MASK,
        &libc::RTEXT_FILTER_SKIP_STATS.to_ne_bytes(),
    )
}

/// The broadcast address of a network that has one.
fn broadcast(ip: IpAddr, prefix: u8) -> Option<Ipv4Addr> {
    match ip {
        IpAddr::V4(ip) if prefix <= 30 => {
            let hosts = u32::MAX.checked_shr(prefix.into()).unwrap_or(0);
            Some(Ipv4Addr::from_bits(ip.to_bits() | hosts))
        }
        _ => None,
    }
}

fn family(ip: IpAddr) -> u8 {
    let family = match ip {
        IpAddr::V4(_) => libc::AF_INET,
        IpAddr::V6(_) => libc::AF_INET6,
    };
    family.cast_unsigned() as u8
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

fn ip(octets: &[u8]) -> Option<IpAddr> {
    if let Ok(octets) = <[u8; 4]>::try_from(octets) {
        return Some(Ipv4Addr::from(octets).into());
    }
    let octets = <[u8; 16]>::try_from(octets).ok()?;
    Some(Ipv6Addr::from(octets).into())
}

/// The bits of an address, left-aligned, so that both families are masked alike.
fn bits(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u128::from(ip.to_bits()) << 96,
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

fn mask(ip: IpAddr, prefix: u8) -> u128 {
    let rest = 128 - u32::from(prefix.min(width(ip)));
    u128::MAX.checked_shl(rest).unwrap_or(0)
}

/// A string as the kernel ends it, with a zero.
fn text(value: &[u8]) -> String {
    let end = value.iter().position(|byte| *byte == 0);
    String::from_utf8_lossy(&value[..end.unwrap_or(value.len())]).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn address(ip: &str, prefix: u8) -> Address {
        Address {
            ip: ip.parse().unwrap(),
            prefix,
            index: 1,
            flags: 0,
            body: Vec::new(),
        }
    }

    #[test]
    fn a_network_contains_what_its_prefix_says() {
        for (own, prefix, other, contained) in [
            ("10.0.0.1", 24, "10.0.0.200", true),
            ("10.0.0.1", 24, "10.0.1.1", false),
            ("10.0.0.1", 25, "10.0.0.200", false),
            ("10.0.0.1", 0, "192.0.2.1", true),
            ("10.0.0.1", 32, "10.0.0.1", true),
            ("10.0.0.1", 32, "10.0.0.0", false),
            ("fd00::1", 64, "fd00::ffff:1", true),
            ("fd00::1", 64, "fd00:0:0:1::1", false),
            ("fd00::1", 0, "10.0.0.1", false),
            ("fd00::1", 128, "fd00::1", true),
        ] {
            assert_eq!(
                address(own, prefix).network_contains(other.parse().unwrap()),
                contained,
                "{own}/{prefix} {other}"
            );
        }
    }

    #[test]
    fn broadcast_is_the_last_of_the_network() {
        for (ip, prefix, expected) in [
            ("10.0.0.1", 24, Some("10.0.0.255")),
            ("10.0.0.5", 30, Some("10.0.0.7")),
            ("10.0.0.5", 31, None),
            ("10.0.0.5", 32, None),
            ("10.0.0.5", 0, Some("255.255.255.255")),
            ("fd00::1", 24, None),
        ] {
            let found = broadcast(ip.parse().unwrap(), prefix);
            assert_eq!(found.map(|ip| ip.to_string()).as_deref(), expected);
        }
    }

    #[test]
    fn the_own_end_of_a_point_to_point_link_is_the_address() {
        let header = address_header(libc::AF_INET, 32, 0, 9);
        let message = Request::new(libc::RTM_NEWADDR, 0, &header)
            .attribute(libc::IFA_ADDRESS, &[192, 0, 2, 2])
            .attribute(libc::IFA_LOCAL, &[192, 0, 2, 1])
            .as_message();
        let address = Address::parse(&message).unwrap();
        assert_eq!(address.ip, Ipv4Addr::new(192, 0, 2, 1));
        assert_eq!((address.prefix, address.index), (32, 9));
    }

    #[test]
    fn what_is_cut_off_is_not_an_address_link_or_route() {
        for length in 0..ADDRESS_HEADER {
            let message = Message {
                kind: 0,
                body: vec![0; length],
            };
            assert_eq!(Address::parse(&message), None);
            assert_eq!(Link::parse(&message), None);
            assert_eq!(Route::parse(&message), None);
        }
    }

    #[test]
    fn this_host_has_a_loopback_interface() {
        let mut network = Network::open().unwrap();
        let links = network.links().unwrap();
        let lo = links.iter().find(|link| link.called("lo")).unwrap();
        assert_eq!(network.link(lo.index).unwrap().as_ref(), Some(lo));
        assert_eq!(network.link(u32::MAX >> 1).unwrap(), None);
    }

    proptest! {
        /// A kernel of another time may say what this program does not expect.
        #[test]
        fn any_message_is_understood_or_ignored(
            header in vec(any::<u8>(), 16),
            values in vec((0..60_u16, vec(any::<u8>(), 0..40)), 0..8),
        ) {
            let mut request = Request::new(0, 0, &header);
            for (kind, value) in &values {
                request = request.attribute(*kind, value);
            }
            let message = request.as_message();
            let _ = (Link::parse(&message), Route::parse(&message));
            if let Some(address) = Address::parse(&message) {
                let _ = address.network_contains(address.ip);
                let _ = broadcast(address.ip, address.prefix);
            }
        }

        /// The mask by arithmetic against the mask bit by bit.
        #[test]
        fn a_network_is_its_first_bits(ip: u128, other: u128, prefix in 0..=128_u8) {
            let same = (0..prefix).all(|bit| (ip ^ other) >> (127 - bit) & 1 == 0);
            let own = address(&Ipv6Addr::from(ip).to_string(), prefix);
            prop_assert_eq!(own.network_contains(Ipv6Addr::from(other).into()), same);
        }
    }
}
