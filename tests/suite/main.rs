//! The project's tests that need root: real programs, real maps, real packets, in namespaces of their own.
#![allow(missing_docs, dead_code, reason = "fixtures that not every test uses")]

mod budgets;
mod chain;
mod chain_decap;
mod checksums;
mod common;
mod control;
mod differential;
mod doctor;
mod dump;
mod dump_output;
mod endpoint;
mod errors;
mod file_errors;
mod filter;
mod flow_tables;
mod flows;
mod gateway;
mod interfaces;
mod kills;
mod leftovers;
mod many;
mod metrics;
mod model;
mod packets;
mod prometheus;
mod quickstart;
mod serve;
mod serve_beside;
mod stats;
mod status;
mod survive;
mod tables;
mod top;
mod trace;
mod traffic;
