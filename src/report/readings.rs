//! Readings of what runs, which the condition and status are judged by.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::control::chain;
use crate::control::chain::SlotStatus;
use crate::dataplane::balancer::Balancer;
use crate::instance::serving;
use crate::instance::serving::Part;
use crate::instance::serving::Server;
use crate::model::error::Result;
use crate::model::tunnel_end::TunnelEnd;
use crate::observe::flood_guard::FloodGuard;
use crate::observe::health_summary::HealthSummary;
use crate::observe::interfaces::InterfaceStatus;
use crate::observe::memory::MapsMemory;
use crate::observe::readiness::InterfaceState;
use crate::observe::recent::Recent;
use crate::observe::stats::Stats;
use crate::observe::tables::TableStatus;
use crate::observe::vips::VipStatus;
use crate::plan::Unserved;

/// All that [`Status`](crate::Status) has except the judgement.
#[derive(Clone, Debug, Default)]
pub(crate) struct Readings {
    pub(crate) instance: String,
    pub(crate) serve: Option<Server>,
    pub(crate) interfaces: BTreeMap<String, InterfaceStatus>,
    /// Of the same interfaces, and of their gateways.
    pub(crate) observed: Vec<InterfaceState>,
    pub(crate) unserved: Vec<Unserved>,
    pub(crate) chain: Vec<SlotStatus>,
    pub(crate) vips: Vec<VipStatus>,
    pub(crate) decapsulate: BTreeMap<IpAddr, TunnelEnd>,
    pub(crate) health: HealthSummary,
    pub(crate) tables: Vec<TableStatus>,
    pub(crate) flood_guards: Vec<FloodGuard>,
    pub(crate) memory: Vec<MapsMemory>,
    pub(crate) stats: Stats,
}

impl Readings {
    /// Reads all of it. It asks no gateway.
    pub(crate) fn take(balancer: &Balancer) -> Result<Self> {
        let stats = balancer.stats()?;
        let vips = balancer.vips_with(&stats)?;
        let (mut interfaces, mut observed) = (BTreeMap::new(), Vec::new());
        for (config, state) in balancer.observed()? {
            interfaces.insert(state.interface.clone(), InterfaceStatus::new(config, &state));
            observed.push(state);
        }
        Ok(Self {
            instance: balancer.instance().name().to_owned(),
            serve: serving::server(balancer.instance(), &Part::Balancer)?,
            interfaces,
            observed,
            unserved: balancer.unserved()?,
            chain: chain::list(balancer.instance())?,
            health: HealthSummary::new(&vips, balancer.last_check()?),
            vips,
            decapsulate: balancer.dataplane.read_tunnel_ends()?,
            tables: balancer.table_status()?,
            flood_guards: balancer.flood_guards()?,
            memory: balancer.maps_memory()?,
            stats,
        })
    }

    /// Watches the counters for about a second, if those since the start do not tell what happens now.
    pub(crate) fn watch(&self, balancer: &Balancer) -> Result<Recent> {
        Recent::watch(balancer, &self.tables, &self.flood_guards, &self.stats)
    }
}
