//! CTDB as a database only: its nodes come and go,
//! and it has no addresses of its own.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use storhaug_lab::wait;

use crate::client::Session;
use crate::cluster::Cluster;

/// A recovery, on a busy machine.
const RECOVERY: Duration = Duration::from_secs(30);

/// A node leaves CTDB's list of nodes, keeps its number, and comes back at the
/// same address, and one that never runs is added and removed, while a client
/// writes: no daemon of the other nodes restarts, and no write fails.
pub fn nodes_come_and_go(c: &Cluster) -> Result<()> {
    let gone = c.last().to_owned();
    let stay = &c.nodes[..c.nodes.len() - 1];
    let (vip, _) = vip_where(c, |node| Ok(node != gone))?;
    let list = c.run(c.first(), "crm_resource -r ctdb --get-parameter nodes")?;
    let list = list.trim();
    let (others, last) = list.rsplit_once(' ').context("a list of one node")?;
    let daemons = || -> Result<Vec<String>> {
        let each = stay.iter().flat_map(|node| {
            let daemons = ["ctdbd", "smbd"];
            daemons.map(|daemon| c.main_pid(node, daemon))
        });
        each.collect()
    };
    // A client holds on to its address: the one that leaves gives up its own.
    let session = Session::start(c, vip)?;
    let before = daemons()?;

    set(c, &format!("{others} #{last}"), Some(&gone))?;
    loaded(c, stay, &format!("{others} -"))?;
    let nodes = c.run(&stay[0], "cat /etc/ctdb/nodes")?;
    ensure!(nodes.ends_with(&format!("\n#{last}\n")), "{nodes}");
    set(c, list, None)?;
    loaded(c, &c.nodes, list)?;
    let never = c.free_address()?;
    set(c, &format!("{list} {never}"), None)?;
    loaded(c, &c.nodes, &format!("{list} {never}"))?;
    set(c, &format!("{list} #{never}"), None)?;
    loaded(c, &c.nodes, &format!("{list} -"))?;

    ensure!(daemons()? == before, "a daemon was restarted");
    let writes = session.finish()?;
    ensure!(writes > 10, "only {writes} writes over the session");
    c.note(&format!("{writes} writes over one session, none failed"));
    for node in &c.nodes {
        let refused = c.exec(node, "journalctl -q -b -t ctdbd --grep unknown.node")?;
        ensure!(refused.stdout().is_empty(), "{node}: {}", refused.stdout());
    }
    // The number that was given away stays: `setup` has nothing to do.
    c.run(c.first(), "storhaug plan")?;
    c.settled()
}

/// All nodes lose their power at the same moment: a share and an account are
/// still known when they are back, and nobody has to do anything.
pub fn power_cut(c: &Cluster) -> Result<()> {
    remember(c)?;
    for node in &c.nodes {
        c.lab.crash(node)?;
    }
    for node in &c.nodes {
        c.lab.start(node)?;
    }
    c.settled()?;
    c.nodes.iter().try_for_each(|node| remembered(c, node))
}

/// What CTDB's own tests ask of a cluster without addresses, and of its
/// databases, on ours: `failover/pubips.013`, `database/basics.00*`,
/// `database/transaction.001`, `database/recovery.*`, `database/fetch.001` and
/// `database/traverse.001` of Samba.
pub fn only_a_database(c: &Cluster) -> Result<()> {
    let holders = c.holders()?;
    for node in &c.nodes {
        let addresses = c.run(node, "ctdb -X ip all")?;
        ensure!(addresses.lines().count() <= 1, "{node}: {addresses}");
        c.run(node, "ctdb ipreallocate")?;
    }
    ensure!(c.holders()? == holders, "an address moved");

    let (first, last) = (c.first(), c.last());
    for (database, kind) in [("story.tdb", "persistent"), ("copies.tdb", "replicated")] {
        c.run(first, &format!("ctdb attach {database} {kind}"))?;
        c.run(first, &format!("ctdb wipedb {database}"))?;
        for node in &c.nodes {
            let map = c.run(node, "ctdb getdbmap")?;
            let here = format!("name:{database} ");
            let here = map.lines().find(|line| line.contains(&here));
            let here = here.with_context(|| format!("{node} has no {database}: {map}"))?;
            ensure!(here.contains(&kind.to_uppercase()), "{node}: {here}");
            c.run(node, &format!("ctdb pstore {database} {node} of-{node}"))?;
        }
        recovered(c, last)?;
        for (reader, writer) in c.nodes.iter().zip(c.nodes.iter().rev()) {
            let value = fetched(c, reader, database, writer)?;
            ensure!(value == format!("of-{writer}"), "{reader}: {value}");
        }
        c.run(first, &format!("ctdb pdelete {database} {last}"))?;
        recovered(c, first)?;
        for reader in &c.nodes {
            let value = fetched(c, reader, database, last)?;
            ensure!(value.is_empty(), "{reader}: a deleted key is `{value}`");
        }
        let status = c.run(first, &format!("ctdb getdbstatus {database}"))?;
        ensure!(status.contains("HEALTH: OK"), "{status}");
        c.run(last, &format!("ctdb wipedb {database}"))?;
        let value = fetched(c, first, database, first)?;
        ensure!(value.is_empty(), "a wiped key is `{value}`");
    }

    let database = "volatile.tdb";
    c.run(first, &format!("ctdb attach {database}"))?;
    for node in &c.nodes {
        c.run(node, &format!("ctdb writekey {database} key {node}"))?;
        recovered(c, node)?;
        for reader in &c.nodes {
            let value = c.run(reader, &format!("ctdb readkey {database} key"))?;
            ensure!(value.contains(&format!("[{node}]")), "{reader}: {value}");
        }
    }
    c.run(first, &format!("ctdb deletekey {database} key"))?;
    recovered(c, last)?;
    for reader in &c.nodes {
        let value = c.run(reader, &format!("ctdb readkey {database} key"))?;
        ensure!(value.contains("size:0 "), "{reader}: {value}");
    }
    Ok(())
}

/// Whether CTDB's databases can be used.
fn normal(c: &Cluster, node: &str) -> Result<bool> {
    Ok(c.run(node, "ctdb status")?
        .lines()
        .any(|line| line.starts_with("Recovery mode:NORMAL")))
}

/// Has CTDB recover its databases, and waits for that.
fn recovered(c: &Cluster, node: &str) -> Result<()> {
    c.run(node, "ctdb recover")?;
    wait::until_true("CTDB has recovered", RECOVERY, || normal(c, node))
}

/// What a database with transactions has for a key, which may be nothing.
fn fetched(c: &Cluster, node: &str, database: &str, key: &str) -> Result<String> {
    let value = c.run(node, &format!("ctdb pfetch {database} {key}"))?;
    Ok(value.trim().to_owned())
}

/// An address on a node of which something is true, and the node. Where none
/// is, the addresses may be on their way home.
fn vip_where(c: &Cluster, is: impl Fn(&str) -> Result<bool>) -> Result<(IpAddr, String)> {
    wait::until(
        "an address is on such a node",
        Duration::from_secs(60),
        || {
            for vip in &c.vips {
                let holder = c.holder(*vip)?;
                if is(&holder)? {
                    return Ok(Some((*vip, holder)));
                }
            }
            Ok(None)
        },
    )
}

/// Sets the list of nodes, and in the same change keeps CTDB from running on a
/// node, or from none.
fn set(c: &Cluster, list: &str, ban: Option<&str>) -> Result<()> {
    const BAN: &str = "<rsc_location id=\"story-ban\" ";
    // A probe that found the resource after a clean-up counts as a failure, of
    // which Pacemaker does not know whether the parameters may be reloaded.
    let found = "//lrm_rsc_op[@id='ctdb_last_failure_0' and @rc-code='0']";
    c.lab
        .node(c.first())
        .run(["cibadmin", "--delete-all", "--force", "--xpath", found])?;
    let text = c.run(c.first(), "cibadmin --query --scope=configuration")?;
    let id = "id=\"ctdb-instance_attributes-nodes\"";
    ensure!(text.contains(id), "the list of nodes is not in the CIB");
    let lines = text.lines().filter(|line| !line.contains(BAN)).map(|line| {
        let indent = &line[..line.len() - line.trim_start().len()];
        if line.contains(id) {
            format!("{indent}<nvpair {id} name=\"nodes\" value=\"{list}\"/>\n")
        } else if let (Some(node), "</constraints>") = (ban, line.trim()) {
            let ban = format!("{BAN}rsc=\"ctdb-clone\" node=\"{node}\" score=\"-INFINITY\"/>");
            format!("{ban}\n{line}\n")
        } else {
            format!("{line}\n")
        }
    });
    let replace = [
        "cibadmin",
        "--replace",
        "--scope=configuration",
        "--xml-pipe",
    ];
    let replace = c.lab.node(c.first()).command(replace)?;
    replace.input(lines.collect::<String>()).run()?;
    Ok(())
}

/// Waits until CTDB on these nodes, and on no others, has loaded a list.
fn loaded(c: &Cluster, nodes: &[String], list: &str) -> Result<()> {
    c.until(60, &format!("CTDB has loaded the list `{list}`"), || {
        let view = c.lab.view()?;
        Ok(c.nodes.iter().all(|node| {
            let has = view.attribute(node, "storhaug-ctdb-nodes");
            if nodes.contains(node) {
                has == Some(list)
            } else {
                has.is_none()
            }
        }))
    })
}

/// Puts a share into the registry, and an account into the list of accounts.
fn remember(c: &Cluster) -> Result<()> {
    let first = c.first();
    c.exec(first, "net conf delshare remembered")?;
    c.run(first, "net conf addshare remembered /run/storhaug/share")?;
    for node in &c.nodes {
        c.exec(node, "useradd --no-create-home remembered")?;
    }
    let smbpasswd = c
        .lab
        .node(first)
        .command(["smbpasswd", "-s", "-a", "remembered"])?;
    smbpasswd.input("a password\na password\n").run().map(drop)
}

/// Both are known on a node.
fn remembered(c: &Cluster, node: &str) -> Result<()> {
    let shares = c.run(node, "net conf listshares")?;
    ensure!(
        shares.lines().any(|share| share == "remembered"),
        "{node}: {shares}"
    );
    let users = c.run(node, "pdbedit --list")?;
    ensure!(users.contains("remembered:"), "{node}: {users}");
    Ok(())
}
