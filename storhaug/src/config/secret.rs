//! Passwords: read from files nobody else can read, never printed.

use std::fmt;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

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
/// permission for group or others. `Err` says what is wrong and what to do.
pub(super) fn from_file(path: &Path) -> Result<Secret, (String, String)> {
    let shown = path.display();
    let wrong =
        |problem: String, remedy: String| (format!("the password file {shown} {problem}"), remedy);
    let create = || {
        format!("write the password of the user hacluster to {shown} and run `chmod 600 {shown}`")
    };
    // Not blocking: a FIFO in the file's place must not hang setup.
    let mut file = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_NONBLOCK | nix::libc::O_NOCTTY)
        .open(path)
        .map_err(|error| wrong(format!("cannot be opened: {error}"), create()))?;
    let metadata = file
        .metadata()
        .map_err(|error| wrong(format!("does not tell its mode: {error}"), create()))?;
    if !metadata.is_file() {
        return Err(wrong("is not a regular file".into(), create()));
    }
    if readable_by_others(metadata.mode()) {
        return Err(wrong(
            format!(
                "has mode {:04o}, so that others than its owner can use it",
                metadata.mode() & 0o7777
            ),
            format!("run `chmod 600 {shown}`, and change the password if others had a look"),
        ));
    }
    let mut text = String::new();
    file.by_ref()
        .take(LONGEST)
        .read_to_string(&mut text)
        .map_err(|error| wrong(format!("cannot be read: {error}"), create()))?;
    match text.lines().next() {
        Some(line) if !line.is_empty() => Ok(Secret::new(line)),
        _ => Err(wrong("has nothing in its first line".into(), create())),
    }
}
