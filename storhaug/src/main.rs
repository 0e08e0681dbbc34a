//! The command `storhaug`.

use std::process::ExitCode;

fn main() -> ExitCode {
    // https://no-color.org: set, to whatever but nothing.
    #[expect(
        clippy::disallowed_methods,
        reason = "the environment is read here, once"
    )]
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    storhaug::cli::main(std::env::args_os(), !plain)
}
