//! The shape of JSON: keys and types, without values.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use serde_json::Map;
use serde_json::Value;
use serde_json::json;

/// What values in one place are. A file has it as JSON: `"null|string"`, a list of one shape, an object of shapes, and
/// if it may be several of these, `{"one_of": […]}`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Shape {
    /// `null`, `boolean`, `integer`, `number`, `string`
    simple: BTreeSet<String>,
    list: Option<Box<Shape>>,
    /// Keys, and whether each is missing in some of the objects: `key?` in the file.
    object: Option<BTreeMap<String, (bool, Shape)>>,
    /// An object whose keys are names, such as those of interfaces: `{"*": shape}` in the file.
    names: Option<Box<Shape>>,
}

/// The objects whose keys are names.
const NAMES: [&str; 9] = [
    "checks",
    "decapsulate",
    "fields",
    "headers",
    "interfaces",
    "lost",
    "reals",
    "requests",
    "vips",
];

impl Shape {
    /// The shape of a value, which is below this key.
    pub(super) fn of(key: &str, value: &Value) -> Self {
        let mut shape = Self::default();
        let simple = match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(number) if number.is_f64() => "number",
            Value::Number(_) => "integer",
            Value::String(_) => "string",
            Value::Array(items) => {
                let items = items.iter().map(|item| Self::of("", item));
                shape.list = Some(Box::new(items.reduce(Self::or).unwrap_or_default()));
                return shape;
            }
            Value::Object(object) if NAMES.contains(&key) => {
                let values = object.values().map(|value| Self::of("", value));
                shape.names = Some(Box::new(values.reduce(Self::or).unwrap_or_default()));
                return shape;
            }
            Value::Object(object) => {
                let of =
                    |(key, value): (&String, &Value)| (key.clone(), (false, Self::of(key, value)));
                shape.object = Some(object.iter().map(of).collect());
                return shape;
            }
        };
        shape.simple.insert(simple.to_owned());
        shape
    }

    /// The shape of values of which some have one and some the other.
    pub(super) fn or(self, other: Self) -> Self {
        let boxed = |one: Option<Box<Self>>, other: Option<Box<Self>>| match (one, other) {
            (Some(one), Some(other)) => Some(Box::new(one.or(*other))),
            (one, other) => one.or(other),
        };
        let object = match (self.object, other.object) {
            (Some(one), Some(other)) => Some(both(one, other)),
            (one, other) => one.or(other),
        };
        Self {
            simple: self.simple.into_iter().chain(other.simple).collect(),
            list: boxed(self.list, other.list),
            object,
            names: boxed(self.names, other.names),
        }
    }

    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Nothing but `null` was ever here.
    fn is_unknown(&self) -> bool {
        self.is_empty() || *self == Self::of("", &Value::Null)
    }

    /// The keys of the object, or of the objects of the list.
    pub(super) fn keys(&self) -> BTreeSet<String> {
        let below = self.list.as_ref().map(|list| list.keys()).unwrap_or_default();
        self.object.iter().flat_map(|object| object.keys().cloned()).chain(below).collect()
    }

    /// Adds the keys of all objects.
    pub(super) fn all_keys(&self, keys: &mut BTreeSet<String>) {
        for (key, (_, shape)) in self.object.iter().flatten() {
            keys.insert(key.clone());
            shape.all_keys(keys);
        }
        for shape in self.list.iter().chain(&self.names) {
            shape.all_keys(keys);
        }
    }

    pub(super) fn to_json(&self) -> Value {
        let mut all = Vec::new();
        if !self.simple.is_empty() {
            let names: Vec<_> = self.simple.iter().map(String::as_str).collect();
            all.push(json!(names.join("|")));
        }
        if let Some(list) = &self.list {
            let item = (!list.is_empty()).then(|| list.to_json());
            all.push(Value::Array(item.into_iter().collect()));
        }
        if let Some(object) = &self.object {
            let of = |(key, (missing, shape)): (&String, &(bool, Self))| {
                (format!("{key}{}", if *missing { "?" } else { "" }), shape.to_json())
            };
            all.push(Value::Object(object.iter().map(of).collect()));
        }
        if let Some(names) = &self.names {
            all.push(json!({ "*": names.to_json() }));
        }
        if all.len() == 1 { all.remove(0) } else { json!({ "one_of": all }) }
    }

    /// What a file has.
    pub(super) fn from_json(value: &Value) -> Self {
        let mut shape = Self::default();
        match value {
            Value::String(names) => shape.simple = names.split('|').map(str::to_owned).collect(),
            Value::Array(items) => {
                let item = items.first().map(Self::from_json).unwrap_or_default();
                shape.list = Some(Box::new(item));
            }
            Value::Object(object) => return Self::from_object(object),
            other => panic!("{other} is no shape"),
        }
        shape
    }

    fn from_object(object: &Map<String, Value>) -> Self {
        let mut shape = Self::default();
        if let Some(Value::Array(all)) = object.get("one_of") {
            return all.iter().map(Self::from_json).reduce(Self::or).unwrap_or_default();
        }
        if let Some(names) = object.get("*") {
            shape.names = Some(Box::new(Self::from_json(names)));
            return shape;
        }
        let of = |(key, value): (&String, &Value)| {
            let missing = key.ends_with('?');
            (key.trim_end_matches('?').to_owned(), (missing, Self::from_json(value)))
        };
        shape.object = Some(object.iter().map(of).collect());
        shape
    }

    /// What is not as `self`, the shape in the file, says. Whether a fact is known may differ from host to host, so that
    /// `null` may stand for everything.
    pub(super) fn compare(&self, seen: &Self, place: &str, wrong: &mut Vec<String>) {
        if self.is_unknown() || seen.is_unknown() {
            return;
        }
        for simple in seen.simple.iter().filter(|simple| *simple != "null") {
            if !self.simple.contains(simple) {
                wrong.push(format!("{place} is {simple}, not {}", self.to_json()));
            }
        }
        compare_both(self.list.as_deref(), seen.list.as_deref(), &format!("{place}[]"), wrong);
        compare_both(self.names.as_deref(), seen.names.as_deref(), &format!("{place}.*"), wrong);
        match (&self.object, &seen.object) {
            (Some(old), Some(new)) => compare_keys(old, new, place, wrong),
            (None, Some(_)) => wrong.push(format!("{place} is an object, not {}", self.to_json())),
            _ => {}
        }
    }
}

fn compare_both(old: Option<&Shape>, new: Option<&Shape>, place: &str, wrong: &mut Vec<String>) {
    match (old, new) {
        (Some(old), Some(new)) => old.compare(new, place, wrong),
        (None, Some(_)) => wrong.push(format!("{place} is new")),
        _ => {}
    }
}

fn compare_keys(
    old: &BTreeMap<String, (bool, Shape)>,
    new: &BTreeMap<String, (bool, Shape)>,
    place: &str,
    wrong: &mut Vec<String>,
) {
    for (key, (missing, shape)) in old {
        match new.get(key) {
            Some((now_missing, _)) if *now_missing && !missing => {
                wrong.push(format!("{place}.{key} is missing at times"));
            }
            Some((_, found)) => shape.compare(found, &format!("{place}.{key}"), wrong),
            None => wrong.push(format!("{place}.{key} is gone")),
        }
    }
    for key in new.keys().filter(|key| !old.contains_key(*key)) {
        wrong.push(format!("{place}.{key} is new"));
    }
}

/// The keys of objects of which some have these and some those.
fn both(
    one: BTreeMap<String, (bool, Shape)>,
    mut other: BTreeMap<String, (bool, Shape)>,
) -> BTreeMap<String, (bool, Shape)> {
    let mut all = BTreeMap::new();
    for (key, (missing, shape)) in one {
        let merged = match other.remove(&key) {
            Some((also, second)) => (missing || also, shape.or(second)),
            None => (true, shape),
        };
        all.insert(key, merged);
    }
    all.extend(other.into_iter().map(|(key, (_, shape))| (key, (true, shape))));
    all
}

/// What breaks a program that reads JSON is found.
#[test]
fn differences_are_found() {
    let found = |old: &Value, new: &Value| {
        let old = Shape::from_json(&Shape::of("", old).to_json());
        let mut wrong = Vec::new();
        old.compare(&Shape::of("", new), "x", &mut wrong);
        wrong
    };
    let list = json!([{ "b": "x" }, { "b": null, "c": true }]);
    let old = json!({ "a": 1, "list": list, "interfaces": { "eth0": { "mtu": 1 } } });
    assert_eq!(found(&old, &old), [""; 0]);
    let same = json!({ "a": 2, "list": list, "interfaces": { "eth9": { "mtu": null } } });
    assert_eq!(found(&old, &same), [""; 0]);
    let less = json!({ "list": [{ "b": "x" }], "interfaces": { "eth9": {} } });
    let gone = ["x.a is gone", "x.interfaces.*.mtu is gone", "x.list[].c is gone"];
    assert_eq!(found(&old, &less), gone);
    let other = json!({ "a": "1", "list": [{ "b": 0.5, "c": {}, "d": 1 }, {}], "interfaces": [] });
    assert_eq!(
        found(&old, &other),
        [
            "x.a is string, not \"integer\"",
            "x.interfaces[] is new",
            "x.list[].b is missing at times",
            "x.list[].c is an object, not \"boolean\"",
            "x.list[].d is new"
        ]
    );
}
