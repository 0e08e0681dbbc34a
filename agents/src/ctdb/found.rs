//! What CTDB's daemon says of itself, and whether its databases can be used.

use anyhow::Context;

use super::nodes;
use crate::ctdbd::{Ctdbd, Flags, Node, RunState};

/// What it says.
#[derive(Clone, Debug)]
pub struct Found {
    run_state: RunState,
    /// Whether the databases are frozen.
    pub recovering: bool,
    /// Its node's number, as soon as it serves.
    pub pnn: u32,
    /// Its own node's.
    pub flags: Flags,
    /// The nodes that it knows, as soon as it serves.
    nodes: Vec<Node>,
}

/// Why the databases cannot be used.
#[derive(Debug)]
pub enum Trouble {
    /// It goes over by itself.
    Passing(String),
    /// It does not.
    Lasting(String),
}

impl Found {
    /// Asks the daemon.
    ///
    /// # Errors
    /// It does not answer in time, or not as it should.
    pub fn ask(ctdbd: &mut Ctdbd) -> anyhow::Result<Self> {
        let run_state = ctdbd.run_state()?;
        let recovering = ctdbd.recovering()?;
        let mut found = Self {
            run_state,
            recovering,
            pnn: 0,
            flags: Flags(0),
            nodes: Vec::new(),
        };
        // While it starts, it does not know its number yet.
        if run_state == RunState::Running {
            found.pnn = ctdbd.pnn()?;
            found.nodes = ctdbd.nodes()?;
            let own = found.nodes.iter().find(|node| node.pnn == found.pnn);
            found.flags = own.context("ctdbd does not know its own node")?.flags;
        }
        Ok(found)
    }

    /// The list of nodes that it has loaded, in the form of [`nodes::label`].
    pub fn list(&self) -> String {
        nodes::label(&self.nodes)
    }

    /// Whether no connected node has a lower number.
    pub fn is_first(&self) -> bool {
        let mut connected = self.nodes.iter().filter(|node| !node.flags.disconnected());
        connected.all(|node| node.pnn >= self.pnn)
    }

    /// Why its databases cannot be used, if they cannot.
    pub fn trouble(&self) -> Option<Trouble> {
        let run_state = self.run_state;
        match run_state {
            RunState::Running => {}
            RunState::Unknown | RunState::Shutdown => {
                let reason = format!("ctdbd is in run state {run_state}");
                return Some(Trouble::Lasting(reason));
            }
            _ => {
                let reason = format!("ctdbd is still in run state {run_state}");
                return Some(Trouble::Passing(reason));
            }
        }
        if self.flags.inactive() {
            let reason = format!("CTDB has made this node {}: its log says why", self.flags);
            return Some(Trouble::Lasting(reason));
        }
        let frozen = "CTDB's databases are frozen for a recovery";
        self.recovering.then(|| Trouble::Passing(frozen.into()))
    }
}
