//! Clients that hang up, `lbctl serve` that ends, and more clients than there is room for.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread;

use nix::sys::signal::Signal;

use super::VIPS;
use super::WEB;
use super::client::PATIENCE;
use super::client::Reply;
use super::client::Server;
use super::client::ask_at;
use super::client::open;
use super::client::rest;
use crate::fixtures::Host;
use crate::fixtures::lock;
use crate::fixtures::wait_for_waiting;
use crate::fixtures::wait_until;

const BODY: &str = r#"{ "weight": 7 }"#;

fn folder(host: &Host) -> PathBuf {
    host.bpffs.path().join("l4lb/default")
}

/// A change that waits for its turn.
fn patch() -> String {
    let head = format!("PATCH {WEB}/reals/10.0.0.1 HTTP/1.1\r\nHost: a\r\nContent-Length: ");
    format!("{head}{}\r\n\r\n{BODY}", BODY.len())
}

fn weight(server: &Server<'_>) -> u64 {
    let real = server.get(&format!("{WEB}/reals/10.0.0.1")).is(200).json();
    real["weight"].as_u64().expect("a weight")
}

/// Half a body is no change, and a change whose client has gone holds up no other.
#[test]
fn a_client_that_hangs_up() {
    let host = Host::new();
    let server = Server::start(host.lbctl(), VIPS);
    let half = patch().replace(BODY, r#"{ "weight": 9"#);
    for _ in 0..20 {
        drop(open(&server.socket(), half.as_bytes()));
    }
    assert_eq!(weight(&server), 1);
    let locked = lock(&folder(&host));
    let client = open(&server.socket(), patch().as_bytes());
    // It may be `serve` itself that waits. Then the change has perhaps not begun, and is not made.
    wait_for_waiting(&server.serve.running, &folder(&host));
    drop(client);
    drop(locked);
    // The next one gets its turn.
    server.ask("PATCH", &format!("{WEB}/reals/10.0.0.2"), Some(BODY)).is(200);
    assert!([1, 7].contains(&weight(&server)));
    server.serve.stop();
}

/// It ends in time. The client gets an answer, and what it asked for is made, or not at all.
#[test]
fn the_end_of_serve_while_a_change_waits() {
    let host = Host::new();
    let server = Server::start(host.lbctl(), VIPS);
    let socket = server.socket();
    let locked = lock(&folder(&host));
    let client = open(&socket, patch().as_bytes());
    wait_for_waiting(&server.serve.running, &folder(&host));
    server.serve.running.signal(Signal::SIGTERM);
    let gone = wait_until(PATIENCE, || !socket.exists());
    assert!(gone, "the socket stays");
    let Server { serve, .. } = server;
    let output = serve.running.wait(PATIENCE);
    assert_eq!(output.code(), Some(0), "{output}");
    let answer = rest(client);
    let reply = Reply::parse(&answer);
    assert!(reply.is_none_or(|reply| reply.status == 503), "{answer}");
    drop(locked);
    let reals = host.lbctl().ok(&["real", "list", "tcp://10.200.1.1:80", "--json"]);
    let reals = crate::fixtures::json(&reals);
    assert_eq!(reals[0]["reals"][0]["weight"], 1, "nothing is changed: {reals:#}");
}

/// Clients whose requests never end get no more than their room, and others are answered.
#[test]
fn a_thousand_connections() {
    let host = Host::new();
    let server = Server::start(host.lbctl(), VIPS);
    let socket = server.socket();
    let files = || {
        let folder = format!("/proc/{}/fd", server.serve.running.pid());
        fs::read_dir(folder).expect("its files").count()
    };
    let before = files();
    let half = patch().replace(BODY, r#"{ "weight": 9"#);
    let clients: Vec<UnixStream> = (0..1000).map(|_| open(&socket, half.as_bytes())).collect();
    server.get(WEB).is(200);
    let most = before + 64 + 16;
    assert!(files() <= most, "{} files, {before} before", files());
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| ask_at(&socket, "GET", WEB, "", None).is(200));
        }
        scope
            .spawn(|| host.lbctl().ok(&["real", "weight", "tcp://10.200.1.1:80", "10.0.0.2", "3"]));
    });
    drop(clients);
    assert!(wait_until(PATIENCE, || files() <= before + 4), "{} files, {before} before", files());
    assert_eq!(weight(&server), 1);
    server.serve.stop();
}
