//! The fence agent of the lab; see `storhaug_lab::fence`.

use std::io::Read as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("fence_lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<ExitCode> {
    let args: Vec<_> = std::env::args().skip(1).collect();
    let mut input = String::new();
    if args.is_empty() {
        std::io::stdin().read_to_string(&mut input)?;
    }
    storhaug_lab::fence::run(&args, &input, &mut std::io::stdout())
}
