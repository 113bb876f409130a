//! Packets to trace, built from a 5-tuple.

use std::net::IpAddr;
use std::net::SocketAddr;

use etherparse::Ethernet2Header;
use etherparse::PacketBuilder;
use etherparse::PacketBuilderStep;

use crate::model::address::Mac;
use crate::model::address::Protocol;
pub use crate::model::error::TracePacketError;

/// The hop limit (TTL) of a client's packet.
const HOPS: u8 = 64;

/// A packet from a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TracePacket {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Who sends it.
    pub client: SocketAddr,
    /// What it is sent to.
    pub server: SocketAddr,
    /// For TCP: whether the packet opens a connection or belongs to an open one.
    pub syn: bool,
    /// Bytes behind the TCP or UDP header.
    pub payload: u16,
}

impl TracePacket {
    /// The packet in an Ethernet frame, to a host that accepts any MAC.
    pub fn frame(&self) -> Result<Vec<u8>, TracePacketError> {
        self.frame_to(Mac::from([2, 0, 0, 0, 0, 2]))
    }

    /// The packet in an Ethernet frame to this MAC. A router sends to the one that
    /// [`Balancer::trace_mac`](crate::Balancer::trace_mac) returns.
    pub fn frame_to(&self, mac: Mac) -> Result<Vec<u8>, TracePacketError> {
        let Self { client, server, .. } = self;
        let ethernet = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], mac.octets());
        match (client.ip(), server.ip()) {
            (IpAddr::V4(client), IpAddr::V4(server)) => {
                self.write(ethernet.ipv4(client.octets(), server.octets(), HOPS))
            }
            (IpAddr::V6(client), IpAddr::V6(server)) => {
                self.write(ethernet.ipv6(client.octets(), server.octets(), HOPS))
            }
            (client, server) => Err(TracePacketError::Families { client, server }),
        }
    }

    fn write(
        &self,
        ip: PacketBuilderStep<etherparse::IpHeaders>,
    ) -> Result<Vec<u8>, TracePacketError> {
        let (sport, dport) = (self.client.port(), self.server.port());
        let payload = vec![0; self.payload.into()];
        let mut frame = Vec::with_capacity(Ethernet2Header::LEN + payload.len() + 128);
        let too_long = |_| TracePacketError::TooLong { payload: self.payload };
        match self.protocol {
            Protocol::Tcp => {
                let tcp = ip.tcp(sport, dport, 1, u16::MAX);
                let tcp = if self.syn { tcp.syn() } else { tcp.ack(1) };
                tcp.write(&mut frame, &payload).map_err(too_long)?;
            }
            Protocol::Udp => ip.udp(sport, dport).write(&mut frame, &payload).map_err(too_long)?,
        }
        Ok(frame)
    }
}
