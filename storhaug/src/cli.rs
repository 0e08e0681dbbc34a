//! The command line: `storhaug VERB`.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{CommandFactory, Parser, Subcommand, ValueEnum};
use storhaug_agents::deadline::Deadline;
use storhaug_agents::exec::{Cmd, Host, Output, Runner};

use crate::apply::{Adopt, Outcome};
use crate::check::{self, Reach};
use crate::cleanup::{self, Whose};
use crate::config::edit::{NewNode, NewVip, Sources};
use crate::config::import::{self, Origin};
use crate::config::{self, ConfigErrors, Loaded, Places, To};
use crate::desired;
use crate::dns;
use crate::drain::{self, Manner};
use crate::finding::Severity;
use crate::loss;
use crate::machine::{Machine, facts};
use crate::members::{self, Addition};
use crate::pacemaker;
use crate::plan::{self, Plan};
use crate::preflight;
use crate::progress::Progress;
use crate::setup;
use crate::show::{self, Outlook};
use crate::status::{self, Verdict};
use crate::teardown;
use crate::vips::{self, Change};
use crate::watch;

/// Make one storhaug.conf a highly available SMB and NFS cluster.
///
/// Storhaug reads the configuration, compares it with the cluster as it is, and
/// changes what differs. Every verb is for any one of the nodes; those that change
/// something need root. Begin with `plan`, which touches nothing, and `setup`.
#[derive(Debug, Parser)]
#[command(name = "storhaug", version, after_help = exit_codes(), subcommand_value_name = "VERB", subcommand_help_heading = "Verbs", subcommand_required = true, arg_required_else_help = true)]
pub struct Cli {
    /// Read this file instead of /etc/storhaug/storhaug.conf and
    /// /etc/storhaug/storhaug.d/*.conf.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Say which commands are run.
    #[arg(short, long, global = true)]
    verbose: bool,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make the cluster what the configuration says.
    ///
    /// It changes only what differs, waits until everything serves, and may be run
    /// again at any time, also to complete a run that was interrupted.
    #[command(after_help = "Examples:
  storhaug setup
  storhaug setup --adopt        # beside resources that are not storhaug's")]
    Setup {
        /// Also in a cluster that already runs something else.
        #[arg(long)]
        adopt: bool,
    },
    /// Show what setup would do, and touch nothing.
    ///
    /// It needs no cluster: a configuration can be tried on any machine.
    #[command(after_help = "Examples:
  storhaug plan
  storhaug --config draft.conf plan
  storhaug plan --lose server1 --lose server2   # what if both were lost at once")]
    Plan {
        /// How to write it; xml is the cluster configuration (CIB) it leads to.
        #[arg(short, long, value_enum, default_value_t = PlanFormat::Text)]
        output: PlanFormat,
        /// Foretell instead what would become of addresses and services if this
        /// node were lost now; repeated, if all of these were lost at once.
        #[arg(long, value_name = "NODE")]
        lose: Vec<String>,
    },
    /// Show how the cluster is, and the command that helps where it is not well.
    #[command(after_help = "Examples:
  storhaug status
  storhaug status --watch           # until Ctrl-C
  storhaug status --output json")]
    Status {
        /// How to write it.
        #[arg(short, long, value_enum, default_value_t = StatusFormat::Text)]
        output: StatusFormat,
        /// Show it again every two seconds: on a terminal in the same place,
        /// otherwise one after the other, json on one line each.
        #[arg(short, long)]
        watch: bool,
    },
    /// Look for what is wrong with this machine, and change nothing.
    ///
    /// Names, addresses and clocks, units that are Pacemaker's to start, firewalls,
    /// the kernel's settings, SELinux, the volumes, what earlier arrangements have
    /// left, and whether the fence devices answer. Each finding has an id, says how
    /// bad it is, and what to do about it.
    #[command(after_help = "Examples:
  storhaug check                    # before setup, on every node
  storhaug check --ssh              # all nodes, and what differs between them
  storhaug check --output json")]
    Check {
        /// How to write it.
        #[arg(short, long, value_enum, default_value_t = StatusFormat::Text)]
        output: StatusFormat,
        /// Look at the other nodes as well, and compare: by ssh, where root may
        /// log in to them with a key.
        #[arg(long)]
        ssh: bool,
        /// Say nothing of other nodes.
        #[arg(long, conflicts_with = "ssh")]
        local: bool,
    },
    /// Make a node a member of the cluster, and write it into the configuration.
    ///
    /// No service of another node is restarted.
    #[command(after_help = "Examples:
  storhaug add server4 --fence ip=10.1.0.4 --vip 10.0.0.104/24
  storhaug add server4 --address 10.2.0.4 --fence ip=10.1.0.4
  storhaug add witness --only-votes --fence ip=10.1.0.9")]
    Add {
        /// The name that `uname -n` prints there.
        node: String,
        /// Its address or host name, if its name is not enough to reach it.
        #[arg(long)]
        address: Option<String>,
        /// A virtual address to be added with it, alone or with the length of
        /// its network's prefix; may be repeated.
        #[arg(long = "vip", value_name = "ADDRESS")]
        vips: Vec<String>,
        /// An option of the device that switches it off; may be repeated.
        #[arg(long, value_name = "KEY=VALUE", value_parser = option)]
        fence: Vec<(String, String)>,
        /// It has no storage: no service and no address runs on it.
        #[arg(long)]
        only_votes: bool,
    },
    /// Take a node out of the cluster, and out of the configuration.
    ///
    /// Its addresses leave, its services stop, and the others forget it. Bricks of
    /// Gluster volumes that it has stay where they are.
    #[command(
        visible_alias = "delete",
        after_help = "Examples:
  storhaug remove server1
  storhaug remove server1 --force   # even the last node that serves"
    )]
    Remove {
        /// The node's name.
        node: String,
        /// Even if it costs redundancy, or the last node that serves.
        #[arg(long)]
        force: bool,
    },
    /// Have a node serve nothing, for maintenance.
    ///
    /// Its addresses leave one by one, then its services stop. It stays a member.
    #[command(after_help = "Examples:
  storhaug drain server2 --wait     # then update it, and boot it
  storhaug undrain server2")]
    Drain {
        /// The node's name.
        node: String,
        /// Wait until its services have stopped.
        #[arg(long)]
        wait: bool,
        /// Even if it costs quorum, redundancy, or the last node that serves.
        #[arg(long)]
        force: bool,
    },
    /// Have a drained node serve again.
    #[command(after_help = "Examples:
  storhaug undrain server2")]
    Undrain {
        /// The node's name.
        node: String,
    },
    /// Add virtual addresses, take them away, show them.
    #[command(
        subcommand,
        subcommand_value_name = "VERB",
        subcommand_help_heading = "Verbs"
    )]
    Vip(VipVerb),
    /// Have Pacemaker forget the failures of storhaug's resources, and try again.
    #[command(after_help = "Examples:
  storhaug cleanup                  # after what failed was repaired")]
    Cleanup,
    /// Have Pacemaker forget the failures of every resource, also of those that
    /// are not storhaug's, and try again.
    #[command(after_help = "Examples:
  storhaug cleanup-all")]
    CleanupAll,
    /// Take everything of storhaug out of the cluster, and then the cluster apart.
    ///
    /// Every service stops. Data stays, and so does the configuration.
    #[command(after_help = "Examples:
  storhaug teardown
  storhaug teardown --yes           # in a script")]
    Teardown {
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
    /// Show the addresses as records for a zone of DNS: one name for all that a
    /// healthy node holds, and never none.
    ///
    /// Clients ask for the name and come by any of the addresses. Run it where
    /// the zone is made, every few seconds or minutes, and include what it
    /// prints.
    #[command(after_help = "Examples:
  storhaug dns files.example.com.
  storhaug dns files --ttl 30")]
    Dns {
        /// The name, ending in a dot, or within the zone without one.
        name: String,
        /// For how many seconds it may be remembered.
        #[arg(long, value_name = "SECONDS", default_value_t = 10)]
        ttl: u32,
    },
    /// Look at the configuration: show what it means, check it, write it in its
    /// other form.
    #[command(subcommand)]
    Config(ConfigVerb),
    /// Make a storhaug.conf of what came before; nothing is executed or changed.
    ///
    /// Reads old files of storhaug (KEY="value"), Gluster's ganesha-ha.conf, and
    /// CTDB's nodes, public_addresses, ctdb.conf and /etc/sysconfig/ctdb, or
    /// /etc/default/ctdb on Debian. What each file is, is told by what is in it.
    /// The result has comments: on where it came from, and on everything that has
    /// no counterpart, with the reason and what to do. What no file says stands
    /// in <> and is refused by `plan` until it is filled in. CTDB knows nodes by
    /// their addresses; name /etc/hosts as well to have their names.
    #[command(after_help = IMPORT_EXAMPLES)]
    Import {
        /// The files; without any, those of the usual names on this machine.
        #[arg(value_name = "FILE")]
        files: Vec<PathBuf>,
        /// A directory of such files, or one that has them below etc as a
        /// machine has them.
        #[arg(long, value_name = "DIR", conflicts_with = "files")]
        from: Option<PathBuf>,
        /// Write a new file, instead of standard output.
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
}

const IMPORT_EXAMPLES: &str = "Examples:
  storhaug import /etc/ctdb/nodes /etc/ctdb/public_addresses /etc/hosts
  storhaug import --from /root/copy-of-server1 --output storhaug.conf
  storhaug --config storhaug.conf plan";

#[derive(Clone, Copy, Debug, Subcommand)]
enum ConfigVerb {
    /// Show what is in effect, with all defaults filled in; on a node without a
    /// file, what was applied last.
    #[command(after_help = "Examples:
  storhaug config show
  storhaug --config new.conf config show")]
    Show,
    /// Check the files alone, without a look at the cluster or this machine, and
    /// tell everything that is wrong at once.
    #[command(after_help = "Examples:
  storhaug config check
  storhaug --config new.conf config check")]
    Check,
    /// Write the configuration in its other form to standard output, with its
    /// comments.
    ///
    /// Whatever KEY="value" has no key for is told, and nothing is written. A
    /// password is never written.
    #[command(after_help = CONVERT_EXAMPLES)]
    Convert {
        /// The form to write.
        #[arg(long, value_enum, default_value_t = ConvertTo::Toml)]
        to: ConvertTo,
    },
    /// Show every key there is, in Markdown.
    #[command(after_help = "Examples:
  storhaug config reference         # also in storhaug.conf(5)")]
    Reference,
}

const CONVERT_EXAMPLES: &str = "Examples:
  storhaug --config /etc/sysconfig/storhaug.conf config convert > storhaug.conf
  storhaug config convert --to slides";

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ConvertTo {
    /// Tables and keys.
    Toml,
    /// Lines of KEY="value", the form of storhaug's slides and first versions.
    Slides,
}

#[derive(Debug, Subcommand)]
enum VipVerb {
    /// Add an address.
    #[command(after_help = "Examples:
  storhaug vip add 10.0.0.105/24
  storhaug vip add 10.0.0.105 --name vip-archive --nic eth1 --prefer server2")]
    Add {
        /// The address, alone or with the length of its network's prefix.
        address: String,
        /// Its resource's name, instead of `vip-` and the address.
        #[arg(long)]
        name: Option<String>,
        /// The interface, instead of the one found by route.
        #[arg(long)]
        nic: Option<String>,
        /// The node where it is at home.
        #[arg(long, value_name = "NODE")]
        prefer: Option<String>,
    },
    /// Take an address away.
    #[command(
        visible_alias = "delete",
        after_help = "Examples:
  storhaug vip remove 10.0.0.105
  storhaug vip remove vip-archive"
    )]
    Remove {
        /// The address, or its name.
        vip: String,
    },
    /// Give an address another home, and have it go there.
    #[command(after_help = "Examples:
  storhaug vip move 10.0.0.105 server3")]
    Move {
        /// The address, or its name.
        vip: String,
        /// The node where it shall be.
        node: String,
    },
    /// Show the addresses and who holds them.
    #[command(after_help = "Examples:
  storhaug vip list
  storhaug vip list --output json")]
    List {
        /// How to write it.
        #[arg(short, long, value_enum, default_value_t = StatusFormat::Text)]
        output: StatusFormat,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum PlanFormat {
    Text,
    Json,
    Xml,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum StatusFormat {
    Text,
    Json,
}

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Exit {
    Ok = 0,
    Error = 1,
    Changes = 2,
    Degraded = 3,
    Down = 4,
    Usage = 64,
    Config = 78,
}

impl Exit {
    const ALL: [Exit; 7] = [
        Exit::Ok,
        Exit::Error,
        Exit::Changes,
        Exit::Degraded,
        Exit::Down,
        Exit::Usage,
        Exit::Config,
    ];

    fn meaning(self) -> &'static str {
        match self {
            Exit::Ok => "done, or nothing to do",
            Exit::Error => "it went wrong",
            Exit::Changes => "plan: there is something to do",
            Exit::Degraded => "status: it serves, and something is missing; check: warnings",
            Exit::Down => "status: the cluster does not serve; check: errors",
            Exit::Usage => "a mistake on the command line",
            Exit::Config => "a mistake in the configuration",
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// What the command line takes, for whatever is made from that.
pub fn command() -> clap::Command {
    Cli::command()
}

/// How the program ends, and what each way means.
pub fn exits() -> impl Iterator<Item = (u8, &'static str)> {
    Exit::ALL
        .into_iter()
        .map(|exit| (exit as u8, exit.meaning()))
}

fn exit_codes() -> String {
    let lines = exits().map(|(code, meaning)| format!("\n  {code:2}  {meaning}"));
    format!("Exit codes:{}", lines.collect::<String>())
}

/// The whole program; `colour` unless the user does not want any.
pub fn main(arguments: impl Iterator<Item = std::ffi::OsString>, colour: bool) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() {
                Exit::Usage.into()
            } else {
                Exit::Ok.into()
            };
        }
    };
    match run(&cli, colour) {
        Ok(exit) => exit.into(),
        Err(error) => {
            let exit = match error.downcast_ref::<ConfigErrors>() {
                Some(_) => Exit::Config,
                None => Exit::Error,
            };
            let mut stderr = std::io::stderr().lock();
            // A reader that has gone away has no use for the error either.
            let _ = writeln!(stderr, "storhaug: {error:#}");
            exit.into()
        }
    }
}

fn run(cli: &Cli, colour: bool) -> anyhow::Result<Exit> {
    let told = Told::default();
    let runner: &dyn Runner = if cli.verbose { &told } else { &Host };
    let machine = Machine {
        runner,
        root: Path::new("/"),
    };
    let mut progress = Progress::new(colour);
    match &cli.verb {
        Verb::Setup { adopt } => {
            let adopt = if *adopt { Adopt::Yes } else { Adopt::No };
            ended(setup::run(
                machine,
                &load(cli, machine)?,
                adopt,
                &mut progress,
            )?)
        }
        Verb::Plan { output, lose } if !lose.is_empty() => {
            let loss = loss::foretell(machine, lose)?;
            tell(&match output {
                PlanFormat::Text => show::loss_text(&loss),
                PlanFormat::Json => format!("{:#}\n", show::loss_json(&loss)),
                PlanFormat::Xml => bail!("--lose is written as text or as json"),
            })?;
            Ok(Exit::Ok)
        }
        Verb::Plan { output, .. } => plan(machine, &load(cli, machine)?, *output),
        Verb::Status {
            output,
            watch: true,
        } => {
            watch::run(&mut std::io::stdout(), || {
                let status = status::look(machine)?;
                Ok(match output {
                    StatusFormat::Text => show::status_text(&status),
                    StatusFormat::Json => format!("{}\n", show::status_json(&status)),
                })
            })?;
            Ok(Exit::Ok)
        }
        Verb::Status {
            output,
            watch: false,
        } => {
            let status = status::look(machine)?;
            tell(&match output {
                StatusFormat::Text => show::status_text(&status),
                StatusFormat::Json => format!("{:#}\n", show::status_json(&status)),
            })?;
            Ok(match status.verdict {
                Verdict::Ok => Exit::Ok,
                Verdict::Degraded => Exit::Degraded,
                Verdict::Down => Exit::Down,
            })
        }
        Verb::Check { output, ssh, local } => {
            let reach = match (ssh, local) {
                (true, _) => Reach::Ssh,
                (false, true) => Reach::Local,
                (false, false) => Reach::Here,
            };
            let (loaded, host) = (load(cli, machine)?, preflight::host_name()?);
            let checked = check::run(machine, &loaded, &host, reach);
            tell(&match output {
                StatusFormat::Text => check::text(&checked),
                StatusFormat::Json => format!("{:#}\n", check::json(&checked)),
            })?;
            Ok(match checked.worst() {
                None | Some(Severity::Note) => Exit::Ok,
                Some(Severity::Warning) => Exit::Degraded,
                Some(Severity::Error) => Exit::Down,
            })
        }
        Verb::Add {
            node,
            address,
            vips,
            fence,
            only_votes,
        } => {
            preflight::root()?;
            let vips = vips.iter().map(|address| NewVip {
                address: address.clone(),
                name: None,
                nic: None,
                prefer: None,
            });
            let addition = Addition {
                node: NewNode {
                    name: node.clone(),
                    address: address.clone(),
                    storage: !only_votes,
                    fencing: fence.clone(),
                },
                vips: vips.collect(),
            };
            let (host, places) = (preflight::host_name()?, places(cli, machine));
            let outcome = members::add(machine, &host, &addition, &places, &mut progress)?;
            ended(outcome)
        }
        Verb::Remove { node, force } => {
            preflight::root()?;
            let (host, places) = (preflight::host_name()?, places(cli, machine));
            let outcome = members::remove(machine, &host, node, *force, &places, &mut progress)?;
            ended(outcome)
        }
        Verb::Drain { node, wait, force } => {
            preflight::root()?;
            let (wait, force) = (*wait, *force);
            let manner = Manner { wait, force };
            ended(drain::drain(machine, node, manner, &mut progress)?)
        }
        Verb::Undrain { node } => {
            preflight::root()?;
            ended(drain::undrain(machine, node, &mut progress)?)
        }
        Verb::Vip(verb) => vip(cli, machine, verb, &mut progress),
        Verb::Cleanup => clean(machine, Whose::Ours, &mut progress),
        Verb::CleanupAll => clean(machine, Whose::Everybodys, &mut progress),
        Verb::Teardown { yes } => {
            if !yes {
                confirm()?;
            }
            // There may be none any more, or none that can be read.
            let configured = load(cli, machine).ok().map(|loaded| loaded.cluster.name);
            let configured = configured.as_deref();
            ended(teardown::run(machine, configured, &mut progress)?)
        }
        Verb::Dns { name, ttl } => {
            tell(&dns::zone(&status::know(machine)?, name, *ttl)?)?;
            Ok(Exit::Ok)
        }
        Verb::Config(verb) => configuration(cli, machine, *verb),
        Verb::Import {
            files,
            from,
            output,
        } => {
            let origin = match (from, &files[..]) {
                (Some(directory), _) => Origin::Directory(directory.clone()),
                (None, []) => Origin::Directory(machine.root.to_owned()),
                (None, files) => Origin::Files(files.to_vec()),
            };
            let text = import::import(&origin)?;
            match output {
                None => tell(&text)?,
                Some(path) => {
                    create(path, &text)?;
                    tell(&format!(
                        "{path} is written; see what is missing with `storhaug --config {path} \
                         plan`\n",
                        path = path.display()
                    ))?;
                }
            }
            Ok(Exit::Ok)
        }
    }
}

fn configuration(cli: &Cli, machine: Machine<'_>, verb: ConfigVerb) -> anyhow::Result<Exit> {
    let places = places(cli, machine);
    match verb {
        ConfigVerb::Show => tell(&config::canonical(&load(cli, machine)?.cluster))?,
        ConfigVerb::Check => {
            let loaded = config::load(&places)?;
            let files = loaded.source.iter().map(|file| file.display().to_string());
            tell(&format!(
                "{}: nothing is wrong with the configuration of the cluster `{}`\n",
                files.collect::<Vec<_>>().join(", "),
                loaded.cluster.name
            ))?;
        }
        ConfigVerb::Convert { to } => {
            let to = match to {
                ConvertTo::Toml => To::Toml,
                ConvertTo::Slides => To::Slides,
            };
            tell(&config::convert(&Sources::find(&places)?, to)?)?;
        }
        ConfigVerb::Reference => tell(&config::reference())?,
    }
    Ok(Exit::Ok)
}

/// Writes a file that is not there yet.
fn create(path: &Path, text: &str) -> anyhow::Result<()> {
    let mut file = File::create_new(path)
        .with_context(|| format!("creating {}, which nothing is written over", path.display()))?;
    file.write_all(text.as_bytes())
        .with_context(|| format!("writing {}", path.display()))
}

/// Where the configuration is looked for.
fn places(cli: &Cli, machine: Machine<'_>) -> Places {
    match &cli.config {
        Some(file) => Places::File(file.clone()),
        None => Places::System(machine.root.to_owned()),
    }
}

fn load(cli: &Cli, machine: Machine<'_>) -> anyhow::Result<Loaded> {
    Ok(machine.sources(&places(cli, machine))?.load()?)
}

fn vip(
    cli: &Cli,
    machine: Machine<'_>,
    verb: &VipVerb,
    progress: &mut Progress,
) -> anyhow::Result<Exit> {
    let change = match verb {
        VipVerb::Add {
            address,
            name,
            nic,
            prefer,
        } => Change::Add(NewVip {
            address: address.clone(),
            name: name.clone(),
            nic: nic.clone(),
            prefer: prefer.clone(),
        }),
        VipVerb::Remove { vip } => Change::Remove(vip.clone()),
        VipVerb::Move { vip, node } => Change::Move(vip.clone(), node.clone()),
        VipVerb::List { output } => {
            machine.member()?;
            let status = status::know(machine)?;
            tell(&match output {
                StatusFormat::Text => show::vips_text(&status),
                StatusFormat::Json => format!("{:#}\n", show::vips_json(&status)),
            })?;
            return Ok(Exit::Ok);
        }
    };
    preflight::root()?;
    let (host, places) = (preflight::host_name()?, places(cli, machine));
    ended(vips::change(machine, &host, &change, &places, progress)?)
}

fn clean(machine: Machine<'_>, whose: Whose, progress: &mut Progress) -> anyhow::Result<Exit> {
    preflight::root()?;
    ended(cleanup::run(machine, whose, progress)?)
}

/// Says what a change came to.
fn ended(outcome: Outcome) -> anyhow::Result<Exit> {
    tell(match outcome {
        Outcome::Done => "done\n",
        Outcome::NothingToDo => "nothing to do\n",
    })?;
    Ok(Exit::Ok)
}

/// An option of a fence agent, as it is written on the command line.
fn option(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write KEY=VALUE".into()),
    }
}

fn plan(machine: Machine<'_>, loaded: &Loaded, output: PlanFormat) -> anyhow::Result<Exit> {
    let live = machine.look()?;
    if let Some(corosync) = &live.corosync {
        loaded.check_name(&corosync.name)?;
    }
    let (facts, mut doubts) = facts(&loaded.cluster, &live);
    if let Err(error) = preflight::check_networks(loaded, &preflight::host_name()?) {
        doubts.push(format!("{error:#}"));
    }
    let plan = Plan::make(&loaded.cluster, &facts, &live)?;
    let foretold = match live.cib.as_ref().and_then(|cib| cib.find("status")) {
        Some(status) if !plan.changes.is_empty() => {
            let cib = plan.after.clone().child(status.clone());
            pacemaker::foretell(machine.runner, &cib).ok()
        }
        _ => None,
    };
    let outlook = Outlook {
        foretold,
        doubts,
        limits: desired::limits(&loaded.cluster),
    };
    tell(&match output {
        PlanFormat::Text => show::plan_text(&plan, &outlook),
        PlanFormat::Json => format!("{:#}\n", show::plan_json(&plan, &outlook)),
        PlanFormat::Xml => plan::masked(&plan.after).to_string(),
    })?;
    Ok(if plan.is_empty() {
        Exit::Ok
    } else {
        Exit::Changes
    })
}

/// Asks whether everything may be taken away.
fn confirm() -> anyhow::Result<()> {
    if !std::io::stdin().is_terminal() {
        bail!("teardown stops every service of the cluster; say `storhaug teardown --yes`");
    }
    let mut stderr = std::io::stderr();
    write!(
        stderr,
        "Stop every service and take the cluster apart? Data stays. [yes/no] "
    )?;
    stderr.flush()?;
    let mut answer = String::new();
    std::io::stdin()
        .read_line(&mut answer)
        .context("reading the answer")?;
    match answer.trim() {
        "yes" => Ok(()),
        _ => bail!("nothing was done"),
    }
}

/// Writes a result to standard output. A reader that has seen enough, such as
/// `head`, is no error.
fn tell(text: &str) -> anyhow::Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        result => result.context("writing the result"),
    }
}

/// This machine, with every command said before it is run for the first time.
/// What goes in by standard input is not said.
#[derive(Default)]
struct Told(RefCell<BTreeSet<String>>);

impl Runner for Told {
    fn run(&self, cmd: &Cmd, deadline: Deadline) -> anyhow::Result<Output> {
        if self.0.borrow_mut().insert(cmd.to_string()) {
            let _ = writeln!(std::io::stderr(), "+ {cmd}");
        }
        Host.run(cmd, deadline)
    }
}
