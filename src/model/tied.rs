//! Reals of one VIP whose addresses hash alike. Pure.
//!
//! Such reals prefer the slots of a ring in the same order, and take turns. The one with the first turn decides the
//! slots of both. In l4lb that is the lower address. In Katran a hash table decides, and its order depends on what it
//! held before. So the rings of l4lb and Katran may differ in the slots of these reals.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use rustc_hash::FxHashMap;
use rustc_hash::FxHashSet;
use serde::Serialize;

use crate::model::address::Vip;
use crate::model::maglev::hash::real_hash;
use crate::model::vip_table::Table;

/// The most [`TiedReals`] that are listed.
const MOST_TIES: usize = 100;

/// The most VIPs that are listed for one of them.
const MOST_VIPS: usize = 10;

/// The most that a text for people lists.
const MOST_LINES: usize = 3;

/// Reals of VIPs whose addresses hash alike. Its `Display` is a few lines at most.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Ties {
    /// How many groups of such reals there are.
    pub count: usize,
    /// The first hundred of them.
    pub first: Vec<TiedReals>,
}

/// Reals that hash alike and have a VIP in common.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TiedReals {
    /// The reals, in the order of their turns.
    pub reals: Vec<IpAddr>,
    /// The first ten of the VIPs.
    pub vips: Vec<Vip>,
    /// How many VIPs there are.
    pub vip_count: usize,
}

impl Ties {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

impl fmt::Display for Ties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for tied in self.first.iter().take(MOST_LINES) {
            writeln!(f, "note: {tied}")?;
        }
        let more = self.count.saturating_sub(MOST_LINES);
        if more != 0 {
            writeln!(f, "note: {more} more of this kind; --json has them")?;
        }
        if !self.is_empty() {
            writeln!(
                f,
                "note: that matters only where machines with Katran serve the same VIPs: they may send flows of these \
                 reals the other way round (docs/katran.md)"
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for TiedReals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reals: Vec<_> = self.reals.iter().map(IpAddr::to_string).collect();
        write!(f, "reals {} hash alike", reals.join(" and "))?;
        if let [vip, ..] = self.vips[..] {
            write!(f, " in {vip}")?;
        }
        match self.vip_count {
            0 | 1 => Ok(()),
            2 => write!(f, " and another VIP"),
            all => write!(f, " and {} other VIPs", all - 1),
        }
    }
}

/// Finds them in a table, among reals that take new flows.
pub(crate) fn ties(table: &Table) -> Ties {
    let all: FxHashSet<IpAddr> =
        table.vips.values().flat_map(|spec| spec.reals.keys()).copied().collect();
    let mut by_hash: FxHashMap<u64, Vec<IpAddr>> = FxHashMap::default();
    for address in all {
        by_hash.entry(real_hash(address)).or_default().push(address);
    }
    by_hash.retain(|_, alike| alike.len() > 1);
    let hashes: FxHashMap<IpAddr, u64> = by_hash
        .into_iter()
        .flat_map(|(hash, alike)| alike.into_iter().map(move |address| (address, hash)))
        .collect();
    if hashes.is_empty() {
        return Ties::default();
    }
    let mut ties: BTreeMap<Vec<IpAddr>, Vec<Vip>> = BTreeMap::new();
    for (vip, spec) in &table.vips {
        let mut together: BTreeMap<u64, Vec<IpAddr>> = BTreeMap::new();
        for member in spec.members() {
            if let Some(hash) = hashes.get(&member.address) {
                together.entry(*hash).or_default().push(member.address);
            }
        }
        for mut reals in together.into_values().filter(|reals| reals.len() > 1) {
            reals.sort_unstable();
            ties.entry(reals).or_default().push(*vip);
        }
    }
    let count = ties.len();
    let first = ties.into_iter().take(MOST_TIES).map(|(reals, mut vips)| {
        let vip_count = vips.len();
        vips.truncate(MOST_VIPS);
        TiedReals { reals, vips, vip_count }
    });
    Ties { count, first: first.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::config::Config;

    fn table(vips: &[(&str, &[&str])]) -> Table {
        let vip = |(address, reals): &(&str, &[&str])| {
            let reals: Vec<_> = reals.iter().map(|real| format!("{{ {real} }}")).collect();
            format!(
                "[[vips]]\naddress = \"{address}\"\nport = 80\nprotocol = \"tcp\"\nreals = [{}]\n",
                reals.join(", ")
            )
        };
        let text: String = vips.iter().map(vip).collect();
        Table::from(&Config::from_toml(&text).expect("a configuration"))
    }

    const LOW: &str = "address = \"10.0.0.1\"";
    const TWIN: &str = "address = \"10.0.254.255\"";
    const OTHER: &str = "address = \"10.0.0.2\"";

    #[test]
    fn who_hashes_alike_is_named_with_the_vips() {
        let drained = format!("{TWIN}, state = \"drain\"");
        let table = table(&[
            ("10.200.1.1", &[TWIN, OTHER, LOW]),
            ("10.200.1.2", &[LOW, TWIN]),
            // In these VIPs, at most one of the two takes new flows.
            ("10.200.1.3", &[LOW, OTHER]),
            ("10.200.1.4", &[TWIN]),
            ("10.200.1.5", &[LOW, &drained]),
        ]);
        let ties = ties(&table);
        assert_eq!(
            ties.to_string(),
            "note: reals 10.0.0.1 and 10.0.254.255 hash alike in tcp://10.200.1.1:80 and another VIP\n\
             note: that matters only where machines with Katran serve the same VIPs: they may send flows of these \
             reals the other way round (docs/katran.md)\n"
        );
        assert_eq!((ties.count, ties.first[0].vip_count), (1, 2));
        assert_eq!(super::ties(&self::table(&[("10.200.1.1", &[LOW, OTHER])])).to_string(), "");
    }

    /// Only a few lines are printed, however many groups there are.
    #[test]
    fn few_lines_are_printed() {
        let low: Vec<_> = (0..=255).map(|n| format!("address = \"10.0.0.{n}\"")).collect();
        let high: Vec<_> = (0..=255).map(|n| format!("address = \"10.0.254.{n}\"")).collect();
        let reals: Vec<_> = low.iter().chain(&high).map(String::as_str).collect();
        let vips: Vec<_> = (1..=50).map(|n| format!("10.200.1.{n}")).collect();
        let vips: Vec<_> = vips.iter().map(|vip| (vip.as_str(), &reals[..])).collect();
        let ties = ties(&table(&vips));
        assert!(ties.count > 200, "{}", ties.count);
        assert_eq!((ties.first.len(), ties.first[0].vips.len()), (MOST_TIES, MOST_VIPS));
        assert_eq!(ties.first[0].vip_count, 50);
        assert_eq!(ties.to_string().lines().count(), 5, "{ties}");
        assert!(ties.to_string().contains("and 49 other VIPs"), "{ties}");
    }
}
