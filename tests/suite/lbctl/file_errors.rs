//! Files with errors: one line names the file, and the line or key, and nothing changes.

use std::fmt::Write as _;
use std::fs;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use crate::fixtures::Host;
use crate::fixtures::Output;
use crate::fixtures::frame::eth;
use crate::fixtures::vip;

const VIP: &str = "tcp://10.200.1.1:80";

/// A VIP with one real, in whose text `old` is replaced by `new`.
fn bad_vip(from: &str, to: &str) -> String {
    let vip = vip(VIP, &["10.0.0.1, weight = 2"]);
    assert!(vip.contains(from), "{from}");
    vip.replace(from, to)
}

fn many_vips(count: u32) -> String {
    let address = |n: u32| format!("tcp://10.200.{}.{}:80", n / 250, n % 250 + 1);
    (0..count).map(|n| vip(&address(n), &[])).collect()
}

/// One VIP for every thousand.
fn many_reals(count: u32) -> String {
    let mut text = String::new();
    for start in (0..count).step_by(1000) {
        let reals: Vec<_> = (start..count.min(start + 1000))
            .map(|n| format!("10.1.{}.{}", n / 250, n % 250 + 1))
            .collect();
        let reals: Vec<_> = reals.iter().map(String::as_str).collect();
        write!(text, "{}", vip(&format!("tcp://10.200.1.1:{}", start / 1000 + 1), &reals))
            .expect("a string");
    }
    text
}

/// What is wrong, in which file, and what the error must say.
fn bad_files() -> Vec<(&'static str, String, &'static str)> {
    let interface = |from: &str, to: &str| Host::INTERFACE.replace(from, to);
    let two = |one: String| format!("{one}{one}");
    vec![
        ("no TOML", "[[vips]".to_owned(), ":1: "),
        ("unknown key", bad_vip("port", "portt"), ":4: vips[0].portt: unknown field"),
        ("unknown table", "[packet]\nmax_frame = 1500\n".into(), ":1: packet: unknown field"),
        ("wrong type", bad_vip("port = 80", "port = \"http\""), ":4: vips[0].port: invalid type"),
        ("wrong port", bad_vip("port = 80", "port = 65536"), ":4: vips[0].port: "),
        ("wrong protocol", bad_vip("\"tcp\"", "\"sctp\""), ":5: vips[0].protocol: "),
        ("no address", bad_vip("10.200.1.1", "10.200.1"), ":3: vips[0].address: "),
        (
            "no service address",
            bad_vip("10.200.1.1", "224.0.0.1"),
            ": vips[0].address: 224.0.0.1: ",
        ),
        ("no real's address", bad_vip("10.0.0.1", "real1"), ":6: vips[0].reals[0].address: "),
        ("negative weight", bad_vip("weight = 2", "weight = -2"), ":6: vips[0].reals[0].weight: "),
        (
            "too much weight",
            bad_vip("weight = 2", "weight = 65536"),
            ": vips[0].reals[0].weight: 65536",
        ),
        ("wrong state", bad_vip("weight = 2", "state = \"off\""), ":6: vips[0].reals[0].state: "),
        ("duplicate VIP", two(vip(VIP, &[])), ": vips[1]: tcp://10.200.1.1:80 is listed twice"),
        (
            "duplicate real",
            vip(VIP, &["10.0.0.1", "10.0.0.1"]),
            ": vips[0].reals[1].address: 10.0.0.1 is listed",
        ),
        (
            "duplicate interface",
            two(interface("", "")),
            ": interfaces[1].name: interface uplink is listed twice",
        ),
        ("wrong MAC", interface(":fe", ":fg"), ":4: interfaces[0].gateway_mac: "),
        (
            "nobody's MAC",
            interface("02:00:00:00:00:fe", "ff:ff:ff:ff:ff:ff"),
            ": interfaces[0].gateway_mac: ",
        ),
        (
            "two gateways",
            interface("gateway_mac", "gateway = \"auto\"\ngateway_mac"),
            ": interfaces[0].gateway_mac: ",
        ),
        (
            "wrong gateway",
            interface("gateway_mac = \"02", "gateway = \"02"),
            ":4: interfaces[0].gateway: ",
        ),
        ("wrong mode", interface("native", "offload"), ":3: interfaces[0].xdp_mode: "),
        ("no interface's name", interface("\"uplink\"", "\"a/b\""), ": interfaces[0].name: "),
        (
            "IPv4 source alone",
            format!(
                "[packets]\nencap_source_v4 = \"192.0.2.0/24\"\n{}",
                vip("tcp://[fc00:1::1]:80", &["fc00::1"])
            ),
            ": vips[0].reals[0].address: fc00::1 is IPv6, but only packets.encap_source_v4 is set",
        ),
        (
            "IPv6 as IPv4 source",
            "[packets]\nencap_source_v4 = \"fc00::/64\"\n".into(),
            ":2: packets.encap_source_v4: ",
        ),
        ("too many VIPs", many_vips(513), ": vips: 513 entries; at most 512 are supported"),
        ("too many reals", many_reals(4097), ": vips[].reals: 4097 different reals; at most 4096"),
        (
            "no such CPU",
            "[connection_table]\ncpus = [1023]\n".into(),
            "connection_table.cpus: this host has no CPU 1023",
        ),
    ]
}

#[test]
fn configurations() {
    let host = Host::new();
    let cases = bad_files();
    let saved = || host.lbctl().run(&["save"]).stdout;
    // First while nothing runs, then while an instance runs.
    for running in [false, true] {
        if running {
            host.lbctl().apply(&Host::config(&vip(VIP, &["10.0.0.7"])));
        }
        let before = saved();
        assert_eq!(before.is_empty(), !running);
        for (name, text, words) in &cases {
            let folder = tempfile::tempdir().expect("a folder");
            let file = folder.path().join("lb.toml");
            fs::write(&file, text).expect("write");
            let path = file.to_str().expect("a printable path");
            let output = host.lbctl().exits(1, &["apply", "-f", path]);
            assert!(output.stderr.contains(words), "{name}: '{words}' is not in {output}");
            assert_eq!(output.stderr.lines().count(), 1, "{name}: one line: {output}");
            if *name != "no such CPU" {
                assert!(
                    output.stderr.starts_with(&format!("error: {path}:")),
                    "{name}: the file: {output}"
                );
            }
            assert_eq!(
                host.lbctl().exits(1, &["plan", "-f", path]).stderr,
                output.stderr,
                "{name}: plan says the same"
            );
        }
        assert_eq!(saved(), before);
        assert_eq!(host.has_pins("default"), running);
    }
    let output = host.lbctl().exits(1, &["apply", "-f", "/nonexistent/lb.toml"]);
    assert!(output.stderr.contains("/nonexistent/lb.toml: cannot be read"), "{output}");
    // The limits themselves are within the limits.
    host.lbctl().apply(&Host::config(&many_vips(512)));
    host.lbctl().apply(&Host::config(&many_reals(4096)));
}

#[test]
fn json_by_name() {
    let host = Host::new();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("lb.json");
    let path = file.to_str().expect("a printable path");
    for (text, words) in [
        (
            "{\n \"vips\": [ { \"adress\": \"10.200.1.1\" } ] }",
            "lb.json:2: vips[0].adress: unknown field",
        ),
        ("{ \"vips\": 1 }", "lb.json:1: vips: invalid type"),
        ("[[vips]]", "lb.json:1: "),
        ("{", "lb.json:1: EOF while parsing"),
        ("{} x", "lb.json:1: trailing characters"),
    ] {
        fs::write(&file, text).expect("write");
        let output = host.lbctl().exits(1, &["apply", "-f", path]);
        assert!(output.stderr.contains(words), "'{words}' is not in {output}");
        assert_eq!(output.stderr.lines().count(), 1, "{output}");
    }
}

/// `lbctl test` needs no instance, and touches none.
#[test]
fn packet_tests() {
    let host = Host::new();
    let frame = "AgAAAAD+AgAAAAABCAA="; // an Ethernet header
    let case = |input: &str, action: &str| {
        format!("{{ \"name\": \"a case\", \"input\": \"{input}\", \"action\": \"{action}\" }}")
    };
    let file = |cases: &str| format!("{{ \"config\": {{}}, \"cases\": [ {cases} ] }}");
    for (text, code, words) in [
        (file(&case("not base64!", "XDP_PASS")), 1, "cases[0] (a case): input: not base64"),
        (
            file(&case("AgAAAAD+AgAAAAABCA==", "XDP_PASS")),
            1,
            "cases[0] (a case): input: a frame of 13 bytes",
        ),
        (
            file(&case(frame, "XDP_THROW")),
            1,
            "cases[0] (a case): action: 'XDP_THROW' is not one of XDP_ABORTED",
        ),
        (file(&case(frame, "XDP_PASS").replace("input", "inputt")), 1, "unknown field `inputt`"),
        (
            file(
                &(case(frame, "XDP_PASS").trim_end_matches('}').to_owned()
                    + ", \"output\": \"?\" }"),
            ),
            1,
            "output: not base64",
        ),
        (
            "{ \"config\": { \"vips\": [ {} ] }, \"cases\": [] }".to_owned(),
            1,
            "config.vips[0]: missing field",
        ),
        ("{}".to_owned(), 1, "missing field `config`"),
        ("no JSON".to_owned(), 1, "expected"),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("packets.json");
        fs::write(&path, &text).expect("write");
        let output = host.lbctl().exits(code, &["test", path.to_str().expect("a printable path")]);
        assert!(output.stderr.contains(words), "{text}: '{words}' is not in {output}");
        assert!(
            output.stderr.starts_with(&format!("error: {}: ", path.display())),
            "the file: {output}"
        );
        assert_eq!((output.stderr.lines().count(), output.stdout.as_str()), (1, ""), "{output}");
    }
    // Tests that can be run set the exit code by their result.
    for (action, code, last) in
        [("XDP_PASS", 0, "1 passed, 0 failed\n"), ("XDP_DROP", 1, "0 passed, 1 failed\n")]
    {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("packets.json");
        fs::write(&path, file(&case(frame, action))).expect("write");
        let output = host.lbctl().exits(code, &["test", path.to_str().expect("a printable path")]);
        assert!(output.stdout.ends_with(last), "{output}");
        assert_eq!(output.stderr, "", "{output}");
    }
    long_packet_tests(&host);
    let output = host.lbctl().exits(1, &["test", "/nonexistent/packets.json"]);
    assert!(output.stderr.contains("/nonexistent/packets.json: cannot be read"), "{output}");
    assert!(!host.has_pins(""), "packet tests pin nothing");
}

/// A frame is judged whole or refused: of one that ends earlier than its IP header says, nothing else would be
/// said than that.
fn long_packet_tests(host: &Host) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("packets.json");
    let config = r#"{ "interfaces": [ { "name": "lo", "gateway_mac": "02:00:00:00:00:fe" } ],
        "packets": { "oversize": "drop" },
        "vips": [ { "address": "10.200.1.1", "port": 80, "protocol": "tcp", "reals": [] } ] }"#;
    let test = |length: usize, metadata: u32| {
        let frame = eth().ip4("192.0.2.1", "10.200.1.1").tcp(31337, 80).syn().filled_to(length);
        let input = BASE64_STANDARD.encode(frame.bytes());
        let case = format!(
            r#"{{ "name": "long", "input": "{input}", "metadata": {metadata}, "action": "XDP_DROP", "reason": "too_big" }}"#
        );
        fs::write(&path, format!(r#"{{ "config": {config}, "cases": [ {case} ] }}"#))
            .expect("write");
        host.lbctl().run(&["test", path.to_str().expect("a printable path")])
    };
    let refused = |output: &Output| {
        assert_eq!((output.code(), output.stdout.as_str()), (Some(1), ""), "{output}");
        let place = format!("error: {}: cases[0] (long): input: a frame of ", path.display());
        assert!(output.stderr.starts_with(&place), "{output}");
        let longest = output.stderr.split_once("sees at most ").expect("the limit").1;
        let longest = longest.split_once(' ').expect("a number").0;
        longest.parse::<usize>().expect("a number")
    };
    let longest = refused(&test(60_000, 0));
    // Metadata is headroom, and takes nothing from the frame.
    for metadata in [0, 32] {
        let output = test(longest, metadata);
        assert_eq!(output.code(), Some(0), "{output}");
        assert_eq!(refused(&test(longest + 1, metadata)), longest);
    }
}
