//! Addresses on the command line. The error says how one is written.

use std::net::IpAddr;
use std::net::SocketAddr;
use std::str::FromStr;

use l4lb::Prefix;

pub(super) fn address(text: &str) -> Result<IpAddr, String> {
    parse(text, "192.0.2.1 or 2001:db8::1")
        .map_err(|error| without(text).or_else(|| without_length(text)).unwrap_or(error))
}

/// The address of a server.
pub(super) fn real(text: &str) -> Result<IpAddr, String> {
    address(text).map_err(|error| match text.parse::<SocketAddr>() {
        Ok(with_port) => format!(
            "a real has no port of its own, because it serves the VIP's; write {}",
            with_port.ip()
        ),
        Err(_) => error,
    })
}

pub(super) fn endpoint(text: &str) -> Result<SocketAddr, String> {
    parse(text, "192.0.2.1:31337 or [2001:db8::1]:31337").map_err(|error| {
        match text.trim_matches(['[', ']']).parse::<IpAddr>() {
            Ok(IpAddr::V4(_)) => format!("the port is missing; {error}"),
            Ok(IpAddr::V6(_)) => format!("no port behind brackets; {error}"),
            Err(_) => error,
        }
    })
}

pub(super) fn listen(text: &str) -> Result<SocketAddr, String> {
    parse(text, "127.0.0.1:9848 or [::1]:9848")
}

pub(super) fn prefix(text: &str) -> Result<Prefix, String> {
    parse(text, "192.0.2.0/24, 2001:db8::/32 or 192.0.2.1")
        .map_err(|error| without(text).unwrap_or(error))
}

fn parse<T: FromStr>(text: &str, like: &str) -> Result<T, String> {
    text.parse().map_err(|_| {
        let name = if is_name(text) { "host names are not looked up; " } else { "" };
        format!("{name}write it like {like}")
    })
}

/// What to write in place of an address with a port, or in brackets.
fn without(text: &str) -> Option<String> {
    if let Ok(with_port) = text.parse::<SocketAddr>() {
        return Some(format!("write {}, without a port", with_port.ip()));
    }
    let inside = text.strip_prefix('[')?.strip_suffix(']')?;
    Some(format!("write {}, without brackets", inside.parse::<IpAddr>().ok()?))
}

/// What to write in place of an address with a prefix length.
fn without_length(text: &str) -> Option<String> {
    let (address, length) = text.split_once('/')?;
    length.parse::<u8>().ok()?;
    Some(format!("write {}, without a prefix length", address.parse::<IpAddr>().ok()?))
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

    #[test]
    fn what_is_too_much_is_named() {
        for (text, meant) in [
            (
                "10.0.2.1:80",
                "a real has no port of its own, because it serves the VIP's; write 10.0.2.1",
            ),
            (
                "[fc00::1]:80",
                "a real has no port of its own, because it serves the VIP's; write fc00::1",
            ),
            ("[fc00::1]", "write fc00::1, without brackets"),
            ("10.0.2.1/24", "write 10.0.2.1, without a prefix length"),
            ("10.0.2", "write it like 192.0.2.1 or 2001:db8::1"),
        ] {
            assert_eq!(real(text).expect_err("no address"), meant);
        }
        assert_eq!(
            address("10.0.2.1:80").expect_err("no address"),
            "write 10.0.2.1, without a port"
        );
        assert_eq!(prefix("10.0.2.1:80").expect_err("no prefix"), "write 10.0.2.1, without a port");
        assert_eq!(
            prefix("10.0.2.0/33").expect_err("no prefix"),
            "write it like 192.0.2.0/24, 2001:db8::/32 or 192.0.2.1"
        );
        assert_eq!(
            endpoint("192.0.2.1").expect_err("no port"),
            "the port is missing; write it like 192.0.2.1:31337 or [2001:db8::1]:31337"
        );
    }
}
