//! What all rooms know: facts, names and errors as data. Nothing in here asks the system.

pub(crate) mod flow_effect;
