//! "Did you mean": the known word that a mistyped one is most like.

/// How alike two words must be, from 0 to 1, by their common letters. clap asks for as much.
const ALIKE: f64 = 0.7;

/// The same, by the number of letters that differ: "wbe" is "web".
const CLOSE: f64 = 0.6;

/// The known word that is most like this one, if one is.
///
/// ```text
/// portt → port, wbe → web, adress → address
/// ```
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = word.to_lowercase();
    let like = |known: &str| {
        let (alike, close) =
            (strsim::jaro(&lower, known), strsim::normalized_damerau_levenshtein(&lower, known));
        (alike > ALIKE || close > CLOSE).then(|| alike.max(close))
    };
    known
        .into_iter()
        .filter_map(|known| Some((like(known)?, known)))
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, known)| known)
}

/// Names that other balancers, and Kubernetes, have for keys.
const ELSEWHERE: &[(&str, &[&str])] = &[
    (
        "vips",
        &["service", "services", "virtual_server", "virtual_servers", "frontend", "frontends"],
    ),
    (
        "reals",
        &["servers", "real_servers", "backends", "members", "endpoints", "upstreams", "targets"],
    ),
    ("address", &["ip", "vip", "target"]),
    ("hash", &["scheduler", "balance", "algorithm", "lb_algo", "persistence", "sticky"]),
    ("check", &["healthcheck", "health_check"]),
    ("min_healthy", &["quorum"]),
    ("path", &["url", "uri"]),
    ("host", &["virtualhost", "vhost"]),
    ("interval", &["inter", "delay_loop", "period", "every"]),
    ("fall", &["retries", "retry", "failures", "unhealthy_threshold"]),
    ("rise", &["successes", "healthy_threshold"]),
    ("server_name", &["sni"]),
    ("status", &["code", "codes", "status_code"]),
];

/// The key that has this name elsewhere.
pub(crate) fn elsewhere_called(name: &str) -> Option<&'static str> {
    ELSEWHERE.iter().find(|(_, names)| names.contains(&name)).map(|(key, _)| *key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typos_are_near_and_other_words_are_not() {
        let keys = ["address", "port", "protocol", "check", "min_healthy", "reals"];
        for (word, key) in [
            ("adress", Some("address")),
            ("portt", Some("port")),
            ("prot", Some("port")),
            ("Protocol", Some("protocol")),
            ("min-healthy", Some("min_healthy")),
            ("real", Some("reals")),
            ("colour", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, keys), key, "{word}");
        }
        assert_eq!(nearest("wbe", ["dns", "web"]), Some("web"));
    }

    #[test]
    fn names_of_other_balancers() {
        for (name, key) in [("url", Some("path")), ("servers", Some("reals")), ("colour", None)] {
            assert_eq!(elsewhere_called(name), key);
        }
    }
}
