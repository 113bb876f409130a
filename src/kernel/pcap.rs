//! libpcap's compiler of filter expressions.
//!
//! Bound by hand: the crate `pcap` passes no netmask, which `ip broadcast` needs, and does not expose the compiled
//! instructions.
#![expect(unsafe_code, reason = "calls of C interfaces")]

use std::error::Error as _;
use std::ffi::CStr;
use std::ffi::CString;
use std::ffi::c_char;
use std::ffi::c_int;
use std::ffi::c_uint;
use std::mem;
use std::net::Ipv4Addr;
use std::ptr;
use std::ptr::NonNull;
use std::slice;
use std::sync::OnceLock;

use libloading::Library;

/// Frames that begin with an Ethernet header.
pub(crate) const DLT_EN10MB: c_int = 1;
/// Packets that begin with an IPv4 or IPv6 header. Linux's number; those of some other systems differ.
pub(crate) const DLT_RAW: c_int = 12;

/// What an accepting program returns, as with tcpdump: more than any frame's length.
const SNAPLEN: c_int = 262_144;

/// What libpcap compiles an empty expression to, so that captures without a filter need no libpcap: `ret #262144`.
const ACCEPT: ClassicInsn = ClassicInsn { code: 0x06, jt: 0, jf: 0, k: SNAPLEN.cast_unsigned() };

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

/// The names that libpcap has, the likeliest first: Debian's differs from that of all others. The last one is there only
/// if the package for developers is.
const NAMES: [&str; 3] = ["libpcap.so.0.8", "libpcap.so.1", "libpcap.so"];

/// What is called in libpcap. It stays loaded: a thread may still be in it when the process has stopped waiting.
#[derive(Clone, Copy)]
struct Functions {
    open_dead: unsafe extern "C" fn(linktype: c_int, snaplen: c_int) -> *mut PcapT,
    close: unsafe extern "C" fn(pcap: *mut PcapT),
    geterr: unsafe extern "C" fn(pcap: *mut PcapT) -> *const c_char,
    compile: unsafe extern "C" fn(
        pcap: *mut PcapT,
        program: *mut BpfProgram,
        expression: *const c_char,
        optimize: c_int,
        netmask: u32,
    ) -> c_int,
    freecode: unsafe extern "C" fn(program: *mut BpfProgram),
}

/// Loads libpcap when the first filter needs it, so that commands without a filter run on hosts that do not have it.
/// A failure is not remembered: somebody may install libpcap while `lbctl serve` runs.
fn functions() -> Result<Functions, CompileError> {
    static LOADED: OnceLock<Functions> = OnceLock::new();
    if let Some(functions) = LOADED.get() {
        return Ok(*functions);
    }
    let mut reasons = Vec::new();
    for name in NAMES {
        match load(name) {
            Ok(functions) => return Ok(*LOADED.get_or_init(|| functions)),
            Err(error) => {
                // Its source is the dynamic loader's message.
                let source = error.source().map(ToString::to_string);
                reasons.push(one_line(&source.unwrap_or_else(|| error.to_string())));
            }
        }
    }
    Err(CompileError::NoLibpcap(reasons.join("; ")))
}

fn load(name: &str) -> Result<Functions, libloading::Error> {
    // SAFETY: libpcap's initialisers need nothing of this process, and the same library was loaded by every command when
    // `lbctl` was linked to it.
    let library = unsafe { Library::new(name) }?;
    // SAFETY: these are the types of pcap.h, which no version of libpcap with one of these names has changed.
    let functions = unsafe {
        Functions {
            open_dead: *library.get("pcap_open_dead")?,
            close: *library.get("pcap_close")?,
            geterr: *library.get("pcap_geterr")?,
            compile: *library.get("pcap_compile")?,
            freecode: *library.get("pcap_freecode")?,
        }
    };
    // Never unloaded, so the functions stay valid.
    mem::forget(library);
    Ok(functions)
}

/// Why an expression was not compiled.
#[derive(Debug)]
pub(crate) enum CompileError {
    /// libpcap cannot be loaded. The dynamic loader's reasons.
    NoLibpcap(String),
    /// What is wrong with the expression.
    Expression(String),
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Closes the handle when dropped.
struct Handle {
    pcap: NonNull<PcapT>,
    functions: Functions,
}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: pcap_open_dead returned it, and nobody else closes it.
        unsafe { (self.functions.close)(self.pcap.as_ptr()) }
    }
}

/// Compiles an expression to optimised classic BPF for packets of a link type (`DLT_*`), or returns libpcap's message
/// about what is wrong. Without a netmask, libpcap refuses `ip broadcast`.
pub(crate) fn compile(
    expression: &str,
    linktype: c_int,
    netmask: Option<Ipv4Addr>,
) -> Result<Vec<ClassicInsn>, CompileError> {
    if expression.trim_ascii().is_empty() {
        return Ok(vec![ACCEPT]);
    }
    let expression = CString::new(expression)
        .map_err(|_| CompileError::Expression("the expression holds a NUL byte".to_owned()))?;
    // In host byte order. pcap_lookupnet returns the other order, and tcpdump gets it wrong.
    let netmask = netmask.map_or(NETMASK_UNKNOWN, u32::from);
    let functions = functions()?;
    // SAFETY: takes no pointers.
    let pcap = NonNull::new(unsafe { (functions.open_dead)(linktype, SNAPLEN) })
        .ok_or_else(|| CompileError::Expression("out of memory".to_owned()))?;
    let handle = Handle { pcap, functions };
    let mut program = BpfProgram { len: 0, instructions: ptr::null_mut() };
    // SAFETY: the handle is open, `program` is writable, and the expression ends with NUL.
    let result = unsafe {
        (functions.compile)(handle.pcap.as_ptr(), &raw mut program, expression.as_ptr(), 1, netmask)
    };
    if result < 0 {
        // SAFETY: a NUL-terminated buffer that belongs to the handle, which is still open.
        let message = unsafe { CStr::from_ptr((functions.geterr)(handle.pcap.as_ptr())) };
        return Err(CompileError::Expression(one_line(&message.to_string_lossy())));
    }
    if program.instructions.is_null() {
        return Ok(Vec::new());
    }
    // SAFETY: libpcap allocated `len` instructions there, of the layout that ClassicInsn repeats.
    let instructions =
        unsafe { slice::from_raw_parts(program.instructions, program.len as usize) }.to_vec();
    // SAFETY: pcap_compile filled it, and what it points to is not used again.
    unsafe { (functions.freecode)(&raw mut program) };
    Ok(instructions)
}
