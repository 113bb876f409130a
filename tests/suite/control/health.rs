//! What was found about reals: it decides where flows go, beside what the operator wants, and outlives every command.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Duration;

use l4lb::Balancer;
use l4lb::Flaps;
use l4lb::Health;
use l4lb::HealthDetails;
use l4lb::HealthResult;
use l4lb::Instance;
use l4lb::Vip;

use crate::fixtures::Host;
use crate::fixtures::config_file;
use crate::fixtures::json;
use crate::fixtures::path_of;
use crate::fixtures::vip;

const VIP: &str = "tcp://10.200.1.1:80";

const CHECKS: &str = "\n[checks.web]\ntype = \"http\"\npath = \"/healthz\"\n";

fn config(policy: &str) -> String {
    let reals = ["10.0.0.1", "10.0.0.2", "10.0.0.3"];
    Host::config(&[CHECKS, &vip(VIP, &reals), "check = \"web\"\n", policy].concat())
}

fn the_vip() -> Vip {
    VIP.parse().expect("a VIP")
}

fn result(real: &str, health: Health, reason: &str) -> HealthResult {
    HealthResult {
        vip: the_vip(),
        real: real.parse().expect("an address"),
        health,
        share: 100,
        reason: reason.to_owned(),
        checks: 3,
        flaps: Flaps { failures: 1, since: 1_700_000_000, holds: 0, held_until: 0 },
    }
}

/// Runs `work` with the balancer of the host.
fn with<T: Send>(host: &Host, work: impl FnOnce(&Balancer) -> T + Send) -> T {
    host.ns.run(|| {
        let instance = Instance::new(host.bpffs.path(), "default").expect("a name");
        work(&Balancer::open(&instance).expect("it runs"))
    })
}

fn record(host: &Host, results: &[HealthResult]) {
    with(host, |balancer| drop(balancer.record_health(results).expect("recorded")));
}

/// The share of the ring that each real has, in percent.
fn shares(host: &Host) -> BTreeMap<String, u64> {
    let status = json(&host.lbctl().ok(&["status", "--json"]));
    let reals = status["vips"][0]["reals"].as_array().expect("a list");
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 100")]
    let percent = |share: f64| (share * 100.0).round() as u64;
    let share = |real: &serde_json::Value| percent(real["share"].as_f64().expect("a number"));
    let name = |real: &serde_json::Value| real["address"].as_str().expect("text").to_owned();
    reals.iter().map(|real| (name(real), share(real))).collect()
}

fn used(host: &Host) -> BTreeSet<String> {
    shares(host).into_iter().filter(|(_, share)| *share > 0).map(|(real, _)| real).collect()
}

fn known(host: &Host, real: &str) -> HealthDetails {
    let all = with(host, |balancer| balancer.health().expect("readable"));
    let found = all.into_iter().find(|known| known.real.to_string() == real);
    found.expect("the real is known").details
}

fn all() -> BTreeSet<String> {
    ["10.0.0.1", "10.0.0.2", "10.0.0.3"].map(str::to_owned).into()
}

fn but_the_first() -> BTreeSet<String> {
    ["10.0.0.2", "10.0.0.3"].map(str::to_owned).into()
}

#[test]
fn what_was_found_outlives_commands() {
    let host = Host::new();
    let file = config_file(&config(""));
    let apply = ["apply", "-f", path_of(&file)];
    host.lbctl().ok(&apply);
    assert_eq!(used(&host), all(), "nobody has checked yet");
    let saved = host.lbctl().ok(&["save"]).stdout;
    assert!(saved.contains("[checks.web]") && saved.contains("check = \"web\""), "{saved}");

    record(&host, &[result("10.0.0.1", Health::Unhealthy, "HTTP 503")]);
    assert_eq!(used(&host), but_the_first());
    let before = known(&host, "10.0.0.1");
    assert_eq!((before.state, before.reason.as_str()), (Health::Unhealthy, "HTTP 503"));
    assert!(before.since > 0 && before.checks == 3 && before.flaps.failures == 1, "{before:?}");

    assert_eq!(host.lbctl().ok(&apply).stdout, "nothing to change\n");
    assert_eq!(host.lbctl().ok(&["save"]).stdout, saved, "it is not what the operator wants");
    host.lbctl().ok(&["plan", "-f", path_of(&file)]);
    // A change of what the operator wants, of another VIP, and a new program.
    host.lbctl().ok(&["real", "weight", VIP, "10.0.0.1", "7"]);
    host.lbctl().ok(&["vip", "add", "tcp://10.200.1.2:80"]);
    let reals = vip(VIP, &["10.0.0.1", "10.0.0.2", "10.0.0.3"]);
    let other = ["udp_timeout_seconds = 31\n", CHECKS, &reals, "check = \"web\"\n"].concat();
    let other = config_file(&Host::config(&other));
    host.lbctl().ok(&["apply", "-f", path_of(&other), "--yes"]);
    assert_eq!(used(&host), but_the_first());
    assert_eq!(known(&host, "10.0.0.1"), before);

    record(&host, &[result("10.0.0.1", Health::Healthy, "HTTP 200")]);
    assert_eq!(used(&host), all());

    // Without its check, a VIP forgets what the check found.
    record(&host, &[result("10.0.0.1", Health::Unhealthy, "HTTP 503")]);
    let unchecked = config_file(&Host::config(&vip(VIP, &["10.0.0.1", "10.0.0.2", "10.0.0.3"])));
    host.lbctl().ok(&["apply", "-f", path_of(&unchecked), "--yes"]);
    assert_eq!(used(&host), all());
    assert_eq!(known(&host, "10.0.0.1").state, Health::Unknown);
    record(&host, &[result("10.0.0.1", Health::Unhealthy, "HTTP 503")]);
    assert_eq!(used(&host), all(), "a result that comes late counts for nothing");
    host.lbctl().ok(&["down"]);
    assert!(!host.has_pins("default"), "nothing is left");
}

#[test]
fn too_few_healthy_reals_are_all_used() {
    let host = Host::new();
    let first = result("10.0.0.1", Health::Unhealthy, "refused");
    let second = result("10.0.0.2", Health::Unhealthy, "refused");
    for (policy, with_one_down, with_two_down) in [
        ("", but_the_first(), [("10.0.0.3".to_owned())].into()),
        ("min_healthy = 2\n", but_the_first(), all()),
        ("min_healthy = \"67%\"\n", all(), all()),
        ("min_healthy = 3\nfail_open = false\n", but_the_first(), ["10.0.0.3".to_owned()].into()),
    ] {
        host.lbctl().apply(&config(policy));
        record(&host, &[result("10.0.0.2", Health::Healthy, "")]);
        record(&host, std::slice::from_ref(&first));
        assert_eq!(used(&host), with_one_down, "{policy}");
        record(&host, &[first.clone(), second.clone()]);
        assert_eq!(used(&host), with_two_down, "{policy}");
    }
    // The last one: fail open by default, none at all without.
    let third = result("10.0.0.3", Health::Unhealthy, "refused");
    record(&host, &[first, second, third]);
    assert!(used(&host).is_empty(), "fail_open = false");
    host.lbctl().ok(&["apply", "--yes", "-f", path_of(&config_file(&config("")))]);
    assert_eq!(used(&host), all(), "and with it, all are used");
    // What the operator does not want is not used all the same.
    host.lbctl().ok(&["real", "drain", VIP, "10.0.0.3"]);
    assert_eq!(used(&host), ["10.0.0.1", "10.0.0.2"].map(str::to_owned).into());
}

#[test]
fn a_real_may_ask_for_less() {
    let host = Host::new();
    host.lbctl().apply(&config(""));
    let asks = |share| HealthResult { share, ..result("10.0.0.1", Health::Healthy, "agent") };
    record(&host, &[asks(50)]);
    let shares_now = shares(&host);
    assert_eq!((shares_now["10.0.0.1"], shares_now["10.0.0.2"]), (20, 40));
    record(&host, &[asks(0)]);
    assert_eq!(used(&host), but_the_first(), "no new flows");
    record(&host, &[asks(100)]);
    assert_eq!(shares(&host)["10.0.0.1"], 33);
}

#[test]
fn others_may_tell() {
    let host = Host::new();
    host.lbctl().apply(&config(""));
    let real = "10.0.0.1".parse().expect("an address");
    let tell = |health, lifetime| {
        with(&host, |balancer| {
            balancer.tell_health(the_vip(), real, health, "consul", lifetime).expect("told");
        });
    };
    tell(Health::Unhealthy, None);
    record(&host, &[result("10.0.0.1", Health::Healthy, "HTTP 200")]);
    assert_eq!(used(&host), but_the_first(), "what was told counts, not the check");
    let told = known(&host, "10.0.0.1");
    assert!(told.told && told.reason == "consul" && told.expires == 0, "{told:?}");
    with(&host, |balancer| drop(balancer.forget_told_health(the_vip(), real).expect("forgotten")));
    assert_eq!(used(&host), all());
    record(&host, &[result("10.0.0.1", Health::Unhealthy, "HTTP 503")]);
    assert_eq!(used(&host), but_the_first(), "now the check counts");

    tell(Health::Healthy, Some(Duration::from_secs(1)));
    assert_eq!(used(&host), all());
    assert!(
        crate::fixtures::wait_until(Duration::from_secs(10), || {
            record(&host, &[]);
            !known(&host, "10.0.0.1").told
        }),
        "what was told ends"
    );

    // Also for a VIP without a check.
    host.lbctl().ok(&["vip", "add", "tcp://10.200.1.2:80"]);
    host.lbctl().ok(&["real", "add", "tcp://10.200.1.2:80", "10.0.0.9"]);
    let other = "tcp://10.200.1.2:80".parse().expect("a VIP");
    let nine = "10.0.0.9".parse().expect("an address");
    with(&host, |balancer| {
        balancer.tell_health(other, nine, Health::Unhealthy, "x", None).expect("told");
        let unknown = "10.0.0.8".parse().expect("an address");
        let refused = balancer.tell_health(other, unknown, Health::Healthy, "x", None);
        assert!(refused.expect_err("no such real").to_string().contains("10.0.0.8"));
    });
    assert_eq!(known(&host, "10.0.0.9").state, Health::Unhealthy);
}

/// A VIP that is added again under an id that another had knows nothing of it.
#[test]
fn a_reused_id_inherits_nothing() {
    let host = Host::new();
    host.lbctl().apply(&config(""));
    record(&host, &[result("10.0.0.1", Health::Unhealthy, "HTTP 503")]);
    host.lbctl().ok(&["vip", "delete", VIP]);
    host.lbctl().ok(&["apply", "-f", path_of(&config_file(&config("")))]);
    assert_eq!(used(&host), all());
    let anew = known(&host, "10.0.0.1");
    assert_eq!((anew.state, anew.since, anew.flaps.failures), (Health::Unknown, 0, 0));
}
