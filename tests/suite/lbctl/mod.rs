//! The command itself: what it takes and refuses, what it prints, and `lbctl serve`.

pub(crate) mod api;
pub(crate) mod check;
pub(crate) mod check_errors;
pub(crate) mod completions;
pub(crate) mod drift;
pub(crate) mod endpoint;
pub(crate) mod errors;
pub(crate) mod file_errors;
pub(crate) mod guard_rails;
pub(crate) mod hostile;
pub(crate) mod json;
pub(crate) mod lab;
pub(crate) mod logs;
pub(crate) mod man;
pub(crate) mod open_files;
mod page;
pub(crate) mod printing;
pub(crate) mod prompt;
pub(crate) mod readers;
pub(crate) mod reload;
pub(crate) mod serve;
pub(crate) mod serve_beside;
pub(crate) mod serving;
pub(crate) mod top;
pub(crate) mod typing;
pub(crate) mod units;
pub(crate) mod validation;
