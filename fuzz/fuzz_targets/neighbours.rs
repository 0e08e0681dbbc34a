//! What other hosts on the network say of an address.

#![no_main]

use libfuzzer_sys::fuzz_target;
use storhaug_agents::vip::duplicate::{advertised, arp_claim};

fuzz_target!(|bytes: &[u8]| {
    let _ = (arp_claim(bytes), advertised(bytes));
});
