//! CTDB is a database here, and manages neither addresses nor services: what
//! would make it do so is refused, or switched off.

use std::{fs, io::ErrorKind, os::unix::fs::PermissionsExt, path::Path};

use anyhow::{Context, anyhow};

use super::file;
use crate::ocf::Ctx;

const PUBLIC_ADDRESSES: &str = "/etc/ctdb/public_addresses";
const SCRIPTS: &str = "/etc/ctdb/events/legacy";

/// The event script that removes addresses when CTDB starts and stops; Debian
/// enables it.
const INTERFACE: &str = "10.interface";

/// Event scripts that manage what Pacemaker manages here.
const MANAGERS: [&str; 14] = [
    "06.nfs",
    "11.natgw",
    "11.routing",
    "13.per_ip_routing",
    "31.clamd",
    "40.vsftpd",
    "41.httpd",
    "47.samba-dcerpcd",
    "48.netbios",
    "49.winbind",
    "50.samba",
    "60.nfs",
    "70.iscsi",
    "91.lvs",
];

/// Something that has CTDB manage what Pacemaker manages here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undue {
    /// What that is.
    pub what: String,
    /// How to switch it off.
    pub remedy: String,
}

/// All that would have CTDB manage addresses or services, on the machine whose
/// root directory is `root`.
///
/// # Errors
/// A file cannot be read.
pub fn undue(root: &Path) -> anyhow::Result<Vec<Undue>> {
    let at = |path: &str| root.join(path.trim_start_matches('/'));
    let addresses = file::read(&at(PUBLIC_ADDRESSES))?;
    let mut lines = addresses.lines().map(str::trim);
    let addresses = lines.any(|line| !line.is_empty() && !line.starts_with('#'));
    let addresses = addresses.then(|| Undue {
        what: format!("{PUBLIC_ADDRESSES} has CTDB manage addresses, which are Pacemaker's here"),
        remedy: "move it away, and make each address a resource".into(),
    });
    let enabled = MANAGERS.into_iter().filter(|name| {
        let script = at(SCRIPTS).join(format!("{name}.script"));
        fs::metadata(script).is_ok_and(|script| script.permissions().mode() & 0o111 != 0)
    });
    let scripts = enabled.map(|name| Undue {
        what: format!("CTDB's event script {name} manages what Pacemaker manages here"),
        remedy: format!("run `ctdb event script disable legacy {name}`"),
    });
    Ok(addresses.into_iter().chain(scripts).collect())
}

/// Refuses what would have CTDB manage addresses or services.
///
/// # Errors
/// What that is, and how to switch it off.
pub fn demand(ctx: &Ctx) -> anyhow::Result<()> {
    match undue(ctx.root)?.first() {
        Some(Undue { what, remedy }) => Err(anyhow!("{what}: {remedy}")),
        None => Ok(()),
    }
}

/// Disables the event script that removes addresses.
///
/// # Errors
/// It cannot be disabled.
pub fn disable_interface(ctx: &Ctx) -> anyhow::Result<()> {
    disable(&ctx.path(SCRIPTS).join(format!("{INTERFACE}.script")))
}

/// Disables an event script as `ctdb event script disable` does.
fn disable(script: &Path) -> anyhow::Result<()> {
    let disabled = match fs::symlink_metadata(script) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => Err(error),
        Ok(metadata) if metadata.is_symlink() => fs::remove_file(script),
        Ok(metadata) => {
            let mode = metadata.permissions().mode() & !0o111;
            fs::set_permissions(script, fs::Permissions::from_mode(mode))
        }
    };
    disabled.with_context(|| format!("disabling {}", script.display()))
}
