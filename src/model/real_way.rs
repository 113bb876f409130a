//! The way of packets to a real, as the flags of the maps say it. Pure.

use std::net::IpAddr;

use rustc_hash::FxHashMap;
use rustc_hash::FxHashSet;

use crate::model::abi;
use crate::model::abi::consts;
use crate::model::address::Mac;
use crate::model::config::Delivery;
use crate::model::config::Encapsulation;

/// The bits of `real.flags` about the way of packets.
pub(crate) const WAY_FLAGS: u32 = consts::ENCAP_MASK | consts::REAL_LOCAL_SAID;

/// What the entry of a real says about the way of its packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RealWay {
    /// What the operator says of the real.
    pub(crate) said: Delivery,
    /// It is this host, because the host has its address. What the operator says of the real counts more.
    pub(crate) is_own: bool,
}

fn bits(encapsulation: u32) -> u32 {
    encapsulation << consts::ENCAP_SHIFT
}

impl RealWay {
    /// The bits of `real.flags`.
    pub(crate) fn flags(self) -> u32 {
        match self.said {
            Delivery::Local => bits(consts::ENCAP_LOCAL) | consts::REAL_LOCAL_SAID,
            Delivery::By(Encapsulation::Ipip) => bits(consts::ENCAP_IPIP),
            Delivery::By(Encapsulation::Gue) => bits(consts::ENCAP_GUE),
            Delivery::By(Encapsulation::L2) => bits(consts::ENCAP_L2),
            Delivery::AsVip if self.is_own => bits(consts::ENCAP_LOCAL),
            Delivery::AsVip => bits(consts::ENCAP_UNSAID),
        }
    }

    /// The reverse of [`Self::flags`].
    pub(crate) fn from_flags(flags: u32) -> Self {
        let said = match (flags & consts::ENCAP_MASK) >> consts::ENCAP_SHIFT {
            consts::ENCAP_LOCAL if flags & consts::REAL_LOCAL_SAID == 0 => {
                return Self { said: Delivery::AsVip, is_own: true };
            }
            consts::ENCAP_LOCAL => Delivery::Local,
            consts::ENCAP_IPIP => Delivery::By(Encapsulation::Ipip),
            consts::ENCAP_GUE => Delivery::By(Encapsulation::Gue),
            consts::ENCAP_L2 => Delivery::By(Encapsulation::L2),
            _ => Delivery::AsVip,
        };
        Self { said, is_own: false }
    }

    /// Whether packets for it go to this host's own kernel.
    pub(crate) fn is_local(self) -> bool {
        self.said == Delivery::Local || self.said == Delivery::AsVip && self.is_own
    }
}

impl Encapsulation {
    /// The bits of `vip.flags`.
    pub(crate) fn vip_flags(self) -> u32 {
        match self {
            Self::Ipip => bits(consts::ENCAP_UNSAID),
            Self::Gue => bits(consts::ENCAP_GUE),
            Self::L2 => bits(consts::ENCAP_L2),
        }
    }

    /// The reverse of [`Self::vip_flags`].
    pub(crate) fn from_vip_flags(flags: u32) -> Self {
        Self::from_raw((flags & consts::ENCAP_MASK) >> consts::ENCAP_SHIFT)
    }

    /// As `knobs.encapsulation` has it.
    pub(crate) fn raw(self) -> u8 {
        let raw = match self {
            Self::Ipip => consts::ENCAP_UNSAID,
            Self::Gue => consts::ENCAP_GUE,
            Self::L2 => consts::ENCAP_L2,
        };
        u8::try_from(raw).unwrap_or_default()
    }

    /// The reverse of [`Self::raw`].
    pub(crate) fn from_raw(raw: u32) -> Self {
        match raw {
            consts::ENCAP_GUE => Self::Gue,
            consts::ENCAP_L2 => Self::L2,
            _ => Self::Ipip,
        }
    }
}

/// Where frames for a real on a network of an interface go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Neighbour {
    /// The interface that it is on.
    pub(crate) ifindex: u32,
    /// Its MAC.
    pub(crate) mac: Mac,
}

impl Neighbour {
    /// The entry of `neighbours`; that of no neighbour is all zero.
    pub(crate) fn raw(neighbour: Option<Self>) -> abi::neighbour {
        let mut raw = abi::neighbour::default();
        if let Some(Self { ifindex, mac }) = neighbour {
            raw.ifindex = ifindex;
            raw.mac.copy_from_slice(&mac.octets());
        }
        raw
    }

    /// The reverse of [`Self::raw`].
    pub(crate) fn from_raw(raw: &abi::neighbour) -> Option<Self> {
        (raw.ifindex != 0).then(|| Self { ifindex: raw.ifindex, mac: Mac::from(raw.mac) })
    }
}

/// What the host knows about reals.
#[derive(Clone, Debug, Default)]
pub(crate) struct RealFacts {
    /// Reals whose address is one of the host's own.
    pub(crate) own: FxHashSet<IpAddr>,
    /// Where frames for reals go. A real that does not answer keeps what is known of it.
    pub(crate) neighbours: FxHashMap<IpAddr, Neighbour>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_read_back() {
        let by = [Encapsulation::Ipip, Encapsulation::Gue, Encapsulation::L2];
        for encapsulation in by {
            assert_eq!(Encapsulation::from_vip_flags(encapsulation.vip_flags()), encapsulation);
            assert_eq!(Encapsulation::from_raw(encapsulation.raw().into()), encapsulation);
        }
        let mut seen = std::collections::BTreeSet::new();
        let said = by.map(Delivery::By).into_iter().chain([Delivery::AsVip, Delivery::Local]);
        for said in said {
            let way = RealWay { said, is_own: false };
            assert_eq!(RealWay::from_flags(way.flags() | consts::REAL_LIVE), way);
            assert_eq!(way.flags() & !WAY_FLAGS, 0);
            assert!(seen.insert(way.flags()), "{said:?}");
        }
        let own = RealWay { said: Delivery::AsVip, is_own: true };
        assert_eq!(RealWay::from_flags(own.flags()), own);
        assert!(own.is_local() && seen.insert(own.flags()));
    }
}
