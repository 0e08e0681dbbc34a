//! One TCP connection to a virtual address.

use std::net::IpAddr;

/// What of a connection another node has to know to tickle its client. The
/// virtual address itself is the key under which connections are kept.
///
/// A v4-mapped socket is the IPv4 connection that it is on the wire. 22 bytes;
/// kept in a B-tree it costs about 32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Connection {
    /// The client's address, of the virtual address' family.
    pub client: IpAddr,
    /// The client's port.
    pub client_port: u16,
    /// The port at the virtual address.
    pub server_port: u16,
}
