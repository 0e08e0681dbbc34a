//! Samba's settings: what endangers files, and what serves clients less well,
//! such as what takes its addresses from CTDB, which has none.

use std::time::Duration;

use storhaug_agents::deadline::Deadline;
use storhaug_agents::mounts::Mount;
use storhaug_agents::samba::faults::{Fault, Gravity};
use storhaug_agents::samba::faults_ahead;

use crate::check::Local;
use crate::cluster::{Cluster, Smb, Storage};
use crate::finding::Finding;

/// How long Samba may take to tell its settings.
const ANSWER: Duration = Duration::from_secs(20);

/// This machine's smb.conf, by what the agent looks at before each start.
pub fn look(local: &Local<'_>) -> anyhow::Result<Vec<Finding>> {
    let cluster = &local.loaded.cluster;
    let serves = cluster.node(local.host).is_some_and(|node| node.storage);
    let Some(smb) = cluster.smb.as_ref().filter(|_| serves) else {
        return Ok(Vec::new());
    };
    let machine = local.machine;
    let deadline = Deadline::after(ANSWER);
    let faults = faults_ahead(machine.runner, machine.root, deadline, mounts(cluster, smb))?;
    Ok(faults.iter().map(finding).collect())
}

/// Samba's volumes, which may not be mounted yet.
fn mounts(cluster: &Cluster, smb: &Smb) -> Vec<Mount> {
    let Storage::GlusterFs { server, .. } = &cluster.storage else {
        return Vec::new();
    };
    let volumes = smb.volumes.iter();
    let mount = |volume: &String| Mount {
        device: String::new(),
        point: cluster.storage.directory(volume),
        fstype: "fuse.glusterfs".into(),
        source: format!("{server}:/{volume}").into(),
    };
    volumes.map(mount).collect()
}

fn finding(fault: &Fault) -> Finding {
    let (problem, remedy) = fault.text.rsplit_once(": ").unwrap_or((&fault.text, ""));
    let problem = format!("smb.conf: {problem}");
    match fault.gravity {
        Gravity::Danger => Finding::error("smb-conf", problem, remedy),
        Gravity::Weakness => Finding::warning("smb-conf", problem, remedy),
    }
}
