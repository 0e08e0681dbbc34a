//! Lines of `KEY="value"`: old files of storhaug, and ganesha-ha.conf. They
//! were shell scripts once; here a line is a setting or is left alone.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::super::draft::{At, Place, Value};
use super::super::keys;
use super::super::names;
use super::super::places::Found;
use super::super::slides::{self, Settings, node_key, words};
use super::Import;
use super::notes::Notes;

/// One setting.
#[derive(Debug)]
pub(super) struct Setting {
    pub(super) place: Place,
    pub(super) key: String,
    pub(super) value: String,
    /// The line as it stands there.
    pub(super) line: String,
}

/// The settings of `files` in their order; what is none becomes a note.
pub(super) fn read<'a>(files: impl Iterator<Item = &'a Found>, notes: &mut Notes) -> Vec<Setting> {
    let mut settings = Vec::new();
    for file in files {
        for (index, line) in file.text.lines().enumerate() {
            let place = Place::new(&file.path, index + 1);
            let line = line.trim();
            match slides::setting(&assignment(line)) {
                Ok(None) => {}
                Ok(Some((key, value))) => settings.push(Setting {
                    place,
                    key: key.to_owned(),
                    value,
                    line: line.to_owned(),
                }),
                Err(_) if line.starts_with("ulimit ") => notes.add(
                    &place,
                    line,
                    "limits are those of the service's unit: `systemctl edit ctdb`, and there \
                     for example LimitNOFILE= in [Service]",
                ),
                Err((problem, _)) => notes.add(
                    &place,
                    line,
                    format!("{problem}: if it says something that is needed, write that above"),
                ),
            }
        }
    }
    settings
}

/// A line as an assignment with a plain key: without `export`, and with `_`
/// where ganesha-ha.conf has a host's name or address in it.
fn assignment(line: &str) -> String {
    let line = line.strip_prefix("export ").unwrap_or(line).trim_start();
    match line.split_once('=') {
        Some((key, value)) if key.starts_with("VIP_") => format!("{}={value}", node_key("", key)),
        _ => line.to_owned(),
    }
}

/// The keys that only ganesha-ha.conf has.
const GANESHA: [&str; 3] = ["HA_VOL_SERVER", "HA_VOL_NAME", "HA_VOL_MNT"];

impl Import {
    /// Takes over what old files of storhaug, or of Gluster's NFS-Ganesha, say.
    pub(super) fn settings(&mut self, all: Vec<Setting>) {
        let ganesha = all
            .iter()
            .find(|setting| {
                let name = setting.place.file.file_name();
                GANESHA.contains(&setting.key.as_str())
                    || name.is_some_and(|name| name == "ganesha-ha.conf")
            })
            .map(|setting| setting.place.clone());
        let mut settings = Settings::new();
        for Setting {
            place,
            key,
            value,
            line,
        } in all
        {
            let key = match key.as_str() {
                "HA_VOL_SERVER" => "HA_SERVER",
                "HA_VOL_NAME" => "HA_NFS_VOL",
                // Its name before version 0.8.
                "HA_NODES" => "HA_CLUSTER_NODES",
                "HA_PASSWORD" => {
                    self.notes.add(
                        &place,
                        "HA_PASSWORD",
                        "the password of the user hacluster goes into the first line of the file \
                         /etc/storhaug/hacluster.password, of mode 0600",
                    );
                    continue;
                }
                "HA_VOL_MNT" => {
                    self.notes
                        .add(&place, &line, "the state volume is mounted by storhaug");
                    continue;
                }
                other => other,
            };
            if let Some(fate) = keys::fate(key).filter(|_| key != "HA_SERVICES") {
                self.notes.add(&place, &line, fate);
            } else if keys::in_slides(key) {
                let value = match key.starts_with("HA_FENCE_OPTIONS") {
                    true => self.without_secrets(&value, &place),
                    false => value,
                };
                if let Some(earlier) = settings.insert(key.to_owned(), At::new(value, place)) {
                    self.notes.add(
                        &earlier.place,
                        key,
                        "it is set again further below, which counts",
                    );
                }
            } else {
                self.notes
                    .add(&place, &line, "no version of storhaug knows this key");
            }
        }
        if let Some(place) = ganesha.clone()
            && !settings.contains_key("HA_SERVICES")
        {
            settings.insert("HA_SERVICES".into(), At::new("nfs".into(), place));
        }
        let renamed = self.rename(&mut settings);
        let mut errors = Vec::new();
        self.draft = slides::translate(&self.draft.file, &settings, &mut errors);
        for error in errors {
            let place = Place {
                file: error.file.into(),
                line: error.line,
            };
            self.notes.add(&place, &error.problem, error.remedy);
        }
        if ganesha.is_some() && !self.has(&keys::NFS_STATE_VOLUME) {
            let place = self.own(
                "What the servers take over from each other was on gluster_shared_storage. It \
                 needs a volume of its own, that no client reaches.",
            );
            self.set(&keys::NFS_STATE_VOLUME, Value::Text("state".into()), &place);
        }
        for (address, name) in renamed {
            let place = self.own(&format!("It was known by its address, {address}."));
            self.set_address(&name, &address.to_string(), &place);
        }
    }

    /// The options of a fence agent but for passwords, which are shown nowhere.
    fn without_secrets(&mut self, options: &str, place: &Place) -> String {
        let mut kept = Vec::new();
        for word in options.split_whitespace() {
            let name = word.split('=').next().unwrap_or(word);
            if names::is_secret(name) {
                self.notes.add(
                    place,
                    name,
                    "everybody in the cluster could see the password: write it to a file of mode \
                     0600 on every node, and `password_file` with its path in [fencing]",
                );
            } else {
                kept.push(word);
            }
        }
        kept.join(" ")
    }

    /// Gives nodes that are listed by their addresses names, wherever they are
    /// meant; which these are.
    fn rename(&self, settings: &mut Settings) -> BTreeMap<IpAddr, String> {
        let Some(nodes) = settings.get("HA_CLUSTER_NODES") else {
            return BTreeMap::new();
        };
        let renamed: BTreeMap<IpAddr, String> = words(nodes)
            .iter()
            .filter_map(|node| node.value.parse().ok())
            .map(|address| (address, self.hosts.name_of(address)))
            .collect();
        for key in ["HA_CLUSTER_NODES", "STORAGE_NODES", "HA_VIP_NODES"] {
            if let Some(setting) = settings.get_mut(key) {
                let name = |word: &At<String>| {
                    let name = word
                        .value
                        .parse()
                        .ok()
                        .and_then(|address| renamed.get(&address));
                    name.unwrap_or(&word.value).clone()
                };
                let names: Vec<String> = words(setting).iter().map(name).collect();
                setting.value = names.join(",");
            }
        }
        for (address, name) in &renamed {
            for prefix in ["VIP_", "HA_FENCE_OPTIONS_"] {
                if let Some(setting) = settings.remove(&node_key(prefix, &address.to_string())) {
                    settings.insert(node_key(prefix, name), setting);
                }
            }
        }
        renamed
    }
}
