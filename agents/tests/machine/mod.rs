//! A machine of a test's own, as far as an agent can see: its network, its
//! `/run`, and scripts for the commands that the agent runs, which write down
//! what they were asked.

use std::{
    fs,
    os::{
        linux::net::SocketAddrExt,
        unix::{
            fs::PermissionsExt,
            net::{SocketAddr, UnixListener},
        },
    },
    path::PathBuf,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};

/// What systemd says of a unit that runs.
pub const UP: &str = "LoadState=loaded\nActiveState=active\nSubState=running\nResult=success\n";
/// What systemd says of a unit that was stopped.
pub const DOWN: &str = "LoadState=loaded\nActiveState=inactive\nSubState=dead\nResult=success\n";

/// What Pacemaker says when another node is lost, and to be fenced.
pub const LOST: &str = r#"<x><node_state id="2" in_ccm="false" expected="member"/></x>"#;

/// A machine; Pacemaker's attribute daemon listens on it.
pub struct Machine {
    directory: tempfile::TempDir,
    _attrd: UnixListener,
}

/// Runs a test on a machine that `furnish` has prepared; its unit is down, and
/// what it is when it has been started is in `up`. What Pacemaker says of the nodes
/// is in `cib`.
pub fn alone(furnish: fn(&Machine), test: impl FnOnce(&Machine) + Send + 'static) {
    let test = move || {
        unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNET).unwrap();
        let (none, private) = (None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE);
        mount(none, "/", none, private, none).unwrap();
        mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), none).unwrap();
        let mut lo = Command::new("ip");
        lo.args(["link", "set", "lo", "up"]).stdin(Stdio::null());
        assert!(lo.status().unwrap().success());
        let attrd = SocketAddr::from_abstract_name("attrd").unwrap();
        let machine = Machine {
            directory: tempfile::tempdir().unwrap(),
            _attrd: UnixListener::bind_addr(&attrd).unwrap(),
        };
        machine.write("unit", DOWN);
        machine.write("up", UP);
        machine.write("cib", "");
        let cib = machine.path("cib").display().to_string();
        machine.program("cibadmin", &format!("#!/bin/sh\ncat {cib}\n"));
        machine.noting("attrd_updater", "");
        furnish(&machine);
        test(&machine);
    };
    if let Err(panic) = thread::spawn(test).join() {
        std::panic::resume_unwind(panic);
    }
}

impl Machine {
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    pub fn program(&self, name: &str, script: &str) {
        self.write(name, script);
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// A program that writes down what it was asked, and then does `what`.
    pub fn noting(&self, name: &str, what: &str) {
        let at = self.path("").display().to_string();
        let noted = format!("#!/bin/sh\ncd {at}\necho \"${{0##*/}} $*\" >> asked\n{what}");
        self.program(name, &noted);
    }

    /// What was asked since the last time, but for states.
    pub fn asked(&self) -> Vec<String> {
        let asked = fs::read_to_string(self.path("asked")).unwrap_or_default();
        self.write("asked", "");
        let asked = asked
            .lines()
            .filter(|line| !line.starts_with("systemctl show"));
        asked.map(str::to_owned).collect()
    }

    /// An action of an agent, with nothing in its environment but this.
    pub fn action(&self, agent: &str, instance: &str, action: &str, timeout: Duration) -> Command {
        let path = format!("{}:/usr/bin:/bin", self.directory.path().display());
        let mut command = Command::new(agent);
        command
            .arg(action)
            .env_clear()
            .env("PATH", path)
            .env("OCF_RESOURCE_INSTANCE", instance)
            .env(
                "OCF_RESKEY_CRM_meta_timeout",
                timeout.as_millis().to_string(),
            )
            .stdin(Stdio::null());
        command
    }
}

/// What Pacemaker sees of an action.
#[derive(Debug)]
pub struct Seen {
    pub code: i32,
    pub reason: String,
    /// All of its standard error.
    pub said: String,
    pub took: Duration,
}

/// Lets an action come to its end.
pub fn outcome(action: &mut Command) -> Seen {
    let began = Instant::now();
    let output = action.output().unwrap();
    let took = began.elapsed();
    assert!(output.stdout.is_empty(), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    let reason = said
        .lines()
        .rev()
        .find_map(|line| line.strip_prefix("ocf-exit-reason:"));
    Seen {
        code: output.status.code().unwrap(),
        reason: reason.unwrap_or_default().to_owned(),
        said,
        took,
    }
}
