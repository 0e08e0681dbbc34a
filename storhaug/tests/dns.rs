//! The records that `storhaug dns` makes of a cluster, as Pacemaker tells of it.

#![expect(
    clippy::unwrap_used,
    reason = "a machine that cannot be faked fails its test"
)]

mod simulator;

use simulator::Simulation;
use storhaug::dns;
use storhaug::status::Status;

/// The addresses in the records of a status.
fn records(status: &Status) -> Vec<String> {
    let text = dns::zone(status, "files", 10).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with(';'));
    lines
        .map(|line| line.rsplit('\t').next().unwrap().to_owned())
        .collect()
}

const ALL: [&str; 3] = ["10.0.0.101", "10.0.0.102", "10.0.0.103"];

#[test]
fn a_record_for_each_address_that_a_healthy_node_holds() {
    let mut simulation = Simulation::started(&simulator::cluster(3, 3));
    let status = simulation.member().look();
    assert_eq!(
        dns::zone(&status, "files.example.com.", 30).unwrap(),
        "files.example.com.\t30\tIN\tA\t10.0.0.101\n\
         files.example.com.\t30\tIN\tA\t10.0.0.102\n\
         files.example.com.\t30\tIN\tA\t10.0.0.103\n"
    );
    // What another node took over is served; until then it is not.
    simulation.crash("node2");
    simulation.settle();
    assert_eq!(records(&simulation.member().look()), ALL);
    let mut lost = status.clone();
    let holder = lost.state.running("vip-10.0.0.102")[0].to_owned();
    lost.state.nodes.get_mut(&holder).unwrap().unclean = true;
    let kept: Vec<&str> = ALL
        .into_iter()
        .filter(|address| *address != "10.0.0.102")
        .collect();
    assert_eq!(records(&lost), kept);
}

#[test]
fn there_is_always_a_record() {
    let simulation = Simulation::started(&simulator::cluster(2, 2));
    let mut status = simulation.member().look();
    for node in status.state.nodes.values_mut() {
        node.standby = true;
    }
    assert_eq!(records(&status), ALL[..2]);
    let text = dns::zone(&status, "files", 10).unwrap();
    assert!(text.starts_with("; no node is healthy"), "{text}");
    status.state.instances.clear();
    assert_eq!(records(&status), ALL[..2]);
    let text = dns::zone(&status, "files", 10).unwrap();
    assert!(text.starts_with("; no address is held"), "{text}");
}

#[test]
fn what_is_no_name_or_no_cluster_is_told() {
    let simulation = Simulation::started(&simulator::cluster(1, 1));
    let mut status = simulation.member().look();
    let error = dns::zone(&status, "two words", 10).unwrap_err().to_string();
    assert!(error.contains("`two words` is no name of DNS"), "{error}");
    status.addresses.clear();
    let error = dns::zone(&status, "files", 10).unwrap_err().to_string();
    assert!(error.contains("storhaug status"), "{error}");
}
