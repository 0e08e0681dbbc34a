//! storhaug.conf(5), from the table of keys that the readers go by.

use roff::{bold, roman};
use storhaug::config::keys::{self, Key, SLIDES_ALONE, Table};

use crate::page::{Page, sentence};

const EXAMPLE: &str = include_str!("../../conf/storhaug.conf");
const SLIDES_EXAMPLE: &str = include_str!("../../conf/storhaug-slides.conf");

/// The page.
pub fn page() -> Page {
    let mut page = Page::new("storhaug.conf", 5, "the configuration of storhaug(8)");
    page.section("DESCRIPTION").text(
        "One file says what the cluster is: its nodes, its virtual addresses, what they serve, \
         and how a lost node is switched off. `storhaug plan` shows what it would change, \
         `storhaug setup` does it.\n\n\
         It is `/etc/storhaug/storhaug.conf` and `/etc/storhaug/storhaug.d/*.conf`, the latter in \
         the order of their names: a later file's keys win, its nodes and addresses are added. \
         `/etc/sysconfig/storhaug.conf` and `/etc/sysconfig/storhaug.d/*.conf`, of earlier \
         versions, are read as well, as long as only one of the two places says something. A \
         key that is not known is an error.\n\n\
         A file is in one of two forms: TOML, or lines of `KEY=\"value\"`, the form that the \
         slides on storhaug and earlier versions have, of which nothing is executed or expanded. \
         Each key below is that of TOML, and the slides' form is said with it.",
    );
    page.section("KEYS");
    for table in Table::ALL {
        page.subsection(&table.header());
        page.text(table.meaning());
        for key in keys::keys_of(table) {
            describe(&mut page, key);
        }
    }
    page.section("FURTHER KEYS OF THE SLIDES' FORM");
    for (name, fate) in SLIDES_ALONE {
        page.item(vec![bold(*name)], &[capital(&sentence(fate))]);
    }
    page.section("EXAMPLES")
        .text("In TOML:")
        .verbatim(EXAMPLE)
        .text("The same cluster in the slides' form:")
        .verbatim(SLIDES_EXAMPLE);
    page.section("FILES").item(
        vec![bold("/usr/share/doc/storhaug/examples/")],
        &["The examples.".into()],
    );
    page.section("SEE ALSO").text("storhaug(8)");
    page
}

fn describe(page: &mut Page, key: &Key) {
    let kind = key.kind.in_reference().replace('`', "");
    let mut further = capital(&match key.default {
        "needed" => sentence("needed"),
        default => sentence(&format!("default: {default}")),
    });
    if !key.slides.is_empty() {
        let slides = format!("`{}`", key.slides.join("`, `"));
        further += &format!(" In the slides' form: {slides}.");
    }
    page.item(
        vec![bold(key.name), roman(format!(" = {kind}"))],
        &[key.meaning.to_owned(), further],
    );
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_ascii_uppercase());
    first.into_iter().chain(letters).collect()
}
