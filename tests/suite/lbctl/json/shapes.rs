//! What commands print has the shape that tests/json/shapes.json says, docs/json.md names its keys, and all of it is
//! spelt alike.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use super::reports;
use super::reports::Reports;
use super::shape::Shape;
use super::spelling;

const WRITE: &str = "LB_WRITE_SHAPES=1 cargo test --test suite -- lbctl::json::shapes";

fn root(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn page(path: &str) -> String {
    fs::read_to_string(root(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn shapes_of(reports: &Reports) -> BTreeMap<String, Shape> {
    let shape = |values: &Vec<Value>| {
        values.iter().map(|value| Shape::of("", value)).reduce(Shape::or).unwrap_or_default()
    };
    reports.iter().map(|(name, values)| (name.clone(), shape(values))).collect()
}

#[test]
fn shapes_stay_and_names_are_spelt_alike() {
    let reports = reports::all();
    let mut wrong = Vec::new();
    for (name, values) in &reports {
        for value in values {
            spelling::walk(name, value, &mut wrong);
        }
    }
    assert!(wrong.is_empty(), "docs/json.md says how names are spelt: {wrong:#?}");

    let shapes = shapes_of(&reports);
    if std::env::var_os("LB_WRITE_SHAPES").is_some() {
        let shapes: Map<_, _> =
            shapes.iter().map(|(name, shape)| (name.clone(), shape.to_json())).collect();
        let file = json!({ "json_format": l4lb::JSON_FORMAT, "shapes": shapes });
        fs::write(root("tests/json/shapes.json"), format!("{file:#}\n")).expect("write the shapes");
    }
    let file: Value = serde_json::from_str(&page("tests/json/shapes.json")).expect("JSON");
    assert_eq!(file["json_format"], l4lb::JSON_FORMAT, "the version is another: {WRITE}");
    let known = file["shapes"].as_object().expect("shapes");
    let names: BTreeSet<_> = known.keys().collect();
    assert_eq!(names, shapes.keys().collect(), "{WRITE}");
    for (name, shape) in &shapes {
        Shape::from_json(&known[name]).compare(shape, name, &mut wrong);
    }
    assert!(
        wrong.is_empty(),
        "the JSON is not as tests/json/shapes.json says. If keys were only added, write it: {WRITE}; \
         if not, raise JSON_FORMAT as well: {wrong:#?}"
    );
    what_is_documented(&shapes, &mut wrong);
    assert!(wrong.is_empty(), "docs/json.md: {wrong:#?}");
}

/// Words between backquotes.
fn words(text: &str) -> BTreeSet<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The commands of docs/json.md, and what it says that each prints.
fn rows() -> Vec<(BTreeSet<String>, String)> {
    let page = page("docs/json.md");
    let (_, table) = page.split_once("\n| command | prints |\n").expect("a table of commands");
    let rows = table.lines().skip(1).take_while(|line| line.starts_with('|'));
    let row = |row: &str| {
        let (commands, prints) = row.trim_matches('|').split_once(" | ").expect("two cells");
        (words(commands), prints.to_owned())
    };
    rows.map(row).collect()
}

/// docs/json.md, or a page that its row names, names each key that an object has. It names no key that none has.
fn what_is_documented(shapes: &BTreeMap<String, Shape>, wrong: &mut Vec<String>) {
    let rows = rows();
    let of_row = |commands: &BTreeSet<String>| {
        let of = |name: &str| commands.contains(name.split(": ").next().unwrap_or_default());
        shapes.iter().filter(|(name, _)| of(name)).collect::<Vec<_>>()
    };
    for (commands, prints) in &rows {
        let found = of_row(commands);
        if found.is_empty() {
            if !prints.starts_with("none") {
                wrong.push(format!("{commands:?}: nothing is known of it"));
            }
            continue;
        }
        let links = prints.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
        let pages: String = links
            .map(|(link, _)| match link.split('#').next().unwrap_or_default() {
                "" => page("docs/json.md"),
                file => page(&format!("docs/{file}")),
            })
            .collect();
        let named = |key: &str| {
            let ways = [format!("`{key}`"), format!("\"{key}\"")];
            ways.iter().any(|way| prints.contains(way) || pages.contains(way))
        };
        let mut all = BTreeSet::new();
        for (name, shape) in found {
            let events: Vec<_> = name.split(": ").skip(1).collect();
            all.extend(events.into_iter().map(str::to_owned));
            shape.all_keys(&mut all);
            for key in shape.keys().iter().filter(|key| !named(key)) {
                wrong.push(format!("{name}: '{key}' is not documented"));
            }
        }
        let words = words(prints);
        for word in words
            .iter()
            .filter(|word| !commands.contains(&format!("chain {word}")))
            .filter(|word| *word != "stats")
            .filter(|word| !all.contains(*word))
        {
            wrong.push(format!("{commands:?}: there is no '{word}'"));
        }
    }
    let documented: BTreeSet<_> = rows.iter().flat_map(|(commands, _)| commands).collect();
    for name in shapes.keys().filter(|name| !name.contains('/') && !name.contains("control API")) {
        let command = name.split(": ").next().unwrap_or_default();
        if !documented.contains(&command.to_owned()) {
            wrong.push(format!("{command} is not in the table"));
        }
    }
}
