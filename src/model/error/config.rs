//! What is wrong with a configuration, in one line.

use std::fmt;
use std::path::Path;

use crate::model::text::message;
use crate::model::text::quote;

/// What is wrong with a configuration, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    file: Option<String>,
    line: Option<usize>,
    key: String,
    what: String,
}

impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.file, self.line) {
            (Some(file), Some(line)) => write!(f, "{}:{line}: ", quote(file))?,
            (Some(file), None) => write!(f, "{}: ", quote(file))?,
            (None, Some(line)) => write!(f, "line {line}: ")?,
            (None, None) => {}
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", quote(&self.key))?;
        }
        f.write_str(&message(&self.what))
    }
}

impl ConfigError {
    pub(crate) fn at(key: impl Into<String>, what: impl Into<String>) -> Self {
        Self { file: None, line: None, key: key.into(), what: what.into() }
    }

    /// The error, with the line that it is on, where that is known.
    #[must_use]
    pub(crate) fn on_line(self, line: Option<usize>) -> Self {
        Self { line, ..self }
    }

    /// The error without the key, where no file has one.
    #[must_use]
    pub(crate) fn without_key(mut self) -> Self {
        self.key.clear();
        self
    }

    /// The error, with the file that it is in.
    #[must_use]
    pub fn in_file(mut self, path: &Path) -> Self {
        self.file = Some(path.display().to_string());
        self
    }
}
