//! Digests that tell plans and files apart.

use std::io::Cursor;

/// A digest of these bytes. It has no key: whoever knows the bytes can compute it.
pub(crate) fn digest(bytes: &[u8]) -> u64 {
    // It cannot fail: memory can be read.
    let digest = murmur3::murmur3_x64_128(&mut Cursor::new(bytes), 0).unwrap_or_default();
    #[expect(clippy::cast_possible_truncation, reason = "half of it tells them apart")]
    let half = digest as u64;
    half
}
