//! Clusters that are not quite what one thinks of first: of two nodes, with a
//! node that only votes, with resources and references of others in them.

mod simulator;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use simulator::{Simulation, cluster, facts};
use storhaug::cluster::{Cluster, Fencing};
use storhaug::pacemaker::{self, Push};
use storhaug::plan::{self, Live, Plan};
use storhaug::xml::Element;
use storhaug::{agreement, desired, rehearsal};
use storhaug_agents::deadline::Deadline;
use storhaug_agents::exec::{Cmd, Host, Output, Runner};

/// What `cluster` would be given in a cluster whose CIB is `cib`.
fn planned(cluster: &Cluster, cib: Option<&Element>) -> anyhow::Result<Plan> {
    let live = Live {
        corosync: None,
        cib: cib.cloned(),
    };
    Plan::make(cluster, &facts(cluster), &live)
}

/// With its victim down, the device of the other of two nodes may not run.
#[test]
fn of_two_nodes_the_last_one_lacks_nothing() {
    let cluster = cluster(2, 2);
    let mut simulation = Simulation::started(&cluster);
    let wanted = desired::wanted(&cluster);
    assert_eq!(agreement::missing(&wanted, &simulation.state()), []);
    simulation.crash("node2");
    simulation.settle();
    let state = simulation.state();
    assert!(!state.active("fence-node1") && state.active("fence-node2"));
    assert_eq!(agreement::missing(&wanted, &state), []);
}

#[test]
fn a_node_that_only_votes_carries_no_address_even_without_a_service() {
    let mut cluster = cluster(3, 4);
    cluster.smb = None;
    cluster.nodes[2].storage = false;
    for vip in &mut cluster.vips {
        vip.services.clear();
    }
    let mut simulation = Simulation::started(&cluster);
    assert_eq!(simulation.holders().len(), 4);
    assert!(!simulation.holders().values().any(|node| node == "node3"));
    simulation.crash("node1");
    simulation.settle();
    assert!(simulation.holders().values().all(|node| node == "node2"));
}

#[test]
fn a_cluster_lock_of_ones_own_is_ctdbs_and_waits_for_its_volume() {
    for (lock, waits) in [
        (None, false),
        (Some("/run/storhaug/share/.ctdb/lock"), true),
        (Some("/run/storhaug/shared/lock"), false),
        (Some("!/usr/libexec/ctdb/helper ceph pool lock"), false),
    ] {
        let mut cluster = cluster(3, 1);
        if let Some(smb) = &mut cluster.smb {
            smb.cluster_lock = lock.map(str::to_owned);
        }
        let after = planned(&cluster, None).unwrap().after;
        let has = |name: &str, value: &str| {
            let mut all = after.walk().into_iter();
            all.any(|element| element.get(name) == Some(value))
        };
        assert_eq!(has("name", "cluster_lock"), lock.is_some());
        assert!(lock.is_none_or(|lock| has("value", lock)), "{lock:?}");
        assert_eq!(has("id", "storhaug-share-then-ctdb"), waits, "{lock:?}");
        assert_eq!(has("id", "storhaug-ctdb-with-share"), waits, "{lock:?}");
    }
}

#[test]
fn an_id_of_others_inside_ours_is_refused() {
    let cluster = cluster(3, 1);
    let mut cib = planned(&cluster, None).unwrap().before;
    let theirs = r#"<primitive id="share" class="ocf" provider="pacemaker" type="Dummy"/>"#;
    let resources = cib.entry("configuration").entry("resources");
    resources.children.push(Element::parse(theirs).unwrap());
    let error = planned(&cluster, Some(&cib)).unwrap_err().to_string();
    assert!(error.contains("`share` that is not storhaug's"), "{error}");
}

#[test]
fn sets_and_tags_of_others_forget_an_address_that_goes() {
    let mut cib = planned(&cluster(3, 3), None).unwrap().after;
    let add = |cib: &mut Element, section: &str, text: &str| {
        let section = cib.entry("configuration").entry(section);
        section.children.push(Element::parse(text).unwrap());
    };
    add(
        &mut cib,
        "constraints",
        r#"<rsc_colocation id="apart" score="-100"><resource_set id="set" sequential="false">
             <resource_ref id="vip-10.0.0.101"/><resource_ref id="vip-10.0.0.103"/>
           </resource_set></rsc_colocation>"#,
    );
    add(
        &mut cib,
        "constraints",
        r#"<rsc_location id="last" node="node1" score="7"><resource_set id="other">
             <resource_ref id="vip-10.0.0.103"/></resource_set></rsc_location>"#,
    );
    add(
        &mut cib,
        "tags",
        r#"<tag id="theirs"><obj_ref id="ctdb"/><obj_ref id="vip-10.0.0.103"/></tag>"#,
    );
    pacemaker::verify(&Host, &cib).unwrap();
    let nothing = plan::without_ours(&cib).to_string();
    for id in ["vip-", "apart", "last", "theirs", "ctdb"] {
        assert!(!nothing.contains(id), "{id} in {nothing}");
    }
    let plan = planned(&cluster(3, 2), Some(&cib)).unwrap();
    pacemaker::verify(&Host, &plan.after).unwrap();
    let changed = |id: &str| plan.changes.iter().find(|change| change.id == id);
    let words = |id| changed(id).map(|change| change.action.as_str());
    assert_eq!(words("apart"), Some("change"));
    assert_eq!(words("last"), Some("remove"));
    assert_eq!(words("theirs"), Some("change"));
    // With nothing to remove, nothing of others is looked at.
    let quiet = planned(&cluster(3, 3), Some(&cib)).unwrap();
    assert_eq!(quiet.changes, []);
}

/// A result of a monitor between look and push is no reason to refuse it; a
/// change of the configuration is.
#[test]
fn a_push_is_refused_when_the_configuration_is_another_and_only_then() {
    let mut before = planned(&cluster(3, 2), None).unwrap().after;
    before.set("crm_feature_set", "3.16.1");
    let after = planned(&cluster(3, 3), Some(&before)).unwrap().after;
    let pushed = |change: fn(&mut Element)| {
        let mut now = before.clone();
        change(&mut now);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), now.to_string()).unwrap();
        let on_file = |cmd: &Cmd| {
            let cmd = cmd.clone().env("CIB_file", file.path());
            Host.run(&cmd, Deadline::after(Duration::from_secs(60)))
        };
        let push = pacemaker::push(&on_file, &before, &after).unwrap();
        let text = std::fs::read_to_string(file.path()).unwrap();
        (push, text.contains("vip-10.0.0.103"))
    };
    assert_eq!(pushed(|_| ()), (Push::Done, true));
    assert_eq!(pushed(|cib| cib.set("num_updates", 7)), (Push::Done, true));
    let outdated = (Push::Outdated, false);
    assert_eq!(pushed(|cib| cib.set("epoch", 9)), outdated);
    assert_eq!(pushed(|cib| cib.set("admin_epoch", 1)), outdated);
}

#[test]
fn passwords_of_fence_agents_stay_in_their_files() {
    let mut cluster = cluster(2, 1);
    let files = ["password_file", "snmp_priv_passwd_file"];
    cluster.fencing = Fencing::Device {
        agent: "fence_apc_snmp".into(),
        options: files
            .map(|name| (name.to_owned(), format!("/etc/{name}")))
            .into(),
        nodes: BTreeMap::new(),
    };
    let options = &desired::devices(&cluster)[0].options;
    assert_eq!(options["password_script"], "/bin/cat /etc/password_file");
    assert_eq!(
        options["snmp_priv_passwd_script"],
        "/bin/cat /etc/snmp_priv_passwd_file"
    );
}

/// The agent is asked about what it knows, by the name it knows it by.
#[test]
fn a_device_is_asked_about_the_plug_that_pacemaker_would_switch() {
    let asked = |options: &[(&str, &str)]| {
        let mut cluster = cluster(2, 1);
        cluster.fencing = Fencing::Device {
            agent: "fence_apc".into(),
            options: options
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            nodes: BTreeMap::new(),
        };
        let input = RefCell::new(String::new());
        let fake = |cmd: &Cmd| -> anyhow::Result<Output> {
            *input.borrow_mut() = String::from_utf8(cmd.input().unwrap().to_vec())?;
            Ok(Output::exited(cmd, 0, "", ""))
        };
        rehearsal::power(&fake, &desired::devices(&cluster)[1]).unwrap();
        let input = input.into_inner();
        let mut lines = input.lines().filter_map(|line| line.split_once('='));
        lines
            .rfind(|(name, _)| ["plug", "id"].contains(name))
            .map(|(name, value)| format!("{name}={value}"))
            .unwrap_or_default()
    };
    assert_eq!(asked(&[]), "plug=node2");
    assert_eq!(asked(&[("plug", "7")]), "plug=7");
    assert_eq!(asked(&[("pcmk_host_map", "node1:1;node2:4")]), "plug=4");
    assert_eq!(asked(&[("pcmk_host_argument", "id")]), "id=node2");
    assert_eq!(asked(&[("pcmk_host_argument", "none")]), "");
}
