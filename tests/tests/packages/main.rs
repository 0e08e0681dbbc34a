//! The packages, as somebody gets them: built, judged by lintian and rpmlint, and
//! on a clean Debian of each release installed, used and purged.
#![expect(
    clippy::expect_used,
    reason = "a test fails when what it needs cannot be had"
)]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use storhaug_lab::{Cmd, Release, image};
use tempfile::TempDir;

/// Of the workspace, and so of every package.
const VERSION: &str = env!("CARGO_PKG_VERSION");
const NAMES: [&str; 2] = ["resource-agents-storhaug", "storhaug"];

/// Whatever is not compiled yet, on a busy machine.
const BUILD: Duration = Duration::from_secs(1800);
const LIMIT: Duration = Duration::from_secs(600);

#[test]
fn debian_packages_come_and_go() {
    let directory = made("deb", "DEB");
    let architecture = cmd("dpkg", &["--print-architecture"]);
    let files = NAMES.map(|name| {
        let file = format!("{name}_{VERSION}_{}.deb", architecture.trim());
        directory.path().join(file).display().to_string()
    });
    let lintian = Cmd::new("lintian")
        .args(["--allow-root", "--fail-on", "error,warning"])
        .args(files.iter().cloned());
    lintian.limit(LIMIT).run().expect("lintian");

    let unpacked = TempDir::new().expect("a directory");
    let root = unpacked.path().display().to_string();
    for file in &files {
        cmd("dpkg-deb", &["--extract", file, &root]);
    }
    let manual = format!("--manpath={root}/usr/share/man");
    for (section, page) in [("8", "storhaug"), ("5", "storhaug.conf")] {
        cmd("man", &[&manual, "--where", section, page]);
    }
    let pages = unpacked.path().join("usr/share/man/man7");
    put(&directory, "examples", &examples(&pages));
    put(&directory, "inside", include_str!("inside"));
    put(&directory, "room", include_str!("room"));
    let room = directory.path().join("room").display().to_string();
    for release in [Release::Bookworm, Release::Trixie] {
        let image = image::get(release).expect("the image");
        let inside = Cmd::new("unshare")
            .args(["--mount", "--pid", "--net", "--fork", "--kill-child", "--"])
            .args(["bash", &room])
            .arg(image.display().to_string())
            .arg(directory.path().display().to_string())
            .args(["bash", "/packages/inside"]);
        let ended = inside.limit(LIMIT).output().expect("running it");
        let (said, traced) = (String::from_utf8_lossy(&ended.stdout), ended.stderr());
        assert!(ended.success(), "{release}: {said}\n{traced}");
    }
}

#[test]
fn rpm_packages_are_made_of_the_same() {
    let directory = made("rpm", "RPM");
    let architecture = cmd("rpm", &["--eval", "%{_arch}"]);
    let files = NAMES.map(|name| {
        let file = format!("{name}-{VERSION}-1.{}.rpm", architecture.trim());
        directory.path().join(file).display().to_string()
    });
    let filters = source().join("rpm/rpmlint.toml").display().to_string();
    let rpmlint = Cmd::new("rpmlint").args(["--strict", "--config", &filters]);
    let judged = rpmlint.args(files.iter().cloned()).limit(LIMIT).output();
    let judged = judged.expect("rpmlint");
    let said = String::from_utf8_lossy(&judged.stdout);
    assert!(judged.success(), "{said}{}", judged.stderr());
    let [agents, storhaug] = files.map(|file| cmd("rpm", &["-qp", "--requires", "--list", &file]));
    for wanted in [
        "libcpg.so.4",
        "/usr/lib/ocf/resource.d/storhaug/vip",
        "ocf_storhaug_vip.7",
    ] {
        assert!(agents.contains(wanted), "no {wanted}: {agents}");
    }
    for wanted in [
        "resource-agents-storhaug(",
        "/usr/sbin/storhaug",
        "storhaug.conf.5",
    ] {
        assert!(storhaug.contains(wanted), "no {wanted}: {storhaug}");
    }
}

/// The directory where a target of the Makefile has put packages. One after the
/// other, because all of them build in one place.
fn made(target: &str, place: &str) -> TempDir {
    static BUILDING: Mutex<()> = Mutex::new(());
    let _building = BUILDING.lock().unwrap_or_else(PoisonError::into_inner);
    let directory = TempDir::new().expect("a directory");
    let make = Cmd::new("make")
        .arg(format!("--directory={}", source().display()))
        .arg(target)
        .arg(format!("{place}={}", directory.path().display()))
        .env("MAKEFLAGS", "");
    make.limit(BUILD).run().expect("making packages");
    directory
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn cmd(program: &str, args: &[&str]) -> String {
    let cmd = Cmd::new(program).args(args.iter().copied());
    cmd.limit(LIMIT).run().expect("running it")
}

fn put(directory: &TempDir, name: &str, text: &str) {
    fs::write(directory.path().join(name), text).expect("writing a file");
}

/// What the agents' pages give as examples, as a script of its own.
fn examples(pages: &Path) -> String {
    let pages = fs::read_dir(pages).expect("the pages");
    let mut pages: Vec<PathBuf> = pages.map(|page| page.expect("a page").path()).collect();
    pages.sort();
    let mut script = String::new();
    for page in pages {
        let text = cmd("zcat", &[&page.display().to_string()]);
        let (_, example) = text.split_once("\n.EX\n").expect("an example");
        let (example, _) = example.split_once("\n.EE\n").expect("its end");
        let example = example.replace(r"\-", "-").replace(r"\\", r"\");
        let _ = writeln!(script, "{example}");
    }
    script
}
