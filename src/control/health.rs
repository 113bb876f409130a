//! What was found about reals: recording it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use rustc_hash::FxHashMap;

use crate::dataplane::balancer::Balancer;
use crate::dataplane::health::HealthStore;
use crate::kernel::clock::seconds_since_1970;
use crate::model::abi;
use crate::model::address::Vip;
use crate::model::error::Error;
use crate::model::error::Result;
use crate::model::health::Health;
use crate::model::health::RealHealth;
use crate::model::text::padded;
use crate::model::text::quote;
use crate::model::vip_real::VipRealKey;
use crate::model::vip_table::Table;
use crate::plan::Plan;
use crate::plan::diff::Running;
use crate::plan::diff::diff;

pub use crate::observe::health::Flaps;
pub use crate::observe::health::RealHealthStatus;

/// The longest that something told may hold: 10 years.
pub const LONGEST_LIFETIME: Duration = Duration::from_secs(10 * 365 * 86_400);

/// What a check found about a real of a VIP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthResult {
    /// The VIP.
    pub vip: Vip,
    /// The real.
    pub real: IpAddr,
    /// Whether it does well.
    pub health: Health,
    /// The part of its weight that counts, in percent.
    pub share: u8,
    /// Why, in a few words, such as `HTTP 503`; 80 bytes are kept.
    pub reason: String,
    /// How many checks in a row said so.
    pub checks: u32,
    /// How often it failed.
    pub flaps: Flaps,
}

impl Balancer {
    /// Records what checks found, all in one pass: rings that change are written together. Results about VIPs and reals
    /// that are gone are left out, and so are those about reals of which somebody else told something that still holds.
    /// What was told and does not hold any longer is forgotten.
    ///
    /// The plan says which VIPs changed.
    pub fn record_health(&self, results: &[HealthResult]) -> Result<Plan> {
        self.change_health(|running, records| {
            let now = seconds_since_1970();
            for result in results {
                records.set(running, result, now);
            }
            Ok(())
        })
    }

    /// Records what somebody other than the VIP's check says about a real. It counts until `lifetime` is over, or
    /// without one until [`Self::forget_told_health`]. Meanwhile, checks of the VIP do not count for this real.
    ///
    /// `lbctl serve` ends it on time; without it, the next change does.
    pub fn tell_health(
        &self,
        vip: Vip,
        real: IpAddr,
        health: Health,
        reason: &str,
        lifetime: Option<Duration>,
    ) -> Result<Plan> {
        self.tell_health_of(&[(real, Some(vip))], health, reason, lifetime)
    }

    /// [`Self::tell_health`] of several reals, each in a VIP, or with `None` in every VIP that has it: of all or of none.
    pub fn tell_health_of(
        &self,
        targets: &[(IpAddr, Option<Vip>)],
        health: Health,
        reason: &str,
        lifetime: Option<Duration>,
    ) -> Result<Plan> {
        self.change_health(|running, records| {
            let now = seconds_since_1970();
            let until = lifetime
                .map(|time| now.saturating_add(time.min(LONGEST_LIFETIME).as_secs().max(1)));
            for (vip, real) in in_vips(running, targets)? {
                records.tell(running, &vip, real, health, reason, (now, until))?;
            }
            Ok(())
        })
    }

    /// Takes back what [`Self::tell_health`] recorded. The real's health is unknown until the next check.
    pub fn forget_told_health(&self, vip: Vip, real: IpAddr) -> Result<Plan> {
        self.forget_told_health_of(&[(real, Some(vip))])
    }

    /// [`Self::forget_told_health`] of several reals, each in a VIP, or with `None` in every VIP that has it.
    pub fn forget_told_health_of(&self, targets: &[(IpAddr, Option<Vip>)]) -> Result<Plan> {
        self.change_health(|running, records| {
            for (vip, real) in in_vips(running, targets)? {
                let key = records.key(running, &vip, real)?;
                if records.health(&vip, real).is_some_and(|health| health.told) {
                    records.forget(key, &vip, real, seconds_since_1970());
                }
            }
            Ok(())
        })
    }

    /// Notes that checks are being run. It takes no lock.
    pub fn note_checking(&self) -> Result<()> {
        self.dataplane
            .health
            .as_ref()
            .map_or(Ok(()), |health| health.set_last_check(seconds_since_1970()))
    }

    fn change_health(
        &self,
        change: impl FnOnce(&Running, &mut Records) -> Result<()>,
    ) -> Result<Plan> {
        let _lock = self.instance.lock_existing()?;
        // Another command may have replaced the maps before this one got the lock.
        let current = Self::open(&self.instance)?;
        let running = current.dataplane.read_table(current.next_serial()?)?;
        let Some(store) = &current.dataplane.health else { return Ok(Plan::default()) };
        let mut records = Records::new(&running, store)?;
        records.end_told(&running, seconds_since_1970());
        change(&running, &mut records)?;
        let mut plan = Plan::default();
        plan.set_table(diff(&running, &records.wanted))?;
        // The reasons come first: a process that is killed in between leaves a reason without a change, which nobody sees.
        store.set_found(&records.writes)?;
        current.dataplane.write_all(&plan.steps.table)?;
        Ok(plan)
    }
}

/// The reals of VIPs that are meant.
fn in_vips(running: &Running, targets: &[(IpAddr, Option<Vip>)]) -> Result<Vec<(Vip, IpAddr)>> {
    let mut found = Vec::new();
    for (real, vip) in targets {
        if let Some(vip) = vip {
            found.push((*vip, *real));
            continue;
        }
        let before = found.len();
        let having = running.vips.iter().filter(|(_, vip)| vip.spec.reals.contains_key(real));
        found.extend(having.map(|(vip, _)| (*vip, *real)));
        if found.len() == before {
            return Err(Error::RealOfNoVip(*real));
        }
    }
    Ok(found)
}

/// The records, while a change is made.
struct Records {
    found: HashMap<VipRealKey, abi::HealthRecord>,
    /// The serial of each VIP, by id.
    serials: HashMap<u32, u32>,
    ids: FxHashMap<IpAddr, u32>,
    wanted: Table,
    writes: Vec<(VipRealKey, abi::HealthRecord)>,
}

impl Records {
    fn new(running: &Running, store: &HealthStore) -> Result<Self> {
        let serials: HashMap<_, _> =
            running.vips.values().map(|vip| (vip.id, vip.serial)).collect();
        let mut found = store.found()?;
        // An earlier VIP may have had the id.
        found.retain(|(vip, _), record| serials.get(vip) == Some(&record.serial));
        let (ids, wanted) = (running.live_ids(), running.table());
        Ok(Self { found, serials, ids, wanted, writes: Vec::new() })
    }

    fn key(&self, running: &Running, vip: &Vip, real: IpAddr) -> Result<VipRealKey> {
        let of_vip = running.vips.get(vip).ok_or(Error::NoSuchVip(*vip))?;
        let id = self.ids.get(&real).filter(|_| of_vip.spec.reals.contains_key(&real));
        let id = id.ok_or(Error::NoSuchReal { vip: *vip, real })?;
        Ok((of_vip.id, *id))
    }

    /// What is known of a real, or a new record.
    fn of(&self, key: VipRealKey) -> abi::HealthRecord {
        self.found.get(&key).copied().unwrap_or_default()
    }

    fn write(&mut self, key: VipRealKey, record: abi::HealthRecord) {
        let serial = self.serials.get(&key.0).copied().unwrap_or_default();
        let record = abi::HealthRecord { serial, ..record };
        self.found.insert(key, record);
        self.writes.push((key, record));
    }

    fn health(&self, vip: &Vip, real: IpAddr) -> Option<RealHealth> {
        Some(self.wanted.vips.get(vip)?.reals.get(&real)?.health)
    }

    fn change(&mut self, vip: &Vip, real: IpAddr, health: RealHealth) {
        let spec = self.wanted.vips.get_mut(vip);
        if let Some(of_vip) = spec.and_then(|spec| spec.reals.get_mut(&real)) {
            of_vip.health = health;
        }
    }

    /// Notes what somebody said at this time, and until when it holds.
    fn tell(
        &mut self,
        running: &Running,
        vip: &Vip,
        real: IpAddr,
        health: Health,
        reason: &str,
        (now, until): (u64, Option<u64>),
    ) -> Result<()> {
        let key = self.key(running, vip, real)?;
        let record = abi::HealthRecord {
            since: now,
            expires: until.unwrap_or(0),
            reason: padded(&quote(reason)),
            ..self.of(key)
        };
        self.write(key, abi::HealthRecord { checks: 1, ..record });
        self.change(vip, real, RealHealth { state: health, share: RealHealth::FULL, told: true });
        Ok(())
    }

    fn forget(&mut self, key: VipRealKey, vip: &Vip, real: IpAddr, now: u64) {
        let record = self.of(key);
        self.write(
            key,
            abi::HealthRecord { since: now, expires: 0, checks: 0, reason: padded(""), ..record },
        );
        self.change(vip, real, RealHealth::default());
    }

    /// Forgets what was told and does not hold any longer.
    fn end_told(&mut self, running: &Running, now: u64) {
        for (vip, of_vip) in &running.vips {
            for (real, spec) in of_vip.spec.reals.iter().filter(|(_, real)| real.health.told) {
                let Some(id) = self.ids.get(real).copied() else { continue };
                let key = (of_vip.id, id);
                let over =
                    |record: &abi::HealthRecord| record.expires != 0 && record.expires <= now;
                if spec.health.told && self.found.get(&key).is_some_and(over) {
                    self.forget(key, vip, *real, now);
                }
            }
        }
    }

    fn set(&mut self, running: &Running, result: &HealthResult, now: u64) {
        let HealthResult { vip, real, health, share, reason, checks, flaps } = result;
        let Ok(key) = self.key(running, vip, *real) else { return };
        let Some(before) = self.health(vip, *real).filter(|before| !before.told) else { return };
        // A VIP whose check was removed meanwhile forgets what its check found.
        if self.wanted.vips.get(vip).is_none_or(|spec| spec.health.check.is_none()) {
            return;
        }
        let known = self.of(key);
        let since = if before.state == *health && known.since != 0 { known.since } else { now };
        self.write(
            key,
            abi::HealthRecord {
                since,
                expires: 0,
                held_until: flaps.held_until,
                failing_since: flaps.since,
                serial: 0,
                checks: *checks,
                failures: flaps.failures,
                holds: flaps.holds,
                reason: padded(&quote(reason)),
            },
        );
        let share = (*share).min(RealHealth::FULL);
        self.change(vip, *real, RealHealth { state: *health, share, told: false });
    }
}
