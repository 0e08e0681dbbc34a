//! CTDB's persistent databases, before CTDB opens them: passwords, group
//! mappings and the registry live there, so a damaged file is worth a stop.
//!
//! What is looked at is the header that every TDB file begins with (Samba,
//! `lib/tdb/common/tdb_private.h`), and, where `tdbtool` is installed, what it
//! says of the rest.

use std::{
    fmt,
    fs::{self, File},
    io::{ErrorKind, Read},
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use anyhow::Context;

use crate::{exec::Cmd, ocf::Ctx};

/// Where CTDB keeps them, unless `ctdb.conf` says otherwise.
pub const DIRECTORY: &str = "/var/lib/ctdb/persistent";

/// `TDB_MAGIC_FOOD`, which fills the first 32 bytes with zeros behind it.
const FOOD: &[u8] = b"TDB file\n\0";

/// `TDB_VERSION`.
const VERSION: u32 = 0x2601_1967 + 6;

/// The size of `struct tdb_header`.
const HEADER: usize = 168;

/// A database that CTDB could not use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damaged {
    file: PathBuf,
    damage: String,
}

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name(), self.damage)
    }
}

impl Damaged {
    /// Which one it is, and that it is damaged.
    pub fn name(&self) -> String {
        format!("the database {} is damaged", self.file.display())
    }

    /// Moves the file out of CTDB's way, to a name that says when, in
    /// seconds since 1970. CTDB does the like with its other databases. Returns
    /// the name.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub fn set_aside(&self) -> anyhow::Result<PathBuf> {
        let since = UNIX_EPOCH.elapsed().unwrap_or_default();
        let suffix = format!(".{}.corrupt", since.as_secs());
        let mut aside = self.file.clone().into_os_string();
        aside.push(suffix);
        let aside = PathBuf::from(aside);
        fs::rename(&self.file, &aside)
            .with_context(|| format!("moving {} away", self.file.display()))?;
        Ok(aside)
    }
}

/// The persistent databases of this node, the one with the number `pnn`, that
/// are damaged.
///
/// # Errors
/// One cannot be read.
pub fn damaged(ctx: &Ctx, directory: &Path, pnn: usize) -> anyhow::Result<Vec<Damaged>> {
    let mut found = Vec::new();
    for file in files(&ctx.path(directory), pnn)? {
        let damage = match damage(&file)? {
            None => by_tool(ctx, &file)?,
            damage => damage,
        };
        found.extend(damage.map(|damage| Damaged { file, damage }));
    }
    Ok(found)
}

/// The databases in a directory: `NAME.tdb.PNN`. Of other nodes there are some
/// where this one has had another number; CTDB leaves them alone.
fn files(directory: &Path, pnn: usize) -> anyhow::Result<Vec<PathBuf>> {
    let reading = || format!("reading {}", directory.display());
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(reading)?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.with_context(reading)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.ends_with(&format!(".tdb.{pnn}")) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn damage(file: &Path) -> anyhow::Result<Option<String>> {
    let mut header = Vec::new();
    File::open(file)
        .and_then(|file| file.take(HEADER as u64).read_to_end(&mut header))
        .with_context(|| format!("reading {}", file.display()))?;
    Ok(header_damage(&header))
}

fn header_damage(header: &[u8]) -> Option<String> {
    // An empty file is a new database to TDB.
    if header.is_empty() {
        return None;
    }
    if header.len() < HEADER {
        return Some(format!("it ends after {} bytes", header.len()));
    }
    if !header.starts_with(FOOD) {
        return Some("it does not begin as a TDB file does".into());
    }
    let version = header[32..36].try_into().map(u32::from_ne_bytes);
    match version {
        Ok(VERSION) => None,
        Ok(other) => Some(format!(
            "it has the version {other:#x} instead of {VERSION:#x}"
        )),
        Err(_) => Some("it has no version".into()),
    }
}

/// What `tdbtool FILE check` says. It exits with 0 in any case; and it is not
/// installed everywhere.
fn by_tool(ctx: &Ctx, file: &Path) -> anyhow::Result<Option<String>> {
    let tool = ["/usr/bin/tdbtool", "/usr/sbin/tdbtool"]
        .into_iter()
        .find(|tool| ctx.path(tool).exists());
    let Some(tool) = tool else {
        return Ok(None);
    };
    let said = ctx.run(&Cmd::new(tool).arg(file).arg("check"))?.checked()?;
    let good = said.contains("Database integrity is OK");
    Ok((!good).then(|| format!("`{tool} {} check` says so", file.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Vec<u8> {
        let mut header = vec![0; HEADER];
        header[..FOOD.len()].copy_from_slice(FOOD);
        header[32..36].copy_from_slice(&VERSION.to_ne_bytes());
        header
    }

    #[test]
    fn headers() {
        assert_eq!(header_damage(&header()), None);
        assert_eq!(header_damage(&[]), None);
        for (place, damage) in [(0, "it does not begin"), (33, "it has the version")] {
            let mut header = header();
            header[place] ^= 0xff;
            let found = header_damage(&header).unwrap();
            assert!(found.starts_with(damage), "{found}");
        }
        let found = header_damage(&header()[..100]).unwrap();
        assert_eq!(found, "it ends after 100 bytes");
    }

    #[test]
    fn only_databases_of_this_node_are_looked_at() {
        let directory = tempfile::tempdir().unwrap();
        for name in [
            "a.tdb.0",
            "b.tdb.10",
            "c.tdb",
            "d.tdb.0.1.corrupt",
            "e.tdb.x",
        ] {
            fs::write(directory.path().join(name), "").unwrap();
        }
        let names = |pnn| {
            let found = files(directory.path(), pnn).unwrap();
            let names = found.iter().filter_map(|file| file.file_name());
            names.map(|name| name.to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(names(0), ["a.tdb.0"]);
        assert_eq!(names(10), ["b.tdb.10"]);
        assert_eq!(
            files(Path::new("/no/such"), 0).unwrap(),
            Vec::<PathBuf>::new()
        );
    }

    #[test]
    fn a_damaged_database_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a.tdb.0");
        fs::write(&file, "garbage").unwrap();
        let damaged = Damaged {
            file: file.clone(),
            damage: "it ends after 7 bytes".into(),
        };
        let aside = damaged.set_aside().unwrap();
        assert!(!file.exists());
        assert_eq!(fs::read(&aside).unwrap(), b"garbage");
        assert_eq!(files(directory.path(), 0).unwrap(), Vec::<PathBuf>::new());
    }
}
