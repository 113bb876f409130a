//! GUE as bytes: IP in UDP, with a header between them or without one.

use super::abi;
use super::abi::consts;

/// The bytes of a header without fields and private data.
const HEADER: usize = 4;

/// The UDP ports that GUE goes to. What comes to other ports is not looked into.
///
/// The default is for packets of which nobody says where they are from: the default ports of both variants, which are
/// those of Katran and of GLB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuePorts {
    ports: [u16; Self::MOST],
    count: usize,
}

impl Default for GuePorts {
    fn default() -> Self {
        let ports = [consts::GUE_PORT, consts::GUE_PORT_V0];
        ports.into_iter().filter_map(|port| u16::try_from(port).ok()).collect()
    }
}

impl GuePorts {
    /// How many there may be: that of a balancer, and those that a host decapsulates.
    pub const MOST: usize = 1 + consts::DECAP_MAX_GUE_PORTS as usize;

    /// This port alone.
    pub fn only(port: u16) -> Self {
        std::iter::once(port).collect()
    }

    /// Where a balancer with these knobs sends it.
    pub(crate) fn of_knobs(knobs: &abi::knobs) -> Self {
        Self::only(u16::from_be(knobs.gue_port))
    }

    /// Whether GUE goes to this port.
    pub fn contains(self, port: u16) -> bool {
        self.each().any(|one| one == port)
    }

    /// The ports, each once.
    pub fn each(self) -> impl Iterator<Item = u16> {
        self.ports.into_iter().take(self.count)
    }
}

/// Takes the first [`GuePorts::MOST`] ports.
impl FromIterator<u16> for GuePorts {
    fn from_iter<T: IntoIterator<Item = u16>>(ports: T) -> Self {
        let mut all = Self { ports: [0; Self::MOST], count: 0 };
        for port in ports {
            if !all.contains(port) && all.count < Self::MOST {
                all.ports[all.count] = port;
                all.count += 1;
            }
        }
        all
    }
}

/// What the bytes behind a UDP header are, as GUE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gue<'a> {
    /// Variant 1: an IP packet, without a header.
    Packet,
    /// Variant 0.
    Header(GueHeader<'a>),
    /// A variant that nobody has defined, or neither IPv4 nor IPv6 in variant 1.
    Unknown {
        /// The first byte.
        first: u8,
    },
    /// There are too few bytes.
    Cut,
}

/// The header of variant 0 (draft-ietf-intarea-gue).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GueHeader<'a> {
    /// It is a control message, not a packet.
    pub(crate) control: bool,
    /// The protocol of what follows the header, or the type of the control message.
    pub(crate) protocol: u8,
    /// Which fields follow.
    pub(crate) flags: u16,
    /// Fields and private data, as far as they are there.
    pub(crate) more: &'a [u8],
    /// How long the header says it is, with both.
    pub(crate) length: usize,
}

/// Reads the bytes behind a UDP header.
pub(crate) fn read(payload: &[u8]) -> Gue<'_> {
    const VARIANT: u8 = 0xc0;
    const CONTROL: u8 = 0x20;
    const WORDS: u8 = 0x1f;
    let Some(&first) = payload.first() else { return Gue::Cut };
    // The variant is in the IP version's first two bits, which are 01 for 4 and 6.
    if matches!(first >> 4, 4 | 6) {
        return Gue::Packet;
    }
    if first & VARIANT != 0 {
        return Gue::Unknown { first };
    }
    let Some(&[_, protocol, high, low]) = payload.first_chunk() else { return Gue::Cut };
    let length = HEADER + 4 * usize::from(first & WORDS);
    let end = length.min(payload.len());
    Gue::Header(GueHeader {
        control: first & CONTROL != 0,
        protocol,
        flags: u16::from_be_bytes([high, low]),
        more: payload.get(HEADER..end).unwrap_or_default(),
        length,
    })
}

/// GLB's private data: to which other real a packet may go that this one does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NextHops<'a> {
    /// 0: addresses are IPv4's; 1: IPv6's.
    pub(crate) kind: u16,
    /// Which of them is next.
    pub(crate) next: u8,
    /// How many there are.
    pub(crate) count: u8,
    /// Their bytes.
    pub(crate) addresses: &'a [u8],
}

impl<'a> GueHeader<'a> {
    /// The private data, if it is GLB's.
    pub(crate) fn next_hops(&self) -> Option<NextHops<'a>> {
        const TYPES: [usize; 2] = [4, 16];
        let (&[high, low, next, count], addresses) = self.more.split_first_chunk()?;
        let kind = u16::from_be_bytes([high, low]);
        let each = TYPES.get(usize::from(kind))?;
        // With flags there are fields in front of it.
        let fits = self.flags == 0 && addresses.len() == each * usize::from(count);
        fits.then_some(NextHops { kind, next, count, addresses })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_each_beginning_is() {
        assert_eq!(read(&[0x45, 0]), Gue::Packet);
        assert_eq!(read(&[0x60]), Gue::Packet);
        for first in [0x50, 0x70, 0x80, 0xc5] {
            assert_eq!(read(&[first, 4, 0, 0]), Gue::Unknown { first });
        }
        for cut in [&[][..], &[0], &[0, 4, 0]] {
            assert_eq!(read(cut), Gue::Cut);
        }
        let Gue::Header(header) = read(&[0x22, 5, 0x80, 1, 9, 9, 9]) else { panic!("a header") };
        let expected =
            GueHeader { control: true, protocol: 5, flags: 0x8001, more: &[9, 9, 9], length: 12 };
        assert_eq!(header, expected);
        assert_eq!(header.next_hops(), None);
    }

    #[test]
    fn private_data_as_glb_has_it() {
        let of = |more| GueHeader { control: false, protocol: 4, flags: 0, more, length: 0 };
        let hops = |kind, next, count, addresses| Some(NextHops { kind, next, count, addresses });
        assert_eq!(of(&[0, 0, 0, 0]).next_hops(), hops(0, 0, 0, &[][..]));
        assert_eq!(of(&[0, 1, 0, 0]).next_hops(), hops(1, 0, 0, &[][..]));
        let two = [0, 0, 1, 2, 10, 0, 0, 1, 10, 0, 0, 2];
        assert_eq!(of(&two).next_hops(), hops(0, 1, 2, &two[4..]));
        // No room for what is said, and another type.
        for other in [&two[..8], &[0, 2, 0, 0][..], &[0, 0, 0], &[]] {
            assert_eq!(of(other).next_hops(), None);
        }
        assert_eq!(GueHeader { flags: 1, ..of(&[0, 0, 0, 0]) }.next_hops(), None);
    }

    #[test]
    fn ports() {
        assert_eq!(GuePorts::default().each().collect::<Vec<_>>(), [6080, 19523]);
        assert_eq!(GuePorts::only(7).each().collect::<Vec<_>>(), [7]);
        let many: GuePorts = [1, 2, 1, 3, 4, 5, 6].into_iter().collect();
        assert_eq!(many.each().collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
        assert!(many.contains(5) && !many.contains(6) && !many.contains(0));
    }
}
