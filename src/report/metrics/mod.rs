//! Prometheus metrics of an instance, for `lbctl serve` and for services that embed the library. [`families`] lists them.

mod families;
mod health;
#[cfg(feature = "agent")]
pub(crate) mod openmetrics;
mod series;
mod sink;
#[cfg(test)]
mod tests;
#[cfg(feature = "agent")]
pub(crate) mod text;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::fmt::Display;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use prometheus::core::Desc;
use prometheus::proto::MetricFamily;

use crate::control::decap;
use crate::dataplane::balancer::Balancer;
use crate::instance::Instance;
use crate::kernel::nic::NicStatistics;
use crate::model::address::Mac;
use crate::model::address::Vip;
use crate::model::connection_tables::Tables;
use crate::model::error::DecapError;
use crate::model::error::Error;
use crate::model::error::Result;
use crate::model::mismatch::Mismatch;
use crate::model::vip_table::Table;
use crate::observe::memory::MapMemory;
use crate::observe::readiness::GatewayState;
use crate::observe::readiness::InterfaceState;
use crate::observe::rings::RunningRing;
use crate::observe::tables::TableStatus;
use crate::report::background::Background;
use crate::report::background::Pace;
use crate::report::background::Sample;

use self::sink::Gathered;

pub use self::families::Family;
pub use self::families::Kind;
pub(crate) use self::sink::Sink;

/// How often a thread reads what takes longer than counters.
const PACE: Pace = Pace { interval: Duration::from_secs(60), share_of_cpu: 100 };

/// All metrics that a [`Collector`] may have.
pub fn families() -> &'static [Family] {
    families::ALL
}

/// Collects the metrics of an instance, which may come and go meanwhile. The series of a VIP or real vanish with it, and
/// all but a few vanish while the instance does not run. The collector writes nothing, and holds no lock that packets or
/// commands wait for.
///
/// Each scrape reads the counters. A thread reads what takes longer: entries and memory of the maps, and the rings. It
/// does so when a scrape asks for them and they are older than a minute, or what runs has changed. Unless something
/// changes all the time, that uses at most 1 % of a CPU. The ages of both samples are metrics. Only the first scrape waits
/// for them, up to a second.
///
/// The collector looks for interfaces in the network namespace of the thread that collects.
///
/// ```no_run
/// let instance = l4lb::Instance::default();
/// let registry = prometheus::Registry::new();
/// registry.register(Box::new(l4lb::metrics::Collector::new(instance)))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Collector {
    instance: Instance,
    /// Whether the instance should have a balancer.
    balances: bool,
    /// Whether there are series for each real.
    per_real: Arc<AtomicBool>,
    descriptions: Vec<Desc>,
    rings: Background<Rings>,
    maps: Background<Maps>,
    memory: Mutex<Memory>,
}

/// The rings, and what they were made from.
#[derive(Debug)]
struct Rings {
    table: Table,
    by_vip: BTreeMap<Vip, RunningRing>,
    mismatches: Vec<Mismatch>,
}

/// Entries and memory of the maps, and which maps.
#[derive(Debug)]
struct Maps {
    tables: Tables,
    fill: Vec<TableStatus>,
    memory: Vec<MapMemory>,
}

/// What the collector keeps from scrape to scrape.
#[derive(Debug, Default)]
struct Memory {
    /// When the kernel last heard the gateways, by interface.
    heard: BTreeMap<String, (Mac, Instant)>,
    /// What failed the last time, by part.
    failures: BTreeMap<&'static str, String>,
}

impl Collector {
    /// Collects from this instance. It need not run yet.
    pub fn new(instance: Instance) -> Self {
        Self::with(instance, true)
    }

    /// Collects from an instance that decapsulates. While the instance has no balancer, there are no series of a
    /// balancer, and `l4lb_running` is missing.
    pub fn of_decap(instance: Instance) -> Self {
        Self::with(instance, false)
    }

    /// The same, without series for each real and each pair of VIP and real while the switch is off: with hundreds of VIPs
    /// that have hundreds of reals, these are nearly all.
    #[must_use]
    pub fn with_per_real(self, switch: Arc<AtomicBool>) -> Self {
        Self { per_real: switch, ..self }
    }

    fn with(instance: Instance, balances: bool) -> Self {
        Self {
            instance,
            balances,
            per_real: Arc::new(AtomicBool::new(true)),
            descriptions: families().iter().map(description).collect(),
            rings: Background::new(PACE),
            maps: Background::new(PACE),
            memory: Mutex::default(),
        }
    }
}

fn description(family: &Family) -> Desc {
    let labels = family.labels.iter().map(|label| (*label).to_owned()).collect();
    #[expect(clippy::expect_used, reason = "fails for a bad constant only, and then always")]
    Desc::new(family.name.to_owned(), family.help.to_owned(), labels, HashMap::new())
        .expect("a valid metric name")
}

/// The parts of a scrape. A part that cannot be read is left out, and the others stay.
struct Scrape<'a> {
    sink: &'a mut dyn Sink,
    /// Why a part could not be read, by the part's name; `None`: it was read.
    parts: BTreeMap<&'static str, Option<String>>,
}

impl Scrape<'_> {
    fn part<T>(&mut self, part: &'static str, read: Result<T, impl Display>) -> Option<T> {
        let (value, error) = match read {
            Ok(value) => (Some(value), None),
            Err(error) => (None, Some(error.to_string())),
        };
        self.parts.insert(part, error);
        value
    }
}

impl Collector {
    /// Writes all metrics.
    pub(crate) fn write(&self, sink: &mut dyn Sink) {
        let mut scrape = Scrape { sink, parts: BTreeMap::new() };
        self.collect_balancer(&mut scrape);
        self.collect_decap(&mut scrape);
        self.report(&scrape.parts);
        let success = scrape.parts.iter().map(|(part, error)| (*part, error.is_none()));
        series::read_success(scrape.sink, success);
        series::build_info(scrape.sink);
    }

    fn collect_balancer(&self, scrape: &mut Scrape<'_>) {
        let per_real = self.per_real.load(Ordering::Relaxed);
        let balancer = match Balancer::open(&self.instance) {
            Ok(balancer) => balancer,
            Err(Error::NotRunning { .. }) => {
                if self.balances {
                    series::running(scrape.sink, false);
                }
                return;
            }
            Err(error) => {
                scrape.part::<()>("instance", Err(error));
                return;
            }
        };
        scrape.part::<()>("instance", Result::<_>::Ok(()));
        series::running(scrape.sink, true);
        if let Some(since) = scrape.part("node", balancer.draining_since()) {
            series::draining(scrape.sink, since);
        }
        if let Some(stats) = scrape.part("counters", balancer.stats()) {
            series::counters(scrape.sink, &stats, per_real);
        }
        if let Some(guards) = scrape.part("flood_guards", balancer.flood_guards()) {
            series::flood_guards(scrape.sink, &guards);
        }
        if let Some(Some(runs)) = scrape.part("chain", balancer.chain_runs()) {
            series::chain_runs(scrape.sink, runs);
        }
        if let Some(running) = scrape.part("vips", balancer.running()) {
            let health = balancer
                .known_health(&running)
                .and_then(|known| Ok((known, balancer.last_check()?)));
            let by_mac = running.reals_by_mac();
            let table = running.into_table();
            let pairs = series::Pairs::of(&table, per_real);
            series::vips(scrape.sink, &pairs);
            series::macs(scrape.sink, if per_real { &by_mac } else { &[] });
            if let Some((known, last_check)) = scrape.part("health", health) {
                health::health(scrape.sink, &table, &pairs, &known, last_check);
            }
            if let Some(Some(rings)) = scrape.part("rings", self.rings(&table)) {
                series::rings(scrape.sink, &pairs, &rings);
            }
        }
        if let Some(Some(maps)) = scrape.part("maps", self.maps(&balancer)) {
            series::maps(scrape.sink, &maps);
        }
        let interfaces = balancer.interface_states();
        let interfaces = interfaces.and_then(|states| Ok((states, balancer.unserved()?)));
        if let Some((interfaces, unserved)) = scrape.part("interfaces", interfaces) {
            let heard = self.heard(&interfaces);
            series::interfaces(scrape.sink, &interfaces, &heard);
            series::served(scrape.sink, &interfaces, &unserved);
            let attached = interfaces.iter().filter(|state| state.mode.is_some());
            let nics: Vec<_> = attached
                .map(|state| (state.interface.as_str(), NicStatistics::read(&state.interface)))
                .collect();
            series::nics(scrape.sink, &nics);
        }
    }

    fn rings(&self, table: &Table) -> Result<Option<Arc<Sample<Rings>>>, String> {
        let instance = self.instance.clone();
        let read = move || {
            let balancer = Balancer::open(&instance)?;
            // This is read before the rings: if it changes meanwhile, the rings are read again.
            Ok(Rings {
                table: balancer.running()?.into_table(),
                by_vip: balancer.running_rings()?,
                mismatches: balancer.mismatches()?,
            })
        };
        self.rings.get(|rings| rings.table != *table, read)
    }

    fn maps(&self, balancer: &Balancer) -> Result<Option<Arc<Sample<Maps>>>, String> {
        let tables = balancer.tables().map_err(|error| error.to_string())?;
        let instance = self.instance.clone();
        let read = move || {
            let balancer = Balancer::open(&instance)?;
            Ok(Maps {
                tables: balancer.tables()?,
                fill: balancer.table_status()?,
                memory: balancer.map_memory()?,
            })
        };
        self.maps.get(|maps| maps.tables != tables, read)
    }

    /// When the kernel last heard the gateways. If a gateway falls silent, the kernel forgets its MAC and this time,
    /// but packets still go to that MAC.
    fn heard(&self, interfaces: &[InterfaceState]) -> BTreeMap<String, Instant> {
        let now = Instant::now();
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let mut heard = BTreeMap::new();
        for state in interfaces {
            let at = match state.gateway {
                GatewayState::Fixed => None,
                GatewayState::Confirmed(ago) => now.checked_sub(ago),
                GatewayState::Unresolved | GatewayState::Silent(_) => {
                    let before = memory.heard.get(&state.interface);
                    before.filter(|(mac, _)| *mac == state.mac).map(|(_, at)| *at)
                }
            };
            heard.extend(at.map(|at| (state.interface.clone(), (state.mac, at))));
        }
        memory.heard.clone_from(&heard);
        heard.into_iter().map(|(interface, (_, at))| (interface, at)).collect()
    }

    fn collect_decap(&self, scrape: &mut Scrape<'_>) {
        match decap::status(&self.instance) {
            Ok(status) => {
                scrape.part::<()>("decap", Result::<_>::Ok(()));
                series::decap(scrape.sink, &status);
            }
            Err(Error::Decap(DecapError::None { .. })) => {}
            Err(error) => drop(scrape.part::<()>("decap", Err(error))),
        }
    }

    /// Logs which parts cannot be read any more, and which can be read again.
    fn report(&self, parts: &BTreeMap<&'static str, Option<String>>) {
        let failures: BTreeMap<_, _> =
            parts.iter().filter_map(|(part, error)| Some((*part, error.clone()?))).collect();
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        for (part, error) in &failures {
            if memory.failures.get(part) != Some(error) {
                tracing::warn!("metrics: cannot read the {part}: {error}");
            }
        }
        let both: BTreeSet<_> = memory.failures.keys().copied().collect();
        for part in both.into_iter().filter(|part| !failures.contains_key(part)) {
            tracing::info!("metrics: the {part} can be read again");
        }
        memory.failures = failures;
    }
}

impl prometheus::core::Collector for Collector {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut gathered = Gathered::default();
        self.write(&mut gathered);
        gathered.families
    }
}
