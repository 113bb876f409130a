//! The record of interfaces that are not served as asked for. `status`, metrics and `save` read it, whichever command
//! wrote it. It is a map of the control plane, made when there is something to record.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::path::Path;

use libbpf_rs::MapType;

use crate::instance::Instance;
use crate::instance::own_programs::UNSERVED;
use crate::instance::pin_error;
use crate::instance::remove_pin;
use crate::kernel::bpf;
use crate::kernel::maps::Map;
use crate::kernel::maps::create_inner;
use crate::kernel::objects::Kind;
use crate::kernel::objects::kind;
use crate::model::abi;
use crate::model::abi::consts;
use crate::model::address::Mac;
use crate::model::error::Result;
use crate::model::interface::ResolvedInterface;
use crate::model::interface::interface_config;
use crate::model::text::padded;
use crate::model::text::unpadded;
use crate::plan::Unserved;

/// Several commands, each with interfaces of its own, may record more interfaces than one file may name.
const MOST: u32 = consts::INTERFACE_PLACES;

type Name = abi::UnservedName;

/// The records by interface name.
pub(crate) type Records = BTreeMap<String, Unserved>;

fn open(instance: &Instance) -> Result<Option<Map<Name, abi::Unserved>>> {
    let pin = instance.map(UNSERVED);
    // Another command may be removing it.
    match Map::open(&pin) {
        Ok(map) => Ok(Some(map)),
        Err(_) if !pin.exists() => Ok(None),
        Err(error) if error.is_layout() || is_no_map(&pin) => {
            tracing::debug!(%error, "the pin belongs to somebody else: nothing is recorded");
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

fn is_no_map(pin: &Path) -> bool {
    let found = bpf::pinned(pin).and_then(|found| kind(found.as_fd()));
    found.is_ok_and(|kind| !matches!(kind, Kind::Map(_)))
}

/// Removes a pin in the record's place that is not a record. The caller has the lock.
pub(crate) fn remove_misfit(instance: &Instance) -> Result<()> {
    if open(instance)?.is_none() {
        remove_pin(&instance.map(UNSERVED))?;
    }
    Ok(())
}

/// Reads the records.
pub(crate) fn read(instance: &Instance) -> Result<Records> {
    let Some(map) = open(instance)? else { return Ok(Records::new()) };
    let mut records = Records::new();
    for (name, raw) in map.entries()? {
        let name = unpadded(&name.0);
        let config = interface_config(&name, &raw.asked);
        let has = |flag: u32| raw.flags & flag != 0;
        let unserved = Unserved {
            name: name.clone(),
            why: unpadded(&raw.why),
            as_before: has(abi::UNSERVED_AS_BEFORE),
            replaces: has(abi::UNSERVED_REPLACES),
            config,
        };
        records.insert(name, unserved);
    }
    Ok(records)
}

/// Replaces the records, if they differ.
pub(crate) fn write(instance: &Instance, records: &Records) -> Result<()> {
    let before = read(instance)?;
    if are_same(&before, records) {
        return Ok(());
    }
    if records.is_empty() {
        return remove_pin(&instance.map(UNSERVED));
    }
    remove_misfit(instance)?;
    let map = match open(instance)? {
        Some(map) => map,
        None => create(instance)?,
    };
    for gone in before.keys().filter(|name| !records.contains_key(*name)) {
        map.remove(&abi::UnservedName(padded(gone)))?;
    }
    for (name, unserved) in records {
        if before.get(name).is_none_or(|before| !is_same(before, unserved)) {
            map.set(&abi::UnservedName(padded(name)), &raw(unserved))?;
        }
    }
    Ok(())
}

/// Whether two sets of records are the same.
pub(crate) fn are_same(one: &Records, other: &Records) -> bool {
    one.keys().eq(other.keys()) && one.values().zip(other.values()).all(|(a, b)| is_same(a, b))
}

fn is_same(one: &Unserved, other: &Unserved) -> bool {
    abi::bytes_of(&raw(one)) == abi::bytes_of(&raw(other))
}

fn create(instance: &Instance) -> Result<Map<Name, abi::Unserved>> {
    let (key, value) = (size_of::<Name>(), size_of::<abi::Unserved>());
    let flags = libbpf_sys::BPF_F_NO_PREALLOC;
    let map = create_inner(UNSERVED, MapType::Hash, key, value, MOST, flags, 0)?;
    let pin = instance.map(UNSERVED);
    bpf::pin(map.as_fd(), &pin).map_err(|source| pin_error("pin", &pin, source))?;
    Ok(Map::new(map)?)
}

fn raw(unserved: &Unserved) -> abi::Unserved {
    // Stored as an entry of the packet path, for an interface without an index.
    let asked = ResolvedInterface {
        config: unserved.config.clone(),
        ifindex: 0,
        mtu: 0,
        mac: None,
        gateway: unserved.config.gateway_mac.unwrap_or(Mac::from([0; 6])),
        next_hop: None,
        passed_over: Vec::new(),
    };
    abi::Unserved {
        asked: asked.entry(),
        flags: if unserved.as_before { abi::UNSERVED_AS_BEFORE } else { 0 }
            | if unserved.replaces { abi::UNSERVED_REPLACES } else { 0 },
        why: padded(&unserved.why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::config::InterfaceConfig;
    use crate::model::config::XdpMode;

    #[test]
    fn a_record_survives_the_map() {
        let long = "ä".repeat(1000);
        for (gateway, gateway_mac, why) in [
            (Some("172.31.0.254"), None, "no carrier; check the cable"),
            (Some("fc00::1"), None, long.as_str()),
            (Some("auto"), None, ""),
            (None, Some("02:00:00:00:00:fe"), "why"),
        ] {
            let config = InterfaceConfig {
                name: "eth0.4094".to_owned(),
                xdp_mode: XdpMode::Native,
                gateway: gateway.map(|text| serde_json::from_value(text.into()).unwrap()),
                gateway_mac: gateway_mac.map(|text| text.parse().unwrap()),
                macs: vec!["02:00:00:00:00:01".parse().unwrap()],
            };
            let name = config.name.clone();
            let record =
                Unserved { name, why: why.to_owned(), as_before: true, replaces: false, config };
            let raw = raw(&record);
            assert_eq!(interface_config("eth0.4094", &raw.asked), record.config);
            let read = unpadded(&raw.why);
            assert!(why.starts_with(&read) && (read == why || read.len() >= raw.why.len() - 1));
            assert_eq!(unpadded(&padded::<16>(&record.name)), record.name);
        }
        assert_eq!(unpadded(&padded::<16>("fifteen-letters")), "fifteen-letters");
    }
}
