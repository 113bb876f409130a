//! Why there is no program for a filter of packets.

use std::io;

use strum::IntoStaticStr;
use strum::VariantNames;

/// Why there is no program for a filter. The text is one line.
#[derive(Debug, thiserror::Error, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "snake_case")]
#[non_exhaustive]
pub enum FilterError {
    /// libpcap refused the expression.
    #[error("filter {filter}: {message}")]
    Expression {
        /// The expression, quoted; a long one shortened.
        filter: String,
        /// What libpcap says.
        message: String,
    },

    /// libpcap, which compiles expressions, is not on this host, or cannot be loaded.
    #[error(
        "filter {filter}: libpcap, which compiles filters, cannot be loaded ({why}): install the package libpcap0.8 \
         (Debian, Ubuntu) or libpcap (other distributions); captures without a filter work without it"
    )]
    NoLibpcap {
        /// See [`Expression`](Self::Expression).
        filter: String,
        /// What the dynamic loader says of each name that libpcap has.
        why: String,
    },

    /// The classic program is not valid.
    #[error("filter {filter}: classic BPF instruction {instruction}: {what}")]
    Classic {
        /// See [`Expression`](Self::Expression).
        filter: String,
        /// Its index in the program, from 0.
        instruction: usize,
        /// What is wrong with it.
        what: &'static str,
    },

    /// No packet can match.
    #[error(
        "filter {filter}: no packet can match: XDP sees received frames only ('outbound' is never true), \
         and no more than 64 KiB of each"
    )]
    NeverMatches {
        /// See [`Expression`](Self::Expression).
        filter: String,
    },

    /// The program is too long for eBPF's jumps.
    #[error(
        "filter {filter}: too long ({instructions} instructions of classic BPF); use a shorter one, such as \
         'net' in place of many a 'host'"
    )]
    TooLong {
        /// See [`Expression`](Self::Expression).
        filter: String,
        /// How long libpcap's program is.
        instructions: usize,
    },

    /// The kernel's verifier gave up.
    #[error(
        "filter {filter}: too complex for the kernel's verifier ({instructions} instructions of classic \
         BPF: {why}); use a shorter one, such as 'net' in place of many a 'host'"
    )]
    TooComplex {
        /// See [`Expression`](Self::Expression).
        filter: String,
        /// How long libpcap's program is.
        instructions: usize,
        /// The verifier's last word.
        why: String,
    },

    /// The kernel refused the program.
    #[error(
        "filter {filter}: the kernel refused the program: {source}{} (the whole log: RUST_LOG=libbpf=debug)",
        and(why)
    )]
    Load {
        /// See [`Expression`](Self::Expression).
        filter: String,
        /// What it returned.
        source: io::Error,
        /// The verifier's last word, if it said one.
        why: String,
    },
}

fn and(why: &str) -> String {
    if why.is_empty() { String::new() } else { format!(": {why}") }
}
