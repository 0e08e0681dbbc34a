//! Does another host answer for our address?
//!
//! The question is the probe of address conflict detection (RFC 5227 §2.1.1)
//! or of duplicate address detection (RFC 4862 §5.4.2), which changes nobody's
//! tables; it can be asked before the address is up and while it is.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use anyhow::Context;
use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, setsockopt, socket, sockopt,
};

use crate::addresses::Link;
use crate::announce::{Ethernet, Mac};
use crate::deadline::Deadline;

/// How often the question is asked: one frame may be lost.
const PROBES: u32 = 2;

/// How long an answer may take after each. A host in the same network answers
/// within a millisecond, unless it is in great trouble.
const PATIENCE: Duration = Duration::from_millis(150);

/// Asks on `link` for another holder of `ip`, for `PROBES` times `PATIENCE`
/// at most; none if nobody answers. What an interface of `own` says does not
/// count: several of them may be in one network, and each answers for all
/// addresses of this host.
pub fn holder(
    link: &Link,
    own: &[Link],
    ip: IpAddr,
    deadline: Deadline,
) -> anyhow::Result<Option<Mac>> {
    let doing = || format!("looking for another holder of {ip} on {}", link.name);
    if link.hardware != libc::ARPHRD_ETHER {
        return Ok(None);
    }
    let ethernet = Ethernet::open(link, Some(libc::ETH_P_ARP as u16)).with_context(doing)?;
    let icmp = match ip {
        IpAddr::V4(_) => None,
        IpAddr::V6(_) => Some(icmpv6(&link.name).with_context(doing)?),
    };
    let socket = icmp.as_ref().unwrap_or(ethernet.fd());
    for _ in 0..PROBES {
        ethernet.probe(ip).with_context(doing)?;
        let patience = deadline.earlier(PATIENCE);
        while let Some(packet) = receive(socket, patience).with_context(doing)? {
            let claim = match ip {
                IpAddr::V4(_) => arp_claim(&packet),
                IpAddr::V6(_) => advertised(&packet),
            };
            if let Some((claimed, mac)) = claim
                && claimed == ip
                && own.iter().all(|link| link.mac != Some(mac))
            {
                return Ok(Some(mac));
            }
        }
    }
    Ok(None)
}

/// A hardware address as it is written everywhere.
#[must_use]
pub fn written(mac: Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// A socket for the ICMPv6 messages that come in on one interface.
fn icmpv6(nic: &str) -> anyhow::Result<OwnedFd> {
    let fd = socket(
        AddressFamily::Inet6,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::IcmpV6,
    )?;
    setsockopt(&fd, sockopt::BindToDevice, &OsString::from(nic))?;
    Ok(fd)
}

/// The next packet; none once the deadline is over.
fn receive(socket: &OwnedFd, deadline: Deadline) -> nix::Result<Option<Vec<u8>>> {
    let mut buffer = [0; 256];
    loop {
        match recv(socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
            Ok(length) => return Ok(Some(buffer[..length].to_vec())),
            Err(Errno::EAGAIN) if deadline.expired() => return Ok(None),
            Err(Errno::EAGAIN) => {}
            Err(Errno::EINTR) => continue,
            Err(error) => return Err(error),
        }
        // Rounded up, or the last millisecond would be spent in a busy loop.
        let left = deadline.left() + Duration::from_millis(1);
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(
            &mut [PollFd::new(socket.as_fd(), PollFlags::POLLIN)],
            timeout,
        ) {
            Err(error) if error != Errno::EINTR => return Err(error),
            _ => {}
        }
    }
}

/// Who an ARP frame says it comes from. Requests count as well as replies.
#[must_use]
pub fn arp_claim(frame: &[u8]) -> Option<(IpAddr, Mac)> {
    let packet = frame.get(14..)?;
    // Ethernet and IPv4.
    packet.strip_prefix(&[0, 1, 8, 0, 6, 4])?;
    let mac = *packet.get(8..)?.first_chunk()?;
    let ip: [u8; 4] = *packet.get(14..)?.first_chunk()?;
    Some((Ipv4Addr::from(ip).into(), mac))
}

/// Which address an ICMPv6 message advertises, and where it is.
#[must_use]
pub fn advertised(message: &[u8]) -> Option<(IpAddr, Mac)> {
    const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
    const TARGET_LINK_LAYER_ADDRESS: u8 = 2;
    if *message.first()? != NEIGHBOUR_ADVERTISEMENT {
        return None;
    }
    let ip: [u8; 16] = *message.get(8..)?.first_chunk()?;
    let mut options = message.get(24..)?;
    // The option must be there in an answer to a multicast question (RFC 4861
    // §4.4). Lengths count units of eight octets.
    loop {
        let length = usize::from(*options.get(1)?) * 8;
        if options[0] == TARGET_LINK_LAYER_ADDRESS && length == 8 {
            return Some((ip.into(), *options.get(2..)?.first_chunk()?));
        }
        if length == 0 {
            return None;
        }
        options = options.get(length..)?;
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    const MAC: Mac = [2, 0, 0, 0, 0, 9];

    fn arp() -> Vec<u8> {
        let mut frame = vec![0; 14];
        frame.extend_from_slice(&[0, 1, 8, 0, 6, 4, 0, 2]);
        frame.extend_from_slice(&MAC);
        frame.extend_from_slice(&[10, 0, 0, 5]);
        frame.extend_from_slice(&[0; 10]);
        frame
    }

    fn advertisement(ip: &str, options: &[u8]) -> Vec<u8> {
        let mut message = vec![136, 0, 0, 0, 0x60, 0, 0, 0];
        message.extend_from_slice(&ip.parse::<std::net::Ipv6Addr>().unwrap().octets());
        message.extend_from_slice(options);
        message
    }

    #[test]
    fn claims_are_read() {
        let ip = "10.0.0.5".parse().unwrap();
        assert_eq!(arp_claim(&arp()), Some((ip, MAC)));
        let link_layer = [2, 1, 2, 0, 0, 0, 0, 9];
        let ip = "fd00::5".parse().unwrap();
        let plain = advertisement("fd00::5", &link_layer);
        assert_eq!(advertised(&plain), Some((ip, MAC)));
        let nonce_first = [&[14, 1, 0, 0, 0, 0, 0, 0][..], &link_layer].concat();
        let other = advertisement("fd00::5", &nonce_first);
        assert_eq!(advertised(&other), Some((ip, MAC)));
    }

    #[test]
    fn nothing_else_is_a_claim() {
        let good = arp();
        for length in 0..32 {
            assert_eq!(arp_claim(&good[..length]), None);
        }
        let good = advertisement("fd00::5", &[2, 1, 2, 0, 0, 0, 0, 9]);
        for length in 0..good.len() {
            assert_eq!(advertised(&good[..length]), None);
        }
        for options in [&[][..], &[2], &[1, 0], &[1, 200], &[2, 2, 0, 0, 0, 0, 0, 0]] {
            assert_eq!(advertised(&advertisement("fd00::5", options)), None);
        }
    }

    proptest! {
        /// Anybody on the network can send anything.
        #[test]
        fn any_packet_is_a_claim_or_none(
            bytes in vec(any::<u8>(), 0..256),
            options in vec(any::<u8>(), 0..64),
        ) {
            let _ = (arp_claim(&bytes), advertised(&bytes));
            let _ = advertised(&advertisement("fd00::5", &options));
        }
    }
}
