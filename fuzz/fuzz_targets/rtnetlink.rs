//! What the kernel says of addresses, interfaces and routes.

#![no_main]

use libfuzzer_sys::fuzz_target;
use storhaug_agents::addresses::{Address, Link, Route};
use storhaug_agents::netlink::Message;

fuzz_target!(|bytes: &[u8]| {
    let message = Message {
        kind: 0,
        body: bytes.to_vec(),
    };
    let _ = (Link::parse(&message), Route::parse(&message));
    if let Some(address) = Address::parse(&message) {
        let _ = (address.tentative(), address.network_contains(address.ip));
    }
});
