//! Since when something has been so: a file that one action leaves for the next,
//! on a file system that a boot empties.

use std::{fs, path::PathBuf, time::Duration};

use nix::time::{ClockId, clock_gettime};

/// The file; it has the time in seconds since the machine was booted, by a clock
/// that nobody sets.
#[derive(Debug)]
pub struct Mark(PathBuf);

impl Mark {
    /// The mark at this path.
    pub fn at(path: PathBuf) -> Self {
        Self(path)
    }

    /// Sets it to now. Where it cannot be written, it has never been set.
    pub fn set(&self) {
        if let (Some(now), Some(directory)) = (uptime(), self.0.parent()) {
            let _ =
                fs::create_dir_all(directory).and_then(|()| fs::write(&self.0, now.to_string()));
        }
    }

    /// How long ago it was set; none where it is not.
    pub fn age(&self) -> Option<Duration> {
        let set = fs::read_to_string(&self.0).ok()?.parse::<i64>().ok()?;
        let age = uptime()? - set;
        // None of another boot, where the file system has outlived it.
        Some(Duration::from_secs(age.try_into().ok()?))
    }

    /// Removes it.
    pub fn clear(&self) {
        // As a rule there is none.
        let _ = fs::remove_file(&self.0);
    }
}

fn uptime() -> Option<i64> {
    Some(clock_gettime(ClockId::CLOCK_BOOTTIME).ok()?.tv_sec())
}
