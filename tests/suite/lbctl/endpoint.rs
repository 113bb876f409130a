//! The endpoint of `lbctl serve` answers valid requests, and no other client can keep it from that.

use std::io;
use std::io::Read;
use std::io::Write;
use std::net::TcpStream;
use std::thread::sleep;
use std::time::Duration;
use std::time::Instant;

use crate::fixtures::Host;
use crate::fixtures::METRICS;
use crate::fixtures::NetNs;
use crate::fixtures::Rig;
use crate::fixtures::Serve;
use crate::fixtures::Topology;
use crate::fixtures::UPLINK;
use crate::fixtures::config;
use crate::fixtures::doubt_soon;
use crate::fixtures::get;
use crate::fixtures::vip;
use crate::fixtures::wait_until;

/// Longer than the endpoint gives a client to send its request and to read the answer.
const PATIENCE: Duration = Duration::from_secs(40);

/// Something that takes no longer than it has to.
const SOON: Duration = Duration::from_secs(10);

/// A connection that has sent `bytes`.
#[track_caller]
fn open(ns: &NetNs, bytes: &[u8]) -> TcpStream {
    let mut stream = ns.open(|| TcpStream::connect(METRICS)).expect("connect");
    stream.set_read_timeout(Some(PATIENCE)).expect("set a timeout");
    // The server may close it at once.
    let _: io::Result<()> = stream.write_all(bytes);
    stream
}

/// Reads until the server closes the connection. Fails the test if it does not.
#[track_caller]
fn rest(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => panic!("it stays open: {error}"),
        // The server closed it before it had read everything.
        _ => String::from_utf8_lossy(&answer).into_owned(),
    }
}

/// What the server answers to `bytes`; empty if it closes the connection.
#[track_caller]
fn send(ns: &NetNs, bytes: &[u8]) -> String {
    rest(open(ns, bytes))
}

#[track_caller]
fn healthy(ns: &NetNs, when: &str) {
    let health = get(ns, METRICS, "/healthz");
    assert_eq!(health.expect(when), (200, "ok\n".to_owned()), "{when}");
}

/// `lbctl serve` on a host of its own. It must not log a warning, whatever the test does.
fn on_host(test: impl FnOnce(&NetNs)) {
    let host = Host::new();
    let serve = Serve::start(host.lbctl(), &Host::config(""));
    test(&host.ns);
    healthy(&host.ns, "in the end");
    let (status, metrics) = get(&host.ns, METRICS, "/metrics").expect("metrics in the end");
    assert!(status == 200 && metrics.contains("\nl4lb_build_info{"), "{status}: {metrics}");
    let complaints = serve.running.stderr();
    assert!(!complaints.contains("WARN") && !complaints.contains("ERROR"), "{complaints}");
    serve.stop();
}

#[test]
fn methods_and_paths() {
    on_host(|ns| {
        let (status, index) = get(ns, METRICS, "/").expect("it answers");
        assert_eq!(status, 200);
        for path in ["/metrics", "/healthz", "/readyz"] {
            assert!(index.contains(path), "{index}");
            assert_eq!(get(ns, METRICS, path).expect("it answers").0, 200, "{path}");
        }
        for path in ["/nothing", "/metrics/", "/metrics/../healthz", "//", "/%6detrics"] {
            assert_eq!(get(ns, METRICS, path).expect("it answers").0, 404, "{path}");
        }
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "BREW"] {
            let request =
                format!("{method} /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
            let answer = send(ns, request.as_bytes());
            let expected = answer.starts_with("HTTP/1.1 405 ") || method == "CONNECT";
            assert!(expected && !answer.starts_with("HTTP/1.1 2"), "{method}: {answer}");
            let allow = answer.to_lowercase().contains("\r\nallow: get, head\r\n");
            assert!(allow || method == "CONNECT", "{method}: {answer}");
        }
        let head = send(ns, b"HEAD /metrics HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(head.starts_with("HTTP/1.1 200 ") && head.ends_with("\r\n\r\n"), "{head}");
        let old = send(ns, b"GET /healthz HTTP/1.0\r\n\r\n");
        assert!(old.ends_with("\r\n\r\nok\n"), "{old}");
    });
}

#[test]
fn broken_requests_and_huge_headers() {
    on_host(|ns| {
        let long = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(100_000));
        let huge = format!("GET /healthz HTTP/1.1\r\nCookie: {}\r\n\r\n", "a".repeat(100_000));
        let many = format!("GET /healthz HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(2000));
        for request in [
            b"\0\xff\x16\x03garbage\r\n\r\n".as_slice(),
            b"GET\r\n\r\n",
            b"GET /healthz HTTP/9.9\r\n\r\n",
            b"GET /healthz HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            b"GET /healthz HTTP/1.1\r\n: none\r\n\r\n",
            long.as_bytes(),
            huge.as_bytes(),
            many.as_bytes(),
        ] {
            let answer = send(ns, request);
            let shown = String::from_utf8_lossy(&request[..request.len().min(40)]);
            assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{shown}: {answer}");
        }
    });
}

#[test]
fn of_pipelined_requests_the_first_is_answered() {
    on_host(|ns| {
        let answer = send(ns, &b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n".repeat(1000));
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
        // The server does not wait for a missing body.
        let body = b"POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n";
        assert!(send(ns, body).starts_with("HTTP/1.1 405 "));
    });
}

#[test]
fn a_thousand_connections_delay_no_other() {
    on_host(|ns| {
        let silent: Vec<_> = (0..1000).map(|_| open(ns, b"")).collect();
        healthy(ns, "while a thousand say nothing");
        let half: Vec<_> = (0..1000).map(|_| open(ns, b"GET /metrics HTTP/1.1\r\nHo")).collect();
        healthy(ns, "while a thousand have asked by half");
        let (status, _) = get(ns, METRICS, "/metrics").expect("metrics");
        assert_eq!(status, 200);
        // In the end all are closed: those above the limit at once, the others later.
        let start = Instant::now();
        for stream in silent.into_iter().chain(half) {
            let answer = rest(stream);
            assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{answer}");
        }
        assert!(start.elapsed() < PATIENCE, "{:?}", start.elapsed());
    });
}

#[test]
fn a_client_that_does_not_read_delays_no_other() {
    // Far more than the socket buffers hold.
    let reals: Vec<_> = (0..4000).map(|n| format!("10.{}.{}.1", n / 250, n % 250)).collect();
    let reals: Vec<_> = reals.iter().map(String::as_str).collect();
    let host = Host::new();
    let many = Host::config(
        &(1..5).map(|n| vip(&format!("tcp://10.200.1.{n}:80"), &reals)).collect::<String>(),
    );
    let ns = &host.ns;
    ns.shell("for buffer in tcp_rmem tcp_wmem; do echo 4096 16384 65536 >/proc/sys/net/ipv4/$buffer; done");
    let serve = Serve::start(host.lbctl(), &many);
    let request = b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n";
    let whole = send(ns, request);
    assert!(whole.len() > 2_000_000, "{}", whole.len());
    let mut slow: Vec<_> = (0..300).map(|_| open(ns, request)).collect();
    healthy(ns, "while 300 do not read");
    assert_eq!(get(ns, METRICS, "/metrics").expect("metrics").0, 200);
    // The server closes the connection of a slow reader, too.
    let mut trickle = slow.pop().expect("one of them");
    let start = Instant::now();
    while start.elapsed() < PATIENCE / 2 {
        let _: io::Result<usize> = trickle.read(&mut [0; 100]);
        sleep(Duration::from_millis(200));
    }
    slow.push(trickle);
    for stream in slow {
        assert!(rest(stream).len() < whole.len(), "nobody read, and all of it came");
    }
    healthy(ns, "afterwards");
    serve.stop();
}

#[test]
fn readiness() {
    let rig = Rig::new(0);
    let Topology { router, balancer, .. } = &rig.topology;
    let ns = &balancer.ns;
    doubt_soon(ns);
    let config = config("")
        .replace("xdp_mode = \"native\"\n", "xdp_mode = \"native\"\ngateway = \"172.31.0.254\"\n");
    let serve = Serve::start(rig.lbctl(), &config);
    let becomes = |status: u16, why: &str| {
        let mut last = None;
        let became = wait_until(SOON * 3, || {
            last = get(ns, METRICS, "/readyz").ok();
            last.as_ref().is_some_and(|(now, text)| *now == status && text.contains(why))
        });
        assert!(became, "not {status} {why}, but {last:?}\n{}", serve.running.stderr());
        assert_eq!(last.map(|(_, text)| text.lines().count()), Some(1), "one line");
        healthy(ns, "ready or not");
    };
    becomes(200, "ready");

    // Packets still go to the same MAC, but nobody knows whether a router has it.
    router.shell(
        "ip neigh replace 172.31.0.2 lladdr 02:00:00:00:00:b1 dev to-balancer nud permanent
         echo 8 >/proc/sys/net/ipv4/conf/to-balancer/arp_ignore",
    );
    becomes(503, "interface uplink: gateway 172.31.0.254 at 02:00:00:00:fe:b1 ");
    router.shell("echo 0 >/proc/sys/net/ipv4/conf/to-balancer/arp_ignore");
    becomes(200, "ready");

    std::fs::remove_file(rig.bpffs.path().join("l4lb/default/link").join(UPLINK)).expect("unpin");
    becomes(503, "interface ");
    // `serve` notices it by itself or by the apply.
    rig.lbctl().apply(&config);
    becomes(200, "ready");
    ns.shell("ip link set uplink down");
    becomes(503, "interface uplink: it is down");
    rig.lbctl().ok(&["down"]);
    becomes(503, "instance 'default' does not run");
    serve.stop();
}
