//! The frames that answer others.

use etherparse::TcpHeader;

use super::Frame;
use super::Transport;
use super::eth;

impl Frame {
    /// Changes the TCP header.
    #[must_use]
    pub(crate) fn with_tcp(mut self, change: impl FnOnce(&mut TcpHeader)) -> Self {
        change(self.tcp_mut());
        self
    }

    /// A frame back to this one's sender, with the same tags and TTL 64, so far without content.
    fn back(&self) -> Self {
        let ip = self.ip.as_ref().expect("an IP packet");
        Frame { tags: self.tags.clone(), ..eth() }
            .macs(self.destination, self.source)
            .ip(ip.destination, ip.source)
            .ttl(64)
            .id(0)
    }

    /// The reset that answers a TCP packet, with these numbers; frames of 60 bytes stay as long as that, and keep
    /// what they had at their end.
    pub(crate) fn reset(&self, sequence: u32, acknowledges: Option<u32>) -> Vec<u8> {
        let Transport::Tcp(tcp) = &self.transport else { panic!("{self:?} is not TCP") };
        let reset = self.back().tcp(tcp.destination_port, tcp.source_port).with_tcp(|header| {
            header.sequence_number = sequence;
            header.acknowledgment_number = acknowledges.unwrap_or_default();
            (header.ack, header.rst) = (acknowledges.is_some(), true);
            header.window_size = 0;
        });
        let mut bytes = reset.bytes();
        let before = self.bytes();
        bytes.extend(before.iter().take(60).skip(bytes.len()));
        bytes
    }

    /// "Port unreachable", which quotes this UDP packet's headers.
    pub(crate) fn port_unreachable(&self) -> Vec<u8> {
        let (kind, code, quoted) = if self.is_v6() { (1, 4, 40 + 8) } else { (3, 3, 20 + 8) };
        self.back().icmp(kind, code, [0; 4]).data(&self.packet()[..quoted]).bytes()
    }

    /// The answer to an echo request, which this is.
    pub(crate) fn echo_reply(&self) -> Self {
        let mut reply = self.clone().turned_round().ttl(64);
        let v6 = reply.is_v6();
        let ip = reply.ip_mut();
        (ip.source, ip.destination) = (ip.destination, ip.source);
        if let Transport::Icmp { kind, .. } = &mut reply.transport {
            *kind = if v6 { 129 } else { 0 };
        }
        reply
    }

    /// What tells the sender that its packet is too long.
    pub(crate) fn too_big_reply(&self, mtu: u16) -> Vec<u8> {
        let quoted = if self.is_v6() { 248 } else { 84 };
        self.back().too_big(mtu).data(&self.packet()[..quoted]).bytes()
    }
}
