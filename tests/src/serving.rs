//! Whether the cluster in a lab serves, by looking at what it does rather than
//! at what it says.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use crate::cluster::{View, ctdb_nodes};
use crate::layout::free_addresses;
use crate::{Lab, Power, smb, wait};

/// How many virtual addresses the lab's configuration has.
const VIPS: usize = 3;
/// The attribute of a node on which smbd serves, without which addresses stay
/// away.
const SERVES: &str = "storhaug-smb";

impl Lab {
    /// The virtual addresses of the configuration that `up` leaves on node1.
    pub fn vips(&self) -> Vec<IpAddr> {
        free_addresses().take(VIPS).map(IpAddr::V4).collect()
    }

    /// The node that has an address on an interface. Two at once are an error:
    /// that is what a cluster is there to prevent.
    pub fn holder(&self, address: IpAddr) -> Result<Option<String>> {
        let mut holders = Vec::new();
        for node in self.nodes() {
            if self.power(node.name())? == Power::On && has(&node, address) {
                holders.push(node.name().to_owned());
            }
        }
        ensure!(
            holders.len() < 2,
            "{address} is on {}",
            holders.join(" and on ")
        );
        Ok(holders.pop())
    }

    /// Waits until everything runs where it should and every address in
    /// `addresses` serves.
    pub fn settle(&self, addresses: &[IpAddr], limit: Duration) -> Result<()> {
        wait::until_true("the cluster is whole and serves", limit, || {
            let view = self.view()?;
            self.whole(&view)?;
            let first = self.nodes().into_iter().next().context("a lab has nodes")?;
            let ctdb = ctdb_nodes(&first)?;
            ensure!(
                ctdb.len() == self.nodes().len() && ctdb.iter().all(|node| node.healthy),
                "CTDB is not healthy everywhere: {ctdb:?}"
            );
            for address in addresses {
                ensure!(self.holder(*address)?.is_some(), "{address} is nowhere");
                smb::run_within(self, *address, "ls", Vec::new(), Duration::from_secs(10))?;
            }
            // Nor was anything about to begin: what was to be seen a second ago
            // has had its consequences.
            let dc = view.dc.as_deref().context("there is no DC")?;
            let state = self
                .node(dc)
                .run(["crmadmin", "--output-as=xml", "--status", dc])?;
            ensure!(state.contains("S_IDLE"), "the cluster is at work");
            ensure!(self.view()? == view, "the cluster has changed just now");
            Ok(true)
        })
    }

    /// Every node is a member, every clone runs on all of them, every other
    /// resource somewhere.
    fn whole(&self, view: &View) -> Result<()> {
        let names = self.facts().node_names();
        let all: BTreeSet<&str> = names.iter().map(String::as_str).collect();
        ensure!(view.quorum, "there is no quorum");
        ensure!(view.online() == all, "members are {:?}", view.online());
        ensure!(
            view.nodes.values().all(|node| !node.standby),
            "a node is in standby"
        );
        ensure!(!view.resources.is_empty(), "there are no resources");
        for resource in &view.resources {
            let id = resource.clone.as_deref().unwrap_or(&resource.id);
            let running = view.running(id);
            let enough = match resource.clone {
                Some(_) => running == all,
                None => running.len() == 1,
            };
            if !enough || resource.failed {
                bail!("{id} runs on {running:?}");
            }
        }
        for node in view.running("smbd") {
            let known = view.attribute(node, SERVES) == Some("1");
            ensure!(known, "smbd on {node} is not known to serve");
        }
        Ok(())
    }
}

fn has(node: &crate::Machine, address: IpAddr) -> bool {
    // Old versions of ip print an empty object for every interface without.
    node.run(["ip", "-json", "address", "show", "to", &address.to_string()])
        .is_ok_and(|json| json.contains(&format!("\"local\":\"{address}\"")))
}
