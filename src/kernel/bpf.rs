//! The few kernel calls that libbpf-rs does not offer, or offers without the error number.
#![expect(unsafe_code, reason = "calls of libbpf's C interface")]

use std::ffi::CString;
use std::io;
use std::mem::size_of;
use std::ops::Range;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::fd::FromRawFd;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::null_mut;
use std::sync::atomic::AtomicU64;

use libbpf_rs::MapCore;
use libbpf_rs::MapHandle;
use libbpf_rs::MapType;
use libbpf_sys as sys;
use memmap2::MmapOptions;
use memmap2::MmapRaw;

use crate::model::config::XdpMode;
use crate::model::error::Error;
use crate::model::error::Result;

/// Kills the process before a write to the kernel, so that tests see what an interrupted command leaves:
/// `LBCTL_KILL_AT_WRITE=n` kills it before its n-th write.
#[cfg(debug_assertions)]
pub(crate) fn write_point() {
    use std::sync::LazyLock;
    use std::sync::atomic::Ordering;

    static KILL_AT: LazyLock<u64> = LazyLock::new(|| {
        std::env::var("LBCTL_KILL_AT_WRITE").ok().and_then(|n| n.parse().ok()).unwrap_or(0)
    });
    static WRITES: AtomicU64 = AtomicU64::new(0);

    if WRITES.fetch_add(1, Ordering::Relaxed) + 1 == *KILL_AT {
        let _ = nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL);
    }
}

#[cfg(not(debug_assertions))]
pub(crate) fn write_point() {}

/// Fails at the point that a test names, so that the test sees what happens then: `LBCTL_FAIL_AT=NAME`.
#[cfg(debug_assertions)]
pub(crate) fn fail_point(name: &str) -> Result<()> {
    if std::env::var_os("LBCTL_FAIL_AT").is_some_and(|at| at == name) {
        let source = io::Error::other("a test wants that");
        return Err(Error::Host { operation: "go on", source });
    }
    Ok(())
}

#[cfg(not(debug_assertions))]
pub(crate) fn fail_point(_: &str) -> Result<()> {
    Ok(())
}

/// The number of CPUs in per-CPU maps. libbpf reads it from sysfs.
pub(crate) fn possible_cpus() -> io::Result<usize> {
    const FILE: &str = "/sys/devices/system/cpu/possible";
    libbpf_rs::num_possible_cpus().map_err(|error| {
        io::Error::other(if Path::new(FILE).exists() {
            error.to_string()
        } else {
            format!("there is no {FILE}; mount sysfs: mount -t sysfs sysfs /sys")
        })
    })
}

pub(crate) fn check(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::from_raw_os_error(-result)) } else { Ok(result) }
}

/// Size of a struct of the kernel's interface, which counts in 32 bits.
pub(crate) const fn size_u32<T>() -> u32 {
    assert!(size_of::<T>() <= u32::MAX as usize);
    #[expect(clippy::cast_possible_truncation, reason = "checked above")]
    let size = size_of::<T>() as u32;
    size
}

/// Length of a buffer, for a kernel that counts in 32 bits. It refuses longer buffers.
pub(crate) fn len_u32<T>(buffer: &[T]) -> u32 {
    u32::try_from(buffer.len()).unwrap_or(u32::MAX)
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(io::Error::from)
}

/// `XDP_FLAGS_*` of a mode. Without a flag, the kernel chooses.
fn mode_flags(mode: XdpMode) -> u32 {
    match mode {
        XdpMode::Auto => 0,
        XdpMode::Generic => sys::XDP_FLAGS_SKB_MODE,
        XdpMode::Native => sys::XDP_FLAGS_DRV_MODE,
    }
}

/// Attaches a program to an interface by a link in the given mode.
pub(crate) fn link_create(
    program: BorrowedFd<'_>,
    ifindex: u32,
    mode: XdpMode,
) -> io::Result<OwnedFd> {
    write_point();
    let opts = sys::bpf_link_create_opts {
        sz: size_of::<sys::bpf_link_create_opts>() as _,
        flags: mode_flags(mode),
        ..Default::default()
    };
    // SAFETY: `opts` is valid for the call, and `sz` is its size.
    let fd = check(unsafe {
        sys::bpf_link_create(
            program.as_raw_fd(),
            ifindex.cast_signed(),
            sys::BPF_XDP,
            &raw const opts,
        )
    })?;
    // SAFETY: the kernel just returned this descriptor, nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Puts another program into a link. Each packet meets the old or the new one.
pub(crate) fn link_update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    write_point();
    // SAFETY: the options may be null.
    check(unsafe {
        sys::bpf_link_update(link.as_raw_fd(), program.as_raw_fd(), std::ptr::null())
    })?;
    Ok(())
}

/// Detaches a link at once. Closing the last descriptor or pin of a link detaches it too, but some time later.
pub(crate) fn link_detach(link: BorrowedFd<'_>) -> io::Result<()> {
    write_point();
    // SAFETY: the descriptor is valid for the call.
    check(unsafe { sys::bpf_link_detach(link.as_raw_fd()) })?;
    Ok(())
}

/// The index of the interface that a link is attached to, in the network namespace of that interface. 0 once the
/// interface is gone, or the link is detached.
pub(crate) fn link_info(link: BorrowedFd<'_>) -> io::Result<LinkInfo> {
    let mut info = sys::bpf_link_info::default();
    let mut len = size_u32::<sys::bpf_link_info>();
    // SAFETY: `info` is writable for `len` bytes.
    check(unsafe { sys::bpf_link_get_info_by_fd(link.as_raw_fd(), &raw mut info, &raw mut len) })?;
    // SAFETY: for an XDP link the kernel fills the `xdp` member; any bit pattern is a valid u32.
    let ifindex = unsafe { info.__bindgen_anon_1.xdp.ifindex };
    let is_xdp = info.type_ == sys::BPF_LINK_TYPE_XDP;
    Ok(LinkInfo { id: info.id, is_xdp, program: info.prog_id, ifindex })
}

/// All links of XDP programs, by id. libbpf-rs's iterator reads everything about each link, and ends at a kind that it
/// does not know.
pub(crate) fn xdp_links() -> impl Iterator<Item = (OwnedFd, LinkInfo)> {
    // SAFETY: `next` is writable.
    let ids = ids(|before, next| unsafe { sys::bpf_link_get_next_id(before, next) });
    ids.filter_map(|id| {
        let link = link_by_id(id).ok()?;
        let info = link_info(link.as_fd()).ok().filter(|info| info.is_xdp)?;
        Some((link, info))
    })
}

/// All programs.
pub(crate) fn programs() -> impl Iterator<Item = ProgramInfo> {
    // SAFETY: `next` is writable.
    let ids = ids(|before, next| unsafe { sys::bpf_prog_get_next_id(before, next) });
    ids.filter_map(|id| program_info(program_by_id(id).ok()?.as_fd()).ok())
}

fn ids(next: impl Fn(u32, *mut u32) -> i32) -> impl Iterator<Item = u32> {
    let mut id = 0;
    std::iter::from_fn(move || check(next(id, &raw mut id)).ok().map(|_| id))
}

/// See [`link_info`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LinkInfo {
    pub(crate) id: u32,
    /// If not, `ifindex` has another meaning.
    pub(crate) is_xdp: bool,
    pub(crate) program: u32,
    pub(crate) ifindex: u32,
}

/// `CLOCK_MONOTONIC` in nanoseconds, the packet path's clock.
pub(crate) fn monotonic_ns() -> Result<u64> {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC)
        .map_err(|errno| Error::Host { operation: "read the clock", source: errno.into() })?;
    Ok(std::time::Duration::from(now).as_nanos().try_into().unwrap_or(u64::MAX))
}

/// Random words that nobody can guess.
pub(crate) fn random<const N: usize>() -> Result<[u64; N]> {
    let mut words = [0; N];
    for word in &mut words {
        *word = getrandom::u64().map_err(|error| Error::Host {
            operation: "draw random numbers",
            source: error.into(),
        })?;
    }
    Ok(words)
}

/// Opens a pin.
pub(crate) fn pinned(path: &Path) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    // SAFETY: `path` is a valid C string for the call.
    let fd = check(unsafe { sys::bpf_obj_get(path.as_ptr()) })?;
    // SAFETY: the kernel just returned this descriptor, nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Pins a program, map or link.
pub(crate) fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    write_point();
    let path = c_path(path)?;
    // SAFETY: `path` is a valid C string for the call.
    check(unsafe { sys::bpf_obj_pin(object.as_raw_fd(), path.as_ptr()) })?;
    Ok(())
}

/// The program that an interface runs, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Attached {
    pub(crate) program: u32,
    pub(crate) mode: XdpMode,
}

/// The kernel's information about XDP on an interface.
pub(crate) fn xdp_query(ifindex: u32) -> io::Result<sys::bpf_xdp_query_opts> {
    let mut opts = sys::bpf_xdp_query_opts {
        sz: size_of::<sys::bpf_xdp_query_opts>() as _,
        ..Default::default()
    };
    // SAFETY: `opts` is writable for `sz` bytes.
    check(unsafe { sys::bpf_xdp_query(ifindex.cast_signed(), 0, &raw mut opts) })?;
    Ok(opts)
}

/// The XDP program on an interface, if there is one.
pub(crate) fn attached(ifindex: u32) -> io::Result<Option<Attached>> {
    let opts = xdp_query(ifindex)?;
    let mode = if u32::from(opts.attach_mode) == sys::XDP_ATTACHED_SKB {
        XdpMode::Generic
    } else {
        XdpMode::Native
    };
    Ok((opts.prog_id != 0).then_some(Attached { program: opts.prog_id, mode }))
}

/// The mode in which an interface of this network namespace runs a program. `None`: it does not run it, or there is no
/// such interface.
pub(crate) fn runs(ifindex: u32, program: u32) -> io::Result<Option<XdpMode>> {
    let opts = match xdp_query(ifindex) {
        Err(error) if error.raw_os_error() == Some(nix::libc::ENODEV) => return Ok(None),
        found => found?,
    };
    // There may be another program besides the one that the hardware runs.
    Ok(if opts.skb_prog_id == program {
        Some(XdpMode::Generic)
    } else if [opts.drv_prog_id, opts.hw_prog_id].contains(&program) {
        Some(XdpMode::Native)
    } else {
        None
    })
}

/// Entries of a map, as the kernel returns them.
#[derive(Debug)]
pub(crate) struct Batch {
    /// One key after the other, without gaps.
    pub(crate) keys: Vec<u8>,
    /// Their values, in the same order.
    pub(crate) values: Vec<u8>,
    /// The position to continue after; `None`: these were the last.
    pub(crate) last: Option<u32>,
}

/// Reads values of a per-CPU array in one call: those of one index after the other, each CPU's in
/// [`stride`] bytes. Fewer if the array ends before. Linux 5.13.
pub(crate) fn percpu_array_read(map: &MapHandle, indices: Range<u32>) -> io::Result<Vec<u8>> {
    if map.map_type() != MapType::PercpuArray {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let Range { start, end } = indices;
    // The kernel continues after the given key.
    Ok(read_batch(map, start.checked_sub(1), end.saturating_sub(start))?.values)
}

/// Reads up to `at_once` entries of a hash table, after those of an earlier call. `ENOSPC`: a bucket has more.
pub(crate) fn hash_read(map: &MapHandle, behind: Option<u32>, at_once: u32) -> io::Result<Batch> {
    if !matches!(map.map_type(), MapType::Hash | MapType::LruHash) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    read_batch(map, behind, at_once)
}

/// Reads up to `at_once` entries of an array or a hash table, after those of an earlier call.
///
/// libbpf-rs treats every error as the end.
fn read_batch(map: &MapHandle, behind: Option<u32>, at_once: u32) -> io::Result<Batch> {
    let key = map.key_size() as usize;
    let value = match map.map_type() {
        MapType::PercpuArray => stride(map) * possible_cpus()?,
        MapType::Hash | MapType::LruHash => map.value_size() as usize,
        _ => return Err(io::ErrorKind::InvalidInput.into()),
    };
    let mut keys = vec![0; key * at_once as usize];
    let mut values = vec![0; value * at_once as usize];
    let (mut behind, mut last, mut count) = (behind, 0_u32, at_once);
    let opts = sys::bpf_map_batch_opts {
        sz: size_of::<sys::bpf_map_batch_opts>() as _,
        ..Default::default()
    };
    // SAFETY: `keys` and `values` have room for `count` of them, of the sizes that the kernel writes for this type of
    // map, and it writes no more. The position is one word, in arrays and hash tables alike. All pointers are valid for
    // the call.
    let done = check(unsafe {
        sys::bpf_map_lookup_batch(
            map.as_fd().as_raw_fd(),
            behind.as_mut().map_or(null_mut(), |behind| std::ptr::from_mut(behind).cast()),
            (&raw mut last).cast(),
            keys.as_mut_ptr().cast(),
            values.as_mut_ptr().cast(),
            &raw mut count,
            &raw const opts,
        )
    });
    let last = match done {
        Ok(_) => Some(last),
        // The map ended after `count` entries.
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    keys.truncate(key * count as usize);
    values.truncate(value * count as usize);
    Ok(Batch { keys, values, last })
}

/// An array's memory, for reading and writing without a call per value. The map must have been made with
/// `BPF_F_MMAPABLE`. Packets and other processes may use it at the same time. Words of 64 bits are read and written
/// whole.
#[derive(Debug)]
pub(crate) struct ArrayMemory {
    memory: MmapRaw,
    words: usize,
}

impl ArrayMemory {
    /// Maps it.
    pub(crate) fn new(map: &MapHandle) -> io::Result<Self> {
        Self::part(map, 0..map.max_entries())
    }

    /// Maps some of its values. A page must begin with the first one.
    pub(crate) fn part(map: &MapHandle, values: Range<u32>) -> io::Result<Self> {
        let stride = stride(map);
        let bytes = stride * values.len();
        let memory = MmapOptions::new()
            .offset(stride as u64 * u64::from(values.start))
            .len(bytes)
            .map_raw(map.as_fd().as_raw_fd())?;
        Ok(Self { memory, words: bytes / size_of::<u64>() })
    }

    /// An empty mapping.
    #[cfg(test)]
    pub(crate) fn anonymous(bytes: usize) -> io::Result<Self> {
        let memory = MmapOptions::new().len(bytes).map_anon()?.into();
        Ok(Self { memory, words: bytes / size_of::<u64>() })
    }

    /// The values, each in [`stride`] bytes.
    pub(crate) fn words(&self) -> &[AtomicU64] {
        // SAFETY: the mapping can be read and written, has room for that many words, begins with a page, so that they
        // are aligned, and lives as long as the slice.
        unsafe { std::slice::from_raw_parts(self.memory.as_ptr().cast(), self.words) }
    }
}

/// Bytes from one value of an array to the next, or from one CPU's to the next one's.
pub(crate) fn stride(map: &MapHandle) -> usize {
    map.value_size().next_multiple_of(8) as usize
}

/// What the kernel says about a program.
#[derive(Clone, Debug, Default)]
pub(crate) struct ProgramInfo {
    pub(crate) id: u32,
    pub(crate) is_xdp: bool,
    pub(crate) name: String,
    /// The hash of its instructions. Copies of a program have the same.
    pub(crate) tag: [u8; 8],
    pub(crate) maps: Vec<u32>,
    /// When it was loaded: `CLOCK_BOOTTIME`, ns.
    pub(crate) loaded: u64,
    /// How often it has run, and for how many nanoseconds, while statistics were on.
    pub(crate) runs: u64,
    pub(crate) run_ns: u64,
}

/// Asks the kernel about a program.
pub(crate) fn program_info(program: BorrowedFd<'_>) -> io::Result<ProgramInfo> {
    // The most maps that a program can use.
    let mut maps = vec![0_u32; 64];
    let mut info = sys::bpf_prog_info {
        nr_map_ids: len_u32(&maps),
        map_ids: maps.as_mut_ptr() as u64,
        ..Default::default()
    };
    let mut len = size_u32::<sys::bpf_prog_info>();
    // SAFETY: `info` is writable for `len` bytes, and its `map_ids` for `nr_map_ids` entries.
    check(unsafe {
        sys::bpf_prog_get_info_by_fd(program.as_raw_fd(), &raw mut info, &raw mut len)
    })?;
    maps.truncate(info.nr_map_ids as usize);
    let name =
        info.name.iter().take_while(|c| **c != 0).map(|c| c.cast_unsigned() as char).collect();
    let is_xdp = info.type_ == sys::BPF_PROG_TYPE_XDP;
    Ok(ProgramInfo {
        id: info.id,
        is_xdp,
        name,
        tag: info.tag,
        maps,
        loaded: info.load_time,
        runs: info.run_cnt,
        run_ns: info.run_time_ns,
    })
}

/// Opens a program by its id.
pub(crate) fn program_by_id(id: u32) -> io::Result<OwnedFd> {
    // SAFETY: takes no pointers.
    let fd = check(unsafe { sys::bpf_prog_get_fd_by_id(id) })?;
    // SAFETY: the kernel just returned this descriptor, nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Opens a link by its id.
pub(crate) fn link_by_id(id: u32) -> io::Result<OwnedFd> {
    // SAFETY: takes no pointers.
    let fd = check(unsafe { sys::bpf_link_get_fd_by_id(id) })?;
    // SAFETY: the kernel just returned this descriptor, nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Attaches a program to an interface without a link. It stays until somebody detaches it.
pub(crate) fn attach_without_link(
    program: BorrowedFd<'_>,
    ifindex: u32,
    mode: XdpMode,
) -> io::Result<()> {
    write_point();
    let flags = mode_flags(mode) | sys::XDP_FLAGS_UPDATE_IF_NOEXIST;
    // SAFETY: the options may be null.
    check(unsafe {
        sys::bpf_xdp_attach(ifindex.cast_signed(), program.as_raw_fd(), flags, std::ptr::null())
    })?;
    Ok(())
}

/// Detaches a program that was attached without a link, if the interface still runs it.
pub(crate) fn detach_without_link(
    program: BorrowedFd<'_>,
    ifindex: u32,
    mode: XdpMode,
) -> io::Result<()> {
    write_point();
    let opts = sys::bpf_xdp_attach_opts {
        sz: size_of::<sys::bpf_xdp_attach_opts>() as _,
        old_prog_fd: program.as_raw_fd(),
        ..Default::default()
    };
    // SAFETY: `opts` is valid for the call, and `sz` is its size.
    check(unsafe {
        sys::bpf_xdp_detach(ifindex.cast_signed(), mode_flags(mode), &raw const opts)
    })?;
    Ok(())
}
