//! What the results of its checks make of one real of one VIP. Pure: the caller says what time it is.
//!
//! - The first result of an **unknown** real decides at once. From then on, `fall` failures in a row make it unhealthy,
//!   and `rise` successes in a row make it healthy. While results contradict the state, the caller checks at
//!   `fast_interval`.
//! - A result is **local** if the checker's own host could not send: it has no route, no address or no free port. That
//!   says nothing about the real, so it counts as no result: it neither changes a state nor interrupts a row.
//! - What a real **says** of itself (the agent protocol) is no guess from outside: it counts at once. So does the first
//!   result after a pause.
//! - A real that fails too often is held out: [`flapping`](super::flapping).
//! - A real that was unhealthy starts slowly: [`slow_start`](super::slow_start). A real that is healthy from its first
//!   result on does not: it is as new as the others.

use std::time::Duration;

use super::Health;
use super::flapping::FlapHistory;
use super::flapping::Hold;
use super::slow_start;
use crate::model::config::CheckConfig;
use crate::model::config::CheckKind;
use crate::model::config::Flapping;
use crate::model::config::HealthPolicy;

/// What a check and its VIP ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rules {
    pub(crate) rise: u32,
    pub(crate) fall: u32,
    pub(crate) interval: Duration,
    pub(crate) fast_interval: Duration,
    pub(crate) slow_start: Duration,
    pub(crate) flapping: Flapping,
    /// Whether the real says what share it wants.
    pub(crate) says_share: bool,
}

impl Rules {
    /// The rules of a VIP's check.
    pub(crate) fn of(check: &CheckConfig, policy: &HealthPolicy) -> Self {
        Self {
            rise: check.rise(),
            fall: check.fall(),
            interval: check.interval(),
            fast_interval: check.fast_interval(),
            slow_start: policy.slow_start.unwrap_or_default(),
            flapping: policy.flapping,
            says_share: check.kind == CheckKind::Agent,
        }
    }
}

/// What one run of a check has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    /// The real answered as expected. It wants this share of its weight, in percent.
    Pass(u8),
    /// It did not.
    Fail,
    /// It says of itself that it is up, and wants this share.
    SaysUp(u8),
    /// It says of itself that it is down.
    SaysDown,
    /// This host could not check.
    Local,
}

/// What follows for the real's record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) health: Health,
    /// In percent of its weight.
    pub(crate) share: u8,
    /// It is held out until then.
    pub(crate) hold: Option<Hold>,
}

/// What the record of a real says when a process begins to check it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) health: Health,
    pub(crate) share: u8,
    /// When it became so, since 1970.
    pub(crate) since: Duration,
    pub(crate) flaps: FlapHistory,
}

impl Default for Known {
    fn default() -> Self {
        let (health, share) = (Health::Unknown, slow_start::WHOLE);
        Self { health, share, since: Duration::ZERO, flaps: FlapHistory::default() }
    }
}

/// One real of one VIP.
#[derive(Clone, Debug)]
pub(crate) struct Judge {
    /// What its checks alone say.
    checks_say: Health,
    /// The last result, and how many there were like it.
    row: Option<(bool, u32)>,
    /// The share that it wants.
    wants: u8,
    /// When it came back, if it starts slowly.
    back_since: Option<Duration>,
    flaps: FlapHistory,
    /// What was said last.
    said: Verdict,
    /// Nobody checked for a while, so the next result decides at once.
    stale: bool,
}

impl Judge {
    /// Goes on from what the record says, as if there had been no pause.
    pub(crate) fn resume(rules: &Rules, known: &Known, now: Duration) -> Self {
        // The record has one share: how far the slow start was, times what the real wants. Only an agent's check can
        // have left the latter below all of it; its next answer says it exactly.
        let short = known.health == Health::Healthy && known.share < slow_start::WHOLE;
        let ago = now.saturating_sub(known.since);
        let slow = slow_start::share(rules.slow_start, ago);
        let slow = if short && known.share <= slow { slow } else { slow_start::WHOLE };
        let wants = match known.share {
            share if short && rules.says_share => {
                let whole = u32::from(share) * u32::from(slow_start::WHOLE) / u32::from(slow);
                u8::try_from(whole).unwrap_or(slow_start::WHOLE).min(slow_start::WHOLE)
            }
            _ => slow_start::WHOLE,
        };
        Self {
            checks_say: known.health,
            row: None,
            wants,
            back_since: (slow < slow_start::WHOLE).then_some(known.since),
            flaps: known.flaps.clone(),
            said: Verdict { health: known.health, share: known.share, hold: None },
            stale: false,
        }
    }

    /// Nobody checks the real for a while: the operator has it down. What is known stays, and the first result after the
    /// pause decides at once, because what was found before it may be long over.
    pub(crate) fn pause(&mut self) {
        self.row = None;
        self.stale = true;
    }

    /// A check has ended. Returns what follows: see [`Self::look`].
    pub(crate) fn hear(&mut self, rules: &Rules, finding: Finding, now: Duration) -> Verdict {
        let (passed, decides) = match finding {
            Finding::Pass(share) | Finding::SaysUp(share) => {
                self.wants = share;
                (true, matches!(finding, Finding::SaysUp(_)))
            }
            Finding::Fail => (false, false),
            Finding::SaysDown => (false, true),
            Finding::Local => return self.look(rules, now),
        };
        let decides = decides || std::mem::take(&mut self.stale);
        let row = match self.row {
            Some((before, row)) if before == passed => row.saturating_add(1),
            _ => 1,
        };
        self.row = Some((passed, row));
        match self.checks_say {
            Health::Unknown => {
                self.checks_say = if passed { Health::Healthy } else { Health::Unhealthy };
            }
            Health::Healthy if !passed && (decides || row >= rules.fall) => {
                self.checks_say = Health::Unhealthy;
                self.flaps.fails(&rules.flapping, now);
            }
            Health::Unhealthy if passed && (decides || row >= rules.rise) => {
                self.checks_say = Health::Healthy;
            }
            _ => {}
        }
        self.look(rules, now)
    }

    /// What holds now. It also changes as time passes, when [`Self::changes_in`] says.
    pub(crate) fn look(&mut self, rules: &Rules, now: Duration) -> Verdict {
        let hold = self.flaps.hold(&rules.flapping, now);
        let health = if hold.is_some() { Health::Unhealthy } else { self.checks_say };
        if health == Health::Healthy {
            if self.said.health == Health::Unhealthy {
                self.back_since = Some(now);
            }
        } else {
            self.back_since = None;
        }
        // A clock that was set back would keep the smallest share until it is again as late.
        self.back_since = self.back_since.map(|back| back.min(now));
        let slow = match self.back_since.map(|back| now.saturating_sub(back)) {
            Some(ago) if ago < rules.slow_start => slow_start::share(rules.slow_start, ago),
            Some(_) => {
                self.back_since = None;
                slow_start::WHOLE
            }
            None => slow_start::WHOLE,
        };
        let share = if health == Health::Healthy {
            slow_start::both(slow, self.wants)
        } else {
            slow_start::WHOLE
        };
        self.said = Verdict { health, share, hold };
        self.said
    }

    /// How long until the verdict changes if no check ends meanwhile.
    pub(crate) fn changes_in(&self, rules: &Rules, now: Duration) -> Option<Duration> {
        let step = self
            .back_since
            .and_then(|back| slow_start::next_step(rules.slow_start, now.saturating_sub(back)));
        self.said.hold.map(|hold| hold.until.saturating_sub(now)).or(step)
    }

    /// How long after the start of the last check the next one begins.
    pub(crate) fn interval(&self, rules: &Rules) -> Duration {
        let contradicts = match (self.checks_say, self.row) {
            (Health::Healthy, Some((passed, _))) => !passed,
            (Health::Unhealthy, Some((passed, _))) => passed,
            _ => false,
        };
        if contradicts { rules.fast_interval } else { rules.interval }
    }

    /// How many results in a row were like the last one.
    pub(crate) fn row(&self) -> u32 {
        self.row.map_or(0, |(_, row)| row)
    }

    /// How often it failed, for its record.
    pub(crate) fn flaps(&self) -> &FlapHistory {
        &self.flaps
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection;
    use proptest::prelude::*;

    use super::*;
    use crate::model::health::Health::Healthy;
    use crate::model::health::Health::Unhealthy;
    use crate::model::health::Health::Unknown;

    fn rules() -> Rules {
        Rules {
            rise: 2,
            fall: 3,
            interval: Duration::from_secs(5),
            fast_interval: Duration::from_secs(1),
            slow_start: Duration::ZERO,
            flapping: Flapping { failures: 1000, ..Flapping::default() },
            says_share: true,
        }
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(1_800_000_000 + seconds)
    }

    const PASS: Finding = Finding::Pass(100);

    #[test]
    fn the_first_result_decides_and_then_it_takes_several() {
        let rules = rules();
        let mut judge = Judge::resume(&rules, &Known::default(), at(0));
        assert_eq!(judge.look(&rules, at(0)).health, Unknown);
        let said: Vec<_> = [
            PASS,
            Finding::Fail,
            Finding::Fail,
            PASS,
            Finding::Fail,
            Finding::Fail,
            Finding::Fail,
            PASS,
            Finding::Fail,
            PASS,
            PASS,
        ]
        .into_iter()
        .map(|finding| {
            (
                judge.hear(&rules, finding, at(0)).health,
                judge.interval(&rules).as_secs(),
                judge.row(),
            )
        })
        .collect();
        assert_eq!(
            said,
            [
                (Healthy, 5, 1),
                (Healthy, 1, 1),
                (Healthy, 1, 2),
                (Healthy, 5, 1),
                (Healthy, 1, 1),
                (Healthy, 1, 2),
                (Unhealthy, 5, 3),
                (Unhealthy, 1, 1),
                (Unhealthy, 5, 1),
                (Unhealthy, 1, 1),
                (Healthy, 5, 2),
            ]
        );
        assert_eq!(
            Judge::resume(&rules, &Known::default(), at(0))
                .hear(&rules, Finding::Fail, at(0))
                .health,
            Unhealthy
        );
    }

    #[test]
    fn what_this_host_cannot_send_is_no_result() {
        let rules = rules();
        let mut judge = Judge::resume(&rules, &Known::default(), at(0));
        assert_eq!(judge.hear(&rules, Finding::Local, at(0)).health, Unknown);
        judge.hear(&rules, PASS, at(0));
        for _ in 0..10 {
            assert_eq!(judge.hear(&rules, Finding::Local, at(0)).health, Healthy);
        }
        judge.hear(&rules, Finding::Fail, at(0));
        judge.hear(&rules, Finding::Local, at(0));
        judge.hear(&rules, Finding::Fail, at(0));
        judge.hear(&rules, Finding::Local, at(0));
        assert_eq!(judge.hear(&rules, Finding::Fail, at(0)).health, Unhealthy);
    }

    #[test]
    fn what_a_real_says_of_itself_counts_at_once() {
        let rules = rules();
        let mut judge = Judge::resume(&rules, &Known::default(), at(0));
        judge.hear(&rules, Finding::SaysUp(75), at(0));
        assert_eq!(judge.look(&rules, at(0)), Verdict { health: Healthy, share: 75, hold: None });
        assert_eq!(judge.hear(&rules, Finding::SaysDown, at(0)).health, Unhealthy);
        assert_eq!(
            judge.hear(&rules, Finding::SaysUp(0), at(0)),
            Verdict { health: Healthy, share: 0, hold: None }
        );
    }

    #[test]
    fn a_clock_that_is_set_back_begins_the_slow_start_again_and_no_more() {
        let rules = Rules { slow_start: Duration::from_secs(90), rise: 1, fall: 1, ..rules() };
        let mut judge = Judge::resume(&rules, &Known::default(), at(100_000));
        for finding in [Finding::Fail, PASS] {
            judge.hear(&rules, finding, at(100_000));
        }
        let first = judge.look(&rules, at(0)).share;
        assert!(first < slow_start::WHOLE);
        assert!(judge.look(&rules, at(60)).share > first);
        assert_eq!(judge.look(&rules, at(90)).share, slow_start::WHOLE);
    }

    #[test]
    fn a_real_that_comes_back_starts_slowly_and_a_new_one_does_not() {
        let rules = Rules { slow_start: Duration::from_secs(90), rise: 1, fall: 1, ..rules() };
        let mut judge = Judge::resume(&rules, &Known::default(), at(0));
        assert_eq!(judge.hear(&rules, PASS, at(0)).share, 100);
        assert_eq!(judge.hear(&rules, Finding::Fail, at(10)).health, Unhealthy);
        assert_eq!(
            judge.hear(&rules, PASS, at(20)),
            Verdict { health: Healthy, share: 10, hold: None }
        );
        assert_eq!(judge.changes_in(&rules, at(20)), Some(Duration::from_secs(10)));
        assert_eq!(judge.look(&rules, at(30)).share, 20);
        assert_eq!(judge.hear(&rules, Finding::Pass(50), at(41)).share, 15);
        // Another process goes on where this one was.
        let known =
            Known { health: Healthy, share: 15, since: at(20), flaps: FlapHistory::default() };
        let only_slow = Rules { says_share: false, ..rules };
        assert_eq!(Judge::resume(&only_slow, &known, at(41)).look(&only_slow, at(41)).share, 30);
        let mut resumed = Judge::resume(&rules, &known, at(41));
        assert_eq!(resumed.look(&rules, at(41)).share, 15);
        assert_eq!(resumed.hear(&rules, PASS, at(50)).share, 40);
        assert_eq!(resumed.look(&rules, at(110)).share, 100);
        assert_eq!(resumed.changes_in(&rules, at(110)), None);
    }

    #[test]
    fn a_real_that_flaps_stays_out_until_its_time_is_over() {
        let flapping = Flapping { failures: 1, ..Flapping::default() };
        let rules = Rules { rise: 1, fall: 1, flapping, ..rules() };
        let mut judge = Judge::resume(&rules, &Known::default(), at(0));
        for second in 0..3 {
            let finding = if second % 2 == 0 { PASS } else { Finding::Fail };
            judge.hear(&rules, finding, at(second));
        }
        let held = judge.hear(&rules, Finding::Fail, at(3));
        assert_eq!(held.hold, Some(Hold { failures: 2, window: flapping.window, until: at(63) }));
        assert_eq!(judge.hear(&rules, PASS, at(10)).health, Unhealthy);
        assert_eq!(judge.changes_in(&rules, at(10)), Some(Duration::from_secs(53)));
        // A restart does not shorten it.
        let flaps = judge.flaps().clone();
        let mut judge = Judge::resume(
            &rules,
            &Known { health: Unhealthy, share: 100, since: at(3), flaps },
            at(10),
        );
        assert_eq!(judge.hear(&rules, PASS, at(62)).health, Unhealthy);
        assert_eq!(judge.look(&rules, at(63)), Verdict { health: Healthy, share: 100, hold: None });
    }

    #[test]
    fn the_first_result_after_a_pause_decides() {
        let rules = rules();
        let mut judge = Judge::resume(&rules, &Known::default(), at(0));
        judge.hear(&rules, PASS, at(0));
        judge.pause();
        assert_eq!(judge.look(&rules, at(1)).health, Healthy);
        assert_eq!(judge.hear(&rules, Finding::Local, at(2)).health, Healthy);
        assert_eq!(judge.hear(&rules, Finding::Fail, at(2)).health, Unhealthy);
        assert_eq!(judge.hear(&rules, PASS, at(3)).health, Unhealthy);
        judge.pause();
        assert_eq!(judge.hear(&rules, PASS, at(4)).health, Healthy);
    }

    fn findings() -> impl Strategy<Value = Vec<(Finding, u64)>> {
        let finding = prop_oneof![
            4 => (1_u8..=100).prop_map(Finding::Pass),
            4 => Just(Finding::Fail),
            1 => Just(Finding::Local),
            1 => (0_u8..=100).prop_map(Finding::SaysUp),
            1 => Just(Finding::SaysDown),
        ];
        collection::vec((finding, 0_u64..30), 1..80)
    }

    proptest! {
        #[test]
        fn a_state_changes_only_for_a_reason(
            findings in findings(),
            rise in 1_u32..5,
            fall in 1_u32..5,
            failures in 0_u32..6,
            slow_start in 0_u64..100,
        ) {
            let flapping = Flapping { failures, ..Flapping::default() };
            let slow_start = Duration::from_secs(slow_start);
            let rules = Rules { rise, fall, slow_start, flapping, ..rules() };
            let mut judge = Judge::resume(&rules, &Known::default(), at(0));
            let (mut now, mut before) = (0, judge.look(&rules, at(0)));
            let (mut row, mut since) = (Vec::new(), at(0));
            for (finding, gap) in findings {
                now += gap;
                let idle = judge.look(&rules, at(now));
                if idle.health != before.health {
                    // Without a check, only the end of a hold changes a state.
                    prop_assert!(before.hold.is_some() && idle.hold.is_none());
                    since = at(now);
                }
                let verdict = judge.hear(&rules, finding, at(now));
                let passed = match finding {
                    Finding::Local => {
                        prop_assert_eq!(verdict, idle);
                        before = verdict;
                        continue;
                    }
                    Finding::Pass(_) | Finding::SaysUp(_) => true,
                    Finding::Fail | Finding::SaysDown => false,
                };
                row.push(passed);
                let in_a_row = |wanted: u32| {
                    row.len() >= wanted as usize
                        && row.iter().rev().take(wanted as usize).all(|one| *one == passed)
                };
                let says = matches!(finding, Finding::SaysUp(_) | Finding::SaysDown);
                match (idle.health, verdict.health) {
                    (Unknown, to) => prop_assert_eq!(to == Healthy, passed),
                    (Healthy, Unhealthy) => prop_assert!(!passed && (says || in_a_row(fall))),
                    (Unhealthy, Healthy) => prop_assert!(passed && (says || in_a_row(rise))),
                    (_, to) => prop_assert_ne!(to, Unknown),
                }
                if verdict.hold.is_some() {
                    prop_assert_eq!(verdict.health, Unhealthy);
                }
                if verdict.health != idle.health {
                    since = at(now);
                }
                // The share is none only if the real wants none.
                if let Finding::Pass(share) | Finding::SaysUp(share) = finding {
                    prop_assert!(verdict.share <= 100);
                    if verdict.health == Healthy {
                        prop_assert_eq!(verdict.share == 0, share == 0);
                        prop_assert!(verdict.share <= share);
                    }
                }
                if slow_start.is_zero() {
                    prop_assert_eq!(judge.changes_in(&rules, at(now)).is_some(), verdict.hold.is_some());
                }
                prop_assert!(judge.interval(&rules) <= rules.interval);
                // Another process that goes on from the record says the same, and no slow start begins anew.
                let known = Known {
                    health: verdict.health,
                    share: verdict.share,
                    since,
                    flaps: judge.flaps().clone(),
                };
                let resumed = Judge::resume(&rules, &known, at(now)).look(&rules, at(now));
                prop_assert_eq!(resumed.health, verdict.health);
                prop_assert_eq!(resumed.hold, verdict.hold);
                // Shares are whole percents, so a product cannot be divided again exactly.
                if slow_start.is_zero() {
                    prop_assert_eq!(resumed.share, verdict.share);
                }
                prop_assert!(resumed.share.abs_diff(verdict.share) <= 1);
                before = verdict;
            }
        }
    }
}
