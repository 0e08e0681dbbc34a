//! storhaug(8), from the command line's own description.

use clap::{Arg, ArgAction, Command};
use roff::{Inline, bold, italic, roman};

use crate::page::{Page, sentence};

/// What stands above the examples of a verb.
const EXAMPLES: &str = "Examples:\n";

/// The page.
pub fn page() -> Page {
    let command = storhaug::cli::command();
    let about = command.get_about().map(ToString::to_string);
    let mut page = Page::new("storhaug", 8, &lowered(&about.unwrap_or_default()));
    page.section("SYNOPSIS").line(vec![
        bold("storhaug"),
        roman(" ["),
        bold("--config"),
        roman(" "),
        italic("FILE"),
        roman("] ["),
        bold("--verbose"),
        roman("] "),
        italic("VERB"),
        roman(" ..."),
    ]);
    page.section("DESCRIPTION").text(&described(&command));
    page.section("OPTIONS");
    for option in command.get_arguments() {
        argument(&mut page, option);
    }
    page.section("VERBS");
    verbs(&mut page, &command, "");
    page.section("EXIT STATUS");
    for (code, meaning) in storhaug::cli::exits() {
        page.item(vec![bold(code.to_string())], &[sentence(meaning)]);
    }
    page.section("ENVIRONMENT").item(
        vec![bold("NO_COLOR")],
        &["Set, and not empty: progress is written without colour.".into()],
    );
    page.section("FILES");
    page.item(
        vec![bold("/etc/storhaug/storhaug.conf")],
        &["The configuration; see storhaug.conf(5).".into()],
    );
    page.item(
        vec![bold("/usr/share/doc/storhaug/examples/")],
        &["Configurations to begin with, of storhaug and of Samba.".into()],
    );
    page.section("SEE ALSO").text(
        "storhaug.conf(5), ocf_storhaug_vip(7) and the pages of the other agents, pcs(8), \
         crm_mon(8), corosync.conf(5)",
    );
    page
}

/// The verbs of a command, and theirs.
fn verbs(page: &mut Page, command: &Command, before: &str) {
    for verb in command.get_subcommands() {
        let name = format!("{before}{}", verb.get_name());
        if verb.has_subcommands() {
            verbs(page, verb, &format!("{name} "));
            continue;
        }
        page.subsection(&name);
        page.line(synopsis(&name, verb));
        page.text(&described(verb));
        let aliases: Vec<&str> = verb.get_visible_aliases().collect();
        if !aliases.is_empty() {
            page.text(&format!("Also called `{}`.", aliases.join("`, `")));
        }
        for one in verb.get_arguments() {
            argument(page, one);
        }
        let examples = verb.get_after_help().map(ToString::to_string);
        let examples = examples.unwrap_or_default();
        if let Some(examples) = examples.strip_prefix(EXAMPLES) {
            let lines = examples.lines().map(|line| line.trim_start().to_owned());
            page.verbatim(&lines.collect::<Vec<_>>().join("\n"));
        }
    }
}

fn described(command: &Command) -> String {
    let about = command.get_long_about().or(command.get_about());
    let about = about.map(ToString::to_string).unwrap_or_default();
    sentence(&about)
}

/// What is typed: options before what has no name.
fn synopsis(name: &str, verb: &Command) -> Vec<Inline> {
    let mut words = vec![bold(format!("storhaug {name}"))];
    let (named, placed): (Vec<&Arg>, Vec<&Arg>) =
        verb.get_arguments().partition(|arg| !arg.is_positional());
    for arg in named.into_iter().chain(placed) {
        let (open, close) = match arg.is_required_set() {
            true => (" ", ""),
            false => (" [", "]"),
        };
        words.push(roman(open));
        words.extend(arg.get_long().map(|long| bold(format!("--{long}"))));
        if arg.get_action().takes_values() {
            words.extend((!arg.is_positional()).then(|| roman(" ")));
            words.push(italic(value(arg)));
        }
        words.push(roman(close));
        if matches!(arg.get_action(), ArgAction::Append) {
            words.push(roman("..."));
        }
    }
    words
}

fn argument(page: &mut Page, arg: &Arg) {
    let mut term = Vec::new();
    if let Some(short) = arg.get_short() {
        term.extend([bold(format!("-{short}")), roman(", ")]);
    }
    term.extend(arg.get_long().map(|long| bold(format!("--{long}"))));
    if arg.get_action().takes_values() {
        term.extend((!arg.is_positional()).then(|| roman(" ")));
        term.push(italic(value(arg)));
    }
    let help = arg.get_long_help().or(arg.get_help());
    let help = help.map(ToString::to_string).unwrap_or_default();
    let mut said: Vec<String> = sentence(&help).split("\n\n").map(Into::into).collect();
    let possible = arg.get_possible_values();
    let possible: Vec<&str> = possible.iter().map(|value| value.get_name()).collect();
    if arg.get_action().takes_values() && !possible.is_empty() {
        let default = arg.get_default_values().first();
        let default = default.map(|default| format!("; default: `{}`", default.display()));
        let possible = format!("`{}`", possible.join("`, `"));
        said.push(format!("One of {possible}{}.", default.unwrap_or_default()));
    }
    page.item(term, &said);
}

/// What stands for the value.
fn value(arg: &Arg) -> String {
    match arg.get_value_names() {
        Some([name, ..]) => name.to_string(),
        _ => arg.get_id().as_str().to_uppercase(),
    }
}

/// As `apropos` shows it: no sentence of its own.
fn lowered(text: &str) -> String {
    let mut letters = text.trim_end_matches('.').chars();
    let first = letters.next().map(|first| first.to_ascii_lowercase());
    first.into_iter().chain(letters).collect()
}
