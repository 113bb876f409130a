//! A random real is killed and started every second while clients go on asking, and so is `lbctl serve`.

use std::net::IpAddr;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use nix::sys::signal::Signal;

use super::VIP;
use super::nginx_everywhere;
use crate::fixtures::HttpClient;
use crate::fixtures::Requests;
use crate::fixtures::Rig;
use crate::fixtures::Serve;
use crate::fixtures::Syns;
use crate::fixtures::config;
use crate::fixtures::server;
use crate::fixtures::setting;
use crate::fixtures::vip;
use crate::fixtures::wait_until;

const REALS: u8 = 8;

/// Reals that are killed; the others must not notice.
const VICTIMS: usize = 6;

/// How long it goes on: `LB_TEST_SECONDS`, such as 120, makes it longer.
const SECONDS: u64 = 12;

/// How long a real that is back may be known as down: an interval, and a check. Until then, its packets go elsewhere.
const FOUND: Duration = Duration::from_millis(400);

fn address(victim: usize) -> IpAddr {
    format!("10.0.0.{}", victim + 1).parse().expect("an address")
}

/// The address of `real1`, `real2` …
fn named(real: &str) -> IpAddr {
    let number = real.strip_prefix("real").expect("a real's name");
    format!("10.0.0.{number}").parse().expect("an address")
}

fn table() -> String {
    let reals: Vec<_> = (1..=REALS).map(|n| format!("10.0.0.{n}")).collect();
    let reals: Vec<_> = reals.iter().map(String::as_str).collect();
    // Whoever is killed so often flaps, which is another test's matter.
    config(&format!(
        "{}check = {{ type = \"http\", interval = \"200ms\", timeout = \"200ms\", fall = 2, rise = 1 }}
         flapping = {{ failures = 1000 }}\n",
        vip(VIP, &reals)
    ))
}

#[test]
fn kills_cost_only_requests_to_reals_that_are_not_found_yet() {
    let mut rig = Rig::new(REALS);
    let mut nginx = nginx_everywhere(&mut rig);
    let mut serve = Some(Serve::start(rig.lbctl(), &table()));
    serve.as_ref().expect("it runs").wait_for("is healthy, was unknown", REALS.into());

    // Connections to reals that are never killed: none of these may break.
    let mut kept = Vec::new();
    let in_time = wait_until(Duration::from_secs(30), || {
        let mut client = HttpClient::connect(rig.client(), server(VIP)).expect("the VIP answers");
        let real = client.get("/").expect("the VIP answers").real;
        if real == "real7" || real == "real8" {
            kept.push((real, client));
        }
        kept.len() >= 8
    });
    assert!(in_time, "no connections to real7 and real8");

    let patience = Duration::from_secs(1);
    let syns = Syns::watch(&rig.topology.router);
    let requests = Requests::start(rig.client(), VIP, 12, Duration::from_millis(5), patience);
    let begun = Instant::now();
    let mut downs: Vec<(usize, Instant, Option<Instant>)> = Vec::new();
    let mut logs = String::new();
    let mut victim: Option<usize> = None;
    let seconds = setting("LB_TEST_SECONDS").unwrap_or(SECONDS);
    while begun.elapsed() < Duration::from_secs(seconds) {
        if let Some(last) = victim.take() {
            nginx[last].begin(&rig.topology.reals[last]);
            downs.last_mut().expect("it was killed").2 = Some(Instant::now());
        }
        let next = fastrand::usize(..VICTIMS);
        downs.push((next, Instant::now(), None));
        nginx[next].stop();
        victim = Some(next);
        if fastrand::u8(..3) == 0 {
            let killed = serve.take().expect("it runs");
            killed.running.signal(Signal::SIGKILL);
            logs += &killed.running.wait(Duration::from_secs(10)).stderr;
            serve = Some(Serve::start(rig.lbctl(), &table()));
        }
        for (real, client) in &mut kept {
            let response = client.get("/").unwrap_or_else(|error| panic!("{real}: {error}"));
            assert_eq!(response.real, *real, "a flow moved");
        }
        thread::sleep(Duration::from_secs(1));
    }
    let ended = Instant::now();
    let all = requests.between(begun, ended);
    let failed: Vec<_> = all.iter().filter(|one| one.outcome.is_err()).collect();
    let rate = all.len() as u64 / seconds;
    println!(
        "{} kills in {seconds} s: {} of {} requests failed, {rate} requests a second",
        downs.len(),
        failed.len(),
        all.len()
    );
    logs += &serve.as_ref().expect("it runs").running.stderr();
    // Nobody who was well was ever taken out, by whichever process, and no process began with nothing known.
    for real in VICTIMS + 1..=REALS.into() {
        let out = format!("real 10.0.0.{real} is unhealthy");
        assert!(!logs.contains(&out), "{out}\n{logs}");
    }
    assert_eq!(logs.matches("was unknown").count(), usize::from(REALS), "{logs}");
    // Whoever failed had been sent to a real that was down, or had not been up for as long as finding it takes. Whoever
    // had an answer had it from the real that its first packet went to, unless that went down meanwhile.
    let client = IpAddr::V4(rig.topology.client.v4);
    let mut attributed = 0;
    for one in &all {
        let Some(real) = syns.first(SocketAddr::new(client, one.port), one.begun) else {
            // The socket drops what its reader is too slow for.
            continue;
        };
        attributed += 1;
        let was_down = downs.iter().any(|(down, from, until)| {
            real == address(*down)
                && *from <= one.ended
                && until.is_none_or(|until| one.begun <= until + FOUND)
        });
        let ended_well = one.outcome.as_ref().is_ok_and(|name| real == named(name));
        assert!(
            ended_well || was_down,
            "{real} was up: {one:?}, {:?} after the start",
            one.begun - begun
        );
    }
    assert!(attributed > all.len() * 9 / 10, "only {attributed} of {} were seen", all.len());
    // Each real has an eighth; a real that is down is found within a second or two of the time between kills.
    assert!(failed.len() < all.len() / 4, "{} of {} requests failed", failed.len(), all.len());
    if let Some(last) = victim {
        nginx[last].begin(&rig.topology.reals[last]);
    }
    let well = wait_until(Duration::from_secs(20), || requests.next(100).iter().all(Result::is_ok));
    assert!(well, "requests fail though all reals run");
}
