//! The lab's network: a switch in a network namespace of its own, and one
//! namespace per machine with a cable to it. The host's network is not touched.

use std::fs;
use std::process::ExitStatus;

use anyhow::{Context as _, Result};

use crate::cell;
use crate::command::Cmd;
use crate::layout::{Facts, Layout, PREFIX, PREFIX6, address, address6};

const BRIDGE: &str = "br0";
/// The name of a machine's interface, inside the machine.
pub const INTERFACE: &str = "eth0";
/// The address of what is behind a gateway, and the gateway's beside it.
const INSIDE: &str = "192.168.77.2";
const INSIDE_GATEWAY: &str = "192.168.77.1";
/// Where `ip netns` keeps them.
pub const NAMESPACES: &str = "/run/netns";

/// The state of a switch port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    /// Frames pass.
    Up,
    /// The other end sees no carrier.
    Down,
}

/// The namespace in which the switch is. A further machine (a virtual one, for
/// example) is connected by adding its interface to `br0` there.
pub fn switch(layout: &Layout) -> String {
    layout.namespace("switch")
}

/// Makes the switch.
pub fn create(layout: &Layout) -> Result<()> {
    let switch = switch(layout);
    Cmd::new("ip").args(["netns", "add", &switch]).run()?;
    batch(
        &switch,
        &[
            // No spanning tree and no snooping: frames pass from the first
            // moment, as on a switch that has been up for a while.
            format!("link add {BRIDGE} type bridge stp_state 0 forward_delay 0 mcast_snooping 0"),
            format!("link set {BRIDGE} up"),
        ],
    )
}

/// Gives a machine a new namespace with a cable to the switch. New at every
/// power on, because no address or socket of a machine survives its power.
pub fn plug(layout: &Layout, facts: &Facts, machine: &str, port: Port) -> Result<()> {
    seat(layout, machine, facts.host_number(machine)?)?;
    set_port(layout, machine, port)
}

/// Gives a further place on the network, which has no machine of its own, a
/// new namespace with a cable to the switch. `host` is the last octet of its
/// addresses.
pub fn seat(layout: &Layout, name: &str, host: u8) -> Result<()> {
    let namespace = layout.namespace(name);
    unplug(layout, name)?;
    Cmd::new("ip").args(["netns", "add", &namespace]).run()?;
    batch(
        &switch(layout),
        &[
            format!("link add {name} type veth peer name {INTERFACE} netns {namespace}"),
            format!("link set {name} master {BRIDGE}"),
        ],
    )?;
    batch(
        &namespace,
        &[
            format!("link set {INTERFACE} address 02:00:00:00:77:{host:02x}"),
            format!("addr add {}/{PREFIX} dev {INTERFACE}", address(host)),
            format!(
                "addr add {}/{PREFIX6} dev {INTERFACE} nodad",
                address6(host)
            ),
            "link set lo up".to_owned(),
            format!("link set {INTERFACE} up"),
        ],
    )?;
    set_port(layout, name, Port::Up)
}

/// Gives `inside` a new namespace with a cable to `gateway` alone, a place of
/// [`seat`], which forwards for it. What it translates is for the caller to say.
pub fn behind(layout: &Layout, gateway: &str, inside: &str) -> Result<()> {
    let outer = layout.namespace(gateway);
    let inner = layout.namespace(inside);
    if exists(&inner) {
        Cmd::new("ip").args(["netns", "del", &inner]).run()?;
    }
    Cmd::new("ip").args(["netns", "add", &inner]).run()?;
    batch(
        &outer,
        &[
            format!("link add {inside} type veth peer name {INTERFACE} netns {inner}"),
            format!("addr add {INSIDE_GATEWAY}/{PREFIX} dev {inside}"),
            format!("link set {inside} up"),
        ],
    )?;
    batch(
        &inner,
        &[
            format!("addr add {INSIDE}/{PREFIX} dev {INTERFACE}"),
            "link set lo up".to_owned(),
            format!("link set {INTERFACE} up"),
            format!("route add default via {INSIDE_GATEWAY}"),
        ],
    )?;
    let forward = "/proc/sys/net/ipv4/ip_forward";
    Cmd::new("ip")
        .args(["netns", "exec", &outer, "tee", forward])
        .input("1")
        .run()?;
    Ok(())
}

/// Takes a machine's namespace away, and its cable with it.
pub fn unplug(layout: &Layout, machine: &str) -> Result<()> {
    let namespace = layout.namespace(machine);
    if exists(&namespace) {
        // The cable goes first and by itself: somebody who watches the
        // machine's network from outside may still hold the namespace.
        let _ = port_command(layout, machine, "del")?;
        Cmd::new("ip").args(["netns", "del", &namespace]).run()?;
    }
    Ok(())
}

/// Sets the switch port of a machine.
pub fn set_port(layout: &Layout, machine: &str, port: Port) -> Result<()> {
    let state = match port {
        Port::Up => "up",
        Port::Down => "down",
    };
    batch(&switch(layout), &[format!("link set {machine} {state}")])
}

fn port_command(layout: &Layout, machine: &str, verb: &str) -> Result<ExitStatus> {
    let output = Cmd::new("ip")
        .args(["-n", &switch(layout), "link", verb, machine])
        .output()?;
    Ok(output.status)
}

/// Kills what runs in the lab's namespaces and removes them all.
pub fn destroy(layout: &Layout) -> Result<()> {
    for namespace in existing(&layout.namespaces())? {
        cell::kill_until_gone(&namespace, || {
            let pids = Cmd::new("ip").args(["netns", "pids", &namespace]).run()?;
            Ok(pids
                .split_whitespace()
                .filter_map(|pid| pid.parse().ok())
                .filter(|pid| cell::alive(*pid))
                .collect())
        })?;
        Cmd::new("ip").args(["netns", "del", &namespace]).run()?;
    }
    Ok(())
}

fn exists(namespace: &str) -> bool {
    std::path::Path::new(NAMESPACES).join(namespace).exists()
}

fn existing(prefix: &str) -> Result<Vec<String>> {
    let entries = match fs::read_dir(NAMESPACES) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).context(format!("reading {NAMESPACES}")),
    };
    Ok(entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.starts_with(prefix))
        .collect())
}

/// Several `ip` commands in a namespace, in one process.
fn batch(namespace: &str, commands: &[String]) -> Result<()> {
    Cmd::new("ip")
        .args(["-n", namespace, "-batch", "-"])
        .input(commands.join("\n") + "\n")
        .run()
        .with_context(|| commands.join("; "))?;
    Ok(())
}
