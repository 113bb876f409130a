//! An instance on its host: pins, the lock of its one writer, its namespace.

pub(crate) mod folders;
pub(crate) mod locks;
pub(crate) mod lost_pins;
pub(crate) mod namespaces;
