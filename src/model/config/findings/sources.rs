//! The files that a configuration is read from: one, and those that it includes.

use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;

use serde_json::Map;
use serde_json::Value;

use super::INCLUDE;
use super::Places;
use super::Searched;
use super::members;
use super::types::unknown_table;
use crate::model::config::Config;
use crate::model::config::ConfigError;
use crate::model::config::errors::Errors;
use crate::model::config::explain::Format;
use crate::model::text::quote;
use crate::model::text::without_mark;

/// The most files that a configuration may include.
pub(crate) const MAX_INCLUDED: usize = 256;

/// What an included file may have. The rest is said once, in the file that includes.
const INCLUDABLE: [&str; 5] = ["interfaces", "checks", "vips", "server_ids", "decapsulate"];

/// The text of a file.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) path: Option<PathBuf>,
    pub(crate) text: String,
    pub(super) format: Format,
}

impl Source {
    /// The text of a file: JSON if its name ends in `.json`, else TOML.
    pub(crate) fn of_file(path: &Path, text: &str) -> Self {
        let json = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
        let format = if json { Format::Json } else { Format::Toml };
        Self { path: Some(path.to_owned()), ..Self::of_text(text, format) }
    }

    /// The text of a stream that is called so: JSON if it begins with a brace, else TOML.
    pub(crate) fn of_stream(name: &Path, text: &str) -> Self {
        let json = without_mark(text).trim_start().starts_with('{');
        let format = if json { Format::Json } else { Format::Toml };
        Self { path: Some(name.to_owned()), ..Self::of_text(text, format) }
    }

    /// A text that is in no file.
    pub(in crate::model::config) fn of_text(text: &str, format: Format) -> Self {
        Self { path: None, text: without_mark(text).to_owned(), format }
    }

    /// The file's name in messages.
    pub(super) fn shown(&self) -> Option<String> {
        self.path.as_ref().map(|path| path.display().to_string())
    }

    /// The error, with the name of the file.
    pub(super) fn name(&self, error: ConfigError) -> ConfigError {
        match &self.path {
            Some(path) => error.in_file(path),
            None => error,
        }
    }

    /// Reads what it says, without the checks that types cannot express. The first error is of no use: it has no place.
    fn read(&self) -> Option<Config> {
        match self.format {
            Format::Toml => toml::from_str(&self.text).ok(),
            Format::Json => serde_json::from_str(&self.text).ok(),
        }
    }
}

/// The files of a configuration.
#[derive(Clone, Debug)]
pub(crate) struct Sources {
    pub(crate) main: Source,
    /// In the order in which they are read.
    pub(crate) included: Vec<Source>,
    /// The entries of `include` that match no file, and their places in it.
    pub(crate) unmatched: Vec<(usize, String)>,
}

/// Where the entries of a configuration are from.
#[derive(Debug, Default)]
pub(super) struct Origins {
    /// For each list, the file of each entry, and the entry's place in that file.
    lists: BTreeMap<String, Vec<(usize, usize)>>,
    /// The file of each check.
    checks: BTreeMap<String, usize>,
}

impl Sources {
    /// A file that is read while somebody writes it must not remove every VIP.
    pub(super) fn emptiness(&self) -> Option<ConfigError> {
        let is_empty = self.main.path.is_some() && self.main.text.trim().is_empty();
        let what = "is empty; to stop balancing, use 'lbctl down'";
        is_empty.then(|| self.main.name(ConfigError::at("", what)))
    }

    /// What to say of a file that is YAML by its name, and no TOML.
    pub(super) fn other_language(&self) -> Option<ConfigError> {
        self.all().find_map(|source| {
            let path = source.path.as_deref()?;
            let is_yaml = path.extension().is_some_and(|extension| {
                extension.eq_ignore_ascii_case("yaml") || extension.eq_ignore_ascii_case("yml")
            });
            let is_other = is_yaml && toml::from_str::<toml::Table>(&source.text).is_err();
            let what = "is YAML by its name, which lbctl does not read; write it in TOML, or as JSON in a file whose name \
                        ends in .json";
            is_other.then(|| source.name(ConfigError::at("", what)))
        })
    }

    /// A file that includes none.
    pub(crate) fn one(main: Source) -> Self {
        Self { main, included: Vec::new(), unmatched: Vec::new() }
    }

    /// All of them, the one that includes the others first.
    pub(super) fn all(&self) -> impl Iterator<Item = &Source> {
        std::iter::once(&self.main).chain(&self.included)
    }

    /// The paths of further files, as the first file says.
    pub(crate) fn includes(&self) -> Result<Vec<String>, ConfigError> {
        // Most files include none, and need not be parsed twice.
        if !self.main.text.contains(INCLUDE) {
            return Ok(Vec::new());
        }
        let (tree, places) =
            super::tree::parse(&self.main.text, self.main.format, &mut Errors::default());
        let refuse = |key: String, what: &str| {
            let error = ConfigError::at(key, what);
            Err(self.locate(&error, &Origins::default(), std::slice::from_ref(&places)))
        };
        let list = match tree.get(INCLUDE) {
            None => return Ok(Vec::new()),
            Some(Value::Array(list)) => list,
            Some(_) => {
                let what =
                    "is no list of files; write include = [\"vips/*.toml\"] at the top of the file";
                return refuse(INCLUDE.to_owned(), what);
            }
        };
        if list.len() > MAX_INCLUDED {
            return refuse(
                INCLUDE.to_owned(),
                "has more than 256 entries; use wildcards, such as \"vips/*.toml\"",
            );
        }
        let mut paths = Vec::new();
        for (i, path) in list.iter().enumerate() {
            let Value::String(path) = path else {
                return refuse(
                    format!("include[{i}]"),
                    "is no path in quotes; write one such as \"vips/*.toml\"",
                );
            };
            paths.push(path.clone());
        }
        if self.main.path.is_none() && !paths.is_empty() {
            return refuse(
                INCLUDE.to_owned(),
                "only a file can include others; join them, or read a file",
            );
        }
        Ok(paths)
    }

    /// Reads and checks the configuration. The first error names its place, and how many others there are.
    pub(crate) fn read(&self) -> Result<Config, ConfigError> {
        if let Some(error) = self.emptiness() {
            return Err(error);
        }
        self.includes()?;
        if let Some(config) = self.read_fast()
            && config.check().is_ok()
        {
            return Ok(config);
        }
        // Only errors are worth the time to find their places.
        let Searched { config, errors } = self.search();
        errors.into_result()?;
        config.ok_or_else(|| self.main.name(ConfigError::at("", "cannot be read")))
    }

    fn read_fast(&self) -> Option<Config> {
        let mut config = self.main.read()?;
        config.include.clear();
        for source in &self.included {
            let more = source.read()?;
            let rest = Config {
                interfaces: Vec::new(),
                checks: BTreeMap::new(),
                vips: Vec::new(),
                server_ids: Vec::new(),
                decapsulate: Vec::new(),
                ..more.clone()
            };
            if rest != Config::default() {
                return None;
            }
            config.interfaces.extend(more.interfaces);
            config.vips.extend(more.vips);
            config.server_ids.extend(more.server_ids);
            config.decapsulate.extend(more.decapsulate);
            for (name, check) in more.checks {
                if config.checks.insert(name, check).is_some() {
                    return None;
                }
            }
        }
        Some(config)
    }

    /// Joins the trees of the files.
    pub(super) fn merge(
        &self,
        trees: Vec<Value>,
        errors: &mut Errors,
    ) -> (Map<String, Value>, Origins) {
        let mut origins = Origins::default();
        let mut merged = Map::new();
        for (file, (tree, source)) in trees.into_iter().zip(self.all()).enumerate() {
            for (key, value) in members(tree) {
                if file != 0 && !INCLUDABLE.contains(&key.as_str()) {
                    errors.push_with(|| {
                        let what = misplaced(&key, &self.main);
                        let what = what.unwrap_or_else(|| unknown_table(&key, source.format));
                        // The file's name tells its place from that of a key in the first file.
                        source.name(ConfigError::at(quote(&key), what))
                    });
                    continue;
                }
                match (merged.get_mut(&key), value) {
                    (None, value) => {
                        origins.note(file, &key, &value, 0);
                        merged.insert(key, value);
                    }
                    (Some(Value::Array(list)), Value::Array(more)) => {
                        let more = Value::Array(more);
                        origins.note(file, &key, &more, list.len());
                        if let Value::Array(more) = more {
                            list.extend(more);
                        }
                    }
                    (Some(Value::Object(checks)), Value::Object(more)) => {
                        for (name, check) in more {
                            if checks.contains_key(&name) {
                                errors.push_with(|| {
                                    let first = origins.checks.get(&name).copied();
                                    let first = self.all().nth(first.unwrap_or_default());
                                    let what = format!(
                                        "{} has a check of this name, too; give one of them another name",
                                        quote(&first.and_then(Source::shown).unwrap_or_default())
                                    );
                                    source.name(ConfigError::at(format!("checks.{name}"), what))
                                });
                                continue;
                            }
                            origins.checks.insert(name.clone(), file);
                            checks.insert(name, check);
                        }
                    }
                    (Some(_), _) => {
                        let what = "is not of the same type as in the file that includes this one";
                        errors.push(source.name(ConfigError::at(quote(&key), what)));
                    }
                }
            }
        }
        (merged, origins)
    }

    /// The error, at its place in its file.
    pub(super) fn locate(
        &self,
        error: &ConfigError,
        origins: &Origins,
        places: &[Places<'_>],
    ) -> ConfigError {
        let (named, _, _) = error.place();
        let by_name = named.and_then(|named| {
            self.all().position(|source| source.shown().as_deref() == Some(named))
        });
        let (file, key) = match by_name {
            Some(file) => (file, error.key().to_owned()),
            None => origins.of(error.key()),
        };
        let place = |file: usize, key: &str| places.get(file)?.of(key);
        let at = place(file, &key);
        let mut located =
            error.clone().placed(key, at.map(|place| place.0), at.map(|place| place.1));
        if let Some(also) = error.also_key() {
            let (other, also) = origins.of(also);
            if let (Some(source), Some((line, _))) = (self.all().nth(other), place(other, &also)) {
                let first = match source.shown().filter(|_| other != file) {
                    Some(shown) => format!("{}:{line}", quote(&shown)),
                    None => format!("line {line}"),
                };
                located = located.and_place(&first);
            }
        }
        match self.all().nth(file) {
            Some(source) => source.name(located),
            None => located,
        }
    }

    /// Where a key of the configuration is: the error, with its file and line.
    pub(crate) fn place(&self, error: &ConfigError) -> ConfigError {
        let mut ignored = Errors::default();
        let trees: Vec<_> = self
            .all()
            .map(|source| super::tree::parse(&source.text, source.format, &mut ignored))
            .collect();
        let (values, places): (Vec<_>, Vec<_>) = trees.into_iter().unzip();
        let (_, origins) = self.merge(values, &mut ignored);
        self.locate(error, &origins, &places)
    }

    /// What of the files themselves hurts.
    pub(super) fn look(&self, warnings: &mut Errors) {
        for source in &self.included {
            if source.text.trim().is_empty() {
                let what = "is empty; remove it, or write [[vips]] into it";
                warnings.push(source.name(ConfigError::at("", what)));
            }
        }
    }
}

/// What to say of a key that an included file must not have; `None`: it is no key at all.
fn misplaced(key: &str, main: &Source) -> Option<String> {
    let known = key == INCLUDE
        || crate::model::config::explain::LISTS.contains(&key)
        || crate::model::config::explain::TABLES.contains(&key);
    let main = main.shown().unwrap_or_default();
    known.then(|| match key {
        INCLUDE => format!("an included file includes no others; name them in {}", quote(&main)),
        _ => format!(
            "belongs into the file that includes this one, {}: an included file has [[vips]], [checks.NAME], \
             [[interfaces]], [[server_ids]] and [[decapsulate]]; move it there",
            quote(&main)
        ),
    })
}

impl Origins {
    /// Notes that entries are from a file. `before`: how many entries of the list are from others.
    fn note(&mut self, file: usize, key: &str, value: &Value, before: usize) {
        match value {
            Value::Array(entries) => {
                let list = self.lists.entry(key.to_owned()).or_default();
                list.truncate(before);
                list.extend((0..entries.len()).map(|place| (file, place)));
            }
            Value::Object(checks) if key == "checks" => {
                self.checks.extend(checks.keys().map(|name| (name.clone(), file)));
            }
            _ => {}
        }
    }

    /// The file of a key, and the key in it: `vips[7].port` may be `vips[0].port` of an included file.
    fn of(&self, key: &str) -> (usize, String) {
        let own = || (0, key.to_owned());
        if let Some(name) = key.strip_prefix("checks.") {
            let name = name.split('.').next().unwrap_or_default();
            return (self.checks.get(name).copied().unwrap_or_default(), key.to_owned());
        }
        let Some((list, rest)) = key.split_once('[') else { return own() };
        let Some((place, rest)) = rest.split_once(']') else { return own() };
        let entry = place.parse().ok().and_then(|place: usize| self.lists.get(list)?.get(place));
        entry.map_or_else(own, |(file, place)| (*file, format!("{list}[{place}]{rest}")))
    }
}
