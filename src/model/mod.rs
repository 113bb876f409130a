//! What all rooms know: facts, names and errors as data. Nothing in here asks the system.

pub(crate) mod cpu_list;
pub(crate) mod error;
pub(crate) mod flow_effect;
pub(crate) mod text;
pub(crate) mod interface;
pub(crate) mod next_hop;
