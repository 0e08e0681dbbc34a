//! What Pacemaker says of the nodes: whether it has one to fence, and which
//! list of nodes CTDB has loaded on each.

use std::collections::BTreeMap;

use crate::{attribute::Attribute, exec::Cmd, fencing, ocf::Ctx};

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
        states.map_or_else(|_| Self::default(), |states| Self::parse(&states))
    }

    fn parse(states: &str) -> Self {
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
        assert!(Cluster::parse(&states("true")).fencing_is_due());
        assert!(!Cluster::parse(&states("false")).fencing_is_due());
        assert_eq!(Cluster::parse(""), Cluster::default());
    }

    #[test]
    fn lists_of_nodes_that_are_there() {
        let state = |name: &str, in_ccm: &str, attribute: &str| {
            format!(
                r#"<node_state uname="{name}" in_ccm="{in_ccm}" expected="member">
                   <lrm><lrm_resources/></lrm>
                   <transient_attributes id="1"><instance_attributes id="status-1">
                   <nvpair id="status-1-x" name="storhaug-smb" value="1"/>
                   <nvpair id="status-1-y" name="{attribute}" value="10.0.0.1 -"/>
                   </instance_attributes></transient_attributes></node_state>"#
            )
        };
        let states = [
            state("node1", "true", "storhaug-ctdb-nodes"),
            state("node2", "1763721600", "storhaug-ctdb-nodes"),
            state("node3", "true", "other"),
            state("node4", "false", "storhaug-ctdb-nodes"),
        ];
        let cluster = Cluster::parse(&format!("<xpath-query>{}</xpath-query>", states.concat()));
        let lists: Vec<_> = cluster.lists.iter().map(|(n, l)| (&**n, &**l)).collect();
        assert_eq!(lists, [("node1", "10.0.0.1 -"), ("node2", "10.0.0.1 -")]);
    }
}
