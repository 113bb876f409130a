//! What the web servers and their clients agree on: the content of big pages, and heads of messages.

use std::io;
use std::io::BufRead;
use std::sync::LazyLock;

/// The response header with the server's name.
pub(super) const REAL_HEADER: &str = "X-Real";

/// The most that is read or written at once.
pub(super) const CHUNK: usize = 1 << 16;

/// How many bytes pass before the content repeats: a prime, so that no lost or doubled segment goes
/// unseen.
const PERIOD: usize = 89;

/// The content from its start on, so much of it that [`CHUNK`] bytes from any offset are in it.
static CONTENT: LazyLock<Vec<u8>> =
    LazyLock::new(|| (b'!'..=b'y').cycle().take(PERIOD + CHUNK).collect());

/// The content of downloads and uploads: `length` bytes of it, at most [`CHUNK`], from `offset` on.
pub(super) fn content(offset: usize, length: usize) -> &'static [u8] {
    let start = offset % PERIOD;
    &CONTENT[start..start + length]
}

/// Fails, saying where, unless `bytes` is what the content is from `offset` on.
pub(super) fn check_content(offset: usize, bytes: &[u8]) -> io::Result<()> {
    let wanted = content(offset, bytes.len());
    if bytes == wanted {
        return Ok(());
    }
    let right = bytes.iter().zip(wanted).take_while(|(byte, wanted)| byte == wanted).count();
    Err(io::Error::other(format!("wrong content at byte {}", offset + right)))
}

/// The head of a request or a response.
#[derive(Debug)]
pub(super) struct Head {
    /// The first line.
    pub(super) first: String,
    headers: Vec<(String, String)>,
}

impl Head {
    /// Reads one; `None`: the other side has closed the connection.
    pub(super) fn read(reader: &mut impl BufRead) -> io::Result<Option<Self>> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            match reader.read_line(&mut line)? {
                0 if lines.is_empty() => return Ok(None),
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                _ => {}
            }
            match line.trim_end() {
                "" => break,
                line => lines.push(line.to_owned()),
            }
        }
        let mut lines = lines.into_iter();
        let first = lines.next().unwrap_or_default();
        let split = |line: String| line.split_once(": ").map(|(k, v)| (k.to_owned(), v.to_owned()));
        Ok(Some(Self { first, headers: lines.filter_map(split).collect() }))
    }

    /// The value of a header.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let same = |(key, _): &&(String, String)| key.eq_ignore_ascii_case(name);
        self.headers.iter().find(same).map(|(_, value)| value.as_str())
    }
}
