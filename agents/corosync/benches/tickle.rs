//! What `storhaug-noded` costs and how fast it is, with a real Corosync on two
//! nodes in network namespaces: for each number of connections the delay until
//! the other node knows a new one, the time of the first round of tickles, the
//! time until the last client was reset, and CPU and memory while all is quiet.
//!
//! `cargo bench -p storhaug-corosync --bench tickle [-- NUMBER…]` prints a table,
//! and on the last line the same as JSON.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark")]

use std::collections::BTreeMap;
use std::io::Read;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{SysconfVar, sysconf};
use serde_json::{Value, json};
use storhaug_agents::deadline::{Deadline, until};

use net::{Host, Net, OFTEN, SOON, ip, soon, wait};

#[path = "../tests/net/mod.rs"]
mod net;

const VIP: &str = "10.99.0.100/24";

/// Connections to one port from one process: below the usual limit of open files
/// and the number of client ports. Nobody accepts them, so they need no file at
/// the other end.
const SHARE: usize = 15_000;

/// How long the quiet daemon is watched.
const QUIET: Duration = Duration::from_secs(10);

/// How many connections are made one by one, to see when they are known.
const SINGLE: usize = 50;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [verb, address, count] = &words[..]
        && verb == CLIENTS
    {
        return clients(address, count.parse().unwrap());
    }
    let asked: Vec<usize> = words
        .iter()
        .filter_map(|number| number.parse().ok())
        .collect();
    let numbers = if asked.is_empty() {
        vec![0, 1_000, 10_000, 50_000]
    } else {
        asked
    };
    println!(
        "| connections | known after p50 | p99 | max | first round | all reset | packets | CPU % | RSS MB |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    let results: Vec<Value> = numbers.into_iter().map(measure).collect();
    println!(
        "{}",
        json!({ "benchmark": "storhaug-noded", "results": results })
    );
}

/// The verb by which this program is a number of clients.
const CLIENTS: &str = "clients";

/// Connects, and returns when every connection has ended.
fn clients(address: &str, count: usize) {
    let clients: Vec<_> = (0..count)
        .map(|_| TcpStream::connect(address).unwrap())
        .collect();
    for mut client in clients {
        // Nobody writes anything: this ends with the connection.
        let _ = client.read(&mut [0; 1]);
    }
}

fn measure(number: usize) -> Value {
    let mut net = Net::cluster(2);
    for host in net.nodes.iter().chain([&net.client]) {
        host.command("sysctl -qw net.core.somaxconn=65535");
        host.command("sysctl -qw net.ipv4.tcp_max_syn_backlog=65535");
    }
    let (first, second) = (&net.nodes[0], &net.nodes[1]);
    first.take_over(VIP);
    let mut clients = Vec::new();
    let mut listeners = Vec::new();
    for part in 0..number.div_ceil(SHARE) {
        let address = format!("10.99.0.100:{}", 445 + part);
        let count = SHARE.min(number - part * SHARE);
        listeners.push(first.listen(&address));
        let program = std::env::current_exe().unwrap();
        clients.push(
            net.client
                .spawn(&program, &[CLIENTS, &address, &count.to_string()]),
        );
    }
    // They take a while to be made.
    until(
        Deadline::after(10 * SOON),
        OFTEN,
        "every connection to be known",
        || Ok((second.known(ip(VIP)).clients == number).then_some(())),
    )
    .unwrap();

    let before = cpu(first);
    let quiet = Instant::now();
    wait_for(QUIET);
    let share = (cpu(first) - before) / quiet.elapsed().as_secs_f64() * 100.0;
    let rss = rss(first);

    let _single = first.listen("10.99.0.100:9");
    let mut known = Vec::new();
    let mut streams = Vec::new();
    for count in 1..=SINGLE {
        streams.extend(net.client.connect("10.99.0.100:9", 1));
        known.push(second.until_known(ip(VIP), number + count));
        // At any moment of the daemon's rhythm.
        wait_for(Duration::from_millis(7 * count as u64 % 60));
    }
    known.sort();

    net.crash(1);
    let second = &net.nodes[1];
    second.add(VIP);
    let began = Instant::now();
    second.daemon().hold(ip(VIP), soon()).unwrap();
    second.daemon().tickle(ip(VIP), "eth0", soon()).unwrap();
    let last = wait("every client to be reset", || {
        let ended = clients
            .iter_mut()
            .all(|client| client.try_wait().unwrap().is_some());
        (ended && all_ended(&streams)).then(|| began.elapsed())
    });
    let status = second.until_status("every answer to be counted", |status| {
        let tickled = status.vips[0].tickled.as_ref();
        tickled.is_some_and(|tickled| tickled.answered == Some(number + SINGLE))
    });
    let tickled = status.vips[0].tickled.as_ref().unwrap();
    let round = Duration::from_micros(tickled.first_round_us);
    let packets = tickled.packets;

    let (p50, p99, max) = (
        known[SINGLE / 2],
        known[SINGLE * 99 / 100],
        known[SINGLE - 1],
    );
    let ms = |time: Duration| (time.as_secs_f64() * 1e4).round() / 10.0;
    println!(
        "| {number} | {} ms | {} ms | {} ms | {} ms | {} ms | {packets} | {share:.2} | {rss:.1} |",
        ms(p50),
        ms(p99),
        ms(max),
        ms(round),
        ms(last),
    );
    json!({
        "connections": number,
        "known_ms": { "p50": ms(p50), "p99": ms(p99), "max": ms(max) },
        "first_round_ms": ms(round),
        "all_reset_ms": ms(last),
        "cpu_percent": share,
        "rss_mb": rss,
    })
}

/// Whether every client's connection has ended.
fn all_ended(clients: &[TcpStream]) -> bool {
    use std::os::fd::AsFd;
    let mut fds = Vec::with_capacity(clients.len());
    fds.extend(
        clients
            .iter()
            .map(|client| PollFd::new(client.as_fd(), PollFlags::POLLIN)),
    );
    poll(&mut fds, PollTimeout::ZERO).unwrap() as usize == clients.len()
}

/// Lets time pass.
fn wait_for(time: Duration) {
    poll(&mut [], PollTimeout::try_from(time).unwrap()).unwrap();
}

/// The processor time that the daemon has used, in seconds (proc(5)).
fn cpu(host: &Host) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", host.noded_pid())).unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
    ticks / sysconf(SysconfVar::CLK_TCK).unwrap().unwrap() as f64
}

/// The daemon's memory, in megabytes.
fn rss(host: &Host) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", host.noded_pid())).unwrap();
    let fields: BTreeMap<&str, &str> = status
        .lines()
        .filter_map(|line| line.split_once(':'))
        .collect();
    let kilobytes = fields["VmRSS"].trim().trim_end_matches(" kB");
    kilobytes.parse::<f64>().unwrap() / 1024.0
}
