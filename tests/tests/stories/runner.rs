//! Tells stories one after the other, and what went wrong in them.

use std::fs::{self, File};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, anyhow};
use clap::Parser;
use nix::fcntl::{Flock, FlockArg};
use storhaug_lab::Lab;

use crate::cluster::{Cluster, say};

/// Held while stories are told: their labs have fixed names, on this machine.
const LOCK: &str = "/run/storhaug-stories.lock";

/// One story and where it is told.
#[derive(Debug)]
pub struct Story {
    name: &'static str,
    everywhere: bool,
    leaves: Leaves,
    tell: fn(&Cluster) -> Result<()>,
}

/// How a story that passes leaves the cluster. After one that fails nobody
/// knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leaves {
    /// Whole, and configured as it was: the next story goes on from there.
    Whole,
    /// Configured otherwise: the lab's disks are brought back.
    Changed,
}

impl Story {
    /// A story that every release has to tell.
    pub const fn everywhere(name: &'static str, tell: fn(&Cluster) -> Result<()>) -> Self {
        Self {
            name,
            everywhere: true,
            leaves: Leaves::Whole,
            tell,
        }
    }

    /// A story that one release tells for all.
    pub const fn once(name: &'static str, tell: fn(&Cluster) -> Result<()>) -> Self {
        Self {
            name,
            everywhere: false,
            leaves: Leaves::Whole,
            tell,
        }
    }

    /// The story leaves another configuration behind.
    pub const fn changing(self) -> Self {
        Self {
            leaves: Leaves::Changed,
            ..self
        }
    }
}

/// Tells storhaug's stories on a real cluster.
#[derive(Debug, Parser)]
pub struct Arguments {
    /// Releases on which to tell every story; without one, every story on
    /// bookworm and on trixie those that only a second release can tell.
    releases: Vec<String>,
    /// Only stories whose name contains this; may be repeated.
    #[arg(long, value_name = "TEXT")]
    only: Vec<String>,
    /// Name the stories, and tell none.
    #[arg(long)]
    list: bool,
    /// Leave the lab of the last story as it is.
    #[arg(long)]
    keep: bool,
    /// The source tree whose release build is installed in the nodes.
    #[arg(long, value_name = "DIR", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/.."))]
    source: PathBuf,
}

/// Tells the stories that the arguments ask for; the number of those that failed.
pub fn run(stories: &[Story], arguments: &Arguments) -> Result<usize> {
    if arguments.list {
        for story in stories {
            say(story.name);
        }
        return Ok(0);
    }
    let results = Path::new(env!("CARGO_TARGET_TMPDIR")).join("stories");
    fs::create_dir_all(&results).with_context(|| format!("creating {}", results.display()))?;
    let lock = File::create(LOCK).with_context(|| format!("creating {LOCK}"))?;
    let _lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock)
        .map_err(|(_, error)| anyhow!("another run of the stories is under way: {error}"))?;

    let mut tally = Tally::default();
    for (release, all) in chapters(&arguments.releases) {
        let chosen: Vec<&Story> = stories
            .iter()
            .filter(|story| all || story.everywhere)
            .filter(|story| {
                let only = &arguments.only;
                only.is_empty() || only.iter().any(|text| story.name.contains(text))
            })
            .collect();
        if !chosen.is_empty() {
            tell(
                &chosen,
                release,
                arguments,
                &results.join(release),
                &mut tally,
            )?;
        }
    }
    say(&format!("{} passed, {} failed", tally.passed, tally.failed));
    if tally.passed + tally.failed == 0 {
        return Err(anyhow!("no story has that name"));
    }
    Ok(tally.failed)
}

#[derive(Default)]
struct Tally {
    passed: usize,
    failed: usize,
}

/// The releases, and whether each tells every story.
fn chapters(named: &[String]) -> Vec<(&str, bool)> {
    if named.is_empty() {
        return vec![("bookworm", true), ("trixie", false)];
    }
    named
        .iter()
        .map(|release| (release.as_str(), true))
        .collect()
}

/// Tells stories on one release, in one lab.
fn tell(
    stories: &[&Story],
    release: &str,
    arguments: &Arguments,
    results: &Path,
    tally: &mut Tally,
) -> Result<()> {
    let begun = Instant::now();
    let cluster = Cluster::up(release, &arguments.source)
        .with_context(|| format!("bringing up the lab on {release}"))?;
    if let Err(error) = cluster.set_up() {
        say(&format!(
            "{release}: setup FAILED, {} stories are not told",
            stories.len()
        ));
        tally.failed += stories.len();
        return report(&cluster, &error, &results.join("setup"));
    }
    say(&format!(
        "{release}: lab up and set up in {:.0} s",
        begun.elapsed().as_secs_f64()
    ));
    let mut left = Leaves::Whole;
    for story in stories {
        let begun = Instant::now();
        let ready = match left {
            Leaves::Whole => Ok(()),
            Leaves::Changed => cluster.restore().context("bringing the lab back"),
        };
        let told = ready.and_then(|()| {
            catch_unwind(AssertUnwindSafe(|| (story.tell)(&cluster)))
                .unwrap_or_else(|_| Err(anyhow!("the story panicked")))
        });
        left = if told.is_ok() {
            story.leaves
        } else {
            Leaves::Changed
        };
        let took = begun.elapsed().as_secs_f64();
        let outcome = if told.is_ok() { "passed" } else { "FAILED" };
        say(&format!(
            "{release}: {} {outcome} in {took:.0} s",
            story.name
        ));
        match told {
            Ok(()) => tally.passed += 1,
            Err(error) => {
                tally.failed += 1;
                report(&cluster, &error, &results.join(story.name))?;
            }
        }
        for note in cluster.take_notes() {
            say(&format!("    {note}"));
        }
    }
    if !arguments.keep {
        Lab::down(cluster.lab.layout().name())?;
    }
    Ok(())
}

/// Prints what went wrong and what the cluster says about it, and keeps the rest.
fn report(cluster: &Cluster, error: &anyhow::Error, kept: &Path) -> Result<()> {
    say(&format!("    {error:#}"));
    if let Err(error) = cluster.lab.collect(kept) {
        say(&format!("    collecting: {error:#}"));
    }
    for line in cluster.summary().lines() {
        say(&format!("    | {line}"));
    }
    say(&format!("    kept in {}", kept.display()));
    Ok(())
}
