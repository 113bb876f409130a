//! What changed, for people and programs.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use crate::model::address::Vip;
use crate::model::health::Health;

/// A real's health has changed, and its record says so.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Change {
    /// The VIP.
    pub vip: Vip,
    /// The real.
    pub real: IpAddr,
    /// What it was.
    pub old: Health,
    /// What it is.
    pub new: Health,
    /// Why.
    pub reason: String,
    /// How many results in a row said so.
    pub checks: u32,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { vip, real, old, new, reason, checks } = self;
        write!(f, "{vip}: real {real} is {new}, was {old}: {reason}")?;
        match checks {
            0 => Ok(()),
            1 => f.write_str(" (1 check)"),
            checks => write!(f, " ({checks} checks in a row)"),
        }
    }
}

/// The most changes that the log names within a second.
const NAMED: usize = 20;

/// What the log says about changes: so many a second by name, and how many there are of the others.
#[derive(Debug, Default)]
pub(super) struct Log {
    named: usize,
    rest: Vec<Change>,
}

impl Log {
    /// Logs changes, those that went wrong first.
    pub(super) fn add(&mut self, changes: &[Change]) {
        let mut changes: Vec<_> = changes.iter().collect();
        changes.sort_by_key(|change| (change.new != Health::Unhealthy, change.vip, change.real));
        let room = NAMED.saturating_sub(self.named).min(changes.len());
        let (named, rest) = changes.split_at(room);
        for change in named {
            if change.new == Health::Unhealthy {
                tracing::warn!("{change}");
            } else {
                tracing::info!("{change}");
            }
        }
        self.named += named.len();
        self.rest.extend(rest.iter().copied().cloned());
    }

    /// A second is over: sums up what was not named.
    pub(super) fn second(&mut self) {
        if let Some(more) = summary(&std::mem::take(&mut self.rest)) {
            tracing::warn!("{more}");
        }
        self.named = 0;
    }
}

/// One line about changes that the log does not name.
fn summary(rest: &[Change]) -> Option<String> {
    if rest.is_empty() {
        return None;
    }
    let number = |health| rest.iter().filter(|change| change.new == health).count();
    let vips = rest.iter().map(|change| change.vip).collect::<BTreeSet<_>>().len();
    let mut reasons = BTreeMap::<&str, usize>::new();
    for change in rest.iter().filter(|change| change.new == Health::Unhealthy) {
        *reasons.entry(&change.reason).or_default() += 1;
    }
    let most = reasons.iter().max_by_key(|(_, number)| **number);
    let mostly = most.map(|(reason, _)| format!("; mostly: {reason}")).unwrap_or_default();
    Some(format!(
        "and {} more reals of {vips} VIPs changed: {} are unhealthy, {} healthy{mostly}",
        rest.len(),
        number(Health::Unhealthy),
        number(Health::Healthy),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(number: u8, new: Health) -> Change {
        Change {
            vip: "tcp://10.200.1.1:80".parse().unwrap(),
            real: [10, 0, 0, number].into(),
            old: if new == Health::Healthy { Health::Unhealthy } else { Health::Healthy },
            new,
            reason: "HTTP 503".to_owned(),
            checks: 3,
        }
    }

    #[test]
    fn a_change_is_one_line() {
        assert_eq!(
            change(1, Health::Unhealthy).to_string(),
            "tcp://10.200.1.1:80: real 10.0.0.1 is unhealthy, was healthy: HTTP 503 (3 checks in a row)"
        );
    }

    #[test]
    fn many_changes_are_one_line_too() {
        let changes: Vec<_> = (0..=255)
            .map(|n| change(n, if n < 200 { Health::Unhealthy } else { Health::Healthy }))
            .collect();
        assert_eq!(
            summary(&changes).unwrap(),
            "and 256 more reals of 1 VIPs changed: 200 are unhealthy, 56 healthy; mostly: HTTP 503"
        );
        assert_eq!(summary(&[]), None);
        // The log names some of them, however they come.
        let mut log = Log::default();
        for part in changes.chunks(15) {
            log.add(part);
        }
        assert_eq!((log.named, log.rest.len()), (NAMED, 256 - NAMED));
        log.second();
        assert_eq!((log.named, log.rest.len()), (0, 0));
    }
}
