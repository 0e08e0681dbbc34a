//! `storhaug status`: how the cluster is, from two quick looks at it, and what
//! this node's storhaug-noded knows of the addresses' clients.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use anyhow::bail;
use storhaug_agents::daemon::{self, Daemon};
use storhaug_agents::deadline::Deadline;

use crate::agreement::{self, Missing};
use crate::apply::WITHOUT_FENCING;
use crate::corosync::Corosync;
use crate::desired::{self, Kind, Wanted};
use crate::machine::{Machine, applied};
use crate::pacemaker;
use crate::plan;
use crate::preflight;
use crate::state::{DEGRADED, Failure, State};
use crate::xml::Element;

/// How long storhaug-noded may take to answer, which it does within 1 ms.
const DAEMON: Duration = Duration::from_millis(500);

/// How long Pacemaker may take to answer both questions. They are answered on
/// this node, whatever becomes of others, within 40 ms; with what storhaug-noded
/// may take, a view is there within two seconds.
const ANSWER: Duration = Duration::from_millis(1200);

/// The same where something depends on the answer: also on a very busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// How the cluster is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Everything runs.
    Ok,
    /// It serves, and something is missing.
    Degraded,
    /// It does not serve.
    Down,
}

impl Verdict {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::Degraded => "degraded",
            Verdict::Down => "down",
        }
    }
}

/// The state of the cluster, ready to be shown.
#[derive(Clone, Debug)]
pub struct Status {
    /// Name of the cluster; empty where there is none.
    pub cluster: String,
    /// How it is.
    pub verdict: Verdict,
    /// What Pacemaker says.
    pub state: State,
    /// What should run.
    pub wanted: Vec<Wanted>,
    /// The addresses by the names of their resources.
    pub addresses: BTreeMap<String, IpAddr>,
    /// What does not run.
    pub missing: Vec<Missing>,
    /// What deserves attention, each with what to do about it.
    pub notes: Vec<Note>,
    /// What this node's storhaug-noded knows; `None` where it does not answer.
    pub clients: Option<Clients>,
}

/// What storhaug-noded knows at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clients {
    /// When it was asked.
    pub asked: SystemTime,
    /// Its answer.
    pub answer: daemon::Status,
}

impl Clients {
    /// What it knows of `address`; `None` where it never heard of it.
    pub fn of(&self, address: IpAddr) -> Option<&daemon::Vip> {
        self.answer.vips.iter().find(|vip| vip.address == address)
    }
}

/// Something that deserves attention.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// What it is.
    pub problem: String,
    /// A command that helps, or looks closer.
    pub remedy: String,
}

impl Note {
    fn new(problem: impl Into<String>, remedy: impl Into<String>) -> Note {
        Note {
            problem: problem.into(),
            remedy: remedy.into(),
        }
    }
}

/// Looks at the cluster. Where it does not answer soon, that is what is said of
/// it.
///
/// # Errors
/// Its answers cannot be read.
pub fn look(machine: Machine<'_>) -> anyhow::Result<Status> {
    look_for(machine, ANSWER)
}

/// Looks at the cluster for something that depends on it: for as long as it
/// takes.
///
/// # Errors
/// It does not answer, or its answers cannot be read.
pub fn know(machine: Machine<'_>) -> anyhow::Result<Status> {
    let status = look_for(machine, PATIENCE)?;
    match &status.notes[..] {
        [note, ..] if status.state.nodes.is_empty() => {
            bail!("{}; see `{}`", note.problem, note.remedy)
        }
        _ => Ok(status),
    }
}

fn look_for(machine: Machine<'_>, limit: Duration) -> anyhow::Result<Status> {
    let Some(corosync) = Corosync::read(machine.root)? else {
        return Ok(down(
            "",
            Note::new("this machine is in no cluster", "storhaug setup"),
        ));
    };
    let deadline = Deadline::after(limit);
    let state = pacemaker::state_by(machine.runner, deadline);
    let (state, cib) = match (state, pacemaker::query_by(machine.runner, deadline)) {
        (Ok(state), Ok(cib)) => (state, cib),
        _ if deadline.expired() => {
            let note = Note::new(
                format!("Pacemaker has not answered here within {limit:?}"),
                "storhaug status, here again or on another node",
            );
            return Ok(down(&corosync.name, note));
        }
        _ => {
            let note = match preflight::root() {
                Ok(()) => Note::new("the cluster does not run here", "pcs cluster start --all"),
                Err(_) => Note::new(
                    "Pacemaker answers only root and the group haclient, if it runs here",
                    "sudo storhaug status",
                ),
            };
            return Ok(down(&corosync.name, note));
        }
    };
    let mut status = judge(corosync.name, state, &cib);
    if !status.addresses.is_empty() {
        status.ask(machine);
    }
    Ok(status)
}

impl Status {
    /// Asks the daemon of this node. Whether it runs where it should is
    /// Pacemaker's to say, so a daemon that does not answer is no verdict.
    fn ask(&mut self, machine: Machine<'_>) {
        let daemon = Daemon::new(machine.path(daemon::SOCKET));
        let asked = SystemTime::now();
        match daemon.status(Deadline::after(DAEMON)) {
            Ok(answer) => {
                self.copies(&answer);
                self.clients = Some(Clients { asked, answer });
            }
            Err(error) => self.notes.push(Note::new(
                format!("nothing is known of clients here: {error:#}"),
                "systemctl status storhaug-noded",
            )),
        }
    }
}

impl Status {
    /// Notes addresses that are on a second node.
    fn copies(&mut self, answer: &daemon::Status) {
        for (resource, address) in &self.addresses {
            let vips = answer.vips.iter().filter(|vip| vip.address == *address);
            for node in vips.flat_map(|vip| &vip.also_on) {
                self.notes.push(Note::new(
                    format!("{address} is on {} as well", node.name),
                    // Pacemaker looks, and removes it.
                    format!(
                        "crm_resource --refresh --resource {resource} --node {}",
                        node.name
                    ),
                ));
                if self.verdict == Verdict::Ok {
                    self.verdict = Verdict::Degraded;
                }
            }
        }
    }
}

fn down(cluster: &str, note: Note) -> Status {
    Status {
        cluster: cluster.to_owned(),
        verdict: Verdict::Down,
        state: State::default(),
        wanted: Vec::new(),
        addresses: BTreeMap::new(),
        missing: Vec::new(),
        notes: vec![note],
        clients: None,
    }
}

/// What `state` means for the cluster that was applied.
fn judge(cluster: String, state: State, cib: &Element) -> Status {
    let mut notes = Vec::new();
    let applied = applied(cib);
    let wanted = applied.as_ref().map(desired::wanted).unwrap_or_default();
    let vips = applied.iter().flat_map(|cluster| &cluster.vips);
    let addresses: BTreeMap<String, IpAddr> =
        vips.map(|vip| (vip.name.clone(), vip.address)).collect();
    if applied.is_none() {
        let what = match plan::is_ours(cib) {
            true => "the configuration kept in the CIB cannot be read",
            false => "the cluster was not set up by storhaug",
        };
        notes.push(Note::new(what, "storhaug setup"));
    }
    if state.dc.is_none() {
        notes.push(Note::new(
            "no coordinator is elected",
            "pcs cluster start --all",
        ));
    } else if !state.quorum {
        notes.push(Note::new(
            "too few nodes take part: no quorum",
            "pcs cluster start --all",
        ));
    }
    for (name, node) in &state.nodes {
        if node.unclean {
            notes.push(Note::new(
                format!("{name} is lost and not fenced yet"),
                "stonith_admin --history '*' --verbose",
            ));
        } else if !node.online {
            notes.push(Note::new(
                format!("{name} is offline"),
                format!("pcs cluster start {name}"),
            ));
        } else if node.standby {
            notes.push(Note::new(
                format!("{name} is in standby"),
                format!("storhaug undrain {name}"),
            ));
        } else if node.maintenance {
            notes.push(Note::new(
                format!("{name} is in maintenance"),
                format!("pcs node unmaintenance {name}"),
            ));
        }
    }
    let missing = agreement::missing(&wanted, &state);
    for missing in &missing {
        let resource = &missing.resource;
        let remedy = match missing.failures.is_empty() {
            true => format!("crm_resource --why --resource {resource}"),
            false => format!("crm_resource --cleanup --resource {resource}"),
        };
        notes.push(Note::new(missing.in_words(), remedy));
    }
    let told = |failure: &Failure| {
        missing
            .iter()
            .any(|missing| missing.failures.contains(failure))
    };
    let others: Vec<&Failure> = state
        .failures
        .iter()
        .filter(|failure| !told(failure))
        .collect();
    let cleanup = |failure: &Failure| {
        let (resource, node) = (&failure.resource, &failure.node);
        format!("crm_resource --cleanup --resource {resource} --node {node}")
    };
    let limping = others
        .iter()
        .filter(|failure| failure.status == DEGRADED && !failure.over);
    notes.extend(limping.map(|failure| Note::new(failure.in_words(), cleanup(failure))));
    let addressed = wanted.iter().filter(|wanted| wanted.kind == Kind::Address);
    let served = addressed
        .clone()
        .any(|address| !state.running(&address.resource).is_empty());
    let verdict = if !state.quorum || applied.is_none() || (addressed.count() > 0 && !served) {
        Verdict::Down
    } else if notes.is_empty() {
        Verdict::Ok
    } else {
        Verdict::Degraded
    };
    // What was repaired is worth knowing, and no reason to worry.
    let earlier = others.iter().filter(|failure| failure.status != DEGRADED);
    notes.extend(earlier.map(|failure| {
        let problem = format!("repaired since: {} ({})", failure.in_words(), failure.when);
        Note::new(problem, cleanup(failure))
    }));
    if !state.fencing {
        // Chosen by the administrator: said every time, and no reason to call
        // a cluster degraded that does what it was told.
        notes.push(Note::new(
            WITHOUT_FENCING,
            "write [fencing] and run storhaug setup",
        ));
    }
    Status {
        cluster,
        verdict,
        state,
        wanted,
        addresses,
        missing,
        notes,
        clients: None,
    }
}
