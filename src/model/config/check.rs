//! Checks that types cannot express: ranges, duplicates, limits, and settings that exclude each other.

use std::collections::BTreeSet;
use std::net::IpAddr;

use rustc_hash::FxBuildHasher;
use rustc_hash::FxHashMap;
use rustc_hash::FxHashSet;
use serde::Serialize;

use super::Config;
use super::ConfigError;
use super::Cpus;
use super::GatewayAddress;
use super::MAX_TABLE_ENTRIES;
use super::MAX_WEIGHT;
use super::PacketsConfig;
use super::Routing;
use super::SourceV4;
use super::VipConfig;
use super::errors::Errors;
use crate::model::abi::consts;
use crate::model::address::Protocol;
use crate::model::address::check_neighbour_address;
use crate::model::address::check_service_address;
use crate::model::address::check_source_prefix;
use crate::model::text::quote;
use crate::model::vip_table::config_name;

/// Most names in `metrics.hosts`.
pub(super) const MAX_HOSTS: u32 = 64;

/// Most bytes of such a name, as of a name in DNS.
const MAX_HOST: usize = 253;

impl Config {
    /// Checks what types cannot express: ranges, duplicates, limits, and settings that exclude each other.
    ///
    /// The error is the first one, and says how many others there are.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.errors().into_result()
    }

    /// All that [`Self::check`] finds wrong.
    pub(super) fn errors(&self) -> Errors {
        let mut errors = Errors::default();
        if !self.include.is_empty() {
            let what = "was not read; read the configuration with Config::from_file";
            errors.push(ConfigError::at("include", what));
        }
        self.check_interfaces(&mut errors);
        self.check_connection_table(&mut errors);
        self.check_packets(&mut errors);
        self.check_metrics(&mut errors);
        self.check_control(&mut errors);
        self.check_vips(&mut errors);
        self.check_server_ids(&mut errors);
        self.check_decapsulate(&mut errors);
        self.check_health(&mut errors);
        self.check_notify(&mut errors);
        self.check_encapsulation(&mut errors);
        self.check_limits(&mut errors);
        errors
    }

    fn check_interfaces(&self, errors: &mut Errors) {
        let vips = self.vip_addresses();
        let mut names = FxHashMap::default();
        check_limit("interfaces", self.interfaces.len(), consts::MAX_INTERFACES, errors);
        for (i, interface) in self.interfaces.iter().enumerate() {
            let key = |field: &str| format!("interfaces[{i}].{field}");
            let name = &interface.name;
            if !is_interface_name(name) {
                errors.push(ConfigError::at(
                    key("name"),
                    format!("'{}' is no interface name", quote(name)),
                ));
            }
            if let Some(first) = names.insert(name, i) {
                let what = format!("interface {name} is listed twice");
                let error = ConfigError::at(key("name"), what);
                errors.push(error.also(format!("interfaces[{first}].name")));
            }
            if interface.gateway.is_some() && interface.gateway_mac.is_some() {
                errors.push(ConfigError::at(
                    key("gateway_mac"),
                    "gateway is given too; keep one of them",
                ));
            }
            if let Some(mac) = interface.gateway_mac
                && !mac.is_station()
            {
                errors.push(ConfigError::at(
                    key("gateway_mac"),
                    format!("{mac} is not the address of one station"),
                ));
            }
            check_limit(&key("macs"), interface.macs.len(), consts::MAX_MACS, errors);
            let mut macs = FxHashSet::default();
            for (j, mac) in interface.macs.iter().enumerate() {
                let error = |what: &str| {
                    ConfigError::at(key(&format!("macs[{j}]")), format!("{mac} {what}"))
                };
                if !mac.is_station() {
                    errors.push(error(
                        "is not the address of one station; broadcast and multicast are never balanced",
                    ));
                }
                if !macs.insert(mac) {
                    errors.push(error("is listed twice"));
                }
                if interface.gateway_mac == Some(*mac) {
                    errors.push(error(
                        "is gateway_mac too, and macs are this host's own: packets would come back; give the \
                         router's as gateway_mac",
                    ));
                }
            }
            if let Some(GatewayAddress::Address(address)) = interface.gateway {
                errors.take(
                    check_neighbour_address(address).map_err(|why| {
                        ConfigError::at(key("gateway"), format!("{address}: {why}"))
                    }),
                );
                let of_vip = vips.contains(&address).then_some("the address of a VIP");
                let here = self.decapsulate.iter().any(|entry| entry.address == address);
                let here = here.then_some("an address of [[decapsulate]]");
                if let Some(what) = of_vip.or(here) {
                    errors.push(ConfigError::at(
                        key("gateway"),
                        format!("{address} is {what}; give the router's own address"),
                    ));
                }
            }
        }
    }

    fn check_connection_table(&self, errors: &mut Errors) {
        let table = &self.connection_table;
        let key = |field| format!("connection_table.{field}");
        if table.entries == 0 {
            errors.push(ConfigError::at(
                key("entries"),
                "must be at least 1; to remember no flows, set connection_table = false for the VIPs",
            ));
        }
        if table.entries > MAX_TABLE_ENTRIES {
            errors.push(ConfigError::at(
                key("entries"),
                format!(
                    "{} is above the most that is supported, {MAX_TABLE_ENTRIES}",
                    table.entries
                ),
            ));
        }
        if table.udp_timeout_seconds == 0 {
            errors.push(ConfigError::at(key("udp_timeout_seconds"), "must be at least 1"));
        }
        if table.udp_timeout_seconds > consts::MAX_UDP_TIMEOUT_SECONDS {
            errors.push(ConfigError::at(
                key("udp_timeout_seconds"),
                format!(
                    "{} is above the most that is supported, {}",
                    table.udp_timeout_seconds,
                    consts::MAX_UDP_TIMEOUT_SECONDS
                ),
            ));
        }
        if table.new_connections_per_second == 0 {
            errors.push(ConfigError::at(key("new_connections_per_second"), "must be at least 1"));
        }
        if let Cpus::List(cpus) = &table.cpus {
            let mut seen = BTreeSet::new();
            if cpus.is_empty() {
                errors.push(ConfigError::at(key("cpus"), "names no CPU; write \"auto\" or a list"));
            }
            for cpu in cpus {
                if *cpu >= consts::MAX_CPUS {
                    errors.push(ConfigError::at(
                        key("cpus"),
                        format!(
                            "CPU {cpu} is above the highest that is supported, {}",
                            consts::MAX_CPUS - 1
                        ),
                    ));
                }
                if !seen.insert(cpu) {
                    errors.push(ConfigError::at(key("cpus"), format!("CPU {cpu} is listed twice")));
                }
            }
        }
    }

    fn check_packets(&self, errors: &mut Errors) {
        let packets = &self.packets;
        let range = PacketsConfig::MAX_FRAME;
        if !range.contains(&packets.max_frame) {
            errors.push(ConfigError::at(
                "packets.max_frame",
                format!("{} is not within {} to {}", packets.max_frame, range.start(), range.end()),
            ));
        }
        let sources = [
            ("encap_source_v4", IpAddr::V4(packets.source_v4().net().addr())),
            ("encap_source_v6", IpAddr::V6(packets.source_v6().net().addr())),
        ];
        for (key, source) in sources {
            errors.take(check_service_address(source).map_err(|why| {
                ConfigError::at(format!("packets.{key}"), format!("{source}: {why}"))
            }));
        }
        errors.take(check_source_prefix(packets.source_v4().net()).map_err(|why| {
            let prefix = packets.source_v4().net();
            ConfigError::at("packets.encap_source_v4", format!("{prefix} {why}"))
        }));
        self.check_single_sources(errors);
        // An operator replaces the synthetic IPv4 source because the network drops such sources. It would also
        // silently drop the default source of the other family.
        let own_v4 = packets.encap_source_v4.is_some_and(|source| source != SourceV4::default());
        if own_v4 && packets.encap_source_v6.is_none() {
            let of_vips = self.encapsulated().map(|real| (real.key(), real.address));
            let of_ids = self.server_ids.iter().enumerate();
            let of_ids = of_ids.map(|(i, entry)| (format!("server_ids[{i}].real"), entry.real));
            if let Some((key, real)) = of_vips.chain(of_ids).find(|(_, real)| real.is_ipv6()) {
                errors.push(ConfigError::at(
                    key,
                    format!(
                        "{real} is IPv6, but only packets.encap_source_v4 is set; set \
                         packets.encap_source_v6 too"
                    ),
                ));
            }
        }
    }

    /// Checks settings that all VIPs of an address share: VIPs that set one must set the same value.
    fn check_of_address<T: Copy + PartialEq + Serialize>(
        &self,
        key: &str,
        said: impl Fn(&VipConfig) -> Option<T>,
        errors: &mut Errors,
    ) {
        let mut first = FxHashMap::default();
        for (i, config) in self.vips.iter().enumerate() {
            let Some(choice) = said(config) else { continue };
            let (vip, before) = *first.entry(config.address).or_insert((config.vip(), choice));
            if before != choice {
                errors.push(ConfigError::at(
                    format!("vips[{i}].{key}"),
                    format!(
                        "{} says \"{}\" and {vip} \"{}\"; it is one for all VIPs of an address: say the same, or \
                         leave it out",
                        config.vip(),
                        config_name(&choice),
                        config_name(&before),
                    ),
                ));
            }
        }
    }

    fn check_vips(&self, errors: &mut Errors) {
        let addresses = self.vip_addresses();
        let mut vips = FxHashMap::default();
        self.check_of_address("other_ports", |vip| vip.other_ports, errors);
        self.check_of_address("echo", |vip| vip.echo, errors);
        for (i, config) in self.vips.iter().enumerate() {
            let vip = config.vip();
            let key = |field: &str| format!("vips[{i}].{field}");
            errors.take(check_service_address(config.address).map_err(|why| {
                ConfigError::at(key("address"), format!("{}: {why}", config.address))
            }));
            if let Some(first) = vips.insert(vip, i) {
                let error = ConfigError::at(format!("vips[{i}]"), format!("{vip} is listed twice"));
                errors.push(error.also(format!("vips[{first}]")));
            }
            for (j, routing) in config.routing.iter().enumerate() {
                let key = key(&format!("routing[{j}]"));
                if *routing != Routing::QuicConnectionId {
                    errors.push(ConfigError::at(
                        key,
                        "not supported by this version; supported is \"quic-connection-id\"",
                    ));
                } else if config.protocol != Protocol::Udp {
                    errors.push(ConfigError::at(key, "QUIC runs over UDP, and this VIP is tcp"));
                }
            }
            let mut reals = FxHashMap::with_capacity_and_hasher(config.reals.len(), FxBuildHasher);
            for (j, real) in config.reals.iter().enumerate() {
                let key = |field| format!("vips[{i}].reals[{j}].{field}");
                errors.take(check_service_address(real.address).map_err(|why| {
                    ConfigError::at(key("address"), format!("{}: {why}", real.address))
                }));
                check_no_vip(&addresses, real.address, key("address"), errors);
                if let Some(first) = reals.insert(real.address, j) {
                    let what = format!("{} is listed twice in {vip}", real.address);
                    let error = ConfigError::at(key("address"), what);
                    errors.push(error.also(format!("vips[{i}].reals[{first}].address")));
                }
                if real.weight > MAX_WEIGHT {
                    errors.push(ConfigError::at(
                        key("weight"),
                        format!("{} is above the highest weight, {MAX_WEIGHT}", real.weight),
                    ));
                }
            }
        }
    }

    fn check_metrics(&self, errors: &mut Errors) {
        check_limit("metrics.hosts", self.metrics.hosts.len(), MAX_HOSTS, errors);
        for (i, host) in self.metrics.hosts.iter().enumerate() {
            let allowed = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
            if host.is_empty() || host.len() > MAX_HOST || !host.chars().all(allowed) {
                errors.push(ConfigError::at(
                    format!("metrics.hosts[{i}]"),
                    format!(
                        "'{}' is no name of a host; write it without a scheme and a port: \"lb1.example.net\"",
                        quote(host)
                    ),
                ));
            }
        }
    }

    fn check_server_ids(&self, errors: &mut Errors) {
        check_limit("server_ids", self.server_ids.len(), consts::MAX_SERVER_IDS, errors);
        let addresses = self.vip_addresses();
        let mut ids = FxHashMap::with_capacity_and_hasher(self.server_ids.len(), FxBuildHasher);
        for (i, entry) in self.server_ids.iter().enumerate() {
            let key = |field| format!("server_ids[{i}].{field}");
            if entry.id == 0 {
                errors.push(ConfigError::at(key("id"), "0 means \"no id\" on the wire"));
            }
            if let Some(first) = ids.insert(entry.id, i) {
                let error = ConfigError::at(key("id"), format!("id {} is listed twice", entry.id));
                errors.push(error.also(format!("server_ids[{first}].id")));
            }
            errors.take(
                check_service_address(entry.real)
                    .map_err(|why| ConfigError::at(key("real"), format!("{}: {why}", entry.real))),
            );
            check_no_vip(&addresses, entry.real, key("real"), errors);
        }
    }

    fn vip_addresses(&self) -> FxHashSet<IpAddr> {
        self.vips.iter().map(|vip| vip.address).collect()
    }

    fn check_limits(&self, errors: &mut Errors) {
        check_limit("vips", self.vips.len(), consts::MAX_VIPS, errors);
        let of_vips = self.vips.iter().flat_map(|vip| &vip.reals);
        check_limit("vips[].reals", of_vips.clone().count(), consts::MAX_VIP_REALS, errors);
        let of_ids = self.server_ids.iter().map(|entry| entry.real);
        let mut reals = with_room(consts::MAX_REALS as usize);
        reals.extend(of_vips.map(|real| real.address).chain(of_ids));
        if reals.len() > consts::MAX_REALS as usize {
            errors.push(ConfigError::at(
                "vips[].reals",
                format!(
                    "{} different reals; at most {} are supported",
                    reals.len(),
                    consts::MAX_REALS
                ),
            ));
        }
    }
}

fn with_room<T>(entries: usize) -> FxHashSet<T> {
    FxHashSet::with_capacity_and_hasher(entries, FxBuildHasher)
}

fn check_no_vip(vips: &FxHashSet<IpAddr>, real: IpAddr, key: String, errors: &mut Errors) {
    if vips.contains(&real) {
        errors.push(ConfigError::at(
            key,
            format!(
                "{real} is the address of a VIP; packets would come back to the balancer: give the server's own \
                 address"
            ),
        ));
    }
}

pub(super) fn check_limit(key: &str, count: usize, most: u32, errors: &mut Errors) {
    if count > most as usize {
        errors.push(ConfigError::at(key, format!("{count} entries; at most {most} are supported")));
    }
}

/// Whether an interface can have this name or alternative name.
pub(crate) fn is_interface_name(name: &str) -> bool {
    let strange = |c: char| matches!(c, '/' | ':') || c.is_whitespace() || c.is_control();
    // ALTIFNAMSIZ includes a terminating zero.
    !name.is_empty() && name.len() < 128 && !name.contains(strange)
}
