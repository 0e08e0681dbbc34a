//! Stand-ins for agents that have not landed.
use storhaug_agents::ocf::{Kind, Metadata, Op, Param, Reload};
const fn param(name: &'static str) -> Param {
    Param {
        name,
        kind: Kind::String,
        required: true,
        unique_group: None,
        reload: Reload::Restart,
        default: None,
        shortdesc: "",
        longdesc: "",
    }
}
const OPS: [Op; 4] = [
    Op::once("start", 90),
    Op::once("stop", 60),
    Op::monitor(0, 10, 20),
    Op::monitor(10, 60, 30),
];
const fn agent(name: &'static str) -> Metadata {
    Metadata {
        name,
        shortdesc: "",
        longdesc: "",
        parameters: &[],
        actions: &OPS,
    }
}
pub mod ctdb {
    use super::*;
    pub struct Ctdb;
    impl Ctdb {
        pub const METADATA: Metadata = agent("ctdb");
    }
    pub const NODES: Param = param("nodes");
}
pub mod noded {
    use super::*;
    pub struct Noded;
    impl Noded {
        pub const METADATA: Metadata = agent("noded");
    }
}
pub mod samba {
    use super::*;
    pub struct Samba;
    impl Samba {
        pub const METADATA: Metadata = agent("samba");
    }
    pub const DAEMON: Param = param("daemon");
}
pub mod glusterfs {
    use super::*;
    pub struct GlusterFs;
    impl GlusterFs {
        pub const METADATA: Metadata = agent("glusterfs");
    }
    pub const VOLUME: Param = param("volume");
    pub const DIRECTORY: Param = param("directory");
    pub const SERVER: Param = param("server");
    pub const OPTIONS: Param = param("options");
}
