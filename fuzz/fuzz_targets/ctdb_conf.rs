//! The administrator's ctdb.conf: what is set is read again, and setting it
//! twice changes nothing.

#![no_main]

use libfuzzer_sys::fuzz_target;
use storhaug_agents::ctdb::configuration::{Setting, value, with};

fuzz_target!(|text: &str| {
    let settings = [Some("true"), None].map(|value| Setting {
        section: if value.is_some() {
            "failover"
        } else {
            "legacy"
        },
        key: if value.is_some() {
            "disabled"
        } else {
            "realtime scheduling"
        },
        value,
    });
    let after = with(text, &settings);
    assert_eq!(value(&after, "failover", "disabled"), Some("true"));
    assert_eq!(value(&after, "legacy", "realtime scheduling"), None);
    assert_eq!(with(&after, &settings), after);
});
