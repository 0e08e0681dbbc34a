//! Who uses the address while something happens, and what each has seen of it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::{Context as _, Result};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::PORT;
use super::figures::{Clients, Kernel, Spread, Told};
use crate::script::{Place, Script};
use crate::{Lab, vm};

/// Of each way to the address.
const IDLE: usize = 100;
const WRITERS: usize = 100;
const SESSIONS: usize = 50;

/// By three ways.
pub const SMB_CONNECTIONS: usize = 3 * SESSIONS;
/// What an address has to have for all of them to be there.
pub const CONNECTIONS: usize = 3 * (IDLE + WRITERS) + SMB_CONNECTIONS;

/// Where the kernel's SMB client has its mount.
const MOUNT: &str = "/mnt";

/// All that watch one address.
#[derive(Debug)]
pub struct Watchers {
    servers: Vec<(String, Script)>,
    crowds: Vec<(&'static str, Script)>,
    kernel: Script,
    fresh: Script,
}

/// What those have seen who were there before the event.
#[derive(Debug)]
pub struct Seen {
    /// The kernel's SMB client.
    pub kernel: Kernel,
    /// By the way to the address.
    pub clients: BTreeMap<String, Crowd>,
    /// When the address arrived on a node, in seconds since 1970.
    pub arrivals: Vec<f64>,
}

/// What a crowd prints.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Crowd {
    idle: Vec<f64>,
    sessions: Vec<f64>,
    gaps: Vec<f64>,
}

/// When new connections succeeded: begin and end.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fresh {
    /// To the listener.
    pub tcp: Vec<(f64, f64)>,
    /// SMB sessions.
    pub smb: Vec<(f64, f64)>,
}

/// The latest of them.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Latest {
    tcp: Option<(f64, f64)>,
    smb: Option<(f64, f64)>,
}

impl Watchers {
    /// Starts listeners on all nodes and all who use `address`, and waits until
    /// they do.
    pub fn start(lab: &Lab, address: IpAddr) -> Result<Self> {
        let (address, port) = (address.to_string(), PORT.to_string());
        let mut servers = Vec::new();
        for node in lab.nodes() {
            let arguments = [port.as_str(), &address];
            let name = node.name().to_owned();
            let server = Script::start(node, "server", include_str!("server.py"), &arguments)?;
            servers.push((name, server));
        }
        let [idle, writers, sessions] = [IDLE, WRITERS, SESSIONS].map(|count| count.to_string());
        let arguments = [address.as_str(), &port, &idle, &writers, &sessions];
        let mut crowds = Vec::new();
        for (way, place) in [
            ("plain", lab.client()),
            ("firewall", lab.firewalled()?),
            ("nat", lab.gateway()?),
        ] {
            let crowd = Script::start(place, way, include_str!("crowd.py"), &arguments)?;
            crowds.push((way, crowd));
        }
        let kernel = mount(lab, &address)?;
        let arguments = [address.as_str(), &port];
        let fresh = Script::start(lab.client(), "fresh", include_str!("fresh.py"), &arguments)?;
        Ok(Self {
            servers,
            crowds,
            kernel,
            fresh,
        })
    }

    /// Whether new connections of both kinds that began after `moment` have
    /// succeeded.
    pub fn served_since(&self, moment: f64) -> Result<bool> {
        let latest: Latest = parse(&self.fresh.latest()?)?;
        let since = |times: Option<(f64, f64)>| times.is_some_and(|(begun, _)| begun >= moment);
        Ok(since(latest.tcp) && since(latest.smb))
    }

    /// Ends those who were there before the event, after the time in which they
    /// may still learn of it. The listener on a node that was lost has nothing
    /// to say. New connections go on.
    pub fn leave(self, lost: Option<&str>) -> Result<(Seen, Script)> {
        for (_, crowd) in &self.crowds {
            crowd.stop()?;
        }
        let mut clients = BTreeMap::new();
        for (way, crowd) in self.crowds {
            let printed = crowd.finish().with_context(|| format!("clients: {way}"))?;
            clients.insert(way.to_owned(), parse(&printed)?);
        }
        let mut arrivals: Vec<f64> = Vec::new();
        for (node, server) in self.servers {
            if Some(node.as_str()) != lost {
                arrivals.extend(parse::<Vec<f64>>(&server.finish()?)?);
            }
        }
        let kernel = parse(&self.kernel.finish().context("the kernel's client")?)?;
        let seen = Seen {
            kernel,
            clients,
            arrivals,
        };
        Ok((seen, self.fresh))
    }
}

impl Crowd {
    /// The same as figures; `since` is when the address was up again.
    pub fn figures(&self, since: f64) -> Result<Clients> {
        Ok(Clients {
            idle: Told::new(IDLE, &self.idle, since),
            sessions: Told::new(SESSIONS, &self.sessions, since),
            gap_s: Spread::new(self.gaps.clone())?,
        })
    }
}

impl Fresh {
    /// Ends the making of new connections.
    pub fn finish(script: Script) -> Result<Self> {
        parse(&script.finish()?)
    }
}

/// Has the kernel's SMB client write through an address.
fn mount(lab: &Lab, address: &str) -> Result<Script> {
    vm::start(lab)?;
    let place = Place::Vm(lab.clone());
    // That of an earlier measurement; its server may be gone.
    place.command(&["umount", "-l", MOUNT])?.output()?;
    let share = format!("//{address}/share");
    let mount = [
        "mount",
        "-t",
        "cifs",
        "-o",
        "guest,vers=3.1.1",
        &share,
        MOUNT,
    ];
    place.command(&mount)?.run()?;
    let file = format!("{MOUNT}/kernel.dat");
    Script::start(place, "kernel", include_str!("kernel.py"), &[&file])
}

fn parse<T: DeserializeOwned>(printed: &str) -> Result<T> {
    serde_json::from_str(printed).with_context(|| format!("reading `{}`", printed.trim_end()))
}
