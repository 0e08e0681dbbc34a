//! What Pacemaker says of the nodes: whether it has one to fence, and which
//! list of nodes CTDB has loaded on each.

use std::collections::BTreeMap;

use crate::{attribute::Attribute, exec::Cmd, fencing, ocf::Ctx, record};

/// The list of nodes that the daemon of a node has loaded, as
/// [`super::nodes::label`] writes it; not set where no daemon serves.
pub const LIST: Attribute = Attribute::new("storhaug-ctdb-nodes");

/// What Pacemaker says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cluster {
    fencing_due: bool,
    lists: BTreeMap<String, String>,
}

impl Cluster {
    /// Asks this node's Pacemaker, which takes 15 ms. Where it cannot be asked
    /// there is no other node.
    pub fn read(ctx: &Ctx) -> Self {
        let query =
            Cmd::new("cibadmin").args(["--query", "--xpath", "//crm_config | //node_state"]);
        let states = ctx.run(&query).and_then(|output| output.checked());
        states.map_or_else(
            |_| Self::default(),
            |states| Self::parse(&states, ctx.instance),
        )
    }

    /// A list that is left over, where CTDB was stopped and the attribute could not
    /// be deleted, is none: nobody would ever change it.
    fn parse(states: &str, instance: &str) -> Self {
        let Ok(document) = roxmltree::Document::parse(states) else {
            return Self::default();
        };
        let mut cluster = Self {
            fencing_due: fencing::is_due_by(&document),
            lists: BTreeMap::new(),
        };
        let states = document.descendants();
        for state in states.filter(|node| node.has_tag_name("node_state")) {
            if matches!(state.attribute("in_ccm"), Some("false" | "0")) {
                continue;
            }
            let stopped = state.descendants().any(|node| {
                node.has_tag_name("lrm_resource")
                    && node.attribute("id") == Some(instance)
                    && record::is_stopped(node)
            });
            if stopped {
                continue;
            }
            let list = state.descendants().find_map(|node| {
                let ours =
                    node.has_tag_name("nvpair") && node.attribute("name") == Some(LIST.name());
                node.attribute("value").filter(|_| ours)
            });
            if let (Some(name), Some(list)) = (state.attribute("uname"), list) {
                cluster.lists.insert(name.to_owned(), list.to_owned());
            }
        }
        cluster
    }

    /// Whether a node is lost, and not known to be dead.
    pub fn fencing_is_due(&self) -> bool {
        self.fencing_due
    }

    /// The nodes, other than this one, whose CTDB serves, and the list of nodes
    /// that each has loaded.
    pub fn others(&self, ctx: &Ctx) -> impl Iterator<Item = (&str, &str)> {
        let this = ctx.node;
        let lists = self.lists.iter();
        lists
            .map(|(name, list)| (name.as_str(), list.as_str()))
            .filter(move |(name, _)| Some(*name) != this)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_to_be_fenced() {
        let states = |enabled: &str| {
            format!(
                r#"<xpath-query><crm_config><nvpair name="stonith-enabled" value="{enabled}"/></crm_config>
                   <node_state id="2" in_ccm="false" expected="member"/></xpath-query>"#
            )
        };
        assert!(Cluster::parse(&states("true"), "ctdb").fencing_is_due());
        assert!(!Cluster::parse(&states("false"), "ctdb").fencing_is_due());
        assert_eq!(Cluster::parse("", "ctdb"), Cluster::default());
    }

    #[test]
    fn lists_of_nodes_that_are_there() {
        let resource = |last: &str| {
            format!(
                r#"<lrm_resource id="ctdb"><lrm_rsc_op operation="start" call-id="7" rc-code="0"/>
                   {last}</lrm_resource><lrm_resource id="smbd"/>"#
            )
        };
        let state = |name: &str, in_ccm: &str, attribute: &str, last: &str| {
            let resource = resource(last);
            format!(
                r#"<node_state uname="{name}" in_ccm="{in_ccm}" expected="member">
                   <lrm><lrm_resources>{resource}</lrm_resources></lrm>
                   <transient_attributes id="1"><instance_attributes id="status-1">
                   <nvpair id="status-1-x" name="storhaug-smb" value="1"/>
                   <nvpair id="status-1-y" name="{attribute}" value="10.0.0.1 -"/>
                   </instance_attributes></transient_attributes></node_state>"#
            )
        };
        let list = "storhaug-ctdb-nodes";
        let stop = r#"<lrm_rsc_op operation="stop" call-id="8" rc-code="0"/>"#;
        let states = [
            state("node1", "true", list, ""),
            state("node2", "1763721600", list, ""),
            state("node3", "true", "other", ""),
            state("node4", "false", list, ""),
            state("node5", "true", list, stop),
        ];
        let states = format!("<xpath-query>{}</xpath-query>", states.concat());
        let cluster = Cluster::parse(&states, "ctdb");
        let lists: Vec<_> = cluster.lists.iter().map(|(n, l)| (&**n, &**l)).collect();
        assert_eq!(lists, [("node1", "10.0.0.1 -"), ("node2", "10.0.0.1 -")]);
    }
}
