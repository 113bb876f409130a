//! `kill -9` of an `apply` that changes the ways to reals and the outer sources in one: whatever was written by then, no
//! packet leaves by GUE from a source that neither file names.

use std::os::unix::process::ExitStatusExt;

use nix::sys::signal::Signal;

use crate::fixtures::Host;
use crate::fixtures::config_file;
use crate::fixtures::path_of;
use crate::fixtures::vip;

/// More writes than an `apply` here has.
const ENOUGH: u32 = 300;

const SOURCE4: &str = "172.31.0.7";
const SOURCE6: &str = "fc00:31::7";

/// To GUE with sources of its own, and back without them.
#[test]
fn no_packet_leaves_by_gue_from_nobodys_source() {
    let host = Host::new();
    let file = |packets: &str| {
        let vips =
            [vip("tcp://10.200.1.1:80", &["10.0.0.1"]), vip("tcp://10.200.1.2:80", &["fc00::1"])];
        config_file(&Host::config(&format!("\n[packets]\n{packets}\n{}", vips.concat())))
    };
    let ipip = file("");
    let gue = file(&format!(
        "encapsulation = \"gue\"\nencap_source_v4 = \"{SOURCE4}\"\nencap_source_v6 = \"{SOURCE6}\""
    ));
    // The way of a packet, and the address that it leaves from.
    let around = |vip: &str| {
        let traced = host.lbctl().ok(&["trace", "tcp", "192.0.2.1:1000", vip, "--syn"]).stdout;
        let line = traced.lines().find_map(|line| line.trim().strip_prefix("around it"));
        line.unwrap_or_else(|| panic!("{traced}")).trim().to_owned()
    };
    let ways = || ["10.200.1.1:80", "10.200.1.2:80"].map(around);
    let right = |[to4, to6]: &[String; 2]| {
        let by4 = to4.starts_with("IP in IP") || to4.contains(SOURCE4);
        let by6 = to6.starts_with("IP in IP") || to6.contains(SOURCE6);
        by4 && by6
    };
    let apply = |file| ["apply", "--yes", "-f", path_of(file)];
    for (old, new) in [(&gue, &ipip), (&ipip, &gue)] {
        host.lbctl().ok(&apply(old));
        let mut seen = vec![ways()];
        let mut ended = false;
        for n in 1..ENOUGH {
            let killing = host.lbctl().env("LBCTL_KILL_AT_WRITE", &n.to_string());
            let output = killing.run(&apply(new));
            let found = ways();
            assert!(right(&found), "killed at write {n}: {found:?}");
            let changed = seen.last() != Some(&found);
            if changed {
                seen.push(found);
            }
            if output.code() == Some(0) {
                ended = true;
                break;
            }
            assert_eq!(output.status.signal(), Some(Signal::SIGKILL as i32), "{n}: {output}");
            host.lbctl().ok(&apply(old));
        }
        assert!(ended, "{ENOUGH} writes are not enough");
        let (first, last) = (&seen[0], &seen[seen.len() - 1]);
        let by_gue = |ways: &[String; 2]| ways.iter().all(|way| way.starts_with("GUE"));
        assert_ne!(by_gue(first), by_gue(last), "{seen:?}");
        assert_eq!(host.lbctl().run(&["plan", "-f", path_of(new)]).code(), Some(0));
    }
}
