//! `storhaug-ctdb-lock` as CTDB runs it, on nodes in network namespaces with a
//! real Corosync. What it does is seen from the character that it answers with,
//! and from its end.

#![allow(clippy::unwrap_used, reason = "in a test, an error is a panic")]

use std::io::Read;
use std::os::fd::AsFd;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use net::{Host, Net, SOON, wait};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

mod net;

const HELD: Option<char> = Some('0');
const CONTENTION: Option<char> = Some('1');
const ERROR: Option<char> = Some('3');

/// Long enough to see that something does not happen: several looks at what
/// Pacemaker knows.
const WHILE: Duration = Duration::from_secs(2);

/// A helper, and the end of the pipe that CTDB reads.
struct Helper {
    child: Child,
    answers: Option<ChildStdout>,
}

impl Helper {
    fn start(host: &Host) -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "a program that lives on after its answer"
        )]
        let mut command = Command::new(env!("CARGO_BIN_EXE_storhaug-ctdb-lock"));
        let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", host.directory.display());
        command
            .env("PATH", path)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = host.run(move || command.spawn().unwrap());
        let answers = child.stdout.take();
        Self { child, answers }
    }

    /// What it answers, if it does in time.
    fn answer(&mut self, within: Duration) -> Option<char> {
        let answers = self.answers.as_mut().unwrap();
        let mut fds = [PollFd::new(answers.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(within).unwrap();
        if poll(&mut fds, timeout).unwrap() == 0 {
            return None;
        }
        let mut answer = [0];
        answers.read_exact(&mut answer).unwrap();
        Some(answer[0].into())
    }

    fn until_over(&mut self) {
        wait("the helper to end", || self.child.try_wait().unwrap());
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a new helper answers.
fn asked(host: &Host) -> Option<char> {
    Helper::start(host).answer(SOON)
}

#[test]
fn one_has_the_lock_until_it_ends() {
    let net = Net::cluster(2);
    let (first, second) = (&net.nodes[0], &net.nodes[1]);
    let mut holder = Helper::start(first);
    assert_eq!(holder.answer(SOON), HELD);
    assert_eq!(asked(second), CONTENTION);
    assert_eq!(asked(first), CONTENTION, "on the same node");

    // CTDB wants it to end, or is not there any more.
    for told in [true, false] {
        if told {
            let pid = Pid::from_raw(holder.child.id().cast_signed());
            kill(pid, Signal::SIGTERM).unwrap();
        } else {
            holder.answers = None;
        }
        holder.until_over();
        // That it ended is told to the others in a moment.
        holder = wait("the lock to be free", || {
            let mut next = Helper::start(second);
            (next.answer(SOON) == HELD).then_some(next)
        });
    }
}

#[test]
fn a_lock_is_free_again_when_its_holders_node_is_known_to_be_dead() {
    let net = Net::cluster(3);
    let mut holder = Helper::start(&net.nodes[2]);
    assert_eq!(holder.answer(SOON), HELD);

    net.cut(3);
    holder.until_over();
    net.nodes[2].until_status("quorum to be lost", |status| !status.quorate);
    assert_eq!(asked(&net.nodes[2]), CONTENTION, "without quorum");

    net.nodes[0].until_status("node3 to be missed", |status| {
        status.quorate && status.group.len() == 2
    });
    let mut next = Helper::start(&net.nodes[0]);
    assert_eq!(next.answer(WHILE), None, "it may still be held");
    assert_eq!(asked(&net.nodes[1]), CONTENTION, "somebody else waits");
    net.nodes[0].fenced(&[3]);
    assert_eq!(next.answer(SOON), HELD);
    assert_eq!(asked(&net.nodes[1]), CONTENTION);
}

#[test]
fn without_corosync_there_is_no_lock() {
    let net = Net::new(1);
    assert_eq!(asked(&net.nodes[0]), ERROR);
}
