//! Command lines that cannot be parsed: what is said.

mod other_tools;

use std::ffi::OsStr;
use std::ffi::OsString;
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
        let path = command_path();
        let text = format!("{}; see '{path} --help'", message(&one_line(error, &path)));
        output::error("usage", &text, json);
    }
    Ok(ExitCode::from(2))
}

/// What is wrong, and what was perhaps meant. `path` is the command that has the arguments.
pub(crate) fn one_line(error: &clap::Error, path: &str) -> String {
    let text = error.to_string();
    let first = text.split("\n\n").next().unwrap_or_default();
    let words: Vec<_> = first.split([' ', '\n']).filter(|word| !word.is_empty()).collect();
    let what = words.join(" ");
    match what.strip_prefix("error: ") {
        Some(what) => format!("{what}{}", meant(error, path)),
        None => "a subcommand is missing".to_owned(),
    }
}

/// What does the same here as what was typed, or what is spelled alike.
fn meant(error: &clap::Error, path: &str) -> String {
    let kind = match error.kind() {
        ErrorKind::InvalidSubcommand => ContextKind::InvalidSubcommand,
        ErrorKind::UnknownArgument => ContextKind::InvalidArg,
        _ => return similar(error),
    };
    let Some(ContextValue::String(word)) = error.get(kind) else { return similar(error) };
    if let Some(same) = other_tools::same(path, word) {
        return format!("; {same}");
    }
    // `lbctl check lb.toml`, `lbctl check -c lb.toml`
    if kind == ContextKind::InvalidArg && takes_file(path) {
        if !word.starts_with('-') {
            return format!("; write -f {word}");
        }
        if word == "-c" {
            return "; -f FILE names the file".to_owned();
        }
    }
    similar(error)
}

/// Whether the command at this path takes `-f FILE`.
fn takes_file(path: &str) -> bool {
    let command = command_at(path);
    command.is_some_and(|command| command.get_arguments().any(|a| a.get_short() == Some('f')))
}

/// The command at a path.
fn command_at(path: &str) -> Option<clap::Command> {
    let mut names = path.split(' ').skip(1);
    names.try_fold(args::command(), |command, name| command.find_subcommand(name).cloned())
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
    path_of(std::env::args_os().skip(1))
}

/// The command of these words: names of commands, up to the first word that is none, with options between them.
fn path_of(mut words: impl Iterator<Item = OsString>) -> String {
    let lbctl = args::command();
    // Every command has these.
    let takes_value = |word: &OsStr| {
        let long = word.to_str().and_then(|word| word.strip_prefix("--"));
        let mut global = lbctl.get_arguments();
        long.is_some_and(|long| {
            global.any(|a| a.get_long() == Some(long) && a.get_action().takes_values())
        })
    };
    let (mut command, mut path) = (&lbctl, lbctl.get_name().to_owned());
    while let Some(word) = words.next() {
        if let Some(subcommand) = command.find_subcommand(&word) {
            path = format!("{path} {}", subcommand.get_name());
            command = subcommand;
        } else if takes_value(&word) {
            words.next();
        } else if !word.as_encoded_bytes().starts_with(b"-") {
            break;
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_ends_at_the_first_word_that_is_none() {
        for (words, path) in [
            ("flows find tcp://10.200.1.1:80", "lbctl flows find"),
            ("--instance vip real --json ls", "lbctl real list"),
            ("--instance=vip real", "lbctl real"),
            ("real set tcp://10.200.1.1:80 10.0.1.1 weight 5", "lbctl real"),
            ("describe vip", "lbctl"),
            ("map dump", "lbctl"),
            ("-q check lb.toml", "lbctl check"),
        ] {
            assert_eq!(path_of(words.split(' ').map(Into::into)), path, "{words}");
        }
    }

    #[test]
    fn what_was_meant() {
        for (words, meant) in [
            ("drain 10.0.1.1", "'lbctl real drain VIP REAL' drains"),
            ("-A -t 10.0.0.1:80", "'lbctl vip add tcp://ADDRESS:PORT'"),
            ("check lb.toml", "write -f lb.toml"),
            ("check -c lb.toml", "-f FILE names the file"),
            ("apply lb.toml", "write -f lb.toml"),
            ("batch changes", "write -f changes"),
            ("dump -r FILE", "'tcpdump -nr FILE'"),
            ("statsu", "similar subcommands exist"),
        ] {
            let words: Vec<_> = words.split(' ').map(OsString::from).collect();
            let all = std::iter::once("lbctl".into()).chain(words.iter().cloned());
            let error =
                args::command().try_get_matches_from(all).expect_err("a wrong command line");
            let line = one_line(&error, &path_of(words.iter().cloned()));
            assert!(line.contains(meant), "{words:?}: {line}");
        }
    }
}
