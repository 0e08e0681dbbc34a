//! Whether a lost node is still to be fenced, by what Pacemaker says of it.
//!
//! Pacemaker begins nothing new, not even a fencing, before the actions that it
//! has under way are through, first monitors included. CTDB's recovery and the
//! shared storage wait for the fencing, so an action that waits for them would be
//! waited for itself.

use std::time::Duration;

use roxmltree::{Document, Node};

use crate::{
    child::{self, Answer},
    deadline::Deadline,
    exec::{Cmd, Output},
    ocf::{Ctx, truth},
};

/// Why something else has to wait.
pub const FIRST: &str = "a lost node is to be fenced first";

/// How long Pacemaker may take to say what it knows; it takes 15 ms.
const ANSWER: Duration = Duration::from_secs(5);

/// What of the CIB is asked for: nothing of the nodes that are there.
const QUERY: &str = "//crm_config | //node_state[@in_ccm='false' or @in_ccm='0']";

/// Whether a node is lost, and not known to be dead, in a cluster that fences.
/// Where Pacemaker cannot be asked, none is known to be.
pub fn is_due(ctx: &Ctx) -> bool {
    is_due_before(ctx, ctx.deadline)
}

fn is_due_before(ctx: &Ctx, deadline: Deadline) -> bool {
    let query = Cmd::new("cibadmin").args(["--query", "--xpath", QUERY]);
    let answer = ctx.runner.run(&query, deadline.earlier(ANSWER));
    let answer = answer.and_then(|output| output.checked());
    answer.is_ok_and(|cib| Document::parse(&cib).is_ok_and(|cib| is_due_by(&cib)))
}

/// Runs a command that may wait for what a fencing has to come before: until
/// `deadline`, and no longer than until one is due.
///
/// # Errors
/// As [`crate::exec::Runner::run`].
pub fn run(ctx: &Ctx, cmd: &Cmd, deadline: Deadline) -> anyhow::Result<Output> {
    let wanted = || !is_due_before(ctx, deadline);
    ctx.runner.run_while(cmd, deadline, &wanted)
}

/// Has a child make a system call, in the same manner.
///
/// # Errors
/// As [`child::call`].
pub fn call(
    ctx: &Ctx,
    deadline: Deadline,
    call: impl FnOnce() -> nix::Result<()>,
) -> anyhow::Result<Answer> {
    child::call_while(deadline, || !is_due_before(ctx, deadline), call)
}

/// Whether one is due by a CIB, or by those parts of it that say so.
///
/// A lost node is one that is no member any more, and is expected to be one.
/// Fencing changes what is expected (Pacemaker, "controld_fencing.c",
/// `update_node_state_after_fencing`). `in_ccm` is true or false in Pacemaker 2.1,
/// and a time or 0 in 3.0.
pub fn is_due_by(cib: &Document) -> bool {
    let mut states = cib.descendants().filter(|n| n.has_tag_name("node_state"));
    let lost = states.any(|state| {
        matches!(state.attribute("in_ccm"), Some("false" | "0"))
            && state.attribute("expected") == Some("member")
    });
    lost && is_on(cib.root())
}

/// Whether the cluster fences: `stonith-enabled`, which newer releases also call
/// `fencing-enabled`. It is on unless it is switched off wherever it is set.
pub fn is_on(cib: Node) -> bool {
    let mut values = cib
        .descendants()
        .filter(|n| n.has_tag_name("crm_config"))
        .flat_map(|n| n.descendants())
        .filter(|n| {
            n.has_tag_name("nvpair")
                && matches!(
                    n.attribute("name"),
                    Some("stonith-enabled" | "fencing-enabled")
                )
        })
        .filter_map(|n| n.attribute("value"))
        .peekable();
    values.peek().is_none() || values.any(|value| truth(value) != Some(false))
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, path::Path, time::Duration};

    use super::*;
    use crate::{
        deadline::Deadline,
        exec::{Host, Runner},
    };

    /// A CIB with one node that is there, and one of which this is said.
    fn cib(properties: &str, in_ccm: &str, expected: &str) -> String {
        format!(
            r#"<cib validate-with="pacemaker-3.0" admin_epoch="0" epoch="1" num_updates="0">
               <configuration><crm_config><cluster_property_set id="a">{properties}
               </cluster_property_set></crm_config><nodes/><resources/><constraints/>
               </configuration><status>
               <node_state id="1" uname="node1" in_ccm="true" expected="member"/>
               <node_state id="2" uname="node2" in_ccm="{in_ccm}" expected="{expected}"/>
               </status></cib>"#
        )
    }

    fn stonith(enabled: &str) -> String {
        format!(r#"<nvpair id="b" name="stonith-enabled" value="{enabled}"/>"#)
    }

    #[test]
    fn nodes_to_be_fenced() {
        let cases = [
            ("true", "member", false),
            ("1763721600", "member", false),
            ("false", "member", true),
            ("0", "member", true),
            ("false", "down", false),
            ("0", "down", false),
        ];
        for (in_ccm, expected, want) in cases {
            for (properties, fences) in [
                ("", true),
                (&*stonith("true"), true),
                (&*stonith("no"), false),
            ] {
                let cib = cib(properties, in_ccm, expected);
                let due = is_due_by(&Document::parse(&cib).unwrap());
                assert_eq!(due, want && fences, "{in_ccm} {expected} {properties}");
            }
        }
    }

    #[test]
    fn whether_the_cluster_fences() {
        let cases = [
            ("", true),
            (r#"<nvpair name="stonith-enabled" value="true"/>"#, true),
            (r#"<nvpair name="stonith-enabled" value="False"/>"#, false),
            (r#"<nvpair name="fencing-enabled" value="0"/>"#, false),
            (
                r#"<nvpair name="stonith-enabled" value="false"/><nvpair name="fencing-enabled" value="true"/>"#,
                true,
            ),
        ];
        for (properties, want) in cases {
            let cib = cib(properties, "true", "member");
            let document = Document::parse(&cib).unwrap();
            assert_eq!(is_on(document.root()), want, "{properties}");
        }
    }

    #[test]
    fn pacemaker_tells_of_lost_nodes() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("cib.xml");
        let runner = |cmd: &Cmd| {
            let cmd = cmd.clone().env("CIB_file", &file);
            Host.run(&cmd, Deadline::after(Duration::from_secs(30)))
        };
        let environment = BTreeMap::new();
        let ctx = Ctx {
            runner: &runner,
            root: Path::new("/nonexistent"),
            deadline: Deadline::after(Duration::from_secs(30)),
            depth: 0,
            probe: false,
            instance: "x",
            node: None,
            environment: &environment,
        };
        for (properties, in_ccm, want) in [
            (stonith("true"), "false", true),
            (stonith("true"), "true", false),
            (stonith("false"), "false", false),
            (String::new(), "0", true),
        ] {
            std::fs::write(&file, cib(&properties, in_ccm, "member")).unwrap();
            assert_eq!(is_due(&ctx), want, "{properties} {in_ccm}");
        }
        std::fs::remove_file(&file).unwrap();
        assert!(!is_due(&ctx), "no Pacemaker");
    }
}
