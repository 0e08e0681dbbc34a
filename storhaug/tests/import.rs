//! What an administrator does who comes from CTDB, from Gluster's NFS-Ganesha
//! or from an old storhaug: import, fill in what is open, plan. The files are
//! those of the field; the cluster of four nodes, 192.168.122.100 to 103 with
//! the addresses 200 to 203 on eth0, is that of the guides from which many have
//! theirs.
#![expect(
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test runs the command as a user does, and fails when it cannot"
)]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

const NODES: &str = "192.168.122.100\n192.168.122.101\n192.168.122.102\n192.168.122.103\n";

const PUBLIC_ADDRESSES: &str = "192.168.122.200/24 eth0\n192.168.122.201/24 eth0\n\
                                192.168.122.202/24 eth0\n192.168.122.203/24 eth0\n";

const HOSTS: &str = "127.0.0.1 localhost\n192.168.122.100 server1\n\
                     192.168.122.101 server2.example.com server2\n192.168.122.102 server3\n\
                     192.168.122.103 server4 # the new one\n";

/// CTDB's options before version 4.9.
const SYSCONFIG: &str = r#"# Options to ctdbd
CTDB_RECOVERY_LOCK="/gluster/lock/lockfile"
CTDB_PUBLIC_ADDRESSES=/etc/ctdb/public_addresses
CTDB_NODES=/etc/ctdb/nodes
CTDB_MANAGES_SAMBA=yes
export CTDB_MANAGES_WINBIND="no"
CTDB_MANAGES_HTTPD=yes
CTDB_NOTIFY_SCRIPT=/etc/ctdb/notify.sh
CTDB_SET_KeepaliveLimit=3
CTDB_DEBUGLEVEL=$(touch touched)
ulimit -n 10000
CTDB_FANCY=1
. /etc/ctdb/more
"#;

/// An old storhaug.conf with what may be in it, and how a node is fenced.
const OLD: &str = r#"# Name of the HA cluster created.
HA_NAME="storhaug"

# Password of the hacluster user
HA_PASSWORD="sesame"

HA_SERVER="server1"
HA_CLUSTER_NODES="server1,server2,server3"
# Two of them have disks.
STORAGE_NODES="server1,server2"
HA_VIPS="10.0.0.101/24 10.0.0.102/24"
HA_VIP_NODES="server2,server1"
DETERMINISTIC_FAILOVER=true
HA_SERVICES="nfs smb"
HA_NFS_TYPE="glusterfs"
HA_NFS_VOL="state"
HA_SMB_VOL="ctdb"
HA_FENCE_AGENT="fence_ipmilan"
HA_FENCE_OPTIONS="lanplus=true"
HA_FENCE_OPTIONS_server1="ip=10.1.0.1"
HA_FENCE_OPTIONS_server2="ip=10.1.0.2"
HA_FENCE_OPTIONS_server3="ip=10.1.0.3"
"#;

/// A directory with these files.
struct Here(TempDir);

impl Here {
    fn with(files: &[(&str, &str)]) -> Here {
        let here = Here(TempDir::new().expect("a temporary directory"));
        for (name, text) in files {
            here.write(name, text);
        }
        here
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
        fs::write(&path, text).expect("writing a file");
        // As an old storhaug.conf with a password has to be.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("its mode");
    }

    /// `storhaug` in this directory, where no program is found.
    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_storhaug"))
            .args(arguments)
            .current_dir(self.0.path())
            .env_clear()
            .env("PATH", "/nonexistent")
            .stdin(Stdio::null())
            .output()
            .expect("running storhaug")
    }

    /// What it prints, where it succeeds.
    fn told(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).expect("text")
    }

    /// What it complains about, and its exit code.
    fn refused(&self, arguments: &[&str]) -> (i32, String) {
        let output = self.run(arguments);
        assert!(output.stdout.is_empty(), "{arguments:?}: {output:?}");
        let text = String::from_utf8(output.stderr).expect("text");
        (output.status.code().expect("an exit code"), text)
    }

    /// The plan of the configuration in the file `name`, which need not be
    /// carried out on this machine.
    fn plan(&self, name: &str) -> String {
        let output = self.run(&["--config", name, "plan", "--output", "xml"]);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        String::from_utf8(output.stdout).expect("text")
    }
}

/// `text` without lines that begin with `#`.
fn settings(text: &str) -> String {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| format!("{line}\n")).collect()
}

/// `text` with its lines in one, so that a comment is found that was wrapped.
fn flat(text: &str) -> String {
    let words = text.split_whitespace().filter(|word| *word != "#");
    words.collect::<Vec<_>>().join(" ")
}

fn with_fencing(text: &str) -> String {
    format!("{text}\n[fencing]\nagent = \"none-i-accept-data-loss\"\n")
}

#[test]
fn a_cluster_of_ctdb_is_imported_filled_in_and_planned() {
    let here = Here::with(&[
        ("copy/etc/ctdb/nodes", NODES),
        ("copy/etc/ctdb/public_addresses", PUBLIC_ADDRESSES),
        ("copy/etc/sysconfig/ctdb", SYSCONFIG),
    ]);
    let told = here.told(&["import", "--from", "copy", "--output", "storhaug.conf"]);
    assert!(
        told.contains("storhaug --config storhaug.conf plan"),
        "{told}"
    );
    let text = fs::read_to_string(here.path("storhaug.conf")).expect("the file");

    // What no file says is open, and told by name, as is fencing.
    let (code, errors) = here.refused(&["--config", "storhaug.conf", "plan"]);
    assert_eq!(code, 78, "{errors}");
    for open in [
        "`<name-of-192.168.122.100>` is still to be filled in",
        "`<name-of-192.168.122.103>` is still to be filled in",
        "`<volume-of-the-shares>` is still to be filled in",
        "no fencing",
    ] {
        assert!(errors.contains(open), "{errors}\nlacks {open}");
    }

    let mut filled = text.replace("<volume-of-the-shares>", "share");
    for number in 0..4 {
        let address = format!("192.168.122.10{number}");
        let (open, name) = (
            format!("<name-of-{address}>"),
            format!("server{}", number + 1),
        );
        filled = filled.replace(&open, &name);
    }
    // The lines for fencing that are proposed work as they are.
    let proposed: String = filled
        .lines()
        .skip_while(|line| *line != "# [fencing]")
        .take_while(|line| line.starts_with("# "))
        .map(|line| format!("{}\n", line.trim_start_matches("# ")))
        .collect();
    here.write("storhaug.conf", &format!("{filled}\n{proposed}"));
    let plan = here.plan("storhaug.conf");
    for number in 0..4 {
        let vip = format!("\"192.168.122.20{number}\"");
        assert!(plan.contains(&vip), "{plan}\nlacks {vip}");
        let fence = format!("\"fence-server{}\"", number + 1);
        assert!(plan.contains(&fence), "{plan}\nlacks {fence}");
    }
    let nodes = "value=\"192.168.122.100 192.168.122.101 192.168.122.102 192.168.122.103\"";
    assert!(plan.contains(nodes), "{plan}\nlacks {nodes}");
    assert!(
        plan.contains("\"eth0\"") && plan.contains("\"smbd\""),
        "{plan}"
    );
    assert!(!plan.contains("\"winbindd\""), "{plan}");
}

#[test]
fn what_ctdb_was_told_beside_is_told_with_the_reason() {
    let here = Here::with(&[
        ("nodes", &format!("#192.168.122.99\n{NODES}")),
        (
            "public_addresses",
            "192.168.122.200/24 eth0,eth1\n192.168.122.201/24\n",
        ),
        ("ctdb", &format!("CTDB_PUBLIC_INTERFACE=eth7\n{SYSCONFIG}")),
        (
            "ctdb.conf",
            "[logging]\n\tlog level = NOTICE\n[cluster]\n\tcluster lock = !/bin/lock x\n\
             [failover]\n\tdisabled = false\n",
        ),
    ]);
    let text = here.told(&["import", "--from", "."]);
    let notes = flat(&text);
    for (what, why) in [
        (
            "line 1: #192.168.122.99",
            "a removed node keeps its place in CTDB",
        ),
        (
            "line 1: 192.168.122.200/24 eth0,eth1",
            "an address has one interface",
        ),
        (
            "line 3: CTDB_RECOVERY_LOCK=\"/gluster/lock/lockfile\"",
            "storhaug's own lock is held over Corosync",
        ),
        (
            "line 8: CTDB_MANAGES_HTTPD=yes",
            "CTDB starts no services any more: make it a resource of Pacemaker",
        ),
        (
            "line 9: CTDB_NOTIFY_SCRIPT=/etc/ctdb/notify.sh",
            "what happens is told by alerts of Pacemaker: `pcs alert create",
        ),
        (
            "line 10: CTDB_SET_KeepaliveLimit=3",
            "the tunables are in /etc/ctdb/ctdb.tunables",
        ),
        (
            "line 11: CTDB_DEBUGLEVEL=$(touch touched)",
            "`CTDB_DEBUGLEVEL=$(touch touched)` has a `$`, and nothing here is executed",
        ),
        (
            "line 12: ulimit -n 10000",
            "limits are those of the service's unit",
        ),
        (
            "line 13: CTDB_FANCY=1",
            "no version of CTDB that is known here has this option",
        ),
        (
            "line 14: . /etc/ctdb/more",
            "`. /etc/ctdb/more` is not a setting",
        ),
        ("line 2: log level = NOTICE", "it is a matter of CTDB alone"),
        ("line 4: cluster lock = !/bin/lock x", "storhaug's own lock"),
        ("line 6: disabled = false", "CTDB has no addresses any more"),
    ] {
        let note = format!("{what} {why}");
        assert!(notes.contains(&note), "{text}\nlacks {note}");
    }
    // The interface for all is that of the one that has none of its own.
    assert_eq!(text.matches("nic = \"eth7\"").count(), 1, "{text}");
    assert!(!here.path("touched").exists(), "something was executed");
}

#[test]
fn the_event_scripts_of_later_versions_tell_the_services() {
    let here = Here::with(&[
        ("etc/ctdb/nodes", NODES),
        ("etc/ctdb/public_addresses", PUBLIC_ADDRESSES),
        // Not enabled, without a permission to run it.
        ("etc/ctdb/events/legacy/49.winbind.script", "#!/bin/sh\n"),
    ]);
    for name in [
        "10.interface",
        "48.netbios",
        "50.samba",
        "60.nfs",
        "41.httpd",
    ] {
        let path = here.path(&format!("etc/ctdb/events/legacy/{name}.script"));
        let target = format!("/usr/share/ctdb/events/legacy/{name}.script");
        symlink(target, path).expect("a link");
    }
    let text = here.told(&["import", "--from", "."]);
    let said = settings(&text);
    for line in [
        "winbind = false",
        "netbios = true",
        "[nfs]\nstate_volume = \"state\"",
    ] {
        assert!(said.contains(line), "{text}\nlacks {line}");
    }
    assert!(
        flat(&text).contains("41.httpd CTDB starts no services any more"),
        "{text}"
    );
    assert!(!text.contains("10.interface"), "{text}");
}

#[test]
fn hosts_tells_the_names_of_nodes() {
    let here = Here::with(&[("a", NODES), ("b", PUBLIC_ADDRESSES), ("c", HOSTS)]);
    let text = here.told(&["import", "a", "b", "c"]);
    let names = r#"nodes = ["server1", "server2.example.com", "server3", "server4"]"#;
    assert!(text.contains(names), "{text}");
    assert!(text.contains("# Also called server2: "), "{text}");
    let text = text.replace("<volume-of-the-shares>", "share");
    here.write("storhaug.conf", &with_fencing(&text));
    let told = here.told(&["--config", "storhaug.conf", "config", "check"]);
    assert!(told.contains("nothing is wrong"), "{told}");
}

#[test]
fn a_cluster_of_gluster_s_ganesha_is_imported() {
    let by_name = "HA_NAME=\"ganesha-ha-360\"\nHA_VOL_SERVER=\"server1\"\n\
                   HA_CLUSTER_NODES=\"server1.lab.example.com,server-2\"\n\
                   VIP_server1.lab.example.com=\"10.0.2.1\"\nVIP_server_2=\"10.0.2.2\"\n";
    let by_address = "HA_NAME=\"ganesha-ha-360\"\nHA_VOL_NAME=\"ha-state\"\n\
                      HA_VOL_MNT=\"/mnt\"\nHA_CLUSTER_NODES=\"10.0.1.1,10.0.1.2\"\n\
                      VIP_10.0.1.1=\"10.0.2.1\"\nVIP_10.0.1.2=\"10.0.2.2\"\n";
    let here = Here::with(&[
        ("etc/ganesha/ganesha-ha.conf", by_name),
        ("by-address", by_address),
    ]);
    let text = here.told(&["import", "--from", "."]);
    here.write("named.conf", &with_fencing(&text));
    let shown = here.told(&["--config", "named.conf", "config", "show"]);
    for line in [
        "nodes = [\"server1.lab.example.com\", \"server-2\"]",
        "prefer = [\"server-2\"]",
        "services = [\"nfs\"]",
        "server = \"server1\"",
        "state_volume = \"state\"",
    ] {
        assert!(shown.contains(line), "{shown}\nlacks {line}");
    }
    assert!(!shown.contains("[smb]"), "{shown}");

    let text = here.told(&["import", "by-address"]);
    assert!(
        flat(&text).contains("HA_VOL_MNT=\"/mnt\" the state volume is mounted"),
        "{text}"
    );
    let text = text
        .replace("<name-of-10.0.1.1>", "a")
        .replace("<name-of-10.0.1.2>", "b");
    here.write("addressed.conf", &with_fencing(&text));
    let shown = here.told(&["--config", "addressed.conf", "config", "show"]);
    for line in [
        "nodes = [\"a\", \"b\"]",
        "name = \"b\"\naddress = \"10.0.1.2\"",
        "address = \"10.0.2.2\"\nname = \"vip-10.0.2.2\"\nprefer = [\"b\"]",
        "state_volume = \"ha-state\"",
    ] {
        assert!(shown.contains(line), "{shown}\nlacks {line}");
    }
}

#[test]
fn an_old_storhaug_conf_means_the_same_afterwards() {
    let (main, drop_in) = OLD.split_at(OLD.find("HA_NFS_TYPE").expect("a line"));
    let here = Here::with(&[
        ("etc/sysconfig/storhaug.conf", main),
        ("etc/sysconfig/storhaug.d/nfs-ha.conf", drop_in),
        ("old.conf", OLD),
    ]);
    let text = here.told(&["import", "--from", "."]);
    assert!(!text.contains("sesame"), "{text}");
    assert!(text.contains("# Two of them have disks."), "{text}");
    let notes = flat(&text);
    for note in [
        "HA_PASSWORD… the password of the user hacluster goes into",
        "HA_NFS_TYPE=\"glusterfs\" no effect",
        "HA_SMB_VOL=\"ctdb\" no effect",
    ] {
        assert!(notes.contains(note), "{text}\nlacks {note}");
    }
    here.write("new.conf", &text);
    let show = |name| here.told(&["--config", name, "config", "show"]);
    assert_eq!(show("new.conf"), show("old.conf"));
    assert_eq!(here.plan("new.conf"), here.plan("old.conf"));
}

#[test]
fn ctdb_s_addresses_join_an_old_storhaug_conf() {
    let old = "HA_NAME=s\nHA_CLUSTER_NODES=\"server1 server3\"\nHA_VIPS=\"192.168.122.200\"\n";
    let here = Here::with(&[
        ("storhaug.conf", old),
        ("nodes", NODES),
        ("public_addresses", PUBLIC_ADDRESSES),
        ("hosts", HOSTS),
    ]);
    let text = here.told(&["import", "--from", "."]);
    let said = settings(&text);
    assert!(
        said.contains("nodes = [\"server1\", \"server3\"]"),
        "{text}"
    );
    assert!(
        said.contains("name = \"server3\"\naddress = \"192.168.122.102\""),
        "{text}"
    );
    assert_eq!(said.matches("[[vip]]").count(), 4, "{text}");
    assert!(
        flat(&text).contains("line 2: 192.168.122.101 which of the nodes"),
        "{text}"
    );
    here.write("new.conf", &with_fencing(&text));
    here.told(&["--config", "new.conf", "config", "check"]);
}

#[test]
fn a_password_of_a_fence_agent_is_shown_nowhere() {
    let old = OLD.replace("lanplus=true", "lanplus=true passwd=sesame2");
    let here = Here::with(&[("old.conf", &old)]);
    let text = here.told(&["import", "old.conf"]);
    assert!(!text.contains("sesame"), "{text}");
    assert!(
        flat(&text).contains("write it to a file of mode 0600 on every node"),
        "{text}"
    );
    assert!(text.contains("options = { lanplus = \"true\" }"), "{text}");
}

#[test]
fn what_cannot_be_imported_is_told_and_nothing_is_written_over() {
    let here = Here::with(&[
        ("story", "once upon a time\n"),
        ("hosts", HOSTS),
        ("empty", "# nothing\n"),
        ("toml", "[cluster]\nname = \"x\"\n"),
        ("nodes", NODES),
        ("there", "mine"),
        ("bare/hosts", HOSTS),
    ]);
    for (arguments, told) in [
        (
            &["import", "story"][..],
            "story: nothing tells what file this is",
        ),
        (&["import", "empty"], "empty: there is nothing in it"),
        (
            &["import", "toml"],
            "toml: it is a storhaug.conf in the TOML form already",
        ),
        (&["import", "hosts"], "hosts: nothing to import"),
        (&["import", "--from", "bare"], "bare: nothing to import"),
        (&["import", "--from", "gone"], "gone: reading the directory"),
        (&["import", "nodes", "gone"], "gone: there is no such file"),
    ] {
        let (code, text) = here.refused(arguments);
        assert!(text.contains(told), "{text}\nlacks {told}");
        assert_eq!(code, 78, "{text}");
    }
    let (code, text) = here.refused(&["import", "nodes", "--output", "there"]);
    assert_eq!(code, 1, "{text}");
    assert!(
        text.contains("there, which nothing is written over"),
        "{text}"
    );
    assert_eq!(fs::read(here.path("there")).expect("the file"), b"mine");
    let (code, text) = here.refused(&["import", "nodes", "--from", "bare"]);
    assert_eq!(code, 64, "{text}");
}

#[test]
fn a_configuration_is_checked_shown_and_converted() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../conf");
    let example = |name: &str| fs::read_to_string(examples.join(name)).expect("an example");
    let toml = example("storhaug.conf");
    let here = Here::with(&[
        ("a.conf", &toml),
        ("b.conf", &example("storhaug-slides.conf")),
        (
            "bad.conf",
            "[cluster]\nname = \"a b\"\nnodes = [\"n1\", \"n1\"]\n[[vip]]\naddress = \"x\"\n\
             [fencing]\nagent = \"none-i-accept-data-loss\"\n",
        ),
    ]);
    let show = |name| here.told(&["--config", name, "config", "show"]);
    let told = here.told(&["--config", "a.conf", "config", "check"]);
    assert!(told.starts_with("a.conf: nothing is wrong"), "{told}");
    let (code, text) = here.refused(&["--config", "bad.conf", "config", "check"]);
    assert_eq!(code, 78, "{text}");
    assert_eq!(text.lines().count(), 3, "{text}");

    let slides = here.told(&["--config", "a.conf", "config", "convert", "--to", "slides"]);
    assert!(
        slides.contains("# By the names `uname -n` prints. New nodes go to the end.\nHA_CLUSTER"),
        "{slides}"
    );
    here.write("c.conf", &slides);
    assert_eq!(show("c.conf"), show("a.conf"));
    let text = here.told(&["--config", "b.conf", "config", "convert"]);
    assert!(
        text.contains("# Name of the cluster.\nname = \"storhaug\""),
        "{text}"
    );
    here.write("d.conf", &text);
    assert_eq!(show("d.conf"), show("a.conf"));

    // A password is not passed on, and where it goes is said.
    here.write(
        "e.conf",
        &OLD.replace("HA_SMB_VOL=", "# HA_PASSWORD=sesame3\nHA_SMB_VOL="),
    );
    let text = here.told(&["--config", "e.conf", "config", "convert"]);
    assert!(!text.contains("sesame"), "{text}");
    assert!(text.contains("of mode 0600"), "{text}");
    here.write("f.conf", &text);
    assert_eq!(show("f.conf"), show("e.conf"));

    // What the other form cannot say is told with its line.
    here.write(
        "g.conf",
        &toml.replace("prefer = [\"server2\"]", "nic = \"eth0\"\nname = \"two\""),
    );
    let (code, text) = here.refused(&["--config", "g.conf", "config", "convert", "--to", "slides"]);
    assert_eq!(code, 78, "{text}");
    for told in [
        ": nothing says `nic`",
        ": nothing says `name`",
        ": 10.0.0.103 prefers a node only if",
    ] {
        assert!(text.contains(told), "{text}\nlacks {told}");
    }
    let (code, text) = here.refused(&["--config", "a.conf", "config", "convert"]);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("in the TOML form already"), "{text}");
}
