//! What the daemons on other nodes say.

#![no_main]

use libfuzzer_sys::fuzz_target;
use storhaug_corosync::noded::message::{Heard, Said};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(Heard::Said(said)) = Said::decode(bytes) {
        assert_eq!(Said::decode(&said.encode()).unwrap(), Heard::Said(said));
    }
});
