//! The file system under all machines of a release: built once from Debian's
//! packages, kept outside the project, named by what is in it.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use nix::fcntl::{Flock, FlockArg};
use sha2::{Digest as _, Sha256};

use crate::command::Cmd;
use crate::disk;

/// Where images are kept.
const CACHE: &str = "/var/cache/storhaug-lab";
/// A slow mirror and a busy machine.
const BUILD: Duration = Duration::from_secs(30 * 60);

/// A Debian release with the versions of the cluster stack that it brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Release {
    /// Debian 12: Pacemaker 2.1, pcs 0.11, Samba 4.17, GlusterFS 10.
    Bookworm,
    /// Debian 13: Pacemaker 3.0, pcs 0.12, Samba 4.22, GlusterFS 11.
    Trixie,
}

/// The cluster stack, its clients, a domain for it to be a member of, and what
/// one looks into it with.
const PACKAGES: &[&str] = &[
    "arping",
    "attr",
    "cifs-utils",
    "conntrack",
    "corosync",
    "crmsh",
    "ctdb",
    "dbus",
    "ethtool",
    "glusterfs-server",
    "iproute2",
    "iptables",
    "iputils-ping",
    "kmod",
    "libnfs-utils",
    "libnss-winbind",
    "libxml2-utils",
    "netcat-openbsd",
    "nfs-common",
    "nfs-ganesha",
    "nfs-ganesha-gluster",
    "nfs-ganesha-vfs",
    "nftables",
    "openssh-server",
    "pacemaker",
    "pacemaker-cli-utils",
    "pcs",
    "procps",
    "psmisc",
    "python3",
    "resource-agents",
    "rpcbind",
    "samba",
    "samba-ad-provision",
    "samba-dsdb-modules",
    "samba-testsuite",
    "smbclient",
    "strace",
    "systemd",
    "systemd-sysv",
    "tcpdump",
    "winbind",
];

/// What Debian 13 has in samba itself.
const BOOKWORM_PACKAGES: &[&str] = &["samba-vfs-modules"];

/// What Debian 12's samba depends on, and what it has in samba itself.
const TRIXIE_PACKAGES: &[&str] = &["python3-samba", "samba-ad-dc"];

/// What the cluster owns, so that the machine must not start it at boot, and
/// what only costs time in a machine that lives for minutes.
const DISABLED: &[&str] = &[
    "apt-daily-upgrade.timer",
    "apt-daily.timer",
    "console-getty.service",
    "corosync.service",
    "ctdb.service",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "logd.service",
    "nfs-ganesha-lock.service",
    "nfs-ganesha.service",
    "nmbd.service",
    "pacemaker.service",
    "samba-ad-dc.service",
    "smbd.service",
    "winbind.service",
];

/// A domain controller must not run beside smbd, even by accident; the others
/// are for hardware and a kernel client that a container has not.
const MASKED: &[&str] = &[
    "getty@.service",
    "run-rpc_pipefs.mount",
    "samba-ad-dc.service",
];

const ENABLED: &[&str] = &["glusterd.service", "pcsd.service", "rpcbind.service"];

/// Places the lab uses inside a machine. With a directory for it, the journal
/// is kept on disk, so that it can be read after the machine's death.
const DIRECTORIES: &[&str] = &["bricks", "var/log/journal", "var/lib/fence_lab"];

/// Debian's example configuration, which makes `pcs cluster setup` think that
/// there is a cluster.
const REMOVED: &[&str] = &["etc/corosync/corosync.conf"];

impl Release {
    fn packages(self) -> Vec<&'static str> {
        let own = match self {
            Self::Bookworm => BOOKWORM_PACKAGES,
            Self::Trixie => TRIXIE_PACKAGES,
        };
        [PACKAGES, own].concat()
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bookworm => "bookworm",
            Self::Trixie => "trixie",
        })
    }
}

/// The image of a release, built if it does not exist.
pub fn get(release: Release) -> Result<PathBuf> {
    let image = Path::new(CACHE).join(format!("{release}-{}", fingerprint(release)));
    if image.exists() {
        return Ok(image);
    }
    fs::create_dir_all(CACHE).with_context(|| format!("creating {CACHE}"))?;
    let _lock = lock(&image.with_extension("lock"))?;
    if !image.exists() {
        build(release, &image).with_context(|| format!("building {}", image.display()))?;
    }
    Ok(image)
}

/// One builder at a time; a second one waits and finds the image ready.
fn lock(path: &Path) -> Result<Flock<File>> {
    let file = File::create(path).with_context(|| format!("creating {}", path.display()))?;
    Flock::lock(file, FlockArg::LockExclusive)
        .map_err(|(_, error)| anyhow!(error).context(format!("locking {}", path.display())))
}

/// Changes with anything that goes into the image, but not with the mirror it
/// comes from.
fn fingerprint(release: Release) -> String {
    let packages = release.packages();
    let parts: &[&[&str]] = &[&packages, DISABLED, MASKED, ENABLED, DIRECTORIES, REMOVED];
    let mut hash = Sha256::new();
    hash.update(release.to_string());
    for part in parts {
        hash.update("\n--\n");
        hash.update(part.join("\n"));
    }
    hash.finalize()
        .iter()
        .take(6)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn build(release: Release, image: &Path) -> Result<()> {
    eprintln!("building the {release} image, which takes some minutes once");
    let unfinished = image.with_extension("unfinished");
    disk::clear(&unfinished)?;
    let options = image.with_extension("apt.conf");
    fs::write(&options, apt_options()?)
        .with_context(|| format!("writing {}", options.display()))?;
    // Builder and lock end together: setpriv has the kernel kill the builder
    // with the lab command that asked for it.
    Cmd::new("setpriv")
        .args([
            "--pdeathsig",
            "KILL",
            "--",
            "mmdebstrap",
            "--variant=minbase",
        ])
        .arg(format!("--aptopt={}", options.display()))
        .arg(format!("--include={}", release.packages().join(",")))
        .arg(release.to_string())
        .arg(unfinished.display().to_string())
        .arg("-")
        .input(sources(release)?)
        .limit(BUILD)
        .run()?;
    let systemctl = |verb: &str, units: &[&str]| {
        Cmd::new("chroot")
            .arg(unfinished.display().to_string())
            .args(["systemctl", "--no-reload", verb])
            .args(units.iter().copied())
            .run()
    };
    systemctl("disable", DISABLED)?;
    systemctl("mask", MASKED)?;
    systemctl("enable", ENABLED)?;
    for dir in DIRECTORIES {
        fs::create_dir_all(unfinished.join(dir)).with_context(|| format!("creating {dir}"))?;
    }
    for file in REMOVED {
        fs::remove_file(unfinished.join(file)).with_context(|| format!("removing {file}"))?;
    }
    fs::rename(&unfinished, image).with_context(|| format!("naming {}", image.display()))
}

/// This machine's settings for downloads: proxies, retries, checks.
fn apt_options() -> Result<String> {
    let dump = Cmd::new("apt-config")
        .args(["dump", "--no-empty", "--format", "%f \"%v\";%n", "Acquire"])
        .run()?;
    // Index targets are about what apt looks for, not how it gets it; those of
    // this machine's desktop tools have no place in a node.
    Ok(dump
        .lines()
        .filter(|line| !line.starts_with("Acquire::IndexTargets"))
        .map(|line| format!("{line}\n"))
        .collect())
}

/// An index apt knows of: where it is, which release and component, and the
/// file that says so.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Index {
    uri: String,
    release: String,
    component: String,
    entry: String,
}

/// The sources for a release: those this machine has for its own, with the
/// release's name exchanged.
fn sources(release: Release) -> Result<String> {
    let own = codename(&fs::read_to_string("/etc/os-release").context("reading /etc/os-release")?)?;
    let listed = Cmd::new("apt-get")
        .args(["indextargets", "--no-release-info", "--format"])
        .arg("$(REPO_URI) $(RELEASE) $(COMPONENT) $(SOURCESENTRY)")
        .arg("Created-By: Packages")
        .run()?;
    let indexes = debian_indexes(&listed, &own);
    ensure!(
        !indexes.is_empty(),
        "apt has no sources for {own}; see /etc/apt/sources.list.d"
    );
    indexes
        .iter()
        .map(|index| {
            let keyring = keyring(&index.entry)?;
            let option = keyring.map_or_else(String::new, |file| format!("[signed-by={file}] "));
            let suite = index.release.replacen(&own, &release.to_string(), 1);
            Ok(format!(
                "deb {option}{} {suite} {}\n",
                index.uri, index.component
            ))
        })
        .collect()
}

/// The indexes of the release itself and of its pockets (`-updates`,
/// `-security`); backports and other people's repositories are left out.
fn debian_indexes(listed: &str, own: &str) -> BTreeSet<Index> {
    listed
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ').map(str::to_owned);
            Some(Index {
                uri: words.next()?,
                release: words.next()?,
                component: words.next()?,
                entry: words.next()?,
            })
        })
        .filter(|index| {
            index
                .release
                .strip_prefix(own)
                .is_some_and(|pocket| ["", "-updates", "-security"].contains(&pocket))
        })
        .collect()
}

/// The keyring that a sources file names, if it names one. apt tells about
/// everything but this.
fn keyring(entry: &str) -> Result<Option<String>> {
    let file = entry.rsplit_once(':').map_or(entry, |(file, _)| file);
    let text = fs::read_to_string(file).with_context(|| format!("reading {file}"))?;
    Ok(named_keyring(&text))
}

/// `Signed-By: FILE` of a deb822 file, or `[signed-by=FILE]` of a line.
fn named_keyring(text: &str) -> Option<String> {
    let text = text.to_ascii_lowercase();
    let after = text
        .split_once("signed-by:")
        .or_else(|| text.split_once("signed-by="))?
        .1;
    let file = after.trim_start().split([' ', ']', '\n', ',']).next()?;
    file.starts_with('/').then(|| file.to_owned())
}

fn codename(os_release: &str) -> Result<String> {
    os_release
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
        .map(|name| name.trim_matches('"').to_owned())
        .context("/etc/os-release has no VERSION_CODENAME; the lab needs Debian's apt")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_release_and_its_pockets_are_taken() {
        let listed = "\
http://m/debian/ bookworm main /etc/apt/sources.list.d/d.sources:1
http://m/debian/ bookworm-updates main /etc/apt/sources.list.d/d.sources:1
http://m/debian/ bookworm-backports main /etc/apt/sources.list.d/d.sources:1
http://o/x/ nodistro main /etc/apt/sources.list.d/o.sources:1
http://o/y/ bookwormish main /etc/apt/sources.list.d/o.sources:1
";
        let found = debian_indexes(listed, "bookworm");
        let releases: Vec<_> = found.iter().map(|index| index.release.as_str()).collect();
        assert_eq!(releases, ["bookworm", "bookworm-updates"]);
    }

    #[test]
    fn both_forms_of_a_source_name_their_keyring() {
        for (text, expected) in [
            (
                "Types: deb\nSigned-By: /usr/k.gpg\nX: y",
                Some("/usr/k.gpg"),
            ),
            (
                "deb [arch=amd64 signed-by=/usr/k.gpg] http://m/ x main",
                Some("/usr/k.gpg"),
            ),
            ("deb http://m/ x main", None),
            ("Signed-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----", None),
        ] {
            assert_eq!(named_keyring(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn releases_have_different_images() {
        assert_ne!(fingerprint(Release::Bookworm), fingerprint(Release::Trixie));
    }
}
