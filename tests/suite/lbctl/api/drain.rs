//! Drains of reals and of the node: a client asks again and again how much is left.

use std::path::Path;

use serde_json::Value;
use serde_json::json;

use super::VIPS;
use super::WEB;
use super::client::PATIENCE;
use super::client::Reply;
use super::client::Server;
use super::client::ask_at;
use super::schema::Description;
use crate::fixtures::Host;
use crate::fixtures::METRICS;
use crate::fixtures::Rig;
use crate::fixtures::Serve;
use crate::fixtures::config;
use crate::fixtures::get;
use crate::fixtures::goes_on;
use crate::fixtures::json as json_of;
use crate::fixtures::vip;
use crate::fixtures::wait_until;

/// A client's whole drain, with a connection that goes on for a while.
#[test]
fn a_client_waits_for_flows_and_packets() {
    let rig = Rig::new(2);
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("a.sock");
    let control = format!("[control]\nsocket = \"{}\"\n", socket.display());
    let vips = vip("tcp://10.200.1.1:80", &["10.0.0.1", "10.0.0.2"]);
    let mut serve = Serve::start(rig.lbctl(), &config(&(control + &vips)));
    serve.running.wait_for("control API at ");
    let description = Description::read();
    let ask = |method: &str, path: &str, body: Option<&str>| -> Reply {
        ask_at(Path::new(&socket), method, path, "", body)
    };
    let download = rig.download("tcp://10.200.1.1:80");
    let real = format!("10.0.0.{}", download.real().trim_start_matches("real"));
    let paths = [format!("{WEB}/reals/{real}/drain"), format!("/v1/reals/{real}/drain")];
    let progress = |path: &str| ask("GET", &format!("{path}?idle=2s"), None).is(200).json();
    for path in &paths {
        let before = progress(path);
        assert_eq!(before["left"]["taken_back"], json!(["tcp://10.200.1.1:80"]), "{before:#}");
        assert_eq!(before["drained"], false);
    }
    ask("PATCH", &format!("/v1/reals/{real}"), Some(r#"{ "state": "drain" }"#)).is(200);
    let busy = |path: &str| {
        let left = progress(path);
        left["flows"] == 1 && left["left"]["taken_back"] == json!([])
    };
    for path in &paths {
        assert!(wait_until(PATIENCE, || busy(path)), "{:#}", progress(path));
    }
    // Longer than a flow may be silent.
    let begun = std::time::Instant::now();
    while begun.elapsed().as_secs() < 5 {
        for path in &paths {
            assert_eq!(progress(path)["drained"], false, "the connection is in use");
        }
        goes_on(&download, "while its real is drained");
    }
    let node = || ask("GET", "/v1/node", None).is(200).json();
    let rate = || node()["packets_per_second"].as_f64();
    assert!(wait_until(PATIENCE, || rate().is_some_and(|rate| rate > 0.0)), "{:#}", node());
    ask("PATCH", "/v1/node", Some(r#"{ "draining": true }"#)).is(200);
    drop(download);
    for path in &paths {
        assert!(wait_until(PATIENCE, || progress(path)["drained"] == true), "{:#}", progress(path));
        let reply = ask("GET", path, None).is(200);
        let template = path
            .replace(&real, "{real}")
            .replace("tcp/10.200.1.1/80", "{protocol}/{address}/{port}");
        description.check("GET", &template, 200, &reply.body);
    }
    assert!(wait_until(PATIENCE, || rate() == Some(0.0)), "{:#}", node());
    let (status, text) = get(&rig.topology.balancer.ns, METRICS, "/readyz").expect("an answer");
    assert!(status == 503 && text.starts_with("draining since"), "{status} {text}");
    serve.stop();
}

/// What the API says is what commands say, and the other way round.
#[test]
fn a_node_drains_by_api_and_command() {
    let host = Host::new();
    let server = Server::start(host.lbctl(), VIPS);
    let node = || server.get("/v1/node").is(200).json();
    assert_eq!((&node()["draining"], &node()["draining_since"]), (&json!(false), &Value::Null));
    let drain = |draining: bool| {
        let body = json!({ "draining": draining }).to_string();
        server.ask("PATCH", "/v1/node", Some(&body)).is(200).json()
    };
    assert_eq!(drain(true)["was_draining"], false);
    let status = json_of(&host.lbctl().ok(&["status", "--json"]));
    assert_eq!(status["draining_since"], node()["draining_since"]);
    assert_eq!(server.get("/v1/readiness").status, 503);
    assert_eq!(drain(true)["was_draining"], true);
    host.lbctl().ok(&["node", "undrain"]);
    assert_eq!(node()["draining"], false);
    assert_eq!(
        drain(false),
        json!({ "draining": false, "draining_since": null, "was_draining": false })
    );
    for (body, why) in [
        (None, "missing field `draining`"),
        (Some(r#"{ "draining": 1 }"#), "draining: invalid type"),
        (Some(r#"{ "drain": true }"#), "drain: unknown field"),
    ] {
        let error = server.ask("PATCH", "/v1/node", body).is(400).error();
        assert!(error.contains(why), "{error}");
    }
    let body = Some(r#"{ "draining": true }"#);
    let error = server.ask_if("PATCH", "/v1/node", "If-Match: *\r\n", body).is(400).error();
    assert!(error.contains("the node has no ETag"), "{error}");
    let log = server.serve.running.stderr();
    assert!(log.contains("control API: PATCH /v1/node by user 0 (root), process "), "{log}");
    server.serve.stop();
}

#[test]
fn health_is_selected_by_vip_real_and_state() {
    let host = Host::new();
    let server = Server::start(host.lbctl(), VIPS);
    let known = |query: &str| {
        let list = server.get(&format!("/v1/health?{query}")).is(200).json();
        list.as_array().expect("a list").len()
    };
    let body = Some(r#"{ "health": "unhealthy", "reason": "no answer", "for": "1h" }"#);
    server.ask("PUT", &format!("{WEB}/reals/10.0.0.1/health"), body).is(200);
    for (query, reals) in [
        ("", 5),
        ("vip=tcp://10.200.1.1:80", 3),
        ("vip=udp%3A%2F%2F[fc00%3A1%3A%3A2]%3A443", 2),
        ("real=10.0.0.1", 2),
        ("real=10.0.0.1&vip=tcp://10.200.1.1:80", 1),
        ("health=unhealthy", 1),
        ("health=unknown", 4),
        ("health=healthy", 0),
        ("real=10.0.0.2&health=unhealthy", 0),
    ] {
        assert_eq!(known(query), reals, "{query}");
    }
    for (query, status) in [
        ("vip=tcp://10.200.1.9:80", 404),
        ("real=10.9.9.9", 404),
        ("real=fc00::3&vip=udp://[fc00:1::2]:443", 404),
        ("vip=10.200.1.1", 400),
        ("real=x", 400),
        ("health=sick", 400),
    ] {
        server.get(&format!("/v1/health?{query}")).is(status).error();
    }
    for (path, status) in [
        (format!("{WEB}/reals/10.9.9.9/drain"), 404),
        ("/v1/vips/tcp/10.200.1.9/80/reals/10.0.0.1/drain".to_owned(), 404),
        ("/v1/reals/10.9.9.9/drain".to_owned(), 404),
        ("/v1/reals/10.0.0.1/drain?idle=0s".to_owned(), 400),
        ("/v1/reals/10.0.0.1/drain?idle=13h".to_owned(), 400),
    ] {
        server.get(&path).is(status).error();
    }
    server.serve.stop();
}
