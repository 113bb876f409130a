//! Programs on the way out of an interface: as a link (TCX, Linux 6.6), or as a filter of a clsact qdisc.
#![expect(unsafe_code, reason = "calls of libbpf's C interface")]

use std::io;
use std::mem::size_of;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::fd::FromRawFd;
use std::os::fd::OwnedFd;

use libbpf_sys as sys;

use crate::kernel::bpf::check;
use crate::kernel::bpf::link_by_id;
use crate::kernel::bpf::size_u32;
use crate::kernel::bpf::write_point;

/// The most programs of an interface that the kernel lists here. It allows 64.
const MOST_PROGRAMS: usize = 64;

/// The priority of our filters: the first. A filter of others may have it, too, if it is a BPF program.
const PRIORITY: u32 = 1;

/// A link of a program on the way out of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TcxLink {
    pub(crate) id: u32,
    pub(crate) program: u32,
    /// The index in the network namespace of the interface; 0: the interface is gone, or the link is detached.
    pub(crate) ifindex: u32,
}

/// Attaches a program by a link, in front of all others: one that ends the packet's way through the programs must
/// not keep it from this one.
pub(crate) fn attach(program: BorrowedFd<'_>, ifindex: u32) -> io::Result<OwnedFd> {
    write_point();
    let opts = sys::bpf_link_create_opts {
        sz: size_of::<sys::bpf_link_create_opts>() as _,
        flags: sys::BPF_F_BEFORE,
        ..Default::default()
    };
    // SAFETY: `opts` is valid for the call, and `sz` is its size.
    let fd = check(unsafe {
        sys::bpf_link_create(
            program.as_raw_fd(),
            ifindex.cast_signed(),
            sys::BPF_TCX_EGRESS,
            &raw const opts,
        )
    })?;
    // SAFETY: the kernel just returned this descriptor, nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// What the kernel says about a link; `None`: it is a link of another kind.
pub(crate) fn link_info(link: BorrowedFd<'_>) -> io::Result<Option<TcxLink>> {
    let mut info = sys::bpf_link_info::default();
    let mut len = size_u32::<sys::bpf_link_info>();
    // SAFETY: `info` is writable for `len` bytes.
    check(unsafe { sys::bpf_link_get_info_by_fd(link.as_raw_fd(), &raw mut info, &raw mut len) })?;
    if info.type_ != sys::BPF_LINK_TYPE_TCX {
        return Ok(None);
    }
    // SAFETY: for a TCX link the kernel fills the `tcx` member; any bit pattern is a valid u32.
    let ifindex = unsafe { info.__bindgen_anon_1.tcx.ifindex };
    Ok(Some(TcxLink { id: info.id, program: info.prog_id, ifindex }))
}

/// All such links, also those without a pin.
pub(crate) fn links() -> impl Iterator<Item = (OwnedFd, TcxLink)> {
    let mut id = 0;
    let ids = std::iter::from_fn(move || {
        // SAFETY: `id` is writable.
        check(unsafe { sys::bpf_link_get_next_id(id, &raw mut id) }).ok().map(|_| id)
    });
    ids.filter_map(|id| {
        let link = link_by_id(id).ok()?;
        let info = link_info(link.as_fd()).ok()??;
        Some((link, info))
    })
}

/// Whether an interface of this network namespace has a link. An index in another namespace may be another interface.
pub(crate) fn has_link(ifindex: u32, link: u32) -> io::Result<bool> {
    let mut programs = [0_u32; MOST_PROGRAMS];
    let mut links = [0_u32; MOST_PROGRAMS];
    let mut opts = sys::bpf_prog_query_opts {
        sz: size_of::<sys::bpf_prog_query_opts>() as _,
        prog_ids: programs.as_mut_ptr(),
        link_ids: links.as_mut_ptr(),
        __bindgen_anon_1: sys::bpf_prog_query_opts__bindgen_ty_1 {
            count: crate::kernel::bpf::len_u32(&links),
        },
        ..Default::default()
    };
    // SAFETY: `opts` is writable for `sz` bytes, and both arrays for `count` entries.
    let asked = check(unsafe {
        sys::bpf_prog_query_opts(ifindex.cast_signed(), sys::BPF_TCX_EGRESS, &raw mut opts)
    });
    match asked {
        Ok(_) => Ok(links.contains(&link)),
        Err(error) if error.raw_os_error() == Some(nix::libc::ENODEV) => Ok(false),
        Err(error) => Err(error),
    }
}

fn hook(ifindex: u32, attach_point: sys::bpf_tc_attach_point) -> sys::bpf_tc_hook {
    sys::bpf_tc_hook {
        sz: size_of::<sys::bpf_tc_hook>() as _,
        ifindex: ifindex.cast_signed(),
        attach_point,
        ..Default::default()
    }
}

fn filter(handle: u32) -> sys::bpf_tc_opts {
    sys::bpf_tc_opts {
        sz: size_of::<sys::bpf_tc_opts>() as _,
        handle,
        priority: PRIORITY,
        ..Default::default()
    }
}

/// Gives an interface the qdisc that such filters need. Returns whether it had none.
pub(crate) fn make_qdisc(ifindex: u32) -> io::Result<bool> {
    write_point();
    let mut hook = hook(ifindex, sys::BPF_TC_EGRESS);
    // SAFETY: `hook` is valid for the call, and `sz` is its size.
    match check(unsafe { sys::bpf_tc_hook_create(&raw mut hook) }) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

/// Removes that qdisc, with all filters that it has on the way in and out.
pub(crate) fn remove_qdisc(ifindex: u32) -> io::Result<()> {
    write_point();
    let mut hook = hook(ifindex, sys::BPF_TC_INGRESS | sys::BPF_TC_EGRESS);
    // SAFETY: `hook` is valid for the call, and `sz` is its size.
    check(unsafe { sys::bpf_tc_hook_destroy(&raw mut hook) }).map(drop)
}

/// Attaches a program as the filter of a handle, or puts it into the one that is there.
pub(crate) fn set_filter(program: BorrowedFd<'_>, ifindex: u32, handle: u32) -> io::Result<()> {
    write_point();
    let hook = hook(ifindex, sys::BPF_TC_EGRESS);
    let mut opts = sys::bpf_tc_opts {
        prog_fd: program.as_raw_fd(),
        flags: sys::BPF_TC_F_REPLACE,
        ..filter(handle)
    };
    // SAFETY: both are valid for the call, and `sz` are their sizes.
    check(unsafe { sys::bpf_tc_attach(&raw const hook, &raw mut opts) }).map(drop)
}

/// The program of the filter of a handle; `None`: there is none.
pub(crate) fn filter_program(ifindex: u32, handle: u32) -> io::Result<Option<u32>> {
    let hook = hook(ifindex, sys::BPF_TC_EGRESS);
    let mut opts = filter(handle);
    // SAFETY: both are valid for the call, and `sz` are their sizes.
    match check(unsafe { sys::bpf_tc_query(&raw const hook, &raw mut opts) }) {
        Ok(_) => Ok(Some(opts.prog_id)),
        Err(error) => match error.raw_os_error() {
            // No interface, no qdisc, no filter.
            Some(nix::libc::ENODEV | nix::libc::EINVAL | nix::libc::ENOENT) => Ok(None),
            _ => Err(error),
        },
    }
}

/// Removes the filter of a handle.
pub(crate) fn remove_filter(ifindex: u32, handle: u32) -> io::Result<()> {
    write_point();
    let hook = hook(ifindex, sys::BPF_TC_EGRESS);
    let opts = filter(handle);
    // SAFETY: both are valid for the call, and `sz` are their sizes.
    check(unsafe { sys::bpf_tc_detach(&raw const hook, &raw const opts) }).map(drop)
}
