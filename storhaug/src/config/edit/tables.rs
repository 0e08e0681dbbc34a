//! Edits of the TOML form.

use std::net::IpAddr;

use anyhow::{Context, bail};
use toml_edit::{
    Array, ArrayOfTables, DocumentMut, InlineTable, Item, RawString, Table, TableLike, Value,
};

use super::super::places::Found;
use super::{Edit, NewNode, NewVip};

/// Makes `edit` in `files`.
pub(super) fn edit(files: &mut [Found], edit: &Edit) -> anyhow::Result<()> {
    let mut documents = Vec::new();
    for file in files.iter() {
        let document = file.text.parse::<DocumentMut>();
        documents.push(document.with_context(|| format!("reading {}", file.path.display()))?);
    }
    change(&mut documents, edit)?;
    for (file, document) in files.iter_mut().zip(&documents) {
        file.text = document.to_string();
    }
    Ok(())
}

fn change(documents: &mut [DocumentMut], edit: &Edit) -> anyhow::Result<()> {
    match edit {
        Edit::AddNode(node) => add_node(documents, node)?,
        Edit::RemoveNode(name) => documents.iter_mut().for_each(|d| remove_node(d, name)),
        Edit::AddVip(vip) => {
            let at = last(documents, |d| d.contains_key("vip"))
                .or_else(|| last(documents, |d| d.contains_key("cluster")));
            let document = documents.get_mut(at.unwrap_or(0));
            add_vip(document.context("there is no file")?, vip);
        }
        Edit::RemoveVip(address) => {
            for document in documents {
                remove(document, "vip", |vip| has_address(vip, *address));
            }
        }
        Edit::PreferVip(address, nodes) => {
            let wanted = value_of(nodes);
            for document in documents {
                each(document, "vip", |vip| {
                    if has_address(vip, *address) {
                        set(vip, "prefer", wanted.clone());
                    }
                });
            }
        }
    }
    Ok(())
}

/// The last of `documents` for which `holds`; its keys count.
fn last(documents: &[DocumentMut], holds: impl Fn(&DocumentMut) -> bool) -> Option<usize> {
    documents.iter().rposition(holds)
}

fn add_node(documents: &mut [DocumentMut], node: &NewNode) -> anyhow::Result<()> {
    let listed = |d: &DocumentMut| {
        let nodes = d.get("cluster").and_then(|cluster| cluster.get("nodes"));
        nodes.is_some_and(Item::is_array)
    };
    let at = last(documents, listed).context("no file has the key `nodes` in [cluster]")?;
    if let Some(nodes) = documents[at]["cluster"]["nodes"].as_array_mut() {
        push(nodes, node.name.as_str().into());
    }
    if node.address.is_some() || !node.storage {
        let mut keys = vec![("name", Value::from(&node.name))];
        keys.extend(node.address.iter().map(|own| ("address", own.into())));
        keys.extend((!node.storage).then_some(("storage", false.into())));
        append(&mut documents[at], "node", &keys);
    }
    if node.fencing.is_empty() {
        return Ok(());
    }
    let devices = |d: &DocumentMut| d.get("fencing").is_some_and(|f| f.get("nodes").is_some());
    let at = last(documents, devices).or_else(|| last(documents, |d| d.contains_key("fencing")));
    let fencing = at.and_then(|at| documents[at].get_mut("fencing"));
    let fencing = fencing.and_then(Item::as_table_like_mut);
    let fencing = fencing.context("no file has the table [fencing]")?;
    let options: InlineTable = node.fencing.iter().cloned().collect();
    let dotted = || {
        let mut table = Table::new();
        table.set_dotted(true);
        Item::Table(table)
    };
    let nodes = fencing.entry("nodes").or_insert_with(dotted);
    match nodes.as_table_like_mut() {
        Some(nodes) => drop(nodes.insert(&node.name, Item::Value(options.into()))),
        None => bail!("the key `nodes` in [fencing] is no table"),
    }
    Ok(())
}

fn remove_node(document: &mut DocumentMut, name: &str) {
    let nodes = document
        .get_mut("cluster")
        .and_then(|cluster| cluster.get_mut("nodes"));
    if let Some(nodes) = nodes.and_then(Item::as_array_mut) {
        take(nodes, name);
    }
    remove(document, "node", |node| text(node, "name") == Some(name));
    let devices = document
        .get_mut("fencing")
        .and_then(|fencing| fencing.get_mut("nodes"));
    if let Some(devices) = devices.and_then(Item::as_table_like_mut) {
        devices.remove(name);
    }
    each(document, "vip", |vip| {
        let prefer = vip.get_mut("prefer").and_then(Item::as_array_mut);
        let empty = prefer.is_some_and(|prefer| {
            take(prefer, name);
            prefer.is_empty()
        });
        if empty {
            vip.remove("prefer");
        }
    });
}

fn add_vip(document: &mut DocumentMut, vip: &NewVip) {
    let mut keys = vec![("address", Value::from(&vip.address))];
    keys.extend(vip.name.iter().map(|name| ("name", name.into())));
    keys.extend(vip.nic.iter().map(|nic| ("nic", nic.into())));
    keys.extend(vip.prefer.iter().map(|node| {
        let list = value_of(std::slice::from_ref(node));
        ("prefer", list)
    }));
    append(document, "vip", &keys);
}

/// A list of strings.
fn value_of(words: &[String]) -> Value {
    Value::Array(words.iter().collect())
}

/// Adds an element at the end, in the manner of those that are there.
fn push(array: &mut Array, mut value: Value) {
    let trailing = array.trailing().as_str().unwrap_or_default().to_owned();
    let comma = array.trailing_comma();
    let Some(last) = array.iter_mut().last() else {
        array.push_formatted(value);
        return;
    };
    let decor = last.decor_mut();
    let raw = |raw: Option<&RawString>| {
        raw.and_then(RawString::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let (prefix, suffix) = (raw(decor.prefix()), raw(decor.suffix()));
    // One in each line, or all in one.
    let indent = prefix.rfind('\n').map_or(" ", |at| &prefix[at..]);
    // What stands behind the last one, such as a comment, stays behind it.
    let behind = if comma {
        &trailing
    } else {
        decor.set_suffix("");
        &suffix
    };
    value
        .decor_mut()
        .set_prefix(format!("{}{indent}", behind.trim_end()));
    let end = behind.rfind('\n').map_or("", |at| &behind[at..]).to_owned();
    array.push_formatted(value);
    array.set_trailing_comma(comma);
    array.set_trailing(end);
}

/// Takes an element out of a list, and the comment behind it in its line.
fn take(array: &mut Array, word: &str) {
    let Some(at) = array.iter().position(|value| value.as_str() == Some(word)) else {
        return;
    };
    let gone = array.remove(at);
    let before = gone.decor().prefix().and_then(RawString::as_str);
    let before = before.unwrap_or_default();
    match array.get_mut(at) {
        Some(next) => {
            let own = next.decor().prefix().and_then(RawString::as_str);
            let kept = match own.and_then(|own| own.find('\n').map(|line| &own[line..])) {
                Some(lines) => lines.to_owned(),
                // What begins the list stands where the first one stood.
                None if at == 0 => before.to_owned(),
                None => return,
            };
            next.decor_mut().set_prefix(kept);
        }
        None => {
            let trailing = array.trailing().as_str().unwrap_or_default();
            let kept = match trailing.find('\n') {
                Some(line) => trailing[line..].to_owned(),
                None if before.contains('\n') => "\n".to_owned(),
                None => return,
            };
            array.set_trailing(kept);
        }
    }
}

/// Adds a table to those called `name`.
fn append(document: &mut DocumentMut, name: &str, keys: &[(&str, Value)]) {
    if let Some(list) = document.get_mut(name).and_then(Item::as_array_mut) {
        let table: InlineTable = keys.iter().cloned().collect();
        return push(list, Value::InlineTable(table));
    }
    let mut table = Table::new();
    for (key, value) in keys {
        table.insert(key, Item::Value(value.clone()));
    }
    table.decor_mut().set_prefix("\n");
    if !document.to_string().ends_with('\n') && !document.is_empty() {
        table.decor_mut().set_prefix("\n\n");
    }
    let all = document
        .entry(name)
        .or_insert_with(|| Item::ArrayOfTables(ArrayOfTables::new()));
    if let Some(all) = all.as_array_of_tables_mut() {
        all.push(table);
    }
}

/// Takes the tables called `name` away for which `goes`, and the comment right
/// above each. What is above that, with a blank line between, stays.
fn remove(document: &mut DocumentMut, name: &str, goes: impl Fn(&dyn TableLike) -> bool) {
    let mut above = Vec::new();
    let mut empty = false;
    match document.get_mut(name) {
        Some(Item::ArrayOfTables(tables)) => {
            for table in tables.iter().filter(|table| goes(*table)) {
                let prefix = table.decor().prefix().and_then(|prefix| prefix.as_str());
                let kept = prefix.and_then(|prefix| prefix.rsplit_once("\n\n"));
                let kept = kept.map_or("", |(kept, _)| kept.trim_end());
                if !kept.is_empty() {
                    above.push((table.position(), kept.to_owned()));
                }
            }
            tables.retain(|table| !goes(table));
            empty = tables.is_empty();
        }
        Some(Item::Value(Value::Array(tables))) => {
            tables.retain(|table| !table.as_inline_table().is_some_and(|table| goes(table)));
        }
        _ => {}
    }
    if empty {
        document.remove(name);
    }
    for (position, comment) in above {
        match next_table(document.as_table_mut(), position) {
            Some(table) => {
                let own = table.decor().prefix().and_then(|prefix| prefix.as_str());
                let own = own.unwrap_or("\n");
                let both = format!(
                    "{comment}\n{}{own}",
                    if own.starts_with('\n') { "" } else { "\n" }
                );
                table.decor_mut().set_prefix(both);
            }
            None => {
                let trailing = document.trailing().as_str().unwrap_or_default();
                document.set_trailing(format!("{comment}\n{trailing}"));
            }
        }
    }
}

/// The table that is next after `position` in the document.
fn next_table(root: &mut Table, position: Option<isize>) -> Option<&mut Table> {
    let items = root.iter_mut().map(|(_, item)| item);
    let tables = items.flat_map(|item| match item {
        Item::Table(table) => vec![table],
        Item::ArrayOfTables(tables) => tables.iter_mut().collect(),
        _ => Vec::new(),
    });
    let later = tables.filter(|table| table.position() > position);
    later.min_by_key(|table| table.position())
}

/// Calls `change` for each table called `name`.
fn each(document: &mut DocumentMut, name: &str, mut change: impl FnMut(&mut dyn TableLike)) {
    match document.get_mut(name) {
        Some(Item::ArrayOfTables(tables)) => tables.iter_mut().for_each(|table| change(table)),
        Some(Item::Value(Value::Array(tables))) => {
            let tables = tables.iter_mut().filter_map(Value::as_inline_table_mut);
            tables.for_each(|table| change(table));
        }
        _ => {}
    }
}

/// Sets a key; a comment behind its value stays.
fn set(table: &mut dyn TableLike, key: &str, mut value: Value) {
    if let Some(old) = table.get(key).and_then(Item::as_value) {
        *value.decor_mut() = old.decor().clone();
        if let Some(slot) = table.get_mut(key) {
            *slot = Item::Value(value);
        }
        return;
    }
    table.insert(key, Item::Value(value));
}

fn text<'a>(table: &'a dyn TableLike, key: &str) -> Option<&'a str> {
    table.get(key).and_then(Item::as_str)
}

fn has_address(vip: &dyn TableLike, address: IpAddr) -> bool {
    let written = text(vip, "address").unwrap_or_default();
    let written = written.split('/').next().unwrap_or_default();
    written.parse() == Ok(address)
}
