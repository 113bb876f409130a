//! Each way to the reals carries what clients send: requests, datagrams, uploads in frames of full size, and a long
//! download. `traffic` has the same for IP in IP, in both modes of XDP.

mod change;
mod gue;
mod l2;
mod local;
mod narrow;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;

use crate::fixtures::HttpClient;
use crate::fixtures::NetNs;
use crate::fixtures::Rig;
use crate::fixtures::http_get_from;
use crate::fixtures::json;
use crate::fixtures::udp_ask_from;
use crate::fixtures::wait_until;

const REALS_V4: [&str; 3] = ["10.0.0.1", "10.0.0.2", "10.0.0.3"];
const REALS_V6: [&str; 3] = ["fc00::1", "fc00::2", "fc00::3"];

/// Connections tried for each VIP: enough to meet every real.
const SOURCE_PORTS: std::ops::Range<u16> = 20_000..20_024;

/// More than fits a connection's first window, in frames of full size.
const UPLOAD: usize = 300_000;

/// A download that lasts.
const DOWNLOAD: usize = 200_000_000;

/// How long that may take on a busy machine.
const IN_TIME: Duration = Duration::from_secs(300);

/// Both ends of this name answer, by TCP on port 80 and by UDP on port 53.
fn servers(address: &str) -> [SocketAddr; 2] {
    ["tcp", "udp"].map(|protocol| {
        let port = if protocol == "tcp" { 80 } else { 53 };
        crate::fixtures::server(&format!("{protocol}://{address}:{port}"))
    })
}

/// The `[[vips]]` for both, with `more` in each.
fn vips(address: &str, reals: &[&str], more: &str) -> String {
    let both = [("tcp", 80), ("udp", 53)].map(|(protocol, port)| {
        crate::fixtures::vip(&format!("{protocol}://{address}:{port}"), reals) + more + "\n"
    });
    both.concat()
}

/// Requests and datagrams reach each of `reals`, and an upload arrives whole.
#[track_caller]
fn carries(client: &NetNs, address: &str, reals: &[&str]) {
    let [tcp, udp] = servers(address);
    let expected: BTreeSet<String> = reals.iter().map(|&real| real.to_owned()).collect();
    let mut answered = BTreeSet::new();
    for port in SOURCE_PORTS {
        let answer = http_get_from(client, port, tcp, "/");
        let answer = answer.unwrap_or_else(|error| panic!("{tcp} from port {port}: {error}"));
        assert_eq!((answer.status, &answer.body), (200, &answer.real));
        answered.insert(answer.real);
    }
    assert_eq!(answered, expected, "{tcp}");
    let mut answered = BTreeSet::new();
    for port in SOURCE_PORTS {
        let answer = udp_ask_from(client, port, udp, "hello");
        let answer = answer.unwrap_or_else(|error| panic!("{udp} from port {port}: {error}"));
        let (real, echo) = answer.split_once(':').expect("a name and the echo");
        assert_eq!(echo, "hello");
        answered.insert(real.to_owned());
    }
    assert_eq!(answered, expected, "{udp}");
    uploads(client, tcp);
}

/// Frames of full size arrive.
#[track_caller]
fn uploads(client: &NetNs, vip: SocketAddr) {
    let mut client = HttpClient::connect(client, vip).expect("connect");
    let answer = client.put(UPLOAD).unwrap_or_else(|error| panic!("{vip}: upload: {error}"));
    assert_eq!(answer.status, 200, "{}", answer.body);
}

/// A long download arrives whole, in time.
#[track_caller]
pub(super) fn downloads(client: &NetNs, vip: SocketAddr) {
    let client = HttpClient::connect(client, vip).expect("connect");
    let download = client.download(DOWNLOAD, None).expect("ask");
    let whole = wait_until(IN_TIME, || download.progress() == DOWNLOAD);
    assert!(whole, "{vip}: {} bytes in {IN_TIME:?}", download.progress());
    download.finish();
}

/// What the reals' decapsulation counted, by result, all reals together.
#[track_caller]
fn taken_out(rig: &Rig, of: impl Fn(&str) -> bool) -> u64 {
    let sum = |results: &Value| -> u64 {
        let results = results.as_object().expect("results");
        let wanted = results.iter().filter(|(name, _)| of(name));
        wanted.map(|(_, count)| count["packets"].as_u64().expect("a number")).sum()
    };
    let status =
        |name: &str| json(&rig.lbctl().ok(&["--instance", name, "decap", "status", "--json"]));
    rig.servers.iter().map(|server| sum(&status(server.name())["results"])).sum()
}

/// No packet for a VIP was dropped.
#[track_caller]
fn nothing_dropped(rig: &Rig) {
    let stats = json(&rig.lbctl().ok(&["stats", "--json"]));
    let vips = stats["vips"].as_object().expect("an object");
    let dropped: Vec<_> = vips.iter().filter(|(_, vip)| vip["dropped"] != 0).collect();
    assert!(dropped.is_empty(), "{dropped:?}: {}", stats["reasons"]);
}
