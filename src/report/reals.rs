//! Problems with the health of reals, in words.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Serialize;

use crate::model::address::Vip;
use crate::model::config::RealState;
use crate::model::health::Health;
use crate::observe::health::HealthDetails;
use crate::observe::vips::VipRealStatus;
use crate::observe::vips::VipStatus;

/// How many reals, or VIPs, a text names.
const NAMED: usize = 3;

/// A real that is unhealthy, though the operator wants it to take flows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UnhealthyReal {
    /// The VIP.
    pub vip: Vip,
    /// The real.
    pub real: IpAddr,
    /// What is known about it.
    #[serde(flatten)]
    pub health: HealthDetails,
}

/// A VIP that uses all reals that the operator has up, because too few of them are healthy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FailingOpen {
    /// The VIP.
    pub vip: Vip,
    /// How many of the reals do well.
    pub well: usize,
    /// How many the operator has up.
    pub of: usize,
}

/// Whether the operator wants it to take new flows.
fn is_wanted(real: &VipRealStatus) -> bool {
    real.state == RealState::Up && real.weight != 0
}

/// The unhealthy reals of a VIP that the operator wants.
pub(super) fn unhealthy(vip: &VipStatus) -> impl Iterator<Item = UnhealthyReal> {
    let reals = vip.reals.iter();
    let sick = reals.filter(|real| is_wanted(real) && real.health.state == Health::Unhealthy);
    sick.map(|real| UnhealthyReal { vip: vip.vip, real: real.address, health: real.health.clone() })
}

/// The VIP, if it fails open.
pub(super) fn failing_open(vip: &VipStatus) -> Option<FailingOpen> {
    let wanted: Vec<_> = vip.reals.iter().filter(|real| is_wanted(real)).collect();
    let well = wanted
        .iter()
        .filter(|real| real.health.state != Health::Unhealthy && real.health.share != 0)
        .count();
    vip.fails_open.then_some(FailingOpen { vip: vip.vip, well, of: wanted.len() })
}

/// The first of them, by their addresses, with the reasons, and how many more there are:
/// `10.0.0.1 of tcp://10.200.1.1:80 (HTTP 503 since 12:03:11) and 2 more`.
pub(super) fn reals_in_words(reals: &[UnhealthyReal]) -> String {
    let mut by_address: BTreeMap<IpAddr, Vec<&UnhealthyReal>> = BTreeMap::new();
    for real in reals {
        by_address.entry(real.real).or_default().push(real);
    }
    let name = |(address, of): (&IpAddr, &Vec<&UnhealthyReal>)| {
        let first = of.first()?;
        let vips = match of.len() {
            1 => first.vip.to_string(),
            count => format!("{count} VIPs"),
        };
        let why = first.health.why();
        let why = if why.is_empty() { why } else { format!(" ({why})") };
        Some(format!("{address} of {vips}{why}"))
    };
    let named: Vec<_> = by_address.iter().take(NAMED).filter_map(name).collect();
    and_more(&named, by_address.len())
}

/// The same of VIPs: `tcp://10.200.1.1:80 (1 of 4 reals does well) and 2 more`.
pub(super) fn vips_in_words(vips: &[FailingOpen]) -> String {
    let name = |FailingOpen { vip, well, of }: &FailingOpen| match well {
        0 => format!("{vip} (none of {of} reals does well)"),
        1 => format!("{vip} (1 of {of} reals does well)"),
        well => format!("{vip} ({well} of {of} reals do well)"),
    };
    let named: Vec<_> = vips.iter().take(NAMED).map(name).collect();
    and_more(&named, vips.len())
}

fn and_more(named: &[String], all: usize) -> String {
    let text = named.join(", ");
    match all - named.len() {
        0 => text,
        more => format!("{text} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_are_named() {
        let health = HealthDetails {
            state: Health::Unhealthy,
            reason: "HTTP 503".to_owned(),
            ..HealthDetails::default()
        };
        let vip = |n: u8| format!("tcp://10.200.1.{n}:80").parse().expect("a VIP");
        let real = |vip_number, real: u8| UnhealthyReal {
            vip: vip(vip_number),
            real: [10, 0, 0, real].into(),
            health: health.clone(),
        };
        assert_eq!(reals_in_words(&[real(1, 1)]), "10.0.0.1 of tcp://10.200.1.1:80 (HTTP 503)");
        let many: Vec<_> = (1..=5).map(|n| real(1, n)).chain([real(2, 2)]).collect();
        assert_eq!(
            reals_in_words(&many),
            "10.0.0.1 of tcp://10.200.1.1:80 (HTTP 503), 10.0.0.2 of 2 VIPs (HTTP 503), \
             10.0.0.3 of tcp://10.200.1.1:80 (HTTP 503) and 2 more"
        );
        let open = |n, well| FailingOpen { vip: vip(n), well, of: 4 };
        assert_eq!(
            vips_in_words(&[open(1, 0), open(2, 1), open(3, 2), open(4, 2)]),
            "tcp://10.200.1.1:80 (none of 4 reals does well), tcp://10.200.1.2:80 (1 of 4 reals does well), \
             tcp://10.200.1.3:80 (2 of 4 reals do well) and 1 more"
        );
    }
}
