//! Primitives and clones as the CIB writes them.

use storhaug_agents::ocf::{Metadata, Op, Param};

use crate::xml::Element;

/// Failures of a resource on one node before it is moved away or, a clone's
/// instance, left stopped there.
const MIGRATION_THRESHOLD: u32 = 3;

/// How long a failure counts, in seconds. A shorter time lets a broken node
/// try again and again, and take addresses each time.
const FAILURE_TIMEOUT: u32 = 600;

/// A primitive with one of our agents, with the timeouts and the intervals
/// that the agent itself declares.
pub struct Ours<'a> {
    /// The resource's id.
    pub id: &'a str,
    /// The agent.
    pub agent: &'static Metadata,
    /// Its parameters.
    pub parameters: Vec<(&'static Param, String)>,
}

impl Ours<'_> {
    /// The primitive.
    pub fn primitive(self) -> Element {
        let Ours {
            id,
            agent,
            parameters,
        } = self;
        let parameters = parameters.into_iter();
        let parameters: Vec<_> = parameters
            .map(|(param, value)| (param.name, value))
            .collect();
        let mut primitive = Element::new("primitive")
            .with("id", id)
            .with("class", "ocf")
            .with("provider", "storhaug")
            .with("type", agent.name);
        if !parameters.is_empty() {
            let set = format!("{id}-instance_attributes");
            primitive
                .children
                .push(pairs("instance_attributes", &set, &parameters));
        }
        let meta = [
            ("failure-timeout", format!("{FAILURE_TIMEOUT}s")),
            ("migration-threshold", MIGRATION_THRESHOLD.to_string()),
        ];
        primitive
            .child(pairs("meta_attributes", &meta_id(id), &meta))
            .child(
                Element::new("operations")
                    .holding(agent.actions.iter().filter_map(|op| operation(id, op))),
            )
    }
}

/// The set of meta attributes of a resource.
pub fn meta_id(resource: &str) -> String {
    format!("{resource}-meta_attributes")
}

/// Gives a resource further meta attributes.
pub fn add_meta(resource: &mut Element, further: &[(&str, String)]) {
    let id = meta_id(resource.id());
    let set = resource.entry("meta_attributes");
    set.children.extend(pairs("", &id, further).children);
}

/// A set of name-value pairs called `element`.
pub fn pairs<N: AsRef<str>>(element: &str, id: &str, pairs: &[(N, String)]) -> Element {
    Element::new(element)
        .with("id", id)
        .holding(pairs.iter().map(|(name, value)| {
            let name = name.as_ref();
            Element::new("nvpair")
                .with("id", format!("{id}-{name}"))
                .with("name", name)
                .with("value", value)
        }))
}

/// An instance of `primitive` on every node. Interleaved: an instance depends
/// on the other clones' instances of its own node alone.
pub fn clone_of(primitive: Element) -> Element {
    let id = format!("{}-clone", primitive.id());
    let meta = pairs(
        "meta_attributes",
        &meta_id(&id),
        &[("interleave", "true".to_owned())],
    );
    Element::new("clone")
        .with("id", &id)
        .child(meta)
        .child(primitive)
}

/// The operation of a resource, if it is one that Pacemaker has to be told of.
fn operation(resource: &str, op: &Op) -> Option<Element> {
    if !matches!(op.name, "start" | "stop" | "monitor" | "reload-agent") {
        return None;
    }
    let id = format!("{resource}-{}-{}s", op.name, op.interval);
    let mut element = Element::new("op")
        .with("id", &id)
        .with("name", op.name)
        .with("interval", format!("{}s", op.interval))
        .with("timeout", format!("{}s", op.timeout));
    if op.depth > 0 {
        let depth = [("OCF_CHECK_LEVEL", op.depth.to_string())];
        let set = format!("{id}-instance_attributes");
        element
            .children
            .push(pairs("instance_attributes", &set, &depth));
    }
    Some(element)
}
