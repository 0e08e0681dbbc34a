//! What an administrator sees when the configuration is wrong: the command
//! names the file, the line and what to write, exits 78, and has done
//! nothing.
#![expect(
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test runs the command as a user does, and fails when it cannot"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

const GOOD: &str = r#"[cluster]
name = "storhaug"
nodes = ["server1", "server2", "server3"]

[[vip]]
address = "10.0.0.101/24"

[smb]

[fencing]
agent = "none-i-accept-data-loss"
"#;

/// A directory with this configuration in it.
fn written(text: &str) -> (TempDir, PathBuf) {
    let directory = TempDir::new().expect("a temporary directory");
    let path = directory.path().join("storhaug.conf");
    fs::write(&path, text).expect("writing the configuration");
    (directory, path)
}

/// `storhaug --config FILE VERB`, in a directory and with a search path where
/// nothing is, so that whatever it ran would be missed.
fn storhaug(config: &Path, verb: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_storhaug"))
        .arg("--config")
        .arg(config)
        .args(verb)
        .current_dir(config.parent().expect("a directory"))
        .env_clear()
        .env("PATH", "/nonexistent")
        .stdin(Stdio::null())
        .output()
        .expect("running storhaug")
}

fn with(old: &str, new: &str) -> String {
    assert_eq!(GOOD.matches(old).count(), 1, "{old}");
    GOOD.replace(old, new)
}

#[test]
#[rustfmt::skip]
fn bad_input_is_refused_with_file_line_and_remedy() {
    let slides = |name: &str| format!(
        "HA_NAME={name}\nHA_CLUSTER_NODES=\"server1\"\nHA_VIPS=\"10.0.0.101\"\n\
         HA_FENCE_AGENT=\"none-i-accept-data-loss\"\n"
    );
    let prefer = "10.0.0.101/24\"\nprefer = [\"server1\", \"server4\"]";
    let cases: &[(String, &str, &str)] = &[
        (with("nodes =", "nodez ="), ":3: unknown key `nodez`", "write `nodes`"),
        (with("10.0.0.101/24\"", prefer), ":7: the node `server4` is not in `nodes`", "write `server1`"),
        (with("\"server3\"", "\"server2\""), ":3: the node `server2` is twice", "write every node once"),
        (with("10.0.0.101/24", "10.0.0/24"), ":6: `10.0.0/24` is not an address", "write one like 10.0.0.101/24"),
        (GOOD[..GOOD.find("[fencing]").expect("fencing")].to_string(), ": no fencing", "agent = \"fence_ipmilan\""),
        (String::new(), ": the configuration is empty", "examples/storhaug.conf"),
        (slides("\"$(touch touched)\""), ":1: `HA_NAME=\"$(touch touched)\"` has a `$`", "write the value itself"),
        (slides("\"`touch touched`\""), ":1: `HA_NAME=\"`touch touched`\"` has a", "write the value itself"),
        (slides("\"a\"; touch touched"), ":1: `HA_NAME=\"a\"; touch touched` goes on", "write HA_NAME=\"value\""),
        (slides("\"a; touch touched\""), ":1: `HA_NAME=\"a; touch touched\"` has a `;`", "write the value itself"),
    ];
    for (text, problem, remedy) in cases {
        let (directory, path) = written(text);
        for verb in [&["plan"][..], &["setup"], &["config", "show"], &["config", "check"]] {
            let output = storhaug(&path, verb);
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(78), "{verb:?}: {stderr}");
            assert!(output.stdout.is_empty(), "{verb:?}: {output:?}");
            assert!(stderr.contains(&format!("{}{problem}", path.display())), "{stderr}\nlacks {problem}");
            assert!(stderr.contains(remedy), "{stderr}\nlacks {remedy}");
        }
        let left: Vec<_> = fs::read_dir(directory.path()).expect("a directory").collect();
        assert_eq!(left.len(), 1, "something was executed: {left:?}");
    }
}

#[test]
fn a_good_file_is_shown_with_its_defaults_and_without_its_password() {
    let (_directory, path) = written(
        "HA_NAME=storhaug\nHA_PASSWORD='sesame'\nHA_CLUSTER_NODES=\"server1,server2,server3\"\n\
         HA_VIPS=\"10.0.0.101/24\"\nHA_FENCE_AGENT=none-i-accept-data-loss\n",
    );
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("chmod");
    let slides = storhaug(&path, &["config", "show"]);
    assert!(slides.status.success(), "{slides:?}");
    let shown = String::from_utf8_lossy(&slides.stdout);
    assert!(!shown.contains("sesame"), "{shown}");

    // What is shown is a configuration, and the same one.
    let (_directory, path) = written(&shown);
    assert_eq!(storhaug(&path, &["config", "show"]).stdout, slides.stdout);
    let (_directory, path) = written(GOOD);
    assert_eq!(storhaug(&path, &["config", "show"]).stdout, slides.stdout);
}
