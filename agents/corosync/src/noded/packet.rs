//! The tickle: a TCP acknowledgement that does not fit the connection.
//!
//! A client that still believes in the connection answers it with an
//! acknowledgement of its own that carries the right numbers (RFC 9293
//! §3.10.7.4); that reaches a host without such a connection, whose reset then
//! carries exactly the number that the client expects (RFC 5961 §3.2).
//!
//! Four variants are sent. Connection tracking on the way drops an
//! acknowledgement that is ahead of the window in sequence or in
//! acknowledgement, but lets an overly delayed one pass (Linux 6.1); which of 0
//! and 2³¹ lies behind is unknown for each of the two numbers, so one of the
//! four always passes.

use std::net::{Ipv4Addr, Ipv6Addr};

/// The pairs of sequence and acknowledgement number.
pub const VARIANTS: [(u32, u32); 4] = [(0, 0), (0, 1 << 31), (1 << 31, 0), (1 << 31, 1 << 31)];

/// The window, by which CTDB's packets are known in a capture as well.
const WINDOW: u16 = 1234;

/// The numbers for a client that has told its own, with which connection
/// tracking lets a packet pass: one that repeats what the client has had, as a
/// keepalive probe (RFC 9293 §3.8.4), which is answered as a tickle is.
pub fn probe((sequence, acknowledged): (u32, u32)) -> (u32, u32) {
    (acknowledged.wrapping_sub(1), sequence)
}

const TCP: u8 = 6;
const TCP_LENGTH: usize = 20;

/// A whole IPv4 packet, from the virtual address to the client. The kernel
/// fills in the identification (raw(7)).
pub fn v4(
    from: (Ipv4Addr, u16),
    to: (Ipv4Addr, u16),
    numbers: (u32, u32),
) -> [u8; 20 + TCP_LENGTH] {
    let mut packet = [0; 20 + TCP_LENGTH];
    packet[0] = 0x45;
    packet[3] = 20 + TCP_LENGTH as u8;
    packet[8] = 255;
    packet[9] = TCP;
    packet[12..16].copy_from_slice(&from.0.octets());
    packet[16..20].copy_from_slice(&to.0.octets());
    let sum = finish(add(0, &packet[..20]));
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    let pseudo = add(0, &packet[12..20]);
    packet[20..].copy_from_slice(&acknowledgement(from.1, to.1, numbers, pseudo));
    packet
}

/// A whole IPv6 packet, from the virtual address to the client.
pub fn v6(
    from: (Ipv6Addr, u16),
    to: (Ipv6Addr, u16),
    numbers: (u32, u32),
) -> [u8; 40 + TCP_LENGTH] {
    let mut packet = [0; 40 + TCP_LENGTH];
    packet[0] = 0x60;
    packet[5] = TCP_LENGTH as u8;
    packet[6] = TCP;
    packet[7] = 64;
    packet[8..24].copy_from_slice(&from.0.octets());
    packet[24..40].copy_from_slice(&to.0.octets());
    let pseudo = add(0, &packet[8..40]);
    packet[40..].copy_from_slice(&acknowledgement(from.1, to.1, numbers, pseudo));
    packet
}

/// The TCP part; `pseudo` is the sum of the two addresses.
fn acknowledgement(
    from: u16,
    to: u16,
    (sequence, acknowledged): (u32, u32),
    pseudo: u32,
) -> [u8; TCP_LENGTH] {
    let mut segment = [0; TCP_LENGTH];
    segment[0..2].copy_from_slice(&from.to_be_bytes());
    segment[2..4].copy_from_slice(&to.to_be_bytes());
    segment[4..8].copy_from_slice(&sequence.to_be_bytes());
    segment[8..12].copy_from_slice(&acknowledged.to_be_bytes());
    segment[12] = (TCP_LENGTH as u8 / 4) << 4;
    segment[13] = 0x10;
    segment[14..16].copy_from_slice(&WINDOW.to_be_bytes());
    let sum = finish(add(pseudo + u32::from(TCP) + TCP_LENGTH as u32, &segment));
    segment[16..18].copy_from_slice(&sum.to_be_bytes());
    segment
}

/// Adds 16-bit words to a sum (RFC 1071).
fn add(sum: u32, bytes: &[u8]) -> u32 {
    bytes.chunks_exact(2).fold(sum, |sum, word| {
        sum + u32::from(u16::from_be_bytes([word[0], word[1]]))
    })
}

/// The complement of a sum, its carries folded in.
fn finish(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the carries have been folded in"
    )]
    let sum = sum as u16;
    !sum
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As `ctdb tickle` sends it, but for the identification.
    #[test]
    fn an_ipv4_tickle_byte_by_byte() {
        let packet = v4(
            (Ipv4Addr::new(10, 9, 0, 100), 445),
            (Ipv4Addr::new(10, 9, 0, 10), 50000),
            (0, 0),
        );
        #[rustfmt::skip]
        let expected = [
            0x45, 0x00, 0x00, 0x28, 0x00, 0x00, 0x00, 0x00, 0xff, 0x06, 0xa7, 0x50,
            0x0a, 0x09, 0x00, 0x64, 0x0a, 0x09, 0x00, 0x0a,
            0x01, 0xbd, 0xc3, 0x50, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
            0x50, 0x10, 0x04, 0xd2, 0xd1, 0x75, 0x00, 0x00,
        ];
        assert_eq!(packet, expected);
    }

    #[test]
    fn an_ipv6_tickle_byte_by_byte() {
        let packet = v6(
            ("fd09::100".parse().unwrap(), 445),
            ("fd09::10".parse().unwrap(), 50000),
            (0, 0),
        );
        #[rustfmt::skip]
        let expected = [
            0x60, 0x00, 0x00, 0x00, 0x00, 0x14, 0x06, 0x40,
            0xfd, 0x09, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x01, 0x00,
            0xfd, 0x09, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x00, 0x10,
            0x01, 0xbd, 0xc3, 0x50, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
            0x50, 0x10, 0x04, 0xd2, 0xea, 0xd1, 0x00, 0x00,
        ];
        assert_eq!(packet, expected);
    }

    #[test]
    fn the_variants_differ_in_sequence_and_acknowledgement_alone() {
        for (sequence, acknowledged) in VARIANTS {
            let packet = v4(
                (Ipv4Addr::new(192, 0, 2, 1), 2049),
                (Ipv4Addr::new(192, 0, 2, 2), 700),
                (sequence, acknowledged),
            );
            assert_eq!(packet[24..28], sequence.to_be_bytes());
            assert_eq!(packet[28..32], acknowledged.to_be_bytes());
            assert_eq!(packet[32..36], [0x50, 0x10, 0x04, 0xd2]);
        }
    }

    #[test]
    fn a_probe_is_one_before_what_the_client_expects() {
        assert_eq!(probe((7, 1000)), (999, 7));
        assert_eq!(probe((u32::MAX, 0)), (u32::MAX, u32::MAX));
    }

    proptest! {
        /// A receiver adds everything up, the checksum included, to all ones.
        #[test]
        fn every_checksum_is_right(
            from in any::<u128>(), to in any::<u128>(), ports in any::<(u16, u16)>(),
            numbers in any::<(u32, u32)>(),
        ) {
            let packet = v6(
                (Ipv6Addr::from_bits(from), ports.0), (Ipv6Addr::from_bits(to), ports.1), numbers,
            );
            prop_assert_eq!(finish(add(6 + 20, &packet[8..])), 0);
            #[expect(clippy::cast_possible_truncation, reason = "any 32 bits will do")]
            let packet = v4(
                (Ipv4Addr::from_bits(from as u32), ports.0),
                (Ipv4Addr::from_bits(to as u32), ports.1),
                numbers,
            );
            prop_assert_eq!(finish(add(0, &packet[..20])), 0);
            prop_assert_eq!(finish(add(6 + 20, &packet[12..])), 0);
        }
    }
}
