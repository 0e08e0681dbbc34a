//! `fence_lab`: the fence agent inside the nodes. It speaks as fence agents do
//! (options as arguments, or as `key=value` lines on standard input) and asks
//! the lab, out of band, for the power of a node.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};

use crate::layout::CLIENT;
use crate::power::{self, Machine, Power, Request};

/// Where the lab's socket is inside a node, [`crate::layout::FENCE_DIR`].
pub const SOCKET: &str = "/var/lib/fence_lab/socket";

/// The exit status of `status` for a node without power (fence agent API).
const IS_OFF: u8 = 2;

const METADATA: &str = r#"<?xml version="1.0" ?>
<resource-agent name="fence_lab" shortdesc="Fence agent for the nodes of a storhaug lab">
  <longdesc>Takes a node's power away, and gives it back, by asking the lab that the node is in.</longdesc>
  <vendor-url></vendor-url>
  <parameters>
    <parameter name="action" unique="0" required="1">
      <getopt mixed="-o, --action=[action]"/>
      <content type="string" default="reboot"/>
      <shortdesc lang="en">Fencing action</shortdesc>
    </parameter>
    <parameter name="plug" unique="0" required="1" obsoletes="port">
      <getopt mixed="-n, --plug=[id]"/>
      <content type="string"/>
      <shortdesc lang="en">Name of the node in the lab</shortdesc>
    </parameter>
    <parameter name="port" unique="0" required="0" deprecated="1">
      <getopt mixed="-n, --plug=[id]"/>
      <content type="string"/>
      <shortdesc lang="en">Name of the node in the lab</shortdesc>
    </parameter>
    <parameter name="socket" unique="0" required="0">
      <getopt mixed="--socket=[path]"/>
      <content type="string" default="/var/lib/fence_lab/socket"/>
      <shortdesc lang="en">Socket of the lab</shortdesc>
    </parameter>
  </parameters>
  <actions>
    <action name="on" automatic="0"/>
    <action name="off"/>
    <action name="reboot"/>
    <action name="status"/>
    <action name="monitor"/>
    <action name="list"/>
    <action name="metadata"/>
    <action name="validate-all"/>
  </actions>
</resource-agent>
"#;

/// Does what the options ask for.
pub fn run(args: &[String], input: &str, out: &mut impl Write) -> Result<ExitCode> {
    let options = options(args, input)?;
    let socket = Path::new(options.get("socket").map_or(SOCKET, String::as_str));
    let plug = || {
        options
            .get("plug")
            .or_else(|| options.get("port"))
            .context("no plug given: which node?")
    };
    let ask = |request: fn(String) -> Request| -> Result<()> {
        power::ask(socket, &request(plug()?.clone())).map(drop)
    };
    match options.get("action").map_or("reboot", String::as_str) {
        "metadata" => out.write_all(METADATA.as_bytes())?,
        "validate-all" => drop(plug()?),
        "on" => ask(Request::On)?,
        "off" => ask(Request::Off)?,
        "reboot" => ask(Request::Reboot)?,
        "monitor" => drop(nodes(socket)?),
        "list" => {
            for node in nodes(socket)?.keys() {
                writeln!(out, "{node},")?;
            }
        }
        "status" => {
            let plug = plug()?;
            let nodes = nodes(socket)?;
            let node = nodes
                .get(plug)
                .with_context(|| format!("the lab has no node `{plug}`"))?;
            if node.power == Power::Off {
                return Ok(ExitCode::from(IS_OFF));
            }
        }
        other => bail!("unknown action `{other}`"),
    }
    Ok(ExitCode::SUCCESS)
}

fn nodes(socket: &Path) -> Result<BTreeMap<String, Machine>> {
    let mut machines = power::machines(socket)?;
    machines.remove(CLIENT);
    Ok(machines)
}

/// The options, by their long names. Pacemaker gives them on standard input
/// and more of them than an agent knows; on the command line an unknown one
/// is a mistake.
fn options(args: &[String], input: &str) -> Result<BTreeMap<String, String>> {
    if args.is_empty() {
        return Ok(input
            .lines()
            .map(str::trim)
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.split_once('='))
            .map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()))
            .collect());
    }
    let mut options = BTreeMap::new();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let (name, value) = match arg.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (arg.as_str(), args.next().cloned()),
        };
        let name = match name {
            "-o" | "--action" => "action",
            "-n" | "--plug" => "plug",
            "--socket" => "socket",
            other => bail!("unknown option `{other}`"),
        };
        let value = value.with_context(|| format!("option `{arg}` has no value"))?;
        options.insert(name.to_owned(), value);
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_come_from_either_place() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let expected = BTreeMap::from([
            ("action".to_owned(), "off".to_owned()),
            ("plug".to_owned(), "node2".to_owned()),
        ]);
        assert_eq!(
            options(&words("-o off --plug=node2"), "").unwrap(),
            expected
        );
        assert_eq!(
            options(&[], "# x\naction=off\nplug=node2\n").unwrap(),
            expected
        );
        assert!(options(&words("--bogus 1"), "").is_err());
        assert!(options(&words("-o"), "").is_err());
    }

    #[test]
    fn the_metadata_needs_no_lab_and_names_every_action() {
        let mut out = Vec::new();
        run(&["-o".into(), "metadata".into()], "", &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let xml = roxmltree::Document::parse(&text).unwrap();
        let actions: Vec<_> = xml
            .descendants()
            .filter(|node| node.has_tag_name("action"))
            .filter_map(|node| node.attribute("name"))
            .collect();
        for action in ["on", "off", "reboot", "status", "monitor", "list"] {
            assert!(actions.contains(&action), "{action}");
        }
    }

    #[test]
    fn an_action_needs_its_node_named() {
        let error = run(&[], "action=off\n", &mut Vec::new()).unwrap_err();
        assert!(error.to_string().contains("plug"), "{error}");
    }
}
