//! The part of a plan about addresses: what an address does with packets that none of its VIPs takes.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use super::detail::Detail;
use super::detail::in_words;
use crate::model::address::Vip;
use crate::model::config::Echo;
use crate::model::config::OtherPorts;
use crate::model::vip_table::VipSpec;
use crate::model::vip_table::config_name;

/// What changes for an address. One of its VIPs can cause it. An address without VIPs has the defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressChange {
    /// The address.
    pub address: IpAddr,
    /// What happens to packets for ports that no VIP has: before and after.
    pub other_ports: Option<(OtherPorts, OtherPorts)>,
    /// When echo requests are answered: before and after.
    pub echo: Option<(Echo, Echo)>,
}

impl AddressChange {
    pub(super) fn details(&self) -> Vec<Detail> {
        let mut details = Vec::new();
        if let Some((old, new)) = self.other_ports {
            let text = format!("other_ports {} → {}", config_name(&old), config_name(&new));
            details.push(Detail::setting("other_ports", old, new, text));
        }
        if let Some((old, new)) = self.echo {
            let text = format!("echo {} → {}", config_name(&old), config_name(&new));
            details.push(Detail::setting("echo", old, new, text));
        }
        details
    }
}

impl fmt::Display for AddressChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "~ address {}: {}", self.address, in_words(&self.details()))
    }
}

type Rules = BTreeMap<IpAddr, (Option<OtherPorts>, Option<Echo>)>;

fn rules<'a>(vips: impl Iterator<Item = (&'a Vip, &'a VipSpec)>) -> Rules {
    let mut rules = Rules::new();
    for (vip, spec) in vips {
        let (other_ports, echo) = rules.entry(vip.address).or_default();
        *other_ports = other_ports.or(spec.other_ports);
        *echo = echo.or(spec.echo);
    }
    rules
}

/// Compares the addresses of two sets of VIPs.
pub(crate) fn address_changes<'a>(
    before: impl Iterator<Item = (&'a Vip, &'a VipSpec)>,
    after: impl Iterator<Item = (&'a Vip, &'a VipSpec)>,
) -> Vec<AddressChange> {
    let (before, mut after) = (rules(before), rules(after));
    for address in before.keys() {
        after.entry(*address).or_default();
    }
    let each = after.into_iter().filter_map(|(address, (other_ports, echo))| {
        let (old_ports, old_echo) = before.get(&address).copied().unwrap_or_default();
        let ports = (old_ports.unwrap_or_default(), other_ports.unwrap_or_default());
        let echo = (old_echo.unwrap_or_default(), echo.unwrap_or_default());
        let change = AddressChange {
            address,
            other_ports: Some(ports).filter(|(old, new)| old != new),
            echo: Some(echo).filter(|(old, new)| old != new),
        };
        (change.other_ports.is_some() || change.echo.is_some()).then_some(change)
    });
    each.collect()
}
