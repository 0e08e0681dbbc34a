//! The one door through which processes are started.
//!
//! A process gets its arguments as they are (no shell), no standard input
//! unless some is given, `LC_ALL=C.UTF-8`, a process group of its own and a
//! deadline, at which the whole group is killed. Its output goes to anonymous
//! files in memory: a pipe is kept open by a daemon that the process leaves
//! behind, and would block the caller for as long as the daemon lives; a file
//! in `/tmp` fails when the disk is full, just when something is to be stopped.

use std::{
    ffi::{OsStr, OsString},
    fmt,
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::process::{CommandExt, ExitStatusExt},
    process::ExitStatus,
    time::Duration,
};

use anyhow::{Context, anyhow, bail};
use nix::{
    sys::{
        memfd::{MFdFlags, memfd_create},
        signal::{Signal, killpg},
    },
    unistd::Pid,
};

use crate::deadline::Deadline;

/// How long a killed process may take to be gone; within what an action's
/// deadline leaves until Pacemaker's timeout. A process that hangs in the kernel
/// takes for ever and is left behind.
const REAP: Duration = Duration::from_millis(250);

/// How soon it is seen that the end of a process is not wanted any more.
const LOOK: Duration = Duration::from_secs(1);

/// How much of a process's standard error is repeated in an error.
const QUOTED: usize = 600;

/// A command: a program, its arguments, and what differs from the defaults.
#[derive(Clone, Debug)]
pub struct Cmd {
    argv: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    stdin: Option<Vec<u8>>,
}

impl Cmd {
    /// A command that runs `program`, found in `PATH`.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self {
            argv: vec![program.as_ref().to_owned()],
            env: Vec::new(),
            stdin: None,
        }
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.argv.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.argv
            .extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets a variable of the environment. Never a secret: any process of the
    /// same user can read it.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env
            .push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// What the process reads on its standard input; the way for secrets.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Some(bytes.into());
        self
    }

    /// What the process reads on its standard input, if anything.
    pub fn input(&self) -> Option<&[u8]> {
        self.stdin.as_deref()
    }

    /// Program and arguments, as far as they are UTF-8.
    pub fn words(&self) -> Vec<&str> {
        self.argv.iter().filter_map(|word| word.to_str()).collect()
    }
}

/// The command line, for messages.
impl fmt::Display for Cmd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, word) in self.argv.iter().enumerate() {
            let word = word.to_string_lossy();
            if i > 0 {
                f.write_str(" ")?;
            }
            if word.is_empty() || word.contains(|c: char| c.is_whitespace() || c.is_control()) {
                write!(f, "{word:?}")?;
            } else {
                f.write_str(&word)?;
            }
        }
        Ok(())
    }
}

/// What a process that has ended left.
#[derive(Clone, Debug)]
pub struct Output {
    /// The command line, for messages.
    pub command: String,
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: Vec<u8>,
}

impl Output {
    /// A process that exited with `code`, as a fake [`Runner`] answers.
    pub fn exited(cmd: &Cmd, code: u8, stdout: &str, stderr: &str) -> Self {
        Self {
            command: cmd.to_string(),
            status: ExitStatus::from_raw(i32::from(code) << 8),
            stdout: stdout.into(),
            stderr: stderr.into(),
        }
    }

    /// Whether it exited with 0.
    pub fn success(&self) -> bool {
        self.status.success()
    }

    /// The exit code; none where a signal ended it.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// Standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Standard output of a process that exited with 0.
    ///
    /// # Errors
    /// Any other end, with the command and the end of its standard error.
    pub fn checked(&self) -> anyhow::Result<String> {
        if self.success() {
            return Ok(self.text());
        }
        bail!("{}", self.complaint())
    }

    /// The command, how it ended, and the end of what it said of it.
    pub fn complaint(&self) -> String {
        let said = if self.stderr.trim_ascii().is_empty() {
            &self.stdout
        } else {
            &self.stderr
        };
        let said = String::from_utf8_lossy(said);
        let said = said.trim();
        let start = said.len().saturating_sub(QUOTED);
        let start = (start..=said.len())
            .find(|&i| said.is_char_boundary(i))
            .unwrap_or(start);
        let end = match (self.status.code(), self.status.signal()) {
            (Some(code), _) => format!("exit code {code}"),
            (None, signal) => format!("signal {}", signal.unwrap_or_default()),
        };
        if said.is_empty() {
            format!("`{}`: {end}", self.command)
        } else {
            format!("`{}`: {end}: {}", self.command, &said[start..])
        }
    }
}

/// Whether a command could not be started because there is no such program.
pub fn is_missing(error: &anyhow::Error) -> bool {
    let missing = |cause: &(dyn std::error::Error + 'static)| {
        let error = cause.downcast_ref::<io::Error>();
        error.is_some_and(|error| error.kind() == io::ErrorKind::NotFound)
    };
    error.chain().any(missing)
}

/// Whatever runs commands: the machine, or a fake one in a test.
pub trait Runner {
    /// Runs a command to its end.
    ///
    /// # Errors
    /// It cannot be started, or has not ended at `deadline`. An exit code other
    /// than 0 is no error here: [`Output::checked`] makes it one.
    fn run(&self, cmd: &Cmd, deadline: Deadline) -> anyhow::Result<Output>;

    /// The same, as long as its end is `wanted`; on a fake machine always.
    ///
    /// # Errors
    /// As [`Runner::run`].
    fn run_while(
        &self,
        cmd: &Cmd,
        deadline: Deadline,
        _wanted: &dyn Fn() -> bool,
    ) -> anyhow::Result<Output> {
        self.run(cmd, deadline)
    }
}

impl<F: Fn(&Cmd) -> anyhow::Result<Output>> Runner for F {
    fn run(&self, cmd: &Cmd, _: Deadline) -> anyhow::Result<Output> {
        self(cmd)
    }
}

/// This machine.
#[derive(Clone, Copy, Debug)]
pub struct Host;

impl Runner for Host {
    fn run(&self, cmd: &Cmd, deadline: Deadline) -> anyhow::Result<Output> {
        self.run_while(cmd, deadline, &|| true)
    }

    fn run_while(
        &self,
        cmd: &Cmd,
        deadline: Deadline,
        wanted: &dyn Fn() -> bool,
    ) -> anyhow::Result<Output> {
        let [program, args @ ..] = &cmd.argv[..] else {
            bail!("an empty command")
        };
        if deadline.expired() {
            bail!("no time left to run `{cmd}`");
        }
        let (mut stdout, mut stderr) = (memory()?, memory()?);
        #[expect(clippy::disallowed_methods, reason = "the one door")]
        let mut expression = duct::cmd(program, args)
            .stdout_file(stdout.try_clone()?)
            .stderr_file(stderr.try_clone()?)
            .before_spawn(|command| {
                command.process_group(0);
                Ok(())
            })
            .unchecked();
        // With duct, what is set first wins.
        for (name, value) in cmd.env.iter().rev() {
            expression = expression.env(name, value);
        }
        expression = expression.env("LC_ALL", "C.UTF-8");
        expression = match &cmd.stdin {
            Some(bytes) => {
                let mut stdin = memory()?;
                stdin
                    .write_all(bytes)
                    .and_then(|()| stdin.rewind())
                    .context("a file in memory")?;
                expression.stdin_file(stdin)
            }
            None => expression.stdin_null(),
        };
        let handle = expression
            .start()
            .with_context(|| format!("starting `{cmd}`"))?;
        let output = loop {
            let output = handle.wait_timeout(deadline.earlier(LOOK).left());
            match output.with_context(|| waiting(cmd))? {
                None if !deadline.expired() && wanted() => {}
                output => break output,
            }
        };
        let Some(output) = output else {
            for pid in handle.pids() {
                // No such group: it ended just now, on its own.
                let _ = killpg(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL);
            }
            let gone = handle
                .wait_timeout(REAP)
                .with_context(|| waiting(cmd))?
                .is_some();
            let fate = if gone {
                "killed"
            } else {
                "cannot be killed, it hangs in the kernel"
            };
            return Err(anyhow!("`{cmd}` did not end in time, {fate}"));
        };
        Ok(Output {
            command: cmd.to_string(),
            status: output.status,
            stdout: contents(&mut stdout)?,
            stderr: contents(&mut stderr)?,
        })
    }
}

fn waiting(cmd: &Cmd) -> String {
    format!("waiting for `{cmd}`")
}

fn memory() -> anyhow::Result<File> {
    let fd = memfd_create(c"storhaug", MFdFlags::MFD_CLOEXEC).context("making a file in memory")?;
    Ok(File::from(fd))
}

fn contents(file: &mut File) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0))
        .and_then(|_| file.read_to_end(&mut bytes))
        .context("reading")?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn soon() -> Deadline {
        Deadline::after(Duration::from_secs(20))
    }

    #[test]
    fn arguments_arrive_as_they_are() {
        let cmd = Cmd::new("printf").args(["%s|", "a b", "$(id)", ";"]);
        assert_eq!(
            Host.run(&cmd, soon()).unwrap().checked().unwrap(),
            "a b|$(id)|;|"
        );
        assert_eq!(cmd.to_string(), "printf %s| \"a b\" $(id) ;");
    }

    #[test]
    fn standard_input_is_empty_or_what_was_given() {
        assert_eq!(Host.run(&Cmd::new("cat"), soon()).unwrap().text(), "");
        assert_eq!(
            Host.run(&Cmd::new("cat").stdin("secret"), soon())
                .unwrap()
                .text(),
            "secret"
        );
    }

    #[test]
    fn the_last_value_of_a_variable_counts() {
        let cmd = Cmd::new("printenv").args(["LC_ALL", "X"]);
        let cmd = cmd.env("X", "first").env("X", "last");
        assert_eq!(Host.run(&cmd, soon()).unwrap().text(), "C.UTF-8\nlast\n");
        let cmd = cmd.env("LC_ALL", "C");
        assert_eq!(Host.run(&cmd, soon()).unwrap().text(), "C\nlast\n");
    }

    #[test]
    fn a_failing_command_is_quoted() {
        let output = Host.run(&Cmd::new("ls").arg("/no/such"), soon()).unwrap();
        let error = output.checked().unwrap_err().to_string();
        assert!(error.starts_with("`ls /no/such`: exit code 2: "), "{error}");
        let error = Host.run(&Cmd::new("/no/such"), soon()).unwrap_err();
        assert_eq!(error.to_string(), "starting `/no/such`");
    }

    #[test]
    fn a_daemon_left_behind_does_not_hold_the_caller() {
        let began = Instant::now();
        let cmd = Cmd::new("sh").args(["-c", "sleep 30 & echo $!"]);
        let output = Host.run(&cmd, soon()).unwrap().checked().unwrap();
        assert!(began.elapsed() < Duration::from_secs(15));
        let pid = output.trim().parse().unwrap();
        nix::sys::signal::kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    }

    #[test]
    fn the_whole_group_is_killed_at_the_deadline() {
        let pids = tempfile::NamedTempFile::new().unwrap();
        let script = format!("sleep 300 & echo $! > {}; wait", pids.path().display());
        let error = Host
            .run(
                &Cmd::new("sh").args(["-c", &script]),
                Deadline::after(Duration::from_secs(2)),
            )
            .unwrap_err();
        assert!(
            error.to_string().ends_with("did not end in time, killed"),
            "{error}"
        );
        let child = std::fs::read_to_string(pids.path()).unwrap();
        crate::deadline::until(soon(), Duration::from_millis(10), "the child's end", || {
            // An orphan that nobody reaps stays as a zombie.
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.trim()));
            Ok(stat
                .map_or(true, |stat| stat.contains(") Z "))
                .then_some(()))
        })
        .unwrap();
    }
}
