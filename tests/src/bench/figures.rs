//! What is measured, as it is kept: one JSON file per measurement.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context as _, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Event, Stack};

/// One event in the life of a cluster. Times are in seconds after it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measurement {
    /// What the cluster was built of.
    pub stack: Stack,
    /// What happened to it.
    pub event: Event,
    /// Which of several repeats this is, from 1.
    pub repeat: u32,
    /// Where and when.
    pub origin: Origin,
    /// When Corosync on a survivor had a membership without the lost node.
    pub membership_s: Option<f64>,
    /// When the lost node's power was off for certain.
    pub fenced_s: Option<f64>,
    /// When the address was on another node.
    pub address_s: Option<f64>,
    /// The first success of a new connection to the listener.
    pub tcp_s: f64,
    /// The first success of a new SMB session that writes a file.
    pub smb_s: f64,
    /// The longest time without a success of a new SMB session.
    pub smb_gap_s: f64,
    /// The same while the lost node came back.
    pub return_gap_s: Option<f64>,
    /// The mount of the kernel's own SMB client.
    pub kernel: Kernel,
    /// The clients, by their way to the address: `plain`, `firewall`, `nat`.
    pub clients: BTreeMap<String, Clients>,
}

/// Where and when something was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// Seconds since 1970.
    pub at: u64,
    /// The machine under the lab.
    pub machine: String,
}

impl Origin {
    /// Here and now.
    pub fn here() -> Result<Self> {
        let at = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")
            .context("reading the kernel's version")?;
        let memory =
            fs::read_to_string("/proc/meminfo").context("reading the size of the memory")?;
        let memory = memory
            .lines()
            .find_map(|line| line.strip_prefix("MemTotal:"))
            .and_then(|size| size.trim().trim_end_matches(" kB").parse::<u64>().ok())
            .context("reading the size of the memory")?;
        Ok(Self {
            at: at.unwrap_or_default().as_secs(),
            machine: format!(
                "{} cores, {} GiB, Linux {}",
                std::thread::available_parallelism()?,
                memory.div_ceil(1 << 20),
                kernel.trim()
            ),
        })
    }
}

/// One that writes through the kernel's SMB client, with fsync.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kernel {
    /// The longest time between two writes that were on disk.
    pub gap_s: f64,
    /// How many writes failed with an error.
    pub failed: u32,
}

/// Those who took one way to the address.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Clients {
    /// Those that waited for the listener to say something.
    pub idle: Told,
    /// Those with an SMB session and nothing to do.
    pub sessions: Told,
    /// The longest time in seconds that those who write to the listener got no
    /// answer.
    pub gap_s: Spread,
}

/// How many clients learned that their connection was gone, and when: in
/// milliseconds from the moment the address was on the other node, or, of a
/// daemon that was killed, from the event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Told {
    /// How many clients there were.
    pub count: usize,
    /// How many learned of it.
    pub reset: usize,
    /// The half of all had learned.
    pub p50_ms: Option<f64>,
    /// 99 % of all had learned.
    pub p99_ms: Option<f64>,
}

/// How a figure is spread over several clients.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spread {
    /// Of the half of them it is no more than this.
    pub p50: f64,
    /// The worst.
    pub max: f64,
}

/// What one monitor of each agent takes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Monitors {
    /// Where and when.
    pub origin: Origin,
    /// Ours and those they replace.
    pub agents: Vec<Monitor>,
}

/// What one monitor of an agent takes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Monitor {
    /// `storhaug:vip`, for example.
    pub agent: String,
    /// The agent of ours that does its work, if it is not ours itself.
    pub replaced_by: Option<String>,
    /// What it takes.
    pub cost: Cost,
}

/// What one run of a command takes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cost {
    /// How it ended.
    pub status: i32,
    /// Programs executed, itself among them.
    pub execs: u32,
    /// Processes made.
    pub forks: u32,
    /// Processor time.
    pub cpu_ms: f64,
    /// Time.
    pub wall_ms: f64,
}

/// What `storhaug-noded`'s own benchmark prints.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tickles {
    /// Where and when.
    pub origin: Origin,
    /// For several numbers of connections.
    pub results: Vec<Tickle>,
}

impl Tickles {
    /// The memory that a further connection takes: what the most need more than
    /// the least.
    #[must_use]
    pub fn bytes_per_connection(&self) -> Option<f64> {
        let least = self
            .results
            .iter()
            .min_by_key(|result| result.connections)?;
        let most = self
            .results
            .iter()
            .max_by_key(|result| result.connections)?;
        let more = most.connections - least.connections;
        (more > 0).then(|| (most.rss_mb - least.rss_mb) * f64::from(1 << 20) / f64::from(more))
    }
}

/// One number of connections.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tickle {
    /// How many there are.
    pub connections: u32,
    /// From the establishment of one to its being known on the other nodes.
    pub known_ms: Known,
    /// From the address being up to the last packet of the first round.
    pub first_round_ms: f64,
    /// The same to the last client's reset.
    pub all_reset_ms: f64,
    /// The share of a core that the daemon takes when nothing happens.
    pub cpu_percent: f64,
    /// Its memory.
    pub rss_mb: f64,
}

/// How long connections stay unknown, over several of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Known {
    /// Half of them no longer than this.
    pub p50: f64,
    /// 99 % of them.
    pub p99: f64,
    /// The worst.
    pub max: f64,
}

/// All that was measured.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Results {
    /// Events in the lives of clusters.
    pub events: Vec<Measurement>,
    /// What monitors take.
    pub monitors: Option<Monitors>,
    /// What tickles take.
    pub tickles: Option<Tickles>,
}

impl Results {
    /// Reads what there is in a directory.
    pub fn read(dir: &Path) -> Result<Self> {
        let mut results = Self {
            monitors: read(&dir.join(MONITORS))?,
            tickles: read(&dir.join(TICKLES))?,
            ..Self::default()
        };
        for stack in Stack::ALL {
            for event in Event::ALL {
                for repeat in 1.. {
                    match read(&dir.join(file_name(stack, event, repeat)))? {
                        Some(measurement) => results.events.push(measurement),
                        None => break,
                    }
                }
            }
        }
        Ok(results)
    }

    /// All repeats of one event in the life of one stack.
    pub fn of(&self, stack: Stack, event: Event) -> Vec<&Measurement> {
        self.events
            .iter()
            .filter(|measurement| measurement.stack == stack && measurement.event == event)
            .collect()
    }
}

/// The file of the monitors' cost.
pub const MONITORS: &str = "monitors.json";
/// The file of the tickles.
pub const TICKLES: &str = "tickles.json";

/// The file of one measurement.
pub fn file_name(stack: Stack, event: Event, repeat: u32) -> String {
    format!("{stack}-{event}-{repeat}.json")
}

/// Keeps something; whole or not at all, whenever the program is killed.
pub fn keep(file: &Path, figures: &impl Serialize) -> Result<()> {
    let unfinished = file.with_extension("unfinished");
    let write = || -> Result<()> {
        if let Some(dir) = file.parent() {
            fs::create_dir_all(dir)?;
        }
        fs::write(&unfinished, serde_json::to_string_pretty(figures)? + "\n")?;
        Ok(fs::rename(&unfinished, file)?)
    };
    write().with_context(|| format!("writing {}", file.display()))
}

fn read<T: DeserializeOwned>(file: &PathBuf) -> Result<Option<T>> {
    let text = match fs::read_to_string(file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        text => text.with_context(|| format!("reading {}", file.display()))?,
    };
    serde_json::from_str(&text)
        .map(Some)
        .with_context(|| format!("reading {}", file.display()))
}

impl Told {
    /// Of `count` clients those that learned of it at these moments, `since`
    /// the one in question.
    pub fn new(count: usize, moments: &[f64], since: f64) -> Self {
        let mut delays: Vec<f64> = moments.iter().map(|at| (at - since) * 1000.0).collect();
        delays.sort_by(f64::total_cmp);
        // Who never learns of it takes for ever.
        let percentile = |share| rank(count, share).and_then(|rank| delays.get(rank).copied());
        Self {
            count,
            reset: delays.len(),
            p50_ms: percentile(50).map(tenths),
            p99_ms: percentile(99).map(tenths),
        }
    }
}

impl Spread {
    /// Over these.
    pub fn new(mut figures: Vec<f64>) -> Result<Self> {
        figures.sort_by(f64::total_cmp);
        let at = |share| rank(figures.len(), share).map(|rank| figures[rank]);
        Ok(Self {
            p50: at(50).map(thousandths).context("there are no clients")?,
            max: at(100).map(thousandths).context("there are no clients")?,
        })
    }
}

/// The place of a percentile among so many in their order (nearest rank).
fn rank(count: usize, percent: usize) -> Option<usize> {
    (count * percent).div_ceil(100).checked_sub(1)
}

/// A figure without the digits that mean nothing.
pub fn thousandths(figure: f64) -> f64 {
    (figure * 1000.0).round() / 1000.0
}

fn tenths(figure: f64) -> f64 {
    (figure * 10.0).round() / 10.0
}

/// The longest time between two of these moments that follow each other,
/// looked at from `begin` to `end`.
pub fn longest_gap(begin: f64, moments: &[f64], end: f64) -> f64 {
    let mut moments: Vec<f64> = moments
        .iter()
        .copied()
        .filter(|moment| (begin..=end).contains(moment))
        .chain([begin, end])
        .collect();
    moments.sort_by(f64::total_cmp);
    moments
        .windows(2)
        .map(|pair| pair[1] - pair[0])
        .fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_that_never_learn_count_in_the_percentiles() {
        let moments: Vec<f64> = (0..99).map(|n| 100.0 + f64::from(n) / 1000.0).collect();
        let told = Told::new(100, &moments, 100.0);
        assert_eq!((told.count, told.reset), (100, 99));
        assert_eq!((told.p50_ms, told.p99_ms), (Some(49.0), Some(98.0)));
        let told = Told::new(100, &moments[..98], 100.0);
        assert_eq!((told.p50_ms, told.p99_ms), (Some(49.0), None));
        let told = Told::new(100, &[], 100.0);
        assert_eq!((told.reset, told.p50_ms), (0, None));
    }

    #[test]
    fn a_spread_has_its_middle_and_its_worst() {
        let spread = Spread::new(vec![3.0, 1.0, 2.0, 9.0]).unwrap();
        assert_eq!((spread.p50, spread.max), (2.0, 9.0));
        Spread::new(Vec::new()).unwrap_err();
    }

    #[test]
    fn a_gap_reaches_to_both_ends() {
        assert_eq!(longest_gap(10.0, &[5.0, 11.0, 14.0, 30.0], 16.0), 3.0);
        assert_eq!(longest_gap(10.0, &[15.0], 16.0), 5.0);
        assert_eq!(longest_gap(10.0, &[], 16.0), 6.0);
    }

    #[test]
    fn the_memory_of_a_connection_is_that_of_further_ones() {
        let result = |connections, rss_mb| Tickle {
            connections,
            known_ms: Known {
                p50: 1.0,
                p99: 1.0,
                max: 1.0,
            },
            first_round_ms: 1.0,
            all_reset_ms: 1.0,
            cpu_percent: 0.1,
            rss_mb,
        };
        let tickles = |results| Tickles {
            origin: Origin {
                at: 1,
                machine: "a machine".into(),
            },
            results,
        };
        let several = tickles(vec![result(0, 6.0), result(1024, 6.5), result(4096, 7.0)]);
        assert_eq!(several.bytes_per_connection(), Some(256.0));
        assert_eq!(tickles(vec![result(0, 6.0)]).bytes_per_connection(), None);
        assert_eq!(tickles(Vec::new()).bytes_per_connection(), None);
    }

    #[test]
    fn what_is_kept_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let figures = Monitors {
            origin: Origin {
                at: 1,
                machine: "a machine".into(),
            },
            agents: Vec::new(),
        };
        keep(&dir.path().join("new").join(MONITORS), &figures).unwrap();
        let results = Results::read(&dir.path().join("new")).unwrap();
        assert_eq!(results.monitors, Some(figures));
        assert_eq!(results.tickles, None);
        assert!(results.events.is_empty());
    }
}
