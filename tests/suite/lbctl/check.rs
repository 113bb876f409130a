//! `lbctl check`: the file alone.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::process::Output;

use serde_json::Value;
use tempfile::TempDir;

const GOOD: &str = "[[interfaces]]\nname = \"eth0\"\n[[vips]]\naddress = \"10.200.1.1\"\nport = 80\nprotocol = \"tcp\"\n\
                    reals = [{ address = \"10.0.0.1\" }]\n";

/// Runs it as a user who may do nothing, in the file's folder.
fn check(folder: &Path, args: &[&str]) -> (Option<i32>, String, String) {
    let output: Output = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all", "--"])
        .arg(env!("CARGO_BIN_EXE_lbctl"))
        .arg("check")
        .args(args)
        .current_dir(folder)
        .output()
        .expect("setpriv runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("readable");
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, text).expect("write");
    }
    folder
}

#[test]
fn exit_codes_and_output() {
    let warned = format!("{GOOD}[checks.web]\ntype = \"tcp\"\n");
    let wrong = format!("{warned}prot = 1\n[packet]\nmax_frame = 1400\n");
    let files = folder(&[("good.toml", GOOD), ("warned.toml", &warned), ("wrong.toml", &wrong)]);
    let run = |args: &[&str]| check(files.path(), args);
    let done = |code: i32, text: &str| (Some(code), text.to_owned(), String::new());
    assert_eq!(run(&["-f", "good.toml"]), done(0, "no errors, no warnings\n"));
    assert_eq!(run(&["-f", "good.toml", "--strict"]).0, Some(0));
    let unused = "warned.toml:8:9: warning: checks.web: no VIP uses it; give a VIP check = \"web\", or remove it\n\
                  0 errors, 1 warning\n";
    assert_eq!(run(&["-f", "warned.toml"]), done(0, unused));
    assert_eq!(run(&["-f", "warned.toml", "--strict"]), done(1, unused));
    let both = "wrong.toml:10:1: error: checks.web.prot: unknown field `prot`; did you mean `port`?\n\
                wrong.toml:11:2: error: packet: unknown field `packet`; did you mean [packets]?\n\
                2 errors, 0 warnings\n";
    assert_eq!(run(&["-f", "wrong.toml"]), done(1, both));
    let (code, text, _) = run(&["-f", "none.toml"]);
    assert_eq!(code, Some(1));
    assert!(text.starts_with("none.toml: error: cannot be read: "), "{text}");
}

#[test]
fn json_is_a_list_of_findings() {
    let files = folder(&[("wrong.toml", "colour = 1\n"), ("good.toml", GOOD)]);
    let (code, text, _) = check(files.path(), &["--json", "-f", "wrong.toml"]);
    assert_eq!(code, Some(1));
    let found: Value = serde_json::from_str(&text).expect("JSON");
    let first = &found[0];
    let place = ["file", "line", "column", "key", "severity"].map(|key| &first[key]);
    let expected: [Value; 5] =
        ["wrong.toml".into(), 1.into(), 1.into(), "colour".into(), "error".into()];
    assert_eq!(place, expected.each_ref());
    assert_eq!(first["message"], "unknown field `colour`");
    assert!(first["fix"].as_str().is_some_and(|fix| fix.starts_with("a file has ")), "{first}");
    assert_eq!(check(files.path(), &["--json", "-f", "good.toml"]).1.trim(), "[]");
}

#[test]
fn included_files() {
    let vip = |address: &str| {
        format!(
            "[[vips]]\naddress = \"{address}\"\nport = 80\nprotocol = \"tcp\"\nreals = [{{ address = \"10.0.0.1\" }}]\n"
        )
    };
    let main = format!("include = [\"vips/*.toml\"]\n{GOOD}");
    let many: Vec<_> = (0..257).map(|n| format!("many/{n}.toml")).collect();
    let mut all = vec![
        ("lb.toml", main.clone()),
        ("vips/a.toml", vip("10.200.1.2")),
        ("vips/b.json", "{".to_owned()),
        ("vips/.c.toml", "not TOML".to_owned()),
        ("twice.toml", format!("include = [\"vips/a.toml\", \"vips/*.toml\"]\n{GOOD}")),
        ("double.toml", main.replace("10.200.1.1", "10.200.1.2")),
        ("wrong.toml", main.replace("vips/*.toml", "vips/*")),
        ("none.toml", main.replace("vips/*.toml", "vips/none.toml")),
        ("empty.toml", main.replace("vips/*.toml", "nothing/*")),
        ("word.toml", main.replace("[\"vips/*.toml\"]", "\"vips/*.toml\"")),
        ("pattern.toml", main.replace("vips/*.toml", "vips/[.toml")),
        ("many.toml", main.replace("vips", "many")),
    ];
    all.extend(many.iter().map(|name| (name.as_str(), String::new())));
    let all: Vec<_> = all.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let files = folder(&all);
    for (file, words) in [
        ("lb.toml", "no errors, no warnings\n"),
        ("twice.toml", "no errors, no warnings\n"),
        (
            "double.toml",
            "vips/a.toml:1:1: error: vips[0]: tcp://10.200.1.2:80 is listed twice, first on double.toml:4; remove one",
        ),
        ("wrong.toml", "vips/b.json:1:1: error: EOF while parsing"),
        (
            "none.toml",
            "none.toml:1:12: error: include[0]: 'vips/none.toml' is no file here; create it, or remove it",
        ),
        (
            "empty.toml",
            "empty.toml:1:12: warning: include[0]: 'nothing/*' matches no file; correct it, or remove it from include",
        ),
        (
            "word.toml",
            "word.toml:1:1: error: include: is no list of files; write include = [\"vips/*.toml\"] at the top",
        ),
        ("pattern.toml", "error: include[0]: 'vips/[.toml' is no pattern of files: "),
        (
            "many.toml",
            "error: include[0]: 'many/*.toml' brings more than 256 files; join some of them",
        ),
    ] {
        let (_, text, errors) = check(files.path(), &["-f", file]);
        assert!(text.contains(words), "{file}: {words}\n{text}{errors}");
    }
}

#[test]
fn editors_get_a_schema() {
    let folder = folder(&[]);
    let (code, stdout, stderr) = check(folder.path(), &["--schema"]);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    assert_eq!(stdout, include_str!("../../../docs/config.schema.json"));
    let schema: Value = serde_json::from_str(&stdout).expect("JSON");
    assert_eq!(schema["properties"]["vips"]["type"], "array");
    // It checks no file then.
    for more in [&["-f", "lb.toml"][..], &["--strict"]] {
        let (code, _, stderr) = check(folder.path(), &[&["--schema"], more].concat());
        assert!(code == Some(2) && stderr.contains("--schema"), "{stderr}");
    }
}
