//! The rules of policy routing that look at marks.

use netlink_packet_route::AddressFamily;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::rule::RuleAttribute;
use netlink_packet_route::rule::RuleFlags;
use netlink_packet_route::rule::RuleMessage;
use nix::errno::Errno;
use rtnetlink::packet_core::NLM_F_DUMP;

use super::client::Netlink;
use super::client::blocking;
use super::refused::errno;
use crate::model::error::NetlinkError;

/// A rule for packets with a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MarkRule {
    pub(crate) v6: bool,
    pub(crate) priority: u32,
    pub(crate) mark: u32,
    pub(crate) mask: u32,
}

impl MarkRule {
    /// `None`: it looks at no mark, or is for packets that do not have it.
    fn from_message(message: &RuleMessage) -> Option<Self> {
        let (mut mark, mut bits, mut priority) = (None, u32::MAX, 0);
        for attribute in &message.attributes {
            match attribute {
                RuleAttribute::FwMark(value) => mark = Some(*value),
                RuleAttribute::FwMask(value) => bits = *value,
                RuleAttribute::Priority(value) => priority = *value,
                _ => {}
            }
        }
        let v6 = message.header.family == AddressFamily::Inet6;
        let inverted = message.header.flags.contains(RuleFlags::Invert);
        mark.filter(|_| !inverted && bits != 0).map(|mark| Self { v6, priority, mark, mask: bits })
    }

    /// The first of so many marks from `first` on that the rule matches.
    pub(crate) fn first_match(self, first: u32, count: u32) -> Option<u32> {
        let marks = (0..count).map(|n| first.wrapping_add(n));
        marks.into_iter().find(|mark| (mark ^ self.mark) & self.mask == 0)
    }
}

impl Netlink {
    async fn mark_rules(&self) -> Result<Vec<MarkRule>, NetlinkError> {
        let mut rules = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut message = RuleMessage::default();
            message.header.family = family;
            match self.request(RouteNetlinkMessage::GetRule(message), NLM_F_DUMP).await {
                Ok(answers) => rules.extend(answers.iter().filter_map(|answer| match answer {
                    // If the kernel lacks the family, it may answer with all rules.
                    RouteNetlinkMessage::NewRule(rule) if rule.header.family == family => {
                        MarkRule::from_message(rule)
                    }
                    _ => None,
                })),
                // The kernel has no policy routing, or no IPv6.
                Err(error)
                    if matches!(errno(&error), Some(Errno::EAFNOSUPPORT | Errno::EOPNOTSUPP)) => {}
                Err(cause) => {
                    let operation = "list the rules of policy routing".to_owned();
                    return Err(NetlinkError::Netlink { operation, cause: cause.into() });
                }
            }
        }
        Ok(rules)
    }
}

/// Lists the rules for packets with a mark.
pub(crate) fn mark_rules_blocking() -> Result<Vec<MarkRule>, NetlinkError> {
    blocking(async |netlink| netlink.mark_rules().await)
}

#[cfg(test)]
mod tests {
    use super::MarkRule;

    #[test]
    fn marks_match_under_the_mask() {
        let rule = |mark, mask| MarkRule { v6: false, priority: 1, mark, mask };
        for (mark, mask, found) in [
            (0x4c34_0000, u32::MAX, Some(0x4c34_0000)),
            (0x4c34_2fff, u32::MAX, Some(0x4c34_2fff)),
            (0x4c34_3000, u32::MAX, None),
            (0x4c33_ffff, u32::MAX, None),
            (0x1, 0xff, Some(0x4c34_0001)),
            (0x4c00_0000, 0xff00_0000, Some(0x4c34_0000)),
            (0x4000, 0x4000, None),
        ] {
            assert_eq!(
                rule(mark, mask).first_match(0x4c34_0000, 12_288),
                found,
                "{mark:#x}/{mask:#x}"
            );
        }
    }
}
