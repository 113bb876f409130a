//! The yardstick's maps: see `yardstick.bpf.c`.

use std::net::IpAddr;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;

use l4lb::Config;
use l4lb::Protocol;
use l4lb::ring::RING_SIZE;
use libbpf_rs::MapCore;
use libbpf_rs::MapFlags;
use libbpf_rs::Object;

use crate::Result;
use crate::lab::Lab;
use crate::programs::load;
use crate::programs::map;
use crate::programs::program;
use crate::programs::set;

/// The yardstick, ready to balance.
#[derive(Debug)]
pub(crate) struct Yardstick {
    object: Object,
}

impl Yardstick {
    /// Loads it with the VIPs of a configuration, and tables for so many IPv4 and IPv6 flows.
    pub(crate) fn new(lab: &Lab<'_>, config: &Config, flows4: u32, flows6: u32) -> Result<Self> {
        let mut open = lab.programs.open("yardstick")?;
        for mut map in open.maps_mut() {
            let entries = match map.name().to_str() {
                Some("flows4") => flows4,
                Some("flows6") => flows6,
                _ => continue,
            };
            map.set_max_entries(entries)?;
        }
        let object = load(open)?;
        let mut reals: Vec<IpAddr> = Vec::new();
        for (id, vip) in (0_u32..).zip(&config.vips) {
            let first = reals.len();
            reals.extend(vip.reals.iter().map(|real| real.address));
            let ids: Vec<u32> = (0_u32..).take(reals.len()).skip(first).collect();
            fill_ring(&object, id, &ids)?;
            let protocol: u8 = match vip.protocol {
                Protocol::Tcp => 6,
                Protocol::Udp => 17,
            };
            let mut key = words(vip.address);
            key.extend(vip.port.to_be_bytes());
            key.extend([protocol, 0]);
            let stateless = u32::from(!vip.connection_table);
            let value = [id.to_ne_bytes(), stateless.to_ne_bytes()].concat();
            set(&map(&object, "vips")?, &key, &value)?;
        }
        for (id, real) in (0_u32..).zip(reals) {
            let value = [words(real), partial_checksum(real).to_ne_bytes().to_vec()].concat();
            set(&map(&object, "reals")?, &id.to_ne_bytes(), &value)?;
        }
        Ok(Self { object })
    }

    /// The program.
    pub(crate) fn program(&self) -> Result<OwnedFd> {
        Ok(program(&self.object, "yardstick")?.as_fd().try_clone_to_owned()?)
    }
}

/// A ring in which the reals take turns: it does not matter here which one a flow gets.
fn fill_ring(object: &Object, vip: u32, reals: &[u32]) -> Result {
    let slots = (0..RING_SIZE).map(|slot| vip * RING_SIZE + slot);
    let keys: Vec<u8> = slots.flat_map(u32::to_ne_bytes).collect();
    let owners = reals.iter().cycle().take(RING_SIZE as usize);
    let values: Vec<u8> = owners.flat_map(|real| real.to_ne_bytes()).collect();
    let ring = map(object, "rings")?;
    Ok(ring.update_batch(&keys, &values, RING_SIZE, MapFlags::ANY, MapFlags::ANY)?)
}

/// An address as in the C structs: four words, of which IPv4 uses the first.
fn words(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => [&v4.octets()[..], &[0; 12]].concat(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// The checksum's part that is the same in every outer IPv4 header to this real, in memory order.
fn partial_checksum(real: IpAddr) -> u32 {
    let IpAddr::V4(real) = real else { return 0 };
    let [a, b, c, d] = real.octets();
    // Version, header length and class; TTL and protocol.
    let same = [[0x45, 0], [64, 4], [a, b], [c, d]];
    same.iter().map(|half| u32::from(u16::from_ne_bytes(*half))).sum()
}
