//! The project's tests that need root: real programs, real maps, real packets, in namespaces of their own.
#![allow(missing_docs, dead_code, reason = "fixtures that not every test uses")]

mod agent;
mod bench;
mod capture;
mod control;
mod dataplane;
mod docs;
mod fixtures;
mod instance;
mod lbctl;
mod observe;
mod packets;
mod probe;
mod report;
