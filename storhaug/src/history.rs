//! What Pacemaker remembers of operations, where it would make it restart a
//! service whose agent can take the change while it runs.
//!
//! It tells by an operation's digests which parameters have changed:
//! `op-digest` is that of all, `op-restart-digest` that of those that need a
//! restart. After a cleanup it looks at every resource anew, and what it finds
//! running where it remembers nothing it writes down twice: as the last
//! operation, and as a failure. Only the former gets both digests (Pacemaker,
//! "controld_execd.c", `build_operation_update`). By the latter any change is
//! one that needs a restart, until the entry is gone.

use std::collections::BTreeSet;

use crate::xml::Element;

/// The entries in the way of a change of `resources`, as XPaths.
pub fn misleading(cib: &Element, resources: &BTreeSet<String>) -> Vec<String> {
    let nodes = cib
        .find("status")
        .map_or(&[][..], |status| &status.children);
    let mut paths = Vec::new();
    for node in nodes {
        let name = node.get("uname").unwrap_or_default();
        let known = node.at(&["lrm", "lrm_resources"]);
        for resource in known.map_or(&[][..], |known| &known.children) {
            let id = resource.id();
            let primitive = id.split(':').next().unwrap_or_default();
            if resources.contains(primitive) && misleads(resource) {
                paths.push(format!(
                    "//node_state[@uname='{name}']//lrm_resource[@id='{id}']/\
                     lrm_rsc_op[@id='{}'][@operation='monitor'][@interval='0'][@rc-code='0']",
                    failure(id)
                ));
            }
        }
    }
    paths
}

/// The id of a resource's last failure among the operations that are not
/// repeated.
fn failure(resource: &str) -> String {
    format!("{resource}_last_failure_0")
}

/// Whether a success is written down as a failure as well. Without the former,
/// the latter is all that says where the resource runs.
fn misleads(resource: &Element) -> bool {
    let id = resource.id();
    let success = |operation: &&Element| operation.get("rc-code") == Some("0");
    let entry = |name: String| {
        let mut all = resource.all("lrm_rsc_op").filter(success);
        all.find(|operation| operation.id() == name)
    };
    let failure = entry(failure(id)).is_some_and(|failure| {
        // Only a probe is repeated by nothing: a failure of a monitor that is has
        // an interval, also where it found running what should not be.
        failure.get("operation") == Some("monitor")
            && failure.get("interval") == Some("0")
            && failure.get("op-restart-digest").is_none()
    });
    failure && entry(format!("{id}_last_0")).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Pacemaker 2.1.5 writes it, shortened: node1 after a cleanup, node2
    /// with a failure that is one, node3 with nothing else to go by, node4 with a
    /// copy of an address that was found and removed.
    const CIB: &str = r#"<cib><configuration/><status>
      <node_state uname="node1"><lrm><lrm_resources>
        <lrm_resource id="ctdb">
          <lrm_rsc_op id="ctdb_last_failure_0" operation="monitor" interval="0" rc-code="0" op-digest="a"/>
          <lrm_rsc_op id="ctdb_last_0" operation="monitor" rc-code="0" op-digest="a" op-restart-digest="b"/>
        </lrm_resource>
        <lrm_resource id="smbd">
          <lrm_rsc_op id="smbd_last_failure_0" operation="monitor" interval="0" rc-code="0" op-digest="a"/>
          <lrm_rsc_op id="smbd_last_0" operation="monitor" rc-code="0" op-digest="a"/>
        </lrm_resource>
      </lrm_resources></lrm></node_state>
      <node_state uname="node2"><lrm><lrm_resources>
        <lrm_resource id="ctdb">
          <lrm_rsc_op id="ctdb_last_failure_0" operation="start" rc-code="1"/>
          <lrm_rsc_op id="ctdb_last_0" operation="stop" rc-code="0"/>
        </lrm_resource>
      </lrm_resources></lrm></node_state>
      <node_state uname="node3"><lrm><lrm_resources>
        <lrm_resource id="ctdb">
          <lrm_rsc_op id="ctdb_last_failure_0" operation="monitor" interval="0" rc-code="0"/>
        </lrm_resource>
      </lrm_resources></lrm></node_state>
      <node_state uname="node4"><lrm><lrm_resources>
        <lrm_resource id="vip-10.0.0.1">
          <lrm_rsc_op id="vip-10.0.0.1_last_failure_0" operation="monitor" interval="30000" rc-code="0"/>
          <lrm_rsc_op id="vip-10.0.0.1_last_0" operation="stop" rc-code="0"/>
        </lrm_resource>
      </lrm_resources></lrm></node_state>
      <node_state uname="node5"/>
    </status></cib>"#;

    #[test]
    fn a_success_that_is_called_a_failure_is_found() {
        let cib = Element::parse(CIB).unwrap();
        let of = |ids: &[&str]| misleading(&cib, &ids.iter().map(|id| (*id).to_owned()).collect());
        let path = "//node_state[@uname='node1']//lrm_resource[@id='ctdb']/\
                    lrm_rsc_op[@id='ctdb_last_failure_0'][@operation='monitor'][@interval='0'][@rc-code='0']";
        assert_eq!(of(&["ctdb", "vip-10.0.0.1"]), [path]);
        assert_eq!(of(&["smbd", "ctdb"]).len(), 2);
        assert!(of(&[]).is_empty());
        assert!(misleading(&Element::new("cib"), &BTreeSet::from(["ctdb".into()])).is_empty());
    }
}
