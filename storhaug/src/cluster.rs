//! The cluster the administrator asked for, whichever form the configuration
//! was written in: every default filled in, every name checked, no secret.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// One cluster as its configuration describes it.
///
/// Built by [`crate::config`], which refuses what does not fit together; the
/// rest of the program may rely on what the fields' descriptions promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// Corosync's `cluster_name`: 1 to 32 letters, digits, `.`, `_` or `-`.
    pub name: String,
    /// The members, at least one, in the order they were written, which is
    /// the order of Corosync's node ids and of CTDB's slots. Names differ.
    pub nodes: Vec<Node>,
    /// The addresses that move, in the order they were written. Names and
    /// addresses differ.
    pub vips: Vec<Vip>,
    /// Where the shared files come from.
    pub storage: Storage,
    /// The SMB service; `None` when it is not asked for.
    pub smb: Option<Smb>,
    /// The NFS service; `None` when it is not asked for.
    pub nfs: Option<Nfs>,
    /// How a lost node is switched off.
    pub fencing: Fencing,
    /// How soon a silent node counts as lost.
    pub failover: Failover,
    /// How addresses are spread over the nodes.
    pub placement: Placement,
    /// The file with the password of the user `hacluster`, absolute. It is
    /// read by `setup` alone.
    pub password_file: PathBuf,
}

/// A member of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// The node's name in Pacemaker, which is its `uname -n`.
    pub name: String,
    /// The address or host name Corosync uses for it; `None` to resolve the
    /// name.
    pub address: Option<String>,
    /// Whether the services and the addresses may run here. At least one node
    /// of a cluster has it; a node without it only votes.
    pub storage: bool,
}

/// A virtual address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vip {
    /// The resource's id: the administrator's, or [`Vip::default_name`].
    pub name: String,
    /// The address.
    pub address: IpAddr,
    /// Length of its network's prefix; `None` to take it from the route.
    pub prefix: Option<u8>,
    /// The interface that carries it on every node; `None` to find it by
    /// route, on each node for itself.
    pub nic: Option<String>,
    /// Nodes in the order of preference, each a storage node of the cluster,
    /// none twice; empty for no preference.
    pub prefer: Vec<String>,
    /// The services reached through it; empty in a cluster without services.
    pub services: BTreeSet<Service>,
}

impl Vip {
    /// The id of an address that was given none: `vip-` and the address as
    /// RFC 5952 writes it, with `-` for `:`, so that it stays the same
    /// wherever the address stands in the file.
    pub fn default_name(address: IpAddr) -> String {
        format!("vip-{}", address.to_string().replace(':', "-"))
    }
}

/// Where the shared files come from. A volume `V` is found at `mount_dir/V`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Storage {
    /// Gluster volumes, mounted on every storage node by our agent.
    GlusterFs {
        /// The server the volume's layout is asked from.
        server: String,
        /// Parent of the mount points, absolute.
        mount_dir: PathBuf,
        /// Further mount options, comma separated, as mount(8) takes them.
        options: Option<String>,
    },
    /// A shared file system that something else mounts.
    Mounted {
        /// Parent of the volumes' directories, absolute.
        mount_dir: PathBuf,
    },
}

impl Storage {
    /// Parent of the volumes' directories.
    pub fn mount_dir(&self) -> &Path {
        match self {
            Storage::GlusterFs { mount_dir, .. } | Storage::Mounted { mount_dir } => mount_dir,
        }
    }

    /// Where the files of `volume` are.
    pub fn directory(&self, volume: &str) -> PathBuf {
        self.mount_dir().join(volume)
    }
}

/// The SMB service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Smb {
    /// Names of the volumes Samba shares from; none twice.
    pub volumes: Vec<String>,
    /// Whether winbindd runs (domain members need it).
    pub winbind: bool,
    /// Whether nmbd runs (NetBIOS names and browsing).
    pub netbios: bool,
    /// CTDB's cluster lock, if it is not the one over Corosync: an absolute file
    /// name, or one of a program after `!`, with its arguments.
    pub cluster_lock: Option<String>,
}

/// The NFS service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nfs {
    /// Name of the volume for what the servers know of their clients; none of
    /// those that Samba shares from.
    pub state_volume: String,
    /// NFS-Ganesha's configuration file, absolute.
    pub config: PathBuf,
}

/// How a lost node is switched off before its work is taken over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fencing {
    /// Not at all: the administrator wrote [`Fencing::REFUSED`].
    Refused,
    /// By a fence agent, with a device for each node.
    Device {
        /// Name of the agent, such as `fence_ipmilan`.
        agent: String,
        /// Options of every device. No secrets: those are file references.
        options: BTreeMap<String, String>,
        /// Options of one node's device, by node name; they win over
        /// `options`. Either every node is there, or none, where `options`
        /// and the node's name are enough for the agent.
        nodes: BTreeMap<String, BTreeMap<String, String>>,
    },
}

impl Fencing {
    /// What is written in the place of an agent to go without fencing.
    pub const REFUSED: &'static str = "none-i-accept-data-loss";
}

/// How soon a silent node counts as lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Failover {
    /// Corosync's own timeouts.
    #[default]
    Default,
    /// A token timeout of one second, for networks that do not pause.
    Fast,
}

/// How addresses are spread over the nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Placement {
    /// As evenly as the healthy nodes allow.
    #[default]
    Balanced,
    /// By a fixed order of nodes for each address.
    Deterministic,
}

/// What clients come for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Service {
    /// Samba.
    Smb,
    /// NFS-Ganesha.
    Nfs,
}

impl Service {
    /// The word for it in a configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Service::Smb => "smb",
            Service::Nfs => "nfs",
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Cluster {
    /// The member called `name`.
    pub fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.iter().find(|node| node.name == name)
    }

    /// The nodes that carry services and addresses.
    pub fn storage_nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| node.storage)
    }

    /// The volumes that services need.
    pub fn volumes(&self) -> BTreeSet<&str> {
        let smb = self.smb.iter().flat_map(|smb| &smb.volumes);
        let nfs = self.nfs.iter().map(|nfs| &nfs.state_volume);
        smb.chain(nfs).map(String::as_str).collect()
    }

    /// The services the cluster offers.
    pub fn services(&self) -> BTreeSet<Service> {
        let smb = self.smb.iter().map(|_| Service::Smb);
        smb.chain(self.nfs.iter().map(|_| Service::Nfs)).collect()
    }
}
