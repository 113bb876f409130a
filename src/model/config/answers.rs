//! What a VIP answers itself.

use serde::Deserialize;
use serde::Serialize;

use crate::model::abi::consts;

/// `other_ports` of a VIP's address: what happens to TCP and UDP packets for ports that no VIP has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum OtherPorts {
    /// They are handed on, to the host's own sockets or to where the host forwards them.
    #[default]
    Pass,
    /// They are dropped.
    Drop,
    /// They are refused: TCP by a reset, UDP by "port unreachable".
    Reject,
}

/// `no_real` of a VIP: what happens to its packets while it has no usable real.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum NoReal {
    /// They are dropped: clients retry for a while.
    #[default]
    Drop,
    /// They are refused: TCP by a reset, UDP by "port unreachable".
    Reject,
}

/// `echo` of a VIP's address: when echo requests are answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Echo {
    /// At any time.
    #[default]
    Always,
    /// While one of the address's VIPs has a usable real.
    WhenUsable,
    /// Never.
    Never,
}

/// The two bits of `vip.flags` for a choice: 0 for none, else one more than its place in this list.
fn to_bits<T: PartialEq>(choices: &[T], shift: u32, choice: Option<&T>) -> u32 {
    let place = choice.and_then(|choice| choices.iter().position(|known| known == choice));
    place.and_then(|place| u32::try_from(place + 1).ok()).unwrap_or_default() << shift
}

fn from_bits<T: Copy>(choices: &[T], shift: u32, flags: u32) -> Option<T> {
    let number = (flags >> shift) & 3;
    choices.get((number as usize).checked_sub(1)?).copied()
}

const OTHER_PORTS: [OtherPorts; 3] = [OtherPorts::Pass, OtherPorts::Drop, OtherPorts::Reject];
const ECHO: [Echo; 3] = [Echo::Always, Echo::WhenUsable, Echo::Never];

const _: () = assert!(
    consts::OTHER_PORTS_PASS == 1
        && consts::OTHER_PORTS_DROP == 2
        && consts::OTHER_PORTS_REJECT == 3
        && consts::ECHO_ALWAYS == 1
        && consts::ECHO_WHEN_USABLE == 2
        && consts::ECHO_NEVER == 3
);

impl OtherPorts {
    /// The choice's bits of `vip.flags`.
    pub(crate) fn flags(choice: Option<Self>) -> u32 {
        to_bits(&OTHER_PORTS, consts::VIP_OTHER_PORTS_SHIFT, choice.as_ref())
    }

    pub(crate) fn from_flags(flags: u32) -> Option<Self> {
        from_bits(&OTHER_PORTS, consts::VIP_OTHER_PORTS_SHIFT, flags)
    }
}

impl Echo {
    /// The choice's bits of `vip.flags`.
    pub(crate) fn flags(choice: Option<Self>) -> u32 {
        to_bits(&ECHO, consts::VIP_ECHO_SHIFT, choice.as_ref())
    }

    pub(crate) fn from_flags(flags: u32) -> Option<Self> {
        from_bits(&ECHO, consts::VIP_ECHO_SHIFT, flags)
    }
}
