//! A cluster inside `crm_simulate`: Pacemaker's own scheduler decides, every
//! action succeeds at once unless a test says otherwise, and node attributes
//! are what our agents would have published.

#![expect(
    clippy::unwrap_used,
    reason = "a simulation that cannot go on fails its test"
)]
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::bail;
use storhaug::cluster::{Cluster, Failover, Fencing, Node, Placement, Service, Smb, Storage, Vip};
use storhaug::corosync;
use storhaug::desired::Facts;
use storhaug::machine::Machine;
use storhaug::plan::{Live, Plan};
use storhaug::state::State;
use storhaug::status::{self, Status};
use storhaug::xml::Element;
use storhaug_agents::deadline::Deadline;
use storhaug_agents::exec::{Cmd, Host, Output, Runner};

/// A cluster of `nodes` nodes and `vips` addresses with everything in it.
pub fn cluster(nodes: usize, vips: usize) -> Cluster {
    let names: Vec<String> = (1..=nodes).map(|n| format!("node{n}")).collect();
    let devices = names
        .iter()
        .map(|name| (name.clone(), BTreeMap::from([("ip".into(), name.clone())])));
    Cluster {
        name: "storhaug".into(),
        nodes: names
            .iter()
            .map(|name| Node {
                name: name.clone(),
                address: None,
                storage: true,
            })
            .collect(),
        vips: (0..vips)
            .map(|n| {
                let address = std::net::IpAddr::from([10, 0, 0, u8::try_from(101 + n).unwrap()]);
                Vip {
                    name: Vip::default_name(address),
                    address,
                    prefix: Some(24),
                    nic: None,
                    prefer: Vec::new(),
                    services: BTreeSet::from([Service::Smb]),
                }
            })
            .collect(),
        storage: Storage::GlusterFs {
            server: "localhost".into(),
            mount_dir: "/run/storhaug".into(),
            options: None,
        },
        smb: Some(Smb {
            volumes: vec!["share".into()],
            winbind: true,
            netbios: false,
            cluster_lock: None,
        }),
        nfs: None,
        fencing: Fencing::Device {
            agent: "fence_ipmilan".into(),
            options: BTreeMap::from([("password_file".into(), "/etc/storhaug/ipmi".into())]),
            nodes: devices.collect(),
        },
        failover: Failover::Default,
        placement: Placement::Balanced,
        password_file: PathBuf::from("/etc/storhaug/hacluster.password"),
    }
}

/// What a setup on a bare machine would know.
pub fn facts(cluster: &Cluster) -> Facts {
    Facts {
        slots: (0..cluster.nodes.len())
            .map(|n| format!("10.0.0.{}", 11 + n))
            .collect(),
        homes: BTreeMap::new(),
        joining: BTreeSet::new(),
        spared: BTreeSet::new(),
        canonical: storhaug::config::canonical(cluster),
        fingerprint: "1:abc".into(),
    }
}

/// A cluster that runs in the simulator.
#[derive(Clone, Debug)]
pub struct Simulation {
    cib: Element,
    /// Nodes whose smbd does not answer, whatever Pacemaker thinks.
    mute: BTreeSet<String>,
    /// Nodes that are on standby until they leave.
    pub aside: BTreeSet<String>,
    /// Everything that was done, in order.
    pub done: Vec<Action>,
}

/// What happened to one resource.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Action {
    /// `start`, `stop`, `monitor`, …
    pub task: String,
    /// The resource.
    pub resource: String,
    /// Where.
    pub node: String,
}

impl Action {
    /// It changes something: it neither looks at a resource, nor ends a
    /// repeated look, which is a matter of milliseconds for the executor on
    /// that node and waits for nothing else.
    pub fn acts(&self) -> bool {
        !["monitor", "cancel"].contains(&self.task.as_str())
    }
}

impl Simulation {
    /// The cluster after a setup, with every node up.
    pub fn started(cluster: &Cluster) -> Simulation {
        let plan = Plan::make(cluster, &facts(cluster), &Live::default()).unwrap();
        let mut cib = plan.after.child(Element::new("status"));
        cib.set("crm_feature_set", "3.16.1");
        cib.set("have-quorum", "1");
        cib.set("dc-uuid", "1");
        let mut simulation = Simulation {
            cib,
            mute: BTreeSet::new(),
            aside: BTreeSet::new(),
            done: Vec::new(),
        };
        let up: Vec<String> = cluster
            .nodes
            .iter()
            .flat_map(|node| ["--node-up".to_owned(), node.name.clone()])
            .collect();
        let up: Vec<&str> = up.iter().map(String::as_str).collect();
        simulation.transition(&up);
        simulation.settle();
        simulation
    }

    /// A cluster of nodes that are up and have nothing to do.
    pub fn bare(nodes: &[&str]) -> Simulation {
        let nodes = nodes.iter().enumerate().map(|(index, name)| {
            Element::new("node")
                .with("id", index + 1)
                .with("uname", name)
        });
        let configuration = Element::new("configuration")
            .child(Element::new("crm_config"))
            .child(Element::new("nodes").holding(nodes))
            .child(Element::new("resources"))
            .child(Element::new("constraints"));
        let mut cib = Element::new("cib")
            .with("validate-with", "pacemaker-3.0")
            .with("crm_feature_set", "3.16.1")
            .with("have-quorum", "1")
            .with("dc-uuid", "1");
        for version in ["admin_epoch", "epoch", "num_updates"] {
            cib.set(version, 0);
        }
        let names: Vec<String> = configuration.children[1]
            .children
            .iter()
            .map(|node| node.get("uname").unwrap().to_owned())
            .collect();
        let cib = cib.child(configuration).child(Element::new("status"));
        let mut simulation = Simulation {
            cib,
            mute: BTreeSet::new(),
            aside: BTreeSet::new(),
            done: Vec::new(),
        };
        for name in names {
            simulation.transition(&["--node-up", &name]);
        }
        simulation
    }

    /// The whole CIB.
    pub fn cib(&self) -> &Element {
        &self.cib
    }

    /// Takes a new configuration, and carries it out until nothing changes.
    pub fn replace(&mut self, cib: Element) {
        self.take(cib);
        self.settle();
    }

    /// Takes a new configuration, and does nothing about it yet.
    pub fn take(&mut self, cib: Element) {
        self.cib = cib;
    }

    /// Has the cluster remember what a cleanup of a failed resource leaves on a
    /// node: that it runs is written down as a failure as well.
    pub fn mislead(&mut self, primitive: &str, node: &str) {
        let nodes = self.cib.entry("status").children.iter_mut();
        for state in nodes.filter(|state| state.get("uname") == Some(node)) {
            let known = state
                .entry("lrm")
                .entry("lrm_resources")
                .children
                .iter_mut();
            for resource in known.filter(|resource| resource.id() == primitive) {
                let mut entries = resource.children.iter();
                let last = entries.find(|entry| entry.id() == format!("{primitive}_last_0"));
                let mut entry = last.unwrap().clone();
                let volatile = ["op-force-restart", "op-restart-digest"];
                entry
                    .attributes
                    .retain(|(name, _)| !volatile.contains(&name.as_str()));
                entry.set("id", format!("{primitive}_last_failure_0"));
                entry.set("operation_key", format!("{primitive}_monitor_0"));
                entry.set("operation", "monitor");
                resource.children.push(entry);
            }
        }
    }

    /// Forgets the results of operations at a path of [`storhaug::history`].
    pub fn forget_result(&mut self, path: &str) {
        let mut quoted = path.split('\'').skip(1).step_by(2);
        let (node, entry) = (quoted.next().unwrap(), quoted.nth(1).unwrap());
        let nodes = self.cib.entry("status").children.iter_mut();
        for state in nodes.filter(|state| state.get("uname") == Some(node)) {
            state.walk_mut(&mut |element| element.children.retain(|child| child.id() != entry));
        }
    }

    /// CTDB's agent takes a new list of nodes without a restart, which a real
    /// cluster knows by its metadata: nothing that is changed, of what forces a
    /// restart, has this digest.
    fn know_reloads(&mut self) {
        self.cib.entry("status").walk_mut(&mut |element| {
            if element.name == "lrm_resource" && element.id() == "ctdb" {
                let entries = element.children.iter_mut();
                for entry in entries.filter(|entry| !entry.id().contains("_last_failure_")) {
                    entry.set("op-force-restart", " ");
                    entry.set("op-restart-digest", "f2317cad3d54cec5d7d7aa7d0bf35cf8");
                }
            }
        });
    }

    /// One call of the simulator, whose cluster becomes this one. What it says.
    fn simulate(&mut self, arguments: &[&str]) -> Element {
        let directory = tempfile::tempdir().unwrap();
        let (before, after) = (directory.path().join("in"), directory.path().join("out"));
        std::fs::write(&before, self.cib.to_string()).unwrap();
        let cmd = Cmd::new("crm_simulate")
            .args(["--output-as=xml", "--xml-file"])
            .arg(&before)
            .arg("--save-output")
            .arg(&after)
            .args(arguments);
        let output = Host
            .run(&cmd, Deadline::after(Duration::from_secs(60)))
            .unwrap();
        self.cib = Element::parse(&std::fs::read_to_string(&after).unwrap()).unwrap();
        self.know_reloads();
        Element::parse(&output.checked().unwrap()).unwrap()
    }

    /// One transition, carried out. What was done, in order.
    pub fn transition(&mut self, arguments: &[&str]) -> Vec<Action> {
        // What happens first, then what Pacemaker does about it: in one call,
        // crm_simulate 3.0 does both and writes no more than the former.
        if !arguments.is_empty() {
            self.simulate(arguments);
        }
        let told = self.simulate(&["--simulate"]);
        let done = told
            .find("transition")
            .map_or(&[][..], |transition| &transition.children);
        let resources = done.iter().filter(|action| action.name == "rsc_action");
        let actions: Vec<Action> = resources
            .map(|action| {
                let text = |name| action.get(name).unwrap_or_default().to_owned();
                let resource = text("resource");
                Action {
                    task: text("op").split(' ').next().unwrap_or_default().to_owned(),
                    resource: resource.split(':').next().unwrap_or_default().to_owned(),
                    node: text("node"),
                }
            })
            .collect();
        self.forget(&actions);
        self.done.extend(actions.iter().cloned());
        actions
    }

    /// Deletes the history of resources that were taken out, which the
    /// simulator only says it does.
    fn forget(&mut self, actions: &[Action]) {
        for action in actions.iter().filter(|action| action.task == "delete") {
            let nodes = self.cib.entry("status").children.iter_mut();
            for node in nodes.filter(|node| node.get("uname") == Some(&action.node)) {
                let history = node.entry("lrm").entry("lrm_resources");
                history
                    .children
                    .retain(|resource| resource.id() != action.resource);
            }
        }
    }

    /// Publishes what our agents would, and goes on until nothing changes.
    pub fn settle(&mut self) -> Vec<Action> {
        let mut all = Vec::new();
        for _ in 0..10 {
            let changed = self.publish();
            let done = self.transition(&[]);
            let quiet = !done.iter().any(Action::acts);
            all.extend(done);
            if quiet && !changed {
                return all;
            }
        }
        panic!("the cluster does not come to rest: {all:#?}");
    }

    /// Whether an attribute changed.
    pub fn publish(&mut self) -> bool {
        let state = self.state();
        let (smb, nfs) = (state.running("smbd"), state.running("ganesha"));
        let mute = &self.mute;
        let mut changed = false;
        for node in &mut self.cib.entry("status").children {
            let name = node.get("uname").unwrap_or_default().to_owned();
            let smb = smb.contains(&name.as_str()) && !mute.contains(&name);
            let nfs = nfs.contains(&name.as_str());
            let id = node.id().to_owned();
            let had = node.find("transient_attributes").cloned();
            node.children
                .retain(|child| child.name != "transient_attributes");
            let smb = smb.then_some(("storhaug-smb", "1"));
            let nfs = nfs.then_some(("storhaug-nfs", "1"));
            let aside = self.aside.contains(&name).then_some(("standby", "on"));
            let pairs: Vec<Element> = smb
                .into_iter()
                .chain(nfs)
                .chain(aside)
                .map(|(name, value)| {
                    Element::new("nvpair")
                        .with("id", format!("status-{id}-{name}"))
                        .with("name", name)
                        .with("value", value)
                })
                .collect();
            if !pairs.is_empty() {
                let set = Element::new("instance_attributes").with("id", format!("status-{id}"));
                let attributes = Element::new("transient_attributes").with("id", &id);
                node.children.push(attributes.child(set.holding(pairs)));
            }
            changed |= had.as_ref() != node.find("transient_attributes");
        }
        changed
    }

    /// A node's smbd stops answering, as its agent would notice.
    pub fn mute(&mut self, node: &str) {
        self.mute.insert(node.to_owned());
    }

    /// Power is gone.
    pub fn crash(&mut self, node: &str) -> Vec<Action> {
        for state in &mut self.cib.entry("status").children {
            if state.get("uname") == Some(node) {
                state
                    .children
                    .retain(|child| child.name != "transient_attributes");
            }
        }
        self.transition(&["--node-fail", node])
    }

    /// Power is back, and the node joins.
    pub fn rejoin(&mut self, node: &str) -> Vec<Action> {
        self.transition(&["--node-up", node])
    }

    /// A node joins that the cluster did not know.
    pub fn meet(&mut self, node: &str) {
        let nodes = self.cib.entry("configuration").entry("nodes");
        let ids = nodes
            .children
            .iter()
            .filter_map(|node| node.id().parse().ok());
        let id: u32 = ids.max().unwrap_or(0) + 1;
        let entry = Element::new("node").with("id", id).with("uname", node);
        nodes.children.push(entry);
        self.transition(&["--node-up", node]);
        self.settle();
    }

    /// A node stops its cluster.
    pub fn leave(&mut self, node: &str) {
        self.transition(&["--node-down", node]);
        self.elect(node);
        self.settle();
    }

    /// A node that has left is forgotten.
    pub fn forget_node(&mut self, node: &str) {
        self.elect(node);
        for path in [&["configuration", "nodes"][..], &["status"]] {
            let section = path.iter().fold(&mut self.cib, |at, name| at.entry(name));
            section
                .children
                .retain(|child| child.get("uname") != Some(node));
        }
        self.settle();
    }

    /// Another one than `gone` coordinates.
    fn elect(&mut self, gone: &str) {
        let nodes = self.cib.at(&["configuration", "nodes"]).unwrap();
        let mut others = nodes.children.iter();
        let dc = others.find(|other| other.get("uname") != Some(gone));
        let dc = dc.unwrap().id().to_owned();
        self.cib.set("dc-uuid", dc);
    }

    /// Changes the configuration.
    pub fn configure(&mut self, change: impl FnOnce(&mut Element)) {
        change(self.cib.entry("configuration"));
    }

    /// What crm_mon says.
    pub fn state(&self) -> State {
        State::parse(&self.crm_mon()).unwrap()
    }

    /// A machine that is in the cluster as it is now.
    pub fn member(&self) -> Member {
        let root = tempfile::tempdir().unwrap();
        let conf = root.path().join(corosync::PATH.trim_start_matches('/'));
        std::fs::create_dir_all(conf.parent().unwrap()).unwrap();
        std::fs::write(conf, "totem {\n cluster_name: storhaug\n}\n").unwrap();
        Member {
            root,
            crm_mon: self.crm_mon(),
            cib: self.cib.to_string(),
        }
    }

    /// What crm_mon writes.
    pub fn crm_mon(&self) -> String {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), self.cib.to_string()).unwrap();
        let cmd = Cmd::new("crm_mon")
            .args(["--one-shot", "--inactive", "--output-as=xml"])
            .env("CIB_file", file.path());
        let output = Host
            .run(&cmd, Deadline::after(Duration::from_secs(60)))
            .unwrap();
        output.checked().unwrap()
    }

    /// Addresses and who holds them.
    pub fn holders(&self) -> BTreeMap<String, String> {
        let state = self.state();
        let vips = state
            .instances
            .iter()
            .filter(|i| i.agent == "ocf:storhaug:vip" && !i.nodes.is_empty());
        vips.map(|i| (i.resource.clone(), i.nodes.join("+")))
            .collect()
    }

    /// How many addresses each of `nodes` carries.
    pub fn loads(&self, nodes: &[String]) -> Vec<usize> {
        let holders = self.holders();
        let load = |node: &String| holders.values().filter(|holder| *holder == node).count();
        nodes.iter().map(load).collect()
    }
}

/// A machine in the cluster, whose tools answer at once.
pub struct Member {
    pub root: tempfile::TempDir,
    crm_mon: String,
    cib: String,
}

impl Member {
    pub fn look(&self) -> Status {
        status::look(Machine {
            runner: self,
            root: self.root.path(),
        })
        .unwrap()
    }
}

impl Runner for Member {
    fn run(&self, cmd: &Cmd, _: Deadline) -> anyhow::Result<Output> {
        let said = match cmd.words()[0] {
            "crm_mon" => &self.crm_mon,
            "cibadmin" => &self.cib,
            other => bail!("{other} was run"),
        };
        Ok(Output::exited(cmd, 0, said, ""))
    }
}
