//! Checks of reals that would not do what they are for.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::Patient;
use crate::fixtures::Host;
use crate::fixtures::Serve;
use crate::fixtures::config_file;
use crate::fixtures::path_of;
use crate::fixtures::vip;
use crate::fixtures::wait_until;

const VIP: &str = "tcp://10.200.1.1:80";

const REALS: [&str; 2] = ["10.0.0.1", "10.0.0.2"];

fn program(path: &Path) {
    std::fs::write(path, "#!/bin/sh\n").expect("write a program");
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(path, mode).expect("make it executable");
}

#[test]
fn a_file_is_looked_at_for_checks_that_do_not_help() {
    let (host, folder) = (Host::new(), tempfile::tempdir().expect("a folder"));
    let path = folder.path().join("program");
    let check = format!("type = \"exec\", program = \"{}\", interval = \"30s\"", path.display());
    let text = format!("{}check = {{ {check} }}\nmin_healthy = \"100%\"\n", vip(VIP, &REALS));
    let file = config_file(&Host::config(&text));
    let patient = Patient::new(host.lbctl(), &host.ns, &["-f", path_of(&file)]);
    let place = format!("VIP {VIP}");
    patient.finds("check-unusable", &place, "error", &["program", &path.display().to_string()]);
    patient.finds("always-fails-open", &place, "warning", &["wants 2 healthy reals, and 2 are up"]);
    patient.finds("slow-detection", &place, "note", &["found after 1m 32s"]);
    patient.is_well("no-check", "host");
    program(&path);
    patient.is_well("check-unusable", "host");
    let better = text.replace("30s", "10s").replace("\"100%\"", "1");
    let file = config_file(&Host::config(&better));
    let patient = patient.with(&["-f", path_of(&file)]);
    patient.is_well("always-fails-open", "host");
    patient.is_well("slow-detection", "host");
}

/// Until somebody serves, each way to ask for checks says that nobody runs them.
#[test]
fn checks_that_nobody_runs_are_told() {
    const WARNING: &str = "1 VIP has a check, and lbctl serve does not run";
    let host = Host::new();
    let plain = Host::config(&vip(VIP, &REALS));
    let check = "check = { type = \"tcp\", via = \"direct\", interval = \"300ms\" }\n";
    let checked = Host::config(&format!("{}{check}", vip(VIP, &REALS)));
    let file = config_file(&checked);
    let says = |arguments: &[&str], code: i32| {
        let output = host.lbctl().exits(code, arguments);
        assert!(output.stderr.contains(WARNING), "{arguments:?}: {output}");
    };
    let output = host.lbctl().exits(3, &["plan", "-f", path_of(&config_file(&plain))]);
    assert!(!output.stderr.contains("lbctl serve"), "{output}");
    let unused = config_file(&format!("{plain}\n[checks.web]\ntype = \"tcp\"\n"));
    let output = host.lbctl().exits(3, &["plan", "-f", path_of(&unused)]);
    assert!(output.stderr.contains("no VIP uses check web"), "{output}");
    says(&["plan", "-f", path_of(&file)], 3);
    says(&["apply", "-f", path_of(&file)], 0);
    let running = Patient::new(host.lbctl(), &host.ns, &[]);
    let bare = config_file(&plain);
    let bare = running.with(&["-f", path_of(&bare)]);
    bare.finds("no-check", "host", "note", &[VIP, "has no check"]);
    running.is_well("no-check", "host");
    let finds = || running.finds("nobody-checks", "instance default", "warning", &["never"]);
    let advice = finds();
    assert!(advice.to_string().contains("start lbctl serve"), "{advice}");
    let list = host.lbctl().ok(&["vip", "list"]).stdout;
    let row: Vec<_> = list.lines().nth(1).expect("a VIP").split_whitespace().collect();
    assert_eq!(row[row.len() - 3..], ["tcp", "0", "2"], "{list}");

    let serve = Serve::start(host.lbctl(), &checked);
    // It says so before any check has ended.
    let well = || running.find("nobody-checks", "instance default").is_none();
    assert!(wait_until(crate::fixtures::SOON, well), "{}", serve.running.stderr());
    let output = host.lbctl().exits(0, &["plan", "-f", path_of(&file)]);
    assert!(!output.stderr.contains(WARNING), "{output}");
}
