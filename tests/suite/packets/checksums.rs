//! Lengths and checksums that must be right in every frame that the balancer sends.

use std::net::IpAddr;

use l4lb::Config;

use crate::packets::reference::internet_sum;

const ETHERNET: usize = 14;

/// The place of the IP packet in a frame with up to two VLAN tags.
fn ip_of(frame: &[u8]) -> &[u8] {
    let tags = (0..2).take_while(|i| {
        let at = 12 + i * 4;
        [[0x81, 0x00], [0x88, 0xa8]].contains(&[frame[at], frame[at + 1]])
    });
    &frame[ETHERNET + 4 * tags.count()..]
}

/// The sum over an ICMP message or a TCP segment, behind a header without options and extensions: 0xffff is
/// right.
fn sum(ip: &[u8]) -> u16 {
    if ip[0] >> 4 == 4 {
        let length = u16::from_be_bytes([ip[2], ip[3]]);
        let body = &ip[20..usize::from(length)];
        if ip[9] == 1 {
            return internet_sum(&[body]);
        }
        return internet_sum(&[&ip[12..20], &[0, ip[9]], &(length - 20).to_be_bytes(), body]);
    }
    let length = u16::from_be_bytes([ip[4], ip[5]]);
    let body = &ip[40..40 + usize::from(length)];
    internet_sum(&[&ip[8..40], &[0, 0], &ip[4..6], &[0, 0, 0, ip[6]], body])
}

fn is_to_vip(ip: &[u8], config: &Config) -> bool {
    let is = |vip: &l4lb::VipConfig| match vip.address {
        IpAddr::V4(v4) => ip[0] >> 4 == 4 && ip[16..20] == v4.octets(),
        IpAddr::V6(v6) => ip[0] >> 4 == 6 && ip[24..40] == v6.octets(),
    };
    config.vips.iter().any(is)
}

/// Whether a packet without extension headers has a checksum over all of it.
fn has_checksum(ip: &[u8]) -> bool {
    let (protocol, body) = if ip[0] >> 4 == 4 { (ip[9], &ip[20..]) } else { (ip[6], &ip[40..]) };
    match protocol {
        1 | 6 | 58 => true,
        17 => {
            body[6..8] != [0, 0]
                && usize::from(u16::from_be_bytes([body[4], body[5]])) == body.len()
        }
        _ => false,
    }
}

/// Sums up what GUE has sent: all of the UDP packet, whatever the balancer derived.
fn check_outer_udp(ip: &[u8], config: &Config) -> Result<(), String> {
    let v6 = ip[0] >> 4 == 6;
    let (at, protocol, ours) = if v6 {
        (40, ip[6], ip[8..24] == config.packets.source_v6().address().octets())
    } else {
        (20, ip[9], ip[12..16] == config.packets.source_v4().address().octets())
    };
    if protocol != 17 || !ours {
        return Ok(());
    }
    let udp = &ip[at..];
    let length = usize::from(u16::from_be_bytes([udp[4], udp[5]]));
    let variant_0 = config.packets.gue_variant == 0;
    let inner = &udp[if variant_0 { 16 } else { 8 }..length];
    if udp[6..8] == [0, 0] {
        let may = !v6 && !has_checksum(inner);
        return if may { Ok(()) } else { Err("there is no checksum in outer UDP\n".to_owned()) };
    }
    let mut expected = 0xffff;
    if has_checksum(inner) {
        // What is wrong inside is wrong outside.
        let header = if inner[0] >> 4 == 4 { internet_sum(&[&inner[..20]]) } else { 0xffff };
        let mut parts = [header, sum(inner)].map(u16::to_be_bytes).concat();
        let as_katran = config.packets.gue_icmp_as_katran && !variant_0 && !v6;
        if inner[0] >> 4 == 4 && inner[9] == 1 && as_katran {
            let length = u16::try_from(inner.len() - 20).expect("short").to_be_bytes();
            parts.extend([&inner[12..20], &[0, 1], &length].concat());
        }
        expected = internet_sum(&[&parts]);
    }
    match sum(ip) {
        right if right == expected => Ok(()),
        wrong => Err(format!("outer UDP sums up to {wrong:#06x} instead of {expected:#06x}\n")),
    }
}

/// Checks a frame that was sent for `reason`: checksums (RFC 791, 792, 4443), and
/// the size that the sender of a packet that is too long is told.
pub(crate) fn check_sent(reason: &str, output: &[u8], config: &Config) -> Result<(), String> {
    let ip = ip_of(output);
    let v6 = ip[0] >> 4 == 6;
    // What the router gets is what somebody else has sent, as is what a real gets by L2.
    if reason == "to_router" || (!reason.ends_with("_reply") && is_to_vip(ip, config)) {
        return Ok(());
    }
    if !v6 && internet_sum(&[&ip[..20]]) != 0xffff {
        return Err("the IPv4 header's checksum is wrong\n".to_owned());
    }
    if !reason.ends_with("_reply") {
        check_outer_udp(ip, config)?;
    }
    if reason == "too_big_reply" {
        let mtu = if v6 { &ip[44..48] } else { &ip[24..28] };
        let told = mtu.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte));
        if told != config.packets.max_frame - 14 {
            return Err(format!("the sender is told to send {told} bytes\n"));
        }
    }
    if reason.ends_with("_reply") && sum(ip) != 0xffff {
        return Err(format!("the checksum in the answer sums up to {:#06x}\n", sum(ip)));
    }
    Ok(())
}
