//! Errors as JSON: one object on standard error, and the exit code of the text.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use crate::fixtures::Host;
use crate::fixtures::Output;
use crate::fixtures::config_file;
use crate::fixtures::path_of;
use crate::fixtures::vip;

const VIP: &str = "tcp://10.200.1.1:80";

/// The kinds that docs/errors.md has.
fn documented() -> BTreeSet<String> {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/errors.md");
    let page = fs::read_to_string(page).expect("read docs/errors.md");
    page.lines().filter_map(|line| Some(line.strip_prefix("### ")?.to_owned())).collect()
}

/// The error that a command printed.
#[track_caller]
fn parsed(output: &Output) -> Value {
    assert_eq!(output.stdout, "", "{output}");
    let last = output.stderr.lines().last().unwrap_or_default();
    let object: Value = serde_json::from_str(last).unwrap_or_else(|e| panic!("{e}: {output}"));
    assert_eq!(object.as_object().map(serde_json::Map::len), Some(1), "{object}");
    object["error"].clone()
}

/// The error of a command that fails with this code. Nothing else is printed.
#[track_caller]
fn error(host: &Host, code: i32, arguments: &[&str]) -> Value {
    let output = host.lbctl().exits(code, &[&["--json"], arguments].concat());
    let error = parsed(&output);
    let kind = error["kind"].as_str().unwrap_or_else(|| panic!("no kind: {error}"));
    assert!(documented().contains(kind), "docs/errors.md does not have {kind}");
    // As text it says the same, with the same exit code.
    let text = host.lbctl().exits(code, arguments).stderr;
    let (message, lines) = (error["message"].as_str().expect("a message"), text.lines());
    assert_eq!(lines.last(), Some(&*format!("error: {message}")), "{text}");
    let of_file = ["file", "kind", "line", "key", "message"].map(str::to_owned);
    let keys: BTreeSet<_> = error.as_object().expect("an object").keys().cloned().collect();
    let wanted: BTreeSet<_> = if kind == "config" {
        of_file.into_iter().collect()
    } else {
        ["kind", "message"].map(str::to_owned).into_iter().collect()
    };
    assert_eq!(keys, wanted, "{error}");
    error
}

#[test]
fn they_are_one_object_on_standard_error() {
    let host = Host::new();
    let kind = |code, arguments: &[&str]| error(&host, code, arguments)["kind"].clone();
    for arguments in [&["vip", "list"][..], &["status"], &["save"], &["flows", "count"]] {
        assert_eq!(kind(1, arguments), "not_running", "{arguments:?}");
    }
    assert_eq!(kind(1, &["--instance", "no name", "status"]), "instance_name");
    // The command line.
    assert_eq!(kind(2, &["vip", "add", "nonsense"]), "usage");
    assert_eq!(kind(2, &["--nonsense"]), "usage");
    // As text, the first two do something else.
    for no_json in ["vip", "top", "dump"] {
        let output = host.lbctl().exits(2, &["--json", no_json]);
        assert_eq!(parsed(&output)["kind"], "usage", "{output}");
    }
    // A file.
    let file = config_file(&format!("{}\nnonsense = 1\n", Host::INTERFACE));
    for command in ["plan", "apply", "serve"] {
        let error = error(&host, 1, &[command, "-f", path_of(&file)]);
        assert_eq!(error["kind"], "config", "{error}");
        assert_eq!(error["file"], path_of(&file), "{error}");
        assert_eq!(error["line"], 6, "{error}");
        assert!(error["key"].as_str().is_some_and(|key| key.ends_with("nonsense")), "{error}");
    }
    assert_eq!(kind(1, &["plan", "-f", "/nonexistent"]), "config");

    let config = Host::config(&vip(VIP, &["10.0.0.1", "10.0.0.2"]));
    host.lbctl().apply(&config);
    assert_eq!(kind(1, &["real", "delete", VIP, "10.0.0.9"]), "no_such_real");
    assert_eq!(kind(1, &["real", "add", VIP, "10.0.0.1"]), "real_exists");
    assert_eq!(kind(1, &["real", "delete", "tcp://10.200.1.9:80", "10.0.0.9"]), "no_such_vip");
    assert_eq!(kind(1, &["vip", "add", VIP]), "vip_exists");
    assert_eq!(kind(1, &["flows", "find", VIP, "192.0.2.1:1"]), "flow_not_found");
    assert_eq!(kind(1, &["chain", "remove", "nothing"]), "chain_no_such_program");
    assert_eq!(kind(1, &["chain", "insert", "3", "/nonexistent"]), "chain_read");
    assert_eq!(kind(1, &["reload"]), "serving_not_served");
    let other = config_file(&Host::config(&vip(VIP, &["10.0.0.1"])));
    assert_eq!(
        kind(1, &["apply", "--expect", "0000000000000000", "-f", path_of(&other)]),
        "other_plan"
    );
}
