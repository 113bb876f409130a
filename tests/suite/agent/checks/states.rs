//! What is known outlives the process, fail-open, a host that cannot send, and what checks' packets do not do.

use l4lb::Balancer;
use l4lb::Instance;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::sys::socket;

use super::VIP;
use super::checked;
use super::nginx_everywhere;
use crate::fixtures::METRICS;
use crate::fixtures::Rig;
use crate::fixtures::SOON;
use crate::fixtures::Serve;
use crate::fixtures::UPLINK;
use crate::fixtures::config;
use crate::fixtures::get;
use crate::fixtures::http_get;
use crate::fixtures::server;
use crate::fixtures::vip;
use crate::fixtures::wait_until;

/// The reals that answer a number of clients.
fn answering(rig: &Rig) -> std::collections::BTreeSet<String> {
    let answers = (0..60).filter_map(|_| http_get(rig.client(), server(VIP), "/").ok());
    answers.map(|answer| answer.real).collect()
}

#[test]
fn what_was_found_outlives_the_process_and_changes_of_the_file() {
    let mut rig = Rig::new(3);
    let mut nginx = nginx_everywhere(&mut rig);
    let config = checked(3, "", "");
    let serve = Serve::start(rig.lbctl(), &config);
    serve.wait_for("is healthy, was unknown", 3);
    nginx[0].stop();
    serve.wait_for("real 10.0.0.1 is unhealthy, was healthy", 1);
    serve.running.signal(Signal::SIGKILL);
    serve.running.wait(SOON);
    // Nobody checks, and what was found stays, whatever is applied.
    rig.lbctl().apply(&checked(3, "", "slow_start = \"1s\""));
    let others = ["real2", "real3"].map(ToOwned::to_owned);
    assert_eq!(answering(&rig), others.clone().into());
    // The next process begins with what was known.
    let serve = Serve::start(rig.lbctl(), &config);
    assert_eq!(answering(&rig), others.into());
    nginx[0].begin(&rig.topology.reals[0]);
    serve.wait_for("real 10.0.0.1 is healthy, was unhealthy", 1);
    assert_eq!(serve.count("was unknown"), 0);
    assert_eq!(answering(&rig).len(), 3);
}

#[test]
fn all_are_used_again_if_none_is_healthy_or_if_this_host_cannot_send() {
    let mut rig = Rig::new(2);
    let nginx = nginx_everywhere(&mut rig);
    let serve = Serve::start(rig.lbctl(), &checked(2, "", ""));
    serve.wait_for("is healthy, was unknown", 2);
    // The checks fail, and the reals still serve whoever does not ask as they do.
    for real in &nginx {
        real.set_sick(true);
    }
    serve.wait_for("is unhealthy, was healthy: HTTP 503", 2);
    let sick = http_get(rig.client(), server(VIP), "/").expect("somebody answers");
    assert_eq!(sick.status, 503, "packets go on to the reals");
    serve.wait_for("(fail-open)", 1);
    // It is loud, but no reason to withdraw the host: the others' checks may fail as well.
    let ns = &rig.topology.balancer.ns;
    for path in ["/readyz", "/readyz?strict"] {
        let (status, body) = get(ns, METRICS, path).expect("an answer");
        assert_eq!(status, 200, "{path}: {body}");
    }
    let open = format!("\nl4lb_vip_fails_open{{vip=\"{VIP}\"}} 1\n");
    let unhealthy = format!("\nl4lb_vip_real_healthy{{vip=\"{VIP}\",real=\"10.0.0.1\"}} 0\n");
    let mut page = String::new();
    // Readings are shared for a second.
    let shown = wait_until(SOON, || {
        page = get(ns, METRICS, "/metrics").expect("metrics").1;
        page.contains(&open) && page.contains(&unhealthy)
    });
    assert!(shown, "{page}");
    for real in &nginx {
        real.set_sick(false);
    }
    serve.wait_for("is healthy, was unhealthy", 2);
    // No route to the VIP: the checks cannot go out. That makes nobody unhealthy.
    let route = ns.shell(&format!("ip route show default dev {UPLINK}"));
    ns.shell("ip route del default");
    serve.wait_for("this host cannot check its reals", 1);
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(serve.count("is unhealthy"), 2, "{}", serve.running.stderr());
    ns.shell(&format!("ip route add {} dev {UPLINK}", route.trim()));
    serve.wait_for("its reals can be checked again", 1);
    assert_eq!(serve.count("is unhealthy"), 2, "{}", serve.running.stderr());
}

#[test]
fn packets_of_checks_are_nobodys_flows_and_have_metrics() {
    let mut rig = Rig::new(2);
    let _nginx = nginx_everywhere(&mut rig);
    let serve = Serve::start(rig.lbctl(), &checked(2, "", ""));
    serve.wait_for("is healthy, was unknown", 2);
    let ns = &rig.topology.balancer.ns;
    let metric = |name: &str| {
        let (_, page) = get(ns, METRICS, "/metrics").expect("metrics");
        let line = page.lines().find(|line| line.starts_with(&format!("{name} ")));
        line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
    };
    let checks = || metric("l4lb_checks_total{result=\"ok\",type=\"http\"}").unwrap_or(0.0);
    let many = wait_until(SOON * 2, || checks() >= 10.0);
    assert!(many, "{} checks", checks());
    assert_eq!(metric("l4lb_check_targets"), Some(2.0));
    assert_eq!(
        metric(&format!("l4lb_health_changes_total{{to=\"healthy\",vip=\"{VIP}\"}}")),
        Some(2.0)
    );
    assert!(
        metric(&format!("l4lb_check_result_age_seconds{{vip=\"{VIP}\"}}"))
            .is_some_and(|age| age < 10.0)
    );
    // No client has asked for anything.
    assert_eq!(metric(&format!("l4lb_vip_packets_total{{vip=\"{VIP}\"}}")), Some(0.0));
    let flows = rig.lbctl().ok(&["flows", "list", "--json"]);
    assert_eq!(flows.stdout, "", "{flows}");
}

#[test]
fn a_program_is_told_and_keeps_nothing_waiting() {
    let mut rig = Rig::new(2);
    let mut nginx = nginx_everywhere(&mut rig);
    let folder = tempfile::tempdir().expect("a folder");
    let (program, told) = (folder.path().join("program"), folder.path().join("told"));
    // It takes its time, and then does not end.
    let text = format!(
        "#!/bin/sh\necho $L4LB_REAL $L4LB_OLD $L4LB_NEW $L4LB_REASON >>{}\nsleep 60\n",
        told.display()
    );
    std::fs::write(&program, text).expect("write the program");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&program, mode).expect("make it executable");
    let notify = format!("[notify]\nexec = \"{}\"\ntimeout = \"1s\"\n", program.display());
    let serve = Serve::start(rig.lbctl(), &format!("{}{notify}", checked(2, "", "")));
    serve.wait_for("is healthy, was unknown", 2);
    nginx[0].stop();
    serve.wait_for("real 10.0.0.1 is unhealthy, was healthy", 1);
    let text = || std::fs::read_to_string(&told).unwrap_or_default();
    let all = wait_until(SOON * 2, || text().lines().count() >= 3);
    let mut lines: Vec<_> = text().lines().map(ToOwned::to_owned).collect();
    assert!(all, "{lines:?}\n{}", serve.running.stderr());
    lines.sort_unstable();
    assert!(
        lines.iter().any(|line| line == "10.0.0.1 healthy unhealthy connection refused"),
        "{lines:?}"
    );
    assert!(lines.iter().any(|line| line.starts_with("10.0.0.2 unknown healthy ")), "{lines:?}");
    serve.wait_for("did not end within 1s and is killed", 1);
}

/// What others say is logged as what checks find, and so is its end.
#[test]
fn what_others_tell_is_told_on() {
    let mut rig = Rig::new(2);
    let _nginx = nginx_everywhere(&mut rig);
    let serve = Serve::start(rig.lbctl(), &checked(2, "", ""));
    serve.wait_for("is healthy, was unknown", 2);
    let tell = ["real", "health", VIP, "10.0.0.1", "unhealthy", "--reason", "disk full"];
    rig.lbctl().ok(&[&tell[..], &["--for", "3s"]].concat());
    serve.wait_for("told: disk full", 1);
    assert_eq!(serve.count("WARN tcp://10.200.1.1:80: real 10.0.0.1 is unhealthy, was "), 1);
    serve.wait_for("real 10.0.0.1 is unknown, was unhealthy: what was told holds no longer", 1);
    serve.wait_for("real 10.0.0.1 is healthy, was unknown", 2);
}

/// Its share of new flows grows in steps, and so does its part of the ring.
#[test]
fn a_real_that_comes_back_starts_slowly() {
    let mut rig = Rig::new(2);
    let mut nginx = nginx_everywhere(&mut rig);
    let serve = Serve::start(rig.lbctl(), &checked(2, "", "slow_start = \"9s\""));
    serve.wait_for("is healthy, was unknown", 2);
    let instance = Instance::new(rig.bpffs.path(), "default").expect("a name");
    let share = || {
        let balancer = Balancer::open(&instance).expect("it runs");
        let first = balancer.health().expect("readable").into_iter().next().expect("a real");
        let slots = &balancer.running_rings().expect("rings")[&VIP.parse().expect("a VIP")];
        (first.details.share, slots.share(first.real))
    };
    let (all, part) = share();
    assert!(all == 100 && (part - 0.5).abs() < 0.01, "{all} %, {part}");
    nginx[0].stop();
    serve.wait_for("real 10.0.0.1 is unhealthy, was healthy", 1);
    nginx[0].begin(&rig.topology.reals[0]);
    serve.wait_for("real 10.0.0.1 is healthy, was unhealthy", 1);
    let mut seen = vec![share()];
    let whole = wait_until(SOON * 2, || {
        seen.push(share());
        seen.last().is_some_and(|(share, _)| *share == 100)
    });
    seen.dedup();
    assert!(whole && seen.len() > 2, "{seen:?}");
    assert!(seen.is_sorted(), "{seen:?}");
    let (first, part) = seen[0];
    assert!(first < 100 && part < 0.49, "{seen:?}");
    println!("shares: {seen:?}");
}

#[test]
fn a_real_sets_its_own_weight_and_flapping_ones_stay_out() {
    let mut rig = Rig::new(3);
    let _nginx = nginx_everywhere(&mut rig);
    let says = std::sync::Arc::new(std::sync::Mutex::new("up"));
    let mut agents = Vec::new();
    for (number, real) in rig.topology.reals.iter().enumerate() {
        let listener = real.ns.bind(|| TcpListener::bind(("0.0.0.0", 8888))).expect("a port");
        let says = std::sync::Arc::clone(&says);
        let accepting = listener.try_clone().expect("duplicate a socket");
        let agent = std::thread::spawn(move || {
            while let Ok((mut client, _)) = accepting.accept() {
                let answer = if number == 0 { *says.lock().expect("no panic") } else { "up" };
                // The checker may have gone.
                let _ = client.write_all(format!("{answer}\n").as_bytes());
            }
        });
        agents.push((listener, agent));
    }
    let say = |what: &'static str| *says.lock().expect("no panic") = what;
    let reals = ["10.0.0.1", "10.0.0.2", "10.0.0.3"];
    let serve = Serve::start(
        rig.lbctl(),
        &config(&format!(
            "{}check = {{ type = \"agent\", port = 8888, interval = \"300ms\" }}
             flapping = {{ failures = 1, window = \"1m\", hold = \"10s\", hold_at_most = \"1m\" }}\n",
            vip(VIP, &reals)
        )),
    );
    serve.wait_for("is healthy, was unknown", 3);
    let share = || {
        let answers = (0..300).filter_map(|_| http_get(rig.client(), server(VIP), "/").ok());
        answers.filter(|answer| answer.real == "real1").count()
    };
    assert!((60..=140).contains(&share()), "a third");
    say("25%");
    // A ninth of 300 is 33.
    let mut last = 0;
    let less = wait_until(SOON, || {
        last = share();
        (12..=56).contains(&last)
    });
    assert!(less, "{last} of 300\n{}", serve.running.stderr());
    say("down");
    serve.wait_for("real 10.0.0.1 is unhealthy, was healthy", 1);
    say("up");
    serve.wait_for("real 10.0.0.1 is healthy, was unhealthy", 1);
    say("down");
    // Twice within a minute is too often.
    serve.wait_for("flapping: 2 failures in 1m, out until", 1);
    say("up");
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(share(), 0, "it is held out");
    serve.wait_for("real 10.0.0.1 is healthy, was unhealthy", 2);
    for (listener, agent) in agents {
        // It wakes the thread out of accept.
        socket::shutdown(listener.as_raw_fd(), socket::Shutdown::Both).expect("shut the listener");
        agent.join().expect("no agent panics");
    }
}
