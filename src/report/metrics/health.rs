//! Series of the health of reals. All but the flapping ones and the last check are made from the table, which a scrape
//! reads anyway.

use std::time::Duration;

use super::families as f;
use super::series::OfVip;
use super::series::Pairs;
use super::series::flag;
use super::series::number;
use super::sink::Sink;
use crate::kernel::clock::seconds_since_1970;
use crate::model::health::Health;
use crate::model::health::RealHealth;
use crate::model::health::is_overdue;
use crate::model::vip_table::RealSpec;
use crate::model::vip_table::Table;
use crate::observe::health::KnownHealth;

const HEALTH: [(Health, &str); 3] =
    [(Health::Healthy, "healthy"), (Health::Unhealthy, "unhealthy"), (Health::Unknown, "unknown")];

/// Series of all VIPs that have a check, or reals of which something is known.
pub(super) fn health(
    sink: &mut dyn Sink,
    table: &Table,
    pairs: &Pairs<'_>,
    known: &KnownHealth,
    last_check: Option<u64>,
) {
    let now = seconds_since_1970();
    let is_known = |real: &RealSpec| real.health != RealHealth::default();
    let has_health =
        |vip: &&OfVip<'_>| vip.spec.health.check.is_some() || vip.spec.reals.values().any(is_known);
    let with_health: Vec<_> = pairs.vips.iter().filter(has_health).collect();
    let vips = || with_health.iter().copied();
    let names = HEALTH.map(|(_, name)| name);
    Pairs::counts(sink, &f::VIP_REALS_BY_HEALTH, vips(), names, |real| {
        let kind = HEALTH.iter().position(|(state, _)| *state == real.health.state);
        kind.filter(|_| real.is_wanted())
    });
    Pairs::of_vips(sink, &f::VIP_FAILS_OPEN, vips(), |vip| Some(flag(vip.spec.fails_open())));
    pairs.of_pairs(sink, &f::VIP_REAL_HEALTHY, vips(), |_, _, real| match real.health.state {
        Health::Unknown => None,
        state => Some(flag(state == Health::Healthy)),
    });
    pairs.of_pairs(sink, &f::VIP_REAL_HEALTH_SHARE, vips(), |_, _, real| {
        let share = f64::from(real.health.share) / f64::from(RealHealth::FULL);
        (real.health.state != Health::Unknown).then_some(share)
    });
    pairs.of_pairs(sink, &f::VIP_REAL_TOLD, vips(), |_, _, real| real.health.told.then_some(1.0));
    pairs.of_pairs(sink, &f::VIP_REAL_HELD, vips(), |vip, address, real| {
        let is_unhealthy = real.health.state == Health::Unhealthy;
        (is_unhealthy && known.held_until(&vip.vip, address) > now).then_some(1.0)
    });
    let intervals: Vec<Duration> =
        pairs.vips.iter().filter_map(|vip| table.checked_every(vip.spec)).collect();
    sink.single(&f::CHECKED_VIPS, number(intervals.len() as u64));
    if let Some(at) = last_check {
        sink.single(&f::LAST_CHECK, number(at));
    }
    sink.single(&f::NOBODY_CHECKS, flag(is_overdue(intervals, last_check, now)));
}
