//! What must hold for every frame that the balancer sends, whatever it was made from.

use l4lb::Config;

use crate::model::internet_sum;

const ETHERNET: usize = 14;

/// The place of the IP packet in a frame with up to two VLAN tags.
fn ip_of(frame: &[u8]) -> &[u8] {
    let tags = (0..2).take_while(|i| {
        let at = 12 + i * 4;
        [[0x81, 0x00], [0x88, 0xa8]].contains(&[frame[at], frame[at + 1]])
    });
    &frame[ETHERNET + 4 * tags.count()..]
}

/// The sum over an ICMP message, behind a header without options, or of an atomic fragment: 0xffff is
/// right.
fn icmp_sum(ip: &[u8]) -> u16 {
    if ip[0] >> 4 == 4 {
        let length = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
        return internet_sum(&[&ip[20..length]]);
    }
    let begin = if ip[6] == 44 { 48 } else { 40 };
    let end = 40 + u16::from_be_bytes([ip[4], ip[5]]);
    let length = (end - begin).to_be_bytes();
    let message = &ip[usize::from(begin)..usize::from(end)];
    internet_sum(&[&ip[8..40], &[0, 0], &length, &[0, 0, 0, 58], message])
}

/// Checks a frame that was sent for `reason`: checksums (RFC 791, 792, 4443), and
/// the size that the sender of a packet that is too long is told.
pub(crate) fn check_sent(reason: &str, output: &[u8], config: &Config) -> Result<(), String> {
    let ip = ip_of(output);
    let v6 = ip[0] >> 4 == 6;
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
    if ["too_big_reply", "echo_reply"].contains(&reason) && icmp_sum(ip) != 0xffff {
        return Err(format!("the ICMP checksum sums up to {:#06x}\n", icmp_sum(ip)));
    }
    Ok(())
}
