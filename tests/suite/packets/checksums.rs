//! Lengths and checksums that must be right in every frame that the balancer sends.

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

/// Checks a frame that was sent for `reason`: checksums (RFC 791, 792, 4443), and
/// the size that the sender of a packet that is too long is told.
pub(crate) fn check_sent(reason: &str, output: &[u8], config: &Config) -> Result<(), String> {
    let ip = ip_of(output);
    let v6 = ip[0] >> 4 == 6;
    // What the router gets is what somebody else has sent.
    if reason == "to_router" {
        return Ok(());
    }
    if !v6 && internet_sum(&[&ip[..20]]) != 0xffff {
        return Err("the IPv4 header's checksum is wrong\n".to_owned());
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
