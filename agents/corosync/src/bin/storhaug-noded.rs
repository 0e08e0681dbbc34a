//! The daemon that knows the clients of the virtual addresses.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use storhaug_agents::daemon::SOCKET;
use storhaug_corosync::noded::run;
use tracing_subscriber::EnvFilter;

/// Knows the clients of the cluster's virtual addresses on every node, makes
/// them reconnect when an address has moved, and destroys the sockets to dead
/// nodes. Run by the resource agent ocf:storhaug:noded.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Where to listen for the resource agents.
    #[arg(long, value_name = "PATH", default_value = SOCKET)]
    socket: PathBuf,

    /// What to log: error, warn, info, debug.
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    log: EnvFilter,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // The journal knows the time, and shows no colours.
    tracing_subscriber::fmt()
        .with_env_filter(arguments.log)
        .with_writer(std::io::stderr)
        .without_time()
        .with_ansi(false)
        .with_target(false)
        .init();
    match run(&arguments.socket) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
