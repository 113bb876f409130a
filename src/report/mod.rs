//! Judgements of what was read.

pub(crate) mod readings;
