//! docs/errors.md and docs/reference.md: every message of an error, and every name that l4lb prints, at an anchor that
//! stays. They are made from the code and from pages that tests compare with the code; `LB_WRITE_REFERENCE=1` makes
//! them anew.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

const WRITE: &str = "LB_WRITE_REFERENCE=1 cargo test --test layers reference";

/// Where a table of names is, and how the reference calls them.
struct Table {
    page: &'static str,
    /// What the row above the table's rule says first.
    head: &'static str,
    /// The column with the name.
    column: usize,
    kind: &'static str,
    look: &'static str,
}

const TABLES: [Table; 7] = [
    Table {
        page: "metrics.md",
        head: "verdict | reason",
        column: 1,
        kind: "reason",
        look: "`lbctl stats`, `lbctl dump --at exit`, `lbctl trace`",
    },
    Table {
        page: "metrics.md",
        head: "event",
        column: 0,
        kind: "event",
        look: "`lbctl stats`, `lbctl trace`",
    },
    Table {
        page: "status.md",
        head: "`problem`",
        column: 0,
        kind: "problem",
        look: "`lbctl status`",
    },
    Table {
        page: "doctor.md",
        head: "finding",
        column: 0,
        kind: "finding",
        look: "`lbctl doctor`; on a real `lbctl doctor --real`",
    },
    Table {
        page: "metrics.md",
        head: "result",
        column: 0,
        kind: "result",
        look: "`lbctl decap status`, `lbctl stats`",
    },
    Table {
        page: "health.md",
        head: "reason | what it means",
        column: 0,
        kind: "check",
        look: "`lbctl status`, `lbctl real list`, `lbctl probe`",
    },
    Table {
        page: "metrics.md",
        head: "metric",
        column: 0,
        kind: "metric",
        look: "`curl -s http://127.0.0.1:9847/metrics`",
    },
];

/// An error of `src/model/error`.
struct Message {
    area: String,
    name: String,
    text: String,
    when: String,
}

/// Errors whose messages are no template: by their kind, what they say, and when they are said. `lbctl` and the control
/// API have four kinds of their own.
const OTHERS: [(&str, &str, &str); 8] = [
    ("check_host", "REASON", "This host cannot run the checks of reals."),
    ("config", "FILE:LINE: KEY: REASON", "The configuration is not valid."),
    ("flow_not_found", "no connection table has this flow; …", "`lbctl flows find` found nothing."),
    (
        "lost_pins",
        "instance 'INSTANCE': PINS …; COMMAND",
        "Somebody removed pins of an instance that runs.",
    ),
    (
        "missing_rights",
        "not root, and without CAPABILITIES, which …; REMEDY",
        "BPF and network administration need capabilities that root has.",
    ),
    (
        "output",
        "cannot write to standard output: REASON",
        "What a command prints could not be written.",
    ),
    ("request", "REASON", "A request to the control API makes no sense, or too many come at once."),
    ("usage", "REASON; see 'lbctl COMMAND --help'", "The command line makes no sense."),
];

/// The kinds that the library does not have.
const NOT_OF_LIBRARY: [&str; 4] = ["flow_not_found", "output", "request", "usage"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn page(name: &str) -> String {
    fs::read_to_string(root().join("docs").join(name)).unwrap_or_default()
}

/// `NoBpffs` → `no_bpffs`.
fn snake(name: &str) -> String {
    let mut out = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.extend(letter.to_lowercase());
    }
    out
}

/// The text of an `#[error(…)]`, up to its closing parenthesis: the first literal, and what follows it.
fn attribute(source: &str) -> Option<(String, &str)> {
    let source = source.trim_start();
    let mut characters = source.strip_prefix('"')?.char_indices();
    let mut text = String::new();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((text, &source[at + 2..])),
            '\\' => match characters.next()?.1 {
                // The line goes on at its next word.
                '\n' => {
                    let rest = characters.as_str();
                    let skipped = rest.len() - rest.trim_start().len();
                    if skipped > 0 {
                        characters.nth(skipped - 1);
                    }
                }
                other => text.push(other),
            },
            other => text.push(other),
        }
    }
    None
}

/// The arguments behind the literal, up to the attribute's end.
fn arguments(rest: &str) -> Vec<String> {
    let (mut depth, mut found, mut current) = (0, vec![], String::new());
    for character in rest.chars() {
        match character {
            '(' | '{' | '[' => depth += 1,
            ')' if depth == 0 => break,
            ')' | '}' | ']' => depth -= 1,
            ',' if depth == 0 => {
                found.push(std::mem::take(&mut current));
                continue;
            }
            _ => {}
        }
        current.push(character);
    }
    found.push(current);
    let named = |argument: &str| {
        argument
            .split_once('=')
            .is_some_and(|(name, _)| name.trim().chars().all(|c| c.is_alphanumeric() || c == '_'))
    };
    found
        .iter()
        .map(|argument| argument.trim().to_owned())
        .filter(|argument| !argument.is_empty() && !named(argument))
        .collect()
}

/// What stands for an expression: its first word that is a value's name.
fn stand_in(expression: &str) -> String {
    const CALLS: [&str; 16] = [
        "display",
        "join",
        "as_secs",
        "quote",
        "message",
        "list",
        "waited",
        "detach_hint",
        "end",
        "to_string",
        "as_deref",
        "remedy",
        "reload_command",
        "deref",
        "self",
        "unwrap_or",
    ];
    if ["detach_hint", "remedy", "reload_command"].iter().any(|call| expression.starts_with(call)) {
        return "COMMAND".to_owned();
    }
    let words = expression.split(|c: char| !c.is_alphanumeric() && c != '_');
    let word = words.into_iter().find(|word| {
        word.starts_with(|c: char| c.is_lowercase())
            && !CALLS.contains(word)
            && !["if", "consts"].contains(word)
    });
    match word {
        Some(word) if !expression.trim_start().starts_with("if ") => word.to_uppercase(),
        _ => "…".to_owned(),
    }
}

/// A message with words in capitals for what differs.
fn render(text: &str, arguments: &[String]) -> String {
    let mut arguments = arguments.iter();
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('{') {
        let (inside, behind) = behind.split_once('}').expect("a placeholder ends");
        let name = inside.split(':').next().unwrap_or_default();
        out.push_str(before);
        if name.is_empty() {
            out.push_str(&arguments.next().map_or("…".to_owned(), |argument| stand_in(argument)));
        } else if name.chars().all(|c| c.is_ascii_digit()) {
            out.push_str("NAME");
        } else {
            out.push_str(&name.to_uppercase());
        }
        rest = behind;
    }
    out + rest
}

/// A comment for rustdoc, without its links to items.
fn without_links(comment: &str) -> String {
    let mut parts = comment.split("](crate::");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        if let Some(at) = out.rfind('[') {
            out.remove(at);
        }
        out.push_str(part.split_once(')').map_or(part, |(_, behind)| behind));
    }
    out
}

fn messages() -> Vec<Message> {
    let folder = root().join("src/model/error");
    let entries = fs::read_dir(folder).expect("src/model/error");
    let mut files: Vec<_> = entries.map(|entry| entry.expect("a file").path()).collect();
    files.sort();
    let read = |file| messages_of(&fs::read_to_string(file).expect("a file"));
    let mut messages: Vec<_> = files.iter().flat_map(read).collect();
    messages.extend(OTHERS.map(|(name, text, when)| Message {
        area: "other".to_owned(),
        name: name.to_owned(),
        text: text.to_owned(),
        when: when.to_owned(),
    }));
    messages
}

fn messages_of(source: &str) -> Vec<Message> {
    let (mut found, mut area, mut when, mut told) = (vec![], String::new(), String::new(), None);
    let (mut at, mut inside) = (0, false);
    for line in source.split_inclusive('\n') {
        let word = line.trim();
        // The lines of a message may begin as variants do.
        if inside {
            inside = !word.ends_with(")]");
            at += line.len();
            continue;
        }
        if let Some(text) = word.strip_prefix("///") {
            when.push_str(text);
        } else if word.starts_with("#[error(") {
            let start = at + line.find("error(").expect("it is there") + "error(".len();
            inside = !word.ends_with(")]");
            told = attribute(&source[start..]).map(|(text, rest)| render(&text, &arguments(rest)));
        } else if let Some(rest) =
            word.strip_prefix("pub enum ").or(word.strip_prefix("pub struct "))
        {
            let name = rest.split([' ', '{', '(', ';']).next().unwrap_or_default();
            area = snake(name.trim_end_matches("Error").trim_end_matches("Obstacle"));
            if let Some(text) = told.take() {
                found.push(Message {
                    area: area.clone(),
                    name: area.clone(),
                    text,
                    when: when.trim().to_owned(),
                });
            }
            when.clear();
        } else if word.starts_with(|c: char| c.is_uppercase()) {
            if let Some(text) = told.take() {
                let name = snake(word.split([' ', '{', '(', ',']).next().unwrap_or_default());
                let name = if area.is_empty() { name } else { format!("{area}_{name}") };
                found.push(Message {
                    area: area.clone(),
                    name,
                    text,
                    when: when.trim().to_owned(),
                });
            }
            when.clear();
        } else if !word.starts_with('#') {
            // A field, or the end of something: its comment is not the next one's.
            when.clear();
        }
        at += line.len();
    }
    for message in &mut found {
        message.when = without_links(&message.when);
    }
    // What only repeats another error's text has no text of its own.
    found.retain(|message| message.text != "NAME");
    found
}

/// What to do, which people write: by the heading that it stands below.
fn remedies(text: &str) -> BTreeMap<String, String> {
    let (mut found, mut heading) = (BTreeMap::new(), String::new());
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("### ") {
            name.clone_into(&mut heading);
        } else if line.starts_with("Do: ") {
            found.insert(heading.clone(), line.to_owned());
        }
    }
    found
}

fn errors_page(old: &str) -> String {
    let remedies = remedies(old);
    let (intro, _) = old.split_once("<!-- made by").unwrap_or((old, ""));
    let mut text = format!(
        "{intro}<!-- made by {WRITE}; only lines that begin with 'Do:' are written by hand -->\n"
    );
    let mut areas = BTreeMap::<String, Vec<Message>>::new();
    for message in messages() {
        areas.entry(message.area.clone()).or_default().push(message);
    }
    for (area, messages) in areas {
        let title = if area.is_empty() {
            "Instances, interfaces, VIPs and reals".to_owned()
        } else if area == "other" {
            "Others".to_owned()
        } else {
            format!("Area {area}")
        };
        let _ = write!(text, "\n## {title}\n");
        for Message { name, text: told, when, .. } in messages {
            let remedy = remedies.get(&name).map_or("Do: ", |line| line);
            let _ = write!(text, "\n### {name}\n\n```text\n{told}\n```\n\n{when}\n\n{remedy}\n");
        }
    }
    text
}

/// The rows of all tables that begin with this head, and the heading each table is below.
fn rows(table: &Table) -> Vec<(String, Vec<String>)> {
    let text = page(table.page);
    let (mut found, mut inside, mut heading) = (vec![], false, String::new());
    for line in text.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            title.clone_into(&mut heading);
        }
        let Some(row) = line.strip_prefix("| ") else {
            inside = false;
            continue;
        };
        if row.starts_with(&format!("{} |", table.head))
            || row.starts_with(table.head) && table.head.contains('|')
        {
            inside = true;
        } else if inside && !row.starts_with("---") {
            let cells = row.trim_end_matches('|').split(" | ").map(|cell| cell.trim().to_owned());
            found.push((heading.clone(), cells.collect()));
        }
    }
    assert!(!found.is_empty(), "docs/{}: no table '{}'", table.page, table.head);
    found
}

/// What GitHub calls a heading in a link.
fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

fn reference_page(old: &str, errors: &str) -> String {
    let (intro, _) = old.split_once("<!-- made by").unwrap_or((old, ""));
    let mut text = format!("{intro}<!-- made by {WRITE} -->\n");
    for table in &TABLES {
        let _ = write!(text, "\n## Kind: {}\n\nLook: {}.\n", table.kind, table.look);
        // Two tables of results share names.
        let mut entries: Vec<(String, String, String)> = vec![];
        for (heading, cells) in rows(table) {
            let name = cells[table.column].replace('`', "");
            let others = cells.iter().enumerate().filter(|(at, _)| *at != table.column);
            let others: Vec<_> =
                others.map(|(_, cell)| cell.as_str()).filter(|cell| !cell.is_empty()).collect();
            let others = others.join(": ").replace("](#", &format!("]({}#", table.page));
            let link = format!("{}#{}", table.page, anchor(&heading));
            match entries.iter_mut().find(|(known, ..)| *known == name) {
                Some((_, told, _)) => {
                    *told = format!("{told}; where packets are decapsulated, {others}");
                }
                None => entries.push((name, others, link)),
            }
        }
        for (name, told, link) in entries {
            let (kind, page) = (table.kind, table.page);
            let told = told.trim_end_matches('.');
            let _ = write!(text, "\n### {kind} {name}\n\n{told}. More: [{page}]({link})\n");
        }
    }
    text.push_str(
        "\n## Alerts\n\nEach is a section of [alerts.md](alerts.md), and its `runbook_url`.\n\n",
    );
    for line in page("alerts.md").lines() {
        if let Some(name) = line.strip_prefix("## ").filter(|name| name.starts_with("L4lb")) {
            let _ = writeln!(text, "- [{name}](alerts.md#{})", anchor(name));
        }
    }
    text.push_str("\n## Messages of errors\n\nEach is a section of [errors.md](errors.md).\n\n");
    for message in messages() {
        let _ = writeln!(
            text,
            "- [{}](errors.md#{}): {}",
            message.name,
            anchor(&message.name),
            message.text
        );
    }
    assert!(errors.contains("### "), "errors.md has sections");
    text
}

#[test]
fn errors_and_reference_are_current() {
    let (old_errors, old_reference) = (page("errors.md"), page("reference.md"));
    let errors = errors_page(&old_errors);
    let reference = reference_page(&old_reference, &errors);
    if std::env::var_os("LB_WRITE_REFERENCE").is_some() {
        fs::write(root().join("docs/errors.md"), &errors).expect("write docs/errors.md");
        fs::write(root().join("docs/reference.md"), &reference).expect("write docs/reference.md");
    }
    let lacking: Vec<_> = messages()
        .into_iter()
        .map(|message| message.name)
        .filter(|name| remedies(&errors).get(name).is_none_or(|line| line.trim() == "Do:"))
        .collect();
    assert!(page("errors.md") == errors, "docs/errors.md: {WRITE}");
    assert!(page("reference.md") == reference, "docs/reference.md: {WRITE}");
    assert!(
        lacking.is_empty(),
        "docs/errors.md says nothing about what to do: {}",
        lacking.join(", ")
    );
}

/// Each error is on the page by the name that `--json` has for it.
#[test]
fn reference_has_each_kind_of_error() {
    let named: Vec<_> = messages().into_iter().map(|message| message.name).collect();
    let named_once: BTreeSet<_> = named.iter().cloned().collect();
    assert_eq!(named.len(), named_once.len(), "{named:?}");
    let kinds = l4lb::Error::kinds().into_iter();
    assert_eq!(named_once, kinds.chain(NOT_OF_LIBRARY.map(str::to_owned)).collect());
}

/// An anchor that two headings share leads to the first only.
#[test]
fn reference_anchors_are_unique() {
    for name in ["errors.md", "reference.md"] {
        let text = page(name);
        let mut seen = BTreeSet::new();
        for line in text.lines().filter(|line| line.starts_with('#')) {
            assert!(
                seen.insert(anchor(line.trim_start_matches('#').trim())),
                "docs/{name}: {line}"
            );
        }
    }
}

#[test]
fn reference_templates_are_read() {
    let source = "pub enum ChainError {\n    /// A name.\n    #[error(\n        \"{name} is \\\n         taken in {} {0}\",\n        path.display()\n    )]\n    NameTaken {\n";
    let found = messages_of(source);
    assert_eq!(found.len(), 1);
    assert_eq!(
        (&*found[0].name, &*found[0].text),
        ("chain_name_taken", "NAME is taken in PATH NAME")
    );
    assert_eq!(found[0].when, "A name.");
}
