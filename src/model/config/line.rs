//! On which line of a file a key is.

use toml::Spanned;
use toml::de::DeTable;
use toml::de::DeValue;

/// The line of a key such as `vips[3].check.port` in the text of a TOML file, from 1; if the key is not there, that of
/// the innermost table which is. `None`: nothing of it is there.
pub(crate) fn line_of(text: &str, key: &str) -> Option<usize> {
    let root = DeTable::parse(text).ok()?;
    let mut table = root.get_ref();
    let mut found = None;
    for part in key.split('.') {
        let (name, places) = part.split_once('[').unwrap_or((part, ""));
        let Some((key, value)) = table.iter().find(|(key, _)| key.get_ref() == name) else { break };
        let mut at = key.span();
        let mut value: &Spanned<DeValue<'_>> = value;
        for place in places.split('[').filter(|place| !place.is_empty()) {
            let place = place.trim_end_matches(']').parse::<usize>().ok();
            let element = value.get_ref().as_array().zip(place);
            let Some(element) = element.and_then(|(list, place)| list.get(place)) else { break };
            (value, at) = (element, element.span());
        }
        found = Some(at.start);
        let Some(inner) = value.get_ref().as_table() else { break };
        table = inner;
    }
    found.map(|start| text[..start.min(text.len())].matches('\n').count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"# lb.toml
[[interfaces]]
name = "eth0"

[checks.web]
type = "http"
path = "healthz"

[[vips]]
address = "10.200.1.1"
check = { type = "tcp",
    fall = 0 }
reals = [
    { address = "10.0.0.1" },
    { address = "10.0.0.2" },
]

[[vips]]
address = "10.200.1.2"
min_healthy = 1
[vips.flapping]
failures = 0
"#;

    #[test]
    fn a_key_has_a_line() {
        for (key, line) in [
            ("interfaces[0].name", Some(3)),
            ("checks.web", Some(5)),
            ("checks.web.path", Some(7)),
            ("checks.web.port", Some(5)),
            ("vips[0].check", Some(11)),
            ("vips[0].check.fall", Some(12)),
            ("vips[0].reals[1].address", Some(15)),
            ("vips[1]", Some(18)),
            ("vips[1].min_healthy", Some(20)),
            ("vips[1].flapping.failures", Some(22)),
            ("health.concurrency", None),
            ("", None),
        ] {
            assert_eq!(line_of(TEXT, key), line, "{key}");
        }
        assert_eq!(line_of("not TOML", "vips"), None);
    }
}
