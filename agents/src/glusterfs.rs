//! The agent `glusterfs`: a volume of GlusterFS, mounted on every node.
//!
//! A file system in user space can hang or die, and takes with it whoever
//! touches it. So nothing here touches the mount: what is mounted is read from
//! `mountinfo`, whether it answers is found out by a child that can be left
//! behind, and a mount that is to go away but hangs is cut from its server.

use std::{
    collections::BTreeSet,
    ffi::CString,
    fs,
    os::unix::{ffi::OsStrExt, fs::DirBuilderExt},
    path::{Component, Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow, bail};
use nix::{
    errno::Errno,
    mount::{MntFlags, umount2},
    sys::{
        signal::{Signal, kill},
        statfs::statfs,
    },
    unistd::Pid,
};

use crate::{
    child::{self, Answer},
    deadline::{Deadline, until},
    exec::{Cmd, Runner},
    fencing,
    mounts::{self, Mount},
    ocf::{
        Agent, Code, Ctx, Failure, Kind, Level, Metadata, Op, OrCode, Param, Params, Reload, State,
    },
};

mod client;
mod connection;
mod options;
mod users;
mod volume;

use connection::Connection;
use options::Options;
use users::users;
use volume::Volume;

/// The volume.
pub const VOLUME: Param = Param {
    name: "volume",
    kind: Kind::String,
    required: true,
    unique_group: None,
    reload: Reload::Restart,
    default: None,
    shortdesc: "Volume to mount",
    longdesc: "Name of the GlusterFS volume to mount.",
};

/// The mount point.
pub const DIRECTORY: Param = Param {
    name: "directory",
    kind: Kind::String,
    required: true,
    unique_group: Some("directory"),
    reload: Reload::Restart,
    default: None,
    shortdesc: "Mount point",
    longdesc: "Absolute path of the directory to mount at. It is created where it is missing.",
};

/// The server.
pub const SERVER: Param = Param {
    name: "server",
    kind: Kind::String,
    required: false,
    unique_group: None,
    reload: Reload::Restart,
    default: Some("localhost"),
    shortdesc: "Server to mount from",
    longdesc: "Name or address of the GlusterFS server that is asked where the volume's bricks are. \
        Once mounted, the client talks to every brick itself.",
};

/// Mount options.
pub const OPTIONS: Param = Param {
    name: "options",
    kind: Kind::String,
    required: false,
    unique_group: None,
    reload: Reload::Restart,
    default: None,
    shortdesc: "Mount options",
    longdesc: "Mount options, separated by commas, as in fstab; see mount.glusterfs(8). For instance \
        acl,backup-volfile-servers=server2:server3. Unless they say otherwise, the kernel remembers \
        neither names and sizes nor contents: \
        attribute-timeout=0,entry-timeout=0,direct-io-mode=enable,auto-invalidation=yes.",
};

/// Whether a volume that is stopped is started.
pub const MANAGE_VOLUME: Param = Param {
    name: "manage_volume",
    kind: Kind::Boolean,
    required: false,
    unique_group: None,
    reload: Reload::Restart,
    default: Some("false"),
    shortdesc: "Start a stopped volume",
    longdesc: "Whether to start the volume before it is mounted, where it is stopped. It is never \
        stopped: other machines may use it.",
};

/// How often something that changes is looked at.
const EVERY: Duration = Duration::from_millis(50);

/// How long a mount that is to be unmounted may take to answer. After that it
/// is cut from its server, so that those who wait for it can end.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long those who use a mount that is to be unmounted have to end by
/// themselves.
const GRACE: Duration = Duration::from_secs(10);

/// For how long the mount helper is tried again: at boot the server may be a
/// little later than we are.
const RETRY: Duration = Duration::from_secs(20);

/// How long a mount may stay busy though no process is seen to use it.
const UNSEEN: Duration = Duration::from_secs(2);

/// What keeps a volume from being as redundant as it should be, asked of
/// `server` by the `gluster` command; none where all is well.
///
/// # Errors
/// There is no such command here, or the servers do not answer.
pub fn redundancy(
    runner: &dyn Runner,
    deadline: Deadline,
    server: &str,
    volume: &str,
) -> anyhow::Result<Option<String>> {
    let ctx = Ctx::asking(runner, deadline, volume);
    let name = volume;
    Volume { name, server }.redundancy(&ctx)
}

/// What keeps the nodes from seeing at once what others write to a volume, and
/// the command that ends it, asked in the same way; none where all is well.
///
/// # Errors
/// As [`redundancy`].
pub fn incoherence(
    runner: &dyn Runner,
    deadline: Deadline,
    server: &str,
    volume: &str,
) -> anyhow::Result<Option<String>> {
    let ctx = Ctx::asking(runner, deadline, volume);
    let name = volume;
    Volume { name, server }.incoherence(&ctx)
}

/// The agent.
#[derive(Debug)]
pub struct GlusterFs {
    volume: String,
    directory: PathBuf,
    server: String,
    options: Options,
    manage_volume: bool,
}

impl Agent for GlusterFs {
    const METADATA: Metadata = Metadata {
        name: "glusterfs",
        shortdesc: "Mounts a GlusterFS volume",
        longdesc: "Mounts a GlusterFS volume on every node where it runs as a clone. The mount counts \
            as running when it is this volume that is mounted there and it answers; at depth 10 \
            bricks that are offline and files that wait to be healed are reported as degraded. \
            A mount that hangs hangs neither the monitor nor the stop.",
        parameters: &[VOLUME, DIRECTORY, SERVER, OPTIONS, MANAGE_VOLUME],
        actions: &[
            Op::once("start", 60),
            Op::once("stop", 60),
            // Longer than GlusterFS itself waits for a server that is silent,
            // `network.ping-timeout`: a pause is no failure of this node.
            Op::monitor(0, 10, 60),
            Op::monitor(10, 60, 60),
        ],
    };

    fn from_env(params: &Params) -> Result<Self, Failure> {
        let volume = params.required(&VOLUME)?;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if volume.starts_with('-') || !volume.chars().all(plain) {
            return Err(wrong(
                &VOLUME,
                volume,
                "a volume has letters, digits, `-` and `_`",
            ));
        }
        let server = params.required(&SERVER)?;
        let bad = |c: char| c.is_whitespace() || c.is_control() || c == '/';
        if server.starts_with('-') || server.contains(bad) {
            return Err(wrong(&SERVER, server, "write a host name or an address"));
        }
        let directory = params.required(&DIRECTORY)?;
        let path: PathBuf = Path::new(directory).components().collect();
        let stays = |part: Component| matches!(part, Component::RootDir | Component::Normal(_));
        let proper = path.is_absolute() && path.parent().is_some() && path.components().all(stays);
        if !proper || directory.contains('\0') {
            return Err(wrong(
                &DIRECTORY,
                directory,
                "write an absolute path without `..`",
            ));
        }
        Ok(Self {
            volume: volume.to_owned(),
            directory: path,
            server: server.to_owned(),
            options: params.parsed(&OPTIONS)?.unwrap_or_default(),
            manage_volume: params.boolean(&MANAGE_VOLUME)?,
        })
    }

    fn validate(&self, ctx: &Ctx) -> Result<(), Failure> {
        if ctx.depth < 10 {
            return Ok(());
        }
        let helper = ["/sbin/mount.glusterfs", "/usr/sbin/mount.glusterfs"];
        if !helper.iter().any(|path| ctx.path(path).exists()) {
            return Err(anyhow!(
                "no mount.glusterfs: install the client of GlusterFS (package glusterfs-client or \
                 glusterfs-fuse)"
            ))
            .or_code(Code::ErrInstalled);
        }
        if !ctx.path("/dev/fuse").exists() {
            return Err(anyhow!("no /dev/fuse: run `modprobe fuse`")).or_code(Code::ErrInstalled);
        }
        Ok(())
    }

    fn start(&self, ctx: &Ctx) -> Result<(), Failure> {
        match self.found(ctx)? {
            Found::Ours(mount) => {
                match self.answer(ctx, ctx.deadline.before(ctx.deadline.left() / 2))? {
                    Answer::Done => return Ok(()),
                    Answer::Unwanted => {
                        self.waits(ctx);
                        return Ok(());
                    }
                    answer => {
                        let reason = self.silence(ctx, &mount, answer);
                        ctx.log(Level::Warning, &format!("mounting anew: {reason:#}"));
                        self.stop(ctx)?;
                    }
                }
            }
            Found::Foreign(mount) => return Err(self.foreign(&mount).into()),
            Found::Nothing => {}
        }
        if self.manage_volume {
            self.as_volume()
                .start(ctx)
                .with_context(|| format!("starting the volume {}", self.volume))?;
        }
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(&self.directory)
            .with_context(|| format!("creating {}", self.directory.display()))?;
        if let Err(error) = self.mount(ctx)
            && !matches!(self.found(ctx)?, Found::Ours(_))
        {
            return Err(error.into());
        }
        let what = format!("{} to answer", self.directory.display());
        until(ctx.deadline, EVERY * 4, &what, || {
            match self.found(ctx)? {
                Found::Ours(mount) => match self.answer(ctx, ctx.deadline)? {
                    Answer::Done => Ok(Some(())),
                    Answer::Unwanted => {
                        self.waits(ctx);
                        Ok(Some(()))
                    }
                    // Its bricks are not connected yet.
                    Answer::Failed(Errno::ENOTCONN)
                        if !ctx.deadline.expired() && !fencing::is_due(ctx) =>
                    {
                        Ok(None)
                    }
                    answer => Err(self.silence(ctx, &mount, answer)),
                },
                Found::Foreign(mount) => Err(self.foreign(&mount)),
                Found::Nothing => bail!(
                    "{} is unmounted again: {}",
                    self.directory.display(),
                    self.see_log()
                ),
            }
        })?;
        Ok(())
    }

    fn stop(&self, ctx: &Ctx) -> Result<(), Failure> {
        let Some(mount) = self.stack(ctx)?.into_iter().next() else {
            if let Found::Foreign(mount) = self.found(ctx)? {
                ctx.log(
                    Level::Warning,
                    &format!("left alone: {:#}", self.foreign(&mount)),
                );
            }
            return Ok(());
        };
        // Whoever called this may have done so from within the mount.
        std::env::set_current_dir("/").context("going to /")?;
        let patience = (ctx.deadline.left() / 4).min(PATIENCE);
        let answer = self.last_answer(Deadline::after(patience))?;
        if answer != Answer::Done {
            let silence = self.silence(ctx, &mount, answer);
            self.cut(ctx, &mount, &format!("{silence:#}"))?;
        }
        let left = ctx.deadline.left();
        let stages = [
            (None, Deadline::after(Duration::ZERO)),
            (
                Some(Signal::SIGTERM),
                ctx.deadline.before(left / 2).earlier(GRACE),
            ),
            (Some(Signal::SIGKILL), ctx.deadline.before(left / 4)),
        ];
        for (signal, by) in stages {
            if self.unmount_by(ctx, &mount, signal, by)? {
                return Ok(());
            }
        }
        self.cut(ctx, &mount, "it is still in use")?;
        self.unmount(ctx, MntFlags::MNT_DETACH)?;
        let what = format!("{} to be unmounted", self.directory.display());
        until(ctx.deadline, EVERY, &what, || {
            Ok(self.stack(ctx)?.is_empty().then_some(()))
        })?;
        Ok(())
    }

    fn monitor(&self, ctx: &Ctx) -> Result<State, Failure> {
        let mount = match self.found(ctx)? {
            Found::Ours(mount) => mount,
            Found::Foreign(mount) => return Err(self.foreign(&mount).into()),
            Found::Nothing => return Ok(State::NotRunning),
        };
        match self.answer(ctx, ctx.deadline)? {
            Answer::Done => {}
            Answer::Unwanted => {
                self.waits(ctx);
                return Ok(State::Running);
            }
            answer => return Err(self.silence(ctx, &mount, answer).into()),
        }
        if ctx.depth < 10 {
            return Ok(State::Running);
        }
        let mut complaints: Vec<_> = self.outdated(ctx).into_iter().collect();
        // A machine that only mounts may have no `gluster` to ask.
        if ctx.path("/usr/sbin/gluster").exists() {
            match self.as_volume().complaint(ctx) {
                Ok(complaint) => complaints.extend(complaint),
                // Another node may ask at the same moment, and hold the lock.
                Err(error) => ctx.log(
                    Level::Info,
                    &format!("asking about the volume {}: {error:#}", self.volume),
                ),
            }
        }
        if complaints.is_empty() {
            return Ok(State::Running);
        }
        let complaints = complaints.join("; ");
        Ok(State::Degraded(format!(
            "volume {}: {complaints}",
            self.volume
        )))
    }
}

/// What is mounted at the directory, on top.
enum Found {
    Nothing,
    Ours(Mount),
    Foreign(Mount),
}

impl GlusterFs {
    fn as_volume(&self) -> Volume<'_> {
        Volume {
            name: &self.volume,
            server: &self.server,
        }
    }

    /// The directory as the kernel names it. The directory itself is not
    /// looked at: it may be a mount that hangs.
    fn point(&self) -> PathBuf {
        let parent = self
            .directory
            .parent()
            .and_then(|parent| parent.canonicalize().ok());
        match (parent, self.directory.file_name()) {
            (Some(parent), Some(name)) => parent.join(name),
            _ => self.directory.clone(),
        }
    }

    fn mounts(&self, ctx: &Ctx) -> anyhow::Result<Vec<Mount>> {
        mounts::read(&ctx.path("/proc/self/mountinfo"))
    }

    /// Whether `mount` is this volume from this server.
    fn is_ours(&self, mount: &Mount) -> bool {
        let source = mount.source.to_string_lossy();
        let volume = source
            .strip_prefix(&self.server)
            .and_then(|rest| rest.strip_prefix(':'));
        let volume = volume.map(|volume| volume.strip_prefix('/').unwrap_or(volume));
        mount.fstype == "fuse.glusterfs" && volume == Some(&self.volume)
    }

    fn found(&self, ctx: &Ctx) -> anyhow::Result<Found> {
        let point = self.point();
        let top = self
            .mounts(ctx)?
            .into_iter()
            .rev()
            .find(|mount| mount.point == point);
        Ok(match top {
            None => Found::Nothing,
            Some(mount) if self.is_ours(&mount) => Found::Ours(mount),
            Some(mount) => Found::Foreign(mount),
        })
    }

    /// Our mount, where there is one, and after it everything that is mounted
    /// over or below it.
    fn stack(&self, ctx: &Ctx) -> anyhow::Result<Vec<Mount>> {
        let point = self.point();
        let mounts = self.mounts(ctx)?.into_iter();
        let mut mounts = mounts.filter(|mount| mounts::is_within(mount.point.as_os_str(), &point));
        let ours = mounts.find(|mount| mount.point == point && self.is_ours(mount));
        Ok(ours.into_iter().chain(mounts).collect())
    }

    fn foreign(&self, mount: &Mount) -> anyhow::Error {
        anyhow!(
            "{mount} is mounted at {}, not {}:/{}: unmount it, or choose another directory",
            self.directory.display(),
            self.server,
            self.volume
        )
    }

    /// Whether the mount answers, before a fencing is due.
    fn answer(&self, ctx: &Ctx, deadline: Deadline) -> anyhow::Result<Answer> {
        let path = CString::new(self.directory.as_os_str().as_bytes())?;
        fencing::call(ctx, deadline, || statfs(path.as_c_str()).map(drop))
            .context("asking the mount")
    }

    /// Whether it answers, whatever is due.
    fn last_answer(&self, deadline: Deadline) -> anyhow::Result<Answer> {
        let path = CString::new(self.directory.as_os_str().as_bytes())?;
        child::call(deadline, || statfs(path.as_c_str()).map(drop)).context("asking the mount")
    }

    /// Says that the mount hangs while a lost node is still to be fenced, whose
    /// bricks it waits for: no failure of this one.
    fn waits(&self, ctx: &Ctx) {
        let news = format!("{} hangs: {}", self.directory.display(), fencing::FIRST);
        ctx.log(Level::Warning, &news);
    }

    /// Says how the mount does not answer.
    fn silence(&self, ctx: &Ctx, mount: &Mount, answer: Answer) -> anyhow::Error {
        let directory = self.directory.display();
        match answer {
            Answer::Failed(errno) => {
                anyhow!(
                    "{directory} does not answer: {}: {}",
                    errno.desc(),
                    self.see_log()
                )
            }
            Answer::Done | Answer::Hung | Answer::Unwanted => {
                let waiting = Connection::of(ctx, mount).waiting();
                let waiting = waiting.map_or(String::new(), |n| format!(", {n} requests wait"));
                anyhow!("{directory} hangs{waiting}: {}", self.see_log())
            }
        }
    }

    /// Where the client says why.
    fn see_log(&self) -> String {
        let name = self
            .directory
            .to_string_lossy()
            .trim_matches('/')
            .replace('/', "-");
        format!("see /var/log/glusterfs/{name}.log")
    }

    fn mount(&self, ctx: &Ctx) -> anyhow::Result<()> {
        let cmd = Cmd::new("mount")
            .args(["-t", "glusterfs", "-o"])
            .arg(self.options.to_string())
            .arg(format!("{}:/{}", self.server, self.volume))
            .arg(&self.directory);
        let deadline = ctx.deadline.before(ctx.deadline.left() / 4);
        let retry = ctx.deadline.before(ctx.deadline.left() / 2).earlier(RETRY);
        until(
            retry,
            Duration::from_secs(1),
            "the mount",
            || match fencing::run(ctx, &cmd, deadline)?.checked() {
                Ok(_) => Ok(Some(())),
                Err(error) if retry.expired() || fencing::is_due(ctx) => {
                    Err(anyhow!("{error:#}: {}", self.see_log()))
                }
                Err(_) => Ok(None),
            },
        )
    }

    /// What a mount lacks that was made before this agent was installed.
    fn outdated(&self, ctx: &Ctx) -> Option<String> {
        let client = client::arguments(&ctx.path("/proc"), &self.directory)?;
        let lacking = self.options.lacking(&client);
        (!lacking.is_empty()).then(|| {
            format!(
                "mounted without {lacking}, with which nodes see at once what others write: drain \
                 this node, restart Pacemaker on it, and undrain it"
            )
        })
    }

    /// Cuts the mount from its server: every call into it ends with an error.
    fn cut(&self, ctx: &Ctx, mount: &Mount, reason: &str) -> anyhow::Result<()> {
        ctx.log(Level::Warning, &format!("cutting the connection: {reason}"));
        match Connection::of(ctx, mount).abort() {
            Ok(()) => Ok(()),
            // The other way to the same, as long as nothing is mounted over it.
            Err(_) => self.unmount(ctx, MntFlags::MNT_FORCE).map(drop),
        }
    }

    /// Unmounts, again and again until `by`, and has those who use the mount
    /// end by `signal` in the meantime. Says whether it is gone.
    fn unmount_by(
        &self,
        ctx: &Ctx,
        mount: &Mount,
        signal: Option<Signal>,
        by: Deadline,
    ) -> anyhow::Result<bool> {
        let mut told = BTreeSet::new();
        let mut seen = Instant::now();
        until(by, EVERY, "the mount to be gone", || {
            let last = by.expired();
            self.unmount(ctx, MntFlags::empty())?;
            if self.stack(ctx)?.is_empty() {
                return Ok(Some(true));
            }
            let (Some(signal), false) = (signal, last) else {
                return Ok(Some(false));
            };
            let using = users(&ctx.path("/proc"), mount);
            if !using.is_empty() {
                seen = Instant::now();
            } else if seen.elapsed() > UNSEEN {
                return Ok(Some(false));
            }
            for pid in using {
                if told.insert(pid) {
                    let user = comm(ctx, pid);
                    let directory = self.directory.display();
                    ctx.log(
                        Level::Info,
                        &format!("{signal} to {user} ({pid}), which uses {directory}"),
                    );
                    // It may have ended by itself.
                    let _ = kill(pid, signal);
                }
            }
            Ok(None)
        })
    }

    /// Unmounts once, from the top to ours, as far as it goes.
    fn unmount(&self, ctx: &Ctx, flags: MntFlags) -> anyhow::Result<()> {
        for mount in self.stack(ctx)?.iter().rev() {
            let path = CString::new(mount.point.as_os_str().as_bytes())?;
            let flags = flags | MntFlags::UMOUNT_NOFOLLOW;
            let unmount = || umount2(path.as_c_str(), flags);
            match child::call(ctx.deadline.earlier(PATIENCE), unmount).context("unmounting")? {
                Answer::Done => {}
                // Busy, gone meanwhile, or stuck: what is still there is seen
                // afterwards.
                Answer::Failed(Errno::EBUSY | Errno::EINVAL | Errno::ENOENT)
                | Answer::Hung
                | Answer::Unwanted => break,
                Answer::Failed(errno) => {
                    return Err(errno)
                        .with_context(|| format!("unmounting {}", mount.point.display()));
                }
            }
        }
        Ok(())
    }
}

/// The name of a process.
fn comm(ctx: &Ctx, pid: Pid) -> String {
    let comm = fs::read_to_string(ctx.path(format!("/proc/{pid}/comm"))).unwrap_or_default();
    comm.trim_end().to_owned()
}

fn wrong(param: &Param, value: &str, remedy: &str) -> Failure {
    Failure::configured(format_args!(
        "parameter {}: {value:?}: {remedy}",
        param.name
    ))
}
