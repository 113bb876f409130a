//! Judgements of readings: doctor, status, the condition of an instance, metrics.

pub mod condition;
pub mod doctor;
#[cfg(feature = "metrics")]
pub mod metrics;
pub(crate) mod readings;
pub(crate) mod reals;
pub(crate) mod status;
