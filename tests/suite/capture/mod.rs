//! Captures: what `lbctl dump` sees, what it prints and writes, and the filters in the kernel.

pub(crate) mod dump;
pub(crate) mod dump_output;
pub(crate) mod filter;
pub(crate) mod libpcap;
