//! Where captured packets go.

use std::io;

use super::packet::Packet;

/// Takes captured packets: prints them, or writes them to a file.
pub trait Sink {
    /// Takes a packet. It may be held back until [`Self::flush`].
    fn packet(&mut self, packet: &Packet) -> io::Result<()>;

    /// Hands on all that was held back.
    fn flush(&mut self) -> io::Result<()>;
}
