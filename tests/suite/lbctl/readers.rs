//! `lbctl` for users who may use the socket of the control API, and have no rights.

use std::fmt::Write as _;
use std::fs;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Output;

use tempfile::TempDir;

use super::api::VIPS;
use super::api::client::Server;
use super::api::client::ask_at;
use crate::fixtures::Host;
use crate::fixtures::path_of;

/// A group that no file names.
const GROUP: &str = "61235";

/// A user who has nothing but perhaps a group, with a copy of `lbctl`: the build may be in a folder of root.
struct Nobody<'a> {
    host: &'a Host,
    folder: TempDir,
    socket: PathBuf,
}

impl<'a> Nobody<'a> {
    #[track_caller]
    fn new(host: &'a Host, socket: PathBuf) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).expect("open it");
        // Another process copies it: see `wrapped`.
        let copy = folder.path().join("lbctl");
        let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_lbctl")).arg(copy).status();
        assert!(copied.is_ok_and(|status| status.success()), "copy lbctl");
        Self { host, folder, socket }
    }

    fn run_as(&self, group: &str, arguments: &[&str]) -> Output {
        Command::new("setpriv")
            .args(["--reuid", "65534", "--regid", group, "--clear-groups"])
            .args(["--bounding-set", "-all", "--inh-caps", "-all"])
            .arg(self.folder.path().join("lbctl"))
            .args(["--bpffs", self.host.bpffs.text()])
            .args(arguments)
            .output()
            .expect("setpriv")
    }

    /// A command of a member of the group that is to ask at the socket.
    fn ask(&self, arguments: &[&str]) -> Output {
        self.run_as(GROUP, &[&["--socket", path_of(&self.socket)], arguments].concat())
    }
}

/// What it complains, and that it fails with this exit code.
#[track_caller]
fn fails(code: i32, output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    assert_eq!(text(&output.stdout), "");
    let stderr = text(&output.stderr);
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    stderr
}

/// Percent encoding of everything.
fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        let _ = write!(encoded, "%{byte:02x}");
        encoded
    })
}

fn config(socket: &Path, more: &str) -> String {
    Server::config(socket, &format!("group = \"{GROUP}\"\n{more}{VIPS}"))
}

#[test]
fn they_see_what_root_sees() {
    let host = Host::new();
    let mut server = Server::start(host.lbctl(), VIPS);
    let socket = server.socket();
    server.let_others_in();
    server.serve.reload(&config(&socket, ""), "INFO reloaded");
    let nobody = Nobody::new(&host, socket);
    let commands: [&[&str]; 11] = [
        &["status"],
        &["status", "--all", "--check"],
        &["stats"],
        &["save"],
        &["vip", "list"],
        &["real", "list"],
        &["real", "list", "udp://[fc00:1::2]:443"],
        &["real", "list", "tcp://192.0.2.9:80"],
        &["flows", "count", "--by", "real", "--older-than", "10days"],
        &["chain", "list"],
        &["decap", "status"],
    ];
    for command in commands {
        for more in [&[][..], &["--json"]] {
            let command = [command, more].concat();
            let (root, other) = (host.lbctl().run(&command), nobody.ask(&command));
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            // The kernel's count of memory may change from one reading to the next.
            let lines = |text: &str| -> Vec<String> {
                let counted =
                    |line: &&str| !line.contains("by the kernel") && !line.contains("kernel\":");
                text.lines().filter(counted).map(str::to_owned).collect()
            };
            let is_status = command.first() == Some(&"status") && command.contains(&"--all");
            if !is_status {
                assert_eq!(lines(&text(&other.stdout)), lines(&root.stdout), "{command:?}");
            }
            assert_eq!(text(&other.stderr), root.stderr, "{command:?}");
            assert_eq!(other.status.code(), root.code(), "{command:?}");
        }
    }
    server.serve.stop();
}

/// A check of each place and key that may have a secret.
const CHECKED: &str = r#"
[checks.web]
type = "http"
path = "/up?token=SECRET"
headers = { Authorization = "Bearer SECRET" }

[[vips]]
address = "10.200.1.1"
port = 80
protocol = "tcp"
check = "web"
reals = [{ address = "10.0.0.1" }]

[[vips]]
address = "10.200.1.2"
port = 80
protocol = "tcp"
check = { type = "exec", program = "/bin/true", args = ["SECRET"] }
reals = [{ address = "10.0.0.1" }]

[[vips]]
address = "10.200.1.2"
port = 53
protocol = "udp"
check = { type = "udp", send = "SECRET" }
reals = [{ address = "10.0.0.1" }]
"#;

#[test]
fn they_see_no_secrets() {
    let host = Host::new();
    let mut server = Server::start(host.lbctl(), CHECKED);
    let socket = server.socket();
    server.let_others_in();
    let file = |may: &str| {
        let keys = format!("group = \"{GROUP}\"\ngroup_may = \"{may}\"\n{CHECKED}");
        Server::config(&socket, &keys)
    };
    server.serve.reload(&file("read"), "INFO reloaded");
    let nobody = Nobody::new(&host, socket.clone());
    let printed = |output: &Output| String::from_utf8_lossy(&output.stdout).into_owned();
    let get = |path: &str| {
        let curl = ["curl", "-s", "--unix-socket", path_of(&socket)];
        let output = Command::new("setpriv")
            .args(["--reuid", "65534", "--regid", GROUP, "--clear-groups"])
            .args(curl)
            .arg(format!("http://localhost{path}"))
            .output();
        printed(&output.expect("setpriv"))
    };
    let commands: [&[&str]; 9] = [
        &["save"],
        &["save", "--json"],
        &["status", "--all", "--json"],
        &["status", "--all"],
        &["stats", "--json"],
        &["vip", "list", "--json"],
        &["real", "list", "--json"],
        &["flows", "count", "--json"],
        &["chain", "list", "--json"],
    ];
    for command in commands {
        let text = printed(&nobody.ask(command));
        assert!(!text.is_empty() && !text.contains("SECRET"), "{command:?}: {text}");
    }
    // Whatever the API answers to GET.
    let described = server.ask("GET", "/v1/openapi.json", None).is(200).json();
    let mut hidden = 0;
    for (path, operations) in described["paths"].as_object().expect("paths") {
        // The description itself tells what is hidden.
        if operations.get("get").is_none() || path == "/v1/openapi.json" {
            continue;
        }
        let path = path.replace("{protocol}", "tcp").replace("{address}", "10.200.1.2");
        let path = path.replace("{port}", "80").replace("{real}", "10.0.0.1");
        let text = get(&path);
        assert!(!text.is_empty() && !text.contains("SECRET"), "{path}: {text}");
        hidden += usize::from(text.contains("<hidden>"));
        // Root sees more.
        let root = server.ask("GET", &path, None);
        assert!(!root.body.contains("<hidden>"), "{path}: {root}");
    }
    assert_eq!(hidden, 3, "the configuration, all VIPs, and one of them");
    // What they save is refused by whoever applies it, in one line, and the checks stay.
    let saved = printed(&nobody.ask(&["save"]));
    assert!(saved.contains("Authorization = \"<hidden>\""), "{saved}");
    let before = host.lbctl().ok(&["save"]).stdout;
    let path = nobody.folder.path().join("saved.toml");
    fs::write(&path, &saved).expect("write");
    for command in ["apply", "plan"] {
        let output = host.lbctl().run(&[command, "-f", path_of(&path)]);
        assert_eq!(output.code(), Some(1), "{output:?}");
        assert!(output.stderr.contains("stands for a value that was not shown"), "{output:?}");
    }
    assert_eq!(host.lbctl().ok(&["save"]).stdout, before);
    // Who may change sees them: a file without them would lose them.
    server.serve.reload(&file("change"), "INFO reloaded");
    for path in ["/v1/config", "/v1/vips", "/v1/output?command=%5b%22save%22%5d"] {
        let text = get(path);
        assert!(text.contains("SECRET") && !text.contains("<hidden>"), "{path}: {text}");
    }
    server.serve.stop();
}

#[test]
fn they_change_nothing() {
    let host = Host::new();
    let mut server = Server::start(host.lbctl(), VIPS);
    let socket = server.socket();
    server.let_others_in();
    // The right to change is for the API alone: lbctl changes with its own rights.
    server.serve.reload(&config(&socket, "group_may = \"change\"\n"), "INFO reloaded");
    let nobody = Nobody::new(&host, socket.clone());
    let before = host.lbctl().ok(&["save"]).stdout;
    for command in [
        &["vip", "delete", "tcp://10.200.1.1:80"][..],
        &["real", "drain", "tcp://10.200.1.1:80", "10.0.0.1"],
        &["node", "drain", "--no-wait"],
        &["down"],
        &["reload"],
        &["flows", "list"],
        &["flows", "delete", "--all"],
        &["trace", "tcp", "192.0.2.1:31337", "10.200.1.1:80"],
    ] {
        let complaint = fails(1, &nobody.run_as(GROUP, command));
        assert!(complaint.contains("not root, and without CAP_"), "{complaint}");
        let complaint = fails(2, &nobody.ask(command));
        assert!(complaint.contains("--socket is for commands that read"), "{complaint}");
        // Nor does the server run it, whoever asks.
        let words = serde_json::to_string(command).expect("JSON");
        let words = encoded(&words);
        let reply = ask_at(&socket, "GET", &format!("/v1/output?command={words}"), "", None);
        assert!(reply.is(400).error().contains("only commands that list"), "{command:?}");
    }
    for (words, why) in [
        ("[\"plan\",\"-f\",\"/etc/shadow\"]", "only commands that list"),
        ("[\"doctor\",\"-f\",\"/etc/shadow\"]", "only commands that list"),
        ("[\"stats\",\"--watch\"]", "only commands that list"),
        ("[\"status\",\"--instance\",\"other\"]", "it serves instance 'default', not 'other'"),
        ("[\"status\",\"--no-such-option\"]", "not understood: error: "),
        ("[\"no-such-command\"]", "not understood: error: "),
        ("[]", "not understood: "),
        ("status", "write a list of words"),
        ("[1]", "write a list of words"),
    ] {
        let path = format!("/v1/output?command={}", encoded(words));
        let reply = ask_at(&socket, "GET", &path, "", None);
        let error = reply.is(400).error();
        assert!(error.contains(why), "{words}: {error}");
    }
    // What the command line says about the pins and the lock counts for nothing.
    let elsewhere = "%5b%22status%22%2c%22--bpffs%22%2c%22%2ftmp%22%2c%22--mount-bpffs%22%5d";
    let reply = ask_at(&socket, "GET", &format!("/v1/output?command={elsewhere}"), "", None);
    assert_eq!(reply.is(200).json()["exit_code"], 0);
    assert_eq!(host.lbctl().ok(&["save"]).stdout, before);
    server.serve.stop();
}

#[test]
fn who_may_not_is_told_what_to_do() {
    let host = Host::new();
    let mut server = Server::start(host.lbctl(), VIPS);
    let socket = server.socket();
    server.let_others_in();
    let nobody = Nobody::new(&host, socket.clone());
    let at = |path: &Path, group: &str| {
        fails(1, &nobody.run_as(group, &["status", "--socket", path_of(&path)]))
    };
    let complaint = at(&socket, GROUP);
    assert!(complaint.contains("have [control] group name a group of yours"), "{complaint}");
    server.serve.reload(&config(&socket, ""), "INFO reloaded");
    let complaint = at(&socket, "65534");
    assert!(complaint.contains(&format!("join group '{GROUP}'")), "{complaint}");
    // A symbolic link, and a folder that others may not enter.
    let link = nobody.folder.path().join("link.sock");
    std::os::unix::fs::symlink(&socket, &link).expect("a link");
    assert!(at(&link, "65534").contains("may not use"));
    fs::set_permissions(server.folder(), Permissions::from_mode(0o700)).expect("close the folder");
    assert!(at(&socket, GROUP).contains("may not use"));
    server.let_others_in();
    // Without --socket there is none in another bpf filesystem.
    let complaint = fails(1, &nobody.run_as(GROUP, &["status"]));
    assert!(complaint.contains("name it by --socket"), "{complaint}");
    let complaint = fails(1, &nobody.ask(&["--instance", "other", "status"]));
    assert!(complaint.contains("it serves instance 'default', not 'other'"), "{complaint}");
    // A socket that a killed process left, and none.
    server.serve.running.signal(nix::sys::signal::Signal::SIGKILL);
    let gone = || std::os::unix::net::UnixStream::connect(&socket).is_err();
    assert!(crate::fixtures::wait_until(crate::fixtures::SOON, gone));
    assert!(at(&socket, GROUP).contains("nobody listens at"));
    assert!(at(&nobody.folder.path().join("none"), GROUP).contains("nobody listens at"));
    // Somebody else's program.
    let other = nobody.folder.path().join("other.sock");
    let listener = std::os::unix::net::UnixListener::bind(&other).expect("listen");
    fs::set_permissions(&other, Permissions::from_mode(0o666)).expect("open it");
    let answers = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let _: std::io::Result<()> =
            std::io::Write::write_all(&mut stream, b"no HTTP\x1b[2J\r\n\r\n");
    });
    let complaint = at(&other, GROUP);
    assert!(complaint.contains("other.sock: ") && !complaint.contains('\u{1b}'), "{complaint}");
    answers.join().expect("it answered");
}

/// A socket whose queue is full: nobody accepts, and one client waits already.
fn full_socket(path: &Path) -> (UnixListener, Vec<UnixStream>) {
    let listener = UnixListener::bind(path).expect("listen");
    nix::sys::socket::listen(&listener, nix::sys::socket::Backlog::new(0).expect("a queue"))
        .expect("a short queue");
    fs::set_permissions(path, Permissions::from_mode(0o666)).expect("open it");
    let waiting = UnixStream::connect(path).expect("it waits");
    (listener, vec![waiting])
}

#[test]
fn a_client_waits_while_others_are_accepted() {
    let host = Host::new();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("full.sock");
    let (listener, waiting) = full_socket(&path);
    let command = ["status", "--socket", path_of(&path)];
    let output = host.lbctl().run(&command);
    assert_eq!(output.code(), Some(1), "{output:?}");
    let complaint = &output.stderr;
    assert!(complaint.contains("full.sock already, for 2 s at least"), "{complaint}");
    assert_eq!(complaint.lines().count(), 1, "{complaint}");
    // As soon as there is room, it is answered.
    let accepts = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(500));
        let _first = listener.accept().expect("the one that waits");
        drop(waiting);
        let (mut client, _) = listener.accept().expect("lbctl");
        // A client takes an answer in front of its request for none.
        let mut request = Vec::new();
        let mut byte = [0];
        while !request.ends_with(b"\r\n\r\n") {
            std::io::Read::read_exact(&mut client, &mut byte).expect("a request");
            request.push(byte[0]);
        }
        let answer = "HTTP/1.1 403 Forbidden\r\ncontent-length: 18\r\n\r\n{\"error\":\"not me\"}";
        std::io::Write::write_all(&mut client, answer.as_bytes()).expect("answer");
        // The client ends the connection.
        let _: std::io::Result<u64> = std::io::copy(&mut client, &mut std::io::sink());
    });
    let complaint = host.lbctl().run(&command).stderr;
    assert!(complaint.contains("full.sock: not me"), "{complaint}");
    accepts.join().expect("it answered");
}
