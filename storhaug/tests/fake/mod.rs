//! A machine that pcs, Pacemaker's tools and a fence agent are installed on:
//! Pacemaker is the simulator's, and pcs does to files what the real one does.

#![expect(
    clippy::unwrap_used,
    reason = "a machine that cannot be faked fails its test"
)]
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::cell::RefCell;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::time::Duration;

use anyhow::bail;
use storhaug::apply::{Adopt, Outcome};
use storhaug::config::{self, Loaded, Places};
use storhaug::corosync::Corosync;
use storhaug::machine::Machine;
use storhaug::progress::Progress;
use storhaug::setup;
use storhaug::teardown;
use storhaug::xml::Element;
use storhaug_agents::deadline::Deadline;
use storhaug_agents::exec::{Cmd, Host, Output, Runner};

use crate::simulator::Simulation;

pub const PASSWORD: &str = "correct horse battery";

/// A machine that pcs, Pacemaker's tools and a fence agent are installed on.
pub struct Fake {
    pub root: tempfile::TempDir,
    pub cluster: RefCell<Option<Simulation>>,
    pub commands: RefCell<Vec<Cmd>>,
    /// Number of pushes to refuse because somebody else was faster.
    pub contended: RefCell<u32>,
    /// Number of answers that GlusterFS refuses to give.
    pub busy: RefCell<u32>,
    /// Number of looks at the cluster before a push has shown an effect.
    pub lag: RefCell<u32>,
    /// What is seen until then.
    stale: RefCell<String>,
    /// Number of looks at the cluster before it begins with what was pushed.
    pub slow: RefCell<u32>,
    /// `crm_simulate` does not understand what it is given.
    pub blind: RefCell<bool>,
    /// What somebody else makes of the cluster before the next push.
    pub meanwhile: RefCell<Option<Element>>,
    /// The call of pcs at which the power goes.
    pub dies_at: RefCell<Option<&'static str>>,
    /// The number of commands after which the power goes.
    pub dies_after: RefCell<Option<usize>>,
    /// The number of steps of the removal of a node after which `pcs`, and who
    /// called it, is killed: 1 when the node has stopped its cluster, 2 when the
    /// others have the new list.
    pub dies_inside: RefCell<Option<u8>>,
    /// The first brick of the volume is offline.
    pub limping: RefCell<bool>,
    /// A node is in another cluster.
    pub refusing: RefCell<bool>,
}

impl Fake {
    pub fn new() -> Fake {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("run")).unwrap();
        std::fs::create_dir_all(root.path().join("etc/corosync")).unwrap();
        Fake {
            root,
            cluster: RefCell::new(None),
            commands: RefCell::default(),
            contended: RefCell::new(0),
            busy: RefCell::new(0),
            lag: RefCell::new(0),
            stale: RefCell::default(),
            slow: RefCell::new(0),
            blind: RefCell::new(false),
            meanwhile: RefCell::new(None),
            dies_at: RefCell::new(None),
            dies_after: RefCell::new(None),
            dies_inside: RefCell::new(None),
            limping: RefCell::new(false),
            refusing: RefCell::new(false),
        }
    }

    pub fn setup(&self, loaded: &Loaded) -> anyhow::Result<Outcome> {
        self.commands.borrow_mut().clear();
        let progress = &mut Progress::into(std::io::sink());
        setup::apply(self.machine(), loaded, Adopt::No, progress)
    }

    pub fn teardown(&self) -> anyhow::Result<Outcome> {
        self.teardown_of(Some("test"))
    }

    pub fn teardown_of(&self, configured: Option<&str>) -> anyhow::Result<Outcome> {
        self.commands.borrow_mut().clear();
        let progress = &mut Progress::into(std::io::sink());
        teardown::apply(self.machine(), configured, progress)
    }

    pub fn machine(&self) -> Machine<'_> {
        Machine {
            runner: self,
            root: self.root.path(),
        }
    }

    pub fn said(&self, words: &str) -> usize {
        let commands = self.commands.borrow();
        commands
            .iter()
            .filter(|cmd| cmd.to_string().starts_with(words))
            .count()
    }

    pub fn configuration(&self) -> String {
        let cluster = self.cluster.borrow();
        cluster
            .as_ref()
            .unwrap()
            .cib()
            .find("configuration")
            .unwrap()
            .to_string()
    }

    /// What was started or stopped since the last call.
    pub fn acted(&self) -> Vec<String> {
        let mut cluster = self.cluster.borrow_mut();
        let done = std::mem::take(&mut cluster.as_mut().unwrap().done);
        let acted = done.iter().filter(|action| action.task != "monitor");
        acted
            .map(|action| format!("{} {} {}", action.task, action.resource, action.node))
            .collect()
    }

    pub fn corosync_conf(&self) -> std::path::PathBuf {
        self.root.path().join("etc/corosync/corosync.conf")
    }

    fn pcs(&self, cmd: &Cmd) -> anyhow::Result<()> {
        let words = cmd.words();
        match words[1..3] {
            ["host", "auth"] => {}
            ["cluster", "setup"] if *self.refusing.borrow() => bail!("node3 is in a cluster"),
            ["cluster", "setup"] => {
                let nodes = named(&words[4..]);
                self.write_corosync(words[3], &nodes)?;
                *self.cluster.borrow_mut() = Some(Simulation::bare(&nodes));
            }
            ["cluster", "node"] if *self.refusing.borrow() => bail!("it is in a cluster"),
            ["cluster", "node"] => {
                let corosync = Corosync::read(self.root.path())?.unwrap();
                let members: Vec<&str> = corosync.nodes.iter().map(String::as_str).collect();
                match words[3] {
                    "add" => self.node_add(&corosync.name, &members, words[4])?,
                    "remove" => self.node_remove(&corosync.name, &members, &words[4..])?,
                    "clear" if members.contains(&words[4]) => bail!("it is a member"),
                    "clear" => self.running(|cluster| cluster.forget_node(words[4])),
                    _ => bail!("pcs was asked for `{cmd}`"),
                }
            }
            ["cluster", "destroy"] => {
                std::fs::remove_file(self.corosync_conf())?;
                *self.cluster.borrow_mut() = None;
            }
            ["cluster", "stop" | "start" | "enable" | "sync" | "reload"] => {}
            _ => bail!("pcs was asked for `{cmd}`"),
        }
        Ok(())
    }

    fn node_add(&self, cluster: &str, members: &[&str], name: &str) -> anyhow::Result<()> {
        if members.contains(&name) {
            bail!("{name} is in the cluster already");
        }
        self.running(|cluster| cluster.meet(name));
        self.write_corosync(cluster, &[members, &[name]].concat())
    }

    /// In the order of the real one, which talks to nobody before it has reached
    /// all, unless it is told to go without.
    fn node_remove(&self, cluster: &str, members: &[&str], words: &[&str]) -> anyhow::Result<()> {
        let (name, told) = (words[0], &words[1..]);
        let state = self.cluster.borrow().as_ref().unwrap().state();
        let mut down = members
            .iter()
            .filter(|member| !state.nodes[**member].online);
        if let Some(node) = down.next() {
            for option in ["--skip-offline", "--force"] {
                if !told.contains(&option) {
                    bail!("unable to connect to {node}, use {option} to override");
                }
            }
        }
        if state.nodes[name].online {
            self.running(|cluster| cluster.leave(name));
        }
        self.killed_after(1);
        let left: Vec<&str> = members.iter().copied().filter(|n| *n != name).collect();
        self.write_corosync(cluster, &left)?;
        self.killed_after(2);
        self.running(|cluster| cluster.forget_node(name));
        Ok(())
    }

    fn killed_after(&self, step: u8) {
        if *self.dies_inside.borrow() == Some(step) {
            panic::panic_any(Dead);
        }
    }

    fn running(&self, change: impl FnOnce(&mut Simulation)) {
        change(self.cluster.borrow_mut().as_mut().unwrap());
    }

    pub fn write_corosync(&self, name: &str, nodes: &[&str]) -> anyhow::Result<()> {
        let mut text = format!("totem {{\n cluster_name: {name}\n}}\nnodelist {{\n");
        for node in nodes {
            text.push_str(&format!(" node {{\n name: {node}\n }}\n"));
        }
        text.push_str("}\n");
        Ok(std::fs::write(self.corosync_conf(), text)?)
    }

    /// A volume of three replicas.
    fn gluster(&self, words: &[&str]) -> String {
        let mut busy = self.busy.borrow_mut();
        if *busy > 0 {
            *busy -= 1;
            let refusal =
                "<opRet>-1</opRet><opErrstr>Another transaction is in progress</opErrstr>";
            return format!("<cliOutput>{refusal}</cliOutput>");
        }
        let bricks = |brick: fn(u32, bool) -> String| -> String {
            let limping = *self.limping.borrow();
            (1..=3).map(|n| brick(n, !(limping && n == 1))).collect()
        };
        let told = if words.contains(&"info") && !words.contains(&"heal") {
            let bricks = bricks(|n, _| format!("<brick><name>node{n}:/brick</name></brick>"));
            format!("<volume><replicaCount>3</replicaCount><bricks>{bricks}</bricks></volume>")
        } else {
            bricks(|n, up| {
                format!(
                    "<node><hostname>node{n}</hostname><path>/brick</path><status>{}</status></node>",
                    u8::from(up)
                )
            })
        };
        format!("<cliOutput><opRet>0</opRet>{told}</cliOutput>")
    }

    fn patch(&self, difference: &[u8]) -> anyhow::Result<u8> {
        let mut cluster = self.cluster.borrow_mut();
        let cluster = cluster.as_mut().unwrap();
        let mut contended = self.contended.borrow_mut();
        if *contended > 0 {
            *contended -= 1;
            return Ok(103);
        }
        if let Some(theirs) = self.meanwhile.borrow_mut().take() {
            cluster.replace(theirs);
            return Ok(103);
        }
        if *self.lag.borrow() > 0 {
            *self.stale.borrow_mut() = cluster.crm_mon();
        }
        let directory = tempfile::tempdir()?;
        let (cib, patch) = (directory.path().join("cib"), directory.path().join("patch"));
        std::fs::write(&cib, cluster.cib().to_string())?;
        std::fs::write(&patch, difference)?;
        let cmd = Cmd::new("crm_diff")
            .arg("--original")
            .arg(&cib)
            .arg("--patch")
            .arg(&patch);
        let output = Host.run(&cmd, Deadline::after(Duration::from_secs(60)))?;
        cluster.take(Element::parse(&output.text())?);
        if *self.slow.borrow() == 0 {
            cluster.settle();
        }
        Ok(0)
    }

    /// The cluster at a look, at which it may begin with what was pushed.
    fn looked_at(&self) -> String {
        let mut cluster = self.cluster.borrow_mut();
        let cluster = cluster.as_mut().unwrap();
        let mut slow = self.slow.borrow_mut();
        if *slow > 0 {
            *slow -= 1;
            if *slow == 0 {
                cluster.settle();
            }
        }
        cluster.crm_mon()
    }
}

/// The names in the arguments of pcs.
fn named<'a>(words: &[&'a str]) -> Vec<&'a str> {
    let names = words.iter().take_while(|word| **word != "totem");
    let names = names.filter(|word| !word.starts_with('-') && !word.contains('='));
    names.copied().collect()
}

/// What is thrown where a run is killed.
pub struct Dead;

/// Runs something that may be killed; none if it was.
pub fn killed<T>(run: impl FnOnce() -> T) -> Option<T> {
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| ()));
    let result = panic::catch_unwind(AssertUnwindSafe(run));
    panic::set_hook(hook);
    match result {
        Ok(value) => Some(value),
        Err(thrown) if thrown.is::<Dead>() => None,
        Err(thrown) => panic::resume_unwind(thrown),
    }
}

impl Runner for Fake {
    fn run(&self, cmd: &Cmd, deadline: Deadline) -> anyhow::Result<Output> {
        self.commands.borrow_mut().push(cmd.clone());
        let words = cmd.words();
        let died = self
            .dies_at
            .borrow()
            .is_some_and(|words| cmd.to_string().starts_with(words));
        let offline = || Ok(Output::exited(cmd, 102, "", "not connected"));
        let output = match words[0] {
            "pcs" => {
                self.pcs(cmd)?;
                Output::exited(cmd, 0, "", "")
            }
            "fence_ipmilan" => Output::exited(cmd, 0, "", ""),
            "crm_mon" if *self.lag.borrow() > 0 && !self.stale.borrow().is_empty() => {
                *self.lag.borrow_mut() -= 1;
                Output::exited(cmd, 0, &self.stale.borrow(), "")
            }
            "crm_mon" if self.cluster.borrow().is_none() => return offline(),
            "crm_mon" => Output::exited(cmd, 0, &self.looked_at(), ""),
            "cibadmin" if words.contains(&"--query") => match &*self.cluster.borrow() {
                Some(cluster) => Output::exited(cmd, 0, &cluster.cib().to_string(), ""),
                None => return offline(),
            },
            "cibadmin" if words.contains(&"--delete") => {
                let mut cluster = self.cluster.borrow_mut();
                cluster
                    .as_mut()
                    .unwrap()
                    .forget_result(words[words.len() - 1]);
                Output::exited(cmd, 0, "", "")
            }
            "cibadmin" => Output::exited(cmd, self.patch(cmd.input().unwrap_or_default())?, "", ""),
            "crm_simulate" if *self.blind.borrow() => Output::exited(cmd, 65, "", "bad input"),
            "crm_diff" | "crm_verify" | "crm_simulate" => Host.run(cmd, deadline)?,
            "crm_attribute" => {
                let mut cluster = self.cluster.borrow_mut();
                let cluster = cluster.as_mut().unwrap();
                assert!(
                    words.ends_with(&["--lifetime", "reboot", "--delete"]),
                    "{cmd}"
                );
                cluster.aside.remove(words[2]);
                cluster.settle();
                Output::exited(cmd, 0, "", "")
            }
            "crm_resource" => Output::exited(cmd, 0, "", ""),
            "gluster" => Output::exited(cmd, 0, &self.gluster(&words[1..]), ""),
            other => bail!("{other} was run"),
        };
        if died {
            *self.dies_at.borrow_mut() = None;
            bail!("the power went");
        }
        if *self.dies_after.borrow() == Some(self.commands.borrow().len()) {
            panic::panic_any(Dead);
        }
        Ok(output)
    }
}

pub fn configuration(directory: &Path, vips: usize) -> Loaded {
    let password = directory.join("password");
    std::fs::write(&password, format!("{PASSWORD}\n")).unwrap();
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&password, private).unwrap();
    let mut text = format!(
        "[cluster]\nname = \"test\"\nnodes = [\"node1\", \"node2\", \"node3\"]\n\
         password_file = \"{}\"\n[storage]\ntype = \"glusterfs\"\n[smb]\nvolumes = [\"share\"]\n\
         [fencing]\nagent = \"fence_ipmilan\"\n",
        password.display()
    );
    for node in 1..=3 {
        text.push_str(&format!(
            "nodes.node{node} = {{ ip = \"192.0.2.{node}\" }}\n"
        ));
    }
    for node in 1..=3 {
        text.push_str(&format!(
            "[[node]]\nname = \"node{node}\"\naddress = \"10.0.0.{node}\"\n"
        ));
    }
    for vip in 0..vips {
        text.push_str(&format!("[[vip]]\naddress = \"10.0.0.{}/24\"\n", 100 + vip));
    }
    let file = directory.join(format!("{vips}.conf"));
    std::fs::write(&file, text).unwrap();
    config::load(&Places::File(file)).unwrap()
}
