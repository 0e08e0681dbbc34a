//! The records that `storhaug dns` makes of a cluster, as Pacemaker tells of it.

#![expect(
    clippy::unwrap_used,
    reason = "a machine that cannot be faked fails its test"
)]

mod simulator;

use anyhow::bail;
use simulator::Simulation;
use storhaug::machine::Machine;
use storhaug::status::{self, Status};
use storhaug::{corosync, dns};
use storhaug_agents::deadline::Deadline;
use storhaug_agents::exec::{Cmd, Output, Runner};

/// What the tools say.
struct Tools {
    crm_mon: String,
    cib: String,
}

impl Runner for Tools {
    fn run(&self, cmd: &Cmd, _: Deadline) -> anyhow::Result<Output> {
        let said = match cmd.words()[0] {
            "crm_mon" => &self.crm_mon,
            "cibadmin" => &self.cib,
            other => bail!("{other} was run"),
        };
        Ok(Output::exited(cmd, 0, said, ""))
    }
}

/// The status of a cluster.
fn look(simulation: &Simulation) -> Status {
    let root = tempfile::tempdir().unwrap();
    let conf = root.path().join(corosync::PATH.trim_start_matches('/'));
    std::fs::create_dir_all(conf.parent().unwrap()).unwrap();
    std::fs::write(conf, "totem {\n cluster_name: storhaug\n}\n").unwrap();
    let tools = Tools {
        crm_mon: simulation.crm_mon(),
        cib: simulation.cib().to_string(),
    };
    let root = root.path();
    status::look(Machine {
        runner: &tools,
        root,
    })
    .unwrap()
}

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
    let status = look(&simulation);
    assert_eq!(
        dns::zone(&status, "files.example.com.", 30).unwrap(),
        "files.example.com.\t30\tIN\tA\t10.0.0.101\n\
         files.example.com.\t30\tIN\tA\t10.0.0.102\n\
         files.example.com.\t30\tIN\tA\t10.0.0.103\n"
    );
    // What another node took over is served; until then it is not.
    simulation.crash("node2");
    simulation.settle();
    assert_eq!(records(&look(&simulation)), ALL);
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
    let mut status = look(&simulation);
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
    let mut status = look(&simulation);
    let error = dns::zone(&status, "two words", 10).unwrap_err().to_string();
    assert!(error.contains("`two words` is no name of DNS"), "{error}");
    status.addresses.clear();
    let error = dns::zone(&status, "files", 10).unwrap_err().to_string();
    assert!(error.contains("storhaug status"), "{error}");
}
