//! The configurations of packet tests.

use std::collections::BTreeMap;
use std::net::IpAddr;

use l4lb::Mac;

use crate::fixtures::vip;

/// Reals of a VIP.
pub(crate) const ONE4: &[&str] = &["10.0.0.1"];
pub(crate) const ONE6: &[&str] = &["fc00::1"];
pub(crate) const THREE4: &[&str] = &["10.0.0.1", "10.0.0.2", "10.0.0.3"];
pub(crate) const THREE6: &[&str] = &["fc00::1", "fc00::2", "fc00::3"];

/// A configuration in TOML, to be completed by VIPs and further keys.
///
/// ```text
/// on_lo()
///     .set("packets.max_frame", 1294)
///     .vip("tcp://10.200.1.1:80", &["10.0.0.1", "10.0.0.2, weight = 2"])
///     .set("hash", "no-source-port")
/// ```
#[derive(Clone, Debug)]
pub(crate) struct ConfigText {
    toml: String,
    neighbours: BTreeMap<IpAddr, Mac>,
}

/// A balancer on `lo`, with the gateway that every case expects: [`super::case::GATEWAY`].
pub(crate) fn on_lo() -> ConfigText {
    interfaces(r#"{ name = "lo", gateway_mac = "02:00:00:00:00:fe" }"#)
}

/// A balancer on other interfaces, or none.
pub(crate) fn interfaces(list: &str) -> ConfigText {
    ConfigText { toml: format!("interfaces = [ {list} ]\n"), neighbours: BTreeMap::new() }
}

impl ConfigText {
    /// Adds a key to the VIP in front of it. Without a VIP yet, to the whole configuration: `packets.max_frame`.
    #[must_use]
    pub(crate) fn set(self, key: &str, value: impl Into<toml::Value>) -> Self {
        self.add(&format!("{key} = {}\n", value.into()))
    }

    /// Adds a VIP, in the words of [`vip`].
    #[must_use]
    pub(crate) fn vip(self, name: &str, reals: &[&str]) -> Self {
        self.add(&vip(name, reals))
    }

    /// Adds a VIP of IPv4 and one of IPv6, with a real of their own version.
    #[must_use]
    pub(crate) fn one_of_each(self) -> Self {
        self.vip("tcp://10.200.1.1:80", ONE4).vip("tcp://[fc00:1::1]:80", ONE6)
    }

    /// Adds VIPs of IPv4 and IPv6: port 4 has a real of IPv4, port 6 one of IPv6.
    #[must_use]
    pub(crate) fn each_to_each(self) -> Self {
        self.vip("tcp://10.200.1.1:4", ONE4)
            .vip("tcp://10.200.1.1:6", ONE6)
            .vip("tcp://[fc00:1::1]:4", ONE4)
            .vip("tcp://[fc00:1::1]:6", ONE6)
    }

    /// Adds a server id; VIPs come first.
    #[must_use]
    pub(crate) fn server_id(self, id: u32, real: &str) -> Self {
        self.add(&format!("\n[[server_ids]]\nid = {id}\nreal = \"{real}\"\n"))
    }

    /// Adds an address at which tunnels end; VIPs come first.
    #[must_use]
    pub(crate) fn decapsulate(self, address: &str, rest: &str) -> Self {
        self.add(&format!("\n[[decapsulate]]\naddress = \"{address}\"\n{rest}\n"))
    }

    /// Says where a real of L2 is.
    #[must_use]
    pub(crate) fn neighbour(mut self, real: &str, mac: [u8; 6]) -> Self {
        self.neighbours.insert(real.parse().expect("an address"), mac.into());
        self
    }

    /// Where the reals of L2 are.
    pub(crate) fn neighbours(&self) -> &BTreeMap<IpAddr, Mac> {
        &self.neighbours
    }

    fn add(mut self, text: &str) -> Self {
        self.toml.push_str(text);
        self
    }

    /// The TOML.
    pub(crate) fn as_str(&self) -> &str {
        &self.toml
    }
}
