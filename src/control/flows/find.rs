//! Finds one flow, as a client sees it.

use std::net::IpAddr;
use std::net::SocketAddr;

use super::Flow;
use super::read::Opened;
use super::read::Source;
use crate::dataplane::ViewVip;
use crate::dataplane::balancer::Balancer;
use crate::dataplane::balancer::running_knobs;
use crate::dataplane::tables;
use crate::dataplane::tables::SetTable;
use crate::kernel::bpf;
use crate::kernel::maps::Map;
use crate::model::abi;
use crate::model::abi::consts;
use crate::model::address::Protocol;
use crate::model::address::Vip;
use crate::model::connection_tables::Family;
use crate::model::error::Error;
use crate::model::error::Result;
use crate::model::maglev::hash::flow_slot;
use crate::model::secret::Secret;

/// A flow, by the headers of its packets to the VIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FiveTuple {
    /// The transport protocol.
    pub protocol: Protocol,
    /// The client.
    pub client: SocketAddr,
    /// What the client sends to, of the same IP version.
    pub destination: SocketAddr,
}

/// What is known of one flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundFlow {
    /// The VIP that serves it.
    pub vip: Vip,
    /// Whether the VIP remembers its flows.
    pub remembered: bool,
    /// The entries, at most one for each CPU. Flows that the VIP's hash mode does not tell apart share them.
    pub entries: Vec<Flow>,
    /// The real that the ring gives on a CPU that has no entry, or a stale one; `None`: the VIP has no real that takes
    /// new flows. A server id in a QUIC packet takes precedence over entry and ring.
    pub ring: Option<IpAddr>,
}

impl Balancer {
    /// Looks a flow up in every table, as its packets do.
    pub fn find_flow(&self, tuple: &FiveTuple) -> Result<FoundFlow> {
        let FiveTuple { protocol, client, destination } = *tuple;
        let view = self.flow_view()?;
        let with_port = |port| Vip { address: destination.ip(), port, protocol };
        let vip = view.vip(&with_port(destination.port())).or_else(|| view.vip(&with_port(0)));
        let not_served = Error::NotServed { protocol, destination };
        let vip = vip.filter(|_| client.is_ipv4() == destination.is_ipv4()).ok_or(not_served)?;
        let key = vip.reduce(&abi::flow_key {
            src: client.ip().into(),
            sport: client.port().to_be(),
            dport: destination.port().to_be(),
            vip: vip.serial,
        });

        let family = if client.is_ipv4() { Family::V4 } else { Family::V6 };
        let secret = Secret::from(&running_knobs(self.instance())?.unwrap_or_default());
        let mut entries = Vec::new();
        for source in Source::all(&self.dataplane, &self.tables()?)? {
            if source.family.is_some_and(|other| other != family) {
                continue;
            }
            let raw = match source.open(&self.dataplane)? {
                Opened::Sets(map, family) => SetTable::new(&map, family)?.find(&key, &secret)?,
                Opened::Lru(table) => table.get(&key)?.map(|flow| tables::Flow::from((key, flow))),
            };
            let now = bpf::monotonic_ns()?;
            let flow = raw.map(|raw| Flow::new(&raw, &view, source.cpu, source.tcp_age(), now));
            entries.extend(flow);
        }
        Ok(FoundFlow {
            vip: vip.vip,
            remembered: vip.flags & consts::VIP_STATELESS == 0,
            entries,
            ring: self.real_of_ring(vip, &key, family)?.and_then(|id| view.live_real(id)),
        })
    }

    /// The id that a VIP's ring has for a flow.
    fn real_of_ring(
        &self,
        vip: &ViewVip,
        key: &abi::flow_key,
        family: Family,
    ) -> Result<Option<u32>> {
        let Some(ring) = self.dataplane.rings.at(vip.id)? else { return Ok(None) };
        let ring: Map<u32, u64> = Map::new(ring)?;
        // If the hash mode leaves the address out, its bytes are 0; the IP version still counts.
        let source = match (IpAddr::from(key.src), family) {
            (IpAddr::V6(none), Family::V4) if none.is_unspecified() => [0; 4].into(),
            (source, _) => source,
        };
        let slot = flow_slot(source, u16::from_be(key.sport), u16::from_be(key.dport));
        let per_value = consts::RING_IDS_PER_VALUE;
        let ids = ring.get(&(slot / per_value))?.unwrap_or_default();
        let id = ids >> (slot % per_value * 16) & 0xffff;
        Ok(u32::try_from(id).ok())
    }
}
