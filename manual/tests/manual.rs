//! What `storhaug-manual` writes, under the programs that read it: every page is
//! well formed and complete, and every shell completes by it.
#![expect(
    clippy::expect_used,
    reason = "a test fails when what it needs cannot be had"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Command;
use storhaug_agents::deadline::Deadline;
use storhaug_agents::exec::{Cmd, Host, Output, Runner as _};
use tempfile::TempDir;

/// A shell that starts on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

fn run(cmd: &Cmd) -> Output {
    Host.run(cmd, Deadline::after(LIMIT)).expect("running it")
}

/// Everything, in a directory of its own.
fn written() -> TempDir {
    let directory = TempDir::new().expect("a directory");
    let written = run(&Cmd::new(env!("CARGO_BIN_EXE_storhaug-manual")).arg(directory.path()));
    written.checked().expect("writing the manual");
    directory
}

fn pages(directory: &TempDir) -> Vec<PathBuf> {
    let files = fs::read_dir(directory.path()).expect("the directory");
    let files = files.map(|file| file.expect("a file").path());
    let mut pages: Vec<PathBuf> = files.filter(|file| is_page(file)).collect();
    pages.sort();
    pages
}

fn is_page(file: &Path) -> bool {
    let end = file.extension().and_then(|end| end.to_str());
    matches!(end, Some("5" | "7" | "8"))
}

/// The page as a reader sees it on a very wide screen, in words.
fn shown(directory: &TempDir, page: &str) -> String {
    let man = Cmd::new("man")
        .args(["--local-file", "--ascii", "--no-hyphenation"])
        .args(["--no-justification", "--pager=cat"])
        .arg(directory.path().join(page))
        .env("MANWIDTH", "1000");
    words(&run(&man).checked().expect("showing it"))
}

fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The first sentence, or what there is, without Markdown.
fn plain(text: &str) -> String {
    words(&text.replace(['`', '…'], ""))
}

#[test]
fn every_page_is_well_formed() {
    let directory = written();
    let pages = pages(&directory);
    assert_eq!(pages.len(), 2 + agents().len(), "{pages:?}");
    for page in &pages {
        let lint = run(&Cmd::new("mandoc").args(["-Tlint", "-Wwarning"]).arg(page));
        let lint = lint.text();
        // They have a version instead.
        let mut lint = lint.lines().filter(|line| !line.contains("missing date"));
        assert_eq!(lint.next(), None, "{}", page.display());
        // A line of mount options is longer than 80 columns.
        let groff = run(&Cmd::new("man")
            .env("MANWIDTH", "120")
            .args(["--warnings", "--encoding=UTF-8", "--local-file"])
            .args(["-Tutf8", "-Z"])
            .arg(page));
        let said = String::from_utf8_lossy(&groff.stderr);
        assert!(
            groff.success() && said.is_empty(),
            "{}: {said}",
            page.display()
        );
    }
}

#[test]
fn the_command_s_page_has_every_verb_and_option() {
    let directory = written();
    let page = shown(&directory, "storhaug.8");
    for (code, meaning) in storhaug::cli::exits() {
        assert!(page.contains(&format!("{code} ")), "{code}");
        assert!(page.to_lowercase().contains(meaning), "{meaning}");
    }
    let command = storhaug::cli::command();
    assert_has_options(&page, &command);
    let mut found = 0;
    for_each_verb(&command, "storhaug", &mut |name, verb| {
        found += 1;
        assert!(page.contains(name), "{name}");
        let about = verb.get_about().expect("what it does").to_string();
        assert!(page.contains(&plain(&about)), "{name}: {about}");
        assert_has_options(&page, verb);
        let examples = verb.get_after_help().map(ToString::to_string);
        let examples = examples.unwrap_or_else(|| panic!("{name} has no examples"));
        let lines = examples.strip_prefix("Examples:\n").expect("the heading");
        for line in lines.lines() {
            let example = words(line);
            assert!(example.starts_with("storhaug "), "{name}: {example}");
            assert!(page.contains(&example), "{name}: {example}");
        }
    });
    assert!(found > 10, "{found} verbs");
}

fn assert_has_options(page: &str, command: &Command) {
    for arg in command.get_arguments() {
        let help = arg.get_help().expect("what it does").to_string();
        assert!(page.contains(&plain(&help)), "{help}");
        if let Some(long) = arg.get_long() {
            assert!(page.contains(&format!("--{long}")), "{long}");
        }
        let values = arg.get_possible_values();
        let takes = arg.get_action().takes_values();
        for value in values.iter().filter(|_| takes) {
            assert!(page.contains(value.get_name()), "{}", value.get_name());
        }
    }
}

fn for_each_verb(command: &Command, before: &str, each: &mut impl FnMut(&str, &Command)) {
    for verb in command.get_subcommands() {
        let name = format!("{before} {}", verb.get_name());
        match verb.has_subcommands() {
            true => for_each_verb(verb, &name, each),
            false => each(&name, verb),
        }
    }
}

/// The reference in Markdown is the README's, and has every key.
#[test]
fn the_configuration_s_page_has_what_the_reference_has() {
    let directory = written();
    let page = shown(&directory, "storhaug.conf.5").to_lowercase();
    let reference = storhaug::config::reference();
    let rows = reference.lines().filter(|line| line.starts_with("| `"));
    let mut found = 0;
    for cell in rows.flat_map(|row| row.trim_matches('|').split(" | ")) {
        found += 1;
        for part in cell.split(['`', '…']).map(plain) {
            assert!(page.contains(&part.to_lowercase()), "{part}");
        }
    }
    assert!(found > 100, "{found} cells");
}

/// The names of all agents, by their programs.
fn agents() -> Vec<String> {
    let bins = Path::new(env!("CARGO_MANIFEST_DIR")).join("../agents/src/bin");
    let bins = fs::read_dir(bins).expect("the agents' programs");
    let bins = bins.map(|bin| bin.expect("a program").path());
    bins.map(|bin| bin.file_stem().expect("a name").display().to_string())
        .collect()
}

#[test]
fn every_agent_has_a_page_with_its_parameters() {
    let directory = written();
    for agent in agents() {
        let source = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../agents/src")
            .join(format!("{agent}.rs"));
        let source = fs::read_to_string(source).expect("the agent");
        let page = shown(&directory, &format!("ocf_storhaug_{agent}.7"));
        let title = format!("ocf_storhaug_{agent} - ");
        assert!(page.contains(&title), "{agent}: no {title}");
        for section in ["SUPPORTED PARAMETERS", "SUPPORTED ACTIONS", "EXAMPLE PCS"] {
            assert!(page.contains(section), "{agent}: no {section}");
        }
        // Parameters are declared in the agent's own file, by their names.
        let names = source.lines().filter_map(|line| {
            let name = line.strip_prefix("    name: \"")?;
            name.strip_suffix("\",")
        });
        let mut found = 0;
        for name in names {
            found += 1;
            assert!(page.contains(&format!(" {name} ")), "{agent}: no {name}");
        }
        assert!(found > 0, "{agent}: no parameter");
    }
}

#[test]
fn bash_completes_a_verb() {
    let directory = written();
    let script = directory.path().join("ask.bash");
    let ask = "source \"$1\"\n\
               complete -p storhaug\n\
               COMP_WORDS=(storhaug und) COMP_CWORD=1\n\
               _storhaug storhaug und storhaug\n\
               echo \"${COMPREPLY[@]}\"\n";
    fs::write(&script, ask).expect("a script");
    let bash = Cmd::new("bash").arg("--norc").arg(script);
    let bash = run(&bash.arg(directory.path().join("storhaug.bash")));
    let said = bash.checked().expect("bash");
    assert!(said.ends_with("\nundrain\n"), "{said}");
}

#[test]
fn fish_completes_a_verb() {
    let directory = written();
    let script = directory.path().join("ask.fish");
    let ask = "source $argv[1]; or exit 1\ncomplete --do-complete 'storhaug und'\n";
    fs::write(&script, ask).expect("a script");
    let fish = Cmd::new("fish")
        .arg("--no-config")
        .arg(script)
        .arg(directory.path().join("storhaug.fish"))
        .env("HOME", directory.path());
    let said = run(&fish).checked().expect("fish");
    assert!(said.starts_with("undrain\t"), "{said}");
}

/// The function is found by its name, as zsh does it at a user's first Tab.
#[test]
fn zsh_knows_the_completion() {
    let directory = written();
    let script = directory.path().join("ask.zsh");
    let ask = "fpath=($1 $fpath)\n\
               autoload -Uz compinit && compinit -D -u\n\
               autoload -Uz +X _storhaug || exit 1\n\
               print $_comps[storhaug] ${#functions[_storhaug]}\n";
    fs::write(&script, ask).expect("a script");
    let zsh = Cmd::new("zsh")
        .arg("--no-rcs")
        .arg(script)
        .arg(directory.path())
        .env("HOME", directory.path());
    let said = run(&zsh).checked().expect("zsh");
    let length = said.strip_prefix("_storhaug ").map(str::trim);
    let length: usize = length.and_then(|said| said.parse().ok()).expect(&said);
    assert!(length > 1000, "{said}");
}
