//! What `storhaug plan` says about the time until a silent node is noticed.

#![expect(
    clippy::unwrap_used,
    reason = "a plan that cannot be made fails its test"
)]

mod simulator;

use serde_json::json;
use simulator::{Simulation, cluster, facts};
use storhaug::cluster::Failover;
use storhaug::corosync::{self, Corosync};
use storhaug::plan::{Live, Plan};
use storhaug::show::{self, Outlook};

/// The plan for three nodes, beside a cluster that has them or beside none.
fn plan(failover: Failover, live: Live) -> Plan {
    let mut cluster = cluster(3, 1);
    cluster.failover = failover;
    Plan::make(&cluster, &facts(&cluster), &live).unwrap()
}

#[test]
fn a_new_cluster_is_told_with_both_timeouts() {
    let plan = plan(Failover::Default, Live::default());
    let text = show::plan_text(&plan, &Outlook::default());
    let line = "a silent node is noticed after 8.03 s: token 3.65 s + consensus 4.38 s \
                (corosync.conf(5))";
    assert_eq!(text.lines().nth(1), Some(line));
    let shown = show::plan_json(&plan, &Outlook::default());
    assert_eq!(shown["detection_ms"], json!({"from": null, "to": 8030}));
    assert_eq!(
        shown["detection"]["to"],
        json!({"token_ms": 3650, "consensus_ms": 4380})
    );
    assert_eq!(shown["detection"]["source"], "corosync.conf(5)");
}

#[test]
fn a_change_is_told_with_the_time_before() {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(root.path().join("etc/corosync")).unwrap();
    let nodes = "node {\n name: node1\n}\nnode {\n name: node2\n}\nnode {\n name: node3\n}\n";
    let conf =
        format!("totem {{\n cluster_name: storhaug\n version: 2\n}}\nnodelist {{\n{nodes}}}\n");
    std::fs::write(root.path().join(&corosync::PATH[1..]), conf).unwrap();
    let live = Live {
        corosync: Corosync::read(root.path()).unwrap(),
        cib: Some(Simulation::started(&cluster(3, 1)).cib().clone()),
    };
    let plan = plan(Failover::Fast, live);
    let text = show::plan_text(&plan, &Outlook::default());
    let line = "~ a silent node is noticed after 8.03 s → 2.20 s: token 1.00 s + consensus 1.20 s \
                (corosync.conf(5))";
    assert_eq!(text.lines().nth(1), Some(line));
    let shown = show::plan_json(&plan, &Outlook::default());
    assert_eq!(shown["detection_ms"], json!({"from": 8030, "to": 2200}));
    assert_eq!(
        shown["detection"]["from"],
        json!({"token_ms": 3650, "consensus_ms": 4380})
    );
}
