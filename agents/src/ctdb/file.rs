//! Files of CTDB's configuration: reading one that may not be there, and writing
//! one that is whole at any time.

use std::{
    fs::{self, OpenOptions},
    io::{ErrorKind, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
};

use anyhow::Context;

/// A file's text; empty where there is no file.
///
/// # Errors
/// It cannot be read, or is no text.
pub fn read(path: &Path) -> anyhow::Result<String> {
    match fs::read_to_string(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(String::new()),
        text => text.with_context(|| format!("reading {}", path.display())),
    }
}

/// Makes a file of the text, unless it has it already. It is whole at any
/// time, also after a crash, and who may read it does not change. A symbolic
/// link stays one to the file that is written.
///
/// # Errors
/// It cannot be written.
pub fn write(path: &Path, before: &str, text: &str) -> anyhow::Result<()> {
    if before == text {
        return Ok(());
    }
    replace(
        &fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()),
        text,
    )
}

/// The same for a file that is this node's own, and replaces a symbolic link:
/// that may lead to a shared file system, where all nodes would write one file,
/// and a read may hang.
///
/// # Errors
/// It cannot be written.
pub fn write_own(path: &Path, text: &str) -> anyhow::Result<()> {
    if !path.is_symlink() && read(path)? == text {
        return Ok(());
    }
    replace(path, text)
}

fn replace(path: &Path, text: &str) -> anyhow::Result<()> {
    let new = path.with_extension("storhaug-new");
    let mode = match fs::symlink_metadata(path) {
        Ok(file) if file.is_file() => file.permissions().mode() & 0o777,
        _ => 0o644,
    };
    let write = || {
        let mut options = OpenOptions::new();
        let mut file = options
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)?;
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, path)
    };
    write().with_context(|| format!("writing {}", path.display()))
}
