//! The cluster inside a lab, as Pacemaker sees it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, Result};
use roxmltree::{Document, Node};

use crate::lab::Lab;
use crate::machine::Machine;
use crate::wait;

/// What `crm_mon --output-as=xml` tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct View {
    /// Whether the asked node's partition has quorum.
    pub quorum: bool,
    /// The designated controller.
    pub dc: Option<String>,
    /// The nodes by name.
    pub nodes: BTreeMap<String, NodeView>,
    /// The resources, clone instances one by one.
    pub resources: Vec<Resource>,
    /// Failed actions, as `node: operation key: exit reason`.
    pub failures: Vec<String>,
}

/// One node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeView {
    /// Whether it is a member and its controller has joined.
    pub online: bool,
    /// Whether its controller is about to join.
    pub pending: bool,
    /// Whether it may run nothing, by the administrator's wish.
    pub standby: bool,
    /// Whether it has to be fenced before anybody knows what runs on it.
    pub unclean: bool,
    /// Whether Pacemaker leaves it alone.
    pub maintenance: bool,
    /// Its attributes, transient ones too.
    pub attributes: BTreeMap<String, String>,
}

/// One resource, or one instance of a clone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resource {
    /// Its id, without a clone instance's number.
    pub id: String,
    /// The clone it is an instance of.
    pub clone: Option<String>,
    /// `ocf:storhaug:vip`, for example.
    pub agent: String,
    /// Whether it runs.
    pub active: bool,
    /// Whether its last action failed.
    pub failed: bool,
    /// Whether Pacemaker can do nothing more for it.
    pub blocked: bool,
    /// Whether Pacemaker may touch it.
    pub managed: bool,
    /// Where it runs.
    pub nodes: BTreeSet<String>,
}

impl View {
    /// Asks a node.
    pub fn of(node: &Machine) -> Result<Self> {
        Self::parse(&node.run(["crm_mon", "--output-as=xml", "--inactive"])?)
    }

    /// Reads the output of `crm_mon --output-as=xml --inactive`.
    pub fn parse(xml: &str) -> Result<Self> {
        let document = Document::parse(xml).context("reading the output of crm_mon")?;
        let root = document.root_element();
        let mut view = Self::default();
        for node in root.descendants().filter(Node::is_element) {
            let text = |name: &str| node.attribute(name).unwrap_or_default().to_owned();
            let flag = |name: &str| node.attribute(name) == Some("true");
            match node.tag_name().name() {
                "current_dc" => {
                    view.quorum = flag("with_quorum");
                    view.dc = node.attribute("name").map(str::to_owned);
                }
                "node" if parent(&node) == "nodes" => {
                    let seen = view.nodes.entry(text("name")).or_default();
                    seen.online = flag("online");
                    seen.pending = flag("pending");
                    seen.standby = flag("standby");
                    seen.unclean = flag("unclean");
                    seen.maintenance = flag("maintenance");
                }
                "node" if parent(&node) == "node_attributes" => {
                    let attributes = node
                        .children()
                        .filter(|child| child.has_tag_name("attribute"))
                        .filter_map(|child| {
                            let name = child.attribute("name")?.to_owned();
                            Some((name, child.attribute("value")?.to_owned()))
                        })
                        .collect();
                    view.nodes.entry(text("name")).or_default().attributes = attributes;
                }
                "resource" => view.resources.push(resource(&node)),
                "failure" => view.failures.push(format!(
                    "{}: {}: {}",
                    text("node"),
                    text("op_key"),
                    text("exitreason")
                )),
                _ => {}
            }
        }
        Ok(view)
    }

    /// Where a resource, or a clone's instances, run. The id is a resource's
    /// or a clone's.
    pub fn running(&self, id: &str) -> BTreeSet<&str> {
        self.resources
            .iter()
            .filter(|resource| resource.id == id || resource.clone.as_deref() == Some(id))
            .filter(|resource| resource.active)
            .flat_map(|resource| resource.nodes.iter().map(String::as_str))
            .collect()
    }

    /// The one node a resource runs on; nothing if it is none, or several.
    pub fn holder(&self, id: &str) -> Option<&str> {
        let nodes = self.running(id);
        (nodes.len() == 1).then(|| nodes.first().copied()).flatten()
    }

    /// The nodes that are members and in no doubt.
    pub fn online(&self) -> BTreeSet<&str> {
        self.nodes
            .iter()
            .filter(|(_, node)| node.online && !node.unclean && !node.pending)
            .map(|(name, _)| name.as_str())
            .collect()
    }

    /// A node's attribute.
    pub fn attribute(&self, node: &str, name: &str) -> Option<&str> {
        self.nodes
            .get(node)?
            .attributes
            .get(name)
            .map(String::as_str)
    }
}

fn parent<'a>(node: &Node<'a, '_>) -> &'a str {
    node.parent_element()
        .map_or("", |parent| parent.tag_name().name())
}

fn resource(node: &Node) -> Resource {
    let flag = |name: &str| node.attribute(name) == Some("true");
    let id = node.attribute("id").unwrap_or_default();
    Resource {
        id: id.split(':').next().unwrap_or_default().to_owned(),
        clone: node
            .ancestors()
            .find(|ancestor| ancestor.has_tag_name("clone"))
            .and_then(|clone| clone.attribute("id"))
            .map(str::to_owned),
        agent: node
            .attribute("resource_agent")
            .unwrap_or_default()
            .to_owned(),
        active: flag("active"),
        failed: flag("failed"),
        blocked: flag("blocked"),
        managed: flag("managed"),
        nodes: node
            .children()
            .filter(|child| child.has_tag_name("node"))
            .filter_map(|child| child.attribute("name"))
            .map(str::to_owned)
            .collect(),
    }
}

impl Lab {
    /// The cluster as the first node sees it that has power and answers.
    pub fn view(&self) -> Result<View> {
        let mut last = None;
        for node in self.nodes() {
            match View::of(&node) {
                Ok(view) => return Ok(view),
                Err(error) => last = Some(error),
            }
        }
        Err(last.context("a lab has nodes")?).context("no node tells about the cluster")
    }

    /// Waits until the cluster looks right.
    pub fn wait_view(
        &self,
        what: &str,
        limit: Duration,
        mut right: impl FnMut(&View) -> bool,
    ) -> Result<View> {
        wait::until(what, limit, || {
            let view = self.view()?;
            Ok(right(&view).then_some(view))
        })
    }
}

/// A node of CTDB's, from `ctdb -X status`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CtdbNode {
    /// Its number.
    pub pnn: u32,
    /// Its private address.
    pub address: String,
    /// Whether no flag is set: connected, not banned, disabled or stopped,
    /// not unhealthy.
    pub healthy: bool,
}

/// What CTDB on a node says of all its nodes. Takes a second: `ctdb status`
/// waits for a broadcast.
pub fn ctdb_nodes(node: &Machine) -> Result<Vec<CtdbNode>> {
    let output = node.exec(["ctdb", "-X", "status"])?;
    parse_ctdb(&output.stdout())
}

/// `|Node|IP|Disconnected|Unknown|Banned|…|ThisNode|`, a line per node, flags
/// 0 or 1, the last field `Y` or `N`.
fn parse_ctdb(text: &str) -> Result<Vec<CtdbNode>> {
    text.lines()
        .filter(|line| line.starts_with('|') && !line.starts_with("|Node|"))
        .map(|line| {
            let fields: Vec<_> = line.trim_matches('|').split('|').collect();
            let [pnn, address, flags @ .., _this] = fields.as_slice() else {
                anyhow::bail!("ctdb says `{line}`");
            };
            Ok(CtdbNode {
                pnn: pnn.parse().with_context(|| format!("ctdb says `{line}`"))?,
                address: (*address).to_owned(),
                healthy: flags.iter().all(|flag| *flag == "0"),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MON: &str = r#"<pacemaker-result api-version="2.28" request="crm_mon">
  <summary><current_dc present="true" name="node2" id="2" with_quorum="true"/></summary>
  <nodes>
    <node name="node1" id="1" online="true" standby="false" maintenance="false" pending="false" unclean="false"/>
    <node name="node2" id="2" online="true" standby="false" maintenance="false" pending="true" unclean="false"/>
    <node name="node3" id="3" online="false" standby="false" maintenance="false" pending="false" unclean="true"/>
  </nodes>
  <resources>
    <resource id="vip-10.77.0.101" resource_agent="ocf:storhaug:vip" role="Started" active="true" blocked="false" managed="true" failed="false" nodes_running_on="1">
      <node name="node1" id="1" cached="true"/>
    </resource>
    <clone id="smbd-clone" multi_state="false">
      <resource id="smbd" resource_agent="ocf:storhaug:samba" role="Started" active="true" managed="true"><node name="node1" id="1"/></resource>
      <resource id="smbd:1" resource_agent="ocf:storhaug:samba" role="Started" active="true" managed="true"><node name="node2" id="2"/></resource>
      <resource id="smbd:2" resource_agent="ocf:storhaug:samba" role="Stopped" active="false" managed="true"/>
    </clone>
  </resources>
  <node_attributes>
    <node name="node1"><attribute name="storhaug-smb" value="1"/></node>
  </node_attributes>
  <failures><failure op_key="smbd_monitor_0" node="node3" exitreason="no smbd" rc="5"/></failures>
</pacemaker-result>"#;

    #[test]
    fn the_view_tells_who_runs_what() {
        let view = View::parse(MON).unwrap();
        assert!(view.quorum);
        assert_eq!(view.dc.as_deref(), Some("node2"));
        assert_eq!(view.holder("vip-10.77.0.101"), Some("node1"));
        assert_eq!(view.running("smbd"), BTreeSet::from(["node1", "node2"]));
        assert_eq!(view.running("smbd-clone"), view.running("smbd"));
        assert_eq!(view.holder("smbd"), None);
        assert_eq!(view.online(), BTreeSet::from(["node1"]));
        assert!(view.nodes["node3"].unclean);
        assert_eq!(view.attribute("node1", "storhaug-smb"), Some("1"));
        assert_eq!(view.failures, ["node3: smbd_monitor_0: no smbd"]);
    }

    #[test]
    fn a_ctdb_node_with_any_flag_is_not_healthy() {
        let text = "\
|Node|IP|Disconnected|Unknown|Banned|Disabled|Unhealthy|Stopped|Inactive|PartiallyOnline|ThisNode|
|0|10.77.0.11|0|0|0|0|0|0|0|0|Y|
|1|10.77.0.12|0|0|1|0|0|0|1|0|N|
";
        let nodes = parse_ctdb(text).unwrap();
        assert_eq!(nodes.len(), 2);
        assert!(nodes[0].healthy && !nodes[1].healthy);
        assert_eq!(nodes[1].address, "10.77.0.12");
    }
}
