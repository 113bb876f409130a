//! The verbs: what `lbctl` and other users of the library do with an instance.

pub(crate) mod apply;
pub(crate) mod carry_out;
pub mod chain;
pub mod decap;
pub(crate) mod down;
pub(crate) mod edit;
pub mod effects;
pub mod flows;
pub(crate) mod follow;
pub(crate) mod health;
pub(crate) mod healthcheck_path;
pub(crate) mod host;
pub(crate) mod make_plan;
pub(crate) mod mismatch;
pub(crate) mod node;
pub(crate) mod opened;
pub(crate) mod options;
pub(crate) mod own_host;
pub(crate) mod reals;
pub(crate) mod resolve;
pub(crate) mod save;
pub(crate) mod unchecked;
pub(crate) mod unserved;
pub(crate) mod unusable_checks;
