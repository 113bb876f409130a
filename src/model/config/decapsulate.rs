//! `[[decapsulate]]`: addresses of the balancer itself, for packets that come in an outer header.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use serde::Deserialize;
use serde::Serialize;

use super::Config;
use super::ConfigError;
use super::Encapsulation;
use super::address;
use super::check::check_limit;
use super::errors::Errors;
use super::is_default;
#[cfg(test)]
use super::schema;
use crate::model::abi::consts;
use crate::model::address::check_service_address;
use crate::model::prefix::Prefix;

/// What happens to a packet that was taken out of its outer header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum DecapsulateThen {
    /// It is balanced, as if it had come so. If it is for no VIP, it is dropped.
    #[default]
    Balance,
    /// It is sent back to the router from which it came.
    Router,
}

impl DecapsulateThen {
    pub(crate) fn raw(self) -> u32 {
        match self {
            Self::Balance => consts::THEN_BALANCE,
            Self::Router => consts::THEN_ROUTER,
        }
    }

    pub(crate) fn from_raw(raw: u32) -> Self {
        if raw == consts::THEN_ROUTER { Self::Router } else { Self::Balance }
    }
}

impl fmt::Display for DecapsulateThen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Balance => "balance",
            Self::Router => "router",
        })
    }
}

/// `[[decapsulate]]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct DecapsulateConfig {
    /// The address. Packets of IP in IP and GUE to it are taken out of their outer header.
    #[serde(deserialize_with = "address::read")]
    pub address: IpAddr,
    /// What happens to the packet that was inside.
    #[serde(default, skip_serializing_if = "is_default")]
    pub then: DecapsulateThen,
    /// The outer sources that may send: prefixes and addresses. Default: any.
    #[cfg_attr(test, schemars(with = "Option<Vec<schema::Network>>"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Vec<Prefix>>,
}

impl DecapsulateConfig {
    /// An address whose packets are balanced, whoever sends them.
    pub fn new(address: IpAddr) -> Self {
        Self { address, then: DecapsulateThen::default(), from: None }
    }
}

/// What is wrong with a prefix of sources of an address, and what to write.
fn check_from(address: IpAddr, prefix: Prefix) -> Result<(), String> {
    let network = prefix.network();
    if network != prefix {
        return Err(format!("{prefix} has bits set behind the prefix; write {network}"));
    }
    if prefix.address().is_ipv4() != address.is_ipv4() {
        let (family, other) = if address.is_ipv4() { ("IPv4", "IPv6") } else { ("IPv6", "IPv4") };
        return Err(format!(
            "{prefix} is {other} and {address} {family}, and an outer header is of one family; give {family} \
             sources, or an address for each family"
        ));
    }
    // The first address of a short prefix is nobody's, and others of it are somebody's.
    if prefix.prefix_len() >= 8 {
        check_service_address(prefix.address())
            .map_err(|why| format!("{prefix}: {why}; give the prefix of those who send"))?;
    }
    Ok(())
}

impl Config {
    pub(super) fn check_decapsulate(&self, errors: &mut Errors) {
        check_limit("decapsulate", self.decapsulate.len(), consts::MAX_TUNNEL_ENDS, errors);
        let mut known = std::collections::BTreeMap::new();
        for (i, entry) in self.decapsulate.iter().enumerate() {
            let key = |field: &str| format!("decapsulate[{i}].{field}");
            let address = entry.address;
            errors.take(
                check_service_address(address)
                    .map_err(|why| ConfigError::at(key("address"), format!("{address}: {why}"))),
            );
            if let Some(first) = known.insert(address, i) {
                let what = format!("{address} is listed twice");
                let error = ConfigError::at(key("address"), what);
                errors.push(error.also(format!("decapsulate[{first}].address")));
            }
            if let Some(what) = self.other_owner(address) {
                errors.push(ConfigError::at(key("address"), format!("{address} is {what}")));
            }
            let Some(from) = &entry.from else { continue };
            check_limit(&key("from"), from.len(), consts::MAX_TUNNEL_SOURCES, errors);
            if from.is_empty() {
                errors.push(ConfigError::at(
                    key("from"),
                    "names no source; name the prefixes of those who send, or leave it out: then anybody may",
                ));
            }
            let mut prefixes = BTreeSet::new();
            for (j, prefix) in from.iter().enumerate() {
                let key = key(&format!("from[{j}]"));
                errors.take(
                    check_from(address, *prefix).map_err(|why| ConfigError::at(key.clone(), why)),
                );
                if !prefixes.insert(*prefix) {
                    errors.push(ConfigError::at(key, format!("{prefix} is listed twice")));
                }
            }
        }
    }

    /// What else has an address that tunnels end at, and what to do about it.
    fn other_owner(&self, address: IpAddr) -> Option<String> {
        let reals = self.vips.iter().flat_map(|vip| &vip.reals).map(|real| real.address);
        let mut reals = reals.chain(self.server_ids.iter().map(|entry| entry.real));
        if let Some(vip) = self.vips.iter().find(|vip| vip.address == address) {
            return Some(format!(
                "the address of {} too, and clients send to that; give an address that only other balancers know",
                vip.vip()
            ));
        }
        if reals.any(|real| real == address) {
            return Some(
                "a real too, whose packets would be taken out instead of delivered; give another address of this host"
                    .to_owned(),
            );
        }
        let (v4, v6) = (self.packets.source_v4().net(), self.packets.source_v6().net());
        let sources = [
            (
                "packets.encap_source_v4",
                IpAddr::V4(v4.network()),
                v4.prefix_len() == 32 || self.sends_by(Encapsulation::Gue, false),
            ),
            (
                "packets.encap_source_v6",
                IpAddr::V6(v6.network()),
                v6.prefix_len() == 128 || self.sends_by(Encapsulation::Gue, true),
            ),
        ];
        let (name, ..) =
            sources.into_iter().find(|(_, source, single)| *single && *source == address)?;
        Some(format!(
            "{name} too: a balancer with the same file would send from the address that it sends to; give one of \
             this host's own"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REST: &str = "[packets]\nencap_source_v4 = \"10.9.9.9\"\nencap_source_v6 = \"fc00:9::9\"\n\
                        [[vips]]\naddress = \"10.200.1.1\"\nport = 443\nprotocol = \"udp\"\n\
                        routing = [\"quic-connection-id\"]\nreals = [ { address = \"10.0.1.1\" } ]\n\
                        [[server_ids]]\nid = 1\nreal = \"10.0.1.2\"\n";

    fn read(text: &str) -> Result<Config, ConfigError> {
        Config::from_toml(&format!("{REST}[[decapsulate]]\n{text}"))
    }

    #[test]
    fn it_reads_back() {
        let text = "address = \"10.8.0.1\"\nthen = \"router\"\nfrom = [\"10.9.0.0/16\", \"10.8.0.7\"]\n\
                    [[decapsulate]]\naddress = \"fc00:8::1\"\n";
        let config = read(text).expect("a configuration");
        assert_eq!(config.decapsulate[0].then, DecapsulateThen::Router);
        assert_eq!(config.decapsulate[1], DecapsulateConfig::new("fc00:8::1".parse().unwrap()));
        let written = config.to_toml().expect("TOML");
        assert_eq!(Config::from_toml(&written).expect("what was written"), config);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (text, expected) in [
            ("address = \"0.0.0.0\"", "decapsulate[0].address: 0.0.0.0: the unspecified address"),
            ("address = \"ff02::1\"", "decapsulate[0].address: ff02::1: a multicast address"),
            ("address = \"fe80::1\"", "a link-local address is not reachable"),
            ("address = \"10.200.1.1\"", "10.200.1.1 is the address of udp://10.200.1.1:443 too"),
            ("address = \"10.0.1.1\"", "10.0.1.1 is a real too"),
            ("address = \"10.0.1.2\"", "10.0.1.2 is a real too"),
            ("address = \"10.9.9.9\"", "10.9.9.9 is packets.encap_source_v4 too"),
            ("address = \"fc00:9::9\"", "fc00:9::9 is packets.encap_source_v6 too"),
            ("address = \"10.8.0.1\"\nthen = \"kernel\"", "decapsulate[0].then: unknown variant"),
            ("address = \"10.8.0.1\"\nfrom = []", "decapsulate[0].from: names no source"),
            (
                "address = \"10.8.0.1\"\nfrom = [\"10.9.0.1/16\"]",
                "decapsulate[0].from[0]: 10.9.0.1/16 has bits set behind the prefix; write 10.9.0.0/16",
            ),
            ("address = \"10.8.0.1\"\nfrom = [\"fc00::/8\"]", "fc00::/8 is IPv6 and 10.8.0.1 IPv4"),
            (
                "address = \"10.8.0.1\"\nfrom = [\"224.0.0.0/8\"]",
                "224.0.0.0/8: a multicast address",
            ),
            (
                "address = \"10.8.0.1\"\nfrom = [\"10.9.0.0/16\", \"10.9.0.0/16\"]",
                "decapsulate[0].from[1]: 10.9.0.0/16 is listed twice",
            ),
            (
                "address = \"10.8.0.1\"\n[[decapsulate]]\naddress = \"10.8.0.1\"",
                "decapsulate[1].address: 10.8.0.1 is listed twice",
            ),
            ("address = \"10.8.0.1\"\nfrom = [\"host\"]", "is neither an address nor a prefix"),
        ] {
            let error = read(text).expect_err(text).to_string();
            assert!(error.contains(expected), "{error}");
        }
        let entry = |n: u32| format!("[[decapsulate]]\naddress = \"10.8.1.{n}\"\n");
        let many: String = (0..=consts::MAX_TUNNEL_ENDS).map(entry).collect();
        let error = Config::from_toml(&many).expect_err("too many").to_string();
        assert!(error.contains("decapsulate: 65 entries; at most 64"), "{error}");
    }
}
