//! What comes from outside is bounded: how much of a text is repeated in a message.

/// The most characters of somebody else's text that a message repeats.
pub const MOST_QUOTED: usize = 200;

/// Somebody else's text, fit for one line of a message: control characters, and those that turn the direction of
/// writing, as `\u{1b}`; and no more than [`MOST_QUOTED`] characters.
///
/// ```
/// assert_eq!(l4lb::outside::quote("eth0\n\u{1b}[2J"), "eth0\\n\\u{1b}[2J");
/// assert!(l4lb::outside::quote(&"x".repeat(100_000)).len() < 250);
/// ```
pub fn quote(text: &str) -> String {
    let mut quoted = String::new();
    for (count, c) in text.chars().enumerate() {
        if count == MOST_QUOTED {
            quoted.push('…');
            break;
        }
        if is_printable(c) {
            quoted.push(c);
        } else {
            quoted.extend(c.escape_default());
        }
    }
    quoted
}

/// Whether a character shows as what it is, and changes nothing of what is around it.
fn is_printable(c: char) -> bool {
    let turns = matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    !c.is_control() && !turns
}
