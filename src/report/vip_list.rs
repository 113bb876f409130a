//! The VIPs and their reals, with what was found about them: `lbctl real list`.

use std::collections::HashMap;

use serde::Serialize;

use crate::dataplane::balancer::Balancer;
use crate::model::address::Vip;
use crate::model::config::Echo;
use crate::model::config::NoReal;
use crate::model::config::OtherPorts;
use crate::model::error::Result;
use crate::observe::stats::Count;
use crate::observe::vips::VipRealStatus;

/// A VIP and its reals.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct ListedVip {
    /// Its protocol, address and port.
    pub vip: Vip,
    /// What was sent to its reals.
    pub sent: Count,
    /// Packets for it that were sent to no real.
    pub dropped: u64,
    /// What becomes of packets to ports of its address that no VIP has.
    pub other_ports: OtherPorts,
    /// What becomes of packets while it has no usable real.
    pub no_real: NoReal,
    /// When its address answers echo requests.
    pub echo: Echo,
    /// Its reals.
    pub reals: Vec<ListedReal>,
}

/// A real of a VIP.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct ListedReal {
    /// What it is used for, and whether it does well.
    #[serde(flatten)]
    pub status: VipRealStatus,
    /// Why it does well or not; empty: not known.
    pub reason: String,
    /// Since when its health is like that, in seconds since 1970; 0: not known.
    pub since: u64,
    /// Whether somebody else said so, not a check of the VIP.
    pub told: bool,
    /// When what was told ends, in seconds since 1970; 0: never.
    pub expires: u64,
    /// How many checks in a row said so.
    pub checks: u32,
}

impl Balancer {
    /// The VIPs and their reals, with what was found about them.
    pub fn vip_list(&self) -> Result<Vec<ListedVip>> {
        let found: HashMap<_, _> =
            self.health()?.into_iter().map(|found| ((found.vip, found.real), found)).collect();
        let vips = self.vips()?.into_iter().map(|of_vip| {
            let reals = of_vip.reals.into_iter().map(|status| {
                let found = found.get(&(of_vip.vip, status.address));
                // The two readings may differ; the reason belongs to the health that was read with it.
                let found = found.filter(|found| found.health == status.health);
                ListedReal {
                    reason: found.map(|found| found.reason.clone()).unwrap_or_default(),
                    since: found.map_or(0, |found| found.since),
                    told: found.is_some_and(|found| found.told),
                    expires: found.map_or(0, |found| found.expires),
                    checks: found.map_or(0, |found| found.checks),
                    status,
                }
            });
            ListedVip {
                vip: of_vip.vip,
                sent: of_vip.sent,
                dropped: of_vip.dropped,
                other_ports: of_vip.other_ports,
                no_real: of_vip.no_real,
                echo: of_vip.echo,
                reals: reals.collect(),
            }
        });
        Ok(vips.collect())
    }
}
