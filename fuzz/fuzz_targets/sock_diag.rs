//! What the kernel says of sockets.

#![no_main]

use libfuzzer_sys::fuzz_target;
use storhaug_corosync::noded::sockets::{Replies, Socket};

fuzz_target!(|bytes: &[u8]| {
    for reply in Replies(bytes).flatten() {
        let _ = (Socket::decode(reply.body), reply.error());
    }
});
