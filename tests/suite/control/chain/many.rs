//! Hundreds or thousands of random changes of the chains on both sides of a balanced connection.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread::ScopedJoinHandle;
use std::time::Duration;
use std::time::Instant;

use l4lb::Instance;
use l4lb::capture::Capture;
use l4lb::capture::CaptureOptions;
use l4lb::capture::CapturePoint;
use l4lb::capture::Points;
use l4lb::chain;
use l4lb::chain::InsertOptions;
use l4lb::chain::Which;

use crate::fixtures::Leaks;
use crate::fixtures::NetNs;
use crate::fixtures::Rig;
use crate::fixtures::UPLINK;
use crate::fixtures::chain_programs::Built;
use crate::fixtures::chain_programs::on_interface;
use crate::fixtures::config;
use crate::fixtures::goes_on;
use crate::fixtures::http_get;
use crate::fixtures::server;
use crate::fixtures::vip;

const VIP: &str = "tcp://10.200.1.1:80";

/// The number of changes on each side; fewer if the time is over, but some.
const MOST: usize = 5_000;
const LEAST: usize = 100;
const TIME: Duration = Duration::from_secs(60);

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

/// What is known of a chain.
struct Side<'a> {
    ns: &'a NetNs,
    instance: Instance,
    /// By name: the slot.
    programs: BTreeMap<&'a str, u32>,
    /// The one of ours, which only moves.
    own: &'a str,
}

impl Side<'_> {
    /// Does something at random, and says what.
    fn step(&mut self, random: &mut fastrand::Rng, built: &Built) -> String {
        let free: Vec<_> =
            (1..16).filter(|slot| !self.programs.values().any(|taken| taken == slot)).collect();
        let to = free[random.usize(..free.len())];
        let index = random.usize(..=NAMES.len());
        let name = NAMES.get(index).copied().unwrap_or(self.own);
        let running = self.programs.get(name).copied();
        let instance = &self.instance;
        let options = InsertOptions { name: Some(name.to_owned()), ..InsertOptions::default() };
        let which = Which::Name(name.to_owned());
        let (what, done) = match (running, random.u8(..4)) {
            (None, _) => {
                self.programs.insert(name, to);
                (
                    format!("insert {name} {to}"),
                    self.ns.run(|| chain::insert(instance, to, &built.path(), &options).map(drop)),
                )
            }
            (Some(_), 0) if name != self.own => {
                self.programs.remove(name);
                (
                    format!("remove {name}"),
                    self.ns.run(|| chain::remove(instance, &which).map(drop)),
                )
            }
            (Some(slot), 1) if name != self.own => (
                format!("replace {name} {slot}"),
                self.ns.run(|| chain::insert(instance, slot, &built.path(), &options).map(drop)),
            ),
            (Some(from), _) => {
                self.programs.insert(name, to);
                (
                    format!("move {name} {from} {to}"),
                    self.ns.run(|| chain::relocate(instance, &which, to).map(drop)),
                )
            }
        };
        done.unwrap_or_else(|error| panic!("{what}: {error}"));
        what
    }

    fn is_as_known(&self) {
        let list = chain::list(&self.instance).expect("list the chain");
        let changed = list.iter().filter(|program| program.slot != 0);
        let there: BTreeMap<_, _> =
            changed.map(|program| (program.name.as_str(), program.slot)).collect();
        assert_eq!(there, self.programs);
    }
}

/// Reads a capture of every packet until nobody works any more, and returns how many it has seen at entry and at
/// exit.
fn capture_all(rig: &Rig, works: &AtomicBool) -> [usize; 2] {
    let instance = Instance::new(rig.bpffs.path(), "default").expect("an instance");
    let mut options = CaptureOptions::default();
    options.at = Points::Both;
    rig.topology.balancer.ns.run(|| {
        let mut capture = Capture::start(&instance, &options).expect("a capture begins");
        let mut seen = [0; 2];
        while works.load(Ordering::Relaxed) {
            let batch = capture.next_batch(Duration::from_millis(100)).expect("it goes on");
            let at_exit = batch.iter().filter(|packet| packet.at == CapturePoint::Exit).count();
            seen[0] += batch.len() - at_exit;
            seen[1] += at_exit;
        }
        capture.stop().expect("it ends");
        seen
    })
}

/// Connections through the balancer and decapsulation go on, new ones are made, and no packet misses the
/// balancer, while somebody captures on both its sides. `LB_CHAIN_OPERATIONS` sets how many changes there are, however
/// long they take, `LB_TEST_SEED` which.
#[test]
fn random_changes_lose_no_connection() {
    let setting = |name| std::env::var(name).ok().and_then(|value| value.parse().ok());
    let asked = setting("LB_CHAIN_OPERATIONS").and_then(|n| usize::try_from(n).ok());
    let seed = setting("LB_TEST_SEED").unwrap_or_else(|| fastrand::u64(..));
    println!("LB_TEST_SEED={seed}");
    let rig = Rig::new(1);
    rig.lbctl().apply(&config(&vip(VIP, &["10.0.0.1"])));
    let downloads: Vec<_> = (0..4).map(|_| rig.download(VIP)).collect();
    let mut leaks = Leaks::watch(&rig);
    let built = Built::tracer("tracer", &[]);
    let side = |ns, instance: &str, own, slot| Side {
        ns,
        instance: Instance::new(rig.bpffs.path(), instance).expect("an instance"),
        programs: BTreeMap::from([(own, slot)]),
        own,
    };
    let mut sides = [
        side(&rig.topology.balancer.ns, "default", "balancer", 8),
        side(&rig.topology.reals[0].ns, "real1", "decap", 12),
    ];
    let links = sides.each_ref().map(|side| on_interface(side.ns, UPLINK).1);
    let since = Instant::now();
    let enough = |n: usize| match asked {
        Some(asked) => n > asked / 2,
        None => n > MOST || (n > LEAST && since.elapsed() > TIME),
    };
    // Both at the same time: changes of one chain do not wait for those of the other.
    let at_work = AtomicBool::new(true);
    let captured = std::thread::scope(|scope| {
        let capture = scope.spawn(|| capture_all(&rig, &at_work));
        let changes: Vec<_> = sides
            .iter_mut()
            .zip(seed..)
            .map(|(side, seed)| {
                let (built, downloads, rig) = (&built, &downloads, &rig);
                let enough = &enough;
                scope.spawn(move || {
                    let mut random = fastrand::Rng::with_seed(seed);
                    for n in (1..).take_while(|n| !enough(*n)) {
                        let what = side.step(&mut random, built);
                        if n % 50 == 0 {
                            let when = format!("beside {}, operation {n}, {what}", side.own);
                            side.is_as_known();
                            http_get(rig.client(), server(VIP), "/")
                                .unwrap_or_else(|error| panic!("{when}: {error}"));
                            for download in downloads {
                                goes_on(download, &when);
                            }
                        }
                    }
                    side.is_as_known();
                })
            })
            .collect();
        let done: Vec<_> = changes.into_iter().map(ScopedJoinHandle::join).collect();
        at_work.store(false, Ordering::Relaxed);
        let counted = capture.join();
        for change in done {
            change.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
        counted.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    assert!(captured.iter().all(|packets| *packets > 0), "captured {captured:?}");
    for download in &downloads {
        goes_on(download, "in the end");
    }
    assert_eq!(sides.each_ref().map(|side| on_interface(side.ns, UPLINK).1), links);
    assert_eq!(leaks.count(), 0, "packets for VIPs that reached the balancer's own kernel");
}
