//! What the daemons on other nodes say.

#![no_main]

use libfuzzer_sys::fuzz_target;
use storhaug_corosync::noded::message::Message;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(message) = Message::decode(bytes) {
        assert_eq!(message.encode(), bytes);
    }
});
