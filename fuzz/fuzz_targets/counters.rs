//! What the kernel says of the number of connections.

#![no_main]

use libfuzzer_sys::fuzz_target;
use storhaug_corosync::noded::arrivals::parse;

fuzz_target!(|bytes: &[u8]| {
    let _ = parse(bytes);
});
