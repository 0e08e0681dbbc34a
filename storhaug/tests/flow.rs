//! `setup` and `teardown` from end to end, against a machine whose Pacemaker
//! is the simulator's and whose pcs only writes down what it is asked.

#![expect(
    clippy::unwrap_used,
    reason = "a machine that cannot be faked fails its test"
)]

mod simulator;

use std::cell::RefCell;
use std::path::Path;
use std::time::Duration;

use anyhow::bail;
use simulator::Simulation;
use storhaug::config::{self, Loaded, Places};
use storhaug::machine::Machine;
use storhaug::progress::Progress;
use storhaug::setup::{self, Adopt, Outcome};
use storhaug::teardown;
use storhaug::xml::Element;
use storhaug_agents::deadline::Deadline;
use storhaug_agents::exec::{Cmd, Host, Output, Runner};

const PASSWORD: &str = "correct horse battery";

/// A machine that pcs, Pacemaker's tools and a fence agent are installed on.
struct Fake {
    root: tempfile::TempDir,
    cluster: RefCell<Option<Simulation>>,
    commands: RefCell<Vec<Cmd>>,
    /// Number of pushes to refuse because somebody else was faster.
    contended: RefCell<u32>,
    /// The call of pcs at which the power goes.
    dies_at: RefCell<Option<&'static str>>,
    /// A node is in another cluster.
    refusing: RefCell<bool>,
}

impl Fake {
    fn new() -> Fake {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("run")).unwrap();
        std::fs::create_dir_all(root.path().join("etc/corosync")).unwrap();
        Fake {
            root,
            cluster: RefCell::new(None),
            commands: RefCell::default(),
            contended: RefCell::new(0),
            dies_at: RefCell::new(None),
            refusing: RefCell::new(false),
        }
    }

    fn setup(&self, loaded: &Loaded) -> anyhow::Result<Outcome> {
        self.commands.borrow_mut().clear();
        let password = loaded.password()?;
        setup::apply(
            self.machine(),
            loaded,
            &password,
            Adopt::No,
            &mut Progress::into(std::io::sink()),
        )
    }

    fn teardown(&self) -> anyhow::Result<Outcome> {
        self.teardown_of(Some("test"))
    }

    fn teardown_of(&self, configured: Option<&str>) -> anyhow::Result<Outcome> {
        self.commands.borrow_mut().clear();
        let progress = &mut Progress::into(std::io::sink());
        teardown::apply(self.machine(), configured, progress)
    }

    fn machine(&self) -> Machine<'_> {
        Machine {
            runner: self,
            root: self.root.path(),
        }
    }

    fn said(&self, words: &str) -> usize {
        let commands = self.commands.borrow();
        commands
            .iter()
            .filter(|cmd| cmd.to_string().starts_with(words))
            .count()
    }

    fn configuration(&self) -> String {
        let cluster = self.cluster.borrow();
        cluster
            .as_ref()
            .unwrap()
            .cib()
            .find("configuration")
            .unwrap()
            .to_string()
    }

    fn corosync_conf(&self) -> std::path::PathBuf {
        self.root.path().join("etc/corosync/corosync.conf")
    }

    fn pcs(&self, cmd: &Cmd) -> anyhow::Result<()> {
        let words = cmd.words();
        match words[1..3] {
            ["host", "auth"] => {}
            ["cluster", "setup"] if *self.refusing.borrow() => bail!("node3 is in a cluster"),
            ["cluster", "setup"] => {
                let nodes: Vec<&str> = words
                    .iter()
                    .copied()
                    .filter(|word| word.starts_with("node"))
                    .collect();
                let mut text = format!("totem {{\n cluster_name: {}\n}}\nnodelist {{\n", words[3]);
                for node in &nodes {
                    text.push_str(&format!(" node {{\n name: {node}\n }}\n"));
                }
                text.push_str("}\n");
                std::fs::write(self.corosync_conf(), text)?;
                *self.cluster.borrow_mut() = Some(Simulation::bare(&nodes));
            }
            ["cluster", "destroy"] => {
                std::fs::remove_file(self.corosync_conf())?;
                *self.cluster.borrow_mut() = None;
            }
            ["cluster", "stop" | "start" | "enable"] => {}
            _ => bail!("pcs was asked for `{cmd}`"),
        }
        Ok(())
    }

    fn patch(&self, difference: &[u8]) -> anyhow::Result<u8> {
        let mut cluster = self.cluster.borrow_mut();
        let cluster = cluster.as_mut().unwrap();
        let mut contended = self.contended.borrow_mut();
        if *contended > 0 {
            *contended -= 1;
            return Ok(103);
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
        cluster.replace(Element::parse(&output.text())?);
        Ok(0)
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
            "crm_mon" => match &*self.cluster.borrow() {
                Some(cluster) => Output::exited(cmd, 0, &cluster.crm_mon(), ""),
                None => return offline(),
            },
            "cibadmin" if words.contains(&"--query") => match &*self.cluster.borrow() {
                Some(cluster) => Output::exited(cmd, 0, &cluster.cib().to_string(), ""),
                None => return offline(),
            },
            "cibadmin" => Output::exited(cmd, self.patch(cmd.input().unwrap_or_default())?, "", ""),
            "crm_diff" | "crm_verify" => Host.run(cmd, deadline)?,
            other => bail!("{other} was run"),
        };
        if died {
            *self.dies_at.borrow_mut() = None;
            bail!("the power went");
        }
        Ok(output)
    }
}

fn configuration(directory: &Path, vips: usize) -> Loaded {
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

#[test]
fn a_second_setup_calls_no_pcs_and_pushes_nothing() {
    let fake = Fake::new();
    let loaded = configuration(fake.root.path(), 3);
    assert_eq!(fake.setup(&loaded).unwrap(), Outcome::Done);
    assert_eq!(fake.said("cibadmin --patch"), 1);
    let before = fake.configuration();
    assert_eq!(fake.setup(&loaded).unwrap(), Outcome::NothingToDo);
    assert_eq!((fake.said("pcs"), fake.said("cibadmin --patch")), (0, 0));
    assert_eq!(fake.configuration(), before);
}

#[test]
fn the_number_of_pcs_calls_does_not_depend_on_the_addresses() {
    let counts = [1, 16].map(|vips| {
        let fake = Fake::new();
        fake.setup(&configuration(fake.root.path(), vips)).unwrap();
        fake.said("pcs")
    });
    assert_eq!(counts, [2, 2]);
}

#[test]
fn the_password_goes_to_pcs_by_standard_input_alone() {
    let fake = Fake::new();
    fake.setup(&configuration(fake.root.path(), 1)).unwrap();
    let commands = fake.commands.borrow();
    for cmd in commands.iter() {
        assert!(!format!("{:?}", cmd.words()).contains(PASSWORD), "{cmd}");
        let input = String::from_utf8_lossy(cmd.input().unwrap_or_default()).into_owned();
        let expected = cmd.words()[..].starts_with(&["pcs", "host", "auth"]);
        assert_eq!(input.contains(PASSWORD), expected, "{cmd}");
    }
    assert!(!fake.configuration().contains(PASSWORD));
}

#[test]
fn an_edit_changes_just_the_difference() {
    let fake = Fake::new();
    fake.setup(&configuration(fake.root.path(), 2)).unwrap();
    let before = fake.configuration();
    assert_eq!(
        fake.setup(&configuration(fake.root.path(), 3)).unwrap(),
        Outcome::Done
    );
    assert_eq!((fake.said("pcs"), fake.said("cibadmin --patch")), (0, 1));
    assert_ne!(fake.configuration(), before);
    // And back: what was added goes without a trace.
    fake.setup(&configuration(fake.root.path(), 2)).unwrap();
    assert_eq!(fake.configuration(), before);
}

#[test]
fn an_interrupted_setup_is_completed_by_the_next() {
    for point in [
        "fence_ipmilan",
        "pcs host auth",
        "crm_verify",
        "cibadmin --patch",
    ] {
        let fake = Fake::new();
        let loaded = configuration(fake.root.path(), 2);
        *fake.dies_at.borrow_mut() = Some(point);
        fake.setup(&loaded).unwrap_err();
        fake.setup(&loaded)
            .unwrap_or_else(|error| panic!("after {point}: {error:#}"));
        assert_eq!(
            fake.setup(&loaded).unwrap(),
            Outcome::NothingToDo,
            "after {point}"
        );
    }
}

/// A node answered too late when pcs had begun: it left the others half made.
#[test]
fn a_cluster_left_half_made_is_made_again() {
    let fake = Fake::new();
    let loaded = configuration(fake.root.path(), 2);
    *fake.dies_at.borrow_mut() = Some("pcs cluster setup");
    assert_eq!(fake.setup(&loaded).unwrap(), Outcome::Done);
    assert_eq!(fake.said("pcs cluster setup"), 2);
    let commands = fake.commands.borrow();
    let again = commands
        .iter()
        .rfind(|cmd| cmd.to_string().starts_with("pcs cluster setup"));
    assert!(again.unwrap().words().contains(&"--force"));
}

/// pcs refuses nodes of another cluster before it touches anything; to insist
/// would destroy that cluster.
#[test]
fn a_refusal_of_pcs_is_never_overridden() {
    let fake = Fake::new();
    *fake.refusing.borrow_mut() = true;
    let loaded = configuration(fake.root.path(), 2);
    for _ in 0..2 {
        fake.setup(&loaded).unwrap_err();
        let commands = fake.commands.borrow();
        assert!(!commands.iter().any(|cmd| cmd.words().contains(&"--force")));
    }
}

#[test]
fn somebody_who_is_faster_makes_it_compare_again() {
    let fake = Fake::new();
    let loaded = configuration(fake.root.path(), 2);
    *fake.contended.borrow_mut() = 3;
    assert_eq!(fake.setup(&loaded).unwrap(), Outcome::Done);
    assert_eq!(fake.said("cibadmin --patch"), 4);
}

#[test]
fn what_is_not_ours_is_left_alone() {
    let fake = Fake::new();
    let loaded = configuration(fake.root.path(), 2);
    fake.setup(&loaded).unwrap();
    let foreign =
        Element::parse(r#"<primitive id="theirs" class="ocf" provider="pacemaker" type="Dummy"/>"#)
            .unwrap();
    fake.cluster
        .borrow_mut()
        .as_mut()
        .unwrap()
        .configure(|configuration| {
            configuration
                .entry("resources")
                .children
                .push(foreign.clone());
        });
    assert_eq!(fake.setup(&loaded).unwrap(), Outcome::NothingToDo);
    fake.teardown().unwrap();
    assert_eq!(fake.said("pcs"), 0, "the cluster of others must stay");
    let cluster = fake.cluster.borrow();
    let left = cluster
        .as_ref()
        .unwrap()
        .cib()
        .at(&["configuration", "resources"])
        .unwrap();
    assert_eq!(left.children, [foreign]);
}

#[test]
fn a_cluster_that_serves_something_else_is_adopted_only_on_demand() {
    let fake = Fake::new();
    let loaded = configuration(fake.root.path(), 2);
    fake.setup(&loaded).unwrap();
    // The same cluster, before storhaug: members, and a resource of others.
    let mut bare = Simulation::bare(&["node1", "node2", "node3"]);
    bare.configure(|configuration| {
        let theirs = r#"<primitive id="theirs" class="ocf" provider="pacemaker" type="Dummy"/>"#;
        configuration
            .entry("resources")
            .children
            .push(Element::parse(theirs).unwrap());
    });
    *fake.cluster.borrow_mut() = Some(bare);
    let error = fake.setup(&loaded).unwrap_err().to_string();
    assert!(
        error.contains("theirs") && error.contains("--adopt"),
        "{error}"
    );
    assert_eq!(fake.said("cibadmin --patch"), 0);
}

#[test]
fn teardown_takes_the_cluster_apart_and_setup_works_again() {
    let fake = Fake::new();
    let loaded = configuration(fake.root.path(), 2);
    fake.setup(&loaded).unwrap();
    assert_eq!(fake.teardown().unwrap(), Outcome::Done);
    assert_eq!(fake.said("pcs cluster destroy --all"), 1);
    assert!(!fake.corosync_conf().exists());
    assert_eq!(fake.teardown().unwrap(), Outcome::NothingToDo);
    assert_eq!(fake.setup(&loaded).unwrap(), Outcome::Done);
}

/// The timeouts of Corosync are another's, and would be changed as well.
#[test]
fn the_cluster_of_others_is_refused_before_anything_is_changed() {
    let fake = Fake::new();
    let loaded = configuration(fake.root.path(), 2);
    fake.setup(&loaded).unwrap();
    let conf = std::fs::read_to_string(fake.corosync_conf()).unwrap();
    let tuned = conf.replacen("totem {\n", "totem {\n token: 10000\n", 1);
    std::fs::write(fake.corosync_conf(), tuned).unwrap();
    let mut bare = Simulation::bare(&["node1", "node2", "node3"]);
    bare.configure(|configuration| {
        let theirs = r#"<primitive id="theirs" class="ocf" provider="pacemaker" type="Dummy"/>"#;
        let resources = configuration.entry("resources");
        resources.children.push(Element::parse(theirs).unwrap());
    });
    *fake.cluster.borrow_mut() = Some(bare);
    let error = fake.setup(&loaded).unwrap_err().to_string();
    assert!(error.contains("--adopt"), "{error}");
    assert_eq!((fake.said("pcs"), fake.said("cibadmin --patch")), (0, 0));
}

#[test]
fn teardown_leaves_an_empty_cluster_of_others_alone() {
    let fake = Fake::new();
    let loaded = configuration(fake.root.path(), 2);
    fake.setup(&loaded).unwrap();
    *fake.cluster.borrow_mut() = Some(Simulation::bare(&["node1", "node2", "node3"]));
    for configured in [None, Some("another")] {
        let error = fake.teardown_of(configured).unwrap_err().to_string();
        assert!(error.contains("pcs cluster destroy"), "{error}");
        assert_eq!((fake.said("pcs"), fake.said("cibadmin --patch")), (0, 0));
    }
    // One that does not run is not started to have a look.
    let running = fake.cluster.borrow_mut().take();
    fake.teardown_of(None).unwrap_err();
    assert_eq!(fake.said("pcs"), 0);
    // What an interrupted setup has left is taken apart.
    *fake.cluster.borrow_mut() = running;
    assert_eq!(fake.teardown().unwrap(), Outcome::Done);
}

#[test]
fn a_virtual_address_is_not_in_its_own_network() {
    let directory = tempfile::tempdir().unwrap();
    let loaded = configuration(directory.path(), 1);
    let refused = |networks: &[&str]| {
        let networks: Vec<_> = networks.iter().map(|n| n.parse().unwrap()).collect();
        loaded.check_networks(&networks).is_err()
    };
    assert!(!refused(&["192.0.2.1/24", "10.0.0.1/24"]));
    assert!(refused(&["192.0.2.1/24", "10.0.0.100/24"]));
}
