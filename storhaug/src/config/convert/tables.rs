//! A draft in the TOML form: what was said, and no more.

use super::super::draft::{At, Draft, Options, Place, Section, Value};
use super::super::keys::{self, Table};
use super::super::printer::{Printer, bare, list, quoted, table};
use super::super::remarks::{Remark, Remarks};

/// `draft` written down; it takes its comments out of `remarks`.
pub(in super::super) fn write(draft: &Draft, remarks: &mut Remarks) -> String {
    let mut out = Printer::default();
    for line in remarks.head() {
        out.plain(&line);
    }
    for which in Table::ALL {
        let sections: Vec<&Section> = match which {
            Table::Node => draft
                .nodes
                .iter()
                .filter(|node| says_something(node))
                .collect(),
            Table::Vip => draft.vips.iter().collect(),
            _ => draft.table(which).into_iter().collect(),
        };
        for section in sections {
            write_section(&mut out, which, section, remarks);
        }
    }
    out.into_text()
}

/// Whether the table of a node says more than that there is such a node.
fn says_something(node: &Section) -> bool {
    node.has(&keys::NODE_ADDRESS) || node.flag(&keys::NODE_STORAGE) == Some(false)
}

fn write_section(out: &mut Printer, which: Table, section: &Section, remarks: &mut Remarks) {
    // A line that says a whole table in the other form is about the table
    // where there are several, and otherwise about its key.
    let mut header = Remark::default();
    if which.repeats() {
        header = remarks.take(&section.place);
    }
    let mut body = Vec::new();
    for key in keys::keys_of(which) {
        let Some(At { value, place }) = section.get(key) else {
            continue;
        };
        if let Value::NodeOptions(nodes) = value {
            for (node, options) in nodes {
                let name = format!("{}.{}", key.name, bare(node));
                let value = options_of(&options.value);
                body.push((remarks.take(&options.place), name, value));
            }
            continue;
        }
        let mut remark = remarks.take(place);
        for item in items(value) {
            let more = remarks.take(item);
            remark.above.extend(more.above);
            remark.above.extend(more.beside);
        }
        body.push((remark, key.name.to_owned(), text_of(value)));
    }
    if !which.repeats() {
        header = remarks.take(&section.place);
    }
    out.gap();
    above(out, &header);
    plain(out, &which.header(), &header);
    for (remark, name, value) in body {
        above(out, &remark);
        plain(out, &format!("{name} = {value}"), &remark);
    }
}

fn above(out: &mut Printer, remark: &Remark) {
    for line in &remark.above {
        out.plain(line);
    }
}

fn plain(out: &mut Printer, line: &str, remark: &Remark) {
    match &remark.beside {
        Some(comment) => out.plain(&format!("{line} {comment}")),
        None => out.plain(line),
    }
}

/// The places of the parts of a value.
fn items(value: &Value) -> Vec<&Place> {
    match value {
        Value::List(list) => list.iter().map(|item| &item.place).collect(),
        Value::Options(options) => options.values().map(|option| &option.place).collect(),
        Value::Text(_) | Value::Flag(_) | Value::NodeOptions(_) => Vec::new(),
    }
}

fn text_of(value: &Value) -> String {
    match value {
        Value::Text(text) => quoted(text),
        Value::Flag(flag) => flag.to_string(),
        Value::List(items) => list(items.iter().map(|item| item.value.as_str())),
        Value::Options(options) => options_of(options),
        Value::NodeOptions(nodes) => {
            let nodes = nodes.iter();
            let nodes =
                nodes.map(|(node, at)| format!("{} = {}", bare(node), options_of(&at.value)));
            format!("{{ {} }}", nodes.collect::<Vec<_>>().join(", "))
        }
    }
}

fn options_of(options: &Options) -> String {
    let options = options.iter();
    table(options.map(|(name, At { value, .. })| (name, value)))
}
