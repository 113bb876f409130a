//! What the log of an agent says.

use std::collections::BTreeSet;
use std::fmt::Display;

/// What was warned of already: a warning that lasts is given once.
#[derive(Debug, Default)]
pub(super) struct Warnings(BTreeSet<String>);

impl Warnings {
    /// Logs what there is to warn of now and was not before, and what there is no longer.
    pub(super) fn report(&mut self, warnings: Vec<String>) {
        let warnings: BTreeSet<_> = warnings.into_iter().collect();
        for warning in warnings.difference(&self.0) {
            tracing::warn!("{warning}");
        }
        for gone in self.0.difference(&warnings) {
            // Not what was to be done about it.
            let what = gone.split_once(';').map_or(gone.as_str(), |(what, _)| what);
            tracing::info!("no longer: {what}");
        }
        self.0 = warnings;
    }
}

/// Logs a report, a line each.
pub(super) fn log_lines(report: &impl Display) {
    report.to_string().lines().for_each(|line| tracing::info!("{line}"));
}
