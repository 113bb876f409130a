//! Where in the text of a file a key is.

use toml::Spanned;
use toml::de::DeTable;
use toml::de::DeValue;

/// The parsed text of a file, in which keys can be found.
#[derive(Debug)]
pub(super) enum Places<'a> {
    /// TOML.
    Toml(Spanned<DeTable<'a>>),
    /// JSON that could be parsed.
    Json,
    /// Nothing can be found in it.
    Unknown,
}

impl Places<'_> {
    /// Where a key such as `vips[3].check.port` begins, in bytes; if the key is not there, where the innermost table
    /// that is there begins. `None`: nothing of it is there.
    pub(super) fn start_of(&self, text: &str, key: &str) -> Option<usize> {
        match self {
            Self::Toml(root) => in_toml(root.get_ref(), key),
            Self::Json => in_json(text, key),
            Self::Unknown => None,
        }
    }
}

/// The line and the column, in characters, of a place in a text; both from 1.
pub(super) fn line_and_column(text: &str, start: usize) -> (usize, usize) {
    let mut start = start.min(text.len());
    while !text.is_char_boundary(start) {
        start -= 1;
    }
    let before = &text[..start];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (line, column)
}

/// A part of a key: a name, and places in lists behind it.
fn parts(key: &str) -> impl Iterator<Item = (&str, impl Iterator<Item = usize>)> {
    key.split('.').map(|part| {
        let (name, places) = part.split_once('[').unwrap_or((part, ""));
        let places = places.split('[').filter_map(|place| place.trim_end_matches(']').parse().ok());
        (name, places)
    })
}

fn in_toml(root: &DeTable<'_>, key: &str) -> Option<usize> {
    let mut table = root;
    let mut found = None;
    for (name, places) in parts(key) {
        let Some((key, value)) = table.iter().find(|(key, _)| key.get_ref() == name) else { break };
        let mut at = key.span();
        let mut value: &Spanned<DeValue<'_>> = value;
        for place in places {
            let Some(element) = value.get_ref().as_array().and_then(|list| list.get(place)) else {
                break;
            };
            (value, at) = (element, element.span());
        }
        found = Some(at.start);
        let Some(inner) = value.get_ref().as_table() else { break };
        table = inner;
    }
    found
}

/// As [`in_toml`], in JSON that is known to be right.
fn in_json(text: &str, key: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut at = white(bytes, 0);
    let mut found = None;
    'parts: for (name, places) in parts(key) {
        let Some((key, value)) = member(bytes, at, name) else { break };
        (found, at) = (Some(key), value);
        for place in places {
            let Some(element) = element(bytes, at, place) else { break 'parts };
            (found, at) = (Some(element), element);
        }
    }
    found
}

/// Behind white space.
fn white(bytes: &[u8], mut at: usize) -> usize {
    while bytes.get(at).is_some_and(u8::is_ascii_whitespace) {
        at += 1;
    }
    at
}

/// Behind a value. It is not checked: the text was parsed before.
fn behind(bytes: &[u8], mut at: usize) -> usize {
    let mut depth = 0_usize;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => at = behind_string(bytes, at) - 1,
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth <= 1 => return if depth == 1 { at + 1 } else { at },
            b'}' | b']' => depth -= 1,
            b',' if depth == 0 => return at,
            _ => {}
        }
        at += 1;
    }
    at
}

/// Behind a string that begins here.
fn behind_string(bytes: &[u8], mut at: usize) -> usize {
    at += 1;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'\\' => at += 1,
            b'"' => return at + 1,
            _ => {}
        }
        at += 1;
    }
    bytes.len()
}

/// Where the member of an object, and its value, begin.
fn member(bytes: &[u8], object: usize, name: &str) -> Option<(usize, usize)> {
    if bytes.get(object) != Some(&b'{') {
        return None;
    }
    let mut at = white(bytes, object + 1);
    while bytes.get(at) == Some(&b'"') {
        let end = behind_string(bytes, at);
        let key: String = serde_json::from_slice(bytes.get(at..end)?).ok()?;
        // A colon is between them.
        let value = white(bytes, white(bytes, end) + 1);
        if key == name {
            return Some((at, value));
        }
        at = white(bytes, behind(bytes, value));
        at = white(bytes, at + usize::from(bytes.get(at) == Some(&b',')));
    }
    None
}

/// Where the element of a list begins.
fn element(bytes: &[u8], list: usize, place: usize) -> Option<usize> {
    if bytes.get(list) != Some(&b'[') {
        return None;
    }
    let mut at = white(bytes, list + 1);
    for _ in 0..place {
        at = white(bytes, behind(bytes, at));
        if bytes.get(at) != Some(&b',') {
            return None;
        }
        at = white(bytes, at + 1);
    }
    (bytes.get(at) != Some(&b']') && at < bytes.len()).then_some(at)
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
    fn a_key_has_a_line_and_a_column() {
        let places = Places::Toml(DeTable::parse(TEXT).unwrap());
        for (key, place) in [
            ("interfaces[0].name", Some((3, 1))),
            ("checks.web", Some((5, 9))),
            ("checks.web.path", Some((7, 1))),
            ("checks.web.port", Some((5, 9))),
            ("vips[0].check", Some((11, 1))),
            ("vips[0].check.fall", Some((12, 5))),
            ("vips[0].reals[1].address", Some((15, 7))),
            ("vips[1]", Some((18, 1))),
            ("vips[1].min_healthy", Some((20, 1))),
            ("vips[1].flapping.failures", Some((22, 1))),
            ("health.concurrency", None),
            ("", None),
        ] {
            let found = places.start_of(TEXT, key).map(|start| line_and_column(TEXT, start));
            assert_eq!(found, place, "{key}");
        }
        assert_eq!(Places::Unknown.start_of("not TOML", "vips"), None);
    }

    #[test]
    fn keys_are_found_in_json() {
        let text = "{ \"a\\\"{\": [1, [2, \"}\"]],\n  \"vips\": [ { \"port\": 80, \"reals\": [] },\n   \
                    { \"reals\": [ {\"x\": {}}, {\n \"address\": 7 } ] } ] }";
        assert!(serde_json::from_str::<serde_json::Value>(text).is_ok());
        for (key, place) in [
            ("vips", Some((2, 3))),
            ("vips[0].port", Some((2, 15))),
            ("vips[1]", Some((3, 4))),
            ("vips[1].reals[0].x", Some((3, 18))),
            ("vips[1].reals[1].address", Some((4, 2))),
            ("vips[1].reals[1].weight", Some((3, 28))),
            ("vips[2]", Some((2, 3))),
            ("checks", None),
        ] {
            let found = Places::Json.start_of(text, key).map(|start| line_and_column(text, start));
            assert_eq!(found, place, "{key}");
        }
        // Whatever it gets, it ends.
        for end in (0..text.len()).filter(|end| text.is_char_boundary(*end)) {
            let _ = Places::Json.start_of(&text[..end], "vips[1].reals[1].weight");
        }
    }
}
