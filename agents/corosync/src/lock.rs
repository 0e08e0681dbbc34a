//! Who holds CTDB's cluster lock: the rule, without the cluster.
//!
//! Every contender is a process in one CPG group, whose order of joins is the
//! same on every node. The rule:
//!
//! 1. Who is alone in the first configuration of the group that it sees, and
//!    in the quorate part of the cluster, has the claim. Everybody else leaves
//!    at once: contention.
//! 2. A node that was not a member when the claim was made may have held the
//!    lock, and may live on behind a cut cable. So the claim becomes the lock
//!    only when each such node is known to be dead. One that comes back before
//!    may have brought its holder along: contention.
//! 3. Before that, a message to the group makes sure that every change of the
//!    group has arrived that came before what rule 2 looked at.
//! 4. The lock is given up when quorum is gone, and when another part of the
//!    cluster, with contenders of its own, is merged with this one.
//!
//! A holder whose node is cut off learns of it a little later than the others,
//! and a frozen one not at all. Neither does harm: nobody gets the lock before
//! that node is dead. There is no state to hand over, and none on a disk.
//!
//! In a cluster without fencing no node is ever known to be dead. There, by
//! the administrator's choice, a lease takes its place, which is a guess.

use std::collections::BTreeSet;

/// A process in the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Member {
    /// Corosync's number of the node.
    pub node: u32,
    /// The process there.
    pub pid: u32,
}

/// What a contender has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Wait for the next event.
    Wait,
    /// Find out which nodes are absent, and which of those are dead: see
    /// [`Lock::nodes`]. Again, after a while, when it says the same again.
    Look,
    /// Send a message to the group: see [`Lock::heard`].
    Confirm,
    /// Say that the lock is held, and hold it.
    Hold,
    /// Leave the group: the lock is not, or no longer, ours.
    Leave(&'static str),
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Phase {
    /// No configuration of the group has been seen.
    Joining,
    /// Alone at the claim; the nodes that have to be known to be dead, as soon
    /// as they are known at all.
    Claiming(Option<BTreeSet<u32>>),
    /// A message is on its way round.
    Confirming,
    Holding,
    Over,
}

/// One contender for the lock.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lock {
    me: Member,
    phase: Phase,
}

impl Lock {
    /// A contender that is about to join the group, in the quorate part of the
    /// cluster.
    pub fn new(me: Member) -> Self {
        let phase = Phase::Joining;
        Self { me, phase }
    }

    /// Quorum was lost or gained.
    pub fn quorum(&mut self, quorate: bool) -> Verdict {
        match (&self.phase, quorate) {
            (Phase::Over, _) | (_, true) => Verdict::Wait,
            (_, false) => self.leave("this part of the cluster has no quorum"),
        }
    }

    /// The group's members have changed; `merged` when some of them came from
    /// another part of the cluster, with their node.
    pub fn group(&mut self, members: &[Member], merged: bool) -> Verdict {
        match self.phase {
            Phase::Over => Verdict::Wait,
            Phase::Joining if !members.contains(&self.me) => Verdict::Wait,
            Phase::Joining if members.len() > 1 => self.leave("somebody else has the lock"),
            Phase::Joining => {
                self.phase = Phase::Claiming(None);
                Verdict::Look
            }
            _ if merged => self.leave("another part of the cluster has come back"),
            _ => Verdict::Wait,
        }
    }

    /// Which nodes are not members now, and which were known to be dead just
    /// before.
    pub fn nodes(&mut self, absent: &BTreeSet<u32>, dead: &BTreeSet<u32>) -> Verdict {
        let Phase::Claiming(owed) = &mut self.phase else {
            return Verdict::Wait;
        };
        let owed = owed.get_or_insert_with(|| absent.clone());
        if !owed.is_subset(absent) {
            return self.leave("a node came back that may have held the lock");
        }
        owed.retain(|node| !dead.contains(node));
        if !owed.is_empty() {
            return Verdict::Look;
        }
        self.phase = Phase::Confirming;
        Verdict::Confirm
    }

    /// A message of `sender` to the group has come round.
    pub fn heard(&mut self, sender: Member) -> Verdict {
        if self.phase != Phase::Confirming || sender != self.me {
            return Verdict::Wait;
        }
        self.phase = Phase::Holding;
        Verdict::Hold
    }

    /// Whether the lock is held.
    pub fn holds(&self) -> bool {
        self.phase == Phase::Holding
    }

    /// The nodes that still have to be known to be dead.
    pub fn owed(&self) -> impl Iterator<Item = u32> {
        let owed = match &self.phase {
            Phase::Claiming(owed) => owed.as_ref(),
            _ => None,
        };
        owed.into_iter().flatten().copied()
    }

    fn leave(&mut self, why: &'static str) -> Verdict {
        self.phase = Phase::Over;
        Verdict::Leave(why)
    }
}

#[cfg(test)]
mod model;
