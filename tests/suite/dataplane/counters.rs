//! All counters of a packet agree: by reason, by VIP and by real.

use l4lb::Protocol;
use l4lb::trace::TracePacket;

use crate::fixtures::Host;
use crate::fixtures::json;
use crate::fixtures::on_one_cpu;
use crate::fixtures::send_frame;
use crate::fixtures::vip;
use crate::fixtures::wait_until;

const SERVED: &str = "udp://10.200.1.1:53";
const WITHOUT_REALS: &str = "udp://10.200.1.2:53";

fn send(host: &Host, vip: &str, client_port: u16, payload: u16) {
    let vip: l4lb::Vip = vip.parse().expect("a VIP");
    let packet = TracePacket {
        protocol: Protocol::Udp,
        client: ([192, 0, 2, 1], client_port).into(),
        server: (vip.address, vip.port).into(),
        syn: false,
        payload,
    };
    send_frame(&host.ns, "nobody", &packet.frame().expect("a frame"));
}

#[test]
fn what_no_real_gets() {
    let host = Host::new();
    let vips = vip(SERVED, &["10.0.0.1"]) + &vip(WITHOUT_REALS, &[]);
    host.lbctl().apply(&Host::config(&format!("\n[packets]\nmax_frame = 1400\n{vips}")));
    on_one_cpu(|| {
        for port in 1..=5 {
            send(&host, WITHOUT_REALS, port, 8);
        }
        for port in 1..=3 {
            send(&host, SERVED, port, 8);
            send(&host, SERVED, port, 8);
            send(&host, SERVED, port, 1400);
        }
    });
    let stats = || json(&host.lbctl().ok(&["stats", "--json"]));
    let all = wait_until(std::time::Duration::from_secs(5), || stats()["total"]["packets"] == 14);
    let stats = stats();
    assert!(all, "{stats}");
    let of = |vip: &str, key: &str| stats["vips"][vip][key].as_u64().expect("a number");

    assert_eq!((of(WITHOUT_REALS, "packets"), of(WITHOUT_REALS, "dropped")), (0, 5));
    // Those that are too long are answered, which is no drop.
    assert_eq!((of(SERVED, "packets"), of(SERVED, "dropped")), (6, 0));
    let dropped = stats["reasons"].as_array().expect("reasons").iter();
    let dropped = dropped.filter(|reason| reason["verdict"] == "drop");
    let dropped: u64 = dropped.map(|reason| reason["packets"].as_u64().expect("a number")).sum();
    assert_eq!(dropped, 5, "{stats}");

    assert_eq!((of(WITHOUT_REALS, "new_flows"), of(SERVED, "new_flows")), (0, 3));
    assert_eq!(stats["table"]["inserted"], 3, "nothing is remembered without a real: {stats}");
}

/// One packet of each of these client ports.
fn send_all(host: &Host, vip: &str, ports: std::ops::RangeInclusive<u16>) {
    on_one_cpu(|| ports.for_each(|port| send(host, vip, port, 8)));
}

/// What `lbctl real list` shows of a real: for this VIP, and for all.
fn sent(host: &Host, vip: &str, real: &str) -> (Option<u64>, u64) {
    let vips = json(&host.lbctl().ok(&["real", "list", vip, "--json"]));
    let reals = vips[0]["reals"].as_array().expect("reals").iter();
    let of_real = reals.clone().find(|of_real| of_real["address"] == real);
    let of_real = of_real.unwrap_or_else(|| panic!("{real}: {vips}"));
    let in_all = of_real["sent_for_all_vips"]["packets"].as_u64().expect("a number");
    (of_real["sent"]["packets"].as_u64(), in_all)
}

/// Two VIPs share a real, and each shows what it sent to it, whatever else changes.
#[test]
fn a_real_is_counted_for_each_of_its_vips() {
    const ONE: &str = "udp://10.200.1.1:53";
    const OTHER: &str = "udp://10.200.1.2:53";
    const REAL: &str = "10.0.0.1";
    let host = Host::new();
    let apply = |vips: &str| host.lbctl().apply(&Host::config(vips));
    let wait = |vip: &str, wanted: (Option<u64>, u64)| {
        let found =
            wait_until(std::time::Duration::from_secs(5), || sent(&host, vip, REAL) == wanted);
        assert!(found, "{vip}: {:?} instead of {wanted:?}", sent(&host, vip, REAL));
    };
    apply(&(vip(ONE, &[REAL]) + &vip(OTHER, &[REAL])));
    send_all(&host, ONE, 1..=3);
    send_all(&host, OTHER, 1..=5);
    wait(ONE, (Some(3), 8));
    wait(OTHER, (Some(5), 8));
    let text = host.lbctl().ok(&["real", "list", OTHER]).stdout;
    let line = text.lines().find(|line| line.contains(REAL)).expect("a line");
    assert!(line.split_whitespace().any(|word| word == "5"), "{text}");

    // Further reals of one VIP, among them some that others count beside: what was counted stays.
    let many: Vec<String> = (1..=200).map(|n| format!("10.0.0.{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    apply(&(vip(ONE, &many) + &vip(OTHER, &[REAL])));
    wait(ONE, (Some(3), 8));
    wait(OTHER, (Some(5), 8));
    send_all(&host, OTHER, 10..=11);
    wait(OTHER, (Some(7), 10));

    // A VIP that goes leaves its part of the sum. It begins at zero when it comes again.
    host.lbctl().ok(&["vip", "delete", ONE]);
    wait(OTHER, (Some(7), 10));
    apply(&(vip(ONE, &[REAL]) + &vip(OTHER, &[REAL])));
    wait(ONE, (Some(0), 10));
    send_all(&host, ONE, 1..=1);
    wait(ONE, (Some(1), 11));

    // So does a real that leaves one of its VIPs.
    host.lbctl().ok(&["real", "delete", OTHER, REAL]);
    wait(ONE, (Some(1), 11));
    host.lbctl().ok(&["real", "add", OTHER, REAL]);
    wait(OTHER, (Some(0), 11));
}
