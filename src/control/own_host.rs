//! What a configuration must not do to the balancer's own host: its addresses, and the programs that listen there.
//!
//! [`OwnHost::read`] reads the facts. [`refusals`] is pure, and judges files, commands, and what runs while the host
//! changes.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::net::SocketAddr;

use crate::kernel::host;
use crate::kernel::netlink;
use crate::kernel::sockets::listeners;
use crate::model::address::Protocol;
use crate::model::address::Vip;
use crate::model::config::Config;
use crate::model::config::ConfigError;
use crate::model::config::Delivery;
use crate::model::config::GatewayAddress;
use crate::model::config::OtherPorts;
use crate::model::config::OwnAddress;
use crate::model::config::VipConfig;
use crate::model::error::Result;
use crate::model::prefix::Prefix;
use crate::model::vip_table::Table;

/// How many sockets a message names.
const NAMED: usize = 4;

/// The addresses of this host, and the sockets that listen on it.
#[derive(Clone, Debug, Default)]
pub(crate) struct OwnHost {
    /// Address → the interface that has it.
    addresses: BTreeMap<IpAddr, String>,
    /// Prefixes that the loopback devices route to this host (`ip route add local PREFIX dev lo`).
    local: Vec<Prefix>,
    /// Addresses of interfaces that are down only: the kernel takes no packets for them.
    silent: BTreeSet<IpAddr>,
    /// Broadcast address → the interface whose network has it.
    broadcasts: BTreeMap<IpAddr, String>,
    /// Sockets that listen, if the configuration makes them matter.
    listeners: BTreeSet<(Protocol, SocketAddr)>,
}

impl OwnHost {
    /// Reads the addresses of the host.
    pub(crate) fn addresses() -> Result<Self> {
        let mut own = Self::default();
        let networks = host::networks()?;
        let (up, down): (Vec<_>, Vec<_>) = networks.into_iter().partition(|at| at.is_up);
        down.iter().chain(&up).for_each(|at| own.add(&at.interface, at.net));
        let heard: BTreeSet<_> = up.iter().map(|at| at.net.address()).collect();
        let silent = down.iter().map(|at| at.net.address()).filter(|at| !heard.contains(at));
        own.silent = silent.collect();
        own.local = netlink::local_prefixes_blocking()?;
        Ok(own)
    }

    /// Reads the facts that matter to a configuration.
    pub(crate) fn read(config: &Config) -> Result<Self> {
        let mut own = Self::addresses()?;
        let every_port = config.vips.iter().filter(|vip| own.can_cut_off(vip));
        let protocols: BTreeSet<_> = every_port.map(|vip| vip.protocol).collect();
        for protocol in protocols {
            own.listeners.extend(listeners(protocol)?.into_iter().map(|at| (protocol, at)));
        }
        Ok(own)
    }

    fn add(&mut self, interface: &str, net: Prefix) {
        self.addresses.insert(net.address(), interface.to_owned());
        if let Some(broadcast) = net.broadcast() {
            self.broadcasts.insert(broadcast.into(), interface.to_owned());
        }
    }

    /// The interface or the local route that makes an address this host's own.
    pub(crate) fn owner(&self, address: IpAddr) -> Option<String> {
        if let Some(interface) = self.addresses.get(&address) {
            return Some(format!("interface {interface}"));
        }
        let prefix = self.local.iter().find(|prefix| prefix.contains(address))?;
        Some(format!("local route {prefix}"))
    }

    /// Whether this host's kernel takes packets for the address.
    pub(crate) fn takes(&self, address: IpAddr) -> bool {
        !self.silent.contains(&address) && self.owner(address).is_some()
    }

    /// Whether a VIP could take packets from programs that listen.
    fn can_cut_off(&self, vip: &VipConfig) -> bool {
        vip.port == 0
            && vip.allow_own_address == OwnAddress::Allowed
            && self.owner(vip.address).is_some()
    }

    /// The sockets that get packets for this VIP. A socket on `::` also takes IPv4, unless `IPV6_V6ONLY` is set, which
    /// cannot be seen.
    fn listening(&self, vip: &Vip) -> Vec<SocketAddr> {
        let takes = |at: IpAddr| {
            at == vip.address || at.is_unspecified() && (at.is_ipv6() || vip.address.is_ipv4())
        };
        let sockets = self.listeners.iter().filter(|(protocol, _)| *protocol == vip.protocol);
        sockets.map(|(_, at)| *at).filter(|at| takes(at.ip())).collect()
    }
}

/// VIP addresses that this host does not have, with their reals that are this host: its kernel gets the packets, and
/// cannot deliver them.
pub(crate) fn local_without_vip(table: &Table, own: &OwnHost) -> BTreeSet<(IpAddr, IpAddr)> {
    let mut found = BTreeSet::new();
    for (vip, spec) in table.vips.iter().filter(|(vip, _)| !own.takes(vip.address)) {
        for (address, real) in &spec.reals {
            let is_local = match real.delivery {
                Delivery::Local => true,
                Delivery::AsVip => own.takes(*address),
                Delivery::By(_) => false,
            };
            if is_local {
                found.insert((vip.address, *address));
            }
        }
    }
    found
}

/// Something in a configuration that this host cannot have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The configuration key.
    pub(crate) key: String,
    /// Whose address it is: `VIP tcp://10.200.1.1:80`, `real 10.0.0.1`.
    pub(crate) place: String,
    /// What is wrong.
    pub(crate) what: String,
    /// What it would lead to.
    pub(crate) why: &'static str,
    /// What to do.
    pub(crate) fix: &'static str,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.what, self.why, self.fix)
    }
}

impl From<Refusal> for ConfigError {
    fn from(refusal: Refusal) -> Self {
        Self::at(refusal.key.clone(), refusal.to_string())
    }
}

/// Refuses a configuration that this host cannot have.
pub(crate) fn check(config: &Config) -> Result<()> {
    match refusals(config, &OwnHost::read(config)?).into_iter().next() {
        Some(refusal) => Err(ConfigError::from(refusal).into()),
        None => Ok(()),
    }
}

/// As [`check`], for a change to what runs. The host may have got one of the addresses since: a refusal that holds for
/// `before`, too, does not stop the change.
pub(crate) fn check_change(before: &Config, after: &Config) -> Result<()> {
    let own = OwnHost::read(after)?;
    let refused = refusals(after, &own);
    if refused.is_empty() {
        return Ok(());
    }
    let known: BTreeSet<_> = refusals(before, &own).iter().map(Refusal::to_string).collect();
    match refused.into_iter().find(|refusal| !known.contains(&refusal.to_string())) {
        Some(refusal) => {
            Err(ConfigError::from(refusal).of_change(|place| after.vip_at(place)).into())
        }
        None => Ok(()),
    }
}

/// Everything in a configuration that this host cannot have.
pub(crate) fn refusals(config: &Config, own: &OwnHost) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    for (i, interface) in config.interfaces.iter().enumerate() {
        if let Some(GatewayAddress::Address(address)) = interface.gateway {
            let place = format!("interface {}", interface.name);
            let key = format!("interfaces[{i}].gateway");
            refusals.extend(own.no_gateway(address, key, place));
        }
    }
    for (i, vip) in config.vips.iter().enumerate() {
        let closed = || closes_other_ports(config, vip.address);
        refusals.extend(own.no_vip(format!("vips[{i}].address"), vip, closed));
        for (j, real) in vip.reals.iter().enumerate() {
            refusals.extend(own.no_real(real.address, || {
                (format!("vips[{i}].reals[{j}].address"), format!("real {}", real.address))
            }));
        }
    }
    for (i, entry) in config.server_ids.iter().enumerate() {
        refusals.extend(own.no_real(entry.real, || {
            (format!("server_ids[{i}].real"), format!("real {}", entry.real))
        }));
    }
    refusals
}

/// Whether the balancer drops or rejects packets to the ports of an address that have no VIP.
fn closes_other_ports(config: &Config, address: IpAddr) -> bool {
    let vips = config.vips.iter().filter(|vip| vip.address == address);
    vips.filter_map(|vip| vip.other_ports).any(|other_ports| other_ports != OtherPorts::Pass)
}

impl OwnHost {
    /// Why an address cannot be this VIP's. `closed`: packets to its other ports do not reach the host.
    fn no_vip(
        &self,
        key: String,
        config: &VipConfig,
        closed: impl FnOnce() -> bool,
    ) -> Option<Refusal> {
        let (vip, address) = (config.vip(), config.address);
        let place = format!("VIP {vip}");
        if let Some(interface) = self.broadcasts.get(&address) {
            return Some(broadcast((key, place), address, interface));
        }
        let owner = self.owner(address)?;
        if config.allow_own_address == OwnAddress::Refused {
            return Some(Refusal {
                key,
                place,
                what: format!("{address} is this host's own address ({owner})"),
                why: "packets for the VIP would no longer reach this host's programs",
                fix: "take the address off the host; or, if a routing daemon (BIRD, FRR) announces it from lo, or if \
                      this host is also one of the VIP's reals, set allow_own_address = true for the VIP in the file \
                      and apply that (a new VIP: lbctl vip add --allow-own-address)",
            });
        }
        if config.allow_own_address == OwnAddress::Allowed && closed() {
            return Some(Refusal {
                key,
                place,
                what: format!(
                    "{address} is this host's own address ({owner}), other_ports lets no other packets through to it, \
                     and VIP {vip} does not say allow_own_address = \"force\""
                ),
                // This holds even if no program listens: answers to the host's own requests come to such ports.
                why: "everything that this host does by that address is cut off, SSH included",
                fix: "leave other_ports out, or set allow_own_address = \"force\" for every VIP of the address in \
                       the file and apply that (a new VIP: lbctl vip add --allow-own-address=force)",
            });
        }
        if !self.can_cut_off(config) {
            return None;
        }
        let sockets = self.listening(&vip);
        if sockets.is_empty() {
            return None;
        }
        let mut named: Vec<_> = sockets.iter().take(NAMED).map(SocketAddr::to_string).collect();
        if let Some(more @ 1..) = sockets.len().checked_sub(NAMED) {
            named.push(format!("{more} more"));
        }
        Some(Refusal {
            key,
            place,
            what: format!(
                "{address} is this host's own address ({owner}), where programs listen ({} {})",
                vip.protocol,
                named.join(", ")
            ),
            why: "a VIP of every port cuts all of them off, SSH included",
            fix: "make one VIP for each port that is meant, or set allow_own_address = \"force\" in the file and \
                  apply that (a new VIP: lbctl vip add --allow-own-address=force)",
        })
    }

    /// Why an address cannot be a real's. One of the host's own can be: the host's kernel gets its packets.
    ///
    /// Calls `names` for the key and place of an address only if it is refused: tens of thousands may not be.
    fn no_real(
        &self,
        address: IpAddr,
        names: impl FnOnce() -> (String, String),
    ) -> Option<Refusal> {
        let interface = self.broadcasts.get(&address)?;
        Some(broadcast(names(), address, interface))
    }

    /// Why an address cannot be a gateway's.
    fn no_gateway(&self, address: IpAddr, key: String, place: String) -> Option<Refusal> {
        if let Some(interface) = self.broadcasts.get(&address) {
            return Some(broadcast((key, place), address, interface));
        }
        let owner = self.owner(address)?;
        Some(Refusal {
            key,
            place,
            what: format!("{address} is this host's own address ({owner})"),
            why: "packets for the reals leave by the interface, and reach nobody",
            fix: "give the address of the router",
        })
    }
}

fn broadcast((key, place): (String, String), address: IpAddr, interface: &str) -> Refusal {
    Refusal {
        key,
        place,
        what: format!("{address} is the broadcast address of interface {interface}'s network"),
        why: "it names no single host",
        fix: "give a host's address",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> OwnHost {
        let mut own = OwnHost::default();
        for net in ["192.0.2.7/24", "10.200.1.1/32", "fc00::7/64"] {
            own.add("eth0", net.parse().expect("a network"));
        }
        own.local = vec!["10.201.0.0/16".parse().expect("a network")];
        let sockets = [
            (Protocol::Tcp, "[::]:22"),
            (Protocol::Tcp, "10.9.9.9:80"),
            (Protocol::Udp, "0.0.0.0:53"),
            (Protocol::Udp, "[fc00::7]:123"),
        ];
        let sockets = sockets.map(|(protocol, at)| (protocol, at.parse().expect("an address")));
        own.listeners.extend(sockets);
        own
    }

    fn refused(text: &str) -> Vec<String> {
        let config = Config::from_toml(text).expect("a configuration");
        refusals(&config, &own())
            .into_iter()
            .map(|refusal| ConfigError::from(refusal).to_string())
            .collect()
    }

    fn vip(address: &str, port: u16, protocol: &str, rest: &str) -> String {
        format!(
            "[[vips]]\naddress = \"{address}\"\nport = {port}\nprotocol = \"{protocol}\"\n{rest}\n"
        )
    }

    #[test]
    fn own_addresses_are_for_vips_that_may() {
        let mine = "is this host's own address (interface eth0)";
        let listen = "where programs listen";
        for (address, port, protocol, allow, words) in [
            ("10.200.1.2", 0, "tcp", "", None),
            ("10.200.1.1", 80, "tcp", "", Some(mine)),
            ("10.200.1.1", 80, "tcp", "true", None),
            ("10.200.1.1", 0, "tcp", "true", Some("(tcp [::]:22)")),
            ("10.200.1.1", 0, "tcp", "\"force\"", None),
            ("10.200.1.1", 0, "udp", "true", Some("(udp 0.0.0.0:53)")),
            ("fc00::7", 0, "udp", "true", Some("(udp [fc00::7]:123)")),
            ("fc00::7", 0, "tcp", "true", Some(listen)),
            ("10.201.7.7", 80, "tcp", "", Some("own address (local route 10.201.0.0/16)")),
            ("10.201.7.7", 80, "tcp", "true", None),
            ("10.201.7.7", 0, "tcp", "true", Some("(tcp [::]:22)")),
            ("192.0.2.7", 22, "tcp", "false", Some(mine)),
            ("192.0.2.255", 80, "tcp", "true", Some("broadcast address")),
        ] {
            let rest = if allow.is_empty() {
                String::new()
            } else {
                format!("allow_own_address = {allow}")
            };
            let found = refused(&vip(address, port, protocol, &rest));
            match words {
                None => assert!(found.is_empty(), "{address}:{port} {allow}: {found:?}"),
                Some(words) => {
                    assert_eq!(found.len(), 1, "{address}:{port} {allow}: {found:?}");
                    assert!(found[0].starts_with("vips[0].address: ") && found[0].contains(words));
                    assert_eq!(found[0].lines().count(), 1);
                }
            }
        }
    }

    #[test]
    fn an_own_address_is_closed_by_force_only() {
        let rules = |allow: &str, other_ports: &str| {
            let allow = format!("allow_own_address = {allow}");
            let first = vip("10.200.1.1", 80, "tcp", &allow);
            // The rule belongs to the address, whichever VIP has it.
            let second = format!("{allow}\nother_ports = \"{other_ports}\"");
            refused(&format!("{first}{}", vip("10.200.1.1", 443, "tcp", &second)))
        };
        for other_ports in ["drop", "reject"] {
            let found = rules("true", other_ports);
            assert_eq!(found.len(), 2, "{found:?}");
            assert!(
                found.iter().all(|line| line.contains("other_ports") && line.contains("force"))
            );
            // Each line names the VIP that has to say so: it may be another VIP than the one that is added.
            for (line, port) in found.iter().zip([80, 443]) {
                assert!(
                    line.contains(&format!("VIP tcp://10.200.1.1:{port} does not say")),
                    "{line}"
                );
            }
            assert_eq!(rules("\"force\"", other_ports), [""; 0]);
        }
        assert_eq!(rules("true", "pass"), [""; 0]);
        assert_eq!(refused(&vip("10.200.1.9", 80, "tcp", "other_ports = \"drop\"")), [""; 0]);
    }

    #[test]
    fn a_real_may_be_this_host_but_no_broadcast_address() {
        let reals = "reals = [ { address = \"10.0.0.1\" }, { address = \"192.0.2.7\" }, { address = \"192.0.2.255\" } ]";
        let text = format!(
            "{}\n[[server_ids]]\nid = 1\nreal = \"192.0.2.255\"\n[[interfaces]]\nname = \"eth0\"\n\
             gateway = \"192.0.2.7\"",
            vip("10.200.1.9", 80, "tcp", reals)
        );
        let found = refused(&text);
        let keys: Vec<_> = found.iter().filter_map(|line| line.split_once(": ")).collect();
        let keys: Vec<_> = keys.into_iter().map(|(key, _)| key).collect();
        assert_eq!(
            keys,
            ["interfaces[0].gateway", "vips[0].reals[2].address", "server_ids[0].real"],
            "{found:?}"
        );
    }
}
