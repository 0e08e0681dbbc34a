//! The agent `samba`: one daemon of Samba, as a unit of the distribution.
//!
//! A daemon is well when it answers its clients, so that is what is asked: an
//! SMB2 NEGOTIATE of smbd, a ping of winbindd, a name of nmbd. Pacemaker lets
//! an address come to a node whose smbd has said so, by a node attribute.

use std::{
    ffi::CString,
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, anyhow, bail};
use nix::{
    sys::{
        signal::{Signal, kill},
        stat::stat,
    },
    unistd::Pid,
};

use crate::{
    attribute::Attribute,
    child::Answer,
    ctdbd::{self, Ctdbd},
    deadline::{Deadline, until},
    exec::{Cmd, Runner, is_missing},
    fencing,
    mounts::{self, Mount},
    ocf::{
        Agent, Code, Ctx, Failure, Kind, Level, Metadata, Op, OrCode, Param, Params, Reload, State,
    },
    service::{self, Service},
    systemd::Unit,
};

pub mod faults;
mod negotiate;
mod netbios;
pub mod settings;

use faults::{Fault, Gravity, Place};
use settings::{Directory, Settings, Share};

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

/// How long one directory of a share may take to be looked at.
const LOOK: Duration = Duration::from_secs(5);

/// The first number of a user who is no daemon, and that of nobody: systemd's "Users,
/// Groups, UIDs and GIDs".
const FIRST_USER: u32 = 1000;
const NOBODY: u32 = 65_534;

/// How long `testparm` may take; with a configuration in the registry it asks
/// CTDB.
const READ: Duration = Duration::from_secs(10);

/// For how long a monitor tries again to read the configuration.
const RECOVERY: Duration = Duration::from_secs(20);

/// How soon it is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// How long CTDB may take to say whether it recovers; it takes milliseconds.
const CTDB: Duration = Duration::from_secs(1);

/// How often it is looked whether a process has ended.
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
        let faults = self.faults(&settings, &place(ctx)?);
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
        service::start(self, ctx)
    }

    fn stop(&self, ctx: &Ctx) -> Result<(), Failure> {
        if let Some(attribute) = self.attribute() {
            attribute.withdraw(ctx);
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
        service::monitor(self, ctx)
    }
}

impl Service for Samba {
    fn program(&self) -> &'static str {
        self.daemon.program()
    }

    fn unit(&self, ctx: &Ctx) -> anyhow::Result<Unit> {
        Unit::first_of(ctx, self.daemon.units())
    }

    fn attribute(&self) -> Option<Attribute> {
        (self.daemon == Daemon::Smbd).then_some(READY)
    }

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

    /// The agent of CTDB tells how long a recovery may last.
    fn hold_up(&self, ctx: &Ctx) -> Option<&'static str> {
        if matches!(recovering(ctx), Ok(Some(true))) {
            return Some("CTDB recovers");
        }
        fencing::is_due(ctx).then_some(fencing::FIRST)
    }

    fn absence(&self, ctx: &Ctx) -> anyhow::Result<()> {
        let program = self.program();
        match processes(ctx, program).first() {
            None => Ok(()),
            Some(pid) => bail!("{program} runs ({pid}), but not as a unit: stop it"),
        }
    }

    fn complaint(&self, ctx: &Ctx) -> Option<String> {
        let found = self.weakness(ctx);
        found.unwrap_or_else(|error| Some(format!("{error:#}")))
    }
}

impl Samba {
    /// What is wrong with the settings and the shares of a daemon that serves.
    fn weakness(&self, ctx: &Ctx) -> anyhow::Result<Option<String>> {
        let by = ctx.deadline.before(ctx.deadline.left() / 2);
        let settings = self.settings(ctx, by.earlier(RECOVERY));
        let settings = settings.map_err(|failure| failure.error)?;
        let place = place(ctx)?;
        let mut faults = self.faults(&settings, &place).into_iter();
        if let Some(danger) = faults.find(|fault| fault.gravity == Gravity::Danger) {
            return Ok(Some(format!(
                "{}: {}",
                self.smb_conf.display(),
                danger.text
            )));
        }
        let mut shares = settings.shares().filter(|_| self.daemon == Daemon::Smbd);
        Ok(shares.find_map(|share| unusable(ctx, &share, &place)))
    }

    /// Reads the settings. What is in the registry cannot be read while CTDB
    /// recovers, so it is tried again until `by`.
    ///
    /// # Errors
    /// They are wrong ([`Code::ErrArgs`]): CTDB serves, before and after. Or they
    /// may be read later.
    fn settings(&self, ctx: &Ctx, by: Deadline) -> Result<Settings, Failure> {
        let testparm = Cmd::new("testparm")
            .args(["-s", "-v", "--suppress-prompt"])
            .arg(&self.smb_conf);
        let mut served = false;
        let text = until(by, AGAIN, "the settings", || {
            let output = fencing::run(ctx, &testparm, ctx.deadline.earlier(READ));
            let refused = output.is_ok();
            let error = match output.and_then(|output| output.checked()) {
                Ok(text) => return Ok(Some(Ok(text))),
                Err(error) => error,
            };
            let ctdb = recovering(ctx);
            let serves = matches!(ctdb, Ok(Some(false)));
            let served = std::mem::replace(&mut served, serves);
            let code = if is_missing(&error) {
                Code::ErrInstalled
            } else if refused && served && serves {
                Code::ErrArgs
            } else if by.expired() || matches!(ctdb, Ok(None)) || fencing::is_due(ctx) {
                Code::ErrGeneric
            } else {
                return Ok(None);
            };
            let error = error.context(format!("reading {}", self.smb_conf.display()));
            Ok(Some(Err(Failure::new(code, error))))
        })??;
        Ok(Settings::parse(&text))
    }

    /// What is wrong with the settings, as far as it matters to this daemon:
    /// shares are smbd's.
    fn faults(&self, settings: &Settings, place: &Place) -> Vec<Fault> {
        let mut faults = faults::faults(settings, place);
        faults.retain(|fault| fault.share.is_none() || self.daemon == Daemon::Smbd);
        faults
    }
}

/// What of this machine's smb.conf does not go with the cluster: what the agent
/// would find before a start of smbd, if `further` file systems were mounted by
/// then. Below `root`, which is `/` but in tests.
///
/// # Errors
/// Samba does not say what its settings are; those in the registry it says only
/// while CTDB serves.
pub fn faults_ahead(
    runner: &dyn Runner,
    root: &Path,
    deadline: Deadline,
    further: Vec<Mount>,
) -> anyhow::Result<Vec<Fault>> {
    let smbd = Samba {
        daemon: Daemon::Smbd,
        smb_conf: SMB_CONF.default.unwrap_or_default().into(),
        address: Ipv4Addr::LOCALHOST.into(),
    };
    let ctx = Ctx {
        root,
        ..Ctx::asking(runner, deadline, "smbd")
    };
    let settings = smbd.settings(&ctx, Deadline::after(Duration::ZERO));
    let settings = settings.map_err(|failure| failure.error)?;
    let mut place = place(&ctx)?;
    place.mounts.extend(further);
    Ok(smbd.faults(&settings, &place))
}

/// This machine, as far as settings go with it.
fn place(ctx: &Ctx) -> anyhow::Result<Place> {
    let name = ctx.path("/proc/sys/kernel/hostname");
    let node = fs::read_to_string(&name).with_context(|| format!("reading {}", name.display()))?;
    Ok(Place {
        node: node.trim_end().to_owned(),
        mounts: mounts::read(&ctx.path("/proc/self/mountinfo"))?,
        homes: homes(ctx),
        root: ctx.root.to_owned(),
    })
}

/// The homes of this machine's own users; those of a directory service are below
/// `template homedir`. Source: passwd(5).
fn homes(ctx: &Ctx) -> Vec<PathBuf> {
    let users = fs::read_to_string(ctx.path("/etc/passwd")).unwrap_or_default();
    let home = |user: &str| {
        let mut fields = user.split(':');
        let number: u32 = fields.nth(2)?.parse().ok()?;
        let home = fields.nth(2)?;
        (number >= FIRST_USER && number != NOBODY).then(|| home.into())
    };
    users.lines().filter_map(home).collect()
}

/// Why clients cannot use a share.
fn unusable(ctx: &Ctx, share: &Share, place: &Place) -> Option<String> {
    let Directory::At(path) = share.directory else {
        return None;
    };
    // To look at what is mounted on demand would have it mounted for ever.
    if place.mount(path).is_some_and(Mount::is_on_demand) {
        return None;
    }
    let name = CString::new(path.as_os_str().as_bytes()).ok()?;
    let deadline = ctx.deadline.earlier(LOOK);
    let reason = match fencing::call(ctx, deadline, || stat(name.as_c_str()).map(drop)) {
        Ok(Answer::Done | Answer::Unwanted) => return None,
        Ok(Answer::Failed(errno)) => errno.desc().to_owned(),
        Ok(Answer::Hung) => "hangs".to_owned(),
        Err(error) => format!("{error:#}"),
    };
    Some(format!(
        "share [{}]: {}: {reason}",
        share.name,
        path.display()
    ))
}

/// Whether CTDB recovers; none where it does not run.
fn recovering(ctx: &Ctx) -> anyhow::Result<Option<bool>> {
    let ctdbd = Ctdbd::connect(&ctx.path(ctdbd::SOCKET), ctx.deadline.earlier(CTDB))?;
    ctdbd.map(|mut ctdbd| ctdbd.recovering()).transpose()
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
