//! What a pin refers to, and which maps programs hold without using them.
#![expect(unsafe_code, reason = "calls of C interfaces")]

use std::io;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::fd::FromRawFd;
use std::os::fd::OwnedFd;
use std::ptr;

use libbpf_sys as sys;

use crate::kernel::outside::read_system;

/// The object of a descriptor, by the kernel's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A map.
    Map(u32),
    /// A program.
    Program(u32),
    /// A link that holds an XDP program on an interface.
    XdpLink,
    /// A link that holds a program on the way in or out of an interface.
    TcxLink,
    /// Anything else.
    Other,
}

/// Finds the object of a descriptor of the bpf filesystem.
///
/// `BPF_OBJ_GET_INFO_BY_FD` does not tell the kind: it fills in data of any kind, and the caller takes it for another.
pub(crate) fn kind(object: BorrowedFd<'_>) -> io::Result<Kind> {
    Ok(parse(&read_system(format!("/proc/self/fdinfo/{}", object.as_raw_fd()).as_ref())?))
}

fn parse(fdinfo: &str) -> Kind {
    let field = |name| fdinfo.lines().find_map(|line| Some(line.strip_prefix(name)?.trim()));
    let id = |name| field(name).and_then(|id| id.parse().ok());
    // The fdinfo of a link has lines about its program, too.
    if let Some(kind) = field("link_type:") {
        return match kind {
            "xdp" => Kind::XdpLink,
            "tcx" => Kind::TcxLink,
            _ => Kind::Other,
        };
    }
    let map = id("map_id:").map(Kind::Map);
    map.or_else(|| id("prog_id:").map(Kind::Program)).unwrap_or(Kind::Other)
}

/// Opens a map by its id.
pub(crate) fn map_by_id(id: u32) -> io::Result<OwnedFd> {
    // SAFETY: takes no pointers.
    let fd = crate::kernel::bpf::check(unsafe { sys::bpf_map_get_fd_by_id(id) })?;
    // SAFETY: the kernel just returned this descriptor, nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Makes a program hold a map that none of its instructions names. The map lives as long as the program, and is found
/// through it. Linux 5.10.
pub(crate) fn bind(program: BorrowedFd<'_>, map: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: both descriptors are valid for the call, and no options is a null pointer.
    let done = unsafe { sys::bpf_prog_bind_map(program.as_raw_fd(), map.as_raw_fd(), ptr::null()) };
    crate::kernel::bpf::check(done).map(drop)
}

#[cfg(test)]
mod tests {
    use super::Kind;
    use super::parse;

    #[test]
    fn kinds_are_told_apart() {
        for (fdinfo, kind) in [
            ("pos:\t0\nmap_type:\t2\nkey_size:\t4\nmap_id:\t77\nfrozen:\t0\n", Kind::Map(77)),
            ("pos:\t0\nprog_type:\t6\nprog_jited:\t1\nprog_id:\t78\n", Kind::Program(78)),
            (
                "link_type:\txdp\nlink_id:\t3\nprog_tag:\tab\nprog_id:\t78\nifindex:\t4\n",
                Kind::XdpLink,
            ),
            (
                "link_type:\ttcx\nlink_id:\t3\nprog_tag:\tab\nprog_id:\t78\nifindex:\t4\n",
                Kind::TcxLink,
            ),
            ("link_type:\ttracing\nlink_id:\t3\nprog_tag:\tab\nprog_id:\t78\n", Kind::Other),
            ("pos:\t0\nflags:\t02\n", Kind::Other),
        ] {
            assert_eq!(parse(fdinfo), kind, "{fdinfo}");
        }
    }
}
