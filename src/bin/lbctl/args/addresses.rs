//! Addresses as they are typed. What does not parse is told how it is written.

use std::net::IpAddr;
use std::net::SocketAddr;

use ipnet::IpNet;

pub(super) fn address(text: &str) -> Result<IpAddr, &'static str> {
    text.parse().map_err(|_| "write it like 192.0.2.1 or 2001:db8::1")
}

pub(super) fn endpoint(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse().map_err(|_| "write it like 192.0.2.1:31337 or [2001:db8::1]:31337")
}

pub(super) fn listen(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse().map_err(|_| "write it like 127.0.0.1:9848 or [::1]:9848")
}

pub(super) fn prefix(text: &str) -> Result<IpNet, &'static str> {
    text.parse()
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
        .map_err(|_| "write it like 192.0.2.0/24, 2001:db8::/32 or 192.0.2.1")
}
