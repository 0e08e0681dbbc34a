//! The agent `samba`: one daemon of Samba, as a unit of the distribution.
//!
//! A daemon is well when it answers its clients, so that is what is asked: an
//! SMB2 NEGOTIATE of smbd, a ping of winbindd, a name of nmbd. Pacemaker lets
//! an address come to a node whose smbd has said so, by a node attribute.

use std::{
    ffi::CString,
    fs,
    net::{IpAddr, SocketAddr},
    os::unix::ffi::OsStrExt,
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context, anyhow};
use nix::{
    sys::{
        signal::{Signal, kill},
        stat::stat,
    },
    unistd::Pid,
};

use crate::{
    attribute::Attribute,
    child::{self, Answer},
    ctdbd::{self, Ctdbd},
    deadline::{Deadline, until},
    exec::Cmd,
    fencing, mounts,
    ocf::{
        Agent, Code, Ctx, Failure, Kind, Level, Metadata, Op, OrCode, Param, Params, Reload, State,
    },
    systemd::Unit,
};

pub mod faults;
mod negotiate;
mod netbios;
pub mod settings;

use faults::{Fault, Gravity, Place};
use settings::{Directory, Settings};

/// Which daemon.
pub const DAEMON: Param = Param {
    name: "daemon",
    kind: Kind::String,
    required: false,
    unique_group: Some("daemon"),
    reload: Reload::Restart,
    default: Some("smbd"),
    shortdesc: "smbd, winbindd or nmbd",
    longdesc: "The daemon: smbd, winbindd or nmbd. Its unit is found by the names that distributions \
        give it, such as smbd.service or smb.service.",
};

/// The configuration.
pub const SMB_CONF: Param = Param {
    name: "smb_conf",
    kind: Kind::String,
    required: false,
    unique_group: None,
    reload: Reload::Restart,
    default: Some("/etc/samba/smb.conf"),
    shortdesc: "Configuration file",
    longdesc: "The configuration that is checked before a start and at depth 10. The daemon reads \
        the one that its unit says.",
};

/// Where the daemon is asked.
pub const ADDRESS: Param = Param {
    name: "address",
    kind: Kind::String,
    required: false,
    unique_group: None,
    reload: Reload::Restart,
    default: Some("127.0.0.1"),
    shortdesc: "Address to ask the daemon at",
    longdesc: "The address of this node at which smbd (port 445) and nmbd (port 137) are asked \
        whether they serve. With `bind interfaces only = yes` the interfaces in smb.conf have to \
        include it.",
};

/// The attribute of a node whose smbd serves. A location rule of every address
/// that carries SMB asks for it.
pub const READY: Attribute = Attribute::new("storhaug-smb");

/// How long a daemon that starts may take for one answer, before it is seen
/// whether it is there still.
const ATTEMPT: Duration = Duration::from_secs(2);

/// How long one directory of a share may take to be looked at.
const LOOK: Duration = Duration::from_secs(5);

/// How long `testparm` may take; with a configuration in the registry it asks
/// CTDB.
const READ: Duration = Duration::from_secs(10);

/// For how long a monitor tries again to read the configuration.
const RECOVERY: Duration = Duration::from_secs(20);

const FENCING: &str = "a lost node is to be fenced first";

/// How soon it is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// How long a monitor waits for one answer, before it is seen whether the daemon
/// itself waits for something. Pacemaker fences nobody before the first monitor
/// is through.
const PAUSE: Duration = Duration::from_secs(10);

/// How long CTDB may take to say whether it recovers; it takes milliseconds.
const CTDB: Duration = Duration::from_secs(1);

/// What a monitor that gets no answer leaves of its time for asking systemd
/// why, and for telling Pacemaker.
const REST: Duration = Duration::from_secs(3);

const EVERY: Duration = Duration::from_millis(50);

/// A daemon of Samba.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Daemon {
    Smbd,
    Winbindd,
    Nmbd,
}

impl Daemon {
    /// The name of the program.
    fn program(self) -> &'static str {
        match self {
            Self::Smbd => "smbd",
            Self::Winbindd => "winbindd",
            Self::Nmbd => "nmbd",
        }
    }

    /// Names of the unit: Debian's, then those of Fedora and openSUSE.
    fn units(self) -> &'static [&'static str] {
        match self {
            Self::Smbd => &["smbd.service", "smb.service"],
            Self::Winbindd => &["winbind.service", "winbindd.service"],
            Self::Nmbd => &["nmbd.service", "nmb.service"],
        }
    }
}

/// What is seen of a daemon.
enum Seen {
    /// It answers; with a complaint where something is wrong all the same.
    Serves(Option<String>),
    /// It does not answer, and this is why that is no failure of its own.
    Waits(&'static str),
    /// It is cleanly stopped.
    Gone,
}

/// The agent.
#[derive(Debug)]
pub struct Samba {
    daemon: Daemon,
    smb_conf: PathBuf,
    address: IpAddr,
}

impl Agent for Samba {
    const METADATA: Metadata = Metadata {
        name: "samba",
        shortdesc: "One daemon of Samba",
        longdesc: "Runs smbd, winbindd or nmbd by the unit of the distribution, on top of CTDB, and \
            asks it what a client would ask. The instance for smbd sets the node attribute \
            storhaug-smb to 1 while smbd answers, and deletes it before a stop and on a failure, so \
            that addresses go where SMB is served.",
        parameters: &[DAEMON, SMB_CONF, ADDRESS],
        actions: &[
            Op::once("start", 60),
            Op::once("stop", 60),
            // Often, because clients wait; it costs one process and one connection.
            Op::monitor(0, 2, 30),
            Op::monitor(10, 60, 60),
        ],
    };

    fn from_env(params: &Params) -> Result<Self, Failure> {
        let daemon = match params.required(&DAEMON)? {
            "smbd" => Daemon::Smbd,
            "winbindd" => Daemon::Winbindd,
            "nmbd" => Daemon::Nmbd,
            other => {
                let reason =
                    format_args!("parameter daemon: {other:?}: write smbd, winbindd or nmbd");
                return Err(Failure::configured(reason));
            }
        };
        let address = params.required(&ADDRESS)?;
        let address = address.parse().map_err(|error| {
            Failure::configured(format_args!("parameter address: {address:?}: {error}"))
        })?;
        Ok(Self {
            daemon,
            smb_conf: params.required(&SMB_CONF)?.into(),
            address,
        })
    }

    fn validate(&self, ctx: &Ctx) -> Result<(), Failure> {
        if ctx.depth < 10 {
            return Ok(());
        }
        self.unit(ctx)?.installed(ctx)?;
        let settings = self.settings(ctx, ctx.deadline.before(ctx.deadline.left() / 2))?;
        let faults = self.faults(ctx, &settings)?;
        let (dangers, weaknesses) = faults
            .into_iter()
            .partition::<Vec<_>, _>(|fault| fault.gravity == Gravity::Danger);
        for weakness in weaknesses {
            let text = format!("{}: {}", self.smb_conf.display(), weakness.text);
            ctx.log(Level::Warning, &text);
        }
        let mut reasons: Vec<_> = dangers.into_iter().map(|danger| danger.text).collect();
        if self.daemon == Daemon::Nmbd && settings.is_on("disable netbios") {
            reasons.push("write `disable netbios = no` into [global], or do without nmbd".into());
        }
        if reasons.is_empty() {
            return Ok(());
        }
        // The file is this node's own, so a mistake in it is not everybody's.
        let reasons = reasons.join("; ");
        Err(anyhow!("{}: {reasons}", self.smb_conf.display())).or_code(Code::ErrArgs)
    }

    fn start(&self, ctx: &Ctx) -> Result<(), Failure> {
        let unit = self.unit(ctx)?;
        unit.start(ctx)?;
        let program = self.daemon.program();
        let mut last = None;
        let ready = unit.until_ready(ctx, &format!("{program} to answer"), || {
            match self.ask(ctx, ctx.deadline.earlier(ATTEMPT)) {
                Ok(()) => return Ok(Some(true)),
                Err(error) => last = Some(error),
            }
            // What is left at the end is for the reason of the failure.
            let due = ctx.deadline.left() > ATTEMPT && fencing::is_due(ctx);
            Ok(due.then_some(false))
        });
        match (ready, last) {
            (Ok(true), _) => {}
            (Ok(false), _) => {
                let news = format!("{program} does not answer yet, and {FENCING}");
                ctx.log(Level::Warning, &news);
                return Ok(());
            }
            (Err(error), None) => return Err(error.into()),
            (Err(error), Some(last)) => return Err(last.context(error.to_string()).into()),
        }
        if self.daemon == Daemon::Smbd {
            READY.publish(ctx);
        }
        Ok(())
    }

    fn stop(&self, ctx: &Ctx) -> Result<(), Failure> {
        if self.daemon == Daemon::Smbd {
            READY.withdraw(ctx);
        }
        let by = ctx.deadline.before(ctx.deadline.left() / 4);
        let stopped = self.unit(ctx).and_then(|unit| unit.stop(&ctx.by(by)));
        if let Err(error) = &stopped {
            ctx.log(Level::Warning, &format!("stopping the unit: {error:#}"));
        }
        // A session that outlives its server, or a daemon that somebody
        // started by hand, still writes to the databases.
        let program = self.daemon.program();
        until(
            ctx.deadline,
            EVERY,
            &format!("every {program} to end"),
            || {
                let left = processes(ctx, program);
                for pid in &left {
                    ctx.log(
                        Level::Warning,
                        &format!("killing {program} ({pid}), which is left over"),
                    );
                    // It may have ended by itself.
                    let _ = kill(*pid, Signal::SIGKILL);
                }
                Ok(left.is_empty().then_some(()))
            },
        )?;
        Ok(())
    }

    fn monitor(&self, ctx: &Ctx) -> Result<State, Failure> {
        let seen = self.look(ctx);
        if self.daemon == Daemon::Smbd && !ctx.probe {
            match seen {
                Ok(Seen::Serves(_)) => READY.publish(ctx),
                // As before: no other node does better.
                Ok(Seen::Waits(_)) => {}
                Ok(Seen::Gone) | Err(_) => READY.withdraw(ctx),
            }
        }
        Ok(match seen? {
            Seen::Serves(None) => State::Running,
            Seen::Serves(Some(complaint)) => State::Degraded(complaint),
            Seen::Waits(reason) => {
                let program = self.daemon.program();
                ctx.log(
                    Level::Warning,
                    &format!("{program} does not answer: {reason}"),
                );
                State::Running
            }
            Seen::Gone => State::NotRunning,
        })
    }
}

impl Samba {
    fn unit(&self, ctx: &Ctx) -> anyhow::Result<Unit> {
        Unit::first_of(ctx, self.daemon.units())
    }

    /// Asks the daemon what a client would ask.
    fn ask(&self, ctx: &Ctx, deadline: Deadline) -> anyhow::Result<()> {
        match self.daemon {
            Daemon::Smbd => {
                negotiate::negotiate(SocketAddr::new(self.address, 445), deadline).map(drop)
            }
            Daemon::Nmbd => netbios::ask(SocketAddr::new(self.address, 137), deadline),
            // What winbindd is asked in is private to each release of Samba.
            Daemon::Winbindd => ctx
                .runner
                .run(&Cmd::new("wbinfo").arg("--ping"), deadline)?
                .checked()
                .map(drop),
        }
    }

    fn look(&self, ctx: &Ctx) -> Result<Seen, Failure> {
        // The unit costs a process to look at: when the daemon answers, only
        // those ask who want to know it exactly.
        if (ctx.probe || ctx.depth >= 10) && self.unit(ctx)?.state(ctx)?.is_ended() {
            return self.absence(ctx);
        }
        let by = ctx.deadline.before((ctx.deadline.left() / 4).min(REST));
        let mut attempt = by.earlier(PAUSE);
        loop {
            let Err(error) = self.ask(ctx, attempt) else {
                break;
            };
            let state = self.unit(ctx)?.state(ctx)?;
            if state.is_ended() {
                return self.absence(ctx);
            }
            if let Some(reason) = hold_up(ctx) {
                return Ok(Seen::Waits(reason));
            }
            // What was refused would be refused again.
            if by.left() < EVERY || attempt.left() > EVERY {
                let program = self.daemon.program();
                return Err(error.context(format!("{program} is {state}")).into());
            }
            // One that is slow gets the rest of the time for one answer.
            attempt = by;
        }
        let complaint = (ctx.depth >= 10).then(|| self.complaint(ctx));
        Ok(Seen::Serves(complaint.flatten()))
    }

    /// What a unit that is down means.
    fn absence(&self, ctx: &Ctx) -> Result<Seen, Failure> {
        let program = self.daemon.program();
        match processes(ctx, program).first() {
            None => Ok(Seen::Gone),
            Some(pid) => Err(anyhow!("{program} runs ({pid}), but not as a unit: stop it").into()),
        }
    }

    /// What is wrong though the daemon serves: a restart would not help.
    fn complaint(&self, ctx: &Ctx) -> Option<String> {
        let by = ctx.deadline.before(ctx.deadline.left() / 2);
        let settings = match self.settings(ctx, by.earlier(RECOVERY)) {
            Ok(settings) => settings,
            Err(error) => return Some(format!("{error:#}")),
        };
        let faults = self.faults(ctx, &settings);
        let danger = faults.map(|faults| {
            let mut faults = faults.into_iter();
            faults.find(|fault| fault.gravity == Gravity::Danger)
        });
        match danger {
            Ok(Some(danger)) => {
                return Some(format!("{}: {}", self.smb_conf.display(), danger.text));
            }
            Ok(None) => {}
            Err(error) => return Some(format!("{error:#}")),
        }
        if self.daemon != Daemon::Smbd {
            return None;
        }
        settings.shares().find_map(|share| {
            let Directory::At(path) = share.directory else {
                return None;
            };
            let name = CString::new(path.as_os_str().as_bytes()).ok()?;
            let deadline = ctx.deadline.earlier(LOOK);
            let reason = match child::call(deadline, || stat(name.as_c_str()).map(drop)) {
                Ok(Answer::Done) => return None,
                Ok(Answer::Failed(errno)) => errno.desc().to_owned(),
                Ok(Answer::Hung) => "hangs".to_owned(),
                Err(error) => format!("{error:#}"),
            };
            let path = path.display();
            Some(format!("share [{}]: {path}: {reason}", share.name))
        })
    }

    /// Reads the settings, again and again until `by`: what is in the registry
    /// cannot be read while CTDB recovers.
    fn settings(&self, ctx: &Ctx, by: Deadline) -> anyhow::Result<Settings> {
        let testparm = Cmd::new("testparm")
            .args(["-s", "-v", "--suppress-prompt"])
            .arg(&self.smb_conf);
        let text = until(by, AGAIN, "the settings", || {
            let output = ctx.runner.run(&testparm, ctx.deadline.earlier(READ));
            match output.and_then(|output| output.checked()) {
                Ok(text) => Ok(Some(text)),
                Err(error) if by.expired() || fencing::is_due(ctx) => Err(error),
                Err(_) => Ok(None),
            }
        });
        let text = text.with_context(|| format!("reading {}", self.smb_conf.display()))?;
        Ok(Settings::parse(&text))
    }

    /// What is wrong with the settings, as far as it matters to this daemon:
    /// shares are smbd's.
    fn faults(&self, ctx: &Ctx, settings: &Settings) -> anyhow::Result<Vec<Fault>> {
        let mounts = mounts::read(&ctx.path("/proc/self/mountinfo"))?;
        let name = ctx.path("/proc/sys/kernel/hostname");
        let node =
            fs::read_to_string(&name).with_context(|| format!("reading {}", name.display()))?;
        let place = Place {
            node: node.trim_end(),
            mounts: &mounts,
            homes: &homes(ctx),
            root: ctx.root,
        };
        let mut faults = faults::faults(settings, place);
        faults.retain(|fault| fault.share.is_none() || self.daemon == Daemon::Smbd);
        Ok(faults)
    }
}

/// The homes of this machine's own users; those of a directory service are below
/// `template homedir`. Source: passwd(5).
fn homes(ctx: &Ctx) -> Vec<PathBuf> {
    let users = fs::read_to_string(ctx.path("/etc/passwd")).unwrap_or_default();
    let homes = users.lines().filter_map(|user| user.split(':').nth(5));
    homes.map(PathBuf::from).collect()
}

/// What every daemon waits for, and no restart would end: the agent of CTDB
/// tells how long that may last.
fn hold_up(ctx: &Ctx) -> Option<&'static str> {
    let ctdbd = Ctdbd::connect(&ctx.path(ctdbd::SOCKET), ctx.deadline.earlier(CTDB));
    let recovers = match ctdbd {
        Ok(Some(mut ctdbd)) => ctdbd.recovering().unwrap_or_default(),
        _ => false,
    };
    if recovers {
        return Some("CTDB recovers");
    }
    fencing::is_due(ctx).then_some(FENCING)
}

/// The processes of a program, in this network and this list of processes: a
/// container on this machine may have its own Samba.
fn processes(ctx: &Ctx, program: &str) -> Vec<Pid> {
    let proc = ctx.path("/proc");
    let namespace =
        |pid: &str, kind: &str| fs::read_link(proc.join(pid).join("ns").join(kind)).ok();
    let entries = fs::read_dir(&proc).into_iter().flatten().flatten();
    let found = entries.filter_map(|entry| {
        let name = entry.file_name();
        let pid = name.to_str()?;
        let number = pid.parse().ok()?;
        let exe = fs::read_link(entry.path().join("exe")).ok()?;
        // The file of a program that runs may have been replaced.
        let exe = exe.file_name()?.to_str()?.trim_end_matches(" (deleted)");
        let ours = |kind| namespace(pid, kind) == namespace("self", kind);
        (exe == program && ours("net") && ours("pid")).then(|| Pid::from_raw(number))
    });
    found.collect()
}
