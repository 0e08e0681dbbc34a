//! The Gluster volumes of a lab: peers introduced, volumes made and started.

use std::time::Duration;

use anyhow::{Context as _, Result};
use roxmltree::Document;

use crate::machine::Machine;
use crate::wait;

/// The volumes every lab has: for a CTDB lock the old way, for Ganesha's
/// state, for data.
pub const VOLUMES: &[&str] = &["ctdb", "state", "share"];

/// More copies than this cost time and prove nothing.
const COPIES: usize = 3;
/// What keeps nodes from seeing at once what others write.
const CACHES: [&str; 3] = [
    "performance.write-behind",
    "performance.quick-read",
    "performance.stat-prefetch",
];
const PEERS: Duration = Duration::from_secs(60);

/// Makes one trusted pool of the nodes, with all volumes on the first three.
pub fn create(nodes: &[Machine]) -> Result<()> {
    let first = nodes.first().context("a lab has at least one node")?;
    for node in &nodes[1..] {
        gluster(first, &["peer", "probe", node.name()])?;
    }
    wait::until_true("all Gluster peers are connected", PEERS, || {
        let xml = gluster(first, &["peer", "status"])?;
        Ok(connected(&xml)? == nodes.len() - 1)
    })?;
    let holders = &nodes[..nodes.len().min(COPIES)];
    for volume in VOLUMES {
        let copies = holders.len().to_string();
        let mut create = vec!["volume", "create", volume];
        if holders.len() > 1 {
            create.extend(["replica", &copies]);
        }
        let bricks: Vec<_> = holders
            .iter()
            .map(|node| format!("{}:/bricks/{volume}", node.name()))
            .collect();
        create.extend(bricks.iter().map(String::as_str));
        // Bricks beside the root file system, and two copies, are what Gluster
        // warns about.
        create.push("force");
        gluster(first, &create)?;
        for cache in CACHES {
            gluster(first, &["volume", "set", volume, cache, "off"])?;
        }
        gluster(first, &["volume", "start", volume])?;
    }
    Ok(())
}

fn gluster(node: &Machine, args: &[&str]) -> Result<String> {
    let mut argv = vec!["gluster", "--mode=script", "--xml"];
    argv.extend(args);
    let xml = node.run(argv)?;
    check(&xml).with_context(|| format!("gluster {}", args.join(" ")))?;
    Ok(xml)
}

/// With `--xml` the exit status says nothing; `opRet` does.
fn check(xml: &str) -> Result<()> {
    let document = Document::parse(xml)?;
    let text = |tag: &str| {
        document
            .descendants()
            .find(|node| node.has_tag_name(tag))
            .and_then(|node| node.text())
            .unwrap_or_default()
            .to_owned()
    };
    anyhow::ensure!(text("opRet") == "0", "{}", text("opErrstr"));
    Ok(())
}

/// How many peers are connected.
fn connected(xml: &str) -> Result<usize> {
    let document = Document::parse(xml)?;
    Ok(document
        .descendants()
        .filter(|node| node.has_tag_name("peer"))
        .filter(|peer| {
            peer.children()
                .any(|child| child.has_tag_name("connected") && child.text() == Some("1"))
                && peer.children().any(|child| {
                    child.has_tag_name("stateStr") && child.text() == Some("Peer in Cluster")
                })
        })
        .count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_found_where_gluster_puts_it() {
        check("<cliOutput><opRet>0</opRet><opErrstr/></cliOutput>").unwrap();
        let error = check("<cliOutput><opRet>-1</opRet><opErrstr>no way</opErrstr></cliOutput>")
            .unwrap_err();
        assert_eq!(error.to_string(), "no way");
    }

    #[test]
    fn only_connected_members_count() {
        let xml = "<cliOutput><peerStatus>\
            <peer><connected>1</connected><stateStr>Peer in Cluster</stateStr></peer>\
            <peer><connected>0</connected><stateStr>Peer in Cluster</stateStr></peer>\
            <peer><connected>1</connected><stateStr>Probe Sent to Peer</stateStr></peer>\
            </peerStatus></cliOutput>";
        assert_eq!(connected(xml).unwrap(), 1);
    }
}
