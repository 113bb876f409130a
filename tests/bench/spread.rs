//! Figures of several rounds: their median, and how far they lie apart. And in which order subjects take turns.

use serde::Serialize;

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
        let at = |part| quantile(&sorted, part);
        Self { median: at(0.5), low: at(0.25), high: at(0.75) }
    }

    /// `98 (96–101)`
    pub(crate) fn text(self, digits: usize) -> String {
        let Self { median, low, high } = self;
        format!("{median:.digits$} ({low:.digits$}–{high:.digits$})")
    }
}

/// The figure below which this part of them lies, interpolated between the two nearest. They must be sorted, and at
/// least one.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index of a list")]
pub(crate) fn quantile(sorted: &[f64], part: f64) -> f64 {
    let last = sorted.len() - 1;
    let at = last as f64 * part.clamp(0.0, 1.0);
    let (whole, next) = (at as usize, (at as usize + 1).min(last));
    sorted[whole] + (sorted[next] - sorted[whole]) * at.fract()
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
