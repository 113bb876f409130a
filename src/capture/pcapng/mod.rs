//! Captured packets as pcapng, for Wireshark, tshark, tcpdump and other readers.
//!
//! Each capture point of an interface is an interface of the file, such as `eth0@entry` and `eth0@exit`. It is
//! described when its first packet comes. Times are in nanoseconds. Each packet is an enhanced packet block with
//!
//! | option | |
//! | --- | --- |
//! | `opt_comment` | see below |
//! | `epb_flags` | outbound if the balancer sent it out (`XDP_TX`), else inbound |
//! | `epb_queue` | the receive queue |
//! | `epb_verdict` | at exit: the balancer's return value, as of kind "Linux eBPF XDP" |
//!
//! The **comment** consists of words `key=value`, separated by one space, always in this order. Keys without a value
//! are left out. The format is stable: scripts may parse it.
//!
//! ```text
//! verdict=tx reason=ring vip=tcp://10.200.1.1:80 real=10.0.0.1 at=exit cpu=0
//! verdict=pass reason=not_vip at=exit cpu=1
//! at=entry cpu=0
//! ```
//!
//! | key | value |
//! | --- | --- |
//! | `verdict` | `tx`, `drop` or `pass`; at exit only |
//! | `reason` | name of the [reason](crate::reasons); at exit only |
//! | `vip` | the VIP, if the packet was for one, as [`Vip`](crate::Vip) is written |
//! | `real` | the real's address, if it was sent to one |
//! | `at` | `entry` or `exit` |
//! | `cpu` | the CPU that ran the program |
//!
//! Wireshark's display filters for them: `frame.comment contains "reason=ring"`, `frame.interface_name == "eth0@exit"`,
//! `frame.interface_queue == 3`, `frame.verdict.ebpf_xdp == 3`.
//!
//! The file is little-endian on every machine.

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fmt::Write as _;
use std::fs::File;
use std::io;
use std::io::Seek as _;
use std::io::SeekFrom;
use std::io::Write;
use std::mem;
use std::path::Path;
use std::time::SystemTime;

use pcap_parser::EnhancedPacketBlock;
use pcap_parser::InterfaceDescriptionBlock;
use pcap_parser::InterfaceStatisticsBlock;
use pcap_parser::Linktype;
use pcap_parser::OptionCode;
use pcap_parser::PcapNGOption;
use pcap_parser::SectionHeaderBlock;
use pcap_parser::ToVec;

use super::packet::CapturePoint;
use super::packet::Packet;
use super::sink::Sink;
use crate::model::reason::Verdict;

/// `if_tsresol`: the negative power of ten that is the unit of times.
const NANOSECONDS: u8 = 9;

/// Options of enhanced packet blocks that pcap-parser has no names for.
const EPB_FLAGS: OptionCode = OptionCode(2);
const EPB_QUEUE: OptionCode = OptionCode(6);
const EPB_VERDICT: OptionCode = OptionCode(7);

/// The kind of `epb_verdict` that is an XDP program's return value.
const VERDICT_OF_XDP: u8 = 2;

/// `epb_flags`: the direction.
const INBOUND: u32 = 1;
const OUTBOUND: u32 = 2;

/// `if_filter`: what follows is an expression of tcpdump's language.
const FILTER_EXPRESSION: u8 = 0;

/// The section's length is not known before its end.
const UNKNOWN_LENGTH: i64 = -1;

/// How many bytes a [`BlockFile`] gathers before it writes.
const BUFFER: usize = 256 * 1024;

/// What the file says about the capture.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PcapngOptions {
    /// At most this many bytes of each packet were captured; 0: all.
    pub snaplen: u32,
    /// The filter, in tcpdump's language.
    pub filter: Option<String>,
}

/// What a capture counted at one capture point, for the statistics at the end of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PointCounts {
    /// Index of the interface.
    pub ifindex: u32,
    /// The capture point.
    pub at: CapturePoint,
    /// Packets that passed the filter and the sampling.
    pub matched: u64,
    /// Matched packets that were lost because the buffer was full.
    pub dropped: u64,
}

/// An interface of the file.
#[derive(Debug)]
struct Point {
    ifindex: u32,
    at: CapturePoint,
    name: String,
    packets: u64,
}

/// Writes packets as pcapng: see [the module](self).
///
/// Each block goes to the writer as one [`Write::write_all`], so that a writer knows where blocks end.
///
/// After a write has failed, nothing more is written: a reader could not tell a block that was cut off from the next
/// one.
///
/// ```
/// use l4lb::capture::pcapng::PcapngOptions;
/// use l4lb::capture::pcapng::PcapngWriter;
///
/// let options = PcapngOptions { snaplen: 96, filter: Some("tcp port 443".to_owned()) };
/// let mut file = PcapngWriter::new(Vec::new(), &options)?;
/// file.finish(&[])?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct PcapngWriter<W> {
    out: W,
    options: PcapngOptions,
    points: Vec<Point>,
    start: u64,
    failed: bool,
}

impl<W: Write> PcapngWriter<W> {
    /// Begins a file by writing its header.
    pub fn new(out: W, options: &PcapngOptions) -> io::Result<Self> {
        let mut header = vec![text(
            OptionCode::ShbUserAppl,
            concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION")),
        )];
        if let Ok(host) = nix::sys::utsname::uname() {
            let os = format!(
                "{} {}",
                host.sysname().to_string_lossy(),
                host.release().to_string_lossy()
            );
            header.push(text(OptionCode::ShbHardware, &host.machine().to_string_lossy()));
            header.push(text(OptionCode::ShbOs, &os));
        }
        let mut writer = Self {
            out,
            options: options.clone(),
            points: Vec::new(),
            start: nanoseconds(SystemTime::now()),
            failed: false,
        };
        // Types, lengths and versions are filled in when a block is serialized, here and below.
        writer.write(SectionHeaderBlock {
            block_type: 0,
            block_len1: 0,
            bom: 0,
            major_version: 0,
            minor_version: 0,
            section_len: UNKNOWN_LENGTH,
            options: header,
            block_len2: 0,
        })?;
        Ok(writer)
    }

    /// Ends the file with statistics of each interface, and flushes it. They say when the capture began and ended, how
    /// many packets there are, and what `counts` says. Interfaces without packets are not in the file.
    pub fn finish(&mut self, counts: &[PointCounts]) -> io::Result<()> {
        let end = nanoseconds(SystemTime::now());
        let (ts_high, ts_low) = halves(end);
        for id in 0..self.points.len() {
            let point = &self.points[id];
            let mut options = vec![
                option(OptionCode::IsbStartTime, time_bytes(self.start)),
                option(OptionCode::IsbEndTime, time_bytes(end)),
                option(OptionCode::IsbUsrDeliv, point.packets.to_le_bytes()),
            ];
            if let Some(counts) = counts
                .iter()
                .find(|counts| (counts.ifindex, counts.at) == (point.ifindex, point.at))
            {
                options.push(option(OptionCode::IsbFilterAccept, counts.matched.to_le_bytes()));
                options.push(option(OptionCode::IsbOsDrop, counts.dropped.to_le_bytes()));
            }
            self.write(InterfaceStatisticsBlock {
                block_type: 0,
                block_len1: 0,
                if_id: u32::try_from(id).map_err(io::Error::other)?,
                ts_high,
                ts_low,
                options,
                block_len2: 0,
            })?;
        }
        self.flush()
    }

    /// The writer.
    pub fn into_inner(self) -> W {
        self.out
    }

    /// The file's interface for a packet. A new one is described first.
    fn point(&mut self, packet: &Packet) -> io::Result<usize> {
        let name = packet.interface.as_str();
        let known = self.points.iter().position(|point| {
            point.ifindex == packet.ifindex && point.at == packet.at && point.name == name
        });
        let id = if let Some(known) = known {
            known
        } else {
            let (at, what) = match packet.at {
                CapturePoint::Entry => {
                    ("entry", "as packets come in, before the programs of the chain")
                }
                CapturePoint::Exit => ("exit", "as packets leave the balancer"),
            };
            let mut options = vec![
                text(OptionCode::IfName, &format!("{name}@{at}")),
                text(OptionCode::IfDescription, &format!("{name}: {what}")),
                option(OptionCode::IfTsresol, [NANOSECONDS]),
            ];
            if let Some(filter) = &self.options.filter {
                let mut value = vec![FILTER_EXPRESSION];
                value.extend_from_slice(filter.as_bytes());
                options.push(option(OptionCode::IfFilter, value));
            }
            let description = InterfaceDescriptionBlock {
                block_type: 0,
                block_len1: 0,
                linktype: Linktype::ETHERNET,
                reserved: 0,
                snaplen: self.options.snaplen,
                options,
                block_len2: 0,
                if_tsresol: NANOSECONDS,
                if_tsoffset: 0,
            };
            self.write(description)?;
            let name = name.to_owned();
            self.points.push(Point { ifindex: packet.ifindex, at: packet.at, name, packets: 0 });
            self.points.len() - 1
        };
        Ok(id)
    }

    fn write(&mut self, mut block: impl ToVec) -> io::Result<()> {
        if self.failed {
            return Err(io::Error::other("an earlier write failed"));
        }
        let bytes = block.to_vec().map_err(|error| io::Error::other(format!("{error:?}")))?;
        let written = self.out.write_all(&bytes);
        self.failed = written.is_err();
        written
    }
}

impl<W: Write> Sink for PcapngWriter<W> {
    fn packet(&mut self, packet: &Packet) -> io::Result<()> {
        let id = self.point(packet)?;
        let verdict = packet.decision.as_ref().map(|decision| decision.reason.verdict);
        let direction = if verdict == Some(Verdict::Tx) { OUTBOUND } else { INBOUND };
        let mut options = vec![
            text(OptionCode::Comment, &comment(packet)),
            option(EPB_FLAGS, direction.to_le_bytes()),
            option(EPB_QUEUE, packet.queue.to_le_bytes()),
        ];
        if let Some(verdict) = verdict {
            let mut value = vec![VERDICT_OF_XDP];
            value.extend_from_slice(&xdp_action(verdict).to_le_bytes());
            options.push(option(EPB_VERDICT, value));
        }
        let (ts_high, ts_low) = halves(nanoseconds(packet.time));
        let caplen = u32::try_from(packet.data.len()).map_err(io::Error::other)?;
        self.write(EnhancedPacketBlock {
            block_type: 0,
            block_len1: 0,
            if_id: u32::try_from(id).map_err(io::Error::other)?,
            ts_high,
            ts_low,
            caplen,
            // A frame is at least as long as the bytes that were captured.
            origlen: packet.length.max(caplen),
            data: &packet.data,
            options,
            block_len2: 0,
        })?;
        self.points[id].packets += 1;
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        let flushed = self.out.flush();
        self.failed |= flushed.is_err();
        flushed
    }
}

/// A regular file that always ends with a whole block. If the disk is full, the incomplete block is cut off.
///
/// It gathers blocks and writes them when there are enough, or at [`Write::flush`], but not when it is dropped.
#[derive(Debug)]
pub struct BlockFile {
    file: File,
    /// Where the last whole block ends.
    end: u64,
    buffer: Vec<u8>,
    /// Where blocks end in the buffer.
    ends: Vec<usize>,
}

/// A pcapng file on disk.
pub type PcapngFile = PcapngWriter<BlockFile>;

impl BlockFile {
    /// Creates a file, or empties an existing one.
    pub fn create(path: &Path) -> io::Result<Self> {
        Ok(Self {
            file: File::create(path)?,
            end: 0,
            buffer: Vec::with_capacity(BUFFER),
            ends: Vec::new(),
        })
    }

    /// Writes what is in the buffer. After an error, the file ends with the last whole block.
    fn write_buffer(&mut self) -> io::Result<()> {
        let buffer = mem::take(&mut self.buffer);
        let ends = mem::take(&mut self.ends);
        let mut written = 0;
        let mut result = Ok(());
        while result.is_ok() && written < buffer.len() {
            match self.file.write(&buffer[written..]) {
                Ok(0) => result = Err(io::ErrorKind::WriteZero.into()),
                Ok(bytes) => written += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => result = Err(error),
            }
        }
        let whole = ends.iter().rev().find(|end| **end <= written).copied().unwrap_or_default();
        self.end += whole as u64;
        if result.is_err() {
            // What was written to a device or a pipe cannot be taken back. Only the first error is returned.
            let _ = self.file.set_len(self.end);
            let _ = self.file.seek(SeekFrom::Start(self.end));
        }
        self.buffer = buffer;
        self.buffer.clear();
        result
    }
}

/// Each `write` is a block.
impl Write for BlockFile {
    fn write(&mut self, block: &[u8]) -> io::Result<usize> {
        if self.buffer.len() + block.len() > BUFFER {
            self.write_buffer()?;
        }
        self.buffer.extend_from_slice(block);
        self.ends.push(self.buffer.len());
        Ok(block.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.write_buffer()
    }
}

impl PcapngFile {
    /// Creates a file, or empties an existing one, and writes the header.
    pub fn create(path: &Path, options: &PcapngOptions) -> io::Result<Self> {
        let mut writer = Self::new(BlockFile::create(path)?, options)?;
        // A full disk is an error now, not when packets come.
        writer.flush()?;
        Ok(writer)
    }
}

/// What the comment of a packet says: see [the module](self).
fn comment(packet: &Packet) -> String {
    let mut comment = String::new();
    // Writing to a string does not fail.
    if let Some(decision) = &packet.decision {
        let _ =
            write!(comment, "verdict={} reason={} ", decision.reason.verdict, decision.reason.name);
        if let Some(vip) = decision.vip {
            let _ = write!(comment, "vip={vip} ");
        }
        if let Some(real) = decision.real {
            let _ = write!(comment, "real={real} ");
        }
    }
    let at = match packet.at {
        CapturePoint::Entry => "entry",
        CapturePoint::Exit => "exit",
    };
    let _ = write!(comment, "at={at} cpu={}", packet.cpu);
    comment
}

/// The kernel's names: `enum xdp_action`.
fn xdp_action(verdict: Verdict) -> u64 {
    match verdict {
        Verdict::Drop => 1,
        Verdict::Pass => 2,
        Verdict::Tx => 3,
    }
}

fn option(code: OptionCode, value: impl Into<Vec<u8>>) -> PcapNGOption<'static> {
    let mut value = value.into();
    value.truncate(usize::from(u16::MAX));
    PcapNGOption {
        code,
        len: u16::try_from(value.len()).unwrap_or(u16::MAX),
        value: Cow::Owned(value),
    }
}

/// Text of at most 65535 bytes; longer text is cut off at the end of a character.
fn text(code: OptionCode, text: &str) -> PcapNGOption<'static> {
    let mut end = text.len().min(usize::from(u16::MAX));
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    option(code, &text.as_bytes()[..end])
}

/// A time as blocks have it: the upper half, the lower half.
fn halves(nanoseconds: u64) -> (u32, u32) {
    #[expect(clippy::cast_possible_truncation, reason = "the lower half is what is asked for")]
    ((nanoseconds >> 32) as u32, nanoseconds as u32)
}

/// A time as options have it: also the upper half first, in either byte order.
fn time_bytes(nanoseconds: u64) -> [u8; 8] {
    nanoseconds.rotate_left(32).to_le_bytes()
}

/// Nanoseconds since 1970. A time that the format cannot hold becomes the nearest one that it can.
fn nanoseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
