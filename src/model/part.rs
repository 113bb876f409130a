//! The parts of an instance that a process can serve.

use std::fmt;

/// The default name of an instance.
pub const DEFAULT_INSTANCE: &str = "default";

/// What a process serves.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Part {
    /// The balancer: `lbctl serve`.
    Balancer,
    /// Decapsulation on this interface: `lbctl decap serve`.
    Decap(String),
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Balancer => f.write_str("the balancer"),
            Self::Decap(interface) => write!(f, "decapsulation on {interface}"),
        }
    }
}
