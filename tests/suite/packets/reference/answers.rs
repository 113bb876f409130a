//! What the balancer answers itself.

use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;

use l4lb::Config;
use l4lb::Echo;
use l4lb::NoReal;
use l4lb::OtherPorts;
use l4lb::RealState;

use super::End;
use super::ICMP;
use super::ICMP6;
use super::Kind;
use super::Reference;
use super::TCP;
use super::TCP_HEADER;
use super::Talk;
use super::UDP;
use super::UDP_HEADER;
use super::emit;
use super::emit::internet_sum;
use super::parse::Packet;

/// "Too big" answers that one second allows, and refusals.
const TOO_BIG_REPLIES: u32 = 1000;
const REFUSALS: u32 = 1000;
/// Answers by source: errors, and to echo requests.
const ERRORS_PER_SOURCE: u32 = 50;
const ECHOES_PER_SOURCE: u32 = 500;
/// The smallest MTU of IPv6.
const IPV6_MTU: usize = 1280;

/// What a VIP's address does with packets that no VIP takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    other_ports: OtherPorts,
    echo: bool,
}

impl Rules {
    pub(super) fn of(config: &Config, address: IpAddr) -> Self {
        let vips = || config.vips.iter().filter(|vip| vip.address == address);
        let usable = || {
            let mut reals = vips().flat_map(|vip| &vip.reals);
            reals.any(|real| real.state == RealState::Up && real.weight > 0)
        };
        Self {
            other_ports: vips().find_map(|vip| vip.other_ports).unwrap_or_default(),
            echo: match vips().find_map(|vip| vip.echo).unwrap_or_default() {
                Echo::Always => true,
                Echo::WhenUsable => usable(),
                _ => false,
            },
        }
    }
}

impl Reference {
    /// Whether a limit of answers may be reached: sources may share one.
    pub(crate) fn near_a_limit(&self) -> bool {
        let (errors, echoes) = self.answered.values().fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
        errors >= ERRORS_PER_SOURCE || echoes >= ECHOES_PER_SOURCE
    }

    /// Whether its source is one host that may be answered, as far as the IP header is right.
    fn answerable(&self, packet: &Packet<'_>) -> Result<(), &'static str> {
        has_right_header(packet)?;
        let one_host = match packet.source {
            IpAddr::V4(v4) => !matches!(v4.octets()[0], 0 | 127 | 224..),
            IpAddr::V6(v6) => !v6.is_unspecified() && !v6.is_loopback() && !v6.is_multicast(),
        };
        let is_from_broadcast = packet.link[6..12] == [0xff; 6];
        if one_host && !is_from_broadcast && !self.rules.contains_key(&packet.source) {
            Ok(())
        } else {
            Err("unanswerable")
        }
    }

    /// Errors and echo replies that its source had.
    fn answers_to(&mut self, packet: &Packet<'_>) -> &mut (u32, u32) {
        let source = match packet.source {
            IpAddr::V4(_) => packet.source,
            IpAddr::V6(v6) => Ipv6Addr::from(u128::from(v6) >> 64 << 64).into(),
        };
        self.answered.entry(source).or_default()
    }

    fn count_error(&mut self, packet: &Packet<'_>) -> Result<(), &'static str> {
        let (errors, _) = self.answers_to(packet);
        if *errors == ERRORS_PER_SOURCE {
            return Err("source_limited");
        }
        *errors += 1;
        Ok(())
    }

    pub(super) fn echo(&mut self, packet: &Packet<'_>, reply: u8) -> End {
        if !self.rules[&packet.destination].echo {
            return Err("no_echo");
        }
        self.answerable(packet)?;
        if !packet.has_right_sum(if packet.is_v6() { ICMP6 } else { ICMP }) {
            return Err("bad_checksum");
        }
        let (_, echoes) = self.answers_to(packet);
        if *echoes == ECHOES_PER_SOURCE {
            return Err("source_limited");
        }
        *echoes += 1;
        Ok(answer("echo_reply", emit::echo_reply(packet, reply)))
    }

    pub(super) fn too_long(&mut self, packet: &Packet<'_>, talk: &Talk<'_>) -> End {
        if !self.wire.tell_sender || matches!(talk.kind, Kind::IcmpError) {
            return Err("too_big");
        }
        if packet.is_v6() && self.wire.longest < IPV6_MTU {
            return Err("small_mtu");
        }
        self.answerable(packet)?;
        self.count_error(packet)?;
        if self.too_big_replies == TOO_BIG_REPLIES {
            return Err("too_big_limited");
        }
        self.too_big_replies += 1;
        let mtu = u16::try_from(self.wire.longest).expect("frames are shorter");
        Ok(answer("too_big_reply", emit::too_big_reply(packet, mtu)))
    }

    /// A packet to a port that no VIP has, or whose ports cannot be read.
    pub(super) fn other_port(&mut self, packet: &Packet<'_>, protocol: u8, body: &[u8]) -> End {
        let rule = self.rules.get(&packet.destination).map(|rules| rules.other_ports);
        let rule = rule.filter(|_| self.gateway(packet).is_ok()).unwrap_or_default();
        let least = if protocol == TCP { TCP_HEADER } else { UDP_HEADER };
        match rule {
            OtherPorts::Pass => Err("not_vip"),
            OtherPorts::Reject if packet.unfit(body.len() < least).is_ok() => {
                self.refuse(packet, protocol, body, "other_port")
            }
            _ => Err("other_port"),
        }
    }

    /// A packet of a VIP that has no real for it.
    pub(super) fn without_real(&mut self, packet: &Packet<'_>, talk: &Talk<'_>) -> End {
        let refuses = self.services[&talk.vip].no_real == NoReal::Reject;
        let super::Upper::Protocol { number, body } = packet.upper else { return Err("no_real") };
        if !refuses || matches!(talk.kind, Kind::IcmpError) {
            return Err("no_real");
        }
        self.refuse(packet, number, body, "no_real")
    }

    fn refuse(
        &mut self,
        packet: &Packet<'_>,
        protocol: u8,
        body: &[u8],
        otherwise: &'static str,
    ) -> End {
        has_right_header(packet)?;
        if packet.has_extensions && !packet.atomic {
            return Err(otherwise);
        }
        if protocol == TCP {
            let header = usize::from(body[12] >> 4) * 4;
            let is_reset = body[13] & 0x04 != 0;
            if is_reset || header < TCP_HEADER || header > body.len() {
                return Err(otherwise);
            }
        }
        self.answerable(packet)?;
        let no_sum = protocol == UDP && !packet.is_v6() && body[6..8] == [0, 0];
        if !no_sum && !packet.has_right_sum(protocol) {
            return Err("bad_checksum");
        }
        self.count_error(packet)?;
        if self.refusals == REFUSALS {
            return Err("refusal_limited");
        }
        self.refusals += 1;
        Ok(match protocol {
            TCP => answer("reset_reply", emit::reset(packet, body)),
            _ => answer("unreachable_reply", emit::port_unreachable(packet)),
        })
    }
}

fn has_right_header(packet: &Packet<'_>) -> Result<(), &'static str> {
    if packet.is_v6() || internet_sum(&[&packet.ip[..20]]) == 0xffff {
        Ok(())
    } else {
        Err("bad_checksum")
    }
}

fn answer(reason: &'static str, frame: Vec<u8>) -> (&'static str, IpAddr, Vec<u8>) {
    (reason, Ipv4Addr::UNSPECIFIED.into(), frame)
}
