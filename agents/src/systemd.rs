//! A service of the distribution, started and stopped through systemd, so that
//! its control group, journal and SELinux domain are the ones its packager
//! meant.
//!
//! Jobs are asked for with `--job-mode=ignore-dependencies`: what depends on
//! what is Pacemaker's to say, and while the machine goes down a plain job
//! would wait for the one that stops Pacemaker, which waits for us.

use std::{fs, time::Duration};

use anyhow::{Context, anyhow};

use crate::{
    deadline::{Deadline, until},
    exec::{Cmd, is_missing},
    ocf::{Code, Ctx, Failure, Level},
};

/// How often a unit that changes is looked at; a look is one `systemctl`.
const EVERY: Duration = Duration::from_millis(100);

/// The share of the time for a stop that a unit has to end by itself; what is
/// left of the time is for killing it.
const GENTLE: u32 = 3;

/// What a wait leaves of the action's time, for the last look.
const LAST: Duration = Duration::from_millis(500);

/// A unit, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    name: String,
}

/// What systemd knows of a unit. Source: systemd.unit(5) and
/// org.freedesktop.systemd1(5).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnitState {
    /// `LoadState`: `loaded`, `not-found`, `masked`, `error`, ….
    pub load: String,
    /// `ActiveState`: `active`, `inactive`, `failed`, `activating`, ….
    pub active: String,
    /// `SubState`, of the unit's type: `running`, `exited`, `dead`, ….
    pub sub: String,
    /// `Result`: why it ended: `success`, `exit-code`, `signal`, `timeout`, ….
    pub result: String,
    /// Whether a job for it waits or runs.
    pub job: bool,
    /// `MainPID`: the process that it is, 0 where there is none.
    pub pid: u32,
}

impl UnitState {
    /// Reads one block of `systemctl show`.
    fn parse(text: &str) -> Self {
        let mut state = Self::default();
        for (name, value) in text.lines().filter_map(|line| line.split_once('=')) {
            match name {
                "LoadState" => value.clone_into(&mut state.load),
                "ActiveState" => value.clone_into(&mut state.active),
                "SubState" => value.clone_into(&mut state.sub),
                "Result" => value.clone_into(&mut state.result),
                "Job" => state.job = !matches!(value, "" | "0"),
                "MainPID" => state.pid = value.parse().unwrap_or(0),
                _ => {}
            }
        }
        state
    }

    /// Whether there is such a unit, and it may be started.
    pub fn exists(&self) -> bool {
        self.load == "loaded"
    }

    /// Whether it is up, for good.
    pub fn is_active(&self) -> bool {
        matches!(self.active.as_str(), "active" | "reloading" | "refreshing")
    }

    /// Whether it is down, for good.
    pub fn is_ended(&self) -> bool {
        matches!(self.active.as_str(), "inactive" | "failed" | "")
    }

    /// Whether a signal has stopped its process, which does nothing until
    /// another has it go on: state `T` of proc_pid_stat(5).
    pub fn is_suspended(&self, ctx: &Ctx) -> bool {
        let stat = ctx.path("/proc").join(self.pid.to_string()).join("stat");
        let stat = fs::read_to_string(stat).unwrap_or_default();
        // The name before the state may have brackets in it.
        let after_name = stat.rsplit_once(") ");
        after_name.is_some_and(|(_, rest)| rest.starts_with('T'))
    }
}

/// The state in the words of `systemctl status`.
impl std::fmt::Display for UnitState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if !self.exists() && self.is_ended() {
            return f.write_str(&self.load);
        }
        write!(f, "{} ({})", self.active, self.sub)?;
        match self.result.as_str() {
            "" | "success" => Ok(()),
            result => write!(f, ", result {result}"),
        }
    }
}

impl Unit {
    /// The unit `name`, such as `ctdb.service`.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into() }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The first of `names` that this machine has; the first of all where it
    /// has none. Distributions name the same service differently.
    ///
    /// # Errors
    /// systemd does not answer.
    pub fn first_of(ctx: &Ctx, names: &[&str]) -> anyhow::Result<Self> {
        let [first, ..] = names else {
            return Err(anyhow!("no name of a unit"));
        };
        for name in names {
            let unit = Self::new(*name);
            if unit.state(ctx)?.load != "not-found" {
                return Ok(unit);
            }
        }
        Ok(Self::new(*first))
    }

    /// What systemd knows of it. A machine without systemd has no units.
    ///
    /// # Errors
    /// systemd does not answer.
    pub fn state(&self, ctx: &Ctx) -> anyhow::Result<UnitState> {
        let show = Cmd::new("systemctl")
            .args(["show", "-p", "LoadState", "-p", "ActiveState"])
            .args([
                "-p", "SubState", "-p", "Result", "-p", "Job", "-p", "MainPID", "--",
            ])
            .arg(&self.name);
        match ctx.run(&show) {
            Ok(output) => Ok(UnitState::parse(&output.checked()?)),
            Err(error) if is_missing(&error) => Ok(UnitState {
                load: "not-found".into(),
                ..UnitState::default()
            }),
            Err(error) => Err(error),
        }
    }

    /// Has it started, unless it is up. What has failed before is started all the
    /// same: how often is Pacemaker's decision. It is not up yet when this returns,
    /// and may end again: [`Unit::until_ready`].
    ///
    /// # Errors
    /// There is no such unit ([`Code::ErrInstalled`]), or systemd refuses.
    pub fn start(&self, ctx: &Ctx) -> Result<(), Failure> {
        let state = self.state(ctx)?;
        if !state.exists() {
            return Err(self.absent(&state));
        }
        if state.is_active() && !state.job {
            return Ok(());
        }
        // Also clears the count of starts that systemd would refuse one for.
        ctx.run(&Cmd::new("systemctl").args(["reset-failed", "--", &self.name]))?;
        self.job(ctx, "start")?;
        Ok(())
    }

    /// Waits for `condition`, which says that the started unit serves, and
    /// gives up as soon as the unit has ended again.
    ///
    /// # Errors
    /// The unit ended, the condition's own error, or `what` did not come true
    /// in time.
    pub fn until_ready<T>(
        &self,
        ctx: &Ctx,
        what: &str,
        mut condition: impl FnMut() -> anyhow::Result<Option<T>>,
    ) -> anyhow::Result<T> {
        until(
            ctx.deadline.before(LAST),
            EVERY,
            what,
            || match condition()? {
                Some(value) => Ok(Some(value)),
                None => self.ended(ctx).map(|()| None),
            },
        )
    }

    /// Fails where the unit is down: for use while waiting for what it serves.
    ///
    /// # Errors
    /// It has ended, or systemd does not answer.
    pub fn ended(&self, ctx: &Ctx) -> anyhow::Result<()> {
        self.ending(&self.state(ctx)?).map_or(Ok(()), Err)
    }

    /// Stops it and waits until it is down; kills all of its processes when it
    /// does not end by itself within two thirds of the time.
    ///
    /// # Errors
    /// It is still there.
    pub fn stop(&self, ctx: &Ctx) -> anyhow::Result<()> {
        if self.is_down(ctx)? {
            return Ok(());
        }
        self.job(ctx, "stop")?;
        let gentle = ctx.deadline.before(ctx.deadline.left() / GENTLE);
        let Err(error) = self.down(ctx, gentle) else {
            return Ok(());
        };
        ctx.log(Level::Warning, &format!("killing {}: {error:#}", self.name));
        self.kill(ctx)?;
        self.down(ctx, ctx.deadline.before(LAST))
    }

    /// Kills every process of the unit.
    ///
    /// # Errors
    /// systemd does not answer.
    pub fn kill(&self, ctx: &Ctx) -> anyhow::Result<()> {
        let kill = Cmd::new("systemctl").args(["kill", "--signal=SIGKILL", "--", &self.name]);
        // It fails where nothing is left to be killed; whether that is so is
        // seen from the state.
        ctx.run(&kill)?;
        Ok(())
    }

    fn down(&self, ctx: &Ctx, deadline: Deadline) -> anyhow::Result<()> {
        let what = format!("{} to be down", self.name);
        until(deadline, EVERY, &what, || {
            Ok(self.is_down(ctx)?.then_some(()))
        })
    }

    fn is_down(&self, ctx: &Ctx) -> anyhow::Result<bool> {
        let state = self.state(ctx)?;
        Ok(state.is_ended() && !state.job)
    }

    /// Has systemd do something with the unit, without waiting for it.
    fn job(&self, ctx: &Ctx, verb: &str) -> anyhow::Result<()> {
        let job = Cmd::new("systemctl")
            .args([verb, "--no-block", "--no-ask-password"])
            .args(["--job-mode=ignore-dependencies", "--", &self.name]);
        ctx.run(&job)?.checked().map(drop)
    }

    fn ending(&self, state: &UnitState) -> Option<anyhow::Error> {
        let ended = state.is_ended() && !state.job;
        ended.then(|| {
            anyhow!(
                "{} is {state}: see `journalctl -u {}`",
                self.name,
                self.name
            )
        })
    }

    fn absent(&self, state: &UnitState) -> Failure {
        let remedy = match state.load.as_str() {
            "masked" => format!("run `systemctl unmask {}`", self.name),
            "not-found" => "install the package that brings it".to_owned(),
            _ => format!("see `systemctl status {}`", self.name),
        };
        let error = anyhow!("unit {} is {}: {remedy}", self.name, state.load);
        Failure::new(Code::ErrInstalled, error)
    }

    /// Fails where the unit cannot be started here, for lack of it.
    ///
    /// # Errors
    /// There is none ([`Code::ErrInstalled`]), or systemd does not answer.
    pub fn installed(&self, ctx: &Ctx) -> Result<(), Failure> {
        let state = self.state(ctx).context("asking systemd")?;
        if state.exists() {
            Ok(())
        } else {
            Err(self.absent(&state))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, collections::BTreeMap, io, path::Path};

    use super::*;
    use crate::exec::Output;

    const UP: &str = "LoadState=loaded\nActiveState=active\nSubState=running\nResult=success\n";
    const FAILED: &str =
        "LoadState=loaded\nActiveState=failed\nSubState=failed\nResult=exit-code\n";
    const QUEUED: &str = "LoadState=loaded\nActiveState=inactive\nSubState=dead\nJob=7\n";
    const STOPPING: &str = "LoadState=loaded\nActiveState=deactivating\nSubState=stop-sigterm\n";

    /// A systemd that answers `show` with one text after the other, the last
    /// one for ever, and what was asked of it besides.
    fn played<T>(shows: &[&str], time: Duration, act: impl FnOnce(&Ctx) -> T) -> (T, Vec<String>) {
        let asked = RefCell::new(Vec::new());
        let left = RefCell::new(shows.iter().copied().peekable());
        let systemd = |cmd: &Cmd| {
            let words = cmd.words();
            if words[1] != "show" {
                asked.borrow_mut().push(words[1].to_owned());
                return Ok(Output::exited(cmd, 0, "", ""));
            }
            let mut left = left.borrow_mut();
            let text = left.next().unwrap_or_default();
            if left.peek().is_none() {
                *left = vec![text].leak().iter().copied().peekable();
            }
            Ok(Output::exited(cmd, 0, text, ""))
        };
        let environment = BTreeMap::new();
        let ctx = Ctx {
            runner: &systemd,
            root: Path::new("/nonexistent"),
            deadline: Deadline::after(time),
            depth: 0,
            probe: false,
            instance: "x",
            node: None,
            environment: &environment,
        };
        let result = act(&ctx);
        (result, asked.into_inner())
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_start_clears_what_failed_before_and_waits_for_nothing() {
        let unit = Unit::new("x.service");
        let (result, asked) = played(&[FAILED, QUEUED], LONG, |ctx| unit.start(ctx));
        result.unwrap();
        assert_eq!(asked, ["reset-failed", "start"]);
        let (result, asked) = played(&[UP], LONG, |ctx| unit.start(ctx));
        result.unwrap();
        assert!(asked.is_empty(), "{asked:?}");
    }

    #[test]
    fn a_unit_that_ends_again_is_not_waited_for() {
        let unit = Unit::new("x.service");
        let (result, _) = played(&[QUEUED, QUEUED, UP, FAILED], LONG, |ctx| {
            unit.until_ready::<()>(ctx, "it", || Ok(None))
        });
        assert_eq!(
            result.unwrap_err().to_string(),
            "x.service is failed (failed), result exit-code: see `journalctl -u x.service`"
        );
    }

    #[test]
    fn a_unit_that_is_not_there() {
        let unit = Unit::new("x.service");
        let (result, asked) = played(
            &["LoadState=not-found\nActiveState=inactive\n"],
            LONG,
            |ctx| unit.start(ctx),
        );
        assert_eq!(result.unwrap_err().code, Code::ErrInstalled);
        assert!(asked.is_empty(), "{asked:?}");
        let missing = |_: &Cmd| Err(anyhow!(io::Error::from(io::ErrorKind::NotFound)));
        let (result, _) = played(&[], LONG, |ctx| {
            unit.stop(&Ctx {
                runner: &missing,
                ..*ctx
            })
        });
        result.unwrap();
    }

    #[test]
    fn a_stop_kills_what_does_not_end() {
        let unit = Unit::new("x.service");
        let (result, asked) = played(&[UP, STOPPING, FAILED], LONG, |ctx| unit.stop(ctx));
        result.unwrap();
        assert_eq!(asked, ["stop"]);
        let soon = Duration::from_millis(300);
        let (result, asked) = played(&[STOPPING], soon, |ctx| unit.stop(ctx));
        assert_eq!(asked, ["stop", "kill"]);
        let error = result.unwrap_err().to_string();
        assert!(
            error.starts_with("waiting for x.service to be down"),
            "{error}"
        );
    }
}
