//! Judgements of readings: doctor, status, the condition of an instance, metrics.

#[cfg(feature = "metrics")]
mod background;
pub mod condition;
pub mod doctor;
#[cfg(feature = "metrics")]
pub mod metrics;
#[cfg(feature = "agent")]
pub(crate) mod overview;
pub(crate) mod readings;
pub(crate) mod reals;
pub(crate) mod status;
