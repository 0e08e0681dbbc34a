//! A cluster written down again: the TOML form with every key spelled out,
//! which is what is kept in the CIB and what two configurations are compared
//! by.

use std::fmt::Write;

use sha2::{Digest, Sha256};

use super::printer::{Printer, bare};
use crate::cluster::{Cluster, Failover, Fencing, Placement, Storage};

/// Version of the canonical form. It changes with a release that writes the
/// same cluster differently, so that nobody takes that for an edit.
const SCHEMA: u32 = 1;

/// `cluster` in the TOML form, every key written out, always in the same
/// order and without a secret. [`super::from_toml`] gives the same cluster
/// back.
pub fn canonical(cluster: &Cluster) -> String {
    let mut out = Printer::default();
    out.header("[cluster]");
    out.text("name", &cluster.name);
    out.list("nodes", cluster.nodes.iter().map(|node| node.name.as_str()));
    out.text("password_file", &cluster.password_file.to_string_lossy());
    out.text(
        "failover",
        match cluster.failover {
            Failover::Default => "default",
            Failover::Fast => "fast",
        },
    );
    out.text(
        "placement",
        match cluster.placement {
            Placement::Balanced => "balanced",
            Placement::Deterministic => "deterministic",
        },
    );
    for node in &cluster.nodes {
        out.header("[[node]]");
        out.text("name", &node.name);
        out.optional("address", node.address.as_deref());
        out.flag("storage", node.storage);
    }
    out.header("[storage]");
    match &cluster.storage {
        Storage::GlusterFs {
            server,
            mount_dir,
            options,
        } => {
            out.text("type", "glusterfs");
            out.text("mount_dir", &mount_dir.to_string_lossy());
            out.text("server", server);
            out.optional("options", options.as_deref());
        }
        Storage::Mounted { mount_dir } => {
            out.text("type", "mounted");
            out.text("mount_dir", &mount_dir.to_string_lossy());
        }
    }
    for vip in &cluster.vips {
        out.header("[[vip]]");
        match vip.prefix {
            Some(prefix) => out.text("address", &format!("{}/{prefix}", vip.address)),
            None => out.text("address", &vip.address.to_string()),
        }
        out.text("name", &vip.name);
        out.optional("nic", vip.nic.as_deref());
        out.list("prefer", vip.prefer.iter().map(String::as_str));
        // An address has no services where the cluster has none, and there
        // the key would be an error.
        if !vip.services.is_empty() {
            out.list(
                "services",
                vip.services.iter().map(|service| service.as_str()),
            );
        }
    }
    if let Some(smb) = &cluster.smb {
        out.header("[smb]");
        out.list("volumes", smb.volumes.iter().map(String::as_str));
        out.flag("winbind", smb.winbind);
        out.flag("netbios", smb.netbios);
        out.optional("cluster_lock", smb.cluster_lock.as_deref());
    }
    if let Some(nfs) = &cluster.nfs {
        out.header("[nfs]");
        out.text("state_volume", &nfs.state_volume);
        out.text("config", &nfs.config.to_string_lossy());
    }
    out.header("[fencing]");
    match &cluster.fencing {
        Fencing::Refused => out.text("agent", Fencing::REFUSED),
        Fencing::Device {
            agent,
            options,
            nodes,
        } => {
            out.text("agent", agent);
            out.table("options", options);
            for (node, options) in nodes {
                out.table(&format!("nodes.{}", bare(node)), options);
            }
        }
    }
    out.into_text()
}

/// Tells configurations apart: the version of the canonical form, a colon,
/// and the SHA-256 of [`canonical`] in hexadecimal.
pub fn fingerprint(cluster: &Cluster) -> String {
    let hash = Sha256::digest(canonical(cluster));
    hash.iter().fold(format!("{SCHEMA}:"), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
