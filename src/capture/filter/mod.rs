//! tcpdump's filter language for XDP.
//!
//! libpcap compiles an expression, such as `tcp port 443 and host 192.0.2.1`, to classic BPF. This module translates
//! that to eBPF, so that the kernel decides, before the chain's other programs run and before anything is copied.
//!
//! ```no_run
//! use l4lb::capture::filter::{Exits, Filter, FilterScope, verdict};
//!
//! # fn main() -> Result<(), l4lb::capture::filter::FilterError> {
//! let filter = Filter::compile("tcp port 443", FilterScope::Frame, None)?;
//! let exits = Exits { on_match: verdict(1), otherwise: verdict(2) };
//! let program = filter.load("drop_https", &exits)?;
//! # Ok(()) }
//! ```
//!
//! The result is that of libpcap's own interpreter, with these exceptions:
//!
//! - all frames are incoming: `inbound` is true, `outbound` false, and `ifindex` is the interface that XDP runs on;
//! - VLAN tags are those in the frame: XDP does not see tags that a driver has removed;
//! - a filter reads only the first 64 KiB of a frame;
//! - a shift by a constant of 32 or more gives 0, which libpcap's interpreter leaves undefined;
//! - `protochain` follows up to 184 headers, more than a frame of 1514 bytes has room for, and fewer if an expression
//!   has several. libpcap's interpreter never ends on a chain that was forged to lead back to itself.

mod assembler;
mod classic;
mod exits;
mod flow;
mod inner;
mod registers;
mod translate;
mod unroll;

use std::fmt;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use assembler::TooFar;
pub(crate) use exits::follow;
pub(crate) use exits::program as whole_program;
pub use exits::tail_call;
pub use exits::verdict;

pub use crate::kernel::insn::Alu;
pub use crate::kernel::insn::Insn;
pub use crate::kernel::insn::Operand;
pub use crate::kernel::insn::Reg;
pub use crate::kernel::insn::Size;
pub use crate::kernel::insn::Test;
use crate::kernel::pcap;
pub use crate::kernel::pcap::ClassicInsn;
use crate::kernel::pcap::CompileError;
use crate::kernel::program;
pub use crate::model::error::FilterError;
use crate::model::gue::GuePorts;
use crate::model::text::quote;

/// What a filter looks at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FilterScope {
    /// The frame, from its Ethernet header on.
    #[default]
    Frame,
    /// The IP packet inside another one: directly behind an outer IPv4 or IPv6 header of protocol 4 or 41, or in GUE of
    /// either variant to a port of [`Filter::with_gue`]; behind at most two VLAN tags. Frames without one do not match,
    /// nor do later fragments of the outer packet. The expression
    /// is for packets without a link layer: libpcap refuses `ether` and `vlan`. `len` counts from the inner header to
    /// the end of the frame.
    Inner,
}

/// How a filter program continues after its decision. At the beginning of both pieces, R6 holds the context (`struct
/// xdp_md *`), and the other registers hold nothing.
#[derive(Clone, Debug)]
pub struct Exits {
    /// On a match. If the piece does not end the program, as [`tail_call`] without a program to call, it continues in
    /// `otherwise`.
    pub on_match: Vec<Insn>,
    /// On no match.
    pub otherwise: Vec<Insn>,
}

/// A filter in classic BPF, ready to be translated.
#[derive(Clone, Debug)]
pub struct Filter {
    /// Its name in messages.
    name: String,
    scope: FilterScope,
    /// What comes to these ports is GUE.
    gue: GuePorts,
    classic: Vec<ClassicInsn>,
    ops: Vec<classic::Op>,
}

/// The name of a filter that was not given as an expression.
const NAMELESS: &str = "in classic BPF";

/// How many characters of an expression messages show.
const MOST_SHOWN: usize = 100;

/// The longest expression, in bytes.
const MOST_EXPRESSION: usize = 8192;

/// How long libpcap may take.
const TIME_TO_COMPILE: Duration = Duration::from_secs(10);

/// An expression on one line, shortened if it is long.
fn shown(expression: &str) -> String {
    let line = expression.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MOST_SHOWN) {
        Some((end, _)) => format!("'{}…'", quote(&line[..end])),
        None => format!("'{}'", quote(&line)),
    }
}

/// Lets libpcap compile, for a limited time. Nothing can stop libpcap when it takes longer: it runs on until it is
/// done, which the limited length of the expression ensures, or until the process ends.
fn compile_in_time(
    expression: &str,
    linktype: i32,
    netmask: Option<Ipv4Addr>,
) -> Result<Vec<ClassicInsn>, CompileError> {
    if expression.len() > MOST_EXPRESSION {
        return Err(CompileError::Expression(format!(
            "it has {} bytes; {MOST_EXPRESSION} are supported: use 'net' in place of many a 'host'",
            expression.len()
        )));
    }
    let (sender, receiver) = mpsc::channel();
    let expression = expression.to_owned();
    thread::Builder::new()
        .name("l4lb-filter".to_owned())
        .spawn(move || sender.send(pcap::compile(&expression, linktype, netmask)))
        .map_err(|error| CompileError::Expression(format!("cannot start a thread: {error}")))?;
    receiver.recv_timeout(TIME_TO_COMPILE).unwrap_or_else(|_| {
        Err(CompileError::Expression(format!(
            "libpcap cannot compile it within {} s: use 'net' in place of many a 'host', 'portrange' in place of many \
             a 'port', and addresses in place of names",
            TIME_TO_COMPILE.as_secs()
        )))
    })
}

impl Filter {
    /// Compiles an expression of tcpdump's language, pcap-filter(7); an empty one matches everything.
    ///
    /// `netmask` is that of the interface's network, for `ip broadcast`; libpcap refuses `ip broadcast` without it.
    /// Names in the expression are looked up now, in the ways that the host is configured for. If hundreds of hosts or
    /// ports are joined by `or`, libpcap's optimiser takes seconds, as in tcpdump. After ten seconds that is an error,
    /// and so is an expression of more than 8192 bytes.
    pub fn compile(
        expression: &str,
        scope: FilterScope,
        netmask: Option<Ipv4Addr>,
    ) -> Result<Self, FilterError> {
        let linktype = match scope {
            FilterScope::Frame => pcap::DLT_EN10MB,
            FilterScope::Inner => pcap::DLT_RAW,
        };
        let name = shown(expression);
        match compile_in_time(expression, linktype, netmask) {
            Ok(program) => Self::new(name, program, scope),
            Err(CompileError::Expression(message)) => {
                Err(FilterError::Expression { filter: name, message })
            }
            Err(CompileError::NoLibpcap(why)) => Err(FilterError::NoLibpcap { filter: name, why }),
        }
    }

    /// Takes a program in classic BPF, for Ethernet frames or, with [`FilterScope::Inner`], for IP packets.
    pub fn from_classic(
        program: Vec<ClassicInsn>,
        scope: FilterScope,
    ) -> Result<Self, FilterError> {
        Self::new(NAMELESS.to_owned(), program, scope)
    }

    fn new(
        name: String,
        classic: Vec<ClassicInsn>,
        scope: FilterScope,
    ) -> Result<Self, FilterError> {
        match classic::decode(&classic, translate::limit(scope)).map(unroll::unroll) {
            Ok(ops) if flow::has_match(&ops) => {
                Ok(Self { name, scope, gue: GuePorts::default(), classic, ops })
            }
            Ok(_) => Err(FilterError::NeverMatches { filter: name }),
            Err(invalid) => Err(FilterError::Classic {
                filter: name,
                instruction: invalid.at,
                what: invalid.what,
            }),
        }
    }

    /// The same filter, which looks for the inner packet behind these ports.
    #[must_use]
    pub fn with_gue(self, gue: GuePorts) -> Self {
        Self { gue, ..self }
    }

    /// The program in classic BPF.
    pub fn classic(&self) -> &[ClassicInsn] {
        &self.classic
    }

    /// The XDP program in eBPF: it decides about a packet, then continues with one of the `exits`.
    pub fn translate(&self, exits: &Exits) -> Result<Vec<Insn>, FilterError> {
        translate::translate(&self.ops, self.scope, self.gue, exits).map_err(|TooFar| {
            FilterError::TooLong { filter: self.name.clone(), instructions: self.classic.len() }
        })
    }

    /// Loads the XDP program into the kernel. The kernel keeps 15 bytes of its `name`: letters, digits, `_` and `.`.
    /// Programs of the section `xdp` can tail-call it.
    pub fn load(&self, name: &str, exits: &Exits) -> Result<OwnedFd, FilterError> {
        let code = self.translate(exits)?;
        program::load_xdp(name, &code).map_err(|error| {
            tracing::debug!(target: "libbpf", "{}", error.log);
            let filter = self.name.clone();
            let why = last_word(&error.log);
            match error.source.raw_os_error() {
                // EFAULT: too many branches for the verifier to follow.
                Some(nix::libc::E2BIG | nix::libc::EFAULT) => {
                    FilterError::TooComplex { filter, instructions: self.classic.len(), why }
                }
                _ => FilterError::Load { filter, source: error.source, why },
            }
        })
    }
}

/// The line of the verifier's log that says what is wrong.
fn last_word(log: &str) -> String {
    let noise = ["processed ", "verification time", "stack depth", "mark_precise"];
    log.lines()
        .map(str::trim)
        .rfind(|line| !line.is_empty() && !noise.iter().any(|start| line.starts_with(start)))
        .unwrap_or_default()
        .to_owned()
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

#[cfg(test)]
mod tests;
