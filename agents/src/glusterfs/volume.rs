//! What GlusterFS itself says of a volume: whether it is started, its bricks
//! and its heal backlog, from the XML of the `gluster` command.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context, anyhow, bail};
use roxmltree::{Document, Node};

use crate::{exec::Cmd, fencing, ocf::Ctx};

/// How long one answer may take: the command itself waits for two minutes,
/// for a lock of another node for instance.
const ANSWER: Duration = Duration::from_secs(15);

/// Options of a volume by which a client remembers what it has read, whatever
/// another one wrote meanwhile under a lock, or keeps what was written from
/// others for a while, and whether they are on by default. The first is the one
/// with which Samba's own module for GlusterFS refuses to work (vfs_glusterfs(8)).
const CACHES: [(&str, bool); 6] = [
    ("write-behind", true),
    ("quick-read", true),
    ("stat-prefetch", true),
    ("io-cache", false),
    ("read-ahead", false),
    ("nl-cache", false),
];

/// A volume, as asked for at a server.
#[derive(Clone, Copy, Debug)]
pub struct Volume<'a> {
    /// Its name.
    pub name: &'a str,
    /// The server that is asked.
    pub server: &'a str,
}

/// What `gluster volume info` says.
#[derive(Debug, PartialEq, Eq)]
struct Info {
    started: bool,
    /// `host:path` of every brick; those of one set follow each other.
    bricks: Vec<String>,
    /// Bricks that hold the same data, arbiters included.
    set: usize,
    /// How many of a set must be online for it to be written to.
    quorum: usize,
    /// Whether there is something to heal from.
    redundant: bool,
    /// Which of [`CACHES`] are on.
    caches: Vec<&'static str>,
}

impl Volume<'_> {
    /// Starts the volume, unless it is started.
    ///
    /// # Errors
    /// It is not started after that.
    pub fn start(&self, ctx: &Ctx) -> anyhow::Result<()> {
        if self.info(ctx)?.started {
            return Ok(());
        }
        let started = self.ask(ctx, &["volume", "start", self.name]);
        // Every node starts it, and one of them is the first.
        if self.info(ctx)?.started {
            Ok(())
        } else {
            started.map(drop)
        }
    }

    /// What keeps the volume from being as redundant as it should be, and all of
    /// its clients from seeing the same; none where all is well.
    ///
    /// # Errors
    /// The servers do not answer.
    pub fn complaint(&self, ctx: &Ctx) -> anyhow::Result<Option<String>> {
        let info = self.info(ctx)?;
        let mut complaints: Vec<_> = self.weakness(ctx, &info)?.into_iter().collect();
        complaints.extend(info.incoherence(self.name));
        Ok((!complaints.is_empty()).then(|| complaints.join("; ")))
    }

    /// What keeps the volume from being as redundant as it should be.
    ///
    /// # Errors
    /// The servers do not answer.
    pub fn redundancy(&self, ctx: &Ctx) -> anyhow::Result<Option<String>> {
        self.weakness(ctx, &self.info(ctx)?)
    }

    /// What keeps its clients from seeing at once what others write.
    ///
    /// # Errors
    /// The servers do not answer.
    pub fn incoherence(&self, ctx: &Ctx) -> anyhow::Result<Option<String>> {
        Ok(self.info(ctx)?.incoherence(self.name))
    }

    fn weakness(&self, ctx: &Ctx, info: &Info) -> anyhow::Result<Option<String>> {
        let status = self.ask(ctx, &["volume", "status", self.name])?;
        let mut complaints: Vec<_> = info.offline(&online(&status)?).into_iter().collect();
        if info.redundant {
            let heal = self.ask(ctx, &["volume", "heal", self.name, "info", "summary"])?;
            complaints.extend(backlog(&heal)?);
        }
        Ok((!complaints.is_empty()).then(|| complaints.join("; ")))
    }

    fn info(&self, ctx: &Ctx) -> anyhow::Result<Info> {
        Info::parse(&self.ask(ctx, &["volume", "info", self.name])?)
    }

    fn ask(&self, ctx: &Ctx, words: &[&str]) -> anyhow::Result<String> {
        let mut cmd = Cmd::new("gluster").arg("--mode=script");
        if self.server != "localhost" {
            cmd = cmd.arg(format!("--remote-host={}", self.server));
        }
        let cmd = cmd.args(words).arg("--xml");
        let output = fencing::run(ctx, &cmd, ctx.deadline.earlier(ANSWER))?;
        // It says why in the XML, and exits with 0 or 1 as it likes.
        let text = output.text();
        if text.trim().is_empty() {
            bail!("{}", output.complaint());
        }
        document(&text)?;
        Ok(text)
    }
}

/// Reads an answer, unless it says that the command failed.
fn document(text: &str) -> anyhow::Result<Document<'_>> {
    let document = Document::parse(text).context("reading gluster's answer")?;
    let root = document.root_element();
    if child(root, "opRet").is_some_and(|code| code != "0") {
        let reason = child(root, "opErrstr").unwrap_or("no reason given");
        bail!("gluster: {}", reason.trim());
    }
    Ok(document)
}

fn child<'a>(node: Node<'a, '_>, name: &str) -> Option<&'a str> {
    node.children()
        .find(|child| child.has_tag_name(name))?
        .text()
}

fn number(node: Node, name: &str) -> usize {
    child(node, name)
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0)
}

fn all<'a, 'i>(
    document: &'a Document<'i>,
    name: &'static str,
) -> impl Iterator<Item = Node<'a, 'i>> {
    document
        .descendants()
        .filter(move |node| node.has_tag_name(name))
}

impl Info {
    fn parse(text: &str) -> anyhow::Result<Self> {
        let document = document(text)?;
        let volume = all(&document, "volume")
            .next()
            .ok_or_else(|| anyhow!("no such volume"))?;
        let bricks = volume
            .descendants()
            .filter(|node| node.has_tag_name("brick"));
        let (replicas, disperse) = (
            number(volume, "replicaCount"),
            number(volume, "disperseCount"),
        );
        let (set, quorum) = if disperse > 1 {
            (disperse, disperse - number(volume, "redundancyCount"))
        } else {
            // `cluster.quorum-type auto`, the default from three replicas on.
            (
                replicas.max(1),
                if replicas > 2 { replicas / 2 + 1 } else { 1 },
            )
        };
        Ok(Self {
            started: child(volume, "statusStr") == Some("Started"),
            bricks: bricks
                .filter_map(|brick| child(brick, "name"))
                .map(str::to_owned)
                .collect(),
            set,
            quorum,
            redundant: set > 1,
            caches: caches(volume),
        })
    }

    /// Says which caches are on, and how to turn them off.
    fn incoherence(&self, name: &str) -> Option<String> {
        let set = |cache| format!("performance.{cache} off");
        let remedy: Vec<_> = self.caches.iter().map(set).collect();
        (!remedy.is_empty()).then(|| {
            format!(
                "nodes do not see at once what others write, with {}: gluster volume set {name} {}",
                self.caches.join(", "),
                remedy.join(" ")
            )
        })
    }

    /// Says which bricks are offline.
    fn offline(&self, online: &BTreeSet<String>) -> Option<String> {
        let offline: Vec<_> = self
            .bricks
            .iter()
            .filter(|brick| !online.contains(*brick))
            .map(String::as_str)
            .collect();
        if offline.is_empty() {
            return None;
        }
        let lost = self
            .bricks
            .chunks(self.set)
            .any(|set| set.iter().filter(|brick| online.contains(*brick)).count() < self.quorum);
        Some(format!(
            "{} of {} bricks offline{}: {}",
            offline.len(),
            self.bricks.len(),
            if lost { ", too many to write" } else { "" },
            offline.join(", ")
        ))
    }
}

/// The caches that the volume has, by its options or by default.
fn caches(volume: Node) -> Vec<&'static str> {
    let set = |cache: &str| {
        let mut options = volume
            .descendants()
            .filter(|node| node.has_tag_name("option"));
        let option = options.find(|option| {
            child(*option, "name").and_then(|name| name.trim().strip_prefix("performance."))
                == Some(cache)
        })?;
        let value = child(option, "value")?.trim();
        let mut off = ["off", "no", "false", "disable", "0"].iter();
        Some(!off.any(|off| value.eq_ignore_ascii_case(off)))
    };
    CACHES
        .iter()
        .filter(|(cache, default)| set(cache).unwrap_or(*default))
        .map(|(cache, _)| *cache)
        .collect()
}

/// `host:path` of the bricks that are online. A host that is down is not in
/// the answer at all.
fn online(text: &str) -> anyhow::Result<BTreeSet<String>> {
    let document = document(text)?;
    let nodes = all(&document, "node").filter(|node| child(*node, "status") == Some("1"));
    let bricks = nodes.filter_map(|node| {
        Some(format!(
            "{}:{}",
            child(node, "hostname")?,
            child(node, "path")?
        ))
    });
    Ok(bricks.collect())
}

/// Says what is to be healed. Every brick that is good lists the same files.
fn backlog(text: &str) -> anyhow::Result<Option<String>> {
    let document = document(text)?;
    let most = |name: &'static str| {
        all(&document, name)
            .filter_map(|node| node.text()?.trim().parse::<u64>().ok())
            .max()
    };
    let split = most("numberOfEntriesInSplitBrain").unwrap_or(0);
    let pending = most("numberOfEntriesInHealPending").unwrap_or(0);
    let complaints = [(split, "in split brain"), (pending, "to be healed")];
    let complaints = complaints.iter().filter(|(count, _)| *count > 0);
    let complaints: Vec<_> = complaints
        .map(|(count, what)| format!("{count} files {what}"))
        .collect();
    Ok((!complaints.is_empty()).then(|| complaints.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(replicas: u32, bricks: u32) -> String {
        let bricks: String = (1..=bricks)
            .map(|i| format!("<brick uuid='u'>n{i}:/b<name>n{i}:/b</name></brick>"))
            .collect();
        format!(
            "<cliOutput><opRet>0</opRet><opErrno>0</opErrno><opErrstr/><volInfo><volumes><volume>\
             <name>share</name><statusStr>Started</statusStr><replicaCount>{replicas}</replicaCount>\
             <disperseCount>0</disperseCount><redundancyCount>0</redundancyCount>\
             <bricks>{bricks}</bricks></volume></volumes></volInfo></cliOutput>"
        )
    }

    fn status(online: &[(u32, u32)]) -> String {
        let nodes: String = online
            .iter()
            .map(|(i, status)| {
                format!(
                    "<node><hostname>n{i}</hostname><path>/b</path><status>{status}</status></node>"
                )
            })
            .collect();
        format!("<cliOutput><opRet>0</opRet><volStatus>{nodes}</volStatus></cliOutput>")
    }

    #[test]
    fn bricks_against_quorum() {
        let said = |replicas, bricks, up: &[(u32, u32)]| {
            Info::parse(&info(replicas, bricks))
                .unwrap()
                .offline(&online(&status(up)).unwrap())
        };
        assert_eq!(said(3, 3, &[(1, 1), (2, 1), (3, 1)]), None);
        assert_eq!(
            said(3, 3, &[(1, 1), (2, 1), (3, 0)]).unwrap(),
            "1 of 3 bricks offline: n3:/b"
        );
        assert_eq!(
            said(3, 3, &[(1, 1)]).unwrap(),
            "2 of 3 bricks offline, too many to write: n2:/b, n3:/b"
        );
        // One of each of two sets is not two of one.
        assert_eq!(
            said(3, 6, &[(1, 1), (2, 1), (4, 1), (5, 1)]).unwrap(),
            "2 of 6 bricks offline: n3:/b, n6:/b"
        );
        assert_eq!(
            said(1, 2, &[(1, 1)]).unwrap(),
            "1 of 2 bricks offline, too many to write: n2:/b"
        );
    }

    #[test]
    fn caches_that_nodes_do_not_share() {
        let said = |options: &str| {
            let text = info(3, 3).replace(
                "</bricks>",
                &format!("</bricks><options>{options}</options>"),
            );
            Info::parse(&text).unwrap().incoherence("share")
        };
        let option = |name: &str, value: &str| {
            format!("<option><name>performance.{name}</name><value>{value}</value></option>")
        };
        assert_eq!(
            said(&option("write-behind", "off")).unwrap(),
            "nodes do not see at once what others write, with quick-read, stat-prefetch: gluster \
             volume set share performance.quick-read off performance.stat-prefetch off"
        );
        let off: String = ["write-behind", "quick-read", "stat-prefetch"]
            .iter()
            .zip(["off", "Disable", "NO"])
            .map(|(name, value)| option(name, value))
            .collect();
        assert_eq!(said(&off), None);
        let one = option("nl-cache", "on") + &off;
        assert!(
            said(&one)
                .unwrap()
                .ends_with("set share performance.nl-cache off")
        );
    }

    #[test]
    fn backlogs() {
        let brick = |split: &str, pending: &str| {
            format!(
                "<brick><numberOfEntriesInHealPending>{pending}</numberOfEntriesInHealPending>\
                 <numberOfEntriesInSplitBrain>{split}</numberOfEntriesInSplitBrain></brick>"
            )
        };
        let said = |bricks: String| {
            backlog(&format!("<cliOutput><opRet>0</opRet>{bricks}</cliOutput>")).unwrap()
        };
        assert_eq!(said(brick("0", "0") + &brick("-", "-")), None);
        assert_eq!(
            said(brick("0", "4") + &brick("0", "3")).unwrap(),
            "4 files to be healed"
        );
        assert_eq!(
            said(brick("1", "2")).unwrap(),
            "1 files in split brain, 2 files to be healed"
        );
    }

    #[test]
    fn a_refusal_is_told() {
        let text = "<cliOutput><opRet>-1</opRet><opErrno>30806</opErrno>\
                    <opErrstr>Volume x does not exist</opErrstr></cliOutput>";
        assert_eq!(
            Info::parse(text).unwrap_err().to_string(),
            "gluster: Volume x does not exist"
        );
    }
}
