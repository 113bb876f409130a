//! What all rooms know: facts, names and errors as data. Nothing in here asks the system.

pub(crate) mod capture_points;
pub(crate) mod connection_tables;
pub(crate) mod cpu_list;
pub(crate) mod error;
pub(crate) mod flow_effect;
pub(crate) mod host;
pub(crate) mod interface;
pub(crate) mod lost_pins;
pub(crate) mod next_hop;
pub(crate) mod part;
pub(crate) mod secret;
pub(crate) mod table_cpus;
pub(crate) mod text;
pub(crate) mod vip_key;
pub(crate) mod vip_real;
