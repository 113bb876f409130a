//! A client of the control API, and `lbctl serve` with one.

use std::fmt;
use std::fs;
use std::fs::Permissions;
use std::io;
use std::io::Read;
use std::io::Write;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::fixtures::Host;
use crate::fixtures::Lbctl;
use crate::fixtures::Serve;

/// Longer than the API gives a client to send its request and to read the answer.
pub(in crate::lbctl) const PATIENCE: Duration = Duration::from_secs(90);

/// An answer.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::lbctl) struct Reply {
    pub(in crate::lbctl) status: u16,
    head: String,
    pub(in crate::lbctl) body: String,
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{}", self.head, self.body)
    }
}

impl Reply {
    /// Reads what a server sent. `None`: it is no answer.
    pub(in crate::lbctl) fn parse(text: &str) -> Option<Self> {
        let (head, body) = text.split_once("\r\n\r\n")?;
        let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
        Some(Self { status, head: head.to_owned(), body: body.to_owned() })
    }

    pub(in crate::lbctl) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    #[track_caller]
    pub(in crate::lbctl) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self}"))
    }

    /// The error of a refusal, which is one line.
    #[track_caller]
    pub(in crate::lbctl) fn error(&self) -> String {
        let json = self.json();
        let error = json["error"].as_str().unwrap_or_else(|| panic!("no error: {self}"));
        assert!(!error.is_empty() && !error.contains('\n'), "{error}");
        assert!(json["kind"].as_str().is_some_and(|kind| !kind.is_empty()), "{self}");
        assert_eq!(json.as_object().map(serde_json::Map::len), Some(2), "{self}");
        error.to_owned()
    }

    #[track_caller]
    pub(in crate::lbctl) fn etag(&self) -> String {
        self.header("etag").unwrap_or_else(|| panic!("no ETag: {self}")).to_owned()
    }

    /// Fails the test unless the answer has this status.
    #[track_caller]
    pub(in crate::lbctl) fn is(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self}");
        self
    }
}

/// A connection that has sent `bytes`.
#[track_caller]
pub(in crate::lbctl) fn open(socket: &Path, bytes: &[u8]) -> UnixStream {
    let mut stream = UnixStream::connect(socket).expect("connect");
    stream.set_read_timeout(Some(PATIENCE)).expect("set a timeout");
    stream.set_write_timeout(Some(PATIENCE)).expect("set a timeout");
    // The server may close it at once.
    let _: io::Result<()> = stream.write_all(bytes);
    stream
}

/// Reads until the server closes the connection. Fails the test if it does not.
#[track_caller]
pub(in crate::lbctl) fn rest(mut stream: UnixStream) -> String {
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => panic!("it stays open: {error}"),
        _ => String::from_utf8_lossy(&answer).into_owned(),
    }
}

/// A request with a body of JSON, or without a body.
#[track_caller]
pub(in crate::lbctl) fn ask_at(
    socket: &Path,
    method: &str,
    path: &str,
    headers: &str,
    body: Option<&str>,
) -> Reply {
    let body = body.map_or_else(String::new, |body| {
        format!("Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    });
    let end = if body.is_empty() { "\r\n" } else { "" };
    let request = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{headers}{body}{end}");
    let text = rest(open(socket, request.as_bytes()));
    Reply::parse(&text).unwrap_or_else(|| panic!("{method} {path}: '{text}'"))
}

/// `lbctl serve` with a control API.
pub(in crate::lbctl) struct Server<'a> {
    pub(in crate::lbctl) serve: Serve<'a>,
    folder: TempDir,
}

impl<'a> Server<'a> {
    #[track_caller]
    pub(in crate::lbctl) fn start(lbctl: Lbctl<'a>, more: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let config = Self::config(&folder.path().join("api.sock"), more);
        let mut serve = Serve::start(lbctl, &config);
        serve.running.wait_for("control API at ");
        Self { serve, folder }
    }

    /// A configuration with the control API at a socket.
    pub(in crate::lbctl) fn config(socket: &Path, more: &str) -> String {
        Host::config(&format!("[control]\nsocket = \"{}\"\n{more}", socket.display()))
    }

    /// Opens the socket's folder: the socket alone decides who may use it.
    pub(in crate::lbctl) fn let_others_in(&self) {
        let open = Permissions::from_mode(0o755);
        fs::set_permissions(self.folder(), open).expect("open the folder");
    }

    pub(in crate::lbctl) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(in crate::lbctl) fn socket(&self) -> PathBuf {
        self.folder.path().join("api.sock")
    }

    #[track_caller]
    pub(in crate::lbctl) fn ask(&self, method: &str, path: &str, body: Option<&str>) -> Reply {
        ask_at(&self.socket(), method, path, "", body)
    }

    #[track_caller]
    pub(in crate::lbctl) fn ask_if(
        &self,
        method: &str,
        path: &str,
        headers: &str,
        body: Option<&str>,
    ) -> Reply {
        ask_at(&self.socket(), method, path, headers, body)
    }

    #[track_caller]
    pub(in crate::lbctl) fn get(&self, path: &str) -> Reply {
        self.ask("GET", path, None)
    }

    /// What the server answers to `bytes`; empty if it closes the connection.
    #[track_caller]
    pub(in crate::lbctl) fn send(&self, bytes: &[u8]) -> String {
        rest(open(&self.socket(), bytes))
    }
}
