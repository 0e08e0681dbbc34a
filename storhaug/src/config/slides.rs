//! Reads the slides' form, lines of `KEY="value"`, which earlier versions gave
//! to a shell. Here nothing is executed or expanded: what would have been is
//! refused.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::draft::{At, Draft, Form, NodeOptions, Options, Place, Section, Value};
use super::error::shown;
use super::keys::{self, Key, Table};
use super::{ConfigError, Secret};

/// One file in this form.
pub(super) struct File<'a> {
    pub(super) path: &'a Arc<Path>,
    pub(super) text: &'a str,
    /// Whether only its owner can read it, so that it may hold a password.
    pub(super) private: bool,
}

/// Reads `files` in their order; a later one's keys win. There is at least
/// one.
pub(super) fn read(files: &[File<'_>], errors: &mut Vec<ConfigError>) -> Option<Draft> {
    let first = files.first()?;
    let mut settings = BTreeMap::new();
    let mut password = None;
    for file in files {
        for (key, value) in settings_of(file, errors) {
            if key == "HA_PASSWORD" {
                if !file.private {
                    errors.push(value.place.error(
                        "HA_PASSWORD in a file that others than its owner can read",
                        format!(
                            "run `chmod 600 {}` and change the password, or write \
                             HA_PASSWORD_FILE",
                            file.path.display()
                        ),
                    ));
                } else if value.value.is_empty() {
                    errors.push(
                        value
                            .place
                            .error("HA_PASSWORD is empty", "write the password"),
                    );
                }
                password = Some(Secret::new(value.value));
            } else {
                settings.insert(key, value);
            }
        }
    }
    let mut draft = translate(first.path, &settings, errors);
    draft.password = password;
    Some(draft)
}

/// The keys that were set, with what they were set to.
pub(super) type Settings = BTreeMap<String, At<String>>;

/// What `settings` mean; `file` is named where something is missing.
pub(super) fn translate(
    file: &Arc<Path>,
    settings: &Settings,
    errors: &mut Vec<ConfigError>,
) -> Draft {
    let mut draft = Draft::new(Form::Slides, file);
    Translator {
        draft: &mut draft,
        settings,
        errors,
    }
    .run();
    draft
}

fn settings_of(file: &File<'_>, errors: &mut Vec<ConfigError>) -> Settings {
    let mut settings = Settings::new();
    for (index, line) in file.text.lines().enumerate() {
        let place = Place::new(file.path, index + 1);
        match setting(line) {
            Ok(None) => {}
            Ok(Some((key, value))) => {
                if !keys::in_slides(key) {
                    errors.push(unknown(&place, key));
                } else if let Some(earlier) =
                    settings.insert(key.to_string(), At::new(value, place.clone()))
                {
                    let line = earlier.place.line.unwrap_or(0);
                    errors.push(place.error(
                        format!("`{key}` is already set in line {line}"),
                        "remove one of the two",
                    ));
                }
            }
            Err((problem, remedy)) => errors.push(place.error(problem, remedy)),
        }
    }
    settings
}

fn unknown(place: &Place, key: &str) -> ConfigError {
    let remedy = match keys::nearest(key, keys::slides_names()) {
        Some(near) => format!("write {near}"),
        None => "remove it; `storhaug config reference` lists the keys".to_string(),
    };
    place.error(format!("unknown key `{key}`"), remedy)
}

/// One line: a key and its value, nothing, or what is wrong and what to write
/// instead.
pub(super) fn setting(line: &str) -> Result<Option<(&str, String)>, (String, String)> {
    let trimmed = line.trim();
    if trimmed.is_empty() || trimmed.starts_with('#') {
        return Ok(None);
    }
    if trimmed.starts_with('[') {
        return Err((
            format!("`{trimmed}` is TOML, which does not mix with KEY=\"value\" in one file"),
            "write the whole file in one of the two forms".into(),
        ));
    }
    let Some((key, rest)) = trimmed.split_once('=') else {
        return Err((
            format!(
                "`{}` is not a setting, and nothing here is executed",
                shown(trimmed)
            ),
            "write KEY=\"value\" or remove the line".into(),
        ));
    };
    if !is_key(key) {
        let bare = key.trim().rsplit(char::is_whitespace).next().unwrap_or("");
        let remedy = if is_key(bare) {
            format!("write {bare}=\"value\", without anything before it and around the `=`")
        } else {
            "write KEY=\"value\"".to_string()
        };
        return Err((
            format!("`{}=` does not begin a setting", shown(key)),
            remedy,
        ));
    }
    let secret = key == "HA_PASSWORD";
    let shown = shown(trimmed);
    let example = format!("write {key}=\"value\"");
    let (value, after, quote) = match rest.chars().next() {
        Some(quote @ ('"' | '\'')) => {
            let Some((value, after)) = rest[1..].split_once(quote) else {
                return Err((format!("`{shown}` has no closing {quote}"), example));
            };
            (value, after, Some(quote))
        }
        _ => {
            let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
            let (value, after) = rest.split_at(end);
            (value, after, None)
        }
    };
    let literal = secret && quote == Some('\'');
    if let Some(found) = value.find(|c| !literal && is_shell(c, quote)) {
        let found = &value[found..];
        let sign: String = found.chars().take(1).collect();
        return Err((
            format!("`{shown}` has a `{sign}`, and nothing here is executed or expanded"),
            if secret {
                "quote it with ' or choose another password".into()
            } else if quote.is_none() {
                format!("{example}, with the value itself")
            } else {
                "write the value itself".into()
            },
        ));
    }
    let comment = after.trim_start();
    if !(comment.is_empty() || comment.starts_with('#') && comment.len() < after.len()) {
        return Err((format!("`{shown}` goes on after the value"), example));
    }
    Ok(Some((key, value.to_string())))
}

fn is_key(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Whether a shell would have made something of `c` where it stands, or its
/// writer may have thought so.
fn is_shell(c: char, quote: Option<char>) -> bool {
    match c {
        '$' | '`' | '\\' | ';' | '&' | '|' | '<' | '>' | '(' | ')' => true,
        '"' | '\'' | '*' | '?' | '[' | ']' | '{' | '}' | '~' | '!' | '#' => quote.is_none(),
        _ => c.is_control() && c != '\t',
    }
}

/// Puts the settings where the TOML form has them.
struct Translator<'a> {
    draft: &'a mut Draft,
    settings: &'a Settings,
    errors: &'a mut Vec<ConfigError>,
}

impl Translator<'_> {
    fn run(&mut self) {
        // The cluster's table is always there: what is missing in it is told
        // key by key.
        let file = Place::whole(&self.draft.file);
        self.draft.open(Table::Cluster, &file);
        self.text("HA_NAME", &keys::CLUSTER_NAME);
        self.text("HA_PASSWORD_FILE", &keys::PASSWORD_FILE);
        self.text("HA_MNT_DIR", &keys::STORAGE_MOUNT_DIR);
        self.text("HA_SERVER", &keys::STORAGE_SERVER);
        self.list("HA_CLUSTER_NODES", &keys::CLUSTER_NODES);
        self.placement();
        self.storage_nodes();
        self.vips();
        self.services();
        self.fencing();
    }

    fn get(&self, name: &str) -> Option<At<String>> {
        self.settings.get(name).cloned()
    }

    fn set(&mut self, key: &Key, value: Value, place: &Place) {
        self.draft
            .open(key.table, place)
            .set(key, value, place.clone());
    }

    fn text(&mut self, name: &str, key: &Key) {
        if let Some(At { value, place }) = self.get(name) {
            self.set(key, Value::Text(value), &place);
        }
    }

    fn list(&mut self, name: &str, key: &Key) {
        if let Some(setting) = self.get(name) {
            self.set(key, Value::List(words(&setting)), &setting.place);
        }
    }

    fn placement(&mut self) {
        let Some(At { value, place }) = self.get("DETERMINISTIC_FAILOVER") else {
            return;
        };
        let word = match value.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "1" => "deterministic",
            "false" | "no" | "off" | "0" | "" => "balanced",
            _ => {
                self.errors.push(place.error(
                    format!("DETERMINISTIC_FAILOVER is `{value}`"),
                    "write true or false",
                ));
                return;
            }
        };
        self.set(&keys::PLACEMENT, Value::Text(word.into()), &place);
    }

    fn nodes(&self) -> Vec<At<String>> {
        self.settings
            .get("HA_CLUSTER_NODES")
            .map(words)
            .unwrap_or_default()
    }

    fn storage_nodes(&mut self) {
        let Some(setting) = self.get("STORAGE_NODES") else {
            return;
        };
        let storage = words(&setting);
        if storage.is_empty() {
            // Kept empty, it means what it means when it is left out.
            return;
        }
        let others: Vec<_> = self
            .nodes()
            .into_iter()
            .filter(|node| storage.iter().all(|other| other.value != node.value))
            .map(|node| (node, false))
            .collect();
        for (node, has) in storage.into_iter().map(|node| (node, true)).chain(others) {
            let mut section = Section::new(node.place.clone());
            section.set(&keys::NODE_STORAGE, Value::Flag(has), node.place.clone());
            section.set(&keys::NODE_NAME, Value::Text(node.value), node.place);
            self.draft.add(Table::Node, section);
        }
    }

    fn vips(&mut self) {
        let listed = self.get("HA_VIPS");
        let by_node = self.by_node("VIP_");
        if let (Some(listed), Some((_, at))) = (&listed, by_node.first()) {
            self.errors.push(at.place.error(
                format!(
                    "VIP_<node> beside HA_VIPS of line {}",
                    listed.place.line.unwrap_or(0)
                ),
                "list every address in HA_VIPS and its first node in HA_VIP_NODES",
            ));
        }
        let mut vips = Vec::new();
        for (node, at) in by_node {
            let prefer = vec![At::new(node, at.place.clone())];
            vips.push((at, Some(prefer)));
        }
        if let Some(listed) = listed {
            vips = words(&listed)
                .into_iter()
                .map(|address| (address, None))
                .collect();
        }
        if let Some(homes) = self.get("HA_VIP_NODES") {
            let names = words(&homes);
            if names.len() > vips.len() {
                self.errors.push(homes.place.error(
                    format!(
                        "HA_VIP_NODES names {} nodes for {} addresses",
                        names.len(),
                        vips.len()
                    ),
                    "write at most one node for each address of HA_VIPS",
                ));
            }
            for ((_, prefer), home) in vips.iter_mut().zip(names) {
                *prefer = Some(vec![home]);
            }
        }
        for (address, prefer) in vips {
            let mut section = Section::new(address.place.clone());
            section.set(
                &keys::VIP_ADDRESS,
                Value::Text(address.value),
                address.place,
            );
            if let Some(prefer) = prefer {
                let place = prefer
                    .first()
                    .map_or(&section.place, |node| &node.place)
                    .clone();
                section.set(&keys::VIP_PREFER, Value::List(prefer), place);
            }
            self.draft.add(Table::Vip, section);
        }
    }

    fn services(&mut self) {
        let setting = self
            .get("HA_SERVICES")
            .unwrap_or_else(|| At::new("smb".into(), Place::whole(&self.draft.file)));
        for service in words(&setting) {
            match service.value.as_str() {
                "smb" => {
                    self.draft.open(Table::Smb, &service.place);
                    self.list("HA_SMB_VOLUMES", &keys::SMB_VOLUMES);
                }
                "nfs" => {
                    self.draft.open(Table::Nfs, &service.place);
                    self.text("HA_NFS_VOL", &keys::NFS_STATE_VOLUME);
                    self.text("HA_NFS_CONF", &keys::NFS_CONFIG);
                }
                other => self.errors.push(
                    service
                        .place
                        .error(format!("unknown service `{other}`"), "write smb or nfs"),
                ),
            }
        }
    }

    fn fencing(&mut self) {
        self.text("HA_FENCE_AGENT", &keys::FENCING_AGENT);
        if let Some(setting) = self.get("HA_FENCE_OPTIONS") {
            let options = self.options("HA_FENCE_OPTIONS", &setting);
            self.set(
                &keys::FENCING_OPTIONS,
                Value::Options(options),
                &setting.place,
            );
        }
        let mut nodes = NodeOptions::new();
        for (node, setting) in self.by_node("HA_FENCE_OPTIONS_") {
            let options = self.options("HA_FENCE_OPTIONS_<node>", &setting);
            nodes.insert(node, At::new(options, setting.place));
        }
        let first = nodes.values().next().map(|options| options.place.clone());
        if let Some(place) = first {
            self.set(&keys::FENCING_NODES, Value::NodeOptions(nodes), &place);
        }
    }

    fn options(&mut self, name: &str, setting: &At<String>) -> Options {
        let mut options = Options::new();
        for word in setting.value.split_whitespace() {
            let Some((option, value)) = word
                .split_once('=')
                .filter(|(option, _)| !option.is_empty())
            else {
                self.errors.push(setting.place.error(
                    format!("`{word}` in {name} is not an option"),
                    format!("write {name}=\"key=value key=value\""),
                ));
                continue;
            };
            let value = At::new(value.to_string(), setting.place.clone());
            if options.insert(option.to_string(), value).is_some() {
                self.errors.push(
                    setting
                        .place
                        .error(format!("`{option}` twice in {name}"), "write it once"),
                );
            }
        }
        options
    }

    /// The settings whose key is `prefix` and a node, with the node's name, in
    /// the order of the nodes. A key that means no node of the cluster, or
    /// more than one, is an error.
    fn by_node(&mut self, prefix: &str) -> Vec<(String, At<String>)> {
        let nodes = self.nodes();
        let mut found = Vec::new();
        for (key, setting) in self.settings {
            let Some(suffix) = key.strip_prefix(prefix).filter(|suffix| !suffix.is_empty()) else {
                continue;
            };
            let meant: Vec<usize> = (0..nodes.len())
                .filter(|index| node_key("", &nodes[*index].value) == suffix)
                .collect();
            match meant[..] {
                [index] => found.push((index, setting.clone())),
                [] => self.errors.push(setting.place.error(
                    format!("`{key}` is for no node of HA_CLUSTER_NODES"),
                    format!(
                        "write {prefix} and one of {}",
                        nodes
                            .iter()
                            .map(|node| node_key("", &node.value))
                            .collect::<Vec<_>>()
                            .join(", ")
                    ),
                )),
                [first, second, ..] => {
                    // The same name twice is an error of its own.
                    if nodes[first].value != nodes[second].value {
                        self.errors.push(setting.place.error(
                            format!(
                                "`{key}` may mean {} and {}",
                                nodes[first].value, nodes[second].value
                            ),
                            "use the TOML form, where a node's name is written as it is",
                        ));
                    }
                }
            }
        }
        found.sort_by_key(|(index, _)| *index);
        found
            .into_iter()
            .map(|(index, setting)| (nodes[index].value.clone(), setting))
            .collect()
    }
}

/// The key that `prefix` and a node's name make.
pub(super) fn node_key(prefix: &str, node: &str) -> String {
    format!("{prefix}{}", node.replace(['-', '.'], "_"))
}

/// The words of a list, which spaces or commas separate.
pub(super) fn words(setting: &At<String>) -> Vec<At<String>> {
    setting
        .value
        .split(|c: char| c == ',' || c.is_whitespace())
        .filter(|word| !word.is_empty())
        .map(|word| At::new(word.to_string(), setting.place.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_one_thing() {
        for (line, key, value) in [
            (r#"HA_NAME="storhaug""#, "HA_NAME", "storhaug"),
            ("HA_NAME='storhaug'", "HA_NAME", "storhaug"),
            ("HA_NAME=storhaug", "HA_NAME", "storhaug"),
            ("  HA_NAME=storhaug  # ours\r", "HA_NAME", "storhaug"),
            (
                r#"HA_VIPS="10.0.0.1 fd00::1/64""#,
                "HA_VIPS",
                "10.0.0.1 fd00::1/64",
            ),
            (r#"HA_SERVICES="""#, "HA_SERVICES", ""),
            ("HA_PASSWORD='a$b;c\"d'", "HA_PASSWORD", "a$b;c\"d"),
        ] {
            assert_eq!(setting(line), Ok(Some((key, value.to_string()))), "{line}");
        }
        for line in ["", "   ", "# HA_NAME=$(reboot)", "\t#"] {
            assert_eq!(setting(line), Ok(None), "{line}");
        }
    }

    #[test]
    fn what_a_shell_would_run_or_expand_is_refused() {
        for line in [
            r#"HA_NAME="$(reboot)""#,
            "HA_NAME='$(reboot)'",
            "HA_NAME=`reboot`",
            r#"HA_NAME="x"; reboot"#,
            r#"HA_NAME="x;reboot""#,
            "HA_NAME=x;reboot",
            r#"HA_NAME="${HOSTNAME}""#,
            "HA_NAME=$HOSTNAME",
            r#"HA_NAME="a\"b""#,
            "HA_NAME=a b",
            r#"HA_NAME="a"b"#,
            r#"HA_NAME="a"#,
            "HA_NAME=\"a\"#b",
            "HA_NAME = \"a\"",
            "export HA_NAME=a",
            "HA_VIPS=10.0.0.*",
            "reboot",
            ". /etc/passwd",
            "[cluster]",
            "HA_PASSWORD=\"a$b\"",
        ] {
            assert!(setting(line).is_err(), "{line}");
        }
    }

    #[test]
    fn a_password_is_not_in_an_error() {
        for line in [
            "HA_PASSWORD=\"sesame",
            "HA_PASSWORD=sesame$x",
            "HA_PASSWORD=\"sesame\" x",
        ] {
            let (problem, remedy) = setting(line).unwrap_err();
            assert!(
                !problem.contains("sesame") && !remedy.contains("sesame"),
                "{problem} {remedy}"
            );
        }
    }
}
