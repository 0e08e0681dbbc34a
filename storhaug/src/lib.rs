//! The orchestrator: one storhaug.conf becomes one cluster.

pub mod cluster;
pub mod config;
