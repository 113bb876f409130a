//! What the API shows is what `lbctl … --json` prints, and as docs/openapi.json says.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use serde_json::Value;
use serde_json::json;

use super::VIPS;
use super::WEB;
use super::client::Server;
use super::schema::Description;
use crate::fixtures::Host;
use crate::fixtures::json as json_of;

/// A template with the first VIP and its first real.
fn path_of(template: &str) -> String {
    template
        .replace("{protocol}", "tcp")
        .replace("{address}", "10.200.1.1")
        .replace("{port}", "80")
        .replace("{real}", "10.0.0.1")
}

#[test]
fn every_route_answers_as_described() {
    let host = Host::new();
    let server = Server::start(host.lbctl(), VIPS);
    let description = Description::read();
    let mut seen = BTreeSet::new();
    let mut ask = |method: &str, template: &str, body: Option<&str>, status: u16| {
        seen.insert((method.to_owned(), template.to_owned()));
        let reply = server.ask(method, &path_of(template), body).is(status);
        description.check(method, template, status, &reply.body);
        reply
    };
    for (method, path) in description.operations() {
        if method == "GET" {
            ask("GET", &path, None, 200);
        }
    }
    let vips = "/v1/vips";
    let (vip, reals) = (format!("{vips}/{{protocol}}/{{address}}/{{port}}"), "reals");
    let (reals, real) = (format!("{vip}/{reals}"), format!("{vip}/{reals}/{{real}}"));
    let added = r#"{ "address": "10.200.1.9", "port": 0, "protocol": "udp", "hash": "no-source-port",
        "echo": "never", "reals": [{ "address": "10.0.0.1", "weight": 3 }] }"#;
    let reply = ask("POST", vips, Some(added), 201);
    assert_eq!(reply.header("location"), Some("/v1/vips/udp/10.200.1.9/0"));
    ask("POST", vips, Some(added), 409);
    ask("POST", vips, Some("{}"), 400);
    ask("PATCH", &real, Some(r#"{ "state": "drain" }"#), 200);
    ask("PUT", &real, Some(r#"{ "weight": 2 }"#), 200);
    ask("POST", &reals, Some(r#"{ "address": "10.0.0.9" }"#), 201);
    ask("POST", &reals, Some(r#"{ "address": "10.0.0.9" }"#), 409);
    let everywhere = "/v1/reals/{real}";
    ask("PATCH", everywhere, Some(r#"{ "state": "undrain" }"#), 200);
    ask("PATCH", &real, Some(r#"{ "state": "down" }"#), 200);
    ask("PATCH", &real, Some(r#"{ "state": "undrain" }"#), 409);
    let health = format!("{real}/health");
    let told = r#"{ "health": "unhealthy", "reason": "maintenance", "for": "1h" }"#;
    ask("PUT", &health, Some(told), 200);
    ask("GET", &health, None, 200);
    ask("GET", "/v1/health", None, 200);
    ask("DELETE", &health, None, 200);
    ask("PATCH", "/v1/node", Some(r#"{ "draining": true }"#), 200);
    ask("GET", "/v1/node", None, 200);
    ask("PATCH", "/v1/node", Some(r#"{ "draining": false }"#), 200);
    ask("PATCH", "/v1/node", None, 400);
    ask("DELETE", &real, None, 200);
    ask("DELETE", &real, None, 404);
    for method in ["GET", "DELETE"] {
        ask(method, &health, None, 404);
    }
    ask("PUT", &health, Some(told), 404);
    ask("GET", &real, None, 404);
    ask("PUT", &real, None, 201);
    ask("PUT", &vip, Some(r#"{ "reals": [] }"#), 200);
    ask("DELETE", everywhere, None, 200);
    ask("DELETE", everywhere, None, 404);
    ask("GET", everywhere, None, 404);
    ask("PATCH", everywhere, Some(r#"{ "weight": 2 }"#), 404);
    ask("DELETE", &vip, None, 200);
    ask("DELETE", &vip, None, 404);
    ask("GET", &vip, None, 404);
    ask("PUT", &vip, None, 201);
    let all: BTreeSet<_> = description.operations().into_iter().collect();
    assert_eq!(seen, all, "these operations are tried");
    let with_status = server.get("/v1/status").json();
    assert_eq!(with_status["serve"]["control"]["listening"], true, "{with_status:#}");
    server.serve.stop();
}

#[test]
fn it_shows_what_commands_print() {
    let host = Host::new();
    let server = Server::start(host.lbctl(), VIPS);
    let lbctl = |arguments: &[&str]| json_of(&host.lbctl().ok(arguments));
    for (path, command) in [
        ("/v1/vips", vec!["vip", "list", "--json"]),
        ("/v1/reals", vec!["real", "list", "--json"]),
        ("/v1/config", vec!["save", "--json"]),
        ("/v1/stats", vec!["stats", "--json"]),
        ("/v1/flows/count", vec!["flows", "count", "--json"]),
        ("/v1/flows/count?by=cpu&state=stale", vec!["flows", "count", "--by", "cpu", "--json"]),
    ] {
        let reply = server.get(path).is(200);
        let printed = host.lbctl().ok(&command).stdout;
        if path.contains('?') {
            assert_eq!(reply.json()["by"], "cpu");
            continue;
        }
        assert_eq!(reply.body, printed, "{path} and lbctl {}", command.join(" "));
    }
    // Parts of these.
    let vips = lbctl(&["vip", "list", "--json"]);
    assert_eq!(server.get(WEB).json(), vips[0]);
    assert_eq!(server.get("/v1/vips/udp/fc00:1::2/443").json(), vips[1]);
    let reals = lbctl(&["real", "list", "tcp://10.200.1.1:80", "--json"]);
    assert_eq!(server.get(&format!("{WEB}/reals")).json(), reals[0]["reals"]);
    assert_eq!(server.get(&format!("{WEB}/reals/fc00::3")).json(), reals[0]["reals"][2]);
    assert_eq!(server.get(&format!("{WEB}/reals/FC00::0:3")).json(), reals[0]["reals"][2]);
    // What changes all the time has the same keys at least.
    let keys =
        |value: &Value| value.as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
    let (shown, printed) = (server.get("/v1/status").json(), lbctl(&["status", "--json"]));
    assert_eq!(keys(&shown), keys(&printed));
    assert_eq!(shown["serve"], printed["serve"]);
    let socket = server.socket();
    assert_eq!(printed["serve"]["control"]["socket"], socket.to_str().expect("a path"));
    let status = host.lbctl().ok(&["status"]).stdout;
    assert!(status.contains(&format!("\ncontrol API  {}\n", socket.display())), "{status}");

    let version = server.get("/v1/version").json();
    assert_eq!(
        (&version["instance"], &version["version"]),
        (&json!("default"), &json!(env!("CARGO_PKG_VERSION")))
    );
    assert_eq!(server.get("/v1").json()["openapi"], "/v1/openapi.json");
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/openapi.json");
    assert_eq!(server.get("/v1/openapi.json").body, fs::read_to_string(file).expect("read it"));
    server.serve.stop();
}

#[test]
fn etags_say_whether_anything_changed() {
    let host = Host::new();
    let server = Server::start(host.lbctl(), VIPS);
    let (before, real) = (server.get("/v1/vips").etag(), format!("{WEB}/reals/10.0.0.1"));
    for path in [WEB, "/v1/config", "/v1/reals", &format!("{WEB}/reals"), &real] {
        assert_eq!(server.get(path).etag(), before, "{path}: one version for all");
    }
    for path in ["/v1/vips", WEB] {
        let known = format!("If-None-Match: \"other\", {before}\r\n");
        let reply = server.ask_if("GET", path, &known, None).is(304);
        assert_eq!((reply.body.as_str(), reply.etag()), ("", before.clone()));
        server.ask_if("GET", path, "If-None-Match: \"other\"\r\n", None).is(200);
    }
    let told = server.ask("PATCH", &real, Some(r#"{ "weight": 9 }"#)).is(200).etag();
    assert_ne!(told, before);
    assert_eq!(server.get(WEB).etag(), told, "an answer to a change has the new one");
    host.lbctl().ok(&["real", "weight", "tcp://10.200.1.1:80", "10.0.0.1", "1"]);
    assert_eq!(server.get("/v1/vips").etag(), before, "it says what is, not how it came");
    server.serve.stop();
}

#[test]
fn readiness_is_that_of_readyz() {
    let host = Host::new();
    let mut server = Server::start(host.lbctl(), VIPS);
    let description = Description::read();
    let ask = |server: &Server<'_>, query: &str, status: u16| {
        let reply = server.get(&format!("/v1/readiness{query}")).is(status);
        description.check("GET", "/v1/readiness", status, &reply.body);
        reply.json()
    };
    assert_eq!(ask(&server, "", 200), json!({ "ready": true, "notes": [] }));
    server.serve.reload("no TOML", "not reloaded");
    let noted = ask(&server, "", 200);
    assert!(
        noted["notes"][0].as_str().is_some_and(|note| note.contains("last reload failed")),
        "{noted}"
    );
    assert_eq!(ask(&server, "?strict=true", 503)["ready"], false);
    host.ns.shell("ip link set uplink down");
    let not = ask(&server, "", 503);
    assert!(not["error"].as_str().is_some_and(|why| why.contains("uplink: it is down")), "{not}");
    server.serve.stop();
}

/// `lbctl down` and `apply` while it serves.
#[test]
fn an_instance_may_go_and_come() {
    let host = Host::new();
    let server = Server::start(host.lbctl(), VIPS);
    host.lbctl().ok(&["down"]);
    let description = Description::read();
    for (method, template) in description.operations() {
        let path = path_of(&template);
        if ["/v1", "/v1/openapi.json", "/v1/version"].contains(&path.as_str()) {
            server.ask(&method, &path, None).is(200);
            continue;
        }
        // It prints what the command says.
        if path == "/v1/output" {
            let printed = server.get(&path).is(200).json();
            let stderr = printed["stderr"].as_str().expect("text");
            assert!(stderr.starts_with("error: instance 'default' does not run"), "{stderr}");
            assert_eq!(printed["exit_code"], 1);
            continue;
        }
        let body = match method.as_str() {
            "POST" if path.ends_with("reals") => Some(r#"{ "address": "10.0.0.1" }"#),
            "POST" => Some(r#"{ "address": "10.200.1.1", "port": 80, "protocol": "tcp" }"#),
            "PUT" if path.ends_with("health") => Some(r#"{ "health": "healthy" }"#),
            "PATCH" if path.ends_with("node") => Some(r#"{ "draining": true }"#),
            "PATCH" => Some(r#"{ "weight": 1 }"#),
            _ => None,
        };
        let reply = server.ask(&method, &path, body).is(503);
        description.check(&method, &template, 503, &reply.body);
        if path != "/v1/readiness" {
            assert!(reply.error().contains("instance 'default' does not run"), "{reply}");
        }
    }
    host.lbctl().apply(&Server::config(&server.socket(), VIPS));
    server.get(WEB).is(200);
    server.serve.stop();
}

/// Every command that docs/api.md shows does what the page says.
#[test]
fn commands_of_the_page_work() {
    let host = Host::new();
    let vip = crate::fixtures::vip("tcp://10.200.1.1:80", &["10.0.1.1", "10.0.2.1"]);
    let server = Server::start(host.lbctl(), &vip);
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/api.md"));
    let page = page.expect("read the page");
    let blocks = page.split("\n```sh\n").skip(1).map(|block| block.split("\n```").next());
    let mut requests = 0;
    for block in blocks.flatten() {
        requests += block.matches("curl -s ").count();
        let script = block
            .replace("/run/l4lb/default.sock", server.socket().to_str().expect("a path"))
            .replace("curl -s ", "curl -sS --fail-with-body ");
        let run = Command::new("bash").args(["-euo", "pipefail", "-c", &script]).output();
        let output = run.expect("run bash");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let complaints = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{script}\n{text}\n{complaints}");
        let mut answers = serde_json::Deserializer::from_str(&text).into_iter::<Value>();
        assert!(answers.all(|answer| answer.is_ok()), "{text}");
    }
    assert!(requests >= 12, "{requests} requests");
    let real = server.get("/v1/vips/tcp/10.200.1.1/80/reals/10.0.1.1").json();
    assert_eq!(real["weight"], 3, "the last one");
    server.get("/v1/vips/tcp/10.200.1.9/443").is(404);
    server.serve.stop();
}

/// Everything that the API can do is on the page.
#[test]
fn the_page_names_every_path() {
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/api.md"));
    let page = page.expect("read the page");
    for (method, template) in Description::read().operations() {
        let vip = "/v1/vips/{protocol}/{address}/{port}";
        let short = template.replace(vip, "/v1/vips/…").replace("{real}", "…");
        let named = page.contains(&format!("`{method} {short}`"))
            || method == "GET" && page.contains(&short.replace("/reals/…", "/reals/10.0.0.1"))
            || method == "GET"
                && page.contains(&short.replace("/v1/reals/…", "/v1/reals/10.0.0.1"))
            || template == "/v1"
            || template == vip && page.contains("`/v1/vips/tcp/10.200.1.1/80`");
        assert!(named, "{method} {short}");
    }
}
