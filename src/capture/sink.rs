//! Where captured packets go.

use std::io;

use super::packet::Packet;

/// Takes captured packets, to print them or to write them to a file.
pub trait Sink {
    /// Takes a packet. It may be buffered until [`Self::flush`].
    fn packet(&mut self, packet: &Packet) -> io::Result<()>;

    /// Writes everything that is buffered.
    fn flush(&mut self) -> io::Result<()>;
}
