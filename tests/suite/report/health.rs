//! How the health of reals is told: `status`, `top`'s data, doctor and warnings. The records are made by the library, so
//! nothing here needs a check that runs.

use std::net::IpAddr;

use l4lb::Balancer;
use l4lb::Flaps;
use l4lb::Health;
use l4lb::HealthResult;
use l4lb::Instance;
use serde_json::Value;

use crate::fixtures::Host;
use crate::fixtures::Verdict;
use crate::fixtures::XdpLink;
use crate::fixtures::json;
use crate::fixtures::vip;

pub(super) const VIP: &str = "tcp://10.200.1.1:80";

const REALS: [&str; 3] = ["10.0.0.1", "10.0.0.2", "10.0.0.3"];

/// A host with a VIP whose reals are to be checked.
pub(super) struct Checked {
    pub(super) host: Host,
    _pass: XdpLink,
}

impl Checked {
    #[track_caller]
    pub(super) fn new(policy: &str) -> Self {
        let host = Host::new();
        let pass = XdpLink::attach(&host.ns, "nobody", Verdict::Pass);
        let checked = Self { host, _pass: pass };
        checked.apply(policy);
        checked
    }

    #[track_caller]
    fn apply(&self, policy: &str) {
        let check = "check = { type = \"http\" }\n";
        let vip = [&*vip(VIP, &REALS), check, policy].concat();
        self.host.lbctl().apply(&Host::config(&vip));
    }

    pub(super) fn with<T: Send>(&self, work: impl FnOnce(&Balancer) -> T + Send) -> T {
        self.host.ns.run(|| {
            let instance = Instance::new(self.host.bpffs.path(), "default").expect("a name");
            work(&Balancer::open(&instance).expect("it runs"))
        })
    }

    /// As a check would do it.
    #[track_caller]
    pub(super) fn find(&self, real: &str, health: Health, reason: &str, flaps: Flaps) {
        let result = HealthResult {
            vip: VIP.parse().expect("a VIP"),
            real: real.parse().expect("an address"),
            health,
            share: 100,
            reason: reason.to_owned(),
            checks: 3,
            flaps,
        };
        self.with(|balancer| {
            balancer.record_health(&[result]).expect("recorded");
            balancer.note_checking().expect("noted");
        });
    }

    #[track_caller]
    pub(super) fn is(&self, real: &str, health: Health, reason: &str) {
        self.find(real, health, reason, Flaps::default());
    }

    #[track_caller]
    fn status(&self) -> Value {
        json(&self.host.lbctl().ok(&["status", "--json"]))
    }
}

/// The finding of this kind.
#[track_caller]
fn finding<'a>(status: &'a Value, problem: &str) -> &'a Value {
    let findings = status["condition"]["findings"].as_array().expect("findings");
    let found = findings.iter().find(|finding| finding["problem"] == problem);
    found.unwrap_or_else(|| panic!("no {problem}: {findings:#?}"))
}

#[track_caller]
fn problems(status: &Value) -> Vec<&str> {
    let findings = status["condition"]["findings"].as_array().expect("findings");
    findings.iter().map(|finding| finding["problem"].as_str().expect("a name")).collect()
}

#[test]
fn an_unhealthy_real_is_a_problem_with_its_reason() {
    let checked = Checked::new("");
    for real in REALS {
        checked.is(real, Health::Healthy, "HTTP 200");
    }
    let status = checked.status();
    assert!(problems(&status).is_empty(), "{:#}", status["condition"]);
    assert_eq!(status["health"]["healthy"], 3);
    assert_eq!(status["vips"][0]["check"], "http");
    checked.host.lbctl().ok(&["status", "--check"]);

    checked.is("10.0.0.2", Health::Unhealthy, "HTTP 503");
    let status = checked.status();
    assert_eq!(problems(&status), ["unhealthy_reals"]);
    let found = finding(&status, "unhealthy_reals");
    let what = found["what"].as_str().expect("text");
    let begin = format!("unhealthy reals: 10.0.0.2 of {VIP} (HTTP 503 since ");
    assert!(what.starts_with(&begin), "{what}");
    assert_eq!(found["reals"][0]["real"], "10.0.0.2");
    assert_eq!(found["reals"][0]["reason"], "HTTP 503");
    assert_eq!(found["reals"][0]["checks"], 3);
    let real = &status["vips"][0]["reals"][1];
    assert_eq!((&real["state"], &real["health"]), (&"up".into(), &"unhealthy".into()));
    let text = checked.host.lbctl().exits(1, &["status", "--check"]).stdout;
    assert!(text.contains("2/3 (1 unhealthy)"), "{text}");
    assert!(
        text.contains("\nhealth       2 healthy, 1 unhealthy, 0 unknown; last check "),
        "{text}"
    );

    // What the operator has taken out is no problem.
    checked.host.lbctl().ok(&["real", "drain", VIP, "10.0.0.2"]);
    assert!(problems(&checked.status()).is_empty());
}

#[test]
fn a_vip_that_fails_open_says_so_loudly() {
    let checked = Checked::new("");
    for real in REALS {
        checked.is(real, Health::Unhealthy, "connection refused");
    }
    let status = checked.status();
    assert_eq!(problems(&status), ["fails_open", "unhealthy_reals"]);
    let open = finding(&status, "fails_open");
    let what = open["what"].as_str().expect("text");
    assert!(what.starts_with("FAIL OPEN: "), "{what}");
    assert!(what.ends_with(&format!("{VIP} (none of 3 reals does well)")), "{what}");
    assert_eq!((&open["vips"][0]["well"], &open["vips"][0]["of"]), (&0.into(), &3.into()));
    assert_eq!(status["vips"][0]["fails_open"], true);
    assert_eq!(status["health"]["failing_open_vips"], 1);
    let text = checked.host.lbctl().ok(&["status"]).stdout;
    assert!(text.contains("3/3, FAILS OPEN (3 unhealthy)"), "{text}");
}

#[test]
fn without_fail_open_the_cause_is_named() {
    let checked = Checked::new("fail_open = false\n");
    for real in REALS {
        checked.is(real, Health::Unhealthy, "no answer");
    }
    let status = checked.status();
    assert_eq!(problems(&status), ["no_usable_real"]);
    let found = finding(&status, "no_usable_real");
    let what = found["what"].as_str().expect("text");
    assert!(what.contains("which do not fail open; unhealthy: 10.0.0.1 of "), "{what}");
    assert!(what.contains("(no answer since "), "{what}");
    assert!(found["fix"].as_str().expect("text").contains("fail_open = true"), "{found}");
    assert_eq!(found["unhealthy"].as_array().map(Vec::len), Some(3));
}

#[test]
fn nobody_checks() {
    let checked = Checked::new("");
    let status = checked.status();
    assert_eq!(problems(&status), ["nobody_checks"]);
    let found = finding(&status, "nobody_checks");
    assert_eq!(
        found["what"],
        "nobody has checked reals yet, though 1 VIP has a check (lbctl serve does not run)"
    );
    assert!(found["fix"].as_str().expect("text").starts_with("start lbctl serve"), "{found}");
    assert_eq!(status["health"]["nobody_checks"], true);
    let text = checked.host.lbctl().ok(&["status"]).stdout;
    assert!(text.contains("last check never, NOBODY CHECKS"), "{text}");

    checked.with(|balancer| balancer.note_checking().expect("noted"));
    assert!(problems(&checked.status()).is_empty());
    // A VIP without reals, or without a check, needs nobody.
    checked.host.lbctl().apply(&Host::config(&vip(VIP, &REALS)));
    assert_eq!(checked.status()["health"]["nobody_checks"], false);
}

/// A VIP without a check is well, and nobody takes that for healthy reals.
#[test]
fn vips_without_a_check_are_told() {
    let checked = Checked::new("");
    let host = &checked.host;
    host.lbctl().apply(&Host::config(&vip(VIP, &REALS)));
    let says = |expected: &str| {
        let text = host.lbctl().ok(&["status", "--check"]).stdout;
        let line = text.lines().find(|line| line.starts_with("health ")).expect("a line");
        assert_eq!(line.trim_start_matches("health").trim(), expected, "{text}");
    };
    says("not known: no VIP has a check ('lbctl probe VIP' asks once)");
    let status = json(&host.lbctl().ok(&["status", "--json"]));
    assert_eq!(
        (&status["health"]["unchecked_vips"], &status["condition"]["well"]),
        (&1.into(), &true.into())
    );
    let health_of = || {
        let list = host.lbctl().ok(&["real", "list"]).stdout;
        let cell = |line: &str| line.split("  ").last().map(|cell| cell.trim().to_owned());
        list.lines().nth(1).and_then(cell).unwrap_or_default()
    };
    assert_eq!(health_of(), "-");
    assert_eq!(status["vips"][0]["reals"][0]["health"], "unknown");
    // Somebody else knows.
    let told = ["real", "health", VIP, REALS[0], "healthy"];
    host.lbctl().ok(&told);
    assert!(health_of().starts_with("healthy"), "{}", health_of());
    says("1 healthy, 0 unhealthy, 0 unknown; no VIP has a check");
    // One of two VIPs has a check, which nobody has run yet.
    let check = "check = { type = \"tcp\", via = \"direct\" }\n";
    let other = vip("tcp://10.200.1.2:80", &REALS) + check;
    host.lbctl().apply(&Host::config(&(vip("tcp://10.200.1.3:80", &REALS) + &other)));
    let text = host.lbctl().ok(&["status"]).stdout;
    let end = "\n             1 VIP has no check: 'lbctl probe tcp://10.200.1.3:80' asks once\n";
    assert!(text.contains(end), "{text}");
    let list = host.lbctl().ok(&["real", "list"]).stdout;
    assert!(list.contains("  unknown\n") && list.contains("  -\n"), "{list}");
}

#[test]
fn what_others_told_is_marked() {
    let checked = Checked::new("");
    checked.is("10.0.0.1", Health::Healthy, "HTTP 200");
    checked.with(|balancer| {
        let (vip, real): (_, IpAddr) = (VIP.parse().expect("a VIP"), [10, 0, 0, 1].into());
        let lifetime = Some(std::time::Duration::from_secs(600));
        balancer
            .tell_health(vip, real, Health::Unhealthy, "disk full", lifetime)
            .expect("recorded");
    });
    let status = checked.status();
    let what = finding(&status, "unhealthy_reals")["what"].as_str().expect("text").to_owned();
    assert!(what.contains("(disk full since ") && what.contains("; told, until "), "{what}");
    assert_eq!(status["vips"][0]["reals"][0]["told"], true);
}
