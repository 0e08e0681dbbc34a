//! What clusters are built of, side by side on the same lab.
//!
//! All have the same nodes, Gluster volumes, smb.conf, addresses and fencing,
//! and, where there is a Corosync, pcs's own timeouts, except the last.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{PORT, clients};
use crate::cluster::ctdb_nodes;
use crate::layout::{FENCE_DIR, PREFIX};
use crate::network::INTERFACE;
use crate::{Lab, Machine, smb, wait};

const CONF: &str = "/etc/storhaug/storhaug.conf";
const PASSWORD: &str = "/etc/storhaug/hacluster.password";
/// Ten times what it takes.
const SETUP: Duration = Duration::from_secs(600);
/// A node that boots and rejoins, on a busy machine.
const SETTLED: Duration = Duration::from_secs(240);
/// The same in parts, with failures forgiven between them.
const ROUND: Duration = Duration::from_secs(120);
const ROUNDS: u32 = 4;
const MOUNTS: &str = "/run/storhaug";

/// What a cluster is built of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Stack {
    /// `ocf:heartbeat:CTDB` with its lock on a Gluster volume, `IPaddr2`.
    Ipaddr2,
    /// The same with `ocf:heartbeat:portblock`, its tickles' list on that
    /// volume.
    PortblockGluster,
    /// The same with the list in a directory that all nodes share and that
    /// cannot hang.
    PortblockLocal,
    /// CTDB alone, which has the addresses.
    Ctdb,
    /// Storhaug.
    Storhaug,
    /// Storhaug with `failover = "fast"`.
    Fast,
}

impl Stack {
    /// All of them, in the order of the tables.
    pub const ALL: [Self; 6] = [
        Self::Ipaddr2,
        Self::PortblockGluster,
        Self::PortblockLocal,
        Self::Ctdb,
        Self::Storhaug,
        Self::Fast,
    ];

    /// Whether it is ours.
    pub fn ours(self) -> bool {
        matches!(self, Self::Storhaug | Self::Fast)
    }

    /// Builds the cluster in a lab that is new.
    pub fn set_up(self, lab: &Lab) -> Result<()> {
        match self {
            Self::Ipaddr2 => stock(lab, None),
            Self::PortblockGluster => stock(lab, Some(&format!("{MOUNTS}/ctdb/tickles"))),
            Self::PortblockLocal => stock(lab, Some(&format!("{FENCE_DIR}/tickles"))),
            Self::Ctdb => ctdb(lab),
            Self::Storhaug => storhaug(lab),
            Self::Fast => {
                let node = first(lab)?;
                let text = node.run(["cat", CONF])?;
                let fast = text.replacen("[cluster]\n", "[cluster]\nfailover = \"fast\"\n", 1);
                node.write(CONF, fast.as_bytes(), 0o644)?;
                storhaug(lab)
            }
        }
    }

    /// Waits until all nodes are in the cluster and every address serves.
    pub fn settle(self, lab: &Lab) -> Result<()> {
        if self != Self::Ctdb {
            let mut settled = lab.settle(&lab.vips(), ROUND);
            for _ in 1..ROUNDS {
                if settled.is_ok() {
                    break;
                }
                // What failed because of the event would count in the next.
                first(lab)?.run(["crm_resource", "--cleanup"])?;
                settled = lab.settle(&lab.vips(), ROUND);
            }
            return settled;
        }
        wait::until_true("CTDB is whole and serves", SETTLED, || {
            for node in lab.nodes() {
                let seen = ctdb_nodes(&node)?;
                ensure!(
                    seen.len() == lab.nodes().len() && seen.iter().all(|node| node.healthy),
                    "CTDB is not healthy everywhere: {seen:?}"
                );
            }
            for address in lab.vips() {
                ensure!(lab.holder(address)?.is_some(), "{address} is nowhere");
                smb::run_within(lab, address, "ls", Vec::new(), Duration::from_secs(10))?;
            }
            Ok(true)
        })
    }

    /// Waits until the stack knows the connections of an address on the nodes
    /// that may take it over; those that list them do so now and then. What a
    /// stock stack does not know after that long, it never will.
    pub fn learn(self, lab: &Lab, holder: &str, address: IpAddr) -> Result<()> {
        let other = lab.nodes().into_iter().find(|node| node.name() != holder);
        let other = other.context("there is no other node")?;
        let lines = |argv: &[&str]| -> Result<usize> {
            Ok(other.exec(argv.iter().copied())?.stdout().lines().count())
        };
        let all = clients::CONNECTIONS;
        let known = |what, seconds, known: &dyn Fn() -> Result<bool>| {
            wait::until_true(what, Duration::from_secs(seconds), known)
        };
        let listed = match self {
            Self::Ipaddr2 => return Ok(()),
            Self::PortblockGluster => {
                let list = format!("{MOUNTS}/ctdb/tickles/{address}");
                known("portblock's list", 30, &|| {
                    Ok(lines(&["cat", &list])? >= all)
                })
            }
            Self::PortblockLocal => {
                let list = format!("{FENCE_DIR}/tickles/{address}");
                known("portblock's list", 30, &|| {
                    Ok(lines(&["cat", &list])? >= all)
                })
            }
            Self::Ctdb => {
                let list = ["ctdb", "-X", "gettickles", &address.to_string()].map(str::to_owned);
                let list = list.each_ref().map(String::as_str);
                known("CTDB's list", 45, &|| {
                    Ok(lines(&list)? >= clients::SMB_CONNECTIONS)
                })
            }
            Self::Storhaug | Self::Fast => {
                let status = ["storhaug", "status", "--output", "json"];
                return known("every connection is known", 30, &|| {
                    let status: Value = serde_json::from_str(&other.exec(status)?.stdout())?;
                    let addresses = status["addresses"].as_array().context("no addresses")?;
                    let clients = addresses
                        .iter()
                        .find(|entry| entry["address"] == address.to_string())
                        .and_then(|entry| entry["clients"].as_u64())
                        .context("the daemon says nothing of the address")?;
                    Ok(usize::try_from(clients)? >= all)
                });
            }
        };
        if let Err(error) = listed {
            eprintln!("{self}: {error:#}");
        }
        Ok(())
    }
}

impl fmt::Display for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ipaddr2 => "ipaddr2",
            Self::PortblockGluster => "portblock-gluster",
            Self::PortblockLocal => "portblock-local",
            Self::Ctdb => "ctdb",
            Self::Storhaug => "storhaug",
            Self::Fast => "fast",
        })
    }
}

fn first(lab: &Lab) -> Result<Machine> {
    lab.nodes().into_iter().next().context("a lab has nodes")
}

fn storhaug(lab: &Lab) -> Result<()> {
    let setup = first(lab)?.command(["storhaug", "setup"])?;
    setup.limit(SETUP).run().map(drop)
}

/// The cluster that one builds with pcs and the agents of Debian's
/// resource-agents; with portblock after every address if there is a directory
/// for its lists.
fn stock(lab: &Lab, tickles: Option<&str>) -> Result<()> {
    let node = first(lab)?;
    write_nodes(lab)?;
    let names = lab.facts().node_names();
    let password = node.run(["cat", PASSWORD])?;
    let auth = ["pcs", "host", "auth", "-u", "hacluster"];
    node.command(auth)?.args(&names).input(password).run()?;
    let setup = node.command(["pcs", "cluster", "setup", "lab"])?;
    setup
        .args(&names)
        .args(["--start", "--enable", "--wait=120"])
        .limit(SETUP)
        .run()?;

    let pcs = |line: &str| -> Result<()> {
        let pcs = node.command(["pcs"])?.args(line.split(' '));
        pcs.limit(SETUP).run().map(drop)
    };
    // Nothing starts before it is told with what and after what.
    pcs("property set stonith-enabled=true no-quorum-policy=stop stop-all-resources=true")?;
    for name in &names {
        pcs(&format!(
            "stonith create fence-{name} fence_lab socket={FENCE_DIR}/socket plug={name} pcmk_host_list={name}"
        ))?;
        pcs(&format!("constraint location fence-{name} avoids {name}"))?;
    }
    for volume in ["ctdb", "share"] {
        pcs(&format!(
            "resource create {volume}-mount ocf:heartbeat:Filesystem fstype=glusterfs \
             device=localhost:/{volume} directory={MOUNTS}/{volume} clone interleave=true"
        ))?;
    }
    for line in [
        &format!(
            "resource create ctdb ocf:heartbeat:CTDB ctdb_recovery_lock={MOUNTS}/ctdb/lock \
             op monitor interval=10s timeout=20s clone interleave=true"
        ),
        "resource create samba systemd:smbd op monitor interval=10s clone interleave=true",
        "constraint order ctdb-mount-clone then ctdb-clone",
        "constraint colocation add ctdb-clone with ctdb-mount-clone",
        "constraint order ctdb-clone then samba-clone",
        "constraint colocation add samba-clone with ctdb-clone",
        "constraint order share-mount-clone then samba-clone",
        "constraint colocation add samba-clone with share-mount-clone",
    ] {
        pcs(line)?;
    }
    if let Some(dir) = tickles {
        let point = format!("{MOUNTS}/ctdb");
        node.run(["mkdir", "-p", &point])?;
        node.run(["mount", "-t", "glusterfs", "localhost:/ctdb", &point])?;
        node.run(["mkdir", "-p", dir])?;
        node.run(["umount", &point])?;
    }
    for (number, address) in (1..).zip(lab.vips()) {
        let vip = format!("vip{number}");
        let address = format!("ip={address}");
        let ip = format!(
            "resource create {vip} ocf:heartbeat:IPaddr2 {address} cidr_netmask={PREFIX} \
             op monitor interval=10s"
        );
        let Some(dir) = tickles else {
            pcs(&ip)?;
            pcs(&format!("constraint order samba-clone then {vip}"))?;
            pcs(&format!("constraint colocation add {vip} with samba-clone"))?;
            continue;
        };
        let unblock = format!("ocf:heartbeat:portblock protocol=tcp portno=445,{PORT} {address}");
        let group = format!("{vip}-group");
        pcs(&format!("{ip} --group {group}"))?;
        // Its other half, the blocking, is left out: with iptables 1.8.9 and
        // later it never finds its own rule again, and so never lifts it.
        pcs(&format!(
            "resource create {vip}-unblock {unblock} action=unblock tickle_dir={dir} --group {group}"
        ))?;
        pcs(&format!("constraint order samba-clone then {group}"))?;
        pcs(&format!(
            "constraint colocation add {group} with samba-clone"
        ))?;
    }
    pcs("property set stop-all-resources=false")
}

/// CTDB with public addresses, which starts and watches Samba; no Corosync, no
/// Pacemaker, no fencing.
fn ctdb(lab: &Lab) -> Result<()> {
    write_nodes(lab)?;
    let mut addresses = String::new();
    for address in lab.vips() {
        addresses += &format!("{address}/{PREFIX} {INTERFACE}\n");
    }
    let conf =
        format!("[logging]\nlocation = syslog\n[cluster]\nrecovery lock = {MOUNTS}/ctdb/lock\n");
    for node in lab.nodes() {
        node.write("/etc/ctdb/public_addresses", addresses.as_bytes(), 0o644)?;
        node.write("/etc/ctdb/ctdb.conf", conf.as_bytes(), 0o644)?;
        for script in [
            "00.ctdb",
            "01.reclock",
            "05.system",
            "10.interface",
            "50.samba",
        ] {
            node.run(["ctdb", "event", "script", "enable", "legacy", script])?;
        }
    }
    lab.nodes().iter().try_for_each(start_ctdb)
}

fn start_ctdb(node: &Machine) -> Result<()> {
    for volume in ["ctdb", "share"] {
        let point = format!("{MOUNTS}/{volume}");
        node.run(["mkdir", "-p", &point])?;
        let device = format!("localhost:/{volume}");
        node.run(["mount", "-t", "glusterfs", &device, &point])?;
    }
    node.run(["systemctl", "start", "ctdb"]).map(drop)
}

fn write_nodes(lab: &Lab) -> Result<()> {
    let mut text = String::new();
    for node in lab.facts().node_names() {
        text += &format!("{}\n", lab.facts().address(&node)?);
    }
    lab.nodes()
        .iter()
        .try_for_each(|node| node.write("/etc/ctdb/nodes", text.as_bytes(), 0o644))
}
