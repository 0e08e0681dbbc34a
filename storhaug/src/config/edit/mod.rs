//! Changes of the configuration that a verb makes for its user: in the files
//! themselves, with their comments and their order kept, in either form.
//!
//! An edit is made on the text, and what it makes of the cluster is known
//! before anything is written.

mod slides;
mod tables;

use std::fs::File;
use std::io::Write;
use std::net::IpAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::draft::Form;
use super::places::{self, Found};
use super::{ConfigErrors, Loaded, Places, canonical, read};
use crate::cluster::Cluster;

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// A node becomes a member; it is not one yet.
    AddNode(NewNode),
    /// A node is no longer a member, and nothing refers to it any more.
    RemoveNode(String),
    /// There is one more virtual address; it is not there yet.
    AddVip(NewVip),
    /// There is one virtual address less.
    RemoveVip(IpAddr),
    /// A virtual address prefers this node to all others.
    PreferVip(IpAddr, String),
}

/// A node to be added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewNode {
    /// Its name.
    pub name: String,
    /// Its address, unless its name tells it.
    pub address: Option<String>,
    /// Whether services and addresses may run on it.
    pub storage: bool,
    /// The options of the device that switches it off.
    pub fencing: Vec<(String, String)>,
}

/// A virtual address to be added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewVip {
    /// The address, alone or with the length of its network's prefix.
    pub address: String,
    /// The name of its resource, unless it follows from the address.
    pub name: Option<String>,
    /// The interface, unless it is found by route.
    pub nic: Option<String>,
    /// The node it prefers, if any.
    pub prefer: Option<String>,
}

/// The configuration as text: files, or the copy that the cluster keeps.
#[derive(Clone, Debug)]
pub struct Sources {
    files: Vec<Found>,
    /// Whether they are files that can be written.
    on_disk: bool,
}

impl Sources {
    /// The files found in `places`.
    ///
    /// # Errors
    /// There are none, or one cannot be read.
    pub fn find(places: &Places) -> Result<Sources, ConfigErrors> {
        let files = places::find(places).map_err(ConfigErrors::all)?;
        let on_disk = true;
        Ok(Sources { files, on_disk })
    }

    /// The configuration that was applied last, for a machine without a file.
    pub fn applied(cluster: &Cluster) -> Sources {
        let copy = Found {
            path: Path::new("the configuration in the CIB").into(),
            text: canonical(cluster),
            private: true,
        };
        Sources {
            files: vec![copy],
            on_disk: false,
        }
    }

    /// What it says.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn load(&self) -> Result<Loaded, ConfigErrors> {
        read(&self.files)
    }

    /// Whether it is in files, and not only in the cluster.
    pub fn on_disk(&self) -> bool {
        self.on_disk
    }

    /// The same with `edits` made; nothing is written.
    ///
    /// # Errors
    /// The form it is in cannot say what is meant.
    pub fn edited(&self, edits: &[Edit]) -> anyhow::Result<Sources> {
        let mut after = self.clone();
        let form = after.files.iter().find_map(Found::form);
        for edit in edits {
            match form {
                Some(Form::Slides) => slides::edit(&mut after.files, edit)?,
                Some(Form::Toml) | None => tables::edit(&mut after.files, edit)?,
            }
        }
        Ok(after)
    }

    /// Writes the files that differ from `before`, each in one step, so that
    /// there is a whole one at any time. Which they are.
    ///
    /// # Errors
    /// One cannot be written.
    pub fn write(&self, before: &Sources) -> anyhow::Result<Vec<PathBuf>> {
        let mut written = Vec::new();
        if !self.on_disk {
            return Ok(written);
        }
        for (file, old) in self.files.iter().zip(&before.files) {
            if file.text != old.text {
                replace(&file.path, &file.text)
                    .with_context(|| format!("writing {}", file.path.display()))?;
                written.push(file.path.to_path_buf());
            }
        }
        Ok(written)
    }
}

/// Puts a file with this text in the place of `path`, which keeps its owner
/// and mode; a link keeps leading to it.
fn replace(path: &Path, text: &str) -> anyhow::Result<()> {
    let path = std::fs::canonicalize(path)?;
    let directory = path.parent().unwrap_or(Path::new("/"));
    let old = std::fs::metadata(&path)?;
    // A name that begins with a dot is not read as a part of the configuration.
    let mut new = tempfile::Builder::new()
        .prefix(".storhaug-")
        .tempfile_in(directory)?;
    new.write_all(text.as_bytes())?;
    let file = new.as_file();
    fchown(file, Some(old.uid()), Some(old.gid()))?;
    file.set_permissions(std::fs::Permissions::from_mode(old.mode() & 0o7777))?;
    file.sync_all()?;
    new.persist(&path)?;
    File::open(directory)?.sync_all()?;
    Ok(())
}
