//! VIPs and their reals: what is wanted, apart from how the maps hold it. Pure.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use rustc_hash::FxBuildHasher;
use rustc_hash::FxHashMap;
use rustc_hash::FxHashSet;
use serde::Serialize;

use crate::model::abi;
use crate::model::abi::consts;
use crate::model::address::Protocol;
use crate::model::address::Vip;
use crate::model::config::CheckConfig;
use crate::model::config::Config;
use crate::model::config::DecapsulateConfig;
use crate::model::config::Delivery;
use crate::model::config::Echo;
use crate::model::config::Encapsulation;
use crate::model::config::HashMode;
use crate::model::config::HealthConfig;
use crate::model::config::HealthPolicy;
use crate::model::config::NoReal;
use crate::model::config::OnFailure;
use crate::model::config::OtherPorts;
use crate::model::config::OwnAddress;
use crate::model::config::RealConfig;
use crate::model::config::RealState;
use crate::model::config::Routing;
use crate::model::config::ServerIdConfig;
use crate::model::config::VipConfig;
use crate::model::config::no_check;
use crate::model::health::Health;
use crate::model::health::RealHealth;
use crate::model::maglev::ring::Member;
use crate::model::tunnel_end::TunnelEnds;
use crate::model::vip_key::VipKey;

/// A real as one VIP has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RealSpec {
    /// Share of new flows, relative to the VIP's other reals.
    pub weight: u32,
    /// Whether it takes flows.
    pub state: RealState,
    /// What was found about it, whatever the operator wants.
    pub health: RealHealth,
    /// What it says itself about the way of its packets: the same in all VIPs that have it.
    pub delivery: Delivery,
}

impl RealSpec {
    /// A real about which nothing was found yet.
    pub fn new(weight: u32, state: RealState) -> Self {
        Self { weight, state, health: RealHealth::default(), delivery: Delivery::default() }
    }

    /// Whether the operator wants it to take new flows.
    pub(crate) fn is_wanted(self) -> bool {
        self.state == RealState::Up && self.weight != 0
    }
}

/// A VIP's properties and reals.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VipSpec {
    /// What decides where a flow goes.
    pub hash: HashMode,
    /// Whether flows are not remembered.
    pub stateless: bool,
    /// What else in a packet may name its real.
    pub routing: BTreeSet<Routing>,
    /// The way of packets to its reals that do not say it themselves. `None`: that of `[packets]`.
    pub encapsulation: Option<Encapsulation>,
    /// Whether the address may be one of the balancer's own host.
    pub allow_own_address: OwnAddress,
    /// What happens to packets for ports of the address that no VIP has. `None`: the setting of its other VIPs.
    pub other_ports: Option<OtherPorts>,
    /// What happens to packets while there is no usable real.
    pub no_real: NoReal,
    /// When the address answers echo requests. `None`: the setting of its other VIPs.
    pub echo: Option<Echo>,
    /// How the health of its reals is found out, and what follows from it.
    pub health: HealthPolicy,
    /// The servers.
    pub reals: BTreeMap<IpAddr, RealSpec>,
}

impl VipSpec {
    /// `vip.flags` for the packet path, without the flags that depend on earlier states.
    pub(crate) fn flags(&self, vip: &Vip) -> u32 {
        let (mode, any_port) = match self.hash {
            HashMode::FiveTuple => (0, consts::VIP_IGNORE_DPORT),
            HashMode::NoSourcePort => (consts::VIP_IGNORE_SPORT, consts::VIP_IGNORE_DPORT),
            HashMode::DestinationPort => (consts::VIP_DPORT_ONLY, 0),
            HashMode::SourceAndDestinationPort => (consts::VIP_SRC_AND_DPORT, 0),
        };
        let mut flags = mode;
        if vip.port == 0 {
            flags |= any_port;
        }
        if self.stateless {
            flags |= consts::VIP_STATELESS;
        }
        if self.routing.contains(&Routing::QuicConnectionId) {
            flags |= consts::VIP_QUIC_SERVER_ID;
        }
        flags |= match self.allow_own_address {
            OwnAddress::Refused => 0,
            OwnAddress::Allowed => consts::VIP_OWN_ADDRESS,
            OwnAddress::Forced => consts::VIP_OWN_ADDRESS_FORCED,
        };
        if self.no_real == NoReal::Reject {
            flags |= consts::VIP_REJECTS_NO_REAL;
        }
        flags |= self.encapsulation.unwrap_or_default().vip_flags();
        flags | OtherPorts::flags(self.other_ports) | Echo::flags(self.echo)
    }

    /// The properties that the flags say; without reals.
    pub(crate) fn from_flags(flags: u32) -> Self {
        let has = |flag| flags & flag != 0;
        let hash = if has(consts::VIP_IGNORE_SPORT) {
            HashMode::NoSourcePort
        } else if has(consts::VIP_DPORT_ONLY) {
            HashMode::DestinationPort
        } else if has(consts::VIP_SRC_AND_DPORT) {
            HashMode::SourceAndDestinationPort
        } else {
            HashMode::FiveTuple
        };
        let allow_own_address = if has(consts::VIP_OWN_ADDRESS_FORCED) {
            OwnAddress::Forced
        } else if has(consts::VIP_OWN_ADDRESS) {
            OwnAddress::Allowed
        } else {
            OwnAddress::Refused
        };
        let quic = has(consts::VIP_QUIC_SERVER_ID).then_some(Routing::QuicConnectionId);
        Self {
            hash,
            stateless: has(consts::VIP_STATELESS),
            routing: quic.into_iter().collect(),
            encapsulation: Some(Encapsulation::from_vip_flags(flags)),
            allow_own_address,
            other_ports: OtherPorts::from_flags(flags),
            no_real: if has(consts::VIP_REJECTS_NO_REAL) { NoReal::Reject } else { NoReal::Drop },
            echo: Echo::from_flags(flags),
            health: HealthPolicy::default(),
            reals: BTreeMap::new(),
        }
    }

    /// Whether packets may name their real by a server id.
    pub(crate) fn is_routed_by_id(&self) -> bool {
        self.routing.contains(&Routing::QuicConnectionId)
    }

    /// The members of its ring: the reals that the operator wants, except those that do not do well.
    pub(crate) fn members(&self) -> Vec<Member> {
        let open = self.fails_open();
        let taking: Vec<_> = self
            .reals
            .iter()
            .filter(|(_, real)| real.is_wanted() && (open || real.health.takes_flows()))
            .map(|(address, real)| {
                let share =
                    if real.health.takes_flows() { real.health.share } else { RealHealth::FULL };
                (*address, real.weight, share)
            })
            .collect();
        // A ring depends only on the proportions of the weights. So it is Katran's while all shares are full, and it
        // does not change when the first share is not.
        let scaled = taking.iter().any(|(.., share)| *share != RealHealth::FULL);
        let weight = |weight, share| if scaled { weight * u32::from(share) } else { weight };
        taking
            .into_iter()
            .map(|(address, of, share)| Member { address, weight: weight(of, share) })
            .collect()
    }

    /// Whether so few of its reals do well that all are used that the operator wants: a checker that fails, or a
    /// network, must not take the service down.
    pub fn fails_open(&self) -> bool {
        let (well, all) = self.doing_well();
        self.health.fail_open && well < all && well < self.health.min_healthy.of(all)
    }

    /// How many of the reals that the operator wants do well, and how many there are.
    pub(crate) fn doing_well(&self) -> (usize, usize) {
        let wanted = self.reals.values().filter(|real| real.is_wanted());
        wanted.fold((0, 0), |(well, all), real| {
            (well + usize::from(real.health.takes_flows()), all + 1)
        })
    }

    /// The reals that may keep flows: all but those that are down, and those that server ids may name.
    pub(crate) fn keepers(&self, server_ids: &BTreeMap<u32, IpAddr>) -> BTreeSet<IpAddr> {
        let named = self.is_routed_by_id().then(|| server_ids.values()).into_iter().flatten();
        let down = self.downs();
        self.reals.keys().chain(named).filter(|address| !down.contains(*address)).copied().collect()
    }

    /// The reals that must have no packets at all: the operator has them down, or they are unhealthy and their flows
    /// are to move.
    pub(crate) fn downs(&self) -> BTreeSet<IpAddr> {
        let moves = self.health.on_failure == OnFailure::Move && !self.fails_open();
        let down = |real: &RealSpec| {
            real.state == RealState::Down || moves && real.health.state == Health::Unhealthy
        };
        self.reals.iter().filter(|(_, real)| down(real)).map(|(address, _)| *address).collect()
    }
}

/// All VIPs and server ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// The services.
    pub vips: BTreeMap<Vip, VipSpec>,
    /// The ids that packets of the id-routed VIPs carry.
    pub server_ids: BTreeMap<u32, IpAddr>,
    /// The checks that VIPs name.
    pub checks: BTreeMap<String, CheckConfig>,
    /// How checks are run.
    pub health: HealthConfig,
    /// The way of packets to the reals of VIPs that do not say it: that of `[packets]`.
    pub encapsulation: Encapsulation,
    /// The addresses for packets that come in an outer header.
    pub decapsulate: TunnelEnds,
}

impl From<&Config> for Table {
    fn from(config: &Config) -> Self {
        let vips = config.vips.iter().map(|vip| {
            let reals = vip
                .reals
                .iter()
                .map(|real| {
                    let delivery = real.delivery();
                    let spec = RealSpec { delivery, ..RealSpec::new(real.weight, real.state) };
                    (real.address, spec)
                })
                .collect();
            let spec = VipSpec {
                hash: vip.hash,
                stateless: !vip.connection_table,
                routing: vip.routing.iter().copied().collect(),
                encapsulation: vip.encapsulation,
                allow_own_address: vip.allow_own_address,
                other_ports: vip.other_ports,
                no_real: vip.no_real,
                echo: vip.echo,
                health: vip.health(),
                reals,
            };
            (vip.vip(), spec)
        });
        let server_ids = config.server_ids.iter().map(|entry| (entry.id, entry.real));
        let mut table = Self {
            vips: vips.collect(),
            server_ids: server_ids.collect(),
            checks: config.checks.clone(),
            health: config.health.clone(),
            encapsulation: config.packets.encapsulation,
            decapsulate: config
                .decapsulate
                .iter()
                .map(|entry| (entry.address, entry.into()))
                .collect(),
        };
        table.resolve();
        table
    }
}

impl Table {
    /// Says of each VIP and real what the file leaves out about the way of packets: of a VIP what `[packets]` says, of a
    /// real what it says in another VIP.
    pub(crate) fn resolve(&mut self) {
        let default = self.encapsulation;
        let mut said = FxHashMap::default();
        for spec in self.vips.values_mut() {
            spec.encapsulation.get_or_insert(default);
            let own = spec.reals.iter().filter(|(_, real)| real.delivery != Delivery::AsVip);
            said.extend(own.map(|(address, real)| (*address, real.delivery)));
        }
        if said.is_empty() {
            return;
        }
        for (address, real) in self.vips.values_mut().flat_map(|spec| &mut spec.reals) {
            if let Some(delivery) = said.get(address).filter(|_| real.delivery == Delivery::AsVip) {
                real.delivery = *delivery;
            }
        }
    }

    /// Replaces the VIPs and server ids of a configuration by those of the table. VIPs do not repeat the encapsulation
    /// that the configuration's `[packets]` says.
    pub fn write_to(&self, config: &mut Config) {
        let default = config.packets.encapsulation;
        config.vips = self
            .vips
            .iter()
            .map(|(vip, spec)| VipConfig {
                address: vip.address,
                port: vip.port,
                protocol: vip.protocol,
                hash: spec.hash,
                connection_table: !spec.stateless,
                routing: spec.routing.iter().copied().collect(),
                encapsulation: spec.encapsulation.filter(|own| *own != default),
                allow_own_address: spec.allow_own_address,
                other_ports: spec.other_ports,
                no_real: spec.no_real,
                echo: spec.echo,
                check: spec.health.check.clone(),
                on_failure: spec.health.on_failure,
                min_healthy: spec.health.min_healthy,
                fail_open: spec.health.fail_open,
                slow_start: spec.health.slow_start,
                flapping: spec.health.flapping,
                reals: spec
                    .reals
                    .iter()
                    .map(|(address, real)| {
                        let (weight, state) = (real.weight, real.state);
                        RealConfig { weight, state, ..RealConfig::new(*address) }
                            .with_delivery(real.delivery)
                    })
                    .collect(),
            })
            .collect();
        config.server_ids = self
            .server_ids
            .iter()
            .map(|(id, real)| ServerIdConfig { id: *id, real: *real })
            .collect();
        config.checks = self.checks.clone();
        config.health = self.health.clone();
        let ends = self.decapsulate.iter();
        config.decapsulate =
            ends.map(|(address, end)| DecapsulateConfig::of(*address, end)).collect();
    }

    /// Takes over what was found about the reals that run. A file says what the operator wants, not how reals do.
    /// What a check found is forgotten with the VIP's last check.
    pub(crate) fn keep_health<'a>(&mut self, running: impl Fn(&Vip) -> Option<&'a VipSpec>) {
        for (vip, spec) in &mut self.vips {
            let Some(running) = running(vip) else { continue };
            let checked = spec.health.check.is_some();
            for (address, real) in &mut spec.reals {
                let known = running.reals.get(address).map(|real| real.health);
                real.health = known.filter(|known| checked || known.told).unwrap_or_default();
            }
        }
    }

    /// What to say of a name that none of its checks has: which names there are, and which was perhaps meant.
    pub fn no_check(&self, name: &str) -> String {
        no_check(self.checks.keys().map(String::as_str), name)
    }

    /// The check of a VIP, if it has one.
    pub fn check_of<'a>(&'a self, spec: &'a VipSpec) -> Option<&'a CheckConfig> {
        spec.health.check_of(&self.checks)
    }

    /// How often the reals of a VIP are checked, if it has a check and reals.
    pub(crate) fn checked_every(&self, spec: &VipSpec) -> Option<Duration> {
        self.check_of(spec).filter(|_| !spec.reals.is_empty()).map(CheckConfig::interval)
    }

    pub(crate) fn reals(&self) -> FxHashSet<IpAddr> {
        let of_vips = self.vips.values().flat_map(|spec| spec.reals.keys());
        let room = consts::MAX_REALS as usize;
        let mut reals = FxHashSet::with_capacity_and_hasher(room, FxBuildHasher);
        reals.extend(of_vips.chain(self.server_ids.values()));
        reals
    }

    /// The VIPs of an address. They are adjacent in the map.
    fn of_address(&self, address: IpAddr) -> impl Iterator<Item = &VipSpec> {
        let first = Vip { address, port: 0, protocol: Protocol::Tcp };
        let last = Vip { address, port: u16::MAX, protocol: Protocol::Udp };
        self.vips.range(first..=last).map(|(_, spec)| spec)
    }

    /// What happens to packets for ports of an address that no VIP has.
    pub fn other_ports(&self, address: IpAddr) -> OtherPorts {
        self.of_address(address).find_map(|spec| spec.other_ports).unwrap_or_default()
    }

    /// When an address answers echo requests.
    pub fn echo(&self, address: IpAddr) -> Echo {
        self.of_address(address).find_map(|spec| spec.echo).unwrap_or_default()
    }

    /// The flags of an address's markers, except the one that says that it is a marker.
    pub(crate) fn rules(&self, address: IpAddr) -> u32 {
        let other_ports = match self.other_ports(address) {
            OtherPorts::Pass => None,
            other_ports => Some(other_ports),
        };
        let answers = match self.echo(address) {
            Echo::Always => true,
            Echo::WhenUsable => self.of_address(address).any(|spec| !spec.members().is_empty()),
            Echo::Never => false,
        };
        // Checks may go to a port that no VIP has: see bpf/healthcheck.bpf.c.
        let way = self.of_address(address).next().and_then(|spec| spec.encapsulation);
        OtherPorts::flags(other_ports)
            | way.unwrap_or_default().vip_flags()
            | if answers { 0 } else { consts::VIP_NO_ECHO }
    }

    /// Every entry that `vips` must hold: VIPs, and markers under keys that no VIP has.
    pub(crate) fn keys(&self) -> BTreeMap<VipKey, Option<Vip>> {
        let markers = self.vips.keys().flat_map(abi::vip_key::markers);
        let mut keys: BTreeMap<_, _> = markers.map(|marker| (VipKey::from(marker), None)).collect();
        keys.extend(
            self.vips.keys().map(|vip| (VipKey::from(abi::vip_key::from(*vip)), Some(*vip))),
        );
        keys
    }
}

/// The name that a choice such as [`HashMode`] has in configuration files.
pub fn config_name<T: Serialize>(value: &T) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(name)) => name,
        _ => String::new(),
    }
}
