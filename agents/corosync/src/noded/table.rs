//! What this node knows of every virtual address: who holds it, and which
//! connections it has.
//!
//! Only the holder of an address says what connections it has. When it changes
//! hands, the connections of the one before are kept for a while beside those
//! of the new one, so that a second failover shortly after the first tickles
//! the clients that the first did not reach.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use storhaug_agents::daemon::{Reason, Tickled};

use super::connection::Connection;
use super::message::Part;

/// How long the connections of an earlier holder are kept, once there is a new
/// one: a client that did not answer three rounds of tickles in that time and
/// sent nothing by itself is not there.
const INHERITED: Duration = Duration::from_secs(60);

/// How long an address that nobody holds is remembered: longer than any
/// failover, and than an administrator who stopped it to look at something.
const ABANDONED: Duration = Duration::from_secs(3600);

/// All addresses.
#[derive(Debug, Default)]
pub struct Table(BTreeMap<IpAddr, Entry>);

/// One address.
#[derive(Debug, Default)]
pub struct Entry {
    /// The node that holds it.
    pub holder: Option<u32>,
    /// Since when, in milliseconds after 1970. A time during which nobody held
    /// it does not count, if it is the same node as before.
    pub since: Option<u64>,
    /// Another node, which held it before; the last that did, if nobody holds it.
    pub previous: Option<u32>,
    /// `since` and `previous` of the last holder, should it be the next as well.
    before: (Option<u64>, Option<u32>),
    /// The connections that the holder has; of the last holder, if there is none.
    live: BTreeSet<Connection>,
    /// The connections of earlier holders.
    inherited: BTreeSet<Connection>,
    /// The holder's connections as far as they have been told anew.
    retold: Option<BTreeSet<Connection>>,
    /// When the present holder, or the time without one, began.
    changed: Option<Instant>,
    /// How its last holder lost it, if nobody holds it.
    left: Option<Left>,
    /// The last time that it went from one node to another.
    pub moved: Option<Move>,
    /// What its holder, or its last one, has done about its clients.
    pub tickled: Option<Tickled>,
}

/// How a node lost an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left {
    /// When it was last there, as far as known.
    pub at: Option<Instant>,
    /// Why, as far as known.
    pub reason: Reason,
}

impl Left {
    /// Nothing is known of it.
    pub const UNKNOWN: Self = Self {
        at: None,
        reason: Reason::Unknown,
    };
}

/// An address went from one node to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Move {
    /// The node that had it.
    pub from: u32,
    /// The node that has it since.
    pub to: u32,
    /// When it came there, in milliseconds after 1970.
    pub at: u64,
    /// For how many milliseconds nobody had it.
    pub away_ms: Option<u64>,
    /// Why it left.
    pub reason: Reason,
}

impl Table {
    /// The addresses, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&IpAddr, &Entry)> {
        self.0.iter()
    }

    /// An address, if anything is known of it.
    pub fn get(&self, vip: IpAddr) -> Option<&Entry> {
        self.0.get(&vip)
    }

    /// An address, known from now on.
    pub fn entry(&mut self, vip: IpAddr) -> &mut Entry {
        self.0.entry(vip).or_default()
    }

    /// A node is gone from the group, and holds nothing any more.
    pub fn gone(&mut self, node: u32, left: Left, now: Instant) {
        for entry in self.0.values_mut() {
            entry.release(node, left, now);
        }
    }

    /// A node that was lost has been fenced.
    pub fn fenced(&mut self, node: u32) {
        for entry in self.0.values_mut() {
            entry.explain(node, Reason::Lost, Reason::Fenced);
        }
    }

    /// Forgets what is too old to be of use.
    pub fn forget(&mut self, now: Instant) {
        self.0.retain(|_, entry| {
            let age = entry
                .changed
                .map_or(Duration::ZERO, |changed| now.duration_since(changed));
            if entry.holder.is_some() && age >= INHERITED {
                entry.inherited = BTreeSet::new();
            }
            entry.holder.is_some() || age < ABANDONED
        });
    }
}

impl Entry {
    /// `node` holds the address. Nothing happens if it did already.
    pub fn hold(&mut self, node: u32, since: u64, now: Instant) {
        if self.holder == Some(node) {
            return;
        }
        if self.holder.is_none() && self.previous == Some(node) {
            // A daemon that was restarted, not an address that moved.
            let (earlier, previous) = self.before;
            self.since = earlier.or(Some(since));
            self.previous = previous;
        } else {
            if let Some(from) = self.holder.or(self.previous) {
                let left = self.left.unwrap_or(Left::UNKNOWN);
                let away = left.at.map(|at| now.duration_since(at).as_millis());
                self.moved = Some(Move {
                    from,
                    to: node,
                    at: since,
                    away_ms: away.and_then(|away| u64::try_from(away).ok()),
                    reason: left.reason,
                });
            }
            self.tickled = None;
            self.previous = self.holder.or(self.previous);
            self.since = Some(since);
        }
        self.left = None;
        self.holder = Some(node);
        self.changed = Some(now);
        self.retold = None;
        self.inherited.append(&mut self.live);
    }

    /// `node` does not hold the address any more. Nothing happens if it did not.
    pub fn release(&mut self, node: u32, left: Left, now: Instant) {
        if self.holder == Some(node) {
            self.left = Some(left);
            self.before = (self.since.take(), self.previous);
            self.previous = self.holder.take();
            self.changed = Some(now);
            self.retold = None;
        }
    }

    /// The holder says who held the address before it, which only those who
    /// were there know.
    pub fn succeeds(&mut self, previous: Option<u32>) {
        self.previous = self.previous.or(previous);
    }

    /// More is known of why the address left `node`: not only `before`.
    pub fn explain(&mut self, node: u32, before: Reason, reason: Reason) {
        let previous = self.previous;
        let left = self.left.as_mut().filter(|_| previous == Some(node));
        let moved = self.moved.as_mut().filter(|moved| moved.from == node);
        let told = match (left, moved) {
            (Some(left), _) => &mut left.reason,
            (None, Some(moved)) => &mut moved.reason,
            (None, None) => return,
        };
        if *told == before {
            *told = reason;
        }
    }

    /// Another node knows of this move. The latest counts, and what was seen
    /// here before what was only told.
    pub fn told(&mut self, moved: Move) {
        if self.moved.is_none_or(|own| own.at < moved.at) {
            self.moved = Some(moved);
        }
    }

    /// The holder has said something about its connections.
    pub fn update(&mut self, part: Part, added: &[Connection], removed: &[Connection]) {
        if part == Part::Inherited {
            self.inherited
                .extend(added.iter().filter(|c| !self.live.contains(c)));
            return;
        }
        if part.begins() {
            self.retold = Some(BTreeSet::new());
        }
        for connection in removed {
            self.live.remove(connection);
            self.inherited.remove(connection);
            if let Some(retold) = &mut self.retold {
                retold.remove(connection);
            }
        }
        for connection in added {
            self.live.insert(*connection);
            self.inherited.remove(connection);
            if let Some(retold) = &mut self.retold {
                retold.insert(*connection);
            }
        }
        if part.ends()
            && let Some(retold) = self.retold.take()
        {
            self.live = retold;
        }
    }

    /// Another node remembers these of an address that nobody holds. Nothing
    /// happens if somebody does.
    pub fn orphan(&mut self, holder: Option<u32>, connections: &[Connection], now: Instant) {
        if self.holder.is_none() {
            self.previous = self.previous.or(holder);
            self.changed = self.changed.or(Some(now));
            self.inherited
                .extend(connections.iter().filter(|c| !self.live.contains(c)));
        }
    }

    /// What is different in `now` from what the holder had: added, removed.
    pub fn differs(&self, now: &BTreeSet<Connection>) -> (Vec<Connection>, Vec<Connection>) {
        let added = now.difference(&self.live).copied().collect();
        let removed = self.live.difference(now).copied().collect();
        (added, removed)
    }

    /// The connections that the holder has.
    pub fn live(&self) -> Vec<Connection> {
        self.live.iter().copied().collect()
    }

    /// The connections of earlier holders that the present one does not have.
    pub fn inherited(&self) -> Vec<Connection> {
        self.inherited.iter().copied().collect()
    }

    /// How many connections are known.
    pub fn clients(&self) -> usize {
        self.live.len() + self.inherited.len()
    }

    /// The clients that have, or had with an earlier holder, a connection to
    /// this port.
    pub fn clients_at(&self, port: u16) -> BTreeSet<IpAddr> {
        let connections = self.live.iter().chain(&self.inherited);
        connections
            .filter(|connection| connection.server_port == port)
            .map(|connection| connection.client)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(port: u16) -> Connection {
        Connection {
            client: "10.0.0.7".parse().unwrap(),
            client_port: port,
            server_port: 445,
        }
    }

    #[test]
    fn the_list_is_not_used_up_by_a_failover() {
        let now = Instant::now();
        let mut entry = Entry::default();
        entry.hold(1, 0, now);
        entry.update(Part::Change, &[connection(1), connection(2)], &[]);
        entry.release(1, Left::UNKNOWN, now);
        entry.hold(2, 0, now);
        entry.update(Part::Change, &[connection(2), connection(3)], &[]);
        assert_eq!(entry.live(), [connection(2), connection(3)]);
        assert_eq!(entry.inherited(), [connection(1)]);
        assert_eq!(entry.clients_at(445), ["10.0.0.7".parse().unwrap()].into());
        assert!(entry.clients_at(2049).is_empty());
        entry.release(2, Left::UNKNOWN, now);
        entry.hold(3, 0, now);
        assert_eq!(
            entry.inherited(),
            [connection(1), connection(2), connection(3)]
        );
        assert_eq!((entry.holder, entry.previous), (Some(3), Some(2)));
    }

    #[test]
    fn a_holder_that_was_away_alone_did_not_move() {
        let now = Instant::now();
        let mut entry = Entry::default();
        entry.hold(1, 10, now);
        entry.hold(2, 20, now);
        entry.release(2, Left::UNKNOWN, now);
        assert_eq!((entry.since, entry.previous), (None, Some(2)));
        entry.hold(2, 30, now);
        assert_eq!((entry.since, entry.previous), (Some(20), Some(1)));
        entry.release(2, Left::UNKNOWN, now);
        entry.hold(1, 40, now);
        assert_eq!((entry.since, entry.previous), (Some(40), Some(2)));
        let mut told = Entry::default();
        told.orphan(Some(1), &[], now);
        told.hold(1, 50, now);
        assert_eq!((told.since, told.previous), (Some(50), None));
    }

    #[test]
    fn a_move_is_explained_before_and_after_it_ends() {
        let now = Instant::now();
        let left = |reason| Left {
            at: Some(now),
            reason,
        };
        let mut table = Table::default();
        let vip = "10.0.0.100".parse().unwrap();
        table.entry(vip).hold(1, 10, now);
        assert_eq!(table.entry(vip).moved, None, "it came from nowhere");
        table.gone(1, left(Reason::Lost), now);
        table.fenced(1);
        table
            .entry(vip)
            .hold(2, 20, now + Duration::from_millis(9300));
        let expected = Move {
            from: 1,
            to: 2,
            at: 20,
            away_ms: Some(9300),
            reason: Reason::Fenced,
        };
        assert_eq!(table.entry(vip).moved, Some(expected));

        table.entry(vip).release(2, left(Reason::Unknown), now);
        table
            .entry(vip)
            .hold(3, 30, now + Duration::from_millis(250));
        table
            .entry(vip)
            .explain(2, Reason::Unknown, Reason::Standby);
        table.fenced(2);
        let moved = table.entry(vip).moved.unwrap();
        assert_eq!(
            (moved.reason, moved.away_ms),
            (Reason::Standby, Some(250)),
            "it was not lost"
        );

        table.entry(vip).hold(1, 40, now);
        let moved = table.entry(vip).moved.unwrap();
        let unknown = (3, 1, None, Reason::Unknown);
        assert_eq!(
            (moved.from, moved.to, moved.away_ms, moved.reason),
            unknown,
            "without a word"
        );
        table.entry(vip).told(expected);
        assert_eq!(table.entry(vip).moved, Some(moved), "an older one");
        let later = Move { at: 50, ..expected };
        table.entry(vip).told(later);
        assert_eq!(table.entry(vip).moved, Some(later));
    }

    #[test]
    fn earlier_connections_are_forgotten_after_a_while_and_only_with_a_new_holder() {
        let now = Instant::now();
        let vip = "10.0.0.100".parse().unwrap();
        let mut table = Table::default();
        table.entry(vip).hold(1, 0, now);
        table.entry(vip).update(Part::Only, &[connection(1)], &[]);
        table.gone(1, Left::UNKNOWN, now);
        table.forget(now + INHERITED);
        assert_eq!(table.entry(vip).clients(), 1);
        table.entry(vip).hold(2, 0, now);
        table.forget(now + INHERITED);
        assert_eq!(table.entry(vip).clients(), 0);
        table.gone(2, Left::UNKNOWN, now);
        table.forget(now + ABANDONED);
        assert!(table.get(vip).is_none());
    }

    #[test]
    fn telling_all_again_replaces_at_the_end_and_loses_nothing_before() {
        let mut entry = Entry::default();
        entry.hold(1, 0, Instant::now());
        entry.update(Part::Change, &[connection(1), connection(2)], &[]);
        entry.update(Part::First, &[connection(3)], &[]);
        assert_eq!(entry.live(), [connection(1), connection(2), connection(3)]);
        entry.update(Part::Change, &[connection(4)], &[]);
        entry.update(Part::Last, &[connection(2)], &[]);
        assert_eq!(entry.live(), [connection(2), connection(3), connection(4)]);
    }

    #[test]
    fn orphans_do_not_touch_an_address_that_is_held() {
        let now = Instant::now();
        let mut entry = Entry::default();
        entry.orphan(Some(1), &[connection(1)], now);
        assert_eq!((entry.clients(), entry.previous), (1, Some(1)));
        entry.hold(2, 0, now);
        entry.orphan(Some(1), &[connection(2)], now);
        assert_eq!(entry.inherited(), [connection(1)]);
    }
}
