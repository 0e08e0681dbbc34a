//! Lines of the TOML form, as everything writes them that writes a
//! configuration.

use std::collections::BTreeMap;

use toml::Value;
use toml_edit::Key;

/// Text that grows by tables and keys.
#[derive(Debug, Default)]
pub(super) struct Printer(String);

impl Printer {
    pub(super) fn into_text(self) -> String {
        self.0
    }

    /// Opens a table, below a blank line.
    pub(super) fn header(&mut self, header: &str) {
        self.gap();
        self.plain(header);
    }

    /// A blank line, but at the top.
    pub(super) fn gap(&mut self) {
        if !self.0.is_empty() {
            self.0.push('\n');
        }
    }

    /// A line as it is.
    pub(super) fn plain(&mut self, line: &str) {
        self.0.push_str(line);
        self.0.push('\n');
    }

    pub(super) fn line(&mut self, key: &str, value: &str) {
        self.plain(&format!("{key} = {value}"));
    }

    pub(super) fn text(&mut self, key: &str, value: &str) {
        self.line(key, &quoted(value));
    }

    pub(super) fn optional(&mut self, key: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.text(key, value);
        }
    }

    pub(super) fn flag(&mut self, key: &str, value: bool) {
        self.line(key, if value { "true" } else { "false" });
    }

    pub(super) fn list<'a>(&mut self, key: &str, items: impl Iterator<Item = &'a str>) {
        self.line(key, &list(items));
    }

    pub(super) fn table(&mut self, key: &str, options: &BTreeMap<String, String>) {
        self.line(key, &table(options.iter()));
    }
}

/// Strings as a list.
pub(super) fn list<'a>(items: impl Iterator<Item = &'a str>) -> String {
    let items: Vec<String> = items.map(quoted).collect();
    format!("[{}]", items.join(", "))
}

/// Options and their values as a table in a line.
pub(super) fn table<'a>(options: impl Iterator<Item = (&'a String, &'a String)>) -> String {
    let items: Vec<String> = options
        .map(|(name, value)| format!("{} = {}", bare(name), quoted(value)))
        .collect();
    match items.is_empty() {
        true => "{}".to_owned(),
        false => format!("{{ {} }}", items.join(", ")),
    }
}

/// `text` as a string.
pub(super) fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// `name` as a key, in quotation marks only where it needs them.
pub(super) fn bare(name: &str) -> String {
    Key::new(name).to_string()
}
