//! The versions of what is installed, as the package manager says.

use std::collections::BTreeMap;
use std::time::Duration;

use storhaug_agents::deadline::Deadline;
use storhaug_agents::exec::{Cmd, Runner};

/// What all nodes should have the same version of, by the names of Debian and
/// those of the RPM distributions.
const PACKAGES: [&str; 9] = [
    "corosync",
    "ctdb",
    "glusterfs-client",
    "glusterfs-fuse",
    "nfs-ganesha",
    "pacemaker",
    "pcs",
    "samba",
    "storhaug",
];

/// How long a package manager may take.
const ANSWER: Duration = Duration::from_secs(20);

/// The installed versions; of what is not installed, none. `storhaug` itself is
/// there in any case.
pub fn versions(runner: &dyn Runner) -> BTreeMap<String, String> {
    let dpkg = Cmd::new("dpkg-query").args(["--show", "--showformat=${Package} ${Version}\n"]);
    let rpm = Cmd::new("rpm").args(["--query", "--queryformat=%{NAME} %{VERSION}-%{RELEASE}\n"]);
    let mut versions = BTreeMap::new();
    for cmd in [dpkg, rpm] {
        // It exits with 1 where one of them is not installed.
        let Ok(output) = runner.run(&cmd.args(PACKAGES), Deadline::after(ANSWER)) else {
            continue;
        };
        let text = output.text();
        let pairs = text.lines().filter_map(|line| line.split_once(' '));
        // What rpm says of one that is not installed is a sentence.
        let pairs = pairs.filter(|(name, version)| {
            PACKAGES.contains(name) && !version.is_empty() && !version.contains(' ')
        });
        versions.extend(pairs.map(|(name, version)| (name.to_owned(), version.to_owned())));
        if !versions.is_empty() {
            break;
        }
    }
    let own = env!("CARGO_PKG_VERSION").to_owned();
    versions.entry("storhaug".to_owned()).or_insert(own);
    versions
}
