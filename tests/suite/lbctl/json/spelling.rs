//! One spelling of keys and values.

use serde_json::Value;
use serde_json::json;

/// Objects whose keys, and texts that, somebody chose: names of VIPs, interfaces, programs, checks, headers, cases.
const CHOSEN: [&str; 13] = [
    "interfaces",
    "interface",
    "checks",
    "check",
    "headers",
    "vips",
    "reals",
    "requests",
    "lost",
    "name",
    "instance",
    "fields",
    "removed",
];

/// Keywords of the configuration.
const KEYWORDS: [&str; 9] = [
    "5-tuple",
    "no-source-port",
    "destination-port",
    "source-and-destination-port",
    "set-associative",
    "lru",
    "quic-connection-id",
    "pass-known",
    "drop-known",
];

fn is_snake_case(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

/// Notes keys that are not in `snake_case`, values that are names and are not, and times as text.
pub(super) fn walk(place: &str, value: &Value, wrong: &mut Vec<String>) {
    let key = place.rsplit('.').next().unwrap_or_default().trim_end_matches("[]");
    match value {
        Value::Object(object) => {
            for (below, value) in object {
                if !is_snake_case(below) && !CHOSEN.contains(&key) {
                    wrong.push(format!("{place}: key '{below}'"));
                }
                // The names of doctor's findings are those of its page, those of actions the kernel's.
                let exempt = (below == "id" && place.starts_with("doctor"))
                    || (below == "action" && place.starts_with("test"))
                    || below == "frame";
                if !exempt {
                    walk(&format!("{place}.{below}"), value, wrong);
                }
            }
        }
        Value::Array(items) => {
            for item in items {
                walk(&format!("{place}[]"), item, wrong);
            }
        }
        Value::String(text) => {
            let letters = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
            let is_name =
                text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.chars().all(letters);
            let chosen = CHOSEN.contains(&key) || KEYWORDS.contains(&&**text);
            if is_name && !is_snake_case(text) && !chosen {
                wrong.push(format!("{place}: '{text}'"));
            }
            // In logs, for people who read them as well.
            if text.parse::<jiff::Timestamp>().is_ok() && key != "time" {
                wrong.push(format!("{place}: a time is a number, not '{text}'"));
            }
        }
        _ => {}
    }
}

#[test]
fn other_spellings_are_found() {
    let found = |value: &Value| {
        let mut wrong = Vec::new();
        walk("x", value, &mut wrong);
        wrong
    };
    let right =
        json!({ "state": "real_removed", "hash": "5-tuple", "interfaces": { "Eth-0": {} } });
    assert_eq!(found(&right), [""; 0]);
    assert_eq!(
        found(&json!({
            "state": "real-removed", "noCarrier": 1, "list": [{ "kind": "Tcp" }],
            "since": "2026-11-28T11:35:53Z"
        })),
        [
            "x.list[].kind: 'Tcp'",
            "x: key 'noCarrier'",
            "x.since: a time is a number, not '2026-11-28T11:35:53Z'",
            "x.state: 'real-removed'"
        ]
    );
}
