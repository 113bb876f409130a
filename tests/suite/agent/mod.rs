//! What `lbctl serve` does by itself.

pub(crate) mod checks;
