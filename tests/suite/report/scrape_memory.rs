//! What scrapes of tens of thousands of pairs of a VIP and a real take of the memory of `lbctl serve`.

use std::fs;
use std::io::Read;
use std::io::Write;
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use nix::unistd::Pid;

use crate::fixtures::Host;
use crate::fixtures::METRICS;
use crate::fixtures::Serve;
use crate::fixtures::vip;
use crate::fixtures::wait_until;

/// Beyond what it has when idle, in kilobytes. The text alone has a fifth of that, and the crate's types of all series have
/// three times as much.
const MOST: u64 = 64 * 1024;

const OPEN_METRICS: &str = "Accept: application/openmetrics-text\r\n";

/// A line of the status of a process, in kilobytes.
#[track_caller]
fn memory(pid: Pid, line: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let value = status.lines().find_map(|text| text.strip_prefix(line)).expect(line);
    value.split_whitespace().next().and_then(|text| text.parse().ok()).expect("a number")
}

#[test]
fn scrapes_of_many_reals_take_little_memory() {
    let host = Host::new();
    let reals: Vec<_> =
        (0..3500).map(|n| format!("10.{}.{}.{}", n / 40_000, n / 200, n % 200 + 1)).collect();
    let reals: Vec<_> = reals.iter().map(String::as_str).collect();
    let vips: String = (1..=14).map(|n| vip(&format!("tcp://10.200.1.{n}:80"), &reals)).collect();
    let serve = Serve::start(host.lbctl(), &Host::config(&vips));
    let pid = serve.running.pid();
    let ask = |headers: &str| {
        let mut stream = host.ns.open(|| TcpStream::connect(METRICS)).expect("connect");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("set a timeout");
        let request = format!("GET /metrics HTTP/1.1\r\nHost: a\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).expect("send");
        stream
    };
    let text = |headers: &str| {
        let mut text = String::new();
        ask(headers).read_to_string(&mut text).expect("an answer");
        text
    };
    let idle = memory(pid, "VmRSS:");
    fs::write(format!("/proc/{pid}/clear_refs"), "5").expect("forget the peak");
    // The rings are read in the background.
    let mut last = String::new();
    let all = wait_until(Duration::from_secs(60), || {
        last = text("");
        last.matches("l4lb_vip_real_share_ratio{").count() == 49_000
    });
    assert!(all, "{} bytes", last.len());
    assert_eq!(last.matches("\nl4lb_vip_real_weight{").count(), 49_000);
    assert!(last.len() > 10_000_000, "{} bytes", last.len());

    // Two formats, four at a time, and some who stop reading.
    let stalled: Vec<_> = (0..8).map(|_| ask("")).collect();
    thread::scope(|scope| {
        let asked = ["", OPEN_METRICS, "", OPEN_METRICS].map(|kind| scope.spawn(|| text(kind)));
        for text in asked {
            let text = text.join().expect("an answer");
            assert_eq!(text.matches("\nl4lb_vip_real_weight{").count(), 49_000);
        }
    });
    let beyond = memory(pid, "VmHWM:").saturating_sub(idle);
    assert!(beyond < MOST, "{beyond} kB beyond the {idle} kB when idle");
    drop(stalled);
    serve.stop();
}
