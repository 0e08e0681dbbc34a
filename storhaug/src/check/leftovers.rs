//! What earlier arrangements have left: CTDB with addresses of its own, and
//! versions of storhaug before this one.

use storhaug_agents::ctdb;

use crate::check::Local;
use crate::finding::Finding;

/// Where NFS's daemons keep their state.
const NFS: &str = "/var/lib/nfs";

/// Where earlier versions put the directory that they replaced.
const BACKUP: &str = "/var/lib/nfs.backup";

/// The private key of root with which earlier versions went from node to node.
const KEYS: [&str; 3] = [
    "/etc/sysconfig/storhaug.d/secret.pem",
    "/etc/default/storhaug.d/secret.pem",
    "/etc/storhaug/storhaug.d/secret.pem",
];

/// All of it.
pub fn look(local: &Local<'_>) -> anyhow::Result<Vec<Finding>> {
    let machine = local.machine;
    let mut found = Vec::new();
    if local.loaded.cluster.smb.is_some() {
        let undue = ctdb::undue(machine.root)?.into_iter();
        found.extend(undue.map(|undue| Finding::error("ctdb-manages", undue.what, undue.remedy)));
    }
    let nfs = machine.path(NFS);
    // It need not be there.
    if let Ok(target) = std::fs::read_link(&nfs) {
        let dangling = match nfs.exists() {
            true => "",
            false => ", which is not there",
        };
        let remedy = match machine.path(BACKUP).exists() {
            true => format!("rm {NFS}, and mv {BACKUP} {NFS}"),
            false => format!("rm {NFS}, and install the packages again that own it: dpkg -S {NFS}"),
        };
        found.push(Finding::error(
            "var-lib-nfs",
            format!(
                "{NFS} is a link to {}{dangling}, as earlier versions of storhaug left it: a node \
                 may not boot with it",
                target.display()
            ),
            remedy,
        ));
    }
    for key in KEYS {
        if machine.path(key).exists() {
            found.push(Finding::warning(
                "root-key",
                format!("{key} is a key of root for other nodes, which nothing uses any more"),
                "remove it, and its line in /root/.ssh/authorized_keys on every node",
            ));
        }
    }
    Ok(found)
}
