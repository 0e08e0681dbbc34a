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
               then goes on at once. The addresses are those of the node's Corosync links, and its \
               others in networks that this node has an address in as well.",
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
        let error = match daemon(ctx).status(patience(ctx)) {
            Ok(_) if ctx.probe => return Ok(State::Running),
            Ok(status) => {
                // Somebody else may have restarted it.
                if status.reset_dead_peers != self.reset_dead_peers {
                    self.configure(ctx)?;
                }
                if status.node.is_none() {
                    let warning = "storhaug-noded cannot reach Corosync: no other node learns \
                                   which clients are here";
                    ctx.log(Level::Warning, warning);
                }
                return Ok(State::Running);
            }
            Err(error) => error,
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

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeMap;
    use std::io::Write;
    use std::os::unix::net::UnixListener;
    use std::path::Path;
    use std::sync::mpsc::{Receiver, channel};

    use super::*;
    use crate::daemon::{
        Answer, Line, QUESTION_LIMIT, Question, Status, VERSION, decode, read_line,
    };
    use crate::exec::{Cmd, Output};
    use crate::ocf::Code;

    const UP: &str = "LoadState=loaded\nActiveState=active\nSubState=running\n";
    const DOWN: &str = "LoadState=loaded\nActiveState=failed\nSubState=failed\n";

    /// A daemon below `root`, and what it was asked.
    fn daemon_below(root: &Path) -> Receiver<Question> {
        let socket = root.join("run/storhaug/noded.sock");
        std::fs::create_dir_all(socket.parent().unwrap()).unwrap();
        let listener = UnixListener::bind(socket).unwrap();
        let (asked, questions) = channel();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let deadline = Deadline::after(Duration::from_secs(10));
                let line = read_line(&mut stream, QUESTION_LIMIT, deadline).unwrap();
                let question: Question = decode(&line).unwrap().body;
                let body = match &question {
                    Question::Configure { .. } => Answer::Configured {},
                    _ => Answer::Status(Box::new(Status {
                        node: None,
                        group: Vec::new(),
                        quorate: false,
                        reset_dead_peers: true,
                        vips: Vec::new(),
                        resets: Vec::new(),
                    })),
                };
                asked.send(question).unwrap();
                let mut line = serde_json::to_vec(&Line {
                    version: VERSION,
                    body,
                })
                .unwrap();
                line.push(b'\n');
                stream.write_all(&line).unwrap();
            }
        });
        questions
    }

    /// Does something where systemd says this of the unit; returns also how
    /// often systemd was asked.
    fn act<T>(root: &Path, unit: &str, act: impl FnOnce(&Ctx) -> T) -> (T, usize) {
        let asked = RefCell::new(0);
        let systemd = |cmd: &Cmd| {
            *asked.borrow_mut() += 1;
            Ok(Output::exited(cmd, 0, unit, ""))
        };
        let environment = BTreeMap::new();
        let result = act(&Ctx {
            runner: &systemd,
            root,
            deadline: Deadline::after(Duration::from_secs(10)),
            depth: 0,
            probe: false,
            instance: "noded",
            node: None,
            environment: &environment,
        });
        (result, asked.into_inner())
    }

    #[test]
    fn a_daemon_that_answers_is_well_and_no_process_is_started_to_see_it() {
        let root = tempfile::tempdir().unwrap();
        let _questions = daemon_below(root.path());
        let noded = Noded {
            reset_dead_peers: true,
        };
        let (state, processes) = act(root.path(), UP, |ctx| noded.monitor(ctx));
        assert_eq!((state.unwrap(), processes), (State::Running, 0));
    }

    #[test]
    fn a_daemon_that_somebody_else_restarted_is_told_its_parameters_again() {
        let root = tempfile::tempdir().unwrap();
        let questions = daemon_below(root.path());
        let noded = Noded {
            reset_dead_peers: false,
        };
        let (state, _) = act(root.path(), UP, |ctx| noded.monitor(ctx));
        assert_eq!(state.unwrap(), State::Running);
        let told = Question::Configure {
            reset_dead_peers: false,
        };
        assert!(questions.try_iter().any(|question| question == told));
    }

    #[test]
    fn a_daemon_that_is_gone_is_stopped_and_one_that_hangs_has_failed() {
        let root = tempfile::tempdir().unwrap();
        let noded = Noded {
            reset_dead_peers: true,
        };
        let (state, _) = act(root.path(), DOWN, |ctx| noded.monitor(ctx));
        assert_eq!(state.unwrap(), State::NotRunning);
        let (state, _) = act(root.path(), UP, |ctx| noded.monitor(ctx));
        let failure = state.unwrap_err();
        assert_eq!(failure.code, Code::ErrGeneric);
        let reason = format!("{:#}", failure.error);
        assert!(reason.contains("does not answer"), "{reason}");
    }

    #[test]
    fn a_start_tells_the_daemon_its_parameters_and_a_reload_the_new_ones() {
        let root = tempfile::tempdir().unwrap();
        let questions = daemon_below(root.path());
        let configured = || {
            let configure = |question| match question {
                Question::Configure { reset_dead_peers } => Some(reset_dead_peers),
                _ => None,
            };
            questions.try_iter().find_map(configure)
        };
        let (result, _) = act(root.path(), UP, |ctx| {
            Noded {
                reset_dead_peers: false,
            }
            .start(ctx)
        });
        result.unwrap();
        assert_eq!(configured(), Some(false));
        let (result, _) = act(root.path(), UP, |ctx| {
            Noded {
                reset_dead_peers: true,
            }
            .reload_agent(ctx)
        });
        result.unwrap();
        assert_eq!(configured(), Some(true));
    }
}
