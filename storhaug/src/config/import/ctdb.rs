//! CTDB's own configuration, from when it had the addresses and the services.
//!
//! The names of its options are those of ctdbd.conf(5) up to version 4.8, and
//! of ctdb.conf(5) and ctdb-script.options(5) since; `config_migrate.sh` in
//! CTDB's sources has both.

use std::net::IpAddr;
use std::path::Path;

use super::super::draft::{At, Place, Section, Value};
use super::super::keys::{self, Table};
use super::super::places::Found;
use super::notes::Notes;
use super::settings::Setting;
use super::{Import, open};

/// Whether `key` is one of CTDB's.
pub(super) fn is_key(key: &str) -> bool {
    key.starts_with("CTDB_")
}

/// A public address.
#[derive(Debug)]
struct Public {
    /// With the length of its prefix.
    address: At<String>,
    nic: Nic,
}

/// The interface of a public address.
#[derive(Debug)]
enum Nic {
    One(String),
    /// The one that is meant where none is said.
    Default,
    /// One of several, which nothing of ours can say.
    Any,
}

/// What CTDB was told to start; `None` where nothing says so.
#[derive(Debug, Default)]
struct Managed {
    samba: Option<bool>,
    winbind: Option<bool>,
    netbios: bool,
    nfs: Option<bool>,
}

/// What its files say.
#[derive(Debug, Default)]
pub(super) struct Ctdb {
    /// The addresses of the nodes, in the order of their numbers.
    nodes: Vec<At<IpAddr>>,
    addresses: Vec<Public>,
    managed: Managed,
    /// Where the options or ctdb.conf are, if there are any.
    configured: Option<Place>,
}

const LOCK: &str = "storhaug's own lock is held over Corosync and needs no file: when the old \
                    cluster is gone, the file can go, too. To have another all the same, write \
                    `cluster_lock` in [smb]";
const KEPT: &str = "it is a matter of CTDB alone, and stays where it is: of /etc/ctdb/ctdb.conf \
                    storhaug changes only its own keys";
const DATABASES: &str = "leave the databases in /var/lib/ctdb: there storhaug looks for damaged \
                         ones before CTDB starts. Move them with CTDB stopped on every node";
const UNIT: &str = "the names of the units are found, by the distribution";
const CHECKS: &str = "storhaug's agents look after the service themselves: they ask it, as a \
                      client does";
const ADDRESSES: &str = "addresses are Pacemaker's now: how they are spread is `placement` in \
                         [cluster] and `prefer` of each";
const TUNABLE: &str = "the tunables are in /etc/ctdb/ctdb.tunables, of which storhaug sets \
                       RerecoveryTimeout and leaves the rest";
const LATER: &str = "CTDB's later versions have it in /etc/ctdb/ctdb.conf (ctdb.conf(5)); storhaug \
                     leaves it there as it is";
const GATEWAY: &str = "CTDB's scripts for routing, NAT and LVS are refused beside Pacemaker: make \
                       it a resource of Pacemaker, or of the network";
const RESOURCE: &str = "CTDB starts no services any more: make it a resource of Pacemaker, such as \
                        `pcs resource create NAME systemd:UNIT clone`";
const HEALTH: &str = "CTDB's health moves no addresses any more: let the monitoring that you have \
                      watch this, or a resource such as ocf:pacemaker:HealthCPU";

/// What becomes of an option that has no key of ours. `*` stands for what comes
/// after.
const FATES: [(&str, &str); 38] = [
    ("CTDB_RECOVERY_LOCK", LOCK),
    (
        "CTDB_NOTIFY_SCRIPT",
        "what happens is told by alerts of Pacemaker: `pcs alert create path=FILE` on one node, \
         with the file on every node. It is called for nodes, resources and fencing, with what \
         happened in variables CRM_alert_* instead of an argument",
    ),
    ("CTDB_SET_NoIPFailback", ADDRESSES),
    ("CTDB_SET_NoIPTakeover", ADDRESSES),
    ("CTDB_SET_IPAllocAlgorithm", ADDRESSES),
    ("CTDB_SET_DeterministicIPs", ADDRESSES),
    ("CTDB_SET_LCP2PublicIPs", ADDRESSES),
    (
        "CTDB_SET_DisableIPFailover",
        "CTDB has no addresses any more: storhaug sees to that",
    ),
    ("CTDB_SET_*", TUNABLE),
    ("CTDB_DBDIR*", DATABASES),
    ("CTDB_SERVICE_*", UNIT),
    ("CTDB_SAMBA_*", CHECKS),
    ("CTDB_NFS_*", CHECKS),
    ("CTDB_RPCINFO_*", CHECKS),
    ("CTDB_STATD_CALLOUT_*", CHECKS),
    ("CTDB_NATGW_*", GATEWAY),
    ("CTDB_LVS_*", GATEWAY),
    ("CTDB_PER_IP_ROUTING_*", GATEWAY),
    ("CTDB_MONITOR_*", HEALTH),
    ("CTDB_PARTIALLY_ONLINE_INTERFACES", HEALTH),
    ("CTDB_CLAMD_SOCKET", RESOURCE),
    ("CTDB_VSFTPD_*", RESOURCE),
    ("CTDB_START_ISCSI_SCRIPTS", RESOURCE),
    (
        "CTDB_MAX_OPEN_FILES",
        "limits are those of the service's unit: `systemctl edit ctdb`, and there LimitNOFILE= in \
         [Service]",
    ),
    (
        "CTDB_SUPPRESS_COREFILE",
        "limits are those of the service's unit: `systemctl edit ctdb`, and there LimitCORE= in \
         [Service]",
    ),
    (
        "CTDB_KILLTCP_*",
        "connections are ended by storhaug-noded, through the kernel",
    ),
    ("CTDB_LOGGING", LATER),
    ("CTDB_LOGFILE", LATER),
    ("CTDB_DEBUGLEVEL", LATER),
    ("CTDB_SCRIPT_LOG_LEVEL", LATER),
    ("CTDB_DEBUG_*", LATER),
    ("CTDB_TRANSPORT", LATER),
    ("CTDB_NODE_ADDRESS", LATER),
    ("CTDB_CAPABILITY_*", LATER),
    ("CTDB_NOSETSCHED", LATER),
    (
        "CTDB_START_AS_*",
        "a node that is to serve nothing is drained: `storhaug drain NODE`",
    ),
    ("CTDB_MAX_CORRUPT_DB_BACKUPS", KEPT),
    ("CTDB_PERSISTENT_DB_BACKUP_*", KEPT),
];

fn fate(key: &str) -> &'static str {
    let known = FATES
        .iter()
        .find(|(known, _)| match known.strip_suffix('*') {
            Some(prefix) => key.starts_with(prefix),
            None => *known == key,
        });
    known.map_or(
        "no version of CTDB that is known here has this option",
        |(_, fate)| *fate,
    )
}

impl Ctdb {
    /// Reads its files and settings; what has no counterpart becomes a note.
    pub(super) fn read<'a>(
        nodes: impl Iterator<Item = &'a Found>,
        addresses: impl Iterator<Item = &'a Found>,
        conf: impl Iterator<Item = &'a Found>,
        settings: Vec<Setting>,
        notes: &mut Notes,
    ) -> Ctdb {
        let mut ctdb = Ctdb::default();
        nodes.for_each(|file| ctdb.read_nodes(file, notes));
        addresses.for_each(|file| ctdb.read_addresses(file, notes));
        conf.for_each(|file| ctdb.read_conf(file, notes));
        ctdb.read_settings(settings, notes);
        ctdb
    }

    pub(super) fn is_empty(&self) -> bool {
        self.nodes.is_empty() && self.addresses.is_empty() && self.configured.is_none()
    }

    fn read_nodes(&mut self, file: &Found, notes: &mut Notes) {
        for (index, line) in file.text.lines().enumerate() {
            let place = Place::new(&file.path, index + 1);
            let line = line.trim();
            match line.parse::<IpAddr>() {
                Ok(address) if self.nodes.iter().any(|node| node.value == address) => {
                    notes.add(&place, line, "this node is there already");
                }
                Ok(address) => self.nodes.push(At::new(address, place)),
                Err(_) if line.is_empty() => {}
                // Not a comment, for CTDB: the place of a node that was removed.
                Err(_) if line.starts_with('#') => notes.add(
                    &place,
                    line,
                    "a removed node keeps its place in CTDB; a new cluster begins without",
                ),
                Err(_) => notes.add(&place, line, "it is not an address"),
            }
        }
    }

    fn read_addresses(&mut self, file: &Found, notes: &mut Notes) {
        for (index, line) in file.text.lines().enumerate() {
            let place = Place::new(&file.path, index + 1);
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let mut words = line.split_whitespace();
            let word = words.next().unwrap_or_default();
            let Some(address) = address_of(word) else {
                notes.add(&place, line, "it is not an address");
                continue;
            };
            let known = |public: &Public| address_of(&public.address.value) == Some(address);
            if self.addresses.iter().any(known) {
                notes.add(&place, line, "this address is there already");
                continue;
            }
            let nics: Vec<&str> = words.flat_map(|word| word.split(',')).collect();
            let nic = match nics[..] {
                [nic] => Nic::One(nic.to_owned()),
                [] => Nic::Default,
                _ => {
                    notes.add(
                        &place,
                        line,
                        "an address has one interface: without a name it is found by route, on \
                         each node. A bond of them is one interface",
                    );
                    Nic::Any
                }
            };
            self.addresses.push(Public {
                address: At::new(word.to_owned(), place),
                nic,
            });
        }
    }

    /// Reads ctdb.conf, whose lines are `key = value` in sections.
    fn read_conf(&mut self, file: &Found, notes: &mut Notes) {
        let mut section = String::new();
        for (index, line) in file.text.lines().enumerate() {
            let place = Place::new(&file.path, index + 1);
            let line = line.trim();
            if line.is_empty() || line.starts_with(['#', ';']) {
                continue;
            }
            self.configured
                .get_or_insert_with(|| Place::whole(&file.path));
            if let Some(name) = line.strip_prefix('[') {
                section = name.trim_end_matches(']').trim().to_ascii_lowercase();
                continue;
            }
            let key = line.split('=').next().unwrap_or_default().trim();
            let key = key.to_ascii_lowercase();
            let why = match (section.as_str(), key.as_str()) {
                ("cluster", "cluster lock" | "recovery lock") => LOCK,
                ("cluster", "nodes list") => {
                    "it is a program, which was not run. The nodes are `nodes` in [cluster]"
                }
                ("database", directory) if directory.ends_with("directory") => DATABASES,
                ("failover", _) => "CTDB has no addresses any more: storhaug sees to that",
                _ => KEPT,
            };
            notes.add(&place, line, why);
        }
    }

    fn read_settings(&mut self, settings: Vec<Setting>, notes: &mut Notes) {
        let mut nic: Option<String> = None;
        for Setting {
            place,
            key,
            value,
            line,
        } in settings
        {
            self.configured
                .get_or_insert_with(|| Place::whole(&place.file));
            match key.as_str() {
                "CTDB_NODES" | "CTDB_PUBLIC_ADDRESSES" => {
                    let read = match key.as_str() {
                        "CTDB_NODES" => !self.nodes.is_empty(),
                        _ => !self.addresses.is_empty(),
                    };
                    if !read {
                        let name = Path::new(&value);
                        let why = format!("name the file {} to import, too", name.display());
                        notes.add(&place, &line, why);
                    }
                }
                "CTDB_PUBLIC_INTERFACE" => nic = Some(value),
                "CTDB_MANAGED_SERVICES" => {
                    for service in value.split_whitespace() {
                        self.manages(service, true, &place, &line, notes);
                    }
                }
                other => match other.strip_prefix("CTDB_MANAGES_") {
                    Some(service) => {
                        let on = value.eq_ignore_ascii_case("yes");
                        let service = service.to_ascii_lowercase();
                        self.manages(&service, on, &place, &line, notes);
                    }
                    None => notes.add(&place, &line, fate(other)),
                },
            }
        }
        let without = |public: &&mut Public| matches!(public.nic, Nic::Default);
        for public in self.addresses.iter_mut().filter(without) {
            public.nic = nic.clone().map_or(Nic::Any, Nic::One);
        }
    }

    /// Takes an event script into account, which CTDB was told to run.
    pub(super) fn read_script(&mut self, path: &Path, notes: &mut Notes) {
        let name = path
            .file_stem()
            .and_then(|name| name.to_str())
            .unwrap_or("");
        let why = match name {
            "50.samba" => return self.managed.samba = Some(true),
            "49.winbind" => return self.managed.winbind = Some(true),
            "48.netbios" => return self.managed.netbios = true,
            "06.nfs" | "60.nfs" => return self.managed.nfs = Some(true),
            // What CTDB does for itself, and what is switched off by storhaug.
            "00.ctdb" | "01.reclock" | "05.system" | "10.interface" | "95.database" => return,
            "11.natgw" | "11.routing" | "13.per_ip_routing" | "91.lvs" => GATEWAY,
            _ => RESOURCE,
        };
        notes.add(&Place::whole(&path.into()), name, why);
    }

    fn manages(&mut self, service: &str, on: bool, place: &Place, line: &str, notes: &mut Notes) {
        match service {
            "samba" | "smb" => self.managed.samba = Some(on),
            "winbind" => self.managed.winbind = Some(on),
            "nfs" | "ganesha" => self.managed.nfs = Some(on),
            _ if on => notes.add(place, line, RESOURCE),
            _ => {}
        }
    }
}

/// The address of a word that may have the length of a prefix.
fn address_of(word: &str) -> Option<IpAddr> {
    word.split('/').next()?.parse().ok()
}

impl Import {
    /// Takes over what CTDB's files say; what was said before stays.
    pub(super) fn ctdb(&mut self, ctdb: Ctdb) {
        self.ctdb_nodes(&ctdb.nodes);
        self.ctdb_addresses(&ctdb.addresses);
        if self.draft.table(Table::Smb).is_none() && self.draft.table(Table::Nfs).is_none() {
            self.ctdb_services(&ctdb.managed);
        }
    }

    fn ctdb_nodes(&mut self, nodes: &[At<IpAddr>]) {
        if self.has(&keys::CLUSTER_NODES) {
            self.ctdb_addresses_of_nodes(nodes);
            return;
        }
        if nodes.is_empty() {
            return;
        }
        let mut names = Vec::new();
        for At { value, place } in nodes {
            let name = self.hosts.name_of(*value);
            let more = self.hosts.names(*value).iter().skip(1);
            let more: Vec<&str> = more.map(String::as_str).collect();
            if !more.is_empty() {
                let more = more.join(", ");
                self.remarks.add(
                    place,
                    &format!("# Also called {more}: the name is to be what `uname -n` prints."),
                );
            }
            self.set_address(&name, &value.to_string(), place);
            names.push(name);
        }
        let order = "In CTDB's order. The names are to be those that `uname -n` prints; write a \
                     name for each <name-of-ADDRESS>, here and below.";
        let place = self.own(order);
        let names = names.into_iter();
        let names = names.map(|name| At::new(name, place.clone())).collect();
        self.set(&keys::CLUSTER_NODES, Value::List(names), &place);
    }

    /// Gives nodes that are known by name the addresses that CTDB has of them.
    fn ctdb_addresses_of_nodes(&mut self, nodes: &[At<IpAddr>]) {
        let table = self.draft.table(Table::Cluster);
        let listed = table.and_then(|table| table.list(&keys::CLUSTER_NODES));
        let names: Vec<String> = listed
            .unwrap_or_default()
            .iter()
            .map(|node| node.value.clone())
            .collect();
        for At { value, place } in nodes {
            let known = self.hosts.names(*value);
            match names.iter().find(|name| known.contains(name)) {
                Some(name) => self.set_address(&name.clone(), &value.to_string(), place),
                None => self.notes.add(
                    place,
                    &value.to_string(),
                    "which of the nodes has this address is not known: write it as `address` in \
                     its [[node]], if CTDB shall go on using it, or import /etc/hosts, too",
                ),
            }
        }
    }

    fn ctdb_addresses(&mut self, addresses: &[Public]) {
        for Public { address, nic } in addresses {
            let At { value, place } = address;
            let same = |vip: &&mut Section| {
                let own = vip.text(&keys::VIP_ADDRESS);
                own.is_some_and(|own| address_of(own.value) == address_of(value))
            };
            let mut new = Section::new(place.clone());
            let vip = match self.draft.vips.iter_mut().find(same) {
                Some(vip) => vip,
                None => &mut new,
            };
            vip.set(
                &keys::VIP_ADDRESS,
                Value::Text(value.clone()),
                place.clone(),
            );
            if let Nic::One(nic) = nic {
                vip.set(&keys::VIP_NIC, Value::Text(nic.clone()), place.clone());
            }
            if new.has(&keys::VIP_ADDRESS) {
                self.draft.add(Table::Vip, new);
            }
        }
    }

    fn ctdb_services(&mut self, managed: &Managed) {
        let nfs = managed.nfs == Some(true);
        if managed.samba.unwrap_or(!nfs) {
            let place = self.own(
                "CTDB does not say where the shares are: write the Gluster volumes they are on, \
                 or the directories in `mount_dir`.",
            );
            let volumes = At::new(open("volume-of-the-shares"), place.clone());
            self.set(&keys::SMB_VOLUMES, Value::List(vec![volumes]), &place);
            if managed.samba.is_some() || managed.winbind.is_some() {
                let on = managed.winbind.unwrap_or(false);
                let place = self.own(match on {
                    true => "CTDB started winbindd.",
                    false => "CTDB did not start winbindd.",
                });
                self.set(&keys::SMB_WINBIND, Value::Flag(on), &place);
            }
            if managed.netbios {
                let place = self.own("CTDB started nmbd.");
                self.set(&keys::SMB_NETBIOS, Value::Flag(true), &place);
            }
        }
        if nfs {
            let place = self.own(
                "By NFS-Ganesha, 4.1 and 4.2, also where it was the kernel's server: the exports \
                 have to be written anew. What the servers take over from each other needs a \
                 volume of its own.",
            );
            self.set(&keys::NFS_STATE_VOLUME, Value::Text("state".into()), &place);
        }
        let place = self.own(
            "The file system was mounted by something else. Write \"mounted\" if that is to stay \
             so, and as `mount_dir` the directory above those of the volumes; otherwise storhaug \
             mounts Gluster volumes.",
        );
        self.set(&keys::STORAGE_TYPE, Value::Text("glusterfs".into()), &place);
    }
}
