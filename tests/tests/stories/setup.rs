//! The orchestrator's main job, and everything around it.

use anyhow::{Result, ensure};
use storhaug_lab::demo::SLIDES;

use crate::client::{Trace, own_cpu};
use crate::cluster::Cluster;

/// Both forms of the file make the same cluster, and going from one to the other
/// changes nothing in it.
pub fn both_forms(c: &Cluster) -> Result<()> {
    let (conf, toml) = (c.conf()?, c.configuration()?);
    c.run(c.first(), "storhaug teardown --yes")?;
    for conf in [SLIDES, &conf] {
        c.set_up_with(conf)?;
        let made = c.configuration()?;
        ensure!(toml == made, "the configurations differ:\n{toml}\n{made}");
    }
    Ok(())
}

/// A second `setup` pushes nothing, says so, and leaves the CIB as it was.
pub fn second_setup(c: &Cluster) -> Result<()> {
    let before = (c.configuration()?, c.epoch()?);
    let said = c.said(c.first(), "storhaug setup")?;
    ensure!(said.contains("nothing to do"), "{said}");
    ensure!(
        (c.configuration()?, c.epoch()?) == before,
        "the CIB changed"
    );
    // 0 is "nothing to do", 2 is "changes".
    c.run(c.first(), "storhaug plan").map(drop)
}

/// An edit changes what it says and nothing else.
pub fn edit(c: &Cluster) -> Result<()> {
    let (node, conf) = (c.first(), c.conf()?);
    let (moved, kept, new) = (c.vips[0], c.vips[1], c.free_address()?);
    let holder = c.holder(kept)?;
    let smbd = c.main_pid(&holder, "smbd")?;
    c.edit_conf(&moved.to_string(), &new.to_string())?;
    ensure!(
        c.exec(node, "storhaug plan")?.status.code() == Some(2),
        "plan sees no change"
    );
    c.run(node, "storhaug setup")?;
    c.until(30, "the new address serves", || Ok(c.serves(new)))?;
    ensure!(c.lab.holder(moved)?.is_none(), "{moved} is still there");
    ensure!(c.holder(kept)? == holder, "{kept} moved");
    ensure!(c.main_pid(&holder, "smbd")? == smbd, "smbd was restarted");
    c.run(node, "storhaug plan")?;
    c.set_up_with(&conf)
}

/// The password is in no process's arguments or environment, in no log, and
/// not in the CIB: every execve on every node is traced during `setup`. Without it,
/// `setup` does not begin.
pub fn password(c: &Cluster) -> Result<()> {
    let node = c.first();
    let password = c.run(node, "cat /etc/storhaug/hacluster.password")?;
    let password = password.trim();
    ensure!(
        password.len() >= 16,
        "a password that could be anywhere by chance"
    );
    c.run(node, "storhaug teardown --yes")?;
    let (file, away) = ("/etc/storhaug/hacluster.password", "/etc/storhaug/away");
    c.run(node, &format!("mv {file} {away}"))?;
    let said = c.refused(node, "storhaug setup")?;
    ensure!(said.contains(file), "{said}");
    c.run(node, &format!("mv {away} {file}"))?;
    let trace = Trace::start(c)?;
    let executed = trace.run(node, "storhaug setup")? + &trace.finish()?;
    c.settled()?;
    for seen in [
        "\"storhaug\", \"setup\"",
        "\"host\", \"auth\"",
        "/corosync\"",
    ] {
        ensure!(executed.contains(seen), "the trace has not seen {seen}");
    }
    ensure!(
        !executed.contains(password),
        "the password was in an execve"
    );
    for node in &c.nodes {
        for logs in [
            "journalctl -o cat --no-pager",
            "grep -rha . /var/log",
            "cibadmin --query",
        ] {
            let text = c.run(node, logs)?;
            ensure!(
                !text.contains(password),
                "the password is in `{logs}` of {node}"
            );
        }
    }
    Ok(())
}

/// `plan` is cheap, and `setup` calls pcs as often for 16 addresses as for one.
pub fn plan_cost(c: &Cluster) -> Result<()> {
    let node = c.first();
    let cpu = own_cpu(c, node, &["storhaug", "plan"])?;
    c.note(&format!("plan: {cpu:.2} s of its own CPU"));
    ensure!(cpu < 0.1, "plan took {cpu:.2} s of CPU");
    let calls = |vips| {
        c.run(node, "storhaug teardown --yes")?;
        c.conf_with_vips(vips)?;
        c.counting_pcs(|| c.run(node, "storhaug setup").map(drop))
    };
    let (one, sixteen) = (calls(1)?, calls(16)?);
    c.note(&format!(
        "pcs calls of setup: {one} for one address, {sixteen} for sixteen"
    ));
    ensure!(
        one == sixteen && one > 0,
        "{one} calls for one address, {sixteen} for sixteen"
    );
    Ok(())
}

/// `setup` killed at each of its steps is completed by running it again.
pub fn interrupted(c: &Cluster) -> Result<()> {
    c.run(c.first(), "storhaug teardown --yes")?;
    let mut kills = 0;
    while c.setup_killed_at(kills + 1)? {
        kills += 1;
        ensure!(kills < 50, "setup has no end");
    }
    c.note(&format!("killed {kills} times"));
    ensure!(kills >= 3, "setup was killed {kills} times only");
    c.settled()?;
    c.run(c.first(), "storhaug plan").map(drop)
}

/// `teardown` leaves no cluster, no address, no mount of ours, and the data;
/// `setup` works again after it.
pub fn teardown(c: &Cluster) -> Result<()> {
    let vip = c.vips[0];
    c.upload(vip, "kept.dat", "written before the teardown")?;
    c.run(c.first(), "storhaug teardown --yes")?;
    for node in &c.nodes {
        for unit in ["corosync", "pacemaker", "ctdb", "smbd", "storhaug-noded"] {
            let active = c.succeeds(node, &format!("systemctl is-active {unit}"))?;
            ensure!(!active, "{unit} runs on {node}");
        }
        ensure!(
            !c.succeeds(node, "test -e /etc/corosync/corosync.conf")?,
            "{node} has a cluster"
        );
        let mounts = c.run(node, "cat /proc/mounts")?;
        ensure!(
            !mounts.contains("fuse.glusterfs"),
            "a mount is left on {node}"
        );
    }
    ensure!(
        c.holders()?.iter().all(Option::is_none),
        "an address is left"
    );
    c.run(c.first(), "storhaug setup")?;
    c.settled()?;
    ensure!(c.download(vip, "kept.dat")? == "written before the teardown");
    Ok(())
}
