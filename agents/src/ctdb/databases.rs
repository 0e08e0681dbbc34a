//! CTDB's persistent databases, before CTDB opens them: passwords, group
//! mappings and the registry live there, so a damaged file is worth a stop.
//!
//! What is looked at is the header that every TDB file begins with (Samba,
//! `lib/tdb/common/tdb_private.h`), and, where `tdbtool` is installed, what it
//! says of the rest.

use std::{
    fs::{self, File},
    io::{ErrorKind, Read},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};

use crate::{exec::Cmd, ocf::Ctx};

/// Where CTDB keeps them, unless `ctdb.conf` says otherwise.
pub const DIRECTORY: &str = "/var/lib/ctdb/persistent";

/// `TDB_MAGIC_FOOD`, which fills the first 32 bytes with zeros behind it.
const FOOD: &[u8] = b"TDB file\n\0";

/// `TDB_VERSION`.
const VERSION: u32 = 0x2601_1967 + 6;

/// The size of `struct tdb_header`.
const HEADER: usize = 168;

/// Checks every persistent database of this node.
///
/// # Errors
/// One is damaged, or cannot be read. The error says what to do.
pub fn check(ctx: &Ctx, directory: &Path) -> anyhow::Result<()> {
    for file in files(&ctx.path(directory))? {
        let damage = match damage(&file)? {
            None => by_tool(ctx, &file)?,
            damage => damage,
        };
        if let Some(damage) = damage {
            let file = file.display();
            bail!(
                "the database {file} is damaged: {damage}; move it away where another node has \
                 a good copy, which CTDB then takes, or restore it with `ctdb restoredb`"
            );
        }
    }
    Ok(())
}

/// The databases in a directory: `NAME.tdb.PNN`.
fn files(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let reading = || format!("reading {}", directory.display());
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(reading)?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.with_context(reading)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if let Some((_, pnn)) = name.rsplit_once(".tdb.")
            && pnn.parse::<u32>().is_ok()
        {
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
    fn only_databases_are_looked_at() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["a.tdb.0", "b.tdb.11", "c.tdb", "d.tdb.0.corrupt", "e.tdb.x"] {
            fs::write(directory.path().join(name), "").unwrap();
        }
        let found = files(directory.path()).unwrap();
        let names: Vec<_> = found.iter().filter_map(|f| f.file_name()).collect();
        assert_eq!(names, ["a.tdb.0", "b.tdb.11"]);
        assert_eq!(files(Path::new("/no/such")).unwrap(), Vec::<PathBuf>::new());
    }
}
