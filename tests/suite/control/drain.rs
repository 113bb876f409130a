//! Taking a real out of service, in one VIP or in all, and saying how it does.

use serde_json::Value;

use crate::fixtures::Host;
use crate::fixtures::changes_of;
use crate::fixtures::json;
use crate::fixtures::vip;

/// The states of a real by VIP, as `lbctl real list` shows them; without those of VIPs that do not have it.
fn states(host: &Host, real: &str) -> Vec<String> {
    let vips = json(&host.lbctl().ok(&["real", "list", "--json"]));
    let reals = vips.as_array().expect("VIPs").iter().flat_map(|vip| {
        vip["reals"].as_array().expect("reals").iter().filter(|other| other["address"] == real)
    });
    reals.map(|real| format!("{} {}", text(&real["state"]), real["weight"])).collect()
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

/// One command changes a real in every VIP that has it, and nothing else.
#[test]
fn a_real_of_all_vips() {
    let host = Host::new();
    let vips: Vec<_> = (1..=20)
        .map(|port| vip(&format!("tcp://10.200.1.1:{port}"), &["10.0.0.1", "10.0.0.2"]))
        .chain([vip("udp://[fc00:1::1]:443", &["10.0.0.1, state = \"down\"", "fc00::2"])])
        .chain([vip("tcp://10.200.1.2:80", &["10.0.0.2"])])
        .collect();
    host.lbctl().apply(&Host::config(&vips.concat()));
    let lbctl = host.lbctl();
    let all = |states: &[String], up: &str, other: &str| {
        assert_eq!(states.len(), 21, "{states:?}");
        assert!(states[..20].iter().all(|state| state == up), "{states:?}");
        assert_eq!(states[20], other);
    };
    let changed = |arguments: &[&str]| {
        let plan = json(&lbctl.ok(&[arguments, &["--json"]].concat()));
        changes_of(&plan, "vip").len()
    };
    // A real that is down gets no flows back by a drain.
    assert_eq!(changed(&["real", "drain", "--all", "10.0.0.1"]), 20);
    all(&states(&host, "10.0.0.1"), "drain 1", "down 1");
    assert_eq!(changed(&["real", "drain", "10.0.0.1", "--all"]), 0);
    assert_eq!(changed(&["real", "weight", "--all", "10.0.0.1", "9"]), 21);
    all(&states(&host, "10.0.0.1"), "drain 9", "down 9");
    assert_eq!(changed(&["real", "undrain", "--all", "10.0.0.1"]), 20);
    all(&states(&host, "10.0.0.1"), "up 9", "down 9");
    assert_eq!(changed(&["real", "down", "--all", "10.0.0.1"]), 20);
    all(&states(&host, "10.0.0.1"), "down 9", "down 9");
    assert_eq!(changed(&["real", "up", "--all", "10.0.0.1"]), 21);
    all(&states(&host, "10.0.0.1"), "up 9", "up 9");
    assert!(states(&host, "10.0.0.2").iter().all(|state| state == "up 1"), "the other real");
    assert_eq!(changed(&["real", "delete", "--all", "10.0.0.1"]), 21);
    assert!(states(&host, "10.0.0.1").is_empty());
    assert_eq!(states(&host, "10.0.0.2").len(), 21);
}

#[test]
fn one_vip_or_all() {
    let host = Host::new();
    let a = "tcp://10.200.1.1:80";
    host.lbctl().apply(&Host::config(&vip(a, &["10.0.0.1", "10.0.0.2, state = \"down\""])));
    host.lbctl().ok(&["real", "drain", a, "10.0.0.1"]);
    assert_eq!(states(&host, "10.0.0.1"), ["drain 1"]);
    host.lbctl().ok(&["real", "undrain", a, "10.0.0.1"]);
    assert_eq!(states(&host, "10.0.0.1"), ["up 1"]);
    for (arguments, code, complaint) in [
        (&["drain", "10.0.0.1"][..], 2, "10.0.0.1 is not a VIP"),
        (&["drain", "10.0.0.1", "10.0.0.1"], 2, "10.0.0.1 is not a VIP"),
        (&["drain", "--all", a], 2, "leave out tcp://10.200.1.1:80"),
        (&["drain", "--all", a, "10.0.0.1"], 2, "--all"),
        (&["drain", "--all", "10.0.0.9"], 1, "no VIP has a real 10.0.0.9"),
        (&["undrain", a, "10.0.0.2"], 1, "lbctl real up tcp://10.200.1.1:80 10.0.0.2"),
        (&["weight", "--all", "10.0.0.1"], 2, "REAL"),
        (
            &["weight", "--all", "10.0.0.1", "10.0.0.2"],
            2,
            "the last argument is the weight, 0 to 65535",
        ),
        (&["weight", "--all", "10.0.0.1", "65536"], 2, "0 to 65535"),
        (&["weight", a, "7", "8"], 2, "comes once, as the last argument"),
    ] {
        let output = host.lbctl().exits(code, &[&["real"], arguments].concat());
        assert!(output.stderr.contains(complaint), "{arguments:?}: {output}");
        assert_eq!(output.stderr.lines().count(), 1, "{output}");
    }
    assert_eq!(states(&host, "10.0.0.1"), ["up 1"]);
    assert_eq!(states(&host, "10.0.0.2"), ["down 1"]);
}

/// Somebody else says how a real does. It is kept apart from what the operator wants.
#[test]
fn health_that_is_told() {
    let host = Host::new();
    let a = "tcp://10.200.1.1:80";
    host.lbctl().apply(&Host::config(&vip(a, &["10.0.0.1", "10.0.0.2"])));
    let saved = host.lbctl().ok(&["save"]).stdout;
    let real = || {
        let vips = json(&host.lbctl().ok(&["real", "list", a, "--json"]));
        vips[0]["reals"][0].clone()
    };
    assert_eq!(real()["health"], "unknown");
    assert_eq!(real()["since"], 0);
    let tell = ["real", "health", a, "10.0.0.1", "unhealthy", "--reason", "disk full"];
    host.lbctl().ok(&tell);
    let told = real();
    assert_eq!((&told["health"], &told["reason"]), (&"unhealthy".into(), &"disk full".into()));
    assert_eq!((&told["told"], &told["expires"]), (&true.into(), &0.into()));
    assert_eq!((&told["share"], &told["state"]), (&0.0.into(), &"up".into()), "{told}");
    assert!(told["since"].as_u64().expect("a time") > 1_000_000_000, "{told}");
    let list = host.lbctl().ok(&["real", "list", a]).stdout;
    assert!(list.contains("unhealthy: disk full since "), "{list}");
    assert_eq!(host.lbctl().ok(&["save"]).stdout, saved);

    host.lbctl().ok(&["real", "health", a, "10.0.0.1", "healthy", "--for", "1h", "--json"]);
    let told = real();
    assert_eq!((&told["health"], &told["told"]), (&"healthy".into(), &true.into()));
    assert!(told["share"].as_f64().expect("a share") > 0.4, "{told}");
    let lasts = told["expires"].as_u64().expect("a time") - told["since"].as_u64().expect("a time");
    assert_eq!(lasts, 3600);
    host.lbctl().ok(&["real", "health", a, "10.0.0.1", "auto"]);
    assert_eq!((&real()["health"], &real()["told"]), (&"unknown".into(), &false.into()));

    for (arguments, code, complaint) in [
        (&[a, "10.0.0.1", "unhealthy"][..], 2, "--reason"),
        (&[a, "10.0.0.1", "auto", "--for", "1s"], 2, "auto takes back"),
        (&[a, "10.0.0.1", "ill"], 2, "ill"),
        (&[a, "10.0.0.9", "healthy"], 1, "has no real 10.0.0.9"),
        (&["tcp://10.200.1.1:81", "10.0.0.1", "auto"], 1, "no VIP tcp://10.200.1.1:81"),
    ] {
        let output = host.lbctl().exits(code, &[&["real", "health"], arguments].concat());
        assert!(output.stderr.contains(complaint), "{arguments:?}: {output}");
        assert_eq!(output.stderr.lines().count(), 1, "{output}");
    }
}
