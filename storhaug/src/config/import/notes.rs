//! What was not taken over: where it stands, and why.

use super::super::draft::Place;
use super::super::error::shown;
use super::super::remarks::one_line;

/// Columns of a comment.
const WIDTH: usize = 78;

/// One thing that was not taken over.
#[derive(Debug)]
struct Note {
    place: Place,
    what: String,
    why: String,
}

/// Everything that was not taken over.
#[derive(Debug, Default)]
pub(super) struct Notes(Vec<Note>);

impl Notes {
    /// `what` stands at `place` and was not taken over; `why` says the reason
    /// and what to do.
    pub(super) fn add(&mut self, place: &Place, what: &str, why: impl Into<String>) {
        self.0.push(Note {
            place: place.clone(),
            what: one_line(&shown(what)),
            why: one_line(&why.into()),
        });
    }

    /// The notes as comments, file by file.
    pub(super) fn text(&mut self) -> String {
        self.0
            .sort_by(|a, b| (&a.place.file, a.place.line).cmp(&(&b.place.file, b.place.line)));
        let mut text = String::new();
        let mut file = None;
        for note in &self.0 {
            if file != Some(&note.place.file) {
                let path = one_line(&note.place.file.display().to_string());
                text += &format!("\n# Not taken over from {path}:\n");
                file = Some(&note.place.file);
            }
            let line = note
                .place
                .line
                .map_or(String::new(), |line| format!("line {line}: "));
            text += &format!("#\n#   {line}{}\n", note.what);
            for line in wrapped("#     ", "#     ", &note.why) {
                text += &format!("{line}\n");
            }
        }
        text
    }
}

/// `text` in lines, the first of which begins with `first` and the others with
/// `more`.
pub(super) fn wrapped(first: &str, more: &str, text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = first.to_owned();
    let mut empty = true;
    for word in text.split_whitespace() {
        if !empty && line.chars().count() + 1 + word.chars().count() > WIDTH {
            lines.push(std::mem::replace(&mut line, more.to_owned()));
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        line.push_str(word);
        empty = false;
    }
    if !empty {
        lines.push(line);
    }
    lines
}
