//! The configuration file: what an operator wants, parsed and checked without asking the system.
//!
//! TOML, or JSON by file name. Every error names the file, the line or the key, and what to do.

mod address;
mod answers;
mod check;
mod check_choice;
mod check_health;
mod connection_table;
mod control;
mod decapsulate;
mod encapsulation;
mod errors;
mod explain;
mod findings;
mod health_checks;
mod hidden;
mod interface;
mod nearest;
mod notify;
mod own_address;
mod part;
#[cfg(test)]
mod schema;
mod source_prefix;
mod sources;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;

use crate::model::address::Protocol;
use crate::model::address::Vip;
use crate::model::digest::digest;
pub use answers::Echo;
pub use answers::NoReal;
pub use answers::OtherPorts;
pub(crate) use check::is_interface_name;
pub use check_choice::CheckChoice;
pub(crate) use check_health::no_check;
pub use connection_table::ConnectionTableConfig;
pub use connection_table::Cpus;
pub use connection_table::MAX_TABLE_ENTRIES;
pub use connection_table::TableKind;
pub use control::ControlConfig;
pub use control::ControlSocket;
pub use control::GroupMay;
pub use control::SocketMode;
pub use decapsulate::DecapsulateConfig;
pub use decapsulate::DecapsulateThen;
pub use encapsulation::Delivery;
pub use encapsulation::Encapsulation;
pub use encapsulation::SentBy;
pub use findings::ConfigFinding;
pub use findings::ConfigReport;
pub use findings::ConfigSeverity;
pub(crate) use findings::MAX_INCLUDED;
pub(crate) use findings::Source;
pub(crate) use findings::Sources;
pub use health_checks::CheckConfig;
pub use health_checks::CheckKind;
pub use health_checks::DnsTransport;
pub use health_checks::Flapping;
pub use health_checks::HealthConfig;
pub use health_checks::HealthPolicy;
pub use health_checks::MinHealthy;
pub use health_checks::OnFailure;
pub use health_checks::StatusRange;
pub use health_checks::Via;
pub use hidden::HIDDEN;
pub use interface::GatewayAddress;
pub use interface::InterfaceConfig;
pub use interface::XdpMode;
pub use notify::NotifyConfig;
pub(crate) use part::from_json;

pub use crate::model::error::config::ConfigError;
use explain::Format;
pub use own_address::OwnAddress;
pub use source_prefix::SourceV4;
pub use source_prefix::SourceV6;

/// The JSON schema (draft 7) of the configuration: its keys, types, ranges and words. It is made from the types that read
/// the file.
pub const CONFIG_SCHEMA: &str = include_str!("../../../docs/config.schema.json");

/// The configuration of `lbctl`.
///
/// ```
/// let config = l4lb::Config::from_toml(
///     r#"
///     [[interfaces]]
///     name = "eth0"
///
///     [[vips]]
///     address = "10.200.1.1"
///     port = 80
///     protocol = "tcp"
///     reals = [ { address = "10.0.0.1" }, { address = "10.0.0.2", weight = 2 } ]
///     "#,
/// )?;
/// assert_eq!(config.vips[0].reals[1].weight, 2);
/// # Ok::<(), l4lb::ConfigError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Config {
    /// Further files with interfaces, checks, VIPs and so on: paths with wildcards, relative to the file. Reading
    /// the file reads them as well, and leaves this empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub include: Vec<String>,
    /// The interfaces where packets for the VIPs arrive. Packets leave by the interface where they arrived.
    #[serde(default)]
    pub interfaces: Vec<InterfaceConfig>,
    /// Which flows are remembered, and how many.
    #[serde(default)]
    pub connection_table: ConnectionTableConfig,
    /// How packets are sent to the reals.
    #[serde(default)]
    pub packets: PacketsConfig,
    /// The metrics endpoint of `lbctl serve`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub metrics: MetricsConfig,
    /// The control API of `lbctl serve`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub control: ControlConfig,
    /// What is run when the health of a real changes.
    #[serde(default, skip_serializing_if = "is_default")]
    pub notify: NotifyConfig,
    /// How checks are run.
    #[serde(default, skip_serializing_if = "is_default")]
    pub health: HealthConfig,
    /// The checks that VIPs name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub checks: BTreeMap<String, CheckConfig>,
    /// The services.
    #[serde(default)]
    pub vips: Vec<VipConfig>,
    /// The ids that packets of the id-routed VIPs carry.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub server_ids: Vec<ServerIdConfig>,
    /// Addresses of the balancer for packets that come in an outer header, from other sites.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub decapsulate: Vec<DecapsulateConfig>,
}

/// `[packets]`
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct PacketsConfig {
    /// The longest frame that the balancer takes, in bytes, without VLAN tags and checksum.
    pub max_frame: u32,
    /// What happens to longer packets, and to packets that would exceed the interface's MTU once encapsulated.
    pub oversize: Oversize,
    /// The way of packets to their reals: of VIPs and reals that do not say it themselves.
    pub encapsulation: Encapsulation,
    /// The UDP destination port of GUE. Default: 6080, with variant 0 19523.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gue_port: Option<u16>,
    /// The variant of GUE. 1: the packet follows the UDP header. 0: behind a GUE header with private data.
    pub gue_variant: u8,
    /// Whether ICMP errors of IPv4 to IPv4 reals get the UDP checksum that Katran gives them, which is wrong. With `false` it is
    /// right, as receivers such as Linux' `fou` want it. Of variant 1; with variant 0 it is right.
    pub gue_icmp_as_katran: bool,
    /// The outer IPv4 source: a prefix to spread flows over, or one address. Default: 172.16.0.0/16. GUE takes the first
    /// address, and has no default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encap_source_v4: Option<SourceV4>,
    /// The outer IPv6 source: a prefix to spread flows over, or one address. Default: `100::/64`. GUE takes the first
    /// address, and has no default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encap_source_v6: Option<SourceV6>,
    /// Whether outer IPv4 headers forbid routers to fragment the packet (RFC 791: DF).
    pub outer_df: bool,
}

impl Default for PacketsConfig {
    fn default() -> Self {
        Self {
            max_frame: 1514,
            oversize: Oversize::Icmp,
            encapsulation: Encapsulation::Ipip,
            gue_port: None,
            gue_variant: 1,
            gue_icmp_as_katran: true,
            encap_source_v4: None,
            encap_source_v6: None,
            outer_df: false,
        }
    }
}

impl PacketsConfig {
    /// Length of the Ethernet header, which `max_frame` includes.
    pub const ETHERNET_HEADER: u32 = 14;
    /// Bounds of `max_frame`. A path must carry IPv6 packets of 1280 bytes (RFC 8200); XDP without
    /// fragments takes frames of up to about a page.
    pub const MAX_FRAME: std::ops::RangeInclusive<u32> = 1294..=3514;

    /// The outer IPv4 source in force.
    pub fn source_v4(&self) -> SourceV4 {
        self.encap_source_v4.unwrap_or_default()
    }

    /// The outer IPv6 source in force.
    pub fn source_v6(&self) -> SourceV6 {
        self.encap_source_v6.unwrap_or_default()
    }
}

/// What happens to a packet that is too long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Oversize {
    /// Dropped, and the sender is told the right size: "fragmentation needed", "packet too big".
    #[default]
    Icmp,
    /// Dropped.
    Drop,
}

/// `[metrics]`
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct MetricsConfig {
    /// The address and port where `lbctl serve` answers Prometheus.
    #[serde(deserialize_with = "address::read")]
    #[cfg_attr(test, schemars(with = "schema::Listen"))]
    pub listen: SocketAddr,
    /// Whether it shows a status page at `/`, and answers the part of the API that the page reads.
    pub page: bool,
    /// Names of this host under which browsers may ask for the page.
    pub hosts: Vec<String>,
    /// Whether there are series for each pair of VIP and real, and for each real.
    pub per_real: bool,
}

impl Default for MetricsConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 9847)),
            page: true,
            hosts: Vec::new(),
            per_real: true,
        }
    }
}

/// `[[vips]]`
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct VipConfig {
    /// The address that clients send to.
    #[serde(deserialize_with = "address::read")]
    pub address: IpAddr,
    /// The destination port; 0: every port of the address that has no VIP of its own.
    pub port: u16,
    /// The transport protocol.
    pub protocol: Protocol,
    /// What decides where a flow goes.
    #[serde(default, skip_serializing_if = "is_default")]
    pub hash: HashMode,
    /// Whether flows are remembered. If not, the ring alone decides.
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub connection_table: bool,
    /// What else in a packet may name its real.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routing: Vec<Routing>,
    /// The way of packets to its reals that do not say it themselves. Default: that of `[packets]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encapsulation: Option<Encapsulation>,
    /// Whether the address may be one of the balancer's own host.
    #[serde(default, skip_serializing_if = "is_default")]
    pub allow_own_address: OwnAddress,
    /// What happens to packets for ports of the address that no VIP has. All VIPs of an address say the same, or leave
    /// it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other_ports: Option<OtherPorts>,
    /// What happens to packets while there is no usable real.
    #[serde(default, skip_serializing_if = "is_default")]
    pub no_real: NoReal,
    /// When the address answers echo requests. All VIPs of an address say the same, or leave it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub echo: Option<Echo>,
    /// How its reals are checked: the name of one of the checks, or a check. Default: not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<CheckChoice>,
    /// What happens to the flows of a real that is unhealthy.
    #[serde(default, skip_serializing_if = "is_default")]
    pub on_failure: OnFailure,
    /// If fewer reals than this are healthy, all that the operator has up are used.
    #[serde(default, skip_serializing_if = "is_default")]
    pub min_healthy: MinHealthy,
    /// Whether all reals are used if too few are healthy.
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub fail_open: bool,
    /// How long a real that comes back takes until it has its share. Default: it has it at once.
    #[cfg_attr(test, schemars(with = "Option<schema::Time>"))]
    #[serde(default, with = "health_checks::seconds", skip_serializing_if = "Option::is_none")]
    pub slow_start: Option<Duration>,
    /// How a real that fails again and again is treated.
    #[serde(default, skip_serializing_if = "is_default")]
    pub flapping: Flapping,
    /// The servers.
    #[serde(default)]
    pub reals: Vec<RealConfig>,
}

impl VipConfig {
    /// A VIP with defaults and without reals.
    pub fn new(vip: Vip) -> Self {
        Self {
            address: vip.address,
            port: vip.port,
            protocol: vip.protocol,
            hash: HashMode::default(),
            connection_table: true,
            routing: Vec::new(),
            encapsulation: None,
            allow_own_address: OwnAddress::default(),
            other_ports: None,
            no_real: NoReal::default(),
            echo: None,
            check: None,
            on_failure: OnFailure::default(),
            min_healthy: MinHealthy::default(),
            fail_open: true,
            slow_start: None,
            flapping: Flapping::default(),
            reals: Vec::new(),
        }
    }

    /// What it says about the health of its reals.
    pub fn health(&self) -> HealthPolicy {
        HealthPolicy {
            check: self.check.clone(),
            on_failure: self.on_failure,
            min_healthy: self.min_healthy,
            fail_open: self.fail_open,
            slow_start: self.slow_start,
            flapping: self.flapping,
        }
    }

    /// The VIP itself.
    pub fn vip(&self) -> Vip {
        Vip { address: self.address, port: self.port, protocol: self.protocol }
    }
}

fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_true(value: &bool) -> bool {
    *value
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Which parts of a packet decide where its flow goes, and which packets are one flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum HashMode {
    /// Addresses and ports. A VIP with port 0 leaves the destination port out.
    #[default]
    #[serde(rename = "5-tuple")]
    FiveTuple,
    /// Without the source port: all connections of a client go to one real.
    NoSourcePort,
    /// The destination port alone.
    DestinationPort,
    /// As `5-tuple`, with the destination port for a VIP with port 0 too.
    SourceAndDestinationPort,
}

/// What in a packet may name its real.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Routing {
    /// The server id in a QUIC connection id. UDP only.
    QuicConnectionId,
    /// A TCP option. Not in this version.
    TcpServerId,
    /// An id in UDP payload. Not in this version.
    UdpServerId,
    /// The client's address. Not in this version.
    SourcePrefix,
}

/// A server of a VIP.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct RealConfig {
    /// The server's address.
    #[serde(deserialize_with = "address::read")]
    pub address: IpAddr,
    /// Its share, relative to the VIP's other reals; 0: no new flows, existing ones stay.
    #[serde(default = "one")]
    pub weight: u32,
    /// Whether it takes flows.
    #[serde(default, skip_serializing_if = "is_default")]
    pub state: RealState,
    /// The way of its packets, in all VIPs that have it. Default: that of the VIP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encapsulation: Option<Encapsulation>,
    /// Whether it is this host itself: the kernel gets its packets as they came. An address of this host is local
    /// without it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub local: bool,
}

impl RealConfig {
    /// A real of weight 1 that takes flows.
    pub fn new(address: IpAddr) -> Self {
        let state = RealState::default();
        Self { address, weight: one(), state, encapsulation: None, local: false }
    }
}

fn one() -> u32 {
    1
}

/// The highest weight. Weights are relative, and a ring of 65537 slots cannot represent finer differences.
pub const MAX_WEIGHT: u32 = 65_535;

/// Whether a real takes flows of a VIP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum RealState {
    /// New and existing flows.
    #[default]
    Up,
    /// Existing flows only.
    Drain,
    /// None: existing flows move at once.
    Down,
}

impl fmt::Display for RealState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Up => "up",
            Self::Drain => "drain",
            Self::Down => "down",
        })
    }
}

/// `[[server_ids]]`
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ServerIdConfig {
    /// The id. 0 means "none" on the wire.
    pub id: u32,
    /// The server that has it.
    #[serde(deserialize_with = "address::read")]
    pub real: IpAddr,
}

impl ServerIdConfig {
    /// The id of a server.
    pub fn new(id: u32, real: IpAddr) -> Self {
        Self { id, real }
    }
}

/// Joins the lines of a text: every error is one line.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The key in a file. Empty: the top of the file, or no key could be read.
pub(crate) fn key_of(path: &serde_path_to_error::Path) -> String {
    let text = path.to_string();
    let known = text.trim_end_matches('?').trim_end_matches('.');
    known.to_owned()
}

impl Config {
    /// Parses and checks TOML.
    pub fn from_toml(text: &str) -> Result<Self, ConfigError> {
        Sources::one(Source::of_text(text, Format::Toml)).read()
    }

    /// Parses and checks JSON.
    pub fn from_json(text: &str) -> Result<Self, ConfigError> {
        Sources::one(Source::of_text(text, Format::Json)).read()
    }

    /// The VIP at a place of its list.
    pub(crate) fn vip_at(&self, place: usize) -> Option<Vip> {
        self.vips.get(place).map(VipConfig::vip)
    }

    /// A digest of what it says, however a file writes it; not 0.
    pub(crate) fn digest(&self) -> u64 {
        digest(&serde_json::to_vec(self).unwrap_or_default()).max(1)
    }

    /// What `lbctl serve` reads for itself, as a file writes it. The kernel has nothing of it.
    pub(crate) const OF_SERVE: [&str; 3] = ["[metrics]", "[control]", "[notify]"];

    /// Digests of what these sections say; none is 0.
    pub(crate) fn own_digests(&self) -> [u64; Self::OF_SERVE.len()] {
        [
            serde_json::to_vec(&self.metrics),
            serde_json::to_vec(&self.control),
            serde_json::to_vec(&self.notify),
        ]
        .map(|section| digest(&section.unwrap_or_default()).max(1))
    }

    /// The configuration as TOML, as `lbctl save` prints it.
    pub fn to_toml(&self) -> Result<String, ConfigError> {
        toml::to_string(self).map_err(|error| ConfigError::at("", one_line(&error.to_string())))
    }
}
