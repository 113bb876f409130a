//! Runs in files, for `--save` and `--compare`, and what the comparison of two looks like.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

use serde_json::json;
use tempfile::NamedTempFile;

use crate::Result;
use crate::comparison::Comparison;
use crate::comparison::Run;
use crate::comparison::Unit;
use crate::comparison::Verdict;
use crate::comparison::compare;
use crate::report::Section;

/// Reads a run that was made with the same settings.
pub(crate) fn read(file: &Path, settings: &BTreeMap<String, bool>) -> Result<Run> {
    let at = file.display();
    let text = fs::read_to_string(file).map_err(|error| format!("--compare {at}: {error}"))?;
    let run = Run::parse(&text).map_err(|why| format!("--compare {at}: {why}"))?;
    for (name, set) in settings {
        if run.settings.get(name) != Some(set) {
            let (then, now) = if *set { ("without", "has") } else { ("with", "lacks") };
            return Err(format!(
                "--compare {at}: it was saved {then} {name}, which this run {now}: measure both alike"
            )
            .into());
        }
    }
    Ok(run)
}

/// Writes a run to a file that has either the old or the new content.
#[derive(Debug)]
pub(crate) struct Writer {
    file: PathBuf,
    new: NamedTempFile,
}

impl Writer {
    /// Sees to it that the file can be written.
    pub(crate) fn new(file: &Path) -> Result<Self> {
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
        let new = NamedTempFile::new_in(folder.unwrap_or(Path::new(".")))
            .map_err(|error| format!("--save {}: {error}", file.display()))?;
        Ok(Self { file: file.to_owned(), new })
    }

    /// Writes it.
    pub(crate) fn write(self, run: &Run) -> Result {
        let Self { file, new } = self;
        serde_json::to_writer(&new, run)?;
        new.persist(&file).map_err(|error| format!("--save {}: {error}", file.display()))?;
        eprintln!("saved to {}", file.display());
        Ok(())
    }
}

/// What became slower or faster.
pub(crate) fn compared(before: &Run, after: &Run) -> Section {
    let head = [
        "path",
        "table",
        "program",
        "in",
        "before",
        "now",
        "change",
        "99 % interval",
        "instructions",
        "verdict",
    ];
    let mut section = Section::new("comparison", "Compared with the saved run", head);
    let Comparison { lines, noise, references } = compare(before, after);
    let percent = |factor: f64| format!("{:+.1} %", (factor - 1.0) * 100.0);
    for line in &lines {
        let (unit, digits) = match line.unit {
            Unit::Ratio => ("ratio", 3),
            Unit::Nanoseconds => ("ns", 1),
        };
        let instructions = line.instructions.map(|(then, now)| format!("{then:.0} → {now:.0}"));
        section.row(
            vec![
                line.path.clone(),
                line.table.clone(),
                line.program.clone(),
                unit.to_owned(),
                format!("{:.digits$}", line.before),
                format!("{:.digits$}", line.after),
                percent(line.change),
                format!("{} … {}", percent(line.low), percent(line.high)),
                instructions.unwrap_or_default(),
                line.verdict.name().to_owned(),
            ],
            json!(line),
        );
    }
    let verdicts = [Verdict::Slower, Verdict::Faster, Verdict::Unclear, Verdict::Same];
    let counts = verdicts.map(|verdict| {
        let count = lines.iter().filter(|line| line.verdict == verdict).count();
        format!("{count} {}", verdict.name())
    });
    section.note(format!("{}, of {} that both runs have.", counts.join(", "), lines.len()));
    section.note(if references == 0 {
        "No path has the yardstick, so nothing tells how far two runs differ by themselves.".to_owned()
    } else {
        format!(
            "Changes below {:.1} % count as noise between the runs: so far apart are changes of the yardstick, on {references} \
             paths, or 2 %.",
            noise * 100.0
        )
    });
    for (name, then) in &before.host {
        let now = after.host.get(name).map_or("unknown", String::as_str);
        if now != then {
            section
                .note(format!("The runs had different machines: {name} was {then}, and is {now}."));
        }
    }
    section
}
