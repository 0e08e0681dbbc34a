//! A configuration in the slides' form, as far as that can say it.

use super::super::draft::{At, Draft, Place, Section};
use super::super::keys::{self, Key, Table};
use super::super::remarks::Remarks;
use super::super::slides::{node_key, setting};
use super::super::{ConfigError, ConfigErrors};
use crate::cluster::{Cluster, Failover, Fencing, Placement, Service, Smb, Storage, Vip};

/// `draft`, which means `cluster`, written down; it takes its comments out of
/// `remarks`.
///
/// # Errors
/// What this form has no key for.
pub(super) fn write(
    draft: &Draft,
    cluster: &Cluster,
    remarks: &mut Remarks,
) -> Result<String, ConfigErrors> {
    let mut out = Slides {
        draft,
        cluster,
        text: String::new(),
        errors: Vec::new(),
        remarks,
    };
    for line in out.remarks.head() {
        out.plain(&line);
    }
    out.cluster();
    out.nodes();
    out.storage();
    out.vips();
    out.services();
    out.fencing();
    ConfigErrors::unless_empty(out.errors)?;
    Ok(out.text)
}

struct Slides<'a> {
    draft: &'a Draft,
    cluster: &'a Cluster,
    text: String,
    errors: Vec<ConfigError>,
    remarks: &'a mut Remarks,
}

impl<'a> Slides<'a> {
    fn plain(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    /// A setting, which takes the comments of all of `places` with it.
    fn set<'p>(&mut self, name: &str, value: &str, places: impl IntoIterator<Item = &'p Place>) {
        let mut beside = None;
        let mut first = None;
        let mut above = Vec::new();
        for place in places {
            let remark = self.remarks.take(place);
            above.extend(remark.above);
            if let Some(earlier) = beside.take() {
                above.push(earlier);
            }
            beside = remark.beside;
            first = first.or(Some(place));
        }
        let line = format!("{name}=\"{value}\"");
        if !matches!(setting(&line), Ok(Some((_, read))) if read == value) {
            let whole = Place::whole(&self.draft.file);
            self.unsaid(
                first.unwrap_or(&whole),
                format!("{name} cannot be `{value}`"),
            );
            return;
        }
        if !self.text.is_empty() && !above.is_empty() {
            self.plain("");
        }
        for comment in above {
            self.plain(&comment);
        }
        match beside {
            Some(comment) => self.plain(&format!("{line} {comment}")),
            None => self.plain(&line),
        }
    }

    /// What this form cannot say.
    fn unsaid(&mut self, place: &Place, what: impl Into<String>) {
        self.errors.push(place.error(
            format!("{}, in the form KEY=\"value\"", what.into()),
            "leave it out, or keep the TOML form",
        ));
    }

    fn section(&self, table: Table) -> Option<&'a Section> {
        self.draft.table(table)
    }

    /// A key that is a word in both forms.
    fn text(&mut self, name: &str, key: &Key) {
        let Some(section) = self.section(key.table) else {
            return;
        };
        if let Some(At { value, place }) = section.text(key) {
            self.set(name, value, [&place, &section.place]);
        }
    }

    /// What `key` says, where that is other than what this form means by
    /// saying nothing.
    fn only_default(&mut self, section: &Section, key: &Key, is_default: bool) {
        if !is_default {
            let place = section.place_of(key).clone();
            self.unsaid(&place, format!("nothing says `{}`", key.name));
        }
    }

    fn cluster(&mut self) {
        let Some(section) = self.section(Table::Cluster) else {
            return;
        };
        self.text("HA_NAME", &keys::CLUSTER_NAME);
        if let Some(nodes) = section.list(&keys::CLUSTER_NODES) {
            let names: Vec<&str> = nodes.iter().map(|node| node.value.as_str()).collect();
            let places = nodes.iter().map(|node| &node.place);
            let key = section.place_of(&keys::CLUSTER_NODES);
            self.set(
                "HA_CLUSTER_NODES",
                &names.join(","),
                [key].into_iter().chain(places),
            );
        }
        self.text("HA_PASSWORD_FILE", &keys::PASSWORD_FILE);
        let default = self.cluster.failover == Failover::Default;
        self.only_default(section, &keys::FAILOVER, default);
        if section.has(&keys::PLACEMENT) {
            let fixed = self.cluster.placement == Placement::Deterministic;
            let place = section.place_of(&keys::PLACEMENT);
            self.set(
                "DETERMINISTIC_FAILOVER",
                if fixed { "true" } else { "false" },
                [place],
            );
        }
    }

    fn nodes(&mut self) {
        let draft = self.draft;
        for node in &draft.nodes {
            let addressed = node.has(&keys::NODE_ADDRESS);
            self.only_default(node, &keys::NODE_ADDRESS, !addressed);
        }
        let storage: Vec<&str> = self
            .cluster
            .storage_nodes()
            .map(|node| node.name.as_str())
            .collect();
        if storage.len() < self.cluster.nodes.len() {
            let places = draft
                .nodes
                .iter()
                .flat_map(|node| [&node.place, node.place_of(&keys::NODE_STORAGE)]);
            self.set("STORAGE_NODES", &storage.join(","), places);
        }
    }

    fn storage(&mut self) {
        let Some(section) = self.section(Table::Storage) else {
            return;
        };
        match &self.cluster.storage {
            Storage::GlusterFs { options, .. } => {
                self.only_default(section, &keys::STORAGE_OPTIONS, options.is_none());
            }
            Storage::Mounted { .. } => self.only_default(section, &keys::STORAGE_TYPE, false),
        }
        self.text("HA_SERVER", &keys::STORAGE_SERVER);
        self.text("HA_MNT_DIR", &keys::STORAGE_MOUNT_DIR);
    }

    fn vips(&mut self) {
        let draft = self.draft;
        let mut addresses = Vec::new();
        let mut homes = Vec::new();
        for (section, vip) in draft.vips.iter().zip(&self.cluster.vips) {
            let given = vip.name == Vip::default_name(vip.address);
            self.only_default(section, &keys::VIP_NAME, given);
            self.only_default(section, &keys::VIP_NIC, vip.nic.is_none());
            let all = vip.services == self.cluster.services();
            self.only_default(section, &keys::VIP_SERVICES, all);
            let prefer = section.place_of(&keys::VIP_PREFER);
            match &vip.prefer[..] {
                [] => {}
                [_, _, ..] => {
                    self.unsaid(prefer, format!("{} prefers one node at most", vip.address))
                }
                // The homes are in the order of the addresses, without a gap.
                [_] if homes.len() < addresses.len() => self.unsaid(
                    prefer,
                    format!("{} prefers a node only if those before it do", vip.address),
                ),
                [home] => homes.push((home.as_str(), prefer)),
            }
            if let Some(address) = section.text(&keys::VIP_ADDRESS) {
                addresses.push((address.value, [section.place.clone(), address.place]));
            }
        }
        if !addresses.is_empty() {
            let words: Vec<&str> = addresses.iter().map(|(word, _)| *word).collect();
            let places = addresses.iter().flat_map(|(_, places)| places);
            self.set("HA_VIPS", &words.join(" "), places);
        }
        if !homes.is_empty() {
            let words: Vec<&str> = homes.iter().map(|(word, _)| *word).collect();
            let places = homes.iter().map(|(_, place)| *place);
            self.set("HA_VIP_NODES", &words.join(","), places);
        }
    }

    fn services(&mut self) {
        let services = self.cluster.services();
        let words: Vec<&str> = services.into_iter().map(Service::as_str).collect();
        self.set("HA_SERVICES", &words.join(" "), []);
        if let (Some(section), Some(smb)) = (self.section(Table::Smb), &self.cluster.smb) {
            self.smb(section, smb);
        }
        self.text("HA_NFS_VOL", &keys::NFS_STATE_VOLUME);
        self.text("HA_NFS_CONF", &keys::NFS_CONFIG);
    }

    fn smb(&mut self, section: &Section, smb: &Smb) {
        if section.has(&keys::SMB_VOLUMES) {
            let place = section.place_of(&keys::SMB_VOLUMES);
            self.set(
                "HA_SMB_VOLUMES",
                &smb.volumes.join(" "),
                [&section.place, place],
            );
        }
        self.only_default(section, &keys::SMB_WINBIND, smb.winbind);
        self.only_default(section, &keys::SMB_NETBIOS, !smb.netbios);
        let own = smb.cluster_lock.is_none();
        self.only_default(section, &keys::SMB_CLUSTER_LOCK, own);
    }

    fn fencing(&mut self) {
        let Some(section) = self.section(Table::Fencing) else {
            return;
        };
        self.text("HA_FENCE_AGENT", &keys::FENCING_AGENT);
        let Fencing::Device { options, nodes, .. } = &self.cluster.fencing else {
            return;
        };
        if section.has(&keys::FENCING_OPTIONS) {
            let place = section.place_of(&keys::FENCING_OPTIONS);
            self.options("HA_FENCE_OPTIONS", options, place);
        }
        let listed = section.node_options(&keys::FENCING_NODES);
        for (node, At { place, .. }) in listed.into_iter().flatten() {
            let name = node_key("HA_FENCE_OPTIONS_", node);
            let alike = |other: &&String| node_key("HA_FENCE_OPTIONS_", other) == name;
            let known = self.cluster.nodes.iter().map(|node| &node.name);
            if known.filter(alike).count() > 1 {
                self.unsaid(place, format!("{name} may mean {node} and another"));
            } else if let Some(options) = nodes.get(node) {
                self.options(&name, options, place);
            }
        }
    }

    fn options(
        &mut self,
        name: &str,
        options: &std::collections::BTreeMap<String, String>,
        place: &Place,
    ) {
        let mut words = Vec::new();
        for (option, value) in options {
            if value.contains(char::is_whitespace) {
                self.unsaid(place, format!("`{option}` is one word, and not `{value}`"));
            }
            words.push(format!("{option}={value}"));
        }
        self.set(name, &words.join(" "), [place]);
    }
}
