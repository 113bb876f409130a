use std::collections::BTreeSet;

use super::Collector;
use super::Kind;
use super::families;
use crate::Instance;
use prometheus::core::Collector as _;

#[test]
fn names_follow_the_conventions() {
    let mut names = BTreeSet::new();
    for family in families() {
        let name = family.name;
        assert!(names.insert(name), "{name} is there twice");
        assert!(name.starts_with("l4lb_"), "{name}");
        assert_eq!(name.ends_with("_total"), family.kind == Kind::Counter, "{name}");
        assert!(family.help.ends_with('.'), "{name}: {}", family.help);
    }
}

#[test]
fn a_registry_takes_the_collector_once() {
    let collector = || Box::new(Collector::new(Instance::default()));
    let registry = prometheus::Registry::new();
    registry.register(collector()).unwrap();
    assert!(registry.register(collector()).is_err());
    assert_eq!(collector().desc().len(), families().len());
}

/// The lines between two comments of docs/metrics.md.
fn section(begin: &str, rows: &[String]) -> String {
    format!("<!-- {begin} -->\n{}\n<!-- end -->", rows.join("\n"))
}

/// The reference is made from the code: `LB_WRITE_METRICS=1` makes it anew.
#[test]
fn the_reference_is_that_of_the_code() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");
    let text = std::fs::read_to_string(path).unwrap();
    let table = |head: &str, columns: usize, rows: &mut dyn Iterator<Item = String>| {
        let lines = [format!("| {head} |"), format!("|{}", " --- |".repeat(columns))];
        lines.into_iter().chain(rows).collect::<Vec<_>>()
    };
    let metrics = &mut families().iter().map(|family| {
        let kind = match family.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        let labels: Vec<_> = family.labels.iter().map(|label| format!("`{label}`")).collect();
        format!("| `{}` | {kind} | {} | {} |", family.name, labels.join(", "), family.help)
    });
    let reasons = &mut crate::reasons()
        .iter()
        .map(|reason| format!("| {} | `{}` | {} |", reason.verdict, reason.name, reason.help));
    let named = |names: &'static [crate::Named]| {
        names.iter().map(|named| format!("| `{}` | {} |", named.name, named.help))
    };
    let mut made = text.clone();
    for (begin, rows) in [
        (
            "made by LB_WRITE_METRICS=1 cargo test --lib metrics",
            table("metric | type | labels | meaning", 4, metrics),
        ),
        ("reasons", table("verdict | reason | meaning", 3, reasons)),
        ("events", table("event | meaning", 2, &mut named(crate::table_events()))),
        (
            "results of checks",
            table("result | meaning", 2, &mut named(crate::healthcheck_results())),
        ),
        ("results", table("result | meaning", 2, &mut named(crate::decap_results()))),
        ("segments", table("result | meaning", 2, &mut named(crate::mss_results()))),
    ] {
        let start = made.find(&format!("<!-- {begin} -->")).expect(begin);
        let end =
            start + made[start..].find("<!-- end -->").expect("an end") + "<!-- end -->".len();
        made.replace_range(start..end, &section(begin, &rows));
    }
    if std::env::var_os("LB_WRITE_METRICS").is_some() {
        return std::fs::write(path, &made).unwrap();
    }
    assert!(made == text, "docs/metrics.md: LB_WRITE_METRICS=1 cargo test --lib metrics");
}
