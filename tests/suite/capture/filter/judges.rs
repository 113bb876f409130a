//! What the tests compare: a program in the kernel, and libpcap's own interpreter.
#![expect(unsafe_code, reason = "calls of C interfaces that have no safe ones")]

use std::ffi::CString;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::AsRawFd;
use std::os::fd::FromRawFd;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::LazyLock;

use l4lb::capture::filter::ClassicInsn;
use libbpf_sys::bpf_obj_get;
use libbpf_sys::bpf_prog_test_run_opts;
use libbpf_sys::bpf_test_run_opts;
use libloading::Library;

/// `bpf_filter` of libpcap.
type Interpreter = unsafe extern "C" fn(
    program: *const ClassicInsn,
    packet: *const u8,
    len: u32,
    captured: u32,
) -> u32;

static INTERPRETER: LazyLock<Interpreter> = LazyLock::new(|| {
    // SAFETY: libpcap's initialisers need nothing, the type is that of pcap.h, and nobody unloads the library.
    unsafe {
        let library = Library::new("libpcap.so.0.8").or_else(|_| Library::new("libpcap.so.1"));
        let library = ManuallyDrop::new(library.expect("libpcap"));
        *library.get("bpf_filter").expect("bpf_filter in libpcap")
    }
});

/// What libpcap's interpreter says of a packet. It must be sure that the program ends.
pub(crate) fn libpcap_matches(program: &[ClassicInsn], packet: &[u8]) -> bool {
    let len = u32::try_from(packet.len()).expect("a packet");
    // SAFETY: the program was checked by `Filter`: no jump leads out of it, no word of memory is beyond its
    // scratch memory. The packet has `len` bytes.
    unsafe { INTERPRETER(program.as_ptr(), packet.as_ptr(), len, len) != 0 }
}

/// Runs an XDP program over a frame; its verdict.
pub(crate) fn run(program: &OwnedFd, frame: &[u8]) -> io::Result<u32> {
    let mut opts = bpf_test_run_opts {
        sz: size_of::<bpf_test_run_opts>() as _,
        data_in: frame.as_ptr().cast(),
        data_size_in: u32::try_from(frame.len()).map_err(io::Error::other)?,
        ..Default::default()
    };
    // SAFETY: the frame lives until the call returns, and its size is right.
    let result = unsafe { bpf_prog_test_run_opts(program.as_raw_fd(), &raw mut opts) };
    if result < 0 { Err(io::Error::from_raw_os_error(-result)) } else { Ok(opts.retval) }
}

/// Opens a pinned program.
pub(crate) fn pinned(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: the path ends with NUL.
    let fd = unsafe { bpf_obj_get(path.as_ptr()) };
    if fd < 0 {
        return Err(io::Error::from_raw_os_error(-fd));
    }
    // SAFETY: the kernel just returned this descriptor, nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
