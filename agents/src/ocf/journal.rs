//! Where an agent says something: the system log, and standard error, which
//! Pacemaker repeats in its own log when an action fails.

use std::{
    io::{self, Write},
    os::unix::net::UnixDatagram,
};

use super::Ctx;

/// How much a message matters. The numbers are those of RFC 5424.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Something failed.
    Error = 3,
    /// Something is not as it should be, but goes on.
    Warning = 4,
    /// Something changed.
    Info = 6,
}

/// Facility "system daemons", RFC 5424 section 6.2.1.
const DAEMON: u8 = 3;

pub(super) fn write(ctx: &Ctx, level: Level, message: &str) {
    let message = one_line(message);
    complain(&message);
    let tag = ctx
        .environment
        .get("OCF_RESOURCE_TYPE")
        .map_or("storhaug", String::as_str);
    let (priority, pid) = (DAEMON << 3 | level as u8, std::process::id());
    let datagram = format!("<{priority}>{tag}({})[{pid}]: {message}", ctx.instance);
    // A machine without a system log, or one that is full, is no reason to
    // fail or to wait.
    if let Ok(socket) = UnixDatagram::unbound() {
        let _ = socket
            .set_nonblocking(true)
            .and_then(|()| socket.send_to(datagram.as_bytes(), ctx.path("/dev/log")));
    }
}

/// Writes a line to standard error, if anybody listens there: `eprintln` panics
/// where nobody does, and would make a failure of any action.
pub(super) fn complain(line: &str) {
    let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// Text as one line: the log and the exit reason have no more.
pub(super) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
