//! `storhaug status --watch`: the same view again and again, for as long as
//! somebody looks at it.

use std::io::{ErrorKind, IsTerminal, Write};
use std::os::fd::AsFd;
use std::time::Duration;

use anyhow::Context;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use storhaug_agents::deadline::Deadline;

/// The time between two views.
const EVERY: Duration = Duration::from_secs(2);

/// Writes what `view` says into `to`, every two seconds, until nobody reads it any
/// more.
///
/// # Errors
/// There is no view, or it cannot be written.
pub fn run(
    to: &mut (impl Write + AsFd + IsTerminal),
    view: impl Fn() -> anyhow::Result<String>,
) -> anyhow::Result<()> {
    let terminal = to.is_terminal();
    loop {
        let next = Deadline::after(EVERY);
        let text = match terminal {
            true => repainted(&view()?),
            false => view()?,
        };
        match to.write_all(text.as_bytes()).and_then(|()| to.flush()) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
            result => result.context("writing the result")?,
        }
        if gone(to, next)? {
            return Ok(());
        }
    }
}

/// From the terminal's upper left corner on, each line up to its end, and nothing
/// below: without clearing first, what stays the same does not flicker. The
/// sequences are those of ECMA-48, CUP, EL and ED.
fn repainted(text: &str) -> String {
    format!("\x1b[H{}\x1b[J", text.replace('\n', "\x1b[K\n"))
}

/// Waits until `next`, or until the other end of a pipe is closed. Whether it is.
fn gone(to: &impl AsFd, next: Deadline) -> anyhow::Result<bool> {
    loop {
        // An error, such as a pipe without a reader, is told in any case.
        let mut fds = [PollFd::new(to.as_fd(), PollFlags::empty())];
        let left = PollTimeout::try_from(next.left()).unwrap_or(PollTimeout::ZERO);
        match poll(&mut fds, left) {
            Ok(0) if next.expired() => return Ok(false),
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return Ok(true),
            Err(error) => return Err(error).context("waiting for the next view"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::OwnedFd;

    use super::*;

    #[test]
    fn a_shorter_line_leaves_nothing_of_a_longer_one() {
        assert_eq!(repainted("a\nb\n"), "\x1b[Ha\x1b[K\nb\x1b[K\n\x1b[J");
    }

    #[test]
    fn it_ends_with_its_reader() {
        let (reader, writer) = std::io::pipe().unwrap();
        let mut writer = File::from(OwnedFd::from(writer));
        let next = Deadline::after(Duration::from_millis(1));
        assert!(!gone(&writer, next).unwrap());
        drop(reader);
        assert!(gone(&writer, Deadline::after(Duration::from_secs(60))).unwrap());
        run(&mut writer, || Ok("text\n".into())).unwrap();
    }
}
