//! The facts about an interface of a balancer that its checks look at.

use std::collections::BTreeSet;

use super::Missing;
use super::report::Answer;
use crate::kernel::netlink::Channels;
use crate::kernel::netlink::Features;
use crate::kernel::netlink::LinkFacts;
use crate::kernel::queues::Interrupts;
use crate::model::address::Mac;
use crate::model::config::XdpMode;
use crate::observe::interfaces::InterfaceStatus;

/// The longest IP packet that native XDP takes in one page of 4096 bytes: 256 bytes before the frame and 320 behind it
/// are the kernel's, and the Ethernet header needs 14.
pub(super) const PAGE_MTU: u32 = 4096 - 256 - 320 - 14;

/// Whether l4lb's programs are on an interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Attachment {
    /// The instance does not serve it so far.
    #[default]
    NotYet,
    /// The instance should serve it, but the programs are not on it.
    Lost,
    /// The instance runs on it, in another network namespace.
    Elsewhere,
    Runs(XdpMode),
}

/// The other end of a veth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Peer {
    pub(super) name: String,
    pub(super) mtu: u32,
    /// Whether it runs an XDP program in native mode.
    pub(super) native_xdp: bool,
    /// How many transmit queues it has; `None`: it is in another network namespace.
    pub(super) tx_queues: Option<u32>,
    /// The offloads of senders at that end.
    pub(super) features: Result<Features, Missing>,
    /// What to put before a command to run it in the other end's namespace; `None`: that is not known.
    pub(super) shell: Option<String>,
}

/// Facts of an interface that a balancer serves, or is to serve.
#[derive(Clone, Debug)]
pub(super) struct Nic {
    pub(super) name: String,
    /// `None`: there is no such interface.
    pub(super) link: Option<LinkFacts>,
    pub(super) asked: XdpMode,
    pub(super) attachment: Attachment,
    /// Somebody else's program: the error of an apply, and the command that takes the program off.
    pub(super) foreign: Option<(String, Option<String>)>,
    /// The name of a card's driver, or the kind of a virtual interface.
    pub(super) driver: String,
    /// Whether the driver has native XDP.
    pub(super) native: Result<bool, Missing>,
    pub(super) features: Result<Features, Missing>,
    pub(super) channels: Result<Channels, Missing>,
    /// Its interrupts; `None`: it has none.
    pub(super) interrupts: Option<Interrupts>,
    pub(super) online: BTreeSet<u32>,
    /// VLAN interfaces on top of it.
    pub(super) vlans: Vec<String>,
    /// The other end of a veth; `None`: this is no veth.
    pub(super) peer: Option<Result<Peer, Missing>>,
    /// The gateway's MAC.
    pub(super) gateway: Result<Mac, Missing>,
    /// What the packet path was told: the gateway's MAC, the MTU, and the interface's own MACs.
    pub(super) told: Option<InterfaceStatus>,
    /// The longest IP packet that is balanced.
    pub(super) longest: u32,
    /// Bytes of the longest outer header that the reals need; 0: there are no reals.
    pub(super) overhead: u32,
    /// Whether there are IPv6 VIPs.
    pub(super) balances_v6: bool,
    /// How `lbctl` is called, without the instance.
    pub(super) lbctl: String,
    /// The command that brings the instance up to date with the host.
    pub(super) reapply: String,
}

impl Nic {
    /// Whether it runs in native mode, or an apply would try to.
    pub(super) fn wants_native(&self) -> bool {
        match self.attachment {
            Attachment::Runs(XdpMode::Generic)
            | Attachment::NotYet
            | Attachment::Lost
            | Attachment::Elsewhere => self.asked != XdpMode::Generic,
            Attachment::Runs(_) => true,
        }
    }

    /// Whether it runs in generic mode, or would.
    pub(super) fn is_generic(&self) -> bool {
        match self.attachment {
            Attachment::Runs(mode) => mode == XdpMode::Generic,
            Attachment::NotYet | Attachment::Lost | Attachment::Elsewhere => {
                self.asked == XdpMode::Generic
                    || (self.asked == XdpMode::Auto && self.native == Ok(false))
            }
        }
    }

    /// The interface's channels and the number of CPUs online; an error: the answer of a check that needs both.
    pub(super) fn channels_and_cpus(&self) -> Result<(&Channels, u32), Answer> {
        let channels = self.channels.as_ref().map_err(Missing::answer)?;
        if self.online.is_empty() {
            return Err(Answer::Unknown("without sysfs the CPUs cannot be listed".to_owned()));
        }
        Ok((channels, u32::try_from(self.online.len()).unwrap_or(u32::MAX)))
    }

    /// How much it hurts if native mode is not possible: an apply that asks for native mode fails.
    pub(super) fn refusal(&self) -> super::Severity {
        match self.asked {
            XdpMode::Native => super::Severity::Error,
            XdpMode::Auto | XdpMode::Generic => super::Severity::Warning,
        }
    }
}
