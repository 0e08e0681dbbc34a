//! The agent `ganesha_trigger`: gives the clients of an address their state back
//! on the node that the address comes to.
//!
//! It runs where the address runs, starts before it comes and stops after it is
//! gone. A client that comes to a node where it has no state may reclaim what it
//! had, if Ganesha is in a grace period and knows it; and that is decided when the
//! client introduces itself, so before the address is up there
//! (`nfs4_chk_clid_impl`; a second too late, and every lock is lost).
//!
//! # The contract with Ganesha
//!
//! Found by experiment and in its source (`src/SAL/nfs4_recovery.c`), the same in
//! 4.3 and 6.5:
//!
//! 1. `5:ADDRESS` starts a grace period, and lets those reclaim whose records are
//!    in a directory for the address, which is ours to fill
//!    ([`crate::recovery`]). So a node may take one address of a dead one, and
//!    another node the next. `4:NODE` takes all, and knows nothing of clients that
//!    a node had only just taken over when it died.
//! 2. The grace period ends when all of them have reclaimed, at the latest after
//!    [`ganeshad::GRACE`] seconds. Until then nobody gets a new open or lock
//!    there; what has been reclaimed works.
//! 3. A node keeps the state of clients that have left until their lease is over.
//!    A client that comes back sooner is taken for one that never left, and loses
//!    its locks; it has to be forgotten first, `2:NAME`. After `5`, because `2`
//!    starts a grace period as well, and `5` would add to the clients of that one.
//! 4. Ganesha removes the record of a client that was forgotten when the lease of
//!    what it forgot is over, though the client has come back and is served. So
//!    the records of an address are kept beside it, and count as long as the client
//!    has a connection to it; and the client is forgotten again when it leaves and
//!    comes back once more, though it has no record.
//! 5. Every node is in grace by itself. Another that is not in grace may give
//!    away a lock that is about to be reclaimed; but Ganesha's locks on Gluster
//!    hold on the node only where they were taken (bug in `FSAL_GLUSTER`: the
//!    lock is dropped when the descriptor that it was taken with is closed), so
//!    a grace period on all nodes would protect nobody, and stop everybody.
//!
//! An address never waits for this longer than `LIMIT`, whatever fails.

use std::{fs, io::ErrorKind, net::IpAddr, path::PathBuf, time::Duration};

use anyhow::{Context, ensure};

use crate::{
    ganeshad::{self, Event},
    ocf::{Agent, Ctx, Failure, Kind, Level, Metadata, Op, Param, Params, Reload, State},
    recovery::{Recovery, Taken, Takeover},
};

/// The address.
pub const IP: Param = Param {
    name: "ip",
    kind: Kind::String,
    required: true,
    unique_group: Some("address"),
    reload: Reload::Restart,
    default: None,
    shortdesc: "IPv4 or IPv6 address",
    longdesc: "The virtual address whose clients are helped, as ocf:storhaug:vip has it.",
};

/// Where the state is that the nodes share.
pub const STATE_DIRECTORY: Param = Param {
    name: "state_directory",
    kind: Kind::String,
    required: true,
    unique_group: None,
    reload: Reload::Restart,
    default: None,
    shortdesc: "Directory on shared storage",
    longdesc: "Absolute path of the directory on shared storage that ocf:storhaug:ganesha has.",
};

/// How long an address waits at most. The shared storage may take a moment when
/// one of its servers has died; noded sees to it that it is no more.
const LIMIT: Duration = Duration::from_secs(8);

/// The agent.
#[derive(Debug)]
pub struct GaneshaTrigger {
    ip: IpAddr,
    state_directory: PathBuf,
}

impl Agent for GaneshaTrigger {
    const METADATA: Metadata = Metadata {
        name: "ganesha_trigger",
        shortdesc: "Lets NFS clients of an address reclaim their locks",
        longdesc: "Runs with an address that carries NFS, and starts before it. Where the address goes, \
            NFS-Ganesha (ocf:storhaug:ganesha) lets the clients reclaim the opens and locks that they \
            had by this address on another node, or before a restart. Whatever goes wrong with that is \
            in the log, and holds the address up for a few seconds at most.",
        parameters: &[IP, STATE_DIRECTORY],
        actions: &[
            Op::once("start", 20),
            Op::once("stop", 20),
            Op::monitor(0, 60, 20),
        ],
    };

    fn from_env(params: &Params) -> Result<Self, Failure> {
        let ip: Option<IpAddr> = params.parsed(&IP)?;
        let missing = || Failure::configured("parameter ip is not set");
        let state_directory = PathBuf::from(params.required(&STATE_DIRECTORY)?);
        if !state_directory.is_absolute() {
            return Err(Failure::configured(format_args!(
                "parameter state_directory: {}: write an absolute path",
                state_directory.display()
            )));
        }
        Ok(Self {
            ip: ip.ok_or_else(missing)?,
            state_directory,
        })
    }

    fn validate(&self, _: &Ctx) -> Result<(), Failure> {
        Ok(())
    }

    fn start(&self, ctx: &Ctx) -> Result<(), Failure> {
        match self.take(ctx) {
            Ok(Takeover { reclaim, release }) => {
                let news = format!(
                    "{} clients of {} may reclaim, {} of them were here before",
                    reclaim.len(),
                    self.ip,
                    release.len()
                );
                ctx.log(Level::Info, &news);
            }
            Err(error) => {
                let loss = format!("NFS clients of {} may lose their locks: {error:#}", self.ip);
                ctx.log(Level::Error, &loss);
            }
        }
        let mark = mark(ctx);
        let directory = ctx.path(ganeshad::RUNTIME);
        fs::create_dir_all(directory)
            .and_then(|()| fs::write(&mark, ""))
            .with_context(|| format!("writing {}", mark.display()))?;
        Ok(())
    }

    fn stop(&self, ctx: &Ctx) -> Result<(), Failure> {
        match fs::remove_file(mark(ctx)) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).with_context(|| format!("removing {}", mark(ctx).display()))?
            }
            _ => Ok(()),
        }
    }

    fn monitor(&self, ctx: &Ctx) -> Result<State, Failure> {
        if mark(ctx).exists() {
            Ok(State::Running)
        } else {
            Ok(State::NotRunning)
        }
    }
}

impl GaneshaTrigger {
    fn take(&self, ctx: &Ctx) -> anyhow::Result<Takeover> {
        let by = ctx.deadline.earlier(LIMIT);
        let file = ganeshad::node_file(ctx);
        let node = fs::read_to_string(&file)
            .with_context(|| format!("reading {}: does ganesha run here?", file.display()))?;
        let node = node.trim().parse()?;
        let recovery = Recovery::new(ctx, &self.state_directory);
        let records = recovery.read(by).context("reading the records")?;
        let taken = Taken::new(ctx, ganeshad::RUNTIME);
        let clients = ganeshad::clients(ctx);
        let takeover = records.takeover(self.ip, node, &clients, &taken.read()?);
        recovery.hand_over(&records, self.ip, node, &takeover.reclaim, by)?;
        if takeover.reclaim.is_empty() {
            return Ok(takeover);
        }
        let written = taken.add(&takeover.reclaim);
        ganeshad::tell(ctx, Event::Take(&self.ip.to_string()), by)?;
        for owner in &takeover.release {
            ganeshad::tell(ctx, Event::Release(owner), by)?;
        }
        ensure!(ganeshad::in_grace(ctx, by)?, "there is no grace period");
        written?;
        Ok(takeover)
    }
}

/// Says that the resource runs; on a file system that a boot empties.
fn mark(ctx: &Ctx) -> PathBuf {
    ctx.path(ganeshad::RUNTIME)
        .join(format!("{}.taken", ctx.instance))
}
