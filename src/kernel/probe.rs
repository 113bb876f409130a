//! What the running kernel can do. Each feature is tried on temporary objects.
#![expect(unsafe_code, reason = "calls of C interfaces")]

use std::io;
use std::mem::size_of;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::ptr::null;
use std::ptr::null_mut;

use libbpf_rs::MapHandle;
use libbpf_rs::MapType;
use libbpf_sys as sys;
use nix::errno::Errno;

use crate::kernel::bpf::check;
use crate::kernel::bpf::percpu_array_read;
use crate::kernel::bpf::size_u32;
use crate::kernel::bpf::xdp_query;
use crate::kernel::program::Variant;
use crate::kernel::program::load_passing;

/// Whether the kernel compiles programs to machine code.
pub(crate) fn jit() -> io::Result<bool> {
    let program = load_passing(Variant::Xdp)?;
    let mut info = sys::bpf_prog_info::default();
    let mut len = size_u32::<sys::bpf_prog_info>();
    // SAFETY: `info` is writable for `len` bytes.
    check(unsafe {
        sys::bpf_prog_get_info_by_fd(program.as_raw_fd(), &raw mut info, &raw mut len)
    })?;
    Ok(info.jited_prog_len != 0)
}

/// Whether programs can take frames in several pieces.
pub(crate) fn frags() -> io::Result<bool> {
    refused_with(Errno::EINVAL, load_passing(Variant::Frags))
}

/// Whether XDP programs can call `bpf_xdp_load_bytes`.
pub(crate) fn xdp_load_bytes() -> io::Result<bool> {
    // SAFETY: the options may be null.
    let found = check(unsafe {
        sys::libbpf_probe_bpf_helper(sys::BPF_PROG_TYPE_XDP, sys::BPF_FUNC_xdp_load_bytes, null())
    })?;
    Ok(found != 0)
}

fn array(map_type: MapType) -> io::Result<MapHandle> {
    let opts = sys::bpf_map_create_opts {
        sz: size_of::<sys::bpf_map_create_opts>() as _,
        ..Default::default()
    };
    MapHandle::create(map_type, Some("l4lb_probe"), 4, 8, 1, &opts).map_err(io::Error::other)
}

/// Whether many values of a per-CPU array can be read at a time.
pub(crate) fn percpu_batch() -> io::Result<bool> {
    refused_with_unsupported(percpu_array_read(&array(MapType::PercpuArray)?, 0..1))
}

/// Whether many maps in a map of maps can be replaced at a time.
pub(crate) fn batch_of_maps() -> io::Result<bool> {
    let inner = array(MapType::Array)?;
    let opts = sys::bpf_map_create_opts {
        sz: size_of::<sys::bpf_map_create_opts>() as _,
        inner_map_fd: inner.as_fd().as_raw_fd().cast_unsigned(),
        ..Default::default()
    };
    let outer = MapHandle::create(MapType::ArrayOfMaps, Some("l4lb_probe"), 4, 4, 1, &opts)
        .map_err(io::Error::other)?;
    let mut count = 0;
    let opts = sys::bpf_map_batch_opts {
        sz: size_of::<sys::bpf_map_batch_opts>() as _,
        ..Default::default()
    };
    // SAFETY: the kernel reads nothing, because there are no elements.
    let done = check(unsafe {
        sys::bpf_map_update_batch(
            outer.as_fd().as_raw_fd(),
            null_mut(),
            null_mut(),
            &raw mut count,
            &raw const opts,
        )
    });
    refused_with_unsupported(done)
}

fn refused_with<T>(errno: Errno, done: io::Result<T>) -> io::Result<bool> {
    match done {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(errno as i32) => Ok(false),
        Err(error) => Err(error),
    }
}

/// If a kind of map lacks a call, the kernel returns a number that only it has a name for.
fn refused_with_unsupported<T>(done: io::Result<T>) -> io::Result<bool> {
    const ENOTSUPP: i32 = 524;
    match done {
        Err(error) if error.raw_os_error() == Some(ENOTSUPP) => Ok(false),
        done => refused_with(Errno::EINVAL, done),
    }
}

/// The XDP features of a driver (`NETDEV_XDP_ACT_*`). Linux 6.3; 0 before, and for drivers without features.
pub(crate) fn driver_features(ifindex: u32) -> io::Result<u64> {
    Ok(xdp_query(ifindex)?.feature_flags)
}
