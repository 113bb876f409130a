//! Names the fields of a frame, to show how two frames differ.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::ops::Range;

use crate::model::address::Mac;
use etherparse::EtherType;
use etherparse::IpNumber;

/// How the bytes of a field are shown.
#[derive(Clone, Copy)]
enum Show {
    Number,
    Hex,
    Mac,
    V4,
    V6,
}

/// A part of a frame.
struct Field {
    bytes: Range<usize>,
    name: String,
    show: Show,
}

struct Walk<'a> {
    frame: &'a [u8],
    at: usize,
    fields: Vec<Field>,
}

impl Walk<'_> {
    /// Notes the next fields of a header, if the frame is long enough.
    fn header(&mut self, header: &str, fields: &[(&str, usize, Show)]) -> bool {
        let len: usize = fields.iter().map(|(_, len, _)| len).sum();
        if self.at + len > self.frame.len() {
            return false;
        }
        for (name, len, show) in fields {
            let bytes = self.at..self.at + len;
            self.fields.push(Field { bytes, name: format!("{header} {name}"), show: *show });
            self.at += len;
        }
        true
    }

    fn u16_at(&self, at: usize) -> u16 {
        self.frame.get(at..at + 2).map_or(0, |bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn ethernet(&mut self) {
        use Show::Hex;
        use Show::Mac;
        if !self
            .header("Ethernet", &[("destination", 6, Mac), ("source", 6, Mac), ("type", 2, Hex)])
        {
            return;
        }
        let mut ether_type = EtherType(self.u16_at(self.at - 2));
        while matches!(
            ether_type,
            EtherType::VLAN_TAGGED_FRAME
                | EtherType::PROVIDER_BRIDGING
                | EtherType::VLAN_DOUBLE_TAGGED_FRAME
        ) {
            if !self.header("VLAN", &[("tag", 2, Hex), ("type", 2, Hex)]) {
                return;
            }
            ether_type = EtherType(self.u16_at(self.at - 2));
        }
        match ether_type {
            EtherType::IPV4 => self.ipv4("IPv4"),
            EtherType::IPV6 => self.ipv6("IPv6"),
            _ => {}
        }
    }

    fn ipv4(&mut self, name: &str) {
        use Show::Hex;
        use Show::Number;
        use Show::V4;
        let start = self.at;
        let complete = self.header(
            name,
            &[
                ("version and header length", 1, Hex),
                ("TOS", 1, Hex),
                ("total length", 2, Number),
                ("id", 2, Number),
                ("fragment", 2, Hex),
                ("TTL", 1, Number),
                ("protocol", 1, Number),
                ("checksum", 2, Hex),
                ("source", 4, V4),
                ("destination", 4, V4),
            ],
        );
        if complete {
            let options = usize::from(self.frame[start] & 0xf).saturating_mul(4).saturating_sub(20);
            if options == 0 || self.header(name, &[("options", options, Hex)]) {
                self.transport(IpNumber(self.frame[start + 9]));
            }
        }
    }

    fn ipv6(&mut self, name: &str) {
        use Show::Hex;
        use Show::Number;
        use Show::V6;
        let start = self.at;
        let complete = self.header(
            name,
            &[
                ("version, class and flow label", 4, Hex),
                ("payload length", 2, Number),
                ("next header", 1, Number),
                ("hop limit", 1, Number),
                ("source", 16, V6),
                ("destination", 16, V6),
            ],
        );
        if complete {
            self.transport(IpNumber(self.frame[start + 6]));
        }
    }

    fn transport(&mut self, protocol: IpNumber) {
        use Show::Hex;
        use Show::Number;
        let ports = [("source port", 2, Number), ("destination port", 2, Number)];
        match protocol {
            IpNumber::IPV4 => self.ipv4("inner IPv4"),
            IpNumber::IPV6 => self.ipv6("inner IPv6"),
            IpNumber::TCP if self.header("TCP", &ports) => {
                self.header(
                    "TCP",
                    &[("sequence", 4, Number), ("acknowledgement", 4, Number), ("flags", 2, Hex)],
                );
                self.header(
                    "TCP",
                    &[("window", 2, Number), ("checksum", 2, Hex), ("urgent", 2, Hex)],
                );
            }
            IpNumber::UDP if self.header("UDP", &ports) => {
                self.header("UDP", &[("length", 2, Number), ("checksum", 2, Hex)]);
            }
            IpNumber::ICMP | IpNumber::IPV6_ICMP => {
                let rest = [
                    ("type", 1, Number),
                    ("code", 1, Number),
                    ("checksum", 2, Hex),
                    ("rest", 4, Hex),
                ];
                self.header("ICMP", &rest);
            }
            _ => {}
        }
    }
}

fn show(bytes: &[u8], how: Show) -> String {
    let number = bytes.iter().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
    match how {
        Show::Number => number.to_string(),
        Show::Mac => bytes
            .try_into()
            .map_or_else(|_| hexadecimal(bytes), |mac: [u8; 6]| Mac::from(mac).to_string()),
        Show::V4 => bytes
            .try_into()
            .map_or_else(|_| hexadecimal(bytes), |v4: [u8; 4]| Ipv4Addr::from(v4).to_string()),
        Show::V6 => bytes
            .try_into()
            .map_or_else(|_| hexadecimal(bytes), |v6: [u8; 16]| Ipv6Addr::from(v6).to_string()),
        Show::Hex => hexadecimal(bytes),
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    format!("0x{}", hex::encode(bytes))
}

/// How `got` differs from `expected`: a line for each field that differs, named after `expected`'s headers.
pub fn difference(expected: &[u8], got: &[u8]) -> String {
    let mut text = String::new();
    if expected.len() != got.len() {
        let _ = writeln!(text, "length: expected {} bytes, got {}", expected.len(), got.len());
    }
    let mut walk = Walk { frame: expected, at: 0, fields: Vec::new() };
    walk.ethernet();
    if walk.at < expected.len() {
        let bytes = walk.at..expected.len();
        walk.fields.push(Field { bytes, name: "payload".to_owned(), show: Show::Hex });
    }
    for field in &walk.fields {
        let there = |frame: &[u8]| {
            frame
                .get(field.bytes.start.min(frame.len())..field.bytes.end.min(frame.len()))
                .map(<[u8]>::to_vec)
        };
        let (want, have) = (there(expected).unwrap_or_default(), there(got).unwrap_or_default());
        if want == have {
            continue;
        }
        let at = format!("bytes {}-{}", field.bytes.start, field.bytes.end - 1);
        if matches!(field.show, Show::Hex) && want.len() > 8 {
            let first = want.iter().zip(&have).take_while(|(a, b)| a == b).count();
            let part = |bytes: &[u8]| {
                hexadecimal(&bytes[first.min(bytes.len())..(first + 8).min(bytes.len())])
            };
            let from = field.bytes.start + first;
            let _ = writeln!(
                text,
                "{} from byte {from}: expected {}…, got {}…",
                field.name,
                part(&want),
                part(&have)
            );
        } else {
            let (want, have) = (show(&want, field.show), show(&have, field.show));
            let _ = writeln!(text, "{} ({at}): expected {want}, got {have}", field.name);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::difference;

    #[test]
    fn differing_fields_are_named() {
        let mut expected = vec![0_u8; 14 + 20 + 20 + 20];
        expected[12..14].copy_from_slice(&[8, 0]);
        for (start, protocol) in [(14, 4), (34, 6)] {
            expected[start] = 0x45;
            expected[start + 9] = protocol;
        }
        let mut got = expected.clone();
        assert_eq!(difference(&expected, &got), "");
        got[30..34].copy_from_slice(&[10, 0, 0, 2]);
        got[54 + 1] = 80;
        let text = difference(&expected, &got);
        assert_eq!(
            text.lines().collect::<Vec<_>>(),
            [
                "IPv4 destination (bytes 30-33): expected 0.0.0.0, got 10.0.0.2",
                "TCP source port (bytes 54-55): expected 0, got 80",
            ]
        );
        got.pop();
        assert!(difference(&expected, &got).contains("expected 74 bytes, got 73"));
    }

    #[test]
    fn any_bytes_can_be_compared() {
        for len in 0..80 {
            let frame = vec![0x45; len];
            assert!(!difference(&frame, &[1, 2, 3]).is_empty() || len == 0);
        }
    }
}
