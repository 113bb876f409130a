//! A plan for people, and for programs.

use std::fmt;

use serde::Serialize;
use serde::Serializer;

use super::Plan;
use super::change::Change;
use super::change::Shown;
use crate::model::flow_effect::FlowEffect;
use crate::model::tied::Ties;
use crate::plan::Unserved;
use crate::plan::memory::MemoryPlan;

/// What a plan is as JSON.
#[derive(Serialize)]
struct Report<'a> {
    changes: Vec<Change>,
    unserved: &'a [Unserved],
    #[serde(skip_serializing_if = "Option::is_none")]
    flows_unknown: &'a Option<String>,
    needs_yes: bool,
    warnings: &'a [String],
    #[serde(skip_serializing_if = "Ties::is_empty")]
    tied_reals: &'a Ties,
    memory: &'a Option<MemoryPlan>,
}

impl Serialize for Plan {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let report = Report {
            changes: self.changes(),
            unserved: &self.unserved,
            flows_unknown: &self.flows_unknown,
            needs_yes: self.needs_yes,
            warnings: &self.warnings,
            tied_reals: &self.tied_reals,
            memory: &self.memory,
        };
        report.serialize(serializer)
    }
}

/// Prints changes. The line about the flows of a change comes below the differences within it.
fn lines(f: &mut fmt::Formatter<'_>, changes: &[Change]) -> fmt::Result {
    let mut above: Option<&FlowEffect> = None;
    for change in changes {
        let begins = change.shown == Shown::Line || change.flows.is_some();
        if let Some(effect) = above.filter(|_| begins) {
            writeln!(f, "    flows: {}", effect.what)?;
        }
        if begins {
            above = change.flows.as_ref();
        }
        match change.shown {
            Shown::Line => writeln!(f, "{}", change.text)?,
            Shown::Below => writeln!(f, "    {}", change.text)?,
            Shown::Not => {}
        }
    }
    above.map_or(Ok(()), |effect| writeln!(f, "    flows: {}", effect.what))
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        lines(f, &self.changes_of_host())?;
        for unserved in &self.unserved {
            writeln!(f, "! {unserved}")?;
        }
        lines(f, &self.changes_of_table())?;
        if let Some(memory) = &self.memory {
            memory.fmt(f)?;
        }
        if self.is_empty() {
            writeln!(f, "nothing to change")?;
        }
        Ok(())
    }
}
