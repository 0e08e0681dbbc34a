//! Pacemaker resource agents of the provider `storhaug`, and the framework
//! that they share.
//!
//! An agent is a table of what it is ([`ocf::Metadata`]) and a few short verbs
//! ([`ocf::Agent`]); everything that holds for every agent is in [`ocf`].

pub mod addresses;
pub mod announce;
pub mod attribute;
pub mod child;
pub mod ctdb;
pub mod ctdbd;
pub mod daemon;
pub mod deadline;
pub mod exec;
pub mod fencing;
pub mod ganesha;
pub mod ganesha_trigger;
pub mod ganeshad;
pub mod glusterfs;
pub mod mark;
pub mod mounts;
pub mod netlink;
pub mod noded;
pub mod ocf;
pub mod record;
pub mod recovery;
pub mod samba;
pub mod service;
pub mod systemd;
pub mod tcp;
pub mod vip;
