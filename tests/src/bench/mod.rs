//! `storhaug-lab bench`: stacks side by side on the same lab, one measurement
//! at a time. Each is kept in a file of its own as soon as it is made, so that
//! a run that was killed goes on where it was.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use crate::{Cmd, Lab, Options};

mod clients;
mod event;
mod figures;
mod monitors;
mod stack;
mod table;

pub use event::Event;
pub use figures::Results;
pub use stack::Stack;
pub use table::table;

use figures::{MONITORS, Origin, TICKLES, Tickle, Tickles};

/// The port of the plain listener.
const PORT: u16 = 4450;
/// Attempts at one measurement, each but the first in a new lab.
const ATTEMPTS: u32 = 2;
/// The benchmark of noded makes 60,000 connections.
const TICKLING: Duration = Duration::from_secs(1800);

/// What to measure, and how often.
#[derive(Debug, Clone)]
pub struct Selection {
    /// Of these stacks; of all, if it is empty.
    pub stacks: Vec<Stack>,
    /// These events; all, if it is empty.
    pub events: Vec<Event>,
    /// How often each; if it is not said, five times, those of others three
    /// times.
    pub repeats: Option<u32>,
    /// Whether to measure what the parts take as well: monitors, tickles.
    pub parts: bool,
    /// Where the figures are kept.
    pub results: PathBuf,
}

/// One thing to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Task {
    Event(Stack, Event, u32),
    Monitors,
    Tickles,
}

impl Selection {
    /// What there is to do, in an order that builds each cluster of ours once:
    /// first what others are compared by.
    fn tasks(&self) -> Vec<Task> {
        let mut tasks = Vec::new();
        if self.parts {
            tasks.push(Task::Tickles);
        }
        for stack in Stack::ALL {
            if !self.stacks.is_empty() && !self.stacks.contains(&stack) {
                continue;
            }
            for event in Event::ALL {
                let asked = self.events.is_empty() || self.events.contains(&event);
                if asked && (stack.ours() || event == Event::Crash) {
                    let repeats = self.repeats.unwrap_or(if stack.ours() { 5 } else { 3 });
                    tasks.extend((1..=repeats).map(|repeat| Task::Event(stack, event, repeat)));
                }
            }
            if self.parts && stack == Stack::Storhaug {
                tasks.push(Task::Monitors);
            }
        }
        tasks
    }
}

impl Task {
    fn file(self) -> String {
        match self {
            Self::Event(stack, event, repeat) => figures::file_name(stack, event, repeat),
            Self::Monitors => MONITORS.to_owned(),
            Self::Tickles => TICKLES.to_owned(),
        }
    }

    /// The stack it needs a lab with.
    fn stack(self) -> Option<Stack> {
        match self {
            Self::Event(stack, ..) => Some(stack),
            Self::Monitors => Some(Stack::Storhaug),
            Self::Tickles => None,
        }
    }

    fn carry_out(self, bench: &Bench, file: &Path) -> Result<()> {
        let lab = || {
            bench
                .lab
                .as_ref()
                .map(|(lab, _)| lab)
                .context("there is no lab")
        };
        match self {
            Self::Event(stack, event, repeat) => {
                figures::keep(file, &event::measure(lab()?, stack, event, repeat)?)
            }
            Self::Monitors => figures::keep(file, &monitors::measure(lab()?)?),
            Self::Tickles => figures::keep(file, &tickles(&bench.options.source)?),
        }
    }
}

/// The lab of a run, with what is set up in it.
struct Bench<'a> {
    options: &'a Options,
    lab: Option<(Lab, Stack)>,
}

impl Bench<'_> {
    /// Has a lab in which the stack is set up and serves: a new one for others,
    /// some of which do not recover from a crash before somebody helps.
    fn provide(&mut self, stack: Stack) -> Result<()> {
        let there = self.lab.as_ref().map(|(_, there)| *there);
        if stack.ours() && there == Some(stack) {
            return Ok(());
        }
        self.discard()?;
        let lab = Lab::up(self.options)?;
        stack
            .set_up(&lab)
            .with_context(|| format!("setting up {stack}"))?;
        stack.settle(&lab)?;
        self.lab = Some((lab, stack));
        Ok(())
    }

    fn discard(&mut self) -> Result<()> {
        self.lab = None;
        Lab::down(&self.options.name)
    }
}

/// Makes those measurements of a selection that are not there, and takes the
/// lab down. One that cannot be made is an error in the end, and does not keep
/// others from being made.
pub fn run(options: &Options, selection: &Selection, out: &mut impl Write) -> Result<()> {
    let tasks = selection.tasks();
    let mut bench = Bench { options, lab: None };
    let mut missing = Vec::new();
    for (number, task) in (1..).zip(&tasks) {
        let name = task.file();
        let file = selection.results.join(&name);
        for attempt in 1..=ATTEMPTS {
            if file.exists() {
                break;
            }
            writeln!(out, "{number}/{}  {name}", tasks.len())?;
            let provided = task.stack().map_or(Ok(()), |stack| bench.provide(stack));
            let made = provided.and_then(|()| task.carry_out(&bench, &file));
            if let Err(error) = made {
                writeln!(out, "{name}: attempt {attempt}: {error:#}")?;
                bench.discard()?;
            }
        }
        if !file.exists() {
            missing.push(name);
        }
    }
    bench.discard()?;
    ensure!(missing.is_empty(), "not measured: {}", missing.join(", "));
    Ok(())
}

/// What the benchmark of `storhaug-noded` prints on its last line.
#[derive(Debug, Deserialize)]
struct Printed {
    results: Vec<Tickle>,
}

fn tickles(source: &Path) -> Result<Tickles> {
    let printed = Cmd::new("cargo")
        .args([
            "bench",
            "--locked",
            "--package=storhaug-corosync",
            "--bench=tickle",
        ])
        .directory(source)
        .limit(TICKLING)
        .run()?;
    read_tickles(&printed)
}

fn read_tickles(printed: &str) -> Result<Tickles> {
    let last = printed
        .lines()
        .last()
        .context("the benchmark says nothing")?;
    let Printed { results } = serde_json::from_str(last).context("reading what it says")?;
    Ok(Tickles {
        origin: Origin::here()?,
        results,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selection() -> Selection {
        Selection {
            stacks: Vec::new(),
            events: Vec::new(),
            repeats: None,
            parts: true,
            results: PathBuf::new(),
        }
    }

    #[test]
    fn others_crash_three_times_and_ours_everything_five_times() {
        let tasks = selection().tasks();
        let files: Vec<String> = tasks.iter().map(|task| task.file()).collect();
        assert!(files.contains(&"ipaddr2-crash-3.json".to_owned()));
        assert!(!files.contains(&"ipaddr2-crash-4.json".to_owned()));
        assert!(!files.contains(&"ctdb-move-1.json".to_owned()));
        assert!(files.contains(&"fast-cut-5.json".to_owned()));
        assert_eq!(tasks.len(), 4 * 3 + 2 * 4 * 5 + 2);
    }

    #[test]
    fn what_is_measured_of_a_stack_is_together() {
        let mut stacks: Vec<_> = selection()
            .tasks()
            .iter()
            .filter_map(|task| task.stack())
            .collect();
        stacks.dedup();
        assert_eq!(stacks, Stack::ALL);
    }

    #[test]
    fn a_part_of_it_is_chosen() {
        let part = Selection {
            stacks: vec![Stack::Fast],
            events: vec![Event::Move],
            repeats: Some(1),
            parts: false,
            ..selection()
        };
        assert_eq!(part.tasks(), [Task::Event(Stack::Fast, Event::Move, 1)]);
    }

    #[test]
    fn the_last_line_of_the_benchmark_counts() {
        let printed = "| a | table |\n{\"benchmark\":\"storhaug-noded\",\"results\":[{\
            \"connections\":1000,\"known_ms\":{\"p50\":10.5,\"p99\":20.0,\"max\":21.0},\
            \"first_round_ms\":8.5,\"all_reset_ms\":30.0,\"cpu_percent\":0.1,\"rss_mb\":9.0}]}\n";
        let tickles = read_tickles(printed).unwrap();
        assert_eq!(tickles.results[0].connections, 1000);
        read_tickles("").unwrap_err();
    }
}
