//! Checks of reals: they run for as long as the agent does, and what follows from them goes to the instance.
//!
//! [`Checks`] runs any number of [`Target`]s, and gives what changes to a [`Sink`]. The agent takes the targets from the
//! instance and has a sink that writes there; a program that embeds this can have its own. One task decides everything,
//! so there are no locks; each run of a check is a task, and the sink is called on a thread that may block.
//!
//! ```text
//! instance ─► link: once a second, what is to be checked and what is known
//!               │ targets
//!               ▼
//!             engine ─► timetable: when which check starts; spread, at most so many at a time, never one twice
//!               │ ▲        │
//!               │ └── probe::run, a task each
//!               ▼
//!             book: a judge for each real of each VIP (model/health): what changes
//!               │ 100 ms after the first change, all of them together
//!               ▼
//!             sink: one write to the instance, then log lines and `[notify]`
//! ```

mod book;
mod change;
mod engine;
mod job;
mod link;
mod metrics;
mod notify;
mod random;
#[cfg(test)]
mod tests;

pub use change::Change;
pub use engine::Checks;
pub use engine::Run;
pub use engine::Sink;
pub use job::Target;
pub(super) use link::Following;
pub use metrics::CheckMetrics;
pub(super) use notify::Notifier;
