//! Requests: what their path, query, headers and body say, and which of them make no sense.

use std::fmt::Display;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use http_body_util::BodyExt as _;
use http_body_util::LengthLimitError;
use http_body_util::Limited;
use hyper::HeaderMap;
use hyper::StatusCode;
use hyper::body::Body as _;
use hyper::body::Bytes;
use hyper::body::Incoming;
use hyper::header;
use hyper::header::HeaderName;
use serde_json::Map;
use serde_json::Value;
use tokio::time::timeout;

use super::answer::Refusal;
use crate::agent::printed::Secrets;
use crate::model::address::Vip;
use crate::model::text::quote;

/// Most bytes of a body: a VIP with as many reals as there can be has less.
pub(super) const MAX_BODY: usize = 1 << 20;

/// How long a client may take to send a body.
pub(super) const TIME_FOR_BODY: Duration = Duration::from_secs(10);

/// A request, as far as its resource needs it.
#[derive(Debug, Default)]
pub(super) struct Asked {
    /// The VIP of the path.
    pub(super) vip: Option<Vip>,
    /// The real of the path.
    pub(super) real: Option<IpAddr>,
    pub(super) query: Query,
    pub(super) conditions: Conditions,
    pub(super) body: Bytes,
    /// Whether the client sees what may be secret in checks.
    pub(super) secrets: Secrets,
}

impl Asked {
    /// The VIP of a path that has one.
    pub(super) fn vip(&self) -> Result<Vip, Refusal> {
        self.vip.ok_or_else(|| Refusal::bad("the path names no VIP"))
    }

    /// The real of a path that has one.
    pub(super) fn real(&self) -> Result<IpAddr, Refusal> {
        self.real.ok_or_else(|| Refusal::bad("the path names no real"))
    }

    /// The body's object; empty: there is no body.
    pub(super) fn object(&self) -> Result<Map<String, Value>, Refusal> {
        if self.body.is_empty() {
            return Ok(Map::new());
        }
        match serde_json::from_slice(&self.body) {
            Ok(Value::Object(object)) => Ok(object),
            Ok(_) => Err(Refusal::bad("the body is no JSON object, such as {\"weight\": 2}")),
            Err(error) => Err(Refusal::bad(format!("the body is no JSON: {error}"))),
        }
    }
}

/// The parameters behind the `?`.
#[derive(Debug, Default)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads a query whose parameters all are among `known`.
    pub(super) fn parse(text: &str, known: &[&str]) -> Result<Self, Refusal> {
        let mut pairs: Vec<(String, String)> = Vec::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) =
                (decode(&name.replace('+', " "))?, decode(&value.replace('+', " "))?);
            if !known.contains(&name.as_str()) {
                let known = match known {
                    [] => "there are none here".to_owned(),
                    known => format!("known are {}", known.join(", ")),
                };
                let what = format!("unknown parameter '{}'; {known}", quote(&name));
                return Err(Refusal::bad(what));
            }
            if pairs.iter().any(|(given, _)| *given == name) {
                return Err(Refusal::bad(format!("parameter {name} is given twice")));
            }
            pairs.push((name, value));
        }
        Ok(Self(pairs))
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }

    /// A parameter that is not text. `parse` returns how it is written if it is not.
    pub(super) fn read<T, E: Display>(
        &self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<Option<T>, Refusal> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let value = parse(text);
        let bad = |error| Refusal::bad(format!("parameter {name}: '{}': {error}", quote(text)));
        value.map(Some).map_err(bad)
    }

    /// Whether a parameter is `true`.
    pub(super) fn is_set(&self, name: &str) -> Result<bool, Refusal> {
        let set =
            self.read(name, |text| bool::from_str(text).map_err(|_| "write true or false"))?;
        Ok(set.unwrap_or_default())
    }
}

/// Text of a path or query without its percent encoding (RFC 3986).
pub(super) fn decode(text: &str) -> Result<String, Refusal> {
    let bad = |why| Refusal::bad(format!("'{}' {why}", quote(text)));
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [byte, behind @ ..] = rest {
        rest = behind;
        if *byte != b'%' {
            bytes.push(*byte);
            continue;
        }
        let encoded = rest.split_at_checked(2).and_then(|(digits, behind)| {
            // `from_str_radix` would take a sign, too.
            let digits = str::from_utf8(digits).ok()?;
            let hex = digits.chars().all(|digit| digit.is_ascii_hexdigit());
            Some((u8::from_str_radix(digits, 16).ok().filter(|_| hex)?, behind))
        });
        let Some((byte, behind)) = encoded else {
            return Err(bad("has a '%' that two hexadecimal digits do not follow"));
        };
        bytes.push(byte);
        rest = behind;
    }
    String::from_utf8(bytes).map_err(|_| bad("is not UTF-8"))
}

/// `If-Match` and `If-None-Match`.
#[derive(Debug, Default)]
pub(super) struct Conditions {
    pub(super) matches: Option<Tags>,
    pub(super) matches_none: Option<Tags>,
}

/// The versions that a condition names.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Tags {
    /// `*`
    Any,
    /// Each in quotes. Weak ones, and those of others, match nothing.
    These(Vec<String>),
}

impl Tags {
    pub(super) fn contain(&self, version: &str) -> bool {
        match self {
            Self::Any => true,
            Self::These(tags) => tags.iter().any(|tag| tag == version),
        }
    }

    /// The first one, for a message.
    pub(super) fn first(&self) -> &str {
        match self {
            Self::Any => "*",
            Self::These(tags) => tags.first().map_or("", String::as_str),
        }
    }

    fn parse(headers: &HeaderMap, name: &HeaderName) -> Result<Option<Self>, Refusal> {
        if !headers.contains_key(name) {
            return Ok(None);
        }
        let bad = || {
            Refusal::bad(format!("{name}: write '*', or the ETag with its quotes: {name}: \"…\""))
        };
        let mut tags = Vec::new();
        for value in headers.get_all(name) {
            let text = value.to_str().map_err(|_| bad())?.trim();
            if text == "*" {
                return Ok(Some(Self::Any));
            }
            for tag in text.split(',').map(str::trim) {
                let strong = tag.strip_prefix("W/").unwrap_or(tag);
                let inner = strong.strip_prefix('"').and_then(|tag| tag.strip_suffix('"'));
                let inner = inner.filter(|tag| !tag.contains('"')).ok_or_else(bad)?;
                // A weak one says that the bytes may differ: RFC 9110 lets it match nothing.
                tags.push(if strong == tag { inner.to_owned() } else { tag.to_owned() });
            }
        }
        Ok(Some(Self::These(tags)))
    }
}

impl Conditions {
    pub(super) fn parse(headers: &HeaderMap) -> Result<Self, Refusal> {
        Ok(Self {
            matches: Tags::parse(headers, &header::IF_MATCH)?,
            matches_none: Tags::parse(headers, &header::IF_NONE_MATCH)?,
        })
    }
}

/// Reads a body of JSON.
pub(super) async fn read_body(headers: &HeaderMap, body: Incoming) -> Result<Bytes, Refusal> {
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    check_type(headers)?;
    let too_large = || {
        let what = format!("the body has more than {MAX_BODY} bytes");
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, what)
    };
    if body.size_hint().lower() > MAX_BODY as u64 {
        return Err(too_large());
    }
    match timeout(TIME_FOR_BODY, Limited::new(body, MAX_BODY).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(error)) => Err(Refusal::bad(format!("the body did not come whole: {error}"))),
        Err(_) => {
            let what = format!("the body did not come within {} s", TIME_FOR_BODY.as_secs());
            Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, what))
        }
    }
}

/// Refuses bodies that say that they are something else than JSON.
fn check_type(headers: &HeaderMap) -> Result<(), Refusal> {
    let refuse = |what: &str, how: &str| {
        let what = format!("the body is {}; {how}", quote(what));
        Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, what))
    };
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or("unreadable"));
    if let Some(coding) = text(header::CONTENT_ENCODING).filter(|coding| *coding != "identity") {
        return refuse(coding, "send it as it is, without Content-Encoding");
    }
    let Some(media) = text(header::CONTENT_TYPE) else { return Ok(()) };
    let kind = media.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if ["application/json", "application/merge-patch+json"].contains(&kind.as_str()) {
        return Ok(());
    }
    refuse(media, "send JSON, and say so: 'Content-Type: application/json' (curl: --json)")
}

/// The path of a VIP.
pub(super) fn path_of(vip: Vip, real: Option<IpAddr>) -> String {
    let Vip { address, port, protocol } = vip;
    let path = format!("/v1/vips/{protocol}/{address}/{port}");
    real.map_or(path.clone(), |real| format!("{path}/reals/{real}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error<T>(result: Result<T, Refusal>) -> String {
        match result {
            Ok(_) => panic!("it is taken"),
            Err(refusal) => format!("{:?}", refusal.into_answer()),
        }
    }

    #[test]
    fn percent_encoding() {
        for (text, decoded) in [
            ("", ""),
            ("10.0.0.1", "10.0.0.1"),
            ("fc00%3a1%3A%3a2", "fc00:1::2"),
            ("%2A", "*"),
            ("%c3%a4", "ä"),
            ("%2e%2E%2f", "../"),
            ("%00", "\0"),
        ] {
            assert_eq!(decode(text).unwrap(), decoded, "{text}");
        }
        for text in ["%", "a%", "%4", "%zz", "%+1", "%4%41", "%u0041", "%ä"] {
            assert!(error(decode(text)).contains("hexadecimal digits"), "{text}");
        }
        assert!(error(decode("%ff")).contains("is not UTF-8"));
    }

    #[test]
    fn queries() {
        let known = ["dry_run", "client"];
        let query = Query::parse("client=10.0.0.0%2f8&dry_run=true&", &known).unwrap();
        assert_eq!(query.get("client"), Some("10.0.0.0/8"));
        assert!(query.is_set("dry_run").unwrap());
        for (text, why) in [
            ("dryrun=true", "unknown parameter 'dryrun'; known are dry_run, client"),
            ("dry_run=true&dry_run=false", "dry_run is given twice"),
            ("client=%zz", "hexadecimal digits"),
        ] {
            assert!(error(Query::parse(text, &known)).contains(why), "{text}");
        }
        for text in ["dry_run", "dry_run=1", "dry_run=yes"] {
            let set = Query::parse(text, &known).unwrap().is_set("dry_run");
            assert!(error(set).contains("write true or false"), "{text}");
        }
        assert!(error(Query::parse("a=b", &[])).contains("there are none here"));
    }

    #[test]
    fn versions_in_headers() {
        let read = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::IF_MATCH, value.parse().expect("a value"));
            }
            Conditions::parse(&headers).map(|conditions| conditions.matches)
        };
        let these =
            |tags: &[&str]| Some(Tags::These(tags.iter().map(|tag| (*tag).to_owned()).collect()));
        assert_eq!(read(&[]).unwrap(), None);
        assert_eq!(read(&["*"]).unwrap(), Some(Tags::Any));
        assert_eq!(read(&["\"a\""]).unwrap(), these(&["a"]));
        assert_eq!(read(&["\"a\" , \"b\"", "\"c\""]).unwrap(), these(&["a", "b", "c"]));
        let weak = read(&["W/\"a\""]).unwrap().expect("a tag");
        assert!(!weak.contain("a"));
        for wrong in ["a", "\"a", "a\"", "\"a\"b\"", "", "\"a\",", "W/a"] {
            assert!(error(read(&[wrong])).contains("with its quotes"), "{wrong}");
        }
    }
}
