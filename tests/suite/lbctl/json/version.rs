//! `lbctl version`

use std::process::Command;

use serde_json::json;

use crate::fixtures::Bpffs;
use crate::fixtures::Lbctl;
use crate::fixtures::NOBODY;
use crate::fixtures::json as json_of;

/// It says what a bug report needs, in each way to ask for it.
#[test]
fn it_says_what_runs() {
    let bpffs = Bpffs::new();
    let lbctl = Lbctl::new(&bpffs);
    let version = json_of(&lbctl.ok(&["version", "--json"]));
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(version["json_format"], l4lb::JSON_FORMAT);
    assert_eq!(version["features"], json!(["agent", "capture", "cli", "metrics"]));
    assert_eq!(version["license"], "BSD-2-Clause OR GPL-2.0-only");
    let kernel = Command::new("uname").arg("-r").output().expect("run uname").stdout;
    assert_eq!(version["kernel"], String::from_utf8_lossy(&kernel).trim());
    assert!(version["libbpf"].as_str().is_some_and(|text| text.starts_with('v')), "{version}");
    assert!(version["clang"].as_str().is_some_and(|text| text.contains("clang")), "{version}");
    assert_eq!(json_of(&lbctl.ok(&["--version", "--json"])), version);

    let text = lbctl.ok(&["version"]).stdout;
    assert!(text.starts_with(concat!("lbctl ", env!("CARGO_PKG_VERSION"), "\ncommit ")), "{text}");
    let abi = format!("\nABI           {}\n", version["abi"]);
    assert!(text.contains(&abi) && text.lines().count() == 10, "{text}");
    for same in ["--version", "-V"] {
        assert_eq!(lbctl.ok(&[same]).stdout, text, "{same}");
    }
    // Somebody without rights reports bugs, too, wherever no instance can be.
    let mut nobody = Command::new(NOBODY[0]);
    nobody.args(&NOBODY[1..]).args([env!("CARGO_BIN_EXE_lbctl"), "--bpffs", "/nonexistent"]);
    let output = nobody.arg("version").output().expect("run it");
    assert_eq!(String::from_utf8_lossy(&output.stdout), text);
}
