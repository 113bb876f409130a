//! `lbctl`: parse arguments, call the library, print.

mod args;
mod audit;
mod cmd;
mod daemon;
mod log;
mod numbers;
mod output;
mod reader;
mod signals;
mod usage;

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use clap::FromArgMatches as _;
use l4lb::Instance;
use l4lb::agent::Secrets;
use l4lb::outside::message;
use l4lb::serving::Part;

use crate::args::Cli;
use crate::args::Command;

/// What ends a command early.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The command line makes no sense, for this reason.
    Usage(String),
    /// The library's error.
    Library(l4lb::Error),
    /// Standard output could not be written.
    Output(io::Error),
}

impl From<l4lb::Error> for Failure {
    fn from(error: l4lb::Error) -> Self {
        Self::Library(error)
    }
}

impl From<l4lb::ConfigError> for Failure {
    fn from(error: l4lb::ConfigError) -> Self {
        Self::Library(error.into())
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

pub(crate) type Result<T = Exit> = std::result::Result<T, Failure>;

/// How a command that ran to its end exits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// 0
    Done,
    /// 1
    Failed,
    /// 3
    Differences,
}

fn main() -> ExitCode {
    l4lb::share_heap();
    let parsed = args::command().try_get_matches();
    let cli = match parsed.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(error) => {
            return usage::report(&error)
                .unwrap_or_else(|error| ExitCode::from(not_written(&error, false)));
        }
    };
    let (format, stays) = cli.command.log();
    log::init(&cli.global, format, stays);
    // The library logs libbpf's messages where they matter.
    libbpf_rs::set_print(None);
    let json = cli.global.json;
    // This needs no more than one open file.
    let exit_code = match reader::is_for_serve(&cli) {
        Ok(true) => instance(&cli)
            .and_then(|instance| reader::ask_serve(&instance, &cli))
            .unwrap_or_else(|failure| exit_code(Err(failure), json)),
        Ok(false) => {
            let files = l4lb::raise_limit_of_open_files().map_err(Failure::from);
            let enough = if needs_files(&cli.command) { files } else { Ok(()) };
            let result = enough.and_then(|()| run(&cli));
            if changes(&cli.command) {
                audit::report(&cli.global.instance, &result);
            }
            exit_code(result, json)
        }
        Err(failure) => exit_code(Err(failure), json),
    };
    ExitCode::from(exit_code)
}

/// Says why a command failed, and returns its exit code.
fn exit_code(result: Result, json: bool) -> u8 {
    match result {
        Ok(Exit::Done) => 0,
        Ok(Exit::Failed) => 1,
        Ok(Exit::Differences) => 3,
        Err(Failure::Output(error)) => not_written(&error, json),
        Err(Failure::Usage(what)) => {
            let text = format!("{}; see '{} --help'", message(&what), usage::command_path());
            output::error("usage", &text, json);
            2
        }
        Err(Failure::Library(error)) => {
            output::library_error(&error, json);
            1
        }
    }
}

/// Standard output could not be written.
fn not_written(error: &io::Error, json: bool) -> u8 {
    // The reader has closed the pipe, and needs no message.
    if error.kind() == io::ErrorKind::BrokenPipe {
        return 0;
    }
    output::error("output", &format!("cannot write to standard output: {error}"), json);
    1
}

/// Whether a command is refused if the process may open only a few files. `down` is not, so that forwarding can always
/// be ended: it opens a few files at a time, and a second run continues where the first one stopped.
fn needs_files(command: &Command) -> bool {
    !matches!(
        command,
        Command::Check(_) | Command::Down { .. } | Command::Reload(_) | Command::Version
    )
}

/// Whether a command changes something, so that the system's log has to know who called it. `serve` tells itself.
fn changes(command: &Command) -> bool {
    match command {
        Command::Apply(_) | Command::Reload(_) | Command::Down { .. } | Command::Node(_) => true,
        Command::Vip(args) => !args.dry.dry_run && !matches!(args.command, args::VipCommand::List),
        Command::Real(args) => {
            !args.dry.dry_run && !matches!(args.command, args::RealCommand::List { .. })
        }
        Command::Batch(args) => !args.dry.dry_run,
        Command::Chain(command) => !matches!(command, args::ChainCommand::List),
        Command::Flows(command) => matches!(command, args::FlowsCommand::Delete { .. }),
        Command::Decap(command) => {
            !matches!(command, args::DecapCommand::Status | args::DecapCommand::Serve(_))
        }
        _ => false,
    }
}

/// Whether a command promises to change nothing, not even what others left behind.
fn only_looks(command: &Command) -> bool {
    use Command::{Check, Doctor, Lab, Plan, Test, Trace};
    matches!(command, Check(_) | Plan(_) | Trace(_) | Doctor(_) | Lab(_) | Test { .. })
}

/// The instance that the command line names.
fn instance(cli: &Cli) -> Result<Instance> {
    let global = &cli.global;
    let instance = Instance::new(&global.bpffs, &global.instance)?;
    Ok(instance.with_lock_timeout(Duration::from_secs(global.lock_timeout)))
}

fn run(cli: &Cli) -> Result {
    match &cli.command {
        Command::Instances => return cmd::instances::list(&cli.global.bpffs, cli.global.json),
        Command::Version => return Ok(cmd::version::print(cli.global.json).map(|()| Exit::Done)?),
        Command::Completions { shell } => return cmd::complete::script(*shell),
        Command::Complete { words } => return cmd::complete::candidates(words),
        Command::Man { folder } => return cmd::man::write(folder),
        _ => {}
    }
    let instance = instance(cli)?;
    if cli.global.mount_bpffs {
        instance.mount_bpffs()?;
    }
    // Removes what killed captures have left. A failure concerns only captures.
    if !only_looks(&cli.command)
        && let Err(error) = l4lb::capture::remove_abandoned(&instance)
    {
        tracing::debug!("cannot remove what killed captures have left: {error}");
    }
    // Whoever reads the pins reads what is secret, too.
    run_command(&instance, cli, Secrets::Shown)
}

fn run_command(instance: &Instance, cli: &Cli, secrets: Secrets) -> Result {
    let (instance, global) = (instance.clone(), &cli.global);
    match &cli.command {
        Command::Check(args) => cmd::check::run(&instance, args, global.json),
        Command::Plan(file) => cmd::plan::plan(&instance, file, global.json),
        Command::Apply(file) => cmd::plan::apply(&instance, file, global.json),
        Command::Serve(file) => cmd::serve::serve(&instance, file),
        Command::Reload(args) => cmd::reload::reload(&instance, &Part::Balancer, args, global.json),
        Command::Down { yes } => cmd::state::down(&instance, *yes, global.json),
        Command::Save => cmd::state::save(&instance, secrets, global.json),
        Command::Status(args) => cmd::status::status(&instance, args, global.json),
        Command::Stats(stats) => cmd::stats::stats(&instance, stats, global.json),
        Command::Top { interval } => cmd::top::top(&instance, *interval, global.json),
        Command::Flows(command) => cmd::flows::run(&instance, command, global.json),
        Command::Vip(command) => cmd::vip::run(&instance, command, secrets, global.json),
        Command::Batch(file) => cmd::batch::run(&instance, file, global.json),
        Command::Node(command) => cmd::node::run(&instance, command, global.json),
        Command::Real(command) => cmd::real::run(&instance, command, global.json),
        Command::Decap(command) => cmd::decap::run(&instance, command, global.json),
        Command::Probe(args) => cmd::probe::run(&instance, args, global.json),
        Command::Trace(args) => cmd::trace::run(&instance, args, global.json),
        Command::Chain(command) => cmd::chain::run(&instance, command, global.json),
        Command::Dump(dump) => cmd::dump::dump(&instance, dump, global.json),
        Command::Doctor(doctor) => cmd::doctor::run(&instance, doctor, global.json),
        Command::Lab(lab) => cmd::lab::run(lab),
        Command::Test { files } => cmd::test::run(files, global.json),
        Command::Instances
        | Command::Version
        | Command::Completions { .. }
        | Command::Complete { .. }
        | Command::Man { .. } => Ok(Exit::Done),
    }
}
