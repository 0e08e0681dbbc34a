//! What is found wrong with a machine, and what to do about it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing.
    Note,
    /// Something will be worse than it could be.
    Warning,
    /// Something will not work, or files are in danger.
    Error,
}

impl Severity {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Error => "error",
        }
    }
}

/// Something that was found. As an error it reads `problem; remedy`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What kind of finding it is: a word that stays the same.
    pub id: String,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong.
    pub problem: String,
    /// What to do about it.
    pub remedy: String,
}

impl Finding {
    fn new(severity: Severity, id: &str, problem: String, remedy: String) -> Finding {
        Finding {
            id: id.to_owned(),
            severity,
            problem,
            remedy,
        }
    }

    /// Something that will not work.
    pub fn error(id: &str, problem: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding::new(Severity::Error, id, problem.into(), remedy.into())
    }

    /// Something that should not be so.
    pub fn warning(id: &str, problem: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding::new(Severity::Warning, id, problem.into(), remedy.into())
    }

    /// Something worth knowing.
    pub fn note(id: &str, problem: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding::new(Severity::Note, id, problem.into(), remedy.into())
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.problem, self.remedy)
    }
}

impl std::error::Error for Finding {}
