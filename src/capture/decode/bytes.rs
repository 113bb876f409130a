//! The bytes of a packet, as `-x`, `-X` and `-A` print them. As tcpdump prints them.

use std::fmt;
use std::fmt::Write as _;

/// Bytes in a line.
const PER_LINE: usize = 16;

/// The width of a line's hexadecimal part.
const WIDTH: usize = 40;

/// Numbers, and with `ascii` the characters beside them.
pub(super) fn hex(text: &mut String, bytes: &[u8], ascii: bool) -> fmt::Result {
    for (n, row) in bytes.chunks(PER_LINE).enumerate() {
        let mut numbers = String::with_capacity(WIDTH);
        for pair in row.chunks(2) {
            numbers.push(' ');
            for byte in pair {
                write!(numbers, "{byte:02x}")?;
            }
        }
        write!(text, "\n\t0x{:04x}: ", n * PER_LINE)?;
        if ascii {
            let shown: String = row.iter().map(|byte| graphic(*byte)).collect();
            write!(text, "{numbers:<WIDTH$}  {shown}")?;
        } else {
            text.push_str(&numbers);
        }
    }
    Ok(())
}

fn graphic(byte: u8) -> char {
    if byte.is_ascii_graphic() { char::from(byte) } else { '.' }
}

/// The characters alone; those that a terminal would act upon are dots, but for tabs and ends of lines.
pub(super) fn ascii(text: &mut String, bytes: &[u8]) {
    text.push('\n');
    for (n, byte) in bytes.iter().enumerate() {
        match byte {
            b'\r' if bytes.get(n + 1) == Some(&b'\n') => {}
            b'\t' | b'\n' | b' ' => text.push(char::from(*byte)),
            other => text.push(graphic(*other)),
        }
    }
}
