//! Readings: what runs is read, and nothing is changed.

pub(crate) mod stats;
pub(crate) mod trace;
