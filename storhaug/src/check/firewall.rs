//! Firewalls: what has to pass between the nodes, and from clients to them.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Context;
use serde_json::Value as Json;
use storhaug_agents::deadline::Deadline;
use storhaug_agents::exec::Cmd;

use crate::check::Local;
use crate::check::units::{self, Unit};
use crate::cluster::{Cluster, Storage};
use crate::finding::Finding;
use crate::xml::Element;

/// How long nft may take for its rules.
const ANSWER: Duration = Duration::from_secs(20);

/// What firewalld calls what is needed.
fn services(cluster: &Cluster) -> Vec<&'static str> {
    let mut services = vec!["high-availability"];
    if cluster.smb.is_some() {
        services.extend(["ctdb", "samba"]);
    }
    if cluster.nfs.is_some() {
        services.push("nfs");
    }
    if matches!(cluster.storage, Storage::GlusterFs { .. }) {
        services.push("glusterfs");
    }
    services
}

/// The ports of what is needed.
fn ports(cluster: &Cluster) -> String {
    let mut ports = vec!["2224/tcp (pcsd)", "5404-5412/udp (Corosync)"];
    if cluster.smb.is_some() {
        ports.extend(["4379/tcp (CTDB)", "445/tcp (SMB)"]);
    }
    if cluster.nfs.is_some() {
        ports.push("2049/tcp (NFS)");
    }
    if matches!(cluster.storage, Storage::GlusterFs { .. }) {
        ports.push("24007/tcp and 49152 and up/tcp (GlusterFS)");
    }
    ports.join(", ")
}

/// Whether firewalld, where it runs, lets in what is needed, by its files
/// (firewalld.zone(5)).
pub fn zones(local: &Local<'_>) -> anyhow::Result<Vec<Finding>> {
    const UNIT: &str = "firewalld.service";
    let units = units::show(local.machine.runner, &[UNIT])?;
    let runs = |unit: &Unit| unit.id == UNIT && unit.active == "active";
    if !units.iter().any(runs) {
        return Ok(Vec::new());
    }
    let read = |path: &str| std::fs::read_to_string(local.machine.path(path)).ok();
    let settings = read("/etc/firewalld/firewalld.conf").unwrap_or_default();
    let mut lines = settings.lines().filter_map(|line| line.split_once('='));
    let default = lines.find(|(key, _)| key.trim() == "DefaultZone");
    let default = default.map_or("public", |(_, value)| value.trim());
    let own = std::fs::read_dir(local.machine.path("/etc/firewalld/zones"));
    let own = own.into_iter().flatten().flatten();
    let own =
        own.filter_map(|file| Some(file.file_name().to_str()?.strip_suffix(".xml")?.to_owned()));
    let names: BTreeSet<String> = own.chain([default.to_owned()]).collect();
    let mut allowed = BTreeSet::new();
    for name in names {
        let places = ["/etc/firewalld/zones", "/usr/lib/firewalld/zones"];
        let Some(text) = places
            .iter()
            .find_map(|dir| read(&format!("{dir}/{name}.xml")))
        else {
            continue;
        };
        let zone = Element::parse(&text).with_context(|| format!("reading firewalld's {name}"))?;
        let bound = zone.find("interface").or(zone.find("source")).is_some();
        if name != default && !bound {
            continue;
        }
        if zone.get("target") == Some("ACCEPT") {
            return Ok(Vec::new());
        }
        let services = zone
            .all("service")
            .filter_map(|service| service.get("name"));
        allowed.extend(services.map(str::to_owned));
    }
    let missing = services(&local.loaded.cluster).into_iter();
    let missing: Vec<&str> = missing.filter(|name| !allowed.contains(*name)).collect();
    if missing.is_empty() {
        return Ok(Vec::new());
    }
    let add: Vec<String> = missing
        .iter()
        .map(|name| format!("--add-service={name}"))
        .collect();
    Ok(vec![Finding::warning(
        "firewalld",
        format!("no zone of firewalld in use lets in {}", missing.join(", ")),
        format!(
            "firewall-cmd --permanent {}, in the zone of the interface, and firewall-cmd --reload; \
             unless the ports are let in otherwise",
            add.join(" ")
        ),
    )])
}

/// Whether some other chain drops what no rule of it accepts.
pub fn chains(local: &Local<'_>) -> anyhow::Result<Vec<Finding>> {
    let cmd = Cmd::new("nft").args(["--json", "list", "chains"]);
    let output = local.machine.runner.run(&cmd, Deadline::after(ANSWER))?;
    let told: Json = serde_json::from_str(&output.checked()?).context("reading nft's answer")?;
    let objects = told["nftables"].as_array().map_or(&[][..], Vec::as_slice);
    let dropping = objects.iter().map(|object| &object["chain"]);
    let dropping = dropping.filter(|chain| {
        chain["hook"] == "input" && chain["policy"] == "drop" && chain["table"] != "firewalld"
    });
    let text = |value: &Json| value.as_str().unwrap_or_default().to_owned();
    Ok(dropping
        .map(|chain| {
            let names = ["family", "table", "name"].map(|part| text(&chain[part]));
            Finding::note(
                "netfilter-drops",
                format!(
                    "the chain {} drops what none of its rules accepts",
                    names.join(" ")
                ),
                format!("see that it accepts {}", ports(&local.loaded.cluster)),
            )
        })
        .collect())
}
