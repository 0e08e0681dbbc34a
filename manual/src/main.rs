//! The command `storhaug-manual`: writes the manual pages and the completions of
//! storhaug from what the programs themselves read, the command line, the table of
//! the configuration's keys and the agents' metadata. `make install` runs it; it is
//! not installed.

mod agents;
mod command;
mod configuration;
mod page;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use clap_complete::Shell;
use clap_complete::aot::generate_to;

/// Write the manual pages and the completions of storhaug.
#[derive(Debug, Parser)]
struct Cli {
    /// Where to; the directory is made where it is missing.
    directory: PathBuf,
}

fn main() -> ExitCode {
    match write(&Cli::parse().directory) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("storhaug-manual: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn write(directory: &Path) -> Result<()> {
    fs::create_dir_all(directory).with_context(|| format!("creating {}", directory.display()))?;
    let pages = [command::page(), configuration::page()].into_iter();
    for page in pages.chain(agents::pages()) {
        let file = directory.join(page.file_name());
        fs::write(&file, page.render()).with_context(|| format!("writing {}", file.display()))?;
    }
    for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
        generate_to(shell, &mut storhaug::cli::command(), "storhaug", directory)
            .with_context(|| format!("writing the completions for {shell}"))?;
    }
    Ok(())
}
