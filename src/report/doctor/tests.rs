//! Checks on descriptions of hosts that no network namespace can show; and that docs/doctor.md has every finding.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;

use super::*;
use crate::kernel::netlink::Channels;
use crate::kernel::netlink::Features;
use crate::kernel::netlink::Link;
use crate::kernel::netlink::LinkFacts;
use crate::kernel::queues::Interrupts;
use crate::model::address::Mac;
use crate::model::config::XdpMode;
use nic::Attachment;

pub(super) fn link(name: &str, kind: Option<&str>) -> LinkFacts {
    LinkFacts {
        link: Link {
            index: 7,
            name: name.to_owned(),
            mtu: 1600,
            mac: Some(Mac::new([2, 0, 0, 0, 0, 7])),
            up: true,
            carrier: true,
        },
        kind: kind.map(str::to_owned),
        loopback: false,
        arp: true,
        lower: None,
        lower_namespace: None,
        remote: None,
        native_xdp: false,
    }
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// A card with eight CPUs and queues, for which there is no finding.
fn card(driver: &str) -> Nic {
    Nic {
        name: "eth0".to_owned(),
        link: Some(link("eth0", None)),
        asked: XdpMode::Native,
        attachment: Attachment::NotYet,
        foreign: None,
        driver: driver.to_owned(),
        native: Ok(true),
        features: Ok(Features::default()),
        channels: Ok(Channels { combined: 8, combined_max: 16, ..Channels::default() }),
        interrupts: Some(Interrupts { numbers: (24..32).collect(), cpus: (0..8).collect() }),
        online: (0..8).collect(),
        vlans: Vec::new(),
        peer: None,
        gateway: Ok(Mac::from([2, 0, 0, 0, 0, 0xfe])),
        told: None,
        longest: 1500,
        overhead: 20,
        balances_v6: false,
        lbctl: "lbctl".to_owned(),
        reapply: "lbctl apply -f FILE".to_owned(),
    }
}

fn report(nic: &Nic) -> Report {
    let mut report = Report::default();
    for checks in OF_NICS {
        report.run(checks, "interface eth0", nic);
    }
    report
}

/// The one finding about a card, or none.
fn finding(nic: &Nic) -> Option<(FindingId, Severity, Fix)> {
    let mut findings = report(nic).findings;
    let last = findings.pop();
    assert!(findings.is_empty(), "one finding, not {findings:?} and {last:?}");
    last.map(|finding| (finding.id, finding.severity, finding.fix))
}

fn command(text: &str) -> Fix {
    Fix::Command(text.to_owned())
}

#[test]
fn a_good_card() {
    for driver in ["ixgbe", "ena", "virtio_net"] {
        let nic = card(driver);
        assert_eq!(finding(&nic), None, "{driver}");
    }
}

#[test]
fn a_card_that_merges_packets() {
    let mut nic = card("ixgbe");
    let features = |active: &[&str], fixed: &[&str]| {
        Ok(Features { active: names(active), fixed: names(fixed) })
    };
    nic.features = features(&["rx-gro", "rx-lro"], &[]);
    let lro = |fix| Some((FindingId::Lro, Severity::Warning, fix));
    assert_eq!(finding(&nic), lro(command("ethtool -K eth0 rx-lro off")));
    nic.features = features(&["rx-gro-hw", "rx-lro"], &[]);
    assert_eq!(finding(&nic), lro(command("ethtool -K eth0 rx-lro off rx-gro-hw off")));
    nic.features = features(&["rx-gro-hw"], &["rx-gro-hw"]);
    let Some((FindingId::Lro, _, Fix::Advice(advice))) = finding(&nic) else {
        panic!("{:?}", report(&nic))
    };
    assert!(advice.contains("does not let rx-gro-hw be switched off"), "{advice}");
    // For generic XDP, the kernel switches LRO off.
    nic.attachment = Attachment::Runs(XdpMode::Generic);
    nic.asked = XdpMode::Generic;
    assert_eq!(finding(&nic).map(|(id, ..)| id), Some(FindingId::GenericMode));
}

#[test]
fn vlan_tags_that_the_card_takes() {
    let mut nic = card("ixgbe");
    nic.features = Ok(Features { active: names(&["rx-vlan-hw-parse"]), fixed: BTreeSet::new() });
    assert_eq!(finding(&nic), None, "no VLANs here");
    nic.vlans = vec!["eth0.100".to_owned()];
    let fix = command("ethtool -K eth0 rx-vlan-hw-parse off");
    assert_eq!(finding(&nic), Some((FindingId::VlanOffload, Severity::Warning, fix)));
}

#[test]
fn bonds() {
    let mut nic = card("bond");
    nic.link = Some(link("eth0", Some("bond")));
    assert_eq!(
        finding(&nic).map(|(id, severity, _)| (id, severity)),
        Some((FindingId::BondInterface, Severity::Error))
    );
}

#[test]
fn interrupts_on_one_cpu() {
    let mut nic = card("ixgbe");
    nic.online = [0, 1].into();
    let served = |numbers: &[u32]| Some(Interrupts { numbers: numbers.to_vec(), cpus: [1].into() });
    nic.interrupts = served(&[24, 25, 26]);
    let fix = command(
        "echo 0 >/proc/irq/24/smp_affinity_list; echo 1 >/proc/irq/25/smp_affinity_list; \
         echo 0 >/proc/irq/26/smp_affinity_list   # then 'lbctl apply -f FILE', for the connection tables",
    );
    assert_eq!(finding(&nic), Some((FindingId::InterruptsOnOneCpu, Severity::Warning, fix)));
    nic.interrupts = served(&[24]);
    assert_eq!(finding(&nic), None, "one queue has one interrupt");
    nic.interrupts = served(&[24, 25]);
    nic.online = [1].into();
    assert_eq!(finding(&nic), None, "one CPU");
}

#[test]
fn queues_that_native_mode_wants() {
    let of = |driver, combined, combined_max| {
        let mut nic = card(driver);
        nic.channels = Ok(Channels { combined, combined_max, ..Channels::default() });
        nic.online = (0..combined).collect();
        nic
    };
    // These drivers refuse if more than half of the queues are in use.
    let refused = |severity, fix| Some((FindingId::NativeQueues, severity, command(fix)));
    assert_eq!(finding(&of("ena", 8, 16)), None);
    let mut nic = of("ena", 9, 16);
    nic.online = (0..8).collect();
    assert_eq!(finding(&nic), refused(Severity::Error, "ethtool -L eth0 combined 8"));
    nic.asked = XdpMode::Auto;
    assert_eq!(finding(&nic), refused(Severity::Warning, "ethtool -L eth0 combined 8"));
    nic.attachment = Attachment::Runs(XdpMode::Native);
    assert_eq!(finding(&nic), None, "it runs");
    assert_eq!(finding(&of("ixgbe", 9, 16)), None, "another driver");
    let mut nic = of("gve", 0, 0);
    nic.online = (0..8).collect();
    nic.channels = Ok(Channels { rx: 9, tx: 9, rx_max: 16, ..Channels::default() });
    assert_eq!(finding(&nic), refused(Severity::Error, "ethtool -L eth0 rx 8 tx 8"));
    // This driver takes one more queue for each CPU.
    assert_eq!(finding(&of("virtio_net", 4, 8)), None);
    let mut nic = of("virtio_net", 5, 8);
    nic.online = (0..4).collect();
    let fix = command("ethtool -L eth0 combined 4");
    assert_eq!(finding(&nic), Some((FindingId::SharedTransmitQueues, Severity::Warning, fix)));
    nic.asked = XdpMode::Generic;
    assert_eq!(finding(&nic).map(|(id, ..)| id), Some(FindingId::GenericMode));
}

#[test]
fn fewer_queues_than_cpus() {
    let mut nic = card("ixgbe");
    let few = |severity, fix| Some((FindingId::FewQueues, severity, fix));
    nic.channels = Ok(Channels { combined: 4, combined_max: 63, ..Channels::default() });
    assert_eq!(finding(&nic), few(Severity::Note, command("ethtool -L eth0 combined 8")));
    nic.channels = Ok(Channels { combined: 1, combined_max: 6, ..Channels::default() });
    assert_eq!(finding(&nic), few(Severity::Warning, command("ethtool -L eth0 combined 6")));
    // No more queues than native XDP leaves.
    nic.driver = "ena".to_owned();
    assert_eq!(finding(&nic), few(Severity::Warning, command("ethtool -L eth0 combined 3")));
    nic.channels = Ok(Channels { combined: 3, combined_max: 6, ..Channels::default() });
    assert!(matches!(finding(&nic), Some((FindingId::FewQueues, _, Fix::Advice(_)))));
}

#[test]
fn jumbo_frames() {
    let mut nic = card("ixgbe");
    nic.link.as_mut().unwrap().link.mtu = 9000;
    let fix = command("ip link set eth0 mtu 3506");
    assert_eq!(finding(&nic), Some((FindingId::NativeMtu, Severity::Error, fix)));
}

/// What is not known is neither well nor found.
#[test]
fn facts_that_are_missing() {
    let mut nic = card("ena");
    nic.features = Err(Missing::new("Operation not supported"));
    nic.channels = Err(Missing::new("Operation not supported"));
    nic.native = Err(Missing::new("an old kernel"));
    nic.gateway = Err(Missing::not_root());
    nic.asked = XdpMode::Auto;
    let report = report(&nic);
    assert!(report.findings.is_empty());
    let unknown: Vec<_> = report
        .checked
        .iter()
        .filter(|check| matches!(check.result, CheckResult::Unknown(_)))
        .map(|check| check.id.name())
        .collect();
    let all = [
        "generic-mode",
        "native-unsupported",
        "native-queues",
        "lro",
        "few-queues",
        "gateway-unresolved",
    ];
    assert_eq!(unknown, all);
    assert!(
        report.to_string().contains("not known:\n  interface eth0: generic-mode: an old kernel\n")
    );
}

#[test]
fn hosts() {
    let old = Err(Error::KernelTooOld { release: "5.10.0".to_owned() });
    let bare = Err(Error::NoBpffs { path: PathBuf::from("/sys/fs/bpf") });
    let found = |answer: Option<Answer>| matches!(answer, Some(Answer::Hurts { .. }));
    assert!(found(kernel_too_old(&old)) && !found(not_root(&old)) && !found(no_bpffs(&old)));
    assert!(found(no_bpffs(&bare)) && !found(kernel_too_old(&bare)));
    let missing = rights::MissingRights {
        capabilities: vec!["CAP_SYS_ADMIN"],
        is_root: true,
        in_user_namespace: false,
    };
    assert!(found(not_root(&Err(Error::MissingRights(Box::new(missing))))));
    let other = Err(Error::Host { operation: "x", source: io::Error::other("y") });
    for checked in [Ok(()), other] {
        assert_eq!(kernel_too_old(&checked), Some(Answer::Well));
    }
}

#[test]
fn how_lbctl_is_called() {
    assert_eq!(lbctl(&Instance::default()), "lbctl");
    let instance = Instance::new("/tmp/bpf", "edge").unwrap();
    assert_eq!(lbctl(&instance), "lbctl --bpffs /tmp/bpf --instance edge");
}

/// The worst first; every line in its place.
#[test]
fn what_is_printed() {
    let mut nic = card("ixgbe");
    nic.link.as_mut().unwrap().link.mtu = 9000;
    nic.features = Ok(Features { active: names(&["rx-lro"]), fixed: BTreeSet::new() });
    nic.channels = Ok(Channels { combined: 4, combined_max: 63, ..Channels::default() });
    let mut report = report(&nic);
    report.kernel = "6.1.0".to_owned();
    report.sort();
    let severities: Vec<_> = report.findings.iter().map(|finding| finding.severity).collect();
    assert_eq!(severities, [Severity::Error, Severity::Warning, Severity::Note]);
    let text = report.to_string();
    let begin =
        "error native-mtu: interface eth0: its MTU of 9000 is more than 3506\n    native XDP takes";
    assert!(text.starts_with(begin), "{text}");
    assert!(text.contains("\n    # ethtool -K eth0 rx-lro off\n"), "{text}");
    assert!(text.ends_with("kernel 6.1.0:\n1 error, 1 warning, 1 note\n"), "{text}");
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["findings"][0]["fix"]["command"], "ip link set eth0 mtu 3506");
    assert_eq!(json["findings"][0]["id"], "native-mtu");
    assert_eq!(json["checked"][0]["result"], "well");
}

/// docs/doctor.md has every finding, in this order, with its severities, and no other.
#[test]
fn documentation_is_complete() {
    let text = include_str!("../../../docs/doctor.md");
    let rows = text.lines().filter_map(|line| {
        let cells: Vec<_> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [id, severity, ..] = cells[..] else { return None };
        Some((id.strip_prefix('`')?.strip_suffix('`')?.to_owned(), severity.to_owned()))
    });
    let severities = |id: &FindingId| {
        let names: Vec<_> = id.severities().iter().map(ToString::to_string).collect();
        names.join(", ")
    };
    let expected: Vec<_> =
        FindingId::ALL.iter().map(|id| (id.name().to_owned(), severities(id))).collect();
    assert_eq!(rows.collect::<Vec<_>>(), expected);
}

/// Some check looks for every finding of the list.
#[test]
fn everything_is_looked_for() {
    let mut ids: BTreeSet<FindingId> = real::ids().into_iter().collect();
    ids.extend(OF_NICS.iter().flat_map(|checks| checks.iter()).map(|(id, _)| *id));
    ids.extend(kernel::CHECKS.iter().map(|(id, _)| *id));
    ids.extend(instance::CHECKS.iter().map(|(id, _)| *id));
    // Those that are no function of facts.
    ids.extend([
        FindingId::NotRoot,
        FindingId::KernelTooOld,
        FindingId::NoBpffs,
        FindingId::NoSystemFiles,
        FindingId::ExposedPins,
        FindingId::MemoryShort,
        FindingId::OwnAddress,
        FindingId::LocalWithoutVip,
        FindingId::OwnRealSent,
        FindingId::RealNotOnLink,
        FindingId::RealOutweighed,
        FindingId::OtherPortsForwarded,
        FindingId::DecapsulateOpen,
        FindingId::GueSourceElsewhere,
        FindingId::TunnelBlocked,
        FindingId::AnswersFiltered,
        FindingId::MarkRule,
        FindingId::CheckUnusable,
        FindingId::AlwaysFailsOpen,
        FindingId::SlowDetection,
        FindingId::NobodyChecks,
        FindingId::NoCheck,
        FindingId::LostPins,
        FindingId::InstanceUnreadable,
    ]);
    assert_eq!(ids, FindingId::ALL.iter().copied().collect());
}
