//! Random packets in outer headers, for addresses at which tunnels end.

use std::net::IpAddr;

use fastrand::Rng;
use serde_json::Value;
use serde_json::json;

use super::traffic::OTHERS4;
use super::traffic::OTHERS6;
use super::traffic::Traffic;
use super::traffic::one_in;
use super::traffic::pick;
use crate::fixtures::frame::eth;

/// Addresses at which tunnels may end, and those who send.
const ENDS4: [&str; 2] = ["10.8.0.1", "10.8.0.2"];
const ENDS6: [&str; 2] = ["fc00:8::1", "fc00:8::2"];
const SITES4: [&str; 3] = ["10.9.0.1", "198.51.100.7", "10.10.0.1"];
const SITES6: [&str; 3] = ["fc00:9::1", "fc00:a::1", "fe80::1"];
const GUE_PORTS: [u16; 4] = [6080, 6080, 19523, 9886];

/// Addresses at which tunnels end, for any of [`SITES4`] and [`SITES6`] or for some.
pub(super) fn ends(rng: &mut Rng) -> Value {
    let (four, six) = (["10.9.0.0/16", "198.51.100.7/32"], ["fc00:9::/32"]);
    let ends = ENDS4.iter().chain(&ENDS6).map(|address| {
        let mut end =
            json!({ "address": address, "then": pick(rng, &["balance", "balance", "router"]) });
        if one_in(rng, 2) {
            end["from"] = if address.contains(':') { json!(six) } else { json!(four) };
        }
        end
    });
    ends.collect()
}

impl Traffic<'_> {
    /// A packet within a packet, most for an address at which tunnels end.
    pub(super) fn tunnel(&mut self) -> Vec<u8> {
        let inner_v6 = self.rng.bool();
        let inner = match self.rng.usize(..20) {
            0 => self.ping(eth(), inner_v6),
            1 => self.icmp_error(eth(), inner_v6),
            2 => self.other_protocol(eth(), inner_v6),
            3 => {
                let (site, end) = self.site_and_end(inner_v6);
                self.ip_of(eth(), site, end).raw(4).data(&[0x45; 40])
            }
            // From a VIP's address, as only a real's answers come.
            4 => {
                let (from, to) = (self.vip(inner_v6), self.vip(inner_v6));
                let inner = self.ip_of(eth(), from, to);
                self.tcp_or_udp(inner)
            }
            _ => self.transport(eth(), inner_v6),
        };
        let inner = if self.rng.bool() { inner.ttl(self.rng.u8(..3)) } else { inner };
        let lies = one_in(self.rng, 20);
        let protocol = if lies == inner.is_v6() { 4 } else { 41 };
        let mut inner = inner.packet();
        if one_in(self.rng, 12) {
            self.bend(&mut inner, 60);
        }
        let v6 = self.rng.bool();
        let (site, end) = self.site_and_end(v6);
        let frame = self.link();
        let mut frame = if one_in(self.rng, 4) {
            self.ip_of(frame, site, end)
        } else {
            frame.ip(site, end).class(self.rng.u8(..4))
        };
        if one_in(self.rng, 12) {
            frame = frame.fragment(self.rng.u16(..3), self.rng.bool());
        }
        if self.rng.bool() {
            return frame.raw(protocol).data(&inner).bytes();
        }
        let port = pick(self.rng, &GUE_PORTS);
        let mut gue = match self.rng.usize(..4) {
            0 => vec![0, protocol, 0, 0],
            1 => {
                let count = self.rng.u8(..3);
                let kind = self.rng.u8(..3);
                let private = vec![0; usize::from(count) * if kind == 1 { 16 } else { 4 }];
                let words = u8::try_from(private.len() / 4 + 1).expect("few hops");
                [&[words, protocol, 0, 0, 0, kind, 0, count], private.as_slice()].concat()
            }
            _ => Vec::new(),
        };
        if one_in(self.rng, 8) {
            self.bend(&mut gue, 8);
        }
        let bytes = frame.clone().udp(self.rng.u16(..), port).data(&[gue, inner].concat());
        if !one_in(self.rng, 8) {
            return bytes.bytes();
        }
        // Without a checksum, where an untagged packet without options has it.
        let at = if v6 { 46 } else { 26 };
        bytes.patch_ip(at, &[0, 0]).bytes()
    }

    fn site_and_end(&mut self, v6: bool) -> (IpAddr, IpAddr) {
        let other = one_in(self.rng, 12);
        let (site, end) = match (v6, other) {
            (false, false) => (pick(self.rng, &SITES4), pick(self.rng, &ENDS4)),
            (false, true) => (pick(self.rng, &SITES4), pick(self.rng, &OTHERS4)),
            (true, false) => (pick(self.rng, &SITES6), pick(self.rng, &ENDS6)),
            (true, true) => (pick(self.rng, &SITES6), pick(self.rng, &OTHERS6)),
        };
        (site.parse().expect("an address"), end.parse().expect("an address"))
    }

    /// Changes a bit of the first bytes.
    fn bend(&mut self, bytes: &mut [u8], first: usize) {
        let within = bytes.len().min(first);
        if within > 0 {
            bytes[self.rng.usize(..within)] ^= 1 << self.rng.u8(..8);
        }
    }
}
