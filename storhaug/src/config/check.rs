//! A draft becomes a [`Cluster`]: defaults filled in, every name and address
//! checked, and whether they fit together. All that is wrong is told at once.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use super::ConfigError;
use super::draft::{At, Draft, Form, Options, Place, Section};
use super::keys::{self, Key, Kind, Table};
use super::names;
use super::printer::bare;
use super::slides::node_key;
use crate::cluster::{
    Cluster, Failover, Fencing, Nfs, Node, Placement, Service, Smb, Storage, Vip,
};

const PASSWORD_FILE: &str = "/etc/storhaug/hacluster.password";
const MOUNT_DIR: &str = "/run/storhaug";
const SERVER: &str = "localhost";
const VOLUME: &str = "share";
const STATE_VOLUME: &str = "state";
const GANESHA_CONF: &str = "/etc/ganesha/ganesha.conf";

/// The cluster `draft` describes. Where `errors` grew, it is not fit for use.
pub(super) fn check(draft: &Draft, errors: &mut Vec<ConfigError>) -> Cluster {
    let mut check = Check {
        draft,
        complete: errors.is_empty(),
        errors,
    };
    let nodes = check.nodes();
    let smb = check.smb();
    let nfs = check.nfs(smb.as_ref());
    let storage = check.storage();
    let vips = check.vips(&nodes, smb.as_ref(), nfs.as_ref());
    Cluster {
        name: check.name(),
        fencing: check.fencing(&nodes),
        failover: match check.choice(&keys::FAILOVER) {
            Some("fast") => Failover::Fast,
            _ => Failover::Default,
        },
        placement: match check.choice(&keys::PLACEMENT) {
            Some("deterministic") => Placement::Deterministic,
            _ => Placement::Balanced,
        },
        password_file: check.path(&keys::PASSWORD_FILE, PASSWORD_FILE),
        nodes,
        vips,
        storage,
        smb,
        nfs,
    }
}

struct Check<'a> {
    draft: &'a Draft,
    /// Whether everything could be read. What is missing from the rest may
    /// only have been misspelt, and is not told.
    complete: bool,
    errors: &'a mut Vec<ConfigError>,
}

impl<'a> Check<'a> {
    fn wrong(&mut self, place: &Place, problem: impl Into<String>, remedy: impl Into<String>) {
        self.errors.push(place.error(problem, remedy));
    }

    /// How `key` is called in the form the reader has before them.
    fn spelled(&self, key: &Key) -> String {
        key.spelled(self.draft.form)
    }

    fn section(&self, table: Table) -> Option<&'a Section> {
        self.draft.table(table)
    }

    fn text(&self, key: &Key) -> Option<At<&'a str>> {
        self.section(key.table)?.text(key)
    }

    /// What is needed and missing.
    fn missing(&mut self, place: &Place, key: &Key, example: &str) {
        if !self.complete {
            return;
        }
        let spelled = self.spelled(key);
        let add = match self.draft.form {
            Form::Toml => format!("add {} = {example}", key.name),
            Form::Slides => format!("add {spelled}=\"…\""),
        };
        self.wrong(place, format!("{spelled} is missing"), add);
    }

    fn choice(&mut self, key: &Key) -> Option<&'a str> {
        let At { value, place } = self.text(key)?;
        match key.kind {
            Kind::Choice(words) if !words.contains(&value) => {
                let spelled = self.spelled(key);
                self.wrong(
                    &place,
                    format!("{spelled} is `{value}`"),
                    format!("write {}", key.kind.wanted()),
                );
                None
            }
            _ => Some(value),
        }
    }

    /// A path that means the same wherever it is read.
    fn path(&mut self, key: &Key, default: &str) -> PathBuf {
        let Some(At { value, place }) = self.text(key) else {
            return default.into();
        };
        if !names::is_plain_path(value) {
            let spelled = self.spelled(key);
            self.wrong(
                &place,
                format!("{spelled} is `{value}`"),
                "write an absolute path of letters, digits, `.`, `_`, `-` and `/`, without `..`",
            );
        }
        PathBuf::from(value)
    }

    fn whole(&self) -> Place {
        Place::whole(&self.draft.file)
    }

    fn name(&mut self) -> String {
        let key = &keys::CLUSTER_NAME;
        let Some(At { value, place }) = self.text(key) else {
            let place = self
                .section(Table::Cluster)
                .map_or_else(|| self.whole(), |s| s.place.clone());
            self.missing(&place, key, "\"storhaug\"");
            return String::new();
        };
        if !names::is_cluster(value) {
            let spelled = self.spelled(key);
            self.wrong(
                &place,
                format!("{spelled} is `{value}`"),
                "write 1 to 32 letters, digits, `.`, `_` or `-`, the first a letter or a digit",
            );
        }
        value.to_string()
    }

    fn nodes(&mut self) -> Vec<Node> {
        let key = &keys::CLUSTER_NODES;
        let cluster = self.section(Table::Cluster);
        let listed = cluster
            .and_then(|section| section.list(key))
            .unwrap_or_default();
        if listed.is_empty() {
            let place = cluster.map_or_else(|| self.whole(), |s| s.place_of(key).clone());
            self.missing(&place, key, "[\"server1\", \"server2\", \"server3\"]");
        }
        let mut seen: BTreeMap<String, &Place> = BTreeMap::new();
        let mut nodes = Vec::new();
        for At { value, place } in listed {
            self.node_name(value, place);
            // Pacemaker takes names that differ in case only for one node.
            if seen.insert(value.to_ascii_lowercase(), place).is_some() {
                let spelled = self.spelled(key);
                self.wrong(
                    place,
                    format!("the node `{value}` is twice in {spelled}"),
                    "write every node once",
                );
                continue;
            }
            nodes.push(Node {
                name: value.clone(),
                address: None,
                storage: true,
            });
        }
        self.node_sections(&mut nodes);
        if !nodes.is_empty() && nodes.iter().all(|node| !node.storage) {
            let place = self
                .draft
                .nodes
                .first()
                .map_or_else(|| self.whole(), |s| s.place.clone());
            self.wrong(
                &place,
                "no node has storage, so that nothing can run anywhere",
                format!(
                    "leave {} at true for one node at least",
                    self.spelled(&keys::NODE_STORAGE)
                ),
            );
        }
        nodes
    }

    fn node_name(&mut self, name: &str, place: &Place) {
        if names::is_open(name) {
            self.wrong(
                place,
                format!("`{name}` is still to be filled in"),
                "write the name `uname -n` prints there, wherever this stands",
            );
        } else if name.parse::<IpAddr>().is_ok() {
            self.wrong(
                place,
                format!("the node `{name}` is an address"),
                "write the name `uname -n` prints there; an address goes to `address` in [[node]]",
            );
        } else if !names::is_node(name) {
            self.wrong(
                place,
                format!("`{name}` is not a node's name"),
                "write the name `uname -n` prints there: up to 64 letters, digits, `.`, `_` and \
                 `-`, the first a letter or a digit",
            );
        }
    }

    fn node_sections(&mut self, nodes: &mut [Node]) {
        let mut seen = BTreeSet::new();
        for section in &self.draft.nodes {
            let Some(At { value: name, place }) = section.text(&keys::NODE_NAME) else {
                self.missing(&section.place, &keys::NODE_NAME, "\"server1\"");
                continue;
            };
            if !seen.insert(name) {
                let where_ = self.spelled(&keys::NODE_NAME);
                self.wrong(
                    &place,
                    format!("the node `{name}` is twice in {where_}"),
                    "write every node once",
                );
                continue;
            }
            let Some(index) = nodes.iter().position(|node| node.name == name) else {
                self.unknown_node(name, &place, nodes);
                continue;
            };
            if let Some(address) = section.text(&keys::NODE_ADDRESS) {
                if !names::is_host(address.value) {
                    self.wrong(
                        &address.place,
                        format!("the address of {name} is `{}`", address.value),
                        "write an address without a prefix length, or a host name",
                    );
                }
                nodes[index].address = Some(address.value.to_string());
            }
            nodes[index].storage = section.flag(&keys::NODE_STORAGE).unwrap_or(true);
        }
        let mut addresses: BTreeMap<String, String> = BTreeMap::new();
        for node in nodes.iter() {
            let Some(address) = &node.address else {
                continue;
            };
            let same = address
                .parse::<IpAddr>()
                .map_or_else(|_| address.clone(), |a| a.to_string());
            if let Some(other) = addresses.insert(same, node.name.clone()) {
                let place = self.place_of_address(&node.name);
                self.wrong(
                    &place,
                    format!("{} has the address {address} of {other}", node.name),
                    "write the node's own address",
                );
            }
        }
    }

    fn place_of_address(&self, node: &str) -> Place {
        self.draft
            .nodes
            .iter()
            .find(|section| {
                section
                    .text(&keys::NODE_NAME)
                    .is_some_and(|name| name.value == node)
            })
            .map_or_else(
                || self.whole(),
                |section| section.place_of(&keys::NODE_ADDRESS).clone(),
            )
    }

    fn unknown_node(&mut self, name: &str, place: &Place, nodes: &[Node]) {
        if nodes.is_empty() {
            return;
        }
        let known = || nodes.iter().map(|node| node.name.as_str());
        let nodes_key = self.spelled(&keys::CLUSTER_NODES);
        let remedy = match keys::nearest(name, known()) {
            Some(near) => format!("write `{near}`"),
            None => format!(
                "write one of {}, or add it to {nodes_key}",
                known().collect::<Vec<_>>().join(", ")
            ),
        };
        self.wrong(
            place,
            format!("the node `{name}` is not in {nodes_key}"),
            remedy,
        );
    }

    fn storage(&mut self) -> Storage {
        let mounted = self.choice(&keys::STORAGE_TYPE) == Some("mounted");
        let mount_dir = self.path(&keys::STORAGE_MOUNT_DIR, MOUNT_DIR);
        if mounted {
            for key in [&keys::STORAGE_SERVER, &keys::STORAGE_OPTIONS] {
                if let Some(text) = self.text(key) {
                    let spelled = self.spelled(key);
                    self.wrong(
                        &text.place,
                        format!("{spelled} has no meaning with type = \"mounted\""),
                        "remove it",
                    );
                }
            }
            return Storage::Mounted { mount_dir };
        }
        let server = match self.text(&keys::STORAGE_SERVER) {
            None => SERVER.to_string(),
            Some(At { value, place }) => {
                if !names::is_host(value) {
                    let spelled = self.spelled(&keys::STORAGE_SERVER);
                    self.wrong(
                        &place,
                        format!("{spelled} is `{value}`"),
                        "write the host name or the address of a Gluster server",
                    );
                }
                value.to_string()
            }
        };
        let options = self
            .text(&keys::STORAGE_OPTIONS)
            .map(|At { value, place }| {
                if value.is_empty() || !value.chars().all(|c| c.is_ascii_graphic()) {
                    let spelled = self.spelled(&keys::STORAGE_OPTIONS);
                    self.wrong(
                    &place,
                    format!("{spelled} is `{value}`"),
                    "write mount options separated by commas, without spaces, or remove the key",
                );
                }
                value.to_string()
            });
        Storage::GlusterFs {
            server,
            mount_dir,
            options,
        }
    }

    fn smb(&mut self) -> Option<Smb> {
        let section = self.section(Table::Smb)?;
        let mut volumes = Vec::new();
        match section.list(&keys::SMB_VOLUMES) {
            None => volumes.push(VOLUME.to_string()),
            Some(listed) => {
                for At { value, place } in listed {
                    if names::is_open(value) {
                        self.wrong(
                            place,
                            format!("`{value}` is still to be filled in"),
                            "write the name of a Gluster volume, or of a directory in `mount_dir`",
                        );
                    } else if !names::is_resource(value) {
                        self.wrong(
                            place,
                            format!("the volume `{value}` cannot name a resource in Pacemaker"),
                            "write a volume whose name has letters, digits, `.`, `_` and `-` \
                             only, the first a letter or `_`",
                        );
                    } else if names::is_ours(value) || names::is_directory(value) {
                        self.wrong(
                            place,
                            format!("the volume `{value}` has a name that storhaug uses itself"),
                            "put the shares on a volume of another name; CTDB's lock needs none",
                        );
                    } else if volumes.contains(value) {
                        self.wrong(
                            place,
                            format!("the volume `{value}` is listed twice"),
                            "write every volume once",
                        );
                    } else {
                        volumes.push(value.clone());
                    }
                }
            }
        }
        let cluster_lock = section.text(&keys::SMB_CLUSTER_LOCK);
        if let Some(At { value, place }) = &cluster_lock {
            let file = value.strip_prefix('!').unwrap_or(value);
            if !file.starts_with('/') || value.contains(char::is_control) {
                self.wrong(
                    place,
                    format!("`{value}` is no cluster lock"),
                    "write the absolute name of a file on shared storage, or ! and that of a \
                     program, with its arguments",
                );
            }
        }
        Some(Smb {
            cluster_lock: cluster_lock.map(|lock| lock.value.to_owned()),
            volumes,
            winbind: section.flag(&keys::SMB_WINBIND).unwrap_or(true),
            netbios: section.flag(&keys::SMB_NETBIOS).unwrap_or(false),
        })
    }

    fn nfs(&mut self, smb: Option<&Smb>) -> Option<Nfs> {
        let section = self.section(Table::Nfs)?;
        let state_volume = match section.text(&keys::NFS_STATE_VOLUME) {
            None => STATE_VOLUME,
            Some(At { value, place }) => {
                if !names::is_resource(value) {
                    self.wrong(
                        &place,
                        format!("`{value}` is not the name of a volume"),
                        "write a name of letters, digits, `.`, `_` and `-`, the first a letter \
                         or `_`",
                    );
                } else if names::is_directory(value) {
                    self.wrong(
                        &place,
                        format!("the volume `{value}` has a name that storhaug uses itself"),
                        "put the state on a volume of another name",
                    );
                }
                value
            }
        };
        if smb.is_some_and(|smb| smb.volumes.iter().any(|volume| volume == state_volume)) {
            self.wrong(
                section.place_of(&keys::NFS_STATE_VOLUME),
                format!("the volume `{state_volume}` of NFS's state is one that Samba shares"),
                "write another volume, that no client can reach",
            );
        }
        Some(Nfs {
            state_volume: state_volume.to_string(),
            config: self.path(&keys::NFS_CONFIG, GANESHA_CONF),
        })
    }

    fn vips(&mut self, nodes: &[Node], smb: Option<&Smb>, nfs: Option<&Nfs>) -> Vec<Vip> {
        let smb_configured = smb.iter().map(|_| Service::Smb);
        let configured = smb_configured
            .chain(nfs.iter().map(|_| Service::Nfs))
            .collect();
        let mut taken = names::Taken::by(smb);
        let mut addresses = BTreeSet::new();
        let mut vips = Vec::new();
        if self.draft.vips.is_empty() && self.complete {
            let file = self.whole();
            let add = match self.draft.form {
                Form::Toml => "add\n\n[[vip]]\naddress = \"10.0.0.101/24\"\n",
                Form::Slides => "add HA_VIPS=\"10.0.0.101 10.0.0.102\"",
            };
            self.wrong(&file, "no virtual address, so that no client can come", add);
        }
        for section in &self.draft.vips {
            let Some(At { value: text, place }) = section.text(&keys::VIP_ADDRESS) else {
                self.missing(&section.place, &keys::VIP_ADDRESS, "\"10.0.0.101/24\"");
                continue;
            };
            let Some((address, prefix)) = self.vip_address(text, &place) else {
                continue;
            };
            if !addresses.insert(address) {
                self.wrong(
                    &place,
                    format!("the virtual address {address} is there twice"),
                    "write every address once",
                );
                continue;
            }
            if let Some(node) = nodes.iter().find(|node| {
                node.address
                    .as_ref()
                    .is_some_and(|own| own.parse() == Ok(address))
            }) {
                self.wrong(
                    &place,
                    format!(
                        "the virtual address {address} is the node {}'s own",
                        node.name
                    ),
                    "write an address that no host has",
                );
            }
            let name = self.vip_name(section, address, &mut taken);
            let nic = self.nic(section, address);
            let prefer = self.prefer(section, nodes);
            let services = self.vip_services(section, &configured);
            vips.push(Vip {
                name,
                address,
                prefix,
                nic,
                prefer,
                services,
            });
        }
        vips
    }

    fn vip_address(&mut self, text: &str, place: &Place) -> Option<(IpAddr, Option<u8>)> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let Ok(address) = address.parse::<IpAddr>() else {
            self.wrong(
                place,
                format!("`{text}` is not an address"),
                "write one like 10.0.0.101/24 or fd00::101/64",
            );
            return None;
        };
        if let Some(kind) = unfit(address) {
            self.wrong(
                place,
                format!("`{text}` is {kind}, which no client can be served on"),
                "write an address of the clients' network",
            );
            return None;
        }
        let Some(prefix) = prefix else {
            return Some((address, None));
        };
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let digits = prefix.chars().all(|c| c.is_ascii_digit());
        match prefix.parse::<u8>() {
            Ok(length) if digits && (1..=longest).contains(&length) => {
                if let (IpAddr::V4(v4), ..=30) = (address, length) {
                    let host = u32::from(v4) & (u32::MAX >> length);
                    if host == 0 || host == u32::MAX >> length {
                        self.wrong(
                            place,
                            format!("`{text}` is its network's own or broadcast address"),
                            "write an address of a host in that network",
                        );
                    }
                }
                Some((address, Some(length)))
            }
            _ => {
                self.wrong(
                    place,
                    format!("`{prefix}` in `{text}` is not the length of a prefix"),
                    format!(
                        "write a number from 1 to {longest}, such as {address}/{}",
                        longest / 4 * 3
                    ),
                );
                None
            }
        }
    }

    fn vip_name(&mut self, section: &Section, address: IpAddr, taken: &mut names::Taken) -> String {
        let default = Vip::default_name(address);
        let (name, place) = match section.text(&keys::VIP_NAME) {
            Some(At { value, place }) => (value.to_string(), place),
            None => (
                default.clone(),
                section.place_of(&keys::VIP_ADDRESS).clone(),
            ),
        };
        if !names::is_resource(&name) {
            self.wrong(
                &place,
                format!("`{name}` cannot name a resource in Pacemaker"),
                format!(
                    "write letters, digits, `.`, `_` and `-`, the first a letter or `_`, or leave \
                     it out for {default}"
                ),
            );
        } else if let Err(owner) = taken.take(&name) {
            self.wrong(
                &place,
                format!("the name `{name}` is that of {owner}"),
                format!("write another, or leave it out for {default}"),
            );
        }
        name
    }

    fn nic(&mut self, section: &Section, address: IpAddr) -> Option<String> {
        let Some(At { value, place }) = section.text(&keys::VIP_NIC) else {
            if matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local()) {
                self.wrong(
                    section.place_of(&keys::VIP_ADDRESS),
                    format!("`{address}` is on every link, and which is meant is not said"),
                    "add nic = \"eth0\"",
                );
            }
            return None;
        };
        if !names::is_interface(value) {
            self.wrong(
                &place,
                format!("`{value}` is not the name of an interface"),
                "write one as `ip link` prints it, up to 15 characters",
            );
        }
        Some(value.to_string())
    }

    fn prefer(&mut self, section: &Section, nodes: &[Node]) -> Vec<String> {
        let mut prefer: Vec<String> = Vec::new();
        for At { value, place } in section.list(&keys::VIP_PREFER).unwrap_or_default() {
            match nodes.iter().find(|node| node.name == *value) {
                None => self.unknown_node(value, place, nodes),
                Some(node) if !node.storage => self.wrong(
                    place,
                    format!("the node `{value}` is preferred but has no storage"),
                    "write a node that has",
                ),
                Some(_) if prefer.contains(value) => {
                    self.wrong(
                        place,
                        format!("the node `{value}` is preferred twice"),
                        "write it once",
                    );
                }
                Some(_) => prefer.push(value.clone()),
            }
        }
        prefer
    }

    fn vip_services(
        &mut self,
        section: &Section,
        configured: &BTreeSet<Service>,
    ) -> BTreeSet<Service> {
        let Some(listed) = section.list(&keys::VIP_SERVICES) else {
            return configured.clone();
        };
        if listed.is_empty() {
            self.wrong(
                section.place_of(&keys::VIP_SERVICES),
                "an address without a service",
                "write services = [\"smb\"], or leave it out for all that are configured",
            );
        }
        let mut services = BTreeSet::new();
        for At { value, place } in listed {
            let mut known = [Service::Smb, Service::Nfs].into_iter();
            match known.find(|service| service.as_str() == value) {
                None => self.wrong(
                    place,
                    format!("unknown service `{value}`"),
                    "write `smb` or `nfs`",
                ),
                Some(service) if !configured.contains(&service) => self.wrong(
                    place,
                    format!("the service `{value}` is not configured"),
                    format!("add the table [{value}]"),
                ),
                Some(service) => {
                    services.insert(service);
                }
            }
        }
        services
    }

    fn fencing(&mut self, nodes: &[Node]) -> Fencing {
        let section = self.section(Table::Fencing);
        let Some(section) = section.filter(|section| section.has(&keys::FENCING_AGENT)) else {
            let place = section.map_or_else(|| self.whole(), |section| section.place.clone());
            if self.complete {
                self.wrong(
                    &place,
                    "no fencing: a lost node that cannot be switched off may go on writing \
                     while another takes over its work",
                    how_to_fence(self.draft.form, nodes.iter().map(|node| node.name.as_str())),
                );
            }
            return Fencing::Refused;
        };
        let agent = section
            .text(&keys::FENCING_AGENT)
            .map_or("", |agent| agent.value);
        let place = section.place_of(&keys::FENCING_AGENT);
        if agent == Fencing::REFUSED {
            for key in [&keys::FENCING_OPTIONS, &keys::FENCING_NODES] {
                if section.has(key) {
                    let spelled = self.spelled(key);
                    self.wrong(
                        section.place_of(key),
                        format!("{spelled} without a fence agent"),
                        format!("remove it, or name the agent instead of {agent}"),
                    );
                }
            }
            return Fencing::Refused;
        }
        if !names::is_fence_agent(agent) {
            self.wrong(
                place,
                format!("`{agent}` is not the name of a fence agent"),
                format!(
                    "write one that `pcs stonith list` prints, such as fence_ipmilan, or {}",
                    Fencing::REFUSED
                ),
            );
        }
        let none = BTreeMap::new();
        let common = section.options(&keys::FENCING_OPTIONS).unwrap_or(&none);
        let options = self.options(common);
        let mut devices = BTreeMap::new();
        if let Some(listed) = section.node_options(&keys::FENCING_NODES) {
            for (name, At { value, place }) in listed {
                if !nodes.iter().any(|node| node.name == *name) {
                    self.unknown_node(name, place, nodes);
                    continue;
                }
                devices.insert(name.clone(), self.options(value));
            }
            let place = section.place_of(&keys::FENCING_NODES);
            let without = |node: &&Node| self.complete && !listed.contains_key(&node.name);
            let without: Vec<&Node> = nodes.iter().filter(without).collect();
            for node in without {
                let add = match self.draft.form {
                    Form::Toml => format!("add nodes.{} = {{ … }} to [fencing]", bare(&node.name)),
                    Form::Slides => format!("add {}=\"…\"", slides_key(&node.name)),
                };
                self.wrong(place, format!("nothing can switch off {}", node.name), add);
            }
        }
        Fencing::Device {
            agent: agent.to_string(),
            options,
            nodes: devices,
        }
    }

    fn options(&mut self, options: &Options) -> BTreeMap<String, String> {
        for (name, At { value, place }) in options {
            if !names::is_option(name) {
                self.wrong(
                    place,
                    format!("`{name}` is not the name of an option"),
                    "write it as the agent's manual page has it",
                );
            } else if names::is_secret(name) {
                self.wrong(
                    place,
                    format!(
                        "the option `{name}` would show the password to everybody in the cluster"
                    ),
                    "write it to a file of mode 0600 on every node, and \
                     password_file = \"/etc/storhaug/FILE\" here",
                );
            } else if names::is_secret_file(name) && !names::is_plain_path(value) {
                self.wrong(
                    place,
                    format!("`{value}` is not the path of a file"),
                    "write an absolute path of letters, digits, `.`, `_`, `-` and `/`",
                );
            } else if value.chars().any(char::is_control) {
                self.wrong(
                    place,
                    format!("the option `{name}` has a control character"),
                    "write it without",
                );
            }
        }
        options
            .iter()
            .map(|(name, At { value, .. })| (name.clone(), value.clone()))
            .collect()
    }
}

/// What kind of address it is, if it is one no client can come to.
fn unfit(address: IpAddr) -> Option<&'static str> {
    match address {
        _ if address.is_unspecified() => Some("the unspecified address"),
        _ if address.is_loopback() => Some("a loopback address"),
        _ if address.is_multicast() => Some("a multicast address"),
        IpAddr::V4(Ipv4Addr::BROADCAST) => Some("the broadcast address"),
        IpAddr::V6(v6) if is_mapped(v6) => Some("an IPv4 address in disguise"),
        _ => None,
    }
}

fn is_mapped(address: Ipv6Addr) -> bool {
    address.to_ipv4_mapped().is_some()
}

/// The lines that are missing, ready to be copied.
fn how_to_fence<'a>(form: Form, nodes: impl Iterator<Item = &'a str>) -> String {
    let refused = match form {
        Form::Toml => format!("[fencing]\nagent = \"{}\"", Fencing::REFUSED),
        Form::Slides => format!("HA_FENCE_AGENT=\"{}\"", Fencing::REFUSED),
    };
    format!(
        "add\n\n{}\nwith the agent and the options of your hardware; or, to go without and lose \
         data one day,\n\n{refused}\n",
        fenced(form, nodes)
    )
}

/// How nodes with IPMI boards are switched off, as an example.
pub(super) fn fenced<'a>(form: Form, nodes: impl Iterator<Item = &'a str>) -> String {
    match form {
        Form::Toml => nodes.fold(
            "[fencing]\nagent = \"fence_ipmilan\"\noptions = { lanplus = \"true\", username = \
             \"admin\", password_file = \"/etc/storhaug/ipmi.password\" }\n"
                .to_owned(),
            |text, node| text + &format!("nodes.{} = {{ ip = \"ADDRESS\" }}\n", bare(node)),
        ),
        Form::Slides => nodes.fold(
            "HA_FENCE_AGENT=\"fence_ipmilan\"\nHA_FENCE_OPTIONS=\"lanplus=true username=admin \
             password_file=/etc/storhaug/ipmi.password\"\n"
                .to_owned(),
            |text, node| text + &format!("{}=\"ip=ADDRESS\"\n", slides_key(node)),
        ),
    }
}

fn slides_key(node: &str) -> String {
    node_key("HA_FENCE_OPTIONS_", node)
}
