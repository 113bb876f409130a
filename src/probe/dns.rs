//! `dns`: a query is answered with the expected response code.

use simple_dns::CLASS;
use simple_dns::Name;
use simple_dns::Packet;
use simple_dns::PacketFlag;
use simple_dns::QCLASS;
use simple_dns::QTYPE;
use simple_dns::Question;
use simple_dns::TYPE;
use simple_dns::header_buffer;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;

use super::MAX_READ;
use super::connect;
use super::failure::Failure;
use super::failure::Success;
use super::report::Class;
use super::session::Session;
use super::udp;
use crate::model::address::Protocol;
use crate::model::config::CheckConfig;
use crate::model::config::DnsTransport;
use crate::model::error::CheckError;
use crate::model::text::quote;

/// Bytes of the header of a message (RFC 1035, section 4.1.1).
const HEADER: usize = 12;

/// How many datagrams that are no answer are looked at.
const MAX_STRANGE: usize = 64;

/// Types of records by their names (RFC 1035 and later). Others are written as numbers, `TYPE65`.
const RECORDS: [(&str, u16); 22] = [
    ("A", 1),
    ("NS", 2),
    ("CNAME", 5),
    ("SOA", 6),
    ("PTR", 12),
    ("HINFO", 13),
    ("MX", 15),
    ("TXT", 16),
    ("AAAA", 28),
    ("LOC", 29),
    ("SRV", 33),
    ("NAPTR", 35),
    ("DNAME", 39),
    ("DS", 43),
    ("SSHFP", 44),
    ("DNSKEY", 48),
    ("TLSA", 52),
    ("SVCB", 64),
    ("HTTPS", 65),
    ("SPF", 99),
    ("CAA", 257),
    ("ANY", 255),
];

/// Response codes by their names (RFC 6895).
const RCODES: [&str; 11] = [
    "NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "YXDOMAIN", "YXRRSET",
    "NXRRSET", "NOTAUTH", "NOTZONE",
];

/// A DNS check.
#[derive(Debug)]
pub(super) struct Dns {
    /// The message, with an id of zero.
    query: Vec<u8>,
    /// What is asked, for people.
    shown: String,
    rcode: u8,
    transport: Option<DnsTransport>,
}

impl Dns {
    pub(super) fn new(config: &CheckConfig) -> Result<Self, CheckError> {
        let name = config.name.as_deref().ok_or(CheckError::Missing { key: "name" })?;
        let record = record(config.record())?;
        let wrong = || {
            let why = format!("'{}' is no name of the DNS; write it like example.org", quote(name));
            CheckError::wrong("name", why)
        };
        let bare = name.strip_suffix('.').unwrap_or(name);
        // The root has no labels, and other names have no empty ones.
        if bare.split('.').any(str::is_empty) && !bare.is_empty() {
            return Err(wrong());
        }
        let labels = if bare.is_empty() { Ok(Name::new_with_labels(&[])) } else { Name::new(bare) };
        let labels = labels.map_err(|_| wrong())?;
        let mut packet = Packet::new_query(0);
        packet.set_flags(PacketFlag::RECURSION_DESIRED);
        packet.questions.push(Question::new(labels, record, QCLASS::CLASS(CLASS::IN), false));
        let query = packet.build_bytes_vec().map_err(|_| wrong())?;
        let shown = format!("{} {}", quote(name), config.record());
        Ok(Self { query, shown, rcode: rcode(config.rcode())?, transport: config.transport })
    }
}

fn record(text: &str) -> Result<QTYPE, CheckError> {
    let upper = text.to_ascii_uppercase();
    let number = RECORDS
        .iter()
        .find(|(name, _)| *name == upper)
        .map(|(_, number)| *number)
        .or_else(|| upper.strip_prefix("TYPE").unwrap_or(&upper).parse().ok());
    let kind = number.map(|number| match number {
        255 => QTYPE::ANY,
        number => QTYPE::TYPE(TYPE::from(number)),
    });
    kind.ok_or_else(|| {
        let why = format!("'{}' is no type of record; write A, AAAA, SOA or TYPE65", quote(text));
        CheckError::wrong("record", why)
    })
}

fn rcode(text: &str) -> Result<u8, CheckError> {
    let upper = text.to_ascii_uppercase();
    let known = RCODES.iter().position(|name| *name == upper);
    known.and_then(|code| u8::try_from(code).ok()).ok_or_else(|| {
        let why =
            format!("'{}' is no response code; write one of {}", quote(text), RCODES.join(", "));
        CheckError::wrong("rcode", why)
    })
}

pub(super) async fn run(session: &mut Session, dns: &Dns) -> Result<Success, Failure> {
    let mut id = [0; 2];
    getrandom::fill(&mut id).map_err(|_| Failure::local("this host has no random numbers"))?;
    let mut query = dns.query.clone();
    query[..2].copy_from_slice(&id);
    let by_protocol = match session.vip.protocol {
        Protocol::Tcp => DnsTransport::Tcp,
        Protocol::Udp => DnsTransport::Udp,
    };
    let code = match dns.transport.unwrap_or(by_protocol) {
        DnsTransport::Udp => over_udp(session, dns, &query).await?,
        DnsTransport::Tcp => over_tcp(session, dns, &query).await?,
    };
    let name = match RCODES.get(usize::from(code)) {
        Some(name) => format!("DNS {name}"),
        None => format!("DNS response code {code}"),
    };
    session.step("answer", || name.clone());
    if code == dns.rcode { Ok(Success::new(name)) } else { Err(Failure::new(Class::Status, name)) }
}

async fn over_udp(session: &mut Session, dns: &Dns, query: &[u8]) -> Result<u8, Failure> {
    let socket = connect::udp(session)?;
    session.wait_for("no answer to the query");
    udp::send(session, &socket, query).await?;
    session.step("query", || dns.shown.clone());
    let mut buffer = vec![0; udp::MAX_DATAGRAM];
    for _ in 0..MAX_STRANGE {
        let length = udp::receive(session.target, &socket, &mut buffer).await?;
        if let Some(code) = judge(query, &buffer[..length]) {
            return Ok(code);
        }
        session.step("ignored", || format!("{length} bytes that answer something else"));
    }
    Err(Failure::new(Class::Protocol, format!("{MAX_STRANGE} datagrams, none an answer")))
}

async fn over_tcp(session: &mut Session, dns: &Dns, query: &[u8]) -> Result<u8, Failure> {
    let mut stream = connect::tcp(session).await?;
    let target = session.target;
    let there = |error| Failure::of_peer(&error, target);
    session.wait_for("no answer to the query");
    let length = u16::try_from(query.len()).unwrap_or(u16::MAX);
    let message = [&length.to_be_bytes()[..], query].concat();
    stream.write_all(&message).await.map_err(there)?;
    session.step("query", || dns.shown.clone());
    let length = usize::from(stream.read_u16().await.map_err(there)?);
    let mut answer = vec![0; length.min(MAX_READ)];
    stream.read_exact(&mut answer).await.map_err(there)?;
    judge(query, &answer)
        .ok_or_else(|| Failure::new(Class::Protocol, "the answer is to another query, or no DNS"))
}

/// The response code of an answer to the query; `None` if it is none.
fn judge(query: &[u8], answer: &[u8]) -> Option<u8> {
    let asked = query.get(HEADER..)?;
    let rest = answer.get(HEADER..)?;
    let is_answer = header_buffer::id(answer).ok()? == header_buffer::id(query).ok()?
        && header_buffer::has_flags(answer, PacketFlag::RESPONSE).ok()?;
    let code = answer[3] & 0xf;
    let same = match header_buffer::questions(answer).ok()? {
        // A server that did not understand the query, or does not want it, need not repeat it.
        0 => code != 0,
        1 => rest.get(..asked.len()).is_some_and(|repeated| repeated.eq_ignore_ascii_case(asked)),
        _ => false,
    };
    (is_answer && same).then_some(code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::config::CheckKind;

    fn check(name: &str) -> CheckConfig {
        let mut config = CheckConfig::new(CheckKind::Dns);
        config.name = Some(name.to_owned());
        config
    }

    #[test]
    fn a_query_is_what_the_check_says() {
        let mut config = check("Ex.org.");
        config.record = Some("aaaa".to_owned());
        let query = Dns::new(&config).expect("a query").query;
        assert_eq!(query, b"\0\0\x01\0\0\x01\0\0\0\0\0\0\x02Ex\x03org\0\0\x1c\0\x01");
        let root = Dns::new(&check(".")).expect("a query").query;
        assert_eq!(root[HEADER..], *b"\0\0\x01\0\x01");
        config.record = Some("TYPE65280".to_owned());
        assert!(Dns::new(&config).expect("a query").query.ends_with(b"\xff\0\0\x01"));
        config.record = Some("any".to_owned());
        assert!(Dns::new(&config).expect("a query").query.ends_with(b"\0\xff\0\x01"));
    }

    #[test]
    fn what_is_no_query_is_refused() {
        for name in ["a..b", "..", &"x".repeat(64), &"abc.".repeat(80)] {
            let error = Dns::new(&check(name)).expect_err(name).to_string();
            assert!(error.starts_with("name: "), "{error}");
        }
        let mut config = check("example.org");
        config.record = Some("FOO".to_owned());
        assert!(Dns::new(&config).expect_err("no type").to_string().starts_with("record: "));
        config.record = None;
        config.rcode = Some("OK".to_owned());
        assert!(Dns::new(&config).expect_err("no code").to_string().starts_with("rcode: "));
        config.name = None;
        assert!(Dns::new(&config).expect_err("no name").to_string().starts_with("name: "));
    }

    #[test]
    fn only_the_answer_to_the_question_counts() {
        let mut query = Dns::new(&check("example.org")).expect("a query").query;
        query[..2].copy_from_slice(&[7, 9]);
        let with = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut answer = query.clone();
            answer[2] |= 0x80;
            change(&mut answer);
            judge(&query, &answer)
        };
        assert_eq!(with(&|_| ()), Some(0));
        assert_eq!(with(&|answer| answer[3] |= 2), Some(2));
        assert_eq!(with(&|answer| answer[HEADER + 1] = b'E'), Some(0));
        assert_eq!(with(&|answer| answer.extend([0xff; 100])), Some(0));
        let refused = |answer: &mut Vec<u8>| {
            answer.truncate(HEADER);
            (answer[3], answer[5]) = (5, 0);
        };
        assert_eq!(with(&refused), Some(5));
        for (what, change) in [
            ("id", (|answer| answer[1] = 8) as fn(&mut Vec<u8>)),
            ("query", |answer| answer[2] &= 0x7f),
            ("name", |answer| answer[HEADER + 1] = b'f'),
            ("type", |answer| answer[HEADER + 14] = 2),
            ("two questions", |answer| answer[5] = 2),
            ("no question", |answer| answer[5] = 0),
            ("short", |answer| answer.truncate(20)),
            ("header", |answer| answer.truncate(11)),
            ("nothing", Vec::clear),
        ] {
            assert_eq!(with(&change), None, "{what}");
        }
        assert_eq!(judge(&query, &query), None);
    }
}
