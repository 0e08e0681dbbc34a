//! The difference between what a cluster is and what it should be.
//!
//! Pure: from a [`Cluster`] and what was read of the machine to a list of
//! changes, and the CIB that they lead to. What is not ours is never part of
//! it, but for constraints that refer to a resource of ours that goes.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::bail;

use crate::cluster::Cluster;
use crate::corosync::{Corosync, Totem};
use crate::desired::{self, Facts, Item, Place, TAG};
use crate::xml::Element;

/// What was read of the machine.
#[derive(Clone, Debug, Default)]
pub struct Live {
    /// The cluster that it belongs to.
    pub corosync: Option<Corosync>,
    /// The whole CIB of that cluster.
    pub cib: Option<Element>,
}

/// What has to be done.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Name of the cluster.
    pub cluster: String,
    /// Its members.
    pub nodes: Vec<String>,
    /// Whether there is no cluster yet.
    pub create: bool,
    /// Timeouts that Corosync has and should have; equal ones need no change.
    pub totem: (Totem, Totem),
    /// Changes of the CIB.
    pub changes: Vec<Change>,
    /// The CIB as it is, without its status.
    pub before: Element,
    /// The CIB as it should be, without its status.
    pub after: Element,
}

/// A change of one element of the CIB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What happens to it.
    pub action: Action,
    /// What it is: the name of the element.
    pub element: String,
    /// Its id.
    pub id: String,
    /// What it is for, in words.
    pub purpose: String,
    /// The values that change.
    pub values: Vec<Value>,
}

/// What happens to an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It is made.
    Create,
    /// It is there and becomes another.
    Modify,
    /// It goes.
    Delete,
}

impl Action {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Action::Create => "create",
            Action::Modify => "change",
            Action::Delete => "remove",
        }
    }
}

/// A value of an element, before and after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// Its name, with what it belongs to.
    pub name: String,
    /// Before; `None` where it was not there.
    pub from: Option<String>,
    /// After; `None` where it is taken away.
    pub to: Option<String>,
}

impl Plan {
    /// Compares what `cluster` asks for with what is there.
    ///
    /// # Errors
    /// The cluster that is there is another one, has other members, or holds
    /// something foreign that ours would collide with.
    pub fn make(cluster: &Cluster, facts: &Facts, live: &Live) -> anyhow::Result<Plan> {
        if let Some(corosync) = &live.corosync {
            same_cluster(cluster, corosync, &facts.joining)?;
        }
        let mut before = match &live.cib {
            Some(cib) => cib.clone(),
            None => blank(cluster),
        };
        before.children.retain(|section| section.name != "status");
        let items = desired::items(cluster, facts);
        let owned = owned(&before);
        collisions(&before, &items, &owned)?;
        overruled(&before, &items)?;
        let mut after = before.clone();
        let mut changes = Vec::new();
        for item in &items {
            changes.extend(put(&mut after, item)?);
        }
        let kept: BTreeSet<&str> = items.iter().map(|item| item.element.id()).collect();
        let gone: BTreeSet<String> = owned
            .into_iter()
            .filter(|id| !kept.contains(id.as_str()) && !facts.spared.contains(id))
            .collect();
        changes.extend(take(&mut after, &gone));
        tag(&mut after, &items, &facts.spared);
        if changes.is_empty() && !after.same(&before) {
            changes.push(Change {
                action: Action::Modify,
                element: "tag".into(),
                id: TAG.into(),
                purpose: "the list of what belongs to storhaug".into(),
                values: Vec::new(),
            });
        }
        if !changes.is_empty() {
            next_epoch(&mut after);
        }
        let (found, wanted) = match &live.corosync {
            Some(corosync) => (corosync.totem, corosync.totem.wanted(cluster.failover)),
            None => (Totem::of(cluster.failover), Totem::of(cluster.failover)),
        };
        Ok(Plan {
            cluster: cluster.name.clone(),
            nodes: cluster.nodes.iter().map(|node| node.name.clone()).collect(),
            create: live.corosync.is_none(),
            totem: (found, wanted),
            changes,
            before,
            after,
        })
    }

    /// Whether everything is as it should be.
    pub fn is_empty(&self) -> bool {
        !self.create && self.changes.is_empty() && self.totem.0 == self.totem.1
    }

    /// Ids of the primitives that go.
    pub fn leaving(&self) -> Vec<String> {
        let stay: BTreeSet<&str> = primitives(&self.after).into_iter().collect();
        let all = primitives(&self.before).into_iter();
        all.filter(|id| !stay.contains(id))
            .map(str::to_owned)
            .collect()
    }

    /// Ids of the primitives that stay and get other parameters.
    pub fn reconfigured(&self) -> BTreeSet<String> {
        let (before, after) = (parameters(&self.before), parameters(&self.after));
        let differing = after.into_iter().filter(|(id, new)| {
            let old = before.get(id);
            old.is_some_and(|old| match (old, new) {
                (Some(old), Some(new)) => !old.same(new),
                (old, new) => old.is_some() != new.is_some(),
            })
        });
        differing.map(|(id, _)| id.to_owned()).collect()
    }

    /// Whether a fencing device is made or changed.
    pub fn touches_fencing(&self) -> bool {
        self.changes.iter().any(|change| {
            change.action != Action::Delete
                && change.element == "primitive"
                && section(&self.after, "resources").is_some_and(|resources| {
                    let mut all = resources.children.iter();
                    all.any(|r| r.id() == change.id && r.get("class") == Some("stonith"))
                })
        })
    }
}

/// Whether a CIB holds something of ours.
pub fn is_ours(cib: &Element) -> bool {
    !owned(cib).is_empty()
}

/// Ids of the top-level resources of others.
pub fn foreign(cib: &Element) -> Vec<String> {
    let owned = owned(cib);
    let resources = section(cib, "resources").map_or(&[][..], |section| &section.children);
    let foreign = resources
        .iter()
        .map(Element::id)
        .filter(|id| !owned.contains(*id));
    foreign.map(str::to_owned).collect()
}

/// A CIB without anything of ours.
pub fn without_ours(cib: &Element) -> Element {
    let mut after = cib.clone();
    after.children.retain(|section| section.name != "status");
    take(&mut after, &owned(cib));
    tag(&mut after, &[], &BTreeSet::new());
    next_epoch(&mut after);
    after
}

/// A CIB in which every resource of ours, but for fencing devices, is told to
/// stop.
pub fn all_stopped(cib: &Element) -> Element {
    let owned = owned(cib);
    let mut after = cib.clone();
    after.children.retain(|section| section.name != "status");
    for resource in &mut after.entry("configuration").entry("resources").children {
        if !owned.contains(resource.id()) || resource.get("class") == Some("stonith") {
            continue;
        }
        let id = format!("{}-meta_attributes", resource.id());
        let at = resource
            .children
            .iter()
            .position(|set| set.name == "meta_attributes");
        let at = at.unwrap_or_else(|| {
            resource
                .children
                .insert(0, Element::new("meta_attributes").with("id", &id));
            0
        });
        let meta = &mut resource.children[at];
        meta.children
            .retain(|pair| pair.get("name") != Some("target-role"));
        let stopped = Element::new("nvpair")
            .with("id", format!("{id}-target-role"))
            .with("name", "target-role")
            .with("value", "Stopped");
        meta.children.push(stopped);
    }
    next_epoch(&mut after);
    after
}

/// The sets of parameters of all primitives, by the primitives' ids.
fn parameters(cib: &Element) -> BTreeMap<&str, Option<&Element>> {
    let resources = section(cib, "resources")
        .map(Element::walk)
        .unwrap_or_default();
    let primitives = resources
        .into_iter()
        .filter(|element| element.name == "primitive");
    primitives
        .map(|primitive| (primitive.id(), primitive.find("instance_attributes")))
        .collect()
}

/// Ids of all primitives.
fn primitives(cib: &Element) -> Vec<&str> {
    parameters(cib).into_keys().collect()
}

/// Ids of all primitives of ours.
pub fn our_primitives(cib: &Element) -> Vec<String> {
    let owned = owned(cib);
    let resources = section(cib, "resources").map_or(&[][..], |section| &section.children);
    let ours = resources
        .iter()
        .filter(|resource| owned.contains(resource.id()));
    let all = ours
        .flat_map(Element::walk)
        .filter(|element| element.name == "primitive");
    all.map(|primitive| primitive.id().to_owned()).collect()
}

/// CTDB's slots as the cluster has them: its resource's parameter `nodes`.
pub fn slots(cib: &Element) -> Vec<String> {
    let Some(resources) = section(cib, "resources") else {
        return Vec::new();
    };
    let ctdb = resources
        .walk()
        .into_iter()
        .find(|r| r.name == "primitive" && r.id() == "ctdb");
    let nodes = ctdb.and_then(|ctdb| {
        let parameters = ctdb.find("instance_attributes")?;
        let mut all = parameters.children.iter();
        all.find(|pair| pair.get("name") == Some("nodes"))?
            .get("value")
    });
    let slots = nodes.unwrap_or_default().split_whitespace();
    slots.map(str::to_owned).collect()
}

/// The nodes at which addresses are at home, by the addresses' names.
pub fn homes(cib: &Element) -> BTreeMap<String, String> {
    let constraints = section(cib, "constraints").map_or(&[][..], |section| &section.children);
    let mut best: BTreeMap<&str, (usize, &str)> = BTreeMap::new();
    for (vip, node, score) in constraints.iter().filter_map(desired::home) {
        let known = best.entry(vip).or_insert((score, node));
        if known.0 < score {
            *known = (score, node);
        }
    }
    let homes = best.into_iter();
    homes
        .map(|(vip, (_, node))| (vip.to_owned(), node.to_owned()))
        .collect()
}

/// The names of the nodes that Pacemaker has met.
pub fn met(cib: &Element) -> BTreeSet<String> {
    let nodes = section(cib, "nodes").map_or(&[][..], |section| &section.children);
    let names = nodes.iter().filter_map(|node| node.get("uname"));
    names.map(str::to_owned).collect()
}

/// The names of those that are members of Corosync's cluster, or were: Pacemaker
/// also knows remote nodes, which never are.
pub fn members(cib: &Element) -> BTreeSet<String> {
    let nodes = section(cib, "nodes").map_or(&[][..], |section| &section.children);
    let members = nodes
        .iter()
        .filter(|node| node.get("type") != Some("remote"));
    let names = members.filter_map(|node| node.get("uname"));
    names.map(str::to_owned).collect()
}

/// A section of the configuration.
fn section<'a>(cib: &'a Element, name: &str) -> Option<&'a Element> {
    cib.at(&["configuration", name])
}

/// The ids that are ours: those in the tag, and our sets of properties.
fn owned(cib: &Element) -> BTreeSet<String> {
    let tags = section(cib, "tags").map_or(&[][..], |tags| &tags.children);
    let listed = tags
        .iter()
        .filter(|tag| tag.id() == TAG)
        .flat_map(|tag| &tag.children);
    let mut owned: BTreeSet<String> = listed.map(|entry| entry.id().to_owned()).collect();
    let properties = section(cib, "crm_config").map_or(&[][..], |section| &section.children);
    let properties = properties.iter().map(Element::id);
    let sets = properties.filter(|id| [desired::PROPERTIES, desired::CONFIGURATION].contains(id));
    owned.extend(sets.map(str::to_owned));
    let nodes = section(cib, "nodes").map_or(&[][..], |section| &section.children);
    let utilization = nodes
        .iter()
        .flat_map(|node| &node.children)
        .map(Element::id);
    let utilization = utilization.filter(|id| desired::is_utilization(id));
    owned.extend(utilization.map(str::to_owned));
    owned
}

/// That of `corosync` is the cluster that is asked for.
fn same_cluster(
    cluster: &Cluster,
    corosync: &Corosync,
    joining: &BTreeSet<String>,
) -> anyhow::Result<()> {
    if corosync.name != cluster.name {
        bail!(
            "this node is a member of the cluster `{}`, and the configuration is for `{}`; \
             name it so, or take the node out with `pcs cluster destroy`",
            corosync.name,
            cluster.name
        );
    }
    let there: BTreeSet<&str> = corosync.nodes.iter().map(String::as_str).collect();
    let asked: BTreeSet<&str> = cluster
        .nodes
        .iter()
        .map(|node| node.name.as_str())
        .collect();
    let mut added = asked.difference(&there);
    if let Some(node) = added.find(|node| !joining.contains(**node)) {
        bail!(
            "{node} is in the configuration and not in the cluster `{}`; run `storhaug add \
             {node}`, which makes it a member",
            cluster.name
        );
    }
    if let Some(node) = there.difference(&asked).next() {
        bail!(
            "{node} is in the cluster `{}` and not in the configuration; run `storhaug remove \
             {node}` to take it out, or `storhaug add {node}` to keep it",
            cluster.name
        );
    }
    Ok(())
}

/// The CIB of a cluster that was just made.
fn blank(cluster: &Cluster) -> Element {
    let nodes = cluster.nodes.iter().enumerate().map(|(index, node)| {
        Element::new("node")
            .with("id", index + 1)
            .with("uname", &node.name)
    });
    let configuration = Element::new("configuration")
        .child(Element::new("crm_config"))
        .child(Element::new("nodes").holding(nodes))
        .child(Element::new("resources"))
        .child(Element::new("constraints"));
    Element::new("cib")
        .with("validate-with", "pacemaker-3.0")
        .with("admin_epoch", 0)
        .with("epoch", 0)
        .with("num_updates", 0)
        .child(configuration)
}

/// Nothing foreign may have an id of ours.
fn collisions(cib: &Element, items: &[Item], owned: &BTreeSet<String>) -> anyhow::Result<()> {
    fn foreign<'a>(element: &'a Element, owned: &BTreeSet<String>, ids: &mut BTreeSet<&'a str>) {
        let refers = matches!(element.name.as_str(), "obj_ref" | "resource_ref" | "role");
        if refers || owned.contains(element.id()) {
            return;
        }
        ids.insert(element.id());
        for child in &element.children {
            foreign(child, owned, ids);
        }
    }
    let mut taken = BTreeSet::new();
    if let Some(configuration) = cib.find("configuration") {
        foreign(configuration, owned, &mut taken);
    }
    taken.remove("");
    let ours = items.iter().flat_map(|item| item.element.walk());
    for id in ours.map(Element::id) {
        if taken.contains(id) {
            bail!(
                "the cluster has a `{id}` that is not storhaug's; rename or remove it \
                 (`pcs resource config {id}` shows it)"
            );
        }
    }
    Ok(())
}

/// Pacemaker reads the set `cib-bootstrap-options` first: a property there
/// overrules ours.
fn overruled(cib: &Element, items: &[Item]) -> anyhow::Result<()> {
    let Some(bootstrap) = section(cib, "crm_config").and_then(|properties| {
        let mut sets = properties.children.iter();
        sets.find(|set| set.id() == "cib-bootstrap-options")
    }) else {
        return Ok(());
    };
    let ours = items
        .iter()
        .filter(|item| item.element.id() == desired::PROPERTIES);
    for pair in ours.flat_map(|item| &item.element.children) {
        let name = pair.get("name");
        let other = bootstrap
            .children
            .iter()
            .find(|other| other.get("name") == name);
        if let Some(other) = other
            && other.get("value") != pair.get("value")
        {
            bail!(
                "the cluster property {name} is set to `{}`, and storhaug needs `{}`; \
                 run `pcs property unset {name}`",
                other.get("value").unwrap_or_default(),
                pair.get("value").unwrap_or_default(),
                name = name.unwrap_or_default(),
            );
        }
    }
    Ok(())
}

/// Puts an item into its place, in the stead of the one with its id.
fn put(cib: &mut Element, item: &Item) -> anyhow::Result<Option<Change>> {
    let configuration = cib.entry("configuration");
    let parent = match &item.place {
        Place::Properties => configuration.entry("crm_config"),
        Place::Resources => configuration.entry("resources"),
        Place::Constraints => configuration.entry("constraints"),
        Place::Node(name) => {
            let nodes = configuration.entry("nodes").children.iter_mut();
            let mut node = nodes.filter(|node| node.get("uname") == Some(name));
            match node.next() {
                Some(node) => node,
                None => bail!(
                    "Pacemaker has not met the node {name} yet; start it with `pcs cluster start \
                     {name}`, and run setup again"
                ),
            }
        }
    };
    let wanted = &item.element;
    let known = parent
        .children
        .iter_mut()
        .find(|child| child.id() == wanted.id());
    let (action, values) = match known {
        Some(known) if known.same(wanted) => return Ok(None),
        Some(known) => {
            let values = differences(Some(known), Some(wanted));
            *known = wanted.clone();
            (Action::Modify, values)
        }
        None => {
            parent.children.push(wanted.clone());
            (Action::Create, differences(None, Some(wanted)))
        }
    };
    Ok(Some(Change {
        action,
        element: wanted.name.clone(),
        id: wanted.id().to_owned(),
        purpose: item.purpose.clone(),
        values,
    }))
}

/// Takes away the elements called `ids`, and the constraints of others that
/// would be left without their resource.
fn take(cib: &mut Element, ids: &BTreeSet<String>) -> Vec<Change> {
    let mut changes = Vec::new();
    let mut orphaned: BTreeSet<String> = BTreeSet::new();
    let mut remove = |parent: &mut Element, orphaned: &mut BTreeSet<String>| {
        parent.children.retain(|child| {
            let refers = ["rsc", "with-rsc", "first", "then"].into_iter();
            let dangling = refers
                .filter_map(|name| child.get(name))
                .any(|resource| orphaned.contains(resource));
            let ours = ids.contains(child.id());
            if ours && parent.name == "resources" {
                let all = child
                    .walk()
                    .into_iter()
                    .map(|element| element.id().to_owned());
                orphaned.extend(all);
            }
            if ours || dangling {
                changes.push(Change {
                    action: Action::Delete,
                    element: child.name.clone(),
                    id: child.id().to_owned(),
                    purpose: match ours {
                        true => "no longer asked for".into(),
                        false => "it refers to a resource that goes".into(),
                    },
                    values: Vec::new(),
                });
            }
            !ours && !dangling
        });
    };
    let configuration = cib.entry("configuration");
    for name in ["crm_config", "resources", "constraints"] {
        remove(configuration.entry(name), &mut orphaned);
    }
    for node in &mut configuration.entry("nodes").children {
        remove(node, &mut orphaned);
    }
    for name in ["constraints", "tags"] {
        changes.extend(forget(configuration.entry(name), &orphaned));
    }
    changes
}

/// Takes the resources `gone` out of the sets and tags of others, and those
/// that are left without any with them.
fn forget(section: &mut Element, gone: &BTreeSet<String>) -> Vec<Change> {
    fn strip(element: &mut Element, gone: &BTreeSet<String>) {
        let refers = |child: &Element| matches!(child.name.as_str(), "obj_ref" | "resource_ref");
        let stays = |child: &Element| !refers(child) || !gone.contains(child.id());
        element.children.retain(stays);
        for set in element.children.iter_mut() {
            strip(set, gone);
        }
        let empty = |set: &Element| set.name == "resource_set" && set.children.is_empty();
        element.children.retain(|child| !empty(child));
    }
    let mut changes = Vec::new();
    section.children.retain_mut(|element| {
        let before = element.clone();
        strip(element, gone);
        // Our own tag is written anew.
        if element.same(&before) || element.id() == TAG {
            return true;
        }
        let refers = ["obj_ref", "resource_set"];
        let stays = refers.iter().any(|name| element.find(name).is_some());
        changes.push(Change {
            action: if stays {
                Action::Modify
            } else {
                Action::Delete
            },
            element: element.name.clone(),
            id: element.id().to_owned(),
            purpose: "it refers to a resource that goes".into(),
            values: Vec::new(),
        });
        stays
    });
    changes
}

/// Writes down which resources and constraints are ours.
fn tag(cib: &mut Element, items: &[Item], spared: &BTreeSet<String>) {
    let listed = items
        .iter()
        .filter(|item| matches!(item.place, Place::Resources | Place::Constraints));
    let listed = listed.map(|item| item.element.id());
    let entries: Vec<Element> = listed
        .chain(spared.iter().map(String::as_str))
        .map(|id| Element::new("obj_ref").with("id", id))
        .collect();
    let configuration = cib.entry("configuration");
    let tags = configuration.entry("tags");
    tags.children.retain(|tag| tag.id() != TAG);
    if !entries.is_empty() {
        tags.children
            .push(Element::new("tag").with("id", TAG).holding(entries));
    }
    configuration
        .children
        .retain(|section| section.name != "tags" || !section.children.is_empty());
}

/// The version of a CIB that was changed once.
pub(crate) fn next_epoch(cib: &mut Element) {
    let epoch = cib
        .get("epoch")
        .and_then(|epoch| epoch.parse::<u64>().ok())
        .unwrap_or(0);
    cib.set("epoch", epoch + 1);
    cib.set("num_updates", 0);
}

/// The values that differ.
fn differences(from: Option<&Element>, to: Option<&Element>) -> Vec<Value> {
    let values = |element: Option<&Element>| {
        let mut values = BTreeMap::new();
        if let Some(element) = element {
            flatten(element, "", &mut values);
        }
        values
    };
    let (from, to) = (values(from), values(to));
    let names: BTreeSet<&String> = from.keys().chain(to.keys()).collect();
    // The encoded copy of the configuration says nothing to anybody.
    let differing = names
        .into_iter()
        .filter(|name| from.get(*name) != to.get(*name) && *name != desired::CONFIGURATION);
    differing
        .map(|name| Value {
            name: name.clone(),
            from: from.get(name).map(|value| shown(name, value)),
            to: to.get(name).map(|value| shown(name, value)),
        })
        .collect()
}

/// The values of an element by names that people know.
fn flatten(element: &Element, prefix: &str, values: &mut BTreeMap<String, String>) {
    if element.name == "nvpair" {
        let name = element.get("name").unwrap_or_default();
        let value = element.get("value").unwrap_or_default();
        values.insert(format!("{prefix}{name}"), value.to_owned());
        return;
    }
    for (name, value) in &element.attributes {
        if name != "id" && !(element.name == "op" && ["name", "interval"].contains(&name.as_str()))
        {
            values.insert(format!("{prefix}{name}"), value.clone());
        }
    }
    for child in &element.children {
        let prefix = match child.name.as_str() {
            "op" => format!(
                "{prefix}{} {} ",
                child.get("name").unwrap_or_default(),
                child.get("interval").unwrap_or_default()
            ),
            "rule" | "expression" => format!("{prefix}{} {} ", child.name, child.id()),
            _ => prefix.to_owned(),
        };
        flatten(child, &prefix, values);
    }
}

/// Whether an option's value is not for everybody's eyes.
pub fn is_secret(name: &str) -> bool {
    let name = name.rsplit(' ').next().unwrap_or(name).to_ascii_lowercase();
    ["passw", "secret", "token", "community", "apikey"]
        .iter()
        .any(|word| name.contains(word))
        && !name.ends_with("_script")
}

fn shown(name: &str, value: &str) -> String {
    if is_secret(name) {
        return "(secret)".to_owned();
    }
    match value.char_indices().nth(120) {
        Some((end, _)) => format!("{}…", &value[..end]),
        None => value.to_owned(),
    }
}

/// A CIB that can be shown: without the values that are secret.
pub fn masked(cib: &Element) -> Element {
    let mut shown = cib.clone();
    shown.walk_mut(&mut |element| {
        if element.name == "nvpair" && element.get("name").is_some_and(is_secret) {
            element.set("value", "(secret)");
        }
    });
    shown
}
