//! The verbs: what `lbctl` and those who embed the library do with an instance.

pub(crate) mod host;
