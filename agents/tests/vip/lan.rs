//! A node and a peer on one wire, each in a network namespace of its own, and
//! the agent as Pacemaker calls it.
//!
//! The namespaces belong to the test's thread and to nothing else: when it
//! ends, however it ends, the kernel removes them. `/run` is private as well,
//! so that no daemon of the machine is asked.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};
use serde_json::Value;
use storhaug_agents::deadline::Deadline;
use storhaug_agents::exec::{Cmd, Host, Output, Runner};

/// The node's own addresses on `eth0`; the peer has .2 and ::2.
pub const NODE: [&str; 2] = ["eth0 10.9.0.1/24", "eth0 fd09::1/64"];

/// A node, on which the test's thread is, and a peer.
pub struct Lan {
    node: OwnedFd,
    peer: OwnedFd,
}

impl Lan {
    pub fn new() -> Self {
        unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET).unwrap();
        let nothing = None::<&str>;
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(nothing, "/", nothing, private, nothing).unwrap();
        mount(nothing, "/run", Some("tmpfs"), MsFlags::empty(), nothing).unwrap();
        let node = here();
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let peer = here();
        run("ip link set lo up");
        setns(&node, CloneFlags::CLONE_NEWNET).unwrap();
        run("ip link set lo up");
        let lan = Self { node, peer };
        lan.wire("eth0");
        run("ip addr add 10.9.0.1/24 dev eth0");
        run("ip addr add fd09::1/64 dev eth0 nodad");
        lan.at_peer(|| {
            run("ip addr add 10.9.0.2/24 dev eth0");
            run("ip addr add fd09::2/64 dev eth0 nodad");
        });
        lan
    }

    /// A wire from the node to the peer, called the same at both ends.
    pub fn wire(&self, nic: &str) {
        let (pid, fd) = (std::process::id(), self.peer.as_raw_fd());
        let end = format!("peer name {nic} netns /proc/{pid}/fd/{fd}");
        run(&format!("ip link add {nic} type veth {end}"));
        run(&format!("ip link set {nic} up"));
        self.at_peer(|| run(&format!("ip link set {nic} up")));
    }

    /// Does something on the peer.
    pub fn at_peer<T>(&self, work: impl FnOnce() -> T) -> T {
        setns(&self.peer, CloneFlags::CLONE_NEWNET).unwrap();
        let result = work();
        setns(&self.node, CloneFlags::CLONE_NEWNET).unwrap();
        result
    }

    /// From now on, keeps what the peer receives.
    pub fn capture(&self) -> Capture {
        let fd = self.at_peer(|| {
            let protocol = SockProtocol::EthAll;
            let flags = SockFlag::SOCK_CLOEXEC;
            socket(AddressFamily::Packet, SockType::Raw, flags, protocol).unwrap()
        });
        setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::seconds(10)).unwrap();
        Capture(fd)
    }
}

fn here() -> OwnedFd {
    File::open("/proc/thread-self/ns/net").unwrap().into()
}

/// Frames on the wire.
pub struct Capture(OwnedFd);

impl Capture {
    /// The first frame with these bytes at these offsets, among those that came
    /// and those that come within ten seconds.
    pub fn find(&self, wanted: &[(usize, &[u8])]) -> Vec<u8> {
        let mut frame = [0; 2048];
        loop {
            let length = recv(self.0.as_raw_fd(), &mut frame, MsgFlags::empty())
                .unwrap_or_else(|error| panic!("no frame with {wanted:x?} came: {error}"));
            if matches(&frame[..length], wanted) {
                return frame[..length].to_vec();
            }
        }
    }

    /// How many such frames there are among those that came until now.
    pub fn count(&self, wanted: &[(usize, &[u8])]) -> usize {
        let mut frame = [0; 2048];
        let mut count = 0;
        loop {
            match recv(self.0.as_raw_fd(), &mut frame, MsgFlags::MSG_DONTWAIT) {
                Ok(length) => count += usize::from(matches(&frame[..length], wanted)),
                Err(Errno::EAGAIN) => return count,
                Err(error) => panic!("{error}"),
            }
        }
    }
}

fn matches(frame: &[u8], wanted: &[(usize, &[u8])]) -> bool {
    wanted
        .iter()
        .all(|(offset, bytes)| frame.get(*offset..*offset + bytes.len()) == Some(bytes))
}

/// Runs a command where the thread is, and returns its output.
pub fn run(words: &str) -> String {
    let mut words = words.split_whitespace();
    let cmd = Cmd::new(words.next().unwrap()).args(words);
    Host.run(&cmd, minute()).unwrap().checked().unwrap()
}

/// Every address but those of the loopback interface and the link-local ones,
/// as `INTERFACE ADDRESS/PREFIX`.
pub fn addresses() -> BTreeSet<String> {
    let links: Value = serde_json::from_str(&run("ip -j addr")).unwrap();
    let mut found = BTreeSet::new();
    for link in links.as_array().unwrap() {
        for address in link["addr_info"].as_array().unwrap() {
            let (nic, ip) = (text(&link["ifname"]), text(&address["local"]));
            if nic != "lo" && !ip.starts_with("fe80:") {
                found.insert(format!("{nic} {ip}/{}", address["prefixlen"]));
            }
        }
    }
    found
}

/// What `ip` says of one address.
pub fn address(ip: &str) -> Value {
    let links: Value = serde_json::from_str(&run("ip -j addr")).unwrap();
    let mut all = links
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|link| link["addr_info"].as_array().unwrap().iter().cloned());
    all.find(|address| address["local"] == ip).unwrap()
}

/// The hardware address of `eth0` where the thread is.
pub fn mac() -> String {
    let links: Value = serde_json::from_str(&run("ip -j link show eth0")).unwrap();
    text(&links[0]["address"])
}

/// Where the thread's kernel believes a neighbour to be.
pub fn neighbour(ip: &str) -> String {
    let entries: Value = serde_json::from_str(&run("ip -j neigh show dev eth0")).unwrap();
    let entry = entries
        .as_array()
        .unwrap()
        .iter()
        .find(|entry| entry["dst"] == ip);
    entry
        .map(|entry| text(&entry["lladdr"]))
        .unwrap_or_default()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Far more than anything here takes.
pub fn minute() -> Deadline {
    Deadline::after(Duration::from_secs(60))
}

/// The resource.
#[derive(Clone)]
pub struct Vip(Vec<(&'static str, String)>);

impl Vip {
    pub fn new(ip: &str) -> Self {
        Self(vec![("OCF_RESKEY_ip", ip.to_owned())])
    }

    /// With another parameter, by its variable.
    pub fn with(mut self, variable: &'static str, value: &str) -> Self {
        self.0.push((variable, value.to_owned()));
        self
    }

    pub fn start(&self) -> Answer {
        self.call("start", &[])
    }

    pub fn stop(&self) -> Answer {
        self.call("stop", &[])
    }

    /// A recurring monitor.
    pub fn monitor(&self) -> Answer {
        self.call("monitor", &[("OCF_RESKEY_CRM_meta_interval", "10000")])
    }

    /// A recurring monitor on a node where the address shall not be.
    pub fn monitor_stopped(&self) -> Answer {
        let interval = ("OCF_RESKEY_CRM_meta_interval", "30000");
        self.call(
            "monitor",
            &[interval, ("OCF_RESKEY_CRM_meta_role", "Stopped")],
        )
    }

    /// A recurring monitor that also looks for another holder.
    pub fn deep_monitor(&self) -> Answer {
        let interval = ("OCF_RESKEY_CRM_meta_interval", "60000");
        self.call("monitor", &[interval, ("OCF_CHECK_LEVEL", "10")])
    }

    pub fn probe(&self) -> Answer {
        self.call("monitor", &[])
    }

    pub fn call(&self, action: &str, more: &[(&str, &str)]) -> Answer {
        let mut cmd = Cmd::new(env!("CARGO_BIN_EXE_vip"))
            .arg(action)
            .env("OCF_RESOURCE_INSTANCE", "vip1")
            .env("OCF_RESOURCE_TYPE", "vip")
            .env("OCF_RESKEY_CRM_meta_timeout", "20000");
        for (name, value) in &self.0 {
            cmd = cmd.env(name, value);
        }
        for (name, value) in more {
            cmd = cmd.env(name, value);
        }
        Answer::from(Host.run(&cmd, minute()).unwrap())
    }
}

/// What the agent answered.
#[derive(Debug)]
pub struct Answer {
    pub code: i32,
    /// The exit reason, empty where there is none.
    pub reason: String,
    pub log: String,
}

impl From<Output> for Answer {
    fn from(output: Output) -> Self {
        assert_eq!(output.text(), "", "standard output is for metadata alone");
        let log = String::from_utf8(output.stderr.clone()).unwrap();
        let reasons: Vec<_> = log
            .lines()
            .filter_map(|line| line.strip_prefix("ocf-exit-reason:"))
            .collect();
        assert!(reasons.len() < 2, "{log}");
        Self {
            code: output.code().unwrap(),
            reason: reasons.concat(),
            log,
        }
    }
}

impl Answer {
    /// Success.
    #[track_caller]
    pub fn ok(&self) {
        assert_eq!((self.code, self.reason.as_str()), (0, ""), "{self:?}");
    }

    /// This code, with a reason that has these words in it.
    #[track_caller]
    pub fn fails(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, code, "{self:?}");
        for word in words {
            assert!(self.reason.contains(word), "no {word:?} in {self:?}");
        }
    }

    /// Cleanly stopped.
    #[track_caller]
    pub fn not_running(&self) {
        assert_eq!((self.code, self.reason.as_str()), (7, ""), "{self:?}");
    }
}

/// Sets a switch of the kernel's IPv4 or IPv6 for `eth0`.
pub fn sysctl(family: &str, name: &str, value: &str) {
    fs::write(format!("/proc/sys/net/{family}/conf/eth0/{name}"), value).unwrap();
}
