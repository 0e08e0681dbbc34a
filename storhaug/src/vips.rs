//! `storhaug vip …`: virtual addresses are added, taken away, and given a home,
//! in the file and in the cluster.

use std::net::IpAddr;

use anyhow::{Context, bail};
use storhaug_agents::deadline::{Deadline, until};

use crate::apply::{
    Apply, EVERY, MOVING, NOT_THE_SAME, Outcome, Rehearsed, Slots, Stops, outcome, running, write,
};
use crate::cluster::{Cluster, Vip};
use crate::config::Places;
use crate::config::edit::{Edit, NewVip};
use crate::desired;
use crate::machine::{Machine, applied};
use crate::pacemaker;
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

/// Makes a change in the configuration of `places` and in the cluster. `host` is the name
/// of this machine.
///
/// # Errors
/// What is in the way, or does not run in the end, and why.
pub fn change(
    machine: Machine<'_>,
    host: &str,
    change: &Change,
    places: &Places,
    progress: &mut Progress,
) -> anyhow::Result<Outcome> {
    let _lock = machine.lock()?;
    // Under the lock: what another run writes belongs to it.
    let sources = machine.sources(places)?;
    let before = sources.load()?;
    let (_, cib) = running(machine, &before)?;
    let edit = match edit(change, &before.cluster) {
        // What it does not know may have come from another node.
        Err(_) if applied(&cib).is_some_and(|known| known != before.cluster) => {
            bail!("{NOT_THE_SAME}")
        }
        edit => edit?,
    };
    let edited = sources.edited(edit.as_slice())?;
    let loaded = edited.load()?;
    preflight::check_networks(&loaded, host)?;
    let apply = Apply {
        slots: Slots::Kept,
        stops: Stops::Nowhere,
        // The latter where an earlier run was interrupted before it wrote.
        builds_on: vec![before.fingerprint, loaded.fingerprint.clone()],
        ..Apply::new(machine, &loaded.cluster)
    };
    let staged = edited.stage(&sources)?;
    let (pushed, leaving) = apply.push(progress, Rehearsed::No)?;
    let written = write(staged, progress)?;
    apply.settle(&leaving, progress)?;
    if let Change::Move(word, node) = change {
        arrive(machine, find(&loaded.cluster, word)?, node, progress)?;
    }
    Ok(outcome(pushed || written))
}

/// Waits until an address is on the node where it is at home, unless that node
/// does not serve now.
fn arrive(
    machine: Machine<'_>,
    vip: &Vip,
    home: &str,
    progress: &mut Progress,
) -> anyhow::Result<()> {
    let name = &vip.name;
    progress.waiting(&format!("waiting until {name} is on {home}"));
    let arrived = until(Deadline::after(MOVING), EVERY, "an address to move", || {
        let state = pacemaker::state(machine.runner)?;
        if state.running(name).contains(&home) {
            return Ok(Some(true));
        }
        let serves = state.nodes.get(home).is_some_and(|node| {
            let mut services = vip.services.iter();
            let ready = services.all(|service| {
                let ready = node.attributes.get(desired::ready(*service));
                ready.is_some_and(|is| is == "1")
            });
            ready && node.online && !node.standby && !node.maintenance
        });
        Ok((!serves).then_some(false))
    });
    match arrived.with_context(|| {
        format!(
            "{name} does not go to {home}; `crm_resource --why --resource {name} --node {home}` \
             tells more"
        )
    })? {
        true => progress.done(&format!("{name} is on {home}")),
        false => progress.warn(&format!("{name} goes to {home} when {home} serves")),
    }
    Ok(())
}

/// What has to be written; nothing where it says so already.
fn edit(change: &Change, cluster: &Cluster) -> anyhow::Result<Option<Edit>> {
    Ok(match change {
        Change::Add(new) => {
            let wanted = address(&new.address);
            let mut vips = cluster.vips.iter();
            match vips.find(|vip| Some(vip.address) == wanted) {
                Some(known) => {
                    same(known, new)?;
                    None
                }
                None => Some(Edit::AddVip(new.clone())),
            }
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
            let others = vip.prefer.iter().filter(|other| *other != node);
            let order = std::iter::once(node).chain(others).cloned().collect();
            (vip.prefer != order).then_some(Edit::PreferVip(vip.address, order))
        }
    })
}

/// Refuses an address that is there already, and is another.
fn same(known: &Vip, new: &NewVip) -> anyhow::Result<()> {
    let prefix = new.address.split_once('/').map(|(_, prefix)| prefix);
    let facts = [
        ("--name", new.name.as_deref(), Some(known.name.clone())),
        ("--nic", new.nic.as_deref(), known.nic.clone()),
        (
            "--prefer",
            new.prefer.as_deref(),
            known.prefer.first().cloned(),
        ),
        (
            "the prefix",
            prefix,
            known.prefix.map(|prefix| prefix.to_string()),
        ),
    ];
    for (what, wanted, is) in facts {
        if wanted.is_some() && wanted != is.as_deref() {
            bail!(
                "{} is there already, and {what} is {}; change it in the file and run `storhaug \
                 setup`, or take the address away first",
                known.address,
                is.as_deref().unwrap_or("not given")
            );
        }
    }
    Ok(())
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
