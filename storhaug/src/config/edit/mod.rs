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

use anyhow::{Context, bail};
use tempfile::NamedTempFile;

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
    /// A virtual address prefers these nodes, the first one most.
    PreferVip(IpAddr, Vec<String>),
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

    /// The files, in the order in which they count.
    pub(super) fn files(&self) -> &[Found] {
        &self.files
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

    /// Writes the files that differ from `before` beside those that are there,
    /// so that whatever may be in the way of it is known before anything else
    /// is done.
    ///
    /// # Errors
    /// One cannot be written.
    pub fn stage(&self, before: &Sources) -> anyhow::Result<Staged> {
        let pairs = self.files.iter().zip(&before.files);
        let differing = pairs.filter(|(new, old)| self.on_disk && new.text != old.text);
        let files = differing.map(|(new, old)| {
            New::beside(old, &new.text).with_context(|| format!("writing {}", new.path.display()))
        });
        Ok(Staged {
            files: files.collect::<anyhow::Result<_>>()?,
        })
    }
}

/// Files that are written, and not in their places yet. Dropped, they are gone.
#[derive(Debug)]
pub struct Staged {
    files: Vec<New>,
}

impl Staged {
    /// Puts the files in their places, each in one step, so that there is a
    /// whole one at any time. Which they are.
    ///
    /// # Errors
    /// One is no longer what was read, or cannot be replaced.
    pub fn commit(self) -> anyhow::Result<Vec<PathBuf>> {
        for file in &self.files {
            file.check_unchanged()?;
        }
        let files = self.files.into_iter();
        files
            .map(|file| {
                let path = file.path.clone();
                let replaced = file.replace();
                replaced.with_context(|| format!("writing {}", path.display()))?;
                Ok(path)
            })
            .collect()
    }
}

/// A file that takes another's place.
#[derive(Debug)]
struct New {
    /// The other as it was named.
    path: PathBuf,
    /// Where it really is: a link keeps leading to it.
    target: PathBuf,
    /// What is in it.
    text: String,
    file: NamedTempFile,
}

impl New {
    /// A file with this text beside `old`, with its owner and mode.
    fn beside(old: &Found, text: &str) -> anyhow::Result<New> {
        let target = std::fs::canonicalize(&old.path)?;
        let known = std::fs::metadata(&target)?;
        // A name that begins with a dot is not read as a part of the configuration.
        let mut new = tempfile::Builder::new()
            .prefix(".storhaug-")
            .tempfile_in(target.parent().unwrap_or(Path::new("/")))?;
        new.write_all(text.as_bytes())?;
        let file = new.as_file();
        fchown(file, Some(known.uid()), Some(known.gid()))?;
        file.set_permissions(std::fs::Permissions::from_mode(known.mode() & 0o7777))?;
        file.sync_all()?;
        Ok(New {
            path: old.path.to_path_buf(),
            target,
            text: old.text.clone(),
            file: new,
        })
    }

    fn check_unchanged(&self) -> anyhow::Result<()> {
        let now = std::fs::read(&self.target)
            .with_context(|| format!("reading {}", self.path.display()))?;
        if now != self.text.as_bytes() {
            bail!(
                "{path} was changed meanwhile, and is left as it is, while the cluster has the \
                 change; make it in {path} too, until `storhaug plan` shows no difference",
                path = self.path.display()
            );
        }
        Ok(())
    }

    fn replace(self) -> anyhow::Result<()> {
        self.file.persist(&self.target)?;
        let directory = self.target.parent().unwrap_or(Path::new("/"));
        File::open(directory)?.sync_all()?;
        Ok(())
    }
}
