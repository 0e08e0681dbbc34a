//! The one door through which the lab starts processes: argv only, standard
//! input said explicitly, output captured to memory, a limit on the time.

use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// How long a command may take when its caller says nothing.
const LIMIT: Duration = Duration::from_secs(120);

/// A command that has not been started yet. Its `Display` is its argv.
#[derive(Debug, Clone)]
pub struct Cmd {
    argv: Vec<String>,
    env: Vec<(String, String)>,
    bare: bool,
    directory: Option<PathBuf>,
    input: Option<Vec<u8>>,
    limit: Duration,
}

/// What a command that ended left behind.
#[derive(Debug)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: Vec<u8>,
    command: String,
}

impl Cmd {
    /// A command without arguments; `program` is looked up in `PATH`.
    pub fn new(program: impl Into<String>) -> Self {
        Self {
            argv: vec![program.into()],
            env: Vec::new(),
            bare: false,
            directory: None,
            input: None,
            limit: LIMIT,
        }
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.argv.push(arg.into());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<I, S>(mut self, args: I) -> Self
    where
        I: IntoIterator<Item = S>,
        S: Into<String>,
    {
        self.argv.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets a variable in the command's environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts from an empty environment instead of the caller's.
    #[must_use]
    pub fn bare(mut self) -> Self {
        self.bare = true;
        self
    }

    /// Starts the command in another working directory.
    #[must_use]
    pub fn directory(mut self, directory: &Path) -> Self {
        self.directory = Some(directory.to_owned());
        self
    }

    /// Gives the command these bytes on standard input instead of nothing.
    #[must_use]
    pub fn input(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = Some(bytes.into());
        self
    }

    /// Kills the command, and all it started in its process group, after so
    /// long.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Runs the command to its end. Only a command that cannot be started, or
    /// that has to be killed, is an error.
    pub fn output(&self) -> Result<Output> {
        let mut stdout = memory()?;
        let mut stderr = memory()?;
        let stdin = match &self.input {
            None => Stdio::null(),
            Some(bytes) => {
                let mut file = memory()?;
                file.write_all(bytes)?;
                file.rewind()?;
                file.into()
            }
        };
        let child = self.start(
            self.prepared()
                .stdin(stdin)
                .stdout(stdout.try_clone()?)
                .stderr(stderr.try_clone()?)
                .process_group(0),
        )?;
        let ended = self.wait(child);
        let output = Output {
            status: ended.as_ref().copied().unwrap_or_default(),
            stdout: contents(&mut stdout)?,
            stderr: contents(&mut stderr)?,
            command: self.to_string(),
        };
        ended.with_context(|| output.stderr().trim_end().to_owned())?;
        Ok(output)
    }

    /// Runs the command, which has to succeed, and gives its standard output.
    pub fn run(&self) -> Result<String> {
        self.output()?.checked()
    }

    /// Runs the command with the caller's own standard input, output and
    /// error, for as long as it takes.
    pub fn pass(&self) -> Result<ExitStatus> {
        let mut child = self.start(&mut self.prepared())?;
        child
            .wait()
            .with_context(|| format!("waiting for `{self}`"))
    }

    /// Starts the command and leaves it running, its output appended to a
    /// file. The caller waits for the child, or dies before it.
    pub fn spawn(&self, log: &Path) -> Result<Child> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("opening {}", log.display()))?;
        self.start(
            self.prepared()
                .stdin(Stdio::null())
                .stdout(log.try_clone()?)
                .stderr(log),
        )
    }

    /// Becomes the command. Returns only if that is impossible.
    pub fn become_it(&self) -> anyhow::Error {
        let error = self.prepared().exec();
        anyhow!(error).context(format!("starting `{self}`"))
    }

    fn prepared(&self) -> Command {
        #[expect(clippy::disallowed_methods, reason = "this is the door")]
        let mut command = Command::new(&self.argv[0]);
        command.args(&self.argv[1..]);
        if self.bare {
            command.env_clear();
        }
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    fn start(&self, command: &mut Command) -> Result<Child> {
        command
            .spawn()
            .with_context(|| format!("starting `{self}`"))
    }

    /// The child is waited for on a thread of its own, so that the wait can
    /// have an end; what outlives its limit is killed with its group.
    fn wait(&self, mut child: Child) -> Result<ExitStatus> {
        let group = Pid::from_raw(i32::try_from(child.id())?);
        let (send, ended) = mpsc::channel();
        std::thread::spawn(move || send.send(child.wait()));
        if let Ok(status) = ended.recv_timeout(self.limit) {
            return status.with_context(|| format!("waiting for `{self}`"));
        }
        // The group may have ended this very moment, which is as good.
        let _ = killpg(group, Signal::SIGKILL);
        bail!("`{self}` was killed after {} s", self.limit.as_secs_f32())
    }
}

impl fmt::Display for Cmd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.argv.join(" "))
    }
}

impl Output {
    /// Whether the command ended with 0.
    pub fn success(&self) -> bool {
        self.status.success()
    }

    /// Its standard output as text, with U+FFFD for what is not UTF-8.
    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Its standard error as text, likewise.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// The standard output of a command that succeeded; else an error with
    /// what it said.
    pub fn checked(self) -> Result<String> {
        if self.success() {
            return Ok(self.stdout());
        }
        let said = if self.stderr.is_empty() {
            self.stdout()
        } else {
            self.stderr()
        };
        bail!("`{}`: {}: {}", self.command, self.status, said.trim_end())
    }
}

/// The status a shell would report: 128 + N for a death by signal N.
pub fn exit_code(status: ExitStatus) -> u8 {
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal))
        .unwrap_or(255);
    u8::try_from(code).unwrap_or(255)
}

/// Whether a program can be found in the directories of a `PATH`.
pub fn found(program: &str, path: &OsStr) -> bool {
    std::env::split_paths(path).any(|dir| dir.join(program).is_file())
}

fn memory() -> Result<File> {
    let fd = memfd_create("output", MFdFlags::MFD_CLOEXEC).context("making a file in memory")?;
    Ok(File::from(fd))
}

fn contents(file: &mut File) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_input_and_status_pass_through() {
        let output = Cmd::new("cat").input("hello").output().unwrap();
        assert!(output.success());
        assert_eq!(output.stdout(), "hello");
        let failed = Cmd::new("ls").arg("/nonexistent").run().unwrap_err();
        assert!(format!("{failed:#}").contains("/nonexistent"), "{failed:#}");
    }

    #[test]
    fn a_command_past_its_limit_is_killed() {
        let error = Cmd::new("tail")
            .args(["-f", "/dev/null"])
            .limit(Duration::from_millis(100))
            .output()
            .unwrap_err();
        assert!(format!("{error:#}").contains("killed"), "{error:#}");
    }

    #[test]
    fn a_signal_is_reported_as_a_shell_does() {
        assert_eq!(exit_code(ExitStatus::from_raw(9)), 137);
        assert_eq!(exit_code(ExitStatus::from_raw(3 << 8)), 3);
    }
}
