//! Configurations as administrators write them, good and bad, through the
//! door the program uses.
#![expect(clippy::expect_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use ipnetwork::IpNetwork;
use proptest::prelude::*;
use storhaug::cluster::{Cluster, Failover, Fencing, Placement, Service, Storage};
use storhaug::config::{self, ConfigErrors, Loaded, Places, canonical, from_toml};
use tempfile::TempDir;

const TOML: &str = r#"[cluster]
name = "storhaug"
nodes = ["server1", "server2", "server3"]

[[vip]]
address = "10.0.0.101/24"

[smb]
volumes = ["share"]

[fencing]
agent = "fence_ipmilan"
options = { lanplus = "true" }
nodes.server1 = { ip = "10.1.0.1" }
nodes.server2 = { ip = "10.1.0.2" }
nodes.server3 = { ip = "10.1.0.3" }
"#;

const SLIDES: &str = r#"HA_NAME="storhaug"
HA_CLUSTER_NODES="server1,server2,server3"
HA_VIPS="10.0.0.101/24"
HA_FENCE_AGENT="fence_ipmilan"
HA_FENCE_OPTIONS="lanplus=true"
HA_FENCE_OPTIONS_server1="ip=10.1.0.1"
HA_FENCE_OPTIONS_server2="ip=10.1.0.2"
HA_FENCE_OPTIONS_server3="ip=10.1.0.3"
"#;

/// A file of this content, and the directory that keeps it.
fn file(text: impl AsRef<[u8]>) -> (TempDir, PathBuf) {
    let directory = TempDir::new().expect("a temporary directory");
    let path = directory.path().join("storhaug.conf");
    fs::write(&path, text).expect("writing the configuration");
    (directory, path)
}

fn load(text: impl AsRef<[u8]>) -> Result<Loaded, ConfigErrors> {
    let (_directory, path) = file(text);
    config::load(&Places::File(path))
}

fn cluster(text: &str) -> Cluster {
    load(text)
        .unwrap_or_else(|errors| panic!("{errors}\nin\n{text}"))
        .cluster
}

/// The lines of the errors; 0 for the whole file.
fn lines(errors: &ConfigErrors) -> Vec<usize> {
    errors.iter().map(|error| error.line.unwrap_or(0)).collect()
}

/// Replaces what is there exactly once.
fn with(text: &str, old: &str, new: &str) -> String {
    assert_eq!(text.matches(old).count(), 1, "{old}");
    text.replace(old, new)
}

/// A line of its own before `[smb]`, in the address's table: line 8.
fn vip(line: &str) -> String {
    with(TOML, "[smb]", &format!("{line}\n[smb]"))
}

fn conf(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../conf")
        .join(name)
}

/// A configuration with one mistake, the line of it, and some of the words of
/// the problem and of the remedy.
type Mistake<'a> = (String, usize, &'a str, &'a str);

fn each_is_told(mistakes: &[Mistake<'_>]) {
    for (text, line, problem, remedy) in mistakes {
        let errors = load(text).expect_err(text);
        assert_eq!(lines(&errors), [*line], "{errors}\nin\n{text}");
        let error = errors.iter().next().expect("an error");
        assert!(error.problem.contains(problem), "{errors}\nlacks {problem}");
        assert!(error.remedy.contains(remedy), "{errors}\nlacks {remedy}");
    }
}

#[test]
fn what_is_left_out_has_its_default() {
    let cluster = cluster(TOML);
    assert_eq!(
        cluster.password_file,
        Path::new("/etc/storhaug/hacluster.password")
    );
    assert_eq!(cluster.failover, Failover::Default);
    assert_eq!(cluster.placement, Placement::Balanced);
    assert_eq!(
        cluster.storage,
        Storage::GlusterFs {
            server: "localhost".into(),
            mount_dir: "/run/storhaug".into(),
            options: None
        }
    );
    assert!(
        cluster
            .nodes
            .iter()
            .all(|node| node.storage && node.address.is_none())
    );
    let vip = &cluster.vips[0];
    assert_eq!(
        (vip.name.as_str(), vip.prefix),
        ("vip-10.0.0.101", Some(24))
    );
    assert_eq!(
        vip.services.iter().copied().collect::<Vec<_>>(),
        [Service::Smb]
    );
    let smb = cluster.smb.expect("SMB");
    assert!(smb.winbind && !smb.netbios);
    assert_eq!(smb.cluster_lock, None);
}

#[test]
fn a_cluster_lock_is_a_file_or_a_program() {
    for lock in ["/run/storhaug/share/lock", "!/usr/libexec/ctdb/helper a b"] {
        let text = with(TOML, "[smb]", &format!("[smb]\ncluster_lock = \"{lock}\""));
        let written = canonical(&cluster(&text));
        let smb = cluster(&written).smb.expect("SMB");
        assert_eq!(smb.cluster_lock.as_deref(), Some(lock), "{written}");
    }
}

#[test]
fn an_ipv6_address_is_named_as_rfc_5952_writes_it() {
    let cluster = cluster(&with(TOML, "10.0.0.101/24", "FD00:0:0::0101/64"));
    assert_eq!(cluster.vips[0].name, "vip-fd00--101");
}

#[test]
#[rustfmt::skip]
fn each_mistake_is_told_with_its_line_and_what_to_write() {
    let storage = |keys: &str| with(TOML, "[smb]", &format!("[storage]\n{keys}\n[smb]"));
    each_is_told(&[
        (with(TOML, "nodes = [", "nodse = ["), 3, "unknown key `nodse` in [cluster]", "write `nodes`"),
        (with(TOML, "[smb]", "[smb]\ncolour = 1"), 9, "unknown key `colour`", "[smb] knows volumes, winbind, netbios, cluster_lock"),
        (with(TOML, "[smb]", "[smb]\ncluster_lock = \"lock\""), 9, "`lock` is no cluster lock", "the absolute name of a file"),
        (with(TOML, "[smb]", "[smb]\ncluster_lock = \"/a\\nb\""), 9, "no cluster lock", "the absolute name of a file"),
        (with(TOML, "[smb]", "[sbm]"), 8, "unknown table [sbm]", "write [smb]"),
        (format!("name = \"x\"\n{TOML}"), 1, "`name` is in no table", "under [cluster]"),
        (format!("{TOML}HA_NAME = \"x\"\n"), 17, "`HA_NAME` is of the slides' form", "write `name` in [cluster]"),
        (with(TOML, "\"storhaug\"", "storhaug"), 2, "is not TOML", "key = \"value\""),
        (with(TOML, "\"storhaug\"", "7"), 2, "`name` is `7`", "a string in quotes"),
        (with(TOML, "\"storhaug\"", "\"stor haug\""), 2, "`stor haug`", "letters, digits"),
        (with(TOML, "name = \"storhaug\"\n", ""), 1, "`name` in [cluster] is missing", "add name = "),
        (with(TOML, "\"server3\"]", "\"server1\", \"server3\"]"), 3, "`server1` is twice", "every node once"),
        (vip("prefer = [\"server4\"]"), 8, "`server4` is not in `nodes`", "write `server1`"),
        (vip("prefer = [\"other\"]"), 8, "`other` is not in `nodes`", "server1, server2, server3"),
        (vip("name = \"1vip\""), 8, "`1vip` cannot name a resource", "vip-10.0.0.101"),
        (vip("name = \"ctdb-clone\""), 8, "a resource of storhaug itself", "write another"),
        (vip("name = \"share\""), 8, "`share` is that of a volume", "write another"),
        (vip("nic = \"a/b\""), 8, "`a/b` is not the name of an interface", "ip link"),
        (vip("services = [\"nfs\"]"), 8, "`nfs` is not configured", "add the table [nfs]"),
        (vip("services = [\"ftp\"]"), 8, "unknown service `ftp`", "`smb` or `nfs`"),
        (vip("services = []"), 8, "without a service", "leave it out"),
        (vip("[[vip]]\naddress = \"10.0.0.101\""), 9, "10.0.0.101 is there twice", "once"),
        (vip("[nfs]\nstate_volume = \"share\""), 9, "one that Samba shares", "another volume"),
        (vip("[nfs]\nstate_volume = \"a b\""), 9, "`a b` is not the name of a volume", "letters, digits"),
        (vip("[nfs]\nconfig = \"ganesha.conf\""), 9, "`ganesha.conf`", "absolute path"),
        (vip("[[node]]\nname = \"server9\""), 9, "`server9` is not in", "write `server1`"),
        (with(TOML, "10.0.0.101/24", "10.0.0.301/24"), 6, "`10.0.0.301/24` is not an address", "10.0.0.101/24"),
        (with(TOML, "10.0.0.101/24", "10.0.0.101/33"), 6, "`33` in `10.0.0.101/33`", "from 1 to 32"),
        (with(TOML, "10.0.0.101/24", "10.0.0.255/24"), 6, "broadcast address", "of a host"),
        (with(TOML, "10.0.0.101/24", "127.0.0.1"), 6, "a loopback address", "clients' network"),
        (with(TOML, "10.0.0.101/24", "fe80::1"), 6, "on every link", "add nic"),
        (with(TOML, "[[vip]]", "[vip]"), 5, "`vip` is not the table", "[[vip]]"),
        (with(TOML, "[\"share\"]", "[\"ctdb\"]"), 9, "`ctdb` has a name that storhaug uses", "another name"),
        (with(TOML, "[\"share\"]", "[\"starting\"]"), 9, "`starting` has a name", "another name"),
        (storage("type = \"ceph\""), 9, "`ceph`", "\"glusterfs\" or \"mounted\""),
        (storage("type = \"mounted\"\nserver = \"a\""), 10, "no meaning", "remove it"),
        (storage("mount_dir = \"run\""), 9, "`run`", "absolute path"),
        (with(TOML, "fence_ipmilan", "ipmi"), 12, "`ipmi` is not the name of a fence agent", "pcs stonith list"),
        (with(TOML, "lanplus = \"true\"", "passwd = \"sesame\""), 13, "`passwd` would show the password", "password_file"),
        (with(TOML, "lanplus = \"true\"", "password_file = \"/a b\""), 13, "`/a b` is not the path", "absolute path"),
        (with(TOML, "nodes.server3 = { ip = \"10.1.0.3\" }\n", ""), 14, "nothing can switch off server3", "nodes.server3"),
        (with(TOML, "10.1.0.3\" }", "10.1.0.3\" }\nnodes.a.b = { ip = \"a\" }"), 17, "`a.b` is a table in a table", "quote"),
    ]);
}

#[test]
#[rustfmt::skip]
fn each_mistake_is_told_in_the_slides_form_too() {
    let more = |line: &str| format!("{SLIDES}{line}\n");
    each_is_told(&[
        (with(SLIDES, "\"storhaug\"", "\"$(reboot)\""), 1, "has a `$`", "the value itself"),
        (with(SLIDES, "\"storhaug\"", "\"a\"; reboot"), 1, "goes on after the value", "HA_NAME=\"value\""),
        (with(SLIDES, "\"storhaug\"", "\"a;b\""), 1, "has a `;`", "the value itself"),
        (with(SLIDES, "\"storhaug\"", "`hostname`"), 1, "has a ```", "HA_NAME=\"value\""),
        (with(SLIDES, "\"storhaug\"", "$HOSTNAME"), 1, "has a `$`", "HA_NAME=\"value\""),
        (with(SLIDES, "HA_NAME=", "HA_NAME = "), 1, "does not begin a setting", "write HA_NAME=\"value\""),
        (with(SLIDES, "HA_NAME", "export HA_NAME"), 1, "does not begin a setting", "write HA_NAME=\"value\""),
        (more("reboot"), 9, "`reboot` is not a setting", "remove the line"),
        (more("[cluster]"), 9, "`[cluster]` is TOML", "one of the two forms"),
        (more("HA_NAME=\"b\""), 9, "`HA_NAME` is already set in line 1", "remove one"),
        (more("HA_VIPZ=\"b\""), 9, "unknown key `HA_VIPZ`", "write HA_VIPS"),
        (more("HA_FENCE_OPTIONS_server4=\"ip=1\""), 9, "no node of HA_CLUSTER_NODES", "server1, server2"),
        (more("VIP_server1=\"10.0.0.9\""), 9, "VIP_<node> beside HA_VIPS of line 3", "HA_VIP_NODES"),
        (more("HA_VIP_NODES=\"server1 server2\""), 9, "2 nodes for 1 addresses", "at most one"),
        (more("HA_VIP_NODES=\"server4\""), 9, "`server4` is not in HA_CLUSTER_NODES", "write `server1`"),
        (more("STORAGE_NODES=\"server1,server4\""), 9, "`server4` is not in HA_CLUSTER_NODES", "server1"),
        (more("HA_SERVICES=\"ftp\""), 9, "unknown service `ftp`", "smb"),
        (more("DETERMINISTIC_FAILOVER=maybe"), 9, "`maybe`", "true or false"),
        (more("HA_PASSWORD='sesame'"), 9, "others than its owner", "chmod 600"),
        (with(SLIDES, "10.0.0.101/24", "10.0.0.x"), 3, "`10.0.0.x` is not an address", "10.0.0.101"),
        (with(SLIDES, "lanplus=true", "lanplus"), 5, "`lanplus` in HA_FENCE_OPTIONS", "key=value"),
        (with(SLIDES, "HA_NAME=\"storhaug\"\n", ""), 0, "HA_NAME is missing", "add HA_NAME="),
    ]);
}

#[test]
fn every_mistake_is_told_at_once() {
    let text = with(TOML, "10.0.0.101/24", "10.0.0.x");
    let text = with(&text, "[\"share\"]", "[\"share\", \"share\"]");
    let text = with(&text, "nodes.server3", "nodes.server4");
    let errors = load(&text).expect_err(&text);
    // In the last line a node that is none, and from the first line of the
    // devices one is missing.
    assert_eq!(lines(&errors), [6, 9, 14, 16], "{errors}");
}

#[test]
fn without_fencing_the_lines_to_add_are_told_and_work() {
    for (text, cut) in [(TOML, "[fencing]"), (SLIDES, "HA_FENCE_AGENT")] {
        let bare = &text[..text.find(cut).expect("fencing")];
        let errors = load(bare).expect_err("no fencing");
        assert_eq!(lines(&errors), [0], "{errors}");
        let error = errors.iter().next().expect("an error");
        assert!(error.problem.contains("no fencing"), "{errors}");
        // Between blank lines: the lines for a device, and those without one.
        let told: Vec<&str> = error.remedy.split("\n\n").collect();
        let device = cluster(&format!("{bare}\n{}\n", told[1]));
        assert!(matches!(device.fencing, Fencing::Device { nodes, .. } if nodes.len() == 3));
        let refused = cluster(&format!("{bare}\n{}\n", told[3]));
        assert_eq!(refused.fencing, Fencing::Refused);
    }
}

#[test]
fn an_empty_file_is_no_configuration() {
    for text in ["", "\n\n", "# nothing\n   # here\n"] {
        let errors = load(text).expect_err("nothing in it");
        assert!(
            errors.to_string().contains("the configuration is empty"),
            "{errors}"
        );
    }
    let errors = load(b"[cluster]\nname = \"\xff\"\n").expect_err("not UTF-8");
    assert_eq!(lines(&errors), [2], "{errors}");
    let missing = config::load(&Places::File("/nonexistent/storhaug.conf".into()));
    assert!(
        missing
            .expect_err("no file")
            .to_string()
            .contains("there is no such file")
    );
}

#[test]
fn both_forms_mean_the_same_cluster() {
    assert_eq!(cluster(TOML), cluster(SLIDES));
    let toml = config::load(&Places::File(conf("storhaug.conf"))).expect("the example");
    let slides = config::load(&Places::File(conf("storhaug-slides.conf"))).expect("the other");
    assert_eq!(toml.cluster, slides.cluster);
    assert_eq!(toml.fingerprint, slides.fingerprint);
}

#[test]
fn a_fingerprint_follows_the_meaning_and_not_the_words() {
    let one = load(TOML).expect("a cluster").fingerprint;
    assert_eq!(
        one,
        load(vip("# a comment")).expect("a cluster").fingerprint
    );
    assert_ne!(
        one,
        load(vip("nic = \"eth0\"")).expect("a cluster").fingerprint
    );
    assert!(one.starts_with("1:") && one.len() == 2 + 64, "{one}");
}

#[test]
fn a_node_of_the_slides_is_written_with_underscores() {
    let text = SLIDES
        .replace("server1,", "server-1.lan,")
        .replace("_server1=", "_server_1_lan=");
    let Fencing::Device { nodes, .. } = cluster(&text).fencing else {
        panic!("a device")
    };
    assert_eq!(nodes["server-1.lan"]["ip"], "10.1.0.1");
    let by_node = with(&text, "HA_VIPS=", "VIP_server_1_lan=");
    assert_eq!(cluster(&by_node).vips[0].prefer, ["server-1.lan"]);
}

#[test]
fn a_file_of_an_earlier_version_needs_fencing_and_nothing_else() {
    let sample = "HA_NAME=\"storhaug\"\nHA_PASSWORD=\"sesame\"\nHA_SERVER=\"server1\"\n\
                  HA_CLUSTER_NODES=\"server1,server2\"\nSTORAGE_NODES=\"server1\"\n\
                  HA_MNT_DIR=\"/var/run/gluster\"\nHA_VIPS=\"10.0.0.1 10.0.0.2\"\n\
                  DETERMINISTIC_FAILOVER=Yes\nHA_VIP_NODES=\"server1\"\nHA_SERVICES=\"smb\"\n\
                  HA_SMB_TYPE=\"glusterfs\"\nHA_SMB_VOL=\"ctdb\"\nHA_SMB_MNT_DIR=\"lock\"\n\
                  HA_NFS_TYPE=\"glusterfs\"\nHA_NFS_VOL=\"state\"\n";
    let (_directory, path) = file(sample);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("chmod");
    let places = Places::File(path.clone());
    let errors = config::load(&places).expect_err("no fencing");
    assert_eq!(lines(&errors), [0], "{errors}");
    fs::write(
        &path,
        format!("{sample}HA_FENCE_AGENT=\"none-i-accept-data-loss\"\n"),
    )
    .expect("writing the configuration");
    let loaded = config::load(&places).expect("complete");
    assert_eq!(loaded.cluster.placement, Placement::Deterministic);
    assert_eq!(
        loaded.cluster.storage.directory("share"),
        Path::new("/var/run/gluster/share")
    );
    let storage: Vec<_> = loaded
        .cluster
        .storage_nodes()
        .map(|node| node.name.as_str())
        .collect();
    assert_eq!(storage, ["server1"]);

    // The password is known, and shown nowhere.
    assert_eq!(loaded.password().expect("a password").expose(), "sesame");
    assert!(!format!("{loaded:?}{}", canonical(&loaded.cluster)).contains("sesame"));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("chmod");
    let errors = config::load(&places).expect_err("readable by the group");
    assert!(
        lines(&errors).contains(&2) && errors.to_string().contains("chmod 600"),
        "{errors}"
    );
    assert!(!errors.to_string().contains("sesame"), "{errors}");
}

#[test]
fn a_password_file_is_a_file_of_its_owner_alone() {
    let directory = TempDir::new().expect("a temporary directory");
    let secret = directory.path().join("hacluster.password");
    let line = format!("password_file = \"{}\"\n\n[[vip]]", secret.display());
    // Loading does not look at the file: `plan` works without it.
    let loaded = load(with(TOML, "\n[[vip]]", &line)).expect("a cluster");
    let refused = |what: &str| {
        let errors = loaded.password().expect_err(what);
        assert_eq!(lines(&errors), [4], "{errors}");
        assert!(errors.to_string().contains(what), "{errors}");
    };
    refused("cannot be opened");
    assert!(loaded.check_password().is_ok(), "it may be gone");
    fs::create_dir(&secret).expect("a directory");
    refused("is not a regular file");
    fs::remove_dir(&secret).expect("removing the directory");
    fs::write(&secret, "sesame\n").expect("a file");
    for mode in [0o644, 0o640, 0o604] {
        fs::set_permissions(&secret, fs::Permissions::from_mode(mode)).expect("chmod");
        refused(&format!("has mode {mode:04o}"));
        assert!(loaded.check_password().is_err(), "others may read it");
    }
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).expect("chmod");
    assert_eq!(loaded.password().expect("a password").expose(), "sesame");
    fs::write(&secret, "\nsesame\n").expect("a file");
    refused("has nothing in its first line");
}

/// A tree with these files in it.
fn tree(files: &[(&str, &str)]) -> (TempDir, Places) {
    let root = TempDir::new().expect("a temporary directory");
    for (name, text) in files {
        let path = root.path().join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
        fs::write(path, text).expect("writing the configuration");
    }
    let places = Places::System(root.path().to_path_buf());
    (root, places)
}

#[test]
fn drop_ins_add_and_override_in_the_order_of_their_names() {
    let (root, places) = tree(&[
        ("etc/storhaug/storhaug.conf", TOML),
        (
            "etc/storhaug/storhaug.d/20-more.conf",
            "[cluster]\nplacement = \"deterministic\"\n",
        ),
        (
            "etc/storhaug/storhaug.d/10-vip.conf",
            "[[vip]]\naddress = \"10.0.0.102\"\n",
        ),
        ("etc/storhaug/storhaug.d/notes.txt", "not a configuration"),
    ]);
    let loaded = config::load(&places).expect("one configuration");
    assert_eq!(loaded.cluster.vips.len(), 2);
    assert_eq!(loaded.cluster.placement, Placement::Deterministic);
    assert_eq!(loaded.cluster.name, "storhaug");
    let read: Vec<_> = loaded
        .source
        .iter()
        .filter_map(|path| path.file_name())
        .collect();
    assert_eq!(read, ["storhaug.conf", "10-vip.conf", "20-more.conf"]);

    let dangling = root.path().join("etc/storhaug/storhaug.d/30-broken.conf");
    symlink("/nonexistent", &dangling).expect("a link");
    let errors = config::load(&places).expect_err("a dangling link");
    assert!(errors.to_string().contains("30-broken.conf"), "{errors}");
}

#[test]
fn the_old_place_is_read_unless_both_say_something() {
    let old = ("etc/sysconfig/storhaug.conf", SLIDES);
    let (_root, places) = tree(&[old]);
    assert_eq!(
        config::load(&places).expect("the old place").cluster,
        cluster(SLIDES)
    );

    let (_root, places) = tree(&[old, ("etc/storhaug/storhaug.conf", "# only a comment\n")]);
    assert_eq!(
        config::load(&places).expect("the old place").cluster,
        cluster(SLIDES)
    );

    let (_root, places) = tree(&[old, ("etc/storhaug/storhaug.d/a.conf", TOML)]);
    let text = config::load(&places)
        .expect_err("two configurations")
        .to_string();
    assert!(
        text.contains("etc/sysconfig/storhaug.conf: a second configuration"),
        "{text}"
    );
    assert!(text.contains("etc/storhaug/storhaug.d/a.conf"), "{text}");

    let (_root, places) = tree(&[]);
    let text = config::load(&places).expect_err("nothing").to_string();
    assert!(
        text.contains("etc/storhaug/storhaug.conf: there is no configuration"),
        "{text}"
    );
}

#[test]
fn two_forms_do_not_mix() {
    let (_root, places) = tree(&[
        ("etc/storhaug/storhaug.conf", TOML),
        ("etc/storhaug/storhaug.d/a.conf", "HA_NAME=\"x\"\n"),
    ]);
    let text = config::load(&places).expect_err("two forms").to_string();
    assert!(text.contains("a.conf: it is not in the form"), "{text}");
}

#[test]
fn an_address_outside_the_networks_of_the_node_needs_an_interface() {
    let networks: Vec<IpNetwork> = ["10.9.0.5/16", "fd00::5/64"]
        .iter()
        .map(|text| text.parse().expect("a network"))
        .collect();
    let text = load(TOML)
        .expect("a cluster")
        .check_networks(&networks)
        .expect_err("outside");
    let text = text.to_string();
    assert!(
        text.contains(":6: the virtual address 10.0.0.101 is in no network"),
        "{text}"
    );
    assert!(
        text.contains("10.9.0.0/16, fd00::/64") && text.contains("nic ="),
        "{text}"
    );
    let with_nic = load(vip("nic = \"eth0\"")).expect("a cluster");
    assert_eq!(with_nic.check_networks(&networks), Ok(()));
    let inside = load(with(TOML, "10.0.0.101/24", "10.9.7.1")).expect("a cluster");
    assert_eq!(inside.check_networks(&networks), Ok(()));
}

#[test]
fn a_cluster_of_another_name_is_not_taken_for_this_one() {
    let loaded = load(TOML).expect("a cluster");
    assert_eq!(loaded.check_name("storhaug"), Ok(()));
    let text = loaded
        .check_name("hacluster")
        .expect_err("another")
        .to_string();
    assert!(
        text.contains(":2: ") && text.contains("`hacluster`"),
        "{text}"
    );
}

#[test]
fn the_reference_tells_the_defaults_that_hold() {
    let reference = config::reference();
    let written = canonical(&cluster(TOML));
    for key in [
        "password_file",
        "failover",
        "placement",
        "storage",
        "type",
        "mount_dir",
        "server",
        "volumes",
        "winbind",
        "netbios",
    ] {
        let line = written
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{key} = ")));
        let value = line.unwrap_or_else(|| panic!("{key} in\n{written}"));
        let row = reference
            .lines()
            .find(|row| row.starts_with(&format!("| `{key}` | ")));
        assert!(
            row.is_some_and(|row| row.contains(&format!("| `{value}` |"))),
            "{key}: {row:?}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 128,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn no_text_makes_a_reader_panic(text in "\\PC{0,200}", line in 0..17_usize) {
        let _ = load(&text);
        let _ = from_toml(Path::new("x"), &text);
        // In the middle of a good file of either form, too.
        for good in [TOML, SLIDES] {
            let mut lines: Vec<&str> = good.lines().collect();
            lines.insert(line.min(lines.len()), &text);
            let _ = load(lines.join("\n"));
        }
    }

    #[test]
    fn no_sign_of_a_shell_gets_through(
        before in "[a-z]{0,5}",
        sign in "[$`;&|<>()\\\\]",
        after in "[a-z]{0,5}",
        quote in "[\"']?",
    ) {
        let text = with(SLIDES, "\"storhaug\"", &format!("{quote}{before}{sign}{after}{quote}"));
        let errors = load(text).expect_err("a sign of a shell");
        prop_assert_eq!(lines(&errors), [1], "{}", errors);
    }

    #[test]
    fn a_cluster_is_the_same_in_either_form_and_read_back(
        names in prop::collection::btree_set("[a-z][a-z0-9]{0,8}", 1..6),
        last in prop::collection::btree_set(1..250_u8, 1..6),
        homes in any::<bool>(),
        deterministic in any::<bool>(),
        smb in any::<bool>(),
        nfs in any::<bool>(),
        storage in 1..6_usize,
    ) {
        let names: Vec<String> = names.into_iter().collect();
        let storage = &names[..storage.min(names.len())];
        let vips: Vec<String> = last.iter().map(|last| format!("10.0.0.{last}")).collect();
        let home = |index: usize| storage[index % storage.len()].clone();

        let mut slides = format!(
            "HA_NAME=c\nHA_CLUSTER_NODES=\"{}\"\nSTORAGE_NODES=\"{}\"\nHA_VIPS=\"{}\"\n\
             DETERMINISTIC_FAILOVER={deterministic}\nHA_SERVICES=\"{}\"\n\
             HA_FENCE_AGENT=fence_xvm\n",
            names.join(","),
            storage.join(","),
            vips.join(" "),
            match (smb, nfs) {
                (true, true) => "smb nfs",
                (true, false) => "smb",
                (false, true) => "nfs",
                (false, false) => "",
            },
        );
        let mut toml = format!(
            "[cluster]\nname = \"c\"\nnodes = [\"{}\"]\nplacement = \"{}\"\n\
             [fencing]\nagent = \"fence_xvm\"\n",
            names.join("\", \""),
            if deterministic { "deterministic" } else { "balanced" },
        );
        if smb {
            toml += "[smb]\n";
        }
        if nfs {
            toml += "[nfs]\nstate_volume = \"grace\"\n";
            slides += "HA_NFS_VOL=grace\n";
        }
        for name in &names {
            let storage = storage.contains(name);
            toml += &format!("[[node]]\nname = \"{name}\"\nstorage = {storage}\n");
        }
        for (index, vip) in vips.iter().enumerate() {
            toml += &format!("[[vip]]\naddress = \"{vip}\"\n");
            if homes {
                toml += &format!("prefer = [\"{}\"]\n", home(index));
            }
        }
        if homes {
            let homes: Vec<String> = (0..vips.len()).map(home).collect();
            slides += &format!("HA_VIP_NODES=\"{}\"\n", homes.join(","));
        }

        let cluster = cluster(&toml);
        prop_assert_eq!(&cluster, &load(&slides).expect(&slides).cluster);
        let written = canonical(&cluster);
        prop_assert_eq!(&cluster, &from_toml(Path::new("cib"), &written).expect(&written));
        prop_assert_eq!(&written, &canonical(&cluster));
    }
}
