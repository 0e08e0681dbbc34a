//! `ocf:storhaug:ctdb` as Pacemaker sees it, against a daemon that speaks
//! CTDB's protocol and says what a test wants.

#![expect(clippy::unwrap_used, reason = "in a test, an error is a panic")]

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    sync::{Arc, Mutex},
    time::Duration,
};

use storhaug_agents::{
    ctdb::Ctdb,
    exec::{Cmd, Output},
    ocf::{Agent, Code, Invocation, run},
};
use tempfile::TempDir;

use ctdbd::{HERE, OTHER, Says, Slot, WELL, listen};

mod ctdbd;

const OK: u32 = 0;
const DISCONNECTED: u32 = 0x01;
const DELETED: u32 = 0x11;

const THIRD: [u8; 4] = [198, 51, 100, 3];

/// A node: a file system of its own, and maybe a daemon.
struct Node {
    root: TempDir,
    says: Arc<Mutex<Says>>,
    commands: Mutex<Vec<String>>,
    active: Mutex<bool>,
    /// What Pacemaker says of the nodes.
    states: Mutex<String>,
    /// What `ctdb reloadnodes` makes of the list; none where it refuses.
    reloads: Mutex<Option<&'static [Slot]>>,
}

impl Node {
    fn new() -> Self {
        let node = Self {
            root: tempfile::tempdir().unwrap(),
            says: Arc::new(Mutex::new(WELL)),
            commands: Mutex::default(),
            active: Mutex::new(false),
            states: Mutex::default(),
            reloads: Mutex::default(),
        };
        for directory in [
            "usr/sbin",
            "usr/libexec/storhaug",
            "etc/ctdb/events/legacy",
            "run/ctdb",
            "proc/net",
        ] {
            fs::create_dir_all(node.root.path().join(directory)).unwrap();
        }
        node.file("usr/sbin/ctdbd", "");
        node.file("usr/libexec/storhaug/storhaug-ctdb-lock", "");
        // Pacemaker runs, as far as its attributes go.
        node.file(
            "proc/net/unix",
            "Num RefCount Protocol Flags Type St Inode Path\n0: 2 0 00010000 0001 01 7 @attrd\n",
        );
        node
    }

    fn file(&self, name: &str, text: &str) {
        fs::write(self.root.path().join(name), text).unwrap();
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.root.path().join(name)).unwrap()
    }

    fn daemon(&self) {
        listen(&self.root.path().join("run/ctdb/ctdbd.socket"), &self.says);
    }

    /// Moves the beginning of the recovery that is under way into the past.
    fn recovers_longer_by(&self, seconds: i64) {
        let mark = "run/ctdb/storhaug-recovery";
        let began: i64 = self.text(mark).parse().unwrap();
        self.file(mark, &(began - seconds).to_string());
    }

    fn now(&self, says: Says) {
        *self.says.lock().unwrap() = says;
    }

    fn act(&self, action: &str, more: &[(&str, &str)]) -> Code {
        let defaults = [
            ("OCF_RESKEY_nodes", "127.0.0.1 198.51.100.2"),
            ("OCF_RESKEY_CRM_meta_timeout", "5000"),
            ("OCF_RESKEY_CRM_meta_interval", "10000"),
            ("OCF_RESKEY_CRM_meta_on_node", "node1"),
        ];
        let environment: BTreeMap<String, String> = defaults
            .iter()
            .chain(more)
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let runner = |cmd: &Cmd| Ok(self.command(cmd));
        let call = Invocation {
            action: Some(action.into()),
            environment,
        };
        run::<Ctdb>(&call, &runner, self.root.path(), &mut Vec::new())
    }

    fn command(&self, cmd: &Cmd) -> Output {
        let words = cmd.words();
        if words[0] == "cibadmin" {
            return Output::exited(cmd, 0, &self.states.lock().unwrap(), "");
        }
        if words[0] == "ctdb" {
            self.commands.lock().unwrap().push(words.join(" "));
            let Some(nodes) = *self.reloads.lock().unwrap() else {
                return Output::exited(cmd, 1, "", "ERROR: Node 1 is still connected");
            };
            self.says.lock().unwrap().nodes = nodes;
            return Output::exited(cmd, 0, "", "");
        }
        let mut active = self.active.lock().unwrap();
        match words.get(1) {
            Some(&"show") => {
                let state = if *active { "active" } else { "inactive" };
                let text = format!("LoadState=loaded\nActiveState={state}\nJob=0\n");
                return Output::exited(cmd, 0, &text, "");
            }
            Some(&"start") => {
                *active = true;
                self.daemon();
            }
            Some(&"kill" | &"stop") if *active => {
                *active = false;
                fs::remove_file(self.root.path().join("run/ctdb/ctdbd.socket")).unwrap();
            }
            _ => {}
        }
        self.commands.lock().unwrap().push(words.join(" "));
        Output::exited(cmd, 0, "", "")
    }
}

/// What Pacemaker says when another node is lost.
const TO_BE_FENCED: &str = r#"<x><node_state in_ccm="false" expected="member"/></x>"#;

/// What Pacemaker says of another node that is there, and whose CTDB has
/// loaded a list of nodes.
fn serving(list: &str) -> String {
    format!(
        r#"<x><node_state uname="node2" in_ccm="true" expected="member"><transient_attributes>
           <nvpair name="storhaug-ctdb-nodes" value="{list}"/></transient_attributes></node_state>
           </x>"#
    )
}

impl Node {
    fn commands(&self) -> Vec<String> {
        std::mem::take(&mut self.commands.lock().unwrap())
    }
}

#[test]
fn the_description_is_sound() {
    assert_eq!(Ctdb::METADATA.faults(), Vec::<String>::new());
}

#[test]
fn a_start_leaves_a_database_and_nothing_else() {
    let node = Node::new();
    node.file(
        "etc/ctdb/ctdb.conf",
        "# ours\n[legacy]\n\trealtime scheduling = false\n",
    );
    let script = node
        .root
        .path()
        .join("etc/ctdb/events/legacy/10.interface.script");
    symlink("/usr/share/ctdb/events/legacy/10.interface.script", &script).unwrap();
    assert_eq!(node.act("start", &[]), Code::Success);
    assert_eq!(
        node.text("etc/ctdb/ctdb.conf"),
        "# ours\n[legacy]\n\trealtime scheduling = false\n\n[cluster]\n\tcluster lock = \
         !/usr/libexec/storhaug/storhaug-ctdb-lock\n\tleader timeout = 2\n\n[failover]\n\tdisabled \
         = true\n\tshutdown failover timeout = 0\n"
    );
    assert_eq!(node.text("etc/ctdb/nodes"), "127.0.0.1\n198.51.100.2\n");
    assert_eq!(
        node.text("etc/ctdb/ctdb.tunables"),
        "RerecoveryTimeout = 1\n"
    );
    assert!(fs::symlink_metadata(script).is_err());
    assert_eq!(
        node.commands(),
        [
            "systemctl reset-failed -- ctdb.service",
            "systemctl start --no-block --no-ask-password --job-mode=ignore-dependencies -- \
             ctdb.service",
            "attrd_updater -n storhaug-ctdb-nodes -U 127.0.0.1 198.51.100.2",
        ]
    );
    assert_eq!(node.act("monitor", &[]), Code::Success);
    assert_eq!(
        node.act("monitor", &[("OCF_CHECK_LEVEL", "10")]),
        Code::Success
    );
    node.commands();
    assert_eq!(node.act("start", &[]), Code::Success);
    assert_eq!(node.commands(), Vec::<String>::new(), "a second start");
    assert_eq!(node.act("stop", &[]), Code::Success);
    let withdrawn = "attrd_updater -n storhaug-ctdb-nodes -D";
    assert_eq!(node.commands()[0], withdrawn);
    assert_eq!(node.act("monitor", &[]), Code::NotRunning);
    assert_eq!(node.act("stop", &[]), Code::Success);
}

#[test]
fn what_a_monitor_makes_of_the_daemon() {
    let node = Node::new();
    assert_eq!(node.act("monitor", &[]), Code::NotRunning, "no socket");
    node.daemon();
    let cases = [
        ("well", WELL, Code::Success),
        (
            "disabled by the administrator",
            Says { flags: 4, ..WELL },
            Code::Success,
        ),
        ("unhealthy", Says { flags: 2, ..WELL }, Code::Success),
        ("banned", Says { flags: 8, ..WELL }, Code::ErrGeneric),
        (
            "stopped",
            Says {
                flags: 0x20,
                ..WELL
            },
            Code::ErrGeneric,
        ),
        (
            "going down",
            Says {
                run_state: 6,
                ..WELL
            },
            Code::ErrGeneric,
        ),
        (
            "hanging",
            Says {
                silent: true,
                ..WELL
            },
            Code::ErrGeneric,
        ),
    ];
    for (case, says, code) in cases {
        node.now(says);
        let meta = [("OCF_RESKEY_CRM_meta_timeout", "2000")];
        assert_eq!(node.act("monitor", &meta), code, "{case}");
    }
    node.now(Says {
        leader: u32::MAX,
        ..WELL
    });
    assert_eq!(
        node.act("monitor", &[]),
        Code::Success,
        "a leader is not asked for"
    );
    let deep = [
        ("OCF_CHECK_LEVEL", "10"),
        ("OCF_RESKEY_CRM_meta_timeout", "2000"),
    ];
    assert_eq!(node.act("monitor", &deep), Code::ErrGeneric, "no leader");
    let changed = ("OCF_RESKEY_nodes", "127.0.0.1 #198.51.100.2");
    node.commands();
    let deep = [deep[0], deep[1], changed];
    assert_eq!(node.act("monitor", &deep), Code::ErrGeneric);
    assert_eq!(node.commands(), Vec::<String>::new(), "nothing is loaded");
    *node.states.lock().unwrap() = TO_BE_FENCED.into();
    assert_eq!(node.act("monitor", &deep), Code::Success, "not before that");
}

#[test]
fn a_start_waits_for_a_recovery_but_not_for_fencing() {
    let recovery = Says {
        recovery_mode: 1,
        ..WELL
    };
    let node = Node::new();
    node.now(recovery);
    let states =
        |expected: &str| format!(r#"<x><node_state in_ccm="false" expected="{expected}"/></x>"#);
    *node.states.lock().unwrap() = states("down");
    let meta = [("OCF_RESKEY_CRM_meta_timeout", "2000")];
    assert_eq!(node.act("start", &meta), Code::ErrGeneric);
    *node.states.lock().unwrap() = states("member");
    let meta = [("OCF_RESKEY_CRM_meta_timeout", "60000")];
    assert_eq!(node.act("start", &meta), Code::Success);
    assert_eq!(node.act("monitor", &[]), Code::Success);
}

#[test]
fn a_daemon_that_hangs_is_killed() {
    let node = Node::new();
    assert_eq!(node.act("start", &[]), Code::Success);
    node.commands.lock().unwrap().clear();
    node.now(Says {
        silent: true,
        ..WELL
    });
    let meta = [("OCF_RESKEY_CRM_meta_timeout", "100000")];
    assert_eq!(node.act("stop", &meta), Code::Success);
    let withdraw = "attrd_updater -n storhaug-ctdb-nodes -D";
    let kill = "systemctl kill --signal=SIGKILL -- ctdb.service";
    assert_eq!(node.commands(), [withdraw, kill]);
    assert_eq!(node.act("monitor", &[]), Code::NotRunning);
}

#[test]
fn a_recovery_may_last_a_while_and_not_for_ever() {
    let node = Node::new();
    node.daemon();
    let recovery = Says {
        recovery_mode: 1,
        ..WELL
    };
    for says in [
        recovery,
        Says {
            run_state: 4,
            ..WELL
        },
    ] {
        node.now(says);
        assert_eq!(node.act("monitor", &[]), Code::Success, "it has begun");
        assert_eq!(node.act("monitor", &[]), Code::Success, "it goes on");
        node.recovers_longer_by(200);
        *node.states.lock().unwrap() = TO_BE_FENCED.into();
        assert_eq!(node.act("monitor", &[]), Code::Success, "until the fencing");
        *node.states.lock().unwrap() = String::new();
        assert_eq!(node.act("monitor", &[]), Code::Success, "just fenced");
        node.recovers_longer_by(200);
        assert_eq!(node.act("monitor", &[]), Code::ErrGeneric, "for 200 s");
        node.now(WELL);
        assert_eq!(node.act("monitor", &[]), Code::Success, "it is over");
        node.now(says);
        assert_eq!(node.act("monitor", &[]), Code::Success, "another begins");
        node.now(WELL);
        assert_eq!(node.act("monitor", &[]), Code::Success, "it is over");
    }
}

#[test]
fn how_long_a_daemon_recovers_says_nothing_of_the_next_one() {
    let node = Node::new();
    node.file("run/ctdb/storhaug-recovery", "0");
    node.recovers_longer_by(200);
    *node.states.lock().unwrap() = TO_BE_FENCED.into();
    node.now(Says {
        recovery_mode: 1,
        ..WELL
    });
    assert_eq!(node.act("start", &[]), Code::Success);
    *node.states.lock().unwrap() = String::new();
    assert_eq!(node.act("monitor", &[]), Code::Success);
}

#[test]
fn a_recovery_is_no_failure_where_nothing_can_be_written() {
    let node = Node::new();
    node.daemon();
    let mark = node.root.path().join("run/ctdb/storhaug-recovery");
    symlink("/no/such/directory", mark).unwrap();
    node.now(Says {
        recovery_mode: 1,
        ..WELL
    });
    assert_eq!(node.act("monitor", &[]), Code::Success);
}

#[test]
fn who_may_read_a_file_does_not_change() {
    let node = Node::new();
    let mode = |name: &str| {
        let file = fs::metadata(node.root.path().join(name)).unwrap();
        file.permissions().mode() & 0o777
    };
    node.file("etc/ctdb/ctdb.conf", "[logging]\n");
    let path = node.root.path().join("etc/ctdb/ctdb.conf");
    fs::set_permissions(path, fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(node.act("start", &[]), Code::Success);
    assert_eq!(mode("etc/ctdb/ctdb.conf"), 0o640);
    assert_eq!(mode("etc/ctdb/nodes"), 0o644);
}

#[test]
fn the_list_of_nodes_is_each_nodes_own_and_ctdb_conf_where_it_is_kept() {
    let node = Node::new();
    let etc = node.root.path().join("etc");
    node.file("shared", "198.51.100.7\n");
    symlink("../../shared", etc.join("ctdb/nodes")).unwrap();
    node.file("kept", "[logging]\n");
    symlink("../../kept", etc.join("ctdb/ctdb.conf")).unwrap();
    assert_eq!(node.act("start", &[]), Code::Success);
    assert_eq!(node.text("shared"), "198.51.100.7\n");
    let own = fs::symlink_metadata(etc.join("ctdb/nodes")).unwrap();
    assert!(own.is_file());
    assert_eq!(node.text("etc/ctdb/nodes"), "127.0.0.1\n198.51.100.2\n");
    assert!(etc.join("ctdb/ctdb.conf").is_symlink());
    assert!(node.text("kept").contains("cluster lock"));
}

#[test]
fn a_probe_changes_nothing() {
    let node = Node::new();
    let probe = [("OCF_RESKEY_CRM_meta_interval", "0")];
    assert_eq!(node.act("monitor", &probe), Code::NotRunning);
    node.daemon();
    node.now(Says {
        recovery_mode: 1,
        ..WELL
    });
    assert_eq!(node.act("monitor", &probe), Code::Success);
    assert!(!node.root.path().join("etc/ctdb/nodes").exists());
}

#[test]
fn the_list_of_nodes_follows_its_parameter() {
    let node = Node::new();
    node.daemon();
    node.file("etc/ctdb/nodes", "127.0.0.1\n");
    assert_eq!(node.act("monitor", &[]), Code::Success);
    assert_eq!(node.text("etc/ctdb/nodes"), "127.0.0.1\n198.51.100.2\n");
    assert_eq!(
        node.commands(),
        ["attrd_updater -n storhaug-ctdb-nodes -U 127.0.0.1 198.51.100.2"]
    );

    let changed = [("OCF_RESKEY_nodes", "127.0.0.1 #198.51.100.2 198.51.100.3")];
    *node.reloads.lock().unwrap() = Some(&[(OK, HERE), (DELETED, [0; 4]), (DISCONNECTED, THIRD)]);
    assert_eq!(node.act("reload-agent", &changed), Code::Success);
    assert_eq!(
        node.text("etc/ctdb/nodes"),
        "127.0.0.1\n#198.51.100.2\n198.51.100.3\n"
    );
    assert_eq!(node.commands(), ["ctdb reloadnodes"]);
    assert_eq!(node.act("monitor", &changed), Code::Success);
    assert_eq!(
        node.commands(),
        ["attrd_updater -n storhaug-ctdb-nodes -U 127.0.0.1 - 198.51.100.3"]
    );
    assert_eq!(node.act("reload-agent", &changed), Code::Success);
    assert_eq!(node.commands(), Vec::<String>::new(), "a second time");
}

#[test]
fn one_node_has_the_list_loaded_and_the_others_wait() {
    let node = Node::new();
    node.daemon();
    let later = &[(OK, OTHER), (OK, HERE)];
    node.now(Says {
        pnn: 1,
        nodes: later,
        ..WELL
    });
    let changed = [("OCF_RESKEY_nodes", "198.51.100.2 127.0.0.1 198.51.100.3")];
    assert_eq!(node.act("reload-agent", &changed), Code::Success);
    assert_eq!(
        node.text("etc/ctdb/nodes"),
        "198.51.100.2\n127.0.0.1\n198.51.100.3\n"
    );
    let published = "attrd_updater -n storhaug-ctdb-nodes -U 198.51.100.2 127.0.0.1";
    assert_eq!(node.commands(), [published], "it is the other's turn");
    assert_eq!(node.act("monitor", &changed), Code::Success);
    assert_eq!(node.commands(), Vec::<String>::new());

    node.now(Says {
        pnn: 1,
        nodes: &[(DISCONNECTED, OTHER), (OK, HERE)],
        ..WELL
    });
    assert_eq!(node.act("monitor", &changed), Code::Success);
    assert_eq!(node.commands(), ["ctdb reloadnodes"], "the other is gone");

    node.now(Says {
        pnn: 1,
        nodes: later,
        ..WELL
    });
    let deep = [changed[0], ("OCF_CHECK_LEVEL", "10")];
    assert_eq!(node.act("monitor", &deep), Code::Success);
    assert_eq!(node.commands(), [published]);
    *node.states.lock().unwrap() = serving("198.51.100.2 127.0.0.1 198.51.100.3");
    assert_eq!(node.act("monitor", &deep), Code::Success);
    assert_eq!(
        node.commands(),
        [published, "ctdb reloadnodes"],
        "the other did not reach this one"
    );
}

#[test]
fn a_list_that_cannot_be_loaded_now_breaks_nothing_and_is_tried_again() {
    let node = Node::new();
    node.daemon();
    let changed = [("OCF_RESKEY_nodes", "127.0.0.1 #198.51.100.2")];
    assert_eq!(node.act("reload-agent", &changed), Code::Success);
    let published = "attrd_updater -n storhaug-ctdb-nodes -U 127.0.0.1 198.51.100.2";
    assert_eq!(node.commands(), [published, "ctdb reloadnodes"]);
    *node.reloads.lock().unwrap() = Some(&[(OK, HERE), (DELETED, [0; 4])]);
    assert_eq!(node.act("monitor", &changed), Code::Success);
    assert_eq!(node.commands(), ["ctdb reloadnodes"]);
    assert_eq!(node.act("monitor", &changed), Code::Success);
    assert_eq!(
        node.commands(),
        ["attrd_updater -n storhaug-ctdb-nodes -U 127.0.0.1 -"]
    );
}

#[test]
fn a_node_that_gets_another_number_restarts_its_daemon() {
    let node = Node::new();
    node.daemon();
    let here = &[(OK, OTHER), (OK, THIRD)];
    node.now(Says {
        nodes: here,
        ..WELL
    });
    let monitor = |nodes| node.act("monitor", &[("OCF_RESKEY_nodes", nodes)]);
    let moved = "#198.51.100.2 198.51.100.3 127.0.0.1";
    assert_eq!(monitor(moved), Code::ErrGeneric);
    node.now(Says {
        nodes: here,
        recovery_mode: 1,
        ..WELL
    });
    assert_eq!(monitor(moved), Code::Success, "not while it recovers");
    node.now(Says {
        nodes: here,
        ..WELL
    });
    let removed = "#198.51.100.2 198.51.100.3 198.51.100.4";
    assert_eq!(monitor(removed), Code::Success, "it is no node any more");
    let never = "#198.51.100.2 127.0.0.1";
    assert_eq!(
        monitor(never),
        Code::Success,
        "the others would not take it"
    );
}

#[test]
fn a_list_that_can_never_be_loaded_keeps_no_node_away_that_the_others_know() {
    let node = Node::new();
    let meta = [("OCF_RESKEY_CRM_meta_timeout", "8000")];
    let theirs = "198.51.100.3 127.0.0.1";
    let differ = serving(theirs) + &serving("198.51.100.2 127.0.0.1").replace("node2", "node3");
    *node.states.lock().unwrap() = format!("<y>{differ}</y>");
    assert_eq!(node.act("start", &meta), Code::ErrGeneric, "they differ");
    assert_eq!(node.commands(), Vec::<String>::new());

    *node.states.lock().unwrap() = serving(theirs);
    node.now(Says {
        pnn: 1,
        nodes: &[(OK, THIRD), (OK, HERE)],
        ..WELL
    });
    assert_eq!(node.act("start", &meta), Code::Success);
    assert_eq!(node.text("etc/ctdb/nodes"), "198.51.100.3\n127.0.0.1\n");
    let published = format!("attrd_updater -n storhaug-ctdb-nodes -U {theirs}");
    assert_eq!(node.commands().last(), Some(&published));
    assert_eq!(node.act("monitor", &[]), Code::Success);
    assert_eq!(node.commands(), Vec::<String>::new(), "nothing is reloaded");
}

#[test]
fn a_daemon_starts_only_where_the_others_know_its_node() {
    let node = Node::new();
    let meta = [("OCF_RESKEY_CRM_meta_timeout", "1500")];
    for stranger in [
        "198.51.100.3 198.51.100.2",
        "198.51.100.2",
        "- 198.51.100.2",
    ] {
        *node.states.lock().unwrap() = serving(stranger);
        assert_eq!(node.act("start", &meta), Code::ErrGeneric, "{stranger}");
        assert_eq!(node.commands(), Vec::<String>::new(), "{stranger}");
    }
    *node.states.lock().unwrap() = serving("127.0.0.1 198.51.100.2");
    assert_eq!(node.act("start", &[]), Code::Success);
}

/// Damages a persistent database of this node and one of another; returns the
/// names that are there.
fn damaged(node: &Node) -> impl Fn() -> Vec<String> {
    let directory = node.root.path().join("var/lib/ctdb/persistent");
    fs::create_dir_all(&directory).unwrap();
    for name in ["secrets.tdb.0", "secrets.tdb.7"] {
        fs::write(directory.join(name), "garbage").unwrap();
    }
    move || {
        let names = fs::read_dir(&directory).unwrap();
        let names = names.map(|file| file.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }
}

#[test]
fn a_damaged_database_is_set_aside_where_another_node_serves() {
    let node = Node::new();
    let names = damaged(&node);
    *node.states.lock().unwrap() = serving("127.0.0.1 198.51.100.2");
    assert_eq!(node.act("start", &[]), Code::Success);
    let names = names();
    assert_eq!(names.len(), 2, "{names:?}");
    assert!(names[0].starts_with("secrets.tdb.0."), "{names:?}");
    assert!(names[0].ends_with(".corrupt"), "{names:?}");
    assert_eq!(names[1], "secrets.tdb.7", "it is not this node's");
}

#[test]
fn a_damaged_database_of_which_there_may_be_no_other_copy_stays() {
    let node = Node::new();
    let names = damaged(&node);
    let own = serving("127.0.0.1 198.51.100.2").replace("node2", "node1");
    for states in [String::new(), own] {
        *node.states.lock().unwrap() = states;
        let meta = [("OCF_RESKEY_CRM_meta_timeout", "1500")];
        assert_eq!(node.act("start", &meta), Code::ErrGeneric);
        assert_eq!(names(), ["secrets.tdb.0", "secrets.tdb.7"]);
        assert_eq!(node.commands(), Vec::<String>::new());
    }
}

#[test]
fn what_is_refused() {
    let start = |spoil: &dyn Fn(&Node), more: &[(&str, &str)]| {
        let node = Node::new();
        spoil(&node);
        let code = node.act("start", more);
        assert_eq!(*node.commands.lock().unwrap(), Vec::<String>::new());
        code
    };
    let nothing = |_: &Node| {};
    let nodes = |value| [("OCF_RESKEY_nodes", value)];
    let known = [
        ("OCF_RESKEY_ctdb_manages_samba", "no"),
        ("OCF_RESKEY_ctdb_manages_winbind", "no"),
    ];
    assert_eq!(Node::new().act("start", &known), Code::Success);
    assert_eq!(start(&nothing, &nodes("node1")), Code::ErrConfigured);
    assert_eq!(start(&nothing, &nodes("")), Code::ErrConfigured);
    assert_eq!(start(&nothing, &nodes("198.51.100.1")), Code::ErrArgs);
    let lock = [("OCF_RESKEY_cluster_lock", "!/no/such helper")];
    assert_eq!(start(&nothing, &lock), Code::ErrInstalled);
    let addresses = |node: &Node| node.file("etc/ctdb/public_addresses", "10.0.0.1/24 eth0\n");
    assert_eq!(start(&addresses, &[]), Code::ErrArgs);
    let samba = |node: &Node| {
        let script = "etc/ctdb/events/legacy/50.samba.script";
        node.file(script, "");
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(node.root.path().join(script), mode).unwrap();
    };
    assert_eq!(start(&samba, &[]), Code::ErrArgs);
    for manages in [
        "OCF_RESKEY_ctdb_manages_samba",
        "OCF_RESKEY_ctdb_manages_winbind",
    ] {
        assert_eq!(start(&nothing, &[(manages, "yes")]), Code::ErrConfigured);
    }
    let bare = |node: &Node| fs::remove_file(node.root.path().join("usr/sbin/ctdbd")).unwrap();
    assert_eq!(start(&bare, &[]), Code::ErrInstalled);
}

/// The binary, as Pacemaker starts it.
fn agent(action: &str, environment: &[(&str, &str)]) -> Output {
    use storhaug_agents::{deadline::Deadline, exec::Host, exec::Runner};
    let cmd = Cmd::new(env!("CARGO_BIN_EXE_ctdb")).arg(action);
    let cmd = environment
        .iter()
        .fold(cmd, |cmd, (name, value)| cmd.env(name, value));
    let deadline = Deadline::after(Duration::from_secs(60));
    Host.run(&cmd, deadline).unwrap()
}

#[test]
fn the_binary() {
    let meta_data = agent("meta-data", &[]);
    assert!(meta_data.success());
    assert_eq!(meta_data.text(), Ctdb::METADATA.to_string());
    assert_eq!(agent("promote", &[]).code(), Some(3));
    let bad = agent("validate-all", &[("OCF_RESKEY_nodes", "node1")]);
    assert_eq!(bad.code(), Some(6));
    let reason = String::from_utf8(bad.stderr).unwrap();
    assert_eq!(
        reason,
        "ocf-exit-reason:parameter nodes: \"node1\": \"node1\" is not an IP address\n"
    );
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("ctdbd.socket");
    let environment = [
        ("OCF_RESKEY_nodes", "127.0.0.1"),
        ("OCF_RESKEY_ctdb_socket", socket.to_str().unwrap()),
    ];
    assert_eq!(agent("monitor", &environment).code(), Some(7));
    listen(&socket, &Arc::new(Mutex::new(WELL)));
    assert_eq!(agent("monitor", &environment).code(), Some(0));
}
