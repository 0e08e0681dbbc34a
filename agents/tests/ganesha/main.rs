//! The agents `ganesha` and `ganesha_trigger`, as Pacemaker calls them, with a
//! Ganesha that answers or says nothing. Each test has a network, a `/run` and
//! shared storage of its own; the commands that the agents run are scripts that
//! write down what they were asked. What the real daemon makes of it is seen in
//! the lab.
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test stands where Pacemaker and the administrator stand"
)]

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use storhaug_agents::{ganesha::Ganesha, ganesha_trigger::GaneshaTrigger, ocf::Agent};

use machine::{LOST, Machine, Seen, UP, outcome};

#[path = "../machine/mod.rs"]
mod machine;

/// For whatever takes no time on an idle machine.
const PATIENCE: Duration = Duration::from_secs(60);

const GANESHA: &str = env!("CARGO_BIN_EXE_ganesha");

/// What it says by D-Bus of its grace period.
const GRACE: &str = r#"{"type":"bbs","data":[true,true,"ok"]}"#;

const PUBLISHED: &str = "attrd_updater -n storhaug-nfs -U 1";
const WITHDRAWN: &str = "attrd_updater -n storhaug-nfs -D";

const A: &str = "::ffff:10.0.0.8-(18:Linux NFSv4.2 web1)";
const B: &str = "::ffff:10.0.0.9-(18:Linux NFSv4.1 web2)";

/// Runs a test on node 2 of a cluster.
fn alone(test: impl FnOnce(&Machine) + Send + 'static) {
    let furnish = |machine: &Machine| {
        machine.write("version", "NFS-Ganesha Release = V4.3");
        machine.write("ganesha.conf", "EXPORT { }\n");
        machine.write("grace", GRACE);
        let systemctl = "case $1 in\n\
            show) cat unit;;\n\
            start) cp up unit;;\n\
            stop|kill) printf 'LoadState=loaded\\nActiveState=inactive\\nSubState=dead\\n' > unit;;\n\
            esac\n";
        machine.noting("systemctl", systemctl);
        machine.noting("crm_node", "echo 2\n");
        machine.noting("ganesha.nfsd", "cat version\n");
        machine.noting("busctl", "cat grace\n");
    };
    machine::alone(furnish, test);
}

impl Machine {
    /// What the daemon was told by D-Bus since the last time.
    fn told(&self) -> Vec<String> {
        let asked = self.asked().into_iter();
        let told = asked.filter_map(|line| {
            let (_, method) = line.split_once("org.ganesha.nfsd.admin ")?;
            Some(method.to_owned())
        });
        told.collect()
    }

    fn call(&self, agent: &str, action: &str, more: &[(&str, &str)]) -> Seen {
        let mut action = self.action(agent, "nfs", action, PATIENCE);
        action
            .env("OCF_RESKEY_ip", "10.0.0.101")
            .env("OCF_RESKEY_state_directory", self.path("state"))
            .env("OCF_RESKEY_config", self.path("ganesha.conf"))
            .envs(more.iter().copied());
        outcome(&mut action)
    }

    fn ganesha(&self, action: &str) -> i32 {
        self.call(GANESHA, action, &[]).code
    }

    fn monitor(&self, depth: &str) -> Seen {
        let more = [
            ("OCF_RESKEY_CRM_meta_interval", "2000"),
            ("OCF_CHECK_LEVEL", depth),
        ];
        self.call(GANESHA, "monitor", &more)
    }

    fn trigger(&self, action: &str) -> i32 {
        self.call(env!("CARGO_BIN_EXE_ganesha_trigger"), action, &[])
            .code
    }

    /// Below `RecoveryRoot`.
    fn recovery(&self, path: &str) -> PathBuf {
        self.path("state/recovery").join(path)
    }

    fn record(&self, directory: &str, record: &str) {
        fs::create_dir_all(self.recovery(directory).join(record)).unwrap();
    }

    /// The last to have the address was this node.
    fn holder(&self, node: &str) {
        let own = self.recovery("10.0.0.101");
        fs::create_dir_all(&own).unwrap();
        symlink(node, own.join("holder")).unwrap();
    }

    fn names(&self, directory: &str) -> Vec<String> {
        let entries = fs::read_dir(self.recovery(directory)).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

/// Serves NFS in this network: each connection is handed to `speak`.
fn serve(speak: fn(TcpStream)) {
    let listener = TcpListener::bind(("127.0.0.1", 2049)).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            thread::spawn(move || speak(stream.unwrap()));
        }
    });
}

/// Answers a NULL call as Ganesha does.
fn answer(mut stream: TcpStream) {
    let mut request = [0; 44];
    stream.read_exact(&mut request).unwrap();
    let mut reply = [0; 28];
    reply[..4].copy_from_slice(&0x8000_0018_u32.to_be_bytes());
    reply[4..8].copy_from_slice(&request[4..8]);
    reply[11] = 1;
    // In pieces, as TCP may deliver it.
    for piece in reply.chunks(9) {
        stream.write_all(piece).unwrap();
        stream.flush().unwrap();
    }
}

/// Takes the request and says nothing, as a stopped process does.
fn say_nothing(mut stream: TcpStream) {
    let _ = stream.read_to_end(&mut Vec::new());
}

fn job(verb: &str) -> String {
    format!(
        "systemctl {verb} --no-block --no-ask-password --job-mode=ignore-dependencies -- nfs-ganesha.service"
    )
}

#[test]
fn the_descriptions_have_no_faults() {
    assert_eq!(Ganesha::METADATA.faults(), Vec::<String>::new());
    assert_eq!(GaneshaTrigger::METADATA.faults(), Vec::<String>::new());
}

#[test]
fn a_start_writes_what_the_daemon_reads_and_publishes_when_it_answers() {
    alone(|machine| {
        assert_eq!(machine.ganesha("monitor"), 7);
        serve(answer);
        assert_eq!(machine.ganesha("start"), 0);
        let asked = machine.asked();
        assert!(asked.contains(&job("start")), "{asked:?}");
        assert_eq!(asked.last().unwrap(), PUBLISHED);
        let written = fs::read_to_string("/run/storhaug/ganesha/ganesha.conf").unwrap();
        let root = machine.recovery("");
        let root = root.to_str().unwrap().trim_end_matches('/');
        assert!(written.contains(&format!("RecoveryRoot = \"{root}\";")));
        let exports = machine.path("state/exports.conf");
        assert!(written.contains(&format!("%include \"{}\"", exports.display())));
        assert_eq!(fs::read_to_string(exports).unwrap(), "");
        let environment = fs::read_to_string("/run/storhaug/ganesha/environment").unwrap();
        assert!(environment.contains(" -I 2 -E "), "{environment}");

        assert_eq!(machine.ganesha("start"), 0);
        assert!(!machine.asked().contains(&job("start")));
        assert_eq!(machine.monitor("0").code, 0);
        assert_eq!(machine.asked(), [""; 0], "a monitor runs nothing");
        assert_eq!(machine.monitor("10").code, 0);
        machine.write("grace", "");
        let seen = machine.monitor("10");
        assert_eq!(seen.code, 190, "{seen:?}");
        machine.asked();

        assert_eq!(machine.ganesha("stop"), 0);
        assert_eq!(machine.asked(), [WITHDRAWN, &job("stop")]);
        assert_eq!(machine.ganesha("stop"), 0);
        assert_eq!(machine.ganesha("monitor"), 7);
    });
}

#[test]
fn a_daemon_that_hangs_has_failed_and_is_killed() {
    alone(|machine| {
        machine.write("unit", UP);
        serve(say_nothing);
        let more = [
            ("OCF_RESKEY_CRM_meta_interval", "2000"),
            ("OCF_RESKEY_CRM_meta_timeout", "16000"),
        ];
        let seen = machine.call(GANESHA, "monitor", &more);
        assert_eq!(seen.code, 1);
        assert_eq!(
            seen.reason,
            "ganesha.nfsd is active (running): calling NFS at 127.0.0.1:2049: no answer in time"
        );
        assert!(
            seen.took >= Duration::from_secs(11),
            "the first attempt alone"
        );
        assert_eq!(machine.asked(), [WITHDRAWN]);

        // The shared storage stands still until a node is fenced.
        machine.write("cib", LOST);
        let seen = machine.call(GANESHA, "monitor", &more);
        assert_eq!(seen.code, 0, "{seen:?}");
        assert!(seen.said.contains("a lost node is to be fenced first"));
        assert_eq!(machine.asked(), [""; 0], "the attribute stays as it is");

        assert_eq!(machine.ganesha("stop"), 0);
        let kill = "systemctl kill --signal=SIGKILL -- nfs-ganesha.service";
        assert!(machine.asked().contains(&kill.to_owned()));
    });
}

#[test]
fn a_daemon_that_a_signal_has_stopped_is_not_waited_for() {
    alone(|machine| {
        serve(say_nothing);
        let mut stopped = Command::new("sleep")
            .arg("600")
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let pid = Pid::from_raw(i32::try_from(stopped.id()).unwrap());
        kill(pid, Signal::SIGSTOP).unwrap();
        machine.write("unit", &format!("{UP}MainPID={pid}\n"));
        let seen = machine.monitor("0");
        assert_eq!(seen.code, 1);
        assert_eq!(
            seen.reason,
            "a signal has stopped ganesha.nfsd: calling NFS at 127.0.0.1:2049: no answer in time"
        );
        assert!(seen.took < PATIENCE / 2, "{seen:?}");
        stopped.kill().unwrap();
        stopped.wait().unwrap();
    });
}

#[test]
fn a_daemon_that_a_fencing_keeps_from_starting_has_its_time_after_that() {
    alone(|machine| {
        machine.write("cib", LOST);
        let seen = machine.call(GANESHA, "start", &[]);
        assert_eq!(seen.code, 0, "{seen:?}");
        assert!(machine.asked().contains(&job("start")));
        for state in [LOST, ""] {
            machine.write("cib", state);
            let seen = machine.monitor("0");
            assert_eq!(seen.code, 0, "{seen:?}");
            assert_eq!(machine.asked(), [""; 0], "it does not serve");
        }
        serve(answer);
        machine.write("grace", "");
        assert_eq!(machine.monitor("0").code, 0);
        let published = PUBLISHED.to_owned();
        assert!(
            !machine.asked().contains(&published),
            "no address could come"
        );
        machine.write("grace", GRACE);
        assert_eq!(machine.monitor("0").code, 0);
        assert_eq!(machine.asked().last(), Some(&published));
    });
}

#[test]
fn storage_that_waits_for_a_fencing_is_not_waited_for() {
    alone(|machine| {
        machine.noting("find", "exec sleep 1000\n");
        machine.write("cib", LOST);
        let seen = machine.call(GANESHA, "start", &[]);
        assert_eq!(seen.code, 1, "{seen:?}");
        assert!(seen.reason.contains("is the shared storage mounted"));
        assert!(seen.took < Duration::from_secs(10), "{seen:?}");
        assert!(!machine.asked().contains(&job("start")));
    });
}

#[test]
fn a_configuration_that_cannot_be_ours_is_refused() {
    alone(|machine| {
        machine.write("ganesha.conf", "# ours\nNFSv4\n{\n}\n");
        let seen = machine.call(GANESHA, "start", &[]);
        assert_eq!(seen.code, 2);
        assert!(seen.reason.contains("remove the block NFSV4"), "{seen:?}");
        let seen = machine.call(GANESHA, "start", &[("OCF_RESKEY_scope", "a b")]);
        assert_eq!(seen.code, 6);
    });
}

#[test]
fn the_records_of_a_node_that_was_replaced_are_removed() {
    alone(|machine| {
        serve(answer);
        machine.record("v4recov/node2", A);
        machine.record("v4old/node2", B);
        machine.record("v4recov/node1", B);
        machine.holder("1");
        assert_eq!(machine.ganesha("start"), 0);
        assert!(machine.names("v4recov/node2").is_empty());
        assert!(machine.names("v4old/node2").is_empty());
        assert_eq!(machine.names("v4recov/node1"), [B]);
    });
}

#[test]
fn the_records_of_a_daemon_that_died_are_kept_beside_its_addresses() {
    alone(|machine| {
        serve(answer);
        machine.record("v4recov/node2", A);
        machine.record("10.0.0.101/v4recov", B);
        machine.holder("2");
        assert_eq!(machine.ganesha("start"), 0);
        // Whose record the daemon had removed may reclaim as well.
        assert_eq!(machine.names("v4recov/node2"), [A, B]);
        assert_eq!(machine.names("10.0.0.101/v4recov"), [A, B]);
        machine.asked();
        // It has forgotten them when its grace period is over.
        fs::remove_dir(machine.recovery("v4recov/node2").join(A)).unwrap();
        assert_eq!(machine.trigger("start"), 0);
        assert_eq!(machine.told(), ["grace s 5:10.0.0.101", "get_grace"]);
    });
}

#[test]
fn an_address_brings_the_clients_of_its_last_holder() {
    alone(|machine| {
        serve(answer);
        machine.record("v4recov/node1", A);
        machine.record("v4recov/node3", B);
        machine.holder("1");
        assert_eq!(machine.ganesha("start"), 0);
        machine.asked();
        assert_eq!(machine.trigger("monitor"), 7);
        assert_eq!(machine.trigger("start"), 0);
        assert_eq!(machine.told(), ["grace s 5:10.0.0.101", "get_grace"]);
        assert_eq!(machine.names("10.0.0.101/v4recov"), [A]);
        let holder = fs::read_link(machine.recovery("10.0.0.101/holder")).unwrap();
        assert_eq!(holder, Path::new("2"));
        assert_eq!(machine.trigger("monitor"), 0);
        assert_eq!(machine.trigger("stop"), 0);
        assert_eq!(machine.trigger("stop"), 0);
        assert_eq!(machine.trigger("monitor"), 7);

        // Back from another node, while the daemon here still knows it.
        fs::remove_file(machine.recovery("10.0.0.101/holder")).unwrap();
        machine.holder("1");
        machine.record("v4recov/node2", A);
        let take = "grace s 5:10.0.0.101";
        let back = [take, "grace s 2:Linux NFSv4.2 web1", "get_grace"];
        assert_eq!(machine.trigger("start"), 0);
        assert_eq!(machine.told(), back);

        // And once more, when the daemon has removed its record, which it did for
        // what it was told to forget.
        let returns = || {
            fs::remove_file(machine.recovery("10.0.0.101/holder")).unwrap();
            machine.holder("1");
            assert_eq!(machine.trigger("start"), 0);
            machine.told()
        };
        fs::remove_dir(machine.recovery("v4recov/node2").join(A)).unwrap();
        assert_eq!(returns(), back);
        // Another daemon knows nobody.
        assert_eq!(machine.ganesha("stop"), 0);
        assert_eq!(machine.ganesha("start"), 0);
        fs::remove_dir(machine.recovery("v4recov/node2").join(A)).unwrap();
        machine.asked();
        assert_eq!(returns(), [take, "get_grace"]);
    });
}

#[test]
fn a_daemon_that_dies_twice_in_a_row_has_lost_nobody() {
    alone(|machine| {
        serve(answer);
        // A had not come back yet when it died again.
        machine.record("v4old/node2", A);
        machine.record("v4recov/node2", B);
        machine.holder("2");
        assert_eq!(machine.ganesha("start"), 0);
        assert_eq!(machine.names("v4recov/node2"), [A, B]);
        assert!(machine.names("v4old/node2").is_empty());
        assert_eq!(machine.names("10.0.0.101/v4recov"), [A, B]);
    });
}

#[test]
fn records_that_are_read_in_part_are_read_again_or_not_taken_for_all() {
    alone(|machine| {
        serve(answer);
        machine.record("v4recov/node1", A);
        machine.holder("1");
        assert_eq!(machine.ganesha("start"), 0);
        machine.asked();
        // It finds nothing below what it cannot enter, and what it can enter
        // the next time.
        let blind = "test -e seen && exec /usr/bin/find \"$@\"\n\
            test -e fails || touch seen\n\
            printf 'd v4recov\\t\\0d v4recov/node1\\t\\0l 10.0.0.101/holder\\t1\\0'\n\
            exit 1\n";
        machine.write("fails", "");
        machine.noting("find", blind);
        assert_eq!(machine.trigger("start"), 0);
        let asked = machine.asked();
        assert!(asked.len() > 1 && asked.iter().all(|cmd| cmd.starts_with("find ")));
        assert!(!machine.recovery("10.0.0.101/v4recov").exists());
        let holder = fs::read_link(machine.recovery("10.0.0.101/holder")).unwrap();
        assert_eq!(holder, Path::new("1"), "the address is not taken over");

        fs::remove_file(machine.path("fails")).unwrap();
        assert_eq!(machine.trigger("start"), 0);
        assert_eq!(machine.told(), ["grace s 5:10.0.0.101", "get_grace"]);
        assert_eq!(machine.names("10.0.0.101/v4recov"), [A]);
    });
}

#[test]
fn an_address_without_clients_needs_no_grace() {
    alone(|machine| {
        serve(answer);
        machine.record("v4recov/node3", B);
        assert_eq!(machine.ganesha("start"), 0);
        machine.asked();
        assert_eq!(machine.trigger("start"), 0);
        assert_eq!(machine.told(), [""; 0]);
    });
}

#[test]
fn an_address_comes_whatever_fails() {
    alone(|machine| {
        // Ganesha has never been started here.
        assert_eq!(machine.trigger("start"), 0);
        assert_eq!(machine.trigger("stop"), 0);
        serve(answer);
        machine.record("v4recov/node1", A);
        machine.holder("1");
        assert_eq!(machine.ganesha("start"), 0);
        // D-Bus hangs, and so does the daemon behind it.
        let mut silent = fs::read_to_string(machine.path("busctl")).unwrap();
        silent.push_str("exec sleep 60\n");
        machine.program("busctl", &silent);
        let began = Instant::now();
        assert_eq!(machine.trigger("start"), 0);
        assert!(began.elapsed() < Duration::from_secs(30));
        assert_eq!(machine.trigger("monitor"), 0);
    });
}
