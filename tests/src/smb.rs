//! Samba's own client, on the client host.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::Result;

use crate::Lab;

/// Patience with commands that may move many files.
const LIMIT: Duration = Duration::from_secs(120);

/// Runs commands of smbclient (`;` between them) on the share, connected to
/// an address; what they print.
pub fn run(lab: &Lab, address: IpAddr, commands: &str) -> Result<String> {
    run_within(lab, address, commands, Vec::new(), LIMIT)
}

/// [`run`] with standard input for `put -`, and killed after `limit`.
pub fn run_within(
    lab: &Lab,
    address: IpAddr,
    commands: &str,
    input: Vec<u8>,
    limit: Duration,
) -> Result<String> {
    run_on(lab, address, "share", commands, input, limit)
}

/// [`run_within`] on a share of another name.
pub fn run_on(
    lab: &Lab,
    address: IpAddr,
    share: &str,
    commands: &str,
    input: Vec<u8>,
    limit: Duration,
) -> Result<String> {
    let address = address.to_string();
    let share = format!("//storhaug/{share}");
    let argv = [
        "smbclient",
        "-N",
        "-m",
        "SMB3",
        "-I",
        &address,
        &share,
        "-c",
        commands,
    ];
    lab.client().command(argv)?.input(input).limit(limit).run()
}
