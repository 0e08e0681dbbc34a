//! What `storhaug-noded` costs and how fast it is, with a real Corosync on two
//! nodes in network namespaces: for each number of connections the delay until
//! the other node knows a new one, the time of the first round of tickles, the
//! time until the last client was reset, and CPU and memory while all is quiet.
//!
//! `cargo bench -p storhaug-corosync --bench tickle [-- NUMBER…]` prints a table,
//! and on the last line the same as JSON.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark")]

use std::collections::BTreeMap;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{Resource, setrlimit};
use nix::unistd::{SysconfVar, sysconf};
use serde_json::{Value, json};

use net::{Host, Net, ip, soon, wait};

#[path = "../tests/net/mod.rs"]
mod net;

const VIP: &str = "10.99.0.100/24";

/// Connections to one port, which have that many client ports to come from.
const PER_PORT: usize = 25_000;

/// How long the quiet daemon is watched.
const QUIET: Duration = Duration::from_secs(10);

/// How many connections are made one by one, to see when they are known.
const SINGLE: usize = 50;

fn main() {
    setrlimit(Resource::RLIMIT_NOFILE, 200_000, 200_000).unwrap();
    let asked: Vec<usize> = std::env::args()
        .filter_map(|number| number.parse().ok())
        .collect();
    let numbers = if asked.is_empty() {
        vec![0, 1_000, 10_000, 50_000]
    } else {
        asked
    };
    println!(
        "| connections | known after p50 | p99 | max | first round | all reset | CPU % | RSS MB |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    let results: Vec<Value> = numbers.into_iter().map(measure).collect();
    println!(
        "{}",
        json!({ "benchmark": "storhaug-noded", "results": results })
    );
}

fn measure(number: usize) -> Value {
    let mut net = Net::cluster(2);
    for host in net.nodes.iter().chain([&net.client]) {
        host.command("sysctl -qw net.core.somaxconn=65535");
        host.command("sysctl -qw net.ipv4.tcp_max_syn_backlog=65535");
        host.command("sysctl -qw net.ipv4.ip_local_port_range=2000\t65000");
    }
    let (first, second) = (&net.nodes[0], &net.nodes[1]);
    first.take_over(VIP);
    let mut clients: Vec<TcpStream> = Vec::new();
    let mut served = Vec::new();
    let mut listeners = Vec::new();
    for part in 0..number.div_ceil(PER_PORT) {
        let port = 445 + part;
        let listener = first.listen(&format!("10.99.0.100:{port}"));
        for _ in (0..PER_PORT.min(number - part * PER_PORT)).step_by(500) {
            let count = 500.min(number - clients.len());
            clients.extend(net.client.connect(&format!("10.99.0.100:{port}"), count));
            served.extend((0..count).map(|_| listener.accept().unwrap().0));
        }
        listeners.push(listener);
    }
    second.until_known(ip(VIP), number);

    let before = cpu(first);
    let quiet = Instant::now();
    wait_for(QUIET);
    let share = (cpu(first) - before) / quiet.elapsed().as_secs_f64() * 100.0;
    let rss = rss(first);

    let single = first.listen("10.99.0.100:9");
    let mut known = Vec::new();
    for count in 1..=SINGLE {
        clients.extend(net.client.connect("10.99.0.100:9", 1));
        served.push(single.accept().unwrap().0);
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
        all_ended(&clients).then(|| began.elapsed())
    });
    let vips = second.daemon().status(soon()).unwrap().vips;
    let round = Duration::from_micros(vips[0].tickled.as_ref().unwrap().first_round_us);

    let (p50, p99, max) = (
        known[SINGLE / 2],
        known[SINGLE * 99 / 100],
        known[SINGLE - 1],
    );
    let ms = |time: Duration| (time.as_secs_f64() * 1e4).round() / 10.0;
    println!(
        "| {number} | {} ms | {} ms | {} ms | {} ms | {} ms | {share:.2} | {rss:.1} |",
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
