//! What was written around the settings: comments, by the line that they stand
//! above or beside.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::draft::Place;
use super::places::Found;

/// What stands above comments that have lost what they were about.
const LOST: &str = "# Comments on what is not here any more:";

/// The comments of a line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Remark {
    /// Lines above it, each with its `#`, or empty.
    pub(super) above: Vec<String>,
    /// What stands behind it, with its `#`.
    pub(super) beside: Option<String>,
}

impl Remark {
    fn is_empty(&self) -> bool {
        self.above.is_empty() && self.beside.is_none()
    }
}

/// The comments of some files, until each has found its new place.
#[derive(Debug, Default)]
pub(super) struct Remarks {
    /// What stands at the top, above a blank line.
    head: Vec<String>,
    lines: BTreeMap<(Arc<Path>, usize), Remark>,
    /// What stands below the last setting.
    tail: Vec<String>,
}

impl Remarks {
    /// The comments of `files`.
    pub(super) fn of<'a>(files: impl Iterator<Item = &'a Found>) -> Remarks {
        let mut remarks = Remarks::default();
        for (index, file) in files.enumerate() {
            remarks.read(file, index == 0);
        }
        remarks
    }

    fn read(&mut self, file: &Found, first: bool) {
        let mut above: Vec<String> = Vec::new();
        let mut top = first;
        for (index, line) in file.text.lines().enumerate() {
            let line = line.trim();
            if line == LOST {
                // It is written again, if need be.
            } else if line.starts_with('#') {
                above.push(masked(line));
            } else if line.is_empty() {
                if top && !above.is_empty() {
                    self.head = std::mem::take(&mut above);
                    top = false;
                } else if above.last().is_some_and(|last| !last.is_empty()) {
                    above.push(String::new());
                }
            } else {
                top = false;
                let remark = Remark {
                    above: trimmed(std::mem::take(&mut above)),
                    beside: beside(line).map(masked),
                };
                if !remark.is_empty() {
                    self.lines
                        .insert((Arc::clone(&file.path), index + 1), remark);
                }
            }
        }
        self.tail.extend(trimmed(above));
    }

    /// Adds a line above `place`, after those that are there.
    pub(super) fn add(&mut self, place: &Place, line: &str) {
        let remark = self.lines.entry(key(place)).or_default();
        remark.above.push(line.to_owned());
    }

    /// What stands at the top.
    pub(super) fn head(&mut self) -> Vec<String> {
        std::mem::take(&mut self.head)
    }

    /// The comments of `place`, the first time it is asked.
    pub(super) fn take(&mut self, place: &Place) -> Remark {
        self.lines.remove(&key(place)).unwrap_or_default()
    }

    /// What nobody took, in the order of the files and their lines, as the end
    /// of a file.
    pub(super) fn rest(self) -> String {
        let left = self.lines.into_values();
        let left = left.flat_map(|remark| remark.above.into_iter().chain(remark.beside));
        let mut text = String::new();
        for line in left.chain(self.tail) {
            if text.is_empty() {
                text = format!("\n{LOST}\n#\n");
            }
            text.push_str(&line);
            text.push('\n');
        }
        text
    }
}

fn key(place: &Place) -> (Arc<Path>, usize) {
    (Arc::clone(&place.file), place.line.unwrap_or(0))
}

/// `lines` without blank ones at the beginning and the end.
fn trimmed(mut lines: Vec<String>) -> Vec<String> {
    let says_something = |line: &String| !line.trim_start_matches('#').trim().is_empty();
    lines.truncate(
        lines
            .iter()
            .rposition(says_something)
            .map_or(0, |last| last + 1),
    );
    let first = lines.iter().position(says_something).unwrap_or(0);
    lines.split_off(first)
}

/// The comment at the end of a line, in either form: a `#` behind white space
/// and outside of quotation marks.
fn beside(line: &str) -> Option<&str> {
    let mut quote = None;
    let mut before = ' ';
    for (at, c) in line.char_indices() {
        match (quote, c) {
            (None, '"' | '\'') => quote = Some(c),
            (None, '#') if before.is_whitespace() => return Some(&line[at..]),
            (Some(open), _) if c == open && before != '\\' => quote = None,
            _ => {}
        }
        before = c;
    }
    None
}

/// `text` with nothing in it that would end a line, or that a comment may not
/// have.
pub(super) fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// A comment without the password that a setting in it may have.
fn masked(comment: &str) -> String {
    let lower = comment.to_ascii_lowercase();
    let mut signs = comment.match_indices(['=', ':']);
    let of_secret = |(at, _): &(usize, &str)| {
        let word = lower[..*at].trim_end_matches([' ', '\t', '"', '\'']);
        let word = word.rsplit(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        let word = word.into_iter().next().unwrap_or_default();
        ["passw", "secret"]
            .iter()
            .any(|secret| word.contains(secret))
    };
    match signs.find(of_secret) {
        Some((at, sign)) => one_line(&comment[..at + sign.len()]) + "…",
        None => one_line(comment),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_behind_a_value_is_told_from_the_value() {
        for (line, comment) in [
            ("HA_NAME=\"a\" # ours", Some("# ours")),
            ("HA_NAME=\"a # b\"", None),
            ("name = 'a' #", Some("#")),
            ("HA_NAME=a#b", None),
            (r##"name = "a\" # b" # c"##, Some("# c")),
        ] {
            assert_eq!(beside(line), comment, "{line}");
        }
    }

    #[test]
    fn a_password_in_a_comment_is_not_passed_on() {
        for (comment, told) in [
            ("# HA_PASSWORD=\"sesame\"", "# HA_PASSWORD=…"),
            ("#HA_X=\"ip=1 passwd=calvin\"", "#HA_X=\"ip=1 passwd=…"),
            ("# Passwort: sesame", "# Passwort:…"),
            ("# 'secret' = \"sesame\"", "# 'secret' =…"),
        ] {
            assert_eq!(masked(comment), told);
        }
        assert_eq!(masked("# Password of hacluster"), "# Password of hacluster");
    }
}
