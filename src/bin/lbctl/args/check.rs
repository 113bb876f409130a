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

    /// Print the JSON schema of the file, for editors that complete and check it, and check nothing
    #[arg(long, conflicts_with_all = ["strict", "file"])]
    pub(crate) schema: bool,
}
