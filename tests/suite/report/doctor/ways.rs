//! The ways to reals, and to other sites.

use std::net::UdpSocket;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Patient;
use crate::fixtures::Host;
use crate::fixtures::Rig;
use crate::fixtures::Steady;
use crate::fixtures::UPLINK;
use crate::fixtures::config;
use crate::fixtures::config_file;
use crate::fixtures::frame::eth;
use crate::fixtures::json;
use crate::fixtures::path_of;
use crate::fixtures::server;
use crate::fixtures::vip;

const INSTANCE: &str = "instance default";

/// Sends datagrams to a VIP as long as `test` runs.
fn while_clients_ask(rig: &Rig, vip: &str, test: impl FnOnce()) {
    let client = rig.client().open(|| UdpSocket::bind("0.0.0.0:0")).expect("a socket");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                // The kernel tells an earlier one's error here.
                let _ = client.send_to(b"?", server(vip));
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(test));
        stop.store(true, Ordering::Relaxed);
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
    });
}

/// GUE goes to a real that takes none, and then takes it at another port.
#[test]
fn reals_that_do_not_take_gue() {
    const DNS: &str = "udp://10.200.1.4:53";
    let rig = Rig::new(1);
    let packets = "\n[packets]\nencapsulation = \"gue\"\nencap_source_v4 = \"172.31.0.2\"\n";
    rig.lbctl().apply(&config(&(packets.to_owned() + &vip(DNS, &["10.0.0.1"]))));
    let patient = Patient::new(rig.lbctl(), &rig.topology.balancer.ns, &[]);
    let real = &rig.topology.reals[0];
    let decap = |arguments: &[&str]| {
        let lbctl = crate::fixtures::Lbctl::new(&rig.bpffs).in_ns(&real.ns);
        lbctl.ok(&[&["--instance", &real.name, "decap"], arguments].concat());
    };
    while_clients_ask(&rig, DNS, || {
        patient.is_well("gue-port-unreachable", INSTANCE);
        decap(&["detach"]);
        let advice = "'lbctl decap attach'";
        patient.is_advised("gue-port-unreachable", INSTANCE, "error", advice);
        let status = rig.lbctl().ok(&["status"]).stdout;
        assert!(status.contains("reals answer \"port unreachable\" to packets"), "{status}");
        decap(&["attach", UPLINK, "--gue-port", "6081"]);
        patient.is_advised("gue-port-unreachable", INSTANCE, "error", advice);
        decap(&["attach", UPLINK]);
        patient.finds("gue-port-unreachable", INSTANCE, "note", &["but not while doctor looked"]);
    });
}

/// Another site's balancer has a source that this site does not know.
#[test]
fn packets_of_another_site_are_refused() {
    let host = Host::new();
    let with = |from: &str| {
        let end = format!("[[decapsulate]]\naddress = \"10.8.0.1\"\nfrom = [{from}]\n");
        Host::config(&(vip("tcp://10.200.1.1:80", &["10.0.0.1"]) + &end))
    };
    host.lbctl().apply(&with("\"10.9.0.0/16\""));
    let patient = Patient::new(host.lbctl(), &host.ns, &[]);
    patient.is_well("decapsulate-refused", INSTANCE);
    let inner = eth().ip4("192.168.1.2", "10.200.1.1").tcp(31337, 80).syn();
    let sent = eth().ip4("172.16.7.7", "10.8.0.1").raw(4).carrying(&inner).bytes();
    let steady = Steady::start(&host.ns, "nobody", move |_| sent.clone());
    let advice = "add its outer source to from of [[decapsulate]]";
    patient.is_advised("decapsulate-refused", INSTANCE, "warning", advice);
    let status = host.lbctl().ok(&["status"]).stdout;
    assert!(status.contains("in an outer header are dropped ("), "{status}");
    assert!(
        status.contains("\nDECAPSULATE  THEN     FROM\n10.8.0.1     balance  10.9.0.0/16\n"),
        "{status}"
    );
    assert!(
        status.contains("\ndecapsulated 0 balanced, 0 sent to the router; dropped: "),
        "{status}"
    );
    let ends = &json(&host.lbctl().ok(&["status", "--json"]))["decapsulate"];
    let expected =
        serde_json::json!({ "10.8.0.1": { "then": "balance", "from": ["10.9.0.0/16"] } });
    assert_eq!(*ends, expected);
    // As advised.
    host.lbctl().apply(&with("\"10.9.0.0/16\", \"172.16.0.0/16\""));
    patient.is_well("decapsulate-refused", INSTANCE);
    drop(steady);
}

/// A real is this host, which does not have the VIP's address: status says so as doctor does.
#[test]
fn status_knows_of_reals_that_cannot_deliver() {
    let host = Host::new();
    let vip = vip("tcp://10.200.1.1:80", &["172.31.0.2"]);
    host.lbctl().apply(&Host::config(&vip.replace("port", "allow_own_address = true\nport")));
    let found = || {
        let status = json(&host.lbctl().ok(&["status", "--json"]));
        let findings = status["condition"]["findings"].as_array().expect("findings").clone();
        let ids = findings.iter().filter_map(|one| one["finding"]["id"].as_str());
        ids.map(str::to_owned).collect::<Vec<_>>()
    };
    let is_told = || found().contains(&"local-without-vip".to_owned());
    assert!(is_told(), "{:?}", found());
    let patient = Patient::new(host.lbctl(), &host.ns, &[]);
    let place = "VIP address 10.200.1.1";
    let finding = patient.finds("local-without-vip", place, "error", &["is this host"]);
    host.ns.shell("ip link set lo up");
    patient.fix(&finding);
    assert!(!is_told(), "{:?}", found());
}

/// A file with a real that frames cannot reach, and a source of GUE that is another host's.
#[test]
fn a_file_is_compared_with_the_network() {
    let host = Host::new();
    let file = |source: &str| {
        let packets = format!("[packets]\nencap_source_v4 = \"{source}\"\n");
        let reals = ["10.0.0.1, encapsulation = \"l2\"", "10.0.0.2, encapsulation = \"gue\""];
        config_file(&Host::config(&(packets + &vip("tcp://10.200.1.1:80", &reals))))
    };
    let (other, own) = (file("172.31.0.77"), file("172.31.0.2"));
    let patient = Patient::new(host.lbctl(), &host.ns, &["-f", path_of(&other)]);
    let advice = "give it an address on that network";
    patient.is_advised("real-not-on-link", "real 10.0.0.1", "error", advice);
    let words = &["leave from 172.31.0.77, which is no address of this host"];
    patient.finds("gue-source-elsewhere", "packets.encap_source_v4", "note", words);
    let patient = patient.with(&["-f", path_of(&own)]);
    patient.is_well("gue-source-elsewhere", "host");
}
