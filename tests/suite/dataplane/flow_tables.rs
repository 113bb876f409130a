//! Flows and the tables that remember them: other kinds and sizes, floods, CPUs without a table.

use std::net::IpAddr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;
use std::net::UdpSocket;
use std::time::Duration;

use l4lb::Balancer;
use l4lb::Instance;
use l4lb::Protocol;
use l4lb::Vip;
use l4lb::flows::FiveTuple;
use l4lb::flows::FlowFilter;
use l4lb::flows::GroupBy;

use crate::fixtures::Host;
use crate::fixtures::Injector;
use crate::fixtures::Rig;
use crate::fixtures::config;
use crate::fixtures::goes_on;
use crate::fixtures::http_get;
use crate::fixtures::inject::frame;
use crate::fixtures::json;
use crate::fixtures::server;
use crate::fixtures::vip;
use crate::fixtures::wait_until;

const VIP: &str = "tcp://10.200.1.1:80";
const UDP_VIP: &str = "udp://10.200.1.1:53";

const SOON: Duration = Duration::from_secs(20);

/// How often a table event was counted.
#[track_caller]
fn event(rig: &Rig, name: &str) -> u64 {
    let stats = json(&rig.lbctl().ok(&["stats", "--json"]));
    stats["table"][name].as_u64().expect("an event of this name")
}

/// No real takes new flows: a download that goes on was found in a table.
#[test]
fn flows_move_with_their_tables() {
    let rig = Rig::new(2);
    let table = |keys: &str, state: &str| {
        let reals = ["10.0.0.1", "10.0.0.2"].map(|real| format!("{real}, state = \"{state}\""));
        let vip = vip(VIP, &reals.each_ref().map(String::as_str));
        config(&format!("{keys}\n{vip}")).replace("entries = 20000\n", "")
    };
    rig.lbctl().apply(&table("entries = 20000", "up"));
    let downloads: Vec<_> = (0..8).map(|_| rig.download(VIP)).collect();
    for keys in [
        "entries = 20000",
        "entries = 3000",
        "kind = \"lru\"\nentries = 3000",
        "kind = \"lru\"\nentries = 50000\ncpus = [0]",
        "entries = 50000\ncpus = [0]",
        "entries = 50000",
    ] {
        rig.lbctl().apply(&table(keys, "drain"));
        let plan = rig.lbctl().apply(&table(keys, "drain"));
        assert_eq!(plan.stdout, "nothing to change\n");
        for download in &downloads {
            goes_on(download, keys);
        }
    }
    let save = rig.lbctl().ok(&["save"]).stdout;
    assert!(save.contains("kind = \"set-associative\"\nentries = 50000"), "{save}");
}

/// Open connections of a client go on while it opens others: also those to a real that is drained, where it gets
/// the others, too.
#[test]
fn connections_of_a_client_go_on_when_it_opens_others() {
    let rig = Rig::new(3);
    let vip = vip(VIP, &["10.0.0.1", "10.0.0.2", "10.0.0.3"]);
    rig.lbctl().apply(&config(&format!("{vip}hash = \"no-source-port\"\n")));
    let open: Vec<_> = (0..4).map(|_| rig.download(VIP)).collect();
    let name = open[0].real().to_owned();
    let number = name.trim_start_matches("real");
    let (real, others) = (format!("10.0.0.{number}"), [1, 2, 3].map(|n| format!("10.0.0.{n}")));
    let other = others.iter().find(|other| **other != real).expect("three reals");
    for change in [
        ["real", "weight", VIP, other.as_str(), "50"].as_slice(),
        &["real", "drain", VIP, &real],
        &["real", "weight", VIP, other, "1"],
    ] {
        rig.lbctl().ok(change);
        for _ in 0..3 {
            let another = http_get(rig.client(), server(VIP), "/").expect("the VIP answers");
            assert_eq!(another.real, name, "{change:?}");
        }
        for download in &open {
            assert_eq!(download.real(), name, "{change:?}");
            goes_on(download, &format!("{change:?}"));
        }
    }
}

/// A UDP flow is found again in either kind of table.
#[test]
fn either_kind_remembers() {
    for kind in ["set-associative", "lru"] {
        let rig = Rig::new(1);
        let vip = vip(UDP_VIP, &["10.0.0.1"]);
        rig.lbctl().apply(&config(&format!("kind = \"{kind}\"\n{vip}")));
        let socket = rig.client().open(|| UdpSocket::bind("0.0.0.0:0")).expect("a socket");
        for _ in 0..5 {
            socket.send_to(b"?", server(UDP_VIP)).expect("send");
        }
        let hits = || event(&rig, "hit") == 4 && event(&rig, "inserted") == 1;
        assert!(wait_until(SOON, hits), "{kind}: {}", rig.lbctl().ok(&["stats"]));
        let status = rig.lbctl().ok(&["status", "--json"]);
        let used: u64 = json(&status)["tables"]
            .as_array()
            .expect("tables")
            .iter()
            .map(|table| table["used_ipv4"].as_u64().expect("a number"))
            .sum();
        assert_eq!(used, 1, "{kind}: {status}");
    }
}

#[test]
fn a_cpu_without_a_table_shares_one() {
    if std::thread::available_parallelism().map_or(1, std::num::NonZero::get) < 2 {
        eprintln!("skipped: this machine has one CPU, and the test needs two");
        return;
    }
    let rig = Rig::new(1);
    let socket = rig.client().open(|| UdpSocket::bind("0.0.0.0:0")).expect("a socket");
    // Whichever CPU receives the packets, one of the two leaves it without a table.
    let shared = || {
        for cpu in 0..2 {
            let vip = vip(UDP_VIP, &["10.0.0.1"]);
            rig.lbctl().apply(&config(&format!("cpus = [{cpu}]\n{vip}")));
            for _ in 0..5 {
                socket.send_to(b"?", server(UDP_VIP)).expect("send");
            }
        }
        event(&rig, "shared_table") >= 5 && event(&rig, "hit") >= 4
    };
    assert!(wait_until(SOON, shared), "{}", rig.lbctl().ok(&["stats"]));
}

/// Clients that are numbered by node and by pod, all from one port: the program remembers them, in sets where
/// this library finds them.
#[test]
fn numbered_clients_are_remembered() {
    const V4: &str = "udp://10.200.1.1:4500";
    const V6: &str = "udp://[fc00:1::1]:4500";
    let host = Host::new();
    let vips = [V4, V6].map(|uri| vip(uri, &["10.0.0.1"])).concat();
    let keys = "cpus = [0]\nnew_connections_per_second = 1000000\n";
    let config = Host::config(&format!("{keys}{vips}"));
    host.lbctl().apply(&config.replace("entries = 20000", "entries = 200000"));
    let clients = || (0..50_u16).flat_map(|node| (1..=100).map(move |pod| (node, pod)));
    let address = |v6: bool, (node, pod): (u16, u16)| -> IpAddr {
        if v6 {
            Ipv6Addr::new(0xfd00, 0x10, 0x244, node, 0, 0, 0, pod).into()
        } else {
            let [node, pod] = [node, pod].map(|part| part.to_le_bytes()[0]);
            [10, 244, node, pod].into()
        }
    };
    let vips = [V4, V6].map(|uri| uri.parse::<Vip>().expect("a VIP"));
    Injector::new(&host).on(0, |send| {
        for of in &vips {
            for client in clients() {
                let client = SocketAddr::new(address(of.address.is_ipv6(), client), 4500);
                send(&frame(of, client, of.port)).expect("sent");
            }
        }
    });
    let instance = Instance::new(host.bpffs.path(), "default").expect("an instance");
    let balancer = Balancer::open(&instance).expect("it runs");
    let counts = balancer.count_flows(&FlowFilter::default(), GroupBy::Vip).expect("counted");
    for group in &counts.groups {
        // 5000 flows in 50,000 sets of four.
        assert!(group.entries >= 4995, "{counts:?}");
    }
    assert_eq!(counts.groups.len(), 2, "{counts:?}");
    for of in &vips {
        let find = |client| {
            let client = SocketAddr::new(address(of.address.is_ipv6(), client), 4500);
            let destination = SocketAddr::new(of.address, of.port);
            let tuple = FiveTuple { protocol: Protocol::Udp, client, destination };
            balancer.find_flow(&tuple).expect("looked for").entries.len()
        };
        let found: usize = clients().step_by(25).map(find).sum();
        assert!(found >= 199, "{found} of 200 flows of {of} lie where they are looked for");
    }
}
