//! Readings: what packets, tables, interfaces and memory are like now. Nothing in this room changes anything.

pub(crate) mod chain;
pub(crate) mod decap;
pub(crate) mod flood_guard;
pub(crate) mod gue_refused;
pub(crate) mod health;
pub(crate) mod health_summary;
pub(crate) mod interfaces;
pub(crate) mod memory;
pub mod packet_test;
pub(crate) mod rates;
pub(crate) mod readiness;
pub(crate) mod recent;
pub(crate) mod rings;
pub(crate) mod stats;
pub(crate) mod table_cpus;
pub(crate) mod tables;
pub mod trace;
pub(crate) mod tunnel_loop;
pub(crate) mod tunnel_refused;
pub(crate) mod versions;
pub(crate) mod vips;
