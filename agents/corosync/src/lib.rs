//! The parts of storhaug that speak Corosync.

pub mod lock;
pub mod lost;
pub mod membership;
pub mod noded;
