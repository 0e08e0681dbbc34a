//! A system call that may never return, made by a child.
//!
//! On a file system whose server hangs, a process waits in the kernel where no
//! signal reaches it. So the call is made by a child that can be left behind,
//! and nobody waits for the child longer than until a deadline.

use std::{
    fs::File,
    io::{ErrorKind, Read},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    time::Duration,
};

use anyhow::{Context, bail};
use nix::{
    errno::Errno,
    fcntl::OFlag,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{Signal, kill},
        wait::{WaitPidFlag, waitpid},
    },
    unistd::{ForkResult, Pid, close, fork, getpid, pipe2, setsid, write},
};

use crate::deadline::Deadline;

/// How soon it is seen that an answer is not wanted any more.
const LOOK: Duration = Duration::from_secs(1);

/// What became of a system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It was done.
    Done,
    /// It failed.
    Failed(Errno),
    /// It had not returned by the deadline.
    Hung,
    /// It had not returned when its answer was not wanted any more.
    Unwanted,
}

/// Has a child make `call`, and waits for it until `deadline`.
///
/// `call` must do nothing but make system calls: the child is a copy of one
/// thread of this process, and has none of the others.
///
/// # Errors
/// No child can be made, or it ended without an answer.
pub fn call(deadline: Deadline, call: impl FnOnce() -> nix::Result<()>) -> anyhow::Result<Answer> {
    call_while(deadline, || true, call)
}

/// The same, as long as the answer is `wanted`.
///
/// # Errors
/// As [`call`].
pub fn call_while(
    deadline: Deadline,
    wanted: impl FnMut() -> bool,
    call: impl FnOnce() -> nix::Result<()>,
) -> anyhow::Result<Answer> {
    let (ours, theirs) = pipe2(OFlag::O_CLOEXEC).context("making a pipe")?;
    #[expect(
        unsafe_code,
        reason = "a child that only makes system calls; it takes no lock and allocates nothing"
    )]
    // SAFETY: nothing but async-signal-safe calls in the child, which never
    // returns from `answer`.
    let child = match unsafe { fork() }.context("making a child")? {
        ForkResult::Child => answer(&theirs, call),
        ForkResult::Parent { child } => child,
    };
    drop(theirs);
    if let Some(answer) = silent(&ours, deadline, wanted)? {
        leave(child);
        return Ok(answer);
    }
    let mut errno = [0; 4];
    let heard = File::from(ours).read_exact(&mut errno);
    // It has nothing left to do but to end.
    let _ = waitpid(child, None);
    match heard {
        Ok(()) => Ok(match i32::from_ne_bytes(errno) {
            0 => Answer::Done,
            errno => Answer::Failed(Errno::from_raw(errno)),
        }),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
            bail!("the child ended without an answer")
        }
        Err(error) => Err(error).context("reading the child's answer"),
    }
}

/// The child's whole life.
fn answer(to: &OwnedFd, call: impl FnOnce() -> nix::Result<()>) -> ! {
    // A group of its own, so that it is not waited for with the agent's; and
    // none of the pipes that somebody reads the agent's output from.
    let _ = setsid();
    for fd in 0..=2 {
        if fd != to.as_raw_fd() {
            let _ = close(fd);
        }
    }
    let errno = call().map_or_else(|errno| errno as i32, |()| 0);
    let _ = write(to, &errno.to_ne_bytes());
    loop {
        // Not `exit`: what the parent wants done at its end is not for here.
        let _ = kill(getpid(), Signal::SIGKILL);
    }
}

/// Waits until there is something to read, or nobody left to write it; says what
/// else has ended the wait.
fn silent(
    fd: &OwnedFd,
    deadline: Deadline,
    mut wanted: impl FnMut() -> bool,
) -> anyhow::Result<Option<Answer>> {
    loop {
        let left = deadline.earlier(LOOK).left();
        let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(fd.as_fd(), PollFlags::POLLIN)], left) {
            Ok(0) if deadline.expired() => return Ok(Some(Answer::Hung)),
            Ok(0) if !wanted() => return Ok(Some(Answer::Unwanted)),
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return Ok(None),
            Err(error) => return Err(error).context("waiting for the child"),
        }
    }
}

/// Kills a child, and does not wait for it to obey.
fn leave(child: Pid) {
    let _ = kill(child, Signal::SIGKILL);
    let _ = waitpid(child, Some(WaitPidFlag::WNOHANG));
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn answers() {
        let long = Deadline::after(Duration::from_secs(60));
        assert_eq!(call(long, || Ok(())).unwrap(), Answer::Done);
        let failed = call(long, || Err(Errno::ENOTCONN)).unwrap();
        assert_eq!(failed, Answer::Failed(Errno::ENOTCONN));
        let killed = call(long, || kill(getpid(), Signal::SIGKILL));
        assert!(
            killed
                .unwrap_err()
                .to_string()
                .ends_with("without an answer")
        );
    }

    #[test]
    fn a_call_that_does_not_return_is_left() {
        let began = Instant::now();
        let soon = Deadline::after(Duration::from_millis(200));
        let hung = call(soon, || poll(&mut [], PollTimeout::NONE).map(drop)).unwrap();
        assert_eq!(hung, Answer::Hung);
        let long = Deadline::after(Duration::from_secs(60));
        let unwanted = call_while(
            long,
            || false,
            || poll(&mut [], PollTimeout::NONE).map(drop),
        );
        assert_eq!(unwanted.unwrap(), Answer::Unwanted);
        assert!(began.elapsed() < Duration::from_secs(20));
    }
}
