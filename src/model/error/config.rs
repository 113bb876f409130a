//! What is wrong with a configuration, in one line.

use std::fmt;
use std::path::Path;

use crate::model::address::Vip;
use crate::model::text::message;
use crate::model::text::quote;

/// Keys of which an error says nothing without them: a check has many.
const OF_HEALTH: [&str; 5] = ["checks", "check", "min_healthy", "slow_start", "flapping"];

/// What is wrong with a configuration, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    // Boxed, so that an error remains small enough to be returned.
    file: Option<Box<str>>,
    line: Option<usize>,
    column: Option<usize>,
    key: Box<str>,
    what: Box<str>,
    /// A key that it is about, too: that of the first of two equal entries.
    also: Option<Box<str>>,
    /// How many errors there are beside this one.
    others: usize,
    /// The VIP of a change that it is about.
    vip: Option<Box<Vip>>,
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
        f.write_str(&message(&self.what))?;
        match (&self.file, self.others) {
            (_, 0) => Ok(()),
            (file, others) => {
                write!(f, " (and {others} more error{})", if others == 1 { "" } else { "s" })?;
                match file {
                    Some(file) => write!(f, "; all of them: lbctl check -f {}", quote(file)),
                    None => Ok(()),
                }
            }
        }
    }
}

impl ConfigError {
    pub(crate) fn at(key: impl Into<String>, what: impl Into<String>) -> Self {
        Self {
            file: None,
            line: None,
            column: None,
            key: key.into().into(),
            what: what.into().into(),
            also: None,
            others: 0,
            vip: None,
        }
    }

    /// What is wrong in a line of a file of changes, or in the file as a whole.
    pub fn in_line(line: Option<usize>, what: impl Into<String>) -> Self {
        Self::at("", what).placed(String::new(), line, None)
    }

    /// The error, which is about this key, too.
    #[must_use]
    pub(crate) fn also(self, key: impl Into<String>) -> Self {
        Self { also: Some(key.into().into()), ..self }
    }

    /// A key that it is about, too.
    pub(crate) fn also_key(&self) -> Option<&str> {
        self.also.as_deref()
    }

    /// The error, one of several.
    #[must_use]
    pub(crate) fn with_others(self, others: usize) -> Self {
        Self { others, ..self }
    }

    /// The error, at this key of a file, on this line and in this column.
    #[must_use]
    pub(crate) fn placed(self, key: String, line: Option<usize>, column: Option<usize>) -> Self {
        Self { line, column, key: key.into(), ..self }
    }

    /// Whether another error is about the same key of the same file.
    pub(crate) fn is_about(&self, other: &Self) -> bool {
        let is_same = self.key == other.key && self.file == other.file;
        is_same && (!self.key.is_empty() || self.what == other.what)
    }

    /// The file that it is in, its line and its column.
    pub(crate) fn place(&self) -> (Option<&str>, Option<usize>, Option<usize>) {
        (self.file.as_deref(), self.line, self.column)
    }

    /// What is wrong, and what to do, if it says that.
    pub(crate) fn parts(&self) -> (String, Option<String>) {
        if let Some((what, example)) = self.what.split_once(", such as ") {
            return (what.to_owned(), Some(format!("write {example}")));
        }
        match self.what.split_once("; ") {
            Some((what, fix)) => (what.to_owned(), Some(fix.to_owned())),
            None => (self.what.to_string(), None),
        }
    }

    /// The error, which names the place of the other key that it is about.
    #[must_use]
    pub(crate) fn and_place(self, other: &str) -> Self {
        let what = match self.what.split_once("; ") {
            Some((what, fix)) => format!("{what} on {other}; {fix}"),
            None => format!("{}, first on {other}; remove one of them", self.what),
        };
        Self { what: what.into(), ..self }
    }

    /// The error as one of a change to what runs, which has these VIPs at these places: no file has the key. What a
    /// check says wrong keeps its key, without the VIP's place.
    #[must_use]
    pub(crate) fn of_change(self, vip_at: impl Fn(usize) -> Option<Vip>) -> Self {
        let of_vip = self.key.strip_prefix("vips[").and_then(|rest| rest.split_once(']'));
        let vip = of_vip.and_then(|(place, _)| vip_at(place.parse().ok()?));
        let vip = vip.map(Box::new);
        let below = of_vip.and_then(|(_, key)| key.strip_prefix('.'));
        let key = below.unwrap_or(&*self.key);
        let is_kept = OF_HEALTH.contains(&key.split('.').next().unwrap_or_default());
        let key = if is_kept { key.to_owned() } else { String::new() };
        Self { key: key.into(), vip, ..self }
    }

    /// The VIP that a change to what runs made wrong, if it is about one.
    pub fn vip(&self) -> Option<Vip> {
        self.vip.as_deref().copied()
    }

    /// The error, on this line.
    #[must_use]
    pub fn on_line(self, line: Option<usize>) -> Self {
        Self { line, ..self }
    }

    /// The key; empty: the file as a whole.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The file, if it is about one.
    pub fn file(&self) -> Option<&str> {
        self.file.as_deref()
    }

    /// The line, if it is known.
    pub fn line(&self) -> Option<usize> {
        self.line
    }

    /// Whether the file is known, but no line.
    pub(crate) fn lacks_line(&self) -> bool {
        self.line.is_none() && !self.key.is_empty()
    }

    /// The error, with the file that it is in.
    #[must_use]
    pub fn in_file(mut self, path: &Path) -> Self {
        self.file = Some(path.display().to_string().into());
        self
    }
}
