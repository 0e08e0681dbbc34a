//! `ocf:storhaug:ctdb`: CTDB as the database of a clustered Samba, and only
//! that.
//!
//! Addresses and services belong to Pacemaker, so what CTDB has for them is
//! kept off. The daemon is the distribution's unit; its health is asked over
//! its own socket ([`crate::ctdbd`]), which tells more than `ctdb nodestatus`:
//! that one calls a node OK whose databases are frozen.

use std::{
    fs::{self, OpenOptions},
    io::{ErrorKind, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, anyhow, bail};
use nix::sys::signal::{Signal, kill};

use crate::{
    ctdbd::{Ctdbd, Flags, RunState},
    deadline::{Expired, until},
    ocf::{
        Agent, Code, Ctx, Failure, Kind, Level, Metadata, Op, OrCode, Param, Params, Reload, State,
    },
    systemd::Unit,
};

pub mod configuration;
mod databases;
mod fencing;
mod nodes;

use configuration::Setting;
use nodes::Nodes;

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
               /etc/ctdb/nodes.",
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
               the same on all nodes.",
};

/// Where the daemon listens.
pub const CTDB_SOCKET: Param = Param {
    name: "ctdb_socket",
    kind: Kind::String,
    required: false,
    unique_group: None,
    reload: Reload::Restart,
    default: Some("/run/ctdb/ctdbd.socket"),
    shortdesc: "Socket of the CTDB daemon",
    longdesc: "The Unix socket that the CTDB daemon of this distribution listens on.",
};

/// The unit that runs the daemon.
const UNIT: &str = "ctdb.service";

const DAEMON: &str = "/usr/sbin/ctdbd";
const CONFIGURATION: &str = "/etc/ctdb/ctdb.conf";
const NODES_FILE: &str = "/etc/ctdb/nodes";
const PUBLIC_ADDRESSES: &str = "/etc/ctdb/public_addresses";
const SCRIPTS: &str = "/etc/ctdb/events/legacy";

/// The event script that removes addresses when CTDB starts and stops; Debian
/// enables it.
const INTERFACE: &str = "10.interface";

/// Event scripts that manage what Pacemaker manages here.
const MANAGERS: [&str; 14] = [
    "06.nfs",
    "11.natgw",
    "11.routing",
    "13.per_ip_routing",
    "31.clamd",
    "40.vsftpd",
    "41.httpd",
    "47.samba-dcerpcd",
    "48.netbios",
    "49.winbind",
    "50.samba",
    "60.nfs",
    "70.iscsi",
    "91.lvs",
];

/// How long the daemon may take to answer; it takes milliseconds.
const ANSWER: Duration = Duration::from_secs(10);

/// How long a monitor waits for a word of the leader, who says one a second.
const BROADCAST: Duration = Duration::from_secs(5);

/// Seconds of a leader's silence after which CTDB elects another; 5 by default
/// (ctdb.conf(5)), which is what clients then wait for when the leader is the
/// node that died: an election fails until the dead node's connections are
/// gone, and the next one comes a leader timeout later. A leader that is only
/// slow keeps the cluster lock, and so its office.
const LEADER_TIMEOUT: &str = "2";

/// How long a recovery may last: two attempts at fencing, each of Pacemaker's
/// default of 60 s, and CTDB's own part.
const PATIENCE: Duration = Duration::from_secs(180);

/// How often a daemon on its way is looked at.
const EVERY: Duration = Duration::from_millis(250);

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
                   own keys in /etc/ctdb/ctdb.conf and leaves the others, writes /etc/ctdb/nodes, \
                   keeps CTDB's own failover off, checks the persistent databases before a start, \
                   and looks at the daemon's run state, recovery mode and flags. Use it as an \
                   anonymous clone with interleave=true.",
        parameters: &[NODES, CLUSTER_LOCK, CTDB_SOCKET],
        actions: &[
            Op::once("start", 120),
            Op::once("stop", 100),
            Op::monitor(0, 10, 30),
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
        if !self.nodes.has_this_node() {
            let error = anyhow!("parameter nodes: none of them is an address of this node");
            return Err(Failure::new(Code::ErrArgs, error));
        }
        only_a_database(ctx).or_code(Code::ErrArgs)
    }

    fn start(&self, ctx: &Ctx) -> Result<(), Failure> {
        let found = self.ask(ctx)?;
        if found.is_some_and(|found| found.trouble().is_none()) {
            self.write_nodes(ctx)?;
            return Ok(());
        }
        if found.is_none() {
            self.configure(ctx)?;
            // A daemon that is gone may have been in a recovery.
            let _ = fs::remove_file(self.mark(ctx));
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
                None if self.leader(ctx)?.is_some() => return Ok(Some(())),
                None => LEADERLESS.into(),
            };
            if !fencing::is_due(ctx) {
                return Ok(None);
            }
            let reason = format!("{waiting}, which goes on when a lost node has been fenced");
            ctx.log(Level::Warning, &reason);
            Ok(Some(()))
        });
        Ok(ready.map_err(|error| expired(ctx, error, waiting))?)
    }

    fn stop(&self, ctx: &Ctx) -> Result<(), Failure> {
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
        if let Some(reason) = self.trouble(ctx, found)? {
            ctx.log(Level::Warning, &reason);
        }
        // A change of the parameter may have been missed, by a node that was
        // away at that time.
        if let Err(error) = self.write_nodes(ctx) {
            ctx.log(Level::Warning, &format!("{error:#}"));
        }
        if ctx.depth >= 10 && found.flags.unhealthy() {
            ctx.log(
                Level::Warning,
                "an event script of CTDB's finds this node unhealthy: `ctdb event status legacy \
                 monitor` says which",
            );
        }
        // Without one, a recovery begins within seconds, and its time counts.
        if ctx.depth >= 10 && !found.recovering && self.leader(ctx)?.is_none() {
            return Err(anyhow!(LEADERLESS).into());
        }
        Ok(State::Running)
    }

    fn reload_agent(&self, ctx: &Ctx) -> Result<(), Failure> {
        // Whoever changed the parameter on all nodes then has one of them call
        // `ctdb reloadnodes`.
        Ok(self.write_nodes(ctx)?)
    }
}

/// What the daemon says of itself.
#[derive(Clone, Copy, Debug)]
struct Found {
    run_state: RunState,
    recovering: bool,
    flags: Flags,
}

/// Why the databases cannot be used.
#[derive(Debug)]
enum Trouble {
    /// It goes over by itself.
    Passing(String),
    /// It does not.
    Lasting(String),
}

impl Found {
    fn trouble(self) -> Option<Trouble> {
        let Self {
            run_state, flags, ..
        } = self;
        match run_state {
            RunState::Running => {}
            RunState::Unknown | RunState::Shutdown => {
                let reason = format!("ctdbd is in run state {run_state}");
                return Some(Trouble::Lasting(reason));
            }
            _ => {
                let reason = format!("ctdbd is still in run state {run_state}");
                return Some(Trouble::Passing(reason));
            }
        }
        if flags.inactive() {
            let reason = format!("CTDB has made this node {flags}: its log says why");
            return Some(Trouble::Lasting(reason));
        }
        let frozen = "CTDB's databases are frozen for a recovery";
        self.recovering.then(|| Trouble::Passing(frozen.into()))
    }
}

impl Ctdb {
    /// What is wrong, but not for so long that to restart the daemon could help:
    /// a recovery is CTDB's answer to any change, such as a crash of another
    /// node, and it lasts until that node is fenced.
    fn trouble(&self, ctx: &Ctx, found: Found) -> anyhow::Result<Option<String>> {
        let mark = self.mark(ctx);
        let reason = match found.trouble() {
            None => {
                // There is none but after a recovery.
                let _ = fs::remove_file(mark);
                return Ok(None);
            }
            Some(Trouble::Lasting(reason)) => bail!(reason),
            Some(Trouble::Passing(reason)) => reason,
        };
        let since = match fs::metadata(&mark) {
            Ok(metadata) => metadata.modified()?.elapsed().unwrap_or_default(),
            Err(_) => {
                // Where it cannot be written, a restart would not help either.
                let _ = fs::write(&mark, "");
                Duration::ZERO
            }
        };
        if since > PATIENCE {
            bail!("{reason}, for {} s now", since.as_secs());
        }
        Ok(Some(reason))
    }

    /// A file that is as old as the daemon's recovery.
    fn mark(&self, ctx: &Ctx) -> PathBuf {
        ctx.path(&self.socket).with_file_name("storhaug-recovery")
    }

    fn connect(&self, ctx: &Ctx) -> anyhow::Result<Option<Ctdbd>> {
        Ctdbd::connect(&ctx.path(&self.socket), ctx.deadline.earlier(ANSWER))
    }

    /// What the daemon says; none where no daemon listens.
    fn ask(&self, ctx: &Ctx) -> anyhow::Result<Option<Found>> {
        let Some(mut ctdbd) = self.connect(ctx)? else {
            return Ok(None);
        };
        let found = found(&mut ctdbd);
        match (found, ctdbd.pid()) {
            (Err(error), Ok(pid)) => Err(error.context(format!("asking process {pid}"))),
            (found, _) => found.map(Some),
        }
    }

    /// The leader, which makes itself heard every second.
    fn leader(&self, ctx: &Ctx) -> anyhow::Result<Option<u32>> {
        match self.connect(ctx)? {
            Some(mut ctdbd) => {
                ctdbd.by(ctx.deadline.earlier(BROADCAST));
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
            set("cluster", "leader timeout", Some(LEADER_TIMEOUT)),
            set("failover", "disabled", Some("true")),
            // From CTDB 4.22 on, a shutdown else waits for addresses to move.
            set("failover", "shutdown failover timeout", Some("0")),
        ];
        let path = ctx.path(CONFIGURATION);
        let before = read(&path)?;
        write(&path, &before, &configuration::with(&before, &settings))?;
        self.write_nodes(ctx)?;
        disable(&ctx.path(SCRIPTS).join(format!("{INTERFACE}.script")))?;
        let databases = configuration::value(&before, "database", "persistent database directory");
        databases::check(ctx, Path::new(databases.unwrap_or(databases::DIRECTORY)))
    }

    fn write_nodes(&self, ctx: &Ctx) -> anyhow::Result<()> {
        let path = ctx.path(NODES_FILE);
        write(&path, &read(&path)?, &self.nodes.to_string())
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

/// Says what was waited for, where the wait was in vain.
fn expired(ctx: &Ctx, error: anyhow::Error, waiting: String) -> anyhow::Error {
    // The last look may itself have run out of time.
    if error.is::<Expired>() || ctx.deadline.left() < EVERY {
        error.context(waiting)
    } else {
        error
    }
}

fn found(ctdbd: &mut Ctdbd) -> anyhow::Result<Found> {
    let run_state = ctdbd.run_state()?;
    let recovering = ctdbd.recovering()?;
    // While it starts, it does not know its number yet.
    let flags = match run_state {
        RunState::Running => {
            let pnn = ctdbd.pnn()?;
            let nodes = ctdbd.nodes()?;
            let own = nodes.iter().find(|node| node.pnn == pnn);
            own.context("ctdbd does not know its own node")?.flags
        }
        _ => Flags(0),
    };
    Ok(Found {
        run_state,
        recovering,
        flags,
    })
}

/// Refuses what would have CTDB manage addresses or services.
fn only_a_database(ctx: &Ctx) -> anyhow::Result<()> {
    let addresses = read(&ctx.path(PUBLIC_ADDRESSES))?;
    let mut lines = addresses.lines().map(str::trim);
    if lines.any(|line| !line.is_empty() && !line.starts_with('#')) {
        return Err(anyhow!(
            "{PUBLIC_ADDRESSES} has CTDB manage addresses, which are Pacemaker's here: move it \
             away, and make each address a resource"
        ));
    }
    let enabled = MANAGERS.into_iter().find(|name| {
        let script = ctx.path(SCRIPTS).join(format!("{name}.script"));
        fs::metadata(script).is_ok_and(|script| script.permissions().mode() & 0o111 != 0)
    });
    match enabled {
        Some(name) => Err(anyhow!(
            "CTDB's event script {name} manages what Pacemaker manages here: run `ctdb event \
             script disable legacy {name}`"
        )),
        None => Ok(()),
    }
}

/// Disables an event script as `ctdb event script disable` does.
fn disable(script: &Path) -> anyhow::Result<()> {
    let disabled = match fs::symlink_metadata(script) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => Err(error),
        Ok(metadata) if metadata.is_symlink() => fs::remove_file(script),
        Ok(metadata) => {
            let mode = metadata.permissions().mode() & !0o111;
            fs::set_permissions(script, fs::Permissions::from_mode(mode))
        }
    };
    disabled.with_context(|| format!("disabling {}", script.display()))
}

/// A file's text; empty where there is no file.
fn read(path: &Path) -> anyhow::Result<String> {
    match fs::read_to_string(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(String::new()),
        text => text.with_context(|| format!("reading {}", path.display())),
    }
}

/// Makes a file of the text, unless it has it already. It is whole at any
/// time, also after a crash, and who may read it does not change.
fn write(path: &Path, before: &str, text: &str) -> anyhow::Result<()> {
    if before == text {
        return Ok(());
    }
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let new = path.with_extension("storhaug-new");
    let mode = fs::metadata(&path).map_or(0o644, |file| file.permissions().mode() & 0o777);
    let write = || {
        let mut options = OpenOptions::new();
        let mut file = options
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)?;
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, &path)
    };
    write().with_context(|| format!("writing {}", path.display()))
}
