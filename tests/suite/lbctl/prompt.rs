//! Completions as a person meets them: at the prompt of each shell, on a terminal, by pressing Tab.

use std::fs;
use std::fs::File;
use std::io::Write;
use std::num::NonZero;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use nix::pty::Winsize;
use nix::pty::openpty;
use tempfile::TempDir;

use crate::fixtures::Host;
use crate::fixtures::vip;
use crate::fixtures::wait_until;
use crate::fixtures::written_to;

const LBCTL: &str = env!("CARGO_BIN_EXE_lbctl");

const SOON: Duration = Duration::from_secs(20);

const ROWS: NonZero<u16> = NonZero::new(40).unwrap();
const COLUMNS: NonZero<u16> = NonZero::new(160).unwrap();

/// How a shell starts, and what makes it complete lbctl, if its script is in the folder of `$SCRIPTS`, as packages do.
struct Shell {
    name: &'static str,
    options: &'static [&'static str],
    script: &'static str,
    setup: &'static str,
}

const SHELLS: [Shell; 3] = [
    Shell {
        name: "bash",
        options: &["--norc", "--noprofile", "-i"],
        script: "lbctl.bash",
        setup: ". $SCRIPTS/lbctl.bash",
    },
    Shell {
        name: "zsh",
        options: &["-f", "-i"],
        script: "_lbctl",
        setup: "fpath=($SCRIPTS $fpath); autoload -Uz compinit; compinit -u -D",
    },
    Shell {
        name: "fish",
        options: &["--no-config", "-i"],
        script: "lbctl.fish",
        setup: "source $SCRIPTS/lbctl.fish",
    },
];

/// A shell on a terminal of its own. It is killed when it is dropped.
struct Prompt {
    child: Child,
    keys: File,
    output: Arc<Mutex<Vec<u8>>>,
    _home: TempDir,
}

impl Prompt {
    #[track_caller]
    fn start(host: &Host, shell: &Shell) -> Self {
        let home = tempfile::tempdir().expect("a folder");
        let script = Command::new(LBCTL).args(["completions", shell.name]).output();
        let script = script.expect("run lbctl").stdout;
        fs::write(home.path().join(shell.script), script).expect("write the script");
        let size =
            Winsize { ws_row: ROWS.get(), ws_col: COLUMNS.get(), ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(Some(&size), None).expect("a terminal");
        let end = || Stdio::from(pty.slave.try_clone().expect("a descriptor"));
        let folder = Path::new(LBCTL).parent().expect("a folder").display();
        // The terminal is the shell's own, as it would be at a login.
        let child = host
            .ns
            .command("setsid")
            .args(["--ctty", shell.name])
            .args(shell.options)
            .env("PATH", format!("{folder}:/usr/bin:/bin:/usr/sbin:/sbin"))
            .env("HOME", home.path())
            // fish makes a folder in /tmp otherwise.
            .env("XDG_RUNTIME_DIR", home.path())
            .env("SCRIPTS", home.path())
            .env("LBCTL_BPFFS", host.bpffs.text())
            .envs([("TERM", "xterm"), ("INPUTRC", "/dev/null"), ("LBCTL_AUDIT", "off")])
            .env_remove("LBCTL_INSTANCE")
            .current_dir(home.path())
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .expect("starts");
        let keys = File::from(pty.master);
        let output = written_to(&keys);
        let mut prompt = Self { child, keys, output, _home: home };
        // What is typed is on the screen, too: it has other letters.
        prompt.press(&format!("{}; printf 're%s\\n' ady\r", shell.setup));
        prompt.shows(|screen| screen.lines().any(|line| line.trim() == "ready"));
        prompt
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).expect("the terminal takes keys");
    }

    /// The screen as a person sees it, without the backslashes by which shells protect brackets.
    fn screen(&self) -> String {
        let mut screen = vt100::Parser::new(ROWS, COLUMNS, 0);
        screen.process(&self.output.lock().expect("nobody panics"));
        let lines: Vec<_> = screen.screen().rows(0, COLUMNS.get()).collect();
        lines.iter().map(|line| line.trim_end()).collect::<Vec<_>>().join("\n").replace('\\', "")
    }

    #[track_caller]
    fn shows(&self, what: impl Fn(&str) -> bool) {
        assert!(wait_until(SOON, || what(&self.screen())), "{}", self.screen());
    }
}

impl Drop for Prompt {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What is typed before Tab, and what the line is then.
const LINES: [(&str, &str); 8] = [
    ("lbctl doc", "lbctl doctor"),
    ("lbctl probe u", "lbctl probe udp://[fc00:1::2]:443"),
    ("lbctl probe tcp://10.2", "lbctl probe tcp://10.200.1.1:80"),
    ("lbctl real down udp://[fc00:1::2]:443 1", "lbctl real down udp://[fc00:1::2]:443 10.0.1.1"),
    ("lbctl decap attach upl", "lbctl decap attach uplink"),
    ("lbctl chain remove b", "lbctl chain remove balancer"),
    ("true; lbctl flows count --vip u", "lbctl flows count --vip udp://[fc00:1::2]:443"),
    ("LBCTL_INSTANCE=default lbctl probe u", "lbctl probe udp://[fc00:1::2]:443"),
];

#[track_caller]
fn completes(name: &str) {
    let shell = SHELLS.iter().find(|shell| shell.name == name).expect("a shell");
    let found = Command::new(name).arg("--version").stdout(Stdio::null()).status();
    if !found.is_ok_and(|status| status.success()) {
        eprintln!("skipped: {name} is missing here, so nobody presses Tab at its prompt");
        return;
    }
    let host = Host::new();
    let vips = vip("tcp://10.200.1.1:80", &["10.0.0.1", "10.0.0.2"])
        + &vip("udp://[fc00:1::2]:443", &["10.0.1.1"]);
    host.lbctl().apply(&Host::config(&vips));
    for (typed, line) in LINES {
        let mut prompt = Prompt::start(&host, shell);
        prompt.press(&format!("{typed}\t"));
        prompt.shows(|screen| screen.contains(line));
    }
    // Several: the shell puts in what they share, and shows them.
    let mut prompt = Prompt::start(&host, shell);
    prompt.press("lbctl real drain tcp://10.200.1.1:80 \t\t\t");
    prompt.shows(|screen| screen.contains("10.0.0.1") && screen.contains("10.0.0.2"));
    assert!(!prompt.screen().contains("10.0.1.1"), "of this VIP only: {}", prompt.screen());
    // The completed line is what the command understands.
    let mut prompt = Prompt::start(&host, shell);
    prompt.press("lbctl real list u\t");
    prompt.shows(|screen| screen.contains("lbctl real list udp://[fc00:1::2]:443"));
    prompt.press("\r");
    prompt.shows(|screen| screen.contains("10.0.1.1"));
}

#[test]
fn of_bash() {
    completes("bash");
}

#[test]
fn of_zsh() {
    completes("zsh");
}

#[test]
fn of_fish() {
    completes("fish");
}
