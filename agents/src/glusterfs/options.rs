//! The options of a mount: the administrator's, and ours where he says nothing.

use std::{ffi::OsString, fmt, str::FromStr};

use anyhow::bail;

/// What keeps the kernel from remembering what another node may change
/// meanwhile under a lock.
///
/// For a second it believes what it knew of a file's size, and of which names
/// there are. Contents it keeps as long as the size is the same, for every
/// program that opens the file: GlusterFS says that they are dropped when the
/// time of modification is another, and leaves that off unless it is told (10.3
/// and 11.1). Nor is that enough where several programs ask for the time at
/// once: of two answers the kernel takes the one that comes first, whichever was
/// asked for last. In direct mode it keeps no contents, but for a program that
/// maps the file into its memory.
const COHERENT: [(&str, &str); 4] = [
    ("attribute-timeout", "0"),
    ("entry-timeout", "0"),
    ("direct-io-mode", "enable"),
    ("auto-invalidation", "yes"),
];

/// The options, as the administrator wrote them.
#[derive(Debug, Default)]
pub struct Options(String);

/// Reads the parameter.
impl FromStr for Options {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        if text.starts_with('-') || text.contains(char::is_whitespace) {
            bail!("separate options by commas, as in fstab");
        }
        Ok(Self(text.to_owned()))
    }
}

/// What mount(8) takes.
impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let given = self.given().map(str::to_owned);
        let coherent = self
            .coherent()
            .map(|(name, value)| format!("{name}={value}"));
        f.write_str(&given.chain(coherent).collect::<Vec<_>>().join(","))
    }
}

impl Options {
    fn given(&self) -> impl Iterator<Item = &str> {
        self.0.split(',').filter(|option| !option.is_empty())
    }

    /// Those of [`COHERENT`] that the administrator says nothing of.
    fn coherent(&self) -> impl Iterator<Item = (&str, &str)> {
        let said = |name: &str| {
            self.given()
                .any(|option| option.split('=').next() == Some(name))
        };
        COHERENT.into_iter().filter(move |(name, _)| !said(name))
    }

    /// Which of ours are not among the arguments of a client that was started
    /// before this agent was installed; empty where none is missing.
    pub fn lacking(&self, client: &[OsString]) -> String {
        let lacks = |(name, value): &(&str, &str)| {
            let argument = format!("--{name}={value}");
            !client.iter().any(|given| *given == *argument)
        };
        let lacking = self.coherent().filter(lacks);
        let lacking: Vec<_> = lacking
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        lacking.join(",")
    }
}
