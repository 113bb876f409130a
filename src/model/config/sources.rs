//! Outer sources that are addresses of servers. The servers' kernels drop such packets as spoofed.

use std::fmt;
use std::iter;
use std::net::IpAddr;

use ipnet::IpNet;
use ipnet::Ipv6Net;

use super::Config;
use super::ConfigError;
use super::Encapsulation;
use super::errors::Errors;

/// Only the last 32 bits of an outer IPv6 source vary.
const FIXED_BITS_V6: u8 = 96;

/// The key of a configuration with an address that servers have.
#[derive(Clone, Copy, Debug)]
enum Owner {
    Vip(usize),
    Real(usize, usize),
    ServerId(usize),
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vip(vip) => write!(f, "vips[{vip}].address"),
            Self::Real(vip, real) => write!(f, "vips[{vip}].reals[{real}].address"),
            Self::ServerId(entry) => write!(f, "server_ids[{entry}].real"),
        }
    }
}

impl Config {
    /// Checks that no outer source is the single address of a server or a VIP. That server, or all servers of the VIP,
    /// would drop all packets.
    pub(super) fn check_single_sources(&self, errors: &mut Errors) {
        for (key, source) in self.outer_sources() {
            let is_single = source.prefix_len() == source.max_prefix_len();
            // GUE sends from the first address of a prefix, for all flows.
            let by_gue = self.sends_by(Encapsulation::Gue, source.addr().is_ipv6());
            let of_all = |address: IpAddr| is_single || by_gue && address == source.network();
            if let Some((owner, address)) =
                self.owners_in(source).find(|(_, address)| of_all(*address))
            {
                errors.push(ConfigError::at(
                    key,
                    format!(
                        "{address} is {owner} too, and servers drop packets that come from an address of their \
                         own; give one that no server and no VIP has; a real that is this host itself says \
                         local = true"
                    ),
                ));
            }
        }
    }

    /// Warns of prefixes of outer sources that contain such addresses. Flows that get such a source are dropped.
    pub(crate) fn shared_sources(&self) -> Vec<String> {
        let warnings = self.outer_sources().into_iter().filter_map(|(key, source)| {
            let mut owners = self.owners_in(source);
            let (owner, address) = owners.next()?;
            let more = match owners.count() {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            let addresses = 1_u64 << (source.max_prefix_len() - source.prefix_len());
            Some(format!(
                "{key}: {source} has {address} ({owner}){more}, and servers drop packets that come from an address of \
                 their own, or a VIP's: one flow in {addresses} to them gets it; give a prefix that no server and no \
                 VIP is in"
            ))
        });
        warnings.collect()
    }

    /// The addresses that outer sources are taken from.
    fn outer_sources(&self) -> [(&'static str, IpNet); 2] {
        let (v4, v6) = (self.packets.source_v4().net(), self.packets.source_v6().net());
        let length = v6.prefix_len().max(FIXED_BITS_V6);
        [
            ("packets.encap_source_v4", v4.into()),
            ("packets.encap_source_v6", Ipv6Net::new(v6.network(), length).unwrap_or(v6).into()),
        ]
    }

    /// The addresses in a prefix that servers have: their own addresses, and VIPs.
    fn owners_in(&self, prefix: IpNet) -> impl Iterator<Item = (Owner, IpAddr)> {
        let of_vips = self.vips.iter().enumerate().flat_map(|(i, vip)| {
            // Nothing is encapsulated for a real that is this host itself.
            let reals = vip.reals.iter().enumerate().filter(|(_, real)| !real.local);
            let reals = reals.map(move |(j, real)| (Owner::Real(i, j), real.address));
            iter::once((Owner::Vip(i), vip.address)).chain(reals)
        });
        let of_ids = self.server_ids.iter().enumerate();
        let of_ids = of_ids.map(|(i, entry)| (Owner::ServerId(i), entry.real));
        of_vips.chain(of_ids).filter(move |(_, address)| prefix.contains(address))
    }
}
