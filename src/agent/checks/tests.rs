//! The engine with checks that a test answers, and a clock that runs ahead.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;
use tokio::time::sleep;

use super::engine::Checks;
use super::engine::Run;
use super::engine::Sink;
use super::job::Target;
use crate::control::health::HealthResult;
use crate::model::config::CheckConfig;
use crate::model::config::CheckKind;
use crate::model::config::HealthPolicy;
use crate::model::config::Via;
use crate::model::error::Error;
use crate::model::error::Result;
use crate::model::health::Health;
use crate::probe::Class;
use crate::probe::Outcome;
use crate::probe::Prepared;
use crate::probe::Probe;
use crate::probe::Report;

/// Servers that do as a test says, and what was seen of the checks.
#[derive(Default)]
struct World {
    /// The reals that fail, and how.
    failing: Mutex<BTreeMap<IpAddr, Class>>,
    /// When which real was checked.
    starts: Mutex<Vec<(Instant, IpAddr)>>,
    running: Mutex<BTreeMap<IpAddr, usize>>,
    most_at_a_time: AtomicUsize,
    /// How often one real was checked while it was being checked.
    overlaps: AtomicUsize,
    /// How long a check takes.
    takes: Mutex<Duration>,
    batches: Mutex<Vec<Vec<HealthResult>>>,
    notes: AtomicUsize,
    /// Whether nothing can be recorded.
    locked: std::sync::atomic::AtomicBool,
}

impl World {
    async fn answer(&self, real: IpAddr) -> Report {
        self.starts.lock().unwrap().push((Instant::now(), real));
        let before = {
            let mut running = self.running.lock().unwrap();
            let one = running.entry(real).or_default();
            *one += 1;
            let before = *one - 1;
            self.most_at_a_time.fetch_max(running.values().sum(), Ordering::Relaxed);
            before
        };
        self.overlaps.fetch_add(before, Ordering::Relaxed);
        let takes = *self.takes.lock().unwrap();
        sleep(takes).await;
        *self.running.lock().unwrap().get_mut(&real).unwrap() -= 1;
        let mut report = Report::local("no route");
        match self.failing.lock().unwrap().get(&real) {
            Some(Class::Local) => {}
            Some(class) => {
                report.outcome = Outcome::Unhealthy;
                report.class = *class;
                class.name().clone_into(&mut report.reason);
            }
            None => {
                report.outcome = Outcome::HEALTHY;
                report.class = Class::Ok;
                "fine".clone_into(&mut report.reason);
            }
        }
        report
    }

    fn fail(&self, class: Class, reals: impl IntoIterator<Item = IpAddr>) {
        self.failing.lock().unwrap().extend(reals.into_iter().map(|real| (real, class)));
    }

    fn batches(&self) -> Vec<Vec<HealthResult>> {
        std::mem::take(&mut self.batches.lock().unwrap())
    }

    fn starts(&self) -> Vec<(Instant, IpAddr)> {
        std::mem::take(&mut self.starts.lock().unwrap())
    }
}

impl Sink for World {
    fn record(&self, results: &[HealthResult]) -> Result<()> {
        if self.locked.load(Ordering::Relaxed) {
            return Err(Error::NoSuchVip(results[0].vip));
        }
        self.batches.lock().unwrap().push(results.to_vec());
        Ok(())
    }

    fn note_checking(&self) -> Result<()> {
        self.notes.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// Time as the runtime has it, since some day.
fn clock() -> Duration {
    use std::sync::OnceLock;
    static START: OnceLock<std::time::Instant> = OnceLock::new();
    let start = *START.get_or_init(|| Instant::now().into_std());
    Duration::from_secs(1_800_000_000) + Instant::now().into_std().saturating_duration_since(start)
}

fn start(world: &Arc<World>, at_most: usize) -> Checks {
    *world.takes.lock().unwrap() = Duration::from_millis(10);
    let answering = Arc::clone(world);
    let run: Run = Arc::new(move |probe: Arc<Probe>| {
        let world = Arc::clone(&answering);
        Box::pin(async move { world.answer(probe.real).await })
    });
    Checks::start_by(Arc::clone(world) as Arc<dyn Sink>, at_most, run, clock).unwrap()
}

fn real(number: usize) -> IpAddr {
    [10, 0, u8::try_from(number / 256).unwrap(), u8::try_from(number % 256).unwrap()].into()
}

fn check(change: impl FnOnce(&mut CheckConfig)) -> Arc<Prepared> {
    let mut config = CheckConfig::new(CheckKind::Tcp);
    config.interval = Some(Duration::from_secs(1));
    config.via = Some(Via::Direct);
    change(&mut config);
    Arc::new(Prepared::new(&config).unwrap())
}

fn targets(vip: &str, number: usize, check: &Arc<Prepared>) -> Vec<Target> {
    let policy = HealthPolicy::default();
    (0..number).map(|n| Target::new(vip.parse().unwrap(), real(n), check, &policy)).collect()
}

const VIP: &str = "tcp://10.200.1.1:80";

async fn seconds(seconds: u64) {
    sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn starts_are_spread_and_none_meets_itself() {
    let world = Arc::new(World::default());
    let checks = start(&world, 1000);
    checks.set_targets(targets(VIP, 500, &check(|_| {}))).await;
    seconds(20).await;
    let starts = world.starts();
    let mut by_real = BTreeMap::<_, Vec<_>>::new();
    let mut by_time = BTreeMap::<_, usize>::new();
    let begin = starts[0].0;
    for (at, real) in starts {
        by_real.entry(real).or_default().push(at);
        *by_time.entry((at - begin).as_millis() / 100).or_default() += 1;
    }
    assert_eq!(by_real.len(), 500);
    for times in by_real.values() {
        assert!((19..=23).contains(&times.len()), "{} starts", times.len());
        for pair in times.windows(2) {
            let gap = (pair[1] - pair[0]).as_millis();
            assert!((899..=1011).contains(&gap), "{gap} ms");
        }
    }
    // 50 are to be expected in each tenth of a second. With this many, chance alone hardly ever makes it 100.
    assert!(by_time.values().all(|number| *number < 100), "{by_time:?}");
    assert_eq!(world.overlaps.load(Ordering::Relaxed), 0);
    assert_eq!(checks.metrics().starts().1, 0, "none is late");
    // The first results are written together, in as many batches as there are ticks; then nothing is.
    let batches = world.batches();
    assert_eq!(batches.iter().map(Vec::len).sum::<usize>(), 500);
    assert!(batches.len() <= 12, "{} batches", batches.len());
    seconds(10).await;
    assert_eq!(world.batches().len(), 0);
    let notes = world.notes.load(Ordering::Relaxed);
    assert!((25..=31).contains(&notes), "{notes} notes in 30 s");
}

#[tokio::test(start_paused = true)]
async fn no_more_run_at_a_time_than_asked_for() {
    let world = Arc::new(World::default());
    let checks = start(&world, 10);
    *world.takes.lock().unwrap() = Duration::from_millis(500);
    checks.set_targets(targets(VIP, 100, &check(|_| {}))).await;
    seconds(20).await;
    assert_eq!(world.most_at_a_time.load(Ordering::Relaxed), 10);
    let (starts, late) = checks.metrics().starts();
    // 10 at a time, half a second each.
    assert!((380..=410).contains(&starts), "{starts}");
    assert!(late > 200, "{late}");
    // Nobody is left out.
    let mut checked: Vec<_> = world.starts().into_iter().map(|(_, real)| real).collect();
    checked.sort_unstable();
    checked.dedup();
    assert_eq!(checked.len(), 100);
    checks.set_limit(200).await;
    seconds(5).await;
    assert!(world.most_at_a_time.load(Ordering::Relaxed) > 40);
}

#[tokio::test(start_paused = true)]
async fn equal_checks_run_once_for_all_vips() {
    let world = Arc::new(World::default());
    let checks = start(&world, 100);
    let (one, other) = (check(|_| {}), check(|check| check.fall = Some(1)));
    let mut all = targets(VIP, 4, &one);
    all.extend(targets("tcp://10.200.1.2:80", 4, &other));
    // Another port is another check.
    all.extend(targets("tcp://10.200.1.2:81", 4, &one));
    // Packets through the tunnel go to the VIP.
    let tunnel = check(|check| check.via = Some(Via::Tunnel));
    all.extend(targets("tcp://10.200.1.3:80", 4, &tunnel));
    all.extend(targets("tcp://10.200.1.4:80", 4, &tunnel));
    checks.set_targets(all).await;
    seconds(10).await;
    let starts = world.starts().len();
    assert!((4 * 4 * 10..=4 * 4 * 12).contains(&starts), "{starts}");
    let recorded: usize = world.batches().iter().map(Vec::len).sum();
    assert_eq!(recorded, 20);
    // The VIPs judge for themselves.
    world.fail(Class::Refused, [real(0)]);
    seconds(10).await;
    let failed: Vec<_> = world.batches().concat();
    let checks_of = |vip: &str| {
        let mut of = failed.iter().filter(|result| result.vip == vip.parse().unwrap());
        let checks = of.next().map(|result| (result.real, result.health, result.checks));
        assert!(of.next().is_none());
        checks
    };
    assert_eq!(checks_of(VIP), Some((real(0), Health::Unhealthy, 3)));
    assert_eq!(checks_of("tcp://10.200.1.2:80"), Some((real(0), Health::Unhealthy, 1)));
}

#[tokio::test(start_paused = true)]
async fn many_that_fail_together_are_written_together_and_nothing_is_lost() {
    let world = Arc::new(World::default());
    let checks = start(&world, 1000);
    checks.set_targets(targets(VIP, 400, &check(|_| {}))).await;
    seconds(5).await;
    world.batches();
    world.locked.store(true, Ordering::Relaxed);
    world.fail(Class::Status, (0..400).map(real));
    seconds(10).await;
    assert!(world.batches().is_empty());
    world.locked.store(false, Ordering::Relaxed);
    seconds(2).await;
    let batches = world.batches();
    assert_eq!(batches.len(), 1);
    assert_eq!(batches[0].len(), 400);
    assert!(batches[0].iter().all(|result| {
        (result.health, &*result.reason, result.checks) == (Health::Unhealthy, "status", 3)
    }));
    // A reason that changes is written as well.
    world.fail(Class::Refused, [real(7)]);
    seconds(3).await;
    let batches = world.batches();
    assert_eq!(batches.len(), 1);
    assert_eq!((batches[0][0].real, &*batches[0][0].reason), (real(7), "refused"));
}

#[tokio::test(start_paused = true)]
async fn a_host_that_cannot_send_makes_nobody_unhealthy() {
    let world = Arc::new(World::default());
    let checks = start(&world, 1000);
    checks.set_targets(targets(VIP, 10, &check(|_| {}))).await;
    seconds(5).await;
    world.batches();
    world.fail(Class::Local, (0..10).map(real));
    seconds(2).await;
    let notes = world.notes.load(Ordering::Relaxed);
    seconds(20).await;
    assert!(world.batches().is_empty());
    assert_eq!(world.notes.load(Ordering::Relaxed), notes, "nobody checks, and says so");
    assert!(checks.metrics().results(CheckKind::Tcp, Class::Local) > 150);
}

#[tokio::test(start_paused = true)]
async fn targets_come_and_go_while_their_checks_run() {
    let world = Arc::new(World::default());
    let checks = start(&world, 1000);
    *world.takes.lock().unwrap() = Duration::from_millis(700);
    let check = check(|_| {});
    for _ in 0..20 {
        checks.set_targets(targets(VIP, 50, &check)).await;
        sleep(Duration::from_millis(530)).await;
        checks.set_targets(targets(VIP, 10, &check)).await;
        sleep(Duration::from_millis(90)).await;
    }
    assert_eq!(world.overlaps.load(Ordering::Relaxed), 0);
    // Those that the operator has down are not checked, and what is known of them stays.
    let mut paused = targets(VIP, 10, &check);
    for target in &mut paused {
        target.paused = true;
    }
    checks.set_targets(paused).await;
    seconds(1).await;
    world.starts();
    seconds(10).await;
    assert!(world.starts().is_empty());
    checks.set_targets(targets(VIP, 10, &check)).await;
    seconds(3).await;
    let starts = world.starts().len();
    assert!((20..=40).contains(&starts), "{starts}");
    checks.set_targets(Vec::new()).await;
    seconds(1).await;
    world.starts();
    seconds(5).await;
    assert!(world.starts().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_others_told_stays_and_then_the_checks_count_again() {
    let world = Arc::new(World::default());
    let checks = start(&world, 1000);
    let check = check(|_| {});
    let mut told = targets(VIP, 1, &check);
    told[0].recorded.told = true;
    told[0].recorded.state = Health::Unhealthy;
    checks.set_targets(told).await;
    seconds(5).await;
    assert!(world.batches().is_empty());
    // It is over: the record says that nothing is known.
    checks.set_targets(targets(VIP, 1, &check)).await;
    seconds(1).await;
    let batches = world.batches();
    assert_eq!(batches.len(), 1);
    assert_eq!(batches[0][0].health, Health::Healthy);
}
