//! A client that writes through a virtual address, and remembers outside the
//! cluster what the cluster acknowledged.
//!
//! Each record is a file of its own, written over a new SMB connection, so
//! that a failover is seen as a new client sees it. A record counts as
//! acknowledged when smbclient has closed the file; from then on it must be
//! readable, whole, whatever dies.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use sha2::{Digest as _, Sha256};

use crate::{Lab, smb};

/// Bytes in a record.
const SIZE: usize = 16 * 1024;
/// Patience with one write. An address that is gone does not answer.
const LIMIT: Duration = Duration::from_secs(3);
/// Patience with the cluster, when a caller waits for writes.
const PATIENCE: Duration = Duration::from_secs(120);

/// A writing client, until [`Writer::finish`].
#[derive(Debug)]
pub struct Writer {
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
    directory: String,
    begun: Instant,
}

/// What a client wrote, as the cluster acknowledged it.
#[derive(Debug, Clone)]
pub struct Log {
    directory: String,
    records: Vec<Record>,
    begun: Instant,
    ended: Instant,
}

#[derive(Debug, Clone)]
struct Record {
    name: String,
    checksum: String,
    acknowledged: Instant,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    written: Condvar,
}

#[derive(Debug, Default)]
struct State {
    stop: bool,
    records: Vec<Record>,
    /// Why the latest attempt failed.
    refusal: String,
}

impl Writer {
    /// Starts to write records through `address` into a new directory of the
    /// share.
    pub fn start(lab: &Lab, address: IpAddr, directory: &str) -> Result<Self> {
        smb::run(lab, address, &format!("mkdir {directory}"))?;
        let shared = Arc::new(Shared::default());
        let thread = {
            let (lab, shared, directory) = (lab.clone(), Arc::clone(&shared), directory.to_owned());
            std::thread::spawn(move || write(&lab, &shared, address, &directory))
        };
        Ok(Self {
            shared,
            thread,
            directory: directory.to_owned(),
            begun: Instant::now(),
        })
    }

    /// Waits until so many more records are acknowledged.
    pub fn wait_for(&self, more: usize) -> Result<()> {
        let state = self.shared.lock();
        let enough = state.records.len() + more;
        let (state, _) = self
            .shared
            .written
            .wait_timeout_while(state, PATIENCE, |state| state.records.len() < enough)
            .unwrap_or_else(PoisonError::into_inner);
        ensure!(
            state.records.len() >= enough,
            "{more} more writes: not within {} s: {}",
            PATIENCE.as_secs(),
            state.refusal
        );
        Ok(())
    }

    /// When the first record after `moment` was acknowledged.
    pub fn first_after(&self, moment: Instant) -> Option<Instant> {
        let state = self.shared.lock();
        state
            .records
            .iter()
            .map(|record| record.acknowledged)
            .find(|at| *at > moment)
    }

    /// Ends the writing.
    pub fn finish(self) -> Result<Log> {
        self.shared.lock().stop = true;
        self.thread
            .join()
            .map_err(|_| anyhow!("the writer panicked"))?;
        let records = std::mem::take(&mut self.shared.lock().records);
        Ok(Log {
            directory: self.directory,
            records,
            begun: self.begun,
            ended: Instant::now(),
        })
    }
}

impl Log {
    /// How many records were acknowledged.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether nothing was acknowledged.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The longest time in which nothing was acknowledged.
    pub fn longest_gap(&self) -> Duration {
        let mut times = vec![self.begun];
        times.extend(self.records.iter().map(|record| record.acknowledged));
        times.push(self.ended);
        times
            .windows(2)
            .map(|pair| pair[1] - pair[0])
            .max()
            .unwrap_or_default()
    }

    /// Reads every record back through `address`, and fails when one that was
    /// acknowledged is not there or is not what was written.
    pub fn verify(&self, lab: &Lab, address: IpAddr) -> Result<()> {
        ensure!(!self.is_empty(), "nothing was acknowledged");
        let copy = format!("/tmp/replay-{}", self.directory);
        lab.client().run(["rm", "-rf", &copy])?;
        lab.client().run(["mkdir", &copy])?;
        let command = format!("prompt off; cd {}; lcd {copy}; mget *", self.directory);
        smb::run(lab, address, &command)?;
        let find = ["find", &copy, "-type", "f", "-exec", "sha256sum", "{}", "+"];
        let sums = lab.client().run(find)?;
        let read: BTreeMap<&str, &str> = sums
            .lines()
            .filter_map(|line| line.split_once("  "))
            .filter_map(|(sum, path)| Some((path.rsplit('/').next()?, sum)))
            .collect();
        let lost: Vec<&str> = self
            .records
            .iter()
            .filter(|record| read.get(record.name.as_str()) != Some(&record.checksum.as_str()))
            .map(|record| record.name.as_str())
            .collect();
        ensure!(
            lost.is_empty(),
            "{} of {} acknowledged writes are lost: {}",
            lost.len(),
            self.len(),
            lost.join(" ")
        );
        Ok(())
    }
}

impl Shared {
    /// A thread that panicked leaves records that are still true.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes one record after the other. One that was refused is not tried
/// again under its name: it may have arrived all the same.
fn write(lab: &Lab, shared: &Shared, address: IpAddr, directory: &str) {
    for number in 0_u64.. {
        if shared.lock().stop {
            return;
        }
        let name = format!("record-{number:06}");
        let content = content(number);
        let checksum = hex(&Sha256::digest(&content));
        let put = format!("cd {directory}; put - {name}");
        let answer = smb::run_within(lab, address, &put, content, LIMIT);
        let mut state = shared.lock();
        match answer {
            Ok(_) => state.records.push(Record {
                name,
                checksum,
                acknowledged: Instant::now(),
            }),
            Err(error) => state.refusal = format!("{error:#}"),
        }
        shared.written.notify_all();
    }
}

/// The bytes of a record: no two alike, and none compressible to nothing.
fn content(number: u64) -> Vec<u8> {
    (0_u64..)
        .flat_map(|block| Sha256::digest([number.to_le_bytes(), block.to_le_bytes()].concat()))
        .take(SIZE)
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_differ_and_have_their_size() {
        assert_eq!(content(1).len(), SIZE);
        assert_ne!(content(1), content(2));
    }

    #[test]
    fn the_longest_gap_counts_the_end() {
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let record = |seconds| Record {
            name: String::new(),
            checksum: String::new(),
            acknowledged: at(seconds),
        };
        let mut log = Log {
            directory: "x".into(),
            records: vec![record(1), record(4), record(5)],
            begun,
            ended: at(6),
        };
        assert_eq!(log.longest_gap(), Duration::from_secs(3));
        log.ended = at(20);
        assert_eq!(log.longest_gap(), Duration::from_secs(15));
    }
}
