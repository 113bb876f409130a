//! Judgements of what was read.

pub mod doctor;
pub mod health;
pub mod metrics;
pub(crate) mod readings;
pub(crate) mod status;
