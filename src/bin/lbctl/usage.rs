//! Command lines that cannot be parsed: what is said.

use std::io;
use std::io::Write as _;
use std::process::ExitCode;

use clap::error::ContextKind;
use clap::error::ContextValue;
use clap::error::ErrorKind;
use l4lb::outside::message;

use crate::args;
use crate::cmd::version;
use crate::output;

/// A usage error is one line, with exit code 2; `--help` and `--version` print to standard output. A command that needs a
/// subcommand and has none prints its help to standard error.
pub(crate) fn report(error: &clap::Error) -> Result<ExitCode, io::Error> {
    // What the command line asks for is not known, as nothing has parsed it.
    let json = std::env::args_os().any(|word| word == "--json");
    if error.kind() == ErrorKind::DisplayVersion {
        version::print(json)?;
        return Ok(ExitCode::SUCCESS);
    }
    if !error.use_stderr() {
        // Text without a line end waits in the buffer. At the end of the process, an error in writing it would go
        // unnoticed.
        error.print().and_then(|()| io::stdout().flush())?;
        return Ok(ExitCode::SUCCESS);
    }
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand && !json {
        output::complain(error.to_string().trim_end());
    } else {
        let what = one_line(error);
        let text = format!("{}; see '{} --help'", message(&what), command_path());
        output::error("usage", &text, json);
    }
    Ok(ExitCode::from(2))
}

/// What is wrong, and what was perhaps meant.
pub(crate) fn one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let first = text.split("\n\n").next().unwrap_or_default();
    let words: Vec<_> = first.split([' ', '\n']).filter(|word| !word.is_empty()).collect();
    let what = words.join(" ");
    match what.strip_prefix("error: ") {
        Some(what) => format!("{what}{}", similar(error)),
        None => "a subcommand is missing".to_owned(),
    }
}

/// `; a similar subcommand exists: 'status'`
fn similar(error: &clap::Error) -> String {
    let kinds = [
        (ContextKind::SuggestedSubcommand, "subcommand"),
        (ContextKind::SuggestedArg, "option"),
        (ContextKind::SuggestedValue, "value"),
    ];
    let found = kinds.into_iter().find_map(|(kind, name)| Some((name, error.get(kind)?)));
    match found {
        Some((name, ContextValue::String(one))) => format!("; a similar {name} exists: '{one}'"),
        Some((name, ContextValue::Strings(several))) => match several.as_slice() {
            [] => String::new(),
            [one] => format!("; a similar {name} exists: '{one}'"),
            several => format!("; similar {name}s exist: '{}'", several.join("', '")),
        },
        _ => String::new(),
    }
}

/// The command that was typed, as far as there is one: `lbctl flows find`.
pub(crate) fn command_path() -> String {
    let mut command = args::command();
    let mut path = command.get_name().to_owned();
    for word in std::env::args_os().skip(1) {
        let Some(subcommand) = command.find_subcommand(&word).cloned() else { continue };
        path = format!("{path} {}", subcommand.get_name());
        command = subcommand;
    }
    path
}
