//! Running `lbctl`.

use std::fmt;
use std::io::Read;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::ExitStatus;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::thread;
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use tempfile::NamedTempFile;

use super::Bpffs;
use super::Cleanup;
use super::NetNs;
use super::netns::isolated_command;
use super::wait_until;

/// How long a command may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long a process may take to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(5);

/// `lbctl`, with the pins in a test's own BPF filesystem.
///
/// Unless told [where](Self::in_ns), every run is in a network namespace of its own, in which
/// nothing is.
#[derive(Clone, Debug)]
pub(crate) struct Lbctl<'a> {
    bpffs: PathBuf,
    ns: Option<&'a NetNs>,
    environment: Vec<(String, String)>,
    /// Where it finds another file, and which.
    instead: Vec<(String, PathBuf)>,
}

impl<'a> Lbctl<'a> {
    /// An `lbctl` that pins in `bpffs`.
    pub(crate) fn new(bpffs: &Bpffs) -> Self {
        Self {
            bpffs: bpffs.path().to_owned(),
            ns: None,
            environment: Vec::new(),
            instead: Vec::new(),
        }
    }

    /// The same, inside `ns`.
    #[must_use]
    pub(crate) fn in_ns(self, ns: &'a NetNs) -> Self {
        Self { ns: Some(ns), ..self }
    }

    /// The same, with an environment variable.
    #[must_use]
    pub(crate) fn env(mut self, key: &str, value: &str) -> Self {
        self.environment.push((key.to_owned(), value.to_owned()));
        self
    }

    /// The same, but that it finds `file` at `place`, an absolute path: a fact of the host that is not so.
    #[must_use]
    pub(crate) fn finds(mut self, place: &str, file: &Path) -> Self {
        self.instead.push((place.to_owned(), file.to_owned()));
        self
    }

    /// Runs it to its end, at most a minute.
    #[track_caller]
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.spawn(arguments).wait(PATIENCE)
    }

    /// Runs it and fails the test unless it exits with 0.
    #[track_caller]
    pub(crate) fn ok(&self, arguments: &[&str]) -> Output {
        self.exits(0, arguments)
    }

    /// Runs it and fails the test unless it exits with `code`.
    #[track_caller]
    pub(crate) fn exits(&self, code: i32, arguments: &[&str]) -> Output {
        let output = self.run(arguments);
        let right = output.code() == Some(code);
        assert!(right, "lbctl {}: not exit code {code}, but {output}", arguments.join(" "));
        output
    }

    /// Applies a configuration, in TOML, whatever becomes of flows, and fails the test unless that works.
    #[track_caller]
    pub(crate) fn apply(&self, config: &str) -> Output {
        let file = config_file(config);
        let path = file.path().to_str().expect("a temporary file has a printable path");
        self.ok(&["apply", "--yes", "-f", path])
    }

    /// Starts it and lets it run: for `serve`, `dump` and the like.
    #[track_caller]
    pub(crate) fn spawn(&self, arguments: &[&str]) -> Running {
        let lbctl = env!("CARGO_BIN_EXE_lbctl");
        let program = if self.instead.is_empty() { lbctl } else { "sh" };
        let mut command = match self.ns {
            Some(ns) => ns.command(program),
            None => isolated_command(program),
        };
        if !self.instead.is_empty() {
            // The mounts are its own.
            let mount = |(place, file): &(String, PathBuf)| {
                format!("mount --bind {} {place}\n", file.display())
            };
            let mounts: String = self.instead.iter().map(mount).collect();
            command.args(["-euc", &format!("{mounts}exec \"$0\" \"$@\""), lbctl]);
        }
        command.arg("--bpffs").arg(&self.bpffs).args(arguments);
        command.envs(self.environment.iter().map(|(key, value)| (key, value)));
        Running::start(command, &arguments.join(" "))
    }
}

/// A file with a configuration in TOML; it goes when it is dropped.
#[track_caller]
pub(crate) fn config_file(config: &str) -> NamedTempFile {
    let mut file = tempfile::Builder::new()
        .prefix("l4lb-test-")
        .suffix(".toml")
        .tempfile()
        .expect("make a file for the configuration");
    file.write_all(config.as_bytes()).expect("write the configuration");
    file
}

/// The path of a file, as arguments have it.
pub(crate) fn path_of(file: &impl AsRef<Path>) -> &str {
    file.as_ref().to_str().expect("a printable path")
}

/// What a run of `lbctl` left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Output {
    /// How it ended.
    pub(crate) status: ExitStatus,
    /// What it printed, as text.
    pub(crate) stdout: String,
    /// What it printed, as it was.
    pub(crate) stdout_bytes: Vec<u8>,
    /// What it complained.
    pub(crate) stderr: String,
}

impl Output {
    /// The exit code; `None`: a signal ended it.
    pub(crate) fn code(&self) -> Option<i32> {
        self.status.code()
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { status, stdout, stderr, .. } = self;
        write!(f, "{status}\n--- stdout ---\n{stdout}\n--- stderr ---\n{stderr}")
    }
}

/// An `lbctl` that runs. Dropping it ends it: SIGTERM, and SIGKILL five seconds later. If the test
/// is failing by then, what it wrote to stderr is printed.
#[derive(Debug)]
pub(crate) struct Running {
    name: String,
    child: Child,
    stdout: Pipe,
    stderr: Pipe,
    ended: bool,
}

impl Running {
    #[track_caller]
    fn start(mut command: Command, arguments: &str) -> Self {
        let name = format!("lbctl {arguments}");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("start {name}: {error}"));
        let stdout = Pipe::read(child.stdout.take().expect("stdout is piped"));
        let stderr = Pipe::read(child.stderr.take().expect("stderr is piped"));
        Self { name, child, stdout, stderr, ended: false }
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// What it has printed so far.
    pub(crate) fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.stdout.bytes()).into_owned()
    }

    /// What it has complained so far.
    pub(crate) fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.stderr.bytes()).into_owned()
    }

    /// Whether it has not ended by itself.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("wait for a child").is_none()
    }

    /// Sends it a signal: SIGHUP reloads `serve`.
    #[track_caller]
    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap_or_else(|e| panic!("{signal} to {}: {e}", self.name));
    }

    /// Waits until it has printed `text`, to stdout or stderr, and fails the test after ten seconds
    /// or when it ends without.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, text: &str) {
        let mut ended = false;
        let found = wait_until(Duration::from_secs(10), || {
            ended = !self.is_running();
            ended || self.stdout().contains(text) || self.stderr().contains(text)
        });
        if ended {
            self.stdout.finish();
            self.stderr.finish();
        }
        let (name, stdout, stderr) = (&self.name, self.stdout(), self.stderr());
        let found = found && (stdout.contains(text) || stderr.contains(text));
        assert!(found, "{name} did not say '{text}'\n--- stdout ---\n{stdout}");
    }

    /// Asks it to end, SIGTERM, and fails the test unless it does within five seconds.
    #[track_caller]
    pub(crate) fn stop(self) -> Output {
        self.signal(Signal::SIGTERM);
        self.wait(GRACE)
    }

    /// Waits for its end and fails the test if that takes longer than `timeout`.
    #[track_caller]
    pub(crate) fn wait(mut self, timeout: Duration) -> Output {
        let ended = wait_until(timeout, || !self.is_running());
        assert!(ended, "{} still runs after {timeout:?}", self.name);
        self.ended = true;
        let status = self.child.wait().expect("wait for a child");
        let whole = self.stdout.finish() & self.stderr.finish();
        assert!(whole, "{} has ended, but something it started goes on", self.name);
        let (stdout, stderr) = (self.stdout(), self.stderr());
        Output { status, stdout, stdout_bytes: self.stdout.bytes(), stderr }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let mut cleanup = Cleanup::of(&self.name);
        // Until it is waited for, its process id is nobody else's.
        cleanup.step("SIGTERM", kill(self.pid(), Signal::SIGTERM));
        if !wait_until(GRACE, || !matches!(self.child.try_wait(), Ok(None))) {
            cleanup.step("SIGTERM", Err::<(), _>("it took no notice"));
            cleanup.step("SIGKILL", self.child.kill());
        }
        cleanup.step("wait", self.child.wait());
        if !(self.stdout.finish() & self.stderr.finish()) {
            cleanup.step("output", Err::<(), _>("something it started goes on"));
        }
        if thread::panicking() {
            eprintln!("--- stderr of {} ---\n{}", self.name, self.stderr());
        }
        cleanup.finish();
    }
}

/// One of a child's outputs, read by a thread so that the child never has to wait.
#[derive(Debug)]
struct Pipe {
    bytes: Arc<Mutex<Vec<u8>>>,
    thread: JoinHandle<()>,
}

impl Pipe {
    fn read(mut pipe: impl Read + Send + 'static) -> Self {
        let bytes = Arc::<Mutex<Vec<u8>>>::default();
        let filled = Arc::clone(&bytes);
        let thread = thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = pipe.read(&mut buffer) {
                filled.lock().unwrap_or_else(PoisonError::into_inner).extend(&buffer[..length]);
            }
        });
        Self { bytes, thread }
    }

    /// What has come so far.
    fn bytes(&self) -> Vec<u8> {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// After the child's end, waits until all of it has come. `false`: somebody else, whom the
    /// child has started, holds the other end.
    fn finish(&self) -> bool {
        wait_until(Duration::from_secs(1), || self.thread.is_finished())
    }
}
