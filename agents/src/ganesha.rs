//! The agent `ganesha`: NFS-Ganesha on every node, as a unit of the distribution.
//!
//! The daemons of all nodes are one server to a client: they have one scope, the
//! same exports, and keep the records of their clients in one directory, so that
//! a client may reclaim its state from whichever node has its address
//! ([`crate::recovery`]). Which that is, and who may reclaim there, is the work of
//! `ganesha_trigger`.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use anyhow::{Context, anyhow};

use crate::{
    attribute::Attribute,
    deadline::Deadline,
    exec::Cmd,
    ganeshad,
    ocf::{
        Agent, Code, Ctx, Failure, Kind, Level, Metadata, Op, OrCode, Param, Params, Reload, State,
    },
    recovery::{Recovery, Taken},
    service::{self, Service},
    systemd::Unit,
};

mod configuration;

use configuration::Configuration;

/// Where the state is that the nodes share.
pub const STATE_DIRECTORY: Param = Param {
    name: "state_directory",
    kind: Kind::String,
    required: true,
    unique_group: None,
    reload: Reload::Restart,
    default: None,
    shortdesc: "Directory on shared storage",
    longdesc: "Absolute path of the directory, on storage that every node has mounted there, for the \
        records of clients, and for the exports: the file exports.conf in it, which is made where it \
        is missing, is read by the daemon of every node.",
};

/// The administrator's configuration.
pub const CONFIG: Param = Param {
    name: "config",
    kind: Kind::String,
    required: false,
    unique_group: None,
    reload: Reload::Restart,
    default: Some("/etc/ganesha/ganesha.conf"),
    shortdesc: "Configuration of this node",
    longdesc: "The configuration file of NFS-Ganesha, which has to be the same on every node: exports, \
        log levels, Kerberos. It must not have the blocks NFS_CORE_PARAM and NFSv4, which are this \
        agent's, written at every start.",
};

/// What the nodes call themselves together.
pub const SCOPE: Param = Param {
    name: "scope",
    kind: Kind::String,
    required: false,
    unique_group: None,
    reload: Reload::Restart,
    default: Some("storhaug"),
    shortdesc: "Name of the cluster to clients",
    longdesc: "The server scope (RFC 8881, section 2.10.4): the same on every node, so that clients \
        reclaim their state at another one, and of no other cluster that they might reach.",
};

/// The attribute of a node whose Ganesha serves. A location rule of every
/// address that carries NFS asks for it.
pub const READY: Attribute = Attribute::new("storhaug-nfs");

const UNIT: &str = "nfs-ganesha.service";

/// How long a daemon that is to be stopped may take to show that it would listen.
const SIGN_OF_LIFE: Duration = Duration::from_secs(2);

/// How long the shared storage may take to be read or written.
const STORAGE: Duration = Duration::from_secs(15);

/// How long the daemon may take to answer by D-Bus; it takes milliseconds.
const DBUS: Duration = Duration::from_secs(10);

/// The agent.
#[derive(Debug)]
pub struct Ganesha {
    state_directory: PathBuf,
    config: PathBuf,
    scope: String,
}

impl Agent for Ganesha {
    const METADATA: Metadata = Metadata {
        name: "ganesha",
        shortdesc: "NFS-Ganesha, on every node",
        longdesc: "Runs NFS-Ganesha by the unit of the distribution, as a clone, for NFS 4.1 and 4.2, \
            so that clients keep their locks when an address moves (ocf:storhaug:ganesha_trigger). \
            It is well when it answers a call of NFS. The node attribute storhaug-nfs is set to 1 \
            while it does, and deleted before a stop and on a failure, so that addresses go where NFS \
            is served.",
        parameters: &[STATE_DIRECTORY, CONFIG, SCOPE],
        actions: &[
            Op::once("start", 60),
            Op::once("stop", 60),
            // Often, because clients wait; it costs one process and one connection.
            // Longer than GlusterFS waits for a server that is silent,
            // `network.ping-timeout`, with which a call may wait.
            Op::monitor(0, 2, 60),
            Op::monitor(10, 60, 60),
        ],
    };

    fn from_env(params: &Params) -> Result<Self, Failure> {
        let path = |param: &Param| {
            let path = params.required(param)?;
            let plain = !path.contains(|c: char| c.is_control() || c == '"');
            if Path::new(path).is_absolute() && plain {
                return Ok(PathBuf::from(path));
            }
            Err(Failure::configured(format_args!(
                "parameter {}: {path:?}: write an absolute path",
                param.name
            )))
        };
        let scope = params.required(&SCOPE)?;
        if !scope
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
        {
            return Err(Failure::configured(format_args!(
                "parameter scope: {scope:?}: write letters, digits, `.`, `_` and `-`"
            )));
        }
        Ok(Self {
            state_directory: path(&STATE_DIRECTORY)?,
            config: path(&CONFIG)?,
            scope: scope.to_owned(),
        })
    }

    fn validate(&self, ctx: &Ctx) -> Result<(), Failure> {
        if ctx.depth < 10 {
            return Ok(());
        }
        unit().installed(ctx)?;
        for tool in ["busctl", "find"] {
            let found = ["/usr/bin", "/bin"].map(|bin| ctx.path(bin).join(tool).exists());
            if !found.contains(&true) {
                return Err(anyhow!("no {tool}: install systemd and findutils"))
                    .or_code(Code::ErrInstalled);
            }
        }
        // The file is this node's own, so a mistake in it is not everybody's.
        configuration::check(&ctx.path(&self.config)).or_code(Code::ErrArgs)
    }

    fn start(&self, ctx: &Ctx) -> Result<(), Failure> {
        if !unit().state(ctx)?.is_active() {
            self.prepare(ctx)?;
        }
        service::start(self, ctx)
    }

    fn stop(&self, ctx: &Ctx) -> Result<(), Failure> {
        READY.withdraw(ctx);
        let unit = unit();
        let state = unit.state(ctx)?;
        if !state.is_ended()
            && let Err(error) = self.ask(ctx, ctx.deadline.earlier(SIGN_OF_LIFE))
        {
            // It would not hear that it is to stop.
            ctx.log(Level::Warning, &format!("killing {UNIT}: {error:#}"));
            unit.kill(ctx)?;
        }
        unit.stop(ctx)?;
        Ok(())
    }

    fn monitor(&self, ctx: &Ctx) -> Result<State, Failure> {
        service::monitor(self, ctx)
    }
}

impl Service for Ganesha {
    fn program(&self) -> &'static str {
        "ganesha.nfsd"
    }

    fn unit(&self, _: &Ctx) -> anyhow::Result<Unit> {
        Ok(unit())
    }

    fn attribute(&self) -> Option<Attribute> {
        Some(READY)
    }

    fn ask(&self, _: &Ctx, deadline: Deadline) -> anyhow::Result<()> {
        let here = SocketAddr::from((Ipv4Addr::LOCALHOST, ganeshad::PORT));
        ganeshad::null(here, deadline)
    }

    /// An address that comes is told to it by D-Bus.
    fn ask_first(&self, ctx: &Ctx, deadline: Deadline) -> anyhow::Result<()> {
        self.ask(ctx, deadline)?;
        ganeshad::in_grace(ctx, deadline).map(drop)
    }

    /// Clients are served all the same, until an address moves.
    fn complaint(&self, ctx: &Ctx) -> Option<String> {
        let error = ganeshad::in_grace(ctx, ctx.deadline.earlier(DBUS)).err()?;
        Some(format!("no address could be taken: {error:#}"))
    }
}

impl Ganesha {
    /// Writes what the daemon reads when it starts.
    fn prepare(&self, ctx: &Ctx) -> anyhow::Result<()> {
        let node = node(ctx)?;
        let recovery = Recovery::new(ctx, &self.state_directory);
        let by = ctx.deadline.earlier(STORAGE);
        let storage = || {
            format!(
                "{}: is the shared storage mounted, and does it take writes?",
                self.state_directory.display()
            )
        };
        recovery.create(by).with_context(storage)?;
        let records = recovery.read(by).with_context(storage)?;
        recovery
            .prepare(&records, node, &ganeshad::clients(ctx), by)
            .with_context(storage)?;
        let exports = self.state_directory.join("exports.conf");
        recovery.create_exports(by).with_context(storage)?;
        let configuration = Configuration {
            version: version(ctx)?,
            recovery_root: recovery.root(),
            scope: &self.scope,
            includes: &[&exports, &self.config],
            node,
            epoch: epoch(node),
        };
        let runtime = ctx.path(ganeshad::RUNTIME);
        Taken::new(ctx, ganeshad::RUNTIME).clear()?;
        fs::create_dir_all(&runtime)
            .and_then(|()| fs::write(runtime.join("ganesha.conf"), configuration.to_string()))
            .and_then(|()| fs::write(runtime.join("environment"), configuration.environment()))
            .and_then(|()| fs::write(ganeshad::node_file(ctx), node.to_string()))
            .with_context(|| format!("writing below {}", runtime.display()))
    }
}

fn unit() -> Unit {
    Unit::new(UNIT)
}

/// This node's number in the cluster.
fn node(ctx: &Ctx) -> anyhow::Result<u32> {
    let output = ctx
        .run(&Cmd::new("crm_node").arg("--cluster-id"))?
        .checked()?;
    let number = output.trim().parse();
    number.with_context(|| format!("reading the answer of `crm_node --cluster-id`: {output:?}"))
}

/// The daemon's major version, of `NFS-Ganesha Release = V4.3`.
fn version(ctx: &Ctx) -> anyhow::Result<u32> {
    let said = ctx.run(&Cmd::new("ganesha.nfsd").arg("-v"))?.checked()?;
    let version = said.split_once("= V").and_then(|(_, version)| {
        let major = version.split('.').next()?;
        major.trim().parse().ok()
    });
    version.with_context(|| format!("reading the answer of `ganesha.nfsd -v`: {said:?}"))
}

/// The beginning of every client's number: other on every node, and after every
/// start, within half a year. What has one of an earlier start is known to be
/// stale. Debian's unit takes the second, which two nodes may have in common.
fn epoch(node: u32) -> u32 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let seconds = now.map_or(0, |now| now.as_secs() as u32);
    (node & 0x7f) << 24 | seconds & 0x00ff_ffff
}
