//! libpcap is loaded by the first filter, and commands without one do well on a host that does not have it.

use std::path::Path;
use std::process::Command;

use crate::fixtures::Host;
use crate::fixtures::config_file;
use crate::fixtures::path_of;
use crate::fixtures::vip;

/// What a program prints about `lbctl` or the host.
#[track_caller]
fn printed(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).env("LC_ALL", "C").output();
    let output = output.unwrap_or_else(|error| panic!("run {program}: {error}"));
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The files by which the dynamic loader knows libpcap.
fn files_of_libpcap() -> Vec<String> {
    let known = printed("/sbin/ldconfig", &["-p"]);
    let files = known.lines().filter_map(|line| line.split_once(" => "));
    let files: Vec<_> = files.map(|(_, file)| file.to_owned()).collect();
    let files: Vec<_> = files.into_iter().filter(|file| file.contains("/libpcap.so")).collect();
    assert!(!files.is_empty(), "no libpcap here: {known}");
    files
}

#[test]
fn only_filters_load_it() {
    let needed = printed("readelf", &["--dynamic", env!("CARGO_BIN_EXE_lbctl")]);
    assert!(needed.contains("NEEDED") && needed.contains("libelf"), "{needed}");
    assert!(!needed.contains("libpcap"), "{needed}");

    let host = Host::new();
    let file = config_file(&Host::config(&vip("tcp://10.200.1.1:80", &["10.0.0.1"])));
    // The dynamic loader writes what it opens to standard error.
    let lbctl = host.lbctl().env("LD_DEBUG", "libs");
    for arguments in [
        &["apply", "-f", path_of(&file)][..],
        &["status"],
        &["dump", "--duration", "1ms"],
        &["dump", "--duration", "1ms", "--at", "exit", "--real", "10.0.0.1"],
    ] {
        let opened = lbctl.ok(arguments).stderr;
        assert!(opened.contains("libelf.so"), "{arguments:?}: {opened}");
        assert!(!opened.contains("libpcap"), "{arguments:?}: {opened}");
    }
    let opened = lbctl.ok(&["dump", "--duration", "1ms", "tcp port 80"]).stderr;
    assert!(opened.contains("libpcap.so"), "{opened}");
    assert!(!lbctl.ok(&["down"]).stderr.contains("libpcap"));
}

#[test]
fn a_host_without_it() {
    let host = Host::new();
    host.lbctl().apply(&Host::config(""));
    let without = files_of_libpcap()
        .iter()
        .fold(host.lbctl(), |lbctl, file| lbctl.finds(file, Path::new("/dev/null")));
    for filter in [&["tcp"][..], &["--inner", "tcp"]] {
        let refused = without.exits(1, &[&["dump", "--duration", "1ms"], filter].concat()).stderr;
        assert_eq!(refused.lines().count(), 1, "{refused}");
        for part in [
            "error: filter 'tcp': libpcap, which compiles filters, cannot be loaded (",
            "libpcap.so.0.8: file too short; ",
            "libpcap.so.1: cannot open shared object file",
            "): install the package libpcap0.8 (Debian, Ubuntu) or libpcap (other distributions)",
        ] {
            assert!(refused.contains(part), "{part}: {refused}");
        }
    }
    without.ok(&["dump", "--duration", "1ms"]);
    without.ok(&["down"]);
}
