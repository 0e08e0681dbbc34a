//! The parts of storhaug that speak Corosync.
