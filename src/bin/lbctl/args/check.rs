//! `lbctl check`

use clap::Args;

use super::ConfigFile;

#[derive(Debug, Args)]
pub(crate) struct Check {
    #[command(flatten)]
    pub(crate) file: ConfigFile,

    /// Exit with 1 if there are warnings, too
    #[arg(long)]
    pub(crate) strict: bool,
}
