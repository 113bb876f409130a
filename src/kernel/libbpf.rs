//! What libbpf says about itself.
#![expect(unsafe_code, reason = "calls of C interfaces")]

use std::ffi::CStr;

/// The version of the libbpf that this process uses: `v1.7`.
pub(crate) fn version() -> String {
    // SAFETY: it returns a text that lives as long as the process and ends with a zero byte.
    let version = unsafe { CStr::from_ptr(libbpf_sys::libbpf_version_string()) };
    version.to_string_lossy().into_owned()
}
