//! The table of l4lb's programs in a chain: their names, slots and maps, and the command that removes each.
//!
//! All code that distinguishes our programs from each other or from others' programs uses this table. The root
//! program is not in it: it starts the chain.

use crate::instance::Instance;
use crate::instance::egress::CHECK_FLOWS;
use crate::instance::egress::MSS_LIMITS;
use crate::instance::egress::MSS_STATES;
use crate::instance::egress::STATES;
use crate::instance::remove_pin;
use crate::model::abi::consts;
use crate::model::error::Result;

/// Name of the root program's pin.
pub(crate) const ROOT: &str = "root";

/// The maps of the chain, which its programs share.
pub(crate) const CHAIN: &str = "chain";
pub(crate) const CHAIN_NEXT: &str = "chain_next";
pub(crate) const CHAIN_MAPS: [&str; 2] = [CHAIN, CHAIN_NEXT];

/// The maps that captures share. `CAPTURE_NEXT` is data that programs share as a map.
pub(crate) const CAPTURES: &str = "captures";
pub(crate) const CAPTURE_NEXT: &str = "capture_next";
pub(crate) const CAPTURE_VERDICT: &str = "capture_verdict";

/// The record of interfaces that are configured but not served. An instance that an earlier build created has none.
pub(crate) const UNSERVED: &str = "unserved";

/// The checks and what VIPs say about them, and details of what was found. An instance without checks has neither.
pub(crate) const CHECKS: &str = "checks";
pub(crate) const CHECKS_NEXT: &str = "checks:next";
pub(crate) const HEALTH: &str = "health";

/// One of our programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OwnProgram {
    /// Runs the captures of incoming packets.
    Captures,
    /// The balancer.
    Balancer,
    /// Removes outer headers, on a real.
    Decap,
}

/// A line of the table.
struct Facts {
    name: &'static str,
    slot: u32,
    maps: &'static [&'static str],
    /// The control plane's own maps, and those that earlier builds had.
    other_maps: &'static [&'static str],
    mark: &'static str,
    version: Option<&'static str>,
    removed_by: Option<&'static str>,
}

const CAPTURE: Facts = Facts {
    name: "capture",
    slot: consts::SLOT_CAPTURE,
    maps: &[CAPTURES, CAPTURE_NEXT, CAPTURE_VERDICT],
    other_maps: &[],
    mark: CAPTURES,
    version: None,
    removed_by: None,
};

const BALANCER: Facts = Facts {
    name: "balancer",
    slot: consts::SLOT_BALANCER,
    maps: &[
        "control",
        "vips",
        "vip_index",
        "rings",
        "reals",
        "neighbours",
        "flows4",
        "flows6",
        "connections",
        "server_ids",
        "tunnel_ends",
        "tunnel_sources",
        "interfaces",
        "cpu_states",
        "vip_counts",
        "real_counts",
        "count_starts",
        "vip_reals",
    ],
    other_maps: &[UNSERVED, CHECKS, CHECKS_NEXT, HEALTH, STATES, CHECK_FLOWS],
    mark: "vip_index",
    version: Some("control"),
    removed_by: Some("lbctl down"),
};

const DECAP: Facts = Facts {
    name: "decap",
    slot: consts::SLOT_DECAP,
    maps: &[
        "decap_settings",
        "decap_addresses",
        "decap_from",
        "decap_to",
        "decap_own",
        "decap_requests",
        "decap_states",
    ],
    other_maps: &["decap_owners", MSS_LIMITS, MSS_STATES],
    mark: "decap_settings",
    version: Some("decap_settings"),
    removed_by: Some("lbctl decap detach"),
};

impl OwnProgram {
    /// All of them, in the order of their slots.
    pub(crate) const ALL: [Self; 3] = [Self::Captures, Self::Balancer, Self::Decap];

    const fn facts(self) -> &'static Facts {
        match self {
            Self::Captures => &CAPTURE,
            Self::Balancer => &BALANCER,
            Self::Decap => &DECAP,
        }
    }

    /// The one that is pinned under this name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|own| own.name() == name)
    }

    /// The one that has this slot reserved.
    pub(crate) fn of_slot(slot: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|own| own.slot() == slot)
    }

    /// The name of its pin, which is also that of its C function.
    pub(crate) const fn name(self) -> &'static str {
        self.facts().name
    }

    /// Its slot, and the place that is reserved for it.
    pub(crate) const fn slot(self) -> u32 {
        self.facts().slot
    }

    /// The pins of its own maps. If the first is missing, the others are leftovers.
    pub(crate) const fn maps(self) -> &'static [&'static str] {
        self.facts().maps
    }

    /// Removes the pins of its maps. A running program keeps its maps.
    pub(crate) fn remove_maps(self, instance: &Instance) -> Result<()> {
        let mut maps = self.maps().iter().chain(self.facts().other_maps);
        maps.try_for_each(|name| remove_pin(&instance.map(name)))
    }

    /// A map that distinguishes it from another program with a function of the same name.
    pub(crate) const fn mark(self) -> &'static str {
        self.facts().mark
    }

    /// The map whose first word is the ABI version of the build that created it; `None`: the program may run without
    /// some of its maps.
    pub(crate) const fn version(self) -> Option<&'static str> {
        self.facts().version
    }

    /// The command that removes it from the chain; `None`: it is removed with the last capture.
    pub(crate) const fn removed_by(self) -> Option<&'static str> {
        self.facts().removed_by
    }

    /// Whether the chain is kept for it. Captures only watch what others do.
    pub(crate) fn needs_chain(self) -> bool {
        self != Self::Captures
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_is_found_by_name_and_slot() {
        for own in OwnProgram::ALL {
            assert_eq!(OwnProgram::named(own.name()), Some(own));
            assert_eq!(OwnProgram::of_slot(own.slot()), Some(own));
            assert!(own.maps().contains(&own.mark()));
            assert!(own.version().is_none_or(|version| own.maps().first() == Some(&version)));
        }
        assert_eq!(OwnProgram::named("root"), None);
        assert_eq!(OwnProgram::of_slot(consts::CHAIN_SLOTS - 1), None);
    }

    #[test]
    fn no_two_have_a_map_in_common() {
        let all = OwnProgram::ALL.iter().flat_map(|own| own.maps()).chain(&CHAIN_MAPS);
        let all: Vec<_> = all.collect();
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
    }
}
