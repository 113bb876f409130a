//! How a configuration is applied.

/// What to do about an interface that cannot be served: it is missing or down, its gateway does not answer, or it has
/// another program.
///
/// While the gateway of an interface that is already served does not answer, its last known MAC stays, with a warning;
/// except with [`Self::Fail`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnUnserved {
    /// Do the rest: [`Plan::unserved`](crate::Plan::unserved) has the interfaces that are left out. It is an error if
    /// the instance does not run and none of its interfaces can be served.
    #[default]
    LeaveOut,
    /// The same, even if none can be served: VIPs, program and maps are set up. For callers of
    /// [`Balancer::follow`](crate::Balancer::follow).
    Wait,
    /// An error: all or nothing.
    Fail,
}

/// How a configuration is applied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
#[expect(clippy::struct_excessive_bools, reason = "each answers a question of its own")]
pub struct ApplyOptions {
    /// What to do about an interface that cannot be served.
    pub on_unserved: OnUnserved,
    /// The slot of the chain for the XDP program that an interface of the configuration has already; `None`:
    /// that is an error.
    pub adopt: Option<u32>,
    /// Whether established flows may break. If not, a change that breaks some is
    /// [`Error::BreaksFlows`](crate::Error::BreaksFlows), a change whose effect cannot be found out is
    /// [`Error::FlowsUnknown`](crate::Error::FlowsUnknown), and nothing is changed.
    pub allow_breaking: bool,
    /// `--repair`: whether apply may take the balancer down and set it up anew, if somebody removed pins and the kernel
    /// has freed the objects. For about a second no packet is balanced, and flows are forgotten. Without it, that is
    /// [`Error::LostPins`](crate::Error::LostPins). Objects that something still holds are always pinned again, without
    /// an interruption.
    pub repair: bool,
    /// Whether the default router in use stays while its route is there, even if it does not answer, as in
    /// [`Balancer::follow`](crate::Balancer::follow). If not, the first router that answers is taken, even of the other
    /// IP version. For callers of [`Balancer::follow`](crate::Balancer::follow).
    pub keep_gateways: bool,
    /// Whether to refuse a configuration that removes more than half of the VIPs, or of the reals, and more than two, as
    /// [`Error::RemovesMuch`](crate::Error::RemovesMuch): a file that was cut off does that.
    pub refuse_removals: bool,
    /// The [digest](crate::Plan::digest) of the plan that may be carried out; another one that
    /// changes anything is [`Error::OtherPlan`](crate::Error::OtherPlan). `None`: any plan may be.
    pub expected: Option<String>,
}

impl From<OnUnserved> for ApplyOptions {
    fn from(on_unserved: OnUnserved) -> Self {
        Self { on_unserved, keep_gateways: on_unserved == OnUnserved::Wait, ..Self::default() }
    }
}
