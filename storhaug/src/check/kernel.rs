//! What the kernel is set to.

use anyhow::Context;

use crate::check::Local;
use crate::cluster::Storage;
use crate::finding::Finding;

/// Settings that stand in the way of an address that moves, of CTDB, or of a
/// mount.
pub fn settings(local: &Local<'_>) -> anyhow::Result<Vec<Finding>> {
    let cluster = &local.loaded.cluster;
    let set = |path: &str| {
        let text = std::fs::read_to_string(local.machine.path(path));
        text.ok().map(|text| text.trim().to_owned())
    };
    let mut found = Vec::new();
    // An address that arrives brings connections along of which this node has not
    // seen the beginning. With 0 connection tracking calls all of their packets
    // invalid, the tickles and the clients' answers, and a firewall that drops
    // those leaves the clients waiting.
    if set("/proc/sys/net/netfilter/nf_conntrack_tcp_loose").as_deref() == Some("0") {
        found.push(Finding::warning(
            "conntrack-loose",
            "net.netfilter.nf_conntrack_tcp_loose is 0: with a firewall that drops what is \
             invalid, no client of an address that moves here is told to reconnect",
            "sysctl -w net.netfilter.nf_conntrack_tcp_loose=1, and the same in /etc/sysctl.d",
        ));
    }
    // CTDB finds out which node it is by the first address of its list that it
    // can listen on.
    let nonlocal = set("/proc/sys/net/ipv4/ip_nonlocal_bind");
    if cluster.smb.is_some() && nonlocal.as_deref() == Some("1") {
        found.push(Finding::error(
            "nonlocal-bind",
            "net.ipv4.ip_nonlocal_bind is 1: CTDB takes this node for the first of its list",
            "sysctl -w net.ipv4.ip_nonlocal_bind=0, and find out in /etc/sysctl.d who sets it",
        ));
    }
    let fuse = local.machine.path("/dev/fuse");
    if matches!(cluster.storage, Storage::GlusterFs { .. }) && !fuse.exists() {
        found.push(Finding::error(
            "fuse",
            "there is no /dev/fuse, and GlusterFS is mounted by way of it",
            "modprobe fuse, and `fuse` in a file of /etc/modules-load.d",
        ));
    }
    Ok(found)
}

/// Whether SELinux lets Samba and Ganesha at a mount of FUSE.
pub fn selinux(local: &Local<'_>) -> anyhow::Result<Vec<Finding>> {
    let directory = local.machine.path("/sys/fs/selinux");
    let read = |name: &str| std::fs::read_to_string(directory.join(name));
    if !directory.join("enforce").exists() {
        return Ok(Vec::new());
    }
    let enforce = read("enforce").context("reading whether SELinux enforces")?;
    if enforce.trim() != "1" {
        return Ok(Vec::new());
    }
    let cluster = &local.loaded.cluster;
    let smb = cluster.smb.iter().map(|_| "samba_share_fusefs");
    let nfs = cluster.nfs.iter().map(|_| "ganesha_use_fusefs");
    // The current value, and the one that is pending.
    let off = smb.chain(nfs).filter(|name| {
        read(&format!("booleans/{name}")).is_ok_and(|text| text.trim_start().starts_with('0'))
    });
    Ok(off
        .map(|name| {
            Finding::error(
                "selinux",
                format!("SELinux enforces, and the boolean {name} is off"),
                format!("setsebool -P {name} on"),
            )
        })
        .collect())
}
