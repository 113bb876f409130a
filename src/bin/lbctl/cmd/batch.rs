//! `lbctl batch`: many changes of VIPs and reals in one transaction.

use std::cell::Cell;
use std::path::Path;

use clap::CommandFactory as _;
use clap::FromArgMatches as _;
use l4lb::Balancer;
use l4lb::Config;
use l4lb::ConfigError;
use l4lb::Error;
use l4lb::Instance;
use l4lb::outside::Input;
use l4lb::outside::read_text_from;

use super::edits;
use super::edits::Edit;
use crate::Failure;
use crate::Result;
use crate::args::BatchFile;
use crate::args::BatchLine;
use crate::args::Change;
use crate::args::MOST_TARGETS;

/// The largest file, in bytes.
const LARGEST: u64 = 8 << 20;

/// The longest line, in bytes.
const LONGEST: usize = 4096;

pub(crate) fn run(instance: &Instance, args: &BatchFile, json: bool) -> Result {
    let stdin = args.file.as_os_str() == "-";
    let name = if stdin { Path::new(Config::STDIN) } else { &args.file };
    let input = if stdin { Input::stdin() } else { Input::open(&args.file) };
    let text = input.and_then(|input| read_text_from(input, LARGEST)).map_err(|error| {
        Failure::from(ConfigError::in_line(None, format!("cannot be read: {error}")).in_file(name))
    })?;
    let in_line =
        |line, what: String| Failure::from(ConfigError::in_line(Some(line), what).in_file(name));
    let changes = parse(&text).map_err(|(line, what)| in_line(line, what))?;
    if changes.is_empty() {
        let what =
            "holds no change; a line is one, such as: real drain tcp://10.200.1.1:80 10.0.3.1";
        return Err(ConfigError::in_line(None, what).in_file(name).into());
    }
    let failed = Cell::new(None);
    let edited = args.dry.edit(&Balancer::open(instance)?, |table| {
        failed.set(None);
        changes
            .iter()
            .try_for_each(|(line, edit)| edit.make(table).inspect_err(|_| failed.set(Some(*line))))
    });
    let plan = match (edited, failed.get()) {
        (Err(error), Some(line)) => return Err(in_line(line, error.to_string())),
        (Err(Error::Config(error)), None) => {
            // All changes together are wrong. The last one of the VIP made it so, or is where to look.
            let of_vip = |vip| changes.iter().rfind(|(_, edit)| edit.vip() == Some(vip));
            let line = error.vip().and_then(of_vip).map(|(line, _)| *line);
            return Err(error.in_file(name).on_line(line).into());
        }
        (edited, _) => edited?,
    };
    args.dry.report(&plan, json)
}

/// The changes, and the line of each; or what is wrong, and in which line.
fn parse(text: &str) -> std::result::Result<Vec<(usize, Edit)>, (usize, String)> {
    // Making the parser takes longer than a line does.
    let mut parser = BatchLine::command();
    let mut changes = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let at = |what: String| (number, what);
        if line.len() > LONGEST {
            return Err(at(format!("the line is longer than {LONGEST} bytes")));
        }
        let words = shlex::split(line).ok_or_else(|| {
            at("a quotation mark, or a backslash at the end, stands alone".to_owned())
        })?;
        let words = match words.split_first() {
            None => continue,
            Some((first, rest)) if first == "lbctl" => rest,
            _ => &words,
        };
        let matches = parser
            .try_get_matches_from_mut(words)
            .map_err(|error| at(crate::usage::one_line(&error, "lbctl")))?;
        let parsed = BatchLine::from_arg_matches(&matches)
            .map_err(|error| at(crate::usage::one_line(&error, "lbctl")))?;
        let edits = match &parsed.change {
            Change::Vip(command) => edits::of_vips(command),
            Change::Real(command) => edits::of_reals(command).map_err(|failure| match failure {
                Failure::Usage(what) => at(what),
                other => at(format!("{other:?}")),
            })?,
        };
        let edits = edits.ok_or_else(|| {
            at(format!("'{}' is no change of a batch: run it by itself", words.join(" ")))
        })?;
        changes.extend(edits.into_iter().map(|edit| (number, edit)));
        if changes.len() > MOST_TARGETS {
            return Err(at(format!("these are more than {MOST_TARGETS} changes")));
        }
    }
    Ok(changes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let text = "# a comment\n\n  vip add tcp://10.0.0.1:80 --check 'a b' # behind it\n\
                    lbctl real add tcp://10.0.0.1:80 10.1.0.1 10.1.0.2\nreal drain --all 10.1.0.1\n";
        let changes = parse(text).expect("changes");
        let lines: Vec<_> = changes.iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [3, 4, 4, 5]);
        assert!(matches!(&changes[0].1, Edit::AddVip(_, spec) if spec.health.check.is_some()));
    }

    #[test]
    fn what_is_no_change_is_refused_with_its_line() {
        for (line, says) in [
            ("real", "subcommand"),
            ("real dran --all 10.0.0.1", "drain"),
            ("real list", "run it by itself"),
            ("real drain --wait --all 10.0.0.1", "run it by itself"),
            ("real health --all 10.0.0.1 healthy", "run it by itself"),
            ("real drain 10.0.0.1", "is not a VIP"),
            ("real weight --all 10.0.0.1 heavy", "write it like"),
            ("down", "unrecognized"),
            ("vip delete \"tcp", "quotation mark"),
            ("vip --help", "unexpected"),
        ] {
            let (number, what) = parse(&format!("#\n{line}")).expect_err(line);
            assert!(number == 2 && what.contains(says) && !what.contains('\n'), "{line}: {what}");
        }
        let long = format!("vip add tcp://10.0.0.1:80 {}", " ".repeat(LONGEST));
        assert!(parse(&long).expect_err("it is long").1.contains("4096 bytes"));
    }
}
