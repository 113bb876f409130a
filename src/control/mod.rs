//! The verbs: what `lbctl` and those who embed the library do with an instance.

pub(crate) mod apply;
pub(crate) mod edit;
pub(crate) mod host;
pub(crate) mod make_plan;
pub(crate) mod options;
pub(crate) mod resolve;
pub(crate) mod save;
