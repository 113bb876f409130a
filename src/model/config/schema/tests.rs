use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use jsonschema::Validator;
use serde_json::Value;
use serde_json::json;

use super::made::NUMBERS;
use super::made::at;
use super::made::schema;
use super::probes::document;
use crate::model::config::CheckKind;
use crate::model::config::Config;
use crate::model::config::explain::all_examples;
use crate::model::config::tests::documented::pages;

fn validator() -> Validator {
    jsonschema::options().should_validate_formats(true).build(&schema()).expect("a schema")
}

/// What the schema says is wrong with a document.
fn wrong(validator: &Validator, document: &Value) -> String {
    let wrong = validator.iter_errors(document);
    wrong.map(|error| format!("{}: {error}", error.instance_path())).collect::<Vec<_>>().join("; ")
}

/// The configuration of a document, as the parser and the checks see it.
fn read(document: &Value) -> Result<Config, String> {
    let config: Config =
        serde_json::from_value(document.clone()).map_err(|error| error.to_string())?;
    config.check().map_err(|error| error.to_string())?;
    Ok(config)
}

#[test]
fn the_file_is_what_the_code_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/config.schema.json");
    let made = serde_json::to_string_pretty(&schema()).expect("JSON") + "\n";
    if std::env::var_os("LB_WRITE_SCHEMA").is_some() {
        fs::write(&path, &made).expect("write the schema");
    }
    assert!(
        fs::read_to_string(&path).is_ok_and(|found| found == made),
        "docs/config.schema.json is not what the code says; LB_WRITE_SCHEMA=1 cargo test --lib schema writes it"
    );
}

/// Editors show the comments of Rust's code: they have to be understood by those who never see it.
#[test]
fn descriptions_are_for_operators() {
    fn walk(schema: &Value, key: &str) {
        if let Some(text) = schema.get("description").and_then(Value::as_str) {
            for strange in ["crate::", "[`", "```", "serde", "Self::"] {
                assert!(!text.contains(strange), "{key}: {text}");
            }
        }
        let members = schema.as_object().into_iter().flatten();
        members.for_each(|(name, inner)| walk(inner, &format!("{key}.{name}")));
    }
    let mut schema = schema();
    walk(&schema, "");
    for (key, _) in all_examples() {
        let place = at(&mut schema, &key);
        assert!(place.contains_key("description"), "{key} has none");
    }
}

#[test]
fn it_takes_every_configuration_of_the_documentation() {
    let validator = validator();
    let mut texts = vec![(
        "examples/l4lb.toml".to_owned(),
        include_str!("../../../../examples/l4lb.toml").to_owned(),
    )];
    for page in pages() {
        let text = fs::read_to_string(&page).expect("a page");
        for block in text.split("\n```toml").skip(1) {
            let (_, block) = block.split_once('\n').expect("a line");
            let (block, _) = block.split_once("\n```").expect("an end");
            if !block.starts_with("# Cargo.toml\n") {
                texts.push((page.display().to_string(), block.to_owned()));
            }
        }
    }
    assert!(texts.len() >= 4, "{}", texts.len());
    for (page, text) in texts {
        let document: Value = toml::from_str(&text).expect(&page);
        assert_eq!(wrong(&validator, &document), "", "{page}: {text}");
        // What is saved, too.
        if let Ok(config) = Config::from_toml(&text) {
            let saved = toml::from_str(&config.to_toml().expect("TOML")).expect("TOML");
            assert_eq!(wrong(&validator, &saved), "", "{page}: {saved}");
        }
    }
}

/// All keys of the schema, such as `vips.reals.weight`.
fn keys(schema: &Value, here: &Value, above: &str, found: &mut BTreeSet<String>) {
    let reference = here.get("$ref").or_else(|| here.pointer("/allOf/0/$ref"));
    if let Some(reference) = reference.and_then(Value::as_str) {
        let target = schema.pointer(reference.trim_start_matches('#')).expect("a definition");
        return keys(schema, target, above, found);
    }
    if let Some(items) = here.get("items") {
        keys(schema, items, above, found);
    }
    if let Some(named) = here.get("additionalProperties").filter(|named| named.is_object()) {
        let is_table = named.get("type").is_none();
        if is_table {
            keys(schema, named, &format!("{above}.NAME"), found);
        }
    }
    for (key, inner) in here.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let key = if above.is_empty() { key.clone() } else { format!("{above}.{key}") };
        keys(schema, inner, &key, found);
        found.insert(key);
    }
}

#[test]
fn it_has_the_keys_of_the_parser_and_no_other() {
    let schema = schema();
    let mut found = BTreeSet::new();
    keys(&schema, &schema, "", &mut found);
    let mut known: BTreeSet<_> = all_examples().map(|(key, _)| key).collect();
    known.extend(["include", "connection_table", "packets"].map(str::to_owned));
    assert_eq!(found, known);
    let validator = validator();
    for (key, example) in all_examples() {
        let right = document(&key, &example);
        read(&right).unwrap_or_else(|error| panic!("{key}: {error}: {right}"));
        assert_eq!(wrong(&validator, &right), "", "{key}: {right}");
        // A typo.
        let (table, name) = key.rsplit_once('.').unwrap_or(("", &key));
        let typo = if table.is_empty() { format!("{name}x") } else { format!("{table}.{name}x") };
        let typo = document(&typo, &example);
        assert!(read(&typo).is_err() && !wrong(&validator, &typo).is_empty(), "{typo}");
    }
}

/// Values that a key may get by mistake: the schema refuses none that the parser takes, and what it takes without the
/// parser is a matter of more than the type.
#[test]
fn it_agrees_with_the_parser_about_types() {
    let validator = validator();
    let values = [
        json!(true),
        json!(false),
        json!(0),
        json!(1),
        json!(-1),
        json!(80),
        json!(1.5),
        json!(65_536),
        json!(4_294_967_296_u64),
        json!(""),
        json!("auto"),
        json!("off"),
        json!("x"),
        json!("80"),
        json!("5s"),
        json!("1h 30m"),
        json!("5"),
        json!("50%"),
        json!("0%"),
        json!("101%"),
        json!("force"),
        json!("tcp"),
        json!("sctp"),
        json!("TCP"),
        json!("/run/x"),
        json!("10.0.1.1"),
        json!("10.0.1.300"),
        json!("10.0.1.1:80"),
        json!("[fc00::1]:80"),
        json!("fc00::1"),
        json!("fc00::/64"),
        json!("172.16.0.0/16"),
        json!("lb.example.net"),
        json!("02:00:00:00:00:fe"),
        json!("200-299"),
        json!("0660"),
        json!([]),
        json!(["x"]),
        json!([200, "300-302"]),
        json!([1, 2]),
        json!([1, 1]),
        json!(["quic-connection-id"]),
        json!({}),
        json!({ "a": "b" }),
        json!({ "a": 1 }),
        json!({ "type": "tcp" }),
        json!({ "type": "dns" }),
        json!({ "type": "tcp", "path": "/" }),
    ];
    let mut wider = BTreeSet::new();
    for (key, _) in all_examples() {
        for value in &values {
            // serde takes the fields of a table as a list, too, and nobody writes that.
            let tables = ["metrics", "control", "notify", "health", "vips.flapping"];
            if tables.contains(&key.as_str()) && value.is_array() {
                continue;
            }
            let document = document(&key, value);
            let (read, wrong) = (read(&document), wrong(&validator, &document));
            assert!(read.is_err() || wrong.is_empty(), "{key} = {value}: {wrong}");
            let typed: Result<Config, _> = serde_json::from_value(document);
            if typed.is_err() && wrong.is_empty() {
                wider.insert(format!("{key} = {value}"));
            }
        }
    }
    assert_eq!(wider, BTreeSet::new(), "the parser refuses these");
}

#[test]
fn its_bounds_are_those_of_the_checks() {
    let validator = validator();
    for (key, least, most) in NUMBERS {
        let judge = |number: i64| {
            let document = document(key, &number.into());
            let (read, wrong) = (read(&document), wrong(&validator, &document));
            assert_eq!(read.is_ok(), wrong.is_empty(), "{key} = {number}: {read:?}; {wrong}");
            read.is_ok()
        };
        let (least, most) = (i64::from(least), i64::from(most));
        assert_eq!(
            [least - 1, least, most, most + 1].map(judge),
            [false, true, true, false],
            "{key}"
        );
    }
}

#[test]
fn it_knows_which_kind_of_check_has_which_key() {
    let validator = validator();
    let examples: Vec<_> = all_examples().collect();
    let mut kinds = 0;
    for kind in ["tcp", "tls", "http", "https", "dns", "quic", "udp", "exec", "agent"] {
        serde_json::from_value::<CheckKind>(kind.into()).expect(kind);
        kinds += 1;
        for (key, example) in &examples {
            let Some(key) = key.strip_prefix("checks.NAME.").filter(|key| *key != "type") else {
                continue;
            };
            let mut check = json!({ "type": kind, "name": "a", "send": "a", "program": "/a", "port": 80, "verify": true });
            // What the kind needs, and no key of others.
            for (of, needed) in [("dns", "name"), ("udp", "send"), ("exec", "program")] {
                if of != kind {
                    check.as_object_mut().expect("a table").remove(needed);
                }
            }
            if !matches!(kind, "tls" | "https") {
                check.as_object_mut().expect("a table").remove("verify");
            }
            check[key] = example.clone();
            let document = json!({ "checks": { "a": check } });
            let (read, wrong) = (read(&document), wrong(&validator, &document));
            assert_eq!(read.is_ok(), wrong.is_empty(), "{document}: {read:?}; {wrong}");
        }
    }
    let known = schema()["definitions"]["CheckConfig"]["allOf"].as_array().map(Vec::len);
    assert_eq!(known, Some(kinds));
}
