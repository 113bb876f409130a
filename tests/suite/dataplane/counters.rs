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
