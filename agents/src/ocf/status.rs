//! Exit codes of the OCF Resource Agent API 1.1, and the results that become
//! one.

use std::fmt;

/// An exit code. Source: OCF Resource Agent API 1.1, and for 190 Pacemaker's
/// `include/crm/common/results.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Code {
    /// Done, or running.
    Success = 0,
    /// Failed; Pacemaker tries again, here or elsewhere.
    ErrGeneric = 1,
    /// A parameter is wrong on this machine; Pacemaker tries elsewhere.
    ErrArgs = 2,
    /// No such action.
    ErrUnimplemented = 3,
    /// Not permitted; Pacemaker tries elsewhere.
    ErrPerm = 4,
    /// Something is not installed; Pacemaker tries elsewhere.
    ErrInstalled = 5,
    /// A parameter is wrong on any machine; Pacemaker gives up.
    ErrConfigured = 6,
    /// Cleanly stopped.
    NotRunning = 7,
    /// Running, but not as it should be; Pacemaker only shows it.
    Degraded = 190,
}

impl From<Code> for u8 {
    fn from(code: Code) -> Self {
        code as Self
    }
}

/// What a monitor found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It serves.
    Running,
    /// It serves, but limps, for this reason.
    Degraded(String),
    /// It is cleanly stopped.
    NotRunning,
}

/// An action that failed, and the exit code for it.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub code: Code,
    /// The reason, for people.
    pub error: anyhow::Error,
}

impl Failure {
    /// A failure with a code of its own.
    pub fn new(code: Code, error: impl Into<anyhow::Error>) -> Self {
        Self {
            code,
            error: error.into(),
        }
    }

    /// A configuration that is wrong on any machine.
    pub fn configured(reason: impl fmt::Display) -> Self {
        Self::new(Code::ErrConfigured, anyhow::anyhow!("{reason}"))
    }
}

/// Any error is a malfunction unless somebody knows better.
impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::new(Code::ErrGeneric, error)
    }
}

/// Gives an error its exit code.
pub trait OrCode<T> {
    /// The value, or a [`Failure`] with this code.
    ///
    /// # Errors
    /// The same error, with the code.
    fn or_code(self, code: Code) -> Result<T, Failure>;
}

impl<T, E: Into<anyhow::Error>> OrCode<T> for Result<T, E> {
    fn or_code(self, code: Code) -> Result<T, Failure> {
        self.map_err(|error| Failure::new(code, error))
    }
}
