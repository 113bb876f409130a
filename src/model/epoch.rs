//! How JSON has times: in seconds since 1970.

use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use serde::Serialize as _;
use serde::Serializer;

/// For `serialize_with`.
#[expect(clippy::ref_option, reason = "as serde calls it")]
pub(crate) fn seconds<S: Serializer>(time: &Option<SystemTime>, to: S) -> Result<S::Ok, S::Error> {
    let seconds = time.and_then(|time| Some(time.duration_since(UNIX_EPOCH).ok()?.as_secs()));
    seconds.serialize(to)
}
