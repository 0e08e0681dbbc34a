//! What is said at the daemon's socket, from either side.

#![no_main]

use libfuzzer_sys::fuzz_target;
use storhaug_agents::daemon::{Answer, Question, decode};

fuzz_target!(|line: &[u8]| {
    let _ = (decode::<Question>(line), decode::<Answer>(line));
});
