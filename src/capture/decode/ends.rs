//! Who packets are from and for, as a line tells it once.

use std::fmt;
use std::fmt::Write as _;
use std::net::IpAddr;

/// Who a packet is from and for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends {
    pub(super) source: IpAddr,
    destination: IpAddr,
    /// The line has them already: extension headers are written behind the addresses, the ports behind those.
    written: bool,
    /// Whether there are more fragments of the packet, so that its length tells nothing.
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

    /// Writes the addresses, unless they are there.
    pub(super) fn write(&mut self, line: &mut String) -> fmt::Result {
        if self.written {
            return Ok(());
        }
        self.written = true;
        write!(line, "{} > {}: ", self.source, self.destination)
    }

    /// Writes ports, with the addresses unless those are there. `None`: the ports were not captured.
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
