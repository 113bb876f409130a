//! The metrics agree with the kernel: counters, rings, tables, interfaces.
#![expect(
    clippy::float_cmp,
    clippy::cast_precision_loss,
    reason = "Prometheus has no other numbers"
)]

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::os::fd::AsRawFd;
use std::os::fd::FromRawFd;
use std::os::fd::OwnedFd;
use std::time::Duration;

use l4lb::metrics::Kind;
use l4lb::metrics::families;
use serde_json::Value;

use crate::fixtures::Host;
use crate::fixtures::METRICS;
use crate::fixtures::NetNs;
use crate::fixtures::Rig;
use crate::fixtures::Serve;
use crate::fixtures::Topology;
use crate::fixtures::config;
use crate::fixtures::get;
use crate::fixtures::http_get;
use crate::fixtures::json;
use crate::fixtures::server;
use crate::fixtures::udp_ask;
use crate::fixtures::vip;
use crate::fixtures::wait_until;

const VIP: &str = "tcp://10.200.1.1:80";
const OTHER_VIP: &str = "tcp://10.200.1.2:80";
const INFO: &str = "l4lb_build_info{version=\"0.1.0\"}";

/// Readings are shared for a second, samples of rings and tables follow at the next scrape.
const SOON: Duration = Duration::from_secs(15);

/// The samples of a scrape: name and labels → value.
type Samples = BTreeMap<String, f64>;

/// Scrapes.
#[track_caller]
pub(crate) fn scrape(ns: &NetNs) -> Samples {
    let (status, text) = get(ns, METRICS, "/metrics").expect("the endpoint answers");
    assert_eq!(status, 200, "{text}");
    let sample = |line: &str| {
        let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line}"));
        (name.to_owned(), value.parse().unwrap_or_else(|e| panic!("{line}: {e}")))
    };
    text.lines().filter(|line| !line.starts_with('#')).map(sample).collect()
}

/// Scrapes until it shows what it should.
#[track_caller]
fn shows(ns: &NetNs, what: &str, mut should: impl FnMut(&Samples) -> bool) -> Samples {
    let mut samples = Samples::new();
    let shown = wait_until(SOON, || {
        samples = scrape(ns);
        should(&samples)
    });
    assert!(shown, "{what}: {samples:#?}");
    samples
}

/// A scrape that has what is read in the background, too: on a busy machine that takes longer than the first one
/// waits.
#[track_caller]
fn complete(ns: &NetNs) -> Samples {
    let ages = ["l4lb_ring_sample_age_seconds", "l4lb_table_sample_age_seconds"];
    shows(ns, "samples", |samples| ages.iter().all(|age| samples.contains_key(*age)))
}

/// The metric that a sample is of.
fn name(sample: &str) -> &str {
    sample.split('{').next().unwrap_or_default()
}

/// The metric that a part of a histogram is of.
fn family(name: &str) -> &str {
    let of_part = ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(part));
    of_part.filter(|family| HISTOGRAMS.contains(family)).unwrap_or(name)
}

/// The samples of a metric.
fn of(samples: &Samples, family: &str) -> Samples {
    let of = samples.iter().filter(|(sample, _)| name(sample) == family);
    of.map(|(sample, value)| (sample.clone(), *value)).collect()
}

/// The metrics of `lbctl serve` itself.
pub(crate) const OF_SERVE: [&str; 5] = [
    "l4lb_config_in_sync",
    "l4lb_map_repairs_total",
    "l4lb_notify_lost_total",
    "l4lb_reload_success",
    "l4lb_reload_success_timestamp_seconds",
];

/// The metrics of the checks that `lbctl serve` runs. They are there once there is something to check.
pub(crate) const OF_CHECKS: [&str; 10] = [
    "l4lb_check_certificate_days",
    "l4lb_check_duration_seconds",
    "l4lb_check_jobs",
    "l4lb_check_lateness_seconds",
    "l4lb_check_result_age_seconds",
    "l4lb_check_targets",
    "l4lb_checks_late_total",
    "l4lb_checks_running",
    "l4lb_checks_total",
    "l4lb_health_changes_total",
];

/// Those of them that are histograms.
pub(crate) const HISTOGRAMS: [&str; 2] =
    ["l4lb_check_duration_seconds", "l4lb_check_lateness_seconds"];

/// The metrics of reals' health. They are there once a VIP has a check, or somebody has told how a real does.
pub(crate) const OF_HEALTH: [&str; 7] = [
    "l4lb_last_check_timestamp_seconds",
    "l4lb_vip_fails_open",
    "l4lb_vip_real_health_share_ratio",
    "l4lb_vip_real_healthy",
    HELD,
    "l4lb_vip_real_told",
    "l4lb_vip_reals_by_health",
];

/// The metric of reals that fail too often.
const HELD: &str = "l4lb_vip_real_held";

/// The metric of reals that get their packets by their own MACs: `control::ways` has some.
const MAC_KNOWN: &str = "l4lb_real_mac_known";

/// What `lbctl stats` shows, and `lbctl status` of the flood guards, as the samples of a scrape.
#[track_caller]
fn samples_of(stats: &Value, guards: &Value) -> Samples {
    let mut samples = Samples::new();
    let mut add = |name: String, value: &Value| {
        samples.insert(name, value.as_f64().expect("a number"));
    };
    for reason in stats["reasons"].as_array().expect("reasons") {
        let text = |key: &str| reason[key].as_str().expect("a name");
        let labels = format!("{{reason=\"{}\",verdict=\"{}\"}}", text("reason"), text("verdict"));
        add(format!("l4lb_packets_total{labels}"), &reason["packets"]);
        add(format!("l4lb_bytes_total{labels}"), &reason["bytes"]);
    }
    for cpu in stats["cpus"].as_array().expect("cpus") {
        add(format!("l4lb_cpu_packets_total{{cpu=\"{}\"}}", cpu["cpu"]), &cpu["packets"]);
        add(format!("l4lb_cpu_bytes_total{{cpu=\"{}\"}}", cpu["cpu"]), &cpu["bytes"]);
    }
    for (name, count) in stats["table"].as_object().expect("events") {
        add(format!("l4lb_table_events_total{{event=\"{name}\"}}"), count);
    }
    for (result, count) in stats["healthcheck"].as_object().expect("results") {
        let name = format!("l4lb_healthcheck_packets_total{{result=\"{result}\"}}");
        add(name, &count["packets"]);
    }
    for (vip, count) in stats["vips"].as_object().expect("vips") {
        for (family, key) in [
            ("packets", "packets"),
            ("bytes", "bytes"),
            ("dropped_packets", "dropped"),
            ("new_flows", "new_flows"),
        ] {
            add(format!("l4lb_vip_{family}_total{{vip=\"{vip}\"}}"), &count[key]);
        }
    }
    for (real, count) in stats["reals"].as_object().expect("reals") {
        for key in ["packets", "bytes"] {
            add(format!("l4lb_real_{key}_total{{real=\"{real}\"}}"), &count[key]);
        }
    }
    for guard in guards.as_array().expect("flood guards") {
        let cpu = &guard["cpu"];
        add(format!("l4lb_flood_guard_flows_total{{cpu=\"{cpu}\"}}"), &guard["not_remembered"]);
    }
    samples
}

#[test]
fn counters_are_those_of_the_packet_path() {
    const OF_VIP: &str = "l4lb_vip_packets_total{vip=\"tcp://10.200.1.1:80\"}";
    let rig = Rig::new(1);
    let ns = &rig.topology.balancer.ns;
    let lbctl = rig.lbctl();
    let config = config(&vip(VIP, &["10.0.0.1"]));
    let serve = Serve::start(rig.lbctl(), &config);

    assert_eq!(scrape(ns)[OF_VIP], 0.0);
    http_get(rig.client(), server(VIP), "/").expect("the VIP answers");
    // Connecting, asking, closing: four packets and more.
    shows(ns, "packets", |samples| samples[OF_VIP] >= 4.0);
    // Both show the same, as soon as nothing comes between, such as a neighbour's question.
    let counters = families().iter().filter(|family| family.kind == Kind::Counter);
    let counters: BTreeSet<_> = counters.map(|family| family.name).collect();
    let mut told = Samples::new();
    let same = wait_until(SOON, || {
        std::thread::sleep(Duration::from_secs(1));
        let mut scraped = scrape(ns);
        scraped.retain(|sample, _| counters.contains(name(sample)));
        let status = json(&lbctl.ok(&["status", "--json"]));
        scraped.retain(|sample, _| !name(sample).starts_with("l4lb_chain"));
        told = samples_of(&json(&lbctl.ok(&["stats", "--json"])), &status["flood_guards"]);
        scraped == told
    });
    assert!(same, "{:#?}\nis not\n{told:#?}", scrape(ns));

    // Nothing of an instance that does not run; and then the new one's counters, not those of the old maps.
    lbctl.ok(&["down"]);
    let nothing = BTreeMap::from([(INFO.to_owned(), 1.0), ("l4lb_running".to_owned(), 0.0)]);
    shows(ns, "down", |samples| {
        let mut samples = samples.clone();
        samples.retain(|sample, _| !OF_SERVE.contains(&name(sample)));
        samples == nothing
    });
    lbctl.apply(&config);
    shows(ns, "up again", |samples| samples.get(OF_VIP) == Some(&0.0));
    http_get(rig.client(), server(VIP), "/").expect("the VIP answers");
    shows(ns, "packets again", |samples| samples[OF_VIP] >= 4.0);
    // And it is the new instance's gateway that is followed.
    rig.topology.router.shell(
        "echo 1 >/proc/sys/net/ipv4/conf/to-balancer/arp_notify
         ip link set to-balancer address 02:00:00:00:fe:33",
    );
    serve.follows_to("02:00:00:00:fe:33", SOON);
    serve.stop();
}

#[test]
fn series_go_with_their_vip_and_real() {
    let rig = Rig::new(2);
    let ns = &rig.topology.balancer.ns;
    let lbctl = rig.lbctl();
    let both = [vip(VIP, &["10.0.0.1", "10.0.0.2"]), vip(OTHER_VIP, &["10.0.0.2"])].concat();
    let serve = Serve::start(rig.lbctl(), &config(&both));
    let with = |samples: &Samples, label: &str| {
        let names = samples.keys().filter(|sample| sample.contains(label)).map(|s| name(s));
        names.map(str::to_owned).collect::<BTreeSet<_>>()
    };
    let labelled = |label: &str| {
        let families = families().iter().filter(|family| family.labels.contains(&label));
        let names = families.map(|family| family.name.to_owned());
        names.filter(|name| ![HELD, MAC_KNOWN].contains(&&**name)).collect::<BTreeSet<_>>()
    };
    lbctl.ok(&["real", "health", VIP, "10.0.0.1", "healthy"]);
    lbctl.ok(&["real", "health", OTHER_VIP, "10.0.0.2", "healthy"]);
    let vips = format!("vip=\"{OTHER_VIP}\"");
    let samples = complete(ns);
    assert_eq!(with(&samples, &vips), labelled("vip"));
    assert_eq!(with(&samples, "real=\"10.0.0.1\""), labelled("real"));
    assert_eq!(samples[&format!("l4lb_vip_usable_reals{{{vips}}}")], 1.0);

    lbctl.ok(&["real", "down", VIP, "10.0.0.1"]);
    let one = |family: &str, labels: &str| format!("{family}{{{labels},vip=\"{VIP}\"}}");
    let pair = |family: &str, labels: &str| format!("{family}{{vip=\"{VIP}\",{labels}}}");
    let share = pair("l4lb_vip_real_share_ratio", "real=\"10.0.0.1\"");
    let down = shows(ns, "a real is down", |samples| samples.get(&share) == Some(&0.0));
    assert_eq!(down[&one("l4lb_vip_reals", "state=\"down\"")], 1.0);
    assert_eq!(down[&one("l4lb_vip_reals", "state=\"up\"")], 1.0);
    assert_eq!(down[&pair("l4lb_vip_real_weight", "real=\"10.0.0.1\"")], 1.0);
    assert_eq!(down[&pair("l4lb_vip_real_state", "real=\"10.0.0.1\",state=\"down\"")], 1.0);
    assert_eq!(down[&pair("l4lb_vip_real_share_ratio", "real=\"10.0.0.2\"")], 1.0);

    lbctl.ok(&["real", "delete", VIP, "10.0.0.1"]);
    lbctl.ok(&["vip", "delete", OTHER_VIP]);
    shows(ns, "they go", |samples| {
        with(samples, &vips).is_empty() && with(samples, "10.0.0.1\"").is_empty()
    });
    // A VIP without a real to take new flows can be told from one that is not there.
    lbctl.ok(&["real", "drain", VIP, "10.0.0.2"]);
    let of_vip = |family: &str| format!("{family}{{vip=\"{VIP}\"}}");
    let drained = shows(ns, "drained", |samples| samples[&of_vip("l4lb_vip_ring_digest")] == 0.0);
    assert_eq!(drained[&of_vip("l4lb_vip_usable_reals")], 0.0);
    serve.stop();
}

/// The digests of an instance's VIPs.
#[track_caller]
fn digests(config: &str) -> Vec<f64> {
    let host = Host::new();
    let serve = Serve::start(host.lbctl(), config);
    let digests = of(&complete(&host.ns), "l4lb_vip_ring_digest").into_values().collect();
    serve.stop();
    digests
}

#[test]
fn ring_digests_agree_where_rings_do() {
    let reals = ["10.0.0.1", "10.0.0.2, weight = 3", "fc00::3", "10.0.0.4, state = \"drain\""];
    let [a, b, c, d] = reals;
    let one = digests(&Host::config(&vip(VIP, &reals)));
    assert!(one.len() == 1 && one[0] > 0.0 && one[0] < (1_u64 << 48) as f64, "{one:?}");
    // Real ids follow the order in which reals came; and a real without slots does not matter.
    let mixed = [vip("tcp://10.200.0.1:80", &["10.0.0.9", c]), vip(VIP, &[d, c, b, a])].concat();
    assert_eq!(digests(&Host::config(&mixed))[1..], one);
    assert_eq!(digests(&Host::config(&vip(VIP, &[a, b, c]))), one);
    for other in [
        &[a, "10.0.0.2, weight = 2", c][..],
        &[a, b],
        &[a, b, "fc00::4"],
        &["10.0.0.2", "10.0.0.1, weight = 3", c],
    ] {
        assert_ne!(digests(&Host::config(&vip(VIP, other))), one, "{other:?}");
    }
}

#[test]
fn tables_are_counted() {
    const UDP: &str = "udp://10.200.1.1:53";
    const UDP6: &str = "udp://[fc00:1::1]:53";
    let rig = Rig::new(1);
    let _echo = rig.topology.serve_udp(&[server(UDP), server(UDP6)]);
    let ns = &rig.topology.balancer.ns;
    for kind in ["set-associative", "lru"] {
        let vips = [vip(UDP, &["10.0.0.1"]), vip(UDP6, &["10.0.0.1"])].concat();
        rig.lbctl().apply(&config(&format!("kind = \"{kind}\"\n{vips}")));
        for n in 0..20 {
            udp_ask(rig.client(), server(if n < 15 { UDP } else { UDP6 }), "?").expect("an answer");
        }
        let status = json(&rig.lbctl().ok(&["status", "--json"]));
        let serve = Serve::start(rig.lbctl(), &config(&format!("kind = \"{kind}\"\n{vips}")));
        let samples = complete(ns);
        let (mut expected, mut flows) = (Samples::new(), [0, 0]);
        for table in status["tables"].as_array().expect("tables") {
            let used = |family: &str| table[family].as_u64().expect("a number");
            let (v4, v6) = (used("used_ipv4"), used("used_ipv6"));
            flows = [flows[0] + v4, flows[1] + v6];
            let cpu = table["cpu"].as_u64().map_or("shared".to_owned(), |cpu| cpu.to_string());
            let families = if kind == "lru" || cpu == "shared" {
                vec![("any", v4 + v6)]
            } else {
                vec![("ipv4", v4), ("ipv6", v6)]
            };
            for (family, used) in families {
                let labels = format!("{{cpu=\"{cpu}\",family=\"{family}\"}}");
                expected.insert(format!("l4lb_table_entries{labels}"), used as f64);
                let most = table["entries"].as_f64().expect("a number");
                assert_eq!(samples[&format!("l4lb_table_max_entries{labels}")], most);
            }
        }
        assert_eq!(of(&samples, "l4lb_table_entries"), expected, "{kind}");
        // The second round begins with the flows of the first. Two packets may come from one port: one flow.
        let [v4, v6] = flows;
        assert!((12..=30).contains(&v4) && (4..=10).contains(&v6), "{kind}: {flows:?}");
        let memory: f64 = of(&samples, "l4lb_map_memory_bytes").values().sum();
        let told = status["memory"].as_array().expect("memory").iter();
        let told: u64 = told.map(|maps| maps["kernel"].as_u64().expect("Linux 6.4")).sum();
        assert_eq!(memory, told as f64, "{kind}");
        serve.stop();
    }
}

/// Statistics of programs are on while this is open.
fn program_statistics() -> OwnedFd {
    #[expect(unsafe_code, reason = "libbpf-rs has no such call")]
    // SAFETY: takes no pointers; the descriptor that it returns is nobody else's.
    let fd = unsafe {
        let fd = libbpf_sys::bpf_enable_stats(libbpf_sys::BPF_STATS_RUN_TIME);
        assert!(fd >= 0, "statistics of programs cannot be switched on: {fd}");
        OwnedFd::from_raw_fd(fd)
    };
    assert!(fd.as_raw_fd() > 2);
    fd
}

/// What [`l4lb::metrics::families`] lists is what there is, and nothing else.
#[test]
fn every_metric_is_there() {
    let statistics = program_statistics();
    let rig = Rig::new(1);
    let Topology { balancer, .. } = &rig.topology;
    let check = "check = { type = \"tcp\", interval = \"500ms\", timeout = \"500ms\" }\n";
    let both = [&*vip(OTHER_VIP, &["10.0.0.1"]), &*vip(VIP, &["10.0.0.1"]), check].concat();
    let serve = Serve::start(rig.lbctl(), &config(&both));
    rig.lbctl().ok(&["decap", "attach", "uplink", "--mss", "auto"]);
    rig.lbctl().ok(&["real", "health", OTHER_VIP, "10.0.0.1", "healthy"]);
    http_get(rig.client(), server(VIP), "/").expect("the VIP answers");
    // No real fails too often, and a check of type tcp sees no certificate.
    let of_checks = OF_CHECKS.into_iter().filter(|name| *name != "l4lb_check_certificate_days");
    let listed: BTreeSet<_> = families().iter().map(|family| family.name).chain(OF_SERVE).collect();
    let listed: BTreeSet<_> = listed
        .into_iter()
        .filter(|name| ![HELD, MAC_KNOWN].contains(name))
        .chain(of_checks)
        .collect();
    let reference = include_str!("../../../docs/metrics.md");
    let of_process = OF_SERVE.iter().chain(&OF_CHECKS);
    assert!(of_process.into_iter().all(|name| reference.contains(&format!("| `{name}` |"))));
    let samples = shows(&balancer.ns, "all metrics", |samples| {
        samples.keys().map(|sample| family(name(sample))).collect::<BTreeSet<_>>() == listed
    });
    drop(statistics);

    let parts = of(&samples, "l4lb_read_success");
    assert!(parts.values().all(|success| *success == 1.0));
    let row = reference.lines().find(|line| line.starts_with("| `part` |")).expect("the parts");
    let row: BTreeSet<_> = row.split('`').skip(3).step_by(2).collect();
    assert_eq!(
        parts.keys().map(|part| part.split('"').nth(1).expect(part)).collect::<BTreeSet<_>>(),
        row
    );
    assert!(samples["l4lb_chain_runs_total"] >= 4.0);
    let seconds = samples["l4lb_chain_run_seconds_total"];
    assert!(seconds > 0.0 && seconds < 1.0, "{seconds}");
    let uplink = |family: &str| samples[&format!("{family}{{interface=\"uplink\"}}")];
    assert_eq!(uplink("l4lb_interface_attached"), 1.0);
    assert_eq!(uplink("l4lb_interface_mtu_bytes"), 1600.0);
    assert_eq!(uplink("l4lb_gateway_resolved"), 1.0);
    assert!(uplink("l4lb_gateway_age_seconds") < 120.0);
    let info = "l4lb_interface_info{interface=\"uplink\",gateway=\"172.31.0.254\",mac=\"02:00:00:00:fe:b1\",mode=\"native\"}";
    assert_eq!(samples[info], 1.0);
    // As veth counts.
    let tx = "l4lb_nic_statistic{interface=\"uplink\",name=\"rx_queue_*_xdp_tx\"}";
    assert!(samples.get(tx) >= Some(&4.0), "{:#?}", of(&samples, "l4lb_nic_statistic"));
    let decap = of(&samples, "l4lb_decap_packets_total");
    assert_eq!(decap.len(), l4lb::decap_results().len());
    serve.stop();
}

#[test]
fn the_age_of_a_silent_gateway_grows() {
    const AGE: &str = "l4lb_gateway_age_seconds{interface=\"uplink\"}";
    const RESOLVED: &str = "l4lb_gateway_resolved{interface=\"uplink\"}";
    let rig = Rig::new(0);
    let Topology { router, balancer, .. } = &rig.topology;
    let ns = &balancer.ns;
    let serve = Serve::start(rig.lbctl(), &config(""));
    shows(ns, "known", |samples| samples[RESOLVED] == 1.0 && samples[AGE] < 120.0);
    // It answers no more, and the kernel forgets it.
    router.shell(
        "echo 8 >/proc/sys/net/ipv4/conf/to-balancer/arp_ignore; ip link set to-balancer arp off",
    );
    ns.shell("ip neigh flush dev uplink; ip -6 neigh flush dev uplink");
    let silent = shows(ns, "silent", |samples| samples[RESOLVED] == 0.0);
    shows(ns, "growing", |samples| samples[AGE] > silent[AGE]);
    serve.stop();

    // The kernel does not resolve a MAC from the configuration.
    let host = Host::new();
    let serve = Serve::start(host.lbctl(), &Host::config(""));
    let samples = scrape(&host.ns);
    assert!(samples[RESOLVED] == 1.0 && !samples.contains_key(AGE), "{samples:#?}");
    serve.stop();
}
