//! storhaug.conf, in either of its two forms, becomes one [`Cluster`], or a
//! list of everything that is wrong with it.
//!
//! The TOML form and the slides' form (lines of `KEY="value"`) are read into
//! the same draft, by one table of keys; what the draft means is decided in
//! one place.

mod canonical;
mod check;
mod convert;
mod draft;
pub mod edit;
mod error;
pub mod import;
pub mod keys;
mod names;
mod places;
mod printer;
mod remarks;
mod secret;
mod slides;
mod tables;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ipnetwork::IpNetwork;

use crate::cluster::{Cluster, Vip};
pub use canonical::{canonical, fingerprint};
pub use convert::{To, convert};
use draft::{Draft, Form, Place};
pub use error::{ConfigError, ConfigErrors};
pub use keys::reference;
pub(crate) use names::is_secret_file;
pub use secret::Secret;

/// Where to look for the configuration.
#[derive(Clone, Debug)]
pub enum Places {
    /// The usual places under this root (`/`, but for tests):
    /// `etc/storhaug/storhaug.conf` and `etc/storhaug/storhaug.d/*.conf`, or
    /// the same names under `etc/sysconfig`, where earlier versions had them.
    /// Settings in both are an error.
    System(PathBuf),
    /// This file and nothing else (`--config`).
    File(PathBuf),
}

impl Places {
    /// Whether there is no file at all where files would be looked for.
    pub fn are_empty(&self) -> bool {
        match self {
            Places::System(root) => places::none(root),
            Places::File(_) => false,
        }
    }
}

/// A configuration that was read.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What it asks for.
    pub cluster: Cluster,
    /// The files it was read from, in the order they were read.
    pub source: Vec<PathBuf>,
    /// [`fingerprint`] of the cluster.
    pub fingerprint: String,
    /// The password, where the slides' form carried it (`HA_PASSWORD`).
    inline: Option<Secret>,
    /// Where things stand that only the host can prove wrong.
    lines: Lines,
}

/// The lines of what is checked against the host.
#[derive(Clone, Debug)]
struct Lines {
    form: Form,
    name: Place,
    password_file: Place,
    /// In the order of the cluster's addresses.
    vips: Vec<Place>,
}

impl Loaded {
    /// The password of the user `hacluster`: from the configuration itself,
    /// or from `password_file`, which must be a regular file that nobody but
    /// its owner can read. Only `setup` needs it.
    pub fn password(&self) -> Result<Secret, ConfigErrors> {
        if let Some(secret) = &self.inline {
            return Ok(secret.clone());
        }
        secret::from_file(&self.cluster.password_file).map_err(|(problem, remedy)| {
            ConfigErrors::from(self.lines.password_file.error(problem, remedy))
        })
    }

    /// What is wrong with the password file where no password is needed, because
    /// the cluster is there: it may be gone, but nobody else may read it.
    pub fn check_password(&self) -> Result<(), ConfigErrors> {
        let file = self.cluster.password_file.symlink_metadata();
        if self.inline.is_none()
            && matches!(file, Err(error) if error.kind() == ErrorKind::NotFound)
        {
            return Ok(());
        }
        self.password().map(drop)
    }

    /// Whether every address without a `nic` is in one of `networks`, those
    /// of the interfaces of this node. That of a virtual address which is here
    /// now says nothing.
    pub fn check_networks(&self, networks: &[IpNetwork]) -> Result<(), ConfigErrors> {
        let virtual_one = |ip| self.cluster.vips.iter().any(|vip| vip.address == ip);
        let networks: Vec<&IpNetwork> = networks
            .iter()
            .filter(|network| !virtual_one(network.ip()))
            .collect();
        let listed: Vec<String> = networks
            .iter()
            .map(|network| format!("{}/{}", network.network(), network.prefix()))
            .collect();
        let inside = |vip: &Vip| networks.iter().any(|network| network.contains(vip.address));
        let errors = self
            .cluster
            .vips
            .iter()
            .zip(&self.lines.vips)
            .filter(|(vip, _)| vip.nic.is_none() && !inside(vip))
            .map(|(vip, place)| {
                place.error(
                    format!(
                        "the virtual address {} is in no network of this node ({})",
                        vip.address,
                        listed.join(", ")
                    ),
                    match self.lines.form {
                        Form::Toml => {
                            "write an address that is, or name the interface: nic = \"eth0\""
                        }
                        Form::Slides => {
                            "write an address that is, or use the TOML form and name the \
                             interface: nic = \"eth0\""
                        }
                    },
                )
            })
            .collect();
        ConfigErrors::unless_empty(errors)
    }

    /// Whether a cluster called `existing`, which this host is already in, is
    /// the one that is meant.
    pub fn check_name(&self, existing: &str) -> Result<(), ConfigErrors> {
        if self.cluster.name == existing {
            return Ok(());
        }
        Err(ConfigErrors::from(self.lines.name.error(
            format!(
                "the cluster is called `{}` here, but this host is in the cluster `{existing}`",
                self.cluster.name
            ),
            format!(
                "write `{existing}` if that cluster is meant; else leave it first, with \
                 `pcs cluster destroy` on this host"
            ),
        )))
    }
}

/// Reads and checks the configuration found in `places`.
pub fn load(places: &Places) -> Result<Loaded, ConfigErrors> {
    read(&places::find(places).map_err(ConfigErrors::all)?)
}

/// Reads and checks the configuration in `files`.
fn read(files: &[places::Found]) -> Result<Loaded, ConfigErrors> {
    let mut errors = Vec::new();
    let Some(draft) = draft_of(files, &mut errors) else {
        return Err(ConfigErrors::all(errors));
    };
    let cluster = finish(&draft, errors)?;
    let file = Place::whole(&draft.file);
    let line = |key: &keys::Key| {
        draft
            .table(key.table)
            .map_or_else(|| file.clone(), |table| table.place_of(key).clone())
    };
    Ok(Loaded {
        source: files.iter().map(|file| file.path.to_path_buf()).collect(),
        fingerprint: fingerprint(&cluster),
        lines: Lines {
            form: draft.form,
            name: line(&keys::CLUSTER_NAME),
            password_file: line(&keys::PASSWORD_FILE),
            vips: draft
                .vips
                .iter()
                .map(|vip| vip.place_of(&keys::VIP_ADDRESS).clone())
                .collect(),
        },
        inline: draft.password,
        cluster,
    })
}

/// Reads the TOML form from `text`; `name` stands for the file in errors.
/// This is also how the copy kept in the CIB is read back.
pub fn from_toml(name: &Path, text: &str) -> Result<Cluster, ConfigErrors> {
    let mut errors = Vec::new();
    let draft = tables::read(&Arc::from(name), text, &mut errors);
    finish(&draft, errors)
}

/// One draft of all files, which are all in the same form.
fn draft_of(files: &[places::Found], errors: &mut Vec<ConfigError>) -> Option<Draft> {
    let first = files.first()?;
    let form = first.form()?;
    if let Some(other) = files.iter().find(|file| file.form() != Some(form)) {
        errors.push(ConfigError::whole(
            &other.path,
            format!("it is not in the form {} is in", first.path.display()),
            "write all files in the TOML form, or all as KEY=\"value\"",
        ));
        return None;
    }
    match form {
        Form::Slides => {
            let files: Vec<slides::File<'_>> = files
                .iter()
                .map(|file| slides::File {
                    path: &file.path,
                    text: &file.text,
                    private: file.private,
                })
                .collect();
            slides::read(&files, errors)
        }
        Form::Toml => {
            let mut draft = tables::read(&first.path, &first.text, errors);
            for file in &files[1..] {
                draft.overlay(tables::read(&file.path, &file.text, errors));
            }
            Some(draft)
        }
    }
}

/// Checks what was read.
fn finish(draft: &Draft, mut errors: Vec<ConfigError>) -> Result<Cluster, ConfigErrors> {
    let cluster = check::check(draft, &mut errors);
    ConfigErrors::unless_empty(errors)?;
    Ok(cluster)
}
