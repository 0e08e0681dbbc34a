//! This machine, as the verbs see it: the programs it runs, its files, and
//! what both say about the cluster.

use std::collections::BTreeSet;
use std::fs::File;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use base64::{Engine, prelude::BASE64_STANDARD};
use nix::fcntl::{Flock, FlockArg};
use storhaug_agents::exec::Runner;

use crate::cluster::Cluster;
use crate::config::edit::Sources;
use crate::config::{self, Places};
use crate::corosync::Corosync;
use crate::desired::{CONFIGURATION, Facts};
use crate::pacemaker;
use crate::plan::{self, Live};
use crate::preflight;
use crate::xml::Element;

/// What runs programs, and where files are.
#[derive(Clone, Copy)]
pub struct Machine<'a> {
    /// Runs programs.
    pub runner: &'a dyn Runner,
    /// The root of the file system, `/` but in tests.
    pub root: &'a Path,
}

impl std::fmt::Debug for Machine<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Machine")
            .field("root", &self.root)
            .finish_non_exhaustive()
    }
}

impl Machine<'_> {
    /// A path below the root.
    pub fn path(&self, absolute: &str) -> PathBuf {
        self.root.join(absolute.trim_start_matches('/'))
    }

    /// The cluster this machine is in, as it is.
    ///
    /// # Errors
    /// It is in one that does not run.
    pub fn look(&self) -> anyhow::Result<Live> {
        let corosync = Corosync::read(self.root)?;
        let cib = match &corosync {
            None => None,
            Some(corosync) => Some(pacemaker::query(self.runner).with_context(|| {
                format!(
                    "the cluster `{}` does not run on this node; start it with \
                     `pcs cluster start --all`",
                    corosync.name
                )
            })?),
        };
        Ok(Live { corosync, cib })
    }

    /// The cluster this machine is a node of, and its configuration.
    ///
    /// # Errors
    /// It is a node of none, or of one that does not run.
    pub fn member(&self) -> anyhow::Result<(Corosync, Element)> {
        match self.look()? {
            Live {
                corosync: Some(corosync),
                cib: Some(cib),
            } => Ok((corosync, cib)),
            _ => bail!("this machine is in no cluster; run it on a node of one"),
        }
    }

    /// The configuration as it is written in `places`; on a machine without a
    /// file, as the cluster keeps it.
    ///
    /// # Errors
    /// There is neither, or a file cannot be read.
    pub fn sources(&self, places: &Places) -> anyhow::Result<Sources> {
        if places.are_empty() {
            let live = self.look().ok();
            let applied = live.and_then(|live| live.cib).as_ref().and_then(applied);
            if let Some(cluster) = applied {
                return Ok(Sources::applied(&cluster));
            }
        }
        Ok(Sources::find(places)?)
    }

    /// Sees to it that one change is made at a time, for as long as the lock
    /// is held.
    ///
    /// # Errors
    /// Another one is being made.
    pub fn lock(&self) -> anyhow::Result<Flock<File>> {
        let path = self.path("/run/storhaug.lock");
        let file = File::create(&path).with_context(|| format!("creating {}", path.display()))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(lock),
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => {
                bail!("another storhaug is changing the cluster; wait for it")
            }
            Err((_, error)) => Err(error).with_context(|| format!("locking {}", path.display())),
        }
    }
}

/// What the desired configuration depends on beside the cluster, where the
/// nodes stay as they are: no name is looked up.
pub fn kept(cluster: &Cluster, live: &Live) -> Facts {
    Facts {
        slots: live.cib.as_ref().map(plan::slots).unwrap_or_default(),
        homes: live.cib.as_ref().map(plan::homes).unwrap_or_default(),
        joining: BTreeSet::new(),
        spared: BTreeSet::new(),
        canonical: config::canonical(cluster),
        fingerprint: config::fingerprint(cluster),
    }
}

/// What the desired configuration depends on beside the cluster, and what is
/// uncertain about it on this machine. With a doubt it is fit to be shown, and
/// for nothing else.
pub fn facts(cluster: &Cluster, live: &Live) -> (Facts, Vec<String>) {
    let kept = kept(cluster, live);
    let mut doubts = Vec::new();
    let in_use: Vec<String> = kept
        .slots
        .iter()
        .map(|slot| slot.trim_start_matches('#').to_owned())
        .collect();
    let addresses = cluster
        .storage_nodes()
        .map(|node| match preflight::resolve(node, &in_use) {
            Ok(address) => address.to_string(),
            Err(error) => {
                doubts.push(format!("{error:#}"));
                node.address.clone().unwrap_or_else(|| node.name.clone())
            }
        });
    let facts = Facts {
        slots: slots(&kept.slots, &addresses.collect::<Vec<_>>()),
        ..kept
    };
    (facts, doubts)
}

/// CTDB's slots: those that are known keep their places, and one whose node is
/// gone stays as a hole, because CTDB knows nodes by number.
fn slots(known: &[String], addresses: &[String]) -> Vec<String> {
    let same = |a: &str, b: &str| match (a.parse::<IpAddr>(), b.parse::<IpAddr>()) {
        (Ok(a), Ok(b)) => a == b,
        _ => a == b,
    };
    let mut slots: Vec<String> = known
        .iter()
        .map(|slot| {
            let address = slot.trim_start_matches('#');
            let stays = addresses.iter().any(|wanted| same(wanted, address));
            if stays {
                address.to_owned()
            } else {
                format!("#{address}")
            }
        })
        .collect();
    for address in addresses {
        if !slots.iter().any(|slot| same(slot, address)) {
            slots.push(address.clone());
        }
    }
    slots
}

/// The cluster that was applied last, as the CIB keeps it.
pub fn applied(cib: &Element) -> Option<Cluster> {
    let properties = cib.at(&["configuration", "crm_config"])?;
    let set = properties
        .children
        .iter()
        .find(|set| set.id() == CONFIGURATION)?;
    let mut pairs = set.children.iter();
    let stored = pairs
        .find(|pair| pair.get("name") == Some(CONFIGURATION))?
        .get("value")?;
    let text = String::from_utf8(BASE64_STANDARD.decode(stored).ok()?).ok()?;
    config::from_toml(Path::new("the configuration in the CIB"), &text).ok()
}

#[cfg(test)]
mod tests {
    use super::slots;

    fn list(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn slots_keep_their_places() {
        let new = slots(&[], &list("10.0.0.1 10.0.0.2"));
        assert_eq!(new, list("10.0.0.1 10.0.0.2"));
        let smaller = slots(&new, &list("10.0.0.2"));
        assert_eq!(smaller, list("#10.0.0.1 10.0.0.2"));
        let other = slots(&smaller, &list("10.0.0.3 10.0.0.2"));
        assert_eq!(other, list("#10.0.0.1 10.0.0.2 10.0.0.3"));
        let back = slots(&other, &list("10.0.0.1 10.0.0.2 10.0.0.3"));
        assert_eq!(back, list("10.0.0.1 10.0.0.2 10.0.0.3"));
    }
}
