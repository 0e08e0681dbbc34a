//! What NFS-Ganesha can be asked and told: an RPC as a client sends it, and its
//! own methods on the system's D-Bus.
//!
//! Its grace periods (`src/SAL/nfs4_recovery.c` and `admin_dbus_grace` in
//! `src/MainNFSD/nfs_admin_thread.c` of versions 4.3 and 6.5, seen alike on
//! both): `grace` takes one string, `EVENT:ARGUMENT`, answers that it was done
//! whatever came of it, and waits for the recovery directory to be read.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::{Context, ensure};
use serde::Deserialize;

use crate::{
    daemon::{self, Daemon},
    deadline::Deadline,
    exec::Cmd,
    ocf::{Ctx, Level},
    recovery::Clients,
    tcp::Connection,
};

/// Where the agents of Ganesha keep what is of this start only.
pub const RUNTIME: &str = "/run/storhaug/ganesha";

/// The port of NFS.
pub const PORT: u16 = 2049;

/// How long after a start or a takeover clients may reclaim, in seconds. Until
/// all of those that are known have done so, new opens and locks have to wait.
pub const GRACE: u32 = 20;

/// How long a client's state is kept that is not heard of, in seconds; no
/// longer than [`GRACE`].
pub const LEASE: u32 = 15;

/// How long storhaug-noded may take. It answers in a millisecond.
const NODED: Duration = Duration::from_secs(1);

/// Who is where; without storhaug-noded everybody could be anywhere.
pub fn clients(ctx: &Ctx) -> Clients {
    let noded = Daemon::new(ctx.path(daemon::SOCKET));
    let clients = noded.clients(PORT, ctx.deadline.earlier(NODED));
    clients.unwrap_or_else(|error| {
        ctx.log(
            Level::Warning,
            &format!("clients that are elsewhere are waited for: {error:#}"),
        );
        Clients::new()
    })
}

/// Says which node of the cluster runs the daemon; written at every start.
pub fn node_file(ctx: &Ctx) -> PathBuf {
    ctx.path(RUNTIME).join("node")
}

/// Calls procedure 0, NULL, of NFS version 4 (RFC 5531, RFC 8881 section 16.1):
/// proof that the daemon takes connections and serves them.
///
/// # Errors
/// Nobody listens, or no valid answer comes in time.
pub fn null(address: SocketAddr, deadline: Deadline) -> anyhow::Result<()> {
    call(address, deadline).with_context(|| format!("calling NFS at {address}"))
}

fn call(address: SocketAddr, deadline: Deadline) -> anyhow::Result<()> {
    let mut ganesha = Connection::open(address, deadline)?;
    ganesha.send(&request())?;
    let mut answer = [0; 28];
    ganesha.receive(&mut answer)?;
    accepted(&answer)
}

/// Identifies the call; there is one for each connection.
const XID: u32 = 0x73_74_6f_72;

/// The call: mark of the last fragment, identity, call, RPC version, program,
/// version, procedure, and twice no authentication.
fn request() -> Vec<u8> {
    let words = [XID, 0, 2, 100_003, 4, 0, 0, 0, 0, 0];
    let mark = (1 << 31) | (words.len() * 4) as u32;
    let all = [mark].into_iter().chain(words);
    all.flat_map(u32::to_be_bytes).collect()
}

/// A reply that was accepted and succeeded.
fn accepted(answer: &[u8; 28]) -> anyhow::Result<()> {
    let word = |at: usize| u32::from_be_bytes([0, 1, 2, 3].map(|byte| answer[at * 4 + byte]));
    ensure!(
        word(0) == (1 << 31) | 24 && word(1) == XID && word(2) == 1,
        "the answer is no RPC reply"
    );
    ensure!(word(3) == 0, "the server denied the call");
    ensure!(word(6) == 0, "the server does not serve NFS version 4");
    Ok(())
}

/// A takeover or a release, as Ganesha's `grace` understands it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// `5`: starts a grace period in which the clients may reclaim that are
    /// recorded in the directory `RecoveryRoot/ARGUMENT/v4recov`. Those of an
    /// earlier grace period are forgotten, unless it still lasts.
    Take(&'a str),
    /// `2`: forgets every client whose own name for itself (`co_ownerid`)
    /// contains the argument, so that it has to reclaim when it comes back.
    Release(&'a str),
}

/// Tells the daemon of an event.
///
/// # Errors
/// It does not answer by `deadline`, or is not there.
pub fn tell(ctx: &Ctx, event: Event, deadline: Deadline) -> anyhow::Result<()> {
    let argument = match event {
        Event::Take(directory) => format!("5:{directory}"),
        Event::Release(owner) => format!("2:{owner}"),
    };
    let reply = method(ctx, "grace", &["s", &argument], deadline)?;
    ensure!(reply.first() == Some(&true), "it refused `{argument}`");
    Ok(())
}

/// Whether the daemon is in a grace period.
///
/// # Errors
/// It does not answer by `deadline`, or is not there.
pub fn in_grace(ctx: &Ctx, deadline: Deadline) -> anyhow::Result<bool> {
    let reply = method(ctx, "get_grace", &[], deadline)?;
    reply.first().copied().context("an empty reply")
}

/// A method of the daemon's, and the truth values of its reply.
fn method(
    ctx: &Ctx,
    name: &str,
    arguments: &[&str],
    deadline: Deadline,
) -> anyhow::Result<Vec<bool>> {
    #[derive(Deserialize)]
    struct Reply {
        data: Vec<serde_json::Value>,
    }
    let patience = deadline.left().as_millis().max(1);
    let busctl = Cmd::new("busctl")
        .args(["--system", "--json=short", "--auto-start=no"])
        .arg(format!("--timeout={patience}ms"))
        .args(["call", "org.ganesha.nfsd", "/org/ganesha/nfsd/admin"])
        .args(["org.ganesha.nfsd.admin", name])
        .args(arguments);
    let output = ctx.runner.run(&busctl, deadline);
    let text = output
        .and_then(|output| output.checked())
        .context("asking ganesha.nfsd")?;
    let reply: Reply = serde_json::from_str(&text).context("reading the answer of ganesha.nfsd")?;
    let truths = reply.data.iter().filter_map(serde_json::Value::as_bool);
    Ok(truths.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_call_byte_by_byte() {
        let hex: String = request().iter().map(|byte| format!("{byte:02x}")).collect();
        let want = "80000028 73746f72 00000000 00000002 000186a3 00000004 00000000\
            00000000 00000000 00000000 00000000";
        assert_eq!(hex, want.replace(' ', ""));
    }

    #[test]
    fn replies() {
        let reply = |words: [u32; 7]| {
            let bytes: Vec<u8> = words.into_iter().flat_map(u32::to_be_bytes).collect();
            accepted(&bytes.try_into().unwrap()).map_err(|error| error.to_string())
        };
        let mark = (1 << 31) | 24;
        assert_eq!(reply([mark, XID, 1, 0, 0, 0, 0]), Ok(()));
        let said = |words| reply(words).unwrap_err();
        assert!(said([mark, XID, 1, 0, 0, 0, 2]).contains("not serve NFS version 4"));
        assert!(said([mark, XID, 1, 1, 0, 0, 0]).contains("denied"));
        assert!(said([mark, XID + 1, 1, 0, 0, 0, 0]).contains("no RPC reply"));
        assert!(said([0x4854_5450, 0, 0, 0, 0, 0, 0]).contains("no RPC reply"));
    }
}
