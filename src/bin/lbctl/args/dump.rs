//! `lbctl dump`

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use clap::ArgAction;
use clap::Args;
use clap::ValueEnum;
use clap::builder::RangedU64ValueParser;
use l4lb::Reason;
use l4lb::Verdict;
use l4lb::Vip;
use l4lb::capture::CaptureOptions;
use l4lb::capture::DecisionFilter;
use l4lb::capture::Points;
use l4lb::capture::decode::Bytes;
use l4lb::capture::decode::LineOptions;
use l4lb::capture::decode::Style;
use l4lb::outside;
use l4lb::outside::MAX_CPUS;
use l4lb::reasons;

use super::addresses::address;
use super::time;

/// Capture points, on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum At {
    /// As packets come in, before any other program
    Entry,
    /// As packets leave the balancer, after encapsulation
    Exit,
    Both,
}

impl From<At> for Points {
    fn from(at: At) -> Self {
        match at {
            At::Entry => Self::Entry,
            At::Exit => Self::Exit,
            At::Both => Self::Both,
        }
    }
}

/// Verdicts, on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum VerdictArg {
    Tx,
    Drop,
    Pass,
}

impl From<VerdictArg> for Verdict {
    fn from(verdict: VerdictArg) -> Self {
        match verdict {
            VerdictArg::Tx => Self::Tx,
            VerdictArg::Drop => Self::Drop,
            VerdictArg::Pass => Self::Pass,
        }
    }
}

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "tcpdump has these switches")]
pub(crate) struct Dump {
    /// Which packets, in tcpdump's language (pcap-filter(7)) [default: all]
    #[arg(value_name = "EXPRESSION")]
    expression: Vec<String>,
    /// Where to capture [default: exit if a VIP, real, verdict or reason is named, else entry]
    #[arg(long, value_enum)]
    at: Option<At>,
    /// Apply the expression to the packet inside an encapsulated one
    #[arg(long, value_name = "EXPRESSION")]
    inner: Option<String>,
    /// Only packets that came in by this interface; any: all interfaces, the default
    #[arg(short, long, value_name = "NAME")]
    interface: Option<String>,
    /// Accepted because tcpdump has it: addresses and ports are always numbers
    #[arg(short = 'n', action = ArgAction::Count)]
    _numbers: u8,
    /// Show the Ethernet header
    #[arg(short = 'e')]
    link: bool,
    /// Show more of each packet: the fields of IP headers, whether checksums are right; twice: also of UDP in IPv4
    #[arg(short, action = ArgAction::Count)]
    verbose: u8,
    /// Show less of each packet
    #[arg(short, conflicts_with = "verbose")]
    quiet: bool,
    /// Show no time
    #[arg(short = 't')]
    no_time: bool,
    /// Show the bytes from the IP header on, as numbers
    #[arg(short = 'x', group = "bytes")]
    hex: bool,
    /// Show the bytes from the IP header on, as numbers and characters
    #[arg(short = 'X', group = "bytes")]
    hex_and_ascii: bool,
    /// Show the bytes from the IP header on, as characters
    #[arg(short = 'A', group = "bytes")]
    ascii: bool,
    /// Accepted because tcpdump has it: lines are printed as packets come
    #[arg(short = 'l')]
    _lines: bool,
    /// Accepted because tcpdump has it: packets are written as they come
    #[arg(short = 'U')]
    _unbuffered: bool,
    /// At exit: only packets for this VIP; may be repeated
    #[arg(long = "vip", value_name = "VIP")]
    vips: Vec<Vip>,
    /// At exit: only packets sent to this real; may be repeated
    #[arg(long = "real", value_name = "ADDRESS", value_parser = address)]
    reals: Vec<IpAddr>,
    /// At exit: only packets with this verdict; may be repeated
    #[arg(long = "verdict", value_enum, value_name = "VERDICT")]
    verdicts: Vec<VerdictArg>,
    /// At exit: only packets with this reason, such as `no_real`; may be repeated
    #[arg(long = "reason", value_name = "NAME", value_parser = reason)]
    reasons: Vec<&'static Reason>,
    /// Write pcapng to a file; -: to standard output
    #[arg(short, long, value_name = "FILE")]
    pub(crate) write: Option<PathBuf>,
    /// End after this many packets
    #[arg(short, long, value_name = "N", value_parser = RangedU64ValueParser::<u64>::new().range(1..))]
    pub(crate) count: Option<u64>,
    /// End after this time: 10s, 5m
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) duration: Option<Duration>,
    /// Copy at most this many bytes of each packet
    #[arg(short, long, value_name = "BYTES", default_value_t = CaptureOptions::MAX_SNAPLEN,
          hide_default_value = true,
          value_parser = RangedU64ValueParser::<u32>::new().range(1..=CaptureOptions::MAX_SNAPLEN.into()))]
    snaplen: u32,
    /// Copy a random share of the packets: 1/100
    #[arg(long, value_name = "1/N", value_parser = sample)]
    sample: Option<u32>,
    /// Only packets on these CPUs: 0-3,8
    #[arg(long = "cpu", value_name = "LIST", value_parser = cpu_list)]
    cpus: Option<CpuList>,
    /// Buffer for each CPU
    #[arg(long, value_name = "SIZE", default_value_t = ByteSize::b(CaptureOptions::DEFAULT_BUFFER),
          value_parser = buffer)]
    buffer: ByteSize,
}

impl Dump {
    pub(crate) fn writes_to_stdout(&self) -> bool {
        self.write.as_ref().is_some_and(|file| file.as_os_str() == "-")
    }

    /// What lines show.
    pub(crate) fn lines(&self) -> LineOptions {
        let bytes = match (self.hex, self.hex_and_ascii, self.ascii) {
            (true, ..) => Some(Bytes::Hex),
            (_, true, _) => Some(Bytes::HexAndAscii),
            (.., true) => Some(Bytes::Ascii),
            _ => None,
        };
        LineOptions {
            interface: self.interface.as_ref().is_none_or(|interface| interface == "any"),
            no_time: self.no_time,
            style: Style { link: self.link, quick: self.quiet, verbose: self.verbose },
            bytes,
            ..LineOptions::default()
        }
    }

    pub(crate) fn options(&self) -> CaptureOptions {
        let mut decision = DecisionFilter::default();
        decision.vips = self.vips.iter().copied().collect();
        decision.reals = self.reals.iter().copied().collect();
        decision.verdicts = self.verdicts.iter().copied().map(Verdict::from).collect();
        decision.reasons.clone_from(&self.reasons);
        // What is decided about a packet is known at exit only.
        let default = if decision == DecisionFilter::default() { At::Entry } else { At::Exit };
        let mut options = CaptureOptions::default();
        options.at = self.at.unwrap_or(default).into();
        // Words are joined into one expression, as tcpdump does.
        options.filter = self.expression.join(" ");
        options.inner.clone_from(&self.inner);
        options.interface = self.interface.clone().filter(|interface| interface != "any");
        options.decision = decision;
        options.snaplen = self.snaplen;
        options.one_of = self.sample.unwrap_or(1);
        options.cpus = self.cpus.as_ref().map(|CpuList(cpus)| cpus.clone());
        options.buffer = self.buffer.as_u64();
        options
    }
}

fn reason(name: &str) -> Result<&'static Reason, String> {
    let names = || reasons().iter().map(|reason| reason.name).collect::<Vec<_>>().join(", ");
    let found = reasons().iter().find(|reason| reason.name == name);
    found.ok_or_else(|| format!("there is no such reason; there are {}", names()))
}

fn sample(text: &str) -> Result<u32, String> {
    let one_of = text.strip_prefix("1/").and_then(|n| n.parse().ok()).filter(|n| *n != 0);
    one_of.ok_or_else(|| "write it as 1/N, such as 1/100".to_owned())
}

#[derive(Clone, Debug)]
pub(crate) struct CpuList(BTreeSet<u32>);

fn cpu_list(text: &str) -> Result<CpuList, String> {
    let list = outside::cpu_list(text, MAX_CPUS).filter(|cpus| !cpus.is_empty());
    list.map(CpuList).ok_or_else(|| {
        format!("write a list of CPUs, such as 0-3,8; the highest possible CPU is {}", MAX_CPUS - 1)
    })
}

fn buffer(text: &str) -> Result<ByteSize, String> {
    let [least, most] = CaptureOptions::BUFFERS;
    let size: ByteSize = text.parse().map_err(|_| "write a size, such as 16MiB".to_owned())?;
    if (least..=most).contains(&size.as_u64()) {
        return Ok(size);
    }
    Err(format!("it must be {} to {}", ByteSize::b(least), ByteSize::b(most)))
}
