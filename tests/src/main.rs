//! `storhaug-lab`: the lab as a command.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand, ValueEnum};
use storhaug_lab::bench::{self, Event, Results, Selection, Stack};
use storhaug_lab::layout::Layout;
use storhaug_lab::{Cmd, Lab, Machine, Options, Release, cell, command, demo, rack, vm};

/// A real storhaug cluster on one machine.
///
/// Nodes are containers with an init of their own, joined by a network of
/// their own; nothing touches the host's network. Needs root, and the packages
/// mmdebstrap, systemd-container and iproute2. The first `up` of a release
/// builds its image in /var/cache/storhaug-lab.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// The lab; several of different names can be up at the same time
    #[arg(long, global = true, value_name = "LAB", default_value = "lab")]
    name: String,

    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Build a lab: nodes with storhaug installed by `make install`, Gluster
    /// volumes, fencing, and a configuration for `storhaug setup` on node1
    Up {
        /// Number of nodes, named node1 and so on
        #[arg(long, default_value_t = 3)]
        nodes: u8,
        /// Debian release of the machines
        #[arg(long, value_enum, default_value_t = Release::Bookworm)]
        release: Release,
        /// Machines only: nothing of storhaug, no volumes
        #[arg(long)]
        blank: bool,
        /// Source tree of storhaug, built by `make build`
        #[arg(long, value_name = "DIR", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/.."))]
        source: PathBuf,
    },
    /// Run a command on a node; its input, output and exit status pass through
    Exec {
        node: String,
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Copy a file to a node
    Put {
        node: String,
        source: PathBuf,
        destination: String,
    },
    /// Run a command on the client host
    Client {
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Run a command in a client machine with a kernel of its own, booted on
    /// first use
    Vm {
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Pull a node's power cord
    Crash { node: String },
    /// Take a node's network away; the node lives on
    Cut { node: String },
    /// Give a node its network back
    Heal { node: String },
    /// Power a node on, and wait until it has booted
    Start { node: String },
    /// Show the machines, their addresses and their power
    Status {
        #[arg(long, value_enum, default_value_t = Format::Text)]
        output: Format,
    },
    /// Write journals, logs and the cluster's state into a directory
    Collect { dir: PathBuf },
    /// Build a lab, set it up, crash the node that a client writes to, and tell
    /// about it with figures; fails when an acknowledged write is lost
    Demo {
        /// Debian release of the machines
        #[arg(long, value_enum, default_value_t = Release::Bookworm)]
        release: Release,
        /// Source tree of storhaug, built by `make build`
        #[arg(long, value_name = "DIR", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/.."))]
        source: PathBuf,
    },
    /// Measure stacks side by side in a lab of its own; what is measured
    /// already stays, so that a run that was killed goes on
    Bench {
        /// Only this stack; may be given again
        #[arg(long = "stack", value_enum, value_name = "STACK")]
        stacks: Vec<Stack>,
        /// Only this event; may be given again
        #[arg(long = "event", value_enum, value_name = "EVENT")]
        events: Vec<Event>,
        /// How often to measure each [default: 5, stacks of others 3]
        #[arg(long)]
        repeats: Option<u32>,
        /// Leave out what a tickle and a monitor take
        #[arg(long)]
        no_parts: bool,
        /// Measure nothing, print the table of what there is
        #[arg(long)]
        table: bool,
        /// Where the measurements are kept, a file each
        #[arg(long, value_name = "DIR", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/bench"))]
        results: PathBuf,
        /// Debian release of the machines
        #[arg(long, value_enum, default_value_t = Release::Bookworm)]
        release: Release,
        /// Source tree of storhaug, built by `make build`
        #[arg(long, value_name = "DIR", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/.."))]
        source: PathBuf,
    },
    /// Take the lab down, also one whose `up` was killed
    Down,
    /// Serve the power of the lab's machines, for its `up`
    #[command(hide = true)]
    Rack,
    /// Become a command that ends with the lab
    #[command(hide = true)]
    Confine {
        cell: String,
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    Text,
    Json,
}

fn main() -> ExitCode {
    match run(Args::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("storhaug-lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args) -> Result<ExitCode> {
    let name = &args.name;
    match args.verb {
        Verb::Up {
            nodes,
            release,
            blank,
            source,
        } => {
            let options = Options {
                nodes,
                blank,
                ..options(name, release, source)
            };
            let lab = Lab::up(&options)?;
            write!(std::io::stdout(), "{}", lab.status()?)?;
        }
        Verb::Exec { node, command } => return pass(&Lab::open(name)?.node(&node), &command),
        Verb::Client { command } => return pass(&Lab::open(name)?.client(), &command),
        Verb::Vm { command } => {
            let status = vm::run(&Lab::open(name)?, &command)?;
            return Ok(ExitCode::from(command::exit_code(status)));
        }
        Verb::Put {
            node,
            source,
            destination,
        } => Lab::open(name)?.node(&node).put(&source, &destination)?,
        Verb::Crash { node } => Lab::open(name)?.crash(&node)?,
        Verb::Cut { node } => Lab::open(name)?.cut(&node)?,
        Verb::Heal { node } => Lab::open(name)?.heal(&node)?,
        Verb::Start { node } => {
            let lab = Lab::open(name)?;
            lab.start(&node)?;
            lab.wait_booted(&node)?;
        }
        Verb::Status { output } => {
            let status = Lab::open(name)?.status()?;
            let text = match output {
                Format::Text => status.to_string(),
                Format::Json => serde_json::to_string_pretty(&status)? + "\n",
            };
            std::io::stdout().write_all(text.as_bytes())?;
        }
        Verb::Collect { dir } => Lab::open(name)?.collect(&dir)?,
        Verb::Demo { release, source } => {
            demo::run(&options(name, release, source), &mut std::io::stdout())?;
        }
        Verb::Bench {
            stacks,
            events,
            repeats,
            no_parts,
            table,
            results,
            release,
            source,
        } => {
            let mut out = std::io::stdout();
            let selection = Selection {
                stacks,
                events,
                repeats,
                parts: !no_parts,
                results,
            };
            if !table {
                bench::run(&options(name, release, source), &selection, &mut out)?;
            }
            let results = Results::read(&selection.results)?;
            out.write_all(bench::table(&results).as_bytes())?;
        }
        Verb::Down => Lab::down(name)?,
        Verb::Rack => rack::serve(&Layout::new(name)?)?,
        Verb::Confine { cell, command } => {
            // A terminal that goes away must not take the lab with it.
            nix::unistd::setsid()?;
            cell::enter(&Layout::new(name)?, &cell)?;
            let (program, arguments) = command.split_at(1);
            return Err(Cmd::new(&program[0]).args(arguments).become_it());
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A lab of three nodes with storhaug in them.
fn options(name: &str, release: Release, source: PathBuf) -> Options {
    #[expect(clippy::disallowed_methods, reason = "read once, in main")]
    let path = std::env::var_os("PATH").unwrap_or_default();
    Options {
        name: name.to_owned(),
        nodes: 3,
        spares: 0,
        release,
        blank: false,
        source,
        path,
    }
}

fn pass(machine: &Machine, command: &[String]) -> Result<ExitCode> {
    let status = machine.pass(command)?;
    Ok(ExitCode::from(command::exit_code(status)))
}
