//! What leaves by GUE, looked into at the port that the balancer sends to, also when that changes.

use super::VIP;
use super::ask;
use super::dump;
use super::send;
use super::wait_for_lines;
use crate::fixtures::Lbctl;
use crate::fixtures::Rig;
use crate::fixtures::UPLINK;
use crate::fixtures::config;
use crate::fixtures::frame::eth;
use crate::fixtures::vip;
use crate::fixtures::wait_until;

fn with_port(port: u16) -> String {
    let packets = format!(
        "\n[packets]\nencapsulation = \"gue\"\ngue_port = {port}\nencap_source_v4 = \"172.31.0.2/32\"\n"
    );
    config(&(packets + &vip(VIP, &["10.0.0.1"])))
}

#[test]
fn the_packet_inside_is_shown_and_matched_at_the_port_of_the_balancer() {
    let rig = Rig::new(1);
    let real = &rig.topology.reals[0].ns;
    let attach =
        ["--instance", "real1", "decap", "attach", UPLINK, "--gue-port", "6080,7000"].as_slice();
    Lbctl::new(&rig.bpffs).in_ns(real).ok(attach);
    rig.lbctl().apply(&with_port(6080));
    let at_exit = dump(&rig, &["--at", "exit", "--inner", "tcp dst port 80"]);
    let mut at_real = Lbctl::new(&rig.bpffs).in_ns(real).spawn(&[
        "--instance",
        "real1",
        "dump",
        "--inner",
        "tcp port 80",
    ]);
    at_real.wait_for("capturing");
    ask(&rig, VIP, 21_000);
    let line = |port: u16, client: u16| {
        format!(
            "10.0.0.1.{port}: GUE variant 1: IP 192.168.1.2.{client} > 10.200.1.1.80: Flags [S]"
        )
    };
    wait_for_lines(&at_exit, &line(6080, 21_000), 1);

    rig.lbctl().apply(&with_port(7000));
    let client = std::cell::Cell::new(21_001);
    let shown = wait_until(std::time::Duration::from_secs(20), || {
        client.set(client.get() + 1);
        ask(&rig, VIP, client.get());
        at_exit.stdout().contains(&line(7000, client.get()))
    });
    assert!(shown, "{}\n{}", at_exit.stdout(), at_exit.stderr());
    wait_for_lines(&at_real, &line(6080, 21_000), 1);
    wait_for_lines(&at_real, &line(7000, client.get()), 1);

    // What is UDP to the port that was, is no GUE any more.
    let plain = dump(&rig, &["udp port 6080"]);
    let mut frame = eth().ip4("192.0.2.1", "172.31.0.2").udp(5, 6080).data(&[0x45; 30]).bytes();
    frame[..6].copy_from_slice(&[2, 0, 0, 0, 0, 0xb1]);
    send(&rig, &frame, 1);
    wait_for_lines(&plain, "172.31.0.2.6080: UDP, length 30", 1);
    for running in [at_exit, at_real, plain] {
        let output = running.stop();
        assert_eq!(output.code(), Some(0), "{output}");
    }
}
