//! Readings: what packets, tables, interfaces and memory are like now. Nothing in here changes anything.

pub(crate) mod decap;
pub(crate) mod interfaces;
pub(crate) mod memory;
pub(crate) mod recent;
pub(crate) mod tables;
pub(crate) mod vips;
