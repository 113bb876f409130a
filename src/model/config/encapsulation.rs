//! `encapsulation`: the way of a packet to its real, as the file, a VIP and a real say it.

use std::fmt;
use std::net::IpAddr;
use std::rc::Rc;

use rustc_hash::FxHashMap;
use serde::Deserialize;
use serde::Serialize;

use super::Config;
use super::ConfigError;
use super::PacketsConfig;
use super::RealConfig;
use super::VipConfig;
use super::errors::Errors;
use crate::model::abi::consts;
use crate::model::vip_table::config_name;

/// How a packet goes to its real. The real's own says it, else the VIP's, else that of `[packets]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Encapsulation {
    /// IP in IP.
    #[default]
    Ipip,
    /// Generic UDP encapsulation: an outer IP header, a UDP header, and with variant 0 a GUE header.
    Gue,
    /// No outer header: the frame goes to the real's own MAC. The real is on a network of one of the interfaces.
    L2,
}

impl Encapsulation {
    /// Bytes that it puts in front of a packet, with a real of IPv6 or IPv4 and this variant of GUE.
    pub(crate) fn overhead(self, v6: bool, gue_variant: u8) -> u32 {
        let outer = if v6 { 40 } else { 20 };
        match self {
            Self::Ipip => outer,
            Self::Gue => outer + UDP_HEADER + if gue_variant == 0 { GUE_HEADER } else { 0 },
            Self::L2 => 0,
        }
    }
}

/// How packets go to a real of a VIP, whoever says so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum SentBy {
    /// IP in IP.
    #[default]
    Ipip,
    /// Generic UDP encapsulation.
    Gue,
    /// In a frame to the real's own MAC.
    L2,
    /// Not at all: the real is this host, and its kernel gets them.
    Local,
}

impl From<Encapsulation> for SentBy {
    fn from(encapsulation: Encapsulation) -> Self {
        match encapsulation {
            Encapsulation::Ipip => Self::Ipip,
            Encapsulation::Gue => Self::Gue,
            Encapsulation::L2 => Self::L2,
        }
    }
}

impl SentBy {
    /// What a VIP and a real say together.
    pub(crate) fn of(vip: Option<Encapsulation>, real: Delivery) -> Self {
        match real {
            Delivery::AsVip => vip.unwrap_or_default().into(),
            Delivery::By(own) => own.into(),
            Delivery::Local => Self::Local,
        }
    }

    /// Bytes that stand in front of a packet.
    pub(crate) fn overhead(self, v6: bool, gue_variant: u8) -> u32 {
        match self {
            Self::Ipip => Encapsulation::Ipip.overhead(v6, gue_variant),
            Self::Gue => Encapsulation::Gue.overhead(v6, gue_variant),
            Self::L2 | Self::Local => 0,
        }
    }
}

impl fmt::Display for SentBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&config_name(self))
    }
}

/// What a real says itself about the way of its packets. It is the same in all VIPs that have the real.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Delivery {
    /// Nothing: as the VIP says, unless the address is one of this host's own.
    #[default]
    AsVip,
    /// In this way.
    By(Encapsulation),
    /// The real is this host itself: its kernel gets the packets as they came.
    Local,
}

impl Delivery {
    /// The encapsulation that the real says.
    pub fn encapsulation(self) -> Option<Encapsulation> {
        match self {
            Self::By(encapsulation) => Some(encapsulation),
            Self::AsVip | Self::Local => None,
        }
    }

    /// Whether the real says that it is this host.
    pub fn is_local(self) -> bool {
        self == Self::Local
    }
}

/// Bytes of a UDP header.
const UDP_HEADER: u32 = 8;

/// Bytes of the header of GUE's variant 0, with private data.
const GUE_HEADER: u32 = 8;

/// The variants of GUE.
pub(super) const GUE_VARIANTS: std::ops::RangeInclusive<u8> = 0..=1;

impl PacketsConfig {
    /// The UDP destination port of GUE in force.
    pub fn gue_port(&self) -> u16 {
        self.gue_port.unwrap_or_else(|| Self::default_gue_port(self.gue_variant))
    }

    /// The port of GUE without the key, of a variant.
    pub(crate) fn default_gue_port(variant: u8) -> u16 {
        let port = if variant == 0 { consts::GUE_PORT_V0 } else { consts::GUE_PORT };
        u16::try_from(port).unwrap_or_default()
    }
}

impl RealConfig {
    /// What it says about the way of its packets.
    pub fn delivery(&self) -> Delivery {
        match self.encapsulation {
            _ if self.local => Delivery::Local,
            Some(encapsulation) => Delivery::By(encapsulation),
            None => Delivery::AsVip,
        }
    }

    /// The same real, with this way of its packets.
    #[must_use]
    pub fn with_delivery(self, delivery: Delivery) -> Self {
        let (encapsulation, local) = (delivery.encapsulation(), delivery.is_local());
        Self { encapsulation, local, ..self }
    }
}

impl VipConfig {
    /// The encapsulation of its reals that say none themselves.
    pub fn encapsulation(&self, packets: &PacketsConfig) -> Encapsulation {
        self.encapsulation.unwrap_or(packets.encapsulation)
    }
}

/// The delivery that a real says, in words of the file.
fn said(delivery: Delivery) -> String {
    match delivery {
        Delivery::Local => "local = true".to_owned(),
        Delivery::By(encapsulation) => {
            format!("encapsulation = \"{}\"", config_name(&encapsulation))
        }
        Delivery::AsVip => "nothing".to_owned(),
    }
}

/// A real of a VIP whose packets get an outer header.
#[derive(Clone, Copy, Debug)]
pub(super) struct Encapsulated {
    vip: usize,
    real: usize,
    pub(super) address: IpAddr,
    encapsulation: Encapsulation,
}

impl Encapsulated {
    /// The key of its address in the file.
    pub(super) fn key(&self) -> String {
        format!("vips[{}].reals[{}].address", self.vip, self.real)
    }
}

impl Config {
    /// The reals whose packets get an outer header.
    pub(super) fn encapsulated(&self) -> impl Iterator<Item = Encapsulated> {
        // What a real says in one VIP holds in all that have it.
        let reals = self.vips.iter().flat_map(|vip| &vip.reals);
        let said = reals.filter(|real| real.delivery() != Delivery::AsVip);
        let said: FxHashMap<_, _> = said.map(|real| (real.address, real.delivery())).collect();
        let said = Rc::new(said);
        self.vips.iter().enumerate().flat_map(move |(i, vip)| {
            let of_vip = vip.encapsulation(&self.packets);
            let said = Rc::clone(&said);
            vip.reals.iter().enumerate().filter_map(move |(j, real)| {
                let encapsulation = match said.get(&real.address).copied().unwrap_or_default() {
                    Delivery::AsVip => of_vip,
                    Delivery::By(own) => own,
                    Delivery::Local => return None,
                };
                let one = Encapsulated { vip: i, real: j, address: real.address, encapsulation };
                (encapsulation != Encapsulation::L2).then_some(one)
            })
        })
    }

    /// Whether a real of IPv6, or of IPv4, gets its packets so.
    pub(super) fn sends_by(&self, encapsulation: Encapsulation, v6: bool) -> bool {
        let by = |real: &Encapsulated| real.encapsulation == encapsulation;
        self.encapsulated().any(|real| by(&real) && real.address.is_ipv6() == v6)
    }

    /// The most bytes that stand in front of a packet; `None`: there are no reals.
    pub(crate) fn largest_overhead(&self) -> Option<u32> {
        self.vips.iter().find(|vip| !vip.reals.is_empty())?;
        let variant = self.packets.gue_variant;
        let each = self
            .encapsulated()
            .map(|real| real.encapsulation.overhead(real.address.is_ipv6(), variant));
        Some(each.max().unwrap_or(0))
    }

    /// Checks the keys of GUE, and what VIPs and reals say about the way of their packets.
    pub(super) fn check_encapsulation(&self, errors: &mut Errors) {
        let packets = &self.packets;
        if !GUE_VARIANTS.contains(&packets.gue_variant) {
            let what = format!(
                "{} is no variant of GUE; write 1 (the packet follows the UDP header) or 0 (with a GUE header and \
                 private data)",
                packets.gue_variant
            );
            errors.push(ConfigError::at("packets.gue_variant", what));
        }
        if packets.gue_port == Some(0) {
            let what = format!(
                "0 is no port; write the one that the reals listen on, or leave it out for {}",
                PacketsConfig::default_gue_port(packets.gue_variant)
            );
            errors.push(ConfigError::at("packets.gue_port", what));
        }
        self.check_deliveries(errors);
        self.check_gue_sources(errors);
    }

    /// Checks what reals say themselves. An entry of the map of reals says it, for all VIPs that have the real.
    fn check_deliveries(&self, errors: &mut Errors) {
        let mut first: FxHashMap<IpAddr, (String, Delivery)> = FxHashMap::default();
        for (i, vip) in self.vips.iter().enumerate() {
            for (j, real) in vip.reals.iter().enumerate() {
                let key = |key: &str| format!("vips[{i}].reals[{j}].{key}");
                if real.local && real.encapsulation.is_some() {
                    errors.push(ConfigError::at(
                        key("local"),
                        "encapsulation is given too, and packets for this host itself are not encapsulated; keep one \
                         of them",
                    ));
                }
                let delivery = real.delivery();
                if delivery == Delivery::AsVip {
                    continue;
                }
                let place = if real.local { key("local") } else { key("encapsulation") };
                let (before, other) =
                    first.entry(real.address).or_insert_with(|| (place.clone(), delivery));
                if *other != delivery {
                    let what = format!(
                        "{} says {} here and {} in another VIP; it is one for all VIPs of a real: say the same, leave \
                         it out, or say it in the VIP",
                        real.address,
                        said(delivery),
                        said(*other)
                    );
                    errors.push(ConfigError::at(place, what).also(before.clone()));
                }
            }
        }
    }

    /// Checks that GUE has an outer source of the family of each real that gets it. Real hosts answer to it: the
    /// addresses that IP in IP spreads flows over are nobody's.
    fn check_gue_sources(&self, errors: &mut Errors) {
        let lacks = |real: IpAddr| {
            let (is_said, key) = match real {
                IpAddr::V4(_) => (self.packets.encap_source_v4.is_some(), "encap_source_v4"),
                IpAddr::V6(_) => (self.packets.encap_source_v6.is_some(), "encap_source_v6"),
            };
            (!is_said).then_some(key)
        };
        let error = |key: String, real: IpAddr, lacking: &str| {
            let what = format!(
                "{real} gets GUE, and packets.{lacking} is not set: GUE leaves from one address that routers and the \
                 real can answer; set packets.{lacking} to an address of this balancer"
            );
            ConfigError::at(key, what)
        };
        let own = |address: IpAddr| {
            let mut of_vips = self.vips.iter().flat_map(|vip| &vip.reals);
            of_vips.find(|real| real.address == address && real.delivery() != Delivery::AsVip)
        };
        // One error of each family says it all.
        let mut told = [false; 2];
        let mut tell = |key: String, real: IpAddr| {
            let Some(lacking) = lacks(real) else { return };
            if !std::mem::replace(&mut told[usize::from(real.is_ipv6())], true) {
                errors.push(error(key, real, lacking));
            }
        };
        for real in self.encapsulated() {
            if real.encapsulation == Encapsulation::Gue {
                tell(real.key(), real.address);
            }
        }
        let routed = |vip: &&VipConfig| !vip.routing.is_empty();
        let by_id = self.vips.iter().filter(routed);
        let by_id: Vec<_> = by_id.map(|vip| vip.encapsulation(&self.packets)).collect();
        if by_id.contains(&Encapsulation::Gue) {
            for (i, entry) in self.server_ids.iter().enumerate() {
                if lacks(entry.real).is_some() && own(entry.real).is_none() {
                    tell(format!("server_ids[{i}].real"), entry.real);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCES: &str = "encap_source_v4 = \"192.0.2.9\"\nencap_source_v6 = \"2001:db8::9\"\n";

    fn config(packets: &str, vips: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let mut text = format!("[packets]\n{packets}\n");
        for (port, (more, reals)) in (80..).zip(vips) {
            let at = "address = \"10.200.1.1\"\nprotocol = \"udp\"";
            text = format!("{text}[[vips]]\n{at}\nport = {port}\n{more}\nreals = [{reals}]\n");
        }
        Config::from_toml(&text)
    }

    fn real(more: &str) -> String {
        format!("{{ address = \"10.0.0.1\"{more} }}")
    }

    #[test]
    fn what_is_right_is_taken() {
        let (gue, ipip, local) = (
            real(", encapsulation = \"gue\""),
            real(", encapsulation = \"ipip\""),
            real(", local = true"),
        );
        for (packets, vips) in [
            (SOURCES.to_owned() + "encapsulation = \"gue\"", vec![("", "")]),
            (SOURCES.to_owned(), vec![("encapsulation = \"gue\"", &*real(""))]),
            (SOURCES.to_owned(), vec![("", &*gue), ("", &*real(""))]),
            (SOURCES.to_owned() + "gue_variant = 0\ngue_port = 65535", vec![("", &*gue)]),
            // What the nearest says counts.
            ("encapsulation = \"gue\"".to_owned(), vec![("encapsulation = \"l2\"", &*real(""))]),
            ("encapsulation = \"gue\"".to_owned(), vec![("", &*ipip)]),
            ("encapsulation = \"gue\"".to_owned(), vec![("", &*local), ("", &*local)]),
        ] {
            let checked = config(&packets, &vips);
            assert!(checked.is_ok(), "{packets}\n{vips:?}: {}", checked.unwrap_err());
        }
    }

    #[test]
    fn what_is_wrong_says_what_to_write() {
        let gue = real(", encapsulation = \"gue\"");
        let own6 = "{ address = \"fc00::1\" }";
        let v4 = "encap_source_v4 = \"192.0.2.9\"\n";
        for (packets, vips, place, what) in [
            ("gue_port = 0", vec![], "packets.gue_port", "leave it out for 6080"),
            ("gue_variant = 0\ngue_port = 0", vec![], "packets.gue_port", "leave it out for 19523"),
            ("gue_variant = 2", vec![], "packets.gue_variant", "write 1"),
            ("", vec![("", &*gue)], "vips[0].reals[0].address", "packets.encap_source_v4"),
            (
                "encapsulation = \"gue\"",
                vec![("", &*real(""))],
                "vips[0].reals[0].address",
                "set packets.encap_source_v4",
            ),
            (
                v4,
                vec![("encapsulation = \"gue\"", own6)],
                "vips[0].reals[0].address",
                "packets.encap_source_v6",
            ),
            (
                SOURCES,
                vec![("", &*gue), ("", &*real(", encapsulation = \"l2\""))],
                "vips[1].reals[0].encapsulation",
                "say it in the VIP",
            ),
            (
                SOURCES,
                vec![("", &*gue), ("", &*real(", local = true"))],
                "vips[1].reals[0].local",
                "local = true here and encapsulation = \"gue\" in another VIP",
            ),
            (
                SOURCES,
                vec![("", &*real(", local = true, encapsulation = \"gue\""))],
                "vips[0].reals[0].local",
                "keep one of them",
            ),
        ] {
            let error = config(packets, &vips).expect_err(what).to_string();
            assert!(error.contains(place) && error.contains(what), "{packets} {vips:?}: {error}");
            assert_eq!(error.lines().count(), 1, "{error}");
        }
    }

    #[test]
    fn reals_of_server_ids_count_where_ids_do() {
        let text = |routing: &str, own: &str| {
            format!(
                "[[vips]]\naddress = \"10.200.1.1\"\nport = 443\nprotocol = \"udp\"\nencapsulation = \"gue\"\n{routing}\n\
                 reals = [{own}]\n[[server_ids]]\nid = 1\nreal = \"10.0.0.9\""
            )
        };
        let routed = "routing = [\"quic-connection-id\"]";
        assert!(Config::from_toml(&text("", "")).is_ok());
        let error = Config::from_toml(&text(routed, "")).expect_err("no source").to_string();
        assert!(error.contains("server_ids[0].real"), "{error}");
        let own = "{ address = \"10.0.0.9\", encapsulation = \"ipip\" }";
        assert!(Config::from_toml(&text(routed, own)).is_ok());
    }
}
