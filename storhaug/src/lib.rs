//! The orchestrator: one storhaug.conf becomes one cluster.
//!
//! [`config`] reads the file, [`desired`] says what the cluster configuration
//! should be, [`plan`] compares it with what is there; all of that is pure.
//! [`setup`] and the other verbs look and act, by way of [`pcs`] and
//! [`pacemaker`].

pub mod agreement;
pub mod apply;
pub mod check;
pub mod cleanup;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod corosync;
pub mod desired;
pub mod dns;
pub mod drain;
pub mod finding;
pub mod history;
pub mod loss;
pub mod machine;
pub mod members;
pub mod pacemaker;
pub mod pcs;
pub mod placement;
pub mod plan;
pub mod preflight;
pub mod progress;
pub mod quorum;
pub mod rehearsal;
pub mod setup;
pub mod show;
pub mod state;
pub mod status;
pub mod teardown;
pub mod vips;
pub mod watch;
pub mod xml;
