//! The parts of storhaug that speak Corosync.

pub mod lost;
