//! A transient attribute of this node, by which an agent tells Pacemaker, and
//! the other nodes, of its service here. An address has a location rule on one
//! that says that a service is ready.
//!
//! Telling costs a process, so a mark says what has been told already. The
//! mark carries the identity of the `pacemaker-attrd` that was told, because
//! one that was started anew has forgotten everything.

use std::{fs, io, path::PathBuf};

use anyhow::Context;

use crate::{
    exec::Cmd,
    ocf::{Ctx, Level},
};

/// Where the marks are; a tmpfs, as empty after a boot as the attributes.
const MARKS: &str = "/run/storhaug/attributes";

/// An attribute, by name.
#[derive(Clone, Copy, Debug)]
pub struct Attribute {
    name: &'static str,
}

impl Attribute {
    /// The attribute `name`.
    pub const fn new(name: &'static str) -> Self {
        Self { name }
    }

    /// Its name, as a location rule asks for it.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Sets the attribute to 1, as [`Attribute::set`] does.
    pub fn publish(&self, ctx: &Ctx) {
        self.set(ctx, "1");
    }

    /// Sets the attribute, unless it is known to have this value; at a depth
    /// above 0 in any case. Never fails: without Pacemaker nobody asks for it,
    /// and with one that does not answer the next monitor tries again.
    pub fn set(&self, ctx: &Ctx, value: &str) {
        let Some(attrd) = attrd(ctx) else {
            return;
        };
        let told = format!("{attrd} {value}");
        let mark = self.mark(ctx);
        if ctx.depth == 0 && fs::read_to_string(&mark).is_ok_and(|mark| mark == told) {
            return;
        }
        let set = self.update(ctx, &["-U", value]).and_then(|()| {
            let directory = ctx.path(MARKS);
            fs::create_dir_all(&directory)
                .and_then(|()| fs::write(&mark, &told))
                .with_context(|| format!("writing {}", mark.display()))
        });
        if let Err(error) = set {
            let message = format!("setting the node attribute {}: {error:#}", self.name);
            ctx.log(Level::Warning, &message);
        }
    }

    /// Deletes the attribute, whatever is known of it. Never fails: it is on
    /// the way of a stop.
    pub fn withdraw(&self, ctx: &Ctx) {
        // The mark first: an attribute that is set without a mark is set again
        // by the next good monitor, one with a mark that is wrong never is.
        match fs::remove_file(self.mark(ctx)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                let message = format!("removing {}: {error}", self.mark(ctx).display());
                ctx.log(Level::Warning, &message);
            }
            _ => {}
        }
        if attrd(ctx).is_none() {
            return;
        }
        if let Err(error) = self.update(ctx, &["-D"]) {
            let message = format!("deleting the node attribute {}: {error:#}", self.name);
            ctx.log(Level::Warning, &message);
        }
    }

    fn update(&self, ctx: &Ctx, how: &[&str]) -> anyhow::Result<()> {
        let update = Cmd::new("attrd_updater").args(["-n", self.name]).args(how);
        // A few milliseconds as a rule; a share of the time, so that whatever
        // comes after it has some.
        let by = ctx.deadline.before(ctx.deadline.left() / 2);
        ctx.runner.run(&update, by)?.checked().map(drop)
    }

    fn mark(&self, ctx: &Ctx) -> PathBuf {
        ctx.path(MARKS).join(self.name)
    }
}

/// The identity of the running `pacemaker-attrd`: the inode of the socket that
/// it listens at, `attrd`, abstract or not as libqb was built. None where none
/// runs. Source: `/proc/net/unix`, unix(7) and proc(5).
fn attrd(ctx: &Ctx) -> Option<String> {
    let sockets = fs::read_to_string(ctx.path("/proc/net/unix")).ok()?;
    listener(&sockets, "attrd").map(str::to_owned)
}

/// The inode of the socket that listens at a path or an abstract name that
/// ends in `name`.
fn listener<'a>(sockets: &'a str, name: &str) -> Option<&'a str> {
    /// `__SO_ACCEPTCON`, the flag of a listening socket.
    const ACCEPTS: u32 = 1 << 16;
    sockets.lines().skip(1).find_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let flags = u32::from_str_radix(fields.nth(3)?, 16).ok()?;
        let inode = fields.nth(2)?;
        let path = fields.next()?.trim_end_matches('@');
        let last = path.rsplit(['/', '@']).next()?;
        (flags & ACCEPTS != 0 && last == name).then_some(inode)
    })
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, collections::BTreeMap, time::Duration};

    use super::*;
    use crate::{deadline::Deadline, exec::Output};

    fn sockets(inode: u32) -> String {
        format!(
            "Num       RefCount Protocol Flags    Type St Inode Path\n\
             0000000000000000: 00000003 00000000 00000000 0001 03 11111 @attrd\n\
             0000000000000000: 00000002 00000000 00010000 0001 01 {inode} @attrd\n\
             0000000000000000: 00000002 00000000 00010000 0001 01 33333 @cib_ro\n"
        )
    }

    #[test]
    fn the_listening_socket_is_found() {
        assert_eq!(listener(&sockets(7), "attrd"), Some("7"));
        assert_eq!(listener(&sockets(7), "cib_ro"), Some("33333"));
        assert_eq!(
            listener(&sockets(7).replace("@attrd", "/run/attrd"), "attrd"),
            Some("7")
        );
        assert_eq!(listener(&sockets(7), "trd"), None);
        assert_eq!(listener("", "attrd"), None);
    }

    #[test]
    fn an_attribute_is_told_once_to_each_pacemaker() {
        let asked = RefCell::new(Vec::new());
        let runner = |cmd: &Cmd| {
            asked.borrow_mut().push(cmd.to_string());
            Ok(Output::exited(cmd, 0, "", ""))
        };
        let root = tempfile::tempdir().unwrap();
        let environment = BTreeMap::new();
        let ctx = Ctx {
            runner: &runner,
            root: root.path(),
            deadline: Deadline::after(Duration::from_secs(60)),
            depth: 0,
            probe: false,
            instance: "x",
            node: None,
            environment: &environment,
        };
        let attribute = Attribute::new("storhaug-x");
        let told = |want: &[&str]| assert_eq!(asked.take(), want);
        let unix = root.path().join("proc/net/unix");
        fs::create_dir_all(unix.parent().unwrap()).unwrap();

        attribute.publish(&ctx);
        told(&[]);
        fs::write(&unix, sockets(7)).unwrap();
        attribute.publish(&ctx);
        told(&["attrd_updater -n storhaug-x -U 1"]);
        attribute.publish(&ctx);
        told(&[]);
        attribute.publish(&Ctx { depth: 10, ..ctx });
        told(&["attrd_updater -n storhaug-x -U 1"]);
        fs::write(&unix, sockets(8)).unwrap();
        attribute.publish(&ctx);
        told(&["attrd_updater -n storhaug-x -U 1"]);
        attribute.set(&ctx, "2 3");
        told(&["attrd_updater -n storhaug-x -U \"2 3\""]);
        attribute.set(&ctx, "2 3");
        told(&[]);
        attribute.withdraw(&ctx);
        told(&["attrd_updater -n storhaug-x -D"]);
        attribute.publish(&ctx);
        told(&["attrd_updater -n storhaug-x -U 1"]);
    }
}
