//! Completions in the shells themselves.

use std::process::Command;

use crate::fixtures::Host;
use crate::fixtures::NOBODY;
use crate::fixtures::vip;

const LBCTL: &str = env!("CARGO_BIN_EXE_lbctl");

/// A host with two VIPs, one of IPv6.
fn host() -> Host {
    let host = Host::new();
    let vips = vip("tcp://10.200.1.1:80", &["10.0.0.1", "10.0.0.2"])
        + &vip("udp://[fc00:1::2]:443", &["10.0.1.1"]);
    host.lbctl().apply(&Host::config(&vips));
    host
}

/// What a shell's script prints. It must not complain.
#[track_caller]
fn printed(host: &Host, mut command: Command) -> Vec<String> {
    // Shells leave files there.
    let home = tempfile::tempdir().expect("a folder");
    command.env("LBCTL_BPFFS", host.bpffs.text()).env("HOME", home.path());
    // fish makes a folder in /tmp otherwise.
    command.env("XDG_RUNTIME_DIR", home.path());
    let output = command.output().expect("run the shell");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && stderr.is_empty(), "{}: {stderr}", output.status);
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

/// What bash puts in the place of what is behind the last break.
#[track_caller]
fn bash(host: &Host, line: &str) -> Vec<String> {
    printed(host, bash_command(host, line))
}

fn bash_command(host: &Host, line: &str) -> Command {
    let script = format!(
        "eval \"$({LBCTL} completions bash)\"
         COMP_WORDBREAKS=$' \\t\\n\"\\'><=;|&(:' COMP_LINE='{line}' COMP_POINT={}
         _lbctl {LBCTL} '' ''
         ((${{#COMPREPLY[@]}} == 0)) || printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        line.len()
    );
    let mut command = host.ns.command("bash");
    command.args(["--norc", "-euc", &script]);
    command
}

/// What zsh offers.
#[track_caller]
fn zsh(host: &Host, words: &[&str]) -> Vec<String> {
    let (last, words) = words.split_last().expect("a word");
    let given: Vec<_> = words.iter().map(|word| format!("'{word}'")).collect();
    // Outside of the line editor, nothing takes candidates: what would be added is printed.
    let script = format!(
        "eval \"$({LBCTL} completions zsh)\"
         compadd() {{ print -rl -- \"${{(@P)@[-1]}}\" }}
         words=({LBCTL} {} '{last}') CURRENT={} PREFIX='{last}'
         _lbctl || true",
        given.join(" "),
        words.len() + 2,
    );
    let mut command = host.ns.command("zsh");
    command.args(["-fec", &script]);
    printed(host, command)
}

/// What fish offers, without descriptions.
#[track_caller]
fn fish(host: &Host, line: &str) -> Vec<String> {
    let folder = std::path::Path::new(LBCTL).parent().expect("a folder").display();
    let script = format!(
        "set PATH {folder} $PATH; lbctl completions fish | source; complete --do-complete 'lbctl {line}'"
    );
    let mut command = host.ns.command("fish");
    command.args(["--no-config", "-c", &script]);
    let candidates = printed(host, command);
    let value = |line: String| line.split('\t').next().unwrap_or_default().to_owned();
    candidates.into_iter().map(value).collect()
}

#[test]
fn in_bash() {
    let host = host();
    assert_eq!(bash(&host, "lbctl do"), ["down", "doctor"]);
    assert_eq!(bash(&host, "lbctl probe "), ["tcp://10.200.1.1:80", "udp://[fc00:1::2]:443"]);
    // What is before the colon stays.
    assert_eq!(bash(&host, "lbctl probe tcp:"), ["//10.200.1.1:80"]);
    assert_eq!(bash(&host, "lbctl probe udp://[fc00:1::"), ["2]:443"]);
    assert_eq!(bash(&host, "lbctl flows list --vip=u"), ["udp://[fc00:1::2]:443"]);
    assert_eq!(bash(&host, "lbctl probe tcp://10.200.1.1:80 "), ["10.0.0.1", "10.0.0.2"]);
    assert_eq!(bash(&host, "lbctl real drain udp://[fc00:1::2]:443 10"), ["10.0.1.1"]);
    assert_eq!(bash(&host, "lbctl chain remove "), ["balancer"]);
    assert!(bash(&host, "lbctl decap attach ").contains(&"uplink".to_owned()));
    assert_eq!(bash(&host, "lbctl --instance de"), ["default"]);
    // Of an instance that does not run, nothing is known.
    let unknown = bash(&host, "lbctl --instance other probe ");
    assert!(unknown.iter().all(|word| word.starts_with("--")), "{unknown:?}");
}

/// Candidates are no patterns of files, and names of files are no commands.
#[test]
fn bash_types_what_was_meant() {
    let host = Host::new();
    let vips =
        vip("tcp://10.200.1.1:*", &["10.0.0.1"]) + &vip("tcp://[fc00:1::2]:80", &["10.0.0.1"]);
    host.lbctl().apply(&Host::config(&vips));
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["$(reboot).toml", "a b.toml", "lb.toml"] {
        std::fs::write(folder.path().join(name), "").expect("a file");
    }
    let nested = folder.path().join("tcp:").join("10.200.1.1:x");
    std::fs::create_dir_all(nested).expect("a folder");
    let in_folder = |line: &str| {
        let mut command = bash_command(&host, line);
        command.current_dir(folder.path());
        printed(&host, command)
    };
    assert_eq!(in_folder("lbctl probe "), ["tcp://10.200.1.1:*", "tcp://[fc00:1::2]:80"]);
    let files = in_folder("lbctl check -f ");
    for name in [r"\$\(reboot\).toml", r"a\ b.toml", "lb.toml"] {
        assert!(files.iter().any(|file| file == name), "{name}: {files:?}");
    }
}

#[test]
fn in_zsh() {
    let host = host();
    assert_eq!(zsh(&host, &["do"]), ["down", "doctor"]);
    assert_eq!(zsh(&host, &["probe", "tcp"]), ["tcp://10.200.1.1:80"]);
    assert_eq!(zsh(&host, &["real", "drain", "tcp://10.200.1.1:80", ""]), ["10.0.0.1", "10.0.0.2"]);
}

#[test]
fn in_fish() {
    let host = host();
    assert_eq!(fish(&host, "do"), ["doctor", "down"]);
    assert_eq!(fish(&host, "probe udp:"), ["udp://[fc00:1::2]:443"]);
    assert_eq!(fish(&host, "real drain tcp://10.200.1.1:80 "), ["10.0.0.1", "10.0.0.2"]);
}

/// Who may read nothing gets commands and options, and no error. What is typed cannot do harm.
#[test]
fn without_rights_and_with_hostile_words() {
    let host = host();
    let complete = |words: &[&str]| {
        let mut command = host.ns.command(NOBODY[0]);
        command.args(&NOBODY[1..]).args([LBCTL, "complete", "--"]).args(words);
        printed(&host, command)
    };
    assert_eq!(
        complete(&["sta"]),
        ["status", "stats"].map(|name| {
            let line = complete(&["sta"]).into_iter().find(|line| line.starts_with(name));
            line.expect("a command, and what it does")
        })
    );
    assert!(complete(&["probe", ""]).iter().all(|line| line.starts_with("--")));
    let long = "x".repeat(100_000);
    for word in ["\u{1b}[2J", "--instance=../..", "--bpffs=", "--", "-", long.as_str()] {
        complete(&[word]);
        complete(&[word, "probe", word]);
        complete(&["dump", word, "--vip", word, ""]);
    }
    let many = vec!["probe"; 20_000];
    complete(&many);
}
