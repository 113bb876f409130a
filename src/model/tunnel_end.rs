//! Addresses of the balancer at which tunnels end: what is wanted and what runs, apart from how the maps hold it. Pure.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use serde::Serialize;

use crate::model::config::DecapsulateConfig;
use crate::model::config::DecapsulateThen;
use crate::model::prefix::Prefix;

/// What happens to packets in an outer header to an address of `[[decapsulate]]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TunnelEnd {
    /// What becomes of the packet that was inside.
    pub then: DecapsulateThen,
    /// The outer sources that may send. `None`: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<BTreeSet<Prefix>>,
}

/// The addresses at which tunnels end.
pub(crate) type TunnelEnds = BTreeMap<IpAddr, TunnelEnd>;

/// A prefix of outer sources, and the address that they may send to.
pub(crate) type TunnelSource = (IpAddr, Prefix);

impl TunnelEnd {
    /// Whether anybody may send: there are no sources, or one is every address.
    pub fn is_open(&self) -> bool {
        self.from.as_ref().is_none_or(|from| from.iter().any(|prefix| prefix.prefix_len() == 0))
    }

    /// Whether a sender of another one may be refused here.
    pub(crate) fn refuses_some_of(&self, before: &Self) -> bool {
        match (&before.from, &self.from) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(before), Some(after)) => {
                before.iter().any(|old| !after.iter().any(|new| new.covers(*old)))
            }
        }
    }
}

impl fmt::Display for TunnelEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "then {}", self.then)?;
        match &self.from {
            None => f.write_str(", from anywhere"),
            Some(from) => {
                let from: Vec<_> = from.iter().map(Prefix::to_string).collect();
                write!(f, ", from {}", from.join(" "))
            }
        }
    }
}

impl From<&DecapsulateConfig> for TunnelEnd {
    fn from(config: &DecapsulateConfig) -> Self {
        Self {
            then: config.then,
            from: config.from.as_ref().map(|from| from.iter().copied().collect()),
        }
    }
}

impl DecapsulateConfig {
    /// The entry of an address.
    pub(crate) fn of(address: IpAddr, end: &TunnelEnd) -> Self {
        Self {
            address,
            then: end.then,
            from: end.from.as_ref().map(|from| from.iter().copied().collect()),
        }
    }
}

/// Puts together what two maps hold: for each address what becomes of packets and whether sources are checked, and the
/// sources. Returns the sources that nothing checks as well.
pub(crate) fn together(
    ends: impl IntoIterator<Item = (IpAddr, DecapsulateThen, bool)>,
    sources: impl IntoIterator<Item = TunnelSource>,
) -> (TunnelEnds, BTreeSet<TunnelSource>) {
    let end = |then, checks: bool| TunnelEnd { then, from: checks.then(BTreeSet::new) };
    let ends = ends.into_iter().map(|(address, then, checks)| (address, end(then, checks)));
    let (mut ends, mut stray) = (ends.collect::<TunnelEnds>(), BTreeSet::new());
    for (address, prefix) in sources {
        match ends.get_mut(&address).and_then(|end| end.from.as_mut()) {
            Some(from) => drop(from.insert(prefix)),
            None => drop(stray.insert((address, prefix))),
        }
    }
    (ends, stray)
}

/// The sources of all addresses.
pub(crate) fn sources(ends: &TunnelEnds) -> impl Iterator<Item = TunnelSource> {
    ends.iter()
        .flat_map(|(address, end)| end.from.iter().flatten().map(move |prefix| (*address, *prefix)))
}
