//! Checks on descriptions of reals with tunnel devices, which not every kernel has.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::*;
use crate::control::decap::Mss;
use crate::control::decap::Request;
use crate::model::config::XdpMode;
use crate::observe::decap::MssStatus;
use crate::report::doctor::Fix;
use crate::report::doctor::Severity;
use crate::report::doctor::tests::link;

const UPLINK: u32 = 7;

/// A real whose route to clients is by eth0, with a tunnel device and an IPv4 VIP.
fn with_tunnel(kind: &str) -> Real {
    let mut tunnel = link("tunl0", Some(kind));
    (tunnel.link.index, tunnel.arp) = (8, false);
    let route = RouteFacts {
        local: false,
        interface: Some(UPLINK),
        gateway: Some([10, 0, 0, 254].into()),
        destination: "default".to_owned(),
        protocol: "static".to_owned(),
        source: None,
        metric: 0,
        mtu: Some(1500),
        advmss: None,
    };
    let settings = Settings { rp_filter: 0, arp_ignore: 1, arp_announce: 2 };
    Real {
        vips: vec![Vip {
            address: [10, 200, 1, 1].into(),
            local: true,
            on: vec!["tunl0".to_owned()],
        }],
        decap: None,
        outdated: Followed::default(),
        listening: BTreeMap::new(),
        own: Vec::new(),
        links: vec![link("eth0", None), tunnel],
        settings: ["eth0", "tunl0"].map(|name| (name.to_owned(), settings)).to_vec(),
        back: [Back { route: Some(Ok(route)) }, Back::default()],
        forwarding: [Some(false); 2],
        checksums: Vec::new(),
        ways: Vec::new(),
        udp_ports: Some(Ok([].into())),
        lbctl: "lbctl".to_owned(),
    }
}

fn found(real: &Real) -> Vec<(FindingId, Severity, Fix)> {
    let mut report = Report::default();
    check(&mut report, real);
    report.findings.into_iter().map(|finding| (finding.id, finding.severity, finding.fix)).collect()
}

fn command(text: &str) -> Fix {
    Fix::Command(text.to_owned())
}

#[test]
fn tunnels_take_the_outer_header_off() {
    for kind in ["ipip", "ip6tnl"] {
        assert_eq!(
            found(&with_tunnel(kind)),
            [],
            "{kind}, with the VIP on a device that answers no ARP"
        );
    }
    let missing = |fix| vec![(FindingId::NoDecap, Severity::Error, fix)];
    // The other family inside.
    assert_eq!(
        found(&with_tunnel("sit")),
        missing(command("lbctl decap attach eth0 --from 172.16.0.0/16 --from 100::/64"))
    );
    let mut real = with_tunnel("ipip");
    real.links[1].link.up = false;
    assert_eq!(found(&real), missing(command("ip link set tunl0 up")));
    let mut real = with_tunnel("ipip");
    real.links[1].remote = Some([10, 0, 0, 9].into());
    assert_eq!(
        found(&real),
        missing(command("lbctl decap attach eth0 --from 172.16.0.0/16 --from 100::/64"))
    );
    // If it is not known, decapsulation may be in place.
    real.decap = Some(Err("not root".to_owned()));
    assert_eq!(found(&real), []);
}

#[test]
fn strict_filtering_and_tunnels() {
    let mut real = with_tunnel("ipip");
    real.settings[0].1.rp_filter = 1;
    assert_eq!(found(&real), [], "nothing comes in by eth0 but what belongs there");
    real.settings[1].1.rp_filter = 1;
    let fix = command("sysctl -w net.ipv4.conf.all.rp_filter=2");
    assert_eq!(found(&real), [(FindingId::RpFilter, Severity::Error, fix)]);
}

#[test]
fn segments_through_tunnels() {
    let mss = |kind, mtu| {
        let mut real = with_tunnel(kind);
        real.links[0].link.mtu = mtu;
        found(&real)
    };
    let warning = |fix: &str| vec![(FindingId::Mss, Severity::Warning, command(fix))];
    assert_eq!(mss("ipip", 1520), []);
    let replace = "ip route replace default via 10.0.0.254 dev eth0 proto static mtu 1500";
    assert_eq!(mss("ipip", 1519), warning(&format!("{replace} advmss 1459")));
    assert_eq!(mss("ip6tnl", 1540), []);
    assert_eq!(mss("ip6tnl", 1520), warning(&format!("{replace} advmss 1440")));
}

#[test]
fn which_interfaces_answer_for_a_vip() {
    let mut real = with_tunnel("ipip");
    real.links.push(link("docker0", Some("bridge")));
    real.links.push(link("eth1", None));
    let silent = Settings { rp_filter: 0, arp_ignore: 0, arp_announce: 2 };
    real.settings.push(("docker0".to_owned(), silent));
    real.settings.push(("eth1".to_owned(), silent));
    let mut report = Report::default();
    check(&mut report, &real);
    let places: Vec<_> = report.findings.iter().map(|f| (f.id, f.place.as_str())).collect();
    assert_eq!(places, [(FindingId::ArpIgnore, "interface eth1")], "containers are no neighbours");
}

/// If no VIP is known, IPv4 is assumed.
#[test]
fn reals_without_vips() {
    let mut real = with_tunnel("ipip");
    real.vips.clear();
    real.settings[0].1.arp_ignore = 0;
    let ids: Vec<_> = found(&real).into_iter().map(|(id, severity, _)| (id, severity)).collect();
    assert_eq!(
        ids,
        [(FindingId::NoVip, Severity::Note), (FindingId::ArpIgnore, Severity::Warning)]
    );
    let v6: IpAddr = "fc00:1::1".parse().unwrap();
    real.vips = vec![Vip { address: v6, local: true, on: Vec::new() }];
    let ids: Vec<_> = found(&real).into_iter().map(|(id, ..)| id).collect();
    assert_eq!(ids, [FindingId::NoDecap, FindingId::NoRouteBack]);
}

/// A program at a port of GUE: whether it gets nothing, or the balancers' packets.
#[test]
fn programs_at_ports_of_gue() {
    let mut real = with_tunnel("ipip");
    let request = Request::default();
    let decap = DecapStatus {
        requests: [("eth0".to_owned(), request)].into(),
        interfaces: [("eth0".to_owned(), Some(XdpMode::Native))].into(),
        gue_ports: [6080].into(),
        ..DecapStatus::default()
    };
    real.decap = Some(Ok(decap));
    let told = |real: &Real| {
        let mut report = Report::default();
        check(&mut report, real);
        let found = report.findings.into_iter().find(|f| f.id == FindingId::DecapGuePort);
        found.map(|found| found.what)
    };
    assert_eq!(told(&real), None);
    for (port, words) in [(6080, "gets nothing"), (19523, "GUE is not taken from UDP port 19523")] {
        real.listening = [(port, "program 'named' (process 7)".to_owned())].into();
        let told = told(&real).expect("a finding");
        assert!(told.contains(words) && told.contains("'named'"), "{told}");
    }
}

/// What is asked of clients: by the route, by the program on the way out, and where that is missing.
#[test]
fn segments_that_are_lowered() {
    let mut real = with_tunnel("ipip");
    real.links[0].link.mtu = 1500;
    let count = |packets| crate::observe::stats::Count::from_raw(packets, 0);
    let with = |mss: &[(&str, Option<u16>)], gue: &'static str| DecapStatus {
        interfaces: [("eth0".to_owned(), Some(XdpMode::Native))].into(),
        requests: [("eth0".to_owned(), Request { mss: Some(Mss::Auto), ..Request::default() })]
            .into(),
        addresses: [[10, 0, 0, 1].into()].into(),
        to: ["10.200.0.0/16".parse().unwrap()].into(),
        results: [(gue, count(1))].into(),
        mss: mss
            .iter()
            .map(|(name, bytes)| ((*name).to_owned(), MssStatus { ipv4: *bytes, ipv6: *bytes }))
            .collect(),
        ..DecapStatus::default()
    };
    let mut ids = |decap: DecapStatus| {
        real.decap = Some(Ok(decap));
        let ids = found(&real).into_iter().map(|(id, severity, _)| (id, severity));
        let about = [FindingId::Mss, FindingId::DecapMss];
        ids.filter(|(id, _)| about.contains(id)).collect::<Vec<_>>()
    };
    let too_long = (FindingId::Mss, Severity::Warning);
    assert_eq!(ids(with(&[], "ipv4_in_ipv4")), [too_long]);
    assert_eq!(ids(with(&[("eth0", Some(1440))], "ipv4_in_ipv4")), []);
    assert_eq!(ids(with(&[("eth0", Some(1440))], "gue1_ipv4_in_ipv4")), [too_long]);
    assert_eq!(ids(with(&[("eth0", Some(1432))], "gue1_ipv4_in_ipv4")), []);
    assert_eq!(ids(with(&[("eth0", Some(1432))], "gue0_ipv4_in_ipv4")), [too_long]);
    assert_eq!(ids(with(&[("eth0", Some(1424))], "gue0_ipv4_in_ipv4")), []);
    let off = (FindingId::DecapMss, Severity::Error);
    assert_eq!(ids(with(&[("eth0", None)], "ipv4_in_ipv4")), [off, too_long]);
    let elsewhere = (FindingId::DecapMss, Severity::Warning);
    assert_eq!(ids(with(&[("eth7", Some(1400))], "ipv4_in_ipv4")), [elsewhere, too_long]);
}

#[test]
fn addresses_that_decapsulation_has_no_room_for() {
    let mut real = with_tunnel("ipip");
    let mut decap = DecapStatus { own_addresses_left_out: 70_000, ..DecapStatus::default() };
    real.decap = Some(Ok(decap.clone()));
    let left_out =
        |real: &Real| found(real).iter().any(|(id, ..)| *id == FindingId::DecapOwnLeftOut);
    assert!(left_out(&real));
    decap.own_addresses_left_out = 0;
    real.decap = Some(Ok(decap));
    assert!(!left_out(&real));
}

/// By which ways packets come decides whether something must take an outer header off.
#[test]
fn the_ways_of_packets_are_looked_at() {
    use crate::model::config::Encapsulation;
    let by = |ways: &[Encapsulation], ports: &[u16]| Real {
        ways: ways.to_vec(),
        udp_ports: Some(Ok(ports.iter().copied().collect())),
        ..with_tunnel("ipip")
    };
    let missing = |real: &Real| decap::missing(real, Family::V4);
    let bare = |ways: &[Encapsulation]| {
        let real = by(ways, &[]);
        Real { links: vec![real.links[0].clone()], ..real }
    };
    let is_found = |answer| matches!(answer, Some(Answer::Hurts { .. }));
    assert!(is_found(missing(&bare(&[]))));
    assert_eq!(missing(&bare(&[Encapsulation::L2])), None, "no outer header");
    assert!(is_found(missing(&bare(&[Encapsulation::L2, Encapsulation::Ipip]))));
    assert_eq!(missing(&by(&[], &[])), Some(Answer::Well), "a tunnel device");
    assert!(is_found(missing(&by(&[Encapsulation::Gue], &[6081]))), "without fou");
    assert_eq!(missing(&by(&[Encapsulation::Gue], &[6080])), Some(Answer::Well), "with fou");
}
