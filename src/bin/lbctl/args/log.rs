//! How a command that keeps running writes its log.

use clap::Args;
use clap::ValueEnum;

use super::Command;
use super::DecapCommand;

/// The form of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// Journal if standard error is a socket of journald, otherwise text
    #[default]
    Auto,
    /// Lines for people, with the time if they go to a terminal
    Text,
    /// An object a line: time, level, target, message, fields
    Json,
    /// Lines that begin with their priority, such as <4>, for journald
    Journal,
}

#[derive(Debug, Args)]
pub(crate) struct Log {
    /// How the log on standard error is written
    #[arg(long, value_enum, default_value_t = LogFormat::Auto)]
    pub(crate) log_format: LogFormat,
}

impl Command {
    /// How it logs, and whether it keeps running.
    pub(crate) fn log(&self) -> (LogFormat, bool) {
        match self {
            Self::Serve(args) => (args.log.log_format, true),
            Self::Decap(DecapCommand::Serve(args)) => (args.log.log_format, true),
            _ => (LogFormat::Auto, false),
        }
    }
}
