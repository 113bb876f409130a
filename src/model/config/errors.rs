//! What is wrong with a configuration: all of it, up to a bound.

use super::ConfigError;

/// The most errors that are kept. More are only counted.
pub(super) const MOST_ERRORS: usize = 200;

/// Errors, in the order in which they were found.
#[derive(Debug, Default)]
pub(super) struct Errors {
    list: Vec<ConfigError>,
    more: usize,
}

impl Errors {
    /// Adds an error.
    pub(super) fn push(&mut self, error: ConfigError) {
        // One error of a key is enough: the next one often follows from it.
        let is_known = |known: &ConfigError| known.is_about(&error);
        if self.list.iter().any(is_known) {
            return;
        }
        if self.is_full() {
            self.more += 1;
        } else {
            self.list.push(error);
        }
    }

    /// Adds an error. Its text is only made if it is kept: a file may have a million errors.
    pub(super) fn push_with(&mut self, error: impl FnOnce() -> ConfigError) {
        if self.is_full() {
            self.more += 1;
        } else {
            self.push(error());
        }
    }

    /// Whether further errors are only counted.
    pub(super) fn is_full(&self) -> bool {
        self.list.len() >= MOST_ERRORS
    }

    /// Notes that there are more errors, which were not kept.
    pub(super) fn count(&mut self, more: usize) {
        self.more += more;
    }

    /// Adds the error of a result, if it has one.
    pub(super) fn take<T>(&mut self, result: Result<T, ConfigError>) -> Option<T> {
        result.map_err(|error| self.push(error)).ok()
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The errors that were kept, and how many more there are.
    pub(super) fn into_parts(self) -> (Vec<ConfigError>, usize) {
        (self.list, self.more)
    }

    /// The first error, which knows how many others there are.
    pub(super) fn into_result(self) -> Result<(), ConfigError> {
        let others = self.list.len().saturating_sub(1) + self.more;
        match self.list.into_iter().next() {
            None => Ok(()),
            Some(first) => Err(first.with_others(others)),
        }
    }
}
