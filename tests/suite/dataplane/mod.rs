//! What the programs in the kernel do with packets, and what their maps hold.

pub(crate) mod budgets;
pub(crate) mod counters;
pub(crate) mod cross_site;
pub(crate) mod flow_tables;
pub(crate) mod macs;
pub(crate) mod many;
pub(crate) mod refusals;
pub(crate) mod selection;
pub(crate) mod survive;
pub(crate) mod tables;
pub(crate) mod traffic;
pub(crate) mod ways;
