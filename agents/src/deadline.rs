//! Points in time by which something has to be done, and the one way to wait.

use std::{
    fmt,
    time::{Duration, Instant},
};

/// A point in time by which something has to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Instant);

impl Deadline {
    /// The point that is `duration` from now.
    pub fn after(duration: Duration) -> Self {
        Self(Instant::now() + duration)
    }

    /// How much time is left, zero once it is over.
    pub fn left(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    /// Whether the time is over.
    pub fn expired(self) -> bool {
        self.left().is_zero()
    }

    /// The time that is left as the timeout of a socket, for which zero would
    /// mean none.
    pub fn timeout(self) -> Duration {
        self.left().max(Duration::from_millis(1))
    }

    /// This deadline, but no later than `duration` from now.
    #[must_use]
    pub fn earlier(self, duration: Duration) -> Self {
        self.min(Self::after(duration))
    }

    /// The point that is `duration` sooner; now, where that would be past.
    #[must_use]
    pub fn before(self, duration: Duration) -> Self {
        Self::after(self.left().saturating_sub(duration))
    }
}

/// A condition that did not come true in time.
#[derive(Debug)]
pub struct Expired {
    what: String,
    waited: Duration,
}

impl fmt::Display for Expired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "waiting for {}: not within {:.1} s",
            self.what,
            self.waited.as_secs_f64()
        )
    }
}

impl std::error::Error for Expired {}

/// Looks at `condition` every `every` until it yields a value.
///
/// The condition is looked at at least once, and once more when the time is
/// over, so that a short deadline on a busy machine does not miss what has
/// come true in the meantime.
///
/// # Errors
/// [`Expired`], which names `what`, once `deadline` is over; the condition's
/// own error at once.
pub fn until<T>(
    deadline: Deadline,
    every: Duration,
    what: &str,
    mut condition: impl FnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let began = Instant::now();
    loop {
        let last = deadline.expired();
        if let Some(value) = condition()? {
            return Ok(value);
        }
        if last {
            return Err(Expired {
                what: what.to_owned(),
                waited: began.elapsed(),
            }
            .into());
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "the pause between two looks at a condition"
        )]
        std::thread::sleep(every.min(deadline.left()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_that_holds_is_seen_even_after_the_deadline() {
        let past = Deadline::after(Duration::ZERO);
        assert_eq!(
            until(past, Duration::ZERO, "it", || Ok(Some(1))).unwrap(),
            1
        );
    }

    #[test]
    fn a_condition_that_never_holds_is_named() {
        let soon = Deadline::after(Duration::from_millis(5));
        let error = until::<()>(soon, Duration::from_millis(1), "the moon", || Ok(None));
        let error = error.unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("waiting for the moon: not within 0."),
            "{error}"
        );
        assert!(error.is::<Expired>());
    }

    #[test]
    fn a_deadline_moves_only_towards_now() {
        let deadline = Deadline::after(Duration::from_secs(10));
        assert!(deadline.earlier(Duration::from_secs(5)) < deadline);
        assert_eq!(deadline.earlier(Duration::from_secs(50)), deadline);
        assert!(deadline.before(Duration::from_secs(50)).expired());
    }
}
