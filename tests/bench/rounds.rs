//! Measuring on a noisy machine: subjects take turns, round by round. The result is the median, and how far the rounds
//! lie apart.

use std::fmt;

use crate::Result;
use crate::instructions::Counter;
use crate::programs::Runner;
use crate::spread::Spread;
use crate::spread::order;

/// A program that takes turns with others.
pub(crate) struct Subject<'s> {
    pub(crate) runner: Runner,
    /// What it must end with, `XDP_*`.
    pub(crate) verdict: u32,
    /// What has to be done before each turn of it.
    pub(crate) prepare: Box<dyn Fn() -> Result + 's>,
}

impl fmt::Debug for Subject<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subject").field("runner", &self.runner).finish_non_exhaustive()
    }
}

/// What a program took per packet in each round.
#[derive(Clone, Debug, Default)]
pub(crate) struct Took {
    pub(crate) nanoseconds: Vec<f64>,
    /// Empty if the machine does not count them.
    pub(crate) instructions: Vec<f64>,
}

impl Took {
    /// The median of the instructions, if the machine counts them.
    pub(crate) fn instructions(&self) -> Option<f64> {
        let counted = !self.instructions.is_empty();
        counted.then(|| Spread::of(self.instructions.iter().copied()).median)
    }

    /// Without what something else took in the same rounds.
    pub(crate) fn without(mut self, other: &Self) -> Self {
        let subtract = |all: &mut [f64], others: &[f64]| {
            all.iter_mut().zip(others).for_each(|(one, other)| *one -= other);
        };
        subtract(&mut self.nanoseconds, &other.nanoseconds);
        subtract(&mut self.instructions, &other.instructions);
        self
    }
}

/// How often subjects take turns, and what a turn is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rounds {
    pub(crate) rounds: u32,
    /// Packets of a turn.
    pub(crate) packets: u32,
}

impl Rounds {
    /// Measures each subject once in every round. Gives what each took, wrapper included.
    pub(crate) fn measure(
        self,
        subjects: &[Subject<'_>],
        counter: &mut Option<Counter>,
    ) -> Result<Vec<Took>> {
        let mut all = vec![Took::default(); subjects.len()];
        for round in 0..self.rounds {
            for at in order(round, subjects.len()) {
                let Subject { runner, verdict, prepare } = &subjects[at];
                prepare()?;
                // The caches hold what the subject before needed.
                runner.run(self.packets.div_ceil(10))?;
                let (run, instructions) = match counter {
                    Some(counter) => {
                        let (run, instructions) = counter.during(|| runner.run(self.packets))?;
                        (run, Some(instructions))
                    }
                    None => (runner.run(self.packets)?, None),
                };
                if run.verdict != *verdict {
                    return Err(format!(
                        "a program ended with verdict {} instead of {verdict}",
                        run.verdict
                    )
                    .into());
                }
                all[at].nanoseconds.push(run.nanoseconds);
                let per_packet = |count: u64| count as f64 / f64::from(self.packets);
                all[at].instructions.extend(instructions.map(per_packet));
            }
        }
        Ok(all)
    }
}
