//! The volumes of GlusterFS: what keeps files from being safe, or from being seen
//! by all nodes at once.

use std::time::Duration;

use anyhow::{Context, bail};
use roxmltree::{Document, Node};
use storhaug_agents::deadline::Deadline;
use storhaug_agents::exec::Cmd;
use storhaug_agents::glusterfs;

use crate::check::Local;
use crate::cluster::Storage;
use crate::finding::Finding;

/// How long GlusterFS may take.
const ANSWER: Duration = Duration::from_secs(20);

/// Seconds of silence after which a client of GlusterFS gives a brick up; 42 by
/// default, and a pause of a busy machine lasts some.
const PAUSE: u64 = 10;

/// What GlusterFS calls a volume that does not exist: `EG_NOVOL`
/// ("xlators/mgmt/glusterd/src/glusterd-errno.h").
const MISSING: &str = "30806";

/// All volumes.
pub fn look(local: &Local<'_>) -> anyhow::Result<Vec<Finding>> {
    let cluster = &local.loaded.cluster;
    let Storage::GlusterFs { server, .. } = &cluster.storage else {
        return Ok(Vec::new());
    };
    let runner = local.machine.runner;
    let mut found = Vec::new();
    for name in cluster.volumes() {
        let mut cmd = Cmd::new("gluster").arg("--mode=script");
        if server != "localhost" {
            cmd = cmd.arg(format!("--remote-host={server}"));
        }
        let cmd = cmd.args(["volume", "info", name, "--xml"]);
        let output = runner.run(&cmd, Deadline::after(ANSWER))?;
        // It says why in the XML, and exits with 0 or 1 as it likes.
        let text = output.text();
        let told = Document::parse(&text).with_context(|| output.complaint())?;
        let said = |name| text_of(told.root_element(), name).unwrap_or_default();
        let mut volumes = told.descendants();
        let Some(volume) = volumes.find(|node| node.has_tag_name("volume")) else {
            if said("opRet") != "0" && said("opErrno") != MISSING {
                bail!("gluster says {}: {}", said("opRet"), said("opErrstr"));
            }
            found.push(Finding::error(
                "volume",
                format!("there is no volume {name}"),
                "make it, or correct the configuration",
            ));
            continue;
        };
        found.extend(judge(name, volume));
        let caches = glusterfs::incoherence(runner, Deadline::after(ANSWER), server, name)?;
        found.extend(caches.map(|found| {
            let (problem, remedy) = found.split_once(": gluster ").unwrap_or((&found, ""));
            let problem = format!("volume {name}: {problem}");
            Finding::error("volume-caches", problem, format!("gluster {remedy}"))
        }));
    }
    Ok(found)
}

/// The text in the child `name` of a node.
fn text_of<'a>(node: Node<'a, '_>, name: &str) -> Option<&'a str> {
    let mut children = node.children();
    let child = children.find(|child| child.has_tag_name(name))?;
    child.text().map(str::trim)
}

/// What `gluster volume info` says of one.
fn judge(name: &str, volume: Node<'_, '_>) -> Vec<Finding> {
    let text = |name| text_of(volume, name).unwrap_or_default();
    let number = |name| text(name).parse::<u64>().unwrap_or(0);
    let option = |name: &str| {
        let mut options = volume
            .descendants()
            .filter(|node| node.has_tag_name("option"));
        let option = options.find(|option| text_of(*option, "name") == Some(name))?;
        text_of(option, "value")
    };
    let mut found = Vec::new();
    if text("statusStr") != "Started" {
        found.push(Finding::error(
            "volume-stopped",
            format!("the volume {name} is not started"),
            format!("gluster volume start {name}"),
        ));
    }
    let (copies, arbiters) = (number("replicaCount"), number("arbiterCount"));
    if number("disperseCount") < 2 {
        if copies < 2 {
            found.push(Finding::warning(
                "volume-copies",
                format!("the volume {name} has one copy of each file, which is gone with its node"),
                "gluster volume add-brick with replica 3",
            ));
        } else if copies == 2 && arbiters == 0 {
            found.push(Finding::warning(
                "volume-copies",
                format!(
                    "the volume {name} has two copies of each file and no arbiter, and nobody \
                         to tell which is right when they differ"
                ),
                "gluster volume add-brick with replica 3 arbiter 1",
            ));
        }
    }
    // `auto` is the default from three copies on.
    if option("cluster.quorum-type").is_some_and(|quorum| quorum != "auto") {
        found.push(Finding::warning(
            "volume-quorum",
            format!("the volume {name} is written to without a majority of its copies"),
            format!("gluster volume set {name} cluster.quorum-type auto"),
        ));
    }
    let pause = option("network.ping-timeout").and_then(|pause| pause.parse::<u64>().ok());
    if let Some(pause) = pause.filter(|pause| *pause < PAUSE) {
        found.push(Finding::warning(
            "volume-ping-timeout",
            format!(
                "the volume {name} gives a brick up after {pause} s, which a pause may last; a \
                 dead node is told of by Corosync"
            ),
            format!("gluster volume reset {name} network.ping-timeout"),
        ));
    }
    found
}
