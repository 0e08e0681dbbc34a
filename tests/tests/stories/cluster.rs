//! The cluster as the stories see it: short words for what they do and ask.

use std::cell::RefCell;
use std::io::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use serde_json::Value;
use storhaug_lab::layout::free_addresses;
use storhaug_lab::{Cmd, Lab, Options, Output, Release, cell, smb, wait};

/// The configuration that the stories change.
pub const CONF: &str = "/etc/storhaug/storhaug.conf";
/// Ten times what the slowest verb takes.
const LIMIT: Duration = Duration::from_secs(600);
/// A node that boots and rejoins, on a busy machine.
const SETTLED: Duration = Duration::from_secs(400);
/// Patience with one access of a client to an address that serves.
const ACCESS: Duration = Duration::from_secs(30);
/// After this, noded has forgotten the clients that an address had elsewhere.
const FORGOTTEN: Duration = Duration::from_secs(120);
/// What a node that does not fence before it is told runs as its fence agent.
/// Everything else that the agent is asked for it does at once.
const PATIENT: &str = r#"#!/bin/sh
options=$(cat)
case $options in
*action=reboot* | *action=off*)
    until test -e /run/fence; do sleep 0.05; done
    ;;
esac
printf '%s\n' "$options" | /usr/sbin/fence_lab.real "$@"
"#;

/// A cluster that was set up, and what a story has to say beside its outcome.
#[derive(Debug)]
pub struct Cluster {
    pub lab: Lab,
    pub nodes: Vec<String>,
    pub vips: Vec<IpAddr>,
    notes: RefCell<Vec<String>>,
}

impl Cluster {
    /// A new lab in which nothing is set up yet.
    pub fn up(release: &str, source: &Path) -> Result<Self> {
        let name = format!("stories-{release}");
        Lab::down(&name)?;
        let lab = Lab::up(&Options {
            release: <Release as ValueEnum>::from_str(release, true).map_err(anyhow::Error::msg)?,
            name,
            nodes: 3,
            spares: 1,
            blank: false,
            source: source.to_owned(),
            path: "/usr/sbin:/usr/bin:/sbin:/bin".into(),
        })?;
        Ok(Self::of(lab))
    }

    fn of(lab: Lab) -> Self {
        Self {
            nodes: lab.facts().node_names(),
            vips: lab.vips(),
            lab,
            notes: RefCell::default(),
        }
    }

    /// What the cluster becomes when the lab's spare machine is added to it,
    /// which boots here and is in the pool of GlusterFS then.
    pub fn with_spare(&self) -> Result<Self> {
        let grown = Self::of(self.lab.with_spare()?);
        let probe = format!("gluster --mode=script peer probe {}", grown.last());
        self.run(self.first(), &probe)?;
        Ok(grown)
    }

    /// Sets the cluster up, and remembers it.
    pub fn set_up(&self) -> Result<()> {
        self.run(self.first(), "storhaug setup")?;
        self.settled()?;
        self.lab.snapshot()?;
        self.settled()
    }

    /// Sets the cluster up by another configuration.
    pub fn set_up_with(&self, conf: &str) -> Result<()> {
        self.write_conf(conf)?;
        self.run(self.first(), "storhaug setup")?;
        self.settled()
    }

    /// Back to the moment after the setup.
    pub fn restore(&self) -> Result<()> {
        self.lab.restore()?;
        self.settled()
    }

    /// Remembers something worth saying even when the story passes.
    pub fn note(&self, note: &str) {
        self.notes.borrow_mut().push(note.to_owned());
    }

    /// The notes so far, which are forgotten.
    pub fn take_notes(&self) -> Vec<String> {
        self.notes.take()
    }

    /// The node on which the configuration is.
    pub fn first(&self) -> &str {
        &self.nodes[0]
    }

    /// A node on which it is not.
    pub fn last(&self) -> &str {
        &self.nodes[self.nodes.len() - 1]
    }

    /// Runs a command, words separated by spaces, however it ends.
    pub fn exec(&self, node: &str, command: &str) -> Result<Output> {
        self.lab
            .node(node)
            .command(command.split(' '))?
            .limit(LIMIT)
            .output()
    }

    /// Runs a command that has to succeed; its standard output.
    pub fn run(&self, node: &str, command: &str) -> Result<String> {
        self.exec(node, command)?
            .checked()
            .with_context(|| format!("on {node}"))
    }

    /// Runs a command that has to succeed; all that it says.
    pub fn said(&self, node: &str, command: &str) -> Result<String> {
        let output = self.exec(node, command)?;
        let said = output.stdout() + &output.stderr();
        output.checked().with_context(|| format!("on {node}"))?;
        Ok(said)
    }

    /// Runs a command that has to fail; all that it says.
    pub fn refused(&self, node: &str, command: &str) -> Result<String> {
        let output = self.exec(node, command)?;
        ensure!(!output.success(), "`{command}` was not refused on {node}");
        Ok(output.stdout() + &output.stderr())
    }

    /// Whether a command succeeds.
    pub fn succeeds(&self, node: &str, command: &str) -> Result<bool> {
        Ok(self.exec(node, command)?.success())
    }

    /// Waits for a condition.
    pub fn until(
        &self,
        seconds: u64,
        what: &str,
        condition: impl FnMut() -> Result<bool>,
    ) -> Result<()> {
        wait::until_true(what, Duration::from_secs(seconds), condition)
    }

    /// Waits until everything runs where it should, and serves.
    pub fn settled(&self) -> Result<()> {
        self.lab.settle(&self.vips, SETTLED)
    }

    /// Has the cluster forget the failures that a story brought about, so that
    /// they do not count in the next one, and waits until all is whole.
    pub fn forgiven(&self) -> Result<()> {
        self.run(self.first(), "crm_resource --cleanup")?;
        self.settled()
    }

    /// A node's own address.
    pub fn address(&self, node: &str) -> Result<IpAddr> {
        self.lab.facts().address(node).map(IpAddr::V4)
    }

    /// The node that holds an address, which has to be somewhere.
    pub fn holder(&self, vip: IpAddr) -> Result<String> {
        self.lab
            .holder(vip)?
            .with_context(|| format!("{vip} is nowhere"))
    }

    /// Whether an address is on a node other than this one.
    pub fn left(&self, vip: IpAddr, node: &str) -> Result<bool> {
        Ok(self.lab.holder(vip)?.is_some_and(|holder| holder != node))
    }

    /// Whether all addresses are on nodes other than this one.
    pub fn all_left(&self, node: &str) -> Result<bool> {
        self.vips
            .iter()
            .try_fold(true, |left, vip| Ok(left && self.left(*vip, node)?))
    }

    /// The first node that is not this one.
    pub fn another(&self, node: &str) -> Result<&str> {
        let mut nodes = self.nodes.iter().map(String::as_str);
        let other = nodes.find(|other| *other != node);
        other.context("a cluster has several nodes")
    }

    /// Where the addresses are, in their order.
    pub fn holders(&self) -> Result<Vec<Option<String>>> {
        self.vips.iter().map(|vip| self.lab.holder(*vip)).collect()
    }

    /// An address that is on another node.
    pub fn vip_not_on(&self, node: &str) -> Result<IpAddr> {
        for vip in &self.vips {
            if self.left(*vip, node)? {
                return Ok(*vip);
            }
        }
        anyhow::bail!("every address is on {node}")
    }

    /// An address that nobody has.
    pub fn free_address(&self) -> Result<IpAddr> {
        free_addresses()
            .nth(self.vips.len())
            .map(IpAddr::V4)
            .context("no address is free")
    }

    /// Writes a file through an address.
    pub fn upload(&self, vip: IpAddr, file: &str, text: &str) -> Result<()> {
        smb::run_within(
            &self.lab,
            vip,
            &format!("put - {file}"),
            text.into(),
            ACCESS,
        )
        .map(drop)
    }

    /// Reads a file through an address.
    pub fn download(&self, vip: IpAddr, file: &str) -> Result<String> {
        let get = format!("get {file} /dev/stdout");
        let read = smb::run_within(&self.lab, vip, &get, Vec::new(), ACCESS)?;
        // smbclient's own report of the transfer comes after the file's bytes.
        Ok(read
            .split("getting file")
            .next()
            .unwrap_or_default()
            .trim_end()
            .to_owned())
    }

    /// Whether a client can write through an address.
    pub fn serves(&self, vip: IpAddr) -> bool {
        let text = "written to see whether it can be";
        let limit = Duration::from_secs(10);
        smb::run_within(&self.lab, vip, "put - serves.dat", text.into(), limit).is_ok()
    }

    /// The process systemd knows as a daemon's main one; "0" when there is none.
    pub fn main_pid(&self, node: &str, daemon: &str) -> Result<String> {
        let show = "systemctl show --property=MainPID --value";
        let pid = self.run(node, &format!("{show} {}", unit(daemon)))?;
        Ok(pid.trim().to_owned())
    }

    /// Which process that is, and since when: it changes with every restart.
    pub fn life(&self, node: &str, daemon: &str) -> Result<String> {
        let since = "systemctl show --property=ExecMainStartTimestampMonotonic --value";
        let since = self.run(node, &format!("{since} {}", unit(daemon)))?;
        let pid = self.main_pid(node, daemon)?;
        ensure!(pid != "0", "{daemon} does not run on {node}");
        Ok(format!("{pid} since {}", since.trim()))
    }

    /// How often the cluster has fenced a node, as another node remembers it.
    pub fn fencings(&self, node: &str) -> Result<usize> {
        let command = "stonith_admin --history=* --output-as=xml";
        let history = self.run(self.another(node)?, command)?;
        let document = roxmltree::Document::parse(&history)?;
        Ok(document
            .descendants()
            .filter(|event| event.has_tag_name("fence_event"))
            .filter(|event| event.attribute("target") == Some(node))
            .count())
    }

    /// Has the power switch wait before anybody is fenced, but for what the
    /// node `spared` wants, until [`Cluster::let_fence`].
    pub fn hold_fencing(&self, spared: &str) -> Result<()> {
        for node in self.nodes.iter().filter(|node| *node != spared) {
            // There is an agent at every moment: somebody may look for it now.
            self.run(node, "cp -p /usr/sbin/fence_lab /usr/sbin/fence_lab.real")?;
            self.lab
                .node(node)
                .write("/usr/sbin/fence_lab.patient", PATIENT.as_bytes(), 0o755)?;
            self.run(node, "mv /usr/sbin/fence_lab.patient /usr/sbin/fence_lab")?;
        }
        Ok(())
    }

    /// Lets it do what it was asked for.
    pub fn let_fence(&self, spared: &str) -> Result<()> {
        for node in self.nodes.iter().filter(|node| *node != spared) {
            self.run(node, "touch /run/fence")?;
        }
        Ok(())
    }

    /// Undoes [`Cluster::hold_fencing`].
    pub fn fence_as_ever(&self, spared: &str) -> Result<()> {
        for node in self.nodes.iter().filter(|node| *node != spared) {
            self.run(node, "mv /usr/sbin/fence_lab.real /usr/sbin/fence_lab")?;
            self.run(node, "rm /run/fence")?;
        }
        Ok(())
    }

    /// How many clients of an address a node knows.
    pub fn clients(&self, node: &str, vip: IpAddr) -> Result<u64> {
        let status = self.exec(node, "storhaug status --output json")?;
        let status: Value = serde_json::from_slice(&status.stdout)?;
        let vips = status["addresses"].as_array().into_iter().flatten();
        vips.filter(|known| known["address"] == vip.to_string().as_str())
            .find_map(|known| known["clients"].as_u64())
            .with_context(|| format!("{node} does not tell about the clients of {vip}"))
    }

    /// An address of which no clients are known. Those of an address that has
    /// moved are remembered for a minute.
    pub fn quiet_vip(&self) -> Result<IpAddr> {
        wait::until("an address without clients", FORGOTTEN, || {
            for vip in &self.vips {
                if self.clients(self.first(), *vip)? == 0 {
                    return Ok(Some(*vip));
                }
            }
            Ok(None)
        })
    }

    /// Waits until every node knows the clients of an address, so many.
    pub fn known(&self, vip: IpAddr, count: usize) -> Result<()> {
        for node in &self.nodes {
            let what = format!("{node} knows the clients of {vip}");
            wait::until_true(&what, FORGOTTEN, || {
                let clients = self.clients(node, vip)?;
                ensure!(clients == count as u64, "it knows {clients} of {count}");
                Ok(true)
            })?;
        }
        Ok(())
    }

    /// How many connections a node's kernel has, by a filter of ss.
    pub fn connections(&self, node: &str, filter: &str) -> Result<usize> {
        let sockets = self.run(node, &format!("ss --no-header --tcp --numeric {filter}"))?;
        Ok(sockets.lines().count())
    }

    /// The configuration section of the CIB, without the copy of the file it
    /// was made from.
    pub fn configuration(&self) -> Result<String> {
        let text = self.run(self.first(), "cibadmin --query --scope=configuration")?;
        // Where the configuration came from, and when Pacemaker was last told to
        // look again: neither says what the cluster is.
        let aside = ["id=\"storhaug-configuration-", "name=\"last-lrm-refresh\""];
        let lines = text
            .lines()
            .filter(|line| !aside.iter().any(|part| line.contains(part)));
        Ok(lines.collect::<Vec<_>>().join("\n"))
    }

    /// The CIB's number of configuration changes.
    pub fn epoch(&self) -> Result<String> {
        let text = self.run(self.first(), "cibadmin --query")?;
        let document = roxmltree::Document::parse(&text)?;
        let root = document.root_element();
        let of = |name| root.attribute(name).unwrap_or_default();
        Ok(format!("{}.{}", of("admin_epoch"), of("epoch")))
    }

    /// Replaces text in the configuration, where it has to be.
    pub fn edit_conf(&self, from: &str, to: &str) -> Result<()> {
        let text = self.conf()?;
        ensure!(text.contains(from), "`{from}` is not in {CONF}:\n{text}");
        self.write_conf(&text.replacen(from, to, 1))
    }

    /// Replaces the addresses in the configuration by so many.
    pub fn conf_with_vips(&self, count: usize) -> Result<()> {
        let mut text: String = self
            .conf()?
            .lines()
            .filter(|line| *line != "[[vip]]" && !line.ends_with("/24\""))
            .map(|line| format!("{line}\n"))
            .collect();
        for vip in free_addresses().take(count) {
            text += &format!("[[vip]]\naddress = \"{vip}/24\"\n");
        }
        self.write_conf(&text)
    }

    /// The configuration's text.
    pub fn conf(&self) -> Result<String> {
        self.run(self.first(), &format!("cat {CONF}"))
    }

    /// Writes the configuration.
    pub fn write_conf(&self, text: &str) -> Result<()> {
        self.lab
            .node(self.first())
            .write(CONF, text.as_bytes(), 0o644)
    }

    /// Runs `storhaug setup` and kills it when it says its `step`th line.
    /// Whether it was killed; it may have come to its end before.
    pub fn setup_killed_at(&self, step: usize) -> Result<bool> {
        let said = scratch("setup.log");
        std::fs::write(&said, "")?;
        let node = self.lab.node(self.first());
        let mut setup = node.command(["storhaug", "setup"])?.spawn(&said)?;
        let killed = wait::until("setup comes to its next step", LIMIT, || {
            if let Some(status) = setup.try_wait()? {
                ensure!(
                    status.success(),
                    "setup failed: {}",
                    std::fs::read_to_string(&said)?
                );
                return Ok(Some(false));
            }
            Ok((std::fs::read_to_string(&said)?.lines().count() >= step).then_some(true))
        })?;
        if killed {
            self.exec(self.first(), "pkill -9 -x storhaug")?;
            setup.wait()?;
        }
        Ok(killed)
    }

    /// Counts the calls of pcs on the first node while something is done.
    pub fn counting_pcs(&self, act: impl FnOnce() -> Result<()>) -> Result<usize> {
        let node = self.first();
        let counter = "#!/bin/sh\necho \"$*\" >>/root/pcs.log\nexec /usr/sbin/pcs.real \"$@\"\n";
        self.run(node, "mv /usr/sbin/pcs /usr/sbin/pcs.real")?;
        self.lab
            .node(node)
            .write("/usr/sbin/pcs", counter.as_bytes(), 0o755)?;
        self.lab.node(node).write("/root/pcs.log", b"", 0o644)?;
        act()?;
        self.run(node, "mv /usr/sbin/pcs.real /usr/sbin/pcs")?;
        Ok(self.run(node, "cat /root/pcs.log")?.lines().count())
    }

    /// Pids, mounts and namespaces in which a lab's name is to be seen.
    pub fn traces_of(&self, lab: &str) -> Result<Vec<String>> {
        let mark = format!("storhaug-lab.{lab}.");
        let disks = format!("/var/lib/storhaug-lab/{lab}/");
        let group = format!("/storhaug-lab/{lab}/");
        let mut traces: Vec<String> = Cmd::new("ip")
            .args(["netns", "list"])
            .run()?
            .lines()
            .filter(|line| line.starts_with(&mark))
            .map(str::to_owned)
            .collect();
        let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
        traces.extend(
            mounts
                .lines()
                .filter(|line| line.contains(&disks))
                .map(str::to_owned),
        );
        for entry in std::fs::read_dir("/proc")?.flatten() {
            let cgroup = std::fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
            let pid = entry.file_name().to_string_lossy().parse();
            // A zombie waits for somebody outside the lab to look at it.
            if cgroup.contains(&group) && pid.is_ok_and(cell::alive) {
                traces.push(entry.path().display().to_string());
            }
        }
        Ok(traces)
    }

    /// What to read first when a story has failed.
    pub fn summary(&self) -> String {
        let mut text = String::new();
        let mut tell = |node: &str, command: &str| {
            let said = self.exec(node, command).and_then(Output::checked);
            text += &format!("{node}: {command}\n");
            text += &said.unwrap_or_else(|error| format!("{error:#}\n"));
        };
        tell(self.last(), "crm_mon -1 -rfn");
        for node in &self.nodes {
            tell(
                node,
                "journalctl -q -n 15 --no-pager -t pacemaker-controld -t pacemaker-execd",
            );
            tell(node, "journalctl -q -n 15 --no-pager --grep storhaug");
        }
        text
    }
}

/// The unit in which a daemon runs.
fn unit(daemon: &str) -> &str {
    match daemon {
        "ctdbd" => "ctdb",
        "winbindd" => "winbind",
        other => other,
    }
}

/// A file of the running story, outside the machines.
pub fn scratch(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join("stories")
        .join(name)
}

/// Writes one line to standard output at once. Nobody to read it is no reason
/// to stop.
pub fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")
        .and_then(|()| out.flush())
        .unwrap_or_default();
}
