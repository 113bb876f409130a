//! How a configuration is applied.

/// What it means that an interface cannot be served: it is missing or down, its gateway is not found, it has another
/// program.
///
/// Of an interface that is served already, what was last known stays while its gateway does not answer, with a warning;
/// unless it is [`Self::Fail`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnUnserved {
    /// The rest is done: [`Plan::unserved`](crate::Plan::unserved) has those that are left out. An error, if the instance does not run and none
    /// of its interfaces can be served.
    #[default]
    LeaveOut,
    /// The same, also if none can be served: VIPs, program and maps are set up. For who calls [`Balancer::follow`](crate::Balancer::follow).
    Wait,
    /// An error: all or nothing.
    Fail,
}

/// How a configuration is applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ApplyOptions {
    /// What it means that an interface cannot be served.
    pub on_unserved: OnUnserved,
    /// The slot of the chain for the XDP program that an interface of the configuration has already; `None`:
    /// that is an error.
    pub adopt: Option<u32>,
    /// Whether established flows may break. Else a change that breaks some is [`Error::BreaksFlows`](crate::Error::BreaksFlows), one of which that
    /// cannot be found out [`Error::FlowsUnknown`](crate::Error::FlowsUnknown), and nothing is changed.
    pub allow_breaking: bool,
    /// `--repair`: whether the balancer may be taken down and set up anew, where somebody removed pins and the kernel
    /// has freed what they were of. For about a second no packet is balanced, and flows are forgotten. Without it,
    /// that is [`Error::LostPins`](crate::Error::LostPins). What is still held is pinned again in any case, without an interruption.
    pub repair: bool,
    /// Whether the default router that is in use stays while its route is there, also if it does not answer, as
    /// [`Balancer::follow`](crate::Balancer::follow) has it. Else whoever answers is taken, and may be of the other IP version. For who calls
    /// [`Balancer::follow`](crate::Balancer::follow).
    pub keep_gateways: bool,
}

impl From<OnUnserved> for ApplyOptions {
    fn from(on_unserved: OnUnserved) -> Self {
        Self { on_unserved, keep_gateways: on_unserved == OnUnserved::Wait, ..Self::default() }
    }
}
