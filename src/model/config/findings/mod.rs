//! All that is wrong with the files of a configuration, and what is right but hurts: each with its place and what to do.

mod harm;
mod places;
mod sources;
mod spellings;
#[cfg(test)]
mod tests;
mod tree;
mod types;

use std::fmt;

use serde::Serialize;
use serde_json::Map;
use serde_json::Value;

use super::Config;
use super::ConfigError;
use super::errors::Errors;
use crate::model::text::message;
use crate::model::text::quote;
use places::Places;
pub(crate) use sources::MAX_INCLUDED;
pub(crate) use sources::Source;
pub(crate) use sources::Sources;
use types::INCLUDE;
use types::Search;

/// How bad something in a configuration is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum ConfigSeverity {
    /// The configuration is not applied.
    Error,
    /// It can be applied, and is hardly what was meant.
    Warning,
}

/// Something in a configuration that is wrong, or that hurts. Its text is one line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ConfigFinding {
    /// The file; `None`: the text did not come from a file.
    pub file: Option<String>,
    /// The line, from 1; `None`: it is about the file as a whole.
    pub line: Option<usize>,
    /// The column, in characters, from 1.
    pub column: Option<usize>,
    /// The key, such as `vips[0].port`; empty: the file as a whole.
    pub key: String,
    /// How bad it is.
    pub severity: ConfigSeverity,
    /// What it is.
    pub message: String,
    /// What to do about it.
    pub fix: Option<String>,
}

impl ConfigFinding {
    fn new(error: &ConfigError, severity: ConfigSeverity) -> Self {
        let (file, line, column) = error.place();
        let (what, fix) = error.parts();
        Self {
            file: file.map(str::to_owned),
            line,
            column,
            key: error.key().to_owned(),
            severity,
            message: message(&what),
            fix: fix.map(|fix| message(&fix)),
        }
    }
}

impl fmt::Display for ConfigFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{}:", quote(file))?;
        }
        if let (Some(line), Some(column)) = (self.line, self.column) {
            write!(f, "{line}:{column}:")?;
        }
        let severity = match self.severity {
            ConfigSeverity::Error => "error",
            ConfigSeverity::Warning => "warning",
        };
        let space = if self.file.is_some() || self.line.is_some() { " " } else { "" };
        write!(f, "{space}{severity}: ")?;
        if !self.key.is_empty() {
            write!(f, "{}: ", quote(&self.key))?;
        }
        f.write_str(&self.message)?;
        match &self.fix {
            Some(fix) => write!(f, "; {fix}"),
            None => Ok(()),
        }
    }
}

/// What was found in a configuration: errors first, then warnings, each in the order of files and lines.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ConfigReport {
    /// The files that were read.
    pub files: Vec<String>,
    /// How many errors there are.
    pub errors: usize,
    /// How many warnings there are.
    pub warnings: usize,
    /// What was found: at most 200 errors and 200 warnings.
    pub findings: Vec<ConfigFinding>,
}

impl fmt::Display for ConfigReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            writeln!(f, "{finding}")?;
        }
        let count = |count: usize, what: &str| {
            format!("{count} {what}{}", if count == 1 { "" } else { "s" })
        };
        let (errors, warnings) = (count(self.errors, "error"), count(self.warnings, "warning"));
        let shown = self.findings.len();
        match self.errors + self.warnings {
            0 => writeln!(f, "no errors, no warnings"),
            all if all > shown => writeln!(f, "{errors}, {warnings}; the first {shown} are shown"),
            _ => writeln!(f, "{errors}, {warnings}"),
        }
    }
}

impl ConfigReport {
    /// A report that has one error: the files could not be read.
    pub(crate) fn unreadable(error: &ConfigError) -> Self {
        let finding = ConfigFinding::new(error, ConfigSeverity::Error);
        let files = finding.file.iter().cloned().collect();
        Self { files, errors: 1, warnings: 0, findings: vec![finding] }
    }
}

/// What a search through the files has found.
pub(super) struct Searched {
    /// The configuration, if nothing is wrong.
    pub(super) config: Option<Config>,
    /// What is wrong. Each error has its place.
    pub(super) errors: Errors,
}

impl Sources {
    /// Searches all files. It takes longer than reading them.
    pub(super) fn search(&self) -> Searched {
        let mut errors = Errors::default();
        if let Some(error) = self.emptiness() {
            errors.push(error);
        }
        // What a parser of TOML finds in it helps nobody.
        if let Some(error) = self.other_language() {
            errors.push(error);
            return Searched { config: None, errors };
        }
        let trees: Vec<_> = self
            .all()
            .map(|source| {
                let mut own = Errors::default();
                let tree = tree::parse(&source.text, source.format, &mut own);
                let (own, more) = own.into_parts();
                errors.count(more);
                for error in own {
                    errors.push(source.name(error));
                }
                tree
            })
            .collect();
        // What the parser could not read may have been what seems to be missing.
        let is_whole = errors.is_empty();
        let (values, places): (Vec<_>, Vec<_>) = trees.into_iter().unzip();
        let mut found = Errors::default();
        let (mut merged, origins) = self.merge(values, &mut found);
        let mut search = Search::new(&mut found, self.main.format);
        search.all(&mut merged);
        let config: Option<Config> = serde_json::from_value(Value::Object(merged)).ok();
        let semantic = config.as_ref().filter(|_| is_whole).map(Config::errors);
        let (semantic, more) = semantic.unwrap_or_default().into_parts();
        errors.count(more);
        let real = semantic.into_iter().filter(|error| !search.is_replaced(error.key()));
        let real: Vec<_> = real.collect();
        let renamed = search.renamed;
        for error in real {
            found.push(error);
        }
        let (found, more) = found.into_parts();
        errors.count(more);
        for error in found {
            let is_missing = error.parts().0.starts_with("missing field");
            if is_whole || !is_missing {
                // The file has the mistyped key.
                let key = renamed.get(error.key()).map_or(error.key(), String::as_str);
                let sought = error.clone().placed(key.to_owned(), None, None);
                let located = self.locate(&sought, &origins, &places);
                errors.push(if renamed.contains_key(error.key()) {
                    let (_, line, column) = located.place();
                    located.clone().placed(error.key().to_owned(), line, column)
                } else {
                    located
                });
            }
        }
        let config = config.filter(|_| errors.is_empty());
        Searched { config, errors }
    }

    /// The errors and warnings of all files.
    pub(crate) fn report(&self) -> ConfigReport {
        let Searched { config, errors } = self.search();
        let (errors, more) = errors.into_parts();
        let total = errors.len() + more;
        let mut findings: Vec<_> =
            errors.iter().map(|error| ConfigFinding::new(error, ConfigSeverity::Error)).collect();
        let mut harmful = Errors::default();
        if let Some(config) = &config {
            harm::look(config, &mut harmful);
        }
        self.look(&mut harmful);
        for (i, pattern) in &self.unmatched {
            let what = format!(
                "'{}' matches no file; correct it, or remove it from include",
                quote(pattern)
            );
            harmful.push(ConfigError::at(format!("include[{i}]"), what));
        }
        let mut ignored = Errors::default();
        let trees = self.all().map(|file| tree::parse(&file.text, file.format, &mut ignored));
        let (values, places): (Vec<_>, Vec<_>) = trees.unzip();
        let (merged, origins) = self.merge(values, &mut Errors::default());
        if config.is_some() {
            spellings::look(&merged, &mut harmful);
        }
        let (harmful, more) = harmful.into_parts();
        let warnings = harmful.len() + more;
        findings.extend(harmful.iter().map(|warning| {
            let located = self.locate(warning, &origins, &places);
            ConfigFinding::new(&located, ConfigSeverity::Warning)
        }));
        let files: Vec<_> = self.all().filter_map(Source::shown).collect();
        let place = |finding: &ConfigFinding| {
            files.iter().position(|file| Some(file) == finding.file.as_ref())
        };
        findings.sort_by_key(|found| (found.severity, place(found), found.line, found.column));
        ConfigReport { files, errors: total, warnings, findings }
    }
}

/// The members of a tree; none: it is no table.
fn members(tree: Value) -> Map<String, Value> {
    match tree {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}
