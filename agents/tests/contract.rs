//! What every agent owes Pacemaker, whatever it is an agent of: OCF Resource
//! Agent API 1.1. A sample agent stands for all where a real one cannot be made
//! to misbehave; where the process itself matters, it is `vip`'s.

#![expect(clippy::unwrap_used, reason = "in a test, an error is a panic")]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use storhaug_agents::deadline::Deadline;
use storhaug_agents::exec::{Cmd, Host, Output, Runner};
use storhaug_agents::ocf::{
    Agent, Code, Ctx, Failure, Invocation, Kind, Metadata, Op, Param, Params, Reload, State, run,
};

/// An agent that does what its parameter says.
struct Sample(String);

const DOES: Param = Param {
    name: "does",
    kind: Kind::String,
    required: true,
    unique_group: None,
    reload: Reload::Restart,
    default: None,
    shortdesc: "What it does",
    longdesc: "What it does.",
};

impl Agent for Sample {
    const METADATA: Metadata = Metadata {
        name: "sample",
        shortdesc: "A sample",
        longdesc: "An agent for tests.",
        parameters: &[DOES],
        actions: &[
            Op::once("start", 60),
            Op::once("stop", 90),
            Op::monitor(0, 10, 20),
            Op::monitor(10, 30, 40),
        ],
    };

    fn from_env(params: &Params) -> Result<Self, Failure> {
        let does = params.required(&DOES)?.to_owned();
        if does == "nothing sensible" {
            return Err(Failure::configured("no sense"));
        }
        Ok(Self(does))
    }

    fn validate(&self, ctx: &Ctx) -> Result<(), Failure> {
        ctx.run(&Cmd::new("validate").arg(ctx.depth.to_string()))?;
        self.act()
    }

    fn start(&self, ctx: &Ctx) -> Result<(), Failure> {
        ctx.run(&Cmd::new("start"))?;
        Ok(())
    }

    fn stop(&self, ctx: &Ctx) -> Result<(), Failure> {
        ctx.run(&Cmd::new("stop"))?;
        self.act()
    }

    fn monitor(&self, ctx: &Ctx) -> Result<State, Failure> {
        ctx.run(
            &Cmd::new("monitor")
                .arg(ctx.depth.to_string())
                .arg(ctx.probe.to_string())
                .arg(ctx.instance),
        )?;
        match self.0.as_str() {
            "runs" => Ok(State::Running),
            "limps" => Ok(State::Degraded("a leg".to_owned())),
            "is down" => Ok(State::NotRunning),
            _ => self.act().map(|()| State::Running),
        }
    }
}

impl Sample {
    fn act(&self) -> Result<(), Failure> {
        let code = match self.0.as_str() {
            "panics" => panic!("at the disco"),
            "fails" => Code::ErrGeneric,
            "lacks an argument" => Code::ErrArgs,
            "lacks a right" => Code::ErrPerm,
            "lacks software" => Code::ErrInstalled,
            "is ill configured" => Code::ErrConfigured,
            _ => return Ok(()),
        };
        Err(Failure::new(code, anyhow::anyhow!("it {}", self.0)))
    }
}

/// One call of the sample: its code, and what it did with how much time left.
fn sample(action: &str, does: &str, more: &[(&str, &str)]) -> (Code, Vec<(String, Duration)>) {
    let done = RefCell::new(Vec::new());
    let runner = Recorder(&done);
    let mut environment: BTreeMap<String, String> = more
        .iter()
        .map(|&(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    environment.insert("OCF_RESKEY_does".to_owned(), does.to_owned());
    let call = Invocation {
        action: Some(action.to_owned()),
        environment,
    };
    let mut stdout = Vec::new();
    let code = run::<Sample>(&call, &runner, Path::new("/nowhere"), &mut stdout);
    assert_eq!(stdout, b"", "standard output is for metadata alone");
    (code, done.into_inner())
}

/// Runs nothing, and keeps what was asked.
struct Recorder<'a>(&'a RefCell<Vec<(String, Duration)>>);

impl Runner for Recorder<'_> {
    fn run(&self, cmd: &Cmd, deadline: Deadline) -> anyhow::Result<Output> {
        let left = deadline.left();
        self.0.borrow_mut().push((cmd.to_string(), left));
        Ok(Output::exited(cmd, 0, "", ""))
    }
}

fn words(done: &[(String, Duration)]) -> Vec<&str> {
    done.iter().map(|(word, _)| word.as_str()).collect()
}

const RECURRING: (&str, &str) = ("OCF_RESKEY_CRM_meta_interval", "10000");

#[test]
fn a_probe_of_what_cannot_run_here_says_that_it_does_not() {
    for (does, recurring, probe) in [
        ("runs", Code::Success, Code::Success),
        ("is down", Code::NotRunning, Code::NotRunning),
        ("limps", Code::Degraded, Code::Degraded),
        ("fails", Code::ErrGeneric, Code::ErrGeneric),
        ("panics", Code::ErrGeneric, Code::ErrGeneric),
        ("lacks a right", Code::ErrPerm, Code::ErrPerm),
        ("lacks an argument", Code::ErrArgs, Code::NotRunning),
        ("lacks software", Code::ErrInstalled, Code::NotRunning),
        ("is ill configured", Code::ErrConfigured, Code::NotRunning),
        ("nothing sensible", Code::ErrConfigured, Code::NotRunning),
        ("", Code::ErrConfigured, Code::NotRunning),
    ] {
        assert_eq!(sample("monitor", does, &[RECURRING]).0, recurring, "{does}");
        assert_eq!(sample("monitor", does, &[]).0, probe, "{does}");
        assert_eq!(sample("status", does, &[]).0, probe, "{does}");
    }
}

#[test]
fn a_monitor_is_a_probe_unless_it_recurs() {
    for (interval, probe) in [(None, true), (Some("0"), true), (Some("10000"), false)] {
        let interval = interval.map(|interval| ("OCF_RESKEY_CRM_meta_interval", interval));
        let instance = ("OCF_RESOURCE_INSTANCE", "sample:3");
        let environment: Vec<_> = interval.into_iter().chain([instance]).collect();
        let (_, done) = sample("monitor", "runs", &environment);
        assert_eq!(words(&done), [format!("monitor 0 {probe} sample")]);
    }
}

#[test]
fn an_unknown_depth_is_the_next_lower_one() {
    for (asked, depth) in [("", 0), ("deep", 0), ("9", 0), ("10", 10), (" 20 ", 10)] {
        let (_, done) = sample("monitor", "runs", &[RECURRING, ("OCF_CHECK_LEVEL", asked)]);
        assert_eq!(words(&done), [format!("monitor {depth} false sample")]);
        let (_, done) = sample("validate-all", "runs", &[("OCF_CHECK_LEVEL", asked)]);
        let asked = asked.trim().parse().unwrap_or(0);
        assert_eq!(words(&done), [format!("validate {asked}")]);
    }
}

#[test]
fn a_start_looks_at_the_machine_first_and_a_stop_at_nothing() {
    let (code, done) = sample("start", "runs", &[]);
    assert_eq!(
        (code, words(&done)),
        (Code::Success, vec!["validate 10", "start"])
    );
    let (code, done) = sample("start", "lacks software", &[]);
    assert_eq!(
        (code, words(&done)),
        (Code::ErrInstalled, vec!["validate 10"])
    );
    let (code, done) = sample("stop", "runs", &[]);
    assert_eq!((code, words(&done)), (Code::Success, vec!["stop"]));
    for does in ["", "nothing sensible"] {
        assert_eq!(sample("start", does, &[]).0, Code::ErrConfigured);
        assert_eq!(sample("stop", does, &[]).0, Code::Success);
    }
    assert_eq!(sample("stop", "fails", &[]).0, Code::ErrGeneric);
    assert_eq!(sample("stop", "panics", &[]).0, Code::ErrGeneric);
}

#[test]
fn what_is_not_declared_is_not_implemented() {
    for action in ["", "promote", "notify", "reload-agent", "reload", "--help"] {
        assert_eq!(
            sample(action, "runs", &[]),
            (Code::ErrUnimplemented, Vec::new())
        );
    }
}

/// Pacemaker kills at the timeout; whoever wants to leave a reason gives up
/// earlier. What is on the clock when the agent is called is a little less.
#[test]
fn an_action_gives_up_before_pacemaker_does() {
    let seconds = Duration::from_secs;
    for (action, timeout, most) in [
        ("start", Some("20000"), seconds(19)),
        ("start", Some("300000"), seconds(299)),
        ("start", Some("5000"), Duration::from_millis(4500)),
        ("start", None, seconds(59)),
        ("start", Some("0"), seconds(59)),
        ("start", Some("soon"), seconds(59)),
        ("stop", None, seconds(89)),
        ("monitor", None, seconds(19)),
    ] {
        let timeout = timeout.map(|timeout| ("OCF_RESKEY_CRM_meta_timeout", timeout));
        let environment: Vec<_> = timeout.into_iter().collect();
        let (code, done) = sample(action, "runs", &environment);
        assert_eq!(code, Code::Success, "{action} {timeout:?}");
        let (_, left) = done[0];
        assert!(left <= most, "{action} {timeout:?}: {left:?}");
        assert!(left + seconds(3) > most, "{action} {timeout:?}: {left:?}");
    }
    let endless = ("OCF_RESKEY_CRM_meta_timeout", "18446744073709551615");
    assert_eq!(sample("start", "runs", &[endless]).0, Code::Success);
}

#[test]
fn the_metadata_of_the_sample_is_complete() {
    assert_eq!(Sample::METADATA.faults(), Vec::<String>::new());
    let xml = Sample::METADATA.to_string();
    for action in [
        r#"<action name="monitor" depth="10" interval="30s" timeout="40s"/>"#,
        r#"<action name="stop" timeout="90s"/>"#,
        r#"<action name="meta-data" timeout="5s"/>"#,
        r#"<action name="validate-all" timeout="20s"/>"#,
    ] {
        assert!(xml.contains(action), "no {action} in {xml}");
    }
    assert!(xml.is_ascii() && !xml.contains("encoding="));
}

const AGENT: &str = env!("CARGO_BIN_EXE_vip");

fn execute(cmd: Cmd) -> Output {
    let deadline = Deadline::after(Duration::from_secs(60));
    Host.run(&cmd, deadline).unwrap()
}

fn shell(script: &str, more: &[&str]) -> Output {
    execute(Cmd::new("sh").args(["-c", script, AGENT]).args(more))
}

/// The exit reason, of which there is one, and it is last.
fn reason(output: &Output) -> String {
    let stderr = String::from_utf8(output.stderr.clone()).unwrap();
    let mut lines: Vec<_> = stderr.lines().collect();
    let last = lines.pop().unwrap_or_default();
    assert!(
        !lines.iter().any(|line| line.contains("ocf-exit-reason:")),
        "{stderr}"
    );
    let reason = last.strip_prefix("ocf-exit-reason:");
    reason
        .unwrap_or_else(|| panic!("no reason: {stderr}"))
        .to_owned()
}

#[test]
fn metadata_needs_no_environment_no_right_and_no_place() {
    // Where anybody may execute it.
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let agent = directory.path().join("vip");
    fs::copy(AGENT, &agent).unwrap();

    let expected = execute(Cmd::new(AGENT).arg("meta-data"));
    let metadata = expected.checked().unwrap();
    assert!(metadata.starts_with("<?xml version=\"1.0\"?>\n"));
    assert_eq!(expected.stderr, b"");
    let bare = execute(
        Cmd::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .args(["env", "-i", "-C", "/"])
            .arg(&agent)
            .args(["meta-data", "and", "more"]),
    );
    assert_eq!(bare.checked().unwrap(), metadata);
    assert_eq!(bare.stderr, b"");
    let text = execute(
        Cmd::new(AGENT)
            .arg("meta-data")
            .env("OCF_OUTPUT_FORMAT", "text"),
    );
    assert_eq!(text.checked().unwrap(), metadata);
}

/// The schema that `ocf-tester` holds against it, which is of OCF 1.0.
#[test]
fn metadata_is_valid() {
    let metadata = execute(Cmd::new(AGENT).arg("meta-data")).stdout;
    let xmllint = Cmd::new("xmllint")
        .args(["--noout", "--nonet", "--valid"])
        .args(["--path", "/usr/share/resource-agents", "-"])
        .stdin(metadata);
    execute(xmllint).checked().unwrap();
}

#[test]
fn an_unknown_action_is_3_and_says_what_is_known() {
    for arguments in [&[][..], &["frobnicate"], &["--help"], &[""]] {
        let output = execute(Cmd::new(AGENT).args(arguments));
        assert_eq!(output.code(), Some(3), "{arguments:?}");
        assert_eq!(output.stdout, b"");
        let reason = reason(&output);
        assert!(
            reason.contains("start") && reason.contains("meta-data"),
            "{reason}"
        );
    }
    // Bytes that are no text.
    let output = shell(r#"exec "$0" "$(printf 'start\377')""#, &[]);
    assert_eq!(output.code(), Some(3));
    reason(&output);
}

#[test]
fn a_reason_is_one_line_of_bounded_length() {
    let long = format!("ä\nocf-exit-reason:no\r\n{}", "ö".repeat(5000));
    let output = execute(Cmd::new(AGENT).arg("start").env("OCF_RESKEY_ip", long));
    assert_eq!(output.code(), Some(6));
    let stderr = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(
        stderr.starts_with("ocf-exit-reason:parameter ip"),
        "{stderr}"
    );
    assert!(stderr.len() < 500, "{}", stderr.len());
}

/// A full disk, a Pacemaker that is gone: nobody takes what the agent says.
#[test]
fn an_action_does_its_work_when_nobody_listens() {
    for (call, code) in [
        ("stop 2>/dev/full", 0),
        ("stop >/dev/full 2>/dev/full", 0),
        ("stop <&- >&- 2>&-", 0),
        ("monitor 2>/dev/full", 7),
        ("start 2>/dev/full", 6),
        ("frobnicate 2>/dev/full", 3),
        ("meta-data >/dev/full", 1),
        ("meta-data >/dev/full 2>/dev/full", 1),
    ] {
        let output = shell(&format!(r#"exec "$0" {call}"#), &[]);
        assert_eq!(output.code(), Some(code), "{call}: {output:?}");
    }
}
