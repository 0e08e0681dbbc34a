//! What anybody sends to a virtual address.

#![no_main]

use libfuzzer_sys::fuzz_target;
use storhaug_corosync::noded::answers::answer;

fuzz_target!(|packet: &[u8]| {
    for vip in ["10.0.0.100", "fd00::100"] {
        let vip = vip.parse().unwrap();
        if let Some(answer) = answer(vip, vip, packet) {
            assert_eq!(answer.connection.client, vip);
        }
    }
});
