//! `quic`: a packet of an unknown version is answered with Version Negotiation.
//!
//! Every server of QUIC must answer a long header of a version that it does not know, if the datagram is long enough
//! (RFC 9000, sections 5.2.2 and 6). The answer's form is the same for all versions (RFC 8999, section 6). Nothing is
//! encrypted, and the server keeps no state.

use super::connect;
use super::failure::Failure;
use super::failure::Success;
use super::report::Class;
use super::session::Session;
use super::udp;

/// The shortest datagram that a server must answer (RFC 9000, section 14.1).
const DATAGRAM: usize = 1200;

/// A version that is reserved so that nobody knows it: `0x?a?a?a?a` (RFC 9000, section 15).
const RESERVED_VERSION: u32 = 0x4a6a_1a2a;

/// Bytes of either connection id. Servers must take 8 to 20 for the one they are sent to (RFC 9000, section 7.2).
const ID: usize = 8;

/// What is sent, and what the answer must repeat.
#[derive(Debug)]
struct Asked {
    destination: [u8; ID],
    source: [u8; ID],
}

/// How many datagrams that are no answer are looked at.
const MAX_STRANGE: usize = 64;

pub(super) async fn run(session: &mut Session) -> Result<Success, Failure> {
    let asked = Asked::random()?;
    let socket = connect::udp(session)?;
    session.wait_for("no Version Negotiation");
    udp::send(session, &socket, &asked.datagram()).await?;
    let mut buffer = vec![0; udp::MAX_DATAGRAM];
    for _ in 0..MAX_STRANGE {
        let length = udp::receive(session.target, &socket, &mut buffer).await?;
        let Some(versions) = asked.versions(&buffer[..length]) else {
            session.step("ignored", || format!("{length} bytes that are no answer"));
            continue;
        };
        let names: Vec<_> =
            versions.iter().take(8).map(|version| format!("{version:#x}")).collect();
        session.step("versions", || names.join(", "));
        return Ok(Success::new("Version Negotiation"));
    }
    Err(Failure::new(Class::Protocol, format!("{MAX_STRANGE} datagrams, none an answer")))
}

impl Asked {
    fn random() -> Result<Self, Failure> {
        let mut ids = [0; 2 * ID];
        getrandom::fill(&mut ids).map_err(|_| Failure::local("this host has no random numbers"))?;
        let (mut destination, mut source) = ([0; ID], [0; ID]);
        destination.copy_from_slice(&ids[..ID]);
        source.copy_from_slice(&ids[ID..]);
        Ok(Self { destination, source })
    }

    /// A long header, and zeros that nobody reads: their meaning depends on the version.
    fn datagram(&self) -> [u8; DATAGRAM] {
        let mut datagram = [0; DATAGRAM];
        let header = [
            // Long header, with the bit that routers and servers expect from QUIC.
            &[0xc0][..],
            &RESERVED_VERSION.to_be_bytes(),
            &[ID.to_le_bytes()[0]],
            &self.destination,
            &[ID.to_le_bytes()[0]],
            &self.source,
        ]
        .concat();
        datagram[..header.len()].copy_from_slice(&header);
        datagram
    }

    /// The versions that an answer offers; `None` if it is no answer to this.
    fn versions(&self, datagram: &[u8]) -> Option<Vec<u32>> {
        let (first, rest) = datagram.split_first()?;
        let rest = rest.strip_prefix(&[0; 4]).filter(|_| first & 0x80 != 0)?;
        // The ids of the answer are those of the question, the other way round.
        let rest = rest.strip_prefix(&[ID.to_le_bytes()[0]])?.strip_prefix(&self.source)?;
        let rest = rest.strip_prefix(&[ID.to_le_bytes()[0]])?.strip_prefix(&self.destination)?;
        let (versions, []) = rest.as_chunks() else { return None };
        let versions: Vec<_> = versions.iter().copied().map(u32::from_be_bytes).collect();
        (!versions.is_empty() && !versions.contains(&RESERVED_VERSION)).then_some(versions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_answer_to_the_question_counts() {
        let asked = Asked { destination: *b"12345678", source: *b"abcdefgh" };
        let answer = |first: u8, version: u32, ids: &[u8], versions: &[u8]| {
            [&[first][..], &version.to_be_bytes(), ids, versions].concat()
        };
        let (ids, one) = (b"\x08abcdefgh\x0812345678", &1_u32.to_be_bytes()[..]);
        assert_eq!(asked.versions(&answer(0x80, 0, ids, one)), Some(vec![1]));
        assert_eq!(asked.versions(&answer(0xff, 0, ids, &[one, one].concat())), Some(vec![1, 1]));
        for wrong in [
            answer(0x40, 0, ids, one),
            answer(0x80, 1, ids, one),
            answer(0x80, 0, b"\x0812345678\x08abcdefgh", one),
            answer(0x80, 0, b"\x08abcdefgX\x0812345678", one),
            answer(0x80, 0, b"\x08abcdefgh\x0012345678", one),
            answer(0x80, 0, ids, &[]),
            answer(0x80, 0, ids, &[0, 0, 0]),
            answer(0x80, 0, ids, &RESERVED_VERSION.to_be_bytes()),
            Vec::new(),
        ] {
            assert_eq!(asked.versions(&wrong), None, "{wrong:02x?}");
        }
        assert_eq!(asked.datagram()[..6], [0xc0, 0x4a, 0x6a, 0x1a, 0x2a, 8]);
    }
}
