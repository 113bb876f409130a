//! Access to the kernel. Nothing in here knows the balancer.

pub(crate) mod bpf;
pub(crate) mod capabilities;
pub(crate) mod child;
pub(crate) mod clock;
pub(crate) mod ethtool;
pub(crate) mod executable;
pub(crate) mod host;
pub(crate) mod insn;
pub(crate) mod maps;
pub(crate) mod memory;
pub mod netlink;
pub(crate) mod nic;
pub(crate) mod objects;
pub(crate) mod open_files;
pub mod outside;
pub(crate) mod pcap;
pub(crate) mod perf;
pub(crate) mod print;
pub(crate) mod probe;
pub(crate) mod program;
pub(crate) mod queues;
pub(crate) mod rights;
pub(crate) mod source;
pub(crate) mod tc;
pub(crate) mod tcp;
pub(crate) mod test_run;
