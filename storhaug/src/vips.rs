//! `storhaug vip …`: virtual addresses are added, taken away, and given a home,
//! in the file and in the cluster.

use std::net::IpAddr;

use anyhow::bail;

use crate::apply::{Apply, Outcome, Rehearsed, outcome, running, write};
use crate::cluster::{Cluster, Vip};
use crate::config::edit::{Edit, NewVip, Sources};
use crate::machine::Machine;
use crate::preflight;
use crate::progress::Progress;

/// What becomes of an address.
#[derive(Clone, Debug)]
pub enum Change {
    /// It is added.
    Add(NewVip),
    /// The one of this name or address is taken away.
    Remove(String),
    /// The one of this name or address is at home on this node from now on.
    Move(String, String),
}

/// Makes a change in the configuration and in the cluster. `host` is the name
/// of this machine.
///
/// # Errors
/// What is in the way, or does not run in the end, and why.
pub fn change(
    machine: Machine<'_>,
    host: &str,
    change: &Change,
    sources: &Sources,
    progress: &mut Progress,
) -> anyhow::Result<Outcome> {
    let _lock = machine.lock()?;
    let before = sources.load()?;
    running(machine, &before)?;
    let edit = edit(change, &before.cluster)?;
    let edited = sources.edited(edit.as_slice())?;
    let loaded = edited.load()?;
    preflight::check_networks(&loaded, host)?;
    let apply = Apply::new(machine, &loaded.cluster);
    let (pushed, leaving) = apply.push(progress, Rehearsed::No)?;
    let written = write(&edited, sources, progress)?;
    apply.settle(&leaving, progress)?;
    Ok(outcome(pushed || written))
}

/// What has to be written; nothing where it says so already.
fn edit(change: &Change, cluster: &Cluster) -> anyhow::Result<Option<Edit>> {
    Ok(match change {
        Change::Add(vip) => {
            let known = address(&vip.address)
                .is_some_and(|new| cluster.vips.iter().any(|vip| vip.address == new));
            (!known).then(|| Edit::AddVip(vip.clone()))
        }
        Change::Remove(word) => match find(cluster, word) {
            Ok(vip) => Some(Edit::RemoveVip(vip.address)),
            // An earlier run may have taken it away already.
            Err(_) if address(word).is_some() => None,
            Err(error) => return Err(error),
        },
        Change::Move(word, node) => {
            let vip = find(cluster, word)?;
            let serves = cluster.node(node).is_some_and(|node| node.storage);
            if !serves {
                let nodes = cluster.storage_nodes().map(|node| node.name.as_str());
                let nodes = nodes.collect::<Vec<_>>().join(", ");
                bail!("no address can be on {node}; those that serve are {nodes}");
            }
            let there = vip.prefer.first() == Some(node) && vip.prefer.len() == 1;
            (!there).then(|| Edit::PreferVip(vip.address, node.clone()))
        }
    })
}

fn address(text: &str) -> Option<IpAddr> {
    text.split('/').next().unwrap_or_default().parse().ok()
}

fn find<'a>(cluster: &'a Cluster, word: &str) -> anyhow::Result<&'a Vip> {
    let wanted = address(word);
    let mut vips = cluster.vips.iter();
    match vips.find(|vip| vip.name == word || Some(vip.address) == wanted) {
        Some(vip) => Ok(vip),
        None => {
            let names = cluster.vips.iter().map(|vip| vip.name.as_str());
            let names = names.collect::<Vec<_>>().join(", ");
            bail!("there is no address {word}; there are {names}");
        }
    }
}
