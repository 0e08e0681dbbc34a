//! Which files are read, and in which of the two forms they are.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::draft::Form;
use super::{ConfigError, Places, secret};

/// The longest file that is read, in bytes; a configuration is a few
/// thousand.
const LONGEST: u64 = 1 << 20;

const PLACE: &str = "etc/storhaug";
const OLD_PLACE: &str = "etc/sysconfig";

/// A file that was found and read.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) path: Arc<Path>,
    pub(super) text: String,
    /// Whether nobody but its owner can read it.
    pub(super) private: bool,
}

impl Found {
    /// The first line that says something; `None` if all are blank or
    /// comments.
    fn first(&self) -> Option<&str> {
        self.text
            .lines()
            .map(str::trim)
            .find(|line| !line.is_empty() && !line.starts_with('#'))
    }

    /// Whether all of it is blank or comments.
    pub(super) fn says_nothing(&self) -> bool {
        self.first().is_none()
    }

    /// The form it is in, told by its first line: the slides' form begins
    /// with a key in capitals, the TOML form with a table.
    pub(super) fn form(&self) -> Option<Form> {
        let line = self.first()?;
        let line = line.strip_prefix("export ").unwrap_or(line);
        let word = line.split(['=', ' ', '\t']).next().unwrap_or("");
        let slides = word.starts_with(|c: char| c.is_ascii_uppercase());
        Some(if slides { Form::Slides } else { Form::Toml })
    }
}

/// The files with something in them, in the order they count: a later one
/// wins. There is at least one.
pub(super) fn find(places: &Places) -> Result<Vec<Found>, Vec<ConfigError>> {
    let mut errors = Vec::new();
    let files = match places {
        Places::File(path) => match read(path) {
            Ok(found) => vec![found],
            Err(error) => {
                errors.push(error);
                Vec::new()
            }
        },
        Places::System(root) => one_of_two(root, &mut errors),
    };
    if !errors.is_empty() {
        return Err(errors);
    }
    let (said, empty): (Vec<Found>, Vec<Found>) =
        files.into_iter().partition(|file| file.first().is_some());
    if !said.is_empty() {
        return Ok(said);
    }
    let error = match (empty.first(), places) {
        (Some(file), _) => ConfigError::whole(
            &file.path,
            "the configuration is empty",
            "write one; /usr/share/doc/storhaug/examples/storhaug.conf is a complete example",
        ),
        (None, Places::File(path)) => ConfigError::whole(path, "no such file", "write it"),
        (None, Places::System(root)) => ConfigError::whole(
            &root.join(PLACE).join("storhaug.conf"),
            "there is no configuration",
            "write one; /usr/share/doc/storhaug/examples/storhaug.conf is a complete example",
        ),
    };
    Err(vec![error])
}

/// Whether there is no file in either of the usual places.
pub(super) fn none(root: &Path) -> bool {
    let mut errors = Vec::new();
    let places = [PLACE, OLD_PLACE].map(|place| files_in(&root.join(place), &mut errors));
    errors.is_empty() && places.iter().all(Vec::is_empty)
}

/// The files of the usual place, or of the old one. Both is one too many:
/// which of them is meant only the administrator knows.
fn one_of_two(root: &Path, errors: &mut Vec<ConfigError>) -> Vec<Found> {
    let new = files_in(&root.join(PLACE), errors);
    let old = files_in(&root.join(OLD_PLACE), errors);
    let said = |files: &[Found]| files.iter().position(|file| file.first().is_some());
    match (said(&new), said(&old)) {
        (Some(first), Some(second)) => {
            errors.push(ConfigError::whole(
                &old[second].path,
                format!(
                    "a second configuration beside {}",
                    new[first].path.display()
                ),
                format!(
                    "move what is still meant to {} and remove this one",
                    new[first].path.display()
                ),
            ));
            new
        }
        (None, Some(_)) => old,
        _ => new,
    }
}

/// `storhaug.conf` and `storhaug.d/*.conf` in `directory`, as far as there
/// are any.
fn files_in(directory: &Path, errors: &mut Vec<ConfigError>) -> Vec<Found> {
    let main = directory.join("storhaug.conf");
    let more = directory.join("storhaug.d");
    let mut paths = Vec::new();
    if main.symlink_metadata().is_ok() {
        paths.push(main);
    }
    match drop_ins(&more) {
        Ok(found) => paths.extend(found),
        Err(error) => errors.push(ConfigError::whole(
            &more,
            format!("reading the directory: {error}"),
            "make it a directory that root can read, or remove it",
        )),
    }
    paths
        .iter()
        .filter_map(|path| read(path).map_err(|error| errors.push(error)).ok())
        .collect()
}

/// The files `*.conf` of a directory, in the order of their names.
pub(super) fn drop_ins(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let hidden = path
            .file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden
            && path
                .extension()
                .is_some_and(|extension| extension == "conf")
        {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

pub(super) fn read(path: &Path) -> Result<Found, ConfigError> {
    let unreadable = |error: std::io::Error| {
        ConfigError::whole(
            path,
            format!("reading it: {error}"),
            "make it a file that root can read",
        )
    };
    let mut file = File::open(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => ConfigError::whole(
            path,
            "there is no such file",
            "write it, or name another; /usr/share/doc/storhaug/examples/storhaug.conf is a \
             complete example",
        ),
        _ => unreadable(error),
    })?;
    let private = !secret::readable_by_others(file.metadata().map_err(unreadable)?.mode());
    let mut bytes = Vec::new();
    file.by_ref()
        .take(LONGEST + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() as u64 > LONGEST {
        return Err(ConfigError::whole(
            path,
            format!("it is longer than {LONGEST} bytes"),
            "name a configuration",
        ));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let line = 1 + error.as_bytes()[..valid]
            .iter()
            .filter(|byte| **byte == b'\n')
            .count();
        ConfigError::at(path, line, "it is not UTF-8 here", "write it in UTF-8")
    })?;
    Ok(Found {
        path: Arc::from(path),
        text,
        private,
    })
}
