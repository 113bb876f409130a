//! What commands that only read print, for users who lack the rights to read by themselves: a process that serves runs
//! them for these users, and the control API carries the text. So they print the same, by the same code.

use std::fmt;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt as _;
use http_body_util::Empty;
use http_body_util::Limited;
use hyper::Request;
use hyper::StatusCode;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header;
use hyper_util::rt::TokioIo;
use nix::unistd::Gid;
use nix::unistd::Group;
use serde::Deserialize;
use serde::Serialize;
use tokio::net::UnixStream;
use tokio::time::sleep;
use tokio::time::timeout;

use crate::instance::Instance;
use crate::model::error::ControlApiError;
use crate::model::error::Result;
use crate::model::text::message;

/// The resource, and the parameter that has the command.
pub(super) const PATH: &str = "/v1/output";
pub(super) const COMMAND: &str = "command";

/// Most bytes that a command may print: 512 VIPs of 100 reals have less.
pub const MAX_OUTPUT: usize = 48 << 20;

/// Most words of a command, and most bytes of all of them: a request's first line has room for them.
pub(super) const MAX_WORDS: usize = 64;
pub(super) const MAX_COMMAND: usize = 4096;

/// Longer than `lbctl serve` gives an answer.
const TIME_TO_ANSWER: Duration = Duration::from_secs(75);

/// How often a client tries to connect while too many others wait to be accepted, and how long it pauses between.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(100);

/// What a command left.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Printed {
    /// How it exits.
    pub exit_code: u8,
    /// Its output.
    pub stdout: String,
    /// Its errors and warnings.
    pub stderr: String,
}

/// Whether somebody sees what may be secret in checks: tokens and passwords.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Secrets {
    /// [`HIDDEN`](crate::HIDDEN) stands for them: who asks may only read.
    #[default]
    Hidden,
    /// They are shown: who asks may change the balancer.
    Shown,
}

type Print =
    dyn Fn(&Instance, &[String], Secrets) -> std::result::Result<Printed, String> + Send + Sync;

/// Runs commands that only read, and catches what they print.
#[derive(Clone)]
pub struct Printer(Arc<Print>);

impl Printer {
    /// `print` gets the instance and the words behind the command's name. An error, in one line, says why this is no
    /// command for it. It prints no secrets to somebody who may not see them. It must refuse everything that changes
    /// anything, opens files that the words name, or does not end. It runs on a thread that may block; several may run
    /// at a time.
    pub fn new(
        print: impl Fn(&Instance, &[String], Secrets) -> std::result::Result<Printed, String>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        Self(Arc::new(print))
    }

    pub(super) fn print(
        &self,
        instance: &Instance,
        words: &[String],
        secrets: Secrets,
    ) -> std::result::Result<Printed, String> {
        (self.0)(instance, words, secrets)
    }
}

impl fmt::Debug for Printer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Printer")
    }
}

/// Has the process that serves run a command that only reads. `socket` is that of its control API
/// ([`Instance::control_socket`]).
///
/// # Errors
///
/// [`Error::ControlApi`](crate::Error::ControlApi): nobody answers there, this user may not use the socket, or the
/// command is refused.
pub async fn ask(socket: &Path, words: &[String]) -> Result<Printed> {
    let failed = |what: String| ControlApiError::Failed { socket: socket.to_owned(), what };
    let answer = timeout(TIME_TO_ANSWER, exchange(socket, words)).await;
    let answer =
        answer.map_err(|_| failed(format!("no answer within {} s", TIME_TO_ANSWER.as_secs())))?;
    Ok(answer.map_err(|trouble| match trouble {
        Trouble::Connect(error) => unreachable(socket, &error),
        Trouble::Talk(what) => failed(what),
    })?)
}

/// Why there is no connection, and who could make one.
fn unreachable(path: &Path, error: &io::Error) -> ControlApiError {
    let socket = path.to_owned();
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            ControlApiError::Nobody { socket }
        }
        io::ErrorKind::PermissionDenied => {
            let found = fs::metadata(path).ok().filter(|found| found.mode() & 0o060 == 0o060);
            let group = found.map(|found| {
                let named = Group::from_gid(Gid::from_raw(found.gid())).ok().flatten();
                named.map_or_else(|| found.gid().to_string(), |group| group.name)
            });
            ControlApiError::Denied { socket, group }
        }
        io::ErrorKind::WouldBlock => {
            ControlApiError::Busy { socket, seconds: (PAUSE * TRIES).as_secs() }
        }
        _ => ControlApiError::Failed { socket, what: format!("cannot connect: {error}") },
    }
}

enum Trouble {
    Connect(io::Error),
    Talk(String),
}

/// Connects. While the queue of clients is full, the kernel lets nobody wait (`EAGAIN`), so this tries again.
async fn connect(socket: &Path) -> io::Result<UnixStream> {
    let mut tries = 1;
    loop {
        match UnixStream::connect(socket).await {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && tries < TRIES => {
                tries += 1;
                sleep(PAUSE).await;
            }
            connected => return connected,
        }
    }
}

async fn exchange(socket: &Path, words: &[String]) -> std::result::Result<Printed, Trouble> {
    let talk = |what: &dyn fmt::Display| Trouble::Talk(message(&what.to_string()));
    let stream = connect(socket).await.map_err(Trouble::Connect)?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| talk(&error))?;
    let connection = tokio::spawn(connection);
    let command = serde_json::to_string(words).map_err(|error| talk(&error))?;
    let request = Request::get(format!("{PATH}?{COMMAND}={}", encoded(&command)))
        .header(header::HOST, "localhost")
        .body(Empty::<Bytes>::new())
        .map_err(|error| talk(&error))?;
    let response = sender.send_request(request).await.map_err(|error| talk(&error))?;
    let status = response.status();
    // Quotes and line ends take two bytes in JSON.
    let body = Limited::new(response.into_body(), 2 * MAX_OUTPUT).collect().await;
    let body = body.map_err(|error| talk(&error))?.to_bytes();
    connection.abort();
    if status == StatusCode::OK {
        return serde_json::from_slice(&body).map_err(|error| talk(&error));
    }
    if status == StatusCode::NOT_FOUND {
        return Err(talk(&"the process there is no lbctl serve of this version"));
    }
    let said: Option<Refused> = serde_json::from_slice(&body).ok();
    Err(talk(&said.map_or_else(|| status.to_string(), |said| said.error)))
}

/// What the API says if it refuses a request.
#[derive(Deserialize)]
struct Refused {
    error: String,
}

/// Percent encoding of all bytes that have a meaning in a query.
fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len() * 3);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::encoded;

    #[test]
    fn what_has_a_meaning_in_a_query_is_encoded() {
        assert_eq!(encoded("[\"a b\"]"), "%5B%22a%20b%22%5D");
        assert_eq!(encoded("a-B_9.~"), "a-B_9.~");
        assert_eq!(encoded("&=%ä"), "%26%3D%25%C3%A4");
    }
}
