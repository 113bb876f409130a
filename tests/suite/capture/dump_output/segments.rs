//! TCP segments with whatever flags and options, and packets of the kinds a balancer sees.

use fastrand::Rng;

use crate::fixtures::frame::Frame;
use crate::fixtures::frame::eth;

pub(super) const CLIENT: &str = "192.0.2.1";
pub(super) const VIP: &str = "10.200.1.1";
pub(super) const CLIENT6: &str = "2001:db8::1";
pub(super) const VIP6: &str = "fc00:1::1";

pub(super) const TCP: u8 = 6;

pub(super) const SYN: u8 = 0x02;
pub(super) const PSH: u8 = 0x08;
pub(super) const ACK: u8 = 0x10;
const URG: u8 = 0x20;

/// What a Linux host's SYN has.
pub(super) const SYN_OPTIONS: &[u8] =
    b"\x02\x04\x05\xb4\x04\x02\x08\x0a\0\0\0\x07\0\0\0\0\x01\x03\x03\x07";

/// A segment from port 31337 to 4433, sequence number 7, window 8192.
pub(super) fn segment(flags: u8, acknowledged: u32, options: &[u8], data: &[u8]) -> Vec<u8> {
    let padding = options.len().next_multiple_of(4) - options.len();
    let words = u8::try_from(5 + options.len().div_ceil(4)).expect("at most 40 bytes of options");
    let mut bytes = Vec::new();
    bytes.extend(31337_u16.to_be_bytes());
    bytes.extend(4433_u16.to_be_bytes());
    bytes.extend(7_u32.to_be_bytes());
    bytes.extend(acknowledged.to_be_bytes());
    bytes.extend([words << 4, flags]);
    bytes.extend(8192_u16.to_be_bytes());
    bytes.extend([0, 0]);
    bytes.extend(if flags & URG == 0 { [0, 0] } else { [0, 4] });
    bytes.extend(options);
    bytes.extend(std::iter::repeat_n(0, padding));
    bytes.extend(data);
    bytes
}

/// A TCP or UDP packet of either family, with or without an outer header; all of it is well-formed.
pub(super) fn balanced(rng: &mut Rng) -> Frame {
    let v6 = rng.bool();
    let frame = if v6 { eth().ip6(CLIENT6, VIP6) } else { eth().ip4(CLIENT, VIP) };
    let data: Vec<u8> = (0..rng.usize(..64)).map(|_| rng.u8(..)).collect();
    let frame = if rng.bool() {
        // tcpdump knows what some ports are for, 30490 (SOME/IP) among them, and goes by either.
        frame.udp(rng.u16(31_300..31_400), 4433).data(&data)
    } else {
        let mut options = Vec::new();
        while options.len() < 24 && rng.bool() {
            let known: [&[u8]; 8] = [
                b"\x01",
                b"\x02\x04\x05\xb4",
                b"\x03\x03\x07",
                b"\x04\x02",
                b"\x05\x0a\0\0\0\x01\0\0\0\x02",
                b"\x08\x0a\0\0\0\x01\0\0\0\x02",
                b"\x22\x0acookie12",
                b"\xb7\x06abcd",
            ];
            options.extend_from_slice(known[rng.usize(..known.len())]);
        }
        frame.raw(TCP).data(&segment(rng.u8(..), rng.u32(..), &options, &data))
    };
    if rng.bool() {
        return frame;
    }
    let outer = if rng.bool() {
        eth().ip6("fc00::2", "fc00:2::1")
    } else {
        eth().ip4("172.16.1.2", "10.0.0.1")
    };
    outer.raw(if v6 { 41 } else { 4 }).carrying(&frame)
}
