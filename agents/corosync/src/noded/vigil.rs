//! Waits until Pacemaker knows that a missing node is dead.
//!
//! Its record is read by a process, so this has a thread of its own; it is read
//! only while a node is missing.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use storhaug_agents::deadline::Deadline;
use storhaug_agents::exec::Host;

use crate::lost::{Gone, Lost};

/// How often the record is read, by how long a node has been missing. Most are
/// fenced within seconds, which is then seen within 100 ms; what takes longer
/// than minutes waits for an administrator.
const OFTEN: [(Duration, Duration); 2] = [
    (Duration::from_secs(20), Duration::from_millis(25)),
    (Duration::from_secs(180), Duration::from_millis(250)),
];

/// How often it is read after that.
const SELDOM: Duration = Duration::from_secs(2);

/// How long one reading may take.
const READING: Duration = Duration::from_secs(5);

/// Starts the thread, which is told which nodes are missing, and tells `sink`
/// how one of them went.
pub fn start(sink: impl Fn(u32, Gone) + Send + 'static) -> anyhow::Result<Sender<Vec<u32>>> {
    let (sender, receiver) = channel::<Vec<u32>>();
    std::thread::Builder::new()
        .name("vigil".into())
        .spawn(move || {
            let mut missing: Vec<u32> = Vec::new();
            let mut began = Instant::now();
            loop {
                let told = if missing.is_empty() {
                    receiver.recv().map_err(|_| RecvTimeoutError::Disconnected)
                } else {
                    let missed = began.elapsed();
                    let often = OFTEN.iter().find(|(until, _)| missed < *until);
                    receiver.recv_timeout(often.map_or(SELDOM, |(_, pause)| *pause))
                };
                match told {
                    Ok(now) => {
                        if now.iter().any(|node| !missing.contains(node)) {
                            began = Instant::now();
                        }
                        missing = now;
                    }
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return,
                }
                if missing.is_empty() {
                    continue;
                }
                match Lost::read(&Host, Deadline::after(READING)) {
                    Ok(lost) => missing.retain(|node| match lost.gone(*node) {
                        Some(gone) => {
                            sink(*node, gone);
                            false
                        }
                        None => true,
                    }),
                    Err(error) => tracing::debug!("{error:#}"),
                }
            }
        })?;
    Ok(sender)
}
