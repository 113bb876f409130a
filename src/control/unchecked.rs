//! Checks that nobody runs, or that no VIP uses: warnings for who asks for them.

use std::collections::BTreeSet;

use crate::instance::Instance;
use crate::instance::serving;
use crate::model::address::Vip;
use crate::model::config::CheckChoice;
use crate::model::config::Config;
use crate::model::part::Part;
use crate::model::vip_table::Table;
use crate::model::vip_table::VipSpec;

/// Warns if VIPs have a check, those of `which`, and no `lbctl serve` runs.
pub(crate) fn warning(
    instance: &Instance,
    wanted: &Table,
    which: impl Fn(&Vip) -> bool,
) -> Option<String> {
    let is_checked =
        |(vip, spec): &(&Vip, &VipSpec)| wanted.checked_every(spec).is_some() && which(vip);
    let checked = wanted.vips.iter().filter(is_checked).count();
    // If it cannot be seen whether it runs, nothing is claimed.
    if checked == 0 || !matches!(serving::server(instance, &Part::Balancer), Ok(None)) {
        return None;
    }
    let whose = if checked == 1 {
        "1 VIP has a check".to_owned()
    } else {
        format!("{checked} VIPs have checks")
    };
    Some(format!(
        "{whose}, and lbctl serve does not run: nobody checks their reals until it does, and what was found last stays"
    ))
}

/// Warns of checks that no VIP names: a forgotten key is easy to overlook.
pub(crate) fn unused(config: &Config) -> impl Iterator<Item = String> {
    let used: BTreeSet<&str> = config
        .vips
        .iter()
        .filter_map(|vip| match &vip.check {
            Some(CheckChoice::Named(name)) => Some(name.as_str()),
            _ => None,
        })
        .collect();
    let unused = config.checks.keys().filter(move |name| !used.contains(name.as_str()));
    unused.map(|name| {
        format!("no VIP uses check {name}: set check = \"{name}\" for a VIP, or leave it out")
    })
}
