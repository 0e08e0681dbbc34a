//! The rack: the one process that a lab keeps, outside all machines. It owns
//! their power, as a remote power switch does, and answers requests for it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Child;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::command::Cmd;
use crate::layout::{CLIENT, FENCE_DIR, Facts, Layout};
use crate::network::{self, Port};
use crate::power::{Machine, Power, Request, Response, receive, send};
use crate::{cell, disk, program};

/// A machine dies with its first process; what takes longer is stuck in the
/// kernel.
const DEATH: Duration = Duration::from_secs(20);
/// How long a machine takes from a reboot to its boot loader. A container takes
/// no time, and would be back before its cluster noticed that it was gone (8 s
/// with three nodes and Corosync's defaults), which makes Pacemaker on it stop:
/// it is told that it was fenced.
const SELF_TEST: Duration = Duration::from_secs(10);
/// systemd-nspawn's exit status for "the machine wants to be rebooted" when
/// its unit is not its own (`--keep-unit`).
const REBOOT: i32 = 133;

struct Rack {
    layout: Layout,
    facts: Facts,
    slots: BTreeMap<String, Slot>,
}

#[derive(Default)]
struct Slot {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    power: Phase,
    cut: bool,
    boots: u64,
    died: Option<f64>,
}

/// What a machine does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Phase {
    /// It has no power.
    #[default]
    Off,
    /// It has power, and is in the self test of its firmware.
    SelfTest,
    /// It has power; its systemd-nspawn.
    On(i32),
    /// Its power was taken, and it is not dead yet.
    Dying,
}

/// Serves the lab's socket until the process is killed.
pub fn serve(layout: &Layout) -> Result<()> {
    let facts = layout.facts()?;
    let slots = facts
        .machine_names()
        .into_iter()
        .map(|name| (name, Slot::default()))
        .collect();
    let socket = layout.socket();
    let listener = UnixListener::bind(&socket)
        .with_context(|| format!("listening at {}", socket.display()))?;
    let rack = Arc::new(Rack {
        layout: layout.clone(),
        facts,
        slots,
    });
    for stream in listener.incoming() {
        let stream = stream.context("accepting a connection")?;
        let rack = Arc::clone(&rack);
        std::thread::spawn(move || {
            if let Err(error) = rack.answer(&stream) {
                log(&format!("answering: {error:#}"));
            }
        });
    }
    Ok(())
}

impl Rack {
    fn answer(self: &Arc<Self>, stream: &UnixStream) -> Result<()> {
        while let Some(request) = receive::<Request>(stream)? {
            let response = self
                .carry_out(&request)
                .unwrap_or_else(|error| Response::Error(format!("{error:#}")));
            if request != Request::List {
                log(&format!("{request:?}: {response:?}"));
            }
            send(stream, &response)?;
        }
        Ok(())
    }

    fn carry_out(self: &Arc<Self>, request: &Request) -> Result<Response> {
        match request {
            Request::On(machine) => self.on(machine)?,
            Request::Off(machine) => self.off(machine)?,
            Request::Reboot(machine) => self.reboot(machine)?,
            Request::Cut(machine) => self.set_cut(machine, true)?,
            Request::Heal(machine) => self.set_cut(machine, false)?,
            Request::List => return Ok(Response::Machines(self.list())),
        }
        Ok(Response::Done)
    }

    fn slot(&self, machine: &str) -> Result<(&Slot, MutexGuard<'_, State>)> {
        let slot = self.slots.get(machine).ok_or_else(|| {
            let known: Vec<_> = self.slots.keys().map(String::as_str).collect();
            anyhow!(
                "there is no machine `{machine}`; there are {}",
                known.join(", ")
            )
        })?;
        Ok((slot, slot.lock()))
    }

    fn on(self: &Arc<Self>, machine: &str) -> Result<()> {
        let (_, mut state) = self.slot(machine)?;
        match state.power {
            Phase::SelfTest | Phase::On(_) => Ok(()),
            Phase::Off => self.boot(machine, &mut state),
            Phase::Dying => bail!("{machine} is not dead yet"),
        }
    }

    /// First the cable, then the power: nothing that the dying processes'
    /// sockets would still say may be heard.
    fn off(&self, machine: &str) -> Result<()> {
        let (slot, mut state) = self.slot(machine)?;
        match state.power {
            Phase::Off | Phase::SelfTest => {
                state.power = Phase::Off;
                slot.changed.notify_all();
                return Ok(());
            }
            Phase::Dying => {}
            Phase::On(nspawn) => {
                network::set_port(&self.layout, machine, Port::Down)?;
                state.power = Phase::Dying;
                // It may have ended this very moment.
                let victim = init_of(nspawn).unwrap_or(nspawn);
                let _ = kill(Pid::from_raw(victim), Signal::SIGKILL);
            }
        }
        let (state, _) = slot
            .changed
            .wait_timeout_while(state, DEATH, |state| state.power == Phase::Dying)
            .unwrap_or_else(PoisonError::into_inner);
        ensure!(
            state.power != Phase::Dying,
            "{machine} is not dead {} s after its power went",
            DEATH.as_secs()
        );
        Ok(())
    }

    /// Off for certain when this returns, on for certain, and booting after
    /// the self test.
    fn reboot(self: &Arc<Self>, machine: &str) -> Result<()> {
        self.off(machine)?;
        let (_, mut state) = self.slot(machine)?;
        self.self_test(machine, &mut state);
        Ok(())
    }

    fn self_test(self: &Arc<Self>, machine: &str, state: &mut State) {
        state.power = Phase::SelfTest;
        let rack = Arc::clone(self);
        let machine = machine.to_owned();
        std::thread::spawn(move || {
            if let Err(error) = rack.boot_after_self_test(&machine) {
                log(&format!("{machine}: booting: {error:#}"));
            }
        });
    }

    fn boot_after_self_test(self: &Arc<Self>, machine: &str) -> Result<()> {
        let (slot, state) = self.slot(machine)?;
        let (mut state, _) = slot
            .changed
            .wait_timeout_while(state, SELF_TEST, |state| state.power == Phase::SelfTest)
            .unwrap_or_else(PoisonError::into_inner);
        if state.power == Phase::SelfTest {
            state.power = Phase::Off;
            self.boot(machine, &mut state)?;
        }
        Ok(())
    }

    fn boot(self: &Arc<Self>, machine: &str, state: &mut State) -> Result<()> {
        // Whatever somebody left behind in the machine's earlier life.
        cell::kill_cell(&self.layout, machine)?;
        disk::attach(&self.layout, &self.facts, machine)?;
        network::plug(&self.layout, &self.facts, machine, port(state.cut))?;
        let child = self.start_container(machine)?;
        state.power = Phase::On(i32::try_from(child.id())?);
        state.boots += 1;
        let rack = Arc::clone(self);
        let machine = machine.to_owned();
        std::thread::spawn(move || {
            if let Err(error) = rack.watch(&machine, child) {
                log(&format!("{machine}: {error:#}"));
            }
        });
        Ok(())
    }

    /// Waits for a machine's end, however it comes.
    fn watch(self: &Arc<Self>, machine: &str, mut child: Child) -> Result<()> {
        let status = child.wait()?;
        log(&format!("{machine}: {status}"));
        let (slot, mut state) = self.slot(machine)?;
        let dying = state.power == Phase::Dying;
        state.power = Phase::Off;
        state.died = Some(since_1970().as_secs_f64());
        if status.code() == Some(REBOOT) && !dying {
            self.self_test(machine, &mut state);
        }
        slot.changed.notify_all();
        network::unplug(&self.layout, machine)
    }

    fn set_cut(&self, machine: &str, cut: bool) -> Result<()> {
        let (_, mut state) = self.slot(machine)?;
        if let Phase::On(_) = state.power {
            network::set_port(&self.layout, machine, port(cut))?;
        }
        state.cut = cut;
        Ok(())
    }

    fn list(&self) -> BTreeMap<String, Machine> {
        self.slots
            .iter()
            .map(|(name, slot)| {
                let state = slot.lock();
                let machine = Machine {
                    power: match state.power {
                        Phase::Off => Power::Off,
                        Phase::SelfTest | Phase::On(_) | Phase::Dying => Power::On,
                    },
                    cut: state.cut,
                    boots: state.boots,
                    died: state.died,
                    init: match state.power {
                        Phase::On(nspawn) => init_of(nspawn),
                        _ => None,
                    },
                };
                (name.clone(), machine)
            })
            .collect()
    }

    /// Starts a machine: a node with its own init, the client with one that
    /// only reaps.
    fn start_container(&self, machine: &str) -> Result<Child> {
        let layout = &self.layout;
        let disk = layout.disk(machine);
        let nspawn = Cmd::new(program("storhaug-lab")?)
            .args(["confine", "--name", layout.name(), machine, "--"])
            .arg("systemd-nspawn")
            .arg(format!("--directory={}", layout.root(machine).display()))
            .arg(format!("--machine={}-{machine}", layout.name()))
            .arg(format!("--hostname={machine}"))
            .arg(format!(
                "--network-namespace-path=/run/netns/{}",
                layout.namespace(machine)
            ))
            .arg(format!("--bind={}:/bricks", disk.join("bricks").display()))
            .args([
                "--keep-unit",
                "--register=no",
                "--capability=all",
                "--bind=/dev/fuse",
                "--link-journal=no",
                "--resolv-conf=off",
                "--timezone=off",
                "--console=pipe",
            ])
            // The machine sees one hierarchy of control groups on any host.
            .env("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", "1");
        let nspawn = if machine == CLIENT {
            nspawn.args(["--as-pid2", "--", "tail", "-f", "/dev/null"])
        } else {
            nspawn
                .arg(format!(
                    "--bind={}:{FENCE_DIR}",
                    layout.fence_dir().display()
                ))
                .arg("--boot")
        };
        nspawn.spawn(&disk.join("console.log"))
    }
}

impl Slot {
    /// A thread that panicked leaves a state that is still true.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Notes something in the rack's log, with the seconds since 1970 as
/// `journalctl --output=short-unix` has them.
fn log(text: &str) {
    let now = since_1970();
    eprintln!("{}.{:06} {text}", now.as_secs(), now.subsec_micros());
}

fn since_1970() -> Duration {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.unwrap_or_default()
}

fn port(cut: bool) -> Port {
    if cut { Port::Down } else { Port::Up }
}

/// The machine's first process: the child of systemd-nspawn that is number 1
/// in a process namespace of its own.
fn init_of(nspawn: i32) -> Option<i32> {
    let children = fs::read_to_string(format!("/proc/{nspawn}/task/{nspawn}/children")).ok()?;
    children
        .split_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .find(|pid: &i32| {
            fs::read_to_string(format!("/proc/{pid}/status"))
                .is_ok_and(|status| first_in_its_namespace(&status))
        })
}

/// Reads `NSpid` of `/proc/PID/status` (`proc_pid_status(5)`): the process's
/// numbers, outermost namespace first.
fn first_in_its_namespace(status: &str) -> bool {
    status
        .lines()
        .find_map(|line| line.strip_prefix("NSpid:"))
        .is_some_and(|pids| {
            let pids: Vec<_> = pids.split_whitespace().collect();
            pids.len() > 1 && pids.last() == Some(&"1")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_process_of_a_namespace_is_an_init() {
        assert!(first_in_its_namespace("Name:\tx\nNSpid:\t812\t1\n"));
        assert!(!first_in_its_namespace("NSpid:\t1\n"));
        assert!(!first_in_its_namespace("NSpid:\t812\t11\n"));
        assert!(!first_in_its_namespace("Name:\tx\n"));
    }
}
