//! Every order of events in a small cluster, played through.
//!
//! The cluster falls into two parts in any way, and is whole again before or
//! after a node was fenced; the parts form anew at different times, so that one
//! may have a new holder before the other has noticed anything. Contenders
//! start, die, and linger: one that has to leave is still in the group for as
//! long as it likes. Each one's events arrive as late as they can, which is also
//! how a holder behaves that has stopped responding. Searched exhaustively, as
//! far as the budget of disturbances goes: after every step there is at most one
//! holder, and from every state the cluster comes to rest with one by itself.
//!
//! What is left to fencing, and not to be seen here: a helper that is frozen for
//! ever. One that holds the lock still has it, and nobody else gets it before
//! its node is dead; one that lingers keeps the others from getting the lock.
//! Pacemaker sees both in CTDB, which has no leader then, and the daemon that
//! is restarted, or the node, takes its helper with it.

use std::collections::{BTreeSet, HashSet, VecDeque};

use super::{Lock, Member, Phase, Verdict};

/// Something that Corosync has to tell a contender.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Group {
    Changed(Vec<Member>, bool),
    Heard(Member),
}

/// A process that contends for the lock. CPG and quorum are two connections,
/// with no order between them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Contender {
    lock: Lock,
    group: VecDeque<Group>,
    quorum: VecDeque<bool>,
    looking: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
struct Node {
    /// Powered on.
    alive: bool,
    /// The members that its Corosync sees.
    view: BTreeSet<u32>,
    contender: Option<Contender>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Cluster {
    nodes: Vec<Node>,
    two_node: bool,
    /// The nodes, one bit each, whose cable to the rest is cut.
    cut: u32,
    /// What Pacemaker in the quorate part believes.
    dead: BTreeSet<u32>,
    pids: u32,
    /// How many more of each disturbance there may be.
    cuts: u8,
    deaths: u8,
    starts: u8,
}

/// What may happen next.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// The cable between these nodes, one bit each, and the rest is cut.
    Cut(u32),
    Heal,
    /// The members that can reach this node form a ring.
    Form(u32),
    /// The quorate part has this node fenced.
    Fence(u32),
    Boot(u32),
    /// Pacemaker has noticed that the node is back.
    Notice(u32),
    Start(u32),
    Kill(u32),
    /// A contender that had to leave has left.
    Exit(u32),
    Group(u32),
    Quorum(u32),
    Look(u32),
}

impl Cluster {
    fn new(nodes: u32, two_node: bool, cuts: u8, deaths: u8, starts: u8) -> Self {
        let view: BTreeSet<u32> = (0..nodes).collect();
        let node = Node {
            alive: true,
            view,
            contender: None,
        };
        Self {
            nodes: vec![node; nodes as usize],
            two_node,
            cut: 0,
            dead: BTreeSet::new(),
            pids: 0,
            cuts,
            deaths,
            starts,
        }
    }

    fn node(&mut self, id: u32) -> &mut Node {
        &mut self.nodes[id as usize]
    }

    fn ids(&self) -> std::ops::Range<u32> {
        0..u32::try_from(self.nodes.len()).unwrap()
    }

    fn alive(&self, id: u32) -> bool {
        self.nodes[id as usize].alive
    }

    /// The living nodes that the cables let this one reach.
    fn reach(&self, id: u32) -> BTreeSet<u32> {
        let side = |id| self.cut >> id & 1;
        self.ids()
            .filter(|&other| self.alive(other) && side(id) == side(other))
            .collect()
    }

    fn view(&self, id: u32) -> &BTreeSet<u32> {
        &self.nodes[id as usize].view
    }

    /// Whether the ring that this node sees can pass a token round.
    fn turns(&self, id: u32) -> bool {
        *self.view(id) == self.reach(id)
    }

    fn quorate(&self, view: &BTreeSet<u32>) -> bool {
        self.two_node || view.len() * 2 > self.nodes.len()
    }

    /// The contender on a node, if it still listens.
    fn listener(&mut self, id: u32) -> Option<&mut Contender> {
        let contender = self.node(id).contender.as_mut();
        contender.filter(|contender| contender.lock.phase != Phase::Over)
    }

    fn members(&self, view: &BTreeSet<u32>) -> Vec<Member> {
        let contenders = view
            .iter()
            .filter(|&&id| self.alive(id))
            .filter_map(|&id| self.nodes[id as usize].contender.as_ref());
        contenders.map(|contender| contender.lock.me).collect()
    }

    fn tell(&mut self, view: &BTreeSet<u32>, merged: bool) {
        let members = self.members(view);
        for &id in view {
            if let Some(contender) = self.listener(id) {
                let event = Group::Changed(members.clone(), merged);
                contender.group.push_back(event);
            }
        }
    }

    fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        if self.cut == 0 && self.cuts > 0 {
            // The last node's part is the rest.
            steps.extend((1..1 << (self.nodes.len() - 1)).map(Step::Cut));
        }
        if self.cut != 0 {
            steps.push(Step::Heal);
        }
        for id in self.ids() {
            let node = &self.nodes[id as usize];
            if !node.alive {
                steps.push(Step::Boot(id));
                continue;
            }
            if !self.turns(id) {
                steps.push(Step::Form(id));
            }
            if self.quorate(&node.view) && self.turns(id) {
                let lost = self.ids().filter(|other| !node.view.contains(other));
                let lost = lost.filter(|other| !self.dead.contains(other));
                steps.extend(lost.map(Step::Fence));
            }
            if self.dead.contains(&id) && self.turns(id) && node.view.len() > 1 {
                steps.push(Step::Notice(id));
            }
            match &node.contender {
                // Pacemaker starts CTDB only on nodes that it knows to be up.
                None if self.starts > 0
                    && self.turns(id)
                    && self.quorate(&node.view)
                    && !self.dead.contains(&id) =>
                {
                    steps.push(Step::Start(id));
                }
                None => {}
                Some(contender) if contender.lock.phase == Phase::Over => {
                    steps.push(Step::Exit(id));
                }
                Some(contender) => {
                    if self.deaths > 0 {
                        steps.push(Step::Kill(id));
                    }
                    if !contender.group.is_empty() {
                        steps.push(Step::Group(id));
                    }
                    if !contender.quorum.is_empty() {
                        steps.push(Step::Quorum(id));
                    }
                    if contender.looking {
                        steps.push(Step::Look(id));
                    }
                }
            }
        }
        steps
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Cut(part) => {
                self.cuts -= 1;
                self.cut = part;
            }
            Step::Heal => self.cut = 0,
            Step::Form(id) => self.form(&self.reach(id)),
            Step::Fence(id) => {
                let node = self.node(id);
                node.alive = false;
                node.contender = None;
                node.view.clear();
                self.dead.insert(id);
            }
            Step::Boot(id) => {
                let node = self.node(id);
                node.alive = true;
                node.view = BTreeSet::from([id]);
            }
            Step::Notice(id) => {
                self.dead.remove(&id);
            }
            Step::Start(id) => {
                self.starts -= 1;
                self.start(id);
            }
            Step::Kill(id) => {
                self.deaths -= 1;
                self.leave(id);
            }
            Step::Exit(id) => self.leave(id),
            Step::Group(id) => {
                let contender = self.node(id).contender.as_mut().unwrap();
                let verdict = match contender.group.pop_front().unwrap() {
                    Group::Changed(members, merged) => contender.lock.group(&members, merged),
                    Group::Heard(sender) => contender.lock.heard(sender),
                };
                self.obey(id, verdict);
            }
            Step::Quorum(id) => {
                let contender = self.node(id).contender.as_mut().unwrap();
                let quorate = contender.quorum.pop_front().unwrap();
                let verdict = contender.lock.quorum(quorate);
                self.obey(id, verdict);
            }
            Step::Look(id) => {
                let absent: BTreeSet<u32> = self
                    .ids()
                    .filter(|other| !self.view(id).contains(other))
                    .collect();
                // Only the quorate part learns of a fencing.
                let dead = self.dead.clone();
                let contender = self.node(id).contender.as_mut().unwrap();
                let verdict = contender.lock.nodes(&absent, &dead);
                self.obey(id, verdict);
            }
        }
    }

    /// A ring of these nodes forms; each tells its contender.
    fn form(&mut self, ring: &BTreeSet<u32>) {
        let quorate = self.quorate(ring);
        let before: Vec<BTreeSet<u32>> = ring.iter().map(|&id| self.view(id).clone()).collect();
        for &id in ring {
            self.node(id).view.clone_from(ring);
            if let Some(contender) = self.listener(id) {
                contender.quorum.push_back(quorate);
            }
        }
        // Contenders of nodes that come from different rings are merged.
        let holding: BTreeSet<u32> = self.members(ring).iter().map(|m| m.node).collect();
        let merged = ring
            .iter()
            .zip(&before)
            .any(|(_, view)| !holding.is_subset(view));
        self.tell(ring, merged);
    }

    fn start(&mut self, id: u32) {
        self.pids += 1;
        let me = Member {
            node: id,
            pid: self.pids,
        };
        let view = self.view(id).clone();
        self.node(id).contender = Some(Contender {
            lock: Lock::new(me),
            group: VecDeque::new(),
            quorum: VecDeque::new(),
            looking: false,
        });
        self.tell(&view, false);
    }

    fn leave(&mut self, id: u32) {
        self.node(id).contender = None;
        let view = self.view(id).clone();
        self.tell(&view, false);
    }

    fn obey(&mut self, id: u32, verdict: Verdict) {
        let turns = self.turns(id);
        let contender = self.node(id).contender.as_mut().unwrap();
        match verdict {
            Verdict::Wait | Verdict::Hold => {}
            Verdict::Look => contender.looking = true,
            Verdict::Confirm => {
                contender.looking = false;
                // Without a token the message waits for the next ring, and
                // comes after what that ring has to tell.
                let me = contender.lock.me;
                if turns {
                    contender.group.push_back(Group::Heard(me));
                } else {
                    let ring = self.reach(id);
                    self.form(&ring);
                    let contender = self.node(id).contender.as_mut().unwrap();
                    contender.group.push_back(Group::Heard(me));
                }
            }
            // It does nothing more, and is there until it exits.
            Verdict::Leave(_) => {
                contender.looking = false;
                contender.group.clear();
                contender.quorum.clear();
            }
        }
    }

    fn holders(&self) -> usize {
        let contenders = self.nodes.iter().filter_map(|n| n.contender.as_ref());
        contenders
            .filter(|contender| contender.lock.holds())
            .count()
    }

    /// Lets the cluster come to rest as it does by itself: cables mended,
    /// nodes fenced and booted, contenders started where there are none.
    fn settle(mut self) -> Self {
        self.cuts = 0;
        self.deaths = 0;
        for _ in 0..1000 {
            self.starts = 1;
            let waiting = |step: &Step| !matches!(step, Step::Fence(_) | Step::Boot(_));
            let steps = self.steps();
            let calm = steps
                .iter()
                .find(|step| waiting(step) && !matches!(step, Step::Start(_) | Step::Look(_)));
            let calm = calm.or_else(|| steps.iter().find(|step| !matches!(step, Step::Start(_))));
            match calm.or_else(|| steps.first().filter(|_| self.holders() == 0)) {
                Some(&step) => self.take(step),
                None => return self,
            }
        }
        panic!("it never comes to rest: {self:?}")
    }
}

fn search(start: Cluster) -> usize {
    let mut seen = HashSet::from([start.clone()]);
    let mut queue = VecDeque::from([start]);
    while let Some(cluster) = queue.pop_front() {
        for step in cluster.steps() {
            let mut next = cluster.clone();
            next.take(step);
            assert!(
                next.holders() <= 1,
                "two holders after {step:?}\nfrom {cluster:#?}"
            );
            if seen.insert(next.clone()) {
                let rest = next.clone().settle();
                assert_eq!(
                    rest.holders(),
                    1,
                    "no holder at rest: {rest:#?}\nfrom {next:#?}"
                );
                queue.push_back(next);
            }
        }
    }

    seen.len()
}

#[test]
fn one_holder_in_three_nodes() {
    let states = search(Cluster::new(3, false, 1, 0, 2));
    assert!(states > 1_000, "only {states} states were searched");
}

#[test]
fn one_holder_in_three_nodes_when_contenders_die() {
    let states = search(Cluster::new(3, false, 0, 2, 3));
    assert!(states > 500, "only {states} states were searched");
}

#[test]
fn one_holder_in_two_nodes_of_which_each_is_quorate() {
    let states = search(Cluster::new(2, true, 1, 0, 3));
    assert!(states > 1_000, "only {states} states were searched");
}

#[test]
fn one_holder_in_two_nodes_that_need_each_other() {
    let states = search(Cluster::new(2, false, 1, 0, 3));
    assert!(states > 500, "only {states} states were searched");
}

#[test]
fn one_holder_in_four_nodes_that_may_fall_into_halves() {
    let states = search(Cluster::new(4, false, 1, 0, 1));
    assert!(states > 1_000, "only {states} states were searched");
}
