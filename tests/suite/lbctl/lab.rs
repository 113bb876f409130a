//! `lbctl lab`: each lesson goes as docs/lab.md says, and whatever ends the lab, nothing of it stays.

use std::collections::BTreeSet;
use std::fs;
use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Write as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::sys::signal::kill;
use nix::unistd::Pid;

use crate::fixtures::wait_until;

fn lab() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lbctl"));
    command.arg("lab").stdin(Stdio::null());
    command
}

/// The lab looks at what the text promises, and says so.
fn lesson(number: u8) {
    let output = lab().args(["check", &number.to_string()]).output().expect("run lbctl");
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let promised = out.contains(&format!("lesson {number}: as promised"));
    assert!(output.status.success() && promised, "{out}\n{err}");
}

#[test]
fn lesson_1_break_a_real() {
    lesson(1);
}

#[test]
fn lesson_2_drain() {
    lesson(2);
}

#[test]
fn lesson_3_capture() {
    lesson(3);
}

#[test]
fn lesson_4_trace() {
    lesson(4);
}

#[test]
fn lesson_5_weights() {
    lesson(5);
}

#[test]
fn lesson_6_chain() {
    lesson(6);
}

#[test]
fn lesson_7_flood() {
    lesson(7);
}

#[test]
fn lesson_8_small_table() {
    lesson(8);
}

/// A lesson without a promise would always go well.
#[test]
fn each_block_of_a_lesson_promises_something() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/lab.md");
    let page = fs::read_to_string(page).expect("docs/lab.md");
    let lessons: Vec<_> = page.split("\n## Lesson ").skip(1).collect();
    assert_eq!(lessons.len(), 8);
    for lesson in lessons {
        for (place, _) in lesson.match_indices("```sh\n") {
            let (_, behind) = lesson[place + 1..].split_once("\n```\n\n").expect("the block ends");
            let sentence = behind.split("\n\n").next().expect("a paragraph");
            let promises = ["You see", "You no longer see"].iter().any(|w| sentence.starts_with(w));
            assert!(promises && sentence.contains('`'), "{lesson}\n\n{sentence}");
        }
    }
}

/// What the lab is made of, as the kernel names it.
struct Parts {
    processes: BTreeSet<i32>,
    namespaces: BTreeSet<PathBuf>,
}

impl Parts {
    /// Of a process and of all that descend from it.
    fn of(root: i32) -> Self {
        let mut processes = BTreeSet::from([root]);
        loop {
            let found: BTreeSet<_> = all_processes()
                .filter(|process| parent(*process).is_some_and(|p| processes.contains(&p)))
                .collect();
            if found.is_subset(&processes) {
                break;
            }
            processes.extend(found);
        }
        let ours: Vec<_> = ["net", "mnt"].map(|kind| namespace("self", kind)).into();
        let namespaces = processes
            .iter()
            .flat_map(|process| ["net", "mnt"].map(|kind| namespace(&process.to_string(), kind)))
            .filter(|namespace| !ours.contains(namespace))
            .flatten()
            .collect();
        Self { processes, namespaces }
    }

    /// Whether a process is left, or one that is in a namespace of these, which mounts and pins need.
    fn left(&self) -> Vec<String> {
        let in_them = |process: &i32| {
            ["net", "mnt"]
                .iter()
                .filter_map(|kind| namespace(&process.to_string(), kind))
                .any(|namespace| self.namespaces.contains(&namespace))
        };
        all_processes()
            .filter(|process| self.processes.contains(process) || in_them(process))
            .map(|process| {
                fs::read_to_string(format!("/proc/{process}/cmdline")).unwrap_or_default()
            })
            .filter(|command| !command.is_empty())
            .collect()
    }
}

fn all_processes() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").expect("/proc").flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn parent(process: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The command, in parentheses, may have anything in it.
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

fn namespace(process: &str, kind: &str) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{process}/ns/{kind}")).ok()
}

/// A lab that stands, and sleeps.
fn standing() -> (Child, Parts) {
    let mut child = lab()
        .args(["run", "balancer lbctl status && echo stands && sleep 100"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("start lbctl");
    let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let stands = lines.map_while(Result::ok).any(|line| line == "stands");
    let parts = Parts::of(child.id().cast_signed());
    assert!(stands, "the lab does not stand");
    // Six hosts, and the lab's own.
    assert!(parts.namespaces.len() >= 14, "{:?}", parts.namespaces);
    assert!(parts.processes.len() > 12, "{:?}", parts.processes);
    (child, parts)
}

#[test]
fn nothing_stays_whatever_ends_it() {
    let mounts = || fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    for signal in [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT, Signal::SIGKILL] {
        let (mut child, parts) = standing();
        assert!(!mounts().contains("/run/lab"), "the machine sees mounts of the lab");
        kill(Pid::from_raw(child.id().cast_signed()), signal).expect("send a signal");
        child.wait().expect("it ends");
        let gone = wait_until(Duration::from_secs(10), || parts.left().is_empty());
        assert!(gone, "after {signal}: {:?}", parts.left());
        assert!(!Path::new("/run/lab").exists());
    }
}

/// What is typed at the lab's prompt, and at one of a host.
#[test]
fn each_host_has_a_prompt() {
    let mut child = lab()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start lbctl");
    let parts_root = child.id().cast_signed();
    let mut stdin = child.stdin.take().expect("a pipe");
    let typed = "for host in client router balancer real1 real2 real3; do $host hostname; done\n\
                 lesson | wc -l\n\
                 balancer\nlbctl real list | grep -c healthy\nls /etc/l4lb\nexit\n\
                 lbctl status\nexit\n";
    stdin.write_all(typed.as_bytes()).expect("type");
    let output = child.wait_with_output().expect("it ends");
    drop(stdin);
    let out = String::from_utf8_lossy(&output.stdout);
    let err = String::from_utf8_lossy(&output.stderr);
    let words: Vec<_> = out.lines().rev().take(9).collect();
    let expected =
        ["default.toml", "3", "8", "real3", "real2", "real1", "balancer", "router", "client"];
    assert_eq!(words, expected, "{out}\n{err}");
    // The lab's own prompt is on no host, and sees none of the machine's pins.
    assert!(err.contains("error: instance"), "{err}");
    assert!(Parts::of(parts_root).left().is_empty());
}

#[test]
fn a_tool_that_is_missing_is_named() {
    let output = lab().env("PATH", "/nonexistent").output().expect("run lbctl");
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(err, "error: lab: bash is missing: apt-get install bash\n");
    assert_eq!(output.status.code(), Some(1));
}
