//! All keys of a file that nobody knows, and all values of a wrong type.
//!
//! serde ends at the first error. So each entry is read by itself, and what is wrong with it is replaced by an example
//! that is right; then it is read again.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use serde::de::DeserializeOwned;
use serde_json::Map;
use serde_json::Value;

use crate::model::config::CheckConfig;
use crate::model::config::CheckKind;
use crate::model::config::ConfigError;
use crate::model::config::ConnectionTableConfig;
use crate::model::config::ControlConfig;
use crate::model::config::DecapsulateConfig;
use crate::model::config::HealthConfig;
use crate::model::config::InterfaceConfig;
use crate::model::config::MetricsConfig;
use crate::model::config::NotifyConfig;
use crate::model::config::PacketsConfig;
use crate::model::config::ServerIdConfig;
use crate::model::config::VipConfig;
use crate::model::config::check_health::keys_of_kind;
use crate::model::config::errors::Errors;
use crate::model::config::explain::Format;
use crate::model::config::explain::LISTS;
use crate::model::config::explain::TABLES;
use crate::model::config::explain::example_value;
use crate::model::config::explain::explain;
use crate::model::config::explain::keys_of;
use crate::model::config::explain::path_of;
use crate::model::config::explain::tables_with;
use crate::model::config::key_of;
use crate::model::config::nearest::elsewhere_called;
use crate::model::config::nearest::nearest;
use crate::model::config::one_line;
use crate::model::text::quote;

/// The most errors that are looked for in one entry, such as a VIP.
const MOST_OF_ENTRY: usize = 64;

/// The key that names further files.
pub(super) const INCLUDE: &str = "include";

/// What the search has found.
#[derive(Debug)]
pub(super) struct Search<'a> {
    pub(super) errors: &'a mut Errors,
    pub(super) format: Format,
    /// The keys whose values are no longer those of the file.
    pub(super) replaced: BTreeSet<String>,
    /// The keys that were meant, and what the file has instead.
    pub(super) renamed: BTreeMap<String, String>,
    /// Gives each example another address, port and name, so that no two are equal.
    examples: u16,
}

impl<'a> Search<'a> {
    pub(super) fn new(errors: &'a mut Errors, format: Format) -> Self {
        Self { errors, format, replaced: BTreeSet::new(), renamed: BTreeMap::new(), examples: 0 }
    }

    /// Searches all of a file, and leaves a tree that can be read.
    pub(super) fn all(&mut self, root: &mut Map<String, Value>) {
        let keys: Vec<_> = root.keys().cloned().collect();
        for key in keys {
            let Some(value) = root.get_mut(&key) else { continue };
            let is_right = match key.as_str() {
                "interfaces" => self.list::<InterfaceConfig>(value, &key),
                "vips" => self.list::<VipConfig>(value, &key),
                "server_ids" => self.list::<ServerIdConfig>(value, &key),
                "decapsulate" => self.list::<DecapsulateConfig>(value, &key),
                "connection_table" => self.table::<ConnectionTableConfig>(value, &key),
                "packets" => self.table::<PacketsConfig>(value, &key),
                "metrics" => self.table::<MetricsConfig>(value, &key),
                "control" => self.table::<ControlConfig>(value, &key),
                "notify" => self.table::<NotifyConfig>(value, &key),
                "health" => self.table::<HealthConfig>(value, &key),
                "checks" => self.checks(value),
                INCLUDE => false,
                _ => {
                    let format = self.format;
                    self.errors
                        .push_with(|| ConfigError::at(quote(&key), unknown_table(&key, format)));
                    false
                }
            };
            if !is_right {
                root.remove(&key);
            }
        }
    }

    /// A list of tables. Returns whether it can be read now.
    fn list<T: DeserializeOwned>(&mut self, value: &mut Value, key: &str) -> bool {
        let Value::Array(entries) = value else {
            let what = format!("invalid type: {}, expected a sequence", kind(value));
            self.errors.push(ConfigError::at(key, explain(key, &what, self.format)));
            self.replaced.insert(key.to_owned());
            return false;
        };
        for (place, entry) in entries.iter_mut().enumerate() {
            self.entry::<T>(entry, &format!("{key}[{place}]"));
        }
        true
    }

    /// A table that a file has once. Returns whether it can be read now.
    fn table<T: DeserializeOwned>(&mut self, value: &mut Value, key: &str) -> bool {
        if value.is_object() {
            return self.entry::<T>(value, key);
        }
        let what = if let (Value::Array(_), Format::Toml) = (&value, self.format) {
            format!("a file has one such table, not a list; write [{key}] instead of [[{key}]]")
        } else {
            let what = format!("invalid type: {}, expected struct", kind(value));
            explain(key, &(what + " "), self.format)
        };
        self.errors.push(ConfigError::at(key, what));
        self.replaced.insert(key.to_owned());
        false
    }

    /// The checks that have a name.
    fn checks(&mut self, value: &mut Value) -> bool {
        let Value::Object(checks) = value else {
            let what = match self.format {
                Format::Toml => {
                    "each check is a table with a name; write [checks.NAME], such as [checks.web]"
                }
                Format::Json => {
                    "each check has a name; write \"checks\": {\"web\": {\"type\": \"http\"}}"
                }
            };
            self.errors.push(ConfigError::at("checks", what));
            self.replaced.insert("checks".to_owned());
            return false;
        };
        let nameless = checks.iter().find(|(key, value)| {
            !value.is_object() && keys_of("checks.NAME").any(|known| known == key.as_str())
        });
        if let Some((key, _)) = nameless {
            let what = match self.format {
                Format::Toml => {
                    "this check has no name; write [checks.NAME] instead of [checks], such as [checks.web]"
                }
                Format::Json => {
                    "this check has no name; write \"checks\": {\"web\": {…}} instead of \"checks\": {…}"
                }
            };
            self.errors.push(ConfigError::at(format!("checks.{key}"), what));
            self.replaced.insert("checks".to_owned());
            checks.retain(|_, value| value.is_object());
        }
        for (name, check) in checks.iter_mut() {
            let key = format!("checks.{name}");
            if check.is_object() {
                self.entry::<CheckConfig>(check, &key);
                continue;
            }
            self.errors.push_with(|| {
                let what = format!(
                    "a check is a table, not {}; write [{key}], and its type below, such as type = \"http\"",
                    kind(check)
                );
                ConfigError::at(&key, what)
            });
            self.replaced.insert(key);
            *check = serde_json::json!({ "type": "exec", "program": "/" });
        }
        true
    }

    /// An entry, such as a VIP. Returns whether it can be read now.
    fn entry<T: DeserializeOwned>(&mut self, value: &mut Value, place: &str) -> bool {
        if self.errors.is_full() {
            // Such entries count once each: what is wrong with them would not be shown.
            let is_right = T::deserialize(&*value).is_ok();
            self.errors.count(usize::from(!is_right));
            return is_right;
        }
        for _ in 0..MOST_OF_ENTRY {
            // Without looking for the key, this takes half of the time.
            if T::deserialize(&*value).is_ok() {
                return true;
            }
            let Err(error) = serde_path_to_error::deserialize::<_, T>(&*value) else { return true };
            let below = key_of(error.path());
            let what = one_line(&error.inner().to_string());
            let key = join(place, &below);
            let repaired = if let Some(unknown) = quoted(&what, "unknown field `") {
                self.unknown_key(value, place, &below, &unknown)
            } else if let Some(missing) = quoted(&what, "missing field `") {
                self.missing_key(value, &key, &below, &missing)
            } else {
                let what = suggested(explain(&key, &what, self.format));
                self.errors.push(ConfigError::at(&key, what));
                self.replace(value, place, &below)
            };
            if !repaired {
                self.replaced.insert(place.to_owned());
                return false;
            }
        }
        self.errors.count(unknown_keys(value, place).max(1));
        self.replaced.insert(place.to_owned());
        false
    }

    fn unknown_key(&mut self, value: &mut Value, place: &str, below: &str, name: &str) -> bool {
        // serde's path ends with the unknown key, except in some tables.
        let parent = match below.rsplit_once('.') {
            Some((parent, last)) if last == name => parent,
            _ if below == name => "",
            _ => below,
        };
        let key = join(&join(place, parent), name);
        let table = path_of(&join(&join(place, parent), "x"));
        let table = table.rsplit_once('.').map_or("", |(table, _)| table);
        let Some(Value::Object(members)) = at(value, parent) else { return false };
        let Some(wrong) = members.remove(name) else { return false };
        let kind = members.get("type").and_then(|kind| CheckKind::deserialize_str(kind.as_str()?));
        let fitting: Vec<&str> = match kind.filter(|_| table == "checks.NAME") {
            Some(kind) => keys_of_kind(kind, keys_of(table)).collect(),
            None => keys_of(table).collect(),
        };
        let is_of_others = tables_with(name).any(|other| other != table);
        let near = nearest(name, fitting.iter().copied())
            .or_else(|| elsewhere_called(name).filter(|key| fitting.contains(key)))
            .filter(|_| !is_of_others);
        let what = if let Some(near) = near {
            format!("unknown field `{}`; did you mean `{near}`?", quote(name))
        } else {
            let name = quote(name);
            let mut elsewhere = tables_with(&name).filter(|other| *other != table);
            let whose = match (elsewhere.next(), kind) {
                (Some(other), _) => format!("it is a key of {}", called(other)),
                (None, Some(_)) if table == "checks.NAME" => {
                    format!("a check of this type has {}", fitting.join(", "))
                }
                (None, _) => format!("{} has {}", called(table), fitting.join(", ")),
            };
            format!("unknown field `{name}`; {whose}")
        };
        // The value is judged as that of the key that was meant.
        if let Some(near) = near.filter(|near| !members.contains_key(*near)) {
            members.insert(near.to_owned(), wrong);
            let meant = join(&join(place, parent), near);
            self.renamed.insert(meant, key.clone());
        }
        self.errors.push(ConfigError::at(key, what));
        true
    }

    fn missing_key(&mut self, value: &mut Value, key: &str, below: &str, name: &str) -> bool {
        let missing = join(key, name);
        let path = path_of(&missing);
        let Some(Value::Object(members)) = at(value, below) else { return false };
        let Some(example) = example_value(&path) else { return false };
        let shown = match self.format {
            Format::Toml => format!("{name} = {example}"),
            Format::Json => format!("\"{name}\": {example}"),
        };
        members.insert(name.to_owned(), self.unlike_others(&path, example));
        self.errors.push(ConfigError::at(key, format!("missing field `{name}`; add {shown}")));
        self.replaced.insert(if name == "type" { key.to_owned() } else { missing });
        true
    }

    /// Replaces a wrong value by an example.
    fn replace(&mut self, value: &mut Value, place: &str, below: &str) -> bool {
        let key = join(place, below);
        self.replaced.insert(key.clone());
        let path = path_of(&key);
        let Some(example) = example_value(&path) else { return false };
        let example = self.unlike_others(&path, example);
        let example = match (key.ends_with(']'), example) {
            (true, Value::Array(list)) => list.into_iter().next().unwrap_or_default(),
            (_, example) => example,
        };
        let Some(wrong) = at(value, below) else { return false };
        *wrong = example;
        if path == "checks.NAME.type" {
            // What fits the type cannot be judged.
            self.replaced.insert(key.trim_end_matches(".type").to_owned());
        }
        if ["vips.port", "vips.protocol"].contains(&path.as_str())
            && let Value::Object(vip) = value
        {
            vip.insert("address".to_owned(), self.address());
            self.replaced.insert(join(place, "address"));
        }
        true
    }

    /// The example, or another one if two entries must not have the same.
    fn unlike_others(&mut self, path: &str, example: Value) -> Value {
        match path {
            "vips.address" | "vips.reals.address" | "server_ids.real" | "decapsulate.address" => {
                self.address()
            }
            "vips.reals" => serde_json::json!([{ "address": self.address() }]),
            "interfaces.name" => format!("l4lb{}", self.next()).into(),
            "server_ids.id" => (u32::MAX - u32::from(self.next())).into(),
            _ => example,
        }
    }

    /// An address for benchmarks (RFC 2544), which no file has.
    fn address(&mut self) -> Value {
        let [high, low] = self.next().to_be_bytes();
        format!("198.18.{high}.{low}").into()
    }

    fn next(&mut self) -> u16 {
        // A file with more errors than that gets some of them about examples that are equal.
        self.examples = self.examples.wrapping_add(1);
        self.examples
    }

    /// Whether an error of the checks that types cannot express is about a value that is not the file's.
    pub(super) fn is_replaced(&self, key: &str) -> bool {
        let within = |outer: &str, inner: &str| {
            inner
                .strip_prefix(outer)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        self.replaced.iter().any(|replaced| within(replaced, key) || within(key, replaced))
    }
}

/// How many keys of an entry its table does not have.
fn unknown_keys(value: &Value, place: &str) -> usize {
    let path = path_of(&join(place, "x"));
    let table = path.rsplit_once('.').map_or("", |(table, _)| table);
    let known: Vec<_> = keys_of(table).collect();
    let members = value.as_object().into_iter().flat_map(Map::keys);
    members.filter(|key| !known.contains(&key.as_str())).count()
}

impl CheckKind {
    fn deserialize_str(name: &str) -> Option<Self> {
        serde_json::from_value(Value::String(name.to_owned())).ok()
    }
}

/// A key below another one.
pub(super) fn join(outer: &str, inner: &str) -> String {
    match (outer.is_empty(), inner.is_empty()) {
        (true, _) => inner.to_owned(),
        (_, true) => outer.to_owned(),
        _ if inner.starts_with('[') => format!("{outer}{inner}"),
        _ => format!("{outer}.{inner}"),
    }
}

/// The value of a key such as `reals[0].address`.
fn at<'a>(value: &'a mut Value, key: &str) -> Option<&'a mut Value> {
    let mut value = value;
    for part in key.split('.').filter(|part| !part.is_empty()) {
        let (name, places) = part.split_once('[').unwrap_or((part, ""));
        if !name.is_empty() {
            value = value.get_mut(name)?;
        }
        for place in places.split('[').filter(|place| !place.is_empty()) {
            value = value.get_mut(place.trim_end_matches(']').parse::<usize>().ok()?)?;
        }
    }
    Some(value)
}

/// The name in back quotes behind the beginning of a message.
fn quoted(message: &str, beginning: &str) -> Option<String> {
    Some(message.strip_prefix(beginning)?.split_once('`')?.0.to_owned())
}

/// An error about a word that is none of several, with the one that was meant.
fn suggested(what: String) -> String {
    let Some(word) = quoted(&what, "unknown variant `") else { return what };
    let Some((_, list)) = what.split_once("expected ") else { return what };
    match nearest(&word, list.split('`').skip(1).step_by(2)) {
        Some(near) => format!("{what}; did you mean \"{near}\"?"),
        None => what,
    }
}

/// What to say of a table that nobody knows.
pub(super) fn unknown_table(key: &str, format: Format) -> String {
    let known: Vec<_> = LISTS.iter().chain(&TABLES).copied().chain(["checks", INCLUDE]).collect();
    let shown = |name: &str| match format {
        Format::Toml => called(name),
        Format::Json => format!("\"{name}\""),
    };
    let advice = match (nearest(key, known.iter().copied()), tables_with(key).next()) {
        (Some(near), _) => format!("did you mean {}?", shown(near)),
        (None, Some(table)) => format!("it is a key of {}: write it below that", called(table)),
        (None, None) => {
            let all: Vec<_> = known.iter().map(|name| shown(name)).collect();
            format!("a file has {}", all.join(", "))
        }
    };
    format!("unknown field `{}`; {advice}", quote(key))
}

/// What a file calls a table.
fn called(table: &str) -> String {
    match table {
        "" => "a file".to_owned(),
        INCLUDE => INCLUDE.to_owned(),
        "checks" => "[checks.NAME]".to_owned(),
        list if LISTS.contains(&list) => format!("[[{list}]]"),
        "vips.reals" => "a real of [[vips]]".to_owned(),
        "vips.flapping" => "flapping of [[vips]]".to_owned(),
        table => format!("[{table}]"),
    }
}

/// serde's word for the type of a value.
fn kind(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => format!("boolean `{value}`"),
        Value::Number(number) if number.is_f64() => format!("floating point `{number}`"),
        Value::Number(number) => format!("integer `{number}`"),
        Value::String(text) => format!("string \"{}\"", quote(text)),
        Value::Array(_) => "sequence".to_owned(),
        Value::Object(_) => "map".to_owned(),
    }
}
