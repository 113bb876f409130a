//! Capturing packets on their way through the chain.

pub mod filter;
