//! Nodes that are drained, addresses that are moved, and losses that are
//! foretold, with Pacemaker's own scheduler.

#![expect(
    clippy::unwrap_used,
    reason = "a machine that cannot be faked fails its test"
)]

mod fake;
mod simulator;

use std::path::PathBuf;

use fake::{Fake, configuration};
use storhaug::apply::Outcome;
use storhaug::config::edit::{NewVip, Sources};
use storhaug::config::{self, Places};
use storhaug::drain::{self, Manner};
use storhaug::loss;
use storhaug::progress::Progress;
use storhaug::vips::{self, Change};

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

    fn undrain(&self, node: &str) -> anyhow::Result<Outcome> {
        let progress = &mut Progress::into(std::io::sink());
        drain::undrain(self.fake.machine(), node, progress)
    }

    fn vip(&self, change: &Change) -> anyhow::Result<Outcome> {
        let sources = Sources::find(&Places::File(self.file.clone()))?;
        let progress = &mut Progress::into(std::io::sink());
        vips::change(self.fake.machine(), "elsewhere", change, &sources, progress)
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
    let new = Change::Add(NewVip {
        address: "10.0.0.200/24".into(),
        name: Some("files".into()),
        nic: Some("eth7".into()),
        prefer: Some("node3".into()),
    });
    assert_eq!(town.vip(&new).unwrap(), Outcome::Done);
    assert_eq!(town.vip(&new).unwrap(), Outcome::NothingToDo);
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
