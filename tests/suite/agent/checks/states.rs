//! What is known outlives the process, fail-open, a host that cannot send, and what checks' packets do not do.

use std::time::Duration;

use nix::sys::signal::Signal;

use super::VIP;
use super::checked;
use super::nginx_everywhere;
use crate::fixtures::METRICS;
use crate::fixtures::Rig;
use crate::fixtures::SOON;
use crate::fixtures::Serve;
use crate::fixtures::UPLINK;
use crate::fixtures::get;
use crate::fixtures::http_get;
use crate::fixtures::server;
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
    for real in &nginx {
        real.set_sick(false);
    }
    serve.wait_for("is healthy, was unhealthy", 2);
    // No route to the VIP: the checks cannot go out. That makes nobody unhealthy.
    let ns = &rig.topology.balancer.ns;
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
