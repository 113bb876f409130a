//! Frames for packet tests.
pub(crate) mod frame;
