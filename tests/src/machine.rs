//! One machine of a lab, seen from outside: run commands in it, put files
//! into it.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::ExitStatus;

use anyhow::{Context as _, Result, bail};

use crate::command::{Cmd, Output};
use crate::layout::Layout;
use crate::network::NAMESPACES;
use crate::power;

/// A node, or the client host.
#[derive(Debug, Clone)]
pub struct Machine {
    layout: Layout,
    name: String,
    /// Whose network its commands see, if not its own.
    place: Option<String>,
}

impl Machine {
    pub(crate) fn new(layout: &Layout, name: &str) -> Self {
        Self {
            layout: layout.clone(),
            name: name.to_owned(),
            place: None,
        }
    }

    /// The same machine, with the network of another place for all that is run.
    pub(crate) fn at(mut self, place: &str) -> Self {
        self.place = Some(place.to_owned());
        self
    }

    /// The machine's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs a command in the machine to its end.
    pub fn exec<I, S>(&self, argv: I) -> Result<Output>
    where
        I: IntoIterator<Item = S>,
        S: Into<String>,
    {
        self.command(argv)?
            .output()
            .with_context(|| format!("on {}", self.name))
    }

    /// Runs a command in the machine, which has to succeed, and gives its
    /// standard output.
    pub fn run<I, S>(&self, argv: I) -> Result<String>
    where
        I: IntoIterator<Item = S>,
        S: Into<String>,
    {
        self.exec(argv)?
            .checked()
            .with_context(|| format!("on {}", self.name))
    }

    /// Runs a command in the machine with the caller's own standard input,
    /// output and error.
    pub fn pass(&self, argv: &[String]) -> Result<ExitStatus> {
        self.command(argv.to_vec())?.pass()
    }

    /// A command in the machine, not yet started: for input, for another
    /// limit, or to leave it running. Its environment is the machine's, as
    /// after a login as root, and not the caller's.
    pub fn command<I, S>(&self, argv: I) -> Result<Cmd>
    where
        I: IntoIterator<Item = S>,
        S: Into<String>,
    {
        let init = self.init()?;
        let network = match &self.place {
            Some(place) => format!("--net={NAMESPACES}/{}", self.layout.namespace(place)),
            None => "--net".to_owned(),
        };
        Ok(Cmd::new("/usr/bin/nsenter")
            .bare()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", "/root")
            .env("LC_ALL", "C.UTF-8")
            .env("TERM", "dumb")
            .arg(format!("--target={init}"))
            .args(["--mount", "--uts", "--ipc", "--pid", "--cgroup"])
            .arg(network)
            .arg("--")
            .args(argv))
    }

    /// The machine's first process, as the host numbers it.
    fn init(&self) -> Result<i32> {
        // Tells apart a lab that does not exist from one that broke.
        self.layout.facts()?.address(&self.name)?;
        let machines = power::machines(&self.layout.socket())?;
        machines
            .get(&self.name)
            .and_then(|machine| machine.init)
            .with_context(|| format!("{} is not running", self.name))
    }

    /// Copies a file into the machine, with its permissions; directories on
    /// the way are made. A destination that is a directory, or ends with `/`,
    /// gets a file of the same name.
    pub fn put(&self, source: &Path, destination: &str) -> Result<()> {
        let bytes = fs::read(source).with_context(|| format!("reading {}", source.display()))?;
        let mode = File::open(source)?.metadata()?.permissions().mode() & 0o7777;
        let inside =
            destination.ends_with('/') || self.exec(["test", "-d", destination])?.success();
        let destination = if inside {
            let Some(name) = source.file_name().and_then(|name| name.to_str()) else {
                bail!("{} has no file name", source.display());
            };
            format!("{}/{name}", destination.trim_end_matches('/'))
        } else {
            destination.to_owned()
        };
        self.write(&destination, &bytes, mode)
    }

    /// Writes a file in the machine, with these permissions.
    pub fn write(&self, destination: &str, bytes: &[u8], mode: u32) -> Result<()> {
        self.command([
            "install",
            "-D",
            "-m",
            &format!("{mode:o}"),
            "/dev/stdin",
            destination,
        ])?
        .input(bytes)
        .run()
        .with_context(|| format!("writing {destination} on {}", self.name))?;
        Ok(())
    }
}
