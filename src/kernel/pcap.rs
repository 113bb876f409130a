//! libpcap's compiler of filter expressions.
//!
//! Bound by hand: the crate `pcap` passes no netmask, which `ip broadcast` needs, and does not expose the compiled
//! instructions.
#![expect(unsafe_code, reason = "calls of C interfaces")]

use std::ffi::CStr;
use std::ffi::CString;
use std::ffi::c_char;
use std::ffi::c_int;
use std::ffi::c_uint;
use std::net::Ipv4Addr;
use std::ptr;
use std::ptr::NonNull;
use std::slice;

/// Frames that begin with an Ethernet header.
pub(crate) const DLT_EN10MB: c_int = 1;
/// Packets that begin with an IPv4 or IPv6 header. Linux's number; those of some other systems differ.
pub(crate) const DLT_RAW: c_int = 12;

/// What an accepting program returns, as with tcpdump: more than any frame's length.
const SNAPLEN: c_int = 262_144;

/// `PCAP_NETMASK_UNKNOWN`.
const NETMASK_UNKNOWN: u32 = 0xffff_ffff;

/// `pcap_t`, which only libpcap looks into.
#[repr(C)]
struct PcapT {
    opaque: [u8; 0],
}

/// An instruction of classic BPF: the kernel's `struct sock_filter`, libpcap's `struct bpf_insn`, a line of
/// `tcpdump -ddd`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct ClassicInsn {
    /// The opcode.
    pub code: u16,
    /// How many instructions a conditional jump skips if its test holds.
    pub jt: u8,
    /// How many instructions it skips if the test does not hold.
    pub jf: u8,
    /// The constant or offset.
    pub k: u32,
}

/// `struct bpf_program`.
#[repr(C)]
struct BpfProgram {
    len: c_uint,
    instructions: *mut ClassicInsn,
}

#[link(name = "pcap")]
unsafe extern "C" {
    fn pcap_open_dead(linktype: c_int, snaplen: c_int) -> *mut PcapT;
    fn pcap_close(pcap: *mut PcapT);
    fn pcap_geterr(pcap: *mut PcapT) -> *const c_char;
    fn pcap_compile(
        pcap: *mut PcapT,
        program: *mut BpfProgram,
        expression: *const c_char,
        optimize: c_int,
        netmask: u32,
    ) -> c_int;
    fn pcap_freecode(program: *mut BpfProgram);
}

/// Closes the handle when dropped.
struct Handle(NonNull<PcapT>);

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: pcap_open_dead returned it, and nobody else closes it.
        unsafe { pcap_close(self.0.as_ptr()) }
    }
}

/// Compiles an expression to optimised classic BPF for packets of a link type (`DLT_*`), or returns libpcap's message
/// about what is wrong. Without a netmask, libpcap refuses `ip broadcast`.
pub(crate) fn compile(
    expression: &str,
    linktype: c_int,
    netmask: Option<Ipv4Addr>,
) -> Result<Vec<ClassicInsn>, String> {
    let expression =
        CString::new(expression).map_err(|_| "the expression holds a NUL byte".to_owned())?;
    // In host byte order. pcap_lookupnet returns the other order, and tcpdump gets it wrong.
    let netmask = netmask.map_or(NETMASK_UNKNOWN, u32::from);
    // SAFETY: takes no pointers.
    let handle = Handle(
        NonNull::new(unsafe { pcap_open_dead(linktype, SNAPLEN) })
            .ok_or_else(|| "out of memory".to_owned())?,
    );
    let mut program = BpfProgram { len: 0, instructions: ptr::null_mut() };
    // SAFETY: the handle is open, `program` is writable, and the expression ends with NUL.
    let result = unsafe {
        pcap_compile(handle.0.as_ptr(), &raw mut program, expression.as_ptr(), 1, netmask)
    };
    if result < 0 {
        // SAFETY: a NUL-terminated buffer that belongs to the handle, which is still open.
        let message = unsafe { CStr::from_ptr(pcap_geterr(handle.0.as_ptr())) };
        let message = message.to_string_lossy();
        return Err(message.split_whitespace().collect::<Vec<_>>().join(" "));
    }
    if program.instructions.is_null() {
        return Ok(Vec::new());
    }
    // SAFETY: libpcap allocated `len` instructions there, of the layout that ClassicInsn repeats.
    let instructions =
        unsafe { slice::from_raw_parts(program.instructions, program.len as usize) }.to_vec();
    // SAFETY: pcap_compile filled it, and what it points to is not used again.
    unsafe { pcap_freecode(&raw mut program) };
    Ok(instructions)
}
