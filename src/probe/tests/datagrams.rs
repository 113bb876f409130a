//! `udp`, `dns` and `quic`.

use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::ring;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::UdpSocket;

use super::check;
use super::fails;
use super::run;
use crate::model::config::CheckKind;
use crate::model::config::DnsTransport;
use crate::probe::Class;
use crate::probe::Outcome;

/// A server that answers a datagram with these.
async fn server(answers: impl Fn(&[u8]) -> Vec<Vec<u8>> + Send + 'static) -> SocketAddr {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a socket");
    let address = socket.local_addr().expect("its address");
    tokio::spawn(async move {
        let mut buffer = vec![0; 65536];
        while let Ok((length, client)) = socket.recv_from(&mut buffer).await {
            for answer in answers(&buffer[..length]) {
                let _ = socket.send_to(&answer, client).await;
            }
        }
    });
    address
}

/// An address where nobody listens.
async fn nobody() -> SocketAddr {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a socket");
    socket.local_addr().expect("its address")
}

#[tokio::test]
async fn the_beginning_of_an_answer_decides() {
    let echo = server(|datagram| vec![datagram.to_vec()]).await;
    let mut udp = check(CheckKind::Udp);
    udp.send = Some("hex:70 69 6e 67".to_owned());
    assert_eq!(run(&udp, echo).await.outcome, Outcome::HEALTHY);
    udp.expect = Some("pin".to_owned());
    assert_eq!(run(&udp, echo).await.reason, "answer of 4 bytes");
    udp.expect = Some("pong".to_owned());
    assert_eq!(fails(&udp, echo).await.0, Class::Content);
}

#[tokio::test]
async fn silence_is_a_failure_unless_told_otherwise() {
    let mut udp = check(CheckKind::Udp);
    udp.timeout = Some(Duration::from_millis(200));
    let silent = server(|_| Vec::new()).await;
    let (class, reason) = fails(&udp, silent).await;
    assert_eq!((class, reason.as_str()), (Class::Timeout, "no answer in 200ms"));
    udp.silence_ok = true;
    assert_eq!(run(&udp, silent).await.outcome, Outcome::HEALTHY);
    let (class, reason) = fails(&udp, nobody().await).await;
    assert_eq!((class, reason.as_str()), (Class::Refused, "ICMP port unreachable"));
}

/// Version Negotiation as a server makes it from the ids of a datagram.
fn negotiation(datagram: &[u8]) -> Vec<u8> {
    let (destination, source) = (&datagram[6..14], &datagram[15..23]);
    [&[0x80, 0, 0, 0, 0, 8], source, &[8], destination, &1_u32.to_be_bytes()].concat()
}

#[tokio::test]
async fn version_negotiation_decides() {
    let mut quic = check(CheckKind::Quic);
    let good = server(|datagram| {
        assert_eq!(datagram.len(), 1200);
        // Others' answers come first, and are ignored.
        let mut other = negotiation(datagram);
        other[7] ^= 1;
        vec![vec![], b"noise".to_vec(), other, negotiation(datagram)]
    })
    .await;
    assert_eq!(run(&quic, good).await.reason, "Version Negotiation");
    quic.timeout = Some(Duration::from_millis(300));
    let echo = server(|datagram| vec![datagram.to_vec()]).await;
    assert_eq!(fails(&quic, echo).await.0, Class::Timeout);
    let flood = server(|datagram| vec![datagram.to_vec(); 100]).await;
    assert_ne!(fails(&quic, flood).await.0, Class::Ok);
    assert_eq!(fails(&quic, nobody().await).await.0, Class::Refused);
}

/// A DNS server that answers queries with these messages.
fn dns_answer(query: &[u8], code: u8) -> Vec<u8> {
    let mut answer = query.to_vec();
    answer[2] |= 0x80;
    answer[3] |= code;
    answer
}

#[tokio::test]
async fn the_response_code_decides() {
    let mut dns = check(CheckKind::Dns);
    dns.name = Some("example.org".to_owned());
    dns.transport = Some(DnsTransport::Udp);
    let good = server(|query| {
        // Others' answers come first, and are ignored.
        let mut other = dns_answer(query, 2);
        other[0] ^= 1;
        vec![vec![], query.to_vec(), other, dns_answer(query, 0)]
    })
    .await;
    let report = run(&dns, good).await;
    assert_eq!((report.outcome, report.reason.as_str()), (Outcome::HEALTHY, "DNS NOERROR"));
    let broken = server(|query| vec![dns_answer(query, 2)]).await;
    assert_eq!(fails(&dns, broken).await, (Class::Status, "DNS SERVFAIL".to_owned()));
    dns.rcode = Some("SERVFAIL".to_owned());
    assert!(run(&dns, broken).await.outcome.is_healthy());
    let flood = server(|query| vec![query.to_vec(); 100]).await;
    dns.timeout = Some(Duration::from_millis(500));
    assert_ne!(fails(&dns, flood).await.0, Class::Ok);
    assert_eq!(fails(&dns, nobody().await).await.1, "ICMP port unreachable");
}

#[tokio::test]
async fn dns_over_tcp_is_framed() {
    let mut dns = check(CheckKind::Dns);
    dns.name = Some("example.org".to_owned());
    dns.transport = Some(DnsTransport::Tcp);
    // What is sent before the answer, how much of it, and its response code.
    let by = |prefix: &'static [u8], most: usize, code: u8| {
        super::server(move |mut stream| async move {
            let Ok(length) = stream.read_u16().await else { return };
            let mut query = vec![0; usize::from(length)];
            if stream.read_exact(&mut query).await.is_err() {
                return;
            }
            let answer = [prefix, &length.to_be_bytes(), &dns_answer(&query, code)].concat();
            let _ = stream.write_all(&answer[..most.min(answer.len())]).await;
        })
    };
    assert!(run(&dns, by(b"", 1000, 0).await).await.outcome.is_healthy());
    assert_eq!(fails(&dns, by(b"", 1000, 5).await).await.1, "DNS REFUSED");
    assert_eq!(fails(&dns, by(b"", 20, 0).await).await.0, Class::Closed);
    assert_eq!(fails(&dns, by(b"", 0, 0).await).await.0, Class::Closed);
    assert_eq!(fails(&dns, by(b"\0\0", 1000, 0).await).await.0, Class::Protocol);
    assert_eq!(fails(&dns, by(b"\xff\xff", 1000, 0).await).await.0, Class::Closed);
}

#[tokio::test]
async fn a_real_quic_server_negotiates() {
    let key = rcgen::generate_simple_self_signed(vec!["www.example".to_owned()]).expect("a key");
    let private = PrivateKeyDer::try_from(key.signing_key.serialize_der()).expect("a key");
    let tls = rustls::ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("a version")
        .with_no_client_auth()
        .with_single_cert(vec![key.cert.der().clone()], private)
        .expect("a configuration");
    let crypto = quinn::crypto::rustls::QuicServerConfig::try_from(tls).expect("it fits QUIC");
    let config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    let endpoint =
        quinn::Endpoint::server(config, (Ipv4Addr::LOCALHOST, 0).into()).expect("a server");
    let report = run(&check(CheckKind::Quic), endpoint.local_addr().expect("its address")).await;
    assert_eq!(report.reason, "Version Negotiation", "{report:?}");
}
