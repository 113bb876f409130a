//! docs/openapi.json, and whether JSON is as it says. Of JSON Schema this knows what the file uses, and refuses the rest.

use std::fs;
use std::path::Path;

use serde_json::Value;

/// The description of the API.
pub(super) struct Description(Value);

impl Description {
    #[track_caller]
    pub(super) fn read() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/openapi.json");
        let text = fs::read_to_string(path).expect("read the description");
        Self(serde_json::from_str(&text).expect("JSON"))
    }

    /// Follows references.
    fn resolved<'a>(&'a self, mut value: &'a Value) -> &'a Value {
        while let Some(place) = value.get("$ref").and_then(Value::as_str) {
            let place = place.strip_prefix('#').expect("a place in the file");
            value = self.0.pointer(place).unwrap_or_else(|| panic!("{place} is missing"));
        }
        value
    }

    /// All paths with their methods.
    pub(super) fn operations(&self) -> Vec<(String, String)> {
        let paths = self.0["paths"].as_object().expect("paths");
        let of_path = |(path, methods): (&String, &Value)| {
            let methods = methods.as_object().expect("methods").keys();
            let methods = methods.filter(|key| *key != "parameters");
            methods.map(|method| (method.to_uppercase(), path.clone())).collect::<Vec<_>>()
        };
        paths.iter().flat_map(of_path).collect()
    }

    /// Fails the test unless an answer is as described.
    #[track_caller]
    pub(super) fn check(&self, method: &str, path: &str, status: u16, body: &str) {
        let operation = &self.0["paths"][path][method.to_lowercase()];
        let answer = self.resolved(&operation["responses"][status.to_string()]);
        assert!(answer.is_object(), "{method} {path}: {status} is not described: {body}");
        let schema = &answer["content"]["application/json"]["schema"];
        if schema.is_null() {
            assert_eq!(body, "", "{method} {path}: {status}");
            return;
        }
        let value = serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {body}"));
        if let Err(why) = self.fits(schema, &value) {
            panic!("{method} {path}: {status}: {why}\n{value:#}");
        }
    }

    fn fits(&self, schema: &Value, value: &Value) -> Result<(), String> {
        let schema = self.resolved(schema).as_object().ok_or("no schema")?;
        for (keyword, what) in schema {
            match keyword.as_str() {
                "description" => {}
                "type" => {
                    let types =
                        what.as_array().map_or_else(|| vec![what], |all| all.iter().collect());
                    if !types.iter().any(|name| is_of(name, value)) {
                        return Err(format!("{value} is no {what}"));
                    }
                }
                "enum" if what.as_array().is_some_and(|all| all.contains(value)) => {}
                "const" if what == value => {}
                "enum" | "const" => return Err(format!("{value} is not {what}")),
                "minimum" | "maximum" => {
                    let (bound, number) = (what.as_f64(), value.as_f64());
                    let over = if keyword == "minimum" { number < bound } else { number > bound };
                    if number.is_some() && over {
                        return Err(format!("{value}: {keyword} is {what}"));
                    }
                }
                "pattern" => {
                    // Its anchors; the rest is for people.
                    if value.as_str().is_some_and(str::is_empty) {
                        return Err(format!("an empty text, not {what}"));
                    }
                }
                "anyOf" => {
                    let all = what.as_array().ok_or("anyOf is no list")?;
                    let tried: Vec<_> = all.iter().map(|one| self.fits(one, value)).collect();
                    if !tried.iter().any(Result::is_ok) {
                        let why: Vec<_> = tried.into_iter().filter_map(Result::err).collect();
                        return Err(why.join("; and "));
                    }
                }
                "items" => {
                    for (place, item) in value.as_array().into_iter().flatten().enumerate() {
                        self.fits(what, item).map_err(|why| format!("[{place}]: {why}"))?;
                    }
                }
                "minItems" | "maxItems" => {
                    let length = value.as_array().map(Vec::len).map(|length| length as u64);
                    if length.is_some() && length != what.as_u64() {
                        return Err(format!("{value}: {keyword} is {what}"));
                    }
                }
                "required" => {
                    for name in what.as_array().into_iter().flatten().filter_map(Value::as_str) {
                        if value.is_object() && value.get(name).is_none() {
                            return Err(format!("{name} is missing"));
                        }
                    }
                }
                "minProperties" => {
                    let count = value.as_object().map(|object| object.len() as u64);
                    if count < what.as_u64() {
                        return Err(format!("{value} has too few keys"));
                    }
                }
                "properties" => {
                    for (name, schema) in what.as_object().into_iter().flatten() {
                        if let Some(value) = value.get(name) {
                            self.fits(schema, value).map_err(|why| format!("{name}: {why}"))?;
                        }
                    }
                }
                "additionalProperties" => {
                    let known = schema.get("properties");
                    for (name, value) in value.as_object().into_iter().flatten() {
                        if known.is_some_and(|known| known.get(name).is_some()) {
                            continue;
                        }
                        if *what == Value::Bool(false) {
                            return Err(format!("'{name}' is not described"));
                        }
                        self.fits(what, value).map_err(|why| format!("{name}: {why}"))?;
                    }
                }
                unknown => return Err(format!("the test does not know the keyword {unknown}")),
            }
        }
        Ok(())
    }
}

fn is_of(name: &Value, value: &Value) -> bool {
    match name.as_str() {
        Some("null") => value.is_null(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_u64() || value.is_i64(),
        Some("number") => value.is_number(),
        Some("string") => value.is_string(),
        Some("array") => value.is_array(),
        Some("object") => value.is_object(),
        _ => false,
    }
}
