//! Readings: what runs, as it is now.

pub(crate) mod interfaces;
pub(crate) mod memory;
pub(crate) mod recent;
pub(crate) mod tables;
pub(crate) mod vips;
