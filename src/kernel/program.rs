//! Loads programs that l4lb assembled.
#![expect(unsafe_code, reason = "calls of C interfaces")]

use std::ffi::CStr;
use std::ffi::CString;
use std::io;
use std::mem::size_of;
use std::os::fd::FromRawFd;
use std::os::fd::OwnedFd;
use std::ptr;

use libbpf_sys as sys;

use crate::kernel::insn::Insn;

/// The licence for the kernel: some helpers are for GPL programs only.
const LICENSE: &CStr = c"Dual BSD/GPL";

/// Room for the verifier's log of a program that it refuses: the most that older kernels accept.
const LOG_SIZE: u32 = u32::MAX >> 8;

/// Why a program was not loaded.
#[derive(Debug)]
pub(crate) struct LoadError {
    /// The kernel's error.
    pub(crate) source: io::Error,
    /// The verifier's log. It may be empty.
    pub(crate) log: String,
}

/// Loads an XDP program for chains. The kernel keeps 15 bytes of the name.
pub(crate) fn load_xdp(name: &str, code: &[Insn]) -> Result<OwnedFd, LoadError> {
    crate::kernel::bpf::write_point();
    let without_log = |source| LoadError { source, log: String::new() };
    let name = CString::new(name).map_err(|error| without_log(error.into()))?;
    let code: Vec<_> = code
        .iter()
        .map(|insn| sys::bpf_insn {
            code: insn.code,
            _bitfield_1: sys::bpf_insn::new_bitfield_1(insn.dst, insn.src),
            off: insn.off,
            imm: insn.imm,
            ..Default::default()
        })
        .collect();
    match load(&name, &code, Variant::Xdp, &mut []) {
        Ok(program) => Ok(program),
        Err(source) => {
            // Load it once more for the log. The log would slow down every load.
            let mut log = vec![0_u8; LOG_SIZE as usize];
            let program = load(&name, &code, Variant::Xdp, &mut log);
            log.truncate(log.iter().position(|byte| *byte == 0).unwrap_or(log.len()));
            let log = String::from_utf8_lossy(&log).into_owned();
            program.map_err(|_| LoadError { source, log })
        }
    }
}

/// Kinds of XDP programs that cannot be in one program array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Variant {
    /// As libbpf loads `SEC("xdp")`, which is what chains are made of.
    Xdp,
    /// As libbpf loads `SEC("xdp.frags")`. Linux 5.18.
    Frags,
    /// Without an expected attach type, as other loaders than libbpf do. Linux before 6.18 treats it as
    /// [`Variant::Xdp`].
    Untyped,
}

/// Loads a program of a variant that passes everything.
pub(crate) fn load_passing(variant: Variant) -> io::Result<OwnedFd> {
    const MOV64_IMM: u8 = 0xb7;
    const EXIT: u8 = 0x95;
    const XDP_PASS: i32 = 2;
    let code = [
        sys::bpf_insn { code: MOV64_IMM, imm: XDP_PASS, ..Default::default() },
        sys::bpf_insn { code: EXIT, ..Default::default() },
    ];
    load(c"l4lb_probe", &code, variant, &mut [])
}

/// Loads a program that returns how many bytes of the frame it sees.
pub(crate) fn load_measuring() -> io::Result<OwnedFd> {
    const LDX_MEM_W: u8 = 0x61;
    const SUB64_REG: u8 = 0x1f;
    const EXIT: u8 = 0x95;
    const CTX: u8 = 1;
    // Where they are in `struct xdp_md`.
    const DATA: i16 = 0;
    const DATA_END: i16 = 4;
    let load_of = |dst, off| sys::bpf_insn {
        code: LDX_MEM_W,
        _bitfield_1: sys::bpf_insn::new_bitfield_1(dst, CTX),
        off,
        ..Default::default()
    };
    let code = [
        load_of(0, DATA_END),
        load_of(2, DATA),
        sys::bpf_insn {
            code: SUB64_REG,
            _bitfield_1: sys::bpf_insn::new_bitfield_1(0, 2),
            ..Default::default()
        },
        sys::bpf_insn { code: EXIT, ..Default::default() },
    ];
    load(c"l4lb_probe", &code, Variant::Xdp, &mut [])
}

fn load(
    name: &CStr,
    code: &[sys::bpf_insn],
    variant: Variant,
    log: &mut [u8],
) -> io::Result<OwnedFd> {
    let mut opts = sys::bpf_prog_load_opts {
        sz: size_of::<sys::bpf_prog_load_opts>() as _,
        // As libbpf loads SEC("xdp"): a program array takes only programs of one kind (since Linux 6.18).
        expected_attach_type: if variant == Variant::Untyped { 0 } else { sys::BPF_XDP },
        prog_flags: if variant == Variant::Frags { sys::BPF_F_XDP_HAS_FRAGS } else { 0 },
        log_level: u32::from(!log.is_empty()),
        log_size: crate::kernel::bpf::len_u32(log),
        log_buf: if log.is_empty() { ptr::null_mut() } else { log.as_mut_ptr().cast() },
        ..Default::default()
    };
    // SAFETY: the strings end with NUL, `code` and `log` have the sizes that are given, and all of them
    // live until the call returns.
    let fd = crate::kernel::bpf::check(unsafe {
        sys::bpf_prog_load(
            sys::BPF_PROG_TYPE_XDP,
            name.as_ptr(),
            LICENSE.as_ptr(),
            code.as_ptr(),
            code.len() as _,
            &raw mut opts,
        )
    })?;
    // SAFETY: the kernel just returned this descriptor, nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
