//! What the status page shows: [`Status`](crate::Status) without the reals, which are many, and cheap enough to be asked
//! for every second or two.

use std::collections::BTreeMap;
use std::time::Duration;
use std::time::Instant;

use serde::Serialize;

use crate::control::chain;
use crate::control::chain::SlotStatus;
use crate::dataplane::balancer::Balancer;
use crate::instance::Instance;
use crate::instance::running_captures;
use crate::instance::running_captures::RunningCapture;
use crate::instance::serving;
use crate::instance::serving::Part;
use crate::instance::serving::Server;
use crate::model::address::Vip;
use crate::model::config::RealState;
use crate::model::error::Result;
use crate::model::health::Health;
use crate::observe::flood_guard::FloodGuard;
use crate::observe::health_summary::HealthSummary;
use crate::observe::interfaces::InterfaceStatus;
use crate::observe::memory::MapsMemory;
use crate::observe::stats::Count;
use crate::observe::stats::ReasonCount;
use crate::observe::stats::Stats;
use crate::observe::stats::by_name;
use crate::observe::tables::TableStatus;
use crate::observe::vips::VipStatus;
use crate::plan::Unserved;
use crate::report::background::Background;
use crate::report::background::Pace;
use crate::report::condition::Condition;
use crate::report::readings::Readings;

/// How often the condition is judged while somebody looks: it reads all rings and connection tables. A condition that is
/// not well is judged more often.
const PACE: Pace = Pace { interval: Duration::from_secs(10), share_of_cpu: 50 };

/// A VIP in one line. Rates come from two readings.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct VipLine {
    vip: Vip,
    #[serde(flatten)]
    sent: Count,
    dropped: u64,
    new_flows: u64,
    /// How many reals it has, and how many of them take new flows.
    reals: usize,
    usable: usize,
    /// How many are up, by health.
    healthy: usize,
    unhealthy: usize,
    /// How many the operator has drained, and how many down.
    drained: usize,
    down: usize,
    check: Option<String>,
    fails_open: bool,
}

impl VipLine {
    fn new(vip: &VipStatus, stats: &Stats) -> Self {
        let of = |state| vip.reals.iter().filter(|real| real.state == state).count();
        let up = vip.reals.iter().filter(|real| real.state == RealState::Up);
        let with = |health| up.clone().filter(|real| real.health.state == health).count();
        Self {
            vip: vip.vip,
            sent: vip.sent,
            dropped: vip.dropped,
            new_flows: stats.vips.get(&vip.vip).map_or(0, |count| count.new_flows),
            reals: vip.reals.len(),
            usable: vip.usable_reals(),
            healthy: with(Health::Healthy),
            unhealthy: with(Health::Unhealthy),
            drained: of(RealState::Drain),
            down: of(RealState::Down),
            check: vip.check.clone(),
            fails_open: vip.fails_open,
        }
    }
}

/// What takes longer to read.
#[derive(Debug)]
struct Judged {
    condition: Condition,
    tables: Vec<TableStatus>,
    memory: Vec<MapsMemory>,
}

/// The same, with its age.
#[derive(Debug, Serialize)]
struct Judgement {
    condition: Condition,
    tables: Vec<TableStatus>,
    memory: Vec<MapsMemory>,
    /// How old this is. The rest of the overview is as old as the answer.
    age_seconds: f64,
}

/// What the status page shows.
#[derive(Debug, Serialize)]
pub(crate) struct Overview {
    instance: String,
    version: &'static str,
    /// When the counters were read, in milliseconds by a clock that only goes on: rates need the time in between.
    at_ms: u64,
    draining_since: Option<u64>,
    serve: Option<Server>,
    interfaces: BTreeMap<String, InterfaceStatus>,
    unserved: Vec<Unserved>,
    chain: Vec<SlotStatus>,
    captures: Vec<RunningCapture>,
    health: HealthSummary,
    vips: Vec<VipLine>,
    total: Count,
    reasons: Vec<ReasonCount>,
    #[serde(serialize_with = "by_name")]
    table: Vec<(&'static str, u64)>,
    flood_guards: Vec<FloodGuard>,
    /// `None`: not read yet.
    judgement: Option<Judgement>,
}

/// Makes overviews of an instance. It may come and go.
#[derive(Debug)]
pub(crate) struct Overviews {
    instance: Instance,
    started: Instant,
    judged: Background<Judged>,
}

impl Overviews {
    pub(crate) fn new(instance: Instance) -> Self {
        Self { instance, started: Instant::now(), judged: Background::new(PACE) }
    }

    /// Reads one, and the VIPs that it is about with their reals. It asks no gateway.
    pub(crate) fn read(&self) -> Result<(Overview, Vec<VipStatus>)> {
        let balancer = Balancer::open(&self.instance)?;
        let stats = balancer.stats()?;
        let at = self.started.elapsed();
        let vips = balancer.vips_with(&stats)?;
        let interfaces = balancer
            .observed()?
            .into_iter()
            .map(|(config, state)| (state.interface.clone(), InterfaceStatus::new(config, &state)));
        let overview = Overview {
            instance: self.instance.name().to_owned(),
            version: env!("CARGO_PKG_VERSION"),
            at_ms: u64::try_from(at.as_millis()).unwrap_or(u64::MAX),
            draining_since: balancer.draining_since()?,
            serve: serving::server(&self.instance, &Part::Balancer)?,
            interfaces: interfaces.collect(),
            unserved: balancer.unserved()?,
            chain: chain::list(&self.instance)?,
            captures: running_captures::running(&self.instance),
            health: HealthSummary::new(&vips, balancer.last_check()?),
            vips: vips.iter().map(|vip| VipLine::new(vip, &stats)).collect(),
            total: stats.total,
            reasons: stats.reasons,
            table: stats.table,
            flood_guards: balancer.flood_guards()?,
            judgement: self.judgement(),
        };
        Ok((overview, vips))
    }

    /// The last judgement. What fails shows in the rest of the overview as well, or the next time.
    fn judgement(&self) -> Option<Judgement> {
        let instance = self.instance.clone();
        let read = move || {
            let balancer = Balancer::open(&instance)?;
            let readings = Readings::take(&balancer)?;
            let condition = Condition::judge(&balancer, &readings)?;
            Ok(Judged { condition, tables: readings.tables, memory: readings.memory })
        };
        let sample = self.judged.get(|judged| !judged.condition.well, read);
        let sample = sample
            .inspect_err(|error| {
                tracing::debug!("status page: cannot judge the condition: {error}");
            })
            .ok()??;
        let Judged { condition, tables, memory } = &sample.value;
        Some(Judgement {
            condition: condition.clone(),
            tables: tables.clone(),
            memory: memory.clone(),
            age_seconds: sample.age().as_secs_f64(),
        })
    }
}
