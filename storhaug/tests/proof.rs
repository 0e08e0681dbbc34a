//! What Pacemaker makes of the configuration, asked of its own scheduler.

mod simulator;

use std::collections::{BTreeMap, BTreeSet};

use simulator::{Action, Simulation, cluster};
use storhaug::cluster::{Cluster, Fencing, Nfs, Placement, Service, Storage};
use storhaug::pacemaker;
use storhaug::plan::{Live, Plan};
use storhaug::xml::Element;
use storhaug_agents::exec::Host;

fn spread(loads: &[usize]) -> usize {
    let most = loads.iter().max().copied().unwrap_or_default();
    most - loads.iter().min().copied().unwrap_or_default()
}

fn vips(actions: &[Action]) -> Vec<&Action> {
    let of_vips = actions
        .iter()
        .filter(|a| a.resource.starts_with("vip-") && a.acts());
    of_vips.collect()
}

fn touched(actions: &[Action]) -> BTreeSet<(&str, &str)> {
    let acted = actions.iter().filter(|action| action.acts());
    acted
        .map(|action| (action.resource.as_str(), action.node.as_str()))
        .collect()
}

#[test]
fn everything_starts_and_addresses_are_spread() {
    let cluster = cluster(3, 5);
    let simulation = Simulation::started(&cluster);
    let names: Vec<String> = cluster.nodes.iter().map(|node| node.name.clone()).collect();
    assert_eq!(simulation.holders().len(), 5);
    assert!(spread(&simulation.loads(&names)) <= 1);
    let wanted = storhaug::desired::wanted(&cluster);
    let missing = storhaug::agreement::missing(&wanted, &simulation.state());
    assert_eq!(missing, []);
}

#[test]
fn a_crash_moves_the_lost_addresses_and_no_other() {
    let cluster = cluster(3, 6);
    let mut simulation = Simulation::started(&cluster);
    let before = simulation.holders();
    simulation.crash("node2");
    simulation.settle();
    let after = simulation.holders();
    assert_eq!(after.len(), 6);
    for (vip, holder) in &before {
        if holder != "node2" {
            assert_eq!(after[vip], *holder, "{vip} moved without need");
        }
    }
    assert!(!after.values().any(|holder| holder == "node2"));
}

/// One failure, a second, and both nodes back.
#[test]
fn balance_holds_after_any_single_and_double_failure() {
    for (nodes, vips) in [(2, 3), (3, 4), (3, 7), (4, 6), (5, 7)] {
        let cluster = cluster(nodes, vips);
        let names: Vec<String> = cluster.nodes.iter().map(|node| node.name.clone()).collect();
        let started = Simulation::started(&cluster);
        for (index, first) in names.iter().enumerate() {
            let mut simulation = started.clone();
            let mut lost = vec![first];
            if nodes > 2 {
                lost.push(&names[(index + 1) % nodes]);
            }
            for (count, node) in lost.iter().enumerate() {
                simulation.crash(node);
                simulation.settle();
                let gone = &lost[..=count];
                let left: Vec<String> = names
                    .iter()
                    .filter(|name| !gone.contains(name))
                    .cloned()
                    .collect();
                let loads = simulation.loads(&left);
                assert_eq!(loads.iter().sum::<usize>(), vips);
                assert!(
                    spread(&loads) <= 1,
                    "{nodes} nodes, {vips} addresses, without {gone:?}: {loads:?}"
                );
            }
            for node in &lost {
                simulation.rejoin(node);
                simulation.settle();
            }
            let loads = simulation.loads(&names);
            assert!(
                spread(&loads) <= 1,
                "{nodes} nodes, {vips} addresses, all back: {loads:?}"
            );
        }
    }
}

/// [`cluster`], with NFS through every address as well.
fn with_nfs(nodes: usize, vips: usize) -> Cluster {
    let mut cluster = cluster(nodes, vips);
    cluster.nfs = Some(Nfs {
        state_volume: "state".into(),
        config: "/etc/ganesha/ganesha.conf".into(),
    });
    for vip in &mut cluster.vips {
        vip.services.insert(Service::Nfs);
    }
    cluster
}

/// A lost address, one that goes home, one that is moved.
#[test]
fn locks_are_taken_over_before_the_address_comes() {
    let mut simulation = Simulation::started(&with_nfs(3, 6));
    let settled = simulation.holders();
    let mut done = simulation.crash("node2");
    done.extend(simulation.settle());
    done.extend(simulation.rejoin("node2"));
    done.extend(simulation.settle());
    assert_eq!(simulation.holders(), settled);
    let came = done
        .iter()
        .enumerate()
        .filter(|(_, action)| action.resource.starts_with("vip-") && action.task == "start");
    let came: Vec<_> = came.collect();
    assert_eq!(came.len(), 4, "{came:#?}");
    for (index, vip) in came {
        let trigger = Action {
            task: "start".into(),
            resource: format!("trigger-{}", vip.resource),
            node: vip.node.clone(),
        };
        let since = done[..index]
            .iter()
            .rposition(|action| action.resource == vip.resource && action.task == "stop");
        let before = &done[since.unwrap_or(0)..index];
        assert!(before.contains(&trigger), "{vip:?} came first: {done:#?}");
    }
}

#[test]
fn an_address_needs_no_trigger() {
    const NODES: [&str; 3] = ["node1", "node2", "node3"];
    let mut simulation = Simulation::started(&with_nfs(3, 3));
    let settled = simulation.holders();
    // As if it had failed everywhere too often.
    let mut cib = simulation.cib().clone();
    let constraints = cib.entry("configuration").entry("constraints");
    for (vip, node) in settled.keys().flat_map(|vip| NODES.map(|node| (vip, node))) {
        let ban = Element::new("rsc_location")
            .with("id", format!("ban-{vip}-{node}"))
            .with("rsc", format!("trigger-{vip}"))
            .with("node", node)
            .with("score", "-INFINITY");
        constraints.children.push(ban);
    }
    simulation.replace(cib);
    assert_eq!(simulation.holders(), settled);
    for vip in settled.keys() {
        let trigger = format!("trigger-{vip}");
        assert_eq!(simulation.state().running(&trigger), [""; 0]);
    }
    simulation.crash("node2");
    simulation.settle();
    assert_eq!(simulation.holders().len(), 3);
}

#[test]
fn a_failing_ganesha_loses_its_addresses_and_leaves_smb_alone() {
    let mut simulation = Simulation::started(&with_nfs(3, 3));
    let failed = "ganesha_monitor_2000@node2=1";
    let done = simulation.transition(&["--op-inject", failed]);
    let acted: BTreeSet<_> = touched(&done).into_iter().map(|(name, _)| name).collect();
    let services = [
        "ctdb",
        "smbd",
        "winbindd",
        "share",
        "noded",
        "ganesha_state",
    ];
    for service in services {
        assert!(!acted.contains(service), "{service}: {done:#?}");
    }
    assert!(acted.contains("ganesha"), "{done:#?}");
}

#[test]
fn a_rejoining_node_gets_addresses_only_when_its_services_work() {
    let mut simulation = Simulation::started(&cluster(3, 3));
    simulation.crash("node2");
    simulation.settle();
    let joining = simulation.rejoin("node2");
    assert!(vips(&joining).is_empty(), "{joining:#?}");
    assert!(
        joining
            .iter()
            .any(|a| a.resource == "smbd" && a.task == "start")
    );
    // Its smbd has said that it works: one stop, one start, nothing else.
    simulation.publish();
    let moving = simulation.transition(&[]);
    let acted = touched(&moving);
    assert!(
        acted
            .iter()
            .all(|(resource, _)| resource.starts_with("vip-")),
        "{acted:?}"
    );
    assert_eq!(vips(&moving).len(), 2, "{moving:#?}");
}

#[test]
fn a_crash_during_a_rejoin_makes_no_address_wait() {
    let mut simulation = Simulation::started(&cluster(4, 4));
    simulation.crash("node2");
    simulation.settle();
    simulation.rejoin("node2");
    // node2 has started everything and serves nothing yet; node3 dies.
    let before = simulation.holders();
    let crash = simulation.crash("node3");
    for action in vips(&crash) {
        assert!(
            before[&action.resource] == "node3",
            "{action:?} concerns a healthy node"
        );
    }
    let position = |task: &str, resource: &str| {
        crash
            .iter()
            .position(|a| a.task == task && a.resource == resource)
    };
    let (lost, _) = before
        .iter()
        .find(|(_, holder)| *holder == "node3")
        .unwrap();
    assert!(
        position("start", lost).is_some(),
        "{lost} is not served in this transition"
    );
    simulation.settle();
    assert_eq!(simulation.holders().len(), 4);
}

#[test]
fn an_smbd_that_does_not_work_loses_its_addresses_and_nothing_else_moves() {
    let mut simulation = Simulation::started(&cluster(3, 3));
    simulation.mute("node1");
    simulation.publish();
    let moving = simulation.transition(&["--op-inject", "smbd_monitor_2000@node1=1"]);
    let touched = touched(&moving);
    for (resource, node) in &touched {
        let expected = resource.starts_with("vip-") || (*resource == "smbd" && *node == "node1");
        assert!(expected, "{resource} on {node} was touched: {moving:#?}");
    }
    simulation.settle();
    let holders = simulation.holders();
    assert_eq!(holders.len(), 3);
    assert!(
        !holders.values().any(|holder| holder == "node1"),
        "{holders:?}"
    );
}

#[test]
fn a_failing_ctdb_restarts_what_needs_it_on_its_node_alone() {
    let mut simulation = Simulation::started(&cluster(3, 3));
    let done = simulation.transition(&["--op-inject", "ctdb_monitor_1000@node1=1"]);
    let touched = touched(&done);
    assert!(touched.contains(&("ctdb", "node1")) && touched.contains(&("smbd", "node1")));
    for (resource, node) in &touched {
        assert!(
            *node == "node1" || resource.starts_with("vip-"),
            "{resource} on {node}"
        );
        assert!(
            !["share", "noded"].contains(resource),
            "{resource} on {node}"
        );
    }
}

#[test]
fn a_failing_winbindd_leaves_everything_else_alone() {
    let mut simulation = Simulation::started(&cluster(3, 3));
    let done = simulation.transition(&["--op-inject", "winbindd_monitor_2000@node1=1"]);
    let touched = touched(&done);
    assert_eq!(
        touched,
        BTreeSet::from([("winbindd", "node1")]),
        "{done:#?}"
    );
}

#[test]
fn a_copy_of_an_address_is_stopped_and_the_address_stays() {
    let mut simulation = Simulation::started(&simulator::cluster(3, 3));
    let holders = simulation.holders();
    let (vip, holder) = holders.first_key_value().unwrap();
    for node in ["node1", "node2", "node3"] {
        if node == holder {
            continue;
        }
        // By the monitor where it is not, and as after `crm_resource --refresh`.
        for interval in [30_000, 0] {
            let found = format!("{vip}_monitor_{interval}@{node}=0");
            let done = simulation.transition(&["--op-inject", &found]);
            let stopped: Vec<_> = vips(&done)
                .into_iter()
                .map(|action| (action.task.as_str(), action.node.as_str()))
                .collect();
            assert_eq!(stopped, [("stop", node)], "{found}: {done:#?}");
            assert_eq!(simulation.holders(), holders);
        }
    }
}

#[test]
fn a_failing_noded_leaves_addresses_alone() {
    let mut simulation = Simulation::started(&cluster(3, 3));
    let done = simulation.transition(&["--op-inject", "noded_monitor_10000@node1=7"]);
    assert_eq!(
        touched(&done),
        BTreeSet::from([("noded", "node1")]),
        "{done:#?}"
    );
}

#[test]
fn a_drained_node_gives_its_addresses_away_before_it_stops() {
    let mut simulation = Simulation::started(&cluster(3, 3));
    let before = simulation.holders();
    let (vip, _) = before
        .iter()
        .find(|(_, holder)| *holder == "node1")
        .unwrap();
    simulation.configure(|configuration| {
        for node in &mut configuration.entry("nodes").children {
            if node.get("uname") == Some("node1") {
                let id = "nodes-node1";
                let standby = storhaug::xml::Element::new("nvpair")
                    .with("id", format!("{id}-standby"))
                    .with("name", "standby")
                    .with("value", "on");
                let set = storhaug::xml::Element::new("instance_attributes").with("id", id);
                node.children.push(set.child(standby));
            }
        }
    });
    let done = simulation.transition(&[]);
    let position = |task: &str, resource: &str| {
        let found = done
            .iter()
            .position(|a| a.task == task && a.resource == resource && a.node == "node1");
        found.unwrap_or_else(|| panic!("no {task} of {resource} in {done:#?}"))
    };
    assert!(position("stop", vip) < position("stop", "smbd"));
    assert!(position("stop", vip) < position("stop", "noded"));
    assert!(position("stop", "smbd") < position("stop", "ctdb"));
    simulation.settle();
    assert_eq!(simulation.holders().len(), 3);
}

/// Pacemaker has nothing against any of the forms a cluster can have.
#[test]
fn every_configuration_is_valid() {
    let plain = || cluster(3, 2);
    let change = |change: fn(&mut Cluster)| {
        let mut cluster = plain();
        change(&mut cluster);
        cluster
    };
    let clusters = [
        ("one node", cluster(1, 1)),
        ("two nodes", cluster(2, 3)),
        ("no address", cluster(3, 0)),
        (
            "deterministic",
            change(|c| c.placement = Placement::Deterministic),
        ),
        ("no fencing", change(|c| c.fencing = Fencing::Refused)),
        (
            "no SMB",
            change(|c| {
                c.smb = None;
                c.vips.iter_mut().for_each(|vip| vip.services.clear());
            }),
        ),
        ("NFS as well", with_nfs(3, 3)),
        (
            "NFS through one address of two",
            change(|c| {
                *c = with_nfs(3, 2);
                c.vips[0].services.remove(&Service::Nfs);
            }),
        ),
        (
            "no SMB but NFS",
            change(|c| {
                *c = with_nfs(2, 2);
                c.smb = None;
                for vip in &mut c.vips {
                    vip.services.remove(&Service::Smb);
                }
            }),
        ),
        (
            "all daemons",
            change(|c| c.smb.iter_mut().for_each(|smb| smb.netbios = true)),
        ),
        (
            "CTDB's lock in a file on the volume",
            change(|c| {
                let lock = Some("/run/storhaug/share/.ctdb/lock".into());
                c.smb
                    .iter_mut()
                    .for_each(|smb| smb.cluster_lock.clone_from(&lock));
            }),
        ),
        (
            "no winbindd",
            change(|c| c.smb.iter_mut().for_each(|smb| smb.winbind = false)),
        ),
        (
            "volumes called like services",
            change(|c| {
                c.smb
                    .iter_mut()
                    .for_each(|smb| smb.volumes = vec!["ctdb".into(), "1st".into()]);
            }),
        ),
        (
            "a node that only votes",
            change(|c| c.nodes[2].storage = false),
        ),
        (
            "mounted by others",
            change(|c| {
                c.storage = Storage::Mounted {
                    mount_dir: "/srv".into(),
                };
            }),
        ),
        (
            "a value with every character",
            change(|c| {
                c.fencing = Fencing::Device {
                    agent: "fence_ipmilan".into(),
                    options: BTreeMap::from([("passwd".into(), "<&\"'>\n\t;$(id)".into())]),
                    nodes: BTreeMap::new(),
                };
            }),
        ),
    ];
    for (what, cluster) in clusters {
        let plan = Plan::make(&cluster, &simulator::facts(&cluster), &Live::default()).unwrap();
        pacemaker::verify(&Host, &plan.after).unwrap_or_else(|error| panic!("{what}: {error:#}"));
        // What was applied needs no second push.
        let live = Live {
            corosync: None,
            cib: Some(plan.after.clone()),
        };
        let again = Plan::make(&cluster, &simulator::facts(&cluster), &live).unwrap();
        assert_eq!(again.changes, [], "{what}");
    }
}

#[test]
fn of_two_nodes_one_is_spared_for_a_while() {
    let delays = |nodes| {
        let devices = storhaug::desired::devices(&cluster(nodes, 1)).into_iter();
        devices
            .map(|device| device.options.get("pcmk_delay_base").cloned())
            .collect::<Vec<_>>()
    };
    assert_eq!(delays(2), [Some("5s".to_owned()), None]);
    assert_eq!(delays(3), [None, None, None]);
}

#[test]
fn a_secret_is_in_no_plan() {
    let mut cluster = cluster(3, 1);
    cluster.fencing = Fencing::Device {
        agent: "fence_ipmilan".into(),
        options: BTreeMap::from([("password".into(), "hunter2".into())]),
        nodes: BTreeMap::new(),
    };
    let plan = Plan::make(&cluster, &simulator::facts(&cluster), &Live::default()).unwrap();
    let outlook = storhaug::show::Outlook::default();
    assert!(
        plan.after.to_string().contains("hunter2"),
        "Pacemaker needs it"
    );
    for shown in [
        storhaug::show::plan_text(&plan, &outlook),
        storhaug::show::plan_json(&plan, &outlook).to_string(),
        storhaug::plan::masked(&plan.after).to_string(),
    ] {
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}

#[test]
fn deterministic_addresses_follow_their_order() {
    let mut cluster = cluster(3, 3);
    cluster.placement = Placement::Deterministic;
    cluster.vips[0].prefer = vec!["node3".into(), "node1".into()];
    let vip = cluster.vips[0].name.clone();
    let mut simulation = Simulation::started(&cluster);
    assert_eq!(simulation.holders()[&vip], "node3");
    simulation.crash("node3");
    simulation.settle();
    assert_eq!(simulation.holders()[&vip], "node1");
    simulation.crash("node1");
    simulation.settle();
    assert_eq!(simulation.holders()[&vip], "node2");
}
