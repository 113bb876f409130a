//! TCP.

use std::fmt;
use std::fmt::Write as _;

use etherparse::IpNumber;
use etherparse::TcpHeaderSlice;

use super::Part;
use super::Telling;
use super::ends::Ends;
use super::verbose;

const HEADER: usize = 20;

/// The offset of the checksum.
const CHECKSUM: usize = 16;

const LONGEST_HEADER: usize = 60;

/// The offset of the header's length, which is in the upper half of the byte, in words of four bytes.
const DATA_OFFSET: usize = 12;

pub(super) fn tcp(
    line: &mut String,
    segment: Part<'_>,
    mut ends: Ends,
    telling: Telling,
) -> fmt::Result {
    ends.write_ports(line, segment.u16(0).zip(segment.u16(2)))?;
    if telling.quoted {
        return line.write_str("tcp");
    }
    let known = segment.captured.len().min(LONGEST_HEADER);
    if known < HEADER {
        return line.write_str("[|tcp]");
    }
    // Options that were not captured must not hide the flags.
    let mut room = [0; LONGEST_HEADER];
    room[..known].copy_from_slice(&segment.captured[..known]);
    let header_length = usize::from(room[DATA_OFFSET] >> 4) * 4;
    let Ok(header) = TcpHeaderSlice::from_slice(&room) else {
        let length = segment.length.saturating_sub(header_length);
        return write!(
            line,
            "tcp {length} [bad hdr length {header_length} - too short, < {HEADER}]"
        );
    };
    if telling.style.quick {
        let length = segment.length.saturating_sub(header_length);
        return write!(line, "tcp {length}");
    }
    write_flags(line, &header)?;
    if header_length > segment.length {
        return write!(line, " [bad hdr length {header_length} - too long, > {}]", segment.length);
    }
    if telling.style.verbose > 0 && !ends.fragment {
        let pair = (ends.source, ends.destination);
        match verbose::transport_checksum(pair, IpNumber::TCP, segment, CHECKSUM) {
            Some((given, right)) if given == right => {
                write!(line, ", cksum {given:#06x} (correct)")?;
            }
            Some((given, right)) => {
                write!(line, ", cksum {given:#06x} (incorrect -> {right:#06x})")?;
            }
            None => {}
        }
    }
    let length = segment.length - header_length;
    if length > 0 || header.syn() || header.fin() || header.rst() {
        let sequence = header.sequence_number();
        write!(line, ", seq {sequence}")?;
        if length > 0 {
            // Sequence numbers wrap, and a segment is shorter than 2^16 bytes.
            let end = sequence.wrapping_add(u32::try_from(length).unwrap_or_default());
            write!(line, ":{end}")?;
        }
    }
    if header.ack() {
        write!(line, ", ack {}", header.acknowledgment_number())?;
    }
    write!(line, ", win {}", header.window_size())?;
    if header.urg() {
        write!(line, ", urg {}", header.urgent_pointer())?;
    }
    if header_length > HEADER {
        let known = segment.captured.get(HEADER..header_length.min(known)).unwrap_or_default();
        write_options(line, known, known.len() < header_length - HEADER)?;
    }
    write!(line, ", length {length}")
}

fn write_flags(line: &mut String, header: &TcpHeaderSlice<'_>) -> fmt::Result {
    line.write_str("Flags [")?;
    let start = line.len();
    for (set, letter) in [
        (header.fin(), 'F'),
        (header.syn(), 'S'),
        (header.rst(), 'R'),
        (header.psh(), 'P'),
        (header.ack(), '.'),
        (header.urg(), 'U'),
        (header.ece(), 'E'),
        (header.cwr(), 'W'),
    ] {
        if set {
            line.push(letter);
        }
    }
    if line.len() == start {
        line.write_str("none")?;
    }
    line.write_str("]")
}

/// The options in `known`; `cut`: more options were not captured.
///
/// etherparse's iterator ends at the first option that it does not know, so it is not used here.
fn write_options(line: &mut String, mut known: &[u8], cut: bool) -> fmt::Result {
    line.write_str(", options [")?;
    let mut comma = "";
    while let [kind, rest @ ..] = known {
        line.write_str(comma)?;
        comma = ",";
        write_option_name(line, *kind)?;
        known = match (kind, rest) {
            (0, _) => return line.write_str("]"),
            (1, _) => rest,
            (_, [length, ..]) if *length >= 2 && usize::from(*length) <= known.len() => {
                let (option, rest) = known.split_at(usize::from(*length));
                write_option_value(line, *kind, &option[2..])?;
                rest
            }
            (_, [length, ..]) if !cut || *length < 2 => return line.write_str("[bad opt]]"),
            (_, []) if !cut => return line.write_str("[bad opt]]"),
            _ => return line.write_str(" [|tcp]]"),
        };
    }
    line.write_str(if cut { " [|tcp]]" } else { "]" })
}

fn write_option_name(line: &mut String, kind: u8) -> fmt::Result {
    let name = match kind {
        0 => "eol",
        1 => "nop",
        2 => "mss",
        3 => "wscale",
        4 => "sackOK",
        5 => "sack",
        6 => "echo",
        7 => "echoreply",
        8 => "TS",
        11 => "cc",
        12 => "ccnew",
        13 => "ccecho",
        19 => "md5",
        28 => "uto",
        29 => "tcp-ao",
        30 => "mptcp",
        34 => "tfo",
        254 => "exp",
        other => return write!(line, "unknown-{other}"),
    };
    line.write_str(name)
}

fn write_option_value(line: &mut String, kind: u8, value: &[u8]) -> fmt::Result {
    let word = |offset: usize| value.get(offset..)?.first_chunk().copied().map(u32::from_be_bytes);
    match (kind, value) {
        (2, &[high, low]) => write!(line, " {}", u16::from_be_bytes([high, low])),
        (3, &[shift]) => write!(line, " {shift}"),
        (4, []) => Ok(()),
        (5, blocks) if !blocks.is_empty() && blocks.len().is_multiple_of(8) => {
            write!(line, " {} ", blocks.len() / 8)?;
            for block in 0..blocks.len() / 8 {
                if let (Some(left), Some(right)) = (word(block * 8), word(block * 8 + 4)) {
                    write!(line, "{{{left}:{right}}}")?;
                }
            }
            Ok(())
        }
        (8, [_, _, _, _, _, _, _, _]) => {
            write!(line, " val {} ecr {}", word(0).unwrap_or_default(), word(4).unwrap_or_default())
        }
        (34, []) => line.write_str("  cookiereq"),
        (34, cookie) => {
            line.write_str("  cookie ")?;
            line.write_str(&hex::encode(cookie))
        }
        (2 | 3 | 4 | 5 | 8, _) => write!(line, "[len {}]", value.len() + 2),
        (_, []) => Ok(()),
        _ => {
            line.write_str(" 0x")?;
            line.write_str(&hex::encode(value))
        }
    }
}
