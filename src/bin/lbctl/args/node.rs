//! `lbctl node`

use std::time::Duration;

use clap::Args;
use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(crate) enum NodeCommand {
    /// Tell others that this balancer is about to go, and wait until they send it few packets
    ///
    /// /readyz is 503 from then on, so that routing takes traffic elsewhere; forwarding goes on. It lasts until `undrain`
    /// or `lbctl down`. Exit 0 when few packets come for VIPs, 1 at the timeout or by a signal.
    Drain(NodeDrain),
    /// End that: /readyz says again how the balancer is
    Undrain,
}

#[derive(Debug, Args)]
pub(crate) struct NodeDrain {
    /// Packets per second for VIPs that count as few
    #[arg(long, value_name = "PPS", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) below: u32,
    /// How long to wait at most
    #[arg(long, value_name = "TIME", value_parser = super::time, default_value = "10m")]
    pub(crate) timeout: Duration,
    /// Do not wait
    #[arg(long, conflicts_with_all = ["below", "timeout"])]
    pub(crate) no_wait: bool,
}
