//! Judgements of readings: doctor, status, the health of an instance, metrics.

pub mod doctor;
pub mod health;
pub mod metrics;
pub(crate) mod readings;
pub(crate) mod status;
