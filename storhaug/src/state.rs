//! What Pacemaker says of the cluster: `crm_mon --output-as=xml`.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::bail;

use crate::xml::Element;

/// The cluster at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// The designated controller; `None` while there is none.
    pub dc: Option<String>,
    /// Whether this partition has quorum.
    pub quorum: bool,
    /// Whether a lost node is fenced.
    pub fencing: bool,
    /// Whether the nodes have different versions of Pacemaker.
    pub mixed: bool,
    /// The nodes, by name.
    pub nodes: BTreeMap<String, Node>,
    /// Every instance of every primitive.
    pub instances: Vec<Instance>,
    /// What failed and was not cleaned up yet.
    pub failures: Vec<Failure>,
}

/// A node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// It is a member and its Pacemaker answers.
    pub online: bool,
    /// It was told to run nothing.
    pub standby: bool,
    /// It is to be fenced.
    pub unclean: bool,
    /// Pacemaker leaves it alone.
    pub maintenance: bool,
    /// Its transient attributes.
    pub attributes: BTreeMap<String, String>,
}

/// An instance of a primitive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Instance {
    /// Id of the primitive.
    pub resource: String,
    /// `ocf:storhaug:vip`.
    pub agent: String,
    /// `Started`, `Stopped`, …
    pub role: String,
    /// The nodes it is active on.
    pub nodes: Vec<String>,
    /// Its last result was a failure.
    pub failed: bool,
    /// It failed in a way that Pacemaker does nothing about.
    pub blocked: bool,
    /// It is no longer in the configuration.
    pub orphaned: bool,
    /// Pacemaker looks after it.
    pub managed: bool,
    /// What is being done to it.
    pub pending: Option<String>,
}

/// A failed operation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failure {
    /// The resource.
    pub resource: String,
    /// `start`, `monitor`, …
    pub operation: String,
    /// Where.
    pub node: String,
    /// The exit code in words.
    pub status: String,
    /// What the agent said.
    pub reason: String,
    /// When, as Pacemaker writes it.
    pub when: String,
    /// It was a monitor, and a later one was content: Pacemaker remembers a
    /// failure until it is cleaned up.
    pub over: bool,
}

/// The exit code of what runs and limps, in words.
pub const DEGRADED: &str = "OCF_DEGRADED";

impl State {
    /// Reads the document.
    ///
    /// # Errors
    /// It is not crm_mon's.
    pub fn parse(text: &str) -> anyhow::Result<State> {
        let root = Element::parse(text)?;
        if !["pacemaker-result", "crm_mon"].contains(&root.name.as_str()) {
            bail!("reading crm_mon's XML: it begins with <{}>", root.name);
        }
        let mut state = State::default();
        if let Some(dc) = root.at(&["summary", "current_dc"])
            && is(dc, "present")
        {
            state.dc = dc.get("name").map(str::to_owned);
            state.quorum = is(dc, "with_quorum");
            state.mixed = is(dc, "mixed_version");
        }
        if let Some(options) = root.at(&["summary", "cluster_options"]) {
            state.fencing = is(options, "stonith-enabled") || is(options, "fencing-enabled");
        }
        for node in root.find("nodes").map_or(&[][..], |nodes| &nodes.children) {
            let read = Node {
                online: is(node, "online") && !is(node, "pending"),
                standby: is(node, "standby"),
                unclean: is(node, "unclean"),
                maintenance: is(node, "maintenance"),
                attributes: BTreeMap::new(),
            };
            state
                .nodes
                .insert(node.get("name").unwrap_or_default().to_owned(), read);
        }
        for node in root
            .find("node_attributes")
            .map_or(&[][..], |nodes| &nodes.children)
        {
            let Some(known) = state.nodes.get_mut(node.get("name").unwrap_or_default()) else {
                continue;
            };
            for attribute in node.all("attribute") {
                let text = |name| attribute.get(name).unwrap_or_default().to_owned();
                known.attributes.insert(text("name"), text("value"));
            }
        }
        let resources = root
            .find("resources")
            .map(Element::walk)
            .unwrap_or_default();
        for resource in resources
            .into_iter()
            .filter(|element| element.name == "resource")
        {
            let text = |name| resource.get(name).unwrap_or_default().to_owned();
            // An instance of a clone may carry its number.
            let id = text("id");
            let id = id.split(':').next().unwrap_or_default().to_owned();
            let nodes = resource.all("node").filter_map(|node| node.get("name"));
            state.instances.push(Instance {
                resource: id,
                agent: text("resource_agent"),
                role: text("role"),
                nodes: nodes.map(str::to_owned).collect(),
                failed: is(resource, "failed"),
                blocked: is(resource, "blocked"),
                orphaned: is(resource, "orphaned"),
                managed: is(resource, "managed"),
                pending: resource.get("pending").map(str::to_owned),
            });
        }
        for failure in root
            .find("failures")
            .map_or(&[][..], |failures| &failures.children)
        {
            let text = |name| failure.get(name).unwrap_or_default().to_owned();
            let key = text("op_key");
            // vip-10.0.0.1_monitor_10000; a resource's id may contain `_`.
            let mut parts = key.rsplitn(3, '_');
            let _interval = parts.next();
            let operation = parts.next().unwrap_or_default().to_owned();
            let resource = parts.next().unwrap_or_default();
            state.failures.push(Failure {
                resource: resource.split(':').next().unwrap_or_default().to_owned(),
                operation,
                node: text("node"),
                status: text("exitstatus"),
                reason: text("exitreason"),
                when: text("last-rc-change"),
                over: over(&root, failure),
            });
        }
        Ok(state)
    }

    /// Where a resource runs: started, managed or not, and without a failure.
    pub fn running(&self, resource: &str) -> Vec<&str> {
        let good = self.instances.iter().filter(|instance| {
            instance.resource == resource
                && matches!(
                    instance.role.as_str(),
                    "Started" | "Promoted" | "Unpromoted"
                )
                && !instance.failed
                && !instance.orphaned
                && instance.pending.is_none()
        });
        good.flat_map(|instance| &instance.nodes)
            .map(String::as_str)
            .collect()
    }

    /// Whether a resource is active anywhere, in whatever state.
    pub fn active(&self, resource: &str) -> bool {
        let mut all = self.instances.iter();
        all.any(|instance| instance.resource == resource && !instance.nodes.is_empty())
    }

    /// What of it is about the resources `names`. Of the nodes' attributes, those
    /// of storhaug's agents are kept.
    #[must_use]
    pub fn about(mut self, names: &BTreeSet<&str>) -> State {
        let ours = |name: &String| names.contains(name.as_str());
        self.instances.retain(|instance| ours(&instance.resource));
        self.failures.retain(|failure| ours(&failure.resource));
        for node in self.nodes.values_mut() {
            node.attributes
                .retain(|name, _| name.starts_with("storhaug-"));
        }
        self
    }

    /// Whether something is being done.
    pub fn busy(&self) -> bool {
        self.instances
            .iter()
            .any(|instance| instance.pending.is_some())
            || self.nodes.values().any(|node| node.unclean)
    }
}

/// Whether the last result of a failed operation is a good one. The history
/// of a node has the failed one and, after it, the last.
fn over(root: &Element, failure: &Element) -> bool {
    let key = failure.get("op_key").unwrap_or_default();
    let interval = format!("{}ms", failure.get("interval").unwrap_or_default());
    let nodes = root
        .find("node_history")
        .map_or(&[][..], |history| &history.children);
    let here = nodes
        .iter()
        .filter(|node| node.get("name") == failure.get("node"));
    let resources = here.flat_map(|node| &node.children);
    let mut operations = resources
        .filter(|resource| key.starts_with(&format!("{}_", resource.id())))
        .flat_map(|resource| &resource.children)
        .filter(|operation| {
            operation.get("task") == failure.get("task")
                && operation.get("interval") == Some(&interval)
        });
    operations
        .next_back()
        .is_some_and(|last| last.get("rc") == Some("0"))
}

fn is(element: &Element, attribute: &str) -> bool {
    element.get(attribute) == Some("true")
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    /// What such a document is made of.
    const PARTS: [&str; 24] = [
        "<pacemaker-result>",
        "</pacemaker-result>",
        "<summary>",
        "</summary>",
        "<nodes>",
        "</nodes>",
        "<node",
        "</node>",
        "<resources>",
        "</resources>",
        "<resource",
        "<failures>",
        "</failures>",
        "<failure",
        "<current_dc",
        "<cluster_options",
        "/>",
        ">",
        " name=\"a\"",
        " id=\"1\"",
        " online=\"true\"",
        " op_key=\"a_b_0\"",
        " exitstatus=\"\"",
        "\u{e9}",
    ];

    proptest! {
        /// Pacemaker of another version, or cut short.
        #[test]
        fn no_document_makes_it_panic(
            parts in vec(prop::sample::select(&PARTS[..]), 0..20),
            line: prop::sample::Index,
        ) {
            let _ = State::parse(&parts.concat());
            // In the middle of a good one, too.
            let mut lines: Vec<String> = DOCUMENT.lines().map(str::to_owned).collect();
            lines.insert(line.index(lines.len()), parts.concat());
            let _ = State::parse(&lines.concat());
        }
    }

    /// As Pacemaker 2.1.5 writes it, shortened.
    const DOCUMENT: &str = r#"<pacemaker-result api-version="2.25">
  <summary>
    <current_dc present="true" name="node1" with_quorum="true"/>
    <cluster_options stonith-enabled="true"/>
  </summary>
  <nodes>
    <node name="node1" online="true" standby="false" pending="false" unclean="false"/>
    <node name="node2" online="false" standby="false" pending="false" unclean="true"/>
  </nodes>
  <resources>
    <clone id="share-clone">
      <resource id="share" resource_agent="ocf:storhaug:glusterfs" role="Started" failed="false">
        <node name="node1" id="1"/>
      </resource>
      <resource id="share" resource_agent="ocf:storhaug:glusterfs" role="Stopped" pending="Starting"/>
    </clone>
    <resource id="vip_1" resource_agent="ocf:storhaug:vip" role="Started" failed="true">
      <node name="node1" id="1"/>
    </resource>
  </resources>
  <node_attributes>
    <node name="node1"><attribute name="storhaug-smb" value="1"/></node>
  </node_attributes>
  <node_history>
    <node name="node1">
      <resource_history id="share">
        <operation_history task="monitor" rc="190" interval="60000ms"/>
        <operation_history task="monitor" rc="0" interval="60000ms"/>
        <operation_history task="monitor" rc="190" interval="10000ms"/>
      </resource_history>
    </node>
  </node_history>
  <failures>
    <failure op_key="share_monitor_60000" node="node1" exitstatus="OCF_DEGRADED" exitreason="a brick" task="monitor" interval="60000"/>
    <failure op_key="share_monitor_10000" node="node1" exitstatus="OCF_DEGRADED" exitreason="a brick" task="monitor" interval="10000"/>
    <failure op_key="vip_1_start_0" node="node1" exitstatus="error" exitreason="taken" task="start" interval="0"/>
  </failures>
</pacemaker-result>"#;

    /// Somebody else's resource flaps, and somebody else's attribute changes.
    #[test]
    fn others_are_left_out() {
        let theirs = DOCUMENT
            .replace("role=\"Started\" failed=\"true\"", "role=\"Stopped\"")
            .replace(
                "<attribute name",
                "<attribute name=\"pingd\" value=\"7\"/><attribute name",
            );
        let [before, after] = [DOCUMENT, &theirs].map(|text| State::parse(text).unwrap());
        assert_ne!(before, after);
        let ours = BTreeSet::from(["share"]);
        let (before, after) = (before.about(&ours), after.about(&ours));
        assert_eq!(before.failures.len(), 2);
        assert_eq!(before, after);
    }

    #[test]
    fn what_crm_mon_writes_is_read() {
        let state = State::parse(DOCUMENT).unwrap();
        assert_eq!(state.dc.as_deref(), Some("node1"));
        assert!(state.quorum && state.fencing && state.busy());
        assert!(state.nodes["node1"].online && state.nodes["node2"].unclean);
        assert_eq!(state.nodes["node1"].attributes["storhaug-smb"], "1");
        assert_eq!(state.running("share"), ["node1"]);
        assert!(state.running("vip_1").is_empty() && state.active("vip_1"));
        let failures: Vec<_> = state
            .failures
            .iter()
            .map(|f| (f.resource.as_str(), f.operation.as_str(), f.over))
            .collect();
        assert_eq!(
            failures,
            [
                ("share", "monitor", true),
                ("share", "monitor", false),
                ("vip_1", "start", false)
            ]
        );
    }
}
