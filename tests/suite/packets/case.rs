//! A case: a frame, how it ends, and what leaves.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use etherparse::Ipv4Header;
use serde::Serialize;

use super::config::ConfigText;
use crate::fixtures::frame::Frame;

/// The next hop in every configuration: what goes to a real carries its MAC address.
pub(crate) const GATEWAY: [u8; 6] = [0x02, 0, 0, 0, 0, 0xfe];

/// A file of cases. They run in order on one balancer: later ones meet the flows of earlier ones.
#[derive(Debug)]
pub(crate) struct File {
    /// Without `.json`.
    pub(crate) name: &'static str,
    pub(crate) config: ConfigText,
    pub(crate) cases: Vec<Case>,
}

/// One frame, in the terms of the file's format.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) action: &'static str,
    pub(crate) reason: &'static str,
    #[serde(serialize_with = "base64")]
    pub(crate) input: Vec<u8>,
    #[serde(serialize_with = "base64_or_nothing", skip_serializing_if = "Option::is_none")]
    pub(crate) output: Option<Vec<u8>>,
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) metadata: u32,
    #[serde(skip_serializing_if = "is_one")]
    pub(crate) repeat: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "how serde calls it")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "how serde calls it")]
fn is_one(number: &u32) -> bool {
    *number == 1
}

fn base64<S: serde::Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&BASE64.encode(bytes))
}

#[expect(clippy::ref_option, reason = "how serde calls it")]
fn base64_or_nothing<S: serde::Serializer>(
    bytes: &Option<Vec<u8>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    base64(bytes.as_deref().unwrap_or_default(), serializer)
}

/// A case to be completed by what is sent and how it ends.
pub(crate) fn case(name: &'static str) -> Draft {
    Draft { name, frame: None, metadata: 0, repeat: 1 }
}

/// See [`case`].
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    name: &'static str,
    frame: Option<Frame>,
    metadata: u32,
    repeat: u32,
}

impl Draft {
    #[must_use]
    pub(crate) fn send(mut self, frame: Frame) -> Self {
        self.frame = Some(frame);
        self
    }

    /// Puts this many bytes of driver metadata in front.
    #[must_use]
    pub(crate) fn behind_metadata(mut self, len: u32) -> Self {
        self.metadata = len;
        self
    }

    /// Sends it this often; the last time counts.
    #[must_use]
    pub(crate) fn times(mut self, repeat: u32) -> Self {
        self.repeat = repeat;
        self
    }

    fn end(
        self,
        action: &'static str,
        reason: &'static str,
        output: impl FnOnce(&Frame) -> Option<Vec<u8>>,
    ) -> Case {
        let frame = self.frame.expect("a frame is sent");
        Case {
            name: self.name,
            action,
            reason,
            input: frame.bytes(),
            output: output(&frame),
            metadata: self.metadata,
            repeat: self.repeat,
        }
    }

    pub(crate) fn dropped(self, reason: &'static str) -> Case {
        self.end("XDP_DROP", reason, |_| None)
    }

    /// As it is.
    pub(crate) fn passed(self, reason: &'static str) -> Case {
        self.end("XDP_PASS", reason, |frame| Some(frame.bytes()))
    }

    /// To a real, in an outer packet from `source`.
    pub(crate) fn sent(self, reason: &'static str, source: &str, real: &str) -> Case {
        let address =
            |text: &str| text.parse().unwrap_or_else(|_| panic!("'{text}' is no address"));
        let (source, real) = (address(source), address(real));
        self.end("XDP_TX", reason, |frame| Some(frame.encapsulated(source, real, GATEWAY)))
    }

    /// It was in a tunnel that ends here: the host's kernel gets what was inside.
    pub(crate) fn left_inside(self, inner: &Frame) -> Case {
        self.end("XDP_PASS", "local", |_| Some(inner.bytes()))
    }

    /// It was in a tunnel that ends here: what was inside goes to a real, as [`Self::sent`].
    pub(crate) fn taken_out(
        self,
        inner: &Frame,
        reason: &'static str,
        source: &str,
        real: &str,
    ) -> Case {
        let sent = case(self.name).send(inner.clone()).sent(reason, source, real);
        self.end("XDP_TX", reason, |_| sent.output)
    }

    /// It was in a tunnel that ends here: what was inside goes back to the router.
    pub(crate) fn sent_back(self, inner: &Frame) -> Case {
        self.end("XDP_TX", "to_router", |_| Some(inner.clone().turned_round().bytes()))
    }

    /// The same, where the outer header, of IPv4, says "do not fragment". Of an untagged frame.
    pub(crate) fn sent_whole(self, reason: &'static str, source: &str, real: &str) -> Case {
        let mut case = self.sent(reason, source, real);
        let frame = case.output.as_mut().expect("it is sent");
        let (mut outer, _) = Ipv4Header::from_slice(&frame[14..]).expect("outer IPv4");
        outer.dont_fragment = true;
        outer.header_checksum = outer.calc_header_checksum();
        frame[14..14 + Ipv4Header::MIN_LEN].copy_from_slice(&outer.to_bytes());
        case
    }

    /// To a real, in another way: as these bytes.
    pub(crate) fn sent_as(
        self,
        reason: &'static str,
        output: impl FnOnce(&Frame) -> Vec<u8>,
    ) -> Case {
        self.end("XDP_TX", reason, |frame| Some(output(frame)))
    }

    /// An echo request, back to its sender.
    pub(crate) fn answered(self) -> Case {
        self.end("XDP_TX", "echo_reply", |frame| Some(frame.echo_reply().bytes()))
    }

    /// An echo request, back to its sender as this frame.
    pub(crate) fn answered_with(self, answer: &Frame) -> Case {
        self.end("XDP_TX", "echo_reply", |_| Some(answer.bytes()))
    }

    /// Too long: its sender learns the MTU.
    pub(crate) fn told(self, mtu: u16) -> Case {
        self.end("XDP_TX", "too_big_reply", |frame| Some(frame.too_big_reply(mtu)))
    }

    /// TCP that is refused by a reset with this sequence number, and what it acknowledges.
    pub(crate) fn reset(self, sequence: u32, acknowledges: Option<u32>) -> Case {
        self.end("XDP_TX", "reset_reply", |frame| Some(frame.reset(sequence, acknowledges)))
    }

    /// UDP that is refused.
    pub(crate) fn unreachable(self) -> Case {
        self.end("XDP_TX", "unreachable_reply", |frame| Some(frame.port_unreachable()))
    }
}
