//! Which nodes Pacemaker knows to be dead.
//!
//! A node that Corosync has lost may still be alive behind a cut cable, and
//! still be writing. What it holds must not be given away before Pacemaker has
//! fenced it, or has seen it leave in good order. Pacemaker keeps that
//! knowledge in the status section of its CIB, the same on every node of the
//! quorate part.
//!
//! Of a node that is not among Corosync's members, `node_state` says:
//!
//! | attribute  | Pacemaker 2.1 | Pacemaker 3.0   | meaning                     |
//! |------------|---------------|-----------------|-----------------------------|
//! | `in_ccm`   | `false`       | `0`             | not a member of the cluster |
//! | `crmd`     | `offline`     | `0`             | no Pacemaker there          |
//! | `join`     | `down`        | `down`          | not joined                  |
//! | `expected` | `down`        | `down`          | fenced, or told to shut down |
//!
//! A member is `true` and `online` in 2.1, and the seconds since 1970 in 3.0
//! (`crm_feature_set` 3.18.0, "unpack.c"). `expected` alone is no proof: a new
//! DC writes it for a node that it has never seen alive, too, and Pacemaker
//! then fences the node if a resource is recorded as active there
//! ("controld_join_dc.c", `join_make_offer`). So no resource must be. Fencing
//! deletes the whole record of resources ("controld_fencing.c",
//! `update_node_state_after_fencing`), while one that has left in good order
//! keeps a record of stops.

use std::collections::BTreeMap;

use anyhow::Context;
use roxmltree::{Document, Node};
use storhaug_agents::{
    deadline::Deadline,
    exec::{Cmd, Runner},
    fencing, record,
};

/// What of the CIB is asked for. All of it may be megabytes, most of them about
/// resources and about nodes that are up, and it is asked for just when Pacemaker
/// has other things to do.
const QUERY: &str = "//crm_config | //node_state[@expected='down']";

/// How a node went that is known not to act any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gone {
    /// Fenced, or confirmed to be down by the administrator. A node that had
    /// never run anything before it left looks the same.
    Fenced,
    /// Stopped in good order: everything that ran there was stopped first.
    Left,
}

/// The nodes that Pacemaker knows to be dead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    gone: BTreeMap<u32, Gone>,
    fencing: bool,
}

impl Lost {
    /// Asks this node's Pacemaker, which takes 15 ms.
    ///
    /// # Errors
    /// Pacemaker does not run here or does not answer by `deadline`; then no
    /// node is known to be dead.
    pub fn read(runner: &dyn Runner, deadline: Deadline) -> anyhow::Result<Self> {
        let cib = runner
            .run(
                &Cmd::new("cibadmin").args(["--query", "--xpath", QUERY]),
                deadline,
            )
            .and_then(|output| output.checked())
            .context("asking Pacemaker which nodes are known to be dead")?;
        Self::parse(&cib)
    }

    /// Reads a CIB, or those parts of it that matter.
    ///
    /// # Errors
    /// It is no XML.
    pub fn parse(cib: &str) -> anyhow::Result<Self> {
        let document = Document::parse(cib).context("reading Pacemaker's CIB")?;
        let root = document.root_element();
        let states = root.descendants().filter(|n| n.has_tag_name("node_state"));
        let gone = states.filter_map(|state| {
            // Remote nodes have names for ids; Corosync knows nothing of them.
            let id = state.attribute("id")?.parse().ok()?;
            Some((id, gone(state)?))
        });
        Ok(Self {
            gone: gone.collect(),
            fencing: fencing::is_on(root),
        })
    }

    /// Whether and how the node with this Corosync id went. Only to be asked
    /// about nodes that are not among Corosync's members: a fenced node that
    /// is back is a member before Pacemaker has noticed.
    pub fn gone(&self, node: u32) -> Option<Gone> {
        self.gone.get(&node).copied()
    }

    /// Whether the cluster fences. Where it does not, no crashed node will
    /// ever be known to be dead.
    pub fn fencing(&self) -> bool {
        self.fencing
    }
}

fn gone(state: Node) -> Option<Gone> {
    let is = |name, values: &[&str]| {
        state
            .attribute(name)
            .is_some_and(|value| values.contains(&value))
    };
    let down = is("in_ccm", &["false", "0"])
        && is("crmd", &["offline", "0"])
        && is("join", &["down"])
        && is("expected", &["down"]);
    if !down {
        return None;
    }
    let mut resources = state
        .descendants()
        .filter(|n| n.has_tag_name("lrm_resource"))
        .peekable();
    if resources.peek().is_none() {
        return Some(Gone::Fenced);
    }
    resources.all(record::is_stopped).then_some(Gone::Left)
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};
    use std::time::Duration;

    use storhaug_agents::exec::Host;

    use super::*;

    const STOPPED: &str = r#"<lrm id="2"><lrm_resources>
        <lrm_resource id="ctdb" class="ocf" provider="storhaug" type="ctdb">
            <lrm_rsc_op id="ctdb_last_0" operation="stop" call-id="41" rc-code="0" op-status="0"/>
            <lrm_rsc_op id="ctdb_last_failure_0" operation="monitor" call-id="12" rc-code="1" op-status="0"/>
        </lrm_resource>
        <lrm_resource id="vip" class="ocf" provider="storhaug" type="vip">
            <lrm_rsc_op id="vip_last_0" operation="monitor" call-id="9" rc-code="7" op-status="0"/>
        </lrm_resource></lrm_resources></lrm>"#;
    const RUNNING: &str = r#"<lrm id="2"><lrm_resources><lrm_resource id="ctdb">
            <lrm_rsc_op id="ctdb_last_0" operation="start" call-id="9" rc-code="0" op-status="0"/>
            <lrm_rsc_op id="ctdb_monitor_10000" operation="monitor" call-id="10" rc-code="0" op-status="0"/>
        </lrm_resource></lrm_resources></lrm>"#;
    const PENDING: &str = r#"<lrm id="2"><lrm_resources><lrm_resource id="ctdb">
            <lrm_rsc_op id="ctdb_last_failure_0" operation="stop" call-id="9" rc-code="0" op-status="0"/>
            <lrm_rsc_op id="ctdb_last_0" operation="start" call-id="-1" rc-code="193" op-status="-1"/>
        </lrm_resource></lrm_resources></lrm>"#;

    fn state(in_ccm: &str, crmd: &str, join: &str, expected: &str, lrm: &str) -> String {
        format!(
            r#"<cib><status><node_state id="2" uname="node2" in_ccm="{in_ccm}" crmd="{crmd}"
                crm-debug-origin="post_cache_update" join="{join}" expected="{expected}">{lrm}
            </node_state></status></cib>"#
        )
    }

    #[test]
    fn what_pacemaker_says_of_a_node() {
        use Gone::{Fenced, Left};
        #[rustfmt::skip]
        let cases = [
            // Pacemaker 2.1.
            ("true", "online", "member", "member", RUNNING, None, "a member"),
            ("false", "offline", "down", "member", RUNNING, None, "cut off, to be fenced"),
            ("false", "offline", "down", "down", "", Some(Fenced), "fenced"),
            ("false", "offline", "down", "down", STOPPED, Some(Left), "left"),
            ("false", "offline", "down", "down", RUNNING, None, "a new DC guesses"),
            ("false", "offline", "down", "down", PENDING, None, "a start under way"),
            ("true", "offline", "down", "down", STOPPED, None, "Corosync still runs"),
            ("true", "offline", "down", "down", "", None, "fenced, and booted again"),
            ("true", "online", "pending", "down", "", None, "joining"),
            // Pacemaker 3.0.
            ("1763721600", "1763721605", "member", "member", RUNNING, None, "a member"),
            ("0", "0", "down", "member", RUNNING, None, "cut off, to be fenced"),
            ("0", "0", "down", "down", "", Some(Fenced), "fenced"),
            ("0", "0", "down", "down", STOPPED, Some(Left), "left"),
            ("1", "0", "down", "down", STOPPED, None, "Corosync still runs"),
            ("1763721600", "0", "down", "down", "", None, "fenced, and booted again"),
        ];
        for (in_ccm, crmd, join, expected, lrm, want, case) in cases {
            let lost = Lost::parse(&state(in_ccm, crmd, join, expected, lrm)).unwrap();
            assert_eq!(lost.gone(2), want, "{case}: in_ccm={in_ccm}");
            assert_eq!(lost.gone(1), None, "{case}: a node without a state");
        }
    }

    /// What a CIB is made of.
    const PARTS: [&str; 17] = [
        "<cib>",
        "</cib>",
        "<node_state",
        "</node_state>",
        "<lrm_resource",
        "<nvpair",
        "/>",
        ">",
        " id=\"1\"",
        " id=\"x\"",
        " in_ccm=\"0\"",
        " crmd=\"offline\"",
        " join=\"down\"",
        " expected=\"down\"",
        " name=\"stonith-enabled\"",
        " value=\"\"",
        "\u{e9}",
    ];

    proptest! {
        /// Pacemaker of another version, or cut short.
        #[test]
        fn no_cib_makes_it_panic(
            parts in vec(prop::sample::select(&PARTS[..]), 0..20),
            node: u32,
        ) {
            if let Ok(lost) = Lost::parse(&parts.concat()) {
                let _ = (lost.gone(node), lost.fencing());
            }
        }
    }

    #[test]
    fn what_is_not_said_is_not_known() {
        let cib = r#"<cib><status><node_state id="2" uname="node2" expected="down" join="down"/>
            <node_state id="remote1" remote_node="true" in_ccm="0" crmd="0" join="down" expected="down"/>
            </status></cib>"#;
        assert_eq!(Lost::parse(cib).unwrap().gone.len(), 0);
        assert!(Lost::parse("").is_err());
    }

    #[test]
    fn pacemaker_tells_of_the_nodes_that_are_down() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("cib.xml");
        let lost = |states: &str| {
            let cib = format!(
                r#"<cib validate-with="pacemaker-3.0" admin_epoch="0" epoch="1" num_updates="0">
                   <configuration><crm_config><cluster_property_set id="a">
                   <nvpair id="b" name="stonith-enabled" value="false"/>
                   </cluster_property_set></crm_config><nodes/><resources/><constraints/>
                   </configuration><status>{states}</status></cib>"#
            );
            std::fs::write(&file, cib).unwrap();
            let runner = |cmd: &Cmd| {
                let cmd = cmd.clone().env("CIB_file", &file);
                Host.run(&cmd, Deadline::after(Duration::from_secs(30)))
            };
            Lost::read(&runner, Deadline::after(Duration::from_secs(30))).unwrap()
        };
        let node = |id: u32, up: bool| {
            let [in_ccm, crmd, state] = match up {
                true => ["true", "online", "member"],
                false => ["false", "offline", "down"],
            };
            format!(
                r#"<node_state id="{id}" uname="node{id}" in_ccm="{in_ccm}" crmd="{crmd}"
                   join="{state}" expected="{state}"/>"#
            )
        };
        let cases = [
            (
                vec![node(1, true), node(2, false), node(3, false)],
                vec![2, 3],
            ),
            (vec![node(1, true), node(2, false)], vec![2]),
            (vec![node(1, true), node(2, true)], vec![]),
        ];
        for (states, gone) in cases {
            let lost = lost(&states.concat());
            let found: Vec<u32> = (1..=3).filter(|id| lost.gone(*id).is_some()).collect();
            assert_eq!(found, gone);
            assert!(!lost.fencing());
        }
    }

    #[test]
    fn a_pacemaker_that_does_not_run() {
        let refused = |cmd: &Cmd| {
            Ok(storhaug_agents::exec::Output::exited(
                cmd,
                102,
                "",
                "Not connected",
            ))
        };
        let error = Lost::read(&refused, Deadline::after(Duration::from_secs(5)));
        let error = format!("{:#}", error.unwrap_err());
        assert!(error.ends_with("exit code 102: Not connected"), "{error}");
    }
}
