//! Clients that send what makes no sense, too much, or nothing.

use std::io;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::thread;
use std::thread::sleep;
use std::time::Duration;
use std::time::Instant;

use super::VIPS;
use super::WEB;
use super::client::PATIENCE;
use super::client::Reply;
use super::client::Server;
use super::client::open;
use super::client::rest;
use crate::fixtures::Host;

/// A server whose VIPs are the same afterwards, and that has logged no warning.
fn on_server(test: impl FnOnce(&Server<'_>)) {
    let host = Host::new();
    let server = Server::start(host.lbctl(), VIPS);
    let before = server.get("/v1/vips").body;
    test(&server);
    assert_eq!(server.get("/v1/vips").is(200).body, before);
    let complaints = server.serve.running.stderr();
    assert!(!complaints.contains("WARN") && !complaints.contains("ERROR"), "{complaints}");
    server.serve.stop();
}

#[test]
fn methods_and_paths() {
    on_server(|server| {
        let real = format!("{WEB}/reals/10.0.0.1");
        for (path, allowed) in [
            ("/v1/status", "GET, HEAD"),
            ("/v1/vips", "GET, POST, HEAD"),
            (WEB, "GET, PUT, DELETE, HEAD"),
            (&real, "GET, PUT, PATCH, DELETE, HEAD"),
        ] {
            for method in ["OPTIONS", "TRACE", "BREW", "post", "COPY", "get"] {
                let reply = server.ask(method, path, None).is(405);
                assert_eq!(reply.header("allow"), Some(allowed), "{method} {path}");
                assert!(
                    reply.error().contains(&format!("{method} is not possible here: ")),
                    "{reply}"
                );
            }
        }
        server.ask("POST", WEB, Some("{}")).is(405);
        server.ask("DELETE", "/v1/vips", None).is(405);
        for path in [
            "/",
            "/v1/",
            "/v2/vips",
            "/v1/nothing",
            "/v1/vips/",
            "/v1//vips",
            "/v1/vips/tcp/10.200.1.1",
            "/v1/vips/tcp/10.200.1.1/80/",
            "/v1/../v1/vips",
            "/../../../../etc/passwd",
            "/v1/%2e%2e/%2e%2e/etc/passwd",
            "/v1/vips/tcp:%2f%2f10.200.1.1:80",
            "/v1/STATUS",
        ] {
            let reply = server.get(path).is(404);
            assert!(reply.error().contains("/v1/openapi.json tells what there is"), "{reply}");
        }
        for path in [
            "/v1/vips/%zz",
            "/v1/vips/%",
            "/v1/vips/%f",
            "/v1/%ff",
            "/v1/vips/tcp/10.200.1.1/%00",
            "/v1/vips/tcp/10.200.1.1/99999",
            "/v1/vips/tcp/%0a/80",
            "/v1/vips/sctp/10.200.1.1/80",
            "/v1/vips/tcp/..%2f..%2fetc/80",
            "/v1/status?%zz",
            "/v1/flows/count?vip=%ff",
            "/v1/flows/count?vip=tcp://10.200.1.1:80&vip=tcp://10.200.1.1:80",
        ] {
            let reply = server.get(path).is(400);
            assert!(!reply.error().contains('\0'), "{reply}");
        }
        let head = server.send(b"HEAD /v1/vips HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(head.starts_with("HTTP/1.1 200 ") && head.ends_with("\r\n\r\n"), "{head}");
        let old = server.send(b"GET /v1/version HTTP/1.0\r\n\r\n");
        assert!(old.contains("\"version\""), "{old}");
        let absolute = server.send(b"GET http://localhost/v1/version HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(absolute.starts_with("HTTP/1.1 200 "), "{absolute}");
        for etag in ["abc", "\"a", "W/x", ""] {
            let condition = format!("If-Match: {etag}\r\n");
            server.ask_if("DELETE", WEB, &condition, None).is(400).error();
        }
    });
}

#[test]
fn bodies_that_are_no_json() {
    on_server(|server| {
        let post = |headers: &str, body: &str| {
            let request = format!(
                "POST /v1/vips HTTP/1.1\r\nHost: a\r\n{headers}Content-Length: {}\r\n\r\n{body}",
                body.len()
            );
            Reply::parse(&server.send(request.as_bytes())).expect("an answer")
        };
        let form = "Content-Type: application/x-www-form-urlencoded\r\n";
        let reply = post(form, "{}").is(415);
        assert!(reply.error().contains("application/x-www-form-urlencoded; send JSON"), "{reply}");
        post("Content-Type: text/plain; charset=utf-8\r\n", "{}").is(415);
        post("Content-Type: \u{1}\r\n", "{}");
        post("Content-Type: application/json\r\nContent-Encoding: gzip\r\n", "{}").is(415);
        post("Content-Type: application/json; charset=utf-8\r\n", "{}").is(400);
        post("", "{}").is(400);
        let deep = "[".repeat(100_000);
        for body in ["\0", "\u{feff}{}", "nul", "\"", "{\"a\":1,}", "1e999999", &deep] {
            assert!(
                post("", body).is(400).error().starts_with("the body is no JSON"),
                "{body:.20}"
            );
        }
        let long = format!("{{\"{}\": 1}}", "x".repeat(500_000));
        assert!(post("", &long).is(400).error().len() < 2000, "errors are short");
    });
}

#[test]
fn huge_requests() {
    on_server(|server| {
        let long = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(100_000));
        let huge = format!("GET /v1/vips HTTP/1.1\r\nCookie: {}\r\n\r\n", "a".repeat(100_000));
        let many = format!("GET /v1/vips HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(10_000));
        for request in [
            b"\0\xff\x16\x03garbage\r\n\r\n".as_slice(),
            b"GET\r\n\r\n",
            b"GET /v1/vips HTTP/9.9\r\n\r\n",
            // HTTP/0.9, two lengths, and a chunk that never ends.
            b"GET /v1/vips\r\n\r\n",
            b"DELETE /v1/vips/tcp/10.200.1.1/80 HTTP/1.1\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\nx",
            b"DELETE /v1/vips/tcp/10.200.1.1/80 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n{",
            b"DELETE /v1/vips/tcp/10.200.1.1/80 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n{",
            b"GET /v1/vips HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            b"GET /v1/vips HTTP/1.1\r\n: none\r\n\r\n",
            long.as_bytes(),
            huge.as_bytes(),
            many.as_bytes(),
        ] {
            let answer = server.send(request);
            let shown = String::from_utf8_lossy(&request[..request.len().min(40)]);
            assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{shown}: {answer}");
        }
        // It says so before the body comes.
        let told = b"POST /v1/vips HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000000\r\n\r\n";
        assert!(server.send(told).starts_with("HTTP/1.1 413 "));
        let mut stream = open(&server.socket(), b"PUT /v1/vips/tcp/10.200.1.1/80 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
        let chunk = format!("{:x}\r\n{}\r\n", 1 << 16, " ".repeat(1 << 16));
        while stream.write_all(chunk.as_bytes()).is_ok() {}
        let mut answer = String::new();
        let _: io::Result<usize> = io::Read::read_to_string(&mut stream, &mut answer);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 413 "), "{answer}");
        // A body in chunks is as good as another.
        let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
        let (first, second) =
            ("{ \"address\": \"10.200.1.5\", ", "\"port\": 80, \"protocol\": \"tcp\" }");
        let chunked =
            "POST /v1/vips?dry_run=true HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        let chunked = format!("{chunked}{}{}0\r\n\r\n", chunk(first), chunk(second));
        let answer = server.send(chunked.as_bytes());
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        let broken =
            b"POST /v1/vips HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n";
        let answer = server.send(broken);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{answer}");
    });
}

/// Only the first of several requests is answered: a change behind it is not made.
#[test]
fn pipelined_requests() {
    on_server(|server| {
        let get = b"GET /v1/version HTTP/1.1\r\nHost: a\r\n\r\n";
        let delete = format!("DELETE {WEB} HTTP/1.1\r\nHost: a\r\n\r\n");
        let answer = server.send(&[get.as_slice(), delete.as_bytes()].concat());
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
    });
}

#[test]
fn clients_that_say_nothing_or_little() {
    on_server(|server| {
        let socket = server.socket();
        let (get, put) =
            ("GET /v1/vips HTTP/1.1\r\nHo", format!("PUT {WEB} HTTP/1.1\r\nHost: a\r\n"));
        let put = format!("{put}Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{{");
        let mut waiting: Vec<UnixStream> = (0..150).map(|_| open(&socket, b"")).collect();
        server.get("/v1/vips").is(200);
        waiting.extend((0..150).map(|_| open(&socket, get.as_bytes())));
        server.get("/v1/vips").is(200);
        waiting.extend((0..150).map(|_| open(&socket, put.as_bytes())));
        let start = Instant::now();
        server.get("/v1/vips").is(200);
        let dry = server.ask("DELETE", &format!("{WEB}?dry_run=true"), None);
        dry.is(200);
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
        // Drips of a head and of a body.
        let drip = |stream: UnixStream| {
            let mut stream = stream;
            while stream.write_all(b" ").is_ok() && start.elapsed() < PATIENCE {
                sleep(Duration::from_millis(300));
            }
        };
        thread::scope(|scope| {
            for stream in [open(&socket, get.as_bytes()), open(&socket, put.as_bytes())] {
                scope.spawn(move || drip(stream));
            }
        });
        for stream in waiting {
            let answer = rest(stream);
            assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{answer}");
        }
        assert!(start.elapsed() < PATIENCE, "{:?}", start.elapsed());
    });
}
