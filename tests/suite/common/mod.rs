//! What the tests that need a kernel stand on: networks, servers, clients and `lbctl` itself.
//!
//! ```text
//! let bpffs = Bpffs::new();
//! let topology = Topology::new(2);
//! let servers = topology.serve_http(80);
//! Lbctl::new(&bpffs).in_ns(&topology.balancer.ns).apply(config);
//! let answer = http_get(&topology.client.ns, vip, "/").expect("the VIP answers");
//! ```
//!
//! Every fixture belongs to the test that made it and goes when it is dropped, also by a panic, so
//! tests run side by side. Networks have no names: file descriptors are all that holds them, and
//! even a test process that is killed leaves none behind. Nothing here reaches an interface of the
//! machine or `/sys/fs/bpf`.
//!
//! The tests need root.

#![allow(dead_code, reason = "a fixture is there for the next test too")]
#![allow(unused_imports, reason = "as above")]

mod bpffs;
mod client;
mod frames;
mod http;
mod lbctl;
mod message;
mod netns;
mod rig;
mod topology;
mod udp;
mod xdp;

use std::fmt;
use std::thread;
use std::time::Duration;
use std::time::Instant;

pub(crate) use bpffs::Bpffs;
pub(crate) use client::Download;
pub(crate) use client::HttpClient;
pub(crate) use client::Response;
pub(crate) use client::http_get;
pub(crate) use client::http_get_from;
pub(crate) use frames::Capture;
pub(crate) use frames::Direction;
pub(crate) use frames::Frame;
pub(crate) use frames::Steady;
pub(crate) use frames::on_one_cpu;
pub(crate) use frames::packet_from;
pub(crate) use frames::send_frame;
pub(crate) use http::HttpServer;
pub(crate) use lbctl::Lbctl;
pub(crate) use lbctl::Output;
pub(crate) use lbctl::Running;
pub(crate) use lbctl::config_file;
pub(crate) use lbctl::path_of;
pub(crate) use netns::NetNs;
pub(crate) use rig::Host;
pub(crate) use rig::Leaks;
pub(crate) use rig::Rig;
pub(crate) use rig::config;
pub(crate) use rig::config_in_mode;
pub(crate) use rig::goes_on;
pub(crate) use rig::json;
pub(crate) use rig::reason;
pub(crate) use rig::server;
pub(crate) use rig::vip;
pub(crate) use topology::Node;
pub(crate) use topology::Topology;
pub(crate) use topology::UPLINK;
pub(crate) use udp::UdpEcho;
pub(crate) use udp::udp_ask;
pub(crate) use udp::udp_ask_from;
pub(crate) use xdp::Verdict;
pub(crate) use xdp::XdpLink;
pub(crate) use xdp::attach_without_link;

/// Ends the test with one line unless it runs as root.
#[track_caller]
fn need_root() {
    let root = nix::unistd::geteuid().is_root();
    assert!(root, "the tests need root: they make network namespaces and load BPF programs");
}

/// Asks `condition` again and again until it holds: `true`; or until `timeout` is over: `false`.
#[must_use]
pub(crate) fn wait_until(timeout: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + timeout;
    let mut pause = Duration::from_millis(1);
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// What goes wrong while a fixture is taken down: every step is tried, then all is said at once.
struct Cleanup {
    fixture: String,
    errors: Vec<String>,
}

impl Cleanup {
    /// Starts taking down `fixture`.
    fn of(fixture: impl Into<String>) -> Self {
        Self { fixture: fixture.into(), errors: Vec::new() }
    }

    /// Notes how a step went.
    fn step<T, E: fmt::Display>(&mut self, step: &str, result: Result<T, E>) {
        if let Err(error) = result {
            self.errors.push(format!("{step}: {error}"));
        }
    }

    /// Notes how the thread of a fixture ended.
    fn thread<T>(&mut self, step: &str, result: thread::Result<T>) {
        self.step(step, result.map_err(|_| "panicked, see above"));
    }

    /// Fails the test if a step failed; a test that is failing already keeps its own reason.
    fn finish(self) {
        if self.errors.is_empty() {
            return;
        }
        let text = format!("cleaning up {}: {}", self.fixture, self.errors.join("; "));
        if thread::panicking() {
            eprintln!("{text}");
        } else {
            panic!("{text}");
        }
    }
}
