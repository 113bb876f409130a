//! What the condition makes of readings.

use super::*;

#[test]
fn cpus_and_vips_are_grouped() {
    let mut readings = Readings::default();
    let down = crate::observe::vips::VipRealStatus {
        address: [10, 0, 0, 1].into(),
        weight: 1,
        state: crate::model::config::RealState::Down,
        share: 0.0,
        health: crate::observe::health::HealthDetails::default(),
        ring_weight: 0,
        sent: None,
        sent_for_all_vips: crate::observe::stats::Count::default(),
        encapsulation: crate::model::config::SentBy::default(),
        neighbour: None,
    };
    let vip = |n: usize, reals: &[_]| VipStatus {
        vip: format!("tcp://10.200.1.{n}:80").parse().expect("a VIP"),
        sent: crate::observe::stats::Count::default(),
        dropped: 0,
        other_ports: crate::model::config::OtherPorts::default(),
        no_real: crate::model::config::NoReal::default(),
        echo: crate::model::config::Echo::default(),
        check: None,
        check_interval: None,
        fails_open: false,
        reals: reals.to_vec(),
    };
    readings.vips = (1..=5).map(|n| vip(n, std::slice::from_ref(&down))).collect();
    readings.vips.push(vip(6, &[]));
    let condition = Condition::of(counted(
        &readings,
        vec![1, 4, 5, 6],
        Recent {
            flood: Some(Flood { cpus: vec![2], not_remembered: 700 }),
            other_mac: Some(OtherMac { other: 50, ours: 3 }),
            ..Recent::default()
        },
    ));
    assert!(!condition.well);
    let what: Vec<_> = condition.findings.iter().map(|finding| finding.what.as_str()).collect();
    assert_eq!(
        what,
        [
            "no reals: tcp://10.200.1.6:80",
            "no real takes new flows of tcp://10.200.1.1:80, tcp://10.200.1.2:80, tcp://10.200.1.3:80 and 2 more",
            "CPU 2: 700 new flows a second are balanced but not remembered, as there are more than the limit",
            "CPUs 1,4-6: packets, but no connection table",
            "50 packets a second for VIPs are not balanced, because their frames are addressed to other MACs, beside 3 to this host's",
        ]
    );
    let json = serde_json::to_value(&condition).expect("JSON");
    assert_eq!(json["findings"][1]["problem"], "no_usable_real");
    assert_eq!(json["findings"][1]["vips"].as_array().map(Vec::len), Some(5));
    assert_eq!(json["findings"][2]["not_remembered"], 700);
    assert_eq!(json["findings"][3]["cpus"], serde_json::json!([1, 4, 5, 6]));
    assert!(Condition::of(Vec::new()).well);
}

/// docs/status.md has every problem, by the name that JSON gives it, and every reason not to be ready.
#[test]
fn documentation_is_complete() {
    let text = include_str!("../../../docs/status.md");
    let rows: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("| `")).collect();
    let rows: Vec<_> = rows.iter().filter_map(|row| row.split_once("` |")).collect();
    let name = String::new;
    let mac = crate::model::address::Mac::from([2, 0, 0, 0, 0, 1]);
    let unready = |why| Problem::Unready { why };
    let finding = doctor::Finding {
        severity: Severity::Error,
        id: FindingId::VethPeer,
        place: name(),
        what: name(),
        why: name(),
        fix: Fix::Advice(name()),
    };
    let misses = Misses { used: 0, entries: 0, hits: 0, missed: 0 };
    let problems = [
        unready(Unready::NotInChain),
        unready(Unready::NoInterface),
        unready(Unready::InterfaceMissing(name())),
        unready(Unready::InterfaceDown(name())),
        unready(Unready::NoCarrier(name())),
        unready(Unready::NotAttached(name())),
        unready(Unready::OtherNamespace(name())),
        unready(Unready::MacChanged { interface: name(), mac, now: mac }),
        unready(Unready::GatewayMoved { interface: name(), mac, now: mac }),
        unready(Unready::NoDefaultRoute(name())),
        unready(Unready::GatewayUnresolved {
            interface: name(),
            mac,
            next_hop: None,
            silent: true,
            heard_seconds_ago: None,
            alternative: None,
        }),
        unready(Unready::NotServed { interface: name(), why: name() }),
        Problem::ServedAsBefore { interface: name(), reason: name() },
        Problem::MapMismatch { mismatches: Vec::new() },
        Problem::ReloadFailed { at: 0, message: name() },
        Problem::FileDiffers { since: 0, valid: true },
        Problem::FileDiffers { since: 0, valid: false },
        Problem::Doctor { finding },
        Problem::NoReal { vips: Vec::new() },
        Problem::NoUsableReal { vips: Vec::new(), unhealthy: Vec::new() },
        Problem::FailsOpen { vips: Vec::new() },
        Problem::NobodyChecks { vips: 0, last_check: None, served: false },
        Problem::UnhealthyReals { reals: Vec::new() },
        Problem::OutweighedReals { reals: Vec::new() },
        Problem::GenericMode { interface: name() },
        Problem::FloodGuardLimits(Flood { cpus: Vec::new(), not_remembered: 0 }),
        Problem::CpusWithoutTable { cpus: Vec::new() },
        Problem::TableTooSmall(misses),
        Problem::OtherMac(OtherMac { other: 0, ours: 0 }),
        Problem::MissesWithRoom(MissesWithRoom { hits: 0, missed: 0, forgotten: 0 }),
        Problem::TunnelLoop(TunnelLoop { expired: 0, decapsulated: 0 }),
        Problem::TunnelRefused(TunnelRefused {
            dropped: [("decap_source", 0)].into(),
            decapsulated: 0,
        }),
        Problem::GueRefused(GueRefused { answers: 0 }),
    ];
    for problem in problems {
        let json = serde_json::to_value(&problem).expect("JSON");
        let kind = json["problem"].as_str().expect("a name");
        let row = rows.iter().find(|(name, _)| *name == kind);
        let (_, meaning) = row.unwrap_or_else(|| panic!("{kind} is not in docs/status.md"));
        for key in json.as_object().expect("an object").keys().filter(|key| *key != "problem") {
            assert!(meaning.contains(&format!("`{key}`")), "{key} of {kind}");
        }
        let why = json["why"].as_str().map(str::to_owned);
        let why = why.or_else(|| json["why"].as_object()?.keys().next().cloned());
        if let Some(why) = why {
            assert!(meaning.contains(&format!("`{why}`")), "{why} of {kind}");
        }
    }
}
