//! How many flows a real has left: what a drain waits for.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::collections::HashSet;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use serde::Serialize;

use super::read::Place;
use super::read::Source;
use crate::dataplane::View;
use crate::dataplane::ViewVip;
use crate::dataplane::balancer::Balancer;
use crate::dataplane::balancer::running_knobs;
use crate::dataplane::tables;
use crate::instance::Instance;
use crate::kernel::bpf;
use crate::model::abi;
use crate::model::abi::consts;
use crate::model::address::Vip;
use crate::model::config::RealState;
use crate::model::config::Routing;
use crate::model::error::Error;
use crate::model::error::Result;
use crate::model::silence::Silence;
use crate::plan::diff::Running;

/// How often a reading begins anew because another command replaced the tables.
const ATTEMPTS: u32 = 5;

/// The flows that a real has left in some VIPs.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct FlowsLeft {
    /// Flows that had a packet lately, as far as the tables tell.
    pub active: u64,
    /// Flows that seem to have ended. They count until it is certain that they had no packet for long enough.
    pub unsure: u64,
    /// Both, by VIP.
    #[serde(serialize_with = "as_list")]
    pub vips: BTreeMap<Vip, u64>,
    /// VIPs in which the real takes new flows: somebody took the drain back.
    pub taken_back: Vec<Vip>,
    /// Whether QUIC packets may name the real by a server id. Tables do not have such connections.
    pub server_ids: bool,
    /// Whether no flow is left: two readings in a row found none.
    pub none: bool,
}

fn as_list<S: serde::Serializer>(
    vips: &BTreeMap<Vip, u64>,
    serializer: S,
) -> std::result::Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct OfVip {
        vip: Vip,
        flows: u64,
    }
    serializer.collect_seq(vips.iter().map(|(vip, flows)| OfVip { vip: *vip, flows: *flows }))
}

impl FlowsLeft {
    /// All flows that count.
    pub fn flows(&self) -> u64 {
        self.active + self.unsure
    }
}

/// Watches the flows of a real that is drained. Tables do not tell that a TCP connection has ended, so a flow counts
/// until it had no packet for a time that the caller chooses. Flows that expired, and those of reals that are gone or
/// down, do not count.
///
/// ```no_run
/// use std::time::Duration;
/// use l4lb::Instance;
/// use l4lb::flows::DrainWatch;
///
/// let vip = "tcp://10.200.1.1:80".parse()?;
/// let mut watch = DrainWatch::new([10, 0, 3, 1].into(), [vip], Duration::from_secs(120));
/// while !watch.look(&Instance::default())?.none {
///     std::thread::sleep(Duration::from_secs(5));
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct DrainWatch {
    real: IpAddr,
    vips: HashSet<Vip>,
    /// In nanoseconds.
    idle: u64,
    /// By the CPU of a table; `None`: the shared table.
    silences: HashMap<Option<u32>, Silence>,
    /// Of all CPUs together, for what no table has.
    of_all: Silence,
    /// Whether the last reading found no flow.
    was_none: bool,
}

/// One reading of what the flows are judged by.
struct Judge<'a> {
    view: View,
    /// The real's id, and the watched VIPs by serial: most entries are of others.
    id: u32,
    serials: HashMap<u32, Vip>,
    silences: &'a HashMap<Option<u32>, Silence>,
    idle: u64,
    /// When the readings began that the silences have last.
    at: u64,
}

/// How long a flow may have to be silent to have ended.
const IDLES: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(12 * 3600);

/// The shortest time between two readings.
const BETWEEN: Duration = Duration::from_secs(1);

/// Readings take at most 1/`PARTS` of the time.
const PARTS: u32 = 20;

impl DrainWatch {
    /// How long a flow must be silent to have ended, from text: 1 second to 12 hours.
    pub fn idle(text: &str) -> std::result::Result<Duration, &'static str> {
        let time = humantime::parse_duration(text).ok().filter(|time| IDLES.contains(time));
        time.ok_or("write it like 90s or 15m; 1s to 12h")
    }

    /// How long to wait after a reading that took so long.
    pub fn pause(took: Duration) -> Duration {
        BETWEEN.max(took * (PARTS - 1))
    }

    /// Watches a real in these VIPs. Flows that had no packet for as long as `idle` have ended.
    pub fn new(real: IpAddr, vips: impl IntoIterator<Item = Vip>, idle: Duration) -> Self {
        Self {
            real,
            vips: vips.into_iter().collect(),
            idle: u64::try_from(idle.as_nanos()).unwrap_or(u64::MAX),
            silences: HashMap::new(),
            of_all: Silence::default(),
            was_none: false,
        }
    }

    /// Counts the flows that are left. It reads all of the tables, and takes no lock.
    ///
    /// # Errors
    ///
    /// The instance does not run, or its maps cannot be read.
    pub fn look(&mut self, instance: &Instance) -> Result<FlowsLeft> {
        for _ in 1..ATTEMPTS {
            match self.look_once(&Balancer::open(instance)?) {
                Err(Error::TablesReplaced) => {}
                left => return left,
            }
        }
        self.look_once(&Balancer::open(instance)?)
    }

    fn look_once(&mut self, balancer: &Balancer) -> Result<FlowsLeft> {
        let dataplane = &balancer.dataplane;
        let at = bpf::monotonic_ns()?;
        let running = dataplane.read_table(balancer.next_serial()?)?;
        let mut left = FlowsLeft::default();
        let mut serials = HashMap::new();
        let mut elsewhere = false;
        for (vip, of_vip) in &running.vips {
            let Some(spec) = of_vip.spec.reals.get(&self.real) else { continue };
            if !self.vips.contains(vip) {
                elsewhere |= spec.state != RealState::Down;
                continue;
            }
            match spec.state {
                RealState::Up => left.taken_back.push(*vip),
                RealState::Drain => drop(serials.insert(of_vip.serial, *vip)),
                RealState::Down => {}
            }
        }
        left.server_ids = self.has_server_id(&running);
        if let Some(id) = running.live_ids().get(&self.real).copied() {
            let tables = balancer.tables()?;
            let sources = Source::all(dataplane, &tables)?;
            self.read_counters(balancer, id, &sources)?;
            let judge = Judge {
                view: View::new(running, running_knobs(balancer.instance())?.as_ref()),
                id,
                serials,
                silences: &self.silences,
                idle: self.idle,
                at,
            };
            for source in &sources {
                let mut place = Place::new(source.open(dataplane)?);
                let mut read = Vec::new();
                while place.read(&mut read)? {
                    judge.count(source, &read, &mut left)?;
                    read.clear();
                }
            }
        }
        // If other VIPs send packets to the real, its counter does not tell whether these connections have ended.
        let may_have_quic =
            left.server_ids && !elsewhere && at.saturating_sub(self.of_all.since(None)) < self.idle;
        let none = left.flows() == 0 && !may_have_quic;
        left.none = none && self.was_none;
        self.was_none = none;
        Ok(left)
    }

    fn has_server_id(&self, running: &Running) -> bool {
        let follows = |vip: &Vip| {
            let of_vip = running.vips.get(vip);
            of_vip.is_some_and(|vip| vip.spec.routing.contains(&Routing::QuicConnectionId))
        };
        self.vips.iter().any(follows)
            && running
                .live_ids()
                .get(&self.real)
                .is_some_and(|id| running.server_ids.values().any(|real| real == id))
    }

    fn read_counters(&mut self, balancer: &Balancer, id: u32, sources: &[Source]) -> Result<()> {
        let states = balancer.dataplane.cpu_states.get(0)?;
        let counters = balancer.dataplane.counters_of(id)?;
        let packets = balancer.dataplane.real_counters.packets_of_cpus(&counters)?;
        let done = bpf::monotonic_ns()?;
        let all = packets.iter().sum();
        self.of_all.add(done, 0, all, self.idle);
        for source in sources {
            let of_cpu = source.cpu.and_then(|cpu| usize::try_from(cpu).ok());
            let clock = of_cpu
                .and_then(|cpu| states.get(cpu))
                .map_or(0, |state: &abi::cpu_state| state.now);
            // Several CPUs use the shared table.
            let packets = of_cpu.map_or(all, |cpu| packets.get(cpu).copied().unwrap_or(all));
            let silence = self.silences.entry(source.cpu).or_default();
            silence.add(done, clock >> consts::SEEN_SHIFT, packets, self.idle);
        }
        Ok(())
    }
}

impl Judge<'_> {
    fn count(&self, source: &Source, read: &[tables::Flow], left: &mut FlowsLeft) -> Result<()> {
        let now = bpf::monotonic_ns()?;
        for raw in read.iter().filter(|raw| raw.real == self.id) {
            let Some(vip) = self.serials.get(&raw.key.vip) else { continue };
            if !self.view.is_live(raw, now) {
                continue;
            }
            let Some(active) = self.is_active(source, raw) else { continue };
            *(if active { &mut left.active } else { &mut left.unsure }) += 1;
            *left.vips.entry(*vip).or_default() += 1;
        }
        Ok(())
    }

    /// Whether a flow seems to be in use; `None`: it has ended for certain.
    fn is_active(&self, source: &Source, raw: &tables::Flow) -> Option<bool> {
        let in_use = |since: u64| self.at.saturating_sub(since) < self.idle;
        let seen = raw.units.map(|_| raw.seen_units());
        // The end of the unit: the packet came no later.
        let told = seen.map_or(raw.last_seen, |seen| (seen + 1) << consts::SEEN_SHIFT);
        let udp = self.view.vip_of(raw).is_some_and(ViewVip::is_udp);
        if udp {
            return in_use(told).then_some(true);
        }
        let silence = self.silences.get(&source.cpu)?;
        if !in_use(silence.since(seen)) {
            return None;
        }
        Some(seen.is_none_or(|seen| silence.is_now(seen) || in_use(told)))
    }
}
