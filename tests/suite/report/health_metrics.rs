//! The metrics of reals' health, from what the maps say: whoever has found it.

use std::net::IpAddr;
use std::time::Duration;
use std::time::SystemTime;

use l4lb::Flaps;
use l4lb::Health;
use l4lb::metrics::Collector;
use libbpf_rs::MapCore as _;
use libbpf_rs::MapFlags;
use libbpf_rs::MapHandle;
use prometheus::Registry;
use prometheus::TextEncoder;

use super::health::Checked;
use super::health::VIP;
use crate::fixtures::Bpffs;
use crate::fixtures::NetNs;
use crate::fixtures::Rig;
use crate::fixtures::SOON;
use crate::fixtures::Serve;
use crate::fixtures::config;
use crate::fixtures::vip;
use crate::fixtures::wait_until;

/// What a service that embeds the collector answers.
#[track_caller]
fn page(ns: &NetNs, bpffs: &Bpffs) -> String {
    ns.run(|| {
        let instance = l4lb::Instance::new(bpffs.path(), "default").expect("a name");
        let registry = Registry::new();
        registry.register(Box::new(Collector::new(instance))).expect("registered");
        TextEncoder::new().encode_to_string(&registry.gather()).expect("text")
    })
}

/// The value of a series.
#[track_caller]
fn value(page: &str, series: &str) -> Option<f64> {
    let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
    Some(line.parse().unwrap_or_else(|error| panic!("{series} {line}: {error}")))
}

#[track_caller]
fn is(page: &str, series: &str, expected: f64) {
    let found = value(page, series);
    assert!(
        found.is_some_and(|found| (found - expected).abs() < 1e-9),
        "{series} {found:?}\n{page}"
    );
}

fn of_vip(family: &str) -> String {
    format!("{family}{{vip=\"{VIP}\"}}")
}

fn of_real(family: &str, real: &str) -> String {
    format!("{family}{{vip=\"{VIP}\",real=\"{real}\"}}")
}

#[track_caller]
fn counts(page: &str, healthy: u32, unhealthy: u32, unknown: u32) {
    for (health, count) in [("healthy", healthy), ("unhealthy", unhealthy), ("unknown", unknown)] {
        let series = format!("l4lb_vip_reals_by_health{{vip=\"{VIP}\",health=\"{health}\"}}");
        is(page, &series, count.into());
    }
}

#[test]
fn they_say_what_is_known_of_each_real() {
    const HEALTHY: &str = "l4lb_vip_real_healthy";
    let checked = Checked::new("");
    let scrape = || page(&checked.host.ns, &checked.host.bpffs);
    let first = scrape();
    is(&first, "l4lb_checked_vips", 1.0);
    is(&first, "l4lb_nobody_checks", 1.0);
    counts(&first, 0, 0, 3);
    for never in ["l4lb_last_check_timestamp_seconds ", HEALTHY, "l4lb_vip_real_health_share"] {
        assert!(!first.contains(&format!("\n{never}")), "{never}\n{first}");
    }

    let held_until = SystemTime::now() + Duration::from_secs(600);
    let held_until = held_until.duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    let flaps = Flaps { held_until: held_until.as_secs(), ..Flaps::default() };
    checked.is("10.0.0.1", Health::Healthy, "HTTP 200");
    checked.find("10.0.0.2", Health::Unhealthy, "HTTP 503", flaps);
    checked.with(|balancer| {
        let (vip, real): (_, IpAddr) = (VIP.parse().expect("a VIP"), [10, 0, 0, 3].into());
        balancer.tell_health(vip, real, Health::Unhealthy, "disk full", None).expect("recorded");
    });
    let some = scrape();
    is(&some, "l4lb_nobody_checks", 0.0);
    assert!(value(&some, "l4lb_last_check_timestamp_seconds") > Some(1.7e9), "{some}");
    counts(&some, 1, 2, 0);
    is(&some, &of_vip("l4lb_vip_fails_open"), 0.0);
    for (real, healthy) in [("10.0.0.1", 1.0), ("10.0.0.2", 0.0), ("10.0.0.3", 0.0)] {
        is(&some, &of_real(HEALTHY, real), healthy);
        is(&some, &of_real("l4lb_vip_real_health_share_ratio", real), 1.0);
        let held = value(&some, &of_real("l4lb_vip_real_held", real));
        assert_eq!(held.is_some(), real == "10.0.0.2", "{real}\n{some}");
        let told = value(&some, &of_real("l4lb_vip_real_told", real));
        assert_eq!(told.is_some(), real == "10.0.0.3", "{real}\n{some}");
    }

    // None is left.
    checked.is("10.0.0.1", Health::Unhealthy, "HTTP 503");
    let open = scrape();
    is(&open, &of_vip("l4lb_vip_fails_open"), 1.0);
    // What the operator has taken out is not counted, and its health stays known.
    checked.host.lbctl().ok(&["real", "drain", VIP, "10.0.0.2"]);
    let drained = scrape();
    counts(&drained, 0, 2, 0);
    is(&drained, &of_real(HEALTHY, "10.0.0.2"), 0.0);
    // Without its check, what it found is forgotten; what others told stays.
    checked
        .host
        .lbctl()
        .apply(&crate::fixtures::Host::config(&vip(VIP, &["10.0.0.1", "10.0.0.2", "10.0.0.3"])));
    let unchecked = scrape();
    is(&unchecked, "l4lb_checked_vips", 0.0);
    is(&unchecked, "l4lb_nobody_checks", 0.0);
}

#[test]
fn nobody_checks_after_serve_has_ended() {
    let rig = Rig::new(1);
    let check = "check = { type = \"tcp\", interval = \"500ms\", timeout = \"500ms\" }\n";
    let serve = Serve::start(rig.lbctl(), &config(&[&*vip(VIP, &["10.0.0.1"]), check].concat()));
    serve.wait_for("is healthy, was unknown", 1);
    let scrape = || page(&rig.topology.balancer.ns, &rig.bpffs);
    let checks = wait_until(SOON, || value(&scrape(), "l4lb_nobody_checks") == Some(0.0));
    assert!(checks, "{}", scrape());
    serve.stop();
    // The last result says so for half a minute. Rather than wait, make it older: the time is the record's first word.
    let map = MapHandle::from_pinned_path(rig.bpffs.path().join("l4lb/default/map/health"));
    let (map, key) = (map.expect("the records"), [u32::MAX.to_ne_bytes(), [0; 4]].concat());
    let mut record = map.lookup(&key, MapFlags::ANY).expect("read it").expect("somebody checked");
    let last = u64::from_ne_bytes(record[..8].try_into().expect("8 bytes"));
    record[..8].copy_from_slice(&(last - 60).to_ne_bytes());
    map.update(&key, &record, MapFlags::ANY).expect("write it");
    let page = scrape();
    is(&page, "l4lb_nobody_checks", 1.0);
    #[expect(clippy::cast_precision_loss, reason = "Prometheus has no other numbers")]
    is(&page, "l4lb_last_check_timestamp_seconds", (last - 60) as f64);
    // What was found stays.
    is(&page, &of_real("l4lb_vip_real_healthy", "10.0.0.1"), 1.0);
}
