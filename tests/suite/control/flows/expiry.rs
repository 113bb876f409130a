//! UDP flows expire after their time, and never before. The clock cannot be moved, so entries are written as if they
//! had been seen before.

use std::net::SocketAddr;
use std::time::Duration;
use std::time::Instant;

use l4lb::Balancer;
use l4lb::Instance;
use l4lb::Vip;
use l4lb::flows::FlowFilter;
use l4lb::flows::FlowState;
use libbpf_rs::MapCore;
use libbpf_rs::MapFlags;
use libbpf_rs::MapHandle;
use nix::time::ClockId;
use nix::time::clock_gettime;

use super::KINDS;
use super::apply;
use crate::fixtures::Host;
use crate::fixtures::Injector;
use crate::fixtures::inject::frame;
use crate::fixtures::vip;

const V4: &str = "udp://10.200.1.1:53";
const V6: &str = "udp://[fc00:1::1]:53";
const UNIT: u64 = 1 << 30;
/// How much the coarse clock may be late.
const LATE: u64 = 20_000_000;
/// How long a read of all flows may take.
const SLOW: u64 = 500_000_000;

pub(super) fn now() -> u64 {
    let now = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC).expect("the time"));
    u64::try_from(now.as_nanos()).expect("since the machine started")
}

fn balancer(host: &Host) -> Balancer {
    let instance = Instance::new(host.bpffs.path(), "default").expect("an instance");
    Balancer::open(&instance).expect("it runs")
}

/// The table of CPU 0 below a pin.
pub(super) fn table(host: &Host, pin: &str) -> MapHandle {
    let outer = host.bpffs.path().join("l4lb/default/map").join(pin);
    let outer = MapHandle::from_pinned_path(outer).expect("the pin");
    let id = (0..2_u32).find_map(|bank| {
        let id = outer.lookup(&(bank * 1024).to_ne_bytes(), MapFlags::ANY).expect("read it")?;
        Some(u32::from_ne_bytes(id.try_into().expect("an id")))
    });
    MapHandle::from_map_id(id.expect("a table")).expect("open it")
}

/// Writes when the one flow of a table was seen: its entry ends with that, in units or nanoseconds.
pub(super) fn see_at(table: &MapHandle, at: u64, entry: Option<usize>) {
    let mut written = 0;
    for key in table.keys() {
        let mut value = table.lookup(&key, MapFlags::ANY).expect("read").expect("a value");
        let before = value.clone();
        match entry {
            Some(size) => {
                let units = u16::try_from((at / UNIT) & 0xffff).expect("16 bits").to_ne_bytes();
                let taken = value.chunks_exact_mut(size).filter(|entry| entry[size - 7] != 0);
                taken.for_each(|entry| entry[size - 2..].copy_from_slice(&units));
            }
            None => value[8..].copy_from_slice(&at.to_ne_bytes()),
        }
        if entry.is_none() || before.iter().any(|byte| *byte != 0) {
            table.update(&key, &value, MapFlags::ANY).expect("write");
            written += 1;
        }
    }
    assert_eq!(written, 1, "one flow");
}

/// What becomes of a packet of the flow `ago` after the one before, and what the library says before.
fn after(
    host: &Host,
    uri: &str,
    kind: &str,
    ago: &(dyn Fn(u64) -> u64 + Sync),
) -> Option<(bool, FlowState)> {
    let v6 = uri == V6;
    let (pin, entry) = match (kind, v6) {
        ("lru", _) => ("connections", None),
        (_, false) => ("flows4", Some(16)),
        (_, true) => ("flows6", Some(32)),
    };
    let of: Vip = uri.parse().expect("a VIP");
    let client = if v6 { "[2001:db8::1]:5" } else { "192.0.2.1:5" };
    let client: SocketAddr = client.parse().expect("a client");
    let (injector, balancer, table) = (Injector::new(host), balancer(host), table(host, pin));
    let expired = || balancer.stats().expect("counters").event("expired");
    let frame = frame(&of, client, of.port);
    let state = || {
        let filter = FlowFilter { vip: Some(of), ..FlowFilter::default() };
        let flow = balancer.flows(&filter).expect("flows").next().expect("one");
        flow.expect("readable").state
    };
    // Only if the machine was quick: all within one unit, by the coarse clock as well.
    let quick = |then: u64, bound: u64| {
        let (later, same) = (now(), |at: u64| at / UNIT == then / UNIT);
        same(later) && same(then.saturating_sub(LATE)) && later - then < bound
    };
    injector.on(0, |send| {
        send(&frame).expect("sent");
        let (before, then) = (expired(), now());
        see_at(&table, ago(then), entry);
        send(&frame).expect("sent");
        // Of nanoseconds there are no more than the clock may be late.
        let packet = quick(then, LATE / 2).then(|| expired() != before)?;
        let (then, patience) = (now(), if kind == "lru" && !packet { SLOW } else { 0 });
        see_at(&table, ago(then).saturating_add(patience), entry);
        let state = state();
        quick(then, SLOW).then_some((packet, state))
    })
}

/// By units, to the last one; by nanoseconds, to what the clock may be late.
#[test]
fn udp_flows_expire_to_the_unit() {
    for kind in KINDS {
        for seconds in [1_u64, 2, 30, 28_800] {
            // Nanoseconds do not start over: nothing was seen before the machine started.
            if kind == "lru" && now() < (seconds + 1) * 1_000_000_000 {
                continue;
            }
            let host = Host::new();
            let vips = [V4, V6].map(|uri| vip(uri, &["10.0.0.1"])).concat();
            let keys = format!("udp_timeout_seconds = {seconds}\n");
            let small = Host::config(&format!("kind = \"{kind}\"\ncpus = [0]\n{keys}{vips}"));
            host.lbctl().apply(&small.replace("entries = 20000", "entries = 64"));
            let timeout = seconds * 1_000_000_000 + LATE;
            let units = timeout.div_ceil(UNIT);
            let is = |uri: &str, expected, ago: &(dyn Fn(u64) -> u64 + Sync)| {
                let tries = std::iter::repeat_with(|| after(&host, uri, kind, ago)).take(2000);
                let (expired, state) = tries.flatten().next().expect("a quick try");
                assert_eq!(expired, expected, "{kind} {uri} {seconds} s");
                assert_eq!(state == FlowState::Expired, expected, "{kind} {uri}: {state:?}");
            };
            for uri in [V4, V6] {
                if kind == "lru" {
                    host.lbctl().ok(&["flows", "delete", "--all"]);
                    is(uri, false, &|now| now.saturating_sub(timeout - LATE));
                    is(uri, true, &|now| now.wrapping_sub(timeout + LATE));
                } else {
                    // So many units apart may be all but one unit more than so many.
                    is(uri, false, &|now| now.wrapping_sub(units * UNIT));
                    is(uri, true, &|now| now.wrapping_sub((units + 1) * UNIT));
                }
            }
        }
    }
}

/// The shortest time there is, over several units.
#[test]
fn a_flow_that_sends_all_the_time_stays() {
    for kind in KINDS {
        let host = Host::new();
        let keys = "cpus = [0]\nudp_timeout_seconds = 1\n";
        apply(
            &host,
            kind,
            "[0]",
            &format!("{}{}", keys.replace("cpus = [0]\n", ""), vip(V4, &["10.0.0.1"])),
        );
        let of: Vip = V4.parse().expect("a VIP");
        let frame = frame(&of, "192.0.2.1:5".parse().expect("a client"), of.port);
        let longest = Injector::new(&host).on(0, |send| {
            let (start, mut last, mut longest) = (Instant::now(), Instant::now(), Duration::ZERO);
            while start.elapsed() < Duration::from_millis(3500) {
                send(&frame).expect("sent");
                longest = longest.max(last.elapsed());
                last = Instant::now();
                std::thread::sleep(Duration::from_micros(100));
            }
            longest
        });
        let expired = balancer(&host).stats().expect("counters").event("expired");
        if longest < Duration::from_secs(1) {
            assert_eq!(expired, 0, "{kind}");
        }
    }
}
