//! Reads the TOML form.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::ConfigError;
use super::draft::{At, Draft, Form, NodeOptions, Options, Place, Section, Value};
use super::error::shown;
use super::keys::{self, Key, Kind, Table};

/// Reads `text`, the content of `file`. What is wrong goes to `errors`; what
/// is returned then has gaps.
pub(super) fn read(file: &Arc<Path>, text: &str, errors: &mut Vec<ConfigError>) -> Draft {
    let mut reader = Reader { file, text, errors };
    let mut draft = Draft::new(Form::Toml, file);
    let (root, wrong) = DeTable::parse_recoverable(text);
    if wrong.is_empty() {
        reader.root(root.get_ref(), &mut draft);
    } else {
        // A key lost to a syntax error would be reported again as missing.
        for error in wrong {
            reader.syntax(&error);
        }
    }
    draft
}

struct Reader<'a> {
    file: &'a Arc<Path>,
    text: &'a str,
    errors: &'a mut Vec<ConfigError>,
}

impl Reader<'_> {
    fn place(&self, span: &Range<usize>) -> Place {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        Place::new(self.file, 1 + before.matches('\n').count())
    }

    fn wrong(
        &mut self,
        span: &Range<usize>,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.errors.push(self.place(span).error(problem, remedy));
    }

    fn syntax(&mut self, error: &toml::de::Error) {
        let span = error.span().unwrap_or(0..0);
        let place = self.place(&span);
        let line = place
            .line
            .and_then(|line| self.text.lines().nth(line - 1))
            .unwrap_or("");
        self.errors.push(place.error(
            format!("`{}` is not TOML: {}", shown(line), error.message()),
            "write `key = \"value\"` under a [table]",
        ));
    }

    fn root(&mut self, root: &DeTable<'_>, draft: &mut Draft) {
        for (name, value) in root {
            let Some(table) = Table::ALL
                .into_iter()
                .find(|table| table.name() == name.get_ref())
            else {
                self.unknown_table(name, value);
                continue;
            };
            match value.get_ref() {
                DeValue::Table(keys) if !table.repeats() => {
                    let section = self.section(table, self.place(&name.span()), keys);
                    draft.add(table, section);
                }
                DeValue::Array(items) if table.repeats() => {
                    for item in items.iter() {
                        if let DeValue::Table(keys) = item.get_ref() {
                            let section = self.section(table, self.place(&item.span()), keys);
                            draft.add(table, section);
                        } else {
                            self.no_table(table, &item.span());
                        }
                    }
                }
                _ => self.no_table(table, &name.span()),
            }
        }
    }

    fn no_table(&mut self, table: Table, span: &Range<usize>) {
        self.wrong(
            span,
            format!("`{}` is not the table it should be", table.name()),
            format!("open it with {}", table.header()),
        );
    }

    fn unknown_table(
        &mut self,
        name: &Spanned<std::borrow::Cow<'_, str>>,
        value: &Spanned<DeValue<'_>>,
    ) {
        let span = name.span();
        let word = name.get_ref().as_ref();
        if keys::in_slides(word) {
            return self.slides_key(&span, word);
        }
        let is_table = match value.get_ref() {
            DeValue::Table(_) => true,
            DeValue::Array(items) => items.iter().any(|item| item.get_ref().is_table()),
            _ => false,
        };
        if is_table {
            let remedy = match keys::nearest(word, Table::ALL.into_iter().map(Table::name)) {
                Some(near) => format!("write [{near}]"),
                None => format!("write one of {}", Table::ALL.map(Table::header).join(", ")),
            };
            self.wrong(&span, format!("unknown table [{word}]"), remedy);
        } else {
            let owner = keys::KEYS.iter().find(|key| key.name == word);
            let remedy = match owner {
                Some(key) => format!("write it under {}", key.table.header()),
                None => "write it under the [table] it belongs to".to_string(),
            };
            self.wrong(&span, format!("the key `{word}` is in no table"), remedy);
        }
    }

    fn slides_key(&mut self, span: &Range<usize>, word: &str) {
        let remedy = match keys::of_slides(word) {
            Some(key) => format!("write `{}` in {}", key.name, key.table.header()),
            None => "write the whole file in one of the two forms".to_string(),
        };
        self.wrong(
            span,
            format!("`{word}` is of the slides' form, which does not mix with TOML in one file"),
            remedy,
        );
    }

    fn section(&mut self, table: Table, place: Place, keys: &DeTable<'_>) -> Section {
        let mut section = Section::new(place);
        for (name, value) in keys {
            let word = name.get_ref().as_ref();
            let Some(key) = keys::find(table, word) else {
                self.unknown_key(table, name);
                continue;
            };
            if let Some(read) = self.value(key, value) {
                section.set(key, read, self.place(&name.span()));
            }
        }
        section
    }

    fn unknown_key(&mut self, table: Table, name: &Spanned<std::borrow::Cow<'_, str>>) {
        let word = name.get_ref().as_ref();
        if keys::in_slides(word) {
            return self.slides_key(&name.span(), word);
        }
        let known = || keys::keys_of(table).map(|key| key.name);
        let remedy = match keys::nearest(word, known()) {
            Some(near) => format!("write `{near}`"),
            None => format!(
                "{} knows {}",
                table.header(),
                known().collect::<Vec<_>>().join(", ")
            ),
        };
        self.wrong(
            &name.span(),
            format!("unknown key `{word}` in {}", table.header()),
            remedy,
        );
    }

    fn value(&mut self, key: &Key, value: &Spanned<DeValue<'_>>) -> Option<Value> {
        let read = match (key.kind, value.get_ref()) {
            (Kind::Text | Kind::Choice(_), DeValue::String(text)) => Value::Text(text.to_string()),
            (Kind::Flag, DeValue::Boolean(flag)) => Value::Flag(*flag),
            (Kind::List, DeValue::Array(items)) => {
                let mut list = Vec::new();
                for item in items.iter() {
                    let DeValue::String(text) = item.get_ref() else {
                        self.wrong_kind(key, item);
                        continue;
                    };
                    list.push(At::new(text.to_string(), self.place(&item.span())));
                }
                Value::List(list)
            }
            (Kind::Options, DeValue::Table(table)) => Value::Options(self.options(table)),
            (Kind::NodeOptions, DeValue::Table(nodes)) => {
                Value::NodeOptions(self.node_options(key, nodes))
            }
            _ => {
                self.wrong_kind(key, value);
                return None;
            }
        };
        Some(read)
    }

    fn wrong_kind(&mut self, key: &Key, value: &Spanned<DeValue<'_>>) {
        let span = value.span();
        let shown = self.shown(&span);
        self.wrong(
            &span,
            format!("`{}` is {} in {}", key.name, shown, key.table.header()),
            format!("write {}", key.kind.wanted()),
        );
    }

    /// The text of a value, as far as one line of it goes.
    fn shown(&self, span: &Range<usize>) -> String {
        let text = self.text.get(span.clone()).unwrap_or("");
        format!("`{}`", shown(text.lines().next().unwrap_or("")))
    }

    fn options(&mut self, table: &DeTable<'_>) -> Options {
        let mut options = BTreeMap::new();
        for (name, value) in table {
            let text = match value.get_ref() {
                DeValue::String(text) => text.to_string(),
                DeValue::Boolean(flag) => flag.to_string(),
                DeValue::Integer(_) => self.text.get(value.span()).unwrap_or("").trim().to_string(),
                _ => {
                    let shown = self.shown(&value.span());
                    self.wrong(
                        &value.span(),
                        format!("the option `{}` is {shown}", name.get_ref()),
                        "write a string in quotes",
                    );
                    continue;
                }
            };
            options.insert(
                name.get_ref().to_string(),
                At::new(text, self.place(&name.span())),
            );
        }
        options
    }

    fn node_options(&mut self, key: &Key, table: &DeTable<'_>) -> NodeOptions {
        let mut nodes = BTreeMap::new();
        for (name, value) in table {
            let DeValue::Table(inner) = value.get_ref() else {
                let shown = self.shown(&value.span());
                self.wrong(
                    &value.span(),
                    format!("the options of `{}` are {shown}", name.get_ref()),
                    format!("write {}", Kind::Options.wanted()),
                );
                continue;
            };
            if let Some((part, _)) = inner.iter().find(|(_, value)| value.get_ref().is_table()) {
                let node = format!("{}.{}", name.get_ref(), part.get_ref());
                self.wrong(
                    &name.span(),
                    format!(
                        "`{node}` is a table in a table in {}",
                        key.spelled(Form::Toml)
                    ),
                    format!("quote a node's name that has dots in it: nodes.\"{node}\" = {{ … }}"),
                );
                continue;
            }
            let options = self.options(inner);
            nodes.insert(
                name.get_ref().to_string(),
                At::new(options, self.place(&name.span())),
            );
        }
        nodes
    }
}
