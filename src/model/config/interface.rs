//! The interfaces of a configuration.

use std::fmt;
use std::net::IpAddr;

use serde::Deserialize;
use serde::Serialize;

use crate::model::address::Mac;
use crate::model::text::is_host_name;
use crate::model::text::quote;

/// `[[interfaces]]`
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct InterfaceConfig {
    /// The interface's name in this network namespace.
    pub name: String,
    /// Where the XDP program runs: in the driver, or behind it.
    #[serde(default)]
    pub xdp_mode: XdpMode,
    /// The next hop of everything that is sent to reals. Not together with `gateway_mac`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<GatewayAddress>,
    /// The next hop's MAC address, if the balancer is not to resolve it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway_mac: Option<Mac>,
    /// Destination MACs of frames for this host, in addition to the interface's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub macs: Vec<Mac>,
}

impl InterfaceConfig {
    /// An interface with this name and defaults.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            xdp_mode: XdpMode::default(),
            gateway: None,
            gateway_mac: None,
            macs: Vec::new(),
        }
    }
}

/// Where the XDP program of an interface runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum XdpMode {
    /// Native if the driver can, else generic, with a warning.
    #[default]
    Auto,
    /// In the driver, before the kernel allocates anything for the packet.
    Native,
    /// Behind the driver. Works with every driver, but slower.
    Generic,
}

impl fmt::Display for XdpMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Native => "native",
            Self::Generic => "generic",
        })
    }
}

/// `gateway`: `"auto"`, or an address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum GatewayAddress {
    /// The next hop of the default route by way of the interface.
    #[default]
    Auto,
    /// A neighbour on the interface.
    Address(IpAddr),
}

impl<'de> Deserialize<'de> for GatewayAddress {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == "auto" {
            return Ok(Self::Auto);
        }
        text.parse().map(Self::Address).map_err(|_| {
            let is_host = if is_host_name(&text) { "a host name, " } else { "" };
            let text = quote(&text);
            let what = format!("'{text}' is {is_host}neither \"auto\" nor an IP address");
            serde::de::Error::custom(what)
        })
    }
}

impl Serialize for GatewayAddress {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.serialize_str("auto"),
            Self::Address(address) => serializer.collect_str(address),
        }
    }
}
