//! `storhaug check`: what it finds on machines that have something wrong with
//! them, and how it ends.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a machine that cannot be faked fails its test, and the command is run as a user does"
)]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use anyhow::bail;
use storhaug::check::{self, Checked, Reach};
use storhaug::config::{self, Loaded, Places};
use storhaug::finding::{Finding, Severity};
use storhaug::machine::Machine;
use storhaug_agents::deadline::Deadline;
use storhaug_agents::exec::{Cmd, Output, Runner};

/// What the machine's tools say where nothing is wrong.
const UNITS: &str = "Id=ctdb.service\nUnitFileState=disabled\nActiveState=inactive\n\n\
    Id=smbd.service\nUnitFileState=disabled\nActiveState=inactive\n\n\
    Id=pcsd.service\nUnitFileState=enabled\nActiveState=active\n\n\
    Id=firewalld.service\nUnitFileState=\nActiveState=inactive\n";
const CHAINS: &str = r#"{"nftables": [{"metainfo": {"version": "1.0.6"}},
    {"chain": {"family": "inet", "table": "filter", "name": "input", "hook": "input", "policy": "accept"}},
    {"chain": {"family": "inet", "table": "filter", "name": "mine"}}]}"#;
const VOLUME: &str = "<cliOutput><opRet>0</opRet><volInfo><volumes><volume><name>share</name>\
    <statusStr>Started</statusStr><disperseCount>0</disperseCount><replicaCount>3</replicaCount>\
    <arbiterCount>0</arbiterCount><bricks/><options>\
    <option><name>performance.write-behind</name><value>off</value></option>\
    <option><name>performance.quick-read</name><value>off</value></option>\
    <option><name>performance.stat-prefetch</name><value>off</value></option>\
    </options></volume></volumes></volInfo></cliOutput>";

const SETTINGS: &str = "[global]\n\tclustering = Yes\n\tnetbios name = STORHAUG\n\
    [share]\n\tpath = /run/storhaug/share\n\tvfs objects = fileid\n";

/// A machine: its files, and what its tools say, by their names.
struct Fake {
    root: tempfile::TempDir,
    said: RefCell<BTreeMap<&'static str, (u8, String)>>,
    /// What the other node reports, and how far its clock is ahead, in ms.
    other: RefCell<Option<(serde_json::Value, i64)>>,
}

impl Fake {
    fn new() -> Fake {
        let fake = Fake {
            root: tempfile::tempdir().unwrap(),
            said: RefCell::default(),
            other: RefCell::default(),
        };
        for (tool, text) in [
            ("systemctl", UNITS),
            ("timedatectl", "yes\n"),
            ("nft", CHAINS),
            ("gluster", VOLUME),
            ("testparm", SETTINGS),
            ("fence_ipmilan", ""),
            ("dpkg-query", "ctdb 2:4.17.12\npacemaker 2.1.5-1\n"),
        ] {
            fake.say(tool, text);
        }
        for agent in ["ctdb", "glusterfs", "noded", "samba", "vip"] {
            fake.write(&format!("usr/lib/ocf/resource.d/storhaug/{agent}"), "");
        }
        fake.write("dev/fuse", "");
        fake.write("proc/sys/net/ipv4/ip_nonlocal_bind", "0\n");
        fake.write("proc/sys/net/netfilter/nf_conntrack_tcp_loose", "1\n");
        fake.write("etc/samba/smb.conf", "[global]\n");
        fake.write("proc/self/mountinfo", "");
        fake.write("proc/sys/kernel/hostname", "node1\n");
        fake
    }

    fn say(&self, tool: &'static str, text: &str) {
        self.said.borrow_mut().insert(tool, (0, text.to_owned()));
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn loaded(&self) -> Loaded {
        self.write(
            "storhaug.conf",
            "[cluster]\nname = \"test\"\nnodes = [\"node1\", \"node2\"]\n\
             [[node]]\nname = \"node1\"\naddress = \"10.0.0.1\"\n\
             [[node]]\nname = \"node2\"\naddress = \"10.0.0.2\"\n\
             [[vip]]\naddress = \"10.0.0.101/24\"\nnic = \"eth0\"\n[smb]\n\
             [fencing]\nagent = \"fence_ipmilan\"\n\
             nodes.node1 = { ip = \"192.0.2.1\" }\nnodes.node2 = { ip = \"192.0.2.2\" }\n",
        );
        config::load(&Places::File(self.root.path().join("storhaug.conf"))).unwrap()
    }

    fn check(&self, reach: Reach) -> Checked {
        let machine = Machine {
            runner: self,
            root: self.root.path(),
        };
        check::run(machine, &self.loaded(), "node1", reach)
    }

    /// What is found here, but for what is so on the machine of the test: pcs is
    /// not installed, and the address is not its own.
    fn found(&self) -> Vec<Finding> {
        let mut found = self.check(Reach::Local).reports.remove(0).findings;
        found.retain(|found| !["tool", "address-elsewhere"].contains(&found.id.as_str()));
        found
    }

    /// The one thing that is found.
    fn only(&self) -> Finding {
        let found = self.found();
        assert_eq!(found.len(), 1, "{found:#?}");
        found.into_iter().next().unwrap()
    }
}

impl Runner for Fake {
    fn run(&self, cmd: &Cmd, _: Deadline) -> anyhow::Result<Output> {
        let tool = cmd.words()[0];
        if tool == "ssh" {
            assert!(cmd.words().contains(&"BatchMode=yes"), "{cmd}");
            assert!(
                cmd.to_string()
                    .ends_with("-- root@10.0.0.2 storhaug check --local --output json")
            );
            let Some((mut report, ahead)) = self.other.borrow().clone() else {
                return Ok(Output::exited(
                    cmd,
                    255,
                    "",
                    "Permission denied (publickey).",
                ));
            };
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            let now = i64::try_from(now.unwrap().as_millis()).unwrap();
            report["time"] = (now + ahead).into();
            let told = serde_json::json!({"schema": 1, "nodes": [report]});
            // With what it finds, it exits with 3 or 4.
            return Ok(Output::exited(cmd, 3, &told.to_string(), ""));
        }
        let said = self.said.borrow().get(tool).cloned();
        let Some((code, mut text)) = said else {
            bail!("starting `{tool}`");
        };
        if tool == "systemctl" {
            // Of those that it is asked for.
            let asked = |block: &&str| {
                let words = cmd.words();
                let id = block.lines().find_map(|line| line.strip_prefix("Id="));
                id.is_some_and(|id| words.contains(&id))
            };
            text = text
                .split("\n\n")
                .filter(asked)
                .collect::<Vec<_>>()
                .join("\n\n");
        }
        Ok(Output::exited(cmd, code, &text, ""))
    }
}

#[test]
fn a_machine_that_is_fit_has_no_findings() {
    let fake = Fake::new();
    assert_eq!(fake.found(), []);
    let checked = fake.check(Reach::Local);
    assert_eq!(checked.reports[0].unseen, []);
    assert_eq!(checked.reports[0].versions["pacemaker"], "2.1.5-1");
}

/// Each by itself, with its id, how bad it is, and words of problem and remedy.
#[test]
fn what_is_wrong_is_found() {
    use Severity::{Error, Note, Warning};
    type Spoil = fn(&Fake);
    let cases: [(Spoil, &str, Severity, &str, &str); 22] = [
        (
            |fake| fake.say("testparm", &SETTINGS.replace("fileid", "acl_xattr")),
            "smb-conf",
            Error,
            "[share] is on localhost:/share (fuse.glusterfs)",
            "add `fileid` to its `vfs objects`",
        ),
        (
            |fake| {
                let multichannel = "[global]\n\tserver multi channel support = Yes\n";
                fake.say("testparm", &SETTINGS.replace("[global]\n", multichannel));
            },
            "smb-conf",
            Warning,
            "`server multi channel support` is on",
            "write `server multi channel support = no`",
        ),
        (
            |fake| fake.say("systemctl", &UNITS.replacen("disabled", "enabled", 1)),
            "unit-enabled",
            Error,
            "ctdb.service is started at boot",
            "systemctl disable ctdb.service",
        ),
        (
            |fake| fake.say("systemctl", &UNITS.replacen("=inactive", "=active", 1)),
            "unit-running",
            Error,
            "ctdb.service runs",
            "systemctl stop ctdb.service",
        ),
        (
            |fake| fake.say("systemctl", &UNITS.replace("=enabled", "=disabled")),
            "pcsd",
            Error,
            "not after the next boot",
            "systemctl enable --now pcsd",
        ),
        (
            |fake| fake.say("timedatectl", "no\n"),
            "clock",
            Warning,
            "not synchronized",
            "chrony",
        ),
        (
            |fake| {
                let firewalld = UNITS.replace(
                    "State=\nActiveState=inactive",
                    "State=enabled\nActiveState=active",
                );
                fake.say("systemctl", &firewalld);
                fake.write(
                    "usr/lib/firewalld/zones/public.xml",
                    "<zone><service name=\"samba\"/></zone>",
                );
                fake.write(
                    "etc/firewalld/zones/work.xml",
                    "<zone><interface name=\"eth1\"/><service name=\"ctdb\"/></zone>",
                );
                fake.write(
                    "etc/firewalld/zones/home.xml",
                    "<zone><service name=\"glusterfs\"/></zone>",
                );
            },
            "firewalld",
            Warning,
            "lets in high-availability, glusterfs",
            "--add-service=high-availability --add-service=glusterfs,",
        ),
        (
            |fake| fake.say("nft", &CHAINS.replace("accept", "drop")),
            "netfilter-drops",
            Note,
            "inet filter input drops",
            "4379/tcp (CTDB)",
        ),
        (
            |fake| fake.write("proc/sys/net/netfilter/nf_conntrack_tcp_loose", "0\n"),
            "conntrack-loose",
            Warning,
            "is told to reconnect",
            "nf_conntrack_tcp_loose=1",
        ),
        (
            |fake| fake.write("proc/sys/net/ipv4/ip_nonlocal_bind", "1\n"),
            "nonlocal-bind",
            Error,
            "the first of its list",
            "ip_nonlocal_bind=0",
        ),
        (
            |fake| {
                fake.write("sys/fs/selinux/enforce", "1");
                fake.write("sys/fs/selinux/booleans/samba_share_fusefs", "0 0");
            },
            "selinux",
            Error,
            "samba_share_fusefs is off",
            "setsebool -P samba_share_fusefs on",
        ),
        (
            |fake| fake.write("etc/ctdb/public_addresses", "# ours\n10.0.0.101/24 eth0\n"),
            "ctdb-manages",
            Error,
            "/etc/ctdb/public_addresses has CTDB manage",
            "move it away",
        ),
        (
            |fake| {
                fake.write("etc/ctdb/events/legacy/50.samba.script", "");
                let script = fake
                    .root
                    .path()
                    .join("etc/ctdb/events/legacy/50.samba.script");
                std::fs::set_permissions(script, PermissionsExt::from_mode(0o755)).unwrap();
            },
            "ctdb-manages",
            Error,
            "script 50.samba manages",
            "disable legacy 50.samba",
        ),
        (
            |fake| {
                std::fs::create_dir_all(fake.root.path().join("var/lib")).unwrap();
                let nfs = fake.root.path().join("var/lib/nfs");
                symlink("/run/gluster/state/nfs-ganesha/node1", nfs).unwrap();
            },
            "var-lib-nfs",
            Error,
            "state/nfs-ganesha/node1, which is not there",
            "rm /var/lib/nfs, and install",
        ),
        (
            |fake| {
                fake.write("var/lib/nfs.backup/etab", "");
                let state = fake.root.path().join("state");
                std::fs::create_dir(&state).unwrap();
                symlink(state, fake.root.path().join("var/lib/nfs")).unwrap();
            },
            "var-lib-nfs",
            Error,
            "/state, as earlier versions",
            "mv /var/lib/nfs.backup /var/lib/nfs",
        ),
        (
            |fake| fake.write("etc/sysconfig/storhaug.d/secret.pem", ""),
            "root-key",
            Warning,
            "secret.pem is a key of root",
            "authorized_keys",
        ),
        (
            |fake| {
                let none = "<cliOutput><opRet>-1</opRet><opErrno>30806</opErrno>\
                            <opErrstr>Volume share does not exist</opErrstr></cliOutput>";
                fake.say("gluster", none);
            },
            "volume",
            Error,
            "no volume share",
            "make it",
        ),
        (
            |fake| fake.say("gluster", &VOLUME.replace("Started", "Stopped")),
            "volume-stopped",
            Error,
            "share is not started",
            "gluster volume start share",
        ),
        (
            |fake| {
                fake.say(
                    "gluster",
                    &VOLUME.replace("replicaCount>3", "replicaCount>2"),
                )
            },
            "volume-copies",
            Warning,
            "no arbiter",
            "arbiter 1",
        ),
        (
            |fake| {
                let options =
                    "<options><option><name>cluster.quorum-type</name><value>none</value></option>";
                fake.say("gluster", &VOLUME.replace("<options>", options));
            },
            "volume-quorum",
            Warning,
            "without a majority",
            "cluster.quorum-type auto",
        ),
        (
            |fake| {
                let options =
                    "<options><option><name>network.ping-timeout</name><value>5</value></option>";
                fake.say("gluster", &VOLUME.replace("<options>", options));
            },
            "volume-ping-timeout",
            Warning,
            "after 5 s",
            "reset share network.ping-timeout",
        ),
        (
            |fake| fake.say("gluster", &VOLUME.replacen(">off<", ">on<", 1)),
            "volume-caches",
            Error,
            "with write-behind",
            "gluster volume set share performance.write-behind off",
        ),
    ];
    for (spoil, id, severity, problem, remedy) in cases {
        let fake = Fake::new();
        spoil(&fake);
        let found = fake.only();
        assert_eq!((found.id.as_str(), found.severity), (id, severity));
        assert!(found.problem.contains(problem), "{found}");
        assert!(found.remedy.contains(remedy), "{found}");
    }
}

/// What cannot be looked at is not taken for good, and one look that fails keeps
/// no other from being taken.
#[test]
fn what_cannot_be_seen_is_said() {
    let fake = Fake::new();
    fake.said.borrow_mut().remove("gluster");
    fake.write("proc/sys/net/ipv4/ip_nonlocal_bind", "1\n");
    let checked = fake.check(Reach::Local);
    let report = &checked.reports[0];
    assert_eq!(report.unseen[0].what, "volumes");
    assert!(!report.looked.contains(&"volumes".to_owned()));
    assert!(report.looked.contains(&"fencing".to_owned()));
    let text = check::text(&checked);
    assert!(
        text.contains("  not volumes: starting `gluster`\n"),
        "{text}"
    );
    assert!(text.contains("! error (nonlocal-bind): "), "{text}");
}

#[test]
fn a_device_that_does_not_answer_is_found() {
    let fake = Fake::new();
    fake.said
        .borrow_mut()
        .insert("fence_ipmilan", (1, String::new()));
    let found = fake.found();
    assert!(found.iter().all(|found| found.id == "fence-device"));
    assert_eq!(found.len(), 2, "{found:#?}");
}

#[test]
fn nodes_are_compared() {
    let fake = Fake::new();
    // A node like this one, but for its name.
    let mut other = serde_json::to_value(&fake.check(Reach::Local).reports[0]).unwrap();
    other["node"] = "node2".into();
    other["findings"] = serde_json::json!([]);
    let ids = |ahead| {
        *fake.other.borrow_mut() = Some(ahead);
        let checked = fake.check(Reach::Ssh);
        assert_eq!(checked.reports.len(), 2);
        let between = checked.between.iter();
        between.map(Finding::to_string).collect::<Vec<_>>()
    };
    assert_eq!(ids((other.clone(), 0)), [""; 0]);
    for (ahead, said) in [(95_000, "9"), (-95_000, "9")] {
        let found = ids((other.clone(), ahead));
        let clocks = format!("the clocks of node1 and node2 are {said}");
        assert!(
            found.len() == 1 && found[0].starts_with(&clocks),
            "{found:?}"
        );
    }
    other["versions"]["ctdb"] = "2:4.22.4".into();
    other["addresses"]["node1"] = "10.9.0.1".into();
    other["files"]["/etc/samba/smb.conf"] = "another".into();
    // Of a newer version.
    other["weather"] = "fine".into();
    let found = ids((other, 0));
    for (found, said) in found.iter().zip([
        "ctdb has different versions: node1 2:4.17.12, node2 2:4.22.4",
        "the name node1 leads to different addresses: node1 10.0.0.1, node2 10.9.0.1",
        "/etc/samba/smb.conf is not the same on node1, node2",
    ]) {
        assert!(found.starts_with(said), "{found}");
    }
    assert_eq!(found.len(), 3);
}

#[test]
fn nodes_that_are_not_looked_at_are_named() {
    let fake = Fake::new();
    let text = check::text(&fake.check(Reach::Here));
    assert!(
        text.contains("not looked at: node2; run `storhaug check --local` there"),
        "{text}"
    );
    assert!(!check::text(&fake.check(Reach::Local)).contains("node2; run"));
    // Root may not log in.
    let checked = fake.check(Reach::Ssh);
    assert_eq!(checked.others, ["node2"]);
    assert_eq!(checked.between[0].id, "not-reached");
    assert!(checked.between[0].problem.contains("Permission denied"));
}

/// Through the command, on a machine that has nothing.
#[test]
fn errors_are_told_by_the_exit_code() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("storhaug.conf");
    let text = "[cluster]\nname = \"a\"\nnodes = [\"no-machine-is-called-so\"]\n[[vip]]\n\
        address = \"10.0.0.101/24\"\n[fencing]\nagent = \"none-i-accept-data-loss\"\n";
    std::fs::write(&file, text).unwrap();
    let run = |arguments: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_storhaug"))
            .arg("--config")
            .arg(&file)
            .args(arguments)
            .env_clear()
            .env("PATH", "/nonexistent")
            .stdin(Stdio::null())
            .output()
            .unwrap()
    };
    let output = run(&["check", "--local", "--output", "json"]);
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&told["schema"], &told["worst"]),
        (&1.into(), &"error".into())
    );
    let ids = told["nodes"][0]["findings"].as_array().unwrap();
    let has = |id: &str| ids.iter().any(|found| found["id"] == id);
    assert!(
        has("tool") && has("no-member") && has("no-fencing"),
        "{told}"
    );
    let text = run(&["check"]);
    assert_eq!(text.status.code(), Some(4));
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(
        text.contains("! error (no-member): this machine is called "),
        "{text}"
    );
    assert_eq!(run(&["check", "--local", "--ssh"]).status.code(), Some(64));
    std::fs::write(&file, "").unwrap();
    assert_eq!(run(&["check"]).status.code(), Some(78));
}

/// `status --watch`, in a pipe.
#[test]
fn a_watch_ends_with_its_reader() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_storhaug"))
        .args(["status", "--watch"])
        .env_clear()
        .env("PATH", "/nonexistent")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut views = child.stdout.take().unwrap();
    let mut first = [0; 4];
    std::io::Read::read_exact(&mut views, &mut first).unwrap();
    drop(views);
    let deadline = Deadline::after(Duration::from_secs(60));
    let ended = storhaug_agents::deadline::until(
        deadline,
        Duration::from_millis(50),
        "the end of a watch",
        || Ok(child.try_wait()?),
    );
    assert!(ended.unwrap().success());
}
