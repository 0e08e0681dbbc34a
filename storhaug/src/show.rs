//! How plans and states are written, for people and for programs.

use std::fmt::Write;

use serde_json::{Value as Json, json};

use crate::desired::Kind;
use crate::pacemaker::Foretold;
use crate::plan::{Action, Plan};
use crate::status::Status;

/// Version of the JSON documents. Fields are added without a new version.
const SCHEMA: u32 = 1;

/// What a plan is shown with beside itself.
#[derive(Clone, Debug, Default)]
pub struct Outlook {
    /// What Pacemaker would do; `None` where it was not asked.
    pub foretold: Option<Vec<Foretold>>,
    /// What is uncertain on this machine.
    pub doubts: Vec<String>,
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
    let seconds = |totem: crate::corosync::Totem| {
        format!("{:.2} s", totem.detection(plan.nodes.len()).as_secs_f64())
    };
    if plan.create || now == then {
        writeln!(
            f,
            "a silent node is noticed after {} (token + consensus)",
            seconds(then)
        )?;
    } else {
        let (now, then) = (seconds(now), seconds(then));
        writeln!(
            f,
            "~ a silent node is noticed after {now} → {then} (token + consensus)"
        )?;
    }
    for doubt in &outlook.doubts {
        writeln!(f, "! {doubt}")?;
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
                write!(f, "  {} {}", step.action, step.what)?;
                match (&step.from, &step.to) {
                    (Some(from), Some(to)) if from != to => writeln!(f, ": {from} → {to}")?,
                    (Some(node), _) | (None, Some(node)) => writeln!(f, " on {node}")?,
                    (None, None) => writeln!(f)?,
                }
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
    let foretold = outlook.foretold.as_ref().map(|steps| {
        let steps = steps.iter().map(|step| {
            json!({"action": step.action, "what": step.what, "from": step.from, "to": step.to})
        });
        steps.collect::<Vec<_>>()
    });
    let detection = |totem: crate::corosync::Totem| {
        u64::try_from(totem.detection(plan.nodes.len()).as_millis()).unwrap_or(u64::MAX)
    };
    json!({
        "schema": SCHEMA,
        "cluster": plan.cluster,
        "nodes": plan.nodes,
        "create": plan.create,
        "detection_ms": {"from": (!plan.create).then(|| detection(plan.totem.0)), "to": detection(plan.totem.1)},
        "changes": changes,
        "foretold": foretold,
        "doubts": outlook.doubts,
        "empty": plan.is_empty(),
    })
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
        }
    }
    for note in &status.notes {
        writeln!(f, "! {}\n    {}", note.problem, note.remedy)?;
    }
    Ok(())
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
    let addresses: Vec<Json> = of(Kind::Address)
        .map(|address| {
            json!({
                "name": address.resource,
                "address": status.addresses.get(&address.resource),
                "holder": state.running(&address.resource).first(),
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
    json!({
        "schema": SCHEMA,
        "cluster": status.cluster,
        "verdict": status.verdict.as_str(),
        "coordinator": state.dc,
        "quorum": state.quorum,
        "nodes": nodes,
        "services": services,
        "addresses": addresses,
        "fencing": {"enabled": state.fencing, "devices": devices},
        "failures": failures,
        "notes": notes,
    })
}
