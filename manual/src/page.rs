//! A manual page, in the macros of man(7).

use roff::{Inline, Roff, bold, roman};

/// A page that is being written.
pub struct Page {
    name: String,
    section: u8,
    roff: Roff,
    /// Nothing stands under the last heading yet, which begins a paragraph too.
    begun: bool,
}

impl Page {
    /// A page with its heading, and the line that `apropos` reads.
    pub fn new(name: &str, section: u8, what: &str) -> Self {
        let mut roff = Roff::new();
        // Without a date: the version says what it is of, and the same source has
        // to become the same page.
        let version = concat!("storhaug ", env!("CARGO_PKG_VERSION"));
        let (title, number) = (escaped(&name.to_uppercase()), section.to_string());
        roff.control("TH", [&title, &number, NONE, version, NONE]);
        // Names of files and resources are not hyphenated, nor lines stretched.
        roff.control("nh", []).control("ad", ["l"]);
        let mut page = Self {
            name: name.to_owned(),
            section,
            roff,
            begun: false,
        };
        page.section("NAME");
        page.roff.text([roman(format!("{name} - {what}"))]);
        page
    }

    /// The file that `man` looks for.
    pub fn file_name(&self) -> String {
        format!("{}.{}", self.name, self.section)
    }

    /// What is in it.
    pub fn render(&self) -> String {
        self.roff.render()
    }

    /// Begins a section.
    pub fn section(&mut self, title: &str) -> &mut Self {
        self.roff.control("SH", [escaped(title).as_str()]);
        self.begun = true;
        self
    }

    /// Begins a part of a section.
    pub fn subsection(&mut self, title: &str) -> &mut Self {
        self.roff.control("SS", [escaped(title).as_str()]);
        self.begun = true;
        self
    }

    /// A paragraph, or several with empty lines between them; `code` in
    /// backticks becomes bold.
    pub fn text(&mut self, text: &str) -> &mut Self {
        for paragraph in text.split("\n\n") {
            self.paragraph();
            self.roff.text(inlines(paragraph));
        }
        self
    }

    /// A line of bold and other words.
    pub fn line(&mut self, words: Vec<Inline>) -> &mut Self {
        self.paragraph();
        self.roff.text(words);
        self
    }

    /// A term and what is to be said of it, one paragraph each.
    pub fn item(&mut self, term: Vec<Inline>, said: &[String]) -> &mut Self {
        self.begun = false;
        self.roff.control("TP", []);
        self.roff.text(term);
        for (place, paragraph) in said.iter().enumerate() {
            if place > 0 {
                self.roff.control("IP", []);
            }
            self.roff.text(inlines(paragraph));
        }
        self
    }

    /// Lines as they are typed.
    pub fn verbatim(&mut self, text: &str) -> &mut Self {
        self.paragraph();
        self.roff.control("RS", ["4"]);
        self.roff.control("EX", []);
        for line in text.lines() {
            self.roff.text([roman(line)]);
        }
        self.roff.control("EE", []);
        self.roff.control("RE", []);
        self
    }
}

impl Page {
    fn paragraph(&mut self) {
        if !std::mem::take(&mut self.begun) {
            self.roff.control("PP", []);
        }
    }
}

/// An argument of a macro that is empty.
const NONE: &str = "\"\"";

/// An argument of a macro: its hyphens can be searched for and copied.
fn escaped(argument: &str) -> String {
    argument.replace('\\', r"\e").replace('-', r"\-")
}

/// A text of one paragraph, in which `code` becomes bold.
fn inlines(text: &str) -> Vec<Inline> {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let parts = text.split('`').enumerate();
    let parts = parts.filter(|(_, part)| !part.is_empty());
    let parts = parts.map(|(place, part)| match place % 2 {
        0 => roman(part),
        _ => bold(part),
    });
    parts.collect()
}

/// A sentence: with a full stop, where it has no end.
pub fn sentence(text: &str) -> String {
    if text.ends_with(['.', '!', '?', ':']) {
        text.to_owned()
    } else {
        format!("{text}.")
    }
}
