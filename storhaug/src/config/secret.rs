//! Passwords: read from files nobody else can read, never printed.

use std::fmt;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use super::{ConfigError, ConfigErrors};

/// Longest password file that is read, in bytes. A longer one is some other
/// file.
const LONGEST: u64 = 4096;

/// A password. `Debug` does not show it, and it has no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a password.
    pub(super) fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The password itself, for the one who hands it over, on a standard
    /// input, never in an argument or the environment.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Whether a file of this mode can be read by others than its owner.
pub(super) fn readable_by_others(mode: u32) -> bool {
    mode & 0o077 != 0
}

/// The first line of `path`, which must be a regular file without any
/// permission for group or others.
pub(super) fn from_file(path: &Path) -> Result<Secret, ConfigErrors> {
    let wrong = |problem: String, remedy: String| {
        ConfigErrors::from(ConfigError::whole(path, problem, remedy))
    };
    let create = || {
        format!(
            "write the password of the user hacluster to it and run `chmod 600 {}`",
            path.display()
        )
    };
    // Not blocking: a FIFO in the file's place must not hang setup.
    let mut file = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_NONBLOCK | nix::libc::O_NOCTTY)
        .open(path)
        .map_err(|error| wrong(format!("opening the password file: {error}"), create()))?;
    let metadata = file.metadata().map_err(|error| {
        wrong(
            format!("reading the password file's mode: {error}"),
            create(),
        )
    })?;
    if !metadata.is_file() {
        return Err(wrong(
            "the password file is not a regular file".into(),
            create(),
        ));
    }
    if readable_by_others(metadata.mode()) {
        return Err(wrong(
            format!(
                "the password file has mode {:04o}, so that others than its owner may use it",
                metadata.mode() & 0o7777
            ),
            format!("run `chmod 600 {}` and change the password", path.display()),
        ));
    }
    let mut text = String::new();
    file.by_ref()
        .take(LONGEST)
        .read_to_string(&mut text)
        .map_err(|error| wrong(format!("reading the password file: {error}"), create()))?;
    match text.lines().next() {
        Some(line) if !line.is_empty() => Ok(Secret::new(line)),
        _ => Err(wrong(
            "the password file's first line is empty".into(),
            create(),
        )),
    }
}
