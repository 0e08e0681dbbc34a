//! What is going on, for those who watch: on standard error, line by line,
//! and on a terminal with a last line that is written over.

use std::io::{IsTerminal, Write};

/// Where progress is shown.
pub struct Progress {
    to: Box<dyn Write>,
    terminal: bool,
    colour: bool,
    pending: Option<String>,
}

impl std::fmt::Debug for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Progress").finish_non_exhaustive()
    }
}

impl Progress {
    /// Shows progress on standard error; `colour` unless the user does not
    /// want any.
    pub fn new(colour: bool) -> Progress {
        let terminal = std::io::stderr().is_terminal();
        Progress {
            to: Box::new(std::io::stderr()),
            terminal,
            colour: colour && terminal,
            pending: None,
        }
    }

    /// Writes progress line by line into `to`.
    pub fn into(to: impl Write + 'static) -> Progress {
        Progress {
            to: Box::new(to),
            terminal: false,
            colour: false,
            pending: None,
        }
    }

    /// Something was done.
    pub fn done(&mut self, what: &str) {
        let mark = if self.colour {
            "\x1b[32m✓\x1b[0m "
        } else {
            ""
        };
        self.line(&format!("{mark}{what}"));
    }

    /// Something begins.
    pub fn begin(&mut self, what: &str) {
        self.line(&format!("{what} …"));
    }

    /// Something deserves attention.
    pub fn warn(&mut self, what: &str) {
        let mark = if self.colour {
            "\x1b[33mwarning:\x1b[0m"
        } else {
            "warning:"
        };
        self.line(&format!("{mark} {what}"));
    }

    /// What is being waited for. On a terminal the line is written over by
    /// the next; elsewhere it is written once.
    pub fn waiting(&mut self, what: &str) {
        if self.pending.as_deref() == Some(what) {
            return;
        }
        self.pending = Some(what.to_owned());
        if self.terminal {
            self.write(&format!("\r\x1b[K{what} …"));
        } else {
            self.write(&format!("{what} …\n"));
        }
    }

    fn line(&mut self, text: &str) {
        let clear = if self.pending.take().is_some() && self.terminal {
            "\r\x1b[K"
        } else {
            ""
        };
        self.write(&format!("{clear}{text}\n"));
    }

    /// A reader that has gone away is no reason to stop half-way.
    fn write(&mut self, text: &str) {
        let _ = self.to.write_all(text.as_bytes());
        let _ = self.to.flush();
    }
}
