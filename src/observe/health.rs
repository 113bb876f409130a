//! What is known about the health of reals.

use std::collections::HashMap;
use std::net::IpAddr;

use jiff::tz::TimeZone;
use rustc_hash::FxHashMap;
use serde::Serialize;

use crate::dataplane::balancer::Balancer;
use crate::dataplane::health::HealthStore;
use crate::kernel::clock::seconds_since_1970;
use crate::kernel::clock::time_at;
use crate::model::abi;
use crate::model::address::Vip;
use crate::model::error::Result;
use crate::model::health::Health;
use crate::model::health::RealHealth;
use crate::model::text::message;
use crate::model::text::unpadded;
use crate::model::vip_real::VipRealKey;
use crate::model::vip_table::RealSpec;
use crate::model::vip_table::Table;
use crate::model::vip_table::VipSpec;
use crate::plan::diff::Running;

/// How often a real failed. It decides whether the real stays out. Times are in seconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Flaps {
    /// How often it became unhealthy since [`Self::since`].
    pub failures: u32,
    /// Since when failures are counted.
    pub since: u64,
    /// How often it stayed out because it failed too often.
    pub holds: u32,
    /// Until when it stays out; 0: it does not.
    pub held_until: u64,
}

/// What is known about the health of a real of a VIP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RealHealthStatus {
    /// The VIP.
    pub vip: Vip,
    /// The real.
    pub real: IpAddr,
    /// What is known.
    #[serde(flatten)]
    pub details: HealthDetails,
}

/// What is known about the health of a real: state, why and since when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HealthDetails {
    /// Whether it does well.
    #[serde(rename = "health")]
    pub state: Health,
    /// The part of its weight that counts, in percent.
    #[serde(rename = "health_share")]
    pub share: u8,
    /// Whether somebody else said so, not a check of the VIP.
    pub told: bool,
    /// Why, if that is known.
    pub reason: String,
    /// Since when, in seconds since 1970; 0: not known.
    pub since: u64,
    /// When what was told ends, in seconds since 1970; 0: never.
    pub expires: u64,
    /// How many checks in a row said so.
    pub checks: u32,
    /// How often it failed.
    pub flaps: Flaps,
}

impl Default for HealthDetails {
    fn default() -> Self {
        Self::new(RealHealth::default(), &abi::HealthRecord::default())
    }
}

impl HealthDetails {
    fn new(health: RealHealth, record: &abi::HealthRecord) -> Self {
        let RealHealth { state, share, told } = health;
        let is_known = state != Health::Unknown;
        Self {
            state,
            share,
            told,
            reason: if is_known { message(&unpadded(&record.reason)) } else { String::new() },
            since: if is_known { record.since } else { 0 },
            expires: if told { record.expires } else { 0 },
            checks: if is_known { record.checks } else { 0 },
            flaps: Flaps {
                failures: record.failures,
                since: record.failing_since,
                holds: record.holds,
                held_until: record.held_until,
            },
        }
    }

    /// Why, since when, and what else matters, in the local time zone: `HTTP 503 since 12:03:11`. Empty if nothing is
    /// known.
    pub fn why(&self) -> String {
        self.why_at(seconds_since_1970(), &TimeZone::system())
    }

    /// The state, and why: `unhealthy: HTTP 503 since 12:03:11`; without a reason `healthy since 12:03:11`.
    pub fn in_words(&self) -> String {
        self.in_words_with(&self.why())
    }

    fn in_words_with(&self, why: &str) -> String {
        match (why, self.reason.as_str()) {
            ("", _) => self.state.to_string(),
            (_, "") if self.since != 0 => format!("{} {why}", self.state),
            _ => format!("{}: {why}", self.state),
        }
    }

    fn why_at(&self, now: u64, zone: &TimeZone) -> String {
        let time = |seconds| time_at(seconds, now, zone);
        let mut parts = Vec::new();
        let since = (self.since != 0).then(|| format!("since {}", time(self.since)));
        let said: Vec<_> = [Some(self.reason.clone()).filter(|reason| !reason.is_empty()), since]
            .into_iter()
            .flatten()
            .collect();
        if !said.is_empty() {
            parts.push(said.join(" "));
        }
        if self.state != Health::Unhealthy && self.share != RealHealth::FULL {
            parts.push(format!("at {} % of its weight", self.share));
        }
        if self.is_held(now) {
            parts.push(format!("stays out until {}", time(self.flaps.held_until)));
        }
        match (self.told, self.expires) {
            (false, _) => {}
            (true, 0) => parts.push("told".to_owned()),
            // Without a process that serves, nobody takes it back: it stays in force.
            (true, expires) if expires <= now => {
                parts.push(format!(
                    "told, until {}; over, but 'lbctl serve' takes it back",
                    time(expires)
                ));
            }
            (true, expires) => parts.push(format!("told, until {}", time(expires))),
        }
        parts.join("; ")
    }

    /// Whether it stays out because it failed too often.
    pub(crate) fn is_held(&self, now: u64) -> bool {
        self.state == Health::Unhealthy && self.flaps.held_until > now
    }
}

/// What the records say, and what it takes to find them.
pub(crate) struct KnownHealth {
    records: HashMap<VipRealKey, abi::HealthRecord>,
    /// Id and serial of each VIP.
    vips: HashMap<Vip, (u32, u32)>,
    ids: FxHashMap<IpAddr, u32>,
}

impl KnownHealth {
    fn record(&self, vip: &Vip, real: &IpAddr) -> Option<&abi::HealthRecord> {
        let (id, serial) = self.vips.get(vip)?;
        let record = self.records.get(&(*id, *self.ids.get(real)?))?;
        // An earlier VIP may have had the id.
        (record.serial == *serial).then_some(record)
    }

    /// Until when a real stays out because it failed too often, in seconds since 1970; 0: it does not.
    pub(crate) fn held_until(&self, vip: &Vip, real: &IpAddr) -> u64 {
        self.record(vip, real).map_or(0, |record| record.held_until)
    }

    /// What is known about a real of a VIP, whose record says `health`.
    pub(crate) fn of(&self, vip: &Vip, real: &IpAddr, health: RealHealth) -> HealthDetails {
        self.record(vip, real).map_or_else(
            || HealthDetails::new(health, &abi::HealthRecord::default()),
            |record| HealthDetails::new(health, record),
        )
    }
}

impl Balancer {
    /// What is known about the health of all reals, by VIP and address.
    pub fn health(&self) -> Result<Vec<RealHealthStatus>> {
        let (table, known) = self.table_and_health()?;
        let of_vip = |(vip, spec)| {
            let (vip, spec): (&Vip, &VipSpec) = (vip, spec);
            let status = |(real, of_vip): (&IpAddr, &RealSpec)| {
                let details = known.of(vip, real, of_vip.health);
                RealHealthStatus { vip: *vip, real: *real, details }
            };
            spec.reals.iter().map(status).collect::<Vec<_>>()
        };
        Ok(table.vips.iter().flat_map(of_vip).collect())
    }

    /// The VIPs and reals, with what is known about their health.
    pub(crate) fn table_and_health(&self) -> Result<(Table, KnownHealth)> {
        let running = self.running()?;
        let known = self.known_health(&running)?;
        Ok((running.table(), known))
    }

    /// The VIPs and reals, with the ids that they have in the maps.
    pub(crate) fn running(&self) -> Result<Running> {
        self.dataplane.read_table(self.next_serial()?)
    }

    /// What is known about the health of their reals.
    pub(crate) fn known_health(&self, running: &Running) -> Result<KnownHealth> {
        let store = self.dataplane.health.as_ref();
        let records = store.map_or_else(|| Ok(HashMap::new()), HealthStore::found)?;
        if records.is_empty() {
            return Ok(KnownHealth { records, vips: HashMap::new(), ids: FxHashMap::default() });
        }
        let vips = running.vips.iter().map(|(vip, found)| (*vip, (found.id, found.serial)));
        Ok(KnownHealth { records, vips: vips.collect(), ids: running.live_ids() })
    }

    /// When checks were last run, in seconds since 1970.
    pub fn last_check(&self) -> Result<Option<u64>> {
        self.dataplane.health.as_ref().map_or(Ok(None), HealthStore::last_check)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-27 12:10:00 UTC.
    const NOW: u64 = 1_795_781_400;

    fn why(details: &HealthDetails) -> String {
        details.why_at(NOW, &TimeZone::UTC)
    }

    #[test]
    fn why_comes_with_the_time() {
        assert_eq!(why(&HealthDetails::default()), "");
        let unhealthy = HealthDetails {
            state: Health::Unhealthy,
            reason: "HTTP 503".to_owned(),
            since: NOW - 409,
            ..HealthDetails::default()
        };
        assert_eq!(why(&unhealthy), "HTTP 503 since 12:03:11");
        let yesterday = HealthDetails { since: NOW - 86_400, ..unhealthy.clone() };
        assert_eq!(why(&yesterday), "HTTP 503 since 2026-11-26 12:10:00");
        let flaps = Flaps { held_until: NOW + 60, ..Flaps::default() };
        let held = HealthDetails { flaps, ..unhealthy.clone() };
        assert_eq!(why(&held), "HTTP 503 since 12:03:11; stays out until 12:11:00");
        let told = HealthDetails { told: true, expires: NOW + 30, ..unhealthy };
        assert_eq!(why(&told), "HTTP 503 since 12:03:11; told, until 12:10:30");
        let over = HealthDetails { expires: NOW, ..told };
        assert_eq!(
            why(&over),
            "HTTP 503 since 12:03:11; told, until 12:10:00; over, but 'lbctl serve' takes it back"
        );
        assert_eq!(over.in_words_with(&why(&over))[..21], *"unhealthy: HTTP 503 s");
        let starting = HealthDetails {
            state: Health::Healthy,
            share: 25,
            since: NOW,
            ..HealthDetails::default()
        };
        assert_eq!(why(&starting), "since 12:10:00; at 25 % of its weight");
        assert_eq!(
            starting.in_words_with(&why(&starting)),
            "healthy since 12:10:00; at 25 % of its weight"
        );
    }
}
