//! `lbctl batch`

use std::path::PathBuf;

use clap::Args;
use clap::Parser;
use clap::Subcommand;

use super::DryRun;
use super::RealCommand;
use super::VipCommand;

#[derive(Debug, Args)]
pub(crate) struct BatchFile {
    /// The changes, one a line, as behind lbctl; # begins a comment; -: standard input
    #[arg(short = 'f', long = "file", value_name = "FILE")]
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) dry: DryRun,
}

/// A line of a batch.
#[derive(Debug, Parser)]
#[command(no_binary_name = true, disable_help_flag = true, disable_help_subcommand = true)]
pub(crate) struct BatchLine {
    #[command(subcommand)]
    pub(crate) change: Change,
}

/// What a line can be about.
#[derive(Debug, Subcommand)]
pub(crate) enum Change {
    #[command(subcommand, disable_help_flag = true, disable_help_subcommand = true)]
    Vip(VipCommand),
    #[command(subcommand, disable_help_flag = true, disable_help_subcommand = true)]
    Real(RealCommand),
}
