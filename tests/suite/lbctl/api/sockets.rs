//! The socket: who may use it, where it is, and what becomes of it.

use std::fs;
use std::fs::Permissions;
use std::io;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;

use nix::sys::signal::Signal;

use super::VIPS;
use super::client::Server;
use super::client::ask_at;
use crate::fixtures::Host;
use crate::fixtures::SOON;
use crate::fixtures::Serve;
use crate::fixtures::config_file;
use crate::fixtures::json;
use crate::fixtures::path_of;
use crate::fixtures::wait_until;

/// A group that no file names.
const GROUP: u32 = 61_234;

/// Whether a user may use the socket.
fn may(socket: &Path, user: &str, group: &str) -> bool {
    let url = "http://localhost/v1/version";
    let curl = ["curl", "-sf", "--unix-socket", path_of(&socket), url];
    let who = ["--reuid", user, "--regid", group, "--clear-groups"];
    let output = Command::new("setpriv").args(who).args(curl).output().expect("setpriv");
    output.status.success()
}

/// The status that a user gets who asks for something.
fn status_of(socket: &Path, user: &str, method: &str, path: &str) -> String {
    let url = format!("http://localhost{path}");
    let body = ["--json", "{\"draining\": true}", "-X", method];
    let curl = ["-s", "-w", "\n%{http_code}", "--unix-socket", path_of(&socket), &url];
    let group = GROUP.to_string();
    let who = ["--reuid", user, "--regid", &group, "--clear-groups", "curl"];
    let mut command = Command::new("setpriv");
    let command = command.args(who).args(curl);
    let command = if method == "GET" { command } else { command.args(body) };
    let output = command.output().expect("setpriv");
    String::from_utf8(output.stdout).expect("text")
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("it is there").mode() & 0o7777
}

#[test]
fn root_alone_may_use_it_by_default() {
    let host = Host::new();
    let mut server = Server::start(host.lbctl(), VIPS);
    let socket = server.socket();
    assert_eq!(mode(&socket), 0o600);
    server.let_others_in();
    assert!(may(&socket, "0", "0"));
    assert!(!may(&socket, "65534", "65534"), "nobody");
    // A reload changes it, at the same path.
    let group = format!("group = \"{GROUP}\"\n{VIPS}");
    server.serve.reload(&Server::config(&socket, &group), "INFO reloaded");
    assert_eq!((mode(&socket), fs::metadata(&socket).expect("it is there").gid()), (0o660, GROUP));
    assert!(may(&socket, "65534", &GROUP.to_string()), "a member of the group");
    assert!(!may(&socket, "65534", "65534"));
    let log = server.serve.running.stderr();
    server.serve.reload(&Server::config(&socket, VIPS), "INFO reloaded");
    assert!(!may(&socket, "65534", &GROUP.to_string()), "{log}");
    server.serve.stop();
    assert!(!socket.exists(), "it goes with the process");
}

#[test]
fn a_group_reads_and_changes_only_if_the_file_says_so() {
    let host = Host::new();
    let mut server = Server::start(host.lbctl(), VIPS);
    let socket = server.socket();
    server.let_others_in();
    let mut says = |key: &str| {
        let group = format!("group = \"{GROUP}\"\n{key}\n{VIPS}");
        server.serve.reload(&Server::config(&socket, &group), "INFO reloaded");
    };
    let real = "/v1/vips/tcp/10.200.1.1/80/reals/10.0.0.1";
    let refused = |method: &str, path: &str| {
        let answer = status_of(&socket, "65534", method, path);
        assert!(answer.ends_with("\n403"), "{method} {path}: {answer}");
        assert!(answer.contains("user 65534 may read only"), "{answer}");
        assert!(answer.contains("group_may"), "{answer}");
    };
    let node = |user: &str| status_of(&socket, user, "PATCH", "/v1/node");
    let is_draining = || status_of(&socket, "0", "GET", "/v1/node").contains("\"draining\": true");
    for key in ["", "group_may = \"read\""] {
        says(key);
        assert!(status_of(&socket, "65534", "GET", "/v1/status").ends_with("\n200"));
        for (method, path) in [
            ("PATCH", "/v1/node"),
            ("DELETE", real),
            ("DELETE", "/v1/reals/10.0.0.1"),
            ("PUT", "/v1/vips/tcp/10.200.1.9/80"),
            ("POST", "/v1/vips"),
            ("PUT", "/v1/vips/tcp/10.200.1.1/80/reals/10.0.0.1/health"),
        ] {
            refused(method, path);
        }
        assert!(!is_draining(), "it was refused");
    }
    // Root may whatever the file says, and the group when it says so.
    assert!(node("0").ends_with("\n200"));
    says("group_may = \"change\"");
    let answer = node("65534");
    assert!(answer.ends_with("\n200"), "{answer}");
    says("group_may = \"read\"");
    refused("PATCH", "/v1/node");
    server.serve.stop();
}

/// A client whose request waits for its body while the right is taken away.
#[test]
fn a_reload_counts_for_clients_that_are_connected() {
    let host = Host::new();
    let mut server = Server::start(host.lbctl(), VIPS);
    let socket = server.socket();
    server.let_others_in();
    let file = |may: &str| {
        let keys = format!("group = \"{GROUP}\"\ngroup_may = \"{may}\"\n{VIPS}");
        Server::config(&socket, &keys)
    };
    server.serve.reload(&file("change"), "INFO reloaded");
    // It connects as a member of the group, and sends the body once there is one.
    let mut client = Command::new("setpriv")
        .args(["--reuid", "65534", "--regid", &GROUP.to_string(), "--clear-groups"])
        .args(["curl", "-svi", "-X", "PATCH", "-T", "-", "-H", "Content-Type: application/json"])
        .args(["-H", "Expect:", "--unix-socket", path_of(&socket), "http://localhost/v1/node"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("setpriv");
    let stderr = BufReader::new(client.stderr.take().expect("stderr"));
    let asks = |line: io::Result<String>| line.expect("text").starts_with("> PATCH /v1/node");
    assert!(stderr.lines().any(asks), "it has sent the head");
    server.serve.reload(&file("read"), "INFO reloaded");
    let mut stdin = client.stdin.take().expect("stdin");
    stdin.write_all(b"{\"draining\": true}").expect("let it go on");
    drop(stdin);
    let mut answer = String::new();
    client.stdout.take().expect("stdout").read_to_string(&mut answer).expect("an answer");
    client.wait().expect("its end");
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    server.serve.stop();
}

#[test]
fn a_reload_moves_it() {
    let host = Host::new();
    let mut server = Server::start(host.lbctl(), VIPS);
    let (first, second) = (server.socket(), server.folder().join("new/b.sock"));
    let answers = |socket: &Path| ask_at(socket, "GET", "/v1/vips", "", None).status == 200;
    server.serve.reload(&Server::config(&second, VIPS), "INFO reloaded");
    assert!(answers(&second) && !first.exists());
    assert_eq!(mode(second.parent().expect("a folder")), 0o700);
    // To a path that another process has: it stays, and says so.
    let taken = server.folder().join("taken.sock");
    let other = UnixListener::bind(&taken).expect("listen");
    let log = server.serve.reload(&Server::config(&taken, VIPS), "but for the control API");
    assert!(log.contains(&format!("process {} ", std::process::id())), "{log}");
    assert!(log.contains("taken.sock") && answers(&second), "{log}");
    let status = host.lbctl().ok(&["status"]).stdout;
    assert!(
        status.contains("\ncontrol API  NONE: ") && status.contains("but for the control API"),
        "{status}"
    );
    let reload = host.lbctl().exits(1, &["reload"]);
    assert!(reload.stderr.starts_with("error: reloaded, but for the control API: "), "{reload}");
    // It moves by itself once the path is free.
    drop(other);
    let moves = wait_until(SOON * 2, || taken.exists() && !second.exists() && answers(&taken));
    assert!(moves, "{}", server.serve.running.stderr());
    let status = json(&host.lbctl().ok(&["status", "--json"]));
    assert_eq!(status["serve"]["control"]["message"], "", "{}", status["serve"]);
    // Off, and on again.
    let off = Host::config(&format!("[control]\nsocket = \"off\"\n{VIPS}"));
    server.serve.reload(&off, "INFO reloaded");
    assert!(!taken.exists());
    let status = host.lbctl().ok(&["status"]).stdout;
    assert!(status.contains("\ncontrol API  none\n"), "{status}");
    server.serve.reload(&Server::config(&first, VIPS), "INFO reloaded");
    assert!(answers(&first));
    server.serve.stop();
}

#[test]
fn a_killed_process_leaves_a_socket_and_the_next_takes_it() {
    let host = Host::new();
    let server = Server::start(host.lbctl(), VIPS);
    let socket = server.socket();
    let config = Server::config(&socket, VIPS);
    let Server { serve, .. } = &server;
    serve.running.signal(Signal::SIGKILL);
    assert!(wait_until(SOON, || std::os::unix::net::UnixStream::connect(&socket).is_err()));
    assert!(socket.exists(), "nobody removed it");
    let mut next = Serve::start(host.lbctl(), &config);
    next.running.wait_for("control API at ");
    ask_at(&socket, "GET", "/v1/vips", "", None).is(200);
    // Somebody removes it: it is made again.
    fs::remove_file(&socket).expect("remove it");
    assert!(wait_until(SOON * 2, || socket.exists()), "{}", next.running.stderr());
    ask_at(&socket, "GET", "/v1/vips", "", None).is(200);
    next.stop();
    assert!(!socket.exists());
}

#[test]
fn what_cannot_be_made_is_a_warning_or_with_strict_an_error() {
    let host = Host::new();
    let folder = tempfile::tempdir().expect("a folder");
    let open = folder.path().join("open");
    fs::create_dir(&open).expect("a folder");
    fs::set_permissions(&open, Permissions::from_mode(0o777)).expect("open it");
    let config = Server::config(&open.join("a.sock"), VIPS);
    let file = config_file(&config);
    let strict = host.lbctl().exits(1, &["serve", "--strict", "-f", path_of(&file)]);
    let why = format!("folder {} can be written to by others (mode 0777)", open.display());
    assert!(strict.stderr.contains(&why), "{strict}");
    assert!(!host.has_pins("default"), "nothing is done");
    let serve = Serve::start(host.lbctl(), &config);
    serve.wait_for(&why, 1);
    serve.wait_for("WARN no control API: cannot listen for the control API: ", 1);
    let status = json(&host.lbctl().ok(&["status", "--json"]));
    assert_eq!(status["serve"]["control"]["listening"], false);
    fs::set_permissions(&open, Permissions::from_mode(0o755)).expect("close it");
    serve.wait_for("control API at ", 1);
    serve.stop();
    let none = Serve::start(host.lbctl(), &Host::config(VIPS));
    let status = json(&host.lbctl().ok(&["status", "--json"]));
    assert!(status["serve"]["control"].is_null(), "another bpf filesystem: {}", status["serve"]);
    none.stop();
}

/// Another user's folder or socket, and a file in the way.
#[test]
fn what_others_made_is_not_trusted() {
    let host = Host::new();
    let folder = tempfile::tempdir().expect("a folder");
    let theirs = folder.path().join("theirs");
    fs::create_dir(&theirs).expect("a folder");
    let nobody = Some(65_534);
    std::os::unix::fs::chown(&theirs, nobody, nobody).expect("give it away");
    let socket = folder.path().join("theirs.sock");
    let listener = UnixListener::bind(&socket).expect("listen");
    std::os::unix::fs::chown(&socket, nobody, nobody).expect("give it away");
    let plain = folder.path().join("plain");
    fs::write(&plain, "not a socket").expect("write");
    for (path, why) in [
        (theirs.join("a.sock"), "belongs to user 65534, who could put another socket there"),
        (socket, "belongs to user 65534; find out what it is for"),
        (plain.clone(), "exists, and is no socket"),
        (folder.path().join("no/such/folder/a.sock"), "cannot open"),
    ] {
        let file = config_file(&Server::config(&path, VIPS));
        let output = host.lbctl().exits(1, &["serve", "--strict", "-f", path_of(&file)]);
        assert!(output.stderr.contains(why), "{output}");
        assert_eq!(output.stderr.lines().filter(|line| line.starts_with("error: ")).count(), 1);
    }
    assert_eq!(fs::read_to_string(plain).expect("it is there"), "not a socket");
    drop(listener);
}
