//! `docs/config.schema.json`: what editors complete and check the file of a configuration by.
//!
//! It is made from the types that read the file: their keys, their values and their comments. What the types cannot say
//! comes from the same constants and lists that the checks use. So it is compiled for tests only, and one of them
//! compares it with the file.

mod made;
mod probes;
mod tests;
mod texts;

pub(crate) use texts::Listen;
pub(crate) use texts::Network;
pub(crate) use texts::Time;
