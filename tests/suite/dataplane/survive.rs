//! Connections survive every change that is not about their own real.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde_json::Value;

use crate::fixtures::Download;
use crate::fixtures::HttpClient;
use crate::fixtures::Leaks;
use crate::fixtures::Rig;
use crate::fixtures::changes_of;
use crate::fixtures::config;
use crate::fixtures::config_file;
use crate::fixtures::goes_on;
use crate::fixtures::json;
use crate::fixtures::path_of;
use crate::fixtures::server;
use crate::fixtures::udp_ask_from;
use crate::fixtures::vip;

const VIP: &str = "tcp://10.200.1.1:80";
const UDP_VIP: &str = "udp://10.200.1.1:53";
/// Has the same reals as [`UDP_VIP`] and remembers nothing: it tells what the ring alone decides, which does
/// not depend on the VIP's address.
const UDP_TWIN: &str = "udp://10.200.1.2:53";

const FLOWS: std::ops::Range<u16> = 30_000..30_040;

/// A download for each real of `rig`, by way of [`VIP`].
fn downloads(rig: &Rig) -> Vec<Download> {
    let mut of = BTreeMap::new();
    for _ in 0..200 {
        let download = rig.download(VIP);
        of.entry(download.real().to_owned()).or_insert(download);
        if of.len() == rig.servers.len() {
            return of.into_values().collect();
        }
    }
    panic!("connections meet only {:?}", of.keys());
}

#[test]
fn downloads_survive_whatever_does_not_concern_their_real() {
    let rig = Rig::new(3);
    let apply = |more: &str| rig.lbctl().apply(&config(more));
    let tcp = |reals: &[&str]| vip(VIP, reals);
    let (one, two, three) = ("10.0.0.1", "10.0.0.2", "10.0.0.3");
    apply(&tcp(&[one, two, three]));
    let mut leaks = Leaks::watch(&rig);
    let running = downloads(&rig);

    let all = tcp(&[one, two, three]);
    let heavy = tcp(&["10.0.0.1, weight = 100", two, "10.0.0.3, weight = 7"]);
    let other = vip("tcp://[fc00:1::1]:80", &["fc00::2"]);
    let steps = [
        ("the same again", all.clone()),
        ("other weights", heavy.clone()),
        ("weight 0", tcp(&[one, "10.0.0.2, weight = 0", "10.0.0.3, weight = 0"])),
        ("drain", tcp(&[one, "10.0.0.2, state = \"drain\"", three])),
        ("another VIP", [all.clone(), other.clone()].concat()),
        (
            "another VIP with the same real down",
            [all.clone(), vip("tcp://10.200.1.2:80", &["10.0.0.2, state = \"down\"", one])]
                .concat(),
        ),
        ("another VIP goes", all.clone()),
        ("smaller connection tables", format!("cpus = [0]\n{all}")),
        (
            "a new program",
            format!("udp_timeout_seconds = 9\nnew_connections_per_second = 1000\n{all}"),
        ),
        (
            "a new program that stays",
            format!("[packets]\nmax_frame = 1450\nencap_source_v4 = \"172.17.1.1\"\n{all}"),
        ),
        ("the old program", heavy),
    ];
    for (step, more) in steps {
        apply(&more);
        for download in &running {
            goes_on(download, step);
        }
    }

    // Real 2 goes, and the next new real gets its id.
    apply(&tcp(&[one, three]));
    apply(&[tcp(&[one, three]), vip("tcp://10.200.1.3:80", &["fc00::2"])].concat());
    for download in running.iter().filter(|download| download.real() != "real2") {
        goes_on(download, "another real's id has a new owner");
    }
    assert_eq!(leaks.count(), 0, "packets for VIPs that reached the balancer's own kernel");
}

/// A download ends with the right bytes though everything around it changes.
#[test]
fn a_download_is_whole() {
    let rig = Rig::new(2);
    let both = config(&vip(VIP, &["10.0.0.1", "10.0.0.2"]));
    rig.lbctl().apply(&both);
    let client = HttpClient::connect(rig.client(), server(VIP)).expect("connect");
    let download = client.download(2_000_000, Some(1_000_000)).expect("ask");
    let own = if download.real() == "real1" { "10.0.0.1" } else { "10.0.0.2" };
    for weight in 1..=4 {
        rig.lbctl().apply(&config(&vip(VIP, &[&format!("{own}, weight = {weight}")])));
        rig.lbctl().apply(&both);
    }
    download.finish();
}

/// Many connections, most of whose slots go to another real: none of them moves, by whatever means the slots
/// do.
#[test]
fn connections_stay_when_their_slot_moves() {
    let rig = Rig::new(3);
    let reals = |weights: [u32; 3]| {
        let reals: Vec<_> = (1..)
            .zip(weights)
            .map(|(n, weight)| format!("10.0.0.{n}, weight = {weight}"))
            .collect();
        vip(VIP, &reals.iter().map(String::as_str).collect::<Vec<_>>())
    };
    rig.lbctl().apply(&config(&reals([1, 1, 1])));
    let connect = |_| {
        let mut client = HttpClient::connect(rig.client(), server(VIP)).expect("connect");
        let real = client.get("/").expect("the VIP answers").real;
        (client, real)
    };
    let mut clients: Vec<_> = (0..40).map(connect).collect();

    let moves = |weights| {
        let file = config_file(&config(&reals(weights)));
        let path = path_of(&file);
        let plan = json(&rig.lbctl().exits(3, &["plan", "--json", "-f", path]));
        changes_of(&plan, "vip")[0]["moved"].as_f64().expect("a number")
    };
    let heavy = [1, 1, 200];
    assert!(moves(heavy) > 0.6, "{}", moves(heavy));
    // Weights alone, then together with a new program, which is what a new build is.
    for more in ["", "udp_timeout_seconds = 9\n"] {
        rig.lbctl().apply(&config(&format!("{more}{}", reals(heavy))));
        for (client, real) in &mut clients {
            let port = client.local_address().expect("an address").port();
            assert_eq!(client.get("/").expect("it goes on").real, *real, "from port {port}");
        }
        let new: Vec<_> = (0..12).map(connect).filter(|(_, real)| real == "real3").collect();
        assert!(new.len() >= 10, "new connections go where the weight is, not {}", new.len());
    }
}

/// Asks both VIPs from every source port: what each of them answers.
fn ask(rig: &Rig, vip: &str) -> BTreeMap<u16, String> {
    let address: SocketAddr = server(vip);
    let real = |port| {
        let answer = udp_ask_from(rig.client(), port, address, "?");
        let answer = answer.unwrap_or_else(|error| panic!("{vip} from port {port}: {error}"));
        answer.trim_end_matches(":?").to_owned()
    };
    FLOWS.map(|port| (port, real(port))).collect()
}

fn udp_config(reals: &[&str]) -> String {
    config(
        &[vip(UDP_VIP, reals), vip(UDP_TWIN, reals), "connection_table = false\n".to_owned()]
            .concat(),
    )
}

fn udp_rig(reals: u8) -> (Rig, Vec<crate::fixtures::UdpEcho>) {
    let rig = Rig::new(reals);
    let echo = rig.topology.serve_udp(&[server(UDP_VIP), server(UDP_TWIN)]);
    (rig, echo)
}

/// The flows of a real that was removed are balanced anew. The real that has its id now gets no more of them
/// than of any others.
#[test]
fn a_reused_id_inherits_no_flows() {
    let (rig, _echo) = udp_rig(3);
    let apply = |reals: &[&str]| drop(rig.lbctl().apply(&udp_config(reals)));
    apply(&["10.0.0.1", "10.0.0.2"]);
    let before = ask(&rig, UDP_VIP);
    assert_eq!(before, ask(&rig, UDP_TWIN), "the twin tells what the ring decides");
    let on = |real: &str| before.values().filter(|other| *other == real).count();
    assert!(on("real1") > 5 && on("real2") > 5, "{before:?}");

    apply(&["10.0.0.2"]);
    apply(&["10.0.0.2", "10.0.0.3"]);
    let (after, fresh) = (ask(&rig, UDP_VIP), ask(&rig, UDP_TWIN));
    let mut rebalanced = Vec::new();
    for (port, real) in &before {
        if real == "real2" {
            assert_eq!(after[port], "real2", "port {port}: a flow of a real that stayed");
        } else {
            assert_eq!(after[port], fresh[port], "port {port}: a flow of the real that went");
            rebalanced.push(fresh[port].as_str());
        }
    }
    assert!(rebalanced.contains(&"real2") && rebalanced.contains(&"real3"), "{rebalanced:?}");
    assert!(
        before.iter().any(|(port, real)| real == "real2" && fresh[port] == "real3"),
        "no slot moved"
    );
}

/// Drain, weight 0, down and up, by what they do with flows that run and with new ones.
#[test]
fn states_do_what_they_say_with_flows() {
    let (rig, _echo) = udp_rig(2);
    let apply = |reals: &[&str]| drop(rig.lbctl().apply(&udp_config(reals)));
    apply(&["10.0.0.1", "10.0.0.2"]);
    let before = ask(&rig, UDP_VIP);
    let all_on =
        |answers: &BTreeMap<u16, String>, real: &str| answers.values().all(|other| other == real);

    for kept in ["10.0.0.2, state = \"drain\"", "10.0.0.2, weight = 0"] {
        apply(&["10.0.0.1", kept]);
        assert_eq!(ask(&rig, UDP_VIP), before, "{kept}: existing flows stay");
        assert!(all_on(&ask(&rig, UDP_TWIN), "real1"), "{kept}: no new flows");
    }
    // Down moves existing flows at once, though the real goes on serving another VIP.
    let other = vip("tcp://10.200.1.9:80", &["10.0.0.2"]);
    rig.lbctl().apply(&(udp_config(&["10.0.0.1", "10.0.0.2, state = \"down\""]) + &other));
    assert!(all_on(&ask(&rig, UDP_VIP), "real1"), "down: existing flows move");
    assert!(all_on(&ask(&rig, UDP_TWIN), "real1"), "down: no new flows");
    let mut client =
        HttpClient::connect(rig.client(), server("tcp://10.200.1.9:80")).expect("connect");
    assert_eq!(client.get("/").expect("the other VIP answers").real, "real2");

    // Up again: flows that moved stay where they went, new ones are shared out.
    apply(&["10.0.0.1", "10.0.0.2"]);
    assert!(all_on(&ask(&rig, UDP_VIP), "real1"), "up again: flows that moved stay");
    assert_eq!(ask(&rig, UDP_TWIN), before, "up again: new flows");

    // Taking a real out of one VIP moves that VIP's flows, though another VIP keeps the real.
    rig.lbctl().apply(&(udp_config(&["10.0.0.2"]) + &other));
    assert!(all_on(&ask(&rig, UDP_VIP), "real2"), "the only real that is left");
}

/// A VIP without a real that can take the packet drops it, and says so; nothing goes to a real of before.
#[test]
fn a_vip_without_reals_drops() {
    let (rig, _echo) = udp_rig(2);
    let dropped = |stats: &Value| crate::fixtures::reason(stats, "no_real");
    let stats = || json(&rig.lbctl().ok(&["stats", "--json"]));
    let silent = |vip: &str, when: &str| {
        let before = dropped(&stats());
        let answer = udp_ask_from(rig.client(), 31_000, server(vip), "?");
        assert!(answer.is_err(), "{when}: {vip} answers {answer:?}");
        assert_eq!(dropped(&stats()), before + 1, "{when}: {vip} drops for want of a real");
    };
    let both = ["10.0.0.1", "10.0.0.2"];
    let asks = || assert!(udp_ask_from(rig.client(), 31_000, server(UDP_VIP), "?").is_ok());

    // Also while another VIP keeps the reals alive.
    let other = vip("tcp://10.200.1.9:80", &both);
    for keeping in ["", other.as_str()] {
        for (when, reals) in [
            ("no reals", vec![]),
            ("all down", vec!["10.0.0.1, state = \"down\"", "10.0.0.2, state = \"down\""]),
        ] {
            rig.lbctl().apply(&(udp_config(&both) + keeping));
            asks();
            rig.lbctl().apply(&(udp_config(&reals) + keeping));
            silent(UDP_VIP, when);
            silent(UDP_TWIN, when);
        }
        for (when, reals) in [
            ("all weights 0", ["10.0.0.1, weight = 0", "10.0.0.2, weight = 0"]),
            ("all drained", ["10.0.0.1, state = \"drain\"", "10.0.0.2, state = \"drain\""]),
        ] {
            rig.lbctl().apply(&(udp_config(&both) + keeping));
            asks();
            rig.lbctl().apply(&(udp_config(&reals) + keeping));
            asks();
            silent(UDP_TWIN, when);
        }
    }

    // A new VIP takes over the id of one that went, not its ring.
    rig.lbctl().apply(&config(&vip(UDP_VIP, &both)));
    asks();
    rig.lbctl().apply(&config(&other));
    rig.lbctl().apply(&config(&(vip(UDP_TWIN, &[]) + &other)));
    silent(UDP_TWIN, "another VIP was here before");
}
