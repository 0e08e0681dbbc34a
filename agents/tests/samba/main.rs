//! The agent `samba`, as Pacemaker calls it, with an smbd that answers, says
//! nothing or talks nonsense. Each test has a network and a `/run` of its own;
//! the commands that the agent runs are scripts that write down what they were
//! asked, because there is no systemd to ask where tests run. What the real
//! ones do is seen in the lab.
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test stands where Pacemaker and the administrator stand"
)]

use std::{
    fs::{self, File},
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    os::{fd::AsRawFd, unix::fs::symlink},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    unistd::pipe2,
};
use storhaug_agents::{
    ctdbd,
    deadline::{Deadline, until},
    ocf::Agent,
    samba::Samba,
};

use fake::{Says, WELL, listen};
use machine::{DOWN, LOST, Machine, Seen, UP, outcome};

#[path = "../ctdbd/mod.rs"]
mod fake;
#[path = "../machine/mod.rs"]
mod machine;

/// For whatever takes no time on an idle machine.
const PATIENCE: Duration = Duration::from_secs(60);

const STARTING: &str = "LoadState=loaded\nActiveState=activating\nSubState=start\nJob=7\n";

const FAILED: &str = "LoadState=loaded\nActiveState=failed\nSubState=failed\nResult=exit-code\n";

/// Runs a test on a machine with Samba.
fn alone(test: impl FnOnce(&Machine) + Send + 'static) {
    let furnish = |machine: &Machine| {
        machine.write("conf", "[global]\n\tclustering = Yes\n[a]\n\tpath = /run\n");
        let systemctl = "for last; do :; done\n\
            case $1:$last in\n\
            show:smb.service) cat unit;;\n\
            show:*) echo LoadState=not-found; echo ActiveState=inactive;;\n\
            start:*) cp up unit;;\n\
            stop:*|kill:*) printf 'LoadState=loaded\\nActiveState=inactive\\nSubState=dead\\n' > unit;;\n\
            esac\n";
        machine.noting("systemctl", systemctl);
        machine.noting("testparm", "cat conf\n");
        machine.noting("wbinfo", "exit $(cat winbindd)\n");
    };
    machine::alone(furnish, test);
}

impl Machine {
    fn call(&self, action: &str, timeout: Duration, more: &[(&str, &str)]) -> Seen {
        let mut action = self.action(env!("CARGO_BIN_EXE_samba"), "smbd", action, timeout);
        outcome(action.envs(more.iter().copied()))
    }

    fn start(&self) -> Seen {
        self.call("start", PATIENCE, &[])
    }

    fn stop(&self) -> Seen {
        self.call("stop", PATIENCE, &[])
    }

    fn probe(&self) -> Seen {
        self.call("monitor", PATIENCE, &[])
    }

    fn monitor(&self, depth: &str) -> Seen {
        let more = [
            ("OCF_RESKEY_CRM_meta_interval", "10000"),
            ("OCF_CHECK_LEVEL", depth),
        ];
        self.call("monitor", PATIENCE, &more)
    }
}

const RECOVERS: Says = Says {
    recovery_mode: 1,
    ..WELL
};

/// Runs a CTDB, and says what it says from now on.
fn ctdb(says: Says) -> Arc<Mutex<Says>> {
    let socket = Path::new(ctdbd::SOCKET);
    fs::create_dir_all(socket.parent().unwrap()).unwrap();
    let says = Arc::new(Mutex::new(says));
    listen(socket, &says);
    says
}

/// Serves SMB in this network: each connection is handed to `speak`.
fn serve(speak: fn(TcpStream)) {
    let listener = TcpListener::bind(("127.0.0.1", 445)).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            thread::spawn(move || speak(stream.unwrap()));
        }
    });
}

/// Answers a NEGOTIATE as smbd does: SMB 3.1.1.
fn answer(mut stream: TcpStream) {
    let mut request = [0; 4 + 158];
    stream.read_exact(&mut request).unwrap();
    assert_eq!(&request[4..8], b"\xfeSMB");
    let mut reply = [0; 4 + 128];
    reply[3] = 128;
    reply[4..8].copy_from_slice(b"\xfeSMB");
    (reply[8], reply[20], reply[68]) = (64, 1, 65);
    reply[72..74].copy_from_slice(&0x0311_u16.to_le_bytes());
    // In pieces, as TCP may deliver it.
    for piece in reply.chunks(50) {
        stream.write_all(piece).unwrap();
        stream.flush().unwrap();
    }
}

/// Takes the request and says nothing, as a stopped process does.
fn say_nothing(mut stream: TcpStream) {
    let _ = stream.read_to_end(&mut Vec::new());
}

fn talk_nonsense(mut stream: TcpStream) {
    let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    say_nothing(stream);
}

const PUBLISHED: &str = "attrd_updater -n storhaug-smb -U 1";
const WITHDRAWN: &str = "attrd_updater -n storhaug-smb -D";
const TESTPARM: &str = "testparm -s -v --suppress-prompt /etc/samba/smb.conf";

fn job(verb: &str) -> String {
    format!(
        "systemctl {verb} --no-block --no-ask-password --job-mode=ignore-dependencies -- smb.service"
    )
}

#[test]
fn the_description_has_no_faults() {
    assert_eq!(Samba::METADATA.faults(), Vec::<String>::new());
}

#[test]
fn the_attribute_follows_the_first_good_answer_and_precedes_the_stop() {
    alone(|machine| {
        assert_eq!(machine.probe().code, 7);
        assert!(machine.asked().is_empty());
        serve(answer);
        assert_eq!(machine.start().code, 0);
        let reset = "systemctl reset-failed -- smb.service".to_owned();
        assert_eq!(
            machine.asked(),
            [TESTPARM, &reset, &job("start"), PUBLISHED]
        );
        assert_eq!(machine.start().code, 0);
        assert_eq!(machine.probe().code, 0);
        assert_eq!(machine.asked(), [TESTPARM]);

        assert_eq!(machine.monitor("0").code, 0);
        assert_eq!(
            fs::read_to_string(machine.path("asked")).unwrap(),
            "",
            "a monitor runs nothing"
        );
        assert_eq!(machine.monitor("10").code, 0);
        assert_eq!(machine.asked(), [PUBLISHED, TESTPARM]);

        assert_eq!(machine.stop().code, 0);
        assert_eq!(machine.asked(), [WITHDRAWN, &job("stop")]);
        assert_eq!(machine.stop().code, 0);
        assert_eq!(machine.asked(), [WITHDRAWN]);
    });
}

#[test]
fn an_smbd_that_does_not_answer_has_failed() {
    alone(|machine| {
        machine.write("unit", UP);
        serve(say_nothing);
        let more = [("OCF_RESKEY_CRM_meta_interval", "10000")];
        let seen = machine.call("monitor", Duration::from_secs(16), &more);
        assert_eq!(seen.code, 1);
        assert!(
            seen.reason.starts_with("smbd is active (running): "),
            "{seen:?}"
        );
        assert!(seen.reason.ends_with("no answer in time"), "{seen:?}");
        assert_eq!(machine.asked(), [WITHDRAWN]);
        assert!(
            seen.took >= Duration::from_secs(11),
            "the first attempt alone"
        );
    });
    alone(|machine| {
        machine.write("unit", UP);
        serve(talk_nonsense);
        let seen = machine.monitor("0");
        assert_eq!(seen.code, 1);
        assert!(
            seen.reason.ends_with("the answer is no SMB message"),
            "{seen:?}"
        );
        assert_eq!(machine.asked(), [WITHDRAWN]);
        assert_eq!(machine.probe().code, 1);
        assert!(machine.asked().is_empty(), "a probe changes nothing");
    });
}

#[test]
fn an_smbd_that_waits_for_ctdb_or_for_a_fencing_has_not_failed() {
    alone(|machine| {
        machine.write("unit", UP);
        serve(talk_nonsense);
        let says = ctdb(RECOVERS);
        for depth in ["0", "10"] {
            let seen = machine.monitor(depth);
            assert_eq!(seen.code, 0, "{seen:?}");
            assert!(seen.said.contains("smbd does not answer: CTDB recovers"));
            assert_eq!(machine.asked(), [""; 0], "the attribute stays as it is");
        }
        *says.lock().unwrap() = WELL;
        assert_eq!(machine.monitor("0").code, 1);
        assert_eq!(machine.asked(), [WITHDRAWN]);
        machine.write("cib", LOST);
        let seen = machine.monitor("0");
        assert_eq!(seen.code, 0, "{seen:?}");
        assert_eq!(machine.asked(), [""; 0]);
        *says.lock().unwrap() = RECOVERS;
        machine.write("unit", FAILED);
        assert_eq!(machine.monitor("0").code, 7);
        assert_eq!(machine.asked(), [WITHDRAWN]);
    });
}

#[test]
fn an_smbd_that_a_fencing_keeps_from_starting_has_its_time_after_that() {
    alone(|machine| {
        machine.write("up", STARTING);
        machine.write("cib", LOST);
        let seen = machine.start();
        assert_eq!(seen.code, 0, "{seen:?}");
        assert!(seen.took < PATIENCE / 2, "{seen:?}");
        assert_eq!(machine.asked().last(), Some(&job("start")));
        // Its unit takes its time, and then smbd does.
        for (unit, state) in [(STARTING, LOST), (STARTING, ""), (UP, "")] {
            machine.write("unit", unit);
            machine.write("cib", state);
            let seen = machine.monitor("0");
            assert_eq!(seen.code, 0, "{seen:?}");
            assert!(seen.said.contains("smbd does not answer: "), "{seen:?}");
            assert_eq!(machine.asked(), [""; 0], "it does not serve");
        }
        let mark = Path::new("/run/storhaug/starting/smbd");
        let since = fs::read_to_string(mark).unwrap();
        let earlier = since.parse::<i64>().unwrap() - 61;
        fs::write(mark, earlier.to_string()).unwrap();
        assert_eq!(machine.monitor("0").code, 1, "but not for ever");

        fs::write(mark, since).unwrap();
        serve(answer);
        assert_eq!(machine.monitor("0").code, 0);
        assert_eq!(machine.asked(), [WITHDRAWN, PUBLISHED]);
        assert!(!mark.exists(), "it has started");
    });
    alone(|machine| {
        machine.write("up", FAILED);
        machine.write("cib", LOST);
        assert_eq!(machine.start().code, 1, "it does not wait");
    });
}

#[test]
fn an_smbd_that_is_gone_is_not_running() {
    alone(|machine| {
        machine.write("unit", FAILED);
        assert_eq!(machine.monitor("0").code, 7);
        assert_eq!(machine.asked(), [WITHDRAWN]);
        assert_eq!(machine.probe().code, 7);
    });
}

#[test]
fn a_start_that_fails_says_why() {
    alone(|machine| {
        machine.write("up", FAILED);
        let seen = machine.start();
        assert_eq!(seen.code, 1);
        assert!(
            seen.reason
                .starts_with("smb.service is failed (failed), result exit-code: see")
        );
        assert!(!machine.asked().contains(&PUBLISHED.to_owned()));
    });
    alone(|machine| {
        let seen = machine.call("start", Duration::from_secs(4), &[]);
        assert_eq!(seen.code, 1);
        assert!(
            seen.reason
                .starts_with("waiting for smbd to answer: not within"),
            "{seen:?}"
        );
        assert!(
            seen.reason.contains("127.0.0.1:445: Connection refused"),
            "{seen:?}"
        );
    });
    alone(|machine| {
        machine.write("conf", "[global]\n\tserver role = standalone\n");
        let seen = machine.start();
        assert_eq!(seen.code, 2);
        assert!(
            seen.reason
                .contains("write `clustering = yes` into [global]"),
            "{seen:?}"
        );
        assert_eq!(machine.asked(), [TESTPARM]);
        machine.write(
            "conf",
            "[global]\n\tclustering = Yes\n\tdisable netbios = Yes\n",
        );
        machine.write("unit", DOWN);
        let seen = machine.call("start", PATIENCE, &[("OCF_RESKEY_daemon", "nmbd")]);
        assert_eq!(seen.code, 5, "no unit for nmbd: {seen:?}");
    });
}

#[test]
fn a_start_waits_for_settings_while_ctdb_recovers_and_no_longer() {
    alone(|machine| {
        serve(answer);
        machine.noting("testparm", "cat conf || exit 1\n");
        let conf = fs::read_to_string(machine.path("conf")).unwrap();
        fs::remove_file(machine.path("conf")).unwrap();
        let seen = machine.start();
        assert_eq!(seen.code, 1, "{seen:?}");
        assert_eq!(machine.asked(), [TESTPARM], "there is no CTDB");

        let says = ctdb(RECOVERS);
        let seen = machine.call("start", Duration::from_secs(12), &[]);
        assert_eq!(seen.code, 1, "it may be tried again: {seen:?}");
        assert!(
            seen.reason
                .starts_with("reading /etc/samba/smb.conf: `testparm"),
            "{seen:?}"
        );
        assert!(seen.took >= Duration::from_secs(2));
        let asked = machine.asked();
        assert!(
            asked.len() > 1 && !asked.contains(&job("start")),
            "{asked:?}"
        );

        // Pacemaker does not fence before this start is through.
        machine.write("cib", LOST);
        let seen = machine.start();
        assert_eq!(seen.code, 1, "{seen:?}");
        assert_eq!(machine.asked(), [TESTPARM]);

        // They are wrong.
        machine.write("cib", "");
        *says.lock().unwrap() = WELL;
        let seen = machine.start();
        assert_eq!(seen.code, 2, "{seen:?}");
        assert_eq!(machine.asked(), [TESTPARM; 2]);

        // CTDB's recovery is over when the settings are read for a second time.
        *says.lock().unwrap() = RECOVERS;
        machine.write("conf.later", &conf);
        machine.noting("testparm", "cat conf || { mv conf.later conf; exit 1; }\n");
        assert_eq!(machine.start().code, 0);
        assert!(machine.asked().contains(&job("start")));

        // The machine's own commands are out of reach as well.
        fs::remove_file(machine.path("testparm")).unwrap();
        symlink("/bin/cat", machine.path("cat")).unwrap();
        let bare = machine.path("").display().to_string();
        let seen = machine.call("start", PATIENCE, &[("PATH", &bare)]);
        assert_eq!(seen.code, 5, "{seen:?}");
    });
}

/// An automounter that hangs, like one whose server is away.
struct Automounter {
    asked: File,
    _process: Process,
}

impl Automounter {
    fn at(machine: &Machine, point: &str) -> Self {
        let (asked, requests) = pipe2(OFlag::O_CLOEXEC).unwrap();
        fcntl(&asked, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
        // Whoever is of its process group looks without asking it.
        let process = Process::start(machine, "/bin/cat", "automount", &[]);
        fs::create_dir(point).unwrap();
        let options = format!(
            "fd={},pgrp={},minproto=5,maxproto=5,indirect",
            requests.as_raw_fd(),
            process.0.id()
        );
        let none = MsFlags::empty();
        let fstype = Some("autofs");
        mount(Some("auto.home"), point, fstype, none, Some(&*options)).unwrap();
        Self {
            asked: asked.into(),
            _process: process,
        }
    }

    /// Whether anybody has made it mount something.
    fn was_asked(&mut self) -> bool {
        self.asked.read(&mut [0; 1]).is_ok_and(|length| length > 0)
    }
}

#[test]
fn what_is_mounted_on_demand_is_left_alone() {
    alone(|machine| {
        machine.write("unit", UP);
        serve(answer);
        let mut automounter = Automounter::at(machine, "/run/home");
        symlink("/run/home/alice", "/run/alice").unwrap();
        for path in ["/run/home/alice/files", "/run/alice", "/run/home"] {
            let conf = format!("[global]\n\tclustering = Yes\n[a]\n\tpath = {path}\n");
            machine.write("conf", &conf);
            let seen = machine.monitor("10");
            assert_eq!(seen.code, 0, "{path}: {seen:?}");
            assert!(!automounter.was_asked(), "{path}");
        }
        // It is one that would be.
        let mut looks = Command::new("ls");
        let looks = looks.arg("/run/home/alice/").stdin(Stdio::null());
        let mut looks = Process(looks.stderr(Stdio::null()).spawn().unwrap());
        let asked = || Ok(automounter.was_asked().then_some(()));
        let soon = Deadline::after(PATIENCE);
        until(soon, Duration::from_millis(5), "the automounter", asked).unwrap();
        assert!(looks.lives());
    });
}

#[test]
fn homes_are_those_of_users() {
    alone(|machine| {
        let _volume = unserved("/run/share");
        let conf = "[global]\n\tclustering = Yes\n[homes]\n\tbrowseable = No\n";
        machine.write("conf", conf);
        let depth = [("OCF_CHECK_LEVEL", "10")];
        for (user, number, code) in [
            ("www-data", 33, 0),
            ("alice", 1000, 2),
            ("nobody", 65534, 0),
        ] {
            let passwd = format!("{user}:x:{number}:100::/run/share/{user}:/bin/sh\n");
            machine.write("passwd", &passwd);
            let (from, none) = (machine.path("passwd"), None::<&str>);
            mount(Some(&from), "/etc/passwd", none, MsFlags::MS_BIND, none).unwrap();
            let seen = machine.call("validate-all", PATIENCE, &depth);
            assert_eq!(seen.code, code, "{user}: {seen:?}");
        }
    });
}

/// Mounts a volume that nobody serves: whoever looks at it does not come back.
fn unserved(point: &str) -> File {
    let mut fuse = File::options();
    let fuse = fuse.read(true).write(true).open("/dev/fuse").unwrap();
    let data = format!(
        "fd={},rootmode=40000,user_id=0,group_id=0",
        fuse.as_raw_fd()
    );
    fs::create_dir(point).unwrap();
    mount(
        Some("localhost:/share"),
        point,
        Some("fuse.glusterfs"),
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
        Some(data.as_str()),
    )
    .unwrap();
    fuse
}

#[test]
fn a_configuration_that_endangers_files_is_refused_without_a_look_at_them() {
    alone(|machine| {
        let _volume = unserved("/run/share");
        symlink("share", "/run/link").unwrap();
        let conf = "[global]\n\tclustering = Yes\n\tprivate dir = /run/share/private\n\
            \tserver multi channel support = Yes\n[a]\n\tpath = /run/share\n";
        machine.write("conf", conf);
        let depth = [("OCF_CHECK_LEVEL", "10")];
        let checked = machine.call("validate-all", PATIENCE, &depth);
        assert_eq!(checked.code, 2);
        let private = "/etc/samba/smb.conf: `private dir = /run/share/private` is on \
            localhost:/share (fuse.glusterfs), and has to be on this node's own disk: leave it out";
        let share = "[a] is on localhost:/share (fuse.glusterfs): nodes do not see each other's \
            locks there: add `fileid` to its `vfs objects`";
        assert_eq!(checked.reason, format!("{private}; {share}"));
        assert_eq!(machine.start().reason, checked.reason);

        for (path, fileid) in [
            ("/run/share/%U", ""),
            ("/run/link/deep", ""),
            (
                "/run/share",
                "\tvfs objects = fileid\n\tfileid:mntdir deny = /run/share\n",
            ),
        ] {
            let conf = format!("[global]\n\tclustering = Yes\n[a]\n\tpath = {path}\n{fileid}");
            machine.write("conf", &conf);
            let checked = machine.call("validate-all", PATIENCE, &depth);
            assert_eq!(checked.code, 2, "{path}: {checked:?}");
            assert!(checked.reason.contains("[a] is on localhost:/share"));
        }

        let fits = conf.replace("\tprivate dir = /run/share/private\n", "");
        machine.write("conf", &(fits + "\tvfs objects = fileid\n"));
        let checked = machine.call("validate-all", PATIENCE, &depth);
        assert_eq!(checked.code, 0, "{checked:?}");
        assert_eq!(checked.reason, "");
        assert!(
            checked
                .said
                .contains("write `server multi channel support = no`"),
            "{checked:?}"
        );
    });
}

#[test]
fn what_is_not_installed_is_not_running() {
    alone(|machine| {
        let winbindd = [("OCF_RESKEY_daemon", "winbindd")];
        assert_eq!(machine.call("monitor", PATIENCE, &winbindd).code, 7);
        assert_eq!(machine.call("stop", PATIENCE, &winbindd).code, 0);
        let seen = machine.call("start", PATIENCE, &winbindd);
        assert_eq!(seen.code, 5);
        assert!(
            seen.reason
                .starts_with("unit winbind.service is not-found: install"),
            "{seen:?}"
        );
        for name in ["systemctl", "testparm", "attrd_updater"] {
            fs::remove_file(machine.path(name)).unwrap();
        }
        // The machine's own commands are out of reach as well.
        let bare = [("PATH", "/nonexistent")];
        assert_eq!(machine.call("monitor", PATIENCE, &bare).code, 7);
        assert_eq!(machine.call("stop", PATIENCE, &bare).code, 0);
        assert_eq!(machine.call("start", PATIENCE, &bare).code, 5);
    });
    alone(|machine| {
        let seen = machine.call("validate-all", PATIENCE, &[("OCF_RESKEY_daemon", "samba")]);
        assert_eq!(seen.code, 6);
        assert!(
            seen.reason.ends_with("write smbd, winbindd or nmbd"),
            "{seen:?}"
        );
    });
}

#[test]
fn a_limping_smbd_is_degraded() {
    alone(|machine| {
        machine.write("unit", UP);
        serve(answer);
        machine.write(
            "conf",
            "[global]\n\tclustering = Yes\n[a]\n\tpath = /run\n[b]\n\tpath = /run/no\n",
        );
        let seen = machine.monitor("10");
        assert_eq!(seen.code, 190);
        assert_eq!(seen.reason, "share [b]: /run/no: No such file or directory");
        machine.write("cib", LOST);
        let seen = machine.monitor("10");
        assert_eq!(seen.code, 0, "it may be there after the fencing: {seen:?}");
        machine.write("cib", "");
        assert_eq!(machine.monitor("0").code, 0);
        machine.program(
            "testparm",
            "#!/bin/sh\necho 'no closing bracket' >&2\nexit 1\n",
        );
        let more = [
            ("OCF_RESKEY_CRM_meta_interval", "10000"),
            ("OCF_CHECK_LEVEL", "10"),
        ];
        let seen = machine.call("monitor", Duration::from_secs(8), &more);
        assert_eq!(seen.code, 190);
        assert!(seen.reason.contains("no closing bracket"), "{seen:?}");
        assert!(!machine.asked().contains(&WITHDRAWN.to_owned()));
    });
}

/// A process, killed at the end of the test at the latest.
struct Process(Child);

impl Process {
    /// Starts a copy of `program` by the name `name`, and waits until it runs.
    fn start(machine: &Machine, program: &str, name: &str, args: &[&str]) -> Self {
        let copy = machine.path(name);
        fs::copy(program, &copy).unwrap();
        let mut command = Command::new(&copy);
        let child = command
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let exe = format!("/proc/{}/exe", child.id());
        let runs = || Ok((fs::read_link(&exe).ok().as_deref() == Some(&*copy)).then_some(()));
        until(
            Deadline::after(PATIENCE),
            Duration::from_millis(5),
            name,
            runs,
        )
        .unwrap();
        Self(child)
    }

    fn lives(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn what_is_left_of_smbd_is_ended_and_nothing_else() {
    alone(|machine| {
        let cat = Path::new("/bin/cat").canonicalize().unwrap();
        let cat = cat.to_str().unwrap();
        let mut session = Process::start(machine, cat, "smbd", &[]);
        let mut naming = Process::start(machine, cat, "cat", &["-", "/usr/sbin/smbd"]);
        let mut other = Process::start(machine, cat, "smbd2", &[]);
        let seen = machine.probe();
        assert_eq!(seen.code, 1);
        assert!(seen.reason.contains("but not as a unit"), "{seen:?}");
        // The same program in another network is another server.
        let mut elsewhere = thread::scope(|scope| {
            let apart = || {
                unshare(CloneFlags::CLONE_NEWNET).unwrap();
                fs::create_dir(machine.path("there")).unwrap();
                Process::start(machine, cat, "there/smbd", &[])
            };
            scope.spawn(apart).join().unwrap()
        });
        let seen = machine.stop();
        assert_eq!(seen.code, 0, "{seen:?}");
        assert!(!session.lives());
        assert!(naming.lives() && other.lives() && elsewhere.lives());
    });
}

#[test]
fn winbindd_is_pinged() {
    alone(|machine| {
        machine.program(
            "systemctl",
            "#!/bin/sh\nprintf 'LoadState=loaded\\nActiveState=active\\n'\n",
        );
        let monitor = || {
            let more = [
                ("OCF_RESKEY_daemon", "winbindd"),
                ("OCF_RESKEY_CRM_meta_interval", "1"),
            ];
            machine.call("monitor", PATIENCE, &more)
        };
        machine.write("winbindd", "0");
        assert_eq!(monitor().code, 0);
        assert_eq!(machine.asked(), ["wbinfo --ping"]);
        machine.write("winbindd", "1");
        let seen = monitor();
        assert_eq!(seen.code, 1);
        assert!(
            seen.reason.contains("`wbinfo --ping`: exit code 1"),
            "{seen:?}"
        );
    });
}
