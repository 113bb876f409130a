//! Small configurations around the value of one key.

use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use crate::model::config::check_health::NEEDED;
use crate::model::config::check_health::OF_KINDS;
use crate::model::config::explain::LISTS;
use crate::model::config::explain::example_value;
use crate::model::vip_table::config_name;

/// A configuration that has this value at a key such as `vips.reals.weight`, and else only what is needed.
pub(super) fn document(key: &str, value: &Value) -> Value {
    let mut root = Map::new();
    let path: Vec<_> = key.split('.').collect();
    let (table, rest) = path.split_first().expect("a key");
    let inner = match *table {
        _ if rest.is_empty() => value.clone(),
        "vips" => json!([of_vip(rest, value)]),
        "checks" => json!({ "NAME": of_check(rest.get(1), value) }),
        table => {
            let least = match table {
                "interfaces" => json!({ "name": "eth0" }),
                "decapsulate" => json!({ "address": "10.8.0.1" }),
                "server_ids" => json!({ "id": 7, "real": "10.0.1.1" }),
                _ => json!({}),
            };
            let entry = with(least, rest[0], value.clone());
            if LISTS.contains(&table) { json!([entry]) } else { entry }
        }
    };
    root.insert((*table).to_owned(), inner);
    if key == "vips.check" {
        root.insert("checks".to_owned(), json!({ "web": { "type": "http" } }));
    }
    Value::Object(root)
}

fn with(mut table: Value, key: &str, value: Value) -> Value {
    table[key] = value;
    table
}

fn of_vip(rest: &[&str], value: &Value) -> Value {
    let protocol = if rest == ["routing"] { "udp" } else { "tcp" };
    let least = json!({ "address": "10.200.1.1", "port": 80, "protocol": protocol });
    match rest {
        ["reals", key] => {
            let real = with(json!({ "address": "10.0.1.1" }), key, value.clone());
            with(least, "reals", json!([real]))
        }
        ["flapping", key] => with(least, "flapping", with(json!({}), key, value.clone())),
        [key] => with(least, key, value.clone()),
        _ => unreachable!("{rest:?}"),
    }
}

/// A check of a kind that has the key.
fn of_check(key: Option<&&str>, value: &Value) -> Value {
    let Some(key) = key else { return value.clone() };
    let kinds = OF_KINDS.iter().find(|(keys, _)| keys.contains(key));
    let kind = kinds.map_or("tcp".to_owned(), |(_, kinds)| {
        let last = kinds.last().expect("a kind");
        config_name(last)
    });
    let mut check = json!({ "type": kind });
    for (of, needed, _) in NEEDED {
        if config_name(of) == kind {
            check[needed] = example_value(&format!("checks.NAME.{needed}")).expect("an example");
        }
    }
    if *key == "ca_file" {
        check["verify"] = true.into();
    }
    with(check, key, value.clone())
}
