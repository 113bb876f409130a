//! Judgements: `lbctl doctor` and `status`, and the metrics.

pub(crate) mod doctor;
mod health;
mod health_metrics;
pub(crate) mod metrics;
pub(crate) mod mismatch;
pub(crate) mod prometheus;
mod scrape_memory;
pub(crate) mod status;
