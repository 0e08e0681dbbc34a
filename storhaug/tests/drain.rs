//! Nodes that are drained, addresses that are moved, and losses that are
//! foretold, with Pacemaker's own scheduler.

#![expect(
    clippy::unwrap_used,
    reason = "a machine that cannot be faked fails its test"
)]

mod fake;
mod simulator;

use std::cell::RefCell;
use std::io::Write;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use fake::{Fake, configuration};
use nix::sched::{CloneFlags, unshare};
use storhaug::apply::Outcome;
use storhaug::cluster::Cluster;
use storhaug::config::edit::NewVip;
use storhaug::config::{self, Places};
use storhaug::drain::{self, Manner};
use storhaug::loss;
use storhaug::machine;
use storhaug::plan::{self, Plan};
use storhaug::progress::Progress;
use storhaug::vips::{self, Change};
use storhaug::xml::Element;
use storhaug_agents::deadline::Deadline;
use storhaug_agents::exec::{Cmd, Host, Runner};

/// What was said to the user.
#[derive(Clone, Default)]
struct Said(Rc<RefCell<Vec<u8>>>);

impl Said {
    fn text(&self) -> String {
        String::from_utf8(self.0.borrow().clone()).unwrap()
    }
}

impl Write for Said {
    fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
        self.0.borrow_mut().write(text)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

struct Town {
    fake: Fake,
    file: PathBuf,
}

impl Town {
    fn new() -> Town {
        let fake = Fake::new();
        let loaded = configuration(fake.root.path(), 5);
        fake.setup(&loaded).unwrap();
        fake.cluster.borrow_mut().as_mut().unwrap().done.clear();
        let file = fake.root.path().join("5.conf");
        Town { fake, file }
    }

    fn drain(&self, node: &str) -> anyhow::Result<Outcome> {
        let progress = &mut Progress::into(std::io::sink());
        let wait = true;
        let manner = Manner { wait, force: false };
        drain::drain(self.fake.machine(), node, manner, progress)
    }

    /// Drains a node whatever it costs. What was said.
    fn force(&self, node: &str) -> String {
        let said = Said::default();
        let progress = &mut Progress::into(said.clone());
        let (wait, force) = (true, true);
        let manner = Manner { wait, force };
        drain::drain(self.fake.machine(), node, manner, progress).unwrap();
        said.text()
    }

    fn undrain(&self, node: &str) -> anyhow::Result<Outcome> {
        let progress = &mut Progress::into(std::io::sink());
        drain::undrain(self.fake.machine(), node, progress)
    }

    fn vip(&self, change: &Change) -> anyhow::Result<Outcome> {
        self.vip_saying(change, Progress::into(std::io::sink()))
    }

    /// Gives an address a home. What was said.
    fn moved(&self, vip: &str, node: &str) -> String {
        let said = Said::default();
        let change = Change::Move(vip.into(), node.into());
        let outcome = self.vip_saying(&change, Progress::into(said.clone()));
        assert_eq!(outcome.unwrap(), Outcome::Done);
        said.text()
    }

    fn vip_saying(&self, change: &Change, mut progress: Progress) -> anyhow::Result<Outcome> {
        let places = Places::File(self.file.clone());
        let machine = self.fake.machine();
        vips::change(machine, "elsewhere", change, &places, &mut progress)
    }

    /// The cluster as it would be with `cluster` applied elsewhere.
    fn planned(&self, cluster: &Cluster) -> Element {
        let live = self.fake.machine().look().unwrap();
        let facts = machine::kept(cluster, &live);
        let mut plan = Plan::make(cluster, &facts, &live).unwrap();
        let status = live.cib.unwrap().entry("status").clone();
        plan.after.children.push(status);
        plan.after
    }

    /// Has the cluster be given `cluster` elsewhere.
    fn apply(&self, cluster: &Cluster) {
        let after = self.planned(cluster);
        let mut running = self.fake.cluster.borrow_mut();
        running.as_mut().unwrap().replace(after);
    }

    fn slots(&self) -> Vec<String> {
        plan::slots(&self.fake.machine().look().unwrap().cib.unwrap())
    }

    fn holder(&self, vip: &str) -> String {
        let cluster = self.fake.cluster.borrow();
        let holders = cluster.as_ref().unwrap().holders();
        holders.get(vip).cloned().unwrap_or_default()
    }

    /// The names of `vips` on `node`.
    fn on(&self, node: &str) -> Vec<String> {
        let cluster = self.fake.cluster.borrow();
        let holders = cluster.as_ref().unwrap().holders().into_iter();
        holders
            .filter(|(_, holder)| holder == node)
            .map(|(vip, _)| vip)
            .collect()
    }

    fn crash(&self, node: &str) {
        let mut cluster = self.fake.cluster.borrow_mut();
        cluster.as_mut().unwrap().crash(node);
        cluster.as_mut().unwrap().settle();
    }
}

#[test]
fn addresses_leave_before_services_stop_and_nothing_is_left_behind() {
    let town = Town::new();
    let (before, held) = (town.fake.configuration(), town.on("node2"));
    assert_eq!(held.len(), 2);
    assert_eq!(town.drain("node2").unwrap(), Outcome::Done);
    assert_eq!(town.on("node2"), [""; 0]);
    {
        let cluster = town.fake.cluster.borrow();
        let done = &cluster.as_ref().unwrap().done;
        let at = |task: &str, what: &str| {
            let mut all = done.iter();
            all.position(|a| a.task == task && a.resource == what && a.node == "node2")
                .unwrap_or_else(|| panic!("no {task} of {what}: {done:#?}"))
        };
        // One after the other, and smbd when all have left.
        assert!(at("stop", &held[0]) < at("stop", &held[1]));
        assert!(at("stop", &held[1]) < at("stop", "smbd"));
        let others = done.iter().filter(|a| {
            ["start", "stop"].contains(&a.task.as_str())
                && a.node != "node2"
                && !held.contains(&a.resource)
                && !a.resource.starts_with("fence-")
        });
        assert_eq!(others.count(), 0);
    }
    assert!(!town.fake.configuration().contains("-leaves-node2\""));
    assert_eq!(town.drain("node2").unwrap(), Outcome::NothingToDo);
    assert_eq!(town.undrain("node2").unwrap(), Outcome::Done);
    assert_eq!(town.on("node2"), held);
    assert_eq!(town.fake.configuration(), before);
    assert_eq!(town.undrain("node2").unwrap(), Outcome::NothingToDo);
}

#[test]
fn a_drain_that_was_killed_is_completed_by_the_next() {
    let town = Town::new();
    let before = town.fake.configuration();
    *town.fake.dies_at.borrow_mut() = Some("cibadmin --patch");
    town.drain("node1").unwrap_err();
    assert!(town.fake.configuration().contains("-leaves-node1\""));
    assert_eq!(town.drain("node1").unwrap(), Outcome::Done);
    assert!(!town.fake.configuration().contains("-leaves-node1\""));
    town.undrain("node1").unwrap();
    // Or by a setup, which knows of no such thing.
    *town.fake.dies_at.borrow_mut() = Some("cibadmin --patch");
    town.drain("node1").unwrap_err();
    let loaded = config::load(&Places::File(town.file.clone())).unwrap();
    assert_eq!(town.fake.setup(&loaded).unwrap(), Outcome::Done);
    assert_eq!(town.fake.configuration(), before);
}

#[test]
fn a_drain_that_costs_too_much_is_refused() {
    let town = Town::new();
    let error = town.drain("node9").unwrap_err().to_string();
    assert!(error.contains("there are node1, node2, node3"), "{error}");
    *town.fake.limping.borrow_mut() = true;
    let before = town.fake.configuration();
    let error = format!("{:#}", town.drain("node2").unwrap_err());
    assert!(error.contains("offline: node1:/brick"), "{error}");
    *town.fake.limping.borrow_mut() = false;
    town.crash("node3");
    let error = town.drain("node2").unwrap_err().to_string();
    assert!(error.contains("start node3 first"), "{error}");
    assert_eq!(town.fake.configuration(), before);
}

/// All others are up, and none of them serves.
#[test]
fn the_last_node_that_serves_is_emptied_only_by_force() {
    let town = Town::new();
    {
        let mut cluster = town.fake.cluster.borrow_mut();
        let cluster = cluster.as_mut().unwrap();
        cluster.mute("node1");
        cluster.mute("node3");
        cluster.settle();
    }
    let (held, before) = (town.on("node2"), town.fake.configuration());
    assert_eq!(held.len(), 5);
    let pushes = town.fake.said("cibadmin --patch");
    let error = town.drain("node2").unwrap_err().to_string();
    assert!(
        error.contains("no other node can serve vip-10.0.0.100"),
        "{error}"
    );
    assert_eq!(town.fake.said("cibadmin --patch"), pushes);
    assert_eq!(town.fake.configuration(), before);
    let said = town.force("node2");
    for vip in &held {
        assert!(said.contains(&format!("{vip} is served nowhere")), "{said}");
    }
    assert_eq!(town.on("node2"), [""; 0]);
    assert_eq!(town.undrain("node2").unwrap(), Outcome::Done);
    assert_eq!(town.on("node2"), held);
    assert_eq!(town.fake.configuration(), before);
}

#[test]
fn a_second_node_is_drained_only_by_force() {
    let town = Town::new();
    town.drain("node1").unwrap();
    let before = town.fake.configuration();
    let error = town.drain("node2").unwrap_err().to_string();
    assert!(error.contains("storhaug undrain node1"), "{error}");
    assert_eq!(town.fake.configuration(), before);
    let said = town.force("node2");
    assert!(!said.contains("nowhere"), "{said}");
    assert_eq!(town.on("node3").len(), 5);
    // Nobody is left.
    let said = town.force("node3");
    assert_eq!(said.matches("is served nowhere").count(), 5, "{said}");
}

#[test]
fn an_answer_that_is_refused_is_asked_for_again() {
    let town = Town::new();
    *town.fake.busy.borrow_mut() = 2;
    assert_eq!(town.drain("node2").unwrap(), Outcome::Done);
    assert_eq!(*town.fake.busy.borrow(), 0);
}

/// Somebody has used `crm_standby --lifetime reboot`.
#[test]
fn a_node_that_stands_aside_for_a_while_is_taken_back() {
    let town = Town::new();
    let held = town.on("node2");
    {
        let mut cluster = town.fake.cluster.borrow_mut();
        let cluster = cluster.as_mut().unwrap();
        cluster.aside.insert("node2".into());
        cluster.settle();
    }
    assert_eq!(town.on("node2"), [""; 0]);
    assert_eq!(town.undrain("node2").unwrap(), Outcome::Done);
    assert_eq!(town.on("node2"), held);
    assert_eq!(town.undrain("node2").unwrap(), Outcome::NothingToDo);
}

/// A node is being drained from another one.
#[test]
fn an_edit_leaves_a_drain_alone() {
    let town = Town::new();
    let held = town.on("node1");
    *town.fake.dies_at.borrow_mut() = Some("cibadmin --patch");
    town.drain("node1").unwrap_err();
    let (there, tagged) = (
        format!("id=\"storhaug-{}-leaves-node1\" rsc", held[0]),
        format!("<obj_ref id=\"storhaug-{}-leaves-node1\"", held[0]),
    );
    let is_there = || {
        let configuration = town.fake.configuration();
        (
            configuration.contains(&there),
            configuration.contains(&tagged),
        )
    };
    assert_eq!(is_there(), (true, true));
    town.vip(&Change::Add(address("10.0.0.200/24"))).unwrap();
    assert_eq!(is_there(), (true, true));
    assert!(town.holder(&held[0]) != "node1");
    town.vip(&Change::Remove(held[0].clone())).unwrap();
    assert_eq!(is_there(), (false, false));
    town.undrain("node1").unwrap();
}

#[test]
fn force_needs_no_forecast() {
    let town = Town::new();
    *town.fake.blind.borrow_mut() = true;
    let error = format!("{:#}", town.drain("node2").unwrap_err());
    assert!(error.contains("foretelling the effect"), "{error}");
    town.force("node2");
    assert_eq!(town.on("node2"), [""; 0]);
}

/// Somebody has changed a parameter that an edit would set right.
#[test]
fn an_edit_restarts_nothing() {
    let town = Town::new();
    {
        let mut cluster = town.fake.cluster.borrow_mut();
        let cluster = cluster.as_mut().unwrap();
        cluster.configure(|configuration| {
            configuration.walk_mut(&mut |pair| {
                if pair.get("name") == Some("server") {
                    pair.set("value", "192.0.2.77");
                }
            });
        });
        cluster.settle();
    }
    let before = town.fake.configuration();
    let error = town.vip(&Change::Add(address("10.0.0.200/24")));
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains(" would restart on node") && error.contains("`storhaug setup`"),
        "{error}"
    );
    assert_eq!(town.fake.configuration(), before);
    let loaded = config::load(&Places::File(town.file.clone())).unwrap();
    assert_eq!(town.fake.setup(&loaded).unwrap(), Outcome::Done);
    town.vip(&Change::Add(address("10.0.0.200/24"))).unwrap();
}

#[test]
fn a_cluster_that_falls_silent_is_said_to_be() {
    let town = Town::new();
    *town.fake.dies_at.borrow_mut() = Some("crm_mon");
    let error = town
        .vip(&Change::Add(address("10.0.0.200/24")))
        .unwrap_err();
    let error = format!("{error:#}");
    assert!(
        error.starts_with("what runs by now is not known"),
        "{error}"
    );
}

#[test]
fn a_loss_is_foretold_as_it_happens() {
    let town = Town::new();
    let lost = ["node1".to_owned()];
    let loss = loss::foretell(town.fake.machine(), &lost).unwrap();
    assert!(loss.quorum());
    let felt: Vec<&str> = loss.felt().map(|fate| fate.name.as_str()).collect();
    assert_eq!(felt, town.on("node1"));
    let told: Vec<(String, Option<String>)> = loss
        .addresses
        .iter()
        .map(|fate| (fate.name.clone(), fate.to.clone()))
        .collect();
    town.crash("node1");
    for (vip, to) in told {
        assert_eq!(to, Some(town.holder(&vip)), "{vip}");
    }
    let loss = loss::foretell(town.fake.machine(), &["node2".into()]).unwrap();
    assert!(!loss.quorum());
    assert!(
        loss.addresses.iter().all(|fate| fate.to.is_none()),
        "{loss:?}"
    );
}

#[test]
fn addresses_are_added_moved_and_taken_away() {
    let town = Town::new();
    let before = std::fs::read_to_string(&town.file).unwrap();
    let files = NewVip {
        name: Some("files".into()),
        nic: Some("eth7".into()),
        prefer: Some("node3".into()),
        ..address("10.0.0.200/24")
    };
    let other = Change::Add(NewVip {
        nic: Some("eth8".into()),
        ..files.clone()
    });
    let new = Change::Add(files);
    assert_eq!(town.vip(&new).unwrap(), Outcome::Done);
    assert_eq!(town.vip(&new).unwrap(), Outcome::NothingToDo);
    let error = town.vip(&other).unwrap_err().to_string();
    assert!(error.contains("--nic is eth7"), "{error}");
    assert_eq!(town.holder("files"), "node3");
    let text = std::fs::read_to_string(&town.file).unwrap();
    let block = "\n[[vip]]\naddress = \"10.0.0.200/24\"\nname = \"files\"\nnic = \"eth7\"\nprefer = [\"node3\"]\n";
    assert!(text.contains(block), "{text}");
    let go = |vip: &str, node: &str| town.vip(&Change::Move(vip.into(), node.into()));
    assert_eq!(go("files", "node1").unwrap(), Outcome::Done);
    assert_eq!(town.holder("files"), "node1");
    assert_eq!(go("10.0.0.200", "node1").unwrap(), Outcome::NothingToDo);
    assert!(go("files", "node9").is_err() && go("filet", "node1").is_err());
    let gone = Change::Remove("10.0.0.200".into());
    assert_eq!(town.vip(&gone).unwrap(), Outcome::Done);
    assert_eq!(town.vip(&gone).unwrap(), Outcome::NothingToDo);
    assert_eq!(std::fs::read_to_string(&town.file).unwrap(), before);
    assert!(!town.fake.configuration().contains("files"));
    assert!(town.vip(&Change::Remove("filet".into())).is_err());
}

fn address(address: &str) -> NewVip {
    NewVip {
        address: address.into(),
        name: None,
        nic: None,
        prefer: None,
    }
}

/// Names are not looked up for an address: CTDB's list of nodes, with one that
/// is wrong, takes SMB down everywhere.
#[test]
fn an_address_comes_though_no_name_is_found() {
    let mut town = Town::new();
    // CTDB has the nodes' addresses, and this file a name that gives another
    // one, which is of no use to the other nodes.
    let text = std::fs::read_to_string(&town.file).unwrap();
    let nameless = text.replace("address = \"10.0.0.2\"\n", "address = \"localhost\"\n");
    assert_ne!(nameless, text);
    let loaded = config::from_toml(&town.file, &nameless).unwrap();
    town.apply(&loaded);
    town.file = town.fake.root.path().join("nameless.conf");
    std::fs::write(&town.file, nameless).unwrap();
    let before = town.slots();
    assert_eq!(before, ["10.0.0.1", "10.0.0.2", "10.0.0.3"]);
    let new = Change::Add(address("10.0.0.200/24"));
    assert_eq!(town.vip(&new).unwrap(), Outcome::Done);
    assert_eq!(town.slots(), before);
    // And a setup, which has to look them up, does nothing.
    let configuration = town.fake.configuration();
    let loaded = config::load(&Places::File(town.file.clone())).unwrap();
    let error = format!("{:#}", town.fake.setup(&loaded).unwrap_err());
    assert!(error.contains("localhost"), "{error}");
    assert_eq!(town.fake.configuration(), configuration);
}

#[test]
fn a_list_that_is_lost_is_not_taken_for_an_empty_one() {
    let town = Town::new();
    let emptied = |configuration: &mut Element| {
        configuration.walk_mut(&mut |element| {
            if element.name == "nvpair" && element.get("name") == Some("nodes") {
                element.set("value", "");
            }
        });
    };
    let mut running = town.fake.cluster.borrow_mut();
    running.as_mut().unwrap().configure(emptied);
    drop(running);
    let before = town.fake.configuration();
    let new = Change::Add(address("10.0.0.200/24"));
    let error = town.vip(&new).unwrap_err().to_string();
    assert!(error.contains("run `storhaug setup`"), "{error}");
    assert_eq!(town.fake.configuration(), before);
    let loaded = config::load(&Places::File(town.file.clone())).unwrap();
    town.fake.setup(&loaded).unwrap();
    assert_eq!(town.vip(&new).unwrap(), Outcome::Done);
}

#[test]
fn a_file_of_yesterday_takes_nothing_away() {
    let town = Town::new();
    let yesterday = std::fs::read_to_string(&town.file).unwrap();
    // Another node has a file of its own.
    town.vip(&Change::Add(address("10.0.0.200/24"))).unwrap();
    let today = std::fs::read_to_string(&town.file).unwrap();
    std::fs::write(&town.file, &yesterday).unwrap();
    let before = town.fake.configuration();
    for change in [
        Change::Add(address("10.0.0.201/24")),
        Change::Remove("10.0.0.100".into()),
        Change::Move("10.0.0.100".into(), "node3".into()),
        // Neither the address nor its name are in that file.
        Change::Remove("10.0.0.200".into()),
        Change::Remove("vip-10.0.0.200".into()),
    ] {
        let error = format!("{:#}", town.vip(&change).unwrap_err());
        assert!(error.contains("storhaug plan"), "{error}");
        assert_eq!(town.fake.configuration(), before);
        assert_eq!(std::fs::read_to_string(&town.file).unwrap(), yesterday);
    }
    // What was interrupted before it wrote the file is completed.
    let again = Change::Add(address("10.0.0.200/24"));
    assert_eq!(town.vip(&again).unwrap(), Outcome::Done);
    assert_eq!(std::fs::read_to_string(&town.file).unwrap(), today);
    assert_eq!(town.fake.configuration(), before);
}

/// Whoever is faster, on another node, has added an address.
#[test]
fn what_is_added_meanwhile_is_seen() {
    let town = Town::new();
    let loaded = configuration(town.fake.root.path(), 6);
    *town.fake.meanwhile.borrow_mut() = Some(town.planned(&loaded.cluster));
    let error = town
        .vip(&Change::Add(address("10.0.0.200/24")))
        .unwrap_err();
    assert!(error.to_string().contains("storhaug plan"), "{error:#}");
    assert!(!town.holder("vip-10.0.0.105").is_empty());
    assert!(town.holder("vip-10.0.0.200").is_empty());
}

#[test]
fn a_file_that_cannot_be_written_changes_nothing() {
    let mut town = Town::new();
    let directory = town.fake.root.path().join("etc/storhaug");
    std::fs::create_dir_all(&directory).unwrap();
    let file = directory.join("storhaug.conf");
    std::fs::copy(&town.file, &file).unwrap();
    town.file = file;
    // Of this thread and its children alone, and gone with it.
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    let mount = |words: &[&str]| {
        let cmd = Cmd::new("mount").args(words).arg(&directory);
        let output = Host.run(&cmd, Deadline::after(Duration::from_secs(60)));
        output.unwrap().checked().unwrap();
    };
    let path = directory.to_str().unwrap().to_owned();
    let private = Cmd::new("mount").args(["--make-rprivate", "/"]);
    let output = Host.run(&private, Deadline::after(Duration::from_secs(60)));
    output.unwrap().checked().unwrap();
    mount(&["--bind", &path]);
    mount(&["-o", "remount,bind,ro"]);
    let before = town.fake.configuration();
    let new = Change::Add(address("10.0.0.200/24"));
    let error = format!("{:#}", town.vip(&new).unwrap_err());
    assert!(error.contains("storhaug.conf"), "{error}");
    assert_eq!(town.fake.configuration(), before);
    let umount = Cmd::new("umount").arg(&directory);
    let output = Host.run(&umount, Deadline::after(Duration::from_secs(60)));
    output.unwrap().checked().unwrap();
}

#[test]
fn an_address_has_moved_when_that_is_said() {
    let town = Town::new();
    let go = |node: &str| town.moved("vip-10.0.0.100", node);
    let home = town.holder("vip-10.0.0.100");
    let mut others = ["node1", "node2", "node3"].into_iter();
    let other = others.find(|node| *node != home).unwrap();
    // For a while everything is as it was: Pacemaker has not begun yet.
    *town.fake.lag.borrow_mut() = 3;
    let said = go(other);
    assert!(
        said.contains(&format!("vip-10.0.0.100 is on {other}\n")),
        "{said}"
    );
    assert_eq!(*town.fake.lag.borrow(), 0);
    assert_eq!(town.holder("vip-10.0.0.100"), other);
    // A node that serves nothing now is its home all the same.
    town.drain(&home).unwrap();
    let said = go(&home);
    assert!(
        said.contains(&format!("goes to {home} when {home} serves")),
        "{said}"
    );
    assert_eq!(town.holder("vip-10.0.0.100"), other);
    town.undrain(&home).unwrap();
    assert_eq!(town.holder("vip-10.0.0.100"), home);
    // Nor does one whose smbd has not said that it works.
    {
        let mut cluster = town.fake.cluster.borrow_mut();
        let cluster = cluster.as_mut().unwrap();
        cluster.mute(other);
        cluster.settle();
    }
    let said = go(other);
    assert!(
        said.contains(&format!("goes to {other} when {other} serves")),
        "{said}"
    );
}

#[test]
fn an_address_of_nfs_takes_its_trigger_along() {
    let town = Town::new();
    let text = std::fs::read_to_string(&town.file).unwrap();
    std::fs::write(&town.file, text + "\n[nfs]\n").unwrap();
    let loaded = config::load(&Places::File(town.file.clone())).unwrap();
    town.fake.setup(&loaded).unwrap();
    let home = town.holder("vip-10.0.0.100");
    let mut others = ["node1", "node2", "node3"].into_iter();
    let other = others.find(|node| *node != home).unwrap();
    town.moved("vip-10.0.0.100", other);
    assert_eq!(town.holder("vip-10.0.0.100"), other);
    let cluster = town.fake.cluster.borrow();
    let state = cluster.as_ref().unwrap().state();
    assert_eq!(state.running("trigger-vip-10.0.0.100"), [other]);
}

#[test]
fn a_new_home_leaves_the_other_preferences_in_their_order() {
    let town = Town::new();
    let text = std::fs::read_to_string(&town.file).unwrap();
    let prefer = |order: &str| {
        let address = "address = \"10.0.0.100/24\"\n";
        text.replace(address, &format!("{address}prefer = [{order}]\n"))
    };
    std::fs::write(&town.file, prefer("\"node1\", \"node3\"")).unwrap();
    let loaded = config::load(&Places::File(town.file.clone())).unwrap();
    town.fake.setup(&loaded).unwrap();
    town.moved("10.0.0.100", "node2");
    let after = std::fs::read_to_string(&town.file).unwrap();
    assert_eq!(after, prefer("\"node2\", \"node1\", \"node3\""));
    town.moved("10.0.0.100", "node3");
    let after = std::fs::read_to_string(&town.file).unwrap();
    assert_eq!(after, prefer("\"node3\", \"node2\", \"node1\""));
    let again = Change::Move("10.0.0.100".into(), "node3".into());
    assert_eq!(town.vip(&again).unwrap(), Outcome::NothingToDo);
}
