//! What a Pacemaker resource agent is: OCF Resource Agent API 1.1.
//!
//! An agent implements [`Agent`]; its binary is `ocf::main::<TheAgent>()`.
//! The rules that hold for every agent are in [`run()`], once.

use std::{collections::BTreeMap, path::Path, path::PathBuf};

use crate::{
    deadline::Deadline,
    exec::{Cmd, Output, Runner},
};

mod journal;
mod metadata;
mod params;
mod run;
mod status;

pub use journal::Level;
pub use metadata::{Kind, Metadata, Op, Param, Reload};
pub use params::{Params, truth};
pub use run::{Invocation, main, run};
pub use status::{Code, Failure, OrCode, State};

/// A resource agent. The verbs are those of the OCF Resource Agent API.
pub trait Agent: Sized {
    /// What it is and takes; everything that documents or checks it derives
    /// from here.
    const METADATA: Metadata;

    /// Reads the parameters, without a look at the machine.
    ///
    /// # Errors
    /// A value that can be right on no machine: [`Code::ErrConfigured`].
    fn from_env(params: &Params) -> Result<Self, Failure>;

    /// Checks the configuration. At `ctx.depth` 0 the parameters alone, which
    /// [`Agent::from_env`] has done already for the most part; from 10 on also
    /// what this machine must have.
    ///
    /// # Errors
    /// What is wrong, with the code that says where it may be right.
    fn validate(&self, ctx: &Ctx) -> Result<(), Failure>;

    /// Brings the resource up, and returns when a monitor would say so.
    /// Starting what is up does nothing.
    ///
    /// # Errors
    /// It does not come up in time.
    fn start(&self, ctx: &Ctx) -> Result<(), Failure>;

    /// Brings the resource down, by force where it must be, and returns when
    /// nothing is left of it. Stopping what is down does nothing.
    ///
    /// # Errors
    /// Something is left of it; Pacemaker answers by fencing the node.
    fn stop(&self, ctx: &Ctx) -> Result<(), Failure>;

    /// Looks at the resource, at `ctx.depth`, and changes nothing when it is a
    /// probe.
    ///
    /// # Errors
    /// It is neither well nor cleanly stopped.
    fn monitor(&self, ctx: &Ctx) -> Result<State, Failure>;

    /// Takes over changed parameters while running; only for agents whose
    /// metadata declares `reload-agent`.
    ///
    /// # Errors
    /// They cannot be taken over.
    fn reload_agent(&self, _: &Ctx) -> Result<(), Failure> {
        Err(Failure::new(
            Code::ErrUnimplemented,
            anyhow::anyhow!("no reload-agent"),
        ))
    }
}

/// The circumstances of one call of an agent.
#[derive(Clone, Copy)]
pub struct Ctx<'a> {
    /// Runs commands.
    pub runner: &'a dyn Runner,
    /// The root of the file system, `/` but in tests.
    pub root: &'a Path,
    /// When the action has to be through; a little before Pacemaker kills it.
    pub deadline: Deadline,
    /// `OCF_CHECK_LEVEL`: the depth of a monitor or a validation, brought down
    /// to one that the agent declares.
    pub depth: u32,
    /// Whether this monitor asks for the first time, or where the resource is
    /// not to be (`role="Stopped"`), and must have no effect.
    pub probe: bool,
    /// Name of the resource, without the instance number of a clone.
    pub instance: &'a str,
    /// Name of the node, where Pacemaker told it.
    pub node: Option<&'a str>,
    /// The whole environment.
    pub environment: &'a BTreeMap<String, String>,
}

impl std::fmt::Debug for Ctx<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ctx")
            .field("instance", &self.instance)
            .field("depth", &self.depth)
            .field("probe", &self.probe)
            .finish_non_exhaustive()
    }
}

impl<'a> Ctx<'a> {
    /// For a question that no action asks, of this machine.
    pub fn asking(runner: &'a dyn Runner, deadline: Deadline, instance: &'a str) -> Self {
        const NOTHING: &BTreeMap<String, String> = &BTreeMap::new();
        Self {
            runner,
            root: Path::new("/"),
            deadline,
            depth: 10,
            probe: false,
            instance,
            node: None,
            environment: NOTHING,
        }
    }

    /// A path below the root.
    pub fn path(&self, absolute: impl AsRef<Path>) -> PathBuf {
        let absolute = absolute.as_ref();
        self.root
            .join(absolute.strip_prefix("/").unwrap_or(absolute))
    }

    /// Runs a command within the action's deadline.
    ///
    /// # Errors
    /// As [`Runner::run`].
    pub fn run(&self, cmd: &Cmd) -> anyhow::Result<Output> {
        self.runner.run(cmd, self.deadline)
    }

    /// Says something to the administrator, in the log.
    pub fn log(&self, level: Level, message: &str) {
        journal::write(self, level, message);
    }

    /// These circumstances with another deadline.
    #[must_use]
    pub fn by(&self, deadline: Deadline) -> Self {
        Self { deadline, ..*self }
    }
}
