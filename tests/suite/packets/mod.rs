//! The project's own packet tests: `tests/packets/*.json`.
//!
//! The files are made from the tables of cases in [`cases`], which say in words and addresses what is
//! sent and what is expected. Expected frames are put together by [`frame`], never recorded from the
//! balancer. After a change of a table:
//!
//! ```text
//! LB_WRITE_PACKET_TESTS=1 cargo test --test suite packets::the_files
//! ```

mod attack;
mod case;
mod cases;
mod checksums;
mod config;
pub(crate) mod differential;
mod format;
mod reference;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::PathBuf;

use l4lb::Config;
use serde_json::Value;
use serde_json::json;

use crate::packets::checksums::check_sent;
use crate::packets::reference::Reference;
use case::File;

/// The least number of cases.
const ENOUGH: usize = 120;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/packets")
}

fn path(file: &File) -> PathBuf {
    folder().join(file.name).with_extension("json")
}

fn config(file: &File) -> Config {
    Config::from_toml(file.config.as_str()).unwrap_or_else(|error| panic!("{}: {error}", file.name))
}

fn text(file: &File) -> String {
    let config: Value = toml::from_str(file.config.as_str()).expect("the configuration is TOML");
    // Behind one another: the order is part of a case.
    let cases: Vec<_> = file
        .cases
        .iter()
        .map(|case| serde_json::to_string_pretty(case).expect("a case is JSON"))
        .collect();
    let indent = |text: &str, by: &str| text.replace('\n', &format!("\n{by}"));
    let config = serde_json::to_string_pretty(&config).expect("a configuration is JSON");
    let neighbours = match file.config.neighbours() {
        known if known.is_empty() => String::new(),
        known => {
            let known = serde_json::to_string_pretty(known).expect("addresses are JSON");
            format!("  \"neighbours\": {},\n", indent(&known, "  "))
        }
    };
    format!(
        "{{\n  \"config\": {},\n{neighbours}  \"cases\": [\n    {}\n  ]\n}}\n",
        indent(&config, "  "),
        indent(&cases.join(",\n"), "    ")
    )
}

#[test]
fn the_files_are_what_the_tables_say() {
    let files = cases::files();
    if std::env::var_os("LB_WRITE_PACKET_TESTS").is_some() {
        for file in &files {
            std::fs::write(path(file), text(file)).expect("the file is written");
        }
    }
    for file in &files {
        let committed = std::fs::read_to_string(path(file)).unwrap_or_default();
        assert!(
            committed == text(file),
            "{} is not what the tables say: LB_WRITE_PACKET_TESTS=1 cargo test --test suite packets::the_files",
            path(file).display()
        );
    }
    let made: BTreeSet<_> = files.iter().map(path).collect();
    for entry in std::fs::read_dir(folder()).expect("the folder is there") {
        let path = entry.expect("the folder can be read").path();
        assert!(made.contains(&path), "{} is made from no table", path.display());
    }
}

#[test]
fn the_balancer_passes_them() {
    let mut failed = Vec::new();
    for file in cases::files() {
        let result = l4lb::packet_test::run_file(&path(&file)).expect("the file can be run");
        assert_eq!(result.cases.len(), file.cases.len(), "{}", result.file);
        if result.failed() > 0 {
            failed.push(result);
        }
    }
    assert!(failed.is_empty(), "{}", l4lb::packet_test::render(&failed));
}

/// Each row of docs/katran.md names the packet tests that show it, if there are any.
#[test]
fn the_page_on_katran_names_tests_that_exist() {
    let page = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/katran.md");
    let page = std::fs::read_to_string(page).expect("the page is there");
    let files = cases::files();
    let cases: BTreeSet<_> = files
        .iter()
        .flat_map(|file| file.cases.iter().map(|case| (file.name, case.name)))
        .collect();
    let named = |test: &str| {
        let (file, rest) = test.strip_prefix('[')?.split_once("](../tests/packets/")?;
        let (path, case) = rest.split_once("): ")?;
        let right = path.strip_suffix(".json") == Some(file);
        (right && cases.contains(&(file, case))).then_some(())
    };
    let rows = page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| ---"));
    let mut tests = 0;
    for row in rows {
        let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [_, _, shown] = cells[..] else { panic!("not three cells: {row}") };
        for test in shown.split("<br>").filter(|test| !["", "packet test"].contains(test)) {
            assert!(named(test).is_some(), "docs/katran.md names a test that is none: {test}");
            tests += 1;
        }
    }
    assert!(tests > 40, "{tests} tests");
}

/// A second opinion on the expectations: they were written by hand, or taken from the reference and then
/// read by hand.
#[test]
fn the_reference_agrees_with_them() {
    for file in cases::files() {
        let config = config(&file);
        let mut reference = Reference::new(&config);
        for (real, mac) in file.config.neighbours() {
            reference.neighbour(*real, *mac);
        }
        // The reference knows neither drivers nor floods.
        let limited = config.connection_table.new_connections_per_second < 1000;
        for case in file.cases.iter().filter(|case| case.metadata == 0 && !limited) {
            let place = format!("{}: {}", file.name, case.name);
            for _ in 1..case.repeat {
                reference.judge(&case.input);
            }
            let judged = reference.judge(&case.input);
            let (action, reason) = (judged.action, judged.reason);
            assert_eq!((action, reason), (case.action, case.reason), "{place}: {judged:?}");
            if let (Some(expected), Some(frame)) = (&case.output, &judged.frame) {
                let difference = l4lb::packet_test::difference(expected, frame);
                assert!(difference.is_empty(), "{place}: {:?}\n{difference}", judged.real);
            }
        }
    }
}

/// The expected frames themselves: what the reals and the clients check.
#[test]
fn the_expected_frames_have_right_checksums() {
    for file in cases::files() {
        let config = config(&file);
        for case in file.cases.iter().filter(|case| case.action == "XDP_TX") {
            let output = case.output.as_ref().expect("what is sent is given");
            check_sent(case.reason, output, &config)
                .unwrap_or_else(|what| panic!("{}: {}: {what}", file.name, case.name));
        }
    }
}

#[test]
fn every_verdict_and_every_reason_occurs() {
    // The committed files count, not the tables.
    let mut verdicts = BTreeSet::new();
    let mut cases_of = BTreeMap::new();
    let mut count = 0;
    for entry in std::fs::read_dir(folder()).expect("the folder is there") {
        let path = entry.expect("the folder can be read").path();
        let text = std::fs::read_to_string(&path).expect("the file can be read");
        let file: Value = serde_json::from_str(&text).expect("the file is JSON");
        for case in file["cases"].as_array().expect("cases are a list") {
            let text = |key: &str| {
                case[key].as_str().unwrap_or_else(|| panic!("{case} has no {key}")).to_owned()
            };
            let dropped = text("action") == "XDP_DROP";
            assert_eq!(case["output"].is_string(), !dropped, "{}", json!([text("name")]));
            verdicts.insert(text("action"));
            *cases_of.entry(text("reason")).or_insert(0_usize) += 1;
            count += 1;
        }
    }
    println!("{count} cases: {cases_of:?}");
    assert!(count >= ENOUGH, "{count} cases; there must be {ENOUGH}");
    assert_eq!(verdicts, ["XDP_DROP", "XDP_PASS", "XDP_TX"].map(String::from).into());
    // No interface of packet tests has so small an MTU (trace.rs), and no frame is longer than what can be summed.
    let not_here = ["small_mtu", "gue_checksum"];
    for reason in l4lb::reasons().iter().filter(|reason| !not_here.contains(&reason.name)) {
        assert!(
            cases_of.contains_key(reason.name),
            "no case in tests/packets/*.json ends with {}: add one to a table in tests/suite/packets/cases, and \
             write the files",
            reason.name
        );
    }
    for reason in cases_of.keys() {
        let known = l4lb::reasons().iter().any(|known| known.name == reason);
        assert!(known, "there is no reason {reason}");
    }
}
