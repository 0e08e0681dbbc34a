//! `ocf:storhaug:noded`: runs `storhaug-noded`, the daemon that knows the
//! clients of the virtual addresses, on every node.
//!
//! systemd runs the daemon, and Pacemaker alone decides when; it is well when
//! it answers at its socket ([`crate::daemon`]), which a monitor asks without
//! starting a process.

use std::time::Duration;

use anyhow::Context;

use crate::daemon::{self, Daemon};
use crate::deadline::Deadline;
use crate::ocf::{Agent, Ctx, Failure, Kind, Level, Metadata, Op, Param, Params, Reload, State};
use crate::systemd::Unit;

/// Whether sockets to dead nodes are destroyed.
pub const RESET_DEAD_PEERS: Param = Param {
    name: "reset_dead_peers",
    kind: Kind::Boolean,
    required: false,
    unique_group: None,
    reload: Reload::Agent,
    default: Some("true"),
    shortdesc: "Destroy sockets to dead nodes",
    longdesc: "Whether TCP sockets of this node to the addresses of another are destroyed once \
               that one is known to be dead: fenced, while this one has quorum. Whatever waits for \
               an answer from there, such as Gluster for up to 42 and CTDB for up to 25 seconds, \
               then goes on at once. The addresses are those of the node's Corosync links.",
};

/// How long the daemon may take to answer. It does in a millisecond; longer
/// than anything it does between two answers on a busy machine.
const ANSWER: Duration = Duration::from_secs(5);

/// The agent.
#[derive(Debug)]
pub struct Noded {
    reset_dead_peers: bool,
}

impl Agent for Noded {
    const METADATA: Metadata = Metadata {
        name: "noded",
        shortdesc: "Knows the clients of virtual addresses on every node",
        longdesc: "Runs storhaug-noded, as a clone on every node. It tells the other nodes of the \
                   TCP connections to the virtual addresses here (ocf:storhaug:vip), makes the \
                   clients of an address that moves reconnect within milliseconds (tickle ACK), \
                   and destroys the sockets to a node that was fenced. An address comes up and \
                   serves without it; its clients then find out by themselves.",
        parameters: &[RESET_DEAD_PEERS],
        actions: &[
            Op::once("start", 30),
            Op::once("stop", 30),
            Op::monitor(0, 10, 20),
            Op::once("reload-agent", 20),
        ],
    };

    fn from_env(params: &Params) -> Result<Self, Failure> {
        Ok(Self {
            reset_dead_peers: params.boolean(&RESET_DEAD_PEERS)?,
        })
    }

    fn validate(&self, ctx: &Ctx) -> Result<(), Failure> {
        if ctx.depth >= 10 {
            unit().installed(ctx)?;
        }
        Ok(())
    }

    fn start(&self, ctx: &Ctx) -> Result<(), Failure> {
        let unit = unit();
        unit.start(ctx)?;
        unit.until_ready(ctx, "storhaug-noded to answer", || {
            Ok(daemon(ctx).status(patience(ctx)).ok())
        })?;
        self.configure(ctx)
    }

    fn stop(&self, ctx: &Ctx) -> Result<(), Failure> {
        Ok(unit().stop(ctx)?)
    }

    fn monitor(&self, ctx: &Ctx) -> Result<State, Failure> {
        let Err(error) = daemon(ctx).status(patience(ctx)) else {
            return Ok(State::Running);
        };
        let state = unit().state(ctx)?;
        if state.is_ended() {
            if !ctx.probe {
                ctx.log(Level::Warning, &format!("{} is {state}", unit().name()));
            }
            return Ok(State::NotRunning);
        }
        Err(error
            .context(format!("{} is {state} and does not answer", unit().name()))
            .into())
    }

    fn reload_agent(&self, ctx: &Ctx) -> Result<(), Failure> {
        self.configure(ctx)
    }
}

impl Noded {
    fn configure(&self, ctx: &Ctx) -> Result<(), Failure> {
        daemon(ctx)
            .configure(self.reset_dead_peers, patience(ctx))
            .context("telling storhaug-noded its parameters")?;
        Ok(())
    }
}

fn unit() -> Unit {
    Unit::new("storhaug-noded.service")
}

fn daemon(ctx: &Ctx) -> Daemon {
    Daemon::new(ctx.path(daemon::SOCKET))
}

fn patience(ctx: &Ctx) -> Deadline {
    ctx.deadline.earlier(ANSWER)
}
