//! Packets to trace, read from a capture file.

use std::io;
use std::io::Read;
use std::path::Path;

use pcap_parser::Block;
use pcap_parser::LegacyPcapReader;
use pcap_parser::Linktype;
use pcap_parser::PcapBlockOwned;
use pcap_parser::PcapError;
use pcap_parser::PcapNGReader;
use pcap_parser::nom;
use pcap_parser::parse_pcap_header;
use pcap_parser::parse_sectionheaderblock;
use pcap_parser::traits::PcapReaderIterator;

use super::packet::TracePacket;
use super::packet::TracePacketError;
use crate::kernel::outside::Input;
use crate::kernel::test_run::check_frame;
use crate::model::error::Error;

/// Bytes of a capture that one read takes.
const READ_AT_ONCE: usize = 1 << 20;

/// The longest block of a capture that is read; Wireshark has the same limit. Packets are shorter, but blocks of
/// names or of TLS secrets may be long.
const LONGEST_BLOCK: usize = 16 << 20;

impl TracePacket {
    /// Reads a frame from a capture: pcap or pcapng, of Ethernet. The first is number 1, as in Wireshark.
    pub fn read(file: &Path, number: u64) -> Result<Vec<u8>, TracePacketError> {
        let name = file.display().to_string();
        match Input::open(file) {
            Ok(input) => Self::read_from(input, &name, number),
            Err(source) => Err(TracePacketError::Capture { file: name, why: source.to_string() }),
        }
    }

    /// As [`Self::read`], from a capture that is already open, for example a pipe. `name` is for errors.
    ///
    /// Reads in pieces, and stops once it has the packet.
    pub fn read_from(
        input: impl Read + Send,
        name: &str,
        number: u64,
    ) -> Result<Vec<u8>, TracePacketError> {
        let error = |why: String| TracePacketError::Capture { file: name.to_owned(), why };
        match find(input, number) {
            Ok(Found::Frame { whole: true, bytes }) => match check_frame(&bytes) {
                Err(why @ (Error::FrameTooShort { .. } | Error::FrameTooLong { .. })) => {
                    Err(error(format!("packet {number}: {why}")))
                }
                // If the kernel cannot run a program for other reasons, the capture is not at fault.
                _ => Ok(bytes),
            },
            Ok(Found::Frame { whole: false, bytes }) => Err(error(format!(
                "packet {number} was captured only in part ({} bytes); capture whole packets",
                bytes.len()
            ))),
            Ok(Found::Only(count)) => {
                Err(error(format!("has {count} packets, and no number {number}")))
            }
            Ok(Found::OtherLink) => Err(error("not a capture of Ethernet frames".to_owned())),
            Err(why) => Err(error(why)),
        }
    }
}

enum Found {
    Frame {
        whole: bool,
        bytes: Vec<u8>,
    },
    /// The capture has only this many packets.
    Only(u64),
    OtherLink,
}

/// A packet as a block of the capture holds it.
struct Captured<'a> {
    interface: u32,
    length: u32,
    data: &'a [u8],
}

/// Opens a capture by its first bytes. The crate's own function reads twice before it returns a packet, and the first
/// read must return the whole header. A pipe may return less.
fn open<'a>(mut input: impl Read + Send + 'a) -> Result<Box<dyn PcapReaderIterator + 'a>, String> {
    let mut begun = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let (pcapng, pcap) = (parse_sectionheaderblock(&begun), parse_pcap_header(&begun));
        let (is_pcapng, is_pcap) = (pcapng.is_ok(), pcap.is_ok());
        // More bytes may still make it one of the two formats.
        let short = matches!(pcapng, Err(nom::Err::Incomplete(_)))
            || matches!(pcap, Err(nom::Err::Incomplete(_)));
        if is_pcapng || is_pcap {
            let input = io::Cursor::new(begun).chain(input);
            let unusable = |_| "cannot be read".to_owned();
            return if is_pcapng {
                let reader = PcapNGReader::new(READ_AT_ONCE, input).map_err(unusable)?;
                Ok(Box::new(reader))
            } else {
                let reader = LegacyPcapReader::new(READ_AT_ONCE, input).map_err(unusable)?;
                Ok(Box::new(reader))
            };
        }
        if !short || begun.len() >= READ_AT_ONCE {
            return Err("neither pcap nor pcapng".to_owned());
        }
        match input.read(&mut piece) {
            Ok(0) if begun.is_empty() => return Err("is empty".to_owned()),
            Ok(0) => return Err("neither pcap nor pcapng, or ends within its header".to_owned()),
            Ok(length) => begun.extend(&piece[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.to_string()),
        }
    }
}

/// Finds the packet of this number in a capture.
fn find(input: impl Read + Send, number: u64) -> Result<Found, String> {
    let mut reader = open(input)?;
    // A pcap file has only one link type.
    let mut links = Vec::new();
    let mut count = 0;
    let mut room = READ_AT_ONCE;
    loop {
        let exhausted = reader.reader_exhausted();
        let (used, block) = match reader.next() {
            Ok(next) => next,
            Err(PcapError::Eof) => return Ok(Found::Only(count)),
            // The block goes on after what was read so far.
            Err(PcapError::Incomplete(_)) if !exhausted => {
                reader.refill().map_err(|_| "cannot be read".to_owned())?;
                continue;
            }
            Err(PcapError::BufferTooSmall) if room < LONGEST_BLOCK => {
                room *= 2;
                reader.grow(room);
                continue;
            }
            Err(PcapError::BufferTooSmall) => {
                return Err(format!(
                    "the block after packet {count} is longer than {} MiB, and no packet is",
                    LONGEST_BLOCK >> 20
                ));
            }
            Err(PcapError::Incomplete(_) | PcapError::UnexpectedEof) => {
                return Err(format!("ends in the middle of the block after packet {count}"));
            }
            Err(_) => return Err(format!("is damaged after packet {count}")),
        };
        if let Some(Captured { interface, length, data }) = captured_in(block, &mut links) {
            count += 1;
            if count == number {
                return Ok(match links.get(interface as usize) {
                    Some(&Linktype::ETHERNET) => {
                        Found::Frame { whole: data.len() >= length as usize, bytes: data.to_vec() }
                    }
                    _ => Found::OtherLink,
                });
            }
        }
        reader.consume(used);
    }
}

/// The packet that a block holds, if it holds one. Notes the link type of each interface that a block describes.
fn captured_in<'b>(block: PcapBlockOwned<'b>, links: &mut Vec<Linktype>) -> Option<Captured<'b>> {
    match block {
        PcapBlockOwned::LegacyHeader(header) => {
            links.push(header.network);
            None
        }
        PcapBlockOwned::Legacy(packet) => {
            Some(Captured { interface: 0, length: packet.origlen, data: packet.data })
        }
        PcapBlockOwned::NG(Block::SectionHeader(_)) => {
            links.clear();
            None
        }
        PcapBlockOwned::NG(Block::InterfaceDescription(interface)) => {
            links.push(interface.linktype);
            None
        }
        PcapBlockOwned::NG(Block::EnhancedPacket(packet)) => Some(Captured {
            interface: packet.if_id,
            length: packet.origlen,
            data: packet.data.get(..packet.caplen as usize).unwrap_or(packet.data),
        }),
        PcapBlockOwned::NG(Block::SimplePacket(packet)) => {
            let length = packet.data.len().min(packet.origlen as usize);
            let data = packet.data.get(..length).unwrap_or_default();
            Some(Captured { interface: 0, length: packet.origlen, data })
        }
        PcapBlockOwned::NG(_) => None,
    }
}
