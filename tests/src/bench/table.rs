//! The measurements as tables in Markdown: the README's come from here.

use std::fmt::Write as _;

use super::figures::{Measurement, Monitor, Origin, Results, Told};
use super::{Event, Stack};

/// The ways to the address, as they are kept and as they are called.
const WAYS: [(&str, &str); 3] = [
    ("plain", "directly"),
    ("firewall", "firewall"),
    ("nat", "NAT"),
];

/// A figure of a measurement; nothing for what never came.
type Figure = fn(&Measurement) -> Option<f64>;

/// What is told of a crash. Seconds.
const CRASH: [(&str, Figure); 8] = [
    ("Corosync has noticed", |m| m.membership_s),
    ("the node's power is off", |m| m.fenced_s),
    ("the address is on a survivor", |m| m.address_s),
    ("a new connection is answered", |m| Some(m.tcp_s)),
    ("**a new SMB session has written a file**", |m| {
        Some(m.smb_s)
    }),
    ("a writer is without an answer", |m| {
        m.clients.get("plain").map(|clients| clients.gap_s.p50)
    }),
    ("the kernel's SMB mount is without a write", |m| {
        Some(m.kernel.gap_s)
    }),
    ("no new SMB session while the node comes back", |m| {
        m.return_gap_s
    }),
];

/// What is told of other events. Seconds.
const OTHER: [(&str, Figure); 4] = [
    ("the address has moved", |m| m.address_s),
    ("no new SMB session", |m| Some(m.smb_gap_s)),
    ("a writer is without an answer", |m| {
        m.clients.get("plain").map(|clients| clients.gap_s.p50)
    }),
    ("the kernel's SMB mount is without a write", |m| {
        Some(m.kernel.gap_s)
    }),
];

/// All tables that there are figures for.
pub fn table(results: &Results) -> String {
    let mut text = String::new();
    if let Some(origins) = origins(results) {
        text += &origins;
    }
    let crashed: Vec<(Stack, Vec<&Measurement>)> = Stack::ALL
        .into_iter()
        .map(|stack| (stack, results.of(stack, Event::Crash)))
        .filter(|(_, measured)| !measured.is_empty())
        .collect();
    if !crashed.is_empty() {
        text += &crash(&crashed);
        text += &clients(&crashed);
    }
    text += &others(results);
    text += &tickles(results);
    text += &monitors(results);
    text
}

fn crash(crashed: &[(Stack, Vec<&Measurement>)]) -> String {
    let mut rows = Rows::new("seconds after a silent crash", crashed);
    rows.row("runs", |measured| measured.len().to_string());
    for (what, figure) in CRASH {
        rows.row(what, |measured| spread(measured, figure));
    }
    let smb = |measured: &[&Measurement]| median(measured.iter().map(|m| m.smb_s).collect());
    if let Some((Stack::Ipaddr2, first)) = crashed.first() {
        let first = smb(first);
        rows.row("times as fast as the first", |measured| {
            format!("{:.1}", first / smb(measured))
        });
    }
    rows.text
}

fn clients(crashed: &[(Stack, Vec<&Measurement>)]) -> String {
    let mut rows = Rows::new("clients told, 99 % of them within", crashed);
    for (what, told) in [
        (
            "idle on the listener",
            (|m, way| m.clients.get(way).map(|clients| &clients.idle))
                as for<'a> fn(&'a Measurement, &str) -> Option<&'a Told>,
        ),
        ("idle SMB sessions", |m, way| {
            m.clients.get(way).map(|clients| &clients.sessions)
        }),
    ] {
        for (way, called) in WAYS {
            rows.row(&format!("{what}, {called}"), |measured| {
                let told: Vec<&Told> = measured.iter().filter_map(|m| told(m, way)).collect();
                share(&told)
            });
        }
    }
    rows.text
}

fn others(results: &Results) -> String {
    let mut text = String::new();
    for (event, title) in [
        (Event::Move, "seconds when the address is moved"),
        (Event::Kill, "seconds when smbd is killed"),
        (Event::Cut, "seconds after the network is cut"),
    ] {
        let measured: Vec<(Stack, Vec<&Measurement>)> = Stack::ALL
            .into_iter()
            .map(|stack| (stack, results.of(stack, event)))
            .filter(|(_, measured)| !measured.is_empty())
            .collect();
        if measured.is_empty() {
            continue;
        }
        let mut rows = Rows::new(title, &measured);
        rows.row("runs", |measured| measured.len().to_string());
        for (what, figure) in OTHER {
            rows.row(what, |measured| spread(measured, figure));
        }
        for (what, told) in [
            (
                "idle on the listener: told",
                (|m| m.clients.get("plain").map(|clients| &clients.idle))
                    as fn(&Measurement) -> Option<&Told>,
            ),
            ("idle SMB sessions: told", |m| {
                m.clients.get("plain").map(|clients| &clients.sessions)
            }),
        ] {
            rows.row(what, |measured| {
                share(&measured.iter().filter_map(|m| told(m)).collect::<Vec<_>>())
            });
        }
        text += &rows.text;
    }
    text
}

fn tickles(results: &Results) -> String {
    let Some(tickles) = &results.tickles else {
        return String::new();
    };
    let mut text = String::from(
        "\n| connections | known on the other nodes after, 50 % | 99 % | all | first round sent | \
         last client reset | CPU when quiet | memory |\n|---|---|---|---|---|---|---|---|\n",
    );
    for result in &tickles.results {
        let known = &result.known_ms;
        _ = writeln!(
            text,
            "| {} | {} ms | {} ms | {} ms | {} ms | {} ms | {:.2} % | {:.0} MB |",
            result.connections,
            known.p50,
            known.p99,
            known.max,
            result.first_round_ms,
            result.all_reset_ms,
            result.cpu_percent,
            result.rss_mb
        );
    }
    if let Some(bytes) = tickles.bytes_per_connection() {
        _ = writeln!(text, "\nEvery connection takes {bytes:.0} bytes.");
    }
    text
}

fn monitors(results: &Results) -> String {
    let Some(monitors) = &results.monitors else {
        return String::new();
    };
    let mut text = String::from(
        "\n| a monitor of | executes | forks | CPU | takes | instead of | executes | forks | CPU | \
         takes |\n|---|---|---|---|---|---|---|---|---|---|\n",
    );
    let (replaced, ours): (Vec<&Monitor>, Vec<&Monitor>) = monitors
        .agents
        .iter()
        .partition(|monitor| monitor.replaced_by.is_some());
    for own in ours {
        let old = replaced
            .iter()
            .find(|monitor| monitor.replaced_by.as_deref() == Some(own.agent.as_str()));
        let old = match old {
            None => " | | | | ".to_owned(),
            Some(old) => costs(old, Some(own)),
        };
        _ = writeln!(text, "| {} | {old} |", costs(own, None));
    }
    text
}

/// What an agent takes, and how many times that is what another does.
fn costs(monitor: &Monitor, than: Option<&Monitor>) -> String {
    let times = |figure: f64, than: Option<f64>| match than {
        Some(than) => format!("{figure:.1} ms ({:.0}×)", figure / than),
        None => format!("{figure:.1} ms"),
    };
    let cost = &monitor.cost;
    format!(
        "{} | {} | {} | {} | {}",
        monitor.agent.replace('/', ":"),
        cost.execs,
        cost.forks,
        times(cost.cpu_ms, than.map(|than| than.cost.cpu_ms)),
        times(cost.wall_ms, than.map(|than| than.cost.wall_ms)),
    )
}

/// Rows with a column for each stack.
struct Rows<'a> {
    columns: &'a [(Stack, Vec<&'a Measurement>)],
    text: String,
}

impl<'a> Rows<'a> {
    fn new(title: &str, columns: &'a [(Stack, Vec<&'a Measurement>)]) -> Self {
        let mut text = format!("\n| {title} |");
        for (stack, _) in columns {
            _ = write!(text, " {} |", called(*stack));
        }
        text += "\n|---|";
        text += &"---|".repeat(columns.len());
        text += "\n";
        Self { columns, text }
    }

    fn row(&mut self, what: &str, cell: impl Fn(&[&Measurement]) -> String) {
        _ = write!(self.text, "| {what} |");
        for (_, measured) in self.columns {
            _ = write!(self.text, " {} |", cell(measured));
        }
        self.text += "\n";
    }
}

fn called(stack: Stack) -> &'static str {
    match stack {
        Stack::Ipaddr2 => "CTDB + IPaddr2",
        Stack::PortblockGluster => "and portblock, list on Gluster",
        Stack::PortblockLocal => "and portblock, list elsewhere",
        Stack::Ctdb => "CTDB alone",
        Stack::Storhaug => "storhaug",
        Stack::Fast => "storhaug, fast",
    }
}

/// The day or days, and the machine or machines.
fn origins(results: &Results) -> Option<String> {
    let origins = results
        .events
        .iter()
        .map(|measurement| &measurement.origin)
        .chain(results.monitors.iter().map(|monitors| &monitors.origin))
        .chain(results.tickles.iter().map(|tickles| &tickles.origin));
    let mut days: Vec<String> = origins.clone().map(day).collect();
    days.sort();
    days.dedup();
    let mut machines: Vec<&str> = origins.map(|origin| origin.machine.as_str()).collect();
    machines.sort_unstable();
    machines.dedup();
    let (first, last) = (days.first()?, days.last()?);
    let days = if first == last {
        first.clone()
    } else {
        format!("{first} to {last}")
    };
    Some(format!(
        "Measured {days} on {}. Median (least–most) of the runs.\n",
        machines.join("; ")
    ))
}

/// The day as RFC 3339 has it, in UTC.
fn day(origin: &Origin) -> String {
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(origin.at);
    let time = humantime::format_rfc3339_seconds(time).to_string();
    time.split('T').next().unwrap_or_default().to_owned()
}

/// Median, least and most; what never came took for ever.
fn spread(measured: &[&Measurement], figure: Figure) -> String {
    let figures: Vec<f64> = measured
        .iter()
        .map(|measurement| figure(measurement).unwrap_or(f64::INFINITY))
        .collect();
    let number = |figure: f64| {
        if figure.is_finite() {
            format!("{figure:.1}")
        } else {
            "–".to_owned()
        }
    };
    let least = figures.iter().copied().fold(f64::INFINITY, f64::min);
    let most = figures.iter().copied().fold(0.0, f64::max);
    if least.is_infinite() {
        return "–".to_owned();
    }
    let (median, least, most) = (number(median(figures)), number(least), number(most));
    if least == most {
        median
    } else {
        format!("{median} ({least}–{most})")
    }
}

/// The share of clients that were told, over all runs, and the median of the
/// time in which 99 % of them were.
fn share(told: &[&Told]) -> String {
    let count: usize = told.iter().map(|told| told.count).sum();
    let reset: usize = told.iter().map(|told| told.reset).sum();
    if count == 0 {
        return "–".to_owned();
    }
    // Not quite all is not all.
    let percent = reset * 100 / count;
    let within: Option<Vec<f64>> = told.iter().map(|told| told.p99_ms).collect();
    match within {
        Some(within) => format!("{percent} %, {:.0} ms", median(within)),
        None => format!("{percent} %"),
    }
}

/// The middle one, or the mean of the two in the middle.
fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    let middle = figures.len() / 2;
    match figures.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => figures[middle],
        _ => f64::midpoint(figures[middle - 1], figures[middle]),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use super::super::figures::{Clients, Cost, Kernel, Monitors, Spread};
    use super::*;

    const README: &str = include_str!("../../../README.md");
    const BEGIN: &str = "<!-- storhaug-lab bench --table -->\n";

    #[test]
    fn the_readme_has_the_tables_of_the_committed_measurements() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../bench");
        let results = Results::read(&dir).unwrap();
        let (_, after) = README.split_once(BEGIN).unwrap();
        let (shown, _) = after.split_once("<!-- end -->").unwrap();
        assert_eq!(shown, table(&results));
    }

    fn measurement(stack: Stack, smb_s: f64, reset: usize) -> Measurement {
        let told = Told {
            count: 100,
            reset,
            p50_ms: None,
            p99_ms: (reset == 100).then_some(31.0),
        };
        let clients = Clients {
            idle: told.clone(),
            sessions: told,
            gap_s: Spread { p50: 1.0, max: 2.0 },
        };
        Measurement {
            stack,
            event: Event::Crash,
            repeat: 1,
            origin: Origin {
                at: 0,
                machine: "2 cores".into(),
            },
            membership_s: None,
            fenced_s: Some(8.0),
            address_s: Some(9.0),
            tcp_s: 9.1,
            smb_s,
            smb_gap_s: smb_s,
            return_gap_s: Some(0.5),
            kernel: Kernel {
                gap_s: 11.0,
                failed: 0,
            },
            clients: BTreeMap::from([("plain".to_owned(), clients)]),
        }
    }

    #[test]
    fn a_crash_is_told_with_its_spread_and_beside_the_stock_stack() {
        let results = Results {
            events: vec![
                measurement(Stack::Ipaddr2, 70.0, 0),
                measurement(Stack::Storhaug, 9.0, 100),
                measurement(Stack::Storhaug, 10.0, 100),
                measurement(Stack::Storhaug, 14.0, 100),
            ],
            ..Results::default()
        };
        let text = table(&results);
        for line in [
            "Measured 1970-01-01 on 2 cores. Median (least–most) of the runs.",
            "| runs | 1 | 3 |",
            "| Corosync has noticed | – | – |",
            "| **a new SMB session has written a file** | 70.0 | 10.0 (9.0–14.0) |",
            "| times as fast as the first | 1.0 | 7.0 |",
            "| idle on the listener, directly | 0 % | 100 %, 31 ms |",
            "| idle on the listener, NAT | – | – |",
        ] {
            assert!(text.lines().any(|row| row == line), "{line}\n{text}");
        }
    }

    #[test]
    fn not_quite_all_is_not_all() {
        let told = Told {
            count: 1000,
            reset: 999,
            p50_ms: Some(1.0),
            p99_ms: Some(2.0),
        };
        assert_eq!(share(&[&told]), "99 %, 2 ms");
    }

    #[test]
    fn a_median_of_two_is_between_them() {
        assert_eq!(median(vec![4.0, 1.0]), 2.5);
        assert_eq!(median(vec![9.0, 1.0, 4.0]), 4.0);
    }

    #[test]
    fn a_monitor_stands_beside_the_one_it_replaces() {
        let monitor = |agent: &str, replaced_by: Option<&str>, wall_ms| Monitor {
            agent: agent.to_owned(),
            replaced_by: replaced_by.map(str::to_owned),
            cost: Cost {
                status: 0,
                execs: 1,
                forks: 0,
                cpu_ms: 2.0,
                wall_ms,
            },
        };
        let results = Results {
            monitors: Some(Monitors {
                origin: Origin {
                    at: 0,
                    machine: String::new(),
                },
                agents: vec![
                    monitor("storhaug/vip", None, 2.0),
                    monitor("heartbeat/IPaddr2", Some("storhaug/vip"), 50.0),
                ],
            }),
            ..Results::default()
        };
        let row = "| storhaug:vip | 1 | 0 | 2.0 ms | 2.0 ms | heartbeat:IPaddr2 | 1 | 0 | \
                   2.0 ms (1×) | 50.0 ms (25×) |";
        let text = table(&results);
        assert!(text.lines().any(|line| line == row), "{text}");
    }
}
