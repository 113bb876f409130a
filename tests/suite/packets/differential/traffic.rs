//! Random configurations, and random packets for them: mostly valid ones of few flows, so that flows
//! repeat, and every kind of damage.

use std::net::IpAddr;

use fastrand::Rng;
use l4lb::Config;
use serde_json::Value;
use serde_json::json;

use crate::fixtures::frame::AUTHENTICATION;
use crate::fixtures::frame::DESTINATION_OPTIONS;
use crate::fixtures::frame::Frame;
use crate::fixtures::frame::HOP_BY_HOP;
use crate::fixtures::frame::ROUTING;
use crate::fixtures::frame::eth;
use crate::packets::differential::tunnels;

const VIPS4: [&str; 3] = ["10.200.1.1", "10.200.1.2", "198.51.100.200"];
const VIPS6: [&str; 3] = ["fc00:1::1", "fc00:1::2", "2001:db8:ffff::c8"];
/// Hosts that are no VIPs, and addresses that no packet may have.
pub(super) const OTHERS4: [&str; 2] = ["10.200.1.9", "255.255.255.255"];
pub(super) const OTHERS6: [&str; 3] = ["fc00:1::9", "::ffff:10.200.1.1", "ff02::1"];
/// Some of them are no hosts, or VIPs.
const CLIENTS4: [&str; 7] = [
    "192.168.1.1",
    "192.168.1.2",
    "10.0.0.77",
    "203.0.113.255",
    "0.0.0.0",
    "255.1.2.255",
    "10.200.1.2",
];
const CLIENTS6: [&str; 7] = [
    "fc00:2::1",
    "fc00:2::2",
    "2001:db8:1:2:3:4:5:6",
    "::1",
    "fe80::ff:fe00:1",
    "::ffff:192.168.1.1",
    "fc00:1::2",
];
const CLIENT_PORTS: [u16; 6] = [31337, 31338, 1, 65535, 0, 443];
const PORTS: [u16; 5] = [80, 443, 0, 8080, 65535];
const REALS: [&str; 8] = [
    "10.0.0.1",
    "10.0.0.2",
    "10.0.0.3",
    "172.31.255.254",
    "fc00::1",
    "fc00::2",
    "fc00::3",
    "2001:db8::200",
];
const SERVER_IDS: [u32; 8] = [1, 1022, 1023, 0xffff, 0x1_0000, 0xff_ffff, 0x100_0000, 0xffff_ffff];

/// The last is the one that most frames are sent to; one differs from it in each byte, in one bit.
const MACS: [&str; 10] = [
    "02:00:00:00:00:10",
    "00:00:5e:00:01:01",
    "02:00:00:00:00:03",
    "02:00:00:00:01:02",
    "02:00:00:01:00:02",
    "02:00:01:00:00:02",
    "02:01:00:00:00:02",
    "06:00:00:00:00:02",
    "fe:ff:ff:ff:ff:ff",
    "02:00:00:00:00:02",
];

pub(super) fn pick<T: Copy>(rng: &mut Rng, of: &[T]) -> T {
    of[rng.usize(..of.len())]
}

pub(super) fn one_in(rng: &mut Rng, n: usize) -> bool {
    rng.usize(..n) == 0
}

/// Where the reals of L2 are: most of them.
pub(crate) fn random_neighbours(rng: &mut Rng) -> Vec<(IpAddr, l4lb::Mac)> {
    let known =
        REALS.iter().filter(|_| !one_in(rng, 4)).map(|real| real.parse().expect("an address"));
    (0_u8..)
        .zip(known.collect::<Vec<_>>())
        .map(|(i, real)| (real, [2, 0, 0, 0, 7, i].into()))
        .collect()
}

/// What reals say themselves about their way: the same wherever they are.
fn random_ways(rng: &mut Rng) -> Vec<Value> {
    let mut way = |_: &&str| match rng.usize(..8) {
        0 => json!({ "encapsulation": "ipip" }),
        1 => json!({ "encapsulation": "gue" }),
        2 => json!({ "encapsulation": "l2" }),
        3 => json!({ "local": true }),
        _ => json!({}),
    };
    REALS.iter().map(&mut way).collect()
}

/// Sets of reals that VIPs share: rings take long to build.
fn real_sets(rng: &mut Rng) -> Vec<Vec<Value>> {
    let ways = random_ways(rng);
    let real = |address: &str, weight: u32, state: &str| {
        let mut real = json!({ "address": address, "weight": weight, "state": state });
        let at = REALS.iter().position(|known| *known == address).expect("it is known");
        let own = ways[at].as_object().expect("it is an object").clone();
        real.as_object_mut().expect("it is an object").extend(own);
        real
    };
    let equal = |addresses: &[&str]| addresses.iter().map(|a| real(a, 1, "up")).collect::<Vec<_>>();
    let mixed = REALS.iter().map(|address| {
        real(address, pick(rng, &[0, 1, 1, 2, 7]), pick(rng, &["up", "up", "up", "drain", "down"]))
    });
    vec![
        mixed.collect(),
        equal(&REALS[..3]),
        equal(&REALS[4..7]),
        vec![real(REALS[7], 3, "up")],
        vec![real(REALS[0], 1, "drain"), real(REALS[4], 1, "down"), real(REALS[1], 0, "up")],
        vec![],
    ]
}

/// A configuration with many kinds of VIPs, for an interface that is served or not.
pub(crate) fn random_config(rng: &mut Rng, served: bool) -> Config {
    let sets = real_sets(rng);
    let mut vips = Vec::new();
    for address in VIPS4.iter().chain(&VIPS6) {
        let other_ports = pick(rng, &[None, None, Some("pass"), Some("drop"), Some("reject")]);
        let echo = pick(rng, &[None, None, Some("always"), Some("when-usable"), Some("never")]);
        for protocol in ["tcp", "udp"] {
            for port in [0, 80, 443] {
                if one_in(rng, 5) {
                    continue;
                }
                // Most VIPs work.
                let set = if one_in(rng, 8) { rng.usize(..sets.len()) } else { rng.usize(..4) };
                let hash = if one_in(rng, 2) {
                    "5-tuple"
                } else {
                    pick(
                        rng,
                        &["no-source-port", "destination-port", "source-and-destination-port"],
                    )
                };
                let quic = protocol == "udp" && port == 443 && !one_in(rng, 4);
                let routing: &[&str] = if quic { &["quic-connection-id"] } else { &[] };
                let mut vip = json!({
                    "address": address,
                    "port": port,
                    "protocol": protocol,
                    "hash": hash,
                    "connection_table": !one_in(rng, 4),
                    "routing": routing,
                    "no_real": pick(rng, &["drop", "reject"]),
                    "reals": sets[set],
                });
                if one_in(rng, 3) {
                    vip["encapsulation"] = json!(pick(rng, &["ipip", "gue", "l2"]));
                }
                // Not all VIPs of an address say what is one for all.
                for (key, choice) in [("other_ports", other_ports), ("echo", echo)] {
                    if let Some(choice) = choice.filter(|_| !one_in(rng, 3)) {
                        vip[key] = json!(choice);
                    }
                }
                vips.push(vip);
            }
        }
    }
    // The others are unknown.
    let known = rng.usize(4..SERVER_IDS.len());
    let server_ids: Vec<_> = SERVER_IDS
        .iter()
        .map(|id| json!({ "id": id, "real": pick(rng, &REALS) }))
        .take(known)
        .collect();
    let sources4 = ["172.16.0.0/16", "172.16.0.0/16", "10.0.0.0/8", "192.0.2.128/25", "192.0.2.1"];
    let sources6 = ["100::/64", "100::/64", "fd00::/8", "2001:db8:5::/112", "2001:db8:5::7"];
    // All that count as its own, or as many as there may be, or a few.
    let macs: &[&str] = match rng.usize(..3) {
        0 => &[],
        1 => &MACS,
        _ => &MACS[9..],
    };
    let interface = json!({ "name": "lo", "gateway_mac": "02:00:00:00:00:fe", "macs": macs });
    let interfaces = if served { vec![interface] } else { vec![] };
    let config = json!({
        "interfaces": interfaces,
        // Room for every flow, and no limit that depends on the time that a test takes.
        "connection_table": {
            "kind": pick(rng, &["set-associative", "lru"]),
            "entries": 400_000,
            "udp_timeout_seconds": 28_000,
            "new_connections_per_second": u32::MAX,
        },
        "packets": {
            "max_frame": if one_in(rng, 2) { 1514 } else { rng.u32(1294..=3500) },
            "oversize": if one_in(rng, 4) { "drop" } else { "icmp" },
            "encap_source_v4": pick(rng, &sources4),
            "encap_source_v6": pick(rng, &sources6),
            "outer_df": one_in(rng, 3),
            "encapsulation": pick(rng, &["ipip", "gue", "gue", "l2"]),
            "gue_variant": pick(rng, &[1, 1, 0]),
            "gue_port": pick(rng, &[6080, 6080, 19523, 9886]),
            "gue_icmp_as_katran": rng.bool(),
        },
        "vips": vips,
        "server_ids": server_ids,
        "decapsulate": if one_in(rng, 4) { json!([]) } else { tunnels::ends(rng) },
    });
    Config::from_json(&config.to_string()).expect("the configuration is valid")
}

/// Packets for [`random_config`]s.
pub(crate) struct Traffic<'a> {
    pub(super) rng: &'a mut Rng,
    max_frame: usize,
    /// The sources of GUE of either family, and its port.
    gue: ([IpAddr; 2], u16),
}

impl<'a> Traffic<'a> {
    pub(crate) fn new(rng: &'a mut Rng, config: &Config) -> Self {
        let packets = &config.packets;
        let sources = [packets.source_v4().address().into(), packets.source_v6().address().into()];
        let gue = (sources, packets.gue_port());
        Self { rng, max_frame: packets.max_frame as usize, gue }
    }

    /// The next frame: at least 14 bytes, at most what a page takes.
    pub(crate) fn frame(&mut self) -> Vec<u8> {
        if one_in(self.rng, 50) {
            return self.garbage();
        }
        let v6 = self.rng.bool();
        if one_in(self.rng, 6) {
            let mut bytes = self.tunnel();
            self.damage(&mut bytes);
            return bytes;
        }
        let frame = self.link();
        let frame = match self.rng.usize(..20) {
            0 | 1 => self.ping(frame, v6),
            2 if one_in(self.rng, 4) => self.gue_error(frame, v6),
            2 | 3 => self.icmp_error(frame, v6),
            4 => self.other_protocol(frame, v6),
            _ => self.transport(frame, v6),
        };
        let mut bytes = frame.bytes();
        self.damage(&mut bytes);
        bytes
    }

    fn garbage(&mut self) -> Vec<u8> {
        let len = self.rng.usize(14..200);
        let mut bytes: Vec<u8> = (0..len).map(|_| self.rng.u8(..)).collect();
        // Most random EtherTypes are not IP.
        match self.rng.usize(..3) {
            0 => bytes[12..14].copy_from_slice(&[8, 0]),
            1 => bytes[12..14].copy_from_slice(&[0x86, 0xdd]),
            _ => {}
        }
        bytes
    }

    /// To this host, mostly: to one of [`MACS`], a neighbour of one, a group, everybody or nobody.
    fn destination(&mut self) -> [u8; 6] {
        let own: l4lb::Mac = MACS[MACS.len() - 1].parse().expect("a MAC");
        if !one_in(self.rng, 12) {
            return own.octets();
        }
        let mac: l4lb::Mac = pick(self.rng, &MACS).parse().expect("a MAC");
        let mut mac = mac.octets();
        match self.rng.usize(..6) {
            0 => [0xff; 6],
            1 => [0; 6],
            2 => pick(self.rng, &[[1, 0, 0x5e, 0, 0, 1], [0x33, 0x33, 0, 0, 0, 1]]),
            3 => {
                mac[self.rng.usize(..6)] ^= 1 << self.rng.u8(..8);
                mac
            }
            _ => mac,
        }
    }

    pub(super) fn link(&mut self) -> Frame {
        let source = match self.rng.usize(..80) {
            0 => [0xff; 6],
            1 => [1, 0, 0x5e, 0, 0, 1],
            _ => [2, 0, 0, 0, 0, 1],
        };
        let frame = eth().macs(source, self.destination());
        match self.rng.usize(..40) {
            0 | 1 => frame.vlan(self.rng.u16(..)),
            2 => frame.tag(0x88a8, self.rng.u16(..)).vlan(self.rng.u16(..)),
            3 => frame.vlan(1).vlan(2).vlan(3),
            4 => {
                frame.ether_type(pick(self.rng, &[0x0806, 0x0800, 0x86dd, 0x8100, 0x88a8, 0x0100]))
            }
            _ => frame,
        }
    }

    pub(super) fn vip(&mut self, v6: bool) -> IpAddr {
        let other = one_in(self.rng, 12);
        let address = match (v6, other) {
            (false, false) => pick(self.rng, &VIPS4),
            (false, true) => pick(self.rng, &OTHERS4),
            (true, false) => pick(self.rng, &VIPS6),
            (true, true) => pick(self.rng, &OTHERS6),
        };
        address.parse().expect("an address")
    }

    fn client(&mut self, v6: bool) -> IpAddr {
        // Mostly the first few.
        let few = if one_in(self.rng, 3) { 7 } else { 2 };
        let address = pick(self.rng, if v6 { &CLIENTS6[..few] } else { &CLIENTS4[..few] });
        address.parse().expect("an address")
    }

    fn ip(&mut self, frame: Frame, v6: bool) -> Frame {
        let (client, vip) = (self.client(v6), self.vip(v6));
        self.ip_of(frame, client, vip)
    }

    pub(super) fn ip_of(&mut self, frame: Frame, source: IpAddr, destination: IpAddr) -> Frame {
        let mut frame = frame.ip(source, destination).ttl(self.rng.u8(..)).id(self.rng.u16(..));
        if one_in(self.rng, 3) {
            frame = frame.class(self.rng.u8(..)).flow_label(self.rng.u32(..1 << 20));
        }
        if source.is_ipv6() && one_in(self.rng, 5) {
            for _ in 0..self.rng.usize(1..=8) {
                frame = self.extension(frame);
            }
        } else if source.is_ipv4() && one_in(self.rng, 20) {
            frame = frame.options(&vec![1; self.rng.usize(1..=10) * 4]);
        }
        if one_in(self.rng, 20) {
            // Every fourth is atomic.
            let offset = if self.rng.bool() { 0 } else { self.rng.u16(..1 << 13) };
            frame = frame.fragment(offset, self.rng.bool());
            if source.is_ipv6() && one_in(self.rng, 3) {
                frame = self.extension(frame);
            }
        }
        frame
    }

    fn extension(&mut self, frame: Frame) -> Frame {
        match self.rng.usize(..6) {
            0 => frame.extension(HOP_BY_HOP, 8),
            1 => frame.extension(ROUTING, 24),
            2 => frame.extension(AUTHENTICATION, 4 * self.rng.usize(2..12)),
            3 => frame.extension(DESTINATION_OPTIONS, 8 * self.rng.usize(1..=40)),
            _ => frame.extension(DESTINATION_OPTIONS, 8),
        }
    }

    fn ports(&mut self) -> (u16, u16) {
        let few = if one_in(self.rng, 3) { CLIENT_PORTS.len() } else { 2 };
        let client = pick(self.rng, &CLIENT_PORTS[..few]);
        let port = pick(self.rng, &PORTS);
        if one_in(self.rng, 40) { (self.rng.u16(..), self.rng.u16(..)) } else { (client, port) }
    }

    pub(super) fn transport(&mut self, frame: Frame, v6: bool) -> Frame {
        let frame = self.ip(frame, v6);
        let frame = self.tcp_or_udp(frame);
        if !one_in(self.rng, 40) {
            return frame;
        }
        // Around the longest that is allowed, and up to what a page takes.
        let least = frame.bytes().len();
        let len = if self.rng.bool() {
            self.max_frame + self.rng.usize(..12) - 4
        } else {
            self.rng.usize(self.max_frame..=3516)
        };
        frame.filled_to(len.max(least).min(3516))
    }

    pub(super) fn tcp_or_udp(&mut self, frame: Frame) -> Frame {
        let (client, port) = self.ports();
        if self.rng.bool() {
            let mut frame = frame.tcp(client, port);
            match self.rng.usize(..6) {
                0 => frame = frame.syn(),
                1 => frame = frame.syn().ack(),
                2 => frame = frame.rst(),
                3 => frame = frame.syn().rst(),
                4 => frame = frame.fin(),
                _ => {}
            }
            let len = self.rng.usize(..40);
            return frame.data(&vec![0x55; len]);
        }
        let data = self.udp_data();
        frame.udp(client, port).data(&data)
    }

    fn udp_data(&mut self) -> Vec<u8> {
        let mut id: Vec<u8> = (0..self.rng.usize(..=20)).map(|_| self.rng.u8(..)).collect();
        if id.len() >= 5 && !one_in(self.rng, 4) {
            let server = pick(self.rng, &SERVER_IDS);
            let [a, b, c, d] = server.to_be_bytes();
            match self.rng.usize(..3) {
                0 => {
                    id[0] = 0x40 | c >> 2;
                    id[1] = c << 6 | d >> 2;
                    id[2] = d << 6 | id[2] & 0x3f;
                }
                1 => {
                    id[0] = 0x80 | id[0] & 0x3f;
                    id[1..4].copy_from_slice(&[b, c, d]);
                }
                _ => {
                    id[0] |= 0xc0;
                    id[1..5].copy_from_slice(&[a, b, c, d]);
                }
            }
        }
        let first = self.rng.u8(..);
        if first & 0x80 == 0 {
            return [&[first], id.as_slice()].concat();
        }
        let len = if one_in(self.rng, 8) { self.rng.u8(..) } else { id.len().to_le_bytes()[0] };
        let [a, b, c, d] = if one_in(self.rng, 2) { 1 } else { self.quic_version() }.to_be_bytes();
        [&[first, a, b, c, d, len], id.as_slice()].concat()
    }

    fn quic_version(&mut self) -> u32 {
        let known = [0x6b33_43cf, 0x6b33_43cf, 0xface_b000, 0xface_b002, 0xface_b01f];
        let unknown = [0, 2, 0x0100_0000, 0xface_afff, 0xface_b020, 0xff00_001d, 0x1a2a_3a4a];
        if self.rng.bool() { pick(self.rng, &known) } else { pick(self.rng, &unknown) }
    }

    pub(super) fn ping(&mut self, frame: Frame, v6: bool) -> Frame {
        let frame = self.ip(frame, v6);
        let (id, sequence) = (self.rng.u16(..3), self.rng.u16(..3));
        let len = if one_in(self.rng, 30) { 2000 } else { self.rng.usize(..60) };
        let frame =
            if one_in(self.rng, 4) { frame.pong(id, sequence) } else { frame.ping(id, sequence) };
        let byte = if one_in(self.rng, 3) { 0 } else { self.rng.u8(..) };
        frame.data(&vec![byte; len])
    }

    pub(super) fn icmp_error(&mut self, frame: Frame, v6: bool) -> Frame {
        let (client, vip) = (self.client(v6), self.vip(v6));
        let quoted = self.ip_of(eth(), vip, client);
        let (client_port, port) = self.ports();
        let quoted = match self.rng.usize(..12) {
            0 => quoted.ping(1, 1),
            1..=6 => quoted.tcp(port, client_port),
            _ => quoted.udp(port, client_port),
        };
        let mut quote = quoted.data(&[0x77; 16]).packet();
        if one_in(self.rng, 4) {
            quote.truncate(self.rng.usize(..=quote.len()));
        }
        // Routers on the way, and now and then to somebody else.
        let router = self.client(v6);
        let to = if one_in(self.rng, 10) { self.vip(v6) } else { vip };
        let frame = self.ip_of(frame, router, to);
        let kinds: &[u8] = if v6 { &[1, 2, 2, 3, 4, 128, 135] } else { &[3, 3, 11, 4, 5, 12, 8] };
        let frame = frame.icmp(pick(self.rng, kinds), self.rng.u8(..6), [0, 0, 5, 0]).data(&quote);
        if one_in(self.rng, 40) {
            let least = frame.bytes().len().max(quote.len() + 600);
            frame.filled_to(self.max_frame.max(least) + 1)
        } else {
            frame
        }
    }

    /// An answer to GUE that the balancer sent, mostly.
    fn gue_error(&mut self, frame: Frame, v6: bool) -> Frame {
        let ([v4_source, v6_source], gue_port) = self.gue;
        let source = if v6 { v6_source } else { v4_source };
        let other = one_in(self.rng, 8);
        let from = if other { self.vip(v6) } else { source };
        let real = self.client(v6);
        let port = if one_in(self.rng, 8) { self.rng.u16(..) } else { gue_port };
        let sport = self.rng.u16(..);
        let quoted = self.ip_of(eth(), from, real).udp(sport, port).data(&[0x45; 40]);
        let quote = quoted.packet();
        let frame = self.ip_of(frame, real, source);
        let codes: &[(u8, u8)] =
            if v6 { &[(1, 4), (1, 4), (1, 3), (3, 3)] } else { &[(3, 3), (3, 3), (3, 1), (11, 0)] };
        let (kind, code) = pick(self.rng, codes);
        frame.icmp(kind, code, [0; 4]).data(&quote)
    }

    pub(super) fn other_protocol(&mut self, frame: Frame, v6: bool) -> Frame {
        let frame = self.ip(frame, v6);
        let protocol = pick(self.rng, &[1, 2, 4, 41, 47, 50, 51, 58, 59, 132, 135, 255]);
        let (client, port) = self.ports();
        let data = [client.to_be_bytes(), port.to_be_bytes()].concat();
        frame.raw(protocol).data(&data.repeat(6))
    }

    fn damage(&mut self, bytes: &mut Vec<u8>) {
        if one_in(self.rng, 12) {
            // Padding, up to Ethernet's shortest frame and beyond.
            let len = bytes.len().max(60) + self.rng.usize(..8);
            let byte = if self.rng.bool() { 0 } else { self.rng.u8(..) };
            bytes.resize(len, byte);
        }
        if one_in(self.rng, 12) {
            self.wrong_length(bytes);
        }
        if one_in(self.rng, 12) {
            for _ in 0..self.rng.usize(1..=3) {
                // Headers rather than data.
                let at = self.rng.usize(..bytes.len().min(120));
                bytes[at] ^= 1 << self.rng.u8(..8);
            }
        }
        if one_in(self.rng, 12) {
            bytes.truncate(self.rng.usize(14..=bytes.len()));
        }
        if one_in(self.rng, 24) {
            // The other end of the frame: bytes that no length counts.
            let more = self.rng.usize(..20);
            bytes.extend(std::iter::repeat_n(0xee, more));
        }
        bytes.truncate(3516);
    }

    /// Puts a small number, or one near to the right one, where an untagged packet has its length.
    fn wrong_length(&mut self, bytes: &mut [u8]) {
        let at = if bytes[12..14] == [0x86, 0xdd] { 18 } else { 16 };
        if bytes.len() < at + 2 {
            return;
        }
        let right = u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        let wrong = match self.rng.usize(..3) {
            0 => self.rng.u16(..64),
            1 => right.wrapping_add(self.rng.u16(..9)).wrapping_sub(4),
            _ => self.rng.u16(..),
        };
        bytes[at..at + 2].copy_from_slice(&wrong.to_be_bytes());
    }
}
