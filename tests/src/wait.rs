//! Waiting for a condition with a deadline; nothing in the lab waits for time
//! alone.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use nix::poll::{PollTimeout, poll};

/// Between two looks at a condition.
const EVERY: u16 = 100;

/// Looks at `condition` until it gives a value, or fails after `limit` with
/// what was waited for. An error of the condition means "not yet"; the last
/// one is told when the time is up.
pub fn until<T>(
    what: &str,
    limit: Duration,
    mut condition: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let start = Instant::now();
    loop {
        let reason = match condition() {
            Ok(Some(value)) => return Ok(value),
            Ok(None) => String::new(),
            Err(error) => format!(": {error:#}"),
        };
        if start.elapsed() >= limit {
            bail!("{what}: not within {} s{reason}", limit.as_secs());
        }
        poll(&mut [], PollTimeout::from(EVERY))?;
    }
}

/// `until` for a condition that is true or false.
pub fn until_true(
    what: &str,
    limit: Duration,
    mut condition: impl FnMut() -> Result<bool>,
) -> Result<()> {
    until(what, limit, || Ok(condition()?.then_some(())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_names_what_was_waited_for_and_why_not() {
        let error = until_true("pigs fly", Duration::ZERO, || bail!("no wings")).unwrap_err();
        assert_eq!(error.to_string(), "pigs fly: not within 0 s: no wings");
    }

    #[test]
    fn a_value_ends_the_wait() {
        let mut looks = 0;
        let value = until("a third look", Duration::from_secs(10), || {
            looks += 1;
            Ok((looks == 3).then_some(looks))
        });
        assert_eq!(value.unwrap(), 3);
    }
}
