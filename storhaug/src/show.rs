//! How plans and states are written, for people and for programs.

use std::fmt::Write;
use std::time::{Duration, SystemTime};

use humantime::{format_duration, format_rfc3339_millis, format_rfc3339_seconds};
use serde_json::{Value as Json, json};
use storhaug_agents::daemon::{Moved, Reason, Vip};

use crate::corosync::Totem;
use crate::desired::{Kind, Wanted};
use crate::loss::Loss;
use crate::pacemaker::Foretold;
use crate::plan::{Action, Plan};
use crate::status::{Clients, Status};

/// Version of the JSON documents. Fields are added without a new version.
const SCHEMA: u32 = 1;

/// How the time until a silent node is noticed comes about.
const FORMULA: &str = "token + token_coefficient * (nodes - 2), \
                       plus consensus, which is 1.2 times that unless it is set";

/// What a plan is shown with beside itself.
#[derive(Clone, Debug, Default)]
pub struct Outlook {
    /// What Pacemaker would do; `None` where it was not asked.
    pub foretold: Option<Vec<Foretold>>,
    /// What is uncertain on this machine.
    pub doubts: Vec<String>,
    /// What those have to know who use the cluster.
    pub limits: Vec<&'static str>,
}

/// A plan for people.
pub fn plan_text(plan: &Plan, outlook: &Outlook) -> String {
    let mut text = String::new();
    let _ = write_plan(&mut text, plan, outlook);
    text
}

fn write_plan(f: &mut String, plan: &Plan, outlook: &Outlook) -> std::fmt::Result {
    let fate = if plan.create { ", to be created" } else { "" };
    writeln!(
        f,
        "cluster {} of {}{fate}",
        plan.cluster,
        plan.nodes.join(", ")
    )?;
    let (now, then) = plan.totem;
    let seconds = |time: Duration| format!("{:.2} s", time.as_secs_f64());
    let nodes = plan.nodes.len();
    let (mark, before) = if plan.create || now == then {
        ("", String::new())
    } else {
        ("~ ", format!("{} → ", seconds(now.detection(nodes))))
    };
    writeln!(
        f,
        "{mark}a silent node is noticed after {before}{}: token {} + consensus {} \
         (corosync.conf(5))",
        seconds(then.detection(nodes)),
        seconds(then.token(nodes)),
        seconds(then.consensus(nodes)),
    )?;
    let limits = outlook.limits.iter().copied();
    for remark in outlook.doubts.iter().map(String::as_str).chain(limits) {
        writeln!(f, "! {remark}")?;
    }
    let width = plan
        .changes
        .iter()
        .map(|change| change.id.len())
        .max()
        .unwrap_or(0);
    for change in &plan.changes {
        let mark = match change.action {
            Action::Create => '+',
            Action::Modify => '~',
            Action::Delete => '-',
        };
        writeln!(f, "{mark} {:width$}  {}", change.id, change.purpose)?;
        if change.action == Action::Modify {
            for value in &change.values {
                let shown =
                    |value: &Option<String>| value.clone().unwrap_or_else(|| "(none)".into());
                let (from, to) = (shown(&value.from), shown(&value.to));
                writeln!(f, "    {}: {from} → {to}", value.name)?;
            }
        }
    }
    let count = |action| {
        plan.changes
            .iter()
            .filter(|change| change.action == action)
            .count()
    };
    if plan.is_empty() {
        return writeln!(f, "nothing to do");
    }
    writeln!(
        f,
        "{} to create, {} to change, {} to remove",
        count(Action::Create),
        count(Action::Modify),
        count(Action::Delete)
    )?;
    match &outlook.foretold {
        None => Ok(()),
        Some(foretold) if foretold.is_empty() => {
            writeln!(
                f,
                "Pacemaker would neither start, stop nor move anything at once"
            )
        }
        Some(foretold) => {
            writeln!(f, "Pacemaker would at once:")?;
            for step in foretold {
                write_step(f, step)?;
            }
            Ok(())
        }
    }
}

/// A plan for programs.
pub fn plan_json(plan: &Plan, outlook: &Outlook) -> Json {
    let changes: Vec<Json> = plan
        .changes
        .iter()
        .map(|change| {
            let values = change
                .values
                .iter()
                .map(|value| json!({"name": value.name, "from": value.from, "to": value.to}));
            json!({
                "action": change.action.as_str(),
                "element": change.element,
                "id": change.id,
                "purpose": change.purpose,
                "values": values.collect::<Vec<_>>(),
            })
        })
        .collect();
    let foretold = outlook.foretold.as_deref().map(steps);
    let nodes = plan.nodes.len();
    let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let (now, then) = plan.totem;
    let parts = |totem: Totem| {
        json!({
            "token_ms": ms(totem.token(nodes)),
            "consensus_ms": ms(totem.consensus(nodes)),
        })
    };
    json!({
        "schema": SCHEMA,
        "cluster": plan.cluster,
        "nodes": plan.nodes,
        "create": plan.create,
        "detection_ms": {
            "from": (!plan.create).then(|| ms(now.detection(nodes))),
            "to": ms(then.detection(nodes)),
        },
        "detection": {
            "from": (!plan.create).then(|| parts(now)),
            "to": parts(then),
            "formula": FORMULA,
            "source": "corosync.conf(5)",
        },
        "changes": changes,
        "foretold": foretold,
        "doubts": outlook.doubts,
        "limits": outlook.limits,
        "empty": plan.is_empty(),
    })
}

/// A loss for people.
pub fn loss_text(loss: &Loss) -> String {
    let mut text = String::new();
    let _ = write_loss(&mut text, loss);
    text
}

fn write_loss(f: &mut String, loss: &Loss) -> std::fmt::Result {
    writeln!(f, "without {}:", loss.nodes.join(", "))?;
    let quorum = match loss.quorum() {
        true => "quorum stays",
        false => "NO QUORUM, everything stops",
    };
    writeln!(f, "  {quorum}: {} left, {} needed", loss.left, loss.needed)?;
    for fate in loss.felt() {
        let place = |node: &Option<String>| node.clone().unwrap_or_else(|| "nowhere".into());
        write!(
            f,
            "  {:20} {} → {}",
            fate.name,
            place(&fate.from),
            place(&fate.to)
        )?;
        match fate.clients {
            Some(1) => writeln!(f, "  1 client has to reconnect")?,
            Some(clients) => writeln!(f, "  {clients} clients have to reconnect")?,
            None => writeln!(f)?,
        }
    }
    let stay: Vec<&str> = loss
        .addresses
        .iter()
        .filter(|fate| fate.from == fate.to)
        .map(|fate| fate.name.as_str())
        .collect();
    if !stay.is_empty() {
        writeln!(f, "  where they are: {}", stay.join(", "))?;
    }
    let addresses: Vec<&str> = loss
        .addresses
        .iter()
        .map(|fate| fate.name.as_str())
        .collect();
    let others = loss.foretold.iter();
    let others: Vec<&Foretold> = others
        .filter(|step| !addresses.contains(&step.what.as_str()))
        .collect();
    if !others.is_empty() {
        writeln!(f, "Pacemaker would also at once:")?;
    }
    for step in others {
        write_step(f, step)?;
    }
    Ok(())
}

fn write_step(f: &mut String, step: &Foretold) -> std::fmt::Result {
    write!(f, "  {} {}", step.action, step.what)?;
    match (&step.from, &step.to) {
        (Some(from), Some(to)) if from != to => writeln!(f, ": {from} → {to}"),
        (Some(node), _) | (None, Some(node)) => writeln!(f, " on {node}"),
        (None, None) => writeln!(f),
    }
}

/// A loss for programs.
pub fn loss_json(loss: &Loss) -> Json {
    let addresses = loss.addresses.iter().map(|fate| {
        json!({"name": fate.name, "from": fate.from, "to": fate.to, "clients": fate.clients})
    });
    json!({
        "schema": SCHEMA,
        "lost": loss.nodes,
        "quorum": loss.quorum(),
        "left": loss.left,
        "needed": loss.needed,
        "addresses": addresses.collect::<Vec<_>>(),
        "foretold": steps(&loss.foretold),
    })
}

fn steps(foretold: &[Foretold]) -> Vec<Json> {
    let steps = foretold.iter().map(
        |step| json!({"action": step.action, "what": step.what, "from": step.from, "to": step.to}),
    );
    steps.collect()
}

/// The addresses for people.
pub fn vips_text(status: &Status) -> String {
    let mut text = String::new();
    for wanted in addresses(status) {
        let address = status.addresses.get(&wanted.resource);
        let address = address.map(ToString::to_string).unwrap_or_default();
        let holders = status.state.running(&wanted.resource);
        let holder = holders.first().unwrap_or(&"nowhere");
        let _ = writeln!(text, "{:24} {address:24} {holder}", wanted.resource);
    }
    text
}

/// The addresses for programs.
pub fn vips_json(status: &Status) -> Json {
    json!({"schema": SCHEMA, "addresses": vips(status)})
}

fn addresses(status: &Status) -> impl Iterator<Item = &Wanted> {
    let wanted = status.wanted.iter();
    wanted.filter(|wanted| wanted.kind == Kind::Address)
}

fn vips(status: &Status) -> Vec<Json> {
    let shown = addresses(status).map(|address| {
        let mut shown = json!({
            "name": address.resource,
            "address": status.addresses.get(&address.resource),
            "holder": status.state.running(&address.resource).first(),
        });
        if let Some((_, vip)) = known(status, &address.resource) {
            add_vip(&mut shown, vip);
        }
        shown
    });
    shown.collect()
}

/// A state for people.
pub fn status_text(status: &Status) -> String {
    let mut text = String::new();
    let _ = write_status(&mut text, status);
    text
}

fn write_status(f: &mut String, status: &Status) -> std::fmt::Result {
    let state = &status.state;
    match status.cluster.as_str() {
        "" => writeln!(f, "no cluster: {}", status.verdict.as_str())?,
        name => writeln!(f, "cluster {name}: {}", status.verdict.as_str())?,
    }
    if !state.nodes.is_empty() {
        writeln!(f, "nodes")?;
    }
    for (name, node) in &state.nodes {
        let condition = match node {
            node if node.unclean => "lost, not fenced yet",
            node if !node.online => "offline",
            node if node.standby => "standby",
            node if node.maintenance => "maintenance",
            _ => "online",
        };
        let dc = if state.dc.as_deref() == Some(name) {
            ", coordinates"
        } else {
            ""
        };
        writeln!(f, "  {name:20} {condition}{dc}")?;
    }
    for (kind, title) in [
        (Kind::Address, "addresses"),
        (Kind::Service, "services"),
        (Kind::Fencing, "fencing"),
    ] {
        let all: Vec<_> = status
            .wanted
            .iter()
            .filter(|wanted| wanted.kind == kind)
            .collect();
        if !all.is_empty() {
            writeln!(f, "{title}")?;
        }
        for wanted in all {
            let running = state.running(&wanted.resource);
            let place = if running.is_empty() {
                "nowhere".to_owned()
            } else {
                running.join(", ")
            };
            let address = status.addresses.get(&wanted.resource);
            let address = address
                .map(|address| format!("  ({address})"))
                .unwrap_or_default();
            writeln!(f, "  {:20} {place}{address}", wanted.resource)?;
            if let Some((clients, vip)) = known(status, &wanted.resource) {
                write_vip(f, clients, vip)?;
            }
        }
    }
    if let Some(clients) = &status.clients {
        write_resets(f, clients)?;
    }
    for note in &status.notes {
        writeln!(f, "! {}\n    {}", note.problem, note.remedy)?;
    }
    Ok(())
}

/// What is known of the clients of the address whose resource this is.
fn known<'a>(status: &'a Status, resource: &str) -> Option<(&'a Clients, &'a Vip)> {
    let clients = status.clients.as_ref()?;
    let vip = clients.of(*status.addresses.get(resource)?)?;
    Some((clients, vip))
}

fn write_vip(f: &mut String, clients: &Clients, vip: &Vip) -> std::fmt::Result {
    let plural = if vip.clients == 1 { "" } else { "s" };
    writeln!(f, "    {} client{plural} known", vip.clients)?;
    if let Some(moved) = &vip.moved {
        let (from, to) = (&moved.from.name, &moved.to.name);
        write!(
            f,
            "    moved {from} → {to} {}: {}",
            clients.ago(moved.at),
            because(moved)
        )?;
        match moved.away_ms {
            Some(away) => writeln!(f, "; was away for {:.1} s", away as f64 / 1000.0)?,
            None => writeln!(f)?,
        }
    }
    if let Some(tickled) = &vip.tickled {
        let answered = tickled.answered;
        let answered = answered.map(|count| format!(", {count} answered"));
        writeln!(
            f,
            "    {} tickled {}{}: {} packets, first round in {:.1} ms",
            tickled.clients,
            clients.age(tickled.at),
            answered.unwrap_or_default(),
            tickled.packets,
            Duration::from_micros(tickled.first_round_us).as_secs_f64() * 1000.0
        )?;
    }
    Ok(())
}

/// Why an address moved, in words.
fn because(moved: &Moved) -> String {
    let from = &moved.from.name;
    match moved.reason {
        Reason::Fenced => format!("{from} was fenced"),
        Reason::Lost => format!("{from} was lost"),
        Reason::Stopping => format!("the cluster was being stopped on {from}"),
        Reason::Standby => format!("{from} was in standby"),
        Reason::Failed => format!("it failed on {from}"),
        Reason::Service => format!("a service that it needs did not work on {from}"),
        Reason::Asked => "somebody asked for it".to_owned(),
        Reason::Placed => "Pacemaker placed it anew".to_owned(),
        Reason::Unknown => "for an unknown reason".to_owned(),
    }
}

fn write_resets(f: &mut String, clients: &Clients) -> std::fmt::Result {
    let resets = &clients.answer.resets;
    if !resets.is_empty() {
        writeln!(f, "sockets to dead nodes")?;
    }
    for reset in resets {
        let (sockets, ago) = (reset.sockets, clients.ago(reset.at));
        writeln!(f, "  {:20} {sockets} destroyed here {ago}", reset.node.name)?;
    }
    Ok(())
}

impl Clients {
    /// How long ago something was when the daemon was asked. The clock of the
    /// node that noted it may be ahead of this one's.
    fn age(&self, at: u64) -> String {
        let age = self.asked.duration_since(moment(at)).unwrap_or_default();
        format!(
            "{} ago",
            format_duration(Duration::from_secs(age.as_secs()))
        )
    }

    /// How long ago something was, and when.
    fn ago(&self, at: u64) -> String {
        format!("{} ({})", self.age(at), format_rfc3339_seconds(moment(at)))
    }
}

/// The end of the year 9999, after which RFC 3339 knows no time.
const LATEST: u64 = 253_402_300_799_999;

/// A moment in milliseconds since 1970.
fn moment(at: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(at.min(LATEST))
}

/// A moment for programs.
fn stamp(at: u64) -> String {
    format_rfc3339_millis(moment(at)).to_string()
}

/// A state for programs.
pub fn status_json(status: &Status) -> Json {
    let state = &status.state;
    let nodes: Vec<Json> = state
        .nodes
        .iter()
        .map(|(name, node)| {
            json!({
                "name": name,
                "online": node.online,
                "standby": node.standby,
                "maintenance": node.maintenance,
                "unclean": node.unclean,
                "attributes": node.attributes,
            })
        })
        .collect();
    let of = |kind| {
        status
            .wanted
            .iter()
            .filter(move |wanted| wanted.kind == kind)
    };
    let services: Vec<Json> = of(Kind::Service)
        .map(|service| {
            json!({
                "name": service.resource,
                "running": state.running(&service.resource),
                "wanted": service.nodes.names(),
            })
        })
        .collect();
    let devices: Vec<Json> = of(Kind::Fencing)
        .map(|device| json!({"name": device.resource, "running": state.running(&device.resource).first()}))
        .collect();
    let failures: Vec<Json> = state
        .failures
        .iter()
        .map(|failure| {
            json!({
                "resource": failure.resource,
                "operation": failure.operation,
                "node": failure.node,
                "status": failure.status,
                "reason": failure.reason,
                "when": failure.when,
            })
        })
        .collect();
    let notes: Vec<Json> = status
        .notes
        .iter()
        .map(|note| json!({"problem": note.problem, "remedy": note.remedy}))
        .collect();
    let mut shown = json!({
        "schema": SCHEMA,
        "cluster": status.cluster,
        "verdict": status.verdict.as_str(),
        "coordinator": state.dc,
        "quorum": state.quorum,
        "nodes": nodes,
        "services": services,
        "addresses": vips(status),
        "fencing": {"enabled": state.fencing, "devices": devices},
        "failures": failures,
        "notes": notes,
    });
    if let Some(clients) = &status.clients {
        let resets = clients.answer.resets.iter().map(|reset| {
            json!({"node": reset.node.name, "sockets": reset.sockets, "at": stamp(reset.at)})
        });
        shown["resets"] = resets.collect();
    }
    shown
}

/// Adds what storhaug-noded knows; without it these fields are absent.
fn add_vip(shown: &mut Json, vip: &Vip) {
    let moved = vip.moved.as_ref().map(|moved| {
        json!({
            "from": moved.from.name,
            "to": moved.to.name,
            "at": stamp(moved.at),
            "reason": moved.reason,
            "away_ms": moved.away_ms,
        })
    });
    let tickled = vip.tickled.as_ref().map(|tickled| {
        json!({
            "at": stamp(tickled.at),
            "clients": tickled.clients,
            "answered": tickled.answered,
            "packets": tickled.packets,
            "first_round_us": tickled.first_round_us,
        })
    });
    let others = vip.also_on.iter().map(|node| &node.name);
    shown["also_on"] = json!(others.collect::<Vec<_>>());
    shown["clients"] = json!(vip.clients);
    shown["moved"] = json!(moved);
    shown["tickled"] = json!(tickled);
}
