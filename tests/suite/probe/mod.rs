//! `lbctl probe`, with real servers behind a real balancer.

use std::time::Duration;

use serde_json::Value;

use crate::fixtures::Bpffs;
use crate::fixtures::HttpServer;
use crate::fixtures::Lbctl;
use crate::fixtures::NetNs;
use crate::fixtures::Rig;
use crate::fixtures::UPLINK;
use crate::fixtures::config;
use crate::fixtures::json;
use crate::fixtures::vip;
use crate::fixtures::wait_until;

const V4: &str = "tcp://10.200.1.1:80";
const V6: &str = "tcp://[fc00:1::1]:80";

/// A check that gives up soon.
const HTTP: &str = "check = { type = \"http\", timeout = \"3s\" }\n";

fn rig() -> Rig {
    let rig = Rig::new(2);
    let reals = ["10.0.0.1", "10.0.0.2", "fc00::1", "fc00::2"];
    let vips = [V4, V6].map(|name| vip(name, &reals) + HTTP);
    rig.lbctl().apply(&config(&vips.concat()));
    rig
}

/// The reports of `lbctl probe`, which exits with this code.
#[track_caller]
fn probe(rig: &Rig, code: i32, arguments: &[&str]) -> Vec<Value> {
    let output = rig.lbctl().exits(code, &[&["probe", "--json"], arguments].concat());
    json(&output)["reals"].as_array().expect("it has reals").clone()
}

/// Why the only real that is checked is not well.
#[track_caller]
fn reason(rig: &Rig, arguments: &[&str]) -> String {
    let reports = probe(rig, 1, arguments);
    assert_eq!(reports.len(), 1, "{reports:?}");
    reports[0]["reason"].as_str().expect("a reason").to_owned()
}

#[test]
fn every_step_to_every_real_is_shown() {
    let rig = rig();
    for name in [V4, V6] {
        let reports = probe(&rig, 0, &[name]);
        assert_eq!(reports.len(), 4, "{reports:?}");
        for report in reports {
            assert_eq!(report["reason"], "HTTP 200", "{report}");
            let steps = report["steps"].as_array().expect("it has steps");
            let steps: Vec<_> = steps.iter().filter_map(|step| step["name"].as_str()).collect();
            let all = "route source mark connected filled request status body verdict";
            assert_eq!(steps.join(" "), all, "{report}");
        }
    }
    let text = rig.lbctl().ok(&["probe", V4, "10.0.0.2"]).stdout;
    for shown in
        ["10.0.0.2: http, port 80, through the tunnel", UPLINK, "0x4c34", "healthy: HTTP 200"]
    {
        assert!(text.contains(shown), "{shown}: {text}");
    }
}

#[test]
fn each_failure_has_its_own_reason() {
    let mut rig = rig();
    let real = "10.0.0.1";
    let vips_of = |rig: &Rig, what: &str| {
        let command = format!("ip route {what} local 10.200.0.0/16 dev lo");
        rig.topology.reals[0].ns.shell(&command);
    };

    // The VIP's address is lost.
    vips_of(&rig, "del");
    assert_eq!(
        reason(&rig, &[V4, real]),
        "no answer to SYN in the tunnel, only directly (decap? VIP?) in 3s"
    );
    probe(&rig, 0, &[V4, real, "--via", "direct"]);
    probe(&rig, 0, &[V4, "10.0.0.2"]);
    vips_of(&rig, "add");
    probe(&rig, 0, &[V4, real]);

    // A client's longest packet fits with its outer header; then it does not.
    let mtu = |rig: &Rig, mtu: u32| {
        rig.topology.router.shell(&format!("ip link set to-real1 mtu {mtu}"));
    };
    mtu(&rig, 1520);
    probe(&rig, 0, &[V4, real]);
    mtu(&rig, 1500);
    for name in [V4, V6] {
        assert_eq!(reason(&rig, &[name, real]), "full-size packets do not arrive (MTU?)");
    }
    probe(&rig, 0, &[V4, real, "--type", "tcp"]);
    probe(&rig, 0, &[V4, real, "--via", "direct"]);
    mtu(&rig, 1600);

    // The server does not answer TLS, and then it is gone.
    let tls = reason(&rig, &[V4, real, "--type", "tls"]);
    assert!(tls.starts_with("handshake: ") || tls.starts_with("connection"), "{tls}");
    drop(rig.servers.remove(0));
    assert_eq!(reason(&rig, &[V4, real]), "connection refused");
    assert_eq!(reason(&rig, &[V4, real, "--via", "direct"]), "connection refused");

    // This host has no way.
    rig.topology.balancer.ns.shell("ip route del default");
    let output = rig.lbctl().exits(1, &["probe", V4, real]);
    assert!(output.stderr.contains("no IPv4 route"), "{output}");
    let report = &probe(&rig, 1, &[V4, real, "--via", "direct"])[0];
    assert_eq!(
        (&report["state"], &report["class"]),
        (&"unknown".into(), &"local".into()),
        "{report}"
    );
}

/// Checks that need to be told more than their type; and several reals.
#[test]
fn names_programs_and_lists_are_given() {
    let rig = rig();
    let direct = ["--via", "direct"];
    let exec = |code, program| {
        let arguments = [V4, "10.0.0.2", "10.0.0.1", "--type", "exec", "--program", program];
        let reports = probe(&rig, code, &[&arguments[..], &direct].concat());
        reports.iter().map(|report| report["real"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(exec(0, "/bin/true"), ["10.0.0.2", "10.0.0.1"], "as they were named");
    exec(1, "/bin/false");
    let dns = ["--type", "dns", "--port", "53", "--name"];
    let of = |name| [&[V4, "10.0.0.1"], &dns[..], &[name], &direct].concat();
    assert_eq!(reason(&rig, &of("www.l4lb.test")), "connection refused");
    let output = rig.lbctl().exits(1, &[&["probe"], &of("a..b")[..]].concat());
    assert!(output.stderr.contains("'a..b' is no name of the DNS"), "{output}");
    for (more, why) in [
        (&["--type", "dns"][..], "--name <NAME>"),
        (&["--type", "exec"], "--program <PATH>"),
        (&["--type", "tcp", "--name", "a.example"], "--name is for --type dns"),
        (
            &["--type", "dns", "--name", "a", "--program", "/bin/true"],
            "--program is for --type exec",
        ),
        (&["--name", "a.example"], "--type <KIND>"),
    ] {
        let output = rig.lbctl().exits(2, &[&["probe", V4], more].concat());
        assert!(output.stderr.contains(why), "{output}");
    }
    let wrong = ["probe", V4, "10.0.0.1", "--type", "exec", "--program", "/nonexistent"];
    let output = rig.lbctl().exits(1, &wrong);
    assert!(output.stderr.contains("/nonexistent"), "{output}");
}

/// OpenSSL is the library of most servers. It must understand a first message that fills a packet.
#[test]
fn openssl_takes_a_handshake_that_fills_a_packet() {
    let rig = rig();
    let files = tempfile::tempdir().expect("a folder");
    let key = rcgen::generate_simple_self_signed(vec!["www.example".to_owned()]).expect("a key");
    let path = |name: &str| files.path().join(name);
    std::fs::write(path("cert"), key.cert.pem()).expect("write a certificate");
    std::fs::write(path("key"), key.signing_key.serialize_pem()).expect("write a key");
    let mut server = rig.topology.reals[0].ns.command("openssl");
    server.args(["s_server", "-quiet", "-accept", "443", "-cert"]).arg(path("cert"));
    server.arg("-key").arg(path("key")).stdin(std::process::Stdio::piped());
    let mut server = server.spawn().expect("openssl runs");
    let https = ["probe", V4, "10.0.0.1", "--type", "tls", "--port", "443"];
    let well = wait_until(Duration::from_secs(20), || rig.lbctl().run(&https).code() == Some(0));
    let report = well.then(|| probe(&rig, 0, &https[1..]));
    // The same, if the way is too narrow.
    rig.topology.router.shell("ip link set to-real1 mtu 1500");
    let narrow = rig.lbctl().run(&https);
    server.kill().expect("it runs");
    server.wait().expect("it ends");
    let report = report.expect("the handshake is completed");
    assert_eq!(report[0]["reason"], "TLSv1.3", "{report:?}");
    assert!(report[0]["certificate_expires"].is_u64(), "{report:?}");
    assert!(narrow.stdout.contains("full-size packets do not arrive (MTU?)"), "{narrow}");
}

#[test]
fn a_real_can_be_checked_without_a_balancer() {
    let bpffs = Bpffs::new();
    let ns = NetNs::new();
    ns.shell("ip link set lo up && ip addr add 10.0.0.1/32 dev lo");
    let server = HttpServer::start(&ns, "real1", 8080);
    let lbctl = Lbctl::new(&bpffs).in_ns(&ns);
    let vip = "tcp://10.200.1.1:8080";
    let direct = ["--type", "http", "--via", "direct"];
    let of = |real| [&["probe", vip, real], &direct[..]].concat();
    lbctl.ok(&of("10.0.0.1"));
    let output = lbctl.exits(1, &of("10.0.0.9"));
    assert!(output.stdout.contains("unknown: no route to 10.0.0.9 here"), "{output}");
    drop(server);
    let output = lbctl.exits(1, &of("10.0.0.1"));
    assert!(output.stdout.contains("connection refused"), "{output}");
    // The tunnel, and the check of the VIP, are the balancer's.
    lbctl.exits(1, &["probe", vip, "10.0.0.1", "--type", "http"]);
    lbctl.exits(1, &["probe", vip, "10.0.0.1"]);
}

#[test]
fn the_tunnel_is_made_for_as_long_as_it_is_needed() {
    let rig = Rig::new(1);
    rig.lbctl().apply(&config(&vip(V4, &["10.0.0.1"])));
    let pin = rig.bpffs.path().join("l4lb/default/prog/healthcheck");
    assert!(!pin.exists(), "nobody checks");
    // Without a check of its own, a VIP of TCP is asked for a connection.
    let text = rig.lbctl().ok(&["probe", V4]).stdout;
    assert!(text.contains("10.0.0.1: tcp, port 80, through the tunnel"), "{text}");
    assert!(!pin.exists(), "the tunnel stays");
    let gue = "\n[packets]\nencapsulation = \"gue\"\nencap_source_v4 = \"172.31.0.2\"\n";
    let by_gue = config(&(gue.to_owned() + &vip(V4, &["10.0.0.1"])));
    rig.lbctl().ok(&[
        "apply",
        "--yes",
        "-f",
        crate::fixtures::path_of(&crate::fixtures::config_file(&by_gue)),
    ]);
    let text = rig.lbctl().ok(&["probe", V4]).stdout;
    assert!(text.contains("10.0.0.1: tcp, port 80, through the tunnel, by gue"), "{text}");
    let probed = json(&rig.lbctl().ok(&["probe", V4, "--json"]));
    assert_eq!(probed["reals"][0]["encapsulation"], "gue");
    for (arguments, why) in [
        (&["probe", "udp://10.200.1.1:53"][..], "no VIP udp://10.200.1.1:53"),
        (&["probe", V4, "--check", "nothing"], "no check is called 'nothing'"),
        (&["probe", V4, "10.0.0.7"], "10.0.0.7"),
    ] {
        let output = rig.lbctl().run(arguments);
        assert!(output.code() != Some(0) && output.stderr.contains(why), "{output}");
        assert_eq!(output.stderr.lines().count(), 1, "{output}");
    }
}
