//! `udp`: a datagram is answered as expected.

use std::io;
use std::net::SocketAddr;

use nix::errno::Errno;
use tokio::net::UdpSocket;

use super::connect;
use super::failure::Failure;
use super::failure::Success;
use super::report::Class;
use super::session::Session;
use super::session::Silence;
use crate::model::config::CheckConfig;
use crate::model::error::CheckError;
use crate::model::text::quote;

/// The most bytes of a datagram that are looked at.
pub(super) const MAX_DATAGRAM: usize = 4096;

/// A UDP check.
#[derive(Debug)]
pub(super) struct Udp {
    send: Vec<u8>,
    expect: Vec<u8>,
    silence_ok: bool,
}

impl Udp {
    pub(super) fn new(config: &CheckConfig) -> Result<Self, CheckError> {
        let send = content("send", config.send.as_deref().unwrap_or_default())?;
        if send.len() > 1400 {
            let why = format!("it has {} bytes; 1400 fit into a packet everywhere", send.len());
            return Err(CheckError::wrong("send", why));
        }
        let expect = content("expect", config.expect.as_deref().unwrap_or_default())?;
        if expect.len() > MAX_DATAGRAM {
            let why = format!("it has {} bytes; at most {MAX_DATAGRAM}", expect.len());
            return Err(CheckError::wrong("expect", why));
        }
        Ok(Self { send, expect, silence_ok: config.silence_ok })
    }
}

/// Text, or `hex:` and digits.
fn content(key: &'static str, text: &str) -> Result<Vec<u8>, CheckError> {
    match text.strip_prefix("hex:") {
        Some(digits) => hex::decode(digits.replace(' ', "")).map_err(|error| {
            CheckError::wrong(key, format!("'{}' is not hexadecimal: {error}", quote(digits)))
        }),
        None => Ok(text.as_bytes().to_vec()),
    }
}

pub(super) async fn run(session: &mut Session, udp: &Udp) -> Result<Success, Failure> {
    let socket = connect::udp(session)?;
    session.wait_for("no answer");
    send(session, &socket, &udp.send).await?;
    if udp.silence_ok {
        session.silence = Silence::Succeeds;
    }
    let mut answer = vec![0; MAX_DATAGRAM];
    let length = receive(session.target, &socket, &mut answer).await?;
    let answer = &answer[..length];
    session.step("answer", || {
        format!("{length} bytes: {}", quote(&answer.escape_ascii().to_string()))
    });
    if answer.starts_with(&udp.expect) {
        return Ok(Success::new(format!("answer of {length} bytes")));
    }
    Err(Failure::new(Class::Content, "the answer does not begin as expected"))
}

/// Sends a datagram to the target.
pub(super) async fn send(
    session: &mut Session,
    socket: &UdpSocket,
    bytes: &[u8],
) -> Result<(), Failure> {
    let sent = socket.send(bytes).await;
    sent.map_err(|error| match error.raw_os_error() {
        Some(number) if number == Errno::ECONNREFUSED as i32 => of_icmp(&error, session.target),
        _ => Failure::of_this_host(&error, session.target),
    })?;
    let target = session.target;
    session.step("sent", || format!("{} bytes to {target} over UDP", bytes.len()));
    Ok(())
}

/// Receives a datagram from the target. ICMP errors are failures.
pub(super) async fn receive(
    target: SocketAddr,
    socket: &UdpSocket,
    buffer: &mut [u8],
) -> Result<usize, Failure> {
    socket.recv(buffer).await.map_err(|error| of_icmp(&error, target))
}

fn of_icmp(error: &io::Error, target: SocketAddr) -> Failure {
    if error.raw_os_error() == Some(Errno::ECONNREFUSED as i32) {
        return Failure::new(Class::Refused, "ICMP port unreachable");
    }
    Failure::of_peer(error, target)
}
