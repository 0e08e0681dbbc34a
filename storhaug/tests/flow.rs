//! `setup` and `teardown` from end to end, against a machine whose Pacemaker
//! is the simulator's and whose pcs only writes down what it is asked.

mod fake;
mod simulator;

use fake::{Fake, PASSWORD, configuration};
use simulator::Simulation;
use storhaug::apply::Outcome;
use storhaug::config::{self, Places};
use storhaug::xml::Element;

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

/// Pacemaker takes a moment to begin, and all seems well meanwhile.
#[test]
fn done_is_said_when_what_has_to_restart_has() {
    let fake = Fake::new();
    let loaded = configuration(fake.root.path(), 2);
    fake.setup(&loaded).unwrap();
    fake.acted();
    let file = fake.root.path().join("2.conf");
    let text = std::fs::read_to_string(&file).unwrap();
    let slower = text.replace("\"glusterfs\"\n", "\"glusterfs\"\noptions = \"acl\"\n");
    std::fs::write(&file, slower).unwrap();
    *fake.slow.borrow_mut() = 5;
    let loaded = config::load(&Places::File(file)).unwrap();
    assert_eq!(fake.setup(&loaded).unwrap(), Outcome::Done);
    let acted = fake.acted();
    for node in 1..=3 {
        for service in ["share", "smbd"] {
            let start = format!("start {service} node{node}");
            assert!(acted.contains(&start), "no {start}: {acted:?}");
        }
    }
}

/// After a cleanup Pacemaker would restart CTDB for a new list of nodes.
#[test]
fn a_list_of_nodes_is_loaded_without_a_restart() {
    let fake = Fake::new();
    let loaded = configuration(fake.root.path(), 2);
    fake.setup(&loaded).unwrap();
    fake.cluster
        .borrow_mut()
        .as_mut()
        .unwrap()
        .mislead("ctdb", "node2");
    fake.acted();
    let file = fake.root.path().join("2.conf");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("10.0.0.3\"", "10.0.0.4\"")).unwrap();
    let loaded = config::load(&Places::File(file)).unwrap();
    assert_eq!(fake.setup(&loaded).unwrap(), Outcome::Done);
    assert!(fake.configuration().contains("10.0.0.2 #10.0.0.3 10.0.0.4"));
    assert_eq!(fake.said("cibadmin --delete"), 1);
    let stopped = fake.acted();
    assert!(
        !stopped.iter().any(|what| what.starts_with("stop")),
        "{stopped:?}"
    );
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
