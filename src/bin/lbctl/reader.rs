//! Commands that only read, for users who lack the rights to read by themselves: `lbctl serve` runs them for these
//! users, and what it prints comes by the control API. So both print the same, by the same code.

use clap::Parser;
use l4lb::ControlApiError;
use l4lb::Instance;
use l4lb::agent::Printed;
use l4lb::agent::Printer;
use l4lb::agent::ask;
use tracing::subscriber::with_default;

use crate::Failure;
use crate::args::ChainCommand;
use crate::args::Cli;
use crate::args::Command;
use crate::args::DecapCommand;
use crate::args::FlowsCommand;
use crate::args::RealCommand;
use crate::args::VipCommand;
use crate::daemon::block_on;
use crate::log;
use crate::output;

/// Whether `lbctl serve` may run a command for somebody who may only read: it changes nothing, opens no file that its
/// arguments name, ends soon, and prints a bounded text.
fn reads_only(command: &Command) -> bool {
    match command {
        Command::Save | Command::Status(_) => true,
        Command::Stats(args) => args.watch.is_none(),
        Command::Vip(args) => matches!(args.command, VipCommand::List),
        Command::Real(args) => matches!(args.command, RealCommand::List { .. }),
        Command::Flows(command) => matches!(command, FlowsCommand::Count { .. }),
        Command::Chain(command) => matches!(command, ChainCommand::List),
        Command::Decap(command) => matches!(command, DecapCommand::Status),
        _ => false,
    }
}

/// What `lbctl serve` answers to those who ask it to print.
pub(crate) fn printer() -> Printer {
    Printer::new(|instance, words, secrets| {
        let cli =
            Cli::try_parse_from(["lbctl"].into_iter().chain(words.iter().map(String::as_str)))
                .map_err(|error| format!("not understood: {}", first_line(&error)))?;
        if !reads_only(&cli.command) {
            return Err("only commands that list, count or show are run for others".to_owned());
        }
        if cli.global.instance != instance.name() {
            let (asked, served) = (&cli.global.instance, instance.name());
            return Err(format!("it serves instance '{served}', not '{asked}'; see --instance"));
        }
        // What the command warns of is for whoever asked.
        let log = log::for_others();
        let run = || {
            with_default(log, || {
                let done = crate::run_command(instance, &cli, secrets);
                crate::exit_code(done, cli.global.json)
            })
        };
        let (exit_code, caught) = output::catch(run);
        Ok(Printed { exit_code, stdout: caught.stdout, stderr: caught.stderr })
    })
}

fn first_line(error: &clap::Error) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

/// Whether a command is left to `lbctl serve`: it only reads, and this process may not read, or `--socket` says so.
pub(crate) fn is_for_serve(cli: &Cli) -> Result<bool, Failure> {
    if !reads_only(&cli.command) {
        if cli.global.socket.is_some() {
            let what = "--socket is for commands that read: status, stats, save, and those that list or count";
            return Err(Failure::Usage(what.to_owned()));
        }
        return Ok(false);
    }
    Ok(cli.global.socket.is_some() || l4lb::missing_rights()?.is_some())
}

/// Has `lbctl serve` run the command, and prints what it printed. Returns its exit code.
pub(crate) fn ask_serve(instance: &Instance, cli: &Cli) -> Result<u8, Failure> {
    let mut words: Vec<String> =
        std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    // It may come from the environment.
    let named = |word: &String| word == "--instance" || word.starts_with("--instance=");
    if !words.iter().any(named) {
        words.push(format!("--instance={}", instance.name()));
    }
    let socket = cli.global.socket.clone().or_else(|| instance.control_socket());
    let asked = socket.map_or_else(
        || Err(ControlApiError::NoDefault.into()),
        |socket| block_on(async move { ask(&socket, &words).await }),
    );
    let Printed { exit_code, stdout, stderr } = asked?;
    output::text(shown(&stdout))?;
    if !stderr.is_empty() {
        output::complain(shown(stderr.trim_end_matches('\n')));
    }
    Ok(exit_code)
}

/// Text of another process, without what would steer a terminal.
fn shown(text: &str) -> String {
    text.chars().filter(|c| *c == '\n' || !c.is_control()).collect()
}
