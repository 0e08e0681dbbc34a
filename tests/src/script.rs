//! Small programs that go on, on a machine, while something is done to the
//! cluster: clients and observers. One says that it is ready by one file, and
//! is told to end by another; what it has seen it prints at its end.

use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};

use crate::{Cmd, Lab, Machine, vm, wait};

/// Nobody watches for longer.
const LIMIT: Duration = Duration::from_secs(900);
/// Hundreds of connections, on a busy machine.
const READY: Duration = Duration::from_secs(60);

/// Where a program runs.
#[derive(Debug, Clone)]
pub enum Place {
    /// On a machine, with its own network or another's.
    Machine(Machine),
    /// In the lab's machine that has a kernel of its own.
    Vm(Lab),
}

/// A program in Python until it is told to stop, or nobody cares any more.
#[derive(Debug)]
pub struct Script {
    place: Place,
    stop: String,
    thread: Option<JoinHandle<Result<String>>>,
}

impl Place {
    /// A command there.
    pub fn command(&self, argv: &[&str]) -> Result<Cmd> {
        match self {
            Self::Machine(machine) => machine.command(argv.iter().copied()),
            Self::Vm(lab) => vm::command(lab, argv),
        }
    }
}

impl From<Machine> for Place {
    fn from(machine: Machine) -> Self {
        Self::Machine(machine)
    }
}

impl Script {
    /// Starts a program and waits until it is ready. Its first argument is the
    /// file that ends it; `name` tells it from others in the same place.
    pub fn start(
        place: impl Into<Place>,
        name: &str,
        text: &str,
        arguments: &[&str],
    ) -> Result<Self> {
        let script = Self::begin(place, name, text, arguments)?;
        script.ready()?;
        Ok(script)
    }

    /// [`Script::start`] without the wait.
    pub fn begin(
        place: impl Into<Place>,
        name: &str,
        text: &str,
        arguments: &[&str],
    ) -> Result<Self> {
        let place = place.into();
        let stop = format!("/tmp/{name}.stop");
        let files = ["", ".ready", ".latest"].map(|suffix| format!("{stop}{suffix}"));
        let files = files.each_ref().map(String::as_str);
        place
            .command(&[&["rm", "-f"], files.as_slice()].concat())?
            .run()?;
        let python = place
            .command(&["python3", "-", &stop])?
            .args(arguments.iter().copied())
            .input(text)
            .limit(LIMIT);
        let thread = Some(std::thread::spawn(move || python.run()));
        Ok(Self {
            place,
            stop,
            thread,
        })
    }

    /// Waits until the program says that it is ready.
    pub fn ready(&self) -> Result<()> {
        let file = format!("{}.ready", self.stop);
        wait::until_true(&format!("{file} is there"), READY, || {
            ensure!(!self.ended(), "the program has ended");
            Ok(self
                .place
                .command(&["test", "-e", &file])?
                .output()?
                .success())
        })
    }

    /// What the program has written into the file that is for news on its way.
    pub fn latest(&self) -> Result<String> {
        ensure!(!self.ended(), "the program has ended");
        self.place
            .command(&["cat", &format!("{}.latest", self.stop)])?
            .run()
    }

    /// Tells the program to end.
    pub fn stop(&self) -> Result<()> {
        self.place.command(&["touch", &self.stop])?.run().map(drop)
    }

    /// Tells the program to end; what it printed.
    pub fn finish(mut self) -> Result<String> {
        self.stop()?;
        let thread = self.thread.take().context("a program ends once")?;
        thread
            .join()
            .map_err(|_| anyhow!("the thread of a program panicked"))?
    }

    fn ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

/// Nothing that nobody waits for is left to be in somebody's way. What cannot be
/// told to end has ended with its place.
impl Drop for Script {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take()
            && self.stop().is_ok()
        {
            let _ = thread.join();
        }
    }
}
