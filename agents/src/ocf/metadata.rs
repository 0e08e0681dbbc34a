//! The description of an agent, and the XML that Pacemaker, pcs and crmsh read.

use std::{
    fmt::{self, Write},
    time::Duration,
};

/// The description of an agent.
#[derive(Clone, Copy, Debug)]
pub struct Metadata {
    /// Its name, without `ocf:storhaug:`.
    pub name: &'static str,
    /// One line.
    pub shortdesc: &'static str,
    /// What it does, and for whom.
    pub longdesc: &'static str,
    /// What it takes; at least one, as OCF 1.1 demands.
    pub parameters: &'static [Param],
    /// What it does beside `meta-data` and `validate-all`, with timeouts.
    pub actions: &'static [Op],
}

/// A parameter.
#[derive(Clone, Copy, Debug)]
pub struct Param {
    /// Its name.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// Whether it must be given.
    pub required: bool,
    /// Resources of this agent must differ in the parameters of one group.
    pub unique_group: Option<&'static str>,
    /// Whether a change needs a restart.
    pub reload: Reload,
    /// Its value where none is given.
    pub default: Option<&'static str>,
    /// One line.
    pub shortdesc: &'static str,
    /// What it means, with unit and range.
    pub longdesc: &'static str,
}

/// Whether a running resource takes over a changed parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reload {
    /// It is restarted.
    Restart,
    /// `reload-agent` takes it over.
    Agent,
}

/// The type of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Any text.
    String,
    /// Yes or no.
    Boolean,
}

/// An action, as Pacemaker should configure it.
#[derive(Clone, Copy, Debug)]
pub struct Op {
    /// Its name.
    pub name: &'static str,
    /// Depth of a monitor, otherwise 0.
    pub depth: u32,
    /// Seconds.
    pub timeout: u32,
    /// Seconds between two monitors, otherwise 0.
    pub interval: u32,
}

impl Op {
    /// An action that is asked for once.
    pub const fn once(name: &'static str, timeout: u32) -> Self {
        Self {
            name,
            depth: 0,
            timeout,
            interval: 0,
        }
    }

    /// A monitor at a depth, every `interval` seconds.
    pub const fn monitor(depth: u32, interval: u32, timeout: u32) -> Self {
        Self {
            name: "monitor",
            depth,
            timeout,
            interval,
        }
    }
}

const VALIDATE: Op = Op::once("validate-all", 20);
const META_DATA: Op = Op::once("meta-data", 5);

impl Metadata {
    /// All actions, those of every agent included.
    pub fn operations(&self) -> impl Iterator<Item = Op> {
        self.actions.iter().copied().chain([VALIDATE, META_DATA])
    }

    /// The declared timeout of an action.
    pub(super) fn timeout(&self, action: &str, depth: u32) -> Duration {
        let declared = self.operations().filter(|op| op.name == action);
        let seconds = declared
            .filter(|op| op.depth <= depth)
            .map(|op| op.timeout)
            .max();
        Duration::from_secs(u64::from(seconds.unwrap_or(20)))
    }

    /// The greatest declared depth of a monitor that is not above `asked`: an
    /// agent that does not know a depth uses the next lower one (OCF 1.1,
    /// "Check levels").
    pub(super) fn depth(&self, asked: u32) -> u32 {
        let declared = self
            .actions
            .iter()
            .filter(|op| op.name == "monitor" && op.depth <= asked);
        declared.map(|op| op.depth).max().unwrap_or(0)
    }
}

/// The XML. No encoding is declared because crmsh 4.4 refuses it, and the
/// internal subset teaches `ocf-tester`'s DTD, which is of OCF 1.0, the
/// attributes of 1.1.
impl fmt::Display for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            r#"<?xml version="1.0"?>
<!DOCTYPE resource-agent SYSTEM "ra-api-1.dtd" [
<!ATTLIST parameter unique-group CDATA #IMPLIED reloadable (1|0) #IMPLIED>
<!ATTLIST action name NMTOKEN #REQUIRED>
]>
<resource-agent name="{}" version="{}">
<version>1.1</version>
<longdesc lang="en">{}</longdesc>
<shortdesc lang="en">{}</shortdesc>
<parameters>
"#,
            self.name,
            env!("CARGO_PKG_VERSION"),
            Text(self.longdesc),
            Text(self.shortdesc)
        )?;
        for param in self.parameters {
            write!(f, "{param}")?;
        }
        f.write_str("</parameters>\n<actions>\n")?;
        for op in self.operations() {
            write!(f, r#"<action name="{}""#, op.name)?;
            if op.name == "monitor" {
                write!(f, r#" depth="{}" interval="{}s""#, op.depth, op.interval)?;
            }
            writeln!(f, r#" timeout="{}s"/>"#, op.timeout)?;
        }
        f.write_str("</actions>\n</resource-agent>\n")
    }
}

impl fmt::Display for Param {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            r#"<parameter name="{}" required="{}""#,
            self.name,
            u8::from(self.required)
        )?;
        if let Some(group) = self.unique_group {
            write!(f, r#" unique-group="{group}""#)?;
        }
        writeln!(
            f,
            r#" reloadable="{}">"#,
            u8::from(self.reload == Reload::Agent)
        )?;
        writeln!(
            f,
            r#"<longdesc lang="en">{}</longdesc>"#,
            Text(self.longdesc)
        )?;
        writeln!(
            f,
            r#"<shortdesc lang="en">{}</shortdesc>"#,
            Text(self.shortdesc)
        )?;
        let kind = match self.kind {
            Kind::String => "string",
            Kind::Boolean => "boolean",
        };
        write!(f, r#"<content type="{kind}""#)?;
        if let Some(default) = self.default {
            write!(f, r#" default="{}""#, Text(default))?;
        }
        f.write_str("/>\n</parameter>\n")
    }
}

/// Text within an element or an attribute.
struct Text<'a>(&'a str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '&' => f.write_str("&amp;")?,
                '"' => f.write_str("&quot;")?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

impl Metadata {
    /// What is wrong with the description itself; a test of every agent asks.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut fault = |text: String| faults.push(text);
        if self.parameters.is_empty() {
            fault("OCF 1.1 demands a parameter".into());
        }
        for param in self.parameters {
            if param.required && param.default.is_some() {
                fault(format!("{}: required, yet with a default", param.name));
            }
            if !(param.longdesc.is_ascii() && param.shortdesc.is_ascii()) {
                fault(format!("{}: not ASCII", param.name));
            }
            if self
                .parameters
                .iter()
                .filter(|other| other.name == param.name)
                .count()
                > 1
            {
                fault(format!("{}: declared twice", param.name));
            }
        }
        for name in ["start", "stop", "monitor"] {
            if !self.actions.iter().any(|op| op.name == name) {
                fault(format!("no {name}"));
            }
        }
        let reloads = self.actions.iter().any(|op| op.name == "reload-agent");
        if reloads
            != self
                .parameters
                .iter()
                .any(|param| param.reload == Reload::Agent)
        {
            fault("reload-agent and reloadable parameters go together".into());
        }
        let mut intervals: Vec<u32> = self
            .actions
            .iter()
            .filter(|op| op.name == "monitor")
            .map(|op| op.interval)
            .collect();
        intervals.sort_unstable();
        if intervals.windows(2).any(|pair| pair[0] == pair[1]) {
            fault("two monitors with one interval".into());
        }
        faults
    }
}
