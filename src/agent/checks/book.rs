//! A judge for each real of each VIP, and what its record has to learn.

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use tokio::time::Instant;

use super::change::Change;
use super::job::Id;
use super::job::Target;
use crate::control::health::Flaps;
use crate::control::health::HealthResult;
use crate::model::config::CheckKind;
use crate::model::health::Health;
use crate::model::health::RealHealth;
use crate::model::health::judge::Finding;
use crate::model::health::judge::Judge;
use crate::model::health::judge::Rules;
use crate::model::health::judge::Verdict;
use crate::probe::Class;
use crate::probe::Outcome;
use crate::probe::Report;

/// A real of a VIP that is checked.
#[derive(Debug)]
struct Member {
    judge: Judge,
    rules: Rules,
    verdict: Verdict,
    paused: bool,
    /// Why it is as it is.
    reason: String,
    /// How many results in a row said so when it became so.
    checks: u32,
    /// What its record says, and why.
    recorded: RealHealth,
    recorded_reason: String,
    /// Since when that is known; `None`: it is being written.
    recorded_at: Option<Instant>,
}

impl Member {
    /// What its record is to say.
    fn wanted(&self) -> RealHealth {
        RealHealth { state: self.verdict.health, share: self.verdict.share, told: false }
    }

    /// Whether the record says something else. What others told holds as long as they want.
    fn differs(&self) -> bool {
        !self.recorded.told
            && (self.recorded != self.wanted()
                || (self.recorded_reason != self.reason
                    && self.verdict.health == Health::Unhealthy))
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Book {
    members: HashMap<Id, Member>,
    /// Those whose records may differ.
    pending: BTreeSet<Id>,
    /// Those whose verdict changes as time passes.
    timed: BTreeSet<Id>,
}

/// A batch on its way to the records.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) results: Vec<HealthResult>,
    /// For each of the results.
    pub(super) changes: Vec<Change>,
}

impl Book {
    /// Whether there are no targets.
    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Begins or goes on with a target, whose record was read at `read_at`.
    pub(super) fn keep(&mut self, target: &Target, read_at: Instant, now: Duration) {
        let id = target.id();
        let member = self.members.entry(id).or_insert_with(|| Member::new(target, read_at, now));
        member.rules = target.rules;
        if target.paused && !member.paused {
            member.judge.pause();
        }
        member.paused = target.paused;
        if member.verdict.health == Health::Unknown && target.known.health != Health::Unknown {
            // Somebody else knows more.
            *member = Member::new(target, read_at, now);
        }
        // What was read before the last write says nothing.
        if member.recorded_at.is_some_and(|at| at < read_at) {
            (member.recorded, member.recorded_at) = (target.recorded, Some(read_at));
        }
        self.look(id, now);
    }

    /// Forgets all but these.
    pub(super) fn retain(&mut self, keep: impl Fn(&Id) -> bool) {
        self.members.retain(|id, _| keep(id));
        self.pending.retain(|id| keep(id));
        self.timed.retain(|id| keep(id));
    }

    /// A run has ended.
    pub(super) fn hear(&mut self, id: Id, kind: CheckKind, report: &Report, now: Duration) {
        let Some(member) = self.members.get_mut(&id) else { return };
        let finding = match report.outcome {
            Outcome::Healthy { share } if kind == CheckKind::Agent => Finding::SaysUp(share),
            Outcome::Healthy { share } => Finding::Pass(share),
            Outcome::Unhealthy if report.class == Class::Agent => Finding::SaysDown,
            Outcome::Unhealthy => Finding::Fail,
            Outcome::Unknown => Finding::Local,
        };
        if finding == Finding::Local {
            return;
        }
        let before = member.verdict.health;
        let verdict = member.judge.hear(&member.rules, finding, now);
        let agrees = (verdict.health == Health::Healthy) == report.outcome.is_healthy();
        if verdict.health != before {
            member.checks = member.judge.row();
            member.reason.clone_from(&report.reason);
        } else if agrees && verdict.health == Health::Unhealthy {
            member.reason.clone_from(&report.reason);
        }
        self.look(id, now);
    }

    /// What holds now, whether or not a run has ended.
    fn look(&mut self, id: Id, now: Duration) {
        let Some(member) = self.members.get_mut(&id) else { return };
        let held_before = member.verdict.hold.is_some();
        member.verdict = member.judge.look(&member.rules, now);
        match member.verdict.hold {
            Some(hold) => {
                let last =
                    member.reason.split(" (last: ").nth(1).map(|rest| rest.trim_end_matches(')'));
                let last = last.map_or_else(|| member.reason.clone(), ToOwned::to_owned);
                member.reason = format!(
                    "flapping: {} failures in {}, out until {} (last: {last})",
                    hold.failures,
                    humantime::format_duration(hold.window),
                    time_of_day(hold.until),
                );
            }
            None if held_before && member.verdict.health == Health::Healthy => {
                "no longer held out".clone_into(&mut member.reason);
            }
            None => {}
        }
        if member.judge.changes_in(&member.rules, now).is_some() {
            self.timed.insert(id);
        } else {
            self.timed.remove(&id);
        }
        if member.differs() {
            self.pending.insert(id);
        }
    }

    /// Lets time pass for those that it changes.
    pub(super) fn tick(&mut self, now: Duration) {
        for id in self.timed.clone() {
            self.look(id, now);
        }
    }

    /// How long after the start of its last run the next one of a target begins.
    pub(super) fn interval(&self, id: Id) -> Option<Duration> {
        self.members.get(&id).map(|member| member.judge.interval(&member.rules))
    }

    /// Whether a record has something to learn.
    pub(super) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Takes what the records have to learn. Whatever changes while the batch is on its way is for the next one.
    pub(super) fn take(&mut self) -> Batch {
        let mut batch = Batch { results: Vec::new(), changes: Vec::new() };
        for id in std::mem::take(&mut self.pending) {
            let member = self.members.get_mut(&id).filter(|member| member.differs());
            let Some(member) = member else { continue };
            member.recorded_at = None;
            let Verdict { health, share, .. } = member.verdict;
            let flaps = member.judge.flaps().summary();
            batch.results.push(HealthResult {
                vip: id.0,
                real: id.1,
                health,
                share,
                reason: member.reason.clone(),
                checks: member.checks,
                flaps: Flaps {
                    failures: flaps.failures,
                    since: flaps.since,
                    holds: flaps.holds,
                    held_until: flaps.until,
                },
            });
            batch.changes.push(Change {
                vip: id.0,
                real: id.1,
                old: member.recorded.state,
                new: health,
                reason: member.reason.clone(),
                checks: member.checks,
            });
        }
        batch
    }

    /// The batch is in the records.
    pub(super) fn recorded(&mut self, batch: &Batch) {
        for result in &batch.results {
            let id = (result.vip, result.real);
            let Some(member) = self.members.get_mut(&id) else { continue };
            let HealthResult { health, share, ref reason, .. } = *result;
            member.recorded = RealHealth { state: health, share, told: member.recorded.told };
            member.recorded_reason.clone_from(reason);
            member.recorded_at = Some(Instant::now());
            if member.differs() {
                self.pending.insert(id);
            }
        }
    }

    /// The batch is not in the records: it is still to be written.
    pub(super) fn not_recorded(&mut self, batch: &Batch) {
        for result in &batch.results {
            let id = (result.vip, result.real);
            if let Some(member) = self.members.get_mut(&id) {
                member.recorded_at = Some(Instant::now());
                self.pending.insert(id);
            }
        }
    }
}

impl Member {
    fn new(target: &Target, read_at: Instant, now: Duration) -> Self {
        let mut judge = Judge::resume(&target.rules, &target.known, now);
        Self {
            verdict: judge.look(&target.rules, now),
            judge,
            rules: target.rules,
            paused: false,
            reason: target.reason.clone(),
            checks: 0,
            recorded: target.recorded,
            recorded_reason: target.reason.clone(),
            recorded_at: Some(read_at),
        }
    }
}

/// The time of day, here.
fn time_of_day(since_1970: Duration) -> String {
    let seconds = i64::try_from(since_1970.as_secs()).unwrap_or(i64::MAX);
    let time = Timestamp::from_second(seconds).unwrap_or_default();
    time.to_zoned_datetime(TimeZone::system()).strftime("%H:%M:%S").to_string()
}
