//! A page of section 7 for each agent, named as those of resource-agents are, from
//! the agents' metadata.

use roff::{bold, italic, roman};
use storhaug_agents::ctdb::Ctdb;
use storhaug_agents::ganesha::Ganesha;
use storhaug_agents::ganesha_trigger::GaneshaTrigger;
use storhaug_agents::glusterfs::GlusterFs;
use storhaug_agents::noded::Noded;
use storhaug_agents::ocf::{Agent, Kind, Metadata, Op, Param, Reload};
use storhaug_agents::samba::Samba;
use storhaug_agents::vip::Vip;

use crate::page::Page;

/// Every agent, and how pcs makes a resource of it, where there is no `storhaug`.
const AGENTS: [(&Metadata, &str); 7] = [
    (
        &Ctdb::METADATA,
        "pcs resource create ctdb ocf:storhaug:ctdb \\\n    \
         nodes=\"10.0.0.1 10.0.0.2 10.0.0.3\" clone interleave=true",
    ),
    (
        &Ganesha::METADATA,
        "pcs resource create ganesha ocf:storhaug:ganesha \\\n    \
         state_directory=/run/storhaug/state/ganesha clone interleave=true",
    ),
    (
        &GaneshaTrigger::METADATA,
        "pcs resource create trigger ocf:storhaug:ganesha_trigger \\\n    \
         ip=10.0.0.101 state_directory=/run/storhaug/state/ganesha --group nfs\n\
         pcs resource create vip-nfs ocf:storhaug:vip ip=10.0.0.101 --group nfs",
    ),
    (
        &GlusterFs::METADATA,
        "pcs resource create share ocf:storhaug:glusterfs \\\n    \
         volume=share directory=/run/storhaug/share clone interleave=true",
    ),
    (
        &Noded::METADATA,
        "pcs resource create noded ocf:storhaug:noded clone interleave=true",
    ),
    (
        &Samba::METADATA,
        "pcs resource create smbd ocf:storhaug:samba daemon=smbd clone interleave=true\n\
         pcs constraint order ctdb-clone then smbd-clone",
    ),
    (
        &Vip::METADATA,
        "pcs resource create vip-1 ocf:storhaug:vip ip=10.0.0.102 cidr_netmask=24",
    ),
];

/// The pages.
pub fn pages() -> impl Iterator<Item = Page> {
    AGENTS
        .into_iter()
        .map(|(metadata, example)| page(metadata, example))
}

fn page(metadata: &Metadata, example: &str) -> Page {
    let name = format!("ocf_storhaug_{}", metadata.name);
    let mut page = Page::new(&name, 7, metadata.shortdesc);
    let mut actions: Vec<&str> = metadata.operations().map(|op| op.name).collect();
    actions.dedup();
    page.section("SYNOPSIS").line(vec![
        bold(metadata.name),
        roman(format!(" [{}]", actions.join(" | "))),
    ]);
    page.section("DESCRIPTION").text(metadata.longdesc);
    page.section("SUPPORTED PARAMETERS");
    for param in metadata.parameters {
        let said = [param.longdesc.to_owned(), properties(param)];
        page.item(vec![bold(param.name)], &said);
    }
    page.section("SUPPORTED ACTIONS").text(
        "Pacemaker calls them, with these timeouts unless the resource has others of its own:",
    );
    for op in metadata.operations() {
        let mut term = vec![bold(op.name)];
        if op.name == "monitor" && op.depth > 0 {
            term.push(roman(format!(", depth {}", op.depth)));
        }
        page.item(term, &[times(op)]);
    }
    page.section("EXAMPLE PCS")
        .text(
            "`storhaug setup` makes this resource, with its constraints. In a cluster that is \
             made by hand:",
        )
        .verbatim(example);
    let mut words = vec![roman("storhaug(8), storhaug.conf(5), pcs(8)")];
    for (other, _) in AGENTS {
        if other.name != metadata.name {
            words.push(roman(", "));
            words.push(italic(format!("ocf_storhaug_{}", other.name)));
            words.push(roman("(7)"));
        }
    }
    page.section("SEE ALSO").line(words);
    page
}

/// In brackets at the end, as in other agents' pages.
fn properties(param: &Param) -> String {
    let need = match param.required {
        true => "required",
        false => "optional",
    };
    let kind = match param.kind {
        Kind::String => "string",
        Kind::Boolean => "boolean",
    };
    let unique = param.unique_group.map_or("", |_| "unique, ");
    let default = match param.default {
        Some(default) => format!("default \"{default}\""),
        None => "no default".into(),
    };
    let reload = match param.reload {
        Reload::Agent => "; a change needs no restart",
        Reload::Restart => "",
    };
    format!("({unique}{need}, {kind}, {default}{reload})")
}

fn times(op: Op) -> String {
    let every = match op.interval {
        0 => String::new(),
        interval => format!("Every {interval} s. "),
    };
    format!("{every}Timeout: {} s.", op.timeout)
}
