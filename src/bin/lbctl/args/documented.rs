//! Parses every `lbctl …` line of the documentation with the real parser.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

use clap::CommandFactory;
use clap::Parser;
use clap::error::ErrorKind;

use super::Cli;

/// A command line, and where it is.
struct Shown {
    place: String,
    text: String,
    /// Whether it is in a block of code, where arguments may not be left out as in a sentence.
    whole: bool,
}

#[test]
fn commands_in_the_documentation_parse() {
    let mut wrong = Vec::new();
    let mut seen = 0;
    for shown in files().iter().flat_map(|file| commands(file)) {
        let words = words(&shown.text);
        match Cli::try_parse_from(&words) {
            Ok(_) => {}
            Err(error) if is_fine(&error, &shown, &words) => {}
            Err(error) => wrong.push(format!("{}: {}\n{error}", shown.place, shown.text)),
        }
        seen += 1;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(seen > 150, "{seen} commands");
}

/// Whether the documentation may show a command line that the parser refuses with this error.
fn is_fine(error: &clap::Error, shown: &Shown, words: &[String]) -> bool {
    // `--adopt SLOT`: a word in capitals stands for a value.
    let placeholder = words.iter().any(|word| {
        word.len() > 1 && word.chars().all(|c| c.is_ascii_uppercase() || "-_/".contains(c))
    });
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => true,
        // `lbctl COMMAND --help`
        ErrorKind::InvalidSubcommand => words.get(1).is_some_and(|word| word == "COMMAND"),
        ErrorKind::ValueValidation | ErrorKind::InvalidValue => {
            placeholder || (!shown.whole && error.to_string().contains("none was supplied"))
        }
        // In a sentence, `lbctl decap attach` is the name of a command, and `lbctl real` of several.
        ErrorKind::MissingRequiredArgument
        | ErrorKind::MissingSubcommand
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => !shown.whole,
        _ => false,
    }
}

/// The README, docs/, the comments of the units and of the example configuration.
fn files() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = vec![root.join("README.md"), root.join("examples/l4lb.toml")];
    for (folder, extension) in [("docs", "md"), ("docs", "yml"), ("examples/systemd", "service")] {
        let entries = fs::read_dir(root.join(folder)).expect(folder);
        let paths = entries.map(|entry| entry.expect(folder).path());
        files.extend(paths.filter(|path| path.extension().is_some_and(|e| e == extension)));
    }
    files
}

/// The command lines in a file.
fn commands(file: &Path) -> Vec<Shown> {
    let text =
        fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let markdown = file.extension().is_some_and(|extension| extension == "md");
    let mut found = Vec::new();
    // Which block of code a line is in: shells show commands, text also what they print.
    let mut block = (!markdown).then_some("");
    for (number, line) in text.lines().enumerate() {
        let place = format!("{}:{}", file.display(), number + 1);
        if let Some(language) = line.strip_prefix("```") {
            block = block.is_none().then_some(language);
            continue;
        }
        if let Some(language) = block {
            let command = line.trim_start_matches(['#', ' ']);
            let command = command.strip_prefix("ExecStart=/usr/local/bin/").unwrap_or(command);
            let command = command.strip_prefix("ExecReload=/usr/local/bin/").unwrap_or(command);
            // In comments of other files, a description follows the command after some spaces.
            let command =
                if markdown { command } else { command.split("  ").next().unwrap_or_default() };
            let shell = language.starts_with("sh") || !markdown;
            if shell && command.starts_with("lbctl ") && !line.starts_with("# l4lb") {
                found.push(Shown { place, text: command.to_owned(), whole: markdown });
            }
            continue;
        }
        // Every second part of a line is between backquotes.
        for span in line.split('`').skip(1).step_by(2).filter(|span| span.starts_with("lbctl ")) {
            found.push(Shown { place: place.clone(), text: span.to_owned(), whole: false });
        }
    }
    found
}

/// The words of a command as a shell reads them, up to a comment or the end of the command.
pub(super) fn words(text: &str) -> Vec<String> {
    let mut words = vec![];
    let mut word: Option<String> = None;
    let mut quote = None;
    for character in text.chars() {
        match (quote, character) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (None, ' ') => words.extend(word.take()),
            (None, '#') if word.is_none() => break,
            (None, '|' | '>' | '<' | ';' | '&' | '…') => break,
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[test]
fn the_parser_is_sound() {
    Cli::command().debug_assert();
    assert_eq!(words("lbctl dump 'tcp port 80' # all"), ["lbctl", "dump", "tcp port 80"]);
    assert_eq!(words("lbctl dump -w - | tshark -r -"), ["lbctl", "dump", "-w", "-"]);
}
