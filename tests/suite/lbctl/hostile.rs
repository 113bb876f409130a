//! Hostile input. Whatever a user types or a file holds, no command takes much memory or aborts, and none prints input
//! at length or unescaped.

use std::ffi::OsStr;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::fixtures::Host;
use crate::fixtures::METRICS;
use crate::fixtures::config_file;
use crate::fixtures::get;
use crate::fixtures::vip;

/// The limit of a command's address space here, in kilobytes. Threads and libraries take most of it.
const ADDRESS_SPACE: u32 = 1_500_000;

/// The longest error output of a command, in bytes.
const MOST: usize = 8000;

/// `lbctl` with little memory, as it ended: exit code, standard output, standard error.
#[track_caller]
fn run<S: AsRef<OsStr>>(
    host: &Host,
    arguments: impl IntoIterator<Item = S>,
) -> (i32, String, String) {
    let limited = format!("ulimit -v {ADDRESS_SPACE}; exec timeout -s KILL 100 \"$@\"");
    let mut command = host.ns.command("sh");
    command.args([
        "-euc",
        &limited,
        "sh",
        env!("CARGO_BIN_EXE_lbctl"),
        "--bpffs",
        host.bpffs.text(),
    ]);
    command.args(arguments).stdin(Stdio::null()).env("RUST_BACKTRACE", "0");
    let what = format!("{command:?}");
    let what = l4lb::outside::message(&what);
    let output = command.output().expect("run lbctl");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    let shown = l4lb::outside::message(&stderr);
    let code = output.status.code();
    assert!(code.is_some_and(|code| code < 4), "{what}: {}: {shown}", output.status);
    assert!(!stderr.contains("panicked"), "{what}: {shown}");
    assert!(stderr.len() <= MOST, "{what}: {} bytes: {shown}", stderr.len());
    let raw = stderr.chars().any(|c| c.is_control() && c != '\n');
    assert!(!raw && !stderr.contains('\u{202e}'), "{what}: control characters: {shown}");
    (code.unwrap_or(-1), String::from_utf8_lossy(&output.stdout).into_owned(), stderr)
}

fn values() -> Vec<String> {
    let fixed = [
        "",
        "0-4294967295",
        "99999999999999999999",
        "1/0",
        "\u{1b}[2J\u{202e}\r\u{7}",
        "../../../../etc",
    ];
    let long = ["A".repeat(100_000), "0-9,".repeat(25_000)];
    fixed.map(str::to_owned).into_iter().chain(long).collect()
}

/// The commands, and the options of each that take a value, as the help has them.
fn all_options(host: &Host) -> Vec<(Vec<String>, Vec<String>)> {
    let mut found = Vec::new();
    let mut todo = vec![Vec::<String>::new()];
    while let Some(path) = todo.pop() {
        let asked = path.iter().map(String::as_str).chain(["--help"]);
        let (code, help, _) = run(host, asked);
        assert_eq!(code, 0, "{path:?}");
        let mut commands = Vec::new();
        let mut options = Vec::new();
        let mut part = "";
        for line in help.lines() {
            if !line.starts_with(' ') && line.ends_with(':') {
                part = line;
            }
            let word = line.trim_start();
            match part {
                "Commands:" | "Set up:" | "Change:" | "Look:" | "Test:" | "Other:"
                    if line.starts_with("  ") && !line.starts_with("   ") =>
                {
                    commands.extend(word.split(' ').next().filter(|name| *name != "help"));
                }
                // Once is enough.
                "Options of every command:" if !path.is_empty() => {}
                "Options:" | "Options of every command:" => {
                    let option =
                        word.find("--").map(|at| &word[at..]).filter(|_| word.starts_with('-'));
                    options.extend(option.and_then(|option| {
                        option
                            .split_once([' ', '['])
                            .filter(|(_, rest)| rest.contains('<'))
                            .map(|(name, _)| name)
                    }));
                }
                _ => {}
            }
        }
        let path_of = |name: &str| path.iter().cloned().chain([name.to_owned()]).collect();
        todo.extend(commands.into_iter().map(path_of));
        let options =
            options.into_iter().map(|name| name.trim_end_matches('=').to_owned()).collect();
        found.push((path, options));
    }
    found
}

/// Options that keep a command from running on, or from writing files, where a random value is valid.
fn harmless(path: &[String]) -> &'static [&'static str] {
    match path.first().map(String::as_str) {
        Some("dump") => &["--duration", "1ms"],
        Some("stats") => &["--count", "1"],
        _ => &[],
    }
}

#[test]
fn every_option_of_every_command() {
    let host = Host::new();
    host.lbctl().apply(&Host::config(&vip("tcp://10.200.1.1:80", &["10.0.0.1"])));
    let options = all_options(&host);
    let count = |name: &str| {
        options.iter().filter(|(_, options)| options.iter().any(|o| o == name)).count()
    };
    for name in [
        "--cpu",
        "--lock-timeout",
        "--instance",
        "--older-than",
        "--watch",
        "--pcap",
        "--weight",
        "--file",
    ] {
        assert!(count(name) > 0, "{name} is not found in {options:?}");
    }
    let limits = include_str!("../../../docs/limits.md");
    for option in options.iter().flat_map(|(_, options)| options) {
        assert!(limits.contains(&format!("`{option}`")), "docs/limits.md has nothing of {option}");
    }
    let values = values();
    std::thread::scope(|scope| {
        for part in [0, 1] {
            let (options, values, host) = (&options, &values, &host);
            scope.spawn(move || {
                for (path, options) in options.iter().skip(part).step_by(2) {
                    for value in values {
                        for option in options.iter().filter(|option| *option != "--write") {
                            // Alone first: the command might complain about a later argument instead.
                            let given = format!("{option}={value}");
                            let arguments = path.iter().map(String::as_str).chain([&*given]);
                            let twice = harmless(path).contains(&option.as_str());
                            run(
                                host,
                                arguments.chain(
                                    if twice { &[] } else { harmless(path) }.iter().copied(),
                                ),
                            );
                        }
                        // What `lab run` runs says what it likes.
                        let words: Vec<_> = path.iter().map(String::as_str).collect();
                        if matches!(words[..], [] | ["down"] | ["lab", "run"]) {
                            continue;
                        }
                        for times in [1, 3] {
                            let values = std::iter::repeat_n(value.as_str(), times);
                            let arguments = path
                                .iter()
                                .map(String::as_str)
                                .chain(harmless(path).iter().copied());
                            run(host, arguments.chain(["--"]).chain(values));
                        }
                    }
                }
            });
        }
    });
    host.lbctl().ok(&["status"]);
}

/// A list of CPUs that would take 17 GB.
#[test]
fn lists_of_cpus() {
    let host = Host::new();
    host.lbctl().apply(&Host::config(""));
    for list in [
        "0-4294967295",
        "4294967295",
        "0-1024",
        "1024",
        "3-1",
        "",
        "0,,1",
        "0-4294967295:4294967295",
    ] {
        let (code, _, stderr) = run(&host, ["dump", "--duration", "1ms", &format!("--cpu={list}")]);
        assert_eq!(code, 2, "{list}: {stderr}");
        assert!(
            stderr
                .contains("write a list of CPUs, such as 0-3,8; the highest possible CPU is 1023")
                || list.is_empty()
        );
    }
    let (code, _, stderr) = run(&host, ["dump", "--duration", "1ms", "--cpu", "0-1023"]);
    assert_eq!(code, 0, "{stderr}");
}

/// A file of this name and content.
fn file(folder: &Path, name: &str, content: &[u8]) -> String {
    let path = folder.join(name);
    fs::File::create(&path).and_then(|mut file| file.write_all(content)).expect("write a file");
    path.to_str().expect("a printable path").to_owned()
}

#[test]
fn files() {
    let host = Host::new();
    let folder = tempfile::tempdir().expect("make a folder");
    let long = "\u{1b}[2J\u{202e}x".repeat(20_000);
    let quoted: String = long.chars().flat_map(char::escape_default).collect();
    let quoted = quoted.replace("\\u{", "\\u00").replace('}', "");
    let nested = |open: &str, close: &str| open.repeat(100_000) + &close.repeat(100_000);
    let toml = [
        format!("a = {}", nested("[", "]")),
        format!("vips = {}", nested("[{ a = ", "}]")),
        format!("[{}a]", "a.".repeat(100_000)),
        format!("{}a = 1", "a.".repeat(100_000)),
        format!("[[interfaces]]\nname = \"{}\"", "x".repeat(100_000)),
        format!("[[interfaces]]\nname = '{}'", long.replace('\u{1b}', "\u{9b}")),
        format!("[[interfaces]]\n\"{}\" = 1", "y".repeat(100_000)),
        format!("[[interfaces]]\nname = \"a\"\ngateway = \"{}\"", "z".repeat(100_000)),
        format!("[[interfaces]]\nname = \"a\"\ngateway_mac = \"{}\"", "z".repeat(100_000)),
        format!("[packets]\nencap_source_v4 = \"{}\"", "z".repeat(100_000)),
        format!("[connection_table]\ncpus = [{}]", "0,".repeat(1_000_000)),
        "[connection_table]\ncpus = [4294967295]".to_owned(),
        "[connection_table]\ncpus = [99999999999999999999]".to_owned(),
        "[connection_table]\ncpus = \"0-4294967295\"".to_owned(),
        "[connection_table]\nentries = 4294967295".to_owned(),
        "[[interfaces]]\nname = \"a\"\n".repeat(200_000),
        "[[vips]]\naddress = \"10.200.1.1\"\nport = 1\nprotocol = \"tcp\"\n".repeat(100_000),
        long.clone(),
        "\0".repeat(100_000),
    ];
    let json = [
        nested("[", "]"),
        nested("{\"vips\":", "}"),
        format!("{{\"vips\":{}}}", nested("[", "]")),
        format!("{{\"{quoted}\":1}}"),
        format!("{{\"interfaces\":[{{\"name\":\"{quoted}\"}}]}}"),
        format!("{{\"config\":{{}},\"cases\":[{{\"name\":\"{quoted}\",\"input\":\"{quoted}\",\"action\":\"{quoted}\"}}]}}"),
        format!("{{\"config\":{{}},\"cases\":{}}}", nested("[", "]")),
        "{\"config\":{},\"cases\":[{\"name\":\"a\",\"input\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\",\"action\":\"XDP_PASS\",\
         \"repeat\":4294967295}]}"
            .to_owned(),
    ];
    let mut paths: Vec<String> =
        vec!["/dev/zero".to_owned(), "/dev/null".to_owned(), "/".to_owned()];
    paths.extend(
        toml.iter()
            .enumerate()
            .map(|(n, text)| file(folder.path(), &format!("{n}.toml"), text.as_bytes())),
    );
    paths.extend(
        json.iter()
            .enumerate()
            .map(|(n, text)| file(folder.path(), &format!("{n}.json"), text.as_bytes())),
    );
    for name in ["large.toml", "large.json"] {
        let path = file(folder.path(), name, b"");
        let large = fs::File::options().write(true).open(&path).expect("open it");
        large.set_len(1 << 40).expect("make it large, of nothing");
        let (_, _, stderr) = run(&host, ["plan", "-f", &path]);
        assert!(stderr.contains("cannot be read: it is larger than 64 MiB"), "{stderr}");
        paths.push(path);
    }
    for path in &paths {
        for command in [
            &["plan", "-f"][..],
            &["doctor", "-f"],
            &["test"],
            &["trace", "--pcap"],
            &["chain", "insert", "1"],
        ] {
            let (code, ..) = run(&host, command.iter().copied().chain([path.as_str()]));
            assert_eq!(code, 1, "{command:?} {path}");
        }
    }
    // A configuration from a pipe, which has no size.
    host.ns.shell(&format!(
        "printf '[connection_table]\\nentries = 1000\\n' | {{ sleep 0.1; {} --bpffs {} doctor -f /dev/stdin || [ $? = 1 ]; }}",
        env!("CARGO_BIN_EXE_lbctl"),
        host.bpffs.text()
    ));
}

/// The configuration is a pipe that nobody writes to: `serve` answers requests, and ends when it is told to.
#[test]
fn serve_does_not_wait_for_its_file() {
    let host = Host::new();
    let file = config_file(&Host::config(""));
    let path = file.path().to_owned();
    let mut serve = host.lbctl().spawn(&["serve", "-f", path.to_str().expect("a printable path")]);
    serve.wait_for("metrics at http");
    fs::remove_file(&path).expect("remove the file");
    mkfifo(&path, Mode::S_IRWXU).expect("put a pipe there");
    serve.signal(Signal::SIGHUP);
    for path in ["/healthz", "/metrics"] {
        assert_eq!(get(&host.ns, METRICS, path).expect("it answers").0, 200, "{path}");
    }
    serve.signal(Signal::SIGTERM);
    let output = serve.wait(Duration::from_secs(20));
    assert_eq!(output.code(), Some(0), "{output}");
}

/// Expressions that would keep libpcap busy for minutes.
#[test]
fn filters() {
    let host = Host::new();
    host.lbctl().apply(&Host::config(""));
    let hosts = |count: u32| {
        let hosts: Vec<_> =
            (0..count).map(|n| format!("host 10.{}.{}.{}", n % 7, n / 250, n % 250)).collect();
        hosts.join(" or ")
    };
    let (code, _, stderr) = run(&host, ["dump", "--duration", "1ms", &hosts(1000)]);
    assert!(code == 1 && stderr.contains("8192 are supported: use 'net'"), "{code}: {stderr}");
    let (code, _, stderr) = run(&host, ["dump", "--duration", "1ms", &hosts(400)]);
    assert!(code == 0 || stderr.contains("libpcap cannot compile it within"), "{code}: {stderr}");
    let (code, _, stderr) = run(&host, ["dump", "--duration", "1ms", &"(".repeat(8000)]);
    assert!(code == 1 && stderr.contains("error: filter '((("), "{code}: {stderr}");
}
