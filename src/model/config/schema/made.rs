//! How the schema is put together.

use schemars::generate::SchemaSettings;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use crate::model::abi::consts;
use crate::model::config::CheckKind;
use crate::model::config::Config;
use crate::model::config::MAX_TABLE_ENTRIES;
use crate::model::config::MAX_WEIGHT;
use crate::model::config::PacketsConfig;
use crate::model::config::check::MAX_HOSTS;
use crate::model::config::check_health::MAX_CHECKS;
use crate::model::config::check_health::MAX_CONCURRENCY;
use crate::model::config::check_health::MAX_FAILURES;
use crate::model::config::check_health::MAX_IN_A_ROW;
use crate::model::config::check_health::MAX_LIST;
use crate::model::config::check_health::NEEDED;
use crate::model::config::check_health::OF_KINDS;
use crate::model::config::encapsulation::GUE_VARIANTS;
use crate::model::config::explain::all_examples;
use crate::model::vip_table::config_name;

/// Bounds of numbers, by their keys.
pub(super) const NUMBERS: [(&str, u32, u32); 14] = [
    ("connection_table.entries", 1, MAX_TABLE_ENTRIES),
    ("connection_table.udp_timeout_seconds", 1, consts::MAX_UDP_TIMEOUT_SECONDS),
    ("connection_table.new_connections_per_second", 1, u32::MAX),
    ("packets.max_frame", *PacketsConfig::MAX_FRAME.start(), *PacketsConfig::MAX_FRAME.end()),
    ("packets.gue_port", 1, u16::MAX as u32),
    ("packets.gue_variant", *GUE_VARIANTS.start() as u32, *GUE_VARIANTS.end() as u32),
    ("health.concurrency", 1, MAX_CONCURRENCY),
    ("health.first_mark", 1, u32::MAX - consts::REAL_IDS),
    ("checks.NAME.rise", 1, MAX_IN_A_ROW),
    ("checks.NAME.fall", 1, MAX_IN_A_ROW),
    ("checks.NAME.port", 1, u16::MAX as u32),
    ("vips.flapping.failures", 1, MAX_FAILURES),
    ("vips.reals.weight", 0, MAX_WEIGHT),
    ("server_ids.id", 1, u32::MAX),
];

/// The most entries of lists and tables, by their keys.
const ENTRIES: [(&str, u32); 11] = [
    ("interfaces", consts::MAX_INTERFACES),
    ("interfaces.macs", consts::MAX_MACS),
    ("metrics.hosts", MAX_HOSTS),
    ("checks", MAX_CHECKS),
    ("checks.NAME.headers", MAX_LIST),
    ("checks.NAME.status", MAX_LIST),
    ("checks.NAME.args", MAX_LIST),
    ("vips", consts::MAX_VIPS),
    ("server_ids", consts::MAX_SERVER_IDS),
    ("decapsulate", consts::MAX_TUNNEL_ENDS),
    ("decapsulate.from", consts::MAX_TUNNEL_SOURCES),
];

/// The schema that the code has now.
pub(super) fn schema() -> Value {
    // Editors for TOML know this version.
    let generator = SchemaSettings::draft07().into_generator();
    let mut schema = generator.into_root_schema_for::<Config>().to_value();
    tidy(&mut schema);
    for (key, least, most) in NUMBERS {
        let place = at(&mut schema, key);
        place.insert("minimum".to_owned(), least.into());
        place.insert("maximum".to_owned(), most.into());
    }
    for (key, most) in ENTRIES {
        let place = at(&mut schema, key);
        let keyword = if place["type"] == "array" { "maxItems" } else { "maxProperties" };
        place.insert(keyword.to_owned(), most.into());
    }
    for (key, example) in all_examples() {
        if key.contains('.') {
            at(&mut schema, &key).insert("examples".to_owned(), json!([example]));
        }
    }
    let checks = schema.pointer_mut("/definitions/CheckConfig").and_then(Value::as_object_mut);
    checks.expect("checks").insert("allOf".to_owned(), kinds().into());
    let root = schema.as_object_mut().expect("a schema");
    root.insert("title".to_owned(), "l4lb".into());
    root.insert("description".to_owned(), "The configuration of l4lb: docs/config.md.".into());
    schema
}

/// What the types have, in the words of editors.
fn tidy(schema: &mut Value) {
    match schema {
        Value::Array(list) => list.iter_mut().for_each(tidy),
        Value::Object(members) => {
            members.values_mut().for_each(tidy);
            tidy_one(members);
        }
        _ => {}
    }
}

fn tidy_one(schema: &mut Map<String, Value>) {
    // A key that may be left out is not one that may be null: TOML has no null.
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|name| name != "null");
        if let [one] = &types[..] {
            let one = one.clone();
            schema.insert("type".to_owned(), one);
        }
    }
    if let Some(Value::Array(choices)) = schema.get_mut("anyOf") {
        choices.retain(|choice| *choice != json!({ "type": "null" }));
        if let [one] = &choices[..] {
            let one = one.clone();
            schema.remove("anyOf");
            if one.get("$ref").is_some() {
                // Beside it, nothing else would count.
                schema.insert("allOf".to_owned(), json!([one]));
            } else if let Value::Object(one) = one {
                schema.extend(one);
            }
        }
    }
    if schema.get("default") == Some(&Value::Null) {
        schema.remove("default");
    }
    match schema.get("format").and_then(Value::as_str) {
        // JSON Schema knows no such formats.
        Some("uint32") => {
            schema.remove("format");
            schema.insert("maximum".to_owned(), u32::MAX.into());
        }
        Some("uint8" | "uint16") => {
            schema.remove("format");
        }
        Some("ip") => {
            schema.remove("format");
            schema.insert("pattern".to_owned(), "^[0-9A-Fa-f:.]+$".into());
            schema.insert("anyOf".to_owned(), json!([{ "format": "ipv4" }, { "format": "ipv6" }]));
        }
        _ => {}
    }
    if let Some(Value::String(text)) = schema.get_mut("description") {
        // Markdown of Rust's documentation in lines.
        *text = text.replace('\n', " ");
    }
}

/// The keys of each kind of check.
fn kinds() -> Vec<Value> {
    let all = OF_KINDS.iter().flat_map(|(_, kinds)| *kinds);
    let all = all.chain([&CheckKind::Tcp, &CheckKind::Quic, &CheckKind::Agent]);
    let all: std::collections::BTreeSet<_> = all.collect();
    let of_kind = |kind: &CheckKind| {
        let others = OF_KINDS.iter().filter(|(_, kinds)| !kinds.contains(kind));
        let refused: Map<_, _> = others
            .flat_map(|(keys, _)| *keys)
            .map(|key| ((*key).to_owned(), false.into()))
            .collect();
        let needed: Vec<_> =
            NEEDED.iter().filter(|(of, ..)| of == kind).map(|(_, key, _)| *key).collect();
        json!({
            "if": { "properties": { "type": { "const": config_name(kind) } } },
            "then": { "properties": refused, "required": needed },
        })
    };
    all.into_iter().map(of_kind).collect()
}

/// The schema of a key such as `vips.reals.weight`.
pub(super) fn at<'a>(schema: &'a mut Value, key: &str) -> &'a mut Map<String, Value> {
    let mut pointer = String::new();
    for name in key.split('.') {
        pointer = descend(schema, &pointer);
        let table = schema.pointer(&pointer).expect("a table");
        pointer += match table.get("properties") {
            Some(_) => "/properties/",
            None => "/additionalProperties",
        };
        if pointer.ends_with('/') {
            pointer += name;
        }
    }
    let found = schema.pointer_mut(&pointer).and_then(Value::as_object_mut);
    found.unwrap_or_else(|| panic!("the schema has no {key}"))
}

/// Where the schema of a table or of the entries of a list is.
fn descend(schema: &Value, pointer: &str) -> String {
    let here = schema.pointer(pointer).unwrap_or_else(|| panic!("there is no {pointer}"));
    let reference = here.get("$ref").or_else(|| here.pointer("/allOf/0/$ref"));
    if let Some(Value::String(reference)) = reference {
        return descend(schema, reference.trim_start_matches('#'));
    }
    if here.get("items").is_some() {
        return descend(schema, &format!("{pointer}/items"));
    }
    pointer.to_owned()
}
