//! Which requests of browsers are refused.

use std::net::IpAddr;

use hyper::HeaderMap;
use hyper::header;
use hyper::header::HeaderName;
use nix::unistd::gethostname;

use crate::model::text::quote;

/// Why a request is refused, in one line; `None`: it is answered. `hosts` are names that the configuration allows.
pub(super) fn refuse(headers: &HeaderMap, path: &str, hosts: &[String]) -> Option<String> {
    let own = gethostname().ok().and_then(|name| name.into_string().ok());
    refuse_as(headers, path, hosts, own.as_deref())
}

fn refuse_as(
    headers: &HeaderMap,
    path: &str,
    hosts: &[String],
    own: Option<&str>,
) -> Option<String> {
    // No browser leaves it out; others may.
    let host = headers.get(header::HOST).map(|host| host.to_str().unwrap_or("unreadable"));
    if let Some(host) = host {
        let name = name_of(host);
        let known = name.parse::<IpAddr>().is_ok()
            || name.eq_ignore_ascii_case("localhost")
            || own.is_some_and(|own| own.eq_ignore_ascii_case(name))
            || hosts.iter().any(|known| known.eq_ignore_ascii_case(name));
        if !known {
            let name = quote(name);
            return Some(format!(
                "'{name}' is not known as a name of this host, and any site could make such a name lead here: ask by \
                 the address, or write hosts = [\"{name}\"] below [metrics]"
            ));
        }
    }
    // A link from another site may open the page itself; its scripts may not read the API.
    if path == "/" {
        return None;
    }
    let text =
        |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("unreadable"));
    let site = text(HeaderName::from_static("sec-fetch-site"));
    let origin = text(header::ORIGIN).map(|origin| origin.split_once("://").map(|(_, host)| host));
    let foreign = site.is_some_and(|site| !["same-origin", "none"].contains(&site))
        || origin.is_some_and(|origin| origin.is_none() || origin != host);
    foreign.then(|| "scripts of other sites are not answered; open the address itself".to_owned())
}

/// The name or address of `Host`, without the port and an IPv6 address's brackets.
fn name_of(host: &str) -> &str {
    if let Some((address, _)) = host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return address;
    }
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    name.strip_suffix('.').unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(path: &str, headers: &[(&'static str, &str)]) -> bool {
        let headers = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), value.parse().expect("a value")));
        let hosts = ["lb.example.net".to_owned()];
        refuse_as(&headers.collect(), path, &hosts, Some("lb1")).is_some()
    }

    #[test]
    fn names_that_lead_here_by_trickery_are_refused() {
        for host in [
            "127.0.0.1:9847",
            "[::1]:9847",
            "[fd00::1]",
            "10.0.0.1",
            "localhost:1",
            "LOCALHOST",
            "lb1:9847",
            "LB.example.net:443",
            "lb.example.net.",
        ] {
            for path in ["/", "/v1/overview"] {
                assert!(!refused(path, &[("host", host)]), "{host}");
            }
        }
        for host in [
            "evil.example",
            "evil.example:9847",
            "lb1.evil.example",
            "",
            "127.0.0.1.evil.example",
            "[x",
        ] {
            for path in ["/", "/v1/overview"] {
                assert!(refused(path, &[("host", host)]), "{host}");
            }
        }
        assert!(!refused("/v1/overview", &[]), "no browser");
    }

    #[test]
    fn other_sites_are_refused() {
        let host = ("host", "127.0.0.1:9847");
        for (header, taken) in [
            (("sec-fetch-site", "same-origin"), true),
            (("sec-fetch-site", "none"), true),
            (("sec-fetch-site", "same-site"), false),
            (("sec-fetch-site", "cross-site"), false),
            (("origin", "http://127.0.0.1:9847"), true),
            (("origin", "https://127.0.0.1:9847"), true),
            (("origin", "http://127.0.0.1:80"), false),
            (("origin", "https://evil.example"), false),
            (("origin", "null"), false),
        ] {
            assert_eq!(!refused("/v1/overview", &[host, header]), taken, "{header:?}");
            // A link from a wiki.
            assert!(!refused("/", &[host, header]), "{header:?}");
        }
    }
}
