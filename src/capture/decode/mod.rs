//! Captured packets as text, one line each, in the style of `tcpdump -n -S --nano`.
//!
//! ```text
//! 12:00:01.000000042 IP 192.0.2.1.31337 > 10.200.1.1.80: Flags [S], seq 7, win 64240, options [mss 1460], length 0
//! 12:00:01.000003717 tx ring, vip tcp://10.200.1.1:80, real 10.0.0.1: IP 172.16.1.2 > 10.0.0.1: IP 192.0.2.1.31337 > …
//! 12:00:02.000000000 drop ip_options, vip tcp://10.200.1.1:80: IP options (RR) 192.0.2.1.31337 > 10.200.1.1.80: Flags [S], …
//! ```
//!
//! The time of day is local, by the host's `TZ` and `/etc/localtime`, with nanoseconds. At [`CapturePoint::Exit`], the
//! [`Decision`] comes next: verdict, reason, and VIP and real if there are any.
//!
//! Addresses, ports, flags, numbers, options and lengths look as in tcpdump. These differences are on purpose:
//!
//! | | here | tcpdump |
//! | --- | --- | --- |
//! | TCP sequence numbers | absolute | relative unless told `-S` |
//! | payload of TCP and UDP | only QUIC headers are noted: `quic initial v1 dcid … scid …` | a decoder for each well-known port |
//! | GUE ([`LineOptions::gue`]) | the packet inside: `GUE variant 1: IP a.1 > b.2: …` | only the length |
//! | VLAN tags | shown: `vlan 100, p 0, ` | only with `-e` |
//! | ICMP errors | `, quoting IP a.1 > b.2: tcp` behind the length, also of encapsulated packets | only with `-v`, on more lines |
//! | IPv4 fragments | ` (frag id 7, 1480@1480+)` behind the line: bytes, offset, more to come | only with `-v` |
//! | IPv4 options | `options (RR,NOP) ` before the addresses | only with `-v` |
//! | IPv6 routing header | type and segments left | each segment |
//! | rare ICMP, ARP and TCP options | the type, not its fields | some fields |
//! | GRE, ESP, SCTP, OSPF, … | name and length: `GRE, length 20` | decoded |
//! | LLDP, MPLS, STP, … | the Ethernet header: `… > …, ethertype LLDP (0x88cc), length 64` | decoded, or a hex dump |
//! | cut and invalid headers | one space before `[|tcp]` | one or two |
//!
//! With [`LineOptions`], lines look as those of tcpdump's `-e`, `-q`, `-v`, `-t`, `-x`, `-X` and `-A`. `-v` says no more of ICMP.
//!
//! A line holds only printable characters, whatever the packet contains; only `-A` prints ends of lines and tabs.

mod bytes;
mod ends;
mod gue;
mod icmp;
mod ip;
mod link;
mod tcp;
mod udp;
mod verbose;

#[cfg(test)]
mod tests;

use std::fmt;
use std::fmt::Write as _;
use std::io;
use std::io::Write;
use std::time::SystemTime;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::packet::CapturePoint;
use super::packet::Decision;
use super::packet::Packet;
use super::sink::Sink;
use crate::model::gue::GuePorts;

/// How deep headers of one kind may be nested; deeper ones are not decoded. A balancer's packets have two.
const NESTING: u32 = 8;

/// What lines show besides the packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LineOptions {
    /// The interface's name, after the time: for captures on several interfaces.
    pub interface: bool,
    /// No time.
    pub no_time: bool,
    /// Which headers and fields the line shows.
    pub style: Style,
    /// The packet's bytes behind the line, from the IP header on.
    pub bytes: Option<Bytes>,
    /// What comes to these ports is GUE, and the line shows the packet inside.
    pub gue: GuePorts,
}

/// Which headers and fields a line shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    /// The Ethernet header (tcpdump's `-e`).
    pub link: bool,
    /// Less of TCP and of the Ethernet header (`-q`).
    pub quick: bool,
    /// 1: the fields of IP headers, and whether checksums are right (`-v`). 2: also those of UDP in IPv4 (`-vv`).
    pub verbose: u8,
}

/// How the bytes of a packet are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bytes {
    /// As numbers (`-x`).
    Hex,
    /// As numbers and as characters (`-X`).
    HexAndAscii,
    /// As characters (`-A`).
    Ascii,
}

/// Writes each packet as a line of text: see [the module](self).
///
/// Each line goes to the writer as one whole write.
///
/// ```
/// use std::time::SystemTime;
///
/// use l4lb::capture::CapturePoint;
/// use l4lb::capture::Packet;
/// use l4lb::capture::Sink;
/// use l4lb::capture::decode::LineOptions;
/// use l4lb::capture::decode::Lines;
///
/// let mut lines = Lines::new(Vec::new(), LineOptions { interface: true, ..LineOptions::default() });
/// lines.packet(&Packet {
///     time: SystemTime::now(),
///     at: CapturePoint::Entry,
///     interface: "eth0".to_owned(),
///     ifindex: 2,
///     queue: 0,
///     cpu: 0,
///     length: 14,
///     data: b"\x02\0\0\0\0\x02\x02\0\0\0\0\x01\x08\0".to_vec(),
///     decision: None,
/// })?;
/// let text = String::from_utf8(lines.into_inner()).expect("lines are text");
/// assert!(text.ends_with(" eth0 [|ip]\n"));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Lines<W> {
    out: W,
    options: LineOptions,
    zone: TimeZone,
    line: String,
}

impl<W: Write> Lines<W> {
    /// Lines to `out`, with times in the host's time zone.
    pub fn new(out: W, options: LineOptions) -> Self {
        Self::in_zone(out, options, TimeZone::system())
    }

    fn in_zone(out: W, options: LineOptions, zone: TimeZone) -> Self {
        Self { out, options, zone, line: String::new() }
    }

    /// Takes other ports for those of GUE from now on.
    pub fn set_gue(&mut self, gue: GuePorts) {
        self.options.gue = gue;
    }

    /// The writer.
    pub fn into_inner(self) -> W {
        self.out
    }

    fn write_line(&mut self, packet: &Packet) -> fmt::Result {
        let line = &mut self.line;
        if !self.options.no_time {
            write_time(line, packet.time, &self.zone)?;
        }
        if self.options.interface {
            // The kernel allows control characters in names.
            write!(line, "{} ", packet.interface.escape_debug())?;
        }
        if let Some(decision) = &packet.decision {
            write_decision(line, decision)?;
        } else if packet.at == CapturePoint::Exit {
            line.write_str("exit: ")?;
        }
        let LineOptions { style, gue, .. } = self.options;
        write_frame(line, packet, Telling { style, gue, ..Telling::default() })?;
        let shown = packet.data.get(link::header_length(&packet.data)..).unwrap_or_default();
        match self.options.bytes {
            None => {}
            Some(Bytes::Hex) => bytes::hex(line, shown, false)?,
            Some(Bytes::HexAndAscii) => bytes::hex(line, shown, true)?,
            Some(Bytes::Ascii) => bytes::ascii(line, shown),
        }
        line.push('\n');
        Ok(())
    }
}

impl<W: Write> Sink for Lines<W> {
    fn packet(&mut self, packet: &Packet) -> io::Result<()> {
        self.line.clear();
        self.write_line(packet).map_err(io::Error::other)?;
        self.out.write_all(self.line.as_bytes())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// A whole frame as in a line of [`Lines`], without the facts that only a captured packet has.
pub fn describe(frame: &[u8], gue: GuePorts) -> String {
    let mut line = String::new();
    let whole = Part { captured: frame, length: frame.len() };
    // Writing to memory does not fail.
    let _ = link::ethernet(&mut line, whole, Telling { gue, ..Telling::default() });
    line
}

fn write_frame(line: &mut String, packet: &Packet, telling: Telling) -> fmt::Result {
    // A frame is at least as long as the bytes that were captured.
    let length = packet.data.len().max(usize::try_from(packet.length).unwrap_or(usize::MAX));
    link::ethernet(line, Part { captured: &packet.data, length }, telling)
}

fn write_time(line: &mut String, time: SystemTime, zone: &TimeZone) -> fmt::Result {
    let Ok(time) = Timestamp::try_from(time) else {
        // The time is before the year -9999 or after 9999, which no clock shows.
        return line.write_str("--:--:--.--------- ");
    };
    let time = zone.to_datetime(time);
    write!(
        line,
        "{:02}:{:02}:{:02}.{:09} ",
        time.hour(),
        time.minute(),
        time.second(),
        time.subsec_nanosecond()
    )
}

fn write_decision(line: &mut String, decision: &Decision) -> fmt::Result {
    let Decision { reason, vip, real } = decision;
    write!(line, "{} {}", reason.verdict, reason.name)?;
    if let Some(vip) = vip {
        write!(line, ", vip {vip}")?;
    }
    if let Some(real) = real {
        write!(line, ", real {real}")?;
    }
    line.write_str(": ")
}

/// Part of a packet: a header and what follows it.
#[derive(Clone, Copy, Debug)]
struct Part<'a> {
    /// The captured bytes. Never longer than `length`.
    captured: &'a [u8],
    /// How long the part was in the packet.
    length: usize,
}

impl Part<'_> {
    /// What follows the first `bytes`.
    fn skip(self, bytes: usize) -> Self {
        Self {
            captured: self.captured.get(bytes..).unwrap_or_default(),
            length: self.length.saturating_sub(bytes),
        }
    }

    /// The first `length` bytes, without padding behind them.
    fn limit(self, length: usize) -> Self {
        let length = length.min(self.length);
        Self { captured: self.captured.get(..length).unwrap_or(self.captured), length }
    }

    /// The `N` bytes at `offset`, if all of them were captured.
    fn bytes<const N: usize>(self, offset: usize) -> Option<[u8; N]> {
        self.captured.get(offset..)?.first_chunk().copied()
    }

    /// The 16-bit number at `offset`, in network byte order.
    fn u16(self, offset: usize) -> Option<u16> {
        self.bytes(offset).map(u16::from_be_bytes)
    }

    /// The 32-bit number at `offset`, in network byte order.
    fn u32(self, offset: usize) -> Option<u32> {
        self.bytes(offset).map(u32::from_be_bytes)
    }
}

/// How a packet is shown.
#[derive(Clone, Copy, Debug, Default)]
struct Telling {
    /// How many headers of its kind it is inside.
    depth: u32,
    /// An ICMP error quotes it: only the ports of its payload matter.
    quoted: bool,
    /// Which headers and fields are shown.
    style: Style,
    /// The ports at which UDP is GUE.
    gue: GuePorts,
}

impl Telling {
    /// The same for a packet inside this one; `None`: it is nested too deeply.
    fn inside(self) -> Option<Self> {
        (self.depth < NESTING).then_some(Self { depth: self.depth + 1, ..self })
    }
}
