//! `storhaug status` beside a storhaug-noded that knows something, one that
//! says nothing, one that talks nonsense, and none.

#![expect(
    clippy::unwrap_used,
    reason = "a machine that cannot be faked fails its test"
)]

mod simulator;

use std::io::Write;
use std::net::IpAddr;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use serde_json::json;
use simulator::{Member, Simulation};
use storhaug::machine::Machine;
use storhaug::show;
use storhaug::status::{self, Status, Verdict};
use storhaug_agents::daemon::{
    self, Answer, Line, Moved, Node, QUESTION_LIMIT, Question, Reason, Reset, Tickled, Vip, decode,
    read_line,
};
use storhaug_agents::deadline::{Deadline, until};
use storhaug_agents::exec::{Cmd, Output, Runner};

/// 2026-11-21T14:00:00Z, in milliseconds since 1970.
const THEN: u64 = 1_795_269_600_000;

/// A machine of a cluster whose second node has died, and whose tools answer
/// at once.
struct Fake(Member);

impl Fake {
    fn new() -> Fake {
        let mut simulation = Simulation::started(&simulator::cluster(3, 2));
        simulation.crash("node2");
        simulation.settle();
        Fake(simulation.member())
    }

    fn look(&self) -> Status {
        self.0.look()
    }

    fn listen(&self) -> UnixListener {
        let socket = self
            .0
            .root
            .path()
            .join(daemon::SOCKET.trim_start_matches('/'));
        std::fs::create_dir_all(socket.parent().unwrap()).unwrap();
        UnixListener::bind(socket).unwrap()
    }

    /// A daemon that answers one question about its status with `line`.
    fn daemon(&self, line: String) -> JoinHandle<()> {
        let listener = self.listen();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let patience = Deadline::after(Duration::from_secs(60));
            let asked = read_line(&mut stream, QUESTION_LIMIT, patience).unwrap();
            let asked: Line<Question> = decode(&asked).unwrap();
            assert_eq!(asked.body, Question::Status {});
            writeln!(stream, "{line}").unwrap();
        })
    }
}

fn node(id: u32) -> Node {
    Node {
        id,
        name: format!("node{id}"),
    }
}

/// What the daemon of node3 says: the first address has moved there from
/// node2, the second has always been on node1.
fn knowing() -> daemon::Status {
    let vip = |last: u8| Vip {
        address: IpAddr::from([10, 0, 0, last]),
        holder: Some(node(1)),
        since: Some(THEN - 86_400_000),
        also_on: Vec::new(),
        previous: None,
        clients: 1,
        moved: None,
        tickled: None,
    };
    let moved = Vip {
        holder: Some(node(3)),
        since: Some(THEN),
        previous: Some(node(2)),
        clients: 212,
        moved: Some(Moved {
            from: node(2),
            to: node(3),
            at: THEN,
            away_ms: Some(9_312),
            reason: Reason::Fenced,
        }),
        tickled: Some(Tickled {
            at: THEN + 80,
            clients: 200,
            answered: Some(198),
            packets: 816,
            first_round_us: 6250,
        }),
        ..vip(102)
    };
    daemon::Status {
        node: Some(node(3)),
        group: vec![node(1), node(3)],
        quorate: true,
        reset_dead_peers: true,
        vips: vec![vip(101), moved],
        resets: vec![Reset {
            node: node(2),
            at: THEN - 250,
            sockets: 5,
        }],
    }
}

fn line(body: Answer) -> String {
    serde_json::to_string(&Line {
        version: daemon::VERSION,
        body,
    })
    .unwrap()
}

/// The status beside a daemon that knows, a little more than three minutes
/// after the move.
fn told() -> Status {
    let fake = Fake::new();
    let daemon = fake.daemon(line(Answer::Status(Box::new(knowing()))));
    let mut status = fake.look();
    daemon.join().unwrap();
    let clients = status.clients.as_mut().unwrap();
    let age = clients.asked.elapsed().unwrap();
    assert!(age < Duration::from_secs(600), "asked {age:?} ago");
    clients.asked = SystemTime::UNIX_EPOCH + Duration::from_millis(THEN + 192_400);
    status
}

#[test]
fn people_read_what_the_readme_shows() {
    const BEGIN: &str = "<!-- storhaug status -->\n```\n";
    let shown = show::status_text(&told());
    for words in [
        "212 clients known\n",
        "moved node2 → node3 3m 12s ago (2026-11-21T14:00:00Z): node2 was fenced; was away for 9.3 s",
        "1 client known\n",
        "200 tickled 3m 12s ago, 198 answered: 816 packets, first round in 6.2 ms",
        "5 destroyed here 3m 12s ago (2026-11-21T13:59:59Z)",
    ] {
        assert!(shown.contains(words), "{words} is not in\n{shown}");
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let readme = std::fs::read_to_string(path).unwrap();
    let (_, after) = readme.split_once(BEGIN).expect("the example's beginning");
    let (committed, _) = after.split_once("```\n").expect("the example's end");
    // Where the devices run is for each version of Pacemaker to choose.
    let lines = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| !line.starts_with("  fence-"));
        lines.map(str::to_owned).collect()
    };
    assert!(
        lines(committed) == lines(&shown),
        "put this after {BEGIN} in README.md:\n{shown}"
    );
}

#[test]
fn programs_read_the_same() {
    let shown = show::status_json(&told());
    assert_eq!(shown["schema"], 1);
    let moved = &shown["addresses"][1];
    assert_eq!(moved["name"], "vip-10.0.0.102");
    assert_eq!(moved["clients"], 212);
    assert_eq!(
        moved["moved"],
        json!({
            "from": "node2",
            "to": "node3",
            "at": "2026-11-21T14:00:00.000Z",
            "reason": "fenced",
            "away_ms": 9312,
        })
    );
    assert_eq!(
        moved["tickled"],
        json!({
            "at": "2026-11-21T14:00:00.080Z",
            "clients": 200,
            "answered": 198,
            "packets": 816,
            "first_round_us": 6250,
        })
    );
    let stayed = &shown["addresses"][0];
    assert_eq!(stayed["clients"], 1);
    assert!(stayed["moved"].is_null() && stayed["tickled"].is_null());
    assert_eq!(
        shown["resets"],
        json!([{"node": "node2", "sockets": 5, "at": "2026-11-21T13:59:59.750Z"}])
    );
}

#[test]
fn a_copy_of_an_address_is_noted() {
    let fake = Fake::new();
    let mut knows = knowing();
    knows.vips[0].also_on.push(node(3));
    let daemon = fake.daemon(line(Answer::Status(Box::new(knows))));
    let status = fake.look();
    daemon.join().unwrap();
    let note = status.notes.last().unwrap();
    assert_eq!(note.problem, "10.0.0.101 is on node3 as well");
    assert!(
        note.remedy
            .contains("--resource vip-10.0.0.101 --node node3")
    );
    let shown = show::status_json(&status);
    assert_eq!(shown["addresses"][0]["also_on"], json!(["node3"]));
    assert_eq!(shown["addresses"][1]["also_on"], json!([]));
}

/// Of another version, before and after an upgrade.
#[test]
fn a_daemon_that_knows_less_or_more_is_understood() {
    let fake = Fake::new();
    let mut said = serde_json::to_value(Line {
        version: daemon::VERSION,
        body: Answer::Status(Box::new(knowing())),
    })
    .unwrap();
    let status = &mut said["body"]["status"];
    status["weather"] = "fine".into();
    let vip = status["vips"][1].as_object_mut().unwrap();
    vip.remove("moved");
    vip["tickled"].as_object_mut().unwrap().remove("answered");
    let daemon = fake.daemon(said.to_string());
    let shown = show::status_text(&fake.look());
    daemon.join().unwrap();
    assert!(
        shown.contains("212 clients known\n    200 tickled"),
        "{shown}"
    );
    assert!(shown.contains(" ago: 816 packets"), "{shown}");
}

/// What Pacemaker says is shown all the same.
fn assert_untold(status: &Status, reason: &str) {
    assert_eq!(status.verdict, Verdict::Degraded);
    let note = status.notes.last().unwrap();
    assert!(note.problem.contains(reason), "{note:?}");
    assert_eq!(note.remedy, "systemctl status storhaug-noded");
    let (text, json) = (show::status_text(status), show::status_json(status));
    assert!(text.contains(&note.problem), "{text}");
    assert!(json.get("resets").is_none());
    let addresses = json["addresses"].as_array().unwrap();
    assert_eq!(addresses.len(), 2);
    for address in addresses {
        assert!(address["holder"].is_string(), "{address}");
        for field in ["clients", "moved", "tickled"] {
            assert!(address.get(field).is_none(), "{address}");
        }
    }
}

#[test]
fn without_a_daemon_there_is_a_note() {
    assert_untold(&Fake::new().look(), "noded.sock: connecting: ENOENT");
}

#[test]
fn a_daemon_that_talks_nonsense_is_a_note() {
    let fake = Fake::new();
    let daemon = fake.daemon(r#"{"version":1,"body":{"weather":"fine"}}"#.into());
    assert_untold(&fake.look(), "unknown variant");
    daemon.join().unwrap();
}

/// Pacemaker's tools hang: two seconds are all that a status may take, and some
/// more on a busy machine, but not the half minute of other verbs.
#[test]
fn a_pacemaker_that_says_nothing_is_not_waited_for() {
    let fake = Fake::new();
    let silent = |cmd: &Cmd, deadline: Deadline| -> anyhow::Result<Output> {
        until(deadline, Duration::from_secs(60), &cmd.to_string(), || {
            Ok(None)
        })
    };
    let machine = Machine {
        runner: &Slow(silent),
        root: fake.0.root.path(),
    };
    let began = Instant::now();
    let status = status::look(machine).unwrap();
    assert!(began.elapsed() < Duration::from_secs(10));
    assert_eq!(status.verdict, Verdict::Down);
    let note = &status.notes[0];
    assert!(note.problem.contains("has not answered here"), "{note:?}");
}

/// Whatever takes its time.
struct Slow<F>(F);

impl<F: Fn(&Cmd, Deadline) -> anyhow::Result<Output>> Runner for Slow<F> {
    fn run(&self, cmd: &Cmd, deadline: Deadline) -> anyhow::Result<Output> {
        self.0(cmd, deadline)
    }
}

/// It is given half a second of the two that a status may take.
#[test]
fn a_daemon_that_says_nothing_is_not_waited_for() {
    let fake = Fake::new();
    let _silent = fake.listen();
    let began = Instant::now();
    assert_untold(&fake.look(), "no answer in time");
    assert!(began.elapsed() < Duration::from_secs(2));
}

/// Nor does a time that no calendar has stop it.
#[test]
fn any_time_can_be_shown() {
    let fake = Fake::new();
    let mut knows = knowing();
    knows.vips[1].moved.as_mut().unwrap().at = u64::MAX;
    let daemon = fake.daemon(line(Answer::Status(Box::new(knows))));
    let status = fake.look();
    daemon.join().unwrap();
    assert!(show::status_text(&status).contains("0s ago (9999-12-31T23:59:59Z)"));
    assert_eq!(
        show::status_json(&status)["addresses"][1]["moved"]["at"],
        "9999-12-31T23:59:59.999Z"
    );
}
