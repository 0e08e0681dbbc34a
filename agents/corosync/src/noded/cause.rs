//! Why Pacemaker took an address from this node, by Pacemaker's own record.
//!
//! Looked up once the address is gone, on a thread of its own, so that nothing
//! waits for it; addresses that leave while it is being read are looked up
//! together with the next reading. The record says what is so at that moment:
//! that the node is in standby, that the address failed, that somebody asked for
//! the move. Where nothing of the kind is so, Pacemaker placed the address anew,
//! because a node came back or the load was uneven.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use anyhow::Context;
use roxmltree::{Document, Node};
use storhaug_agents::daemon::Reason;
use storhaug_agents::deadline::Deadline;
use storhaug_agents::exec::{Cmd, Host, Runner};
use storhaug_agents::ocf::truth;

/// What of the CIB is asked for.
const QUERY: &str = "//nodes | //resources | //constraints | //node_state";

/// How long the reading may take.
const READING: Duration = Duration::from_secs(5);

/// Starts the thread, which is told of addresses that have left a node, which is
/// this one, and tells `sink` why.
///
/// # Errors
/// There can be no further thread.
pub fn start(
    sink: impl Fn(IpAddr, Reason) + Send + 'static,
) -> anyhow::Result<Sender<(IpAddr, u32)>> {
    let (sender, gone) = channel::<(IpAddr, u32)>();
    std::thread::Builder::new()
        .name("cause".into())
        .spawn(move || {
            while let Ok(first) = gone.recv() {
                let mut asked = vec![first];
                asked.extend(gone.try_iter());
                let explained = read(&Host).and_then(|cib| {
                    for (vip, node) in &asked {
                        sink(*vip, parse(&cib, *vip, *node)?);
                    }
                    Ok(())
                });
                if let Err(error) = explained {
                    tracing::debug!("{error:#}");
                }
            }
        })?;
    Ok(sender)
}

/// Asks this node's Pacemaker, which takes 15 ms.
fn read(runner: &dyn Runner) -> anyhow::Result<String> {
    runner
        .run(
            &Cmd::new("cibadmin").args(["--query", "--xpath", QUERY]),
            Deadline::after(READING),
        )
        .and_then(|output| output.checked())
        .context("asking Pacemaker why an address has left")
}

/// Reads a CIB, or those parts of it that matter.
///
/// # Errors
/// It is no XML.
pub fn parse(cib: &str, vip: IpAddr, node: u32) -> anyhow::Result<Reason> {
    let document = Document::parse(cib).context("reading Pacemaker's CIB")?;
    let all = || document.root_element().descendants();
    let node = node.to_string();
    let is_this = |found: &Node<'_, '_>| found.attribute("id") == Some(&*node);

    let resource = all().find(|found| {
        let ip = |(name, value): (&str, &str)| name == "ip" && value.parse() == Ok(vip);
        found.has_tag_name("primitive") && pairs(*found).into_iter().any(ip)
    });
    let this = all().find(|found| found.has_tag_name("node") && is_this(found));
    let (Some(resource), Some(this)) =
        (resource.and_then(|resource| resource.attribute("id")), this)
    else {
        return Ok(Reason::Unknown);
    };
    let permanent = pairs(this);
    let transient: BTreeMap<_, _> = all()
        .filter(|found| found.has_tag_name("node_state") && is_this(found))
        .flat_map(|state| state.children())
        .filter(|part| part.has_tag_name("transient_attributes"))
        .flat_map(pairs)
        .collect();
    let name = this.attribute("uname").unwrap_or_default();

    let is_set = |value: Option<&&str>| value.and_then(|value| truth(value)) == Some(true);
    let failed = format!("fail-count-{resource}#");
    let of_resource = |found: &Node<'_, '_>| {
        found.has_tag_name("rsc_location") && found.attribute("rsc") == Some(resource)
    };
    let reason = if transient.get("shutdown").is_some_and(|at| *at != "0") {
        Reason::Stopping
    } else if is_set(permanent.get("standby")) || is_set(transient.get("standby")) {
        Reason::Standby
    } else if transient.keys().any(|name| name.starts_with(&failed)) {
        Reason::Failed
    } else if all()
        .filter(of_resource)
        .any(|location| requires_more_than(location, &transient))
    {
        Reason::Service
    } else if all()
        .filter(of_resource)
        .any(|location| asks_to_leave(location, name))
    {
        Reason::Asked
    } else {
        Reason::Placed
    };
    Ok(reason)
}

/// The names and values in the sets of attributes of an element.
fn pairs<'a>(element: Node<'a, '_>) -> BTreeMap<&'a str, &'a str> {
    element
        .children()
        .filter(|set| set.has_tag_name("instance_attributes"))
        .flat_map(|set| set.children())
        .filter_map(|pair| Some((pair.attribute("name")?, pair.attribute("value")?)))
        .collect()
}

/// The location demands an attribute of the node that this one does not have.
fn requires_more_than(location: Node<'_, '_>, attributes: &BTreeMap<&str, &str>) -> bool {
    location.descendants().any(|expression| {
        expression.has_tag_name("expression")
            && expression.attribute("operation") == Some("not_defined")
            && expression
                .attribute("attribute")
                .is_some_and(|name| !attributes.contains_key(name))
    })
}

/// The location is one that `crm_resource --move` or `--ban` makes, or `storhaug
/// drain`, and means that the resource is to leave the node called `name`.
fn asks_to_leave(location: Node<'_, '_>, name: &str) -> bool {
    let id = location.attribute("id").unwrap_or_default();
    let by_rule = location
        .descendants()
        .filter(|expression| expression.attribute("attribute") == Some("#uname"))
        .find_map(|expression| expression.attribute("value"));
    let Some(node) = location.attribute("node").or(by_rule) else {
        return false;
    };
    let drained = id
        .strip_suffix(name)
        .is_some_and(|id| id.starts_with("storhaug-") && id.ends_with("-leaves-"));
    let banned = id.starts_with("cli-ban-") || drained;
    banned && node == name || id.starts_with("cli-prefer-") && node != name
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A cluster whose second node had 10.0.0.101.
    fn cib(node: &str, transient: &str, constraints: &str) -> String {
        format!(
            r##"<xpath-query><nodes><node id="1" uname="node1"/><node id="2" uname="node2">
            <instance_attributes id="nodes-2">{node}</instance_attributes></node></nodes>
            <resources><primitive id="vip-a" class="ocf" provider="storhaug" type="vip">
            <instance_attributes id="a"><nvpair id="b" name="ip" value="10.0.0.101"/>
            </instance_attributes></primitive></resources><constraints>
            <rsc_location id="where" rsc="vip-a"><rule id="r" score="-INFINITY">
            <expression id="e" attribute="storhaug-smb" operation="not_defined"/></rule>
            </rsc_location>{constraints}</constraints><node_state id="2" uname="node2">
            <transient_attributes id="2"><instance_attributes id="status-2">{transient}
            </instance_attributes></transient_attributes></node_state></xpath-query>"##
        )
    }

    const WELL: &str = r#"<nvpair id="s" name="storhaug-smb" value="1"/>
        <nvpair id="t" name="shutdown" value="0"/>"#;

    fn reason(node: &str, transient: &str, constraints: &str) -> Reason {
        let vip = "10.0.0.101".parse().unwrap();
        parse(&cib(node, transient, constraints), vip, 2).unwrap()
    }

    #[test]
    fn each_reason_is_recognised() {
        let pair = |name: &str, value: &str| {
            format!(r#"{WELL}<nvpair id="x" name="{name}" value="{value}"/>"#)
        };
        assert_eq!(reason("", WELL, ""), Reason::Placed);
        assert_eq!(reason("", "", ""), Reason::Service);
        assert_eq!(
            reason("", &pair("fail-count-vip-a#monitor_10000", "1"), ""),
            Reason::Failed
        );
        let standby = r#"<nvpair id="y" name="standby" value="on"/>"#;
        assert_eq!(reason(standby, "", ""), Reason::Standby);
        assert_eq!(reason("", &pair("standby", "true"), ""), Reason::Standby);
        assert_eq!(
            reason(standby, &pair("shutdown", "1795269600"), ""),
            Reason::Stopping
        );
    }

    #[test]
    fn who_asked_asked_for_another_node() {
        let prefer = |node: &str| {
            format!(
                r#"<rsc_location id="cli-prefer-vip-a" rsc="vip-a" node="{node}" score="INFINITY"/>"#
            )
        };
        assert_eq!(reason("", WELL, &prefer("node1")), Reason::Asked);
        assert_eq!(reason("", WELL, &prefer("node2")), Reason::Placed);
        let ban = r##"<rsc_location id="cli-ban-vip-a-on-node2" rsc="vip-a"><rule id="q">
            <expression id="w" attribute="#uname" operation="eq" value="node2"/></rule>
            </rsc_location>"##;
        assert_eq!(reason("", WELL, ban), Reason::Asked);
        assert_eq!(
            reason("", WELL, &ban.replace("vip-a\">", "other\">")),
            Reason::Placed
        );
        // As `storhaug drain` does.
        let drained = |node: &str| {
            format!(
                r#"<rsc_location id="storhaug-vip-a-leaves-{node}" rsc="vip-a" node="{node}"
                score="-INFINITY"/>"#
            )
        };
        assert_eq!(reason("", WELL, &drained("node2")), Reason::Asked);
        assert_eq!(reason("", WELL, &drained("node1")), Reason::Placed);
    }

    #[test]
    fn of_what_is_not_in_the_record_nothing_is_known() {
        let cib = cib("", WELL, "");
        let other = "10.0.0.102".parse().unwrap();
        assert_eq!(parse(&cib, other, 2).unwrap(), Reason::Unknown);
        let vip = "10.0.0.101".parse().unwrap();
        assert_eq!(parse(&cib, vip, 3).unwrap(), Reason::Unknown);
        assert!(parse("", vip, 2).is_err());
    }

    proptest! {
        /// Pacemaker of another version, or cut short.
        #[test]
        fn no_cib_makes_it_panic(cut in any::<prop::sample::Index>(), other in "[<>/a-z\"= ]{0,9}") {
            let mut cib = cib("", WELL, "");
            let at = cut.index(cib.len());
            cib.replace_range(at..=at, &other);
            let _ = parse(&cib, "10.0.0.101".parse().unwrap(), 2);
        }
    }
}
