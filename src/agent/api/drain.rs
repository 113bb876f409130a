//! Drains, of reals and of the node: how much is left. A client asks again and again, and the answers need what was
//! read before.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use serde::Deserialize;
use serde::Serialize;

use super::answer::Answer;
use super::answer::Refusal;
use super::health::no_conditions;
use super::request::Asked;
use crate::control::flows::DrainWatch;
use crate::control::flows::FlowsLeft;
use crate::dataplane::balancer::Balancer;
use crate::instance::Instance;
use crate::model::address::Vip;
use crate::model::config::from_json;
use crate::model::error::Error;
use crate::model::error::Result as Outcome;
use crate::plan::Plan;

/// The parameter that says how long a flow must have been silent to have ended.
pub(super) const IDLE: &str = "idle";

/// What it is, unless a client says another.
const DEFAULT_IDLE: Duration = Duration::from_secs(120);

/// How many drains are watched at a time. The one that was not asked for the longest goes first.
const MOST: usize = 64;

/// The shortest time between two readings of the rate. Those who ask meanwhile get the last one.
const BETWEEN: Duration = Duration::from_secs(1);

/// A rate over a longer time says nothing about now.
const LONGEST: Duration = Duration::from_secs(60);

type Result<T = Answer> = std::result::Result<T, Refusal>;

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What was read before.
#[derive(Debug, Default)]
pub(super) struct Drains {
    /// The one that was asked for last is the last.
    watched: Mutex<Vec<(Which, Arc<Mutex<Watched>>)>>,
    rate: Mutex<Rate>,
}

/// A drain, and what counts as its end.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Which {
    real: IpAddr,
    vips: Vec<Vip>,
    idle: Duration,
}

#[derive(Debug)]
struct Watched {
    watch: DrainWatch,
    begun: Instant,
    /// When the next reading is due, and what the last one found: however often somebody asks, readings take little time.
    last: Option<(Instant, FlowsLeft)>,
}

/// How far a drain is.
#[derive(Serialize)]
struct Progress {
    real: IpAddr,
    /// The VIPs whose flows count.
    vips: Vec<Vip>,
    /// Whether the real takes no new flows in any of these, and has no flow left.
    drained: bool,
    /// How many flows are left.
    flows: u64,
    left: FlowsLeft,
    idle_seconds: u64,
    /// How long it is watched.
    watched_seconds: u64,
}

impl Drains {
    /// The watch of a drain. One that nobody asked for long makes room.
    fn watched(&self, which: &Which) -> Arc<Mutex<Watched>> {
        let mut all = locked(&self.watched);
        let known = all.iter().position(|(known, _)| known == which).map(|at| all.remove(at));
        let (which, watched) = known.unwrap_or_else(|| {
            let Which { real, vips, idle } = which;
            let watch = DrainWatch::new(*real, vips.iter().copied(), *idle);
            let new = Watched { watch, begun: Instant::now(), last: None };
            (which.clone(), Arc::new(Mutex::new(new)))
        });
        if all.len() >= MOST {
            all.remove(0);
        }
        all.push((which, Arc::clone(&watched)));
        watched
    }
}

impl Watched {
    fn look(&mut self, instance: &Instance) -> Outcome<FlowsLeft> {
        if let Some((due, left)) = &self.last
            && Instant::now() < *due
        {
            return Ok(left.clone());
        }
        let begun = Instant::now();
        let left = self.watch.look(instance)?;
        self.last = Some((Instant::now() + DrainWatch::pause(begun.elapsed()), left.clone()));
        Ok(left)
    }
}

fn progress(drains: &Drains, instance: &Instance, asked: &Asked, vips: Vec<Vip>) -> Result {
    let idle = asked.query.read(IDLE, DrainWatch::idle)?.unwrap_or(DEFAULT_IDLE);
    let which = Which { real: asked.real()?, vips, idle };
    let watched = drains.watched(&which);
    let mut watched = locked(&watched);
    let left = watched.look(instance)?;
    Answer::json(&Progress {
        real: which.real,
        vips: which.vips,
        drained: left.none && left.taken_back.is_empty(),
        flows: left.flows(),
        left,
        idle_seconds: idle.as_secs(),
        watched_seconds: watched.begun.elapsed().as_secs(),
    })
}

/// `GET /v1/vips/…/reals/…/drain`
pub(super) fn of_real(drains: &Drains, instance: &Instance, asked: &Asked) -> Result {
    let (vip, real) = (asked.vip()?, asked.real()?);
    let table = Balancer::open(instance)?.table()?;
    let spec = table.vips.get(&vip).ok_or(Error::NoSuchVip(vip))?;
    if !spec.reals.contains_key(&real) {
        return Err(Error::NoSuchReal { vip, real }.into());
    }
    progress(drains, instance, asked, vec![vip])
}

/// `GET /v1/reals/…/drain`
pub(super) fn everywhere(drains: &Drains, instance: &Instance, asked: &Asked) -> Result {
    let real = asked.real()?;
    let table = Balancer::open(instance)?.table()?;
    let vips: Vec<Vip> = table.vips_of(real).map(|(vip, _)| vip).collect();
    if vips.is_empty() {
        return Err(Error::RealOfNoVip(real).into());
    }
    progress(drains, instance, asked, vips)
}

/// Packets that came for VIPs, read now and then.
#[derive(Debug, Default)]
struct Rate {
    /// When, and how many there were.
    last: Option<(Instant, u64)>,
    /// Packets per second between the last two readings.
    known: Option<f64>,
}

impl Rate {
    /// Adds a reading.
    fn add(&mut self, now: Instant, packets: u64) -> Option<f64> {
        if let Some((at, before)) = self.last {
            let elapsed = now.saturating_duration_since(at);
            if elapsed < BETWEEN {
                return self.known;
            }
            #[expect(
                clippy::cast_precision_loss,
                reason = "2^53 packets a minute are not to be had"
            )]
            let more = packets.saturating_sub(before) as f64;
            self.known = (elapsed <= LONGEST).then(|| more / elapsed.as_secs_f64());
        }
        self.last = Some((now, packets));
        self.known
    }
}

/// Whether the node drains, and what still comes.
#[derive(Serialize)]
struct Node {
    draining: bool,
    /// In seconds since 1970.
    draining_since: Option<u64>,
    /// Packets for VIPs so far.
    packets: u64,
    /// As the last two requests found, if they were 1 to 60 seconds apart.
    packets_per_second: Option<f64>,
}

/// `GET /v1/node`
pub(super) fn node(drains: &Drains, instance: &Instance, _: &Asked) -> Result {
    let balancer = Balancer::open(instance)?;
    let draining_since = balancer.draining_since()?;
    let packets = balancer.packets_for_vips()?;
    let packets_per_second = locked(&drains.rate).add(Instant::now(), packets);
    let draining = draining_since.is_some();
    Answer::json(&Node { draining, draining_since, packets, packets_per_second })
}

/// The body of `PATCH /v1/node`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    draining: bool,
}

/// What `PATCH /v1/node` answers.
#[derive(Serialize)]
struct Changed {
    draining: bool,
    draining_since: Option<u64>,
    was_draining: bool,
}

/// `PATCH /v1/node`
pub(super) fn change_node(instance: &Instance, asked: &Asked) -> Result<(Answer, Plan)> {
    no_conditions(asked, "the node")?;
    let Wanted { draining } = from_json(asked.object()?.into(), "node")?;
    let balancer = Balancer::open(instance)?;
    let was_draining = balancer.draining_since()?.is_some();
    let draining_since = if draining {
        Some(balancer.drain_node()?)
    } else {
        balancer.undrain_node()?;
        None
    };
    let answer = Answer::json(&Changed { draining, draining_since, was_draining })?;
    Ok((answer, Plan::default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_that_of_the_last_seconds() {
        let (mut rate, start) = (Rate::default(), Instant::now());
        let mut at =
            |millis: u64, packets| rate.add(start + Duration::from_millis(millis), packets);
        assert_eq!(at(0, 500), None);
        assert_eq!(at(500, 600), None, "too soon");
        assert_eq!(at(2000, 700), Some(100.0));
        assert_eq!(at(2500, 9000), Some(100.0), "as before");
        assert_eq!(at(4000, 600), Some(0.0), "a VIP has gone, with its packets");
        assert_eq!(at(100_000, 700), None, "too long ago");
        assert_eq!(at(101_000, 710), Some(10.0));
    }

    #[test]
    fn drains_that_nobody_asks_for_make_room() {
        let drains = Drains::default();
        let which = |number: u32| Which {
            real: std::net::Ipv4Addr::from(number).into(),
            vips: vec!["tcp://10.200.1.1:80".parse().unwrap()],
            idle: DEFAULT_IDLE,
        };
        let first = drains.watched(&which(0));
        for number in 1..1000 {
            drains.watched(&which(number));
            assert!(Arc::ptr_eq(&drains.watched(&which(0)), &first), "{number}");
        }
        assert_eq!(locked(&drains.watched).len(), MOST);
        let other = drains.watched(&Which { idle: Duration::from_secs(9), ..which(0) });
        assert!(!Arc::ptr_eq(&other, &first));
    }
}
