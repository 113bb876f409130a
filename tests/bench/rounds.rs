//! Measuring on a noisy machine: subjects take turns, round by round. The result is the median, and how far the rounds
//! lie apart.

use serde::Serialize;

use crate::Result;
use crate::programs::Runner;

/// A median, and the quartiles around it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Spread {
    /// The median and quartiles of these figures. There must be at least one.
    pub(crate) fn of(figures: impl IntoIterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = figures.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let at = |quarter: usize| {
            // Interpolated between the two nearest figures.
            let (whole, part) =
                ((sorted.len() - 1) * quarter / 4, (sorted.len() - 1) * quarter % 4);
            let next = sorted[(whole + 1).min(sorted.len() - 1)];
            sorted[whole] + (next - sorted[whole]) * part as f64 / 4.0
        };
        Self { median: at(2), low: at(1), high: at(3) }
    }

    /// `98 (96–101)`
    pub(crate) fn text(self, digits: usize) -> String {
        let Self { median, low, high } = self;
        format!("{median:.digits$} ({low:.digits$}–{high:.digits$})")
    }
}

/// The order of the subjects' turns in a round. It changes, so that no subject is always the first, or always comes after
/// the same other one.
pub(crate) fn order(round: u32, subjects: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..subjects).collect();
    order.rotate_left(round as usize / 2 % subjects.max(1));
    if round % 2 == 1 {
        order.reverse();
    }
    order
}

/// How often subjects take turns, and what a turn is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rounds {
    pub(crate) rounds: u32,
    /// Packets of a turn.
    pub(crate) packets: u32,
}

impl Rounds {
    /// Measures each subject once in every round. Gives, for each subject, its nanoseconds per packet in each round,
    /// wrapper included.
    ///
    /// Every subject must end with its verdict.
    pub(crate) fn measure(self, subjects: &[(Runner, u32)]) -> Result<Vec<Vec<f64>>> {
        let mut times = vec![Vec::new(); subjects.len()];
        for round in 0..self.rounds {
            for at in order(round, subjects.len()) {
                let (runner, verdict) = &subjects[at];
                // The caches hold what the subject before needed.
                runner.run(self.packets.div_ceil(10))?;
                let run = runner.run(self.packets)?;
                if run.verdict != *verdict {
                    return Err(format!(
                        "a program ended with verdict {} instead of {verdict}",
                        run.verdict
                    )
                    .into());
                }
                times[at].push(run.nanoseconds);
            }
        }
        Ok(times)
    }
}
