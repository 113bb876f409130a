//! The man pages: every command has one, and man reads them without a warning.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use crate::fixtures::Host;
use crate::fixtures::path_of;

#[test]
fn every_command_has_a_page_without_warnings() {
    let host = Host::new();
    let folder = tempfile::tempdir().expect("make a folder");
    let pages = folder.path().join("man");
    host.lbctl().ok(&["man", path_of(&pages)]);
    let names: BTreeSet<_> = fs::read_dir(&pages)
        .expect("read the folder")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"))
        .collect();
    for name in ["lbctl.1", "lbctl-status.1", "lbctl-real-drain.1", "l4lb.toml.5"] {
        assert!(names.contains(name), "{name} is not in {names:?}");
    }
    for name in ["lbctl-complete.1", "lbctl-man.1", "lbctl-help.1"] {
        assert!(!names.contains(name), "{name}");
    }
    for name in &names {
        // As lintian asks.
        let output = Command::new("man")
            .args(["--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z"])
            .arg(pages.join(name))
            .env("MANROFFSEQ", "")
            .env("MANWIDTH", "80")
            .env("LC_ALL", "C.UTF-8")
            .output()
            .expect("run man");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && stderr.is_empty(), "{name}: {stderr}");
    }
    let drain = text(&pages.join("lbctl-real-drain.1"));
    for said in ["lbctl-real-drain - ", "--wait", "OPTIONS OF EVERY COMMAND", "LBCTL_INSTANCE"] {
        assert!(drain.contains(said), "'{said}' is not in {drain}");
    }
    let config = text(&pages.join("l4lb.toml.5"));
    for said in ["[connection_table]", "xdp_mode", "[[interfaces]]", "/etc/l4lb/INSTANCE.toml"] {
        assert!(config.contains(said), "'{said}' is not in {config}");
    }
}

/// A page as a terminal without colours shows it.
fn text(page: &std::path::Path) -> String {
    let output = Command::new("sh")
        .args(["-euc", "groff -man -Tutf8 -P-c -P-b -P-u -rLL=200n -Kutf8 \"$0\""])
        .arg(page)
        .output()
        .expect("run groff");
    String::from_utf8_lossy(&output.stdout).replace(['\u{2010}', '\u{2212}'], "-")
}
