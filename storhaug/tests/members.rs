//! `add` and `remove` from end to end, with Pacemaker's own scheduler.

#![expect(
    clippy::unwrap_used,
    reason = "a machine that cannot be faked fails its test"
)]

mod fake;
mod simulator;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::OnceLock;

use fake::{Fake, killed};
use simulator::Simulation;
use storhaug::apply::Outcome;
use storhaug::config::edit::{NewNode, NewVip};
use storhaug::config::{self, Places};
use storhaug::members::{self, Addition};
use storhaug::plan;
use storhaug::progress::Progress;

/// A cluster of n1, n2 and n10 that has been set up.
struct Town {
    fake: Fake,
    file: PathBuf,
}

const BEFORE: &str = r#"# Our cluster.
[cluster]
name = "test"
nodes = [
    "n1",   # the old one
    "n2",
    "n10",  # the big one
]
password_file = "PASSWORD"

# By the window.
[[node]]
name = "n1"
address = "10.0.0.1"

[[node]]
name = "n2"
address = "10.0.0.2"

[[node]]
name = "n10"
address = "10.0.0.10"

[[vip]]
address = "10.0.0.101/24"  # the first

[[vip]]
address = "10.0.0.102/24"
prefer = ["n1", "n10"]

[[vip]]
address = "10.0.0.103/24"

[[vip]]
address = "10.0.0.104/24"

[smb]
volumes = ["share"]

# Never go without.
[fencing]
agent = "fence_ipmilan"
nodes.n1 = { ip = "192.0.2.1" }
nodes.n2 = { ip = "192.0.2.2" }
nodes.n10 = { ip = "192.0.2.10" }  # slow
"#;

fn vip(address: &str) -> NewVip {
    NewVip {
        address: address.into(),
        name: None,
        nic: None,
        prefer: None,
    }
}

impl Town {
    fn new() -> Town {
        static AFTER_SETUP: OnceLock<Simulation> = OnceLock::new();
        let town = Town::bare();
        let simulation = AFTER_SETUP.get_or_init(|| {
            let other = Town::bare();
            assert_eq!(other.setup().unwrap(), Outcome::Done);
            let mut simulation = other.fake.cluster.take().unwrap();
            simulation.done.clear();
            simulation
        });
        town.fake
            .write_corosync("test", &["n1", "n2", "n10"])
            .unwrap();
        *town.fake.cluster.borrow_mut() = Some(simulation.clone());
        // The path of the password is in the copy that the cluster keeps.
        town.setup().unwrap();
        town
    }

    /// Three machines and a file.
    fn bare() -> Town {
        let fake = Fake::new();
        let password = fake.root.path().join("password");
        std::fs::write(&password, "sesame\n").unwrap();
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&password, private).unwrap();
        let file = fake.root.path().join("storhaug.conf");
        let text = BEFORE.replace("PASSWORD", &password.display().to_string());
        std::fs::write(&file, text).unwrap();
        Town { fake, file }
    }

    fn places(&self) -> Places {
        Places::File(self.file.clone())
    }

    fn setup(&self) -> anyhow::Result<Outcome> {
        self.fake.setup(&config::load(&self.places())?)
    }

    fn add(&self, name: &str, number: u8, vips: &[&str]) -> anyhow::Result<Outcome> {
        self.fake.commands.borrow_mut().clear();
        let addition = Addition {
            node: NewNode {
                name: name.into(),
                address: Some(format!("10.0.0.{number}")),
                storage: true,
                fencing: vec![("ip".into(), format!("192.0.2.{number}"))],
            },
            vips: vips.iter().map(|address| vip(address)).collect(),
        };
        let progress = &mut Progress::into(std::io::sink());
        let machine = self.fake.machine();
        members::add(machine, "elsewhere", &addition, &self.places(), progress)
    }

    fn remove(&self, name: &str) -> anyhow::Result<Outcome> {
        self.remove_at_any_price(name, false)
    }

    fn remove_at_any_price(&self, name: &str, force: bool) -> anyhow::Result<Outcome> {
        self.fake.commands.borrow_mut().clear();
        let progress = &mut Progress::into(std::io::sink());
        let machine = self.fake.machine();
        members::remove(machine, "n2", name, force, &self.places(), progress)
    }

    /// The file, with the password's place as in the constants.
    fn text(&self) -> String {
        let password = self.fake.root.path().join("password");
        let text = std::fs::read_to_string(&self.file).unwrap();
        text.replace(&password.display().to_string(), "PASSWORD")
    }

    fn holders(&self) -> BTreeMap<String, String> {
        self.fake.cluster.borrow().as_ref().unwrap().holders()
    }

    fn slots(&self) -> String {
        plan::slots(self.fake.cluster.borrow().as_ref().unwrap().cib()).join(" ")
    }

    /// What was started or stopped on other nodes than `node`.
    fn touched(&self, node: &str) -> Vec<String> {
        let cluster = self.fake.cluster.borrow();
        let done = cluster.as_ref().unwrap().done.iter();
        let acted = done.filter(|a| ["start", "stop"].contains(&a.task.as_str()) && a.node != node);
        acted
            .map(|a| format!("{} {} {}", a.task, a.resource, a.node))
            .collect()
    }

    /// The configuration, whatever order its elements are in.
    fn configuration(&self) -> String {
        let text = self.fake.configuration();
        let mut lines: Vec<&str> = text.lines().map(str::trim).collect();
        lines.sort_unstable();
        lines.join("\n")
    }
}

#[test]
fn a_node_is_added_with_an_address() {
    let town = Town::new();
    let before = town.holders();
    assert_eq!(
        town.add("n3", 3, &["10.0.0.105/24"]).unwrap(),
        Outcome::Done
    );
    let after = town.holders();
    assert_eq!(after["vip-10.0.0.105"], "n3");
    for (vip, holder) in &before {
        assert_eq!(after[vip], *holder, "{vip}");
    }
    assert_eq!(town.slots(), "10.0.0.1 10.0.0.2 10.0.0.10 10.0.0.3");
    // A device of its own, somewhere, and nothing else but on the new node;
    // the new address need not wait for it.
    let mut touched = town.touched("n3");
    touched.retain(|action| !action.contains("fence-n3") && !action.contains("vip-10.0.0.105"));
    assert_eq!(touched, [""; 0]);
    let expected = BEFORE
        .replace(
            "    \"n10\",  # the big one\n",
            "    \"n10\",  # the big one\n    \"n3\",\n",
        )
        .replace(
            "address = \"10.0.0.10\"\n",
            "address = \"10.0.0.10\"\n\n[[node]]\nname = \"n3\"\naddress = \"10.0.0.3\"\n",
        )
        .replace(
            "address = \"10.0.0.104/24\"\n",
            "address = \"10.0.0.104/24\"\n\n[[vip]]\naddress = \"10.0.0.105/24\"\n",
        )
        .replace("# slow\n", "# slow\nnodes.n3 = { ip = \"192.0.2.3\" }\n");
    assert_eq!(town.text(), expected);
    assert_eq!(
        town.add("n3", 3, &["10.0.0.105/24"]).unwrap(),
        Outcome::NothingToDo
    );
    assert_eq!(
        (town.fake.said("pcs"), town.fake.said("cibadmin --patch")),
        (0, 0)
    );
    assert_eq!(town.setup().unwrap(), Outcome::NothingToDo);
}

/// It is banned until CTDB's list names it, which is when it takes part.
#[test]
fn a_node_that_joins_finds_everything_prepared() {
    let town = Town::new();
    let at = |words: &str| {
        let commands = town.fake.commands.borrow();
        let mut all = commands.iter();
        all.position(|cmd| cmd.to_string().starts_with(words))
            .unwrap()
    };
    town.add("n3", 3, &[]).unwrap();
    assert!(at("pcs host auth n3 addr=10.0.0.3") < at("cibadmin --patch"));
    let joins = at("pcs cluster node add n3 addr=10.0.0.3");
    assert!(at("cibadmin --patch") < joins);

    let town = Town::new();
    *town.fake.dies_after.borrow_mut() = Some(joins + 1);
    assert!(killed(|| town.add("n3", 3, &[])).is_none());
    assert_eq!(town.slots(), "10.0.0.1 10.0.0.2 10.0.0.10");
    let state = town.fake.cluster.borrow().as_ref().unwrap().state();
    assert!(state.running("noded").contains(&"n3"));
    for service in ["share", "ctdb", "winbindd", "smbd"] {
        assert_eq!(state.running(service).len(), 3, "{service}");
    }
}

/// The address was forgotten the first time.
#[test]
fn a_node_that_serves_gets_a_further_address_and_goes_on() {
    let town = Town::new();
    town.add("n3", 3, &[]).unwrap();
    let mut cluster = town.fake.cluster.borrow_mut();
    cluster.as_mut().unwrap().done.clear();
    drop(cluster);
    assert_eq!(
        town.add("n3", 3, &["10.0.0.105/24"]).unwrap(),
        Outcome::Done
    );
    assert!(town.holders().contains_key("vip-10.0.0.105"));
    let touched = town.touched("nobody");
    let of_services = touched.iter().filter(|action| !action.contains(" vip-"));
    assert_eq!(of_services.collect::<Vec<_>>(), [""; 0]);
}

/// After a cleanup Pacemaker would restart CTDB for a new list of nodes.
#[test]
fn what_a_cleanup_has_left_restarts_nothing() {
    let town = Town::new();
    {
        let mut cluster = town.fake.cluster.borrow_mut();
        cluster.as_mut().unwrap().mislead("ctdb", "n2");
    }
    town.add("n3", 3, &[]).unwrap();
    assert_eq!(town.fake.said("cibadmin --delete"), 1);
    let mut touched = town.touched("n3");
    touched.retain(|action| action.starts_with("stop") && !action.contains(" vip-"));
    assert_eq!(touched, [""; 0]);
}

/// The same where the file was changed before the verb.
#[test]
fn what_was_written_by_hand_is_carried_out() {
    let (hand, verb) = (Town::new(), Town::new());
    verb.add("n3", 3, &[]).unwrap();
    let with = std::fs::read_to_string(&verb.file).unwrap();
    let path = |town: &Town| town.fake.root.path().display().to_string();
    std::fs::write(&hand.file, with.replace(&path(&verb), &path(&hand))).unwrap();
    assert_eq!(hand.add("n3", 3, &[]).unwrap(), Outcome::Done);
    assert_eq!(hand.slots(), verb.slots());
    assert_eq!(hand.setup().unwrap(), Outcome::NothingToDo);
    verb.remove("n1").unwrap();
    let less = std::fs::read_to_string(&verb.file).unwrap();
    std::fs::write(&hand.file, less.replace(&path(&verb), &path(&hand))).unwrap();
    assert_eq!(hand.remove("n1").unwrap(), Outcome::Done);
    assert_eq!(hand.slots(), "#10.0.0.1 10.0.0.2 10.0.0.10 10.0.0.3");
    assert_eq!(hand.setup().unwrap(), Outcome::NothingToDo);
    // Anything beside it is for setup.
    let text = std::fs::read_to_string(&hand.file).unwrap();
    std::fs::write(&hand.file, text.replace("10.0.0.104", "10.0.0.204")).unwrap();
    let error = hand.remove("n10").unwrap_err().to_string();
    assert!(error.contains("by more than n10"), "{error}");
}

#[test]
fn the_last_good_copy_goes_only_by_force() {
    let town = Town::new();
    let before = (town.text(), town.configuration());
    *town.fake.limping.borrow_mut() = true;
    let error = format!("{:#}", town.remove("n1").unwrap_err());
    assert!(
        error.contains("offline: node1:/brick") && error.contains("--force"),
        "{error}"
    );
    assert_eq!((town.text(), town.configuration()), before);
    assert_eq!(town.remove_at_any_price("n1", true).unwrap(), Outcome::Done);
}

#[test]
fn n1_is_removed_and_n10_is_left_alone() {
    let town = Town::new();
    let before = town.holders();
    assert_eq!(town.remove("n1").unwrap(), Outcome::Done);
    let after = town.holders();
    assert_eq!(after.len(), 4);
    for (vip, holder) in &before {
        assert!(after[vip] == *holder || holder == "n1", "{vip} moved");
    }
    // Each address goes once.
    for (vip, _) in before.iter().filter(|(_, holder)| *holder == "n1") {
        let starts = town.touched("n1");
        let starts = starts
            .iter()
            .filter(|a| a.starts_with(&format!("start {vip} ")));
        assert_eq!(starts.count(), 1, "{vip}");
    }
    let touched = town.touched("n1");
    let services = ["ctdb", "smbd", "winbindd", "share", "noded"];
    assert!(
        !touched
            .iter()
            .any(|action| services.iter().any(|s| action.contains(s))),
        "{touched:?}"
    );
    assert_eq!(town.slots(), "#10.0.0.1 10.0.0.2 10.0.0.10");
    let configuration = town.fake.configuration();
    for trace in ["fence-n1\"", "-n1\"", "\"n1\""] {
        assert!(!configuration.contains(trace), "{trace}");
    }
    for kept in ["fence-n10\"", "storhaug-utilization-n10\"", "192.0.2.10\""] {
        assert!(configuration.contains(kept), "{kept}");
    }
    let corosync = std::fs::read_to_string(town.fake.corosync_conf()).unwrap();
    assert!(corosync.contains("name: n10\n") && !corosync.contains("name: n1\n"));
    let expected = BEFORE
        .replace("    \"n1\",   # the old one\n", "")
        .replace(
            "# By the window.\n[[node]]\nname = \"n1\"\naddress = \"10.0.0.1\"\n\n",
            "",
        )
        .replace("[\"n1\", \"n10\"]", "[\"n10\"]")
        .replace("nodes.n1 = { ip = \"192.0.2.1\" }\n", "");
    assert_eq!(town.text(), expected);
    assert_eq!(town.setup().unwrap(), Outcome::NothingToDo);
}

#[test]
fn a_node_that_comes_back_has_its_slot_again() {
    let town = Town::new();
    town.remove("n1").unwrap();
    town.add("n1", 1, &[]).unwrap();
    assert_eq!(town.slots(), "10.0.0.1 10.0.0.2 10.0.0.10");
    town.remove("n10").unwrap();
    town.add("n4", 4, &[]).unwrap();
    assert_eq!(town.slots(), "10.0.0.1 10.0.0.2 #10.0.0.10 10.0.0.4");
}

/// From three to two and back: the head start of the one that fences first.
#[test]
fn two_nodes_are_fenced_one_after_the_other() {
    let town = Town::new();
    town.remove("n10").unwrap();
    assert!(town.fake.configuration().contains("pcmk_delay_base"));
    assert_eq!(town.remove("n1").unwrap(), Outcome::Done);
    assert!(!town.fake.configuration().contains("pcmk_delay_base"));
    town.add("n1", 1, &[]).unwrap();
    town.add("n10", 10, &[]).unwrap();
    assert!(!town.fake.configuration().contains("pcmk_delay_base"));
}

#[test]
fn what_would_be_lost_is_said() {
    let town = Town::new();
    let refused = |name: &str| {
        let before = (town.text(), town.configuration());
        let error = town.remove(name).unwrap_err().to_string();
        assert_eq!((town.text(), town.configuration()), before);
        assert_eq!(
            (town.fake.said("pcs"), town.fake.said("cibadmin --patch")),
            (0, 0)
        );
        error
    };
    assert_eq!(town.remove("n3").unwrap(), Outcome::NothingToDo);
    assert!(refused("n2").contains("on another one"));
    town.fake
        .cluster
        .borrow_mut()
        .as_mut()
        .unwrap()
        .crash("n10");
    town.fake.cluster.borrow_mut().as_mut().unwrap().settle();
    let error = refused("n1");
    assert!(
        error.contains("no quorum") && error.contains("start n10 first"),
        "{error}"
    );
    let error = town.add("n3", 3, &[]).unwrap_err().to_string();
    assert!(error.contains("start n10 first"), "{error}");
    // The lost one can go.
    assert_eq!(town.remove("n10").unwrap(), Outcome::Done);
    assert_eq!(
        town.fake
            .said("pcs cluster node remove n10 --skip-offline --force"),
        1
    );
    assert!(!town.fake.configuration().contains("\"n10\""));
    assert_eq!(town.slots(), "10.0.0.1 10.0.0.2 #10.0.0.10");
    assert_eq!(town.remove("n1").unwrap(), Outcome::Done);
}

/// pcs gives the new list of members to nobody, unless it reaches all: that is
/// found out before the node has stopped serving.
#[test]
fn nothing_is_emptied_while_another_node_is_down() {
    let town = Town::new();
    town.add("n3", 3, &[]).unwrap();
    town.add("n4", 4, &[]).unwrap();
    {
        let mut cluster = town.fake.cluster.borrow_mut();
        let cluster = cluster.as_mut().unwrap();
        cluster.crash("n10");
        cluster.settle();
        cluster.done.clear();
    }
    let before = (town.text(), town.configuration(), town.holders());
    for force in [false, true] {
        let error = town.remove_at_any_price("n1", force).unwrap_err();
        let error = error.to_string();
        assert!(error.contains("start n10 first, or take it out"), "{error}");
        let after = (town.text(), town.configuration(), town.holders());
        assert_eq!(after, before);
        assert_eq!(town.touched("nobody"), [""; 0]);
    }
    assert_eq!(town.remove("n10").unwrap(), Outcome::Done);
    assert_eq!(town.remove("n1").unwrap(), Outcome::Done);
    assert_eq!(town.setup().unwrap(), Outcome::NothingToDo);
}

/// One of two is lost for good.
#[test]
fn the_survivor_of_two_goes_on_alone() {
    let town = Town::new();
    town.remove("n10").unwrap();
    {
        let mut cluster = town.fake.cluster.borrow_mut();
        let cluster = cluster.as_mut().unwrap();
        cluster.crash("n1");
        cluster.settle();
    }
    assert_eq!(town.remove("n1").unwrap(), Outcome::Done);
    assert_eq!(town.holders().len(), 4);
    assert!(town.holders().values().all(|holder| holder == "n2"));
    assert_eq!(town.setup().unwrap(), Outcome::NothingToDo);
}

#[test]
fn a_node_without_a_device_is_refused() {
    let town = Town::new();
    let addition = Addition {
        node: NewNode {
            name: "n3".into(),
            address: None,
            storage: true,
            fencing: Vec::new(),
        },
        vips: Vec::new(),
    };
    let progress = &mut Progress::into(std::io::sink());
    let machine = town.fake.machine();
    let error = members::add(machine, "elsewhere", &addition, &town.places(), progress);
    let error = error.unwrap_err();
    assert!(error.to_string().contains("--fence"), "{error}");
}

#[test]
fn what_pcs_refuses_leaves_no_trace() {
    let town = Town::new();
    let before = (town.text(), town.configuration());
    *town.fake.refusing.borrow_mut() = true;
    town.add("n3", 3, &["10.0.0.105/24"]).unwrap_err();
    assert_eq!((town.text(), town.configuration()), before);
    *town.fake.refusing.borrow_mut() = false;
    assert_eq!(
        town.add("n3", 3, &["10.0.0.105/24"]).unwrap(),
        Outcome::Done
    );
}

/// A list of nodes that was edited by hand is for these verbs.
#[test]
fn setup_names_the_verb_for_a_changed_list_of_nodes() {
    let town = Town::new();
    let text = std::fs::read_to_string(&town.file).unwrap();
    let more = text
        .replace("    \"n2\",\n", "    \"n2\",\n    \"localhost\",\n")
        .replace(
            "nodes.n1 =",
            "nodes.localhost = { ip = \"192.0.2.9\" }\nnodes.n1 =",
        );
    std::fs::write(&town.file, more).unwrap();
    let error = town.setup().unwrap_err().to_string();
    assert!(error.contains("`storhaug add localhost`"), "{error}");
    let less = text
        .replace("    \"n2\",\n", "")
        .replace("nodes.n2 = { ip = \"192.0.2.2\" }\n", "");
    let less = less.replace("[[node]]\nname = \"n2\"\naddress = \"10.0.0.2\"\n", "");
    std::fs::write(&town.file, less).unwrap();
    let error = town.setup().unwrap_err().to_string();
    assert!(error.contains("`storhaug remove n2`"), "{error}");
}

/// Killed after any command that changes something, or right after the file was
/// written, the same verb completes the work.
fn is_completed_by_the_next(verb: fn(&Town) -> anyhow::Result<Outcome>) {
    let whole = Town::new();
    assert_eq!(verb(&whole).unwrap(), Outcome::Done);
    let commands = whole.fake.commands.take();
    let mut points = BTreeSet::new();
    for (index, cmd) in commands.iter().enumerate() {
        let words = cmd.to_string();
        let pushed = words.starts_with("cibadmin --patch");
        if pushed || words.starts_with("pcs") {
            points.insert(index + 1);
            points.extend(pushed.then_some(index + 2));
        }
    }
    assert!(points.len() > 4, "{points:?}");
    for point in points {
        let town = Town::new();
        *town.fake.dies_after.borrow_mut() = Some(point);
        assert!(killed(|| verb(&town)).is_none(), "{point}");
        *town.fake.dies_after.borrow_mut() = None;
        let after = &commands[point - 1];
        verb(&town).unwrap_or_else(|error| panic!("after {after}: {error:#}"));
        assert_eq!(town.text(), whole.text(), "after {after}");
        assert_eq!(town.holders(), whole.holders(), "after {after}");
        assert_eq!(town.slots(), whole.slots(), "after {after}");
        assert_eq!(town.setup().unwrap(), Outcome::NothingToDo, "after {after}");
    }
}

#[test]
fn an_addition_that_was_killed_is_completed_by_the_next() {
    is_completed_by_the_next(|town| town.add("n3", 3, &["10.0.0.105/24"]));
}

#[test]
fn a_removal_that_was_killed_is_completed_by_the_next() {
    is_completed_by_the_next(|town| town.remove("n1"));
}

/// The same where pcs itself was killed, with half of the cluster told.
#[test]
fn a_removal_whose_pcs_was_killed_is_completed_by_the_next() {
    let whole = Town::new();
    whole.remove("n1").unwrap();
    for step in [1, 2] {
        let town = Town::new();
        *town.fake.dies_inside.borrow_mut() = Some(step);
        assert!(killed(|| town.remove("n1")).is_none());
        *town.fake.dies_inside.borrow_mut() = None;
        assert_eq!(town.remove("n1").unwrap(), Outcome::Done);
        assert_eq!(town.text(), whole.text(), "step {step}");
        assert_eq!(town.holders(), whole.holders(), "step {step}");
        assert_eq!(town.slots(), whole.slots(), "step {step}");
        assert!(!town.configuration().contains("\"n1\""), "step {step}");
        assert_eq!(town.setup().unwrap(), Outcome::NothingToDo);
        assert_eq!(town.remove("n1").unwrap(), Outcome::NothingToDo);
    }
    // Where the node was struck off the file meanwhile, setup sees to it.
    let town = Town::new();
    *town.fake.dies_inside.borrow_mut() = Some(2);
    assert!(killed(|| town.remove("n1")).is_none());
    *town.fake.dies_inside.borrow_mut() = None;
    let less = std::fs::read_to_string(&whole.file).unwrap();
    let path = |town: &Town| town.fake.root.path().display().to_string();
    std::fs::write(&town.file, less.replace(&path(&whole), &path(&town))).unwrap();
    assert_eq!(town.setup().unwrap(), Outcome::Done);
    assert_eq!(town.fake.said("pcs cluster node clear n1"), 1);
    assert_eq!(town.setup().unwrap(), Outcome::NothingToDo);
}
