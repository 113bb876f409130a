//! The smallest XDP programs, made without a compiler.

use std::ffi::CString;
use std::io;
use std::os::fd::AsRawFd;
use std::os::fd::FromRawFd;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;

use libbpf_sys::BPF_PROG_TYPE_XDP;
use libbpf_sys::BPF_XDP;
use libbpf_sys::XDP_FLAGS_SKB_MODE;
use libbpf_sys::bpf_insn;
use libbpf_sys::bpf_link_create;
use libbpf_sys::bpf_link_detach;
use libbpf_sys::bpf_obj_pin;
use libbpf_sys::bpf_prog_load;
use libbpf_sys::bpf_xdp_attach;
use nix::net::if_::if_nametoindex;

use super::NetNs;

/// What a program says about every frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// `XDP_DROP`.
    Drop = 1,
    /// `XDP_PASS`: the kernel gets it.
    Pass = 2,
    /// `XDP_TX`: back out, unchanged.
    Tx = 3,
}

/// An attached program that says the same about every frame. Dropping it detaches it.
#[derive(Debug)]
pub(crate) struct XdpLink {
    /// Holds the link.
    fd: OwnedFd,
}

impl XdpLink {
    /// Attaches to `interface` of `ns`, natively where the driver can.
    #[track_caller]
    pub(crate) fn attach(ns: &NetNs, interface: &str, verdict: Verdict) -> Self {
        Self::try_attach(ns, interface, verdict)
            .unwrap_or_else(|error| panic!("attach an XDP program to {interface}: {error}"))
    }

    /// Like [`attach`](Self::attach), where failing is what a test wants to see.
    pub(crate) fn try_attach(ns: &NetNs, interface: &str, verdict: Verdict) -> io::Result<Self> {
        let program = load(verdict)?;
        let fd = ns.open(|| link(&program, interface))?;
        Ok(Self { fd })
    }

    /// Pins the link.
    #[track_caller]
    #[expect(unsafe_code, reason = "libbpf's safe wrapper has only links of object files")]
    pub(crate) fn pin(&self, path: &Path) {
        let text = CString::new(path.as_os_str().as_bytes()).expect("no NUL");
        // SAFETY: the descriptor is open as long as `self` is, and the path ends with NUL.
        let done = unsafe { bpf_obj_pin(self.fd.as_raw_fd(), text.as_ptr()) };
        assert_eq!(done, 0, "pin a link as {}", path.display());
    }
}

impl Drop for XdpLink {
    #[expect(unsafe_code, reason = "libbpf's safe wrapper has only links of object files")]
    fn drop(&mut self) {
        // Closing it would not do: a child that another test forks just now has the descriptor, too, until it
        // becomes another program.
        // SAFETY: the descriptor is open as long as `self` is.
        unsafe { bpf_link_detach(self.fd.as_raw_fd()) };
    }
}

/// Loads `r0 = verdict; exit`.
#[expect(unsafe_code, reason = "libbpf's safe wrapper loads only object files")]
fn load(verdict: Verdict) -> io::Result<OwnedFd> {
    const MOV64_IMM: u8 = 0xb7;
    const EXIT: u8 = 0x95;
    let code = [
        bpf_insn { code: MOV64_IMM, imm: verdict as i32, ..Default::default() },
        bpf_insn { code: EXIT, ..Default::default() },
    ];
    let name = CString::new(format!("test_{verdict:?}")).expect("no NUL");
    // SAFETY: the strings end with NUL, `code` holds as many instructions as is said, and the
    // options may be null.
    let fd = unsafe {
        bpf_prog_load(
            BPF_PROG_TYPE_XDP,
            name.as_ptr(),
            c"GPL".as_ptr(),
            code.as_ptr(),
            code.len() as u64,
            ptr::null_mut(),
        )
    };
    own(fd)
}

/// Attaches a program to an interface of the calling thread's namespace.
#[expect(unsafe_code, reason = "libbpf's safe wrapper attaches only programs of object files")]
fn link(program: &OwnedFd, interface: &str) -> io::Result<OwnedFd> {
    let index = i32::try_from(if_nametoindex(interface)?).map_err(io::Error::other)?;
    // SAFETY: no pointers but the options, which may be null.
    let fd = unsafe { bpf_link_create(program.as_raw_fd(), index, BPF_XDP, ptr::null()) };
    own(fd)
}

/// Attaches a program in generic mode and without a link, as `ip link set … xdpgeneric` does: it stays.
#[track_caller]
#[expect(unsafe_code, reason = "libbpf's safe wrapper attaches only programs of object files")]
pub(crate) fn attach_without_link(ns: &NetNs, interface: &str, verdict: Verdict) {
    let attach = || {
        let program = load(verdict)?;
        let index = i32::try_from(if_nametoindex(interface)?).map_err(io::Error::other)?;
        // SAFETY: no pointers but the options, which may be null.
        let done =
            unsafe { bpf_xdp_attach(index, program.as_raw_fd(), XDP_FLAGS_SKB_MODE, ptr::null()) };
        if done < 0 { Err(io::Error::from_raw_os_error(-done)) } else { Ok(()) }
    };
    ns.open(attach).unwrap_or_else(|error| panic!("attach a program to {interface}: {error}"));
}

/// Takes the descriptor, or the negated errno, that libbpf returned.
#[expect(unsafe_code, reason = "libbpf returns bare descriptors")]
fn own(fd: i32) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::from_raw_os_error(-fd));
    }
    // SAFETY: libbpf has just opened it for this caller alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
