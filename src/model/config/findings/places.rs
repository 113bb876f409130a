//! Where in the text of a file a key is.

use std::cell::OnceCell;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use toml::Spanned;
use toml::de::DeTable;
use toml::de::DeValue;

/// The parsed text of a file, in which keys can be found. What is needed to find many of them is made once.
#[derive(Debug)]
pub(super) struct Places<'a> {
    text: &'a str,
    tree: Tree<'a>,
    /// Where the lines begin, in bytes.
    lines: OnceCell<Vec<usize>>,
}

#[derive(Debug)]
enum Tree<'a> {
    Toml(Spanned<DeTable<'a>>),
    /// JSON that could be parsed.
    Json(Json<'a>),
    /// Nothing can be found in it.
    Unknown,
}

impl<'a> Places<'a> {
    /// A text in which nothing can be found yet.
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, tree: Tree::Unknown, lines: OnceCell::new() }
    }

    /// The text, which is this tree.
    pub(super) fn in_toml(self, root: Spanned<DeTable<'a>>) -> Self {
        Self { tree: Tree::Toml(root), ..self }
    }

    /// The text, which is JSON that could be parsed.
    pub(super) fn in_json(self) -> Self {
        let json = Json { bytes: self.text.as_bytes(), inner: RefCell::default() };
        Self { tree: Tree::Json(json), ..self }
    }

    /// The line and the column of a key such as `vips[3].check.port`; if the key is not there, of the innermost table
    /// that is there. `None`: nothing of it is there.
    pub(super) fn of(&self, key: &str) -> Option<(usize, usize)> {
        let start = match &self.tree {
            Tree::Toml(root) => in_toml(root.get_ref(), key),
            Tree::Json(json) => json.start_of(key),
            Tree::Unknown => None,
        };
        start.map(|start| self.line_and_column(start))
    }

    /// The line and the column, in characters, of a place; both from 1.
    pub(super) fn line_and_column(&self, start: usize) -> (usize, usize) {
        let mut start = start.min(self.text.len());
        while !self.text.is_char_boundary(start) {
            start -= 1;
        }
        let lines = self.lines.get_or_init(|| {
            let ends = self.text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
            std::iter::once(0).chain(ends.map(|(at, _)| at + 1)).collect()
        });
        let line = lines.partition_point(|begins| *begins <= start);
        let begins = line.checked_sub(1).and_then(|line| lines.get(line)).copied();
        let column = self.text[begins.unwrap_or_default()..start].chars().count() + 1;
        (line, column)
    }
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
        let Some((key, value)) = table.get_key_value(name) else { break };
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

/// Where the members of an object, and their values, begin.
type Members = HashMap<String, (usize, usize)>;

/// An object or list that was looked through.
#[derive(Clone, Debug)]
enum Inner {
    Members(Rc<Members>),
    Elements(Rc<Vec<usize>>),
}

/// JSON that is known to be right. Each object and list in it is looked through once.
#[derive(Debug)]
struct Json<'a> {
    bytes: &'a [u8],
    /// Those that were looked through, by where they begin.
    inner: RefCell<HashMap<usize, Inner>>,
}

impl Json<'_> {
    /// As [`in_toml`].
    fn start_of(&self, key: &str) -> Option<usize> {
        let mut at = white(self.bytes, 0);
        let mut found = None;
        'parts: for (name, places) in parts(key) {
            let Some((key, value)) = self.member(at, name) else { break };
            (found, at) = (Some(key), value);
            for place in places {
                let Some(element) = self.element(at, place) else { break 'parts };
                (found, at) = (Some(element), element);
            }
        }
        found
    }

    /// Where the member of an object, and its value, begin.
    fn member(&self, object: usize, name: &str) -> Option<(usize, usize)> {
        match self.inner(object)? {
            Inner::Members(members) => members.get(name).copied(),
            Inner::Elements(_) => None,
        }
    }

    /// Where the element of a list begins.
    fn element(&self, list: usize, place: usize) -> Option<usize> {
        match self.inner(list)? {
            Inner::Elements(elements) => elements.get(place).copied(),
            Inner::Members(_) => None,
        }
    }

    fn inner(&self, at: usize) -> Option<Inner> {
        if let Some(known) = self.inner.borrow().get(&at) {
            return Some(known.clone());
        }
        let inner = match self.bytes.get(at)? {
            b'{' => Inner::Members(Rc::new(members(self.bytes, at))),
            b'[' => Inner::Elements(Rc::new(elements(self.bytes, at))),
            _ => return None,
        };
        self.inner.borrow_mut().insert(at, inner.clone());
        Some(inner)
    }
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

/// The members of an object. If two have the same name, the first counts.
fn members(bytes: &[u8], object: usize) -> Members {
    let mut members = Members::new();
    let mut at = white(bytes, object + 1);
    while bytes.get(at) == Some(&b'"') {
        let end = behind_string(bytes, at);
        let key = bytes.get(at..end).and_then(|key| serde_json::from_slice::<String>(key).ok());
        // A colon is between them.
        let value = white(bytes, white(bytes, end) + 1);
        if let Some(key) = key {
            members.entry(key).or_insert((at, value));
        }
        at = white(bytes, behind(bytes, value));
        at = white(bytes, at + usize::from(bytes.get(at) == Some(&b',')));
    }
    members
}

/// Where the elements of a list begin.
fn elements(bytes: &[u8], list: usize) -> Vec<usize> {
    let mut elements = Vec::new();
    let mut at = white(bytes, list + 1);
    while at < bytes.len() && bytes.get(at) != Some(&b']') {
        elements.push(at);
        at = white(bytes, behind(bytes, at));
        if bytes.get(at) != Some(&b',') {
            break;
        }
        at = white(bytes, at + 1);
    }
    elements
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
        let places = Places::new(TEXT).in_toml(DeTable::parse(TEXT).unwrap());
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
            assert_eq!(places.of(key), place, "{key}");
        }
        assert_eq!(Places::new("not TOML").of("vips"), None);
    }

    #[test]
    fn columns_count_characters() {
        let places = Places::new("ä\n\nöb");
        for (start, place) in [(0, (1, 1)), (2, (1, 2)), (3, (2, 1)), (4, (3, 1)), (6, (3, 2))] {
            assert_eq!(places.line_and_column(start), place, "{start}");
        }
        // Within a character, and behind the end.
        assert_eq!(places.line_and_column(5), (3, 1));
        assert_eq!(places.line_and_column(99), (3, 3));
        assert_eq!(Places::new("").line_and_column(0), (1, 1));
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
            assert_eq!(Places::new(text).in_json().of(key), place, "{key}");
        }
        // Whatever it gets, it ends.
        for end in (0..text.len()).filter(|end| text.is_char_boundary(*end)) {
            let _ = Places::new(&text[..end]).in_json().of("vips[1].reals[1].weight");
        }
    }
}
