//! Completions: the scripts of shells, and what they ask.
//!
//! A script asks `lbctl complete -- WORDS` at each press of Tab, and gets a candidate a line. So it offers the VIPs, reals and
//! programs that run, and never differs from the `lbctl` that it asks. A failure, such as missing rights, offers less; it
//! prints nothing.

mod candidates;

use std::ffi::OsString;
use std::fmt::Write as _;

use clap::CommandFactory as _;
use clap_complete::engine::CompletionCandidate;

use crate::Exit;
use crate::Result;
use crate::args::Cli;
use crate::args::Shell;
use crate::output;

/// The most candidates that are printed. Shells ask before they show more than a hundred.
const MOST: usize = 4096;

/// The most words that are looked at.
const MOST_WORDS: usize = 4096;

/// Prints the script of a shell.
pub(crate) fn script(shell: Shell) -> Result {
    output::text(match shell {
        Shell::Bash => include_str!("lbctl.bash"),
        Shell::Zsh => include_str!("_lbctl"),
        Shell::Fish => include_str!("lbctl.fish"),
    })?;
    Ok(Exit::Done)
}

/// Prints what may stand for the last of these words, which follow `lbctl`: a candidate a line, and behind a tab what it
/// means.
pub(crate) fn candidates(words: &[OsString]) -> Result {
    let words = words.get(..MOST_WORDS).unwrap_or(words);
    let typed = words.last().map(|word| word.to_string_lossy().into_owned()).unwrap_or_default();
    let mut command = candidates::offer(Cli::command(), words);
    let mut all = vec![OsString::from("lbctl")];
    all.extend(words.iter().cloned());
    if words.is_empty() {
        all.push(OsString::new());
    }
    let last = all.len() - 1;
    // Names of files are those below this folder.
    let here = std::env::current_dir().ok();
    let found = clap_complete::engine::complete(&mut command, all, last, here.as_deref());
    let found = found.unwrap_or_default();
    let mut text = String::new();
    for candidate in wanted(&found, &typed).take(MOST) {
        let value = candidate.get_value().to_string_lossy();
        // A line ends a candidate: a file's name may have anything in it.
        if value.chars().any(char::is_control) {
            continue;
        }
        let help = candidate.get_help().map(ToString::to_string).unwrap_or_default();
        let help = help.lines().next().unwrap_or_default();
        let tab = if help.is_empty() { "" } else { "\t" };
        let _ = writeln!(text, "{value}{tab}{help}");
    }
    output::text(text)?;
    Ok(Exit::Done)
}

/// Options are offered if one was begun, or if nothing else is possible.
fn wanted<'a>(
    found: &'a [CompletionCandidate],
    typed: &str,
) -> impl Iterator<Item = &'a CompletionCandidate> {
    let is = |candidate: &CompletionCandidate, start: &str| {
        candidate.get_value().to_string_lossy().starts_with(start)
    };
    let begun = typed.starts_with('-');
    let only_options = found.iter().all(|candidate| is(candidate, "-"));
    found.iter().filter(move |candidate| {
        begun || (!is(candidate, "-") || (only_options && is(candidate, "--")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(words: &[&str]) -> Vec<String> {
        let words: Vec<_> = words.iter().map(OsString::from).collect();
        let typed = words.last().expect("a word").to_string_lossy().into_owned();
        let mut command = candidates::offer(Cli::command(), &words);
        let all: Vec<_> = [OsString::from("lbctl")].into_iter().chain(words).collect();
        let last = all.len() - 1;
        let found = clap_complete::engine::complete(&mut command, all, last, None).unwrap();
        wanted(&found, &typed).map(|c| c.get_value().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn commands_options_and_values() {
        let commands = values(&[""]);
        assert!(commands.contains(&"real".to_owned()), "{commands:?}");
        assert!(!commands.iter().any(|c| c.starts_with('-') || c == "complete"), "{commands:?}");
        assert_eq!(values(&["do"]), ["down", "doctor"]);
        assert!(values(&["status", ""]).contains(&"--all".to_owned()));
        assert!(!values(&["status", ""]).contains(&"-v".to_owned()));
        assert_eq!(
            values(&["vip", "add", "tcp://10.0.0.1:80", "--no-real="]),
            ["--no-real=drop", "--no-real=reject"]
        );
        assert!(values(&["dump", "--reason", "ip_"]).contains(&"ip_options".to_owned()));
    }
}
