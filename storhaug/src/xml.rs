//! A small XML tree: what the cluster configuration is read into, changed in
//! and written from.
//!
//! Pacemaker's documents have elements and attributes, and no text; comments
//! and white space between elements are left out when one is read.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::Context;

/// An element with its attributes, in the order of the document, and its
/// children.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element {
    /// Its name.
    pub name: String,
    /// Its attributes.
    pub attributes: Vec<(String, String)>,
    /// The elements in it.
    pub children: Vec<Element>,
}

impl Element {
    /// An empty element.
    pub fn new(name: &str) -> Element {
        Element {
            name: name.to_owned(),
            attributes: Vec::new(),
            children: Vec::new(),
        }
    }

    /// Reads a document.
    ///
    /// # Errors
    /// It is not well-formed XML.
    pub fn parse(text: &str) -> anyhow::Result<Element> {
        let document = roxmltree::Document::parse(text).context("reading XML")?;
        Ok(Element::read(document.root_element()))
    }

    fn read(node: roxmltree::Node<'_, '_>) -> Element {
        Element {
            name: node.tag_name().name().to_owned(),
            attributes: node
                .attributes()
                .map(|attribute| (attribute.name().to_owned(), attribute.value().to_owned()))
                .collect(),
            children: node
                .children()
                .filter(roxmltree::Node::is_element)
                .map(Element::read)
                .collect(),
        }
    }

    /// The element with one more attribute.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl fmt::Display) -> Element {
        self.set(name, value);
        self
    }

    /// The element with one more child.
    #[must_use]
    pub fn child(mut self, child: Element) -> Element {
        self.children.push(child);
        self
    }

    /// The element with more children.
    #[must_use]
    pub fn holding(mut self, children: impl IntoIterator<Item = Element>) -> Element {
        self.children.extend(children);
        self
    }

    /// Sets an attribute.
    pub fn set(&mut self, name: &str, value: impl fmt::Display) {
        let value = value.to_string();
        match self.attributes.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => *old = value,
            None => self.attributes.push((name.to_owned(), value)),
        }
    }

    /// The value of an attribute.
    pub fn get(&self, name: &str) -> Option<&str> {
        let mut attributes = self.attributes.iter();
        attributes
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    /// Its attribute `id`; empty where there is none.
    pub fn id(&self) -> &str {
        self.get("id").unwrap_or_default()
    }

    /// The first child of this name.
    pub fn find(&self, name: &str) -> Option<&Element> {
        self.children.iter().find(|child| child.name == name)
    }

    /// The children of this name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Element> {
        self.children.iter().filter(move |child| child.name == name)
    }

    /// The first child of this name, made where there is none.
    pub fn entry(&mut self, name: &str) -> &mut Element {
        let at = match self.children.iter().position(|child| child.name == name) {
            Some(at) => at,
            None => {
                self.children.push(Element::new(name));
                self.children.len() - 1
            }
        };
        &mut self.children[at]
    }

    /// The element that a path of names leads to.
    pub fn at(&self, path: &[&str]) -> Option<&Element> {
        path.iter().try_fold(self, |here, name| here.find(name))
    }

    /// The element itself and everything below it, from the top.
    pub fn walk(&self) -> Vec<&Element> {
        let mut all = vec![self];
        let mut next = 0;
        while let Some(&here) = all.get(next) {
            all.extend(&here.children);
            next += 1;
        }
        all
    }

    /// Calls `change` for the element itself and everything below it.
    pub fn walk_mut(&mut self, change: &mut impl FnMut(&mut Element)) {
        change(self);
        for child in &mut self.children {
            child.walk_mut(change);
        }
    }

    /// Whether both mean the same: neither the order of attributes nor, among
    /// elements with ids, that of children has a meaning here.
    pub fn same(&self, other: &Element) -> bool {
        fn sorted(of: &Element) -> Vec<&Element> {
            let mut children: Vec<&Element> = of.children.iter().collect();
            children.sort_by_key(|child| (&child.name, child.id().to_owned()));
            children
        }
        fn attributes(of: &Element) -> BTreeMap<&str, &str> {
            let pairs = of.attributes.iter();
            pairs.map(|(k, v)| (k.as_str(), v.as_str())).collect()
        }
        self.name == other.name
            && attributes(self) == attributes(other)
            && self.children.len() == other.children.len()
            && sorted(self)
                .iter()
                .zip(sorted(other))
                .all(|(mine, theirs)| mine.same(theirs))
    }

    fn write(&self, f: &mut fmt::Formatter<'_>, depth: usize) -> fmt::Result {
        write!(f, "{:depth$}<{}", "", self.name, depth = depth * 2)?;
        for (name, value) in &self.attributes {
            write!(f, " {name}=\"{}\"", escape(value))?;
        }
        if self.children.is_empty() {
            return writeln!(f, "/>");
        }
        writeln!(f, ">")?;
        for child in &self.children {
            child.write(f, depth + 1)?;
        }
        writeln!(f, "{:depth$}</{}>", "", self.name, depth = depth * 2)
    }
}

/// The document, indented.
impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, 0)
    }
}

/// A value as it stands between quotation marks. White space other than the
/// blank is written as a reference, because a reader makes blanks of it.
fn escape(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for c in value.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' => escaped.push_str("&#10;"),
            '\r' => escaped.push_str("&#13;"),
            '\t' => escaped.push_str("&#9;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let tree = Element::new("a")
            .with("id", "x\n\"<&>\t'")
            .child(Element::new("b").with("value", "ä"));
        assert_eq!(Element::parse(&tree.to_string()).unwrap(), tree);
    }

    #[test]
    fn order_has_no_meaning_and_values_have() {
        let one = Element::parse(r#"<a x="1" y="2"><n id="p"/><n id="q"/></a>"#).unwrap();
        let two = Element::parse(r#"<a y="2" x="1"><n id="q"/><n id="p"/></a>"#).unwrap();
        let three = Element::parse(r#"<a y="2" x="1"><n id="q"/><n id="r"/></a>"#).unwrap();
        assert!(one.same(&two));
        assert!(!one.same(&three));
    }
}
