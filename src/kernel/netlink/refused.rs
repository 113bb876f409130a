//! Texts for requests that the kernel refuses.

use nix::errno::Errno;
use rtnetlink::packet_core::NlasIterator;

use crate::model::error::NetlinkRefusal;

/// The kernel's errno, if the error is one.
pub(super) fn errno(error: &rtnetlink::Error) -> Option<Errno> {
    match error {
        rtnetlink::Error::NetlinkError(message) => {
            Some(Errno::from_raw(message.raw_code().saturating_abs()))
        }
        _ => None,
    }
}

/// The text for a netlink error: the errno's text, the kernel's own, and what to do if that is known.
pub(super) fn explain(error: &rtnetlink::Error) -> String {
    let rtnetlink::Error::NetlinkError(message) = error else {
        return "the kernel did not answer; try again".to_owned();
    };
    let mut text = message.to_io().to_string();
    if let Some(detail) = kernel_message(&message.header) {
        text = format!("{text}: {}", detail.trim_end_matches('.'));
    }
    match errno(error) {
        Some(Errno::EPERM | Errno::EACCES) => text + "; run it as root or with CAP_NET_ADMIN",
        Some(Errno::ENOBUFS) => {
            text + "; the neighbour table may be full, see the sysctls \
                    net.ipv[46].neigh.default.gc_thresh3"
        }
        _ => text,
    }
}

impl From<rtnetlink::Error> for NetlinkRefusal {
    fn from(error: rtnetlink::Error) -> Self {
        Self::new(errno(&error).map(|errno| errno as i32), explain(&error))
    }
}

/// The text that the kernel attached to an error message (`NLMSGERR_ATTR_MSG`), if any.
///
/// `payload` is what follows the error code: the header of the request alone, because the sockets
/// here set `NETLINK_CAP_ACK`, then the attributes.
fn kernel_message(payload: &[u8]) -> Option<String> {
    const NLMSG_HEADER: usize = 16;
    const NLMSGERR_ATTR_MSG: u16 = 1;
    let attributes = payload.get(NLMSG_HEADER..)?;
    NlasIterator::new(attributes)
        .map_while(Result::ok)
        .find(|attribute| attribute.kind() == NLMSGERR_ATTR_MSG)
        .and_then(|attribute| {
            let text = attribute.value().split(|byte| *byte == 0).next()?;
            Some(String::from_utf8_lossy(text).replace('\n', " "))
        })
        .filter(|text| !text.is_empty())
}
