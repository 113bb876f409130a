//! The help: commands by what they are for, and examples of each.

use std::fmt::Write as _;

use clap::Command;
use clap::CommandFactory as _;

use super::Cli;
use super::examples::EXAMPLES;

/// The commands by what they are for. Those that no group names come last.
const GROUPS: [(&str, &[&str]); 4] = [
    ("Set up", &["check", "plan", "apply", "serve", "reload", "save", "down"]),
    ("Change", &["vip", "real", "batch", "node", "decap", "chain"]),
    ("Look", &["status", "top", "stats", "flows", "dump", "trace", "instances", "version"]),
    ("Test", &["doctor", "probe", "test", "lab"]),
];

/// The width of the list of commands: that of a small terminal.
const WIDTH: usize = 80;

/// The column of the descriptions.
const INDENT: usize = 14;

/// The parser, with all of its help.
pub(crate) fn command() -> Command {
    let command = with_examples(Cli::command(), "");
    let template = format!(
        "{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{}\
         Options of every command:\n{{options}}{{after-help}}",
        groups(&command)
    );
    command.help_template(template)
}

/// The list of commands.
fn groups(command: &Command) -> String {
    let visible: Vec<_> = command.get_subcommands().filter(|c| !c.is_hide_set()).collect();
    let named = |name: &str| visible.iter().copied().find(|c| c.get_name() == name);
    let grouped = |name: &str| GROUPS.iter().any(|(_, names)| names.contains(&name));
    let others = visible.iter().copied().filter(|c| !grouped(c.get_name()));
    let mut groups: Vec<(&str, Vec<&Command>)> = GROUPS
        .iter()
        .map(|(group, names)| (*group, names.iter().filter_map(|name| named(name)).collect()))
        .collect();
    groups.push(("Other", others.collect()));
    let mut text = String::new();
    for (group, commands) in groups {
        let _ = writeln!(text, "{group}:");
        for command in commands {
            let about = command.get_about().map(ToString::to_string).unwrap_or_default();
            let aliases: Vec<_> = command.get_visible_aliases().collect();
            let aliases = match aliases.as_slice() {
                [] => String::new(),
                [alias] => format!(" [alias: {alias}]"),
                aliases => format!(" [aliases: {}]", aliases.join(", ")),
            };
            let lines = textwrap::wrap(&format!("{about}{aliases}"), WIDTH - INDENT)
                .into_iter()
                .map(std::borrow::Cow::into_owned)
                .collect::<Vec<_>>()
                .join(&format!("\n{:INDENT$}", ""));
            let _ = writeln!(text, "  {:<1$}{lines}", command.get_name(), INDENT - 2);
        }
        text.push('\n');
    }
    text
}

/// The command and its subcommands, with the examples of each below the help.
fn with_examples(command: Command, path: &str) -> Command {
    let examples = EXAMPLES.iter().find(|(of, _)| *of == path).map(|(_, lines)| *lines);
    let command = match examples {
        Some(lines) => {
            let list = lines.iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n");
            let before = command.get_after_help().map(|help| format!("{help}\n\n"));
            let before = before.unwrap_or_default();
            command.after_help(format!("{before}Examples:\n{list}"))
        }
        None => command,
    };
    command.mut_subcommands(|subcommand| {
        let gap = if path.is_empty() { "" } else { " " };
        let path = format!("{path}{gap}{}", subcommand.get_name());
        with_examples(subcommand, &path)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The commands that do something, by what is typed.
    fn leaves(command: &Command, path: &str, found: &mut Vec<String>) {
        for subcommand in command.get_subcommands().filter(|c| !c.is_hide_set()) {
            let path = format!("{path} {}", subcommand.get_name());
            if subcommand.has_subcommands() {
                leaves(subcommand, &path, found);
            } else {
                found.push(path.trim_start().to_owned());
            }
        }
    }

    #[test]
    fn every_command_has_examples_that_parse() {
        let mut found = Vec::new();
        leaves(&Cli::command(), "", &mut found);
        assert!(found.len() > 30, "{found:?}");
        for path in &found {
            let examples = EXAMPLES.iter().find(|(of, _)| of == path);
            let (_, lines) = examples.unwrap_or_else(|| panic!("lbctl {path} has no example"));
            assert!(!lines.is_empty(), "{path}");
        }
        let exists = |path: &str| {
            let name = path.split(' ').next().unwrap_or_default();
            Cli::command().find_subcommand(name).is_some()
        };
        for (path, lines) in EXAMPLES.iter().filter(|(path, _)| exists(path)) {
            for line in *lines {
                let shown = line.split("lbctl ").nth(1).expect("a call of lbctl");
                let words = super::super::documented::words(&format!("lbctl {shown}"));
                assert!(shown.starts_with(path), "{path}: {line}");
                if let Err(error) = command().try_get_matches_from(words) {
                    panic!("{line}\n{error}");
                }
            }
        }
    }

    /// docs/json.md says of every command what it prints, and of no other.
    #[test]
    fn every_command_has_a_row_about_its_json() {
        let page = include_str!("../../../../docs/json.md");
        let (_, table) = page.split_once("\n| command | prints |\n").expect("a table");
        let rows = table.lines().take_while(|line| line.starts_with('|'));
        let cells = rows.filter_map(|row| row.trim_matches('|').split_once(" | "));
        let named = |(commands, _): (&'static str, &str)| {
            // An option makes no other command.
            let names = commands.split('`').skip(1).step_by(2);
            names.map(|name| name.split(" --").next().unwrap_or_default().to_owned())
        };
        let named: std::collections::BTreeSet<_> = cells.flat_map(named).collect();
        let mut found = vec!["lab".to_owned()];
        leaves(&Cli::command(), "", &mut found);
        assert_eq!(named, found.into_iter().collect());
    }

    #[test]
    fn commands_are_in_groups() {
        let help = command().render_help().to_string();
        for (group, first) in [
            ("Set up:", "  plan"),
            ("Change:", "  vip "),
            ("Look:", "  status "),
            ("Test:", "  doctor "),
        ] {
            let at = help.find(group).unwrap_or_else(|| panic!("no {group} in {help}"));
            assert!(help[at..].find(first).is_some_and(|n| n < 1000), "{first}: {help}");
        }
        let other = help.split("Other:").nth(1).expect("a last group");
        let other = other.split("\n\n").next().expect("its commands");
        let names: Vec<_> = other
            .lines()
            .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
            .collect();
        assert_eq!(names.len(), 1, "commands without a group: {names:?}");
        assert!(help.lines().all(|line| line.len() <= 100), "{help}");
    }
}
