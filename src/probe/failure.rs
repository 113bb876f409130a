//! Why a run did not succeed, and what an error number says about the real.

use std::io;
use std::net::SocketAddr;

use nix::errno::Errno;

use super::report::Class;
use super::report::short;

/// What a run that succeeded says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Success {
    /// In percent.
    pub(super) share: u8,
    pub(super) reason: String,
}

impl Success {
    pub(super) fn new(reason: impl AsRef<str>) -> Self {
        Self { share: 100, reason: short(reason.as_ref()) }
    }
}

/// Why a run did not succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) class: Class,
    pub(super) reason: String,
}

impl Failure {
    pub(super) fn new(class: Class, reason: impl AsRef<str>) -> Self {
        Self { class, reason: short(reason.as_ref()) }
    }

    /// This host could not send.
    pub(super) fn local(reason: impl AsRef<str>) -> Self {
        Self::new(Class::Local, reason)
    }

    /// A call that sends nothing failed, or one that failed before it sent anything.
    pub(super) fn of_this_host(error: &io::Error, target: SocketAddr) -> Self {
        let ip = target.ip();
        Self::local(match errno(error) {
            Errno::ENETUNREACH | Errno::EHOSTUNREACH => format!("no route to {ip} here"),
            Errno::EADDRNOTAVAIL => format!("no free source address or port for {ip}"),
            Errno::EAFNOSUPPORT if ip.is_ipv6() => "this host has no IPv6".to_owned(),
            Errno::EAFNOSUPPORT => "this host has no IPv4".to_owned(),
            Errno::EPERM | Errno::EACCES => {
                format!("this host does not permit it: {}", text(error))
            }
            Errno::EMFILE | Errno::ENFILE => "this host has no file handles left".to_owned(),
            Errno::ENOBUFS | Errno::ENOMEM => "this host has no memory left".to_owned(),
            _ => format!("this host cannot send: {}", text(error)),
        })
    }

    /// A call failed that tells what came back.
    pub(super) fn of_peer(error: &io::Error, target: SocketAddr) -> Self {
        let (class, reason) = match errno(error) {
            Errno::ECONNREFUSED => (Class::Refused, "connection refused"),
            Errno::ECONNRESET | Errno::EPIPE => (Class::Closed, "connection reset"),
            Errno::ETIMEDOUT => (Class::Timeout, "connection timed out"),
            Errno::EHOSTUNREACH => {
                (Class::Unreachable, "host unreachable (ICMP, or no ARP answer)")
            }
            Errno::ENETUNREACH => (Class::Unreachable, "network unreachable (ICMP)"),
            Errno::ENOPROTOOPT => (Class::Unreachable, "protocol unreachable (ICMP)"),
            Errno::EACCES => (Class::Unreachable, "prohibited on the way (ICMP)"),
            Errno::EMSGSIZE => (Class::Mtu, "packet too long for the way (ICMP)"),
            Errno::EPROTO => (Class::Unreachable, "parameter problem (ICMP)"),
            Errno::ENOBUFS | Errno::ENOMEM => return Self::of_this_host(error, target),
            _ if error.kind() == io::ErrorKind::UnexpectedEof => {
                (Class::Closed, "connection closed")
            }
            // No call of the kernel's: a rule of the protocol is broken.
            _ if error.raw_os_error().is_none() => {
                return Self::new(Class::Protocol, error.to_string());
            }
            _ => return Self::new(Class::Unreachable, text(error)),
        };
        Self::new(class, reason)
    }

    /// A call that sends failed at once: what it says may be about either side.
    pub(super) fn of_sending(error: &io::Error, target: SocketAddr) -> Self {
        match errno(error) {
            Errno::ECONNREFUSED | Errno::ECONNRESET | Errno::EPIPE | Errno::ETIMEDOUT => {
                Self::of_peer(error, target)
            }
            _ => Self::of_this_host(error, target),
        }
    }
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(0))
}

/// The error without the number that Rust adds.
fn text(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => Errno::from_raw(number).desc().to_owned(),
        None => error.to_string(),
    }
}
