//! What the API changes, and two editors that notice each other.

use std::thread;
use std::time::Duration;
use std::time::Instant;

use serde_json::Value;
use serde_json::json;

use super::VIPS;
use super::WEB;
use super::client::Server;
use super::client::ask_at;
use crate::fixtures::Host;
use crate::fixtures::json as json_of;

/// A change by the API, and by a command on another host, have the same plan and the same outcome.
#[test]
fn changes_are_those_of_commands() {
    let (host, other) = (Host::new(), Host::new());
    let server = Server::start(host.lbctl(), VIPS);
    other.lbctl().apply(&Host::config(VIPS));
    let real = format!("{WEB}/reals/10.0.0.1");
    let vip = r#"{ "address": "10.200.1.9", "port": 0, "protocol": "udp", "hash": "no-source-port",
        "connection_table": false, "echo": "never", "no_real": "reject", "other_ports": "drop" }"#;
    let (web, first, all) = ("tcp://10.200.1.1:80", "10.0.0.1", "/v1/reals/10.0.0.1");
    for (method, path, body, command) in [
        (
            "POST",
            "/v1/vips",
            Some(vip),
            vec![
                "vip",
                "add",
                "udp://10.200.1.9:*",
                "--hash",
                "no-source-port",
                "--no-connection-table",
                "--echo",
                "never",
                "--no-real",
                "reject",
                "--other-ports",
                "drop",
            ],
        ),
        (
            "POST",
            "/v1/vips/udp/10.200.1.9/*/reals",
            Some(r#"{ "address": "10.0.0.7", "weight": 5 }"#),
            vec!["real", "add", "udp://10.200.1.9:*", "10.0.0.7", "--weight", "5"],
        ),
        ("PATCH", &real, Some(r#"{ "weight": 7 }"#), vec!["real", "weight", web, first, "7"]),
        ("PATCH", &real, Some(r#"{ "state": "drain" }"#), vec!["real", "drain", web, first]),
        ("PATCH", &real, Some(r#"{ "state": "down" }"#), vec!["real", "down", web, first]),
        ("PATCH", &real, Some(r#"{ "state": "up" }"#), vec!["real", "up", web, first]),
        ("PATCH", &real, Some(r#"{ "state": "up" }"#), vec!["real", "up", web, first]),
        ("PATCH", all, Some(r#"{ "state": "drain" }"#), vec!["real", "drain", "--all", first]),
        ("PATCH", all, Some(r#"{ "state": "undrain" }"#), vec!["real", "undrain", "--all", first]),
        ("PATCH", all, Some(r#"{ "weight": 9 }"#), vec!["real", "weight", "--all", first, "9"]),
        ("DELETE", &real, None, vec!["real", "delete", web, first]),
        ("DELETE", all, None, vec!["real", "delete", "--all", first]),
        ("DELETE", "/v1/vips/udp/10.200.1.9/0", None, vec!["vip", "delete", "udp://10.200.1.9:*"]),
    ] {
        let planned = server.ask(method, &format!("{path}?dry_run=true"), body).is(200);
        let reply = server.ask(method, path, body);
        assert!([200, 201].contains(&reply.status), "{reply}");
        assert_eq!(planned.body, reply.body, "the plan, and what became of it");
        let mut arguments = command.clone();
        arguments.push("--json");
        let printed = other.lbctl().ok(&arguments).stdout;
        assert_eq!(reply.body, printed, "{method} {path} and lbctl {}", command.join(" "));
        let save = |host: &Host| json_of(&host.lbctl().ok(&["save", "--json"]));
        assert_eq!(save(&host)["vips"], save(&other)["vips"], "{method} {path}");
    }
    let log = server.serve.running.stderr();
    assert!(
        log.contains("control API: DELETE /v1/vips/udp/10.200.1.9/0 by user 0 (root), process "),
        "{log}"
    );
    assert!(!log.contains("dry_run"), "{log}");
    server.serve.stop();
}

#[test]
fn put_replaces_and_creates() {
    let host = Host::new();
    let server = Server::start(host.lbctl(), VIPS);
    let body = r#"{ "no_real": "reject", "reals": [{ "address": "10.0.0.2", "weight": 4 }] }"#;
    server.ask("PUT", WEB, Some(body)).is(200);
    let expected = json!({ "address": "10.200.1.1", "port": 80, "protocol": "tcp", "no_real": "reject",
        "reals": [{ "address": "10.0.0.2", "weight": 4 }] });
    assert_eq!(server.get(WEB).json(), expected);
    // What was read can be written back as it is.
    let seen = server.get("/v1/vips/udp/fc00:1::2/443");
    let plan = server.ask("PUT", "/v1/vips/udp/fc00:1::2/443", Some(&seen.body)).is(200).json();
    assert_eq!(plan["changes"], json!([]), "{plan:#}");
    let new = "/v1/vips/tcp/10.200.1.7/443";
    let reply = server.ask("PUT", new, Some(body)).is(201);
    assert_eq!(reply.header("location"), Some(new));
    let real = format!("{new}/reals/fc00::9");
    assert_eq!(server.ask("PUT", &real, None).is(201).header("location"), Some(real.as_str()));
    server.ask("PUT", &real, Some(r#"{ "state": "down" }"#)).is(200);
    let shown = server.get(&real).json();
    assert_eq!((&shown["weight"], &shown["state"]), (&json!(1), &json!("down")));
    server.ask("PATCH", &real, Some(r#"{ "weight": 3 }"#)).is(200);
    let shown = server.get(&real).json();
    assert_eq!((&shown["weight"], &shown["state"]), (&json!(3), &json!("down")));
    // Only if it is not there, or only if it is.
    for (header, path, status) in [
        ("If-None-Match: *", new, 412),
        ("If-None-Match: *", "/v1/vips/tcp/10.200.1.8/443", 201),
        ("If-Match: *", "/v1/vips/tcp/10.200.1.6/443", 412),
        ("If-Match: *", new, 200),
        ("If-None-Match: \"x\"", new, 400),
    ] {
        let reply = server.ask_if("PUT", path, &format!("{header}\r\n"), None).is(status);
        if status >= 400 {
            reply.error();
        }
    }
    server.serve.stop();
}

#[test]
fn two_editors_notice_each_other() {
    let host = Host::new();
    let server = Server::start(host.lbctl(), VIPS);
    let real = format!("{WEB}/reals/10.0.0.1");
    let seen = server.get(WEB).etag();
    let weight = |weight: u32, etag: &str| {
        let body = json!({ "weight": weight }).to_string();
        server.ask_if("PATCH", &real, &format!("If-Match: {etag}\r\n"), Some(&body))
    };
    let first = weight(2, &seen).is(200).etag();
    let second = weight(3, &seen).is(412).error();
    assert!(second.contains("VIPs or reals were changed since you read them"), "{second}");
    assert_eq!(server.get(&real).json()["weight"], 2, "nothing is changed");
    // Planning is no exception.
    let dry = format!("{real}?dry_run=true");
    let body = Some(r#"{ "weight": 3 }"#);
    server.ask_if("PATCH", &dry, &format!("If-Match: {seen}\r\n"), body).is(412);
    // Commands and reloads are editors, too.
    host.lbctl().ok(&["real", "drain", "tcp://10.200.1.1:80", "10.0.0.2"]);
    weight(3, &first).is(412);
    let current = server.get(WEB).etag();
    weight(3, &format!("\"other\", {current}")).is(200);
    let weak = format!("W/{}", server.get(WEB).etag());
    weight(4, &weak).is(412);
    let gone = server.get(WEB).etag();
    server.ask_if("DELETE", WEB, &format!("If-Match: {gone}\r\n"), None).is(200);
    server.ask_if("DELETE", WEB, &format!("If-Match: {gone}\r\n"), None).is(412);
    server.ask_if("DELETE", WEB, "If-Match: *\r\n", None).is(412);
    server.serve.stop();
}

#[test]
fn health_is_told_and_forgotten() {
    let host = Host::new();
    let server = Server::start(host.lbctl(), VIPS);
    let (before, health) = (server.get(WEB).etag(), format!("{WEB}/reals/10.0.0.1/health"));
    let share = || {
        let real = server.get(&format!("{WEB}/reals/10.0.0.1")).json();
        real["share"].as_f64().expect("a share")
    };
    assert_eq!(server.get(&health).json()["health"], "unknown");
    assert!(share() > 0.2);
    let told = r#"{ "health": "unhealthy", "reason": "keepalived:\u0007 no answer", "for": "1h" }"#;
    let plan = server.ask("PUT", &health, Some(told)).is(200).json();
    assert_eq!(plan["changes"][0]["vip"], "tcp://10.200.1.1:80", "{plan:#}");
    let known = server.get(&health).json();
    assert_eq!((&known["health"], &known["told"]), (&json!("unhealthy"), &json!(true)));
    let reason = known["reason"].as_str().expect("a reason");
    assert!(reason.starts_with("keepalived:") && !reason.contains('\u{7}'), "{reason}");
    let holds = known["expires"].as_u64().zip(known["since"].as_u64()).expect("times");
    assert_eq!(holds.0 - holds.1, 3600);
    assert!(share() < 0.001, "it gets no new flows");
    assert_eq!(server.get(WEB).etag(), before, "what is found is no change of the table");
    // Neither an edit nor a replaced VIP undoes it.
    server.ask("PATCH", &format!("{WEB}/reals/10.0.0.2"), Some(r#"{ "weight": 2 }"#)).is(200);
    let seen = server.get(WEB).body;
    server.ask("PUT", WEB, Some(&seen)).is(200);
    assert_eq!(server.get(&health).json()["health"], "unhealthy");
    server.ask("DELETE", &health, None).is(200);
    assert_eq!(server.get(&health).json()["health"], "unknown");
    assert!(share() > 0.1);
    for (body, why) in [
        ("{}", "missing field `health`"),
        (r#"{ "health": "unknown" }"#, "health: unknown variant `unknown`"),
        (r#"{ "health": "healthy", "for": "0s" }"#, "for: write it like 30s"),
        (r#"{ "health": "healthy", "for": "11y" }"#, "for: write it like 30s"),
        (r#"{ "health": "healthy", "for": 30 }"#, "for: invalid type"),
        (r#"{ "health": "healthy", "until": "1h" }"#, "until: unknown field"),
    ] {
        let error = server.ask("PUT", &health, Some(body)).is(400).error();
        assert!(error.contains(why), "{body}: {error}");
    }
    server.ask_if("PUT", &health, "If-Match: *\r\n", Some(told)).is(400).error();
    server.serve.stop();
}

/// Each reads, adds one and writes, and tries again if somebody was quicker: no addition is lost.
#[test]
fn many_editors_lose_nothing() {
    const EDITORS: u64 = 8;
    let host = Host::new();
    let server = Server::start(host.lbctl(), VIPS);
    let (socket, real) = (server.socket(), format!("{WEB}/reals/10.0.0.1"));
    let start = Instant::now();
    let conflicts: u32 = thread::scope(|scope| {
        let edit = || {
            let mut conflicts = 0;
            loop {
                let seen = ask_at(&socket, "GET", &real, "", None).is(200);
                let weight = seen.json()["weight"].as_u64().expect("a weight") + 1;
                let condition = format!("If-Match: {}\r\n", seen.etag());
                let body = json!({ "weight": weight }).to_string();
                match ask_at(&socket, "PATCH", &real, &condition, Some(&body)).status {
                    200 => return conflicts,
                    412 => conflicts += 1,
                    503 => {}
                    other => panic!("{other}"),
                }
                assert!(start.elapsed() < Duration::from_secs(120), "it takes too long");
            }
        };
        let editors: Vec<_> = (0..EDITORS).map(|_| scope.spawn(edit)).collect();
        editors.into_iter().map(|editor| editor.join().expect("an editor")).sum()
    });
    assert_eq!(server.get(&real).json()["weight"].as_u64(), Some(1 + EDITORS));
    println!("{EDITORS} editors, {conflicts} conflicts");
    server.serve.stop();
}

/// The same one line as the command's.
#[test]
fn errors_are_those_of_commands() {
    let host = Host::new();
    let server = Server::start(host.lbctl(), VIPS);
    let before = server.get("/v1/vips");
    let missing = format!("{WEB}/reals/10.9.9.9");
    let reals = format!("{WEB}/reals");
    for (method, path, body, status, command) in [
        (
            "DELETE",
            "/v1/vips/tcp/10.200.1.5/80",
            "",
            404,
            vec!["vip", "delete", "tcp://10.200.1.5:80"],
        ),
        ("DELETE", &missing, "", 404, vec!["real", "delete", "tcp://10.200.1.1:80", "10.9.9.9"]),
        (
            "PATCH",
            &missing,
            r#"{"state":"up"}"#,
            404,
            vec!["real", "up", "tcp://10.200.1.1:80", "10.9.9.9"],
        ),
        (
            "POST",
            "/v1/vips",
            r#"{ "address": "10.200.1.1", "port": 80, "protocol": "tcp" }"#,
            409,
            vec!["vip", "add", "tcp://10.200.1.1:80"],
        ),
        (
            "POST",
            &reals,
            r#"{ "address": "10.0.0.1" }"#,
            409,
            vec!["real", "add", "tcp://10.200.1.1:80", "10.0.0.1"],
        ),
        (
            "POST",
            &reals,
            r#"{ "address": "fc00:1::2" }"#,
            400,
            vec!["real", "add", "tcp://10.200.1.1:80", "fc00:1::2"],
        ),
        (
            "POST",
            "/v1/vips",
            r#"{ "address": "172.31.0.2", "port": 80, "protocol": "tcp" }"#,
            400,
            vec!["vip", "add", "tcp://172.31.0.2:80"],
        ),
        (
            "POST",
            "/v1/vips",
            r#"{ "address": "fc00:1::2", "port": 80, "protocol": "tcp", "other_ports": "reject" }"#,
            400,
            vec!["vip", "add", "tcp://[fc00:1::2]:80", "--other-ports", "reject"],
        ),
    ] {
        let body = (!body.is_empty()).then_some(body);
        let reply = server.ask(method, path, body).is(status);
        let printed = host.lbctl().exits(1, &command).stderr;
        assert_eq!(format!("error: {}\n", reply.error()), printed, "{method} {path}");
    }
    let after = server.get("/v1/vips");
    assert_eq!((after.etag(), after.body), (before.etag(), before.body));
    server.serve.stop();
}

#[test]
fn requests_that_make_no_sense() {
    let host = Host::new();
    let server = Server::start(host.lbctl(), VIPS);
    let before = server.get("/v1/vips");
    let real = format!("{WEB}/reals/10.0.0.1");
    for (method, path, body, why) in [
        ("PATCH", real.as_str(), "{}", "the body changes nothing"),
        ("PATCH", &real, "[]", "the body is no JSON object"),
        ("PATCH", &real, "{", "the body is no JSON: EOF"),
        ("PATCH", &real, "{\"weight\": 1} x", "the body is no JSON: trailing characters"),
        ("PATCH", &real, r#"{ "weight": 65536 }"#, "65536 is above the highest weight, 65535"),
        ("PATCH", &real, r#"{ "weight": -1 }"#, "weight: invalid value: integer `-1`"),
        ("PATCH", &real, r#"{ "weight": "2" }"#, "weight: invalid type: string \"2\""),
        ("PATCH", &real, r#"{ "state": "off" }"#, "state: unknown variant `off`"),
        ("PATCH", &real, r#"{ "wait": 2 }"#, "wait: unknown field `wait`"),
        (
            "PUT",
            &real,
            r#"{ "address": "10.0.0.2" }"#,
            "the body is about 10.0.0.2, and the path names 10.0.0.1",
        ),
        (
            "PUT",
            WEB,
            r#"{ "port": 81 }"#,
            "the body is about tcp://10.200.1.1:81, and the path names",
        ),
        ("PUT", WEB, r#"{ "reals": [{}] }"#, "reals[0]: missing field `address`"),
        ("PUT", WEB, r#"{ "hash": 5 }"#, "hash: "),
        ("PUT", WEB, r#"{ "check": 5 }"#, "check: invalid type: integer `5`"),
        ("DELETE", WEB, r#"{ "reals": ["10.0.0.1"] }"#, "DELETE takes no body"),
        ("POST", "/v1/vips?dry_run=maybe", "{}", "port"),
        (
            "DELETE",
            &format!("{WEB}?dryrun=true"),
            "",
            "unknown parameter 'dryrun'; known are dry_run",
        ),
        ("DELETE", &format!("{WEB}?dry_run=1"), "", "parameter dry_run: '1': write true or false"),
        (
            "GET",
            "/v1/flows/count?by=name",
            "",
            "parameter by: 'name': write one of vip, real, cpu, state",
        ),
        (
            "GET",
            "/v1/flows/count?client=x",
            "",
            "parameter client: 'x': write it like 192.0.2.0/24",
        ),
        ("GET", "/v1/flows/count?older_than=1", "", "parameter older_than: '1': write it like 90s"),
        ("GET", "/v1/status?all=true", "", "unknown parameter 'all'; there are none here"),
    ] {
        let body = (!body.is_empty()).then_some(body);
        let error = server.ask(method, path, body).is(400).error();
        if !path.contains("maybe") {
            assert!(error.contains(why), "{method} {path} {body:?}: {error}");
        }
    }
    let unknown = server.get("/v1/flows/count?real=10.7.7.7").is(404).error();
    assert!(unknown.contains("no VIP has or recently had a real 10.7.7.7"), "{unknown}");
    let after = server.get("/v1/vips");
    assert_eq!((after.etag(), after.body), (before.etag(), before.body));
    server.serve.stop();
}

/// A command that takes long holds up a request for a while, and no longer.
#[test]
fn a_locked_instance_is_busy() {
    let host = Host::new();
    let server = Server::start(host.lbctl(), VIPS);
    let folder = host.bpffs.path().join("l4lb/default");
    let lock = std::fs::File::open(&folder).expect("open the folder");
    let locked =
        nix::fcntl::Flock::lock(lock, nix::fcntl::FlockArg::LockExclusive).expect("lock it");
    let start = Instant::now();
    let reply =
        server.ask("PATCH", &format!("{WEB}/reals/10.0.0.1"), Some(r#"{ "weight": 2 }"#)).is(503);
    assert!(reply.error().contains("instance 'default' is being changed by process"), "{reply}");
    assert_eq!(reply.header("retry-after"), Some("1"));
    assert!(start.elapsed() < Duration::from_secs(40), "{:?}", start.elapsed());
    server.get(WEB).is(200);
    let plan = server.ask("DELETE", &format!("{WEB}?dry_run=true"), None).is(200).json();
    assert_eq!(plan["changes"][0]["action"], Value::from("remove"), "plans take no lock");
    drop(locked);
    server.ask("DELETE", WEB, None).is(200);
    server.serve.stop();
}
