//! Addresses on the command line. The error says how one is written.

use std::net::IpAddr;
use std::net::SocketAddr;

use l4lb::Prefix;

pub(super) fn address(text: &str) -> Result<IpAddr, &'static str> {
    text.parse().map_err(|_| "write it like 192.0.2.1 or 2001:db8::1")
}

pub(super) fn endpoint(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse().map_err(|_| "write it like 192.0.2.1:31337 or [2001:db8::1]:31337")
}

pub(super) fn listen(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse().map_err(|_| "write it like 127.0.0.1:9848 or [::1]:9848")
}

pub(super) fn prefix(text: &str) -> Result<Prefix, &'static str> {
    text.parse().map_err(|_| "write it like 192.0.2.0/24, 2001:db8::/32 or 192.0.2.1")
}
