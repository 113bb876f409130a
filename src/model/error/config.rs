//! What is wrong with a configuration, in one line.

use std::fmt;
use std::path::Path;

use crate::model::text::message;
use crate::model::text::quote;

/// Keys of which an error says nothing without them: a check has many.
const OF_HEALTH: [&str; 5] = ["checks", "check", "min_healthy", "slow_start", "flapping"];

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

    /// The error as one of a change to what runs: no file has the key. What a check says wrong keeps its key, without
    /// the VIP's place.
    #[must_use]
    pub(crate) fn of_change(self) -> Self {
        let of_vip = self.key.starts_with("vips[").then(|| self.key.split_once("]."));
        let key = of_vip.flatten().map_or(&*self.key, |(_, key)| key);
        let is_kept = OF_HEALTH.contains(&key.split('.').next().unwrap_or_default());
        let key = if is_kept { key.to_owned() } else { String::new() };
        Self { key, ..self }
    }

    /// The key; empty: the file as a whole.
    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    /// Whether the file is known, but no line.
    pub(crate) fn lacks_line(&self) -> bool {
        self.line.is_none() && !self.key.is_empty()
    }

    /// The error, with the file that it is in.
    #[must_use]
    pub fn in_file(mut self, path: &Path) -> Self {
        self.file = Some(path.display().to_string());
        self
    }
}
