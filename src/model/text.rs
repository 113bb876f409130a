//! Text from outside: how much of it a message repeats, and how it is decoded.

/// The most characters of a text from outside that a message repeats.
pub const MOST_QUOTED: usize = 200;

/// The most characters of a message.
pub const MOST_OF_MESSAGE: usize = 1200;

/// Text from outside, made fit for one line of a message. Control characters, and those that turn the direction of
/// writing, become escapes such as `\u{1b}`. It has at most [`MOST_QUOTED`] characters.
///
/// ```
/// assert_eq!(l4lb::outside::quote("eth0\n\u{1b}[2J"), "eth0\\n\\u{1b}[2J");
/// assert!(l4lb::outside::quote(&"x".repeat(100_000)).len() < 250);
/// ```
pub fn quote(text: &str) -> String {
    cut(text, MOST_QUOTED, 0)
}

/// Whether a text looks like the name of a host. l4lb takes addresses only, and looks up no names.
pub(crate) fn is_host_name(text: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    text.contains(|c: char| c.is_ascii_alphabetic()) && text.chars().all(is_part)
}

/// A message that may repeat text from outside: as [`quote`], with more room. A message that is too long keeps its
/// end, which says what to do.
pub fn message(text: &str) -> String {
    cut(text, MOST_OF_MESSAGE * 2 / 3, MOST_OF_MESSAGE / 3)
}

/// Text of several lines, fit for a log: as [`quote`], but not shortened, and line ends and tabs stay.
pub(crate) fn lines(text: &str) -> String {
    let lines: Vec<_> = text
        .lines()
        .map(|line| line.split('\t').map(printable).collect::<Vec<_>>().join("\t"))
        .collect();
    lines.join("\n")
}

/// The first and the last characters of a text, or all, if it has no more.
fn cut(text: &str, first: usize, last: usize) -> String {
    let begun = text.char_indices().nth(first);
    let Some((end, _)) = begun.filter(|_| text.chars().nth(first + last).is_some()) else {
        return printable(text);
    };
    let rest = text.char_indices().rev().take(last).last().map_or("", |(at, _)| &text[at..]);
    format!("{}…{}", printable(&text[..end]), printable(rest))
}

fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for c in text.chars() {
        // Invisible characters, and those that turn the direction of writing.
        let turns = matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
        if c.is_control() || turns {
            printable.extend(c.escape_default());
        } else {
            printable.push(c);
        }
    }
    printable
}

/// The byte order marks of encodings other than UTF-8. UTF-32's begin with UTF-16's, or with zeros.
const OTHER_MARKS: [(&[u8], &str); 4] = [
    (&[0xff, 0xfe, 0, 0], "UTF-32LE"),
    (&[0, 0, 0xfe, 0xff], "UTF-32BE"),
    (&[0xff, 0xfe], "UTF-16LE"),
    (&[0xfe, 0xff], "UTF-16BE"),
];

/// Text without the byte order mark that some editors put in front.
pub(crate) fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

/// UTF-8 text without its byte order mark. The error is a message.
pub(crate) fn decode(bytes: Vec<u8>) -> Result<String, String> {
    let marked = OTHER_MARKS.iter().find(|(mark, _)| bytes.starts_with(mark));
    // UTF-16 without a mark: such files begin with ASCII, so every second byte is zero.
    let unmarked = match (bytes.first(), bytes.get(1)) {
        (Some(0), Some(1..)) => Some("UTF-16BE"),
        (Some(1..), Some(0)) => Some("UTF-16LE"),
        _ => None,
    };
    if let Some(encoding) = marked.map(|(_, encoding)| *encoding).or(unmarked) {
        return Err(format!(
            "it is {encoding} text; save it as UTF-8: iconv -f {encoding} -t UTF-8"
        ));
    }
    let text = String::from_utf8(bytes).map_err(|wrong| {
        let at = wrong.utf8_error().valid_up_to();
        let before = &wrong.as_bytes()[..at];
        let line = before.split(|byte| *byte == b'\n').count();
        format!("it is not UTF-8 text: line {line} has a byte that no UTF-8 text has there")
    })?;
    Ok(match without_mark(&text) {
        bare if bare.len() < text.len() => bare.to_owned(),
        _ => text,
    })
}

/// A text for a record of fixed size, padded with zeros. A text that is too long is cut off at a character.
pub(crate) fn padded<const N: usize>(text: &str) -> [u8; N] {
    let fits = text.char_indices().map(|(at, c)| at + c.len_utf8());
    let end = fits.take_while(|end| *end <= N).last().unwrap_or(0);
    let mut bytes = [0; N];
    bytes[..end].copy_from_slice(&text.as_bytes()[..end]);
    bytes
}

/// The reverse of [`padded`].
pub(crate) fn unpadded(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_short_and_printable() {
        assert_eq!(quote("tcp://10.200.1.1:80 – ä"), "tcp://10.200.1.1:80 – ä");
        assert_eq!(quote("a\0b\r\u{202e}"), "a\\u{0}b\\r\\u{202e}");
        let long = format!("'{}' is wrong; do this", "\u{1b}".repeat(100_000));
        for text in [quote(&long), message(&long)] {
            assert!(text.len() < 10_000 && !text.contains('\u{1b}'));
        }
        assert!(message(&long).ends_with("' is wrong; do this"));
        let fits = "ü".repeat(MOST_OF_MESSAGE);
        assert_eq!(message(&fits), fits);
        assert_eq!(message(&format!("{fits}ü")).chars().count(), MOST_OF_MESSAGE + 1);
    }

    #[test]
    fn logs_keep_their_lines() {
        assert_eq!(lines("a\tb\n\u{1b}[2J\0"), "a\tb\n\\u{1b}[2J\\u{0}");
    }

    #[test]
    fn padded_texts_are_read_back() {
        for kept in ["", "HTTP 503", "sixteen letters.", "ääääääää"] {
            assert_eq!(unpadded(&padded::<16>(kept)), kept);
        }
        assert_eq!(unpadded(&padded::<80>(&"ü".repeat(100))), "ü".repeat(40));
        assert_eq!(unpadded(&padded::<3>("üü")), "ü", "no half of a character");
    }
}
