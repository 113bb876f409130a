//! What every command prints with `--json`, and what the control API answers, on a balancer in use.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use serde_json::Value;

use crate::fixtures::Lbctl;
use crate::fixtures::Output;
use crate::fixtures::Rig;
use crate::fixtures::UPLINK;
use crate::fixtures::chain_programs::Built;
use crate::fixtures::config;
use crate::fixtures::config_file;
use crate::fixtures::http_get;
use crate::fixtures::path_of;
use crate::fixtures::server;
use crate::fixtures::vip;
use crate::fixtures::wait_until;
use crate::lbctl::api::client::ask_at;

const WEB: &str = "tcp://10.200.1.1:80";
const QUIC: &str = "udp://[fc00:1::2]:443";
const OTHER: &str = "udp://10.200.1.3:53";

/// What was printed: by what printed it, such as `vip list`.
pub(super) type Reports = BTreeMap<String, Vec<Value>>;

/// Longer than any of these commands takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// The objects or lists that a command printed.
#[track_caller]
fn values(text: &str) -> Vec<Value> {
    let values = serde_json::Deserializer::from_str(text).into_iter();
    let values: Result<Vec<_>, _> = values.collect();
    values.unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Notes what a command printed. The lines of one that prints events are apart: `node drain: progress`.
#[track_caller]
fn note(reports: &mut Reports, name: &str, output: &Output) {
    let values = values(&output.stdout);
    assert!(!values.is_empty(), "{name}: nothing is printed: {output}");
    for value in values {
        let name = match value["event"].as_str() {
            Some(event) => format!("{name}: {event}"),
            None => name.to_owned(),
        };
        reports.entry(name).or_default().push(value);
    }
}

/// A configuration with everything in it that reports show.
fn everything(socket: &str) -> String {
    let checks = "\n[checks.web]\ntype = \"http\"\ninterval = \"1s\"\nheaders = { Host = \"web.example\" }\n\n[control]\n";
    let web = vip(WEB, &["10.0.0.1", "10.0.0.2, weight = 2", "10.0.0.9, state = \"drain\""])
        + "check = \"web\"\n";
    let quic = vip(QUIC, &["10.0.0.1"]) + "routing = [\"quic-connection-id\"]\n";
    let ids = "\n[[server_ids]]\nid = 7\nreal = \"10.0.0.1\"\n";
    config(&format!("{checks}socket = \"{socket}\"\n{web}{quic}{ids}"))
}

/// Runs every command.
pub(super) fn all() -> Reports {
    let mut reports = Reports::new();
    let rig = Rig::new(2);
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("api.sock");
    let config = everything(path_of(&socket));
    let file = config_file(&config);
    let file = path_of(&file);
    let lbctl = rig.lbctl();
    let run = |reports: &mut Reports, name: &str, code: i32, arguments: &[&str]| {
        let output = lbctl.exits(code, &[&["--json"], arguments].concat());
        note(reports, name, &output);
    };
    run(&mut reports, "version", 0, &["version"]);
    run(&mut reports, "check", 1, &["check", "-f", path_of(&config_file("nonsense = 1"))]);
    run(&mut reports, "check", 0, &["check", "-f", file]);
    run(&mut reports, "plan", 3, &["plan", "-f", file]);
    run(&mut reports, "instances", 0, &["instances"]);
    run(&mut reports, "apply", 0, &["apply", "-f", file]);
    run(&mut reports, "apply", 0, &["apply", "-f", file]);
    with_serve(&rig, file, &socket, &config, &mut reports);
    without_serve(&rig, &run, &mut reports);
    decap(&rig, &mut reports);
    run(&mut reports, "down", 0, &["down"]);
    run(&mut reports, "down", 0, &["down"]);
    reports
}

/// While `lbctl serve` runs: what it shows, and its control API.
fn with_serve(
    rig: &Rig,
    file: &str,
    socket: &std::path::Path,
    config: &str,
    reports: &mut Reports,
) {
    let lbctl = rig.lbctl();
    let mut serve = lbctl.spawn(&["serve", "--log-format", "json", "-f", file]);
    serve.wait_for("control API at ");
    for _ in 0..20 {
        http_get(rig.client(), server(WEB), "/").expect("an answer");
    }
    let checked = wait_until(PATIENCE, || {
        let list = lbctl.ok(&["real", "list", "--json"]).stdout;
        list.matches("HTTP 200").count() >= 2
    });
    assert!(checked, "the reals are checked: {}", serve.stderr());
    let reload = lbctl.ok(&["reload", "--json"]);
    note(reports, "reload", &reload);
    // The file is another than what runs.
    fs::write(file, config.replace("weight = 2", "weight = 3")).expect("write");
    for (name, code, arguments) in [
        ("plan", 3, &["plan", "-f", file][..]),
        ("status", 0, &["status"]),
        ("status", 0, &["status", "--all"]),
        ("instances", 0, &["instances"]),
        ("vip list", 0, &["vip", "list"]),
        ("real list", 0, &["real", "list"]),
        ("save", 0, &["save"]),
        ("stats", 0, &["stats"]),
        ("stats --watch", 0, &["stats", "--watch", "0.2", "--count", "2"]),
        ("flows list", 0, &["flows", "list"]),
        ("flows count", 0, &["flows", "count"]),
        ("flows count", 0, &["flows", "count", "--by", "cpu"]),
        ("probe", 1, &["probe", WEB]),
        ("probe", 0, &["probe", WEB, "10.0.0.1", "--type", "tcp", "--via", "direct"]),
    ] {
        let output = lbctl.exits(code, &[&["--json"], arguments].concat());
        note(reports, name, &output);
    }
    api(socket, reports);
    let log = serve.stop().stderr;
    for line in values(&log) {
        reports.entry("serve".to_owned()).or_default().push(line);
    }
}

/// Answers of the control API, by method and path.
fn api(socket: &std::path::Path, reports: &mut Reports) {
    let web = "/v1/vips/tcp/10.200.1.1/80";
    for path in [
        "/v1",
        "/v1/version",
        "/v1/readiness",
        "/v1/status",
        "/v1/overview",
        "/v1/config",
        "/v1/stats",
        "/v1/vips",
        "/v1/reals",
        "/v1/reals/10.0.0.1",
        web,
        &format!("{web}/reals"),
        &format!("{web}/reals/10.0.0.1"),
        "/v1/health",
        &format!("{web}/reals/10.0.0.1/health"),
        "/v1/flows/count",
        "/v1/node",
    ] {
        let reply = ask_at(socket, "GET", path, "", None).is(200);
        let path = path.replace("/tcp/10.200.1.1/80", "/…").replace("/10.0.0.1", "/…");
        reports.entry(format!("GET {path}")).or_default().push(reply.json());
    }
    let drained = format!("{web}/reals/10.0.0.1");
    for (method, path, body, status, name) in [
        ("PATCH", &*drained, Some(r#"{ "state": "drain" }"#), 200, "PATCH /v1/vips/…/reals/…"),
        ("PATCH", &*drained, Some(r#"{ "state": "undrain" }"#), 200, "PATCH /v1/vips/…/reals/…"),
        ("PATCH", "/v1/node", Some(r#"{ "draining": true }"#), 200, "PATCH /v1/node"),
        ("PATCH", "/v1/node", Some(r#"{ "draining": false }"#), 200, "PATCH /v1/node"),
        ("GET", "/v1/nothing", None, 404, "an error of the control API"),
        ("POST", "/v1/vips", Some("{}"), 400, "an error of the control API"),
    ] {
        let reply = ask_at(socket, method, path, "", body).is(status);
        reports.entry(name.to_owned()).or_default().push(reply.json());
    }
}

type Run<'a> = dyn Fn(&mut Reports, &str, i32, &[&str]) + 'a;

/// What changes VIPs, reals, flows and the chain.
fn without_serve(rig: &Rig, run: &Run<'_>, reports: &mut Reports) {
    let lbctl = rig.lbctl();
    let client = lbctl.ok(&["flows", "list", "--vip", WEB, "--json"]);
    let flow = values(&client.stdout).first().cloned().expect("a flow");
    let (client, port) = (flow["client"].as_str().expect("a client"), &flow["client_port"]);
    let client = format!("{client}:{port}");
    run(reports, "flows find", 0, &["flows", "find", WEB, &client]);
    let traced = tempfile::NamedTempFile::new().expect("a file");
    let batch = traced.path().with_extension("batch");
    fs::write(&batch, format!("real weight {WEB} 10.0.0.1 3\n")).expect("write");
    let program = Built::tracer("first.bpf.o", &[]);
    let object = program.path();
    let object = path_of(&object);
    let tests = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/packets/atomic_fragments.json");
    for (name, code, arguments) in [
        ("vip add", 0, &["vip", "add", OTHER][..]),
        ("real add", 0, &["real", "add", OTHER, "10.0.0.1", "10.0.0.2"]),
        ("real weight", 0, &["real", "weight", OTHER, "10.0.0.2", "3"]),
        ("real edit", 0, &["real", "edit", OTHER, "10.0.0.2", "--encapsulation", "ipip"]),
        ("vip edit", 0, &["vip", "edit", OTHER, "--encapsulation", "default"]),
        ("real drain", 0, &["real", "drain", OTHER, "10.0.0.2"]),
        ("real undrain", 0, &["real", "undrain", OTHER, "10.0.0.2"]),
        ("real down", 0, &["real", "down", OTHER, "10.0.0.2"]),
        ("real up", 0, &["real", "up", OTHER, "10.0.0.2"]),
        ("real health", 0, &["real", "health", OTHER, "10.0.0.2", "unhealthy", "--reason", "x"]),
        ("real health", 0, &["real", "health", "--all", "10.0.0.2", "auto"]),
        ("real drain --wait", 0, &["real", "drain", OTHER, "10.0.0.2", "--wait", "--then", "down"]),
        ("real drain --wait", 1, &["real", "drain", WEB, "10.0.0.1", "--wait", "--timeout", "2s"]),
        ("batch", 0, &["batch", "-f", path_of(&batch)]),
        ("real delete", 0, &["real", "delete", OTHER, "10.0.0.2"]),
        ("vip delete", 0, &["vip", "delete", OTHER]),
        ("node drain", 1, &["node", "drain", "--timeout", "2s"]),
        ("status", 0, &["status"]),
        ("node undrain", 0, &["node", "undrain"]),
        ("trace", 0, &["trace", WEB, "192.0.2.1:31337", "--syn"]),
        ("trace", 0, &["trace", "tcp", "192.0.2.1:31337", "10.200.1.9:80"]),
        ("flows delete", 0, &["flows", "delete", "--all"]),
        ("chain insert", 0, &["chain", "insert", "3", object]),
        ("chain move", 0, &["chain", "move", "3", "4"]),
        ("chain list", 0, &["chain", "list"]),
        ("chain remove", 0, &["chain", "remove", "4"]),
        ("test", 0, &["test", tests]),
    ] {
        run(reports, name, code, arguments);
    }
    fs::remove_file(&batch).expect("remove the batch");
    // What is well depends on the host.
    let doctor = lbctl.run(&["--json", "doctor"]);
    note(reports, "doctor", &doctor);
}

/// Decapsulation, on a real.
fn decap(rig: &Rig, reports: &mut Reports) {
    let real = &rig.topology.reals[0];
    let lbctl = Lbctl::new(&rig.bpffs).in_ns(&real.ns);
    let instance = ["--json", "--instance", &real.name, "decap"];
    let run = |reports: &mut Reports, name: &str, arguments: &[&str]| {
        note(reports, name, &lbctl.ok(&[&instance[..], arguments].concat()));
    };
    let from = ["--from", "172.31.0.0/16", "--mss", "auto"];
    run(reports, "decap attach", &[&["attach", UPLINK][..], &from].concat());
    run(reports, "decap status", &["status"]);
    let mut serve =
        lbctl.spawn(&[&instance[1..], &["serve", UPLINK, "--log-format", "json"]].concat());
    serve.wait_for("decapsulat");
    let reloads = wait_until(PATIENCE, || {
        let output = lbctl.run(&[&instance[..], &["reload", UPLINK]].concat());
        let done = output.code() == Some(0);
        if done {
            note(reports, "decap reload", &output);
        }
        done
    });
    assert!(reloads, "{}", serve.stderr());
    for line in values(&serve.stop().stderr) {
        reports.entry("decap serve".to_owned()).or_default().push(line);
    }
    run(reports, "decap detach", &["detach", UPLINK]);
    run(reports, "decap detach", &["detach"]);
}
