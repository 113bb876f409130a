//! Why a map could not be read or written.

use std::error::Error;

/// The kinds of failure that callers distinguish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MapFailure {
    /// The kernel had not enough memory.
    OutOfMemory,
    /// There is no such entry or map.
    NotFound,
    /// Keys or values have another size than this build expects.
    Layout,
    /// Anything else.
    Other,
}

/// An operation on a map that failed.
#[derive(Debug, thiserror::Error)]
#[error("map {map}: cannot {operation}: {source:#}")]
pub struct MapError {
    map: String,
    operation: &'static str,
    failure: MapFailure,
    source: Box<dyn Error + Send + Sync>,
}

impl MapError {
    /// Makes the error of a failed call.
    pub(crate) fn of(
        map: &str,
        operation: &'static str,
        failure: MapFailure,
        source: Box<dyn Error + Send + Sync>,
    ) -> Self {
        Self { map: map.to_owned(), operation, failure, source }
    }

    pub(crate) fn is_out_of_memory(&self) -> bool {
        self.failure == MapFailure::OutOfMemory
    }

    pub(crate) fn is_not_found(&self) -> bool {
        self.failure == MapFailure::NotFound
    }

    pub(crate) fn is_layout(&self) -> bool {
        self.failure == MapFailure::Layout
    }
}
