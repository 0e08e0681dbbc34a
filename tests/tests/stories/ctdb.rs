//! CTDB as a database only: its daemons die, its leader is cut off, its nodes
//! come and go, its files are damaged, and it has no addresses of its own.

use std::net::IpAddr;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use storhaug_lab::bench::Stack;
use storhaug_lab::cluster::ctdb_nodes;
use storhaug_lab::wait;
use storhaug_lab::writer::Writer;

use crate::client::Session;
use crate::cluster::Cluster;

/// Where CTDB keeps the databases that outlive it.
const DATABASES: &str = "/var/lib/ctdb/persistent";
/// How often the daemon of each kind of node is killed.
const KILLS: usize = 5;
/// How soon an address serves again after that, in the middle of so many times.
const KILLED: Duration = Duration::from_secs(5);
/// How soon the majority serves after the isolated leader's death: CTDB's leader
/// timeout of two seconds, a recovery and a write. All of it takes less than
/// three, but not where all nodes share a processor that has other work.
const SERVED: Duration = Duration::from_secs(5);
/// Detection takes eight seconds, fencing one or two.
const FENCED: Duration = Duration::from_secs(60);
/// Longer than CTDB and Gluster wait for a peer, each by its default.
const ALONE: Duration = Duration::from_secs(90);
/// A recovery, on a busy machine.
const RECOVERY: Duration = Duration::from_secs(30);

/// The daemon dies on the leader, and on another node: clients of an address
/// there write again within five seconds, in the middle of five times.
pub fn ctdbd_killed(c: &Cluster) -> Result<()> {
    for (role, leads) in [("the leader", true), ("a follower", false)] {
        let mut gaps = Vec::new();
        for kill in 0..KILLS {
            let (vip, node) = vip_where(c, |node| Ok((leader(c)? == node) == leads))?;
            let writer = Writer::start(&c.lab, vip, &format!("ctdbd-{leads}-{kill}"))?;
            writer.wait_for(3)?;
            let pid = c.main_pid(&node, "ctdbd")?;
            c.run(&node, &format!("kill -9 {pid}"))?;
            writer.wait_for(5)?;
            let log = writer.finish()?;
            gaps.push(log.longest_gap());
            c.forgiven()?;
            log.verify(&c.lab, vip)?;
        }
        gaps.sort();
        let seconds: Vec<_> = gaps.iter().map(Duration::as_secs_f64).collect();
        c.note(&format!("gaps, ctdbd killed on {role}: {seconds:.1?} s"));
        let median = gaps[KILLS / 2];
        ensure!(median <= KILLED, "{role}: {median:.1?}");
    }
    Ok(())
}

/// The leader lives on without its network, until it is fenced. Seconds later
/// the majority has another one, its databases are in use, and a client has
/// written. With CTDB alone, as its manuals have it and with its lock in a
/// file on Gluster, that client waits longer.
pub fn leader_cut_off(c: &Cluster) -> Result<()> {
    let isolated = leader(c)?;
    let mut vips = c.vips.iter().copied();
    let orphan = vips.find(|vip| c.holder(*vip).is_ok_and(|node| node == isolated));
    let (vip, holder) = vip_where(c, |node| Ok(node != isolated))?;
    let writer = Writer::start(&c.lab, vip, "leader-cut-off")?;
    writer.wait_for(3)?;
    let cut = since_1970()?;
    c.lab.cut(&isolated)?;
    let died = wait::until("the isolated leader is fenced", FENCED, || {
        Ok(c.lab.died(&isolated).ok().filter(|died| *died > cut))
    })?;
    let usable = wait::until("the majority has recovered", RECOVERY, || {
        usable_since(c, &holder, died)
    })?;
    let usable = moment(usable)?;
    let served = wait::until("the majority serves", RECOVERY, || {
        Ok(writer.first_after(usable))
    })?;
    ensure!(leader_of(c, &holder)? != isolated, "{isolated} still leads");
    if let Some(orphan) = orphan {
        c.until(60, "the isolated leader's address serves", || {
            Ok(c.left(orphan, &isolated)? && c.serves(orphan))
        })?;
    }
    c.lab.heal(&isolated)?;
    c.settled()?;
    let log = writer.finish()?;
    log.verify(&c.lab, vip)?;
    let late = served.duration_since(moment(died)?);
    let gap = log.longest_gap();
    c.note(&format!(
        "dead {:.1} s after the cut; the majority wrote {:.1} s later; {:.1} s without a write",
        died - cut,
        late.as_secs_f64(),
        gap.as_secs_f64()
    ));
    ensure!(late <= SERVED, "{late:.1?} after the leader's death");

    let alone = cut_off_alone(c)?;
    ensure!(alone > gap, "CTDB alone takes {alone:.1?}");
    Ok(())
}

/// The same with CTDB alone: how long a client of the majority cannot write, as
/// far as that is waited for.
fn cut_off_alone(c: &Cluster) -> Result<Duration> {
    c.run(c.first(), "storhaug teardown --yes")?;
    for node in &c.nodes {
        let tunables = "/etc/ctdb/ctdb.tunables";
        c.lab.node(node).write(tunables, b"", 0o644)?;
    }
    Stack::Ctdb.set_up(&c.lab)?;
    Stack::Ctdb.settle(&c.lab)?;
    let isolated = leader(c)?;
    let (vip, holder) = vip_where(c, |node| Ok(node != isolated))?;
    let holder = c.lab.node(&holder);
    let writer = Writer::start(&c.lab, vip, "leader-cut-off-alone")?;
    writer.wait_for(3)?;
    c.lab.cut(&isolated)?;
    let mut usable = None;
    let served = wait::until("it serves", ALONE, || {
        if ctdb_nodes(&holder)?.iter().all(|node| node.healthy) {
            bail!("it has not noticed");
        }
        if !normal(c, holder.name())? {
            usable = None;
            bail!("its databases are frozen");
        }
        Ok(writer.first_after(*usable.get_or_insert_with(Instant::now)))
    });
    let gap = writer.finish()?.longest_gap();
    let end = served.map_or_else(|error| format!(", and {error:#}"), |_| String::new());
    c.note(&format!(
        "CTDB alone: {:.1} s without a write{end}",
        gap.as_secs_f64()
    ));
    Ok(gap)
}

/// A fourth node comes, goes, and comes again with the same address, while a
/// client of another node writes over one session: no write fails, no daemon of
/// the three restarts, the fourth node's number in CTDB is kept for it, and it
/// serves.
pub fn fourth_node(c: &Cluster) -> Result<()> {
    let (first, grown) = (c.first(), c.with_spare()?);
    let (node, vip) = (grown.last(), c.vips[0]);
    let (address, holder) = (c.address(node)?, c.holder(vip)?);
    let list = c.run(first, "cat /etc/ctdb/nodes")?;
    let session = Session::start(c, vip)?;
    let before = lives(c, &c.nodes)?;
    let add = format!("storhaug add {node} --fence plug={node}");
    let remove = format!("storhaug remove {node}");
    for (verb, members, mark) in [(&add, &grown, ""), (&remove, c, "#"), (&add, &grown, "")] {
        let begun = Instant::now();
        c.run(first, verb)?;
        members.settled()?;
        let took = begun.elapsed().as_secs_f64();
        c.note(&format!("`{verb}`: settled in {took:.0} s"));
        ensure!(lives(c, &c.nodes)? == before, "`{verb}` restarted a daemon");
        ensure!(grown.holder(vip)? == holder, "`{verb}` moved {vip}");
        for member in &members.nodes {
            let slots = c.run(member, "cat /etc/ctdb/nodes")?;
            let expected = format!("{list}{mark}{address}\n");
            ensure!(slots == expected, "`{verb}`, {member}: {slots}");
            not_flooded(c, member)?;
        }
        if mark.is_empty() {
            ensure!(c.serves(address), "`{verb}`: {node} does not serve");
        }
    }
    let writes = session.finish()?;
    ensure!(writes > 100, "only {writes} writes over the session");
    c.note(&format!("{writes} writes over one session, none failed"));
    Ok(())
}

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
    // A client holds on to its address: the one that leaves gives up its own.
    let session = Session::start(c, vip)?;
    let before = lives(c, stay)?;

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

    ensure!(lives(c, stay)? == before, "a daemon was restarted");
    let writes = session.finish()?;
    ensure!(writes > 10, "only {writes} writes over the session");
    c.note(&format!("{writes} writes over one session, none failed"));
    c.nodes.iter().try_for_each(|node| not_flooded(c, node))?;
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

/// A database that was damaged while CTDB did not run on one node: it is kept
/// aside, and the node has the others' copy, with what was written and deleted
/// meanwhile. Where every copy is damaged, no node starts, and Pacemaker shows
/// the file of one.
pub fn damaged_databases(c: &Cluster) -> Result<()> {
    let (first, node, number) = (c.first(), c.last(), c.nodes.len() - 1);
    let database = "while-away.tdb";
    remember(c)?;
    c.run(first, &format!("ctdb attach {database} persistent"))?;
    for key in ["kept", "deleted"] {
        c.run(first, &format!("ctdb pstore {database} {key} before"))?;
    }
    let stopped = |node: &str| Ok(!c.succeeds(node, "pgrep -x ctdbd")?);
    c.run(
        first,
        &format!("crm_resource --ban -r ctdb-clone -N {node}"),
    )?;
    c.until(60, "CTDB is down on one node", || stopped(node))?;
    damage(c, node, number)?;
    wait::until_true("CTDB takes transactions", RECOVERY, || {
        c.run(first, &format!("ctdb pstore {database} kept since"))?;
        c.run(first, &format!("ctdb pdelete {database} deleted"))?;
        Ok(true)
    })?;
    c.run(
        first,
        &format!("crm_resource --clear -r ctdb-clone -N {node}"),
    )?;
    c.settled()?;
    remembered(c, node)?;
    for (key, value) in [("kept", "since"), ("deleted", "")] {
        let found = fetched(c, node, database, key)?;
        ensure!(found == value, "{key} is `{found}`, not `{value}`");
    }
    let files = c.run(node, &format!("ls {DATABASES}"))?;
    let aside = |file: &str| file.starts_with("registry.tdb.") && file.ends_with(".corrupt");
    ensure!(files.lines().any(aside), "it is not kept: {files}");
    let log = c.run(node, "journalctl -q -b --grep registry.tdb")?;
    ensure!(log.contains("is damaged"), "{log}");

    let role = "crm_resource -r ctdb-clone --meta";
    c.run(first, &format!("{role} -p target-role -v Stopped"))?;
    for (number, node) in c.nodes.iter().enumerate() {
        c.until(60, "CTDB is down", || stopped(node))?;
        damage(c, node, number)?;
    }
    c.run(first, &format!("{role} -d target-role"))?;
    // Pacemaker starts one after the other.
    c.until(120, "Pacemaker shows a damaged database", || {
        let failures = c.lab.view()?.failures;
        Ok(c.nodes.iter().enumerate().any(|(number, node)| {
            let damaged = format!("{DATABASES}/registry.tdb.{number} is damaged");
            failures.iter().any(|failure| {
                failure.starts_with(node.as_str())
                    && failure.contains(&damaged)
                    && failure.contains("restore it")
            })
        }))
    })?;
    for node in &c.nodes {
        ensure!(
            stopped(node)?,
            "CTDB runs on {node} with a damaged database"
        );
    }
    for (number, node) in c.nodes.iter().enumerate() {
        let file = format!("{DATABASES}/registry.tdb.{number}");
        ensure!(c.succeeds(node, &format!("test -e {file}"))?, "it is gone");
        c.run(node, &format!("mv /root/registry.tdb {file}"))?;
    }
    c.forgiven()?;
    remembered(c, first)
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

/// The node that leads CTDB.
fn leader(c: &Cluster) -> Result<String> {
    leader_of(c, c.first())
}

/// The node that leads CTDB, as another one knows it.
fn leader_of(c: &Cluster, node: &str) -> Result<String> {
    let number = wait::until("CTDB has a leader", RECOVERY, || {
        Ok(leads(c, node)?.trim().parse::<usize>().ok())
    })?;
    let leader = c.nodes.get(number);
    leader
        .cloned()
        .with_context(|| format!("no node has the number {number}"))
}

fn leads(c: &Cluster, node: &str) -> Result<String> {
    c.run(node, "ctdb leader")
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

/// The daemons of these nodes that no change of the nodes may restart.
fn lives(c: &Cluster, nodes: &[String]) -> Result<Vec<String>> {
    let each = nodes
        .iter()
        .flat_map(|node| ["ctdbd", "smbd"].map(|daemon| c.life(node, daemon)));
    each.collect()
}

/// No daemon tried to connect here that was not known here.
fn not_flooded(c: &Cluster, node: &str) -> Result<()> {
    let refused = c.exec(node, "journalctl -q -b --grep from.unknown.node")?;
    let refused = refused.stdout();
    ensure!(refused.is_empty(), "{node}: {refused}");
    Ok(())
}

/// When a node's databases could be used again, for the first time after
/// another moment, in seconds since 1970.
fn usable_since(c: &Cluster, node: &str, after: f64) -> Result<Option<f64>> {
    let journal = "journalctl -q -b --output=short-unix --grep Recovery.mode.set.to.NORMAL";
    let said = c.exec(node, journal)?.stdout();
    let mut times = said
        .lines()
        .filter_map(|line| line.split(' ').next()?.parse().ok());
    Ok(times.find(|time| *time > after))
}

fn since_1970() -> Result<f64> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    Ok(now.as_secs_f64())
}

/// A time in seconds since 1970, which is past, on the clock of the waits.
fn moment(time: f64) -> Result<Instant> {
    let ago = Duration::try_from_secs_f64(since_1970()? - time)?;
    let moment = Instant::now().checked_sub(ago);
    moment.context("that was before this machine")
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

/// Damages a node's copy of the registry, of which a good one is kept.
fn damage(c: &Cluster, node: &str, number: usize) -> Result<()> {
    let file = format!("{DATABASES}/registry.tdb.{number}");
    c.run(node, &format!("cp {file} /root/registry.tdb"))?;
    let dd = format!("dd if=/dev/urandom of={file} bs=4096 count=4 conv=notrunc");
    c.run(node, &dd).map(drop)
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
