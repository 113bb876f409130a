//! Errors in the optional keys of a packet test: one line each, before anything is loaded.

use l4lb::packet_test::run_file;

/// A frame of 14 bytes.
const FRAME: &str = "AgAAAAACAgAAAAABCAY=";

#[track_caller]
fn error(text: &str) -> String {
    let folder = tempfile::tempdir().expect("a folder for the test");
    let path = folder.path().join("bad.json");
    std::fs::write(&path, text).expect("the file is written");
    let error = run_file(&path).expect_err("the file is bad").to_string();
    assert_eq!(error.lines().count(), 1, "{error}");
    assert!(error.contains("bad.json"), "{error} does not name the file");
    error
}

#[track_caller]
fn bad_case(case: &str, says: &str) {
    let error = error(&format!(r#"{{ "config": {{}}, "cases": [ {case} ] }}"#));
    assert!(error.contains("cases[0]"), "{error} does not name the case");
    assert!(error.contains(says), "{error} does not say: {says}");
}

#[test]
fn bad_cases_are_named() {
    let with = |more: &str| {
        format!(r#"{{ "name": "n", "input": "{FRAME}", "action": "XDP_PASS", {more} }}"#)
    };
    bad_case(&with(r#""output": "AAAA""#), "output: a frame of 3 bytes");
    bad_case(&with(r#""reason": "bad_luck""#), "there is no reason 'bad_luck'");
    bad_case(&with(r#""metadata": 6"#), "metadata: 6 is not a multiple of 4 up to 216");
    bad_case(&with(r#""metadata": 220"#), "metadata: 220 is not a multiple of 4 up to 216");
    bad_case(&with(r#""repeat": 0"#), "repeat: 0 times leaves no packet to judge");
    bad_case(&with(r#""repeat": -1"#), "repeat: invalid value");
}

#[test]
fn nothing_may_follow() {
    assert!(error(r#"{ "config": {}, "cases": [] } more"#).contains("trailing characters"));
}
