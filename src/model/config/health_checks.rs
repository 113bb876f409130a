//! `[checks.NAME]` and what a VIP says about checks of its reals.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;

use super::CheckChoice;
use super::is_default;
use super::yes;

/// `type` of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum CheckKind {
    /// A TCP connection is established.
    Tcp,
    /// A TLS handshake is completed.
    Tls,
    /// An HTTP/1.1 request is answered as expected.
    Http,
    /// As `http`, over TLS.
    Https,
    /// A DNS query is answered as expected.
    Dns,
    /// A QUIC packet of an unknown version is answered with Version Negotiation (RFC 9000, section 6).
    Quic,
    /// A datagram is answered as expected.
    Udp,
    /// A program ends with exit code 0.
    Exec,
    /// The real says how it is, in the text protocol of `HAProxy`'s agent-check.
    Agent,
}

/// `via` of a check: how its packets reach the real.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize,
)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Via {
    /// To the VIP's address, encapsulated to the real as a client's packets are.
    #[default]
    Tunnel,
    /// To the real's own address.
    Direct,
}

/// `transport` of a DNS check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum DnsTransport {
    /// One datagram each way.
    Udp,
    /// A connection.
    Tcp,
}

/// A check as the file has it: `[checks.NAME]`, or in place of the name.
///
/// Which keys it has depends on its type.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct CheckConfig {
    /// What is checked.
    #[serde(rename = "type")]
    pub kind: CheckKind,
    /// Time between the starts of two runs. Default: 5 s.
    #[cfg_attr(test, schemars(with = "Option<super::schema::Time>"))]
    #[serde(default, with = "seconds", skip_serializing_if = "Option::is_none")]
    pub interval: Option<Duration>,
    /// How long a run may take. Default: 2 s, or the interval if that is less.
    #[cfg_attr(test, schemars(with = "Option<super::schema::Time>"))]
    #[serde(default, with = "seconds", skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// How many runs in a row must succeed before an unhealthy real is healthy. Default: 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rise: Option<u32>,
    /// How many runs in a row must fail before a healthy real is unhealthy. Default: 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fall: Option<u32>,
    /// The interval while the results are about to change the state. Default: the interval.
    #[cfg_attr(test, schemars(with = "Option<super::schema::Time>"))]
    #[serde(default, with = "seconds", skip_serializing_if = "Option::is_none")]
    pub fast_interval: Option<Duration>,
    /// The port to check. Default: the VIP's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// How packets reach the real. Default: through the tunnel; `agent`: direct.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<Via>,
    /// `http`, `https`: the method. Default: GET.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// `http`, `https`: the path. Default: /.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// `http`, `https`: the Host header. Default: the address and port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// `http`, `https`: further headers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// `http`, `https`: the status codes that are right, such as `["200-299", 401]`. Default: 200 to 399.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub status: Vec<StatusRange>,
    /// `http`, `https`: text that the body must contain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// `tls`, `https`: the server's name in the handshake (SNI), and in the certificate if `verify` is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    /// `tls`, `https`: whether the certificate must be valid.
    #[serde(default, skip_serializing_if = "is_default")]
    pub verify: bool,
    /// `tls`, `https`: a PEM file with the certificates to trust. Default: the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// `dns`: the name to ask for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `dns`: the type of record. Default: A.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<String>,
    /// `dns`: the response code that is right. Default: NOERROR.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rcode: Option<String>,
    /// `dns`: UDP or TCP. Default: the VIP's protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transport: Option<DnsTransport>,
    /// `udp`: the datagram's content, as text or as `hex:` and digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub send: Option<String>,
    /// `udp`: what the answer must begin with, as text or as `hex:` and digits. Default: any answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<String>,
    /// `udp`: whether no answer is right, too. ICMP errors are failures all the same.
    #[serde(default, skip_serializing_if = "is_default")]
    pub silence_ok: bool,
    /// `exec`: the program, by its absolute path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<PathBuf>,
    /// `exec`: its arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
}

impl CheckConfig {
    /// A check of this kind with defaults. Some kinds need more.
    pub fn new(kind: CheckKind) -> Self {
        Self {
            kind,
            interval: None,
            timeout: None,
            rise: None,
            fall: None,
            fast_interval: None,
            port: None,
            via: None,
            method: None,
            path: None,
            host: None,
            headers: BTreeMap::new(),
            status: Vec::new(),
            text: None,
            server_name: None,
            verify: false,
            ca_file: None,
            name: None,
            record: None,
            rcode: None,
            transport: None,
            send: None,
            expect: None,
            silence_ok: false,
            program: None,
            args: Vec::new(),
        }
    }

    /// Time between the starts of two runs.
    pub fn interval(&self) -> Duration {
        self.interval.unwrap_or(Duration::from_secs(5))
    }

    /// How long a run may take.
    pub fn timeout(&self) -> Duration {
        self.timeout.unwrap_or_else(|| self.interval().min(Duration::from_secs(2)))
    }

    /// The interval while the results are about to change the state.
    pub fn fast_interval(&self) -> Duration {
        self.fast_interval.unwrap_or_else(|| self.interval())
    }

    /// How many successes in a row make a real healthy.
    pub fn rise(&self) -> u32 {
        self.rise.unwrap_or(2)
    }

    /// How many failures in a row make a real unhealthy.
    pub fn fall(&self) -> u32 {
        self.fall.unwrap_or(3)
    }

    /// The method of an HTTP request.
    pub fn method(&self) -> &str {
        self.method.as_deref().unwrap_or("GET")
    }

    /// The path of an HTTP request.
    pub fn path(&self) -> &str {
        self.path.as_deref().unwrap_or("/")
    }

    /// The status codes that are right.
    pub fn status(&self) -> &[StatusRange] {
        if self.status.is_empty() { &[StatusRange { first: 200, last: 399 }] } else { &self.status }
    }

    /// The type of record that a DNS query asks for.
    pub fn record(&self) -> &str {
        self.record.as_deref().unwrap_or("A")
    }

    /// The response code of DNS that is right.
    pub fn rcode(&self) -> &str {
        self.rcode.as_deref().unwrap_or("NOERROR")
    }

    /// How its packets reach the real.
    pub fn via(&self) -> Via {
        self.via.unwrap_or(match self.kind {
            CheckKind::Agent | CheckKind::Exec => Via::Direct,
            _ => Via::Tunnel,
        })
    }
}

/// Status codes of HTTP: `"200-299"`, or one, `200`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StatusRange {
    /// The lowest.
    pub first: u16,
    /// The highest.
    pub last: u16,
}

impl StatusRange {
    /// Whether it has this code.
    pub fn contains(self, code: u16) -> bool {
        (self.first..=self.last).contains(&code)
    }
}

impl fmt::Display for StatusRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

impl Serialize for StatusRange {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.first == self.last {
            serializer.serialize_u16(self.first)
        } else {
            serializer.collect_str(self)
        }
    }
}

impl<'de> Deserialize<'de> for StatusRange {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl serde::de::Visitor<'_> for Visitor {
            type Value = StatusRange;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a status code from 100 to 599, or a range such as \"200-299\"")
            }

            fn visit_u64<E: serde::de::Error>(self, code: u64) -> Result<StatusRange, E> {
                self.visit_str(&code.to_string())
            }

            fn visit_i64<E: serde::de::Error>(self, code: i64) -> Result<StatusRange, E> {
                self.visit_str(&code.to_string())
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<StatusRange, E> {
                let (first, last) = text.split_once('-').unwrap_or((text, text));
                let code =
                    |text: &str| text.trim().parse().ok().filter(|code| (100..600).contains(code));
                match (code(first), code(last)) {
                    (Some(first), Some(last)) if first <= last => Ok(StatusRange { first, last }),
                    _ => Err(E::invalid_value(serde::de::Unexpected::Str(text), &self)),
                }
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

/// `on_failure` of a VIP: what happens to the flows of a real that is unhealthy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum OnFailure {
    /// They move to other reals at once.
    #[default]
    Move,
    /// They stay. Only new flows go to other reals.
    Keep,
}

/// `min_healthy` of a VIP: a number of reals, or a percentage of those that the operator has up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum MinHealthy {
    /// This many.
    Reals(u32),
    /// This share of the reals, 1 to 100, rounded up.
    Percent(u8),
}

impl Default for MinHealthy {
    fn default() -> Self {
        Self::Reals(1)
    }
}

impl MinHealthy {
    /// How many of `reals` must be healthy.
    pub fn of(self, reals: usize) -> usize {
        match self {
            Self::Reals(number) => number as usize,
            Self::Percent(percent) => (reals * usize::from(percent)).div_ceil(100),
        }
    }
}

impl fmt::Display for MinHealthy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reals(number) => write!(f, "{number}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

impl Serialize for MinHealthy {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Reals(number) => serializer.serialize_u32(*number),
            Self::Percent(_) => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for MinHealthy {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl serde::de::Visitor<'_> for Visitor {
            type Value = MinHealthy;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of reals, 1 or more, or a percentage such as \"50%\"")
            }

            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<MinHealthy, E> {
                let wrong = || E::invalid_value(serde::de::Unexpected::Unsigned(number), &self);
                match u32::try_from(number) {
                    Ok(number @ 1..) => Ok(MinHealthy::Reals(number)),
                    _ => Err(wrong()),
                }
            }

            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<MinHealthy, E> {
                match u64::try_from(number) {
                    Ok(number) => self.visit_u64(number),
                    Err(_) => Err(E::invalid_value(serde::de::Unexpected::Signed(number), &self)),
                }
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<MinHealthy, E> {
                let percent = text.strip_suffix('%').and_then(|number| number.trim().parse().ok());
                match percent {
                    Some(percent @ 1..=100) => Ok(MinHealthy::Percent(percent)),
                    _ => Err(E::invalid_value(serde::de::Unexpected::Str(text), &self)),
                }
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

/// `flapping` of a VIP: a real whose health changes too often stays out for a time that grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Flapping {
    /// A real that failed more often than this within the window stays out.
    pub failures: u32,
    /// The window.
    #[cfg_attr(test, schemars(with = "super::schema::Time"))]
    #[serde(with = "duration")]
    pub window: Duration,
    /// How long it stays out the first time. Each further time takes twice as long.
    #[cfg_attr(test, schemars(with = "super::schema::Time"))]
    #[serde(with = "duration")]
    pub hold: Duration,
    /// The longest that it stays out.
    #[cfg_attr(test, schemars(with = "super::schema::Time"))]
    #[serde(with = "duration")]
    pub hold_at_most: Duration,
}

impl Default for Flapping {
    fn default() -> Self {
        Self {
            failures: 5,
            window: Duration::from_secs(600),
            hold: Duration::from_secs(60),
            hold_at_most: Duration::from_secs(1800),
        }
    }
}

/// What a VIP says about the health of its reals. These are keys of `[[vips]]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[non_exhaustive]
pub struct HealthPolicy {
    /// How its reals are checked. Default: not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<CheckChoice>,
    /// What happens to the flows of a real that is unhealthy.
    #[serde(default, skip_serializing_if = "is_default")]
    pub on_failure: OnFailure,
    /// If fewer reals are healthy, all that the operator has up are used.
    #[serde(default, skip_serializing_if = "is_default")]
    pub min_healthy: MinHealthy,
    /// Whether all reals are used if too few are healthy.
    #[serde(default = "yes", skip_serializing_if = "super::is_true")]
    pub fail_open: bool,
    /// How long a real that comes back takes until it has its share. Default: it has it at once.
    #[serde(default, with = "seconds", skip_serializing_if = "Option::is_none")]
    pub slow_start: Option<Duration>,
    /// How a real that changes too often is treated.
    #[serde(default, skip_serializing_if = "is_default")]
    pub flapping: Flapping,
}

impl HealthPolicy {
    /// Its check; `checks` are those that have a name.
    pub(crate) fn check_of<'a>(
        &'a self,
        checks: &'a BTreeMap<String, CheckConfig>,
    ) -> Option<&'a CheckConfig> {
        match self.check.as_ref()? {
            CheckChoice::Named(name) => checks.get(name),
            CheckChoice::Inline(check) => Some(check),
        }
    }
}

impl Default for HealthPolicy {
    fn default() -> Self {
        Self {
            check: None,
            on_failure: OnFailure::default(),
            min_healthy: MinHealthy::default(),
            fail_open: true,
            slow_start: None,
            flapping: Flapping::default(),
        }
    }
}

/// `[health]`: how `lbctl serve` runs checks.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct HealthConfig {
    /// How many checks run at a time.
    pub concurrency: u32,
    /// The first of the marks (`SO_MARK`) of packets of checks through the tunnel. Each real has one.
    pub first_mark: u32,
}

impl HealthConfig {
    /// The default of `first_mark`: "L4", then zeros.
    pub const FIRST_MARK: u32 = 0x4c34_0000;
}

impl Default for HealthConfig {
    fn default() -> Self {
        Self { concurrency: 512, first_mark: Self::FIRST_MARK }
    }
}

/// A duration as text, such as "5s", "500ms", "1m 30s".
pub(super) mod duration {
    use std::time::Duration;

    use serde::Deserialize;
    use serde::Deserializer;
    use serde::Serializer;

    pub(in crate::model::config) fn serialize<S: Serializer>(
        value: &Duration,
        s: S,
    ) -> Result<S::Ok, S::Error> {
        s.collect_str(&humantime::format_duration(*value))
    }

    pub(in crate::model::config) fn deserialize<'de, D: Deserializer<'de>>(
        d: D,
    ) -> Result<Duration, D::Error> {
        let text = String::deserialize(d)?;
        humantime::parse_duration(&text).map_err(|_| {
            let what = "a time with its unit, such as \"5s\", \"500ms\" or \"2m\"";
            serde::de::Error::invalid_value(serde::de::Unexpected::Str(&text), &what)
        })
    }
}

/// As [`duration`], for what may be left out.
pub(super) mod seconds {
    use std::time::Duration;

    use serde::Deserializer;
    use serde::Serializer;

    #[expect(clippy::ref_option, reason = "serde calls it like that")]
    pub(in crate::model::config) fn serialize<S: Serializer>(
        value: &Option<Duration>,
        s: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => super::duration::serialize(value, s),
            None => s.serialize_none(),
        }
    }

    pub(in crate::model::config) fn deserialize<'de, D: Deserializer<'de>>(
        d: D,
    ) -> Result<Option<Duration>, D::Error> {
        super::duration::deserialize(d).map(Some)
    }
}
