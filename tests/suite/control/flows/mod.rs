//! `lbctl flows` shows the flows that packets made, and deletes those that were selected, no others.

mod delete;
mod expiry;
mod moving;
mod remembered;

use std::collections::BTreeMap;
use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Read as _;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use l4lb::Vip;
use serde_json::Value;
use serde_json::json;

use crate::fixtures::Host;
use crate::fixtures::Injector;
use crate::fixtures::Lbctl;
use crate::fixtures::inject::frame;
use crate::fixtures::two_cpus;
use crate::fixtures::vip;

const KINDS: [&str; 2] = ["set-associative", "lru"];

const TCP4: &str = "tcp://10.200.1.1:80";
const UDP4: &str = "udp://10.200.1.1:53";
const TCP6: &str = "tcp://[fc00:1::1]:80";

/// Applies VIPs with tables of this kind on CPUs 0 and 1, or on some of them.
fn apply(host: &Host, kind: &str, cpus: &str, vips: &str) {
    host.lbctl().apply(&Host::config(&format!("kind = \"{kind}\"\ncpus = {cpus}\n{vips}")));
}

/// What `lbctl flows … --json` printed, line by line.
#[track_caller]
fn lines(lbctl: &Lbctl<'_>, arguments: &[&str]) -> Vec<Value> {
    let output = lbctl.ok(&[&["flows"], arguments, &["--json"]].concat());
    let line = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    output.stdout.lines().map(line).collect()
}

/// How many flows these selectors list.
#[track_caller]
fn listed(host: &Host, selectors: &[&str]) -> usize {
    lines(&host.lbctl(), &[&["list"], selectors].concat()).len()
}

fn client(text: &str) -> SocketAddr {
    text.parse().expect("an address and a port")
}

/// Every flow of either family is in the table of the CPU that its packets came to, and leads where they went.
#[test]
fn every_table_is_read() {
    if !two_cpus() {
        return;
    }
    let reals = ["10.0.0.1", "10.0.0.2", "fc00::1"];
    let vips: String = [TCP4, UDP4, TCP6].map(|uri| vip(uri, &reals)).concat();
    for kind in KINDS {
        // With and without a table of its own for CPU 1.
        for cpus in ["[0, 1]", "[0]"] {
            let host = Host::new();
            apply(&host, kind, cpus, &vips);
            let injector = Injector::new(&host);
            let mut expected = BTreeMap::new();
            for number in 0..24_u16 {
                let (uri, address) = match number % 3 {
                    0 => (TCP4, format!("192.0.2.{number}")),
                    1 => (UDP4, format!("192.0.2.{number}")),
                    _ => (TCP6, format!("[2001:db8::{number}]")),
                };
                let (of, cpu) = (uri.parse::<Vip>().expect("a VIP"), u32::from(number / 3 % 2));
                let from = client(&format!("{address}:{}", 1000 + number));
                let real = injector.send(cpu, &frame(&of, from, of.port)).expect("sent to a real");
                let cpu = (cpu == 0 || cpus == "[0, 1]").then_some(cpu);
                expected.insert(from.to_string(), (uri, of.port, real, cpu));

                let to = SocketAddr::new(of.address, of.port).to_string();
                let protocol = of.protocol.to_string();
                let found = lines(&host.lbctl(), &["find", &protocol, &from.to_string(), &to]);
                let [found] = &found[..] else { panic!("{kind}: one entry, not {found:?}") };
                assert_eq!(found["real"], json!(real), "{kind}: {found}");
                assert_eq!(found["cpu"], json!(cpu), "{kind}: {found}");
            }
            let flows = lines(&host.lbctl(), &["list"]);
            assert_eq!(flows.len(), expected.len(), "{kind} {cpus}: {flows:?}");
            for flow in flows {
                let text = |key: &str| flow[key].as_str().expect("text").to_owned();
                let address: IpAddr = text("client").parse().expect("an address");
                let port = flow["client_port"].as_u64().and_then(|port| port.try_into().ok());
                let from = SocketAddr::new(address, port.expect("a port")).to_string();
                let (uri, port, real, cpu) = expected.remove(&from).expect("a flow that was sent");
                assert_eq!(text("vip"), uri, "{flow}");
                assert_eq!(flow["port"], json!(port), "{flow}");
                assert_eq!(flow["real"], json!(real), "{flow}");
                assert_eq!(flow["cpu"], json!(cpu), "{flow}");
                assert_eq!(flow["state"], "live", "{flow}");
                assert!(flow["age_seconds"].as_u64().expect("a number") < 3600, "{flow}");
                let lru = kind == "lru" || cpu.is_none();
                let insert = lru && uri != UDP4;
                let age_of = if insert { "insert" } else { "last_packet" };
                assert_eq!(flow["age_of"], age_of, "{kind} {flow}");
            }
            let by_cpu = host.lbctl().ok(&["flows", "count", "--by", "cpu", "--json"]);
            let by_cpu = crate::fixtures::json(&by_cpu);
            assert_eq!(by_cpu["entries"], 24);
            assert_eq!(by_cpu["groups"][0]["entries"], 12, "{by_cpu}");
            assert_eq!(by_cpu["groups"].as_array().map(Vec::len), Some(2), "{by_cpu}");
        }
    }
}

/// A flow is found by what its packets say, whatever the VIP makes of that.
#[test]
fn finding_minds_hash_modes_and_wildcards() {
    let modes = [
        ("5-tuple", 80, "192.0.2.1:31337"),
        ("no-source-port", 80, "192.0.2.1:*"),
        ("destination-port", 80, "*"),
        ("source-and-destination-port", 80, "192.0.2.1:31337"),
        ("5-tuple", 0, "192.0.2.1:31337"),
        ("no-source-port", 0, "192.0.2.1:*"),
        ("destination-port", 0, "*"),
        ("source-and-destination-port", 0, "192.0.2.1:31337"),
    ];
    for kind in KINDS {
        for v6 in [false, true] {
            let host = Host::new();
            let uri = |number: usize, port: u16| {
                let address =
                    if v6 { format!("[fc00:1::{number}]") } else { format!("10.200.1.{number}") };
                let port = if port == 0 { "*".to_owned() } else { port.to_string() };
                format!("tcp://{address}:{port}")
            };
            let vips = modes.iter().enumerate().map(|(number, (hash, port, _))| {
                let vip = vip(&uri(number + 1, *port).replace('*', "1"), &["10.0.0.1", "10.0.0.2"]);
                let port = format!("port = {port}\nhash = \"{hash}\"");
                vip.replace("port = 80", &port).replace("port = 1\n", &format!("{port}\n"))
            });
            apply(&host, kind, "[0]", &vips.collect::<String>());
            let injector = Injector::new(&host);
            let address = if v6 { "[2001:db8::1]" } else { "192.0.2.1" };
            let from = client(&format!("{address}:31337"));
            for (number, (hash, port, shown)) in modes.iter().enumerate() {
                let uri = uri(number + 1, *port);
                let of: Vip = uri.parse().expect("a VIP");
                let to = SocketAddr::new(of.address, if *port == 0 { 8443 } else { *port });
                let real = injector.send(0, &frame(&of, from, to.port())).expect("a real");
                let find = ["find", "tcp", &from.to_string(), &to.to_string()];
                let found = lines(&host.lbctl(), &find);
                let [found] = &found[..] else { panic!("{kind} {hash} {uri}: {found:?}") };
                assert_eq!(found["real"], json!(real), "{kind} {hash} {found}");
                assert_eq!(found["state"], "live", "{kind} {hash} {found}");
                let text = host.lbctl().ok(&[&["flows"][..], &find].concat()).stdout;
                assert!(text.contains(&shown.replace("192.0.2.1", address)), "{text}");
                let ring = format!("(the ring says {real}, ");
                assert!(text.contains(&ring), "not '{ring}': {text}");
                assert_eq!(text.contains(":* (8443)"), *port == 0 && hash.contains("destination"));
            }
        }
    }
}

/// An entry is stale as soon as packets do not follow it any more.
#[test]
fn stale_entries_say_why() {
    const OTHER: &str = "tcp://10.200.1.2:80";
    let real = ["10.0.0.1"];
    let state = |host: &Host, uri: &str| {
        let flows = lines(&host.lbctl(), &["list", "--vip", uri]);
        let [flow] = &flows[..] else { panic!("{uri}: one flow, not {flows:?}") };
        (flow["state"].as_str().expect("a state").to_owned(), flow["real"].clone())
    };
    for kind in KINDS {
        let host = Host::new();
        let quickly = "udp_timeout_seconds = 1\n";
        let vips = [TCP4, UDP4, TCP6, OTHER].map(|uri| vip(uri, &real)).concat();
        apply(&host, kind, "[0]", &format!("{quickly}{vips}"));
        let injector = Injector::new(&host);
        let send = |uri: &str| {
            let of: Vip = uri.parse().expect("a VIP");
            let address = if of.address.is_ipv6() { "[2001:db8::1]" } else { "192.0.2.1" };
            injector.send(0, &frame(&of, client(&format!("{address}:5")), of.port))
        };
        let uris = [TCP4, UDP4, TCP6, OTHER];
        assert!(uris.iter().all(|uri| send(uri).is_some()));
        assert_eq!(state(&host, TCP4), ("live".to_owned(), json!("10.0.0.1")));

        host.lbctl().ok(&["real", "drain", TCP4, "10.0.0.1"]);
        assert_eq!(state(&host, TCP4).0, "live");
        assert!(send(TCP4).is_some(), "the table decides");
        host.lbctl().ok(&["real", "down", TCP4, "10.0.0.1"]);
        assert_eq!(state(&host, TCP4), ("real_down".to_owned(), json!("10.0.0.1")));
        assert!(send(TCP4).is_none());
        let count = crate::fixtures::json(&host.lbctl().ok(&["flows", "count", "--json"]));
        let groups = count["groups"].as_array().expect("groups");
        let group = groups.iter().find(|group| group["group"] == TCP4).expect("the VIP's");
        assert_eq!((&count["entries"], &group["stale"]), (&json!(4), &json!(1)), "{count}");

        host.lbctl().ok(&["real", "delete", TCP4, "10.0.0.1"]);
        assert_eq!(state(&host, TCP4), ("real_removed".to_owned(), json!("10.0.0.1")));
        assert_eq!(state(&host, OTHER).0, "live", "it serves other VIPs");

        std::thread::sleep(Duration::from_secs(4));
        assert_eq!(state(&host, UDP4), ("expired".to_owned(), json!("10.0.0.1")));

        host.lbctl().ok(&["vip", "delete", OTHER]);
        let gone = lines(&host.lbctl(), &["list", "--state", "vip-removed"]);
        assert_eq!(gone.len(), 1, "{gone:?}");
        assert_eq!((&gone[0]["vip"], &gone[0]["client"]), (&Value::Null, &json!("192.0.2.1")));
        let text = host.lbctl().ok(&["flows", "list", "--state", "vip-removed"]).stdout;
        assert!(text.contains("(removed)") && text.contains("stale: VIP removed"), "{text}");
        // Added again, it is another one.
        host.lbctl().ok(&["vip", "add", OTHER]);
        assert_eq!(listed(&host, &["--vip", OTHER]), 0);

        // An owner of the real's id that has nothing to do with the flow.
        for uri in [UDP4, TCP6] {
            host.lbctl().ok(&["real", "delete", uri, "10.0.0.1"]);
        }
        assert_eq!(state(&host, TCP6), ("real_removed".to_owned(), json!("10.0.0.1")));
        for number in 2..=3 {
            host.lbctl().ok(&["real", "add", TCP6, &format!("10.0.0.{number}")]);
        }
        let (why, address) = state(&host, TCP6);
        assert_eq!(why, "real_removed");
        assert!(address == json!("10.0.0.1") || address.is_null(), "{address}");

        let none = format!("{}connection_table = false\n", vip(TCP6, &["10.0.0.2"]));
        apply(&host, kind, "[0]", &format!("{quickly}{none}"));
        assert_eq!(state(&host, TCP6).0, "unused");
        assert_eq!(listed(&host, &["--state", "stale"]), 4);
        assert_eq!(listed(&host, &["--state", "live"]), 0);
        host.lbctl().ok(&["flows", "delete", "--state", "vip-removed"]);
        assert_eq!(listed(&host, &[]), 1);
    }
}

/// Sets up five flows, four of them from port 1000.
fn some_flows(host: &Host, kind: &str) {
    let vips = [TCP4, UDP4, TCP6].map(|uri| vip(uri, &["10.0.0.1"])).concat();
    apply(host, kind, "[0]", &vips);
    let injector = Injector::new(host);
    for (uri, from) in [
        (TCP4, "192.0.2.1:1000"),
        (TCP4, "192.0.2.1:1001"),
        (TCP4, "198.51.100.1:1000"),
        (UDP4, "192.0.2.1:1000"),
        (TCP6, "[2001:db8::1]:1000"),
    ] {
        let of: Vip = uri.parse().expect("a VIP");
        injector.send(0, &frame(&of, client(from), of.port)).expect("sent");
    }
}

#[test]
fn selectors_apply_together() {
    for kind in KINDS {
        let host = Host::new();
        some_flows(&host, kind);
        for (selectors, count) in [
            (&[][..], 5),
            (&["--vip", TCP4], 3),
            (&["--vip", TCP6], 1),
            (&["--real", "10.0.0.1"], 5),
            (&["--client", "192.0.2.0/24"], 3),
            (&["--client", "192.0.2.1"], 3),
            (&["--client", "0.0.0.0/0"], 4),
            (&["--client", "2001:db8::/32"], 1),
            (&["--client", "192.0.2.128/25"], 0),
            (&["--client-port", "1000"], 4),
            (&["--vip", TCP4, "--client", "192.0.2.0/24"], 2),
            (&["--vip", TCP4, "--client", "192.0.2.0/24", "--client-port", "1001"], 1),
            (&["--older-than", "1h"], 0),
            (&["--younger-than", "1h"], 5),
            (&["--older-than", "0s", "--younger-than", "1h", "--vip", UDP4], 1),
            (&["--state", "live"], 5),
            (&["--state", "stale"], 0),
        ] {
            assert_eq!(listed(&host, selectors), count, "{kind}: {selectors:?}");
        }
        let count = crate::fixtures::json(&host.lbctl().ok(&[
            "flows",
            "count",
            "--client-port",
            "1000",
            "--json",
        ]));
        assert_eq!((&count["by"], &count["entries"]), (&json!("vip"), &json!(4)), "{count}");
        std::thread::sleep(Duration::from_secs(4));
        assert_eq!(listed(&host, &["--older-than", "2s"]), 5);
        assert_eq!(listed(&host, &["--younger-than", "2s"]), 0);
        let text = host.lbctl().ok(&["flows", "list", "--vip", TCP4]).stdout;
        let ages = if kind == "lru" { "s old" } else { "s idle" };
        assert_eq!(text.matches(ages).count(), 3, "{text}");
        assert!(text.starts_with("VIP "), "{text}");

        let deleted = |selectors: &[&str]| {
            let output = host.lbctl().ok(&[&["flows", "delete"], selectors].concat());
            output.stdout.trim_end().to_owned()
        };
        assert_eq!(deleted(&["--client", "192.0.2.128/25"]), "0 entries deleted");
        assert_eq!(deleted(&["--vip", TCP4, "--client-port", "1001"]), "1 entry deleted");
        assert_eq!(listed(&host, &[]), 4);
        assert_eq!(deleted(&["--older-than", "2s", "--client", "2001:db8::1"]), "1 entry deleted");
        assert_eq!(listed(&host, &["--client", "::/0"]), 0);
        let json = host.lbctl().ok(&["flows", "delete", "--all", "--json"]);
        assert_eq!(crate::fixtures::json(&json), json!({ "deleted": 3 }));
        assert_eq!(listed(&host, &[]), 0);
    }
}

#[test]
fn wrong_usage() {
    let host = Host::new();
    some_flows(&host, "set-associative");
    let says = |code: i32, arguments: &[&str], words: &str| {
        let output = host.lbctl().exits(code, &[&["flows"], arguments].concat());
        assert_eq!(output.stdout, "", "{output}");
        assert_eq!(output.stderr.lines().count(), 1, "{output}");
        assert!(output.stderr.contains(words), "not '{words}': {output}");
    };
    says(2, &["delete"], "--all deletes every one");
    says(2, &["delete", "--all", "--vip", TCP4], "'--all' cannot be used with '--vip");
    says(2, &["list", "--client", "192.0.2.0/33"], "write it like 192.0.2.0/24");
    says(2, &["list", "--older-than", "90"], "write it like 90s, 15m or 2h");
    says(2, &["list", "--client-port", "0"], "0 is not in 1..=65535");
    says(2, &["count", "--by", "port"], "possible values: vip, real, cpu, state");
    says(2, &["find", "icmp", "192.0.2.1:1", "10.200.1.1:80"], "write tcp or udp");
    says(2, &["find", "tcp", "192.0.2.1", "10.200.1.1:80"], "write it like 192.0.2.1:31337");
    says(2, &["find", "tcp://10.200.1.1:80"], "required");
    says(2, &["find", "tcp://10.200.1.1:*", "192.0.2.1:1"], "is for every port");
    says(
        1,
        &["find", "tcp://10.200.1.1:80", "192.0.2.9:1"],
        "no connection table has tcp 192.0.2.9:1",
    );
    says(2, &["list", "--real", "10.0.0"], "write it like 192.0.2.1");
    says(2, &["count", "--nothing"], "see 'lbctl flows count --help'");
    says(2, &["find", "tcp", "[2001:db8::1]:1", "10.200.1.1:80"], "not of the same IP version");
    says(1, &["list", "--vip", "tcp://10.200.1.1:81"], "no VIP tcp://10.200.1.1:81;");
    says(1, &["delete", "--vip", "tcp://10.200.1.1:81"], "no VIP tcp://10.200.1.1:81;");
    says(1, &["list", "--real", "10.0.0.9"], "no VIP has or recently had a real 10.0.0.9;");
    says(1, &["find", "tcp", "192.0.2.1:1", "10.200.1.1:81"], "no VIP serves tcp 10.200.1.1:81;");
    let ring = "no connection table has tcp 192.0.2.9:1 10.200.1.1:80 of VIP tcp://10.200.1.1:80; the ring says 10.0.0.1";
    says(1, &["find", "tcp", "192.0.2.9:1", "10.200.1.1:80"], ring);
    assert_eq!(listed(&host, &[]), 5, "nothing was deleted");
    let output = host.lbctl().ok(&["flows", "list", "--older-than", "20h"]);
    assert!(output.stderr.contains("tell ages up to 19h 31m: nothing in them"), "{output}");
    host.lbctl().ok(&["down"]);
    says(1, &["list"], "does not run");
}

/// A reader that closes the pipe ends the list.
#[test]
fn a_reader_may_leave() {
    let host = Host::new();
    apply(&host, "set-associative", "[0]", &vip(UDP4, &["10.0.0.1"]));
    let of: Vip = UDP4.parse().expect("a VIP");
    let flows = 10_000_u32;
    Injector::new(&host).on(0, |send| {
        for number in 0..flows {
            let [_, b, c, d] = (0xc612_0000 + number).to_be_bytes();
            send(&frame(&of, SocketAddr::from(([198, b, c, d], 5)), of.port)).expect("sent");
        }
    });
    let in_tables = listed(&host, &[]);
    assert!(in_tables > 9000, "{in_tables} of {flows}");
    for format in [&[][..], &["--json"]] {
        let mut list = host.ns.command(env!("CARGO_BIN_EXE_lbctl"));
        list.args(["--bpffs", host.bpffs.text(), "flows", "list"]).args(format);
        let mut list = list.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("run it");
        let mut line = String::new();
        let mut reader = BufReader::new(list.stdout.take().expect("its output"));
        reader.read_line(&mut line).expect("a line");
        drop(reader);
        let status = list.wait().expect("its end");
        let mut complaint = String::new();
        let stderr = list.stderr.take().expect("its complaints");
        BufReader::new(stderr).read_to_string(&mut complaint).expect("text");
        assert!(status.success() && complaint.is_empty(), "{status}: {complaint}");
    }
}
