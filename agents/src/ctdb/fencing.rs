//! Whether Pacemaker has a node to fence.
//!
//! Pacemaker begins nothing new, not even a fencing, before the actions that it
//! has under way are through. CTDB's recovery waits for the fencing of a lost
//! node, so a start that waits for the recovery would be waited for itself.

use crate::{exec::Cmd, ocf::Ctx};

/// Whether a node is lost, and not known to be dead. Where Pacemaker cannot be
/// asked there is none.
pub fn is_due(ctx: &Ctx) -> bool {
    let query = Cmd::new("cibadmin").args(["--query", "--xpath", "//node_state"]);
    let states = ctx.run(&query).and_then(|output| output.checked());
    states.is_ok_and(|states| has_unclean(&states))
}

/// A lost node is one that is no member any more, and is expected to be one.
/// Fencing changes what is expected (Pacemaker, "controld_fencing.c",
/// `update_node_state_after_fencing`). `in_ccm` is true or false in Pacemaker
/// 2.1, and a time or 0 in 3.0.
fn has_unclean(states: &str) -> bool {
    let Ok(document) = roxmltree::Document::parse(states) else {
        return false;
    };
    document.descendants().any(|node| {
        node.has_tag_name("node_state")
            && matches!(node.attribute("in_ccm"), Some("false" | "0"))
            && node.attribute("expected") == Some("member")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_to_be_fenced() {
        let cases = [
            (("true", "member"), false),
            (("1763721600", "member"), false),
            (("false", "member"), true),
            (("0", "member"), true),
            (("false", "down"), false),
            (("0", "down"), false),
        ];
        for ((in_ccm, expected), want) in cases {
            let states = format!(
                r#"<xpath-query><node_state id="1" in_ccm="true" expected="member"/>
                   <node_state id="2" in_ccm="{in_ccm}" expected="{expected}"/></xpath-query>"#
            );
            assert_eq!(has_unclean(&states), want, "{in_ccm} {expected}");
        }
        assert!(!has_unclean(""));
    }
}
