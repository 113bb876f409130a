//! The report: what doctor found, and what it looked for and did not find.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::catalogue::FindingId;
use super::catalogue::Severity;

/// What fixes a finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Fix {
    /// A line for a shell, as root.
    Command(String),
    /// What to do, if no command does it.
    Advice(String),
}

/// Something that hurts, or will hurt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How much.
    pub severity: Severity,
    /// What kind.
    pub id: FindingId,
    /// Where: `host`, `instance default`, `interface eth0`, `VIP 10.200.1.1`.
    pub place: String,
    /// What was found, in one line.
    pub what: String,
    /// Why it hurts, in one line.
    pub why: String,
    /// What fixes it.
    pub fix: Fix,
}

/// Something that doctor looked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// What.
    pub id: FindingId,
    /// Where.
    pub place: String,
    /// The result.
    #[serde(flatten)]
    pub result: CheckResult,
}

/// The result of looking for something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "result", content = "why")]
pub enum CheckResult {
    /// It is not there.
    Well,
    /// It is a finding.
    Found,
    /// Doctor cannot tell, for this reason.
    Unknown(String),
}

/// A feature that some kernels from [`MINIMUM_KERNEL`](crate::MINIMUM_KERNEL) on lack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Facility {
    /// What it is.
    pub name: &'static str,
    /// Whether the kernel has it; `None`: only root can try.
    pub present: Option<bool>,
    /// The version of Linux that brought it, such as `5.19`. Distributions backport some to older versions.
    pub since: String,
    /// Whether doctor tried it; if not, it went by the kernel's version.
    pub tried: bool,
    /// What it is good for in l4lb.
    pub good_for: &'static str,
}

impl fmt::Display for Facility {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let present = match self.present {
            Some(true) => "yes",
            Some(false) => "no",
            None => "?",
        };
        write!(f, "{present:<3} {} (Linux {}", self.name, self.since)?;
        if !self.tried {
            write!(f, ", by its version")?;
        }
        write!(f, "): {}", self.good_for)
    }
}

/// The report of `lbctl doctor`, which prints its `Display`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The worst first.
    pub findings: Vec<Finding>,
    /// Everything that doctor looked for.
    pub checked: Vec<Checked>,
    /// As `uname -r` prints it.
    pub kernel: String,
    /// Which features of later versions the kernel has.
    pub facilities: Vec<Facility>,
}

/// The answer of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Well,
    Unknown(String),
    Hurts { severity: Severity, what: String, why: String, fix: Fix },
}

impl Answer {
    pub(super) fn hurts(
        severity: Severity,
        what: impl Into<String>,
        why: impl Into<String>,
        fix: Fix,
    ) -> Self {
        Self::Hurts { severity, what: what.into(), why: why.into(), fix }
    }
}

/// A check: what it looks for, and the function that judges the facts. `None`: the question does not arise.
pub(super) type Check<F> = (FindingId, fn(&F) -> Option<Answer>);

impl Report {
    /// Whether anything is an error.
    pub fn has_errors(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity == Severity::Error)
    }

    /// Runs checks over the facts of a place.
    pub(super) fn run<F>(&mut self, checks: &[Check<F>], place: &str, facts: &F) {
        for (id, check) in checks {
            self.add(*id, place, check(facts));
        }
    }

    pub(super) fn add(&mut self, id: FindingId, place: &str, answer: Option<Answer>) {
        let place = place.to_owned();
        let result = match answer {
            None => return,
            Some(Answer::Well) => CheckResult::Well,
            Some(Answer::Unknown(why)) => CheckResult::Unknown(why),
            Some(Answer::Hurts { severity, what, why, fix }) => {
                debug_assert!(id.severities().contains(&severity), "{id} as {severity}");
                let place = place.clone();
                self.findings.push(Finding { severity, id, place, what, why, fix });
                CheckResult::Found
            }
        };
        self.checked.push(Checked { id, place, result });
    }

    /// Puts the worst first, and keeps the order of the places otherwise.
    pub(super) fn sort(&mut self) {
        self.findings.sort_by_key(|finding| finding.severity);
    }
}

/// Writes names in lines that end before the 100th column.
fn wrapped(f: &mut fmt::Formatter<'_>, head: &str, names: &[&str]) -> fmt::Result {
    let mut line = format!("  {head}:");
    for (at, name) in names.iter().enumerate() {
        let comma = if at + 1 == names.len() { "" } else { "," };
        if line.len() + name.len() + 2 > 100 {
            writeln!(f, "{line}")?;
            line = String::from("   ");
        }
        line = format!("{line} {name}{comma}");
    }
    writeln!(f, "{line}")
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Finding { severity, id, place, what, why, fix } in &self.findings {
            writeln!(f, "{severity} {id}: {place}: {what}")?;
            writeln!(f, "    {why}")?;
            match fix {
                Fix::Command(command) => writeln!(f, "    # {command}")?,
                Fix::Advice(advice) => writeln!(f, "    {advice}")?,
            }
        }
        let (mut well, mut unknown) = (BTreeMap::new(), BTreeMap::new());
        let mut places = Vec::new();
        for Checked { id, place, result } in &self.checked {
            if !places.contains(place) {
                places.push(place.clone());
            }
            let place = place.as_str();
            match result {
                CheckResult::Well => well.entry(place).or_insert_with(Vec::new).push(id.name()),
                CheckResult::Unknown(why) => {
                    unknown.entry(place).or_insert_with(Vec::new).push((id, why));
                }
                CheckResult::Found => {}
            }
        }
        if !self.findings.is_empty() {
            writeln!(f)?;
        }
        writeln!(f, "looked for, and not found:")?;
        for place in &places {
            if let Some(names) = well.get(place.as_str()) {
                wrapped(f, place, names)?;
            }
        }
        if !unknown.is_empty() {
            writeln!(f, "not known:")?;
        }
        for place in &places {
            for (id, why) in unknown.get(place.as_str()).into_iter().flatten() {
                writeln!(f, "  {place}: {id}: {why}")?;
            }
        }
        writeln!(f, "kernel {}:", self.kernel)?;
        for facility in &self.facilities {
            writeln!(f, "  {facility}")?;
        }
        let count = |severity| self.findings.iter().filter(|f| f.severity == severity).count();
        let number = |severity| {
            let count = count(severity);
            format!("{count} {severity}{}", if count == 1 { "" } else { "s" })
        };
        let [errors, warnings, notes] =
            [Severity::Error, Severity::Warning, Severity::Note].map(number);
        writeln!(f, "{errors}, {warnings}, {notes}")
    }
}
