//! The rules that hold for every agent, and the way from Pacemaker's call to
//! the agent's verb and back to an exit code.
//!
//! Sources: OCF Resource Agent API 1.1; Pacemaker's `lib/services` for the
//! exit reason and the timeout.

use std::{
    any::Any,
    collections::BTreeMap,
    io::{self, Write},
    panic::{self, AssertUnwindSafe},
    path::Path,
    process::ExitCode,
    sync::mpsc,
    thread,
    time::Duration,
};

use anyhow::anyhow;

use super::{
    Agent, Code, Ctx, Failure, Level, Params, State,
    journal::{complain, one_line},
};
use crate::{
    deadline::Deadline,
    exec::{Host, Runner},
};

/// Pacemaker keeps an exit reason on every node; a long one is cut here.
const REASON: usize = 400;

/// One call of an agent.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// The action; none where the caller gave none.
    pub action: Option<String>,
    /// The environment.
    pub environment: BTreeMap<String, String>,
}

/// The `main` of an agent's binary.
pub fn main<A: Agent>() -> ExitCode {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that reads the environment"
    )]
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    // The API says that arguments after the action are to be ignored.
    let action = std::env::args_os().nth(1);
    let call = Invocation {
        action: action.map(|action| action.to_string_lossy().into_owned()),
        environment,
    };
    // Where it happened is for the log; the reason, which Pacemaker shows,
    // follows when the panic has been caught. The default hook may panic itself.
    panic::set_hook(Box::new(|panic| complain(&one_line(&panic.to_string()))));
    let code = run::<A>(&call, &Host, Path::new("/"), &mut io::stdout());
    ExitCode::from(u8::from(code))
}

/// Carries out one call: commands are run by `runner`, and files are below `root`,
/// which is `/` but in tests. Only the metadata is written to `stdout`.
pub fn run<A: Agent>(
    call: &Invocation,
    runner: &dyn Runner,
    root: &Path,
    stdout: &mut dyn Write,
) -> Code {
    let result = match call.action.as_deref() {
        None => Err(usage::<A>("no action given")),
        Some("meta-data") => write!(stdout, "{}", A::METADATA)
            .and_then(|()| stdout.flush())
            .map(|()| Code::Success)
            .map_err(|error| Failure::from(anyhow!(error).context("writing the metadata"))),
        Some(action) if A::METADATA.operations().any(|op| op.name == action) => {
            act::<A>(action, call, runner, root)
        }
        Some("status") => act::<A>("monitor", call, runner, root),
        Some(action) => Err(usage::<A>(&format!("unknown action {action:?}"))),
    };
    result.unwrap_or_else(|failure| {
        exit_reason(&format!("{:#}", failure.error));
        failure.code
    })
}

fn usage<A: Agent>(reason: &str) -> Failure {
    let mut names: Vec<_> = A::METADATA.operations().map(|op| op.name).collect();
    names.dedup();
    let error = anyhow!("{reason}: {} knows {}", A::METADATA.name, names.join(", "));
    Failure::new(Code::ErrUnimplemented, error)
}

/// Runs an action of the agent under its deadline.
fn act<A: Agent>(
    action: &str,
    call: &Invocation,
    runner: &dyn Runner,
    root: &Path,
) -> Result<Code, Failure> {
    let variable = |name: &str| call.environment.get(name).map(String::as_str);
    let meta = |name: &str| variable(&format!("OCF_RESKEY_CRM_meta_{name}"));
    let asked = variable("OCF_CHECK_LEVEL").and_then(|level| level.trim().parse().ok());
    let asked: u32 = asked.unwrap_or(0);
    let depth = if action == "monitor" {
        A::METADATA.depth(asked)
    } else {
        asked
    };
    let timeout = meta("timeout")
        .and_then(|ms| ms.parse().ok())
        .map(Duration::from_millis);
    let timeout = timeout.filter(|timeout| !timeout.is_zero());
    let timeout = timeout.unwrap_or_else(|| A::METADATA.timeout(action, asked));
    let instance = variable("OCF_RESOURCE_INSTANCE").unwrap_or(A::METADATA.name);
    let ctx = Ctx {
        runner,
        root,
        deadline: Deadline::after(timeout - margin(timeout)),
        depth,
        probe: action == "monitor"
            && (meta("interval").is_none_or(|interval| interval == "0")
                || meta("role") == Some("Stopped")),
        instance: instance.split(':').next().unwrap_or(instance),
        node: meta("on_node"),
        environment: &call.environment,
    };

    // After a command that cannot be killed was waited for, so that the reason
    // names it.
    let late = margin(timeout) * 3 / 4;
    let _watchdog = Watchdog::set(ctx.deadline.left() + late, action, timeout);
    panic::catch_unwind(AssertUnwindSafe(|| verb::<A>(action, &ctx)))
        .unwrap_or_else(|panic| Err(anyhow!("internal error: {}", message(&*panic)).into()))
}

fn verb<A: Agent>(action: &str, ctx: &Ctx) -> Result<Code, Failure> {
    let agent = match A::from_env(&Params::new(ctx.environment, &A::METADATA)) {
        Ok(agent) => agent,
        // With parameters that no start can have accepted there is nothing to
        // stop and nothing to find. To fail would fence the node, or be taken
        // for a resource that is active and broken.
        Err(failure) if action == "stop" || ctx.probe => {
            ctx.log(Level::Warning, &format!("{action}: {:#}", failure.error));
            return Ok(if action == "stop" {
                Code::Success
            } else {
                Code::NotRunning
            });
        }
        Err(failure) => return Err(failure),
    };
    let done = |()| Code::Success;
    match action {
        "start" => {
            agent.validate(&Ctx { depth: 10, ..*ctx })?;
            agent.start(ctx).map(done)
        }
        "stop" => agent.stop(ctx).map(done),
        "monitor" => match agent.monitor(ctx) {
            Ok(State::Running) => Ok(Code::Success),
            Ok(State::NotRunning) => Ok(Code::NotRunning),
            Ok(State::Degraded(reason)) => {
                Err(Failure::new(Code::Degraded, anyhow::Error::msg(reason)))
            }
            // What this machine lacks cannot be running on it.
            Err(Failure {
                code: Code::ErrInstalled | Code::ErrConfigured | Code::ErrArgs,
                ..
            }) if ctx.probe => Ok(Code::NotRunning),
            Err(failure) => Err(failure),
        },
        "validate-all" => agent.validate(ctx).map(done),
        "reload-agent" => agent.reload_agent(ctx).map(done),
        _ => Err(usage::<A>(&format!(
            "no code for the declared action {action:?}"
        ))),
    }
}

/// How much sooner than Pacemaker's timeout an action gives up: Pacemaker
/// kills at the timeout, and no reason for the failure is left.
fn margin(timeout: Duration) -> Duration {
    (timeout / 10).min(Duration::from_secs(1))
}

/// Ends the process, with a reason, when the action itself is stuck, in a
/// system call for instance.
struct Watchdog(#[expect(dead_code, reason = "its end is the signal")] mpsc::Sender<()>);

impl Watchdog {
    fn set(after: Duration, action: &str, timeout: Duration) -> Self {
        let (done, over) = mpsc::channel::<()>();
        let reason =
            format!("{action} is stuck, and was given up before its {timeout:?} were over");
        let watch = move || {
            if over.recv_timeout(after) == Err(mpsc::RecvTimeoutError::Timeout) {
                exit_reason(&reason);
                std::process::exit(i32::from(u8::from(Code::ErrGeneric)));
            }
        };
        // A machine that has no thread to spare needs its stops all the more.
        let _ = thread::Builder::new().spawn(watch);
        Self(done)
    }
}

/// The line that Pacemaker keeps as the exit reason.
fn exit_reason(reason: &str) {
    let reason = one_line(reason);
    let end = (0..=REASON.min(reason.len()))
        .rev()
        .find(|&end| reason.is_char_boundary(end));
    complain(&format!("ocf-exit-reason:{}", &reason[..end.unwrap_or(0)]));
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic")
}
