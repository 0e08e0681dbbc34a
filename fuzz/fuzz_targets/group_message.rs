//! What the daemons on other nodes say.

#![no_main]

use libfuzzer_sys::fuzz_target;
use storhaug_corosync::noded::message::Said;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(said) = Said::decode(bytes) {
        assert_eq!(Said::decode(&said.encode()).unwrap(), said);
    }
});
