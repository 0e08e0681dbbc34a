//! What is wrong with a configuration, where, and what to write instead.

use std::fmt;
use std::path::{Path, PathBuf};

/// One thing wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The file it is in.
    pub file: PathBuf,
    /// The line, counted from 1; `None` where the whole file is meant.
    pub line: Option<usize>,
    /// What is wrong, with the offending text.
    pub problem: String,
    /// What to write instead.
    pub remedy: String,
}

impl ConfigError {
    /// An error about one line.
    pub(super) fn at(
        file: &Path,
        line: usize,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> ConfigError {
        ConfigError {
            file: file.to_path_buf(),
            line: Some(line),
            problem: problem.into(),
            remedy: remedy.into(),
        }
    }

    /// An error about the file as a whole.
    pub(super) fn whole(
        file: &Path,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> ConfigError {
        ConfigError {
            file: file.to_path_buf(),
            line: None,
            problem: problem.into(),
            remedy: remedy.into(),
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {}; {}", self.problem, self.remedy)
    }
}

/// A line as an error may show it: what may be a password is left out.
pub(super) fn shown(line: &str) -> String {
    let line = line.trim();
    let lower = line.to_ascii_lowercase();
    match lower.find("passw").or_else(|| lower.find("secret")) {
        Some(start) => {
            let end = lower[start..]
                .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
                .map_or(line.len(), |length| start + length);
            format!("{}…", &line[..end])
        }
        None => line.to_string(),
    }
}

/// Everything that is wrong with a configuration: at least one error, in the
/// order of the files and their lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(Vec<ConfigError>);

impl ConfigErrors {
    /// All of `errors`, of which there is at least one.
    pub(super) fn all(mut errors: Vec<ConfigError>) -> ConfigErrors {
        errors.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
        errors.dedup();
        ConfigErrors(errors)
    }

    /// `Err` with all of `errors`, or `Ok` where there are none.
    pub(super) fn unless_empty(errors: Vec<ConfigError>) -> Result<(), ConfigErrors> {
        if errors.is_empty() {
            Ok(())
        } else {
            Err(ConfigErrors::all(errors))
        }
    }

    /// The errors.
    pub fn iter(&self) -> impl Iterator<Item = &ConfigError> {
        self.0.iter()
    }
}

impl From<ConfigError> for ConfigErrors {
    fn from(error: ConfigError) -> ConfigErrors {
        ConfigErrors(vec![error])
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}
