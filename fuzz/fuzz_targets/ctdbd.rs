//! What CTDB's daemon says.

#![no_main]

use libfuzzer_sys::fuzz_target;
use storhaug_agents::ctdbd::{Packet, node_map};

fuzz_target!(|bytes: &[u8]| {
    let _ = (Packet::parse(bytes), node_map(bytes));
});
