//! Why a file of packet tests cannot be used.

use crate::model::text::message;
use crate::model::text::quote;

/// A packet-test file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {place}{}", quote(file), message(what))]
pub struct PacketTestError {
    file: String,
    place: String,
    what: String,
}

impl PacketTestError {
    pub(crate) fn new(file: String, place: String, what: String) -> Self {
        Self { file, place, what }
    }
}
