//! Series of the health of reals. All but the flapping ones and the last check are made from the table, which a scrape
//! reads anyway.

use std::time::Duration;

use prometheus::proto::MetricFamily;

use super::families as f;
use super::series::Pairs;
use super::series::flag;
use super::series::number;
use super::series::single;
use crate::kernel::clock::seconds_since_1970;
use crate::model::health::Health;
use crate::model::health::RealHealth;
use crate::model::health::is_overdue;
use crate::model::vip_table::Table;
use crate::observe::health::KnownHealth;

const HEALTH: [(Health, &str); 3] =
    [(Health::Healthy, "healthy"), (Health::Unhealthy, "unhealthy"), (Health::Unknown, "unknown")];

/// Series of all VIPs that have a check, or reals of which something is known.
pub(super) fn health(
    table: &Table,
    pairs: &Pairs<'_>,
    known: &KnownHealth,
    last_check: Option<u64>,
) -> Vec<MetricFamily> {
    let now = seconds_since_1970();
    let (mut open, mut counted) = (Vec::new(), Vec::new());
    let (mut healthy, mut shares) = (Vec::new(), Vec::new());
    let (mut told, mut held) = (Vec::new(), Vec::new());
    let mut intervals: Vec<Duration> = Vec::new();
    for (vip, key, spec) in &pairs.vips {
        intervals.extend(table.checked_every(spec));
        let is_known = |health: RealHealth| health != RealHealth::default();
        if spec.health.check.is_none() && !spec.reals.values().any(|real| is_known(real.health)) {
            continue;
        }
        open.push(f::VIP_FAILS_OPEN.series([vip], flag(spec.fails_open())));
        let mut counts = [0; HEALTH.len()];
        for (label, address, real) in pairs.reals(spec) {
            let RealHealth { state, share, told: is_told } = real.health;
            let wanted = u64::from(real.is_wanted());
            let of_state = counts.iter_mut().zip(HEALTH).filter(|(_, (of, _))| *of == state);
            of_state.for_each(|(count, _)| *count += wanted);
            if !pairs.per_real {
                continue;
            }
            if is_told {
                told.push(f::VIP_REAL_TOLD.series([vip, label], 1.0));
            }
            if state == Health::Unknown {
                continue;
            }
            let well = flag(state == Health::Healthy);
            healthy.push(f::VIP_REAL_HEALTHY.series([vip, label], well));
            let share = f64::from(share) / f64::from(RealHealth::FULL);
            shares.push(f::VIP_REAL_HEALTH_SHARE.series([vip, label], share));
            if state == Health::Unhealthy && known.held_until(key, address) > now {
                held.push(f::VIP_REAL_HELD.series([vip, label], 1.0));
            }
        }
        let counts = counts.into_iter().zip(HEALTH);
        let series = |(count, (_, name))| f::VIP_REALS_BY_HEALTH.series([vip, name], number(count));
        counted.extend(counts.map(series));
    }
    let checked = intervals.len() as u64;
    let nobody = is_overdue(intervals, last_check, now);
    let last = last_check.map(|at| f::LAST_CHECK.series([], number(at)));
    vec![
        f::VIP_REALS_BY_HEALTH.with(counted),
        f::VIP_FAILS_OPEN.with(open),
        f::VIP_REAL_HEALTHY.with(healthy),
        f::VIP_REAL_HEALTH_SHARE.with(shares),
        f::VIP_REAL_TOLD.with(told),
        f::VIP_REAL_HELD.with(held),
        single(&f::CHECKED_VIPS, number(checked)),
        f::LAST_CHECK.with(last.into_iter().collect()),
        single(&f::NOBODY_CHECKS, flag(nobody)),
    ]
}
