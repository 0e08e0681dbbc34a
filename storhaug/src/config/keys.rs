//! The one table of what may stand in a configuration. Both readers accept
//! what it lists and nothing else, and the reference is printed from it.

use std::fmt::Write;

/// A table of the TOML form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Table {
    Cluster,
    Node,
    Storage,
    Vip,
    Smb,
    Nfs,
    Fencing,
}

impl Table {
    /// In the order of the reference.
    pub const ALL: [Table; 7] = [
        Table::Cluster,
        Table::Node,
        Table::Storage,
        Table::Vip,
        Table::Smb,
        Table::Nfs,
        Table::Fencing,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Table::Cluster => "cluster",
            Table::Node => "node",
            Table::Storage => "storage",
            Table::Vip => "vip",
            Table::Smb => "smb",
            Table::Nfs => "nfs",
            Table::Fencing => "fencing",
        }
    }

    /// Whether there may be several of it.
    pub(super) fn repeats(self) -> bool {
        matches!(self, Table::Node | Table::Vip)
    }

    /// How it is opened in the file.
    pub fn header(self) -> String {
        if self.repeats() {
            format!("[[{}]]", self.name())
        } else {
            format!("[{}]", self.name())
        }
    }

    /// What it is for; in Markdown.
    pub fn meaning(self) -> &'static str {
        match self {
            Table::Cluster => "The cluster as a whole. Needed.",
            Table::Node => "One for each node that needs saying more about than its name.",
            Table::Storage => "Where the shared files come from.",
            Table::Vip => "One for each virtual address; at least one is needed.",
            Table::Smb => "The SMB service. Without this table Samba is left alone.",
            Table::Nfs => {
                "The NFS service: 4.1 and 4.2, by NFS-Ganesha. Without this table it is left alone."
            }
            Table::Fencing => {
                "How a lost node is switched off before its work is taken over. Needed."
            }
        }
    }
}

/// What a key's value looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Text,
    Choice(&'static [&'static str]),
    Flag,
    List,
    /// A table of names and values, handed on as they are.
    Options,
    /// Such a table for each node.
    NodeOptions,
}

impl Kind {
    /// What to write, for the remedy of an error.
    pub(super) fn wanted(self) -> String {
        match self {
            Kind::Text => "a string in quotes".into(),
            Kind::Choice(words) => words
                .iter()
                .map(|word| format!("\"{word}\""))
                .collect::<Vec<_>>()
                .join(" or "),
            Kind::Flag => "true or false".into(),
            Kind::List => "a list of strings, [\"…\", \"…\"]".into(),
            Kind::Options => "a table of options, { name = \"value\" }".into(),
            Kind::NodeOptions => {
                "a table of options for each node, NODE = { name = \"value\" }".into()
            }
        }
    }

    /// As the reference says it; in Markdown.
    pub fn in_reference(self) -> String {
        match self {
            Kind::Text => "string".into(),
            Kind::Choice(words) => words
                .iter()
                .map(|word| format!("`\"{word}\"`"))
                .collect::<Vec<_>>()
                .join(" or "),
            Kind::Flag => "boolean".into(),
            Kind::List => "list of strings".into(),
            Kind::Options => "table of strings".into(),
            Kind::NodeOptions => "table of tables of strings".into(),
        }
    }
}

/// A key of the TOML form.
#[derive(Debug)]
pub struct Key {
    /// Where it stands.
    pub table: Table,
    /// Its name there.
    pub name: &'static str,
    /// What its value looks like.
    pub kind: Kind,
    /// The default as the reference shows it; in Markdown.
    pub default: &'static str,
    /// What it is for; in Markdown.
    pub meaning: &'static str,
    /// What says the same in the slides' form; a name in `<>` stands for a
    /// node's, with `_` for `-` and `.`. Empty where nothing does.
    pub slides: &'static [&'static str],
}

impl Key {
    /// The key as errors name it, for a reader of a file in this form.
    pub(super) fn spelled(&self, form: super::draft::Form) -> String {
        match (form, self.slides) {
            (super::draft::Form::Slides, [first, ..]) => (*first).to_string(),
            _ => format!("`{}` in {}", self.name, self.table.header()),
        }
    }
}

pub(super) const CLUSTER_NAME: Key = Key {
    table: Table::Cluster,
    name: "name",
    kind: Kind::Text,
    default: "needed",
    meaning: "The cluster's name in Corosync: up to 32 letters, digits, `.`, `_` and `-`.",
    slides: &["HA_NAME"],
};
pub(super) const CLUSTER_NODES: Key = Key {
    table: Table::Cluster,
    name: "nodes",
    kind: Kind::List,
    default: "needed",
    meaning: "The members, by the names `uname -n` prints. Their order is that of Corosync's \
              node ids and CTDB's slots: add at the end.",
    slides: &["HA_CLUSTER_NODES"],
};
pub(super) const PASSWORD_FILE: Key = Key {
    table: Table::Cluster,
    name: "password_file",
    kind: Kind::Text,
    default: "`\"/etc/storhaug/hacluster.password\"`",
    meaning: "File whose first line is the password of the user hacluster, readable by its owner \
              alone. Read when nodes are made known to each other, by `setup` and `add`. The slides' \
              form may carry the password itself as `HA_PASSWORD`, if nobody but its owner can \
              read the file.",
    slides: &["HA_PASSWORD_FILE"],
};
pub(super) const FAILOVER: Key = Key {
    table: Table::Cluster,
    name: "failover",
    kind: Kind::Choice(&["default", "fast"]),
    default: "`\"default\"`",
    meaning: "How soon a silent node counts as lost: by Corosync's own timeouts, or after about \
              two seconds, for local networks and nodes that do not pause.",
    slides: &[],
};
pub(super) const PLACEMENT: Key = Key {
    table: Table::Cluster,
    name: "placement",
    kind: Kind::Choice(&["balanced", "deterministic"]),
    default: "`\"balanced\"`",
    meaning: "How addresses are spread: as evenly as the healthy nodes allow, or by a fixed order \
              of nodes for each. `DETERMINISTIC_FAILOVER` is true or false.",
    slides: &["DETERMINISTIC_FAILOVER"],
};
pub(super) const NODE_NAME: Key = Key {
    table: Table::Node,
    name: "name",
    kind: Kind::Text,
    default: "needed",
    meaning: "Which of the cluster's `nodes` is meant.",
    slides: &["STORAGE_NODES"],
};
pub(super) const NODE_ADDRESS: Key = Key {
    table: Table::Node,
    name: "address",
    kind: Kind::Text,
    default: "found by the node's name",
    meaning: "The address or host name the other nodes reach it by.",
    slides: &[],
};
pub(super) const NODE_STORAGE: Key = Key {
    table: Table::Node,
    name: "storage",
    kind: Kind::Flag,
    default: "`true`",
    meaning: "Whether services and addresses may run on it; a node without storage only votes. \
              `STORAGE_NODES` lists those that have it.",
    slides: &["STORAGE_NODES"],
};
pub(super) const STORAGE_TYPE: Key = Key {
    table: Table::Storage,
    name: "type",
    kind: Kind::Choice(&["glusterfs", "mounted"]),
    default: "`\"glusterfs\"`",
    meaning: "Gluster volumes that storhaug mounts, or a shared file system that something else \
              mounts.",
    slides: &[],
};
pub(super) const STORAGE_MOUNT_DIR: Key = Key {
    table: Table::Storage,
    name: "mount_dir",
    kind: Kind::Text,
    default: "`\"/run/storhaug\"`",
    meaning: "The volume `V` is found at `mount_dir/V`.",
    slides: &["HA_MNT_DIR"],
};
pub(super) const STORAGE_SERVER: Key = Key {
    table: Table::Storage,
    name: "server",
    kind: Kind::Text,
    default: "`\"localhost\"`",
    meaning: "The Gluster server to mount from. Only with `type = \"glusterfs\"`.",
    slides: &["HA_SERVER"],
};
pub(super) const STORAGE_OPTIONS: Key = Key {
    table: Table::Storage,
    name: "options",
    kind: Kind::Text,
    default: "none",
    meaning: "Further mount options, separated by commas. Only with `type = \"glusterfs\"`.",
    slides: &[],
};
pub(super) const VIP_ADDRESS: Key = Key {
    table: Table::Vip,
    name: "address",
    kind: Kind::Text,
    default: "needed",
    meaning: "The address, IPv4 or IPv6, alone or with the length of its network's prefix: \
              `10.0.0.101/24`. `HA_VIPS` lists them all, separated by spaces; \
              `VIP_<node>` instead gives each node one, which prefers that node.",
    slides: &["HA_VIPS", "VIP_<node>"],
};
pub(super) const VIP_NAME: Key = Key {
    table: Table::Vip,
    name: "name",
    kind: Kind::Text,
    default: "`vip-` and the address, `-` for `:`",
    meaning: "The resource's id in Pacemaker.",
    slides: &[],
};
pub(super) const VIP_NIC: Key = Key {
    table: Table::Vip,
    name: "nic",
    kind: Kind::Text,
    default: "found by route, on each node",
    meaning: "The interface that carries it.",
    slides: &[],
};
pub(super) const VIP_PREFER: Key = Key {
    table: Table::Vip,
    name: "prefer",
    kind: Kind::List,
    default: "none",
    meaning: "Nodes in the order of preference. `HA_VIP_NODES` gives the first node of each \
              address, in the order of `HA_VIPS`.",
    slides: &["HA_VIP_NODES"],
};
pub(super) const VIP_SERVICES: Key = Key {
    table: Table::Vip,
    name: "services",
    kind: Kind::List,
    default: "all that are configured",
    meaning: "What is reached through it: `\"smb\"`, `\"nfs\"`. The address is only where all of it works.",
    slides: &[],
};
pub(super) const SMB_VOLUMES: Key = Key {
    table: Table::Smb,
    name: "volumes",
    kind: Kind::List,
    default: "`[\"share\"]`",
    meaning: "The volumes Samba's shares are on; Samba runs where they are mounted. Empty if it \
              needs none (vfs_glusterfs).",
    slides: &["HA_SMB_VOLUMES"],
};
pub(super) const SMB_WINBIND: Key = Key {
    table: Table::Smb,
    name: "winbind",
    kind: Kind::Flag,
    default: "`true`",
    meaning: "Whether winbindd runs beside smbd. Members of a domain need it.",
    slides: &[],
};
pub(super) const SMB_NETBIOS: Key = Key {
    table: Table::Smb,
    name: "netbios",
    kind: Kind::Flag,
    default: "`false`",
    meaning: "Whether nmbd runs, for NetBIOS names and browsing.",
    slides: &[],
};
pub(super) const SMB_CLUSTER_LOCK: Key = Key {
    table: Table::Smb,
    name: "cluster_lock",
    kind: Kind::Text,
    default: "a lock over Corosync",
    meaning: "What keeps two leaders of CTDB apart instead: a file on shared storage, or `!` and \
              a command that holds a lock, such as CTDB's helper for RADOS.",
    slides: &[],
};
pub(super) const NFS_STATE_VOLUME: Key = Key {
    table: Table::Nfs,
    name: "state_volume",
    kind: Kind::Text,
    default: "`\"state\"`",
    meaning: "The volume for what servers take over from each other. Nothing else is to be on it.",
    slides: &["HA_NFS_VOL"],
};
pub(super) const NFS_CONFIG: Key = Key {
    table: Table::Nfs,
    name: "config",
    kind: Kind::Text,
    default: "`\"/etc/ganesha/ganesha.conf\"`",
    meaning: "NFS-Ganesha's configuration file, the same on every node: exports, and what is \
              not storhaug's to decide.",
    slides: &["HA_NFS_CONF"],
};
pub(super) const FENCING_AGENT: Key = Key {
    table: Table::Fencing,
    name: "agent",
    kind: Kind::Text,
    default: "needed",
    meaning: "The fence agent, such as `fence_ipmilan`; or `none-i-accept-data-loss`.",
    slides: &["HA_FENCE_AGENT"],
};
pub(super) const FENCING_OPTIONS: Key = Key {
    table: Table::Fencing,
    name: "options",
    kind: Kind::Options,
    default: "none",
    meaning: "The agent's options, the same for every node. In the slides' form `key=value …`. \
              Passwords stay in files: `password_file`.",
    slides: &["HA_FENCE_OPTIONS"],
};
pub(super) const FENCING_NODES: Key = Key {
    table: Table::Fencing,
    name: "nodes",
    kind: Kind::NodeOptions,
    default: "none",
    meaning: "The agent's options for the device of each node; they win over `options`. Either \
              for every node or for none, where `options` and the node's name are enough.",
    slides: &["HA_FENCE_OPTIONS_<node>"],
};

/// Every key, in the order of the reference.
pub(super) const KEYS: &[&Key] = &[
    &CLUSTER_NAME,
    &CLUSTER_NODES,
    &PASSWORD_FILE,
    &FAILOVER,
    &PLACEMENT,
    &NODE_NAME,
    &NODE_ADDRESS,
    &NODE_STORAGE,
    &STORAGE_TYPE,
    &STORAGE_MOUNT_DIR,
    &STORAGE_SERVER,
    &STORAGE_OPTIONS,
    &VIP_ADDRESS,
    &VIP_NAME,
    &VIP_NIC,
    &VIP_PREFER,
    &VIP_SERVICES,
    &SMB_VOLUMES,
    &SMB_WINBIND,
    &SMB_NETBIOS,
    &SMB_CLUSTER_LOCK,
    &NFS_STATE_VOLUME,
    &NFS_CONFIG,
    &FENCING_AGENT,
    &FENCING_OPTIONS,
    &FENCING_NODES,
];

/// Keys of the slides' form that are no single key of the TOML form, and what
/// becomes of them; in Markdown.
pub const SLIDES_ALONE: &[(&str, &str)] = &[
    (
        "HA_PASSWORD",
        "the password of the user hacluster; never kept in the cluster",
    ),
    (
        "HA_SERVICES",
        "`smb`, the default, is the table `[smb]`, and `nfs` is `[nfs]`; empty for none",
    ),
    (
        "HA_SMB_TYPE",
        "no effect: CTDB's lock needs no volume any more",
    ),
    ("HA_SMB_VOL", "no effect, as `HA_SMB_TYPE`"),
    ("HA_SMB_MNT_DIR", "no effect, as `HA_SMB_TYPE`"),
    (
        "HA_NFS_TYPE",
        "no effect: the state is on storage of the kind that `[storage]` says",
    ),
    (
        "HA_NFS_MNT_DIR",
        "no effect: the state volume is mounted as every other",
    ),
    (
        "HA_NFS_EXPDIR",
        "no effect: exports are in Ganesha's own configuration",
    ),
];

/// The key `name` of `table`.
pub(super) fn find(table: Table, name: &str) -> Option<&'static Key> {
    keys_of(table).find(|key| key.name == name)
}

/// The keys of a table, in the order of the reference.
pub fn keys_of(table: Table) -> impl Iterator<Item = &'static Key> {
    KEYS.iter().copied().filter(move |key| key.table == table)
}

/// The key that says in the TOML form what `name` says in the slides' form.
pub(super) fn of_slides(name: &str) -> Option<&'static Key> {
    KEYS.iter()
        .copied()
        .find(|key| key.slides.iter().any(|slides| stands_for(slides, name)))
}

/// Every name the slides' form knows; a name in `<>` stands for a node's.
pub(super) fn slides_names() -> impl Iterator<Item = &'static str> {
    let keys = KEYS.iter().flat_map(|key| key.slides.iter().copied());
    keys.chain(SLIDES_ALONE.iter().map(|(name, _)| *name))
}

/// What becomes of `name`, a key of the slides' form that is no single key of
/// the TOML form.
pub(super) fn fate(name: &str) -> Option<&'static str> {
    let mut known = SLIDES_ALONE.iter();
    known.find_map(|(known, fate)| (*known == name).then_some(*fate))
}

/// Whether the slides' form knows `name`.
pub(super) fn in_slides(name: &str) -> bool {
    slides_names().any(|known| stands_for(known, name))
}

fn stands_for(known: &str, name: &str) -> bool {
    match known.strip_suffix("<node>") {
        Some(prefix) => name
            .strip_prefix(prefix)
            .is_some_and(|node| !node.is_empty()),
        None => known == name,
    }
}

/// The candidate that `word` was probably meant to be: at most two slips of
/// the pen away, and closer than a word made of other letters.
pub(super) fn nearest<'a>(
    word: &str,
    candidates: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    candidates
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 2 && *distance < candidate.chars().count())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Levenshtein's distance between two words.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// The configuration reference: every key, in Markdown.
pub fn reference() -> String {
    let mut out = String::new();
    for table in Table::ALL {
        // Writing to a String cannot fail.
        let _ = write!(
            out,
            "#### `{}`\n\n{}\n\n\
             | key | type | default | meaning | slides' form |\n\
             |---|---|---|---|---|\n",
            table.header(),
            table.meaning()
        );
        for key in keys_of(table) {
            let slides: Vec<String> = key.slides.iter().map(|name| format!("`{name}`")).collect();
            let _ = writeln!(
                out,
                "| `{}` | {} | {} | {} | {} |",
                key.name,
                key.kind.in_reference(),
                key.default,
                key.meaning,
                slides.join(", ")
            );
        }
        out.push('\n');
    }
    out.push_str(
        "#### Further keys of the slides' form\n\n\
         | key | what becomes of it |\n\
         |---|---|\n",
    );
    for (name, fate) in SLIDES_ALONE {
        let _ = writeln!(out, "| `{name}` | {fate} |");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_pen_is_recognised() {
        let keys = || keys_of(Table::Cluster).map(|key| key.name);
        assert_eq!(nearest("nodse", keys()), Some("nodes"));
        assert_eq!(nearest("pasword_file", keys()), Some("password_file"));
        assert_eq!(nearest("colour", keys()), None);
    }

    #[test]
    fn a_node_s_name_may_end_a_key_of_the_slides() {
        assert!(in_slides("HA_FENCE_OPTIONS_server_1"));
        assert!(in_slides("VIP_server1"));
        assert!(!in_slides("VIP_"));
        assert!(!in_slides("HA_NODES"));
        assert_eq!(
            of_slides("HA_MNT_DIR").map(|key| key.name),
            Some("mount_dir")
        );
    }

    #[test]
    fn the_reference_has_every_key_in_a_row_of_its_table() {
        let text = reference();
        for key in KEYS {
            assert!(
                text.contains(&format!("| `{}` | ", key.name)),
                "{}",
                key.name
            );
        }
        for name in slides_names() {
            assert!(text.contains(&format!("`{name}`")), "{name}");
        }
    }
}
