//! Readings of what runs; they change nothing.

pub(crate) mod stats;
pub(crate) mod trace;
