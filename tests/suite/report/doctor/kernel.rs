//! What doctor says about the kernel and about the user who runs it.

use serde_json::Value;

use crate::fixtures::Host;
use crate::fixtures::NOBODY;
use crate::fixtures::by_way_of;
use crate::fixtures::json;

/// Major and minor version: `6.1.0-13-amd64`, `5.19`.
fn version(text: &str) -> (u32, u32) {
    let mut numbers = text.split(['.', '-']).map(|number| number.parse().expect("a number"));
    (numbers.next().expect("major"), numbers.next().expect("minor"))
}

fn facilities(report: &Value) -> Vec<&Value> {
    let facilities: Vec<_> = report["facilities"].as_array().expect("a list").iter().collect();
    assert!(!facilities.is_empty());
    facilities
}

/// What a version of Linux brought is in later ones, and is found there, be it by trial or by version.
#[test]
fn what_the_kernel_must_have_is_found() {
    let host = Host::new();
    let report = json(&host.lbctl().ok(&["doctor", "--json"]));
    let release = report["kernel"].as_str().expect("a release");
    let uname = host.ns.shell("uname -r");
    assert_eq!(release, uname.trim());
    for facility in facilities(&report) {
        let since = facility["since"].as_str().expect("a version");
        let newer = version(release) >= version(since);
        // Distributions take some into older kernels, so that only a trial can tell there.
        if newer || facility["tried"] == false {
            assert_eq!(facility["present"], newer, "{release}: {facility}");
        }
    }
    let text = host.lbctl().ok(&["doctor"]).stdout;
    assert!(text.contains("  yes batched reads of per-CPU arrays (Linux 5.13): "), "{text}");
}

#[test]
fn not_root() {
    let host = Host::new();
    let bpffs = host.bpffs.text();
    let output = by_way_of(&host, &NOBODY, bpffs, &["doctor", "--json"]);
    assert_eq!(output.code(), Some(0), "a note is no error: {output}");
    let report = json(&output);
    let finding = &report["findings"][0];
    assert_eq!((&finding["id"], &finding["severity"]), (&"not-root".into(), &"note".into()));
    assert_eq!(finding["fix"]["command"], "sudo lbctl doctor");
    for facility in facilities(&report) {
        assert_eq!(facility["present"].is_null(), facility["tried"] == true, "{facility}");
    }
    let text = by_way_of(&host, &NOBODY, bpffs, &["doctor"]).stdout;
    assert!(text.starts_with("note not-root: host: "), "{text}");
    assert!(text.contains("  ?   bpf_xdp_load_bytes (Linux 5.18): "), "{text}");
    let checked = json(&host.lbctl().ok(&["doctor", "--json"]));
    let of_root = |check: &&Value| check["id"] == "not-root";
    let checked = checked["checked"].as_array().expect("a list").iter().find(of_root).cloned();
    assert_eq!(checked.expect("it is looked for")["result"], "well");
}

/// As in a container without them mounted: doctor reports what it cannot read as unknown, neither well nor wrong.
#[test]
fn without_sysfs_or_procfs() {
    let host = Host::new();
    host.lbctl().apply(&Host::config(""));
    let run = |hidden: &str, arguments: &[&str]| {
        let script = format!("for f in {hidden}; do mount -t tmpfs none $f; done; exec \"$@\"");
        let wrapper = ["unshare", "--mount", "sh", "-euc", &script, "sh"];
        by_way_of(&host, &wrapper, host.bpffs.text(), arguments)
    };
    for (hidden, what) in [
        ("/sys", "there is no sysfs at /sys"),
        ("/proc", "there is no procfs at /proc"),
        ("/sys /proc", "there is no sysfs at /sys, and no procfs at /proc"),
    ] {
        for kind in [&["doctor", "--json"][..], &["doctor", "--json", "-f", "lb.toml"]] {
            let report = json(&run(hidden, kind));
            let findings = report["findings"].as_array().expect("a list");
            let found = |id: &str| findings.iter().find(|finding| finding["id"] == id);
            let missing = found("no-system-files").expect("a finding");
            assert_eq!((&missing["severity"], &missing["what"]), (&"error".into(), &what.into()));
            assert_eq!(found("instance-unreadable"), None, "{hidden}");
        }
    }
    for command in [&["status"][..], &["plan", "-f", "lb.toml"], &["apply", "-f", "lb.toml"]] {
        let output = run("/sys", command);
        assert_eq!(output.code(), Some(1), "{output}");
        assert!(output.stderr.contains("mount -t sysfs sysfs /sys"), "{output}");
    }
    assert_eq!(run("/sys", &["down"]).code(), Some(0));
    assert!(!host.has_xdp("uplink"));
}
