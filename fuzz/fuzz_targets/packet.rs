//! The packets that are sent to clients: whatever is in them, their sums are
//! right.

#![no_main]

use libfuzzer_sys::fuzz_target;
use storhaug_corosync::noded::packet::{v4, v6};

fuzz_target!(|input: (u128, u128, u16, u16, u32, u32)| {
    let (from, to, from_port, to_port, sequence, acknowledged) = input;
    let numbers = (sequence, acknowledged);
    let packet = v6((from.into(), from_port), (to.into(), to_port), numbers);
    assert_eq!(sum(6 + 20, &packet[8..]), 0xffff);
    let (from, to) = (from as u32, to as u32);
    let packet = v4((from.into(), from_port), (to.into(), to_port), numbers);
    assert_eq!(sum(0, &packet[..20]), 0xffff);
    assert_eq!(sum(6 + 20, &packet[12..]), 0xffff);
});

/// As a receiver adds it up (RFC 1071).
fn sum(pseudo: u64, bytes: &[u8]) -> u64 {
    let words = bytes.chunks_exact(2);
    let sum = words.fold(pseudo, |sum, word| {
        sum + u64::from(word[0]) * 256 + u64::from(word[1])
    });
    (sum & 0xffff) + (sum >> 16)
}
