//! The addresses and ports of a packet, which a line shows once.

use std::fmt;
use std::fmt::Write as _;
use std::net::IpAddr;

/// The addresses and ports of a packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends {
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    /// Whether the line has them already: addresses come before extension headers, ports after them.
    written: bool,
    /// Whether the packet has more fragments. Then its length tells nothing about the whole.
    pub(super) fragment: bool,
}

impl Ends {
    pub(super) fn new(source: impl Into<IpAddr>, destination: impl Into<IpAddr>) -> Self {
        Self {
            source: source.into(),
            destination: destination.into(),
            written: false,
            fragment: false,
        }
    }

    /// Writes the addresses, unless the line has them already.
    pub(super) fn write(&mut self, line: &mut String) -> fmt::Result {
        if self.written {
            return Ok(());
        }
        self.written = true;
        write!(line, "{} > {}: ", self.source, self.destination)
    }

    /// Writes ports, and the addresses unless the line has them already. `None`: the ports were not captured.
    pub(super) fn write_ports(
        &mut self,
        line: &mut String,
        ports: Option<(u16, u16)>,
    ) -> fmt::Result {
        match ports {
            Some((source, destination)) if self.written => {
                write!(line, "{source} > {destination}: ")
            }
            Some((source, destination)) => {
                self.written = true;
                write!(line, "{}.{source} > {}.{destination}: ", self.source, self.destination)
            }
            None => self.write(line),
        }
    }
}
