//! docs/openapi.json says what the code does.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use serde_json::Value;

use super::request::MAX_BODY;
use super::routes::RESOURCES;
use crate::control::flows::FlowState;
use crate::model::config::CheckConfig;
use crate::model::config::RealConfig;
use crate::model::config::VipConfig;
use crate::model::config::tests::keys;
use crate::model::vip_table::config_name;

fn description() -> Value {
    serde_json::from_str(include_str!("../../../docs/openapi.json")).expect("JSON")
}

/// Follows `$ref`s.
fn resolved<'a>(document: &'a Value, mut value: &'a Value) -> &'a Value {
    while let Some(path) = value.get("$ref").and_then(Value::as_str) {
        let pointer = path.strip_prefix('#').expect("a place in this document");
        value = document.pointer(pointer).unwrap_or_else(|| panic!("{path} is missing"));
    }
    value
}

/// The parameters of an operation that are in `place`.
fn parameters(document: &Value, path: &Value, operation: &Value, place: &str) -> BTreeSet<String> {
    let lists = [&path["parameters"], &operation["parameters"]];
    let all = lists.into_iter().filter_map(Value::as_array).flatten();
    let all = all.map(|parameter| resolved(document, parameter));
    let there = all.filter(|parameter| parameter["in"] == place);
    there.map(|parameter| parameter["name"].as_str().expect("a name").to_owned()).collect()
}

#[test]
fn every_path_and_method_is_described() {
    let document = description();
    let paths = document["paths"].as_object().expect("paths");
    let described: BTreeMap<_, BTreeSet<_>> = paths
        .iter()
        .map(|(path, methods)| {
            let methods = methods.as_object().expect("methods").keys();
            let methods = methods.filter(|key| *key != "parameters");
            (path.as_str(), methods.map(|method| method.to_uppercase()).collect())
        })
        .collect();
    let answered: BTreeMap<_, BTreeSet<_>> = RESOURCES
        .iter()
        .map(|resource| {
            let methods = resource.operations.iter().map(|known| known.method.to_owned());
            (resource.template, methods.collect())
        })
        .collect();
    assert_eq!(described, answered);
    for resource in RESOURCES {
        let path = &paths[resource.template];
        let parts = resource.template.split(['{', '}']).skip(1).step_by(2);
        let parts: BTreeSet<_> = parts.map(str::to_owned).collect();
        for operation in resource.operations {
            let (method, place) = (operation.method, resource.template);
            let described = &path[method.to_lowercase()];
            assert_eq!(parameters(&document, path, described, "path"), parts, "{method} {place}");
            let known: BTreeSet<_> =
                operation.parameters.iter().map(|name| (*name).to_owned()).collect();
            assert_eq!(parameters(&document, path, described, "query"), known, "{method} {place}");
        }
    }
}

#[test]
fn references_lead_somewhere_and_names_are_used() {
    fn walk<'a>(document: &'a Value, value: &'a Value, seen: &mut BTreeSet<&'a str>) {
        match value {
            Value::Array(list) => list.iter().for_each(|value| walk(document, value, seen)),
            Value::Object(object) => {
                if let Some(name) = object.get("$ref").and_then(Value::as_str) {
                    resolved(document, value);
                    seen.insert(name);
                }
                object.values().for_each(|value| walk(document, value, seen));
            }
            _ => {}
        }
    }
    let document = description();
    let mut seen = BTreeSet::new();
    walk(&document, &document, &mut seen);
    for (kind, of_kind) in document["components"].as_object().expect("components") {
        for name in of_kind.as_object().expect("names").keys() {
            let name = format!("#/components/{kind}/{name}");
            assert!(seen.contains(name.as_str()), "nothing uses {name}");
        }
    }
    let ids = document["paths"].as_object().expect("paths").values().flat_map(|path| {
        path.as_object()
            .expect("methods")
            .values()
            .filter_map(|known| known["operationId"].as_str())
    });
    let mut ids: Vec<_> = ids.collect();
    ids.sort_unstable();
    let all = ids.len();
    ids.dedup();
    assert_eq!(ids.len(), all, "two operations have one name");
}

#[test]
fn bodies_have_the_keys_of_the_file() {
    let document = description();
    let described = |name: &str| -> BTreeSet<String> {
        let schema = &document["components"]["schemas"][name];
        assert_eq!(schema["additionalProperties"], false, "{name}");
        schema["properties"].as_object().expect("properties").keys().cloned().collect()
    };
    for name in ["Vip", "VipSettings"] {
        assert_eq!(described(name), keys::<VipConfig>(), "{name}");
    }
    for name in ["Real", "RealSettings"] {
        assert_eq!(described(name), keys::<RealConfig>(), "{name}");
    }
    assert_eq!(described("Check"), keys::<CheckConfig>());
}

#[test]
fn numbers_and_names_are_those_of_the_code() {
    let document = description();
    let text = document["components"]["responses"]["413"]["description"].as_str().expect("text");
    assert!(text.contains(&format!("{} MiB", MAX_BODY >> 20)), "{text}");
    let count = &document["paths"]["/v1/flows/count"]["get"]["parameters"];
    let state = count.as_array().expect("parameters").iter().find(|known| known["name"] == "state");
    let described: BTreeSet<_> = state.expect("state")["schema"]["enum"]
        .as_array()
        .expect("names")
        .iter()
        .map(|name| name.as_str().expect("a name").to_owned())
        .collect();
    let mut known: BTreeSet<_> = FlowState::ALL.iter().map(config_name).collect();
    known.insert("stale".to_owned());
    assert_eq!(described, known);
}
