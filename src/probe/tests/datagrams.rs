//! `udp` and `quic`.

use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::UdpSocket;

use super::check;
use super::fails;
use super::run;
use crate::model::config::CheckKind;
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
