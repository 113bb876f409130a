//! One file per command, or per family of commands.

pub(crate) mod batch;
pub(crate) mod chain;
pub(crate) mod check;
pub(crate) mod complete;
mod config_file;
pub(crate) mod decap;
pub(crate) mod doctor;
pub(crate) mod dump;
mod edits;
pub(crate) mod flows;
pub(crate) mod instances;
pub(crate) mod lab;
pub(crate) mod man;
pub(crate) mod node;
pub(crate) mod plan;
pub(crate) mod probe;
pub(crate) mod progress;
pub(crate) mod real;
pub(crate) mod reload;
pub(crate) mod serve;
pub(crate) mod state;
pub(crate) mod stats;
pub(crate) mod status;
pub(crate) mod test;
pub(crate) mod top;
pub(crate) mod trace;
pub(crate) mod vip;
