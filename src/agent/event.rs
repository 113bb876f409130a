//! What an agent tells whoever embeds it.

use std::fmt;

use crate::model::error::Error;

/// What an agent has come to. A service manager wants to hear of it; the log has the details.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// What was asked for is in place, and is followed from here on.
    Ready,
    /// A reload begins.
    Reloading,
    /// A reload has ended.
    Reloaded(&'a Outcome),
    /// The agent was told to stop, and ends. What is in the kernel goes on.
    Stopping,
}

/// How a reload has ended. Its text is one line.
#[derive(Debug)]
#[non_exhaustive]
pub enum Outcome {
    /// What was read is in force.
    Done,
    /// So it is, but metrics are not where the file says.
    MetricsElsewhere(Error),
    /// What was applied before is in force.
    Failed(Error),
    /// The addresses of the host are not followed everywhere.
    NotFollowed {
        /// Why not.
        why: String,
    },
}

impl Outcome {
    /// Whether all was done.
    pub fn is_done(&self) -> bool {
        matches!(self, Self::Done)
    }

    /// Why not all was done.
    pub(super) fn failure(&self) -> Option<String> {
        match self {
            Self::Done => None,
            Self::MetricsElsewhere(error) | Self::Failed(error) => Some(error.to_string()),
            Self::NotFollowed { why } => Some(why.clone()),
        }
    }

    /// Whether what was read is in force.
    pub(super) fn is_applied(&self) -> bool {
        matches!(self, Self::Done | Self::MetricsElsewhere(_))
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => f.write_str("reloaded"),
            Self::MetricsElsewhere(error) => write!(f, "reloaded, but for the metrics: {error}"),
            Self::Failed(error) => write!(f, "not reloaded: {error}"),
            Self::NotFollowed { why } => write!(f, "not reloaded: {why}"),
        }
    }
}
