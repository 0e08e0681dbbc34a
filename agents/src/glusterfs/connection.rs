//! The kernel's end of a FUSE mount, which can be looked at, and cut, while
//! its server hangs. Source: the kernel's Documentation/filesystems/fuse.

use std::{fs, path::PathBuf};

use anyhow::Context;

use crate::mounts::Mount;
use crate::ocf::Ctx;

/// The connection between a FUSE mount and its server.
#[derive(Debug)]
pub struct Connection(PathBuf);

impl Connection {
    /// The connection of `mount`. Its name is the minor number of the device.
    pub fn of(ctx: &Ctx, mount: &Mount) -> Self {
        let minor = mount.device.rsplit(':').next().unwrap_or_default();
        Self(ctx.path("/sys/fs/fuse/connections").join(minor))
    }

    /// How many requests wait for the server; none where the kernel's control
    /// file system is not mounted.
    pub fn waiting(&self) -> Option<u32> {
        fs::read_to_string(self.0.join("waiting"))
            .ok()?
            .trim()
            .parse()
            .ok()
    }

    /// Ends every request that waits, and every later one, with an error.
    ///
    /// # Errors
    /// The kernel's control file system is not mounted.
    pub fn abort(&self) -> anyhow::Result<()> {
        let abort = self.0.join("abort");
        fs::write(&abort, "1").with_context(|| format!("writing {}", abort.display()))
    }
}
