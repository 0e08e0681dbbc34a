//! Clients and observers that go on while a story does something.

use std::net::IpAddr;
use std::process::Child;

use anyhow::{Context, Result, bail};
use storhaug_lab::Machine;
use storhaug_lab::script::Script;

use crate::cluster::{Cluster, scratch};

/// Connects to every address all the time.
#[derive(Debug)]
pub struct Watch(Script);

impl Watch {
    pub fn start(cluster: &Cluster) -> Result<Self> {
        let addresses: Vec<String> = cluster.vips.iter().map(IpAddr::to_string).collect();
        let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
        let client = cluster.lab.client();
        Script::start(client, "watch", include_str!("watch.py"), &addresses).map(Self)
    }

    /// For each address the longest time in seconds without a connection.
    pub fn finish(self) -> Result<Vec<(String, f64)>> {
        let parse = |line: &str| -> Result<(String, f64)> {
            let (address, away) = line.split_once(' ').context("the watch says too little")?;
            Ok((address.to_owned(), away.parse()?))
        };
        self.0.finish()?.lines().map(parse).collect()
    }
}

/// Clients that are blocked in a receive.
#[derive(Debug)]
pub struct Waiting(Script);

impl Waiting {
    /// So many of them, at one place on the network; `name` tells them apart
    /// from others.
    pub fn connect(
        place: Machine,
        name: &str,
        vip: IpAddr,
        port: u16,
        count: usize,
    ) -> Result<Self> {
        let arguments = [vip.to_string(), port.to_string(), count.to_string()];
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        Script::start(place, name, include_str!("waiting.py"), &arguments).map(Self)
    }

    /// When each that broke did, up to ten seconds from now, in seconds since
    /// 1970.
    pub fn breaks(self) -> Result<Vec<f64>> {
        let printed = self.0.finish()?;
        printed.lines().map(|line| Ok(line.parse()?)).collect()
    }
}

/// Clients that keep their connections, and connect again when they are reset.
#[derive(Debug)]
pub struct Moving(Script);

/// How such a client fared.
#[derive(Debug)]
pub struct Fared {
    /// The longest time in seconds without an answer; only the first client
    /// asks for one all the time.
    pub silence: f64,
    /// How long the slowest of its further connections took, in seconds.
    pub connecting: f64,
    /// Which node answers in the end.
    pub server: String,
}

impl Moving {
    /// So many of them, each with the same port of its own every time.
    pub fn connect(cluster: &Cluster, vip: IpAddr, port: u16, count: usize) -> Result<Self> {
        let arguments = [vip.to_string(), port.to_string(), count.to_string()];
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let client = cluster.lab.client();
        Script::start(client, "moving", include_str!("moving.py"), &arguments).map(Self)
    }

    /// Every client, the one that asks all the time first.
    pub fn finish(self) -> Result<Vec<Fared>> {
        let parse = |line: &str| -> Result<Fared> {
            let fields: Vec<_> = line.split(' ').collect();
            let [silence, connecting, server] = fields[..] else {
                bail!("a client says `{line}`");
            };
            Ok(Fared {
                silence: silence.parse()?,
                connecting: connecting.parse()?,
                server: server.to_owned(),
            })
        };
        self.0.finish()?.lines().map(parse).collect()
    }
}

/// Something that writes to a server all the time.
#[derive(Debug)]
pub struct Writing {
    _script: Script,
}

impl Writing {
    pub fn start(node: Machine, server: IpAddr, port: u16) -> Result<Self> {
        let arguments = [server.to_string(), port.to_string()];
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let script = Script::start(node, "writing", include_str!("writing.py"), &arguments)?;
        Ok(Self { _script: script })
    }
}

/// A server on a node that keeps connections, answers with its node's name to
/// those who say something, and sees addresses arrive on its node.
#[derive(Debug)]
pub struct Listening(Script);

impl Listening {
    pub fn start(cluster: &Cluster, node: &str, port: u16, vips: &[IpAddr]) -> Result<Self> {
        let vips = vips.iter().map(IpAddr::to_string);
        let arguments: Vec<String> = std::iter::once(port.to_string()).chain(vips).collect();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let node = cluster.lab.node(node);
        Script::start(node, "listening", include_str!("listening.py"), &arguments).map(Self)
    }

    /// When addresses arrived here, in seconds since 1970.
    pub fn arrivals(self) -> Result<Vec<(IpAddr, f64)>> {
        let parse = |line: &str| -> Result<(IpAddr, f64)> {
            let (address, at) = line.split_once(' ').context("a server says too little")?;
            Ok((address.parse()?, at.parse()?))
        };
        self.0.finish()?.lines().map(parse).collect()
    }
}

/// One SMB session that writes.
#[derive(Debug)]
pub struct Session(Script);

impl Session {
    pub fn start(cluster: &Cluster, vip: IpAddr) -> Result<Self> {
        Script::start(
            cluster.lab.client(),
            "session",
            include_str!("session.py"),
            &[&vip.to_string()],
        )
        .map(Self)
    }

    /// How many writes succeeded, none of them failing.
    pub fn finish(self) -> Result<usize> {
        Ok(self.0.finish()?.trim().parse()?)
    }
}

/// Sixteen SMB sessions through all addresses that work on the same files.
#[derive(Debug)]
pub struct Sessions(Script);

impl Sessions {
    pub fn start(cluster: &Cluster) -> Result<Self> {
        let addresses: Vec<String> = cluster.vips.iter().map(IpAddr::to_string).collect();
        let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
        let text = concat!(include_str!("smb2.py"), include_str!("sessions.py"));
        Script::start(cluster.lab.client(), "sessions", text, &addresses).map(Self)
    }

    /// What they did, and in `broken` every promise that was not kept.
    pub fn finish(self) -> Result<serde_json::Value> {
        Ok(serde_json::from_str(&self.0.finish()?)?)
    }
}

/// Programs on a node that count in a file by turns, each under a lock.
#[derive(Debug)]
pub struct Counting(Script);

impl Counting {
    /// Each turn is flushed, or left to the file system.
    pub fn start(cluster: &Cluster, node: &str, file: &str, flush: bool) -> Result<Self> {
        let arguments = [file, if flush { "flush" } else { "leave" }];
        let node = cluster.lab.node(node);
        Script::start(node, "counting", include_str!("counting.py"), &arguments).map(Self)
    }

    /// How many turns they had.
    pub fn finish(self) -> Result<u64> {
        Ok(self.0.finish()?.trim().parse()?)
    }
}

/// Every execve of every process on every node, with arguments and
/// environment.
#[derive(Debug)]
pub struct Trace<'a> {
    cluster: &'a Cluster,
    tracers: Vec<Child>,
}

const STRACE: &str = "strace -f -v -s 65536 -e trace=execve,execveat -e signal=none";
const TRACE: &str = "/var/tmp/execve.trace";

impl<'a> Trace<'a> {
    pub fn start(cluster: &'a Cluster) -> Result<Self> {
        let mut tracers = Vec::new();
        for node in &cluster.nodes {
            let processes = cluster.run(node, "ps -e -o pid=")?;
            let strace = cluster
                .lab
                .node(node)
                .command(STRACE.split(' '))?
                .args(["-o", TRACE])
                .args(processes.split_whitespace().flat_map(|pid| ["-p", pid]));
            tracers.push(strace.spawn(&scratch("strace.log"))?);
        }
        for node in &cluster.nodes {
            cluster.until(30, "init is traced", || {
                let status = cluster.run(node, "cat /proc/1/status")?;
                Ok(status.lines().any(|line| {
                    line.strip_prefix("TracerPid:")
                        .is_some_and(|tracer| tracer.trim() != "0")
                }))
            })?;
        }
        Ok(Self { cluster, tracers })
    }

    /// Runs a command on a node; what it executes. It comes from outside, where
    /// nothing is traced, and so has a tracer of its own.
    pub fn run(&self, node: &str, command: &str) -> Result<String> {
        let traced = format!("{STRACE} --seccomp-bpf -o {TRACE}.run {command}");
        self.cluster.run(node, &traced)?;
        self.cluster.run(node, &format!("cat {TRACE}.run"))
    }

    /// Everything that was executed by what ran at the start, and by its children.
    pub fn finish(mut self) -> Result<String> {
        let mut executed = String::new();
        for (node, tracer) in self.cluster.nodes.iter().zip(&mut self.tracers) {
            self.cluster.run(node, "pkill -INT -x strace")?;
            tracer.wait()?;
            executed += &self.cluster.run(node, &format!("cat {TRACE}"))?;
        }
        Ok(executed)
    }
}

/// The CPU time in seconds that a command on a node uses itself.
pub fn own_cpu(cluster: &Cluster, node: &str, argv: &[&str]) -> Result<f64> {
    let printed = cluster
        .lab
        .node(node)
        .command(["python3", "-"])?
        .args(argv.iter().copied())
        .input(include_str!("cpu.py"))
        .run()?;
    Ok(printed.trim().parse()?)
}
