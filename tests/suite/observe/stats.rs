//! `lbctl stats --watch`

use std::time::Duration;

use serde_json::Value;

use crate::fixtures::Rig;
use crate::fixtures::config;
use crate::fixtures::goes_on;
use crate::fixtures::vip;

const VIP: &str = "tcp://10.200.1.1:80";

#[test]
fn rates_while_something_goes_on() {
    let rig = Rig::new(1);
    rig.lbctl()
        .apply(&config(&[vip(VIP, &["10.0.0.1"]), vip("udp://10.200.1.2:53", &[])].concat()));
    let download = rig.download(VIP);
    goes_on(&download, "at first");

    let begun = jiff::Timestamp::now();
    let watched = rig.lbctl().ok(&["stats", "--watch", "0.5", "--count", "3", "--json"]).stdout;
    let lines: Vec<Value> =
        watched.lines().map(|line| serde_json::from_str(line).expect("an object a line")).collect();
    assert_eq!(lines.len(), 3, "{watched}");
    let vip = |line: &Value| line["vips"][VIP]["packets"].as_f64().unwrap_or_default();
    assert!(lines.iter().any(|line| vip(line) > 0.0), "{watched}");
    let mut earlier = begun;
    for line in &lines {
        let time: jiff::Timestamp =
            line["time"].as_str().expect("a time").parse().expect("of RFC 3339");
        assert!(earlier < time && time <= jiff::Timestamp::now(), "{watched}");
        earlier = time;
        assert!(line["seconds"].as_f64() > Some(0.0), "{line}");
        assert!(line["vips"].get("udp://10.200.1.2:53").is_none(), "nothing came for it: {line}");
    }

    let text = rig.lbctl().ok(&["stats", "--watch", "0.5", "--count", "2"]).stdout;
    assert_eq!(text.matches("total ").count(), 2, "{text}");
    assert!(text.contains(&format!("\n{VIP} ")) && text.contains("\n10.0.0.1 "), "{text}");
    assert!(text.contains("\nCONNECTION TABLE ") && text.contains("\nhit "), "{text}");
    let times: Vec<_> = text.lines().filter_map(|line| line.split_once("  total ")).collect();
    let is_time = |time| jiff::civil::DateTime::strptime("%Y-%m-%d %H:%M:%S", time).is_ok();
    assert!(times.len() == 2 && times.iter().all(|(time, _)| is_time(time)), "{text}");
    assert!(!text.contains('\x1b'), "no terminal, no controls: {text}");
}

#[test]
fn a_vip_that_begins_anew_and_an_end() {
    let rig = Rig::new(1);
    rig.lbctl().apply(&config(&vip(VIP, &["10.0.0.1"])));
    let _download = rig.download(VIP);
    let mut watch = rig.lbctl().spawn(&["stats", "--watch", "0.1", "--json"]);
    watch.wait_for(VIP);
    rig.lbctl().ok(&["vip", "delete", VIP]);
    rig.lbctl().ok(&["vip", "add", VIP]);
    rig.lbctl().ok(&["real", "add", VIP, "10.0.0.1"]);
    rig.lbctl().ok(&["down"]);
    let ended = watch.wait(Duration::from_secs(5));
    assert_eq!(ended.code(), Some(1), "{ended}");
    assert!(ended.stderr.contains("does not run"), "{ended}");
    assert!(!ended.stdout.contains(":-"), "no rate is negative: {ended}");
    assert!(!ended.stdout.contains("e18"), "nor a difference that went round: {ended}");
}

#[test]
fn what_makes_no_sense() {
    let rig = crate::fixtures::Host::new();
    for (arguments, words) in [
        (&["stats", "--watch", "0"][..], "0.1 to 86400"),
        (&["stats", "--watch", "NaN"], "0.1 to 86400"),
        (&["stats", "--count", "3"], "--watch"),
    ] {
        let output = rig.lbctl().exits(2, arguments);
        assert!(output.stderr.contains(words) && output.stderr.lines().count() == 1, "{output}");
    }
}
