//! The options that every command has.

use std::path::PathBuf;

use clap::ArgAction;
use clap::Args;
use clap::builder::RangedU64ValueParser;
use l4lb::DEFAULT_BPFFS;
use l4lb::DEFAULT_INSTANCE;
use l4lb::DEFAULT_LOCK_TIMEOUT;

/// The heading of options that every command has.
const EVERYWHERE: &str = "Options of every command";

#[derive(Debug, Args)]
#[command(next_help_heading = EVERYWHERE)]
pub(crate) struct Global {
    /// The instance: several instances can run side by side, on different interfaces
    #[arg(long, global = true, default_value = DEFAULT_INSTANCE, value_name = "NAME",
          env = "LBCTL_INSTANCE", hide_env_values = true)]
    pub(crate) instance: String,

    /// Where the bpf filesystem is mounted
    #[arg(long, global = true, default_value = DEFAULT_BPFFS, value_name = "PATH",
          env = "LBCTL_BPFFS", hide_env_values = true)]
    pub(crate) bpffs: PathBuf,

    /// Ask the lbctl serve that listens at this socket, instead of the kernel [default: /run/l4lb/INSTANCE.sock for users
    /// who lack the rights to ask the kernel]
    #[arg(long, global = true, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,

    /// Mount the bpf filesystem if it is not mounted
    #[arg(long, global = true)]
    pub(crate) mount_bpffs: bool,

    /// How long to wait while another command changes the instance; 0: do not wait
    #[arg(long, global = true, value_name = "SECONDS",
          default_value_t = DEFAULT_LOCK_TIMEOUT.as_secs(),
          value_parser = RangedU64ValueParser::<u64>::new().range(0..=86400))]
    pub(crate) lock_timeout: u64,

    /// Print JSON, for programs
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// Log in more detail; twice: everything, also libbpf's messages and the verifier's log
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,

    /// Log errors only, no warnings
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
}

impl Global {
    /// What is logged, if the command line says so: a filter of `RUST_LOG`'s kind.
    pub(crate) fn log_filter(&self) -> Option<&'static str> {
        match (self.quiet, self.verbose) {
            (true, _) => Some("error"),
            (false, 0) => None,
            (false, 1) => Some("warn,l4lb=debug,lbctl=debug,libbpf=warn"),
            (false, _) => Some("info,l4lb=trace,lbctl=trace,libbpf=debug"),
        }
    }
}
