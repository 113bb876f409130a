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
use super::Encapsulation;
use super::GatewayAddress;
use super::MAX_TABLE_ENTRIES;
use super::MAX_WEIGHT;
use super::PacketsConfig;
use super::Routing;
use super::SourceV4;
use super::VipConfig;
use crate::model::abi::consts;
use crate::model::address::Protocol;
use crate::model::address::check_neighbour_address;
use crate::model::address::check_service_address;
use crate::model::address::check_source_prefix;
use crate::model::text::quote;
use crate::model::vip_table::config_name;

impl Config {
    /// Checks what types cannot express: ranges, duplicates, limits, and settings that exclude each other.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.check_interfaces()?;
        self.check_connection_table()?;
        self.check_packets()?;
        self.check_control()?;
        self.check_vips()?;
        self.check_server_ids()?;
        self.check_health()?;
        self.check_notify()?;
        self.check_limits()
    }

    fn check_interfaces(&self) -> Result<(), ConfigError> {
        let vips = self.vip_addresses();
        let mut names = FxHashSet::default();
        check_limit("interfaces", self.interfaces.len(), consts::MAX_INTERFACES)?;
        for (i, interface) in self.interfaces.iter().enumerate() {
            let key = |field: &str| format!("interfaces[{i}].{field}");
            let name = &interface.name;
            if !is_interface_name(name) {
                return Err(ConfigError::at(
                    key("name"),
                    format!("'{}' is no interface name", quote(name)),
                ));
            }
            if !names.insert(name) {
                return Err(ConfigError::at(
                    key("name"),
                    format!("interface {name} is listed twice"),
                ));
            }
            if interface.gateway.is_some() && interface.gateway_mac.is_some() {
                return Err(ConfigError::at(
                    key("gateway_mac"),
                    "gateway is given too; keep one of them",
                ));
            }
            if let Some(mac) = interface.gateway_mac
                && !mac.is_station()
            {
                return Err(ConfigError::at(
                    key("gateway_mac"),
                    format!("{mac} is not the address of one station"),
                ));
            }
            check_limit(&key("macs"), interface.macs.len(), consts::MAX_MACS)?;
            let mut macs = FxHashSet::default();
            for (j, mac) in interface.macs.iter().enumerate() {
                let error = |what: &str| {
                    ConfigError::at(key(&format!("macs[{j}]")), format!("{mac} {what}"))
                };
                if !mac.is_station() {
                    return Err(error(
                        "is not the address of one station; broadcast and multicast are never balanced",
                    ));
                }
                if !macs.insert(mac) {
                    return Err(error("is listed twice"));
                }
                if interface.gateway_mac == Some(*mac) {
                    return Err(error(
                        "is gateway_mac too, and macs are this host's own: packets would come back; give the \
                         router's as gateway_mac",
                    ));
                }
            }
            if let Some(GatewayAddress::Address(address)) = interface.gateway {
                check_neighbour_address(address)
                    .map_err(|why| ConfigError::at(key("gateway"), format!("{address}: {why}")))?;
                if vips.contains(&address) {
                    return Err(ConfigError::at(
                        key("gateway"),
                        format!("{address} is the address of a VIP; give the router's own address"),
                    ));
                }
            }
        }
        Ok(())
    }

    fn check_connection_table(&self) -> Result<(), ConfigError> {
        let table = &self.connection_table;
        let key = |field| format!("connection_table.{field}");
        if table.entries == 0 {
            return Err(ConfigError::at(
                key("entries"),
                "must be at least 1; to remember no flows, set connection_table = false for the VIPs",
            ));
        }
        if table.entries > MAX_TABLE_ENTRIES {
            return Err(ConfigError::at(
                key("entries"),
                format!(
                    "{} is above the most that is supported, {MAX_TABLE_ENTRIES}",
                    table.entries
                ),
            ));
        }
        if table.udp_timeout_seconds == 0 {
            return Err(ConfigError::at(key("udp_timeout_seconds"), "must be at least 1"));
        }
        if table.udp_timeout_seconds > consts::MAX_UDP_TIMEOUT_SECONDS {
            return Err(ConfigError::at(
                key("udp_timeout_seconds"),
                format!(
                    "{} is above the most that is supported, {}",
                    table.udp_timeout_seconds,
                    consts::MAX_UDP_TIMEOUT_SECONDS
                ),
            ));
        }
        if table.new_connections_per_second == 0 {
            return Err(ConfigError::at(key("new_connections_per_second"), "must be at least 1"));
        }
        if let Cpus::List(cpus) = &table.cpus {
            let mut seen = BTreeSet::new();
            if cpus.is_empty() {
                return Err(ConfigError::at(key("cpus"), "names no CPU; write \"auto\" or a list"));
            }
            for cpu in cpus {
                if *cpu >= consts::MAX_CPUS {
                    return Err(ConfigError::at(
                        key("cpus"),
                        format!(
                            "CPU {cpu} is above the highest that is supported, {}",
                            consts::MAX_CPUS - 1
                        ),
                    ));
                }
                if !seen.insert(cpu) {
                    return Err(ConfigError::at(key("cpus"), format!("CPU {cpu} is listed twice")));
                }
            }
        }
        Ok(())
    }

    fn check_packets(&self) -> Result<(), ConfigError> {
        let packets = &self.packets;
        let range = PacketsConfig::MAX_FRAME;
        if !range.contains(&packets.max_frame) {
            return Err(ConfigError::at(
                "packets.max_frame",
                format!("{} is not within {} to {}", packets.max_frame, range.start(), range.end()),
            ));
        }
        if packets.encapsulation == Encapsulation::Gue {
            return Err(ConfigError::at(
                "packets.encapsulation",
                "\"gue\" is not supported by this version; use \"ipip\"",
            ));
        }
        let sources = [
            ("encap_source_v4", IpAddr::V4(packets.source_v4().net().addr())),
            ("encap_source_v6", IpAddr::V6(packets.source_v6().net().addr())),
        ];
        for (key, source) in sources {
            check_service_address(source).map_err(|why| {
                ConfigError::at(format!("packets.{key}"), format!("{source}: {why}"))
            })?;
        }
        check_source_prefix(packets.source_v4().net()).map_err(|why| {
            let prefix = packets.source_v4().net();
            ConfigError::at("packets.encap_source_v4", format!("{prefix} {why}"))
        })?;
        self.check_single_sources()?;
        // An operator replaces the synthetic IPv4 source because the network drops such sources. It would also
        // silently drop the default source of the other family.
        let own_v4 = packets.encap_source_v4.is_some_and(|source| source != SourceV4::default());
        if own_v4 && packets.encap_source_v6.is_none() {
            let of_vips = self.vips.iter().enumerate().flat_map(|(i, vip)| {
                let reals = vip.reals.iter().enumerate();
                reals.map(move |(j, real)| (format!("vips[{i}].reals[{j}].address"), real.address))
            });
            let of_ids = self.server_ids.iter().enumerate();
            let of_ids = of_ids.map(|(i, entry)| (format!("server_ids[{i}].real"), entry.real));
            if let Some((key, real)) = of_vips.chain(of_ids).find(|(_, real)| real.is_ipv6()) {
                return Err(ConfigError::at(
                    key,
                    format!(
                        "{real} is IPv6, but only packets.encap_source_v4 is set; set \
                         packets.encap_source_v6 too"
                    ),
                ));
            }
        }
        Ok(())
    }

    /// Checks settings that all VIPs of an address share: VIPs that set one must set the same value.
    fn check_of_address<T: Copy + PartialEq + Serialize>(
        &self,
        key: &str,
        said: impl Fn(&VipConfig) -> Option<T>,
    ) -> Result<(), ConfigError> {
        let mut first = FxHashMap::default();
        for (i, config) in self.vips.iter().enumerate() {
            let Some(choice) = said(config) else { continue };
            let (vip, before) = *first.entry(config.address).or_insert((config.vip(), choice));
            if before != choice {
                return Err(ConfigError::at(
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
        Ok(())
    }

    fn check_vips(&self) -> Result<(), ConfigError> {
        let addresses = self.vip_addresses();
        let mut vips = FxHashSet::default();
        self.check_of_address("other_ports", |vip| vip.other_ports)?;
        self.check_of_address("echo", |vip| vip.echo)?;
        for (i, config) in self.vips.iter().enumerate() {
            let vip = config.vip();
            let key = |field: &str| format!("vips[{i}].{field}");
            check_service_address(config.address).map_err(|why| {
                ConfigError::at(key("address"), format!("{}: {why}", config.address))
            })?;
            if !vips.insert(vip) {
                return Err(ConfigError::at(
                    format!("vips[{i}]"),
                    format!("{vip} is listed twice"),
                ));
            }
            for (j, routing) in config.routing.iter().enumerate() {
                let key = key(&format!("routing[{j}]"));
                if *routing != Routing::QuicConnectionId {
                    return Err(ConfigError::at(
                        key,
                        "not supported by this version; supported is \"quic-connection-id\"",
                    ));
                }
                if config.protocol != Protocol::Udp {
                    return Err(ConfigError::at(key, "QUIC runs over UDP, and this VIP is tcp"));
                }
            }
            let mut reals = with_room(config.reals.len());
            for (j, real) in config.reals.iter().enumerate() {
                let key = |field| format!("vips[{i}].reals[{j}].{field}");
                check_service_address(real.address).map_err(|why| {
                    ConfigError::at(key("address"), format!("{}: {why}", real.address))
                })?;
                check_no_vip(&addresses, real.address, key("address"))?;
                if !reals.insert(real.address) {
                    return Err(ConfigError::at(
                        key("address"),
                        format!("{} is listed twice in {vip}", real.address),
                    ));
                }
                if real.weight > MAX_WEIGHT {
                    return Err(ConfigError::at(
                        key("weight"),
                        format!("{} is above the highest weight, {MAX_WEIGHT}", real.weight),
                    ));
                }
            }
        }
        Ok(())
    }

    fn check_server_ids(&self) -> Result<(), ConfigError> {
        check_limit("server_ids", self.server_ids.len(), consts::MAX_SERVER_IDS)?;
        let addresses = self.vip_addresses();
        let mut ids = with_room(self.server_ids.len());
        for (i, entry) in self.server_ids.iter().enumerate() {
            let key = |field| format!("server_ids[{i}].{field}");
            if entry.id == 0 {
                return Err(ConfigError::at(key("id"), "0 means \"no id\" on the wire"));
            }
            if !ids.insert(entry.id) {
                return Err(ConfigError::at(key("id"), format!("id {} is listed twice", entry.id)));
            }
            check_service_address(entry.real)
                .map_err(|why| ConfigError::at(key("real"), format!("{}: {why}", entry.real)))?;
            check_no_vip(&addresses, entry.real, key("real"))?;
        }
        Ok(())
    }

    fn vip_addresses(&self) -> FxHashSet<IpAddr> {
        self.vips.iter().map(|vip| vip.address).collect()
    }

    fn check_limits(&self) -> Result<(), ConfigError> {
        check_limit("vips", self.vips.len(), consts::MAX_VIPS)?;
        let of_vips = self.vips.iter().flat_map(|vip| &vip.reals);
        check_limit("vips[].reals", of_vips.clone().count(), consts::MAX_VIP_REALS)?;
        let of_ids = self.server_ids.iter().map(|entry| entry.real);
        let mut reals = with_room(consts::MAX_REALS as usize);
        reals.extend(of_vips.map(|real| real.address).chain(of_ids));
        if reals.len() > consts::MAX_REALS as usize {
            return Err(ConfigError::at(
                "vips[].reals",
                format!(
                    "{} different reals; at most {} are supported",
                    reals.len(),
                    consts::MAX_REALS
                ),
            ));
        }
        Ok(())
    }
}

fn with_room<T>(entries: usize) -> FxHashSet<T> {
    FxHashSet::with_capacity_and_hasher(entries, FxBuildHasher)
}

fn check_no_vip(vips: &FxHashSet<IpAddr>, real: IpAddr, key: String) -> Result<(), ConfigError> {
    if vips.contains(&real) {
        return Err(ConfigError::at(
            key,
            format!(
                "{real} is the address of a VIP; packets would come back to the balancer: give the server's own \
                 address"
            ),
        ));
    }
    Ok(())
}

pub(super) fn check_limit(key: &str, count: usize, most: u32) -> Result<(), ConfigError> {
    if count > most as usize {
        return Err(ConfigError::at(key, format!("{count} entries; at most {most} are supported")));
    }
    Ok(())
}

/// Whether an interface can have this name or alternative name.
pub(crate) fn is_interface_name(name: &str) -> bool {
    let strange = |c: char| matches!(c, '/' | ':') || c.is_whitespace() || c.is_control();
    // ALTIFNAMSIZ includes a terminating zero.
    !name.is_empty() && name.len() < 128 && !name.contains(strange)
}
