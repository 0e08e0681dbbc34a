//! Hosts in network namespaces on one switch, each with a file system view in
//! which `/run`, `/dev/shm` and Corosync's directories are its own, so that a real
//! Corosync and the real daemon run on each.
//!
//! A host is a thread that has moved into namespaces of its own: what it starts
//! and what sockets it makes are there. Everything is gone with the threads.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "for tests, each of which uses its part of it"
)]

use std::fs;
use std::io::Read;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::gettid;
use storhaug_agents::daemon::{Daemon, Known, Status};
use storhaug_agents::deadline::{Deadline, until};
use storhaug_agents::exec::{Cmd, Host as Machine, Runner};

type Job = Box<dyn FnOnce() + Send>;

/// Long enough for anything that happens at all, on a busy machine.
pub const SOON: Duration = Duration::from_secs(30);

/// How often a condition is looked at.
pub const OFTEN: Duration = Duration::from_millis(5);

/// A thread in namespaces of its own, and what runs there.
#[derive(Debug)]
pub struct Host {
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    tid: i32,
    pub directory: PathBuf,
    corosync: Option<Child>,
    noded: Option<Child>,
}

impl Host {
    fn new(directory: PathBuf) -> Self {
        fs::create_dir_all(&directory).unwrap();
        let (jobs, work) = channel::<Job>();
        let (ready, tid) = channel();
        let thread = std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).unwrap();
            let none: Option<&str> = None;
            let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
            mount(none, "/", none, private, none).unwrap();
            // What is killed leaves its buffers in `/dev/shm`.
            for directory in ["/run", "/etc/corosync", "/var/lib/corosync", "/dev/shm"] {
                mount(
                    Some("tmpfs"),
                    directory,
                    Some("tmpfs"),
                    MsFlags::empty(),
                    none,
                )
                .unwrap();
            }
            ready.send(gettid().as_raw()).unwrap();
            work.iter().for_each(|job| job());
        });
        Self {
            jobs: Some(jobs),
            thread: Some(thread),
            tid: tid.recv().unwrap(),
            directory,
            corosync: None,
            noded: None,
        }
    }

    /// Does something on this host.
    pub fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, result) = channel();
        let job: Job = Box::new(move || drop(done.send(job())));
        self.jobs.as_ref().unwrap().send(job).unwrap();
        result.recv().unwrap()
    }

    /// Runs a command here, which succeeds, and returns what it says.
    pub fn command(&self, words: &str) -> String {
        let words: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
        self.run(move || {
            let cmd = Cmd::new(&words[0]).args(&words[1..]);
            Machine
                .run(&cmd, Deadline::after(SOON))
                .unwrap()
                .checked()
                .unwrap()
        })
    }

    /// Puts a firewall in front of this host that knows connections and drops
    /// what belongs to none, as firewalld's does.
    pub fn guard(&self) {
        self.filter("ct state established,related accept\nct state invalid drop");
    }

    /// Applies rules of nftables to what arrives here.
    pub fn filter(&self, rules: &str) {
        let rules = format!(
            "table inet guard {{\nchain input {{\ntype filter hook input priority 0\n{rules}\n}}\n}}\n"
        );
        self.run(move || {
            let nft = Cmd::new("nft").args(["-f", "-"]).stdin(rules);
            Machine.run(&nft, soon()).unwrap().checked().unwrap()
        });
    }

    /// Starts a program here, which is killed with the host; what it says goes
    /// to a file.
    pub fn spawn(&self, program: &Path, arguments: &[&str]) -> Child {
        let name = program.file_name().unwrap().to_str().unwrap();
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.directory.join(format!("{name}.log")))
            .unwrap();
        let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", self.directory.display());
        #[expect(
            clippy::disallowed_methods,
            reason = "a daemon for as long as the test"
        )]
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env("PATH", path)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .process_group(0);
        self.run(move || command.spawn().unwrap())
    }

    /// Gives this host an address on the switch.
    pub fn add(&self, address: &str) {
        let nodad = if address.contains(':') { "nodad" } else { "" };
        self.command(&format!("ip addr add {address} dev eth0 {nodad}"));
    }

    /// Takes it away.
    pub fn remove(&self, address: &str) {
        self.command(&format!("ip addr del {address} dev eth0"));
    }

    /// Starts the daemon.
    pub fn start_noded(&mut self) {
        let socket = self.socket();
        let arguments = ["--log", "debug", "--socket", socket.to_str().unwrap()];
        self.noded = Some(self.spawn(Path::new(env!("CARGO_BIN_EXE_storhaug-noded")), &arguments));
        let daemon = self.daemon();
        wait("storhaug-noded to answer", || daemon.status(soon()).ok());
    }

    /// Kills the daemon.
    pub fn kill_noded(&mut self) {
        kill(self.noded.take());
    }

    /// Kills Corosync.
    pub fn kill_corosync(&mut self) {
        kill(self.corosync.take());
    }

    fn socket(&self) -> PathBuf {
        self.directory.join("noded.sock")
    }

    /// A client of the daemon.
    pub fn daemon(&self) -> Daemon {
        Daemon::new(self.socket())
    }

    /// The daemon's process.
    pub fn noded_pid(&self) -> u32 {
        self.noded.as_ref().unwrap().id()
    }

    /// What the daemon knows of an address.
    pub fn known(&self, vip: IpAddr) -> Known {
        self.daemon().known(vip, soon()).unwrap()
    }

    /// Waits until the daemon knows so many clients, and returns how long that
    /// took.
    pub fn until_known(&self, vip: IpAddr, clients: usize) -> Duration {
        let began = Instant::now();
        wait(&format!("{clients} clients of {vip} to be known"), || {
            (self.known(vip).clients == clients).then_some(())
        });
        began.elapsed()
    }

    /// Waits until the daemon's state is as it should be.
    pub fn until_status(&self, what: &str, condition: impl Fn(&Status) -> bool) -> Status {
        wait(what, || {
            self.daemon().status(soon()).ok().filter(&condition)
        })
    }

    /// Takes an address over, as the agent does: up, held, tickled. Returns how
    /// many clients were tickled.
    pub fn take_over(&self, address: &str) -> usize {
        self.add(address);
        let vip = ip(address);
        self.daemon().hold(vip, soon()).unwrap();
        self.daemon().tickle(vip, "eth0", soon()).unwrap()
    }

    /// A listener here, that never accepts; its clients are established all the
    /// same.
    pub fn listen(&self, at: &str) -> TcpListener {
        let at: SocketAddr = at.parse().unwrap();
        let listener = self.run(move || TcpListener::bind(at).unwrap());
        nix::sys::socket::listen(&listener, nix::sys::socket::Backlog::MAXALLOWABLE).unwrap();
        listener
    }

    /// Connections from here.
    pub fn connect(&self, to: &str, count: usize) -> Vec<TcpStream> {
        let to: SocketAddr = to.parse().unwrap();
        self.run(move || {
            (0..count)
                .map(|_| TcpStream::connect_timeout(&to, SOON).unwrap())
                .collect()
        })
    }

    /// How many TCP sockets `ss` shows here for a filter.
    pub fn sockets(&self, filter: &str) -> usize {
        self.command(&format!("ss -Htna state connected {filter}"))
            .lines()
            .count()
    }

    /// Pacemaker on this host says that these nodes were fenced.
    pub fn fenced(&self, nodes: &[u32]) {
        let state = |node: &u32| {
            format!(
                "<node_state id=\"{node}\" uname=\"node{node}\" in_ccm=\"false\" crmd=\"offline\" \
                 join=\"down\" expected=\"down\"/>"
            )
        };
        let states: String = nodes.iter().map(state).collect();
        self.record(&format!(
            "<cib><configuration/><status>{states}</status></cib>"
        ));
    }

    /// Pacemaker on this host has this CIB.
    pub fn record(&self, cib: &str) {
        fs::write(self.directory.join("new.xml"), cib).unwrap();
        fs::rename(
            self.directory.join("new.xml"),
            self.directory.join("cib.xml"),
        )
        .unwrap();
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.kill_noded();
        self.kill_corosync();
        self.jobs = None;
        let result = self.thread.take().unwrap().join();
        if std::thread::panicking() || result.is_err() {
            for log in ["storhaug-noded.log", "corosync.log"] {
                let path = self.directory.join(log);
                let text = fs::read_to_string(&path).unwrap_or_default();
                let tail = text.lines().rev().take(40).collect::<Vec<_>>();
                println!("--- {}", path.display());
                tail.iter().rev().for_each(|line| println!("{line}"));
            }
        }
    }
}

/// Hosts on one switch: nodes, numbered from 1, and one that is no node.
#[derive(Debug)]
pub struct Net {
    pub nodes: Vec<Host>,
    pub client: Host,
    switch: Host,
    _directory: tempfile::TempDir,
}

impl Net {
    /// Hosts without a daemon: nodes 10.99.0.N and fd99::N, the client 10.99.0.200
    /// and fd99::200.
    pub fn new(nodes: u8) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let switch = Host::new(directory.path().join("switch"));
        switch.command("ip link set lo up");
        switch.command("ip link add br0 type bridge forward_delay 0");
        switch.command("ip link set br0 up");
        let plug = |number: u8, name: &str| {
            let host = Host::new(directory.path().join(name));
            let (port, tid) = (format!("p{number}"), switch.tid);
            host.command("ip link set lo up");
            host.command(&format!(
                "ip link add eth0 type veth peer name {port} netns {tid}"
            ));
            switch.command(&format!("ip link set {port} master br0 up"));
            host.command("ip link set eth0 up");
            host.add(&format!("10.99.0.{number}/24"));
            host.add(&format!("fd99::{number}/64"));
            host
        };
        let nodes = (1..=nodes)
            .map(|number| plug(number, &format!("node{number}")))
            .collect();
        let client = plug(200, "client");
        Self {
            nodes,
            client,
            switch,
            _directory: directory,
        }
    }

    /// Nodes with Corosync and the daemon on each, which know each other.
    pub fn cluster(nodes: u8) -> Self {
        let mut net = Self::new(nodes);
        let mut conf =
            "totem {\n version: 2\n cluster_name: test\n transport: udpu\n token: 1000\n \
            secauth: off\n}\nquorum {\n provider: corosync_votequorum\n}\nlogging {\n \
            to_stderr: yes\n to_syslog: no\n}\nsystem {\n sched_rr: no\n \
            move_to_root_cgroup: no\n}\nnodelist {\n"
                .to_owned();
        for number in 1..=nodes {
            conf += &format!(
                " node {{\n  nodeid: {number}\n  name: node{number}\n  \
                 ring0_addr: 10.99.0.{number}\n }}\n"
            );
        }
        conf += "}\n";
        for node in &mut net.nodes {
            let conf = conf.clone();
            node.run(move || fs::write("/etc/corosync/corosync.conf", conf).unwrap());
            let script = format!("#!/bin/sh\nexec cat {}/cib.xml\n", node.directory.display());
            let cibadmin = node.directory.join("cibadmin");
            fs::write(&cibadmin, script).unwrap();
            fs::set_permissions(
                &cibadmin,
                std::os::unix::fs::PermissionsExt::from_mode(0o755),
            )
            .unwrap();
            node.fenced(&[]);
            node.start_corosync();
        }
        for node in &mut net.nodes {
            node.start_noded();
        }
        net.until_complete();
        net
    }

    /// Waits until every daemon that runs sees every other.
    pub fn until_complete(&self) {
        let running = self
            .nodes
            .iter()
            .filter(|node| node.noded.is_some())
            .count();
        for node in self.nodes.iter().filter(|node| node.noded.is_some()) {
            node.until_status("the group to be complete", |status| {
                status.group.len() == running && status.quorate
            });
        }
    }

    /// Pulls a node's cable.
    pub fn cut(&self, number: usize) {
        self.switch.command(&format!("ip link set p{number} down"));
    }

    /// Plugs it in again.
    pub fn mend(&self, number: usize) {
        self.switch.command(&format!("ip link set p{number} up"));
    }

    /// Cuts a node off and ends everything on it without a word.
    pub fn crash(&mut self, number: usize) {
        self.cut(number);
        let node = &mut self.nodes[number - 1];
        node.kill_noded();
        node.kill_corosync();
    }
}

impl Host {
    /// Starts Corosync.
    pub fn start_corosync(&mut self) {
        self.corosync = Some(self.spawn(Path::new("/usr/sbin/corosync"), &["-f"]));
    }
}

fn kill(child: Option<Child>) {
    if let Some(mut child) = child {
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

/// The address without its prefix.
pub fn ip(address: &str) -> IpAddr {
    address.split('/').next().unwrap().parse().unwrap()
}

pub fn soon() -> Deadline {
    Deadline::after(SOON)
}

/// Waits for a condition.
pub fn wait<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    until(soon(), OFTEN, what, || Ok(condition())).unwrap()
}

/// Waits in a receive until the connection ends, and returns why; `None` if it
/// does not.
pub fn end(stream: &mut TcpStream, within: Duration) -> Option<std::io::ErrorKind> {
    stream.set_read_timeout(Some(within)).unwrap();
    match stream.read(&mut [0; 1]) {
        Ok(0) => Some(std::io::ErrorKind::UnexpectedEof),
        Ok(_) => panic!("nobody writes anything"),
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => None,
        Err(error) => Some(error.kind()),
    }
}
