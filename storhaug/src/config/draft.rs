//! A configuration as it was written, before it is known to make sense: what
//! each key says and where. Both forms become this, and from here on they are
//! the same.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::keys::{Key, Kind, Table};
use super::{ConfigError, Secret};

/// The two ways to write a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Toml,
    Slides,
}

/// A line of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) file: Arc<Path>,
    /// Counted from 1; `None` for the file as a whole.
    pub(super) line: Option<usize>,
}

impl Place {
    pub(super) fn new(file: &Arc<Path>, line: usize) -> Place {
        Place {
            file: Arc::clone(file),
            line: Some(line),
        }
    }

    pub(super) fn whole(file: &Arc<Path>) -> Place {
        Place {
            file: Arc::clone(file),
            line: None,
        }
    }

    /// An error about this place.
    pub(super) fn error(
        &self,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> ConfigError {
        ConfigError {
            file: self.file.to_path_buf(),
            line: self.line,
            problem: problem.into(),
            remedy: remedy.into(),
        }
    }
}

/// Something that was written, and where.
#[derive(Clone, Debug)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) place: Place,
}

impl<T> At<T> {
    pub(super) fn new(value: T, place: Place) -> At<T> {
        At { value, place }
    }
}

pub(super) type Options = BTreeMap<String, At<String>>;
pub(super) type NodeOptions = BTreeMap<String, At<Options>>;

/// What a key was given; which of these follows from the key's kind.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Text(String),
    Flag(bool),
    List(Vec<At<String>>),
    Options(Options),
    NodeOptions(NodeOptions),
}

impl Value {
    fn fits(&self, kind: Kind) -> bool {
        match self {
            Value::Text(_) => matches!(kind, Kind::Text | Kind::Choice(_)),
            Value::Flag(_) => kind == Kind::Flag,
            Value::List(_) => kind == Kind::List,
            Value::Options(_) => kind == Kind::Options,
            Value::NodeOptions(_) => kind == Kind::NodeOptions,
        }
    }
}

/// The keys of one table.
#[derive(Clone, Debug)]
pub(super) struct Section {
    pub(super) place: Place,
    values: BTreeMap<&'static str, At<Value>>,
}

impl Section {
    pub(super) fn new(place: Place) -> Section {
        Section {
            place,
            values: BTreeMap::new(),
        }
    }

    pub(super) fn set(&mut self, key: &Key, value: Value, place: Place) {
        debug_assert!(value.fits(key.kind), "{key:?} cannot be {value:?}");
        self.values.insert(key.name, At::new(value, place));
    }

    /// Takes over what `later` says; the rest stays.
    fn overlay(&mut self, later: Section) {
        self.values.extend(later.values);
    }

    /// What `key` was given, of whatever kind.
    pub(super) fn get(&self, key: &Key) -> Option<&At<Value>> {
        self.values.get(key.name)
    }

    /// Where `key` stands, or the table where it should.
    pub(super) fn place_of(&self, key: &Key) -> &Place {
        self.values
            .get(key.name)
            .map_or(&self.place, |value| &value.place)
    }

    pub(super) fn has(&self, key: &Key) -> bool {
        self.values.contains_key(key.name)
    }

    pub(super) fn text(&self, key: &Key) -> Option<At<&str>> {
        match self.values.get(key.name)? {
            At {
                value: Value::Text(text),
                place,
            } => Some(At::new(text, place.clone())),
            _ => None,
        }
    }

    pub(super) fn flag(&self, key: &Key) -> Option<bool> {
        match self.values.get(key.name)?.value {
            Value::Flag(flag) => Some(flag),
            _ => None,
        }
    }

    pub(super) fn list(&self, key: &Key) -> Option<&[At<String>]> {
        match &self.values.get(key.name)?.value {
            Value::List(list) => Some(list),
            _ => None,
        }
    }

    pub(super) fn options(&self, key: &Key) -> Option<&Options> {
        match &self.values.get(key.name)?.value {
            Value::Options(options) => Some(options),
            _ => None,
        }
    }

    pub(super) fn node_options(&self, key: &Key) -> Option<&NodeOptions> {
        match &self.values.get(key.name)?.value {
            Value::NodeOptions(nodes) => Some(nodes),
            _ => None,
        }
    }
}

/// Everything that was written.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    pub(super) form: Form,
    /// The file to name where something is missing altogether.
    pub(super) file: Arc<Path>,
    /// The tables of which there is one.
    single: BTreeMap<Table, Section>,
    pub(super) nodes: Vec<Section>,
    pub(super) vips: Vec<Section>,
    /// `HA_PASSWORD`.
    pub(super) password: Option<Secret>,
}

impl Draft {
    pub(super) fn new(form: Form, file: &Arc<Path>) -> Draft {
        Draft {
            form,
            file: Arc::clone(file),
            single: BTreeMap::new(),
            nodes: Vec::new(),
            vips: Vec::new(),
            password: None,
        }
    }

    /// The table, which is there or is not.
    pub(super) fn table(&self, table: Table) -> Option<&Section> {
        self.single.get(&table)
    }

    /// The table, as if it had been opened at `place` if it was not yet.
    pub(super) fn open(&mut self, table: Table, place: &Place) -> &mut Section {
        self.single
            .entry(table)
            .or_insert_with(|| Section::new(place.clone()))
    }

    /// Adds a table as a file has it.
    pub(super) fn add(&mut self, table: Table, section: Section) {
        match table {
            Table::Node => self.nodes.push(section),
            Table::Vip => self.vips.push(section),
            _ => {
                self.single.insert(table, section);
            }
        }
    }

    /// Whether there is a table in it.
    pub(super) fn says_something(&self) -> bool {
        !(self.single.is_empty() && self.nodes.is_empty() && self.vips.is_empty())
    }

    /// Adds what a later file says: its keys win, its nodes and addresses
    /// come after.
    pub(super) fn overlay(&mut self, later: Draft) {
        for (table, section) in later.single {
            match self.single.get_mut(&table) {
                Some(earlier) => earlier.overlay(section),
                None => {
                    self.single.insert(table, section);
                }
            }
        }
        self.nodes.extend(later.nodes);
        self.vips.extend(later.vips);
    }
}
