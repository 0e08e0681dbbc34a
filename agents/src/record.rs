//! What Pacemaker has recorded of a resource on a node, in the status section of
//! its CIB.

use roxmltree::Node;

/// Whether the record of a resource, an `lrm_resource`, ends with a stop, or with a
/// probe that did not find it.
pub fn is_stopped(resource: Node) -> bool {
    let operations = resource
        .children()
        .filter(|n| n.has_tag_name("lrm_rsc_op"))
        .map(|op| {
            let number = |name| op.attribute(name)?.parse::<i64>().ok();
            // An operation that was under way has no number yet: -1.
            let call = number("call-id").filter(|call| *call >= 0);
            (
                call.unwrap_or(i64::MAX),
                op.attribute("operation"),
                number("rc-code"),
            )
        });
    match operations.max() {
        Some((i64::MAX, ..)) => false,
        Some((_, Some("stop"), Some(0))) => true,
        Some((_, Some("monitor"), Some(5 | 7))) | None => true,
        Some(_) => false,
    }
}
