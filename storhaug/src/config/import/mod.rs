//! What came before, as a storhaug.conf: storhaug's own old files, CTDB's, and
//! those of the NFS-Ganesha that came with Gluster.
//!
//! The files are read and nothing of them is executed. What they say goes where
//! the TOML form has it; what has no counterpart is told in a comment, with the
//! reason and what to do; what they do not say is left open as `<…>`, which no
//! verb takes for a value.

mod addresses;
mod ctdb;
mod files;
mod notes;
mod settings;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use self::addresses::Hosts;
use self::ctdb::Ctdb;
use self::files::Kind;
use self::notes::Notes;
use super::check::fenced;
use super::convert::tables;
use super::draft::{Draft, Form, Place, Section, Value};
use super::keys::{self, Key, Table};
use super::places::Found;
use super::remarks::{Remarks, one_line};
use super::{ConfigError, ConfigErrors};

/// Where the old configuration is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// In these files.
    Files(Vec<PathBuf>),
    /// In files of the usual names, in this directory, or below it as they are
    /// below `/`.
    Directory(PathBuf),
}

/// Reads what is in `origin`, and writes it down as one storhaug.conf. It need
/// not be complete: what is missing is told by whoever loads it.
///
/// # Errors
/// There is nothing, a file cannot be read, or is none that is known here.
pub fn import(origin: &Origin) -> Result<String, ConfigErrors> {
    let files = files::find(origin)?;
    Ok(Import::of(&files, &files::scripts(origin)).text(&files))
}

/// A configuration in the making.
struct Import {
    draft: Draft,
    remarks: Remarks,
    notes: Notes,
    hosts: Hosts,
    /// How many places of its own it has; see [`Import::own`].
    own: usize,
}

impl Import {
    fn of(files: &[(Found, Kind)], scripts: &[PathBuf]) -> Import {
        let of_kind = |wanted: Kind| {
            let files = files.iter().filter(move |(_, kind)| *kind == wanted);
            files.map(|(file, _)| file)
        };
        let mut notes = Notes::default();
        let hosts = Hosts::of(of_kind(Kind::Hosts));
        let all = settings::read(of_kind(Kind::Settings), &mut notes);
        let named = files
            .first()
            .map_or_else(|| Arc::from(Path::new("")), |(file, _)| file.path.clone());
        let mut import = Import {
            draft: Draft::new(Form::Toml, &named),
            remarks: Remarks::default(),
            notes,
            hosts,
            own: 0,
        };
        let (ours, ctdbs): (Vec<_>, Vec<_>) = all
            .into_iter()
            .partition(|setting| !ctdb::is_key(&setting.key));
        if !ours.is_empty() {
            let with_ours = of_kind(Kind::Settings)
                .filter(|file| ours.iter().any(|setting| setting.place.file == file.path));
            import.remarks = Remarks::of(with_ours);
            import.settings(ours);
        }
        let mut ctdb = Ctdb::read(
            of_kind(Kind::Nodes),
            of_kind(Kind::PublicAddresses),
            of_kind(Kind::CtdbConf),
            ctdbs,
            &mut import.notes,
        );
        if !ctdb.is_empty() {
            scripts
                .iter()
                .for_each(|path| ctdb.read_script(path, &mut import.notes));
            import.ctdb(ctdb);
        }
        import.complete();
        import
    }

    /// A place for what no file says, with a comment.
    fn own(&mut self, remark: &str) -> Place {
        self.own += 1;
        let place = Place::new(&Arc::from(Path::new("storhaug import")), self.own);
        for line in notes::wrapped("# ", "# ", remark) {
            self.remarks.add(&place, &line);
        }
        place
    }

    /// Sets `key`, which is in a table of its own.
    fn set(&mut self, key: &Key, value: Value, place: &Place) {
        let section = self.draft.open(key.table, place);
        section.set(key, value, place.clone());
    }

    fn has(&self, key: &Key) -> bool {
        let section = self.draft.table(key.table);
        section.is_some_and(|section| section.has(key))
    }

    /// The address of the member `name`.
    fn set_address(&mut self, name: &str, address: &str, place: &Place) {
        let named = |node: &&mut Section| {
            let own = node.text(&keys::NODE_NAME);
            own.is_some_and(|own| own.value == name)
        };
        let address = Value::Text(address.to_owned());
        match self.draft.nodes.iter_mut().find(named) {
            Some(node) => node.set(&keys::NODE_ADDRESS, address, place.clone()),
            None => {
                let mut node = Section::new(place.clone());
                node.set(
                    &keys::NODE_NAME,
                    Value::Text(name.to_owned()),
                    place.clone(),
                );
                node.set(&keys::NODE_ADDRESS, address, place.clone());
                self.draft.add(Table::Node, node);
            }
        }
    }

    /// Fills in what has to be there and may be chosen freely.
    fn complete(&mut self) {
        if !self.has(&keys::CLUSTER_NAME) {
            let place = self.own("No file names the cluster. Any name will do.");
            self.set(&keys::CLUSTER_NAME, Value::Text("storhaug".into()), &place);
        }
    }

    /// The whole file.
    fn text(mut self, files: &[(Found, Kind)]) -> String {
        let mut text = String::from("# Written by `storhaug import`, from\n");
        for (file, _) in files {
            text += &format!("#   {}\n", one_line(&file.path.display().to_string()));
        }
        text += "# Nothing of that was executed or changed. What stands in <> is still to be\n\
                 # filled in; what was not taken over is told at the end. What is missing, and\n\
                 # what would be done, is shown by `storhaug --config FILE plan`.\n\n";
        text += &tables::write(&self.draft, &mut self.remarks);
        if self.draft.table(Table::Fencing).is_none() {
            text += "\n# A node that stops answering has to be switched off before another takes\n\
                     # over its work. How is what no earlier file could say. For servers with IPMI\n\
                     # boards, with their addresses filled in and the # taken away:\n#\n";
            let nodes = self.draft.table(Table::Cluster);
            let nodes = nodes.and_then(|cluster| cluster.list(&keys::CLUSTER_NODES));
            let names = nodes
                .unwrap_or_default()
                .iter()
                .map(|node| node.value.as_str());
            for line in fenced(Form::Toml, names).lines() {
                text += &format!("# {line}\n");
            }
        }
        text += &self.notes.text();
        text + &self.remarks.rest()
    }
}

/// What is left to be filled in.
fn open(what: &str) -> String {
    format!("<{what}>")
}

/// The files of `origin`, or that there is none.
fn nothing(origin: &Path, known: &[&str]) -> ConfigErrors {
    ConfigError::whole(
        origin,
        "nothing to import",
        format!("name a directory that has one of {}", known.join(", ")),
    )
    .into()
}
