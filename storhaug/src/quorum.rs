//! Whether a change of the members leaves the cluster its quorum, by the rules
//! of votequorum(5): one vote each, more than half of them, and of two nodes
//! one is enough.

use anyhow::bail;

use crate::state::State;

/// How many of `nodes` members are needed.
pub fn needed(nodes: usize) -> usize {
    match nodes {
        0..=2 => 1,
        more => more / 2 + 1,
    }
}

/// Refuses `name` as one more of `members`: it counts before it takes part.
///
/// # Errors
/// Too few of the others take part.
pub fn after_joining(members: &[String], name: &str, state: &State) -> anyhow::Result<()> {
    let (up, down) = split(members, name, state);
    let needed = needed(members.len() + 1);
    // A single node is joined by an equal, and two are enough with either.
    if members.len() > 1 && up.len() < needed {
        bail!(
            "with {name} there are {} members, of which {needed} have to take part, and until it \
             does there are {}; start {} first",
            members.len() + 1,
            up.len(),
            down.join(", ")
        );
    }
    Ok(())
}

/// Refuses to go on without `name`, one of `members`, for good or for a while.
/// One that is drained may be switched off any time, and does not count.
///
/// # Errors
/// Too few of the others take part.
pub fn after_leaving(members: &[String], name: &str, state: &State) -> anyhow::Result<()> {
    let (up, down) = split(members, name, state);
    let drained = |member: &&str| state.nodes.get(*member).is_some_and(|node| node.standby);
    let (drained, up): (Vec<&str>, Vec<&str>) = up.into_iter().partition(drained);
    let needed = needed(members.len());
    if up.len() < needed {
        let remedy = match (&down[..], &drained[..]) {
            ([], []) => "add another node first".to_owned(),
            ([], [drained, ..]) => format!("have one back first: `storhaug undrain {drained}`"),
            (down, _) => format!("start {} first", down.join(", ")),
        };
        bail!(
            "without {name} there would be no quorum: of {} members {needed} have to take part, \
             and there would be {}; {remedy}",
            members.len(),
            up.len()
        );
    }
    Ok(())
}

/// Refuses to take out `name`, one of `members`, while another one is down: all
/// that stay are given the new list of members, and pcs gives it to none where one
/// cannot be reached.
///
/// # Errors
/// One is down.
pub fn all_told(members: &[String], name: &str, state: &State) -> anyhow::Result<()> {
    let (_, down) = split(members, name, state);
    if !down.is_empty() {
        let down = down.join(", ");
        bail!(
            "{down} is down and would not learn that {name} is gone; start {down} first, or \
               take it out first"
        );
    }
    Ok(())
}

/// Which of `members`, without `name`, take part, and which do not.
fn split<'a>(members: &'a [String], name: &str, state: &State) -> (Vec<&'a str>, Vec<&'a str>) {
    let others = members.iter().map(String::as_str);
    let others = others.filter(|member| *member != name);
    others.partition(|member| state.nodes.get(*member).is_some_and(|node| node.online))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Node;

    fn state(up: &[&str], down: &[&str]) -> (Vec<String>, State) {
        let node = |online| Node {
            online,
            ..Node::default()
        };
        let up = up.iter().map(|name| ((*name).to_owned(), node(true)));
        let down = down.iter().map(|name| ((*name).to_owned(), node(false)));
        let state = State {
            nodes: up.chain(down).collect(),
            ..State::default()
        };
        (state.nodes.keys().cloned().collect(), state)
    }

    #[test]
    fn a_majority_has_to_be_left() {
        for (up, down, leaves, joins) in [
            (&["a"][..], &[][..], false, true),
            (&["a", "b"], &[], true, true),
            (&["a", "b", "c"], &[], true, true),
            (&["a", "b"], &["c"], false, false),
            (&["a", "b", "c"], &["d"], false, true),
            (&["a", "b", "c", "d"], &[], true, true),
            (&["a", "b", "c", "d"], &["e"], true, true),
        ] {
            let (members, state) = state(up, down);
            assert_eq!(
                after_leaving(&members, "a", &state).is_ok(),
                leaves,
                "{up:?} {down:?}"
            );
            assert_eq!(
                after_joining(&members, "x", &state).is_ok(),
                joins,
                "{up:?} {down:?}"
            );
        }
        // Who is drained may be down next.
        let (members, mut drained) = state(&["a", "b", "c"], &[]);
        if let Some(node) = drained.nodes.get_mut("b") {
            node.standby = true;
        }
        let error = after_leaving(&members, "a", &drained).unwrap_err();
        assert!(error.to_string().contains("storhaug undrain b"), "{error}");
        assert!(after_leaving(&members, "b", &drained).is_ok());
        assert!(after_joining(&members, "x", &drained).is_ok());
        // Who is down already costs nothing more.
        let (members, state) = state(&["a", "b"], &["c"]);
        assert!(after_leaving(&members, "c", &state).is_ok());
    }

    #[test]
    fn all_that_stay_have_to_be_told() {
        let (members, state) = state(&["a", "b", "c"], &["d"]);
        let error = all_told(&members, "a", &state).unwrap_err().to_string();
        assert!(error.starts_with("d is down"), "{error}");
        assert!(all_told(&members, "d", &state).is_ok());
    }
}
