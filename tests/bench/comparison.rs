//! Two runs of the benchmark, compared: which programs became slower or faster by more than noise explains.
//!
//! Two kinds of noise are told apart:
//!
//! - **Within a run**, a program's rounds lie apart. A bootstrap tells what that means for the median: it draws rounds of
//!   both runs at random, with repetition, again and again, and looks at how the quotient of the medians varies. Programs
//!   take turns within a round, so a program is compared by its quotient to the yardstick of the same round, where there
//!   is one: what slows the machine down for a while slows both.
//! - **Between runs**, memory lies elsewhere, and neighbours do something else, which no round of one run can show. But
//!   the yardstick is the same program in both runs. From path to path its figures change by different factors, and by how
//!   much is the noise between the runs.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::Serialize;

use super::spread::Spread;
use super::spread::quantile;

/// The program that others are compared with.
pub(crate) const YARDSTICK: &str = "yardstick";

/// How often rounds are drawn.
const DRAWS: usize = 2000;

/// Of all draws, so many lie within the interval. A full run compares more than a hundred figures: with 95 in 100, a few
/// would seem to change in every run.
const CONFIDENCE: f64 = 0.99;

/// Fewer rounds say nothing about how far they lie apart.
pub(crate) const FEWEST_ROUNDS: usize = 8;

/// A change below this is never reported, however quiet the machine is: where the kernel puts code and data makes as much
/// of a difference.
pub(crate) const LEAST_CHANGE: f64 = 0.02;

/// What is said to be the same has changed by less than this.
const SMALL_CHANGE: f64 = 0.05;

/// The draws are the same each time.
const SEED: u64 = 0x6c34_6c62;

/// What a program took for the packets of a path.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Figure {
    pub(crate) path: String,
    /// The kind of connection table; empty if none is involved.
    pub(crate) table: String,
    pub(crate) program: String,
    /// Per packet, in each round.
    pub(crate) nanoseconds: Vec<f64>,
    /// Per packet; `None`: the machine does not count them.
    pub(crate) instructions: Option<f64>,
}

/// A run.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Run {
    /// [`FORMAT`]
    pub(crate) format: u32,
    /// What was asked for that figures depend on.
    pub(crate) settings: BTreeMap<String, bool>,
    /// The machine: name of a fact → what it is.
    pub(crate) host: BTreeMap<String, String>,
    pub(crate) figures: Vec<Figure>,
}

/// The number of this format of [`Run`].
pub(crate) const FORMAT: u32 = 1;

impl Run {
    /// Reads what `--save` wrote. The error says what is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let run: Self = serde_json::from_str(text).map_err(|error| {
            format!("it is no file of --save, or one of another build's format: {error}")
        })?;
        if run.format != FORMAT {
            return Err(format!("it has format {}, and this build reads {FORMAT}", run.format));
        }
        let usable = |figure: &Figure| {
            !figure.nanoseconds.is_empty()
                && figure.nanoseconds.iter().all(|figure| figure.is_finite())
        };
        match run.figures.iter().find(|figure| !usable(figure)) {
            Some(figure) => Err(format!("{}, {} has no figures", figure.path, figure.program)),
            None => Ok(run),
        }
    }

    fn get(&self, path: &str, table: &str, program: &str) -> Option<&Figure> {
        let wanted = |figure: &&Figure| {
            (figure.path.as_str(), figure.table.as_str(), figure.program.as_str())
                == (path, table, program)
        };
        self.figures.iter().find(wanted)
    }

    /// What a program took relative to the yardstick, or in nanoseconds where that has no such packets.
    fn compared(&self, figure: &Figure) -> (Unit, Vec<f64>) {
        let yardstick = self.get(&figure.path, &figure.table, YARDSTICK);
        match yardstick.filter(|yardstick| yardstick.nanoseconds.len() == figure.nanoseconds.len())
        {
            Some(yardstick) if figure.program != YARDSTICK => {
                let rounds = figure.nanoseconds.iter().zip(&yardstick.nanoseconds);
                (Unit::Ratio, rounds.map(|(program, yardstick)| program / yardstick).collect())
            }
            _ => (Unit::Nanoseconds, figure.nanoseconds.clone()),
        }
    }
}

/// What a figure is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Unit {
    /// Times as long as the yardstick.
    Ratio,
    Nanoseconds,
}

/// What can be said about a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    /// By more than the noise.
    Slower,
    /// By more than the noise.
    Faster,
    /// It may have changed or not: the noise is too great to tell.
    Unclear,
    /// If it changed, by less than [`SMALL_CHANGE`].
    Same,
}

impl Verdict {
    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Slower => "slower",
            Self::Faster => "faster",
            Self::Unclear => "unclear",
            Self::Same => "same",
        }
    }
}

/// A program on a path, in both runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Line {
    pub(crate) path: String,
    pub(crate) table: String,
    pub(crate) program: String,
    pub(crate) unit: Unit,
    pub(crate) before: f64,
    pub(crate) after: f64,
    /// By which factor it changed, and the interval that the factor lies in: 1.05 is 5 % more.
    pub(crate) change: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
    /// Instructions per packet before and after.
    pub(crate) instructions: Option<(f64, f64)>,
    pub(crate) verdict: Verdict,
}

/// All that both runs have.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Comparison {
    pub(crate) lines: Vec<Line>,
    /// The noise between the runs: 0.02 is 2 %.
    pub(crate) noise: f64,
    /// From how many paths of the yardstick that is known.
    pub(crate) references: usize,
}

/// Compares what both runs have. Figures of one run only are left out.
pub(crate) fn compare(before: &Run, after: &Run) -> Comparison {
    let mut random = fastrand::Rng::with_seed(SEED);
    let (noise, references) = noise_between(before, after);
    let mut lines = Vec::new();
    for now in after.figures.iter().filter(|figure| figure.program != YARDSTICK) {
        let Some(then) = before.get(&now.path, &now.table, &now.program) else { continue };
        let ((unit, old), (also, new)) = (before.compared(then), after.compared(now));
        // One of them has no yardstick.
        let (unit, old, new) = if unit == also {
            (unit, old, new)
        } else {
            (Unit::Nanoseconds, then.nanoseconds.clone(), now.nanoseconds.clone())
        };
        let (low, high) = interval(&old, &new, &mut random);
        let (old_median, new_median) = (median(&old), median(&new));
        let rounds = old.len().min(new.len());
        lines.push(Line {
            path: now.path.clone(),
            table: now.table.clone(),
            program: now.program.clone(),
            unit,
            before: old_median,
            after: new_median,
            change: new_median / old_median,
            low,
            high,
            instructions: then.instructions.zip(now.instructions),
            verdict: if rounds < FEWEST_ROUNDS {
                Verdict::Unclear
            } else {
                judge(low, high, noise)
            },
        });
    }
    Comparison { lines, noise, references }
}

/// What an interval of factors says.
fn judge(low: f64, high: f64, noise: f64) -> Verdict {
    // NaN, of figures that are 0, is unclear.
    if low > 1.0 + noise {
        Verdict::Slower
    } else if high < 1.0 / (1.0 + noise) {
        Verdict::Faster
    } else if noise <= SMALL_CHANGE
        && low >= 1.0 / (1.0 + SMALL_CHANGE)
        && high <= 1.0 + SMALL_CHANGE
    {
        Verdict::Same
    } else {
        Verdict::Unclear
    }
}

/// By how much figures of the same program differ between the runs, and from how many paths that is known: the upper
/// quartile of how far the yardstick's changes lie from their median. That median is the machine, which was quicker or
/// slower as a whole, and the quotients to the yardstick leave it out.
fn noise_between(before: &Run, after: &Run) -> (f64, usize) {
    // Each path has the yardstick once for every kind of table; its figures are the same.
    let mut changes = BTreeMap::new();
    for now in after.figures.iter().filter(|figure| figure.program == YARDSTICK) {
        if let Some(then) = before.get(&now.path, &now.table, YARDSTICK) {
            changes.insert(&now.path, (median(&now.nanoseconds) / median(&then.nanoseconds)).ln());
        }
    }
    if changes.is_empty() {
        return (LEAST_CHANGE, 0);
    }
    let middle = Spread::of(changes.values().copied()).median;
    let apart = Spread::of(changes.values().map(|change| (change - middle).abs()));
    (apart.high.exp_m1().max(LEAST_CHANGE), changes.len())
}

fn median(figures: &[f64]) -> f64 {
    Spread::of(figures.iter().copied()).median
}

/// The interval of the quotient of medians, by a bootstrap.
fn interval(before: &[f64], after: &[f64], random: &mut fastrand::Rng) -> (f64, f64) {
    let mut draw = |figures: &[f64]| {
        let drawn = (0..figures.len()).map(|_| figures[random.usize(..figures.len())]);
        Spread::of(drawn).median
    };
    let mut changes: Vec<f64> = (0..DRAWS).map(|_| draw(after) / draw(before)).collect();
    changes.sort_by(f64::total_cmp);
    let outside = (1.0 - CONFIDENCE) / 2.0;
    (quantile(&changes, outside), quantile(&changes, 1.0 - outside))
}
