//! CTDB as a database only: it outlives a power cut, and has no addresses of its
//! own.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use storhaug_lab::wait;

use crate::cluster::Cluster;

/// A recovery, on a busy machine.
const RECOVERY: Duration = Duration::from_secs(30);

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
