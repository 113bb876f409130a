//! The events of an agent.

use std::fmt;

use crate::model::error::Error;

/// An event of an agent, for a service manager. The log has the details.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// What was asked for is in place, and the agent follows it from here on.
    Ready,
    /// The agent's loop has come round: it looks at the host, or serves somebody, at least every few seconds, unless it
    /// waits for the lock of the instance or is at work. If it hangs, this does not come.
    Alive,
    /// A reload begins.
    Reloading,
    /// A reload has ended.
    Reloaded(&'a Outcome),
    /// What is not as the file says has changed since the last event, without a reload: another command has applied the file,
    /// or the file on disk is another. `None`: all is as it says.
    Noted(Option<&'a str>),
    /// The agent was told to stop, and ends. The kernel goes on forwarding or decapsulating.
    Stopping,
}

/// How a reload has ended. Its text is one line.
#[derive(Debug)]
#[non_exhaustive]
pub enum Outcome {
    /// The new settings are in force.
    Done,
    /// The new settings are in force, but metrics are not where the file says.
    MetricsElsewhere(Error),
    /// The new settings are in force, but the control API is not where the file says.
    ControlElsewhere(Error),
    /// The former settings are in force.
    Failed(Error),
    /// The host's addresses are not in force everywhere.
    NotFollowed {
        /// Why not.
        why: String,
    },
}

impl Outcome {
    /// Whether everything was done.
    pub fn is_done(&self) -> bool {
        matches!(self, Self::Done)
    }

    /// Why not everything was done.
    pub(super) fn failure(&self) -> Option<String> {
        match self {
            Self::Done => None,
            Self::MetricsElsewhere(error) | Self::ControlElsewhere(error) | Self::Failed(error) => {
                Some(error.to_string())
            }
            Self::NotFollowed { why } => Some(why.clone()),
        }
    }

    /// Whether the new settings are in force.
    pub(super) fn is_applied(&self) -> bool {
        matches!(self, Self::Done | Self::MetricsElsewhere(_) | Self::ControlElsewhere(_))
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => f.write_str("reloaded"),
            Self::MetricsElsewhere(error) => write!(f, "reloaded, but for the metrics: {error}"),
            Self::ControlElsewhere(error) => {
                write!(f, "reloaded, but for the control API: {error}")
            }
            Self::Failed(error) => write!(f, "not reloaded: {error}"),
            Self::NotFollowed { why } => write!(f, "not reloaded: {why}"),
        }
    }
}
