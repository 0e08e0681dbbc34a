//! The agents under the tools that other people judge agents with.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::cluster::Cluster;

/// Several actions one after the other.
const LIMIT: Duration = Duration::from_secs(600);

/// ocf-tester's own 20 s are less than CTDB's peers may need to let it in.
const PATIENCE: &str = "CRM_meta_timeout=120000";

/// The lab's does without NetBIOS, and nmbd cannot.
const SMB_CONF: &str = "/etc/samba/smb.conf";

const AGENTS: [&str; 7] = [
    "ctdb",
    "ganesha",
    "ganesha_trigger",
    "glusterfs",
    "noded",
    "samba",
    "vip",
];

/// What each agent is tested with by `ocf-tester`. Samba's come last: they need
/// CTDB, which is started by hand between its own test and theirs.
const TESTED: [(&str, &[&str]); 9] = [
    ("noded", &[]),
    ("vip", &["ip=10.77.0.199", "cidr_netmask=24"]),
    (
        "glusterfs",
        &["volume=share", "directory=/run/storhaug/tested"],
    ),
    ("ganesha", &["state_directory=/var/lib/tested"]),
    (
        "ganesha_trigger",
        &["ip=10.77.0.199", "state_directory=/var/lib/tested"],
    ),
    ("ctdb", &["nodes=10.77.0.11 10.77.0.12 10.77.0.13"]),
    ("samba", &["daemon=smbd"]),
    ("samba", &["daemon=nmbd"]),
    ("samba", &["daemon=winbindd"]),
];

/// `ocf-tester`, and everybody who reads metadata, accept every agent.
pub fn keep_the_contract(c: &Cluster) -> Result<()> {
    let node = c.last();
    for agent in AGENTS {
        let metadata = c.run(
            node,
            &format!("crm_resource --show-metadata ocf:storhaug:{agent}"),
        )?;
        let schema = "/usr/share/pcs/data/ocf-1.1.rng";
        let judge = ["xmllint", "--noout", "--relaxng", schema, "-"];
        c.lab.node(node).command(judge)?.input(metadata).run()?;
        c.run(node, &format!("pcs resource describe ocf:storhaug:{agent}"))?;
        c.run(node, &format!("crm ra info ocf:storhaug:{agent}"))?;
    }
    // A node in standby runs nothing, and is still quorate for CTDB's lock. Until
    // its reboot: for ever would leave a trace in the configuration.
    let standby = format!("crm_standby -N {node} -l reboot");
    c.run(node, &format!("{standby} -v on"))?;
    c.until(120, "nothing runs on the node in standby", || {
        let view = c.lab.view()?;
        Ok(view
            .resources
            .iter()
            .all(|resource| !resource.nodes.contains(node)))
    })?;
    c.run(node, &format!("cp -p {SMB_CONF} {SMB_CONF}.kept"))?;
    for (agent, options) in TESTED {
        if options.contains(&"daemon=nmbd") {
            c.run(node, &format!("sed -i /disable.netbios/d {SMB_CONF}"))?;
        }
        let options = options.iter().flat_map(|option| ["-o", option]);
        let agent_file = format!("/usr/lib/ocf/resource.d/storhaug/{agent}");
        let tester = c.lab.node(node).command(["ocf-tester", "-n", "tested"])?;
        let tester = tester.args(["-o", PATIENCE]).limit(LIMIT);
        tester.args(options).arg(&agent_file).run()?;
        if agent == "ctdb" {
            start_ctdb(c, node)?;
        }
    }
    c.run(node, &format!("mv {SMB_CONF}.kept {SMB_CONF}"))?;
    c.run(node, "systemctl stop ctdb")?;
    c.run(node, &format!("{standby} -D"))?;
    c.settled()
}

/// Starts CTDB as Pacemaker would.
fn start_ctdb(c: &Cluster, node: &str) -> Result<()> {
    let started = c
        .lab
        .node(node)
        .command(["/usr/lib/ocf/resource.d/storhaug/ctdb", "start"])?
        .env("OCF_ROOT", "/usr/lib/ocf")
        .env("OCF_RESOURCE_INSTANCE", "tested")
        .env("OCF_RESKEY_nodes", "10.77.0.11 10.77.0.12 10.77.0.13")
        .output()?;
    ensure!(
        started.success(),
        "ctdb does not start: {}",
        started.stderr()
    );
    Ok(())
}
