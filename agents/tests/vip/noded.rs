//! What the agent tells `storhaug-noded`, and how little it depends on it.

use std::io::Write;
use std::net::IpAddr;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use std::{fs, thread};

use storhaug_agents::addresses::Network;
use storhaug_agents::daemon::{self, Answer, Known, Line, Node, Question, decode, read_line};

use crate::lan::{Lan, Vip, minute, run};
use crate::{FOUR, SIX};

/// A daemon that takes notes.
#[derive(Clone, Default)]
struct Notes(Arc<Mutex<Vec<(Question, bool)>>>);

impl Notes {
    /// Listens where the agent asks, in this thread's `/run`.
    fn listen(vip: &'static str) -> Self {
        let notes = Self::default();
        let listener = listener();
        let taken = notes.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                taken.answer(stream.unwrap(), vip);
            }
        });
        notes
    }

    fn answer(&self, mut stream: UnixStream, vip: &str) {
        let line = read_line(&mut stream, daemon::QUESTION_LIMIT, minute()).unwrap();
        let question: Line<Question> = decode(&line).unwrap();
        let body = match &question.body {
            Question::Hold { .. } => Answer::Held {},
            Question::Tickle { .. } => Answer::Tickled { clients: 7 },
            Question::Release { .. } => Answer::Released { sockets: 3 },
            Question::Known { .. } => Answer::Known(Known {
                clients: 0,
                holder: None,
                also_on: vec![Node {
                    id: 2,
                    name: "node2".into(),
                }],
            }),
            other => Answer::Refused {
                reason: format!("{other:?}"),
            },
        };
        // Not by a command: a monitor may have gone on before a process has
        // started, on a busy machine.
        let held = Network::open().unwrap().holding(vip.parse().unwrap());
        let up = !held.unwrap().is_empty();
        self.0.lock().unwrap().push((question.body, up));
        let version = daemon::VERSION;
        let answer = serde_json::to_string(&Line { version, body }).unwrap();
        // A monitor waits no longer than it helps.
        let _ = writeln!(stream, "{answer}");
    }

    /// What was asked since the last look, and whether the address was up.
    fn taken(&self) -> Vec<(Question, bool)> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

fn listener() -> UnixListener {
    fs::create_dir("/run/storhaug").unwrap();
    UnixListener::bind(daemon::SOCKET).unwrap()
}

#[test]
fn the_daemon_is_told_in_order() {
    for ip in [FOUR, SIX] {
        let _lan = Lan::new();
        let notes = Notes::listen(ip);
        let agent = Vip::new(ip);
        let vip: IpAddr = ip.parse().unwrap();
        let nic = "eth0".to_owned();

        agent.probe().not_running();
        assert_eq!(notes.taken(), []);
        let start = agent.start();
        start.ok();
        assert!(start.log.contains("7 clients"), "{start:?}");
        let expected = [
            (Question::Hold { vip }, true),
            (Question::Tickle { vip, nic }, true),
        ];
        assert_eq!(notes.taken(), expected);
        agent.start().ok();
        agent.monitor().ok();
        agent.probe().ok();
        assert_eq!(notes.taken(), vec![(Question::Hold { vip }, true); 2]);
        agent.stop().ok();
        assert_eq!(notes.taken(), [(Question::Release { vip }, false)]);
    }
}

#[test]
fn clients_are_left_alone_where_that_is_wanted() {
    let _lan = Lan::new();
    let notes = Notes::listen(FOUR);
    let vip = FOUR.parse().unwrap();
    let agent = Vip::new(FOUR).with("OCF_RESKEY_tickle", "no");
    agent.start().ok();
    assert_eq!(notes.taken(), [(Question::Hold { vip }, true)]);
}

#[test]
fn without_a_daemon_the_announcement_is_repeated_by_the_monitor() {
    let lan = Lan::new();
    let announcement: [(usize, &[u8]); 3] = [(12, &[8, 6]), (20, &[0, 2]), (28, &[10, 9, 0, 100])];
    let agent = Vip::new(FOUR);
    let start = agent.start();
    start.ok();
    assert!(start.log.contains("noded.sock"), "{start:?}");
    let capture = lan.capture();
    agent.probe().ok();
    assert_eq!(capture.count(&announcement), 0);
    agent.monitor().ok();
    capture.find(&announcement);
    let stop = agent.stop();
    stop.ok();
    assert!(stop.log.contains("noded.sock"), "{stop:?}");
}

/// A listener that never accepts is as bad as a daemon can be.
#[test]
fn a_daemon_that_hangs_holds_nobody_up() {
    let _lan = Lan::new();
    let _listener = listener();
    let agent = Vip::new(FOUR);
    let began = Instant::now();
    agent.start().ok();
    agent.monitor().ok();
    agent.stop().ok();
    // 5 + 0.05 + 5 seconds for the daemon, and plenty for a busy machine. The
    // timeout of one action is 20 seconds.
    assert!(began.elapsed() < Duration::from_secs(30), "{began:?}");
}

#[test]
fn where_it_shall_not_be_a_monitor_sees_the_address_and_claims_nothing() {
    let _lan = Lan::new();
    let notes = Notes::listen(FOUR);
    let vip = Vip::new(FOUR);
    vip.monitor_stopped().not_running();
    run("ip addr add 10.9.0.100/24 dev eth0");
    vip.monitor_stopped().ok();
    assert_eq!(notes.taken(), []);
}

#[test]
fn a_copy_that_the_cluster_knows_of_is_not_the_holders_failure() {
    let lan = Lan::new();
    let notes = Notes::listen(FOUR);
    let vip = Vip::new(FOUR);
    vip.start().ok();
    lan.at_peer(|| run("ip addr add 10.9.0.100/24 dev eth0"));
    notes.taken();
    let answer = vip.deep_monitor();
    answer.ok();
    assert!(answer.log.contains("on node2 as well"), "{}", answer.log);
}
