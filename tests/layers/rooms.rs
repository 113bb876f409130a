//! The rooms of `src`: one uses only rooms below it, and no files use one another in a circle.
//!
//! Unit tests may look at anything, so they are left out.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

use crate::circles;
use crate::circles::Uses;

/// Each room, and the rooms that it may use. `lib.rs` may use all, and `bin` only the library.
const ROOMS: [(&str, &[&str]); 12] = [
    ("model", &[]),
    ("kernel", &["model"]),
    ("plan", &["model"]),
    ("instance", &["kernel", "model"]),
    ("dataplane", &["instance", "plan", "kernel", "model"]),
    ("observe", &["dataplane", "instance", "plan", "kernel", "model"]),
    ("probe", &["kernel", "model"]),
    ("control", &["observe", "probe", "dataplane", "instance", "plan", "kernel", "model"]),
    ("capture", &["dataplane", "instance", "plan", "kernel", "model"]),
    (
        "report",
        &["control", "observe", "probe", "dataplane", "instance", "plan", "kernel", "model"],
    ),
    (
        "agent",
        &[
            "capture",
            "report",
            "control",
            "observe",
            "probe",
            "dataplane",
            "instance",
            "plan",
            "kernel",
            "model",
        ],
    ),
    ("bin", &[]),
];

/// A path in a source file that begins at the root of the crate.
struct Import {
    line: usize,
    /// `["model", "address", "Vip"]`
    path: Vec<String>,
}

/// The name of a module: `["kernel", "netlink"]` of `src/kernel/netlink/mod.rs`.
type Module = Vec<String>;

#[test]
fn a_room_uses_only_rooms_below_it() {
    let mut wrong = Vec::new();
    for (file, module) in sources() {
        let Some(room) = module.first() else { continue };
        let (_, below) = ROOMS.iter().find(|(name, _)| name == room).unwrap_or_else(|| {
            panic!("{}: src has no room '{room}': ROOMS lists them", file.display())
        });
        // What `crate` is in the binary is the binary's own.
        for import in imports(&file, &module).iter().filter(|_| room != "bin") {
            let used = &import.path[0];
            if used != room && !below.contains(&used.as_str()) {
                let path = import.path.join("::");
                wrong.push(format!("{}:{}: crate::{path}", file.display(), import.line));
            }
        }
    }
    assert!(wrong.is_empty(), "a room uses only rooms below it:\n{}", wrong.join("\n"));
}

#[test]
fn no_files_use_one_another_in_a_circle() {
    let sources = sources();
    let modules: BTreeSet<&Module> = sources.iter().map(|(_, module)| module).collect();
    let mut uses = Uses::<&Module>::new();
    for (file, module) in &sources {
        for import in imports(file, module) {
            let imported = (1..=import.path.len())
                .rev()
                .find_map(|length| modules.get(&import.path[..length].to_vec()).copied());
            // A module and what lies in its folder are one piece of work, seen from outside.
            if let Some(other) =
                imported.filter(|other| !other.starts_with(module) && !module.starts_with(other))
            {
                uses.entry(module).or_default().push(other);
            }
        }
    }
    if let Some(circle) = circles::find(&uses) {
        let names: Vec<_> = circle.iter().map(|module| module.join("::")).collect();
        panic!("these files use one another in a circle: {}", names.join(" → "));
    }
}

/// Every source file but unit tests, with its module.
fn sources() -> Vec<(PathBuf, Module)> {
    // Tests run in the folder of Cargo.toml.
    let root = Path::new("src");
    let mut folders = vec![root.to_owned()];
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of sources") {
            let path = entry.expect("an entry of it").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let below = path.strip_prefix(root).expect("it is below src").with_extension("");
            let mut module: Module =
                below.iter().map(|part| part.to_string_lossy().into_owned()).collect();
            module.pop_if(|last| last == "mod" || last == "lib");
            if !module.iter().any(|part| part == "tests") {
                sources.push((path, module));
            }
        }
    }
    assert!(sources.len() > 100, "{}: where are the sources?", root.display());
    sources
}

/// What a file uses of its crate, by `crate::` and by `super::`, unit tests and comments left out.
fn imports(file: &Path, module: &Module) -> Vec<Import> {
    let text = fs::read_to_string(file).expect("a source");
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let mut imports = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let code = line.split("//").next().unwrap_or_default();
        let mut words = code.split(|c: char| !c.is_alphanumeric() && c != '_' && c != ':');
        for word in words.by_ref() {
            let mut parts = word.split("::").peekable();
            let mut path = module.clone();
            match parts.next() {
                Some("crate") => path.clear(),
                Some("super") if parts.peek().is_some() => {
                    path.pop();
                }
                _ => continue,
            }
            while parts.next_if_eq(&"super").is_some() {
                path.pop();
            }
            path.extend(parts.filter(|part| !part.is_empty()).map(str::to_owned));
            if !path.is_empty() {
                imports.push(Import { line: number + 1, path });
            }
        }
    }
    imports
}
