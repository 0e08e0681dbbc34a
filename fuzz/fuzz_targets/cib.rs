//! Pacemaker's documents: the CIB, by all of its readers, and the state.

#![no_main]

use libfuzzer_sys::fuzz_target;
use storhaug::state::State;
use storhaug::xml::Element;
use storhaug_corosync::{lost::Lost, noded::cause};

fuzz_target!(|text: &str| {
    let _ = (State::parse(text), Lost::parse(text));
    let _ = cause::parse(text, [10, 0, 0, 101].into(), 2);
    if let Ok(tree) = Element::parse(text) {
        assert_eq!(Element::parse(&tree.to_string()).unwrap(), tree);
    }
});
