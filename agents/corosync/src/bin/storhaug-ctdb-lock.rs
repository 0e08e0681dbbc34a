//! CTDB's cluster lock over Corosync: a cluster mutex helper.
//!
//! CTDB starts it (`cluster lock = !/usr/libexec/storhaug/storhaug-ctdb-lock`)
//! and reads one character from it: `0`, the lock is held for as long as this
//! process lives; `1`, somebody else has it, or may have it; `3`, it could not
//! be found out. Standard error goes to CTDB's log. Source: Samba,
//! `ctdb/doc/cluster_mutex_helper.txt`.
//!
//! SIGTERM and the end of CTDB simply end the process: Corosync then tells the
//! others that it has left the group, at once.

use std::{
    collections::BTreeSet,
    io::{self, Write},
    os::fd::AsFd,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{prctl, signal::Signal},
    unistd::{Pid, getppid},
};
use storhaug_agents::{deadline::Deadline, exec::Host};
use storhaug_corosync::{
    lock::{Lock, Verdict},
    lost::Lost,
    membership::{Change, Membership, Sent},
};

/// The name of the process group.
const GROUP: &str = "storhaug-ctdb-lock";

/// How often Pacemaker is asked whether absent nodes are dead by now.
const LOOK: Duration = Duration::from_millis(250);

/// How long Pacemaker may take to answer.
const ANSWER: Duration = Duration::from_secs(5);

/// How long to wait for the fencing of absent nodes. CTDB itself gives up
/// after 120 s (`ctdb_recoverd.c`, `_cluster_lock_lock`), and tries again.
const CLAIM: Duration = Duration::from_secs(100);

/// How often to see whether CTDB is still there, beside being told.
const PARENT: Duration = Duration::from_secs(1);

/// The answers that CTDB knows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Answer {
    Held = b'0' as isize,
    Contention = b'1' as isize,
    Error = b'3' as isize,
}

fn main() -> ExitCode {
    let mut said = None;
    match contend(&mut said) {
        Ok(why) => {
            if said == Some(Answer::Held) {
                log(&format!("gave the lock up: {why}"));
                return ExitCode::SUCCESS;
            }
            // CTDB says itself that there was contention.
            if said.is_none() {
                say(&mut said, Answer::Contention);
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            log(&format!("{error:#}"));
            if said.is_none() {
                say(&mut said, Answer::Error);
            }
            ExitCode::FAILURE
        }
    }
}

/// Contends for the lock, and holds it. Returns why it is not held, or not any
/// more.
fn contend(said: &mut Option<Answer>) -> anyhow::Result<&'static str> {
    // Asked first: should CTDB end in between, the numbers differ.
    let parent = getppid();
    prctl::set_pdeathsig(Signal::SIGTERM).context("following the parent's end")?;
    if parent == Pid::from_raw(1) || parent != getppid() {
        bail!("CTDB, which started this, is gone");
    }
    let membership = Membership::connect().context("is corosync running?")?;
    if !membership.quorate()? {
        log("this part of the cluster has no quorum");
        return Ok("this part of the cluster has no quorum");
    }
    let mut lock = Lock::new(membership.me()?);
    let mut claim = Claim::default();
    membership.join(GROUP)?;
    loop {
        let mut verdicts = Vec::new();
        for change in membership.changes()? {
            verdicts.push(match change {
                Change::Quorum(quorate) => lock.quorum(quorate),
                Change::Group(members, merged) => lock.group(&members, merged),
                Change::Heard(sender) => lock.heard(sender),
            });
        }
        if claim.due() {
            verdicts.push(claim.look(&mut lock, &membership)?);
        }
        for verdict in verdicts {
            match verdict {
                Verdict::Wait => {}
                Verdict::Look => claim.again(),
                Verdict::Confirm => claim.confirm = true,
                Verdict::Hold => say(said, Answer::Held),
                Verdict::Leave(why) => return Ok(why),
            }
        }
        claim.send(&membership)?;
        if claim.began.is_some_and(|began| began.elapsed() > CLAIM) && !lock.holds() {
            let owed: Vec<_> = lock.owed().map(|node| node.to_string()).collect();
            log(&format!(
                "Pacemaker has not fenced node {} yet, which may hold the lock",
                owed.join(", ")
            ));
            return Ok("an absent node may hold the lock");
        }
        if getppid() != parent || !wait(&membership, claim.pause())? {
            return Ok("CTDB has ended");
        }
    }
}

/// What is left to do before a claim becomes the lock.
#[derive(Default)]
struct Claim {
    /// When the claim was made.
    began: Option<Instant>,
    /// When to look at the nodes next.
    next: Option<Instant>,
    /// A message is to be sent.
    confirm: bool,
    /// Pacemaker did not answer, and the log says so.
    complained: bool,
}

impl Claim {
    /// Looks at the nodes: at once for the first time, then every now and then.
    fn again(&mut self) {
        let now = Instant::now();
        self.next = Some(if self.began.is_none() {
            now
        } else {
            now + LOOK
        });
        self.began.get_or_insert(now);
    }

    fn due(&self) -> bool {
        self.next.is_some_and(|next| next <= Instant::now())
    }

    fn pause(&self) -> Duration {
        if self.confirm {
            return LOOK / 10;
        }
        let next = self
            .next
            .map(|next| next.saturating_duration_since(Instant::now()));
        next.map_or(PARENT, |pause| pause.min(PARENT))
    }

    fn look(&mut self, lock: &mut Lock, membership: &Membership) -> anyhow::Result<Verdict> {
        self.next = None;
        let absent = membership.absent()?;
        if absent.is_empty() {
            return Ok(lock.nodes(&absent, &BTreeSet::new()));
        }
        let dead = match Lost::read(&Host, Deadline::after(ANSWER)) {
            Ok(lost) if !lost.fencing() && self.lease_is_over(membership)? => absent,
            Ok(lost) => absent
                .into_iter()
                .filter(|node| lost.gone(*node).is_some())
                .collect(),
            Err(error) => {
                if !self.complained {
                    log(&format!("{error:#}"));
                }
                self.complained = true;
                BTreeSet::new()
            }
        };
        // Who is absent is looked at after who is dead, so that nobody counts
        // as dead who is back.
        Ok(lock.nodes(&membership.absent()?, &dead))
    }

    /// Without fencing: whether a holder that was cut off must have noticed,
    /// if its node has not stood still.
    fn lease_is_over(&self, membership: &Membership) -> anyhow::Result<bool> {
        let lease = membership.patience()? * 2;
        Ok(self.began.is_some_and(|began| began.elapsed() > lease))
    }

    fn send(&mut self, membership: &Membership) -> anyhow::Result<()> {
        if self.confirm && membership.send(b"claim")? == Sent::Yes {
            self.confirm = false;
        }
        Ok(())
    }
}

/// Waits for Corosync to tell something, at most `pause`. False when nobody
/// reads our answer any more.
fn wait(membership: &Membership, pause: Duration) -> anyhow::Result<bool> {
    let stdout = io::stdout();
    let [quorum, cpg] = membership.descriptors()?;
    let mut fds = [
        PollFd::new(quorum, PollFlags::POLLIN),
        PollFd::new(cpg, PollFlags::POLLIN),
        PollFd::new(stdout.as_fd(), PollFlags::empty()),
    ];
    let timeout = PollTimeout::try_from(pause).unwrap_or(PollTimeout::MAX);
    match poll(&mut fds, timeout) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => {}
        Err(error) => return Err(error).context("waiting for corosync"),
    }
    let gone = fds[2].revents();
    Ok(!gone.is_some_and(|events| events.intersects(PollFlags::POLLERR | PollFlags::POLLHUP)))
}

/// Tells CTDB. Whether it still reads is seen by [`wait`].
fn say(said: &mut Option<Answer>, answer: Answer) {
    *said = Some(answer);
    let mut stdout = io::stdout();
    let _ = stdout
        .write_all(&[answer as u8])
        .and_then(|()| stdout.flush());
}

fn log(message: &str) {
    eprintln!("storhaug-ctdb-lock: {message}");
}
