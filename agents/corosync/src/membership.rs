//! A contender's connections to Corosync: its group, quorum, and what the
//! configuration and the members are.

use std::{
    collections::BTreeSet,
    os::fd::BorrowedFd,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, bail};
use rust_corosync::{CsError, DispatchFlags, NodeId, TrackFlags, cmap, cpg, quorum};

use storhaug_agents::deadline::{Deadline, until};

use crate::lock::Member;

/// How long Corosync may refuse to let this process join a group. The members
/// agree within milliseconds, once they have found each other.
const JOINING: Duration = Duration::from_secs(5);

/// How soon it is asked again.
const AGAIN: Duration = Duration::from_millis(20);

/// Something that Corosync told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Whether this part of the cluster has quorum.
    Quorum(bool),
    /// The members of the group, and whether some of them came from another
    /// part of the cluster.
    Group(Vec<Member>, bool),
    /// A message from this member.
    Heard(Member),
}

/// What the callbacks told since the last look. The library's callbacks are
/// plain functions: there is one membership in a process.
static CHANGES: Mutex<Vec<Change>> = Mutex::new(Vec::new());

fn push(change: Change) {
    let changes = CHANGES.lock();
    changes.unwrap_or_else(PoisonError::into_inner).push(change);
}

fn delivered(_: &cpg::Handle, _: String, node: NodeId, pid: u32, _: &[u8], _: usize) {
    let node = node.into();
    push(Change::Heard(Member { node, pid }));
}

fn changed(
    _: &cpg::Handle,
    _: &str,
    members: Vec<cpg::Address>,
    _: Vec<cpg::Address>,
    joined: Vec<cpg::Address>,
) {
    let merged = joined
        .iter()
        .any(|address| matches!(address.reason, cpg::Reason::NodeUp));
    let members = members.iter().map(|address| Member {
        node: address.nodeid.into(),
        pid: address.pid,
    });
    push(Change::Group(members.collect(), merged));
}

fn notified(_: &quorum::Handle, quorate: bool, _: quorum::RingId, _: Vec<NodeId>) {
    push(Change::Quorum(quorate));
}

/// The connections.
pub struct Membership {
    cpg: cpg::Handle,
    quorum: quorum::Handle,
    cmap: cmap::Handle,
}

impl std::fmt::Debug for Membership {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Membership").finish_non_exhaustive()
    }
}

impl Membership {
    /// Connects to this node's Corosync. From now on, [`Membership::changes`]
    /// tells when quorum is lost or gained.
    ///
    /// # Errors
    /// Corosync does not run here.
    pub fn connect() -> anyhow::Result<Self> {
        let model = quorum::ModelData::ModelV1(quorum::Model1Data {
            flags: quorum::Model1Flags::None,
            quorum_notification_fn: Some(notified),
            nodelist_notification_fn: None,
        });
        let (quorum, _) = quorum::initialize(&model, 0).context("connecting to quorum")?;
        quorum::trackstart(&quorum, TrackFlags::Changes).context("following quorum")?;
        let model = cpg::ModelData::ModelV1(cpg::Model1Data {
            flags: cpg::Model1Flags::None,
            deliver_fn: Some(delivered),
            confchg_fn: Some(changed),
            totem_confchg_fn: None,
        });
        let cpg = cpg::initialize(&model, 0).context("connecting to the process groups")?;
        let cmap = cmap::initialize(cmap::Map::Icmap).context("connecting to the map")?;
        Ok(Self { cpg, quorum, cmap })
    }

    /// This process, as the group knows it.
    ///
    /// # Errors
    /// Corosync is gone.
    pub fn me(&self) -> anyhow::Result<Member> {
        let node = cpg::local_get(&self.cpg).context("asking for this node's number")?;
        Ok(Member {
            node: node.into(),
            pid: std::process::id(),
        })
    }

    /// Joins a group.
    ///
    /// # Errors
    /// Corosync is gone, or does not let anybody in for some seconds.
    pub fn join(&self, group: &str) -> anyhow::Result<()> {
        // While the members agree on who they are, which is just when a lock
        // is sought, Corosync wants to be asked again (CS_ERR_TRY_AGAIN).
        let joined = until(
            Deadline::after(JOINING),
            AGAIN,
            "Corosync's members to agree",
            || match cpg::join(&self.cpg, group) {
                Ok(()) => Ok(Some(())),
                Err(CsError::CsErrTryAgain) => Ok(None),
                Err(error) => Err(error.into()),
            },
        );
        joined.with_context(|| format!("joining the group {group}"))
    }

    /// Sends a message to the group, in agreed order; it comes back here too.
    ///
    /// # Errors
    /// Corosync is gone, or does not take it now.
    pub fn send(&self, message: &[u8]) -> anyhow::Result<Sent> {
        match cpg::mcast_joined(&self.cpg, cpg::Guarantee::TypeAgreed, message) {
            Ok(()) => Ok(Sent::Yes),
            Err(CsError::CsErrTryAgain) => Ok(Sent::Later),
            Err(error) => Err(error).context("sending to the group"),
        }
    }

    /// What Corosync has told since, without waiting.
    ///
    /// # Errors
    /// Corosync is gone.
    pub fn changes(&self) -> anyhow::Result<Vec<Change>> {
        quorum::dispatch(&self.quorum, DispatchFlags::All).context("following quorum")?;
        cpg::dispatch(&self.cpg, DispatchFlags::All).context("following the group")?;
        let changes = CHANGES.lock();
        Ok(std::mem::take(
            &mut *changes.unwrap_or_else(PoisonError::into_inner),
        ))
    }

    /// Whether this part of the cluster has quorum, now.
    ///
    /// # Errors
    /// Corosync is gone.
    pub fn quorate(&self) -> anyhow::Result<bool> {
        quorum::getquorate(&self.quorum).context("asking for quorum")
    }

    /// What becomes readable when there are changes.
    ///
    /// # Errors
    /// Corosync is gone.
    pub fn descriptors(&self) -> anyhow::Result<[BorrowedFd<'_>; 2]> {
        let fds = [
            quorum::fd_get(&self.quorum).context("following quorum")?,
            cpg::fd_get(&self.cpg).context("following the group")?,
        ];
        #[expect(
            unsafe_code,
            reason = "the library's own descriptors, open as long as the handles that `self` owns"
        )]
        Ok(fds.map(|fd| unsafe { BorrowedFd::borrow_raw(fd) }))
    }

    /// The configured nodes that are not members now.
    ///
    /// # Errors
    /// Corosync is gone, or its configuration has no node list.
    pub fn absent(&self) -> anyhow::Result<BTreeSet<u32>> {
        let mut absent = BTreeSet::new();
        for entry in self.entries("nodelist.node.")? {
            if let (true, cmap::Data::UInt32(id)) =
                (entry.key_name().ends_with(".nodeid"), entry.data())
            {
                absent.insert(*id);
            }
        }
        if absent.is_empty() {
            bail!("corosync.conf has no nodelist with nodeids");
        }
        for entry in self.entries("runtime.members.")? {
            let id = entry
                .key_name()
                .strip_prefix("runtime.members.")
                .and_then(|key| key.strip_suffix(".status"))
                .and_then(|id| id.parse().ok());
            if let (Some(id), cmap::Data::String(status)) = (id, entry.data())
                && status == "joined"
            {
                absent.remove(&id);
            }
        }
        Ok(absent)
    }

    /// How long after a node stopped answering the others may still go without
    /// it: token and consensus timeout.
    ///
    /// # Errors
    /// Corosync is gone.
    pub fn patience(&self) -> anyhow::Result<Duration> {
        let mut patience = Duration::ZERO;
        for timeout in ["token", "consensus"] {
            let key = format!("runtime.config.totem.{timeout}");
            match cmap::get(&self.cmap, &key).with_context(|| format!("reading {key}"))? {
                cmap::Data::UInt32(ms) => patience += Duration::from_millis(ms.into()),
                other => bail!("reading {key}: {other} is no duration"),
            }
        }
        Ok(patience)
    }

    fn entries(&self, prefix: &str) -> anyhow::Result<cmap::CmapIntoIter> {
        let entries = cmap::CmapIterStart::new(&self.cmap, prefix);
        Ok(entries
            .with_context(|| format!("reading {prefix}*"))?
            .into_iter())
    }
}

/// Whether a message was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// It is on its way.
    Yes,
    /// Corosync is busy; try again.
    Later,
}
