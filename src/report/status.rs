//! What runs, in one report.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Serialize;

use crate::control::chain::SlotStatus;
use crate::dataplane::balancer::Balancer;
use crate::instance::serving::Server;
use crate::model::error::Result;
use crate::model::tunnel_end::TunnelEnd;
use crate::observe::flood_guard::FloodGuard;
use crate::observe::health_summary::HealthSummary;
use crate::observe::interfaces::InterfaceStatus;
use crate::observe::memory::MapsMemory;
use crate::observe::stats::Stats;
use crate::observe::tables::TableStatus;
use crate::observe::vips::VipStatus;
use crate::plan::Unserved;
use crate::report::condition::Condition;
use crate::report::readings::Readings;

/// What `lbctl status` shows.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// The instance's name.
    pub instance: String,
    /// Whether the instance does well.
    pub condition: Condition,
    /// Since when the node is drained, in seconds since 1970; `None`: it is not.
    pub draining_since: Option<u64>,
    /// The process that serves the balancer (`lbctl serve`); `None`: no process follows its gateways.
    pub serve: Option<Server>,
    /// The interfaces.
    pub interfaces: BTreeMap<String, InterfaceStatus>,
    /// Interfaces that are not served, or not as asked for.
    pub unserved: Vec<Unserved>,
    /// The programs on them.
    pub chain: Vec<SlotStatus>,
    /// The VIPs.
    pub vips: Vec<VipStatus>,
    /// The addresses of `[[decapsulate]]`, and what happens to packets that come for them in an outer header.
    pub decapsulate: BTreeMap<IpAddr, TunnelEnd>,
    /// The health of all reals together.
    pub health: HealthSummary,
    /// The connection tables.
    pub tables: Vec<TableStatus>,
    /// The limits of new flows.
    pub flood_guards: Vec<FloodGuard>,
    /// The memory of the maps.
    pub memory: Vec<MapsMemory>,
    /// All counters.
    pub stats: Stats,
}

impl Balancer {
    /// Reads everything that `lbctl status` shows, with [`Self::table_status`].
    ///
    /// It sleeps for about a second if the counters since the start do not tell whether all is well now: new flows
    /// were not remembered once, a connection table is full and flows were missed, or packets for VIPs came in frames
    /// to other hosts. Then it reads the counters twice, and [`Condition`] is about the time in between.
    pub fn status(&self) -> Result<Status> {
        let readings = Readings::take(self)?;
        let condition = Condition::judge(self, &readings)?;
        Ok(Status { draining_since: self.draining_since()?, ..Status::new(readings, condition) })
    }
}

impl Status {
    fn new(readings: Readings, condition: Condition) -> Self {
        Self {
            instance: readings.instance,
            condition,
            draining_since: None,
            serve: readings.serve,
            interfaces: readings.interfaces,
            unserved: readings.unserved,
            chain: readings.chain,
            vips: readings.vips,
            decapsulate: readings.decapsulate,
            health: readings.health,
            tables: readings.tables,
            flood_guards: readings.flood_guards,
            memory: readings.memory,
            stats: readings.stats,
        }
    }
}
