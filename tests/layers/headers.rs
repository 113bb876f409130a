//! The C side: `include/l4lb/` has a folder for each duty, and `bpf/` holds the programs.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::circles;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The rooms, lowest first. A header includes headers of its own room and of rooms below.
const ROOMS: [&str; 5] = ["abi", "state", "packet", "watch", "balance"];

/// The only header that others get. It includes nothing of ours, and lies alone at the top.
const PUBLIC: &str = "l4lb/chain.h";

/// One `#include "…"`, and where it is written.
#[derive(Debug)]
struct Include {
    place: String,
    target: String,
}

/// What each file below a folder includes of ours. Files are named as an `#include` names them.
fn includes_below(folder: &str, within: &str) -> BTreeMap<String, Vec<Include>> {
    let mut found = BTreeMap::new();
    let path = Path::new(ROOT).join(folder).join(within);
    for entry in fs::read_dir(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())) {
        let entry = entry.expect("the folder can be read");
        let name = entry.file_name().into_string().expect("names are text");
        let name = if within.is_empty() { name } else { format!("{within}/{name}") };
        if entry.path().is_dir() {
            found.append(&mut includes_below(folder, &name));
        } else {
            let text = fs::read_to_string(entry.path()).expect("the file can be read");
            found.insert(name.clone(), includes_of(&format!("{folder}/{name}"), &text));
        }
    }
    found
}

/// The lines of a file that include one of ours.
fn includes_of(file: &str, text: &str) -> Vec<Include> {
    let lines = text.lines().enumerate();
    let quoted = lines.filter_map(|(at, line)| {
        let target = line.strip_prefix("#include \"")?.split('"').next()?;
        Some(Include { place: format!("{file}:{}", at + 1), target: target.to_owned() })
    });
    quoted.collect()
}

/// The floor of a header, and `None` if it lies in none of the rooms.
fn floor(header: &str) -> Option<usize> {
    let (room, _) = header.strip_prefix("l4lb/")?.split_once('/')?;
    ROOMS.iter().position(|name| *name == room)
}

/// What is wrong with one include of a header.
fn wrong_include(header: &str, include: &Include) -> Option<String> {
    let Include { place, target } = include;
    if header == PUBLIC {
        return Some(format!(
            "{place}: {PUBLIC} goes to others alone, so it cannot include {target}"
        ));
    }
    match (floor(header), floor(target)) {
        _ if target == PUBLIC => None,
        (_, None) => Some(format!("{place}: {target} is not \"l4lb/ROOM/FILE.h\"")),
        (Some(own), Some(other)) if other > own => {
            let (own, other) = (ROOMS[own], ROOMS[other]);
            Some(format!("{place}: {own} is below {other}, so it cannot include {target}"))
        }
        _ => None,
    }
}

/// The headers that include one another, if some do.
fn circle(files: &BTreeMap<String, Vec<Include>>) -> Option<String> {
    let targets = |includes: &Vec<Include>| includes.iter().map(|one| one.target.clone()).collect();
    let uses = files.iter().map(|(file, includes)| (file.clone(), targets(includes))).collect();
    let way = circles::find(&uses)?;
    Some(way.into_iter().map(String::as_str).collect::<Vec<_>>().join(" → "))
}

/// Everything that a file includes, by way of others too.
fn reach(file: &str, files: &BTreeMap<String, Vec<Include>>, seen: &mut BTreeSet<String>) {
    for include in files.get(file).into_iter().flatten() {
        if seen.insert(include.target.clone()) {
            reach(&include.target, files, seen);
        }
    }
}

#[test]
fn headers_include_only_rooms_below_them() {
    let headers = includes_below("include", "");
    let mut wrong: Vec<String> = headers
        .keys()
        .filter(|header| floor(header).is_none() && *header != PUBLIC)
        .map(|header| format!("include/{header}: lies in none of the rooms {}", ROOMS.join(", ")))
        .collect();
    for (header, includes) in &headers {
        wrong.extend(includes.iter().filter_map(|include| wrong_include(header, include)));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));

    assert_eq!(circle(&headers), None, "headers include one another");
}

#[test]
fn programs_include_headers_and_need_all_of_them() {
    let mut files = includes_below("include", "");
    let headers: Vec<_> = files.keys().cloned().collect();
    let programs = includes_below("bpf", "");
    let mut reached = BTreeSet::new();
    for (program, includes) in programs {
        assert!(program.ends_with(".bpf.c"), "bpf/{program}: bpf/ holds programs and nothing else");
        for Include { place, target } in &includes {
            assert!(files.contains_key(target), "{place}: there is no include/{target}");
        }
        files.insert(program.clone(), includes);
        reach(&program, &files, &mut reached);
    }
    let idle: Vec<_> = headers.iter().filter(|header| !reached.contains(*header)).collect();
    assert!(idle.is_empty(), "no program includes {idle:?}");
}

#[test]
fn wrong_includes_are_told() {
    let told = |header: &str, text: &str| {
        let includes = includes_of("include/a.h", text);
        wrong_include(header, &includes[0]).unwrap_or_default()
    };
    assert_eq!(
        told("l4lb/packet/l2.h", "\n#include \"l4lb/balance/vips.h\"\n"),
        "include/a.h:2: packet is below balance, so it cannot include l4lb/balance/vips.h"
    );
    assert_eq!(
        told("l4lb/packet/l2.h", "#include \"pkt.h\"\n"),
        "include/a.h:1: pkt.h is not \"l4lb/ROOM/FILE.h\""
    );
    assert_eq!(
        told(PUBLIC, "#include \"l4lb/abi/abi.h\"\n"),
        "include/a.h:1: l4lb/chain.h goes to others alone, so it cannot include l4lb/abi/abi.h"
    );
    for (header, text) in [
        ("l4lb/balance/vips.h", "#include \"l4lb/packet/pkt.h\"\n"),
        ("l4lb/packet/l2.h", "#include \"l4lb/packet/pkt.h\"\n"),
        ("l4lb/balance/verdict.h", "#include \"l4lb/chain.h\"\n"),
    ] {
        assert_eq!(told(header, text), "");
    }
    let files = BTreeMap::from([
        ("a".to_owned(), includes_of("a", "#include \"b\"")),
        ("b".to_owned(), includes_of("b", "#include \"a\"")),
    ]);
    assert_eq!(circle(&files).as_deref(), Some("a → b → a"));
}
