//! What a mistyped or cut off file, a stale plan, or a hasty `down` cannot do.

use std::fs::File;
use std::io::Write as _;
use std::process::Stdio;
use std::time::Duration;

use nix::pty::openpty;
use serde_json::Value;

use crate::fixtures::Host;
use crate::fixtures::config_file;
use crate::fixtures::json;
use crate::fixtures::path_of;
use crate::fixtures::vip;

/// VIPs with three reals each.
fn vips(count: u8) -> String {
    let of = |n| vip(&format!("tcp://10.200.1.{n}:80"), &["10.0.0.1", "10.0.0.2", "10.0.0.3"]);
    Host::config(&(1..=count).map(of).collect::<String>())
}

fn running(host: &Host) -> usize {
    json(&host.lbctl().ok(&["vip", "list", "--json"])).as_array().map_or(0, Vec::len)
}

#[test]
fn a_file_that_was_cut_off_is_refused() {
    let host = Host::new();
    host.lbctl().apply(&vips(8));
    let cut = config_file(&vips(3));
    let path = path_of(&cut);
    let refused = host.lbctl().exits(1, &["apply", "-f", path]);
    assert!(
        refused
            .stderr
            .contains("5 of 8 VIPs and 15 of 24 reals are removed, as by a file that was cut off"),
        "{refused}"
    );
    assert_eq!((refused.stderr.lines().count(), running(&host)), (1, 8), "{refused}");
    let plan = host.lbctl().exits(3, &["plan", "-f", path]);
    assert!(
        plan.stdout.ends_with(
            "apply refuses this without --yes: 5 of 8 VIPs and 15 of 24 reals are removed\n"
        ),
        "{plan}"
    );
    assert_eq!(json(&host.lbctl().exits(3, &["plan", "--json", "-f", path]))["needs_yes"], true);
    // Reals alone count, too.
    let few = config_file(
        &vips(8).replace(", { address = \"10.0.0.2\" }, { address = \"10.0.0.3\" }", ""),
    );
    let refused = host.lbctl().exits(1, &["apply", "-f", path_of(&few)]);
    assert!(refused.stderr.contains("0 of 8 VIPs and 16 of 24 reals are removed"), "{refused}");
    // Half of them is not much, and neither are two.
    host.lbctl().ok(&["apply", "-f", path_of(&config_file(&vips(4)))]);
    host.lbctl().ok(&["apply", "--yes", "-f", path_of(&config_file(&vips(1)))]);
    assert_eq!(running(&host), 1);
}

#[test]
fn a_reload_refuses_it_too_and_takes_consent() {
    let host = Host::new();
    let file = config_file(&vips(8));
    let path = path_of(&file);
    let mut serve = host.lbctl().spawn(&["serve", "-f", path]);
    serve.wait_for("metrics at http");
    std::fs::write(path, vips(2)).expect("write");
    let refused = host.lbctl().exits(1, &["reload"]);
    assert!(
        refused.stderr.contains("not reloaded: 6 of 8 VIPs and 18 of 24 reals are removed"),
        "{refused}"
    );
    assert_eq!(running(&host), 8);
    host.lbctl().exits(1, &["status", "--check"]);
    host.lbctl().ok(&["reload", "--yes"]);
    assert_eq!(running(&host), 2);
    // Consent is for one reload.
    std::fs::write(path, vips(7)).expect("write");
    host.lbctl().ok(&["reload"]);
    std::fs::write(path, vips(1)).expect("write");
    host.lbctl().exits(1, &["reload"]);
    assert_eq!(running(&host), 7);
}

/// What a plan does not print, because it may be secret, is part of what was looked at all the same.
#[test]
fn a_digest_tells_checks_apart() {
    let host = Host::new();
    let digest = |program: &str| -> String {
        let check = "[checks.x]\ntype = \"exec\"\nprogram = \"/bin/sh\"\nargs = [\"-c\", \"";
        let file = config_file(&format!("{check}{program}\"]\n{}", vips(4)));
        let plan: Value = json(&host.lbctl().exits(3, &["plan", "--json", "-f", path_of(&file)]));
        plan["digest"].as_str().expect("a digest").to_owned()
    };
    assert_eq!(digest("true"), digest("true"));
    assert_ne!(digest("true"), digest("reboot"));
}

#[test]
fn apply_carries_out_the_plan_that_was_looked_at() {
    let host = Host::new();
    host.lbctl().apply(&vips(4));
    let file = config_file(&vips(5));
    let path = path_of(&file);
    let digest = || -> String {
        let plan: Value = json(&host.lbctl().exits(3, &["plan", "--json", "-f", path]));
        plan["digest"].as_str().expect("a digest").to_owned()
    };
    let first = digest();
    assert_eq!(first, digest(), "it is the same as long as the plan is");
    let plan = host.lbctl().exits(3, &["plan", "-f", path]).stdout;
    assert!(
        plan.contains(&format!(
            "digest {first}: lbctl apply --expect {first} applies exactly this\n"
        )),
        "{plan}"
    );
    let other = host.lbctl().exits(1, &["apply", "-f", path, "--expect", "0000000000000000"]);
    assert!(other.stderr.contains(&format!("the plan has the digest {first} now: ")), "{other}");
    // Somebody changes what runs.
    host.lbctl().ok(&["real", "drain", "tcp://10.200.1.1:80", "10.0.0.1"]);
    host.lbctl().exits(1, &["apply", "-f", path, "--expect", &first]);
    assert_eq!(running(&host), 4);
    let last = digest();
    host.lbctl().ok(&["apply", "-f", path, "--expect", &last]);
    assert_eq!(running(&host), 5);
    // Once more, as a script does that is not sure whether it was the first time.
    host.lbctl().ok(&["apply", "-f", path, "--expect", &last]);
    let wrong = host.lbctl().exits(2, &["apply", "-f", path, "--expect", "now"]);
    assert!(wrong.stderr.contains("16 digits that 'lbctl plan' prints"), "{wrong}");
    let nothing = host.lbctl().ok(&["plan", "-f", path]).stdout;
    assert_eq!(nothing, "nothing to change\n");
}

/// Only a terminal is asked: scripts go on as they did.
#[test]
fn down_asks_on_a_terminal() {
    let host = Host::new();
    host.lbctl().apply(&vips(2));
    let down = |answer: &str, arguments: &[&str]| {
        let pty = openpty(None, None).expect("a terminal");
        let mut child = host
            .ns
            .command(env!("CARGO_BIN_EXE_lbctl"))
            .args(["--bpffs", host.bpffs.text(), "down"])
            .args(arguments)
            .stdin(Stdio::from(pty.slave))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("starts");
        let mut keys = File::from(pty.master);
        keys.write_all(answer.as_bytes()).expect("keys");
        let watched = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_secs(30));
            drop(keys);
        });
        let status = child.wait().expect("it ends");
        drop(watched);
        let mut text = String::new();
        std::io::Read::read_to_string(&mut child.stderr.take().expect("piped"), &mut text)
            .expect("text");
        (status.code(), text)
    };
    let asked = "take instance 'default' down? Packets for 2 VIPs are no longer balanced [y/N] ";
    for answer in ["n\n", "\n", "yess\n"] {
        let (code, text) = down(answer, &[]);
        assert_eq!(code, Some(1), "{text}");
        assert!(text.starts_with(asked) && text.ends_with("nothing was changed\n"), "{text}");
        assert_eq!(running(&host), 2);
    }
    let (code, text) = down("y\n", &[]);
    assert_eq!((code, text.as_str()), (Some(0), asked));
    assert!(!host.has_pins("default"));
    host.lbctl().apply(&vips(2));
    assert_eq!(down("", &["--yes"]), (Some(0), String::new()));
    host.lbctl().apply(&vips(2));
    host.lbctl().ok(&["down"]);
    assert!(!host.has_pins("default"));
}
