//! Edits of the slides' form.

use std::net::IpAddr;

use anyhow::{Context, bail};

use super::super::places::Found;
use super::super::slides::{node_key, setting};
use super::{Edit, NewNode, NewVip};

/// Makes `edit` in `files`.
pub(super) fn edit(files: &mut [Found], edit: &Edit) -> anyhow::Result<()> {
    let mut text = Text { files };
    match edit {
        Edit::AddNode(node) => text.add_node(node),
        Edit::RemoveNode(name) => text.remove_node(name),
        Edit::AddVip(vip) => text.add_vip(vip),
        Edit::RemoveVip(address) => text.remove_vip(*address),
        // This form has one node for each address.
        Edit::PreferVip(address, nodes) => match nodes.first() {
            Some(node) => text.prefer(*address, node),
            None => Ok(()),
        },
    }
}

const NODES: &str = "HA_CLUSTER_NODES";
const STORAGE: &str = "STORAGE_NODES";
const VIPS: &str = "HA_VIPS";
const HOMES: &str = "HA_VIP_NODES";
const FENCING: &str = "HA_FENCE_OPTIONS_";
const BY_NODE: &str = "VIP_";

struct Text<'a> {
    files: &'a mut [Found],
}

impl Text<'_> {
    fn add_node(&mut self, node: &NewNode) -> anyhow::Result<()> {
        if node.address.is_some() {
            bail!(
                "the form KEY=\"value\" has no key for the address of a node; write {} into \
                 /etc/hosts on every node, and leave --address out, or use the TOML form",
                node.name
            );
        }
        let before = self.words(NODES);
        let storage = self.words(STORAGE);
        self.push(NODES, &node.name, ",")?;
        match (storage.is_empty(), node.storage) {
            (false, true) => self.push(STORAGE, &node.name, ",")?,
            // All had it, because none was listed.
            (true, false) => self.set(STORAGE, &before.join(","), NODES)?,
            (false, false) | (true, true) => {}
        }
        if !node.fencing.is_empty() {
            let options: Vec<String> = node
                .fencing
                .iter()
                .map(|(key, value)| format!("{key}={value}"))
                .collect();
            let key = node_key(FENCING, &node.name);
            let above = self.last_key(FENCING).unwrap_or("HA_FENCE_AGENT".into());
            self.set(&key, &options.join(" "), &above)?;
        }
        Ok(())
    }

    fn remove_node(&mut self, name: &str) -> anyhow::Result<()> {
        let by_node = node_key(BY_NODE, name);
        if let Some(address) = self.value(&by_node) {
            bail!(
                "{by_node} gives {name} the address {address}; take it away with `storhaug vip \
                 remove {address}`, or list all addresses in {VIPS}"
            );
        }
        self.drop_word(NODES, name);
        if self.words(STORAGE) == [name] {
            bail!("{name} is the only one of {STORAGE}");
        }
        self.drop_word(STORAGE, name);
        self.drop_line(&node_key(FENCING, name));
        let homes = self.words(HOMES);
        if homes.iter().any(|home| home == name) {
            // Each has its place in the list: another node takes it.
            let storage = match self.words(STORAGE) {
                none if none.is_empty() => self.words(NODES),
                some => some,
            };
            let mut kept: Vec<String> = Vec::new();
            for home in &homes {
                let count = |node: &&String| {
                    let all = homes.iter().filter(|home| *home != name).chain(&kept);
                    all.filter(|home| home == node).count()
                };
                kept.push(
                    match home == name {
                        true => storage.iter().min_by_key(count).cloned(),
                        false => Some(home.clone()),
                    }
                    .with_context(|| format!("no node is left for {HOMES}"))?,
                );
            }
            self.rewrite(HOMES, &kept.join(self.separator(HOMES, ",")));
        }
        Ok(())
    }

    fn add_vip(&mut self, vip: &NewVip) -> anyhow::Result<()> {
        if vip.name.is_some() || vip.nic.is_some() {
            bail!(
                "the form KEY=\"value\" has no key for the name or the interface of an address; \
                 leave it out, or use the TOML form"
            );
        }
        if let Some(above) = self.last_key(BY_NODE) {
            let Some(node) = &vip.prefer else {
                bail!(
                    "this configuration gives each node one address ({above}); name the node \
                     with --prefer, or list all addresses in {VIPS}"
                );
            };
            let key = node_key(BY_NODE, node);
            if let Some(other) = self.value(&key) {
                bail!("{key} is {other} already; list all addresses in {VIPS} to have more");
            }
            return self.set(&key, &vip.address, &above);
        }
        let (vips, homes) = (self.words(VIPS), self.words(HOMES));
        self.push(VIPS, &vip.address, " ")?;
        match &vip.prefer {
            Some(node) if homes.len() == vips.len() => self.push(HOMES, node, ","),
            Some(_) => bail!("{HOMES} has no node for every address of {VIPS} yet; complete it"),
            None => Ok(()),
        }
    }

    fn remove_vip(&mut self, address: IpAddr) -> anyhow::Result<()> {
        let vips = self.words(VIPS);
        if let Some(at) = vips.iter().position(|vip| is(vip, address)) {
            self.drop_word(VIPS, &vips[at]);
            let mut homes = self.words(HOMES);
            if at < homes.len() {
                homes.remove(at);
                self.rewrite(HOMES, &homes.join(self.separator(HOMES, ",")));
            }
            return Ok(());
        }
        let keys = self.keys(BY_NODE).into_iter();
        let mut keys = keys.filter(|key| self.value(key).is_some_and(|vip| is(&vip, address)));
        if let Some(key) = keys.next() {
            self.drop_line(&key);
        }
        Ok(())
    }

    fn prefer(&mut self, address: IpAddr, node: &str) -> anyhow::Result<()> {
        let vips = self.words(VIPS);
        let Some(at) = vips.iter().position(|vip| is(vip, address)) else {
            bail!(
                "this configuration gives each node one address; list all addresses in {VIPS}, \
                 and the node of each in {HOMES}"
            );
        };
        let mut homes = self.words(HOMES);
        if at > homes.len() {
            bail!(
                "{HOMES} has a node for the first {} of the addresses only; give every one of \
                 {VIPS} a node there",
                homes.len()
            );
        }
        if at == homes.len() {
            homes.push(node.to_owned());
        }
        homes[at] = node.to_owned();
        self.set(HOMES, &homes.join(self.separator(HOMES, ",")), VIPS)
    }

    /// The value of `key`; the last file's wins.
    fn value(&self, key: &str) -> Option<String> {
        let lines = self.files.iter().flat_map(|file| file.text.lines());
        let mut values = lines.filter_map(|line| match setting(line) {
            Ok(Some((name, value))) if name == key => Some(value),
            _ => None,
        });
        values.next_back()
    }

    /// The keys that begin with `prefix` and go on, in the order of the files.
    fn keys(&self, prefix: &str) -> Vec<String> {
        let lines = self.files.iter().flat_map(|file| file.text.lines());
        let keys = lines.filter_map(|line| match setting(line) {
            Ok(Some((name, _))) if name.starts_with(prefix) && name != prefix => Some(name),
            _ => None,
        });
        keys.map(str::to_owned).collect()
    }

    fn last_key(&self, prefix: &str) -> Option<String> {
        self.keys(prefix).pop()
    }

    fn words(&self, key: &str) -> Vec<String> {
        let value = self.value(key).unwrap_or_default();
        let words = value.split(is_separator).filter(|word| !word.is_empty());
        words.map(str::to_owned).collect()
    }

    /// What stands between the words of `key`, or `default`.
    fn separator<'s>(&self, key: &str, default: &'s str) -> &'s str {
        match self
            .value(key)
            .and_then(|value| value.find(is_separator).map(|at| (at, value)))
        {
            Some((at, value)) if value[at..].starts_with(", ") => ", ",
            Some((at, value)) if value[at..].starts_with(',') => ",",
            Some(_) => " ",
            None => default,
        }
    }

    /// Adds a word to the list `key`.
    fn push(&mut self, key: &str, word: &str, separator: &str) -> anyhow::Result<()> {
        let Some(value) = self.value(key) else {
            return self.set(key, word, NODES);
        };
        let value = value.trim_end();
        let separator = match value.is_empty() {
            true => "",
            false => self.separator(key, separator),
        };
        self.rewrite(key, &format!("{value}{separator}{word}"));
        Ok(())
    }

    /// Takes a word out of the list `key`, with what divides it from the next.
    fn drop_word(&mut self, key: &str, word: &str) {
        let words = self.words(key);
        let kept: Vec<&str> = words
            .iter()
            .map(String::as_str)
            .filter(|other| *other != word)
            .collect();
        if kept.len() < words.len() {
            self.rewrite(key, &kept.join(self.separator(key, ",")));
        }
    }

    /// Gives `key` a value, in a new line below that of `above` if it has none.
    fn set(&mut self, key: &str, value: &str, above: &str) -> anyhow::Result<()> {
        if self.value(key).is_some() {
            self.rewrite(key, value);
            return Ok(());
        }
        let (file, line) = self
            .place(above)
            .with_context(|| format!("there is no {above}"))?;
        let text = &mut self.files[file].text;
        let mut lines: Vec<String> = text.split_inclusive('\n').map(str::to_owned).collect();
        if !lines[line].ends_with('\n') {
            lines[line].push('\n');
        }
        lines.insert(line + 1, format!("{key}=\"{value}\"\n"));
        *text = lines.concat();
        Ok(())
    }

    /// Replaces the value of `key`; the rest of its line stays.
    fn rewrite(&mut self, key: &str, value: &str) {
        let Some((file, line)) = self.place(key) else {
            return;
        };
        let text = &mut self.files[file].text;
        let mut lines: Vec<String> = text.split_inclusive('\n').map(str::to_owned).collect();
        lines[line] = with_value(&lines[line], value);
        *text = lines.concat();
    }

    /// Takes the line of `key` away, in every file that has one.
    fn drop_line(&mut self, key: &str) {
        while let Some((file, line)) = self.place(key) {
            let text = &mut self.files[file].text;
            let mut lines: Vec<&str> = text.split_inclusive('\n').collect();
            lines.remove(line);
            *text = lines.concat();
        }
    }

    /// The file and the line that `key` is set in; the last ones count.
    fn place(&self, key: &str) -> Option<(usize, usize)> {
        let is_key = |line: &str| matches!(setting(line), Ok(Some((name, _))) if name == key);
        let files = self.files.iter().enumerate().rev();
        let mut places = files.filter_map(|(index, file)| {
            let lines: Vec<&str> = file.text.split_inclusive('\n').collect();
            let line = lines.iter().rposition(|line| is_key(line))?;
            Some((index, line))
        });
        places.next()
    }
}

fn is_separator(c: char) -> bool {
    c == ',' || c.is_whitespace()
}

/// Whether `text`, with or without the length of a prefix, is `address`.
fn is(text: &str, address: IpAddr) -> bool {
    text.split('/').next().unwrap_or_default().parse() == Ok(address)
}

/// A line with another value, in the quotation marks it has.
fn with_value(line: &str, value: &str) -> String {
    let (key, rest) = line.split_once('=').unwrap_or((line, ""));
    let (quote, after) = match rest.chars().next() {
        Some(quote @ ('"' | '\'')) => {
            let after = rest[1..].split_once(quote).map_or("", |(_, after)| after);
            (quote, after)
        }
        _ => {
            let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
            ('"', &rest[end..])
        }
    };
    format!("{key}={quote}{value}{quote}{after}")
}
