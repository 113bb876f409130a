//! `http`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::check;
use super::fails;
use super::nobody;
use super::run;
use super::server;
use crate::model::config::CheckKind;
use crate::model::config::StatusRange;
use crate::probe::Class;
use crate::probe::Outcome;

/// A server that reads a request and answers with this.
async fn answers(answer: impl AsRef<[u8]> + Clone + Send + Sync + 'static) -> SocketAddr {
    server(move |mut stream| {
        let answer = answer.clone();
        async move {
            request(&mut stream).await;
            let _ = stream.write_all(answer.as_ref()).await;
        }
    })
    .await
}

/// Reads a request.
async fn request(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    while !text.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => text.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(text).expect("it is text")
}

#[tokio::test]
async fn the_status_decides() {
    let http = check(CheckKind::Http);
    let ok = answers("HTTP/1.1 204 No Content\r\n\r\n").await;
    let report = run(&http, ok).await;
    assert_eq!((report.outcome, report.reason.as_str()), (Outcome::HEALTHY, "HTTP 204"));
    let steps: Vec<_> = report.steps.iter().map(|step| step.name).collect();
    assert_eq!(steps, ["route", "source", "connected", "request", "status", "body", "verdict"]);

    let busy = answers("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(fails(&http, busy).await, (Class::Status, "HTTP 503".to_owned()));
    let mut any = http.clone();
    any.status = vec![StatusRange { first: 500, last: 599 }];
    assert!(run(&any, busy).await.outcome.is_healthy());
    assert_eq!(fails(&any, ok).await, (Class::Status, "HTTP 204".to_owned()));
}

#[tokio::test]
async fn the_text_decides() {
    let mut http = check(CheckKind::Http);
    http.text = Some("all well".to_owned());
    let chunked =
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nall \r\n4\r\nwell\r\n0\r\n\r\n";
    assert!(run(&http, answers(chunked).await).await.outcome.is_healthy());
    let other = answers("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nall ill.").await;
    let (class, reason) = fails(&http, other).await;
    assert_eq!(
        (class, reason.as_str()),
        (Class::Content, "the expected text is not in the answer")
    );
    // Text behind the bound is not looked for.
    let body = format!("{}all well", "x".repeat(64 * 1024));
    let long = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    assert_eq!(fails(&http, answers(long).await).await.0, Class::Content);
}

#[tokio::test]
async fn the_request_is_what_the_check_says() {
    let seen = Arc::new(Mutex::new(String::new()));
    let inside = Arc::clone(&seen);
    let server = server(move |mut stream| {
        let seen = Arc::clone(&inside);
        async move {
            let text = request(&mut stream).await;
            *seen.lock().expect("nobody panics") = text.to_ascii_lowercase();
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
        }
    })
    .await;
    let mut http = check(CheckKind::Http);
    assert!(run(&http, server).await.outcome.is_healthy());
    let text = seen.lock().expect("nobody panics").clone();
    assert!(text.starts_with("get / http/1.1\r\n"), "{text}");
    for header in [format!("\r\nhost: {server}\r\n"), "\r\nconnection: close\r\n".to_owned()] {
        assert!(text.contains(&header), "{text}");
    }
    http.method = Some("HEAD".to_owned());
    http.path = Some("/health?full=1".to_owned());
    http.host = Some("www.example".to_owned());
    http.headers.insert("X-Token".to_owned(), "abc".to_owned());
    assert!(run(&http, server).await.outcome.is_healthy());
    let text = seen.lock().expect("nobody panics").clone();
    assert!(text.starts_with("head /health?full=1 http/1.1\r\n"), "{text}");
    for header in ["\r\nhost: www.example\r\n", "\r\nx-token: abc\r\n"] {
        assert!(text.contains(header), "{text}");
    }
}

#[tokio::test]
async fn liars_are_found() {
    let http = check(CheckKind::Http);
    let huge_header = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(200_000));
    let many_headers = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(500));
    let endless_1xx = "HTTP/1.1 100 Continue\r\n\r\n".repeat(100_000);
    for (answer, class) in [
        ("SSH-2.0-OpenSSH_9.2\r\n".to_owned(), Class::Protocol),
        ("HTTP/1.1 99999 OK\r\n\r\n".to_owned(), Class::Protocol),
        ("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n".to_owned(), Class::Protocol),
        ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort".to_owned(), Class::Closed),
        ("HTTP/1.1 200 OK\r\nX: y".to_owned(), Class::Closed),
        (String::new(), Class::Closed),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n".to_owned(), Class::Protocol),
        (huge_header, Class::Protocol),
        (many_headers, Class::Protocol),
        (endless_1xx, Class::Protocol),
    ] {
        let shown: String = answer.chars().take(60).collect();
        let (found, reason) = fails(&http, answers(answer).await).await;
        assert_eq!(found, class, "{shown}: {reason}");
    }
    assert_eq!(
        fails(&http, nobody().await).await,
        (Class::Refused, "connection refused".to_owned())
    );
}

#[tokio::test]
async fn slow_servers_run_out_of_time() {
    let mut http = check(CheckKind::Http);
    http.timeout = Some(Duration::from_millis(300));
    for (begin, reason) in [
        ("HTTP/1.1 200 O", "no answer to the request in 300ms"),
        ("HTTP/1.1 200 OK\r\n", "no answer to the request in 300ms"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", "no end of the answer in 300ms"),
    ] {
        let drips = server(move |mut stream| async move {
            request(&mut stream).await;
            let _ = stream.write_all(begin.as_bytes()).await;
            while stream.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        assert_eq!(fails(&http, drips).await, (Class::Timeout, reason.to_owned()));
    }
}

#[tokio::test]
async fn an_endless_body_is_cut() {
    let endless = server(|mut stream| async move {
        request(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
        while stream.write_all(&[b'x'; 4096]).await.is_ok() {}
    })
    .await;
    assert!(run(&check(CheckKind::Http), endless).await.outcome.is_healthy());
}

#[test]
fn what_makes_no_request_is_refused() {
    use crate::probe::Prepared;
    for (key, change) in [
        ("method", (|c| c.method = Some("G T".to_owned())) as fn(&mut crate::CheckConfig)),
        ("path", |c| c.path = Some("health".to_owned())),
        ("path", |c| c.path = Some("/a b".to_owned())),
        ("path", |c| c.path = Some("http://other.example/".to_owned())),
        ("host", |c| c.host = Some("a\r\nb".to_owned())),
        ("headers", |c| drop(c.headers.insert("a b".to_owned(), String::new()))),
        ("headers", |c| drop(c.headers.insert("a".to_owned(), "b\n".to_owned()))),
    ] {
        let mut config = check(CheckKind::Http);
        change(&mut config);
        let error = Prepared::new(&config).expect_err(key).to_string();
        assert!(error.starts_with(key) && !error.contains('\n'), "{error}");
    }
}
