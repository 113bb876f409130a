//! Addresses on the command line. The error says how one is written.

use std::net::IpAddr;
use std::net::SocketAddr;
use std::str::FromStr;

use l4lb::Prefix;

pub(super) fn address(text: &str) -> Result<IpAddr, String> {
    parse(text, "192.0.2.1 or 2001:db8::1")
}

pub(super) fn endpoint(text: &str) -> Result<SocketAddr, String> {
    parse(text, "192.0.2.1:31337 or [2001:db8::1]:31337")
}

pub(super) fn listen(text: &str) -> Result<SocketAddr, String> {
    parse(text, "127.0.0.1:9848 or [::1]:9848")
}

pub(super) fn prefix(text: &str) -> Result<Prefix, String> {
    parse(text, "192.0.2.0/24, 2001:db8::/32 or 192.0.2.1")
}

fn parse<T: FromStr>(text: &str, like: &str) -> Result<T, String> {
    text.parse().map_err(|_| {
        let name = if is_name(text) { "host names are not looked up; " } else { "" };
        format!("{name}write it like {like}")
    })
}

/// Whether a text looks like a host name, perhaps with a port or a prefix length.
fn is_name(text: &str) -> bool {
    let name = text.split([':', '/']).next().unwrap_or_default();
    text.matches(':').count() < 2 && name.contains(|c: char| c.is_ascii_alphabetic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names_are_told_from_addresses() {
        let names = "host names are not looked up; ";
        for (text, is_name) in [
            ("example.com", true),
            ("example.com:80", true),
            ("localhost/8", true),
            ("192.0.2", false),
            ("2001:db8::g", false),
            ("[::1", false),
        ] {
            let error = endpoint(text).expect_err("neither has an address and a port");
            assert_eq!(error.starts_with(names), is_name, "{text}: {error}");
        }
    }
}
