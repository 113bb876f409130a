//! What to write for a key whose value in the file has the wrong type.

use super::hidden::may_be_secret;
use super::hidden::without_value;
use crate::model::address::meant_address;

/// Tables that a file may have several of.
pub(super) const LISTS: [&str; 4] = ["interfaces", "vips", "server_ids", "decapsulate"];

/// Tables that a file has one of.
pub(super) const TABLES: [&str; 6] =
    ["connection_table", "packets", "metrics", "control", "notify", "health"];

/// Every key, with its table and an example value. JSON and TOML write values alike, except tables.
const EXAMPLES: &[(&str, &str)] = &[
    ("interfaces.name", "\"eth0\""),
    ("interfaces.xdp_mode", "\"auto\""),
    ("interfaces.gateway", "\"auto\""),
    ("interfaces.gateway_mac", "\"02:00:00:00:00:fe\""),
    ("interfaces.macs", "[\"00:00:5e:00:01:33\"]"),
    ("connection_table.kind", "\"set-associative\""),
    ("connection_table.entries", "1000000"),
    ("connection_table.cpus", "\"auto\""),
    ("connection_table.udp_timeout_seconds", "30"),
    ("connection_table.new_connections_per_second", "125000"),
    ("packets.max_frame", "1514"),
    ("packets.oversize", "\"icmp\""),
    ("packets.encapsulation", "\"ipip\""),
    ("packets.gue_port", "6080"),
    ("packets.gue_variant", "1"),
    ("packets.gue_icmp_as_katran", "false"),
    ("packets.encap_source_v4", "\"172.16.0.0/16\""),
    ("packets.encap_source_v6", "\"100::/64\""),
    ("packets.outer_df", "true"),
    ("metrics.listen", "\"127.0.0.1:9847\""),
    ("metrics.page", "true"),
    ("metrics.hosts", "[\"lb1.example.net\"]"),
    ("metrics.per_real", "true"),
    ("control.socket", "\"/run/l4lb/default.sock\""),
    ("control.mode", "\"0660\""),
    ("control.group", "\"operators\""),
    ("control.group_may", "\"change\""),
    ("notify.exec", "\"/usr/local/bin/told\""),
    ("notify.timeout", "\"10s\""),
    ("health.concurrency", "512"),
    ("health.first_mark", "0x4c340000"),
    ("checks.NAME.type", "\"http\""),
    ("checks.NAME.interval", "\"5s\""),
    ("checks.NAME.timeout", "\"2s\""),
    ("checks.NAME.rise", "2"),
    ("checks.NAME.fall", "3"),
    ("checks.NAME.fast_interval", "\"1s\""),
    ("checks.NAME.port", "80"),
    ("checks.NAME.via", "\"tunnel\""),
    ("checks.NAME.method", "\"GET\""),
    ("checks.NAME.path", "\"/healthz\""),
    ("checks.NAME.host", "\"www.example.net\""),
    ("checks.NAME.headers", "{ \"X-Check\" = \"1\" }"),
    ("checks.NAME.status", "[\"200-299\", 401]"),
    ("checks.NAME.text", "\"ready\""),
    ("checks.NAME.server_name", "\"www.example.net\""),
    ("checks.NAME.verify", "true"),
    ("checks.NAME.ca_file", "\"/etc/ssl/ca.pem\""),
    ("checks.NAME.name", "\"www.example.net\""),
    ("checks.NAME.record", "\"AAAA\""),
    ("checks.NAME.rcode", "\"NOERROR\""),
    ("checks.NAME.transport", "\"udp\""),
    ("checks.NAME.send", "\"hex:00ff\""),
    ("checks.NAME.expect", "\"OK\""),
    ("checks.NAME.silence_ok", "true"),
    ("checks.NAME.program", "\"/usr/local/bin/check\""),
    ("checks.NAME.args", "[\"--quiet\"]"),
    ("vips.address", "\"10.200.1.1\""),
    ("vips.port", "80"),
    ("vips.protocol", "\"tcp\""),
    ("vips.hash", "\"5-tuple\""),
    ("vips.connection_table", "true"),
    ("vips.routing", "[\"quic-connection-id\"]"),
    ("vips.encapsulation", "\"ipip\""),
    ("vips.allow_own_address", "true"),
    ("vips.other_ports", "\"drop\""),
    ("vips.no_real", "\"reject\""),
    ("vips.echo", "\"always\""),
    ("vips.check", "\"web\""),
    ("vips.on_failure", "\"move\""),
    ("vips.min_healthy", "\"50%\""),
    ("vips.fail_open", "true"),
    ("vips.slow_start", "\"60s\""),
    ("vips.flapping", "{ failures = 5 }"),
    ("vips.flapping.failures", "5"),
    ("vips.flapping.window", "\"10m\""),
    ("vips.flapping.hold", "\"1m\""),
    ("vips.flapping.hold_at_most", "\"30m\""),
    ("vips.reals", "[{ address = \"10.0.1.1\" }]"),
    ("vips.reals.address", "\"10.0.1.1\""),
    ("vips.reals.weight", "2"),
    ("vips.reals.state", "\"up\""),
    ("vips.reals.encapsulation", "\"ipip\""),
    ("vips.reals.local", "true"),
    ("server_ids.id", "7"),
    ("server_ids.real", "\"10.0.1.1\""),
    ("decapsulate.address", "\"10.8.0.1\""),
    ("decapsulate.then", "\"balance\""),
    ("decapsulate.from", "[\"10.9.0.0/16\"]"),
    // Whole tables.
    ("interfaces", "[{ name = \"eth0\" }]"),
    ("vips", "[{ address = \"10.200.1.1\", port = 80, protocol = \"tcp\" }]"),
    ("server_ids", "[{ id = 7, real = \"10.0.1.1\" }]"),
    ("decapsulate", "[{ address = \"10.8.0.1\" }]"),
    ("checks", "{ web = { type = \"http\" } }"),
    ("health", "{ concurrency = 512 }"),
    ("notify", "{ exec = \"/usr/local/bin/told\" }"),
    ("control", "{ group = \"operators\" }"),
    ("metrics", "{ listen = \"127.0.0.1:9847\" }"),
];

/// The formats of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Toml,
    Json,
}

/// Texts of parsers about Rust's types, and the words of the file for them.
const WORDS: [(&str, &str); 12] = [
    ("expected u8", "expected a whole number from 0 to 255"),
    ("expected u16", "expected a whole number from 0 to 65535"),
    ("expected u32", "expected a whole number from 0 to 4294967295"),
    ("expected u64", "expected a whole number, 0 or more"),
    (
        "expected the name of a check, or a table with its type",
        "expected the name of a check in quotes, or a table with its type",
    ),
    ("expected a boolean", "expected true or false, without quotes"),
    ("expected a sequence", "expected a list"),
    ("expected IP address", "expected an IP address in quotes"),
    ("expected socket address", "expected an address with a port, in quotes"),
    ("expected a string", "expected text in quotes"),
    ("wanted string or table", "expected text in quotes"),
    ("expected struct ", "expected a table"),
];

/// Translates a parser's text about a key into words of the file, and adds an example.
pub(super) fn explain(key: &str, what: &str, format: Format) -> String {
    let public = if may_be_secret(&path_of(key)) { without_value(what) } else { what.to_owned() };
    let what = public.as_str();
    let known = WORDS.iter().find_map(|(rust, words)| {
        let at = what.find(rust)?;
        Some(format!("{}{words}", &what[..at]))
    });
    // Other errors already say what is right: unknown keys and names, missing keys.
    let is_syntax = what.contains("IP address") || what.starts_with("invalid type");
    let Some(words) = known.or_else(|| is_syntax.then(|| what.to_owned())) else {
        return what.to_owned();
    };
    let (words, meant) = meant(key, &words).unwrap_or((words, None));
    match example(key, meant, format) {
        Some(example) => format!("{words}, such as {example}"),
        None => words,
    }
}

/// The text about `'10.0.1.1:80' is not an IP address`, and the address that was meant, as a value of TOML.
fn meant(key: &str, words: &str) -> Option<(String, Option<String>)> {
    let (quoted, _) = words.strip_prefix('\'')?.split_once("' is not an IP address")?;
    let (address, port) = meant_address(quoted)?;
    let is_real = path_of(key) == "vips.reals.address";
    // Who knows balancers that translate addresses expects it to be possible.
    let why = if is_real && port.is_some() {
        ": a real has no port of its own, because it serves the VIP's"
    } else {
        ""
    };
    Some((format!("{words}{why}"), Some(format!("\"{address}\""))))
}

/// The key without places in lists and names of checks: `vips[3].reals[0].address` is `vips.reals.address`.
pub(super) fn path_of(key: &str) -> String {
    let mut place: Vec<_> =
        key.split('.').map(|part| part.split('[').next().unwrap_or_default()).collect();
    // A check in place of a name has the keys of the others.
    if let ["vips", "check", rest @ ..] = &place[..]
        && !rest.is_empty()
    {
        place = ["checks", "NAME"].iter().chain(rest).copied().collect();
    } else if let ["checks", name, ..] = &mut place[..] {
        *name = "NAME";
    }
    place.join(".")
}

/// An example of a key's value, as JSON.
pub(super) fn example_value(path: &str) -> Option<serde_json::Value> {
    let (_, value) = EXAMPLES.iter().find(|(known, _)| *known == path)?;
    let parsed: std::collections::BTreeMap<String, serde_json::Value> =
        toml::from_str(&format!("value = {value}")).ok()?;
    parsed.into_iter().next().map(|(_, value)| value)
}

/// All keys, with an example of the value of each, as JSON.
#[cfg(test)]
pub(super) fn all_examples() -> impl Iterator<Item = (String, serde_json::Value)> {
    let example = |path: &&str| example_value(path).map(|value| ((*path).to_owned(), value));
    EXAMPLES.iter().filter_map(move |(path, _)| example(path))
}

/// The keys of a table such as `vips.reals`.
pub(super) fn keys_of(table: &str) -> impl Iterator<Item = &'static str> {
    EXAMPLES.iter().filter_map(move |(path, _)| {
        let (before, name) = path.rsplit_once('.')?;
        (before == table).then_some(name)
    })
}

/// The tables that have a key of this name.
pub(super) fn tables_with(key: &str) -> impl Iterator<Item = &'static str> {
    EXAMPLES.iter().filter_map(move |(path, _)| {
        let (before, name) = path.rsplit_once('.')?;
        (name == key).then_some(before)
    })
}

/// An assignment to a key, in the file's format, of a value, or of one that suits the key; `None`: the key is not known.
fn example(key: &str, value: Option<String>, format: Format) -> Option<String> {
    let path = path_of(key);
    let name = &path.rsplit('.').next()?;
    if format == Format::Toml && !path.contains('.') {
        if LISTS.contains(name) {
            return Some(format!("[[{name}]]"));
        }
        if TABLES.contains(name) {
            return Some(format!("[{name}]"));
        }
    }
    let (_, suits) = EXAMPLES.iter().find(|(known, _)| *known == path)?;
    let value = value.unwrap_or_else(|| (*suits).to_owned());
    Some(match format {
        Format::Toml => format!("{name} = {value}"),
        Format::Json => format!("\"{name}\": {}", as_json(&value)?),
    })
}

/// A value of TOML, in JSON.
fn as_json(value: &str) -> Option<String> {
    let parsed: std::collections::BTreeMap<String, serde_json::Value> =
        toml::from_str(&format!("value = {value}")).ok()?;
    Some(parsed.get("value")?.to_string())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The keys of a table that have an example.
    pub(in crate::model::config) fn keys_of(table: &str) -> std::collections::BTreeSet<String> {
        super::keys_of(table).map(str::to_owned).collect()
    }

    #[test]
    fn types_are_told_in_words_of_the_file() {
        let toml = |key, what| explain(key, what, Format::Toml);
        assert_eq!(
            toml("vips[0].port", "invalid type: string \"80\", expected u16"),
            "invalid type: string \"80\", expected a whole number from 0 to 65535, such as port = 80"
        );
        assert_eq!(
            toml("vips[1].reals[3]", "invalid type: string \"x\", expected struct RealConfig"),
            "invalid type: string \"x\", expected a table, such as reals = [{ address = \"10.0.1.1\" }]"
        );
        assert_eq!(
            toml("vips", "invalid type: map, expected a sequence"),
            "invalid type: map, expected a list, such as [[vips]]"
        );
        assert_eq!(
            explain(
                "vips[1].reals",
                "invalid type: integer `1`, expected a sequence",
                Format::Json
            ),
            "invalid type: integer `1`, expected a list, such as \"reals\": [{\"address\":\"10.0.1.1\"}]"
        );
        let unknown = "unknown field `prot`, expected `port`";
        assert_eq!(toml("vips[0].prot", unknown), unknown);
    }
}
