//! `ocf:storhaug:ctdb`: CTDB as the database of a clustered Samba, and only
//! that.
//!
//! Addresses and services belong to Pacemaker, so what CTDB has for them is
//! kept off. The daemon is the distribution's unit; its health is asked over
//! its own socket ([`crate::ctdbd`]), which tells more than `ctdb nodestatus`:
//! that one calls a node OK whose databases are frozen.
//!
//! Nodes come and go without a restart of any daemon. CTDB takes that well in
//! one order only. First every node has the new file. Then one node has all
//! daemons load it, with `ctdb reloadnodes`; the others wait for that. And the
//! daemon of a new node starts last: where the others do not know it, it
//! connects and is refused, thousands of times in a second. So every instance
//! publishes the list that its daemon has loaded, and a start waits until that
//! is its own list everywhere.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, anyhow, bail};
use nix::sys::signal::{Signal, kill};

use crate::{
    ctdbd::{self, Ctdbd},
    deadline::{Expired, until},
    exec::Cmd,
    fencing,
    mark::Mark,
    ocf::{
        Agent, Code, Ctx, Failure, Kind, Level, Metadata, Op, OrCode, Param, Params, Reload, State,
    },
    systemd::Unit,
};

mod cluster;
pub mod configuration;
mod databases;
mod file;
mod found;
mod nodes;
mod sole;

use cluster::{Cluster, LIST};
use configuration::Setting;
use found::{Found, Trouble};
use nodes::Nodes;
pub use sole::{Undue, undue};

/// The nodes.
pub const NODES: Param = Param {
    name: "nodes",
    kind: Kind::String,
    required: true,
    unique_group: None,
    reload: Reload::Agent,
    default: None,
    shortdesc: "Addresses of the nodes, in order",
    longdesc: "The addresses by which the nodes' CTDB daemons reach each other, separated by \
               blanks. A node's place is its number in CTDB for good: new nodes are added at the \
               end, and the address of a removed node stays, with # before it. It becomes \
               /etc/ctdb/nodes. A change needs no restart: once every node has the new file, the \
               one with the lowest number has all daemons load it (ctdb reloadnodes), as soon as \
               removed nodes are disconnected and no recovery is under way; a new node's start \
               waits for that. A node that gets another address is a new one, and only its own \
               daemon is restarted: # before the old address, and the new one at the end.",
};

/// The cluster lock.
pub const CLUSTER_LOCK: Param = Param {
    name: "cluster_lock",
    kind: Kind::String,
    required: false,
    unique_group: None,
    reload: Reload::Restart,
    default: Some("!/usr/libexec/storhaug/storhaug-ctdb-lock"),
    shortdesc: "What keeps two leaders apart",
    longdesc: "CTDB's cluster lock: a file on a cluster file system, or ! and a command that \
               holds a lock. The default is a lock over Corosync, which needs no file system, and \
               goes to another node only when its holder's node is known to be dead. It has to be \
               the same on all nodes. The agent heartbeat:CTDB calls it ctdb_recovery_lock.",
};

/// Whether CTDB runs smbd.
pub const MANAGES_SAMBA: Param = manages(
    "ctdb_manages_samba",
    "Whether CTDB runs Samba: no",
    "Known for the sake of configurations that were made for the agent heartbeat:CTDB. The only \
     value is no: Samba's daemons are resources of their own, with the agent samba.",
);

/// Whether CTDB runs winbindd.
pub const MANAGES_WINBIND: Param = manages(
    "ctdb_manages_winbind",
    "Whether CTDB runs winbindd: no",
    "As ctdb_manages_samba.",
);

const fn manages(name: &'static str, shortdesc: &'static str, longdesc: &'static str) -> Param {
    Param {
        name,
        kind: Kind::Boolean,
        required: false,
        unique_group: None,
        reload: Reload::Restart,
        default: Some("no"),
        shortdesc,
        longdesc,
    }
}

/// Where the daemon listens.
pub const CTDB_SOCKET: Param = Param {
    name: "ctdb_socket",
    kind: Kind::String,
    required: false,
    unique_group: None,
    reload: Reload::Restart,
    default: Some(ctdbd::SOCKET),
    shortdesc: "Socket of the CTDB daemon",
    longdesc: "The Unix socket that the CTDB daemon of this distribution listens on.",
};

/// The unit that runs the daemon.
const UNIT: &str = "ctdb.service";

const DAEMON: &str = "/usr/sbin/ctdbd";
const CONFIGURATION: &str = "/etc/ctdb/ctdb.conf";
const DATABASES_KEY: &str = "persistent database directory";
const TUNABLES: &str = "/etc/ctdb/ctdb.tunables";
const NODES_FILE: &str = "/etc/ctdb/nodes";

/// How long the daemon may take to answer; it takes milliseconds.
const ANSWER: Duration = Duration::from_secs(10);

/// How long it may take to hear that a word of the leader is waited for.
const CONTROL: Duration = Duration::from_secs(5);

/// How long a word of the leader is waited for, who says one a second.
const BROADCAST: Duration = Duration::from_secs(5);

/// Seconds of a leader's silence after which CTDB elects another; 5 by default
/// (ctdb.conf(5)), which is what clients then wait for when the leader is the
/// node that died: an election fails until the dead node's connections are
/// gone, and the next one comes a leader timeout later. A leader that is only
/// slow keeps the cluster lock, and so its office.
const LEADER_TIMEOUT: &str = "2";

/// Seconds after a recovery in which CTDB begins no other; 10 by default
/// (ctdb-tunables(7)). A start consists of two recoveries, and so lasts 15 to 17
/// seconds by default, and 8 to 11 with 1.
///
/// The tunables of CTDB's own keepalive are left at their default, with which a
/// silent node is given up after 26 to 30 seconds. That is longer than it takes
/// to notice the node's death and to fence it, as it should be: what a node
/// holds that is only cut off must not be given away. It is not what clients
/// wait for, because storhaug-noded closes the connections to a fenced node.
const RERECOVERY_TIMEOUT: &str = "1";

/// How long a recovery may last while no fencing is due: CTDB's own part, and two
/// attempts at fencing, each of Pacemaker's default of 60 s, in case that what is
/// due is not known yet.
const PATIENCE: Duration = Duration::from_secs(180);

/// How often a daemon on its way is looked at.
const EVERY: Duration = Duration::from_millis(250);

/// How long the other nodes may take to load a new list of nodes, before a
/// start gives up. They take two seconds, unless Pacemaker tells them of it only
/// after this start; it then tries again.
const LOADING: Duration = Duration::from_secs(10);

/// How long one `ctdb reloadnodes` may take. It gives up after 10 s where a node
/// does not answer.
const ATTEMPT: Duration = Duration::from_secs(12);

/// How long another node may take to serve, before a start with a damaged
/// database gives up; a start takes 8 to 11 s. Pacemaker tries three times.
const GOOD_COPY: Duration = Duration::from_secs(30);

const LEADERLESS: &str = "no node is CTDB's leader";

/// What is left of a stop's time for a daemon that the unit does not know.
const STRAY: Duration = Duration::from_secs(10);

/// The agent.
#[derive(Clone, Debug)]
pub struct Ctdb {
    nodes: Nodes,
    cluster_lock: String,
    socket: PathBuf,
}

impl Agent for Ctdb {
    const METADATA: Metadata = Metadata {
        name: "ctdb",
        shortdesc: "CTDB as a database for a clustered Samba",
        longdesc: "Runs CTDB on every node, as the clustered database that Samba needs, and as \
                   nothing else: virtual addresses and services are other resources. It sets its \
                   own keys in /etc/ctdb/ctdb.conf and ctdb.tunables and leaves the others, writes \
                   /etc/ctdb/nodes, keeps CTDB's own failover off, and looks at the daemon's run \
                   state, recovery mode and flags. A persistent database that is damaged is moved \
                   aside before a start, if another node serves, whose copy CTDB takes; if none \
                   does, the start is refused. Use it as an anonymous clone with interleave=true.",
        parameters: &[
            NODES,
            CLUSTER_LOCK,
            CTDB_SOCKET,
            MANAGES_SAMBA,
            MANAGES_WINBIND,
        ],
        actions: &[
            Op::once("start", 120),
            Op::once("stop", 100),
            // Costs 10 ms of waiting, and all of smbd ends with the daemon.
            Op::monitor(0, 1, 30),
            Op::monitor(10, 60, 30),
            Op::once("reload-agent", 20),
        ],
    };

    fn from_env(params: &Params) -> Result<Self, Failure> {
        let cluster_lock = params.required(&CLUSTER_LOCK)?;
        if cluster_lock.contains(['\n', '\r']) {
            return Err(Failure::configured(
                "parameter cluster_lock: more than one line",
            ));
        }
        for manages in [&MANAGES_SAMBA, &MANAGES_WINBIND] {
            if params.boolean(manages)? {
                return Err(Failure::configured(format_args!(
                    "parameter {}: CTDB is a database here and manages no services: write no, and \
                     make each daemon a resource with the agent samba",
                    manages.name
                )));
            }
        }
        Ok(Self {
            nodes: params
                .parsed(&NODES)?
                .ok_or_else(|| Failure::configured("parameter nodes is not set"))?,
            cluster_lock: cluster_lock.to_owned(),
            socket: params.required(&CTDB_SOCKET)?.into(),
        })
    }

    fn validate(&self, ctx: &Ctx) -> Result<(), Failure> {
        if ctx.depth < 10 {
            return Ok(());
        }
        let installed = |what: &str, file: &str| {
            if ctx.path(file).exists() {
                return Ok(());
            }
            let error = anyhow!("{file} is missing: install {what}");
            Err(Failure::new(Code::ErrInstalled, error))
        };
        installed("the package ctdb", DAEMON)?;
        if let Some(helper) = self.cluster_lock.strip_prefix('!') {
            let program = helper.split_whitespace().next().unwrap_or_default();
            installed("what the parameter cluster_lock names", program)?;
        }
        pnn(&self.nodes).or_code(Code::ErrArgs)?;
        sole::demand(ctx).or_code(Code::ErrArgs)
    }

    fn start(&self, ctx: &Ctx) -> Result<(), Failure> {
        let found = self.ask(ctx)?;
        if let Some(found) = &found
            && found.trouble().is_none()
        {
            write_nodes(ctx, &self.nodes)?;
            LIST.set(ctx, &found.list());
            return Ok(());
        }
        if found.is_none() {
            self.configure(ctx)?;
            let nodes = self.admission(ctx)?;
            write_nodes(ctx, &nodes)?;
            self.check_databases(ctx, pnn(&nodes)?)?;
            // A daemon that is gone may have been in a recovery.
            self.mark(ctx).clear();
        }
        let unit = Unit::new(UNIT);
        unit.start(ctx)?;
        let mut waiting = String::from("ctdbd does not listen");
        let patience = ctx.deadline.before(EVERY);
        let ready = until(patience, EVERY, "CTDB to serve", || {
            unit.ended(ctx)?;
            let Some(found) = self.ask(ctx)? else {
                return Ok(None);
            };
            waiting = match found.trouble() {
                Some(Trouble::Lasting(reason)) => bail!(reason),
                Some(Trouble::Passing(reason)) => reason,
                None if self.leader(ctx)?.is_some() => {
                    LIST.set(ctx, &found.list());
                    return Ok(Some(()));
                }
                None => LEADERLESS.into(),
            };
            if !Cluster::read(ctx).fencing_is_due() {
                return Ok(None);
            }
            let reason = format!("{waiting}, which goes on when a lost node has been fenced");
            ctx.log(Level::Warning, &reason);
            Ok(Some(()))
        });
        Ok(ready.map_err(|error| expired(ctx, error, waiting))?)
    }

    fn stop(&self, ctx: &Ctx) -> Result<(), Failure> {
        LIST.withdraw(ctx);
        let unit = Unit::new(UNIT);
        // One that hangs would not hear that it is to end, and be waited for.
        if let Err(error) = self.ask(&ctx.by(ctx.deadline.earlier(ANSWER / 4))) {
            ctx.log(Level::Warning, &format!("killing {UNIT}: {error:#}"));
            if let Err(error) = unit.kill(ctx) {
                ctx.log(Level::Warning, &format!("{error:#}"));
            }
        }
        let by_unit = ctx.by(ctx.deadline.before(STRAY));
        if let Err(error) = unit.stop(&by_unit) {
            ctx.log(Level::Warning, &format!("{error:#}"));
            if let Ok(state) = unit.state(ctx)
                && !state.is_ended()
            {
                return Err(error.into());
            }
        }
        // One that was started by hand, or that systemd cannot be asked about.
        self.end(ctx)?;
        Ok(())
    }

    fn monitor(&self, ctx: &Ctx) -> Result<State, Failure> {
        if ctx.probe {
            return Ok(match self.ask(ctx)? {
                Some(_) => State::Running,
                None => State::NotRunning,
            });
        }
        let Some(found) = self.ask(ctx)? else {
            return Ok(State::NotRunning);
        };
        if let Some(reason) = self.trouble(ctx, &found)? {
            ctx.log(Level::Warning, &reason);
        }
        if self.has_moved(&found)? {
            let error = anyhow!(
                "ctdbd runs as node {}, which is removed by the parameter nodes, and has to start as \
                 another one",
                found.pnn
            );
            return Err(error.into());
        }
        // Without one, a recovery begins within seconds, and its time counts.
        let leaderless = ctx.depth >= 10 && !found.recovering && self.leader(ctx)?.is_none();
        if leaderless
            && self.ask(ctx)?.is_some_and(|found| !found.recovering)
            && !fencing::is_due(ctx)
        {
            return Err(anyhow!(LEADERLESS).into());
        }
        // A change of the parameter may have been missed, by a node that was
        // away at that time, or may be waiting for something.
        match self.follow(ctx, &found) {
            Ok(Followed::Loaded) => {}
            Ok(Followed::Waits(_)) if ctx.depth < 10 => {}
            Ok(Followed::Waits(reason)) => ctx.log(Level::Warning, &reason),
            Err(error) => ctx.log(Level::Warning, &format!("{error:#}")),
        }
        if ctx.depth >= 10 && found.flags.unhealthy() {
            ctx.log(
                Level::Warning,
                "an event script of CTDB's finds this node unhealthy: `ctdb event status legacy \
                 monitor` says which",
            );
        }
        Ok(State::Running)
    }

    fn reload_agent(&self, ctx: &Ctx) -> Result<(), Failure> {
        // To wait for the others here would keep Pacemaker from telling them.
        // Nor is anything a failure: that would restart a daemon that serves,
        // and the monitor tries again in a second.
        let followed = write_nodes(ctx, &self.nodes).and_then(|()| match self.ask(ctx)? {
            Some(found) => self.follow(ctx, &found),
            None => Ok(Followed::Loaded),
        });
        match followed {
            Ok(Followed::Loaded) => {}
            Ok(Followed::Waits(reason)) => ctx.log(Level::Info, &reason),
            Err(error) => ctx.log(Level::Warning, &format!("{error:#}")),
        }
        Ok(())
    }
}

/// Whether the daemon has loaded the list of nodes that the parameter says.
enum Followed {
    Loaded,
    /// Not yet, and why.
    Waits(String),
}

impl Ctdb {
    /// What is wrong, but not for so long that to restart the daemon could help:
    /// a recovery is CTDB's answer to any change, such as a crash of another
    /// node, and it lasts until that node is fenced.
    fn trouble(&self, ctx: &Ctx, found: &Found) -> anyhow::Result<Option<String>> {
        let mark = self.mark(ctx);
        let reason = match found.trouble() {
            None => {
                // There is none but after a recovery.
                mark.clear();
                return Ok(None);
            }
            Some(Trouble::Lasting(reason)) => bail!(reason),
            Some(Trouble::Passing(reason)) => reason,
        };
        // Where it cannot be written, a restart would not help either.
        let Some(lasts) = mark.age() else {
            mark.set();
            return Ok(Some(reason));
        };
        if lasts > PATIENCE {
            if !fencing::is_due(ctx) {
                bail!("{reason}, for {} s now", lasts.as_secs());
            }
            // What comes after the fencing has its time as well.
            mark.set();
            return Ok(Some(format!("{reason}, until a lost node is fenced")));
        }
        // Once a second would be too often for the log.
        Ok((ctx.depth >= 10).then_some(reason))
    }

    /// Whether this node has got another number, which its daemon takes with
    /// its next start only.
    fn has_moved(&self, found: &Found) -> anyhow::Result<bool> {
        if found.trouble().is_some() || !self.nodes.removes(found.pnn as usize) {
            return Ok(false);
        }
        let loaded = Nodes::loaded(&found.list());
        let follows = loaded.is_some_and(|loaded| self.nodes.conflict(&loaded).is_none());
        Ok(follows && self.nodes.this_node()?.is_some())
    }

    /// Waits until every other node's CTDB knows the nodes that this one does.
    /// Where they never will, and know this node all the same, it joins them
    /// with their list. Returns the list to start with.
    fn admission(&self, ctx: &Ctx) -> anyhow::Result<Nodes> {
        let list = self.nodes.label();
        let mut waiting = None;
        let patience = ctx.deadline.before(ctx.deadline.left() / 2);
        let patience = patience.earlier(LOADING);
        let admitted = until(patience, EVERY, "the others to know all nodes", || {
            let cluster = Cluster::read(ctx);
            let Some((node, other)) = cluster.others(ctx).find(|(_, other)| *other != list) else {
                return Ok(Some(()));
            };
            let agreed = cluster.others(ctx).all(|(_, list)| list == other);
            waiting = Some((node.to_owned(), other.to_owned(), agreed));
            if cluster.fencing_is_due() {
                bail!("a node is to be fenced first");
            }
            Ok(None)
        });
        let (Err(error), Some((node, other, agreed))) = (admitted, waiting) else {
            return Ok(self.nodes.clone());
        };
        let reason =
            format!("CTDB on {node} has loaded the list of nodes `{other}`, and not `{list}`");
        let theirs = Nodes::loaded(&other);
        let conflict = theirs
            .as_ref()
            .and_then(|theirs| self.nodes.conflict(theirs));
        let (Some(theirs), Some(conflict)) = (theirs, conflict) else {
            return Err(error.context(format!(
                "{reason}: its log says what keeps it, if this does not end by itself"
            )));
        };
        if agreed && error.is::<Expired>() && theirs.this_node()?.is_some() {
            let news = format!("{reason}, and is joined with its list: {conflict}");
            ctx.log(Level::Warning, &news);
            return Ok(theirs);
        }
        Err(error.context(format!("{reason}: {conflict}")))
    }

    /// Moves damaged databases away where another node has a good copy, which
    /// CTDB then takes: one that serves has every persistent database, and a
    /// recovery that has compared all copies behind it.
    fn check_databases(&self, ctx: &Ctx, pnn: usize) -> anyhow::Result<()> {
        let configuration = file::read(&ctx.path(CONFIGURATION))?;
        let directory = configuration::value(&configuration, "database", DATABASES_KEY);
        let directory = Path::new(directory.unwrap_or(databases::DIRECTORY));
        let damaged = databases::damaged(ctx, directory, pnn)?;
        let Some(first) = damaged.first() else {
            return Ok(());
        };
        ctx.log(Level::Error, &first.to_string());
        let patience = ctx.deadline.before(ctx.deadline.left() / 3);
        let healthy = until(
            patience.earlier(GOOD_COPY),
            EVERY,
            "another node to serve",
            || {
                let cluster = Cluster::read(ctx);
                if let Some((node, _)) = cluster.others(ctx).next() {
                    return Ok(Some(node.to_owned()));
                }
                if cluster.fencing_is_due() {
                    bail!("a node is to be fenced first");
                }
                Ok(None)
            },
        );
        let healthy = match healthy {
            Ok(healthy) => healthy,
            Err(error) => {
                let remedy = format!(
                    "no other node's CTDB serves, from which a good copy could come ({error:#}): \
                     start one whose databases are good, or put a backup in the place of the \
                     file, or move it away on every node, with which its content is lost"
                );
                ctx.log(Level::Error, &remedy);
                // Pacemaker shows 127 characters.
                bail!(
                    "{}, and no node that serves has a copy: restore it",
                    first.name()
                );
            }
        };
        for database in damaged {
            let aside = database.set_aside()?;
            let aside = aside.display();
            let message =
                format!("{database}; it is now {aside}, and the copy of {healthy} is taken");
            ctx.log(Level::Error, &message);
        }
        Ok(())
    }

    /// Whether others have loaded the new list and this node has not, which is
    /// looked at every minute: whoever had it loaded did not reach this node.
    fn was_missed(&self, ctx: &Ctx) -> bool {
        let list = self.nodes.label();
        ctx.depth >= 10
            && Cluster::read(ctx)
                .others(ctx)
                .any(|(_, other)| other == list)
    }

    /// Brings the list of nodes that the parameter says into the file, and, if
    /// it is this node's turn, into every daemon; publishes the one that the
    /// daemon here has.
    fn follow(&self, ctx: &Ctx, found: &Found) -> anyhow::Result<Followed> {
        let written = write_nodes(ctx, &self.nodes);
        if found.trouble().is_some() {
            written?;
            return Ok(Followed::Waits("CTDB does not serve now".into()));
        }
        let loaded = found.list();
        LIST.set(ctx, &loaded);
        written?;
        if loaded == self.nodes.label() {
            return Ok(Followed::Loaded);
        }
        let conflict = Nodes::loaded(&loaded).and_then(|loaded| self.nodes.conflict(&loaded));
        if let Some(conflict) = conflict {
            return Ok(Followed::Waits(format!(
                "CTDB has loaded the list of nodes `{loaded}`, and never loads the new one: {conflict}"
            )));
        }
        if !found.is_first() && !self.was_missed(ctx) {
            return Ok(Followed::Waits(format!(
                "CTDB has loaded the list of nodes `{loaded}`; another node has it load the new one"
            )));
        }
        // It looks itself whether all files are the same, and nobody removed is
        // connected.
        let reload = Cmd::new("ctdb").arg("reloadnodes");
        let done = ctx
            .runner
            .run(&reload, ctx.deadline.earlier(ATTEMPT))?
            .checked();
        Ok(Followed::Waits(match done {
            Ok(_) => "CTDB has been told to load the new list of nodes".into(),
            Err(error) => format!("{error:#}"),
        }))
    }

    /// Says when the daemon's recovery began.
    fn mark(&self, ctx: &Ctx) -> Mark {
        Mark::at(ctx.path(&self.socket).with_file_name("storhaug-recovery"))
    }

    fn connect(&self, ctx: &Ctx) -> anyhow::Result<Option<Ctdbd>> {
        Ctdbd::connect(&ctx.path(&self.socket), ctx.deadline.earlier(ANSWER))
    }

    /// What the daemon says; none where no daemon listens.
    fn ask(&self, ctx: &Ctx) -> anyhow::Result<Option<Found>> {
        let Some(mut ctdbd) = self.connect(ctx)? else {
            return Ok(None);
        };
        match (Found::ask(&mut ctdbd), ctdbd.pid()) {
            (Err(error), Ok(pid)) => Err(error.context(format!("asking process {pid}"))),
            (found, _) => found.map(Some),
        }
    }

    /// The leader, which makes itself heard every second.
    fn leader(&self, ctx: &Ctx) -> anyhow::Result<Option<u32>> {
        match self.connect(ctx)? {
            Some(mut ctdbd) => {
                ctdbd.by(ctx.deadline.earlier(CONTROL));
                ctdbd.listen_to_leader()?;
                let by = ctx.deadline.before(ctx.deadline.left() / 2);
                ctdbd.by(by.earlier(BROADCAST));
                ctdbd.leader()
            }
            None => Ok(None),
        }
    }

    /// Writes what CTDB reads at its start.
    fn configure(&self, ctx: &Ctx) -> anyhow::Result<()> {
        let set = |section, key, value| Setting {
            section,
            key,
            value,
        };
        let settings = [
            set("cluster", "cluster lock", Some(self.cluster_lock.as_str())),
            // Its name before CTDB 4.16, which would be read as well.
            set("cluster", "recovery lock", None),
            // From CTDB 4.22 on, a command that the list is taken from instead.
            set("cluster", "nodes list", None),
            set("cluster", "leader timeout", Some(LEADER_TIMEOUT)),
            set("failover", "disabled", Some("true")),
            // From CTDB 4.22 on, a shutdown else waits for addresses to move.
            set("failover", "shutdown failover timeout", Some("0")),
        ];
        let tunables = [set("", "RerecoveryTimeout", Some(RERECOVERY_TIMEOUT))];
        for (path, settings) in [(CONFIGURATION, &settings[..]), (TUNABLES, &tunables)] {
            let path = ctx.path(path);
            let before = file::read(&path)?;
            file::write(&path, &before, &configuration::with(&before, settings))?;
        }
        write_nodes(ctx, &self.nodes)?;
        sole::disable_interface(ctx)
    }

    /// Ends whoever listens on the socket.
    fn end(&self, ctx: &Ctx) -> anyhow::Result<()> {
        let path = ctx.path(&self.socket);
        let mut killed = None;
        until(ctx.deadline, EVERY, "ctdbd to be gone", || {
            let listener = match Ctdbd::connect(&path, ctx.deadline) {
                Ok(listener) => listener,
                // It hangs. Whom to kill is not known without a connection.
                Err(_) => return Ok(None),
            };
            let Some(mut ctdbd) = listener else {
                return Ok(Some(()));
            };
            let pid = ctdbd.pid()?;
            if killed == Some(pid) {
                return Ok(None);
            }
            ctx.log(
                Level::Warning,
                &format!("killing ctdbd, process {pid}, which does not belong to {UNIT}"),
            );
            ctdbd.by(ctx.deadline.earlier(EVERY));
            let _ = ctdbd.shut_down();
            // Another process of that number has come since: none listens.
            let _ = kill(pid, Signal::SIGKILL);
            killed = Some(pid);
            Ok(None)
        })
    }
}

fn write_nodes(ctx: &Ctx, nodes: &Nodes) -> anyhow::Result<()> {
    file::write_own(&ctx.path(NODES_FILE), &nodes.to_string())
}

/// This node's number.
fn pnn(nodes: &Nodes) -> anyhow::Result<usize> {
    let pnn = nodes.this_node()?;
    pnn.context("parameter nodes: none of them is an address of this node")
}

/// Says what was waited for, where the wait was in vain.
fn expired(ctx: &Ctx, error: anyhow::Error, waiting: String) -> anyhow::Error {
    // The last look may itself have run out of time.
    if error.is::<Expired>() || ctx.deadline.left() < EVERY {
        error.context(waiting)
    } else {
        error
    }
}
