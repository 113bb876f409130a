//! Prometheus itself takes the metrics, the alert rules and the dashboard.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;

use l4lb::metrics::families;
use nix::sys::signal::Signal;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use serde_json::Value;
use serde_json::json;

use crate::fixtures::Bpffs;
use crate::fixtures::Host;
use crate::fixtures::METRICS;
use crate::fixtures::NetNs;
use crate::fixtures::Rig;
use crate::fixtures::Serve;
use crate::fixtures::config;
use crate::fixtures::example;
use crate::fixtures::get;
use crate::fixtures::http_get;
use crate::fixtures::server;
use crate::fixtures::vip;
use crate::fixtures::wait_until;
use crate::report::metrics::HISTOGRAMS;
use crate::report::metrics::OF_CHECKS;
use crate::report::metrics::OF_HEALTH;
use crate::report::metrics::OF_SERVE;

const VIP: &str = "tcp://10.200.1.1:80";

/// Prometheus scrapes every second.
const SOON: Duration = Duration::from_secs(30);

fn docs(file: &str) -> String {
    format!("{}/docs/{file}", env!("CARGO_MANIFEST_DIR"))
}

#[track_caller]
fn read(file: &str) -> String {
    fs::read_to_string(docs(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// Runs `promtool`, and fails the test if it complains.
#[track_caller]
fn promtool(arguments: &[&str], input: &str) {
    let mut child = Command::new("promtool")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("promtool, of the package prometheus: {error}"));
    child.stdin.take().expect("piped").write_all(input.as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success(), "promtool {}: {said}", arguments.join(" "));
    assert!(arguments[0] != "check" || arguments[1] != "metrics" || said.is_empty(), "{said}");
}

/// A Prometheus in a namespace; it ends when it is dropped.
struct Prometheus<'a> {
    child: Child,
    ns: &'a NetNs,
}

impl<'a> Prometheus<'a> {
    #[track_caller]
    fn start(ns: &'a NetNs, folder: &Path) -> Self {
        let config = format!(
            "global:\n  scrape_interval: 1s\n  evaluation_interval: 1s\n\
             rule_files: [\"{}\"]\n\
             scrape_configs:\n  - job_name: l4lb\n    static_configs:\n      - targets: [\"{METRICS}\"]\n",
            docs("alerts.yml")
        );
        let file = folder.join("prometheus.yml");
        fs::write(&file, config).expect("write its configuration");
        let child = ns
            .command("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
            .args(["--web.listen-address=127.0.0.1:9090", "--log.level=error"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("prometheus, of the package of that name: {error}"));
        Self { child, ns }
    }

    fn ask(&self, path: &str) -> Option<Value> {
        let mut stream = self.ns.open(|| TcpStream::connect("127.0.0.1:9090")).ok()?;
        stream.set_read_timeout(Some(SOON)).ok()?;
        // HTTP/1.0 knows no chunks.
        stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
    }

    /// The value of a query with one result.
    fn query(&self, query: &str) -> Option<f64> {
        let escape = |byte: u8| format!("%{byte:02x}");
        let query: String = query.bytes().map(escape).collect();
        let answer = self.ask(&format!("/api/v1/query?query={query}"))?;
        answer["data"]["result"][0]["value"][1].as_str()?.parse().ok()
    }
}

impl Drop for Prometheus<'_> {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM);
        let _ = self.child.wait();
    }
}

#[test]
fn it_scrapes_and_evaluates() {
    let rig = Rig::new(1);
    let ns = &rig.topology.balancer.ns;
    let serve = Serve::start(rig.lbctl(), &config(&vip(VIP, &["10.0.0.1"])));
    let (status, text) = get(ns, METRICS, "/metrics").expect("metrics");
    assert_eq!(status, 200);
    promtool(&["check", "metrics"], &text);

    let folder = tempfile::tempdir().expect("a folder");
    let prometheus = Prometheus::start(ns, folder.path());
    let becomes = |query: &str, expected: &dyn Fn(f64) -> bool| {
        let mut last = None;
        let became = wait_until(SOON, || {
            last = prometheus.query(query);
            last.is_some_and(expected)
        });
        assert!(became, "{query}: {last:?}");
    };
    becomes("up{job=\"l4lb\"}", &|up| up > 0.0);
    becomes("l4lb_running", &|runs| runs > 0.0);
    http_get(rig.client(), server(VIP), "/").expect("the VIP answers");
    becomes(&format!("l4lb_vip_packets_total{{vip=\"{VIP}\"}}"), &|packets| packets >= 4.0);
    becomes(&format!("l4lb_vip_real_share_ratio{{vip=\"{VIP}\",real=\"10.0.0.1\"}}"), &|share| {
        share > 0.99
    });
    let mut rules = Value::Null;
    let evaluated = wait_until(SOON, || {
        rules = prometheus.ask("/api/v1/rules").unwrap_or_default();
        let rules = rules["data"]["groups"][0]["rules"].as_array();
        rules.is_some_and(|rules| {
            !rules.is_empty()
                && rules.iter().all(|rule| rule["health"] == "ok" && rule["state"] == "inactive")
        })
    });
    assert!(evaluated, "an alert is wrong, or comes where nothing is: {rules:#}");

    every_query_is_answered(&prometheus);

    // The VIP goes, and its series with it.
    rig.lbctl().ok(&["vip", "delete", VIP]);
    becomes("count(l4lb_vip_packets_total) or vector(0)", &|count| count < 0.5);
    rig.lbctl().ok(&["down"]);
    becomes("count(ALERTS{alertname=\"L4lbNotRunning\"})", &|count| count > 0.0);
    drop(prometheus);
    serve.stop();
}

/// The dashboard's queries, as Grafana asks them: Prometheus takes each, and most of the panels have something to show.
#[track_caller]
fn every_query_is_answered(prometheus: &Prometheus<'_>) {
    let dashboard: Value = serde_json::from_str(&read("grafana/l4lb.json")).expect("JSON");
    let (mut asked, mut empty) = (0, Vec::new());
    for panel in dashboard["panels"].as_array().expect("panels") {
        let targets = panel["targets"].as_array();
        for query in targets.into_iter().flatten().filter_map(|target| target["expr"].as_str()) {
            let query = query.replace("$__rate_interval", "5m").replace("$job", "l4lb");
            let query = ["$instance", "$vip"].iter().fold(query, |q, name| q.replace(name, ".+"));
            let escaped: Vec<_> = query.bytes().map(|byte| format!("%{byte:02x}")).collect();
            let escaped = escaped.concat();
            let answer = prometheus.ask(&format!("/api/v1/query?query={escaped}"));
            let answer = answer.unwrap_or_else(|| panic!("{query}: no answer"));
            assert_eq!(answer["status"], "success", "{query}: {answer}");
            asked += 1;
            if answer["data"]["result"].as_array().is_none_or(Vec::is_empty) {
                empty.push(query);
            }
        }
    }
    // What this balancer does not do: checks, decapsulation, statistics of programs, drops.
    assert!(
        asked > 30 && empty.len() < asked * 2 / 3,
        "{} of {asked} are empty: {empty:#?}",
        empty.len()
    );
}

#[test]
fn scrapes_are_small_where_that_is_asked_for() {
    let host = Host::new();
    let vips = vip(VIP, &["10.0.0.1", "10.0.0.2"]);
    let mut serve = Serve::start(host.lbctl(), &Host::config(&vips));
    let ask = |headers: &str| {
        let mut stream = host.ns.open(|| TcpStream::connect(METRICS)).expect("connect");
        stream.set_read_timeout(Some(SOON)).expect("set a timeout");
        let request = format!("GET /metrics HTTP/1.1\r\nHost: a\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).expect("send");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("an answer");
        answer
    };
    let text = |headers| String::from_utf8_lossy(&ask(headers)).into_owned();
    let plain = text("");
    assert!(plain.contains("version=0.0.4") && plain.contains("real=\"10.0.0.2\""), "{plain}");
    let open = text("Accept: application/openmetrics-text; version=1.0.0\r\n");
    assert!(open.contains("application/openmetrics-text; version=1.0.0"), "{open}");
    assert!(
        open.contains("# TYPE l4lb_packets counter\n") && open.ends_with("\n# EOF\n"),
        "{open}"
    );
    let small = ask("Accept-Encoding: gzip\r\n");
    let head = String::from_utf8_lossy(&small).to_lowercase();
    assert!(head.contains("\r\ncontent-encoding: gzip"), "{head}");
    assert!(small.len() < plain.len() / 3, "{} of {}", small.len(), plain.len());
    serve.reload(&Host::config(&format!("\n[metrics]\nper_real = false\n{vips}")), "reloaded");
    let mut last = String::new();
    let gone = wait_until(SOON, || {
        last = text("");
        !last.contains("real=\"")
    });
    assert!(gone && last.contains("l4lb_vip_usable_reals{"), "{last}");
    serve.stop();
}

#[test]
fn the_alert_rules_do_what_they_say() {
    promtool(&["check", "rules", &docs("alerts.yml")], "");
    promtool(&["test", "rules", &docs("alerts.test.yml")], "");
    // None is left out of the tests.
    let (alerts, tests) = (read("alerts.yml"), read("alerts.test.yml"));
    let names = alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
    for name in names {
        assert!(tests.contains(&format!("alertname=\"{name}\"")), "{name} has no test");
    }
}

/// Names of metrics and labels in a query or a rule.
fn words(text: &str) -> BTreeSet<&str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').collect()
}

#[track_caller]
fn all_are_there(what: &str, text: &str) {
    let of_process = OF_SERVE.into_iter().chain(OF_CHECKS);
    let parts = |name: &str| ["bucket", "sum", "count"].map(|part| format!("{name}_{part}"));
    let parts: Vec<_> = HISTOGRAMS.into_iter().flat_map(parts).collect();
    let known: BTreeSet<_> = families()
        .iter()
        .map(|family| family.name)
        .chain(of_process)
        .chain(parts.iter().map(String::as_str))
        .collect();
    let used: BTreeSet<_> =
        words(text).into_iter().filter(|word| word.starts_with("l4lb_")).collect();
    assert!(used.len() > 5, "{what} uses {used:?}");
    assert!(used.is_subset(&known), "{what}: {:?}", used.difference(&known));
}

#[test]
fn alerts_and_dashboard_name_metrics_that_there_are() {
    all_are_there("alerts.yml", &read("alerts.yml"));
    all_are_there("alerts.test.yml", &read("alerts.test.yml"));

    let dashboard: Value = serde_json::from_str(&read("grafana/l4lb.json")).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let mut queries = Vec::new();
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        let title = panel["title"].as_str().expect("a title");
        let targets = panel["targets"].as_array().expect(title);
        assert!(!targets.is_empty(), "{title} shows nothing");
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
        for target in targets {
            let query = target["expr"].as_str().expect(title);
            assert_eq!(query.matches('(').count(), query.matches(')').count(), "{title}");
            queries.push(query);
        }
    }
    all_are_there("grafana/l4lb.json", &queries.join("\n"));
    let variables = dashboard["templating"]["list"].as_array().expect("variables");
    for name in ["datasource", "job", "instance"] {
        assert!(variables.iter().any(|variable| variable["name"] == name), "{name}");
    }
    all_labels_are_there(&queries.join("\n"));
    // As rules, promtool parses them.
    let rule = |(n, query): (usize, &&str)| {
        let query = query.replace("$__rate_interval", "5m");
        json!({ "record": format!("panel:{n}"), "expr": query })
    };
    let rules: Vec<_> = queries.iter().enumerate().map(rule).collect();
    // JSON is YAML.
    let groups = json!({ "groups": [{ "name": "panels", "rules": rules }] });
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(file.path(), groups.to_string()).expect("write it");
    promtool(&["check", "rules", file.path().to_str().expect("printable")], "");
}

/// What a selector asks of a metric are labels that it has.
#[track_caller]
fn all_labels_are_there(queries: &str) {
    for family in families() {
        let begin = format!("{}{{", family.name);
        let selectors = queries.split(&begin).skip(1);
        for selector in selectors.filter_map(|rest| rest.split('}').next()) {
            for matcher in selector.split(',') {
                let label = matcher.trim().split(['=', '!']).next().unwrap_or_default();
                let has = ["job", "instance"].contains(&label) || family.labels.contains(&label);
                assert!(has, "{} has no label {label}", family.name);
            }
        }
    }
}

/// The collector in another service: examples/metrics.rs.
#[test]
fn another_service_embeds_the_collector() {
    let rig = Rig::new(0);
    let ns = &rig.topology.balancer.ns;
    rig.lbctl().apply(&config(&vip(VIP, &["10.0.0.1"])));
    let served = serve_example(ns, &rig.bpffs, |text| {
        assert!(text.contains("\nexample_scrapes_total "), "{text}");
        promtool(&["check", "metrics"], text);
        let has = |name: &str| {
            text.contains(&format!("\n{name}{{")) || text.contains(&format!("\n{name} "))
        };
        // All but what this instance does not do: no real of it is reached by its MAC.
        let missing: Vec<_> =
            families().iter().map(|family| family.name).filter(|name| !has(name)).collect();
        let beside = |name: &&str| {
            !name.starts_with("l4lb_chain_")
                && !name.starts_with("l4lb_decap_")
                && !OF_HEALTH.contains(name)
                && *name != "l4lb_real_mac_known"
        };
        // Without checks there is no series of any real's health.
        assert!(OF_HEALTH.iter().all(|name| !has(name)), "{text}");
        assert!(!missing.iter().any(beside), "{missing:?}\n{text}");
    });
    assert!(served, "the example does not answer");
}

fn serve_example(ns: &NetNs, bpffs: &Bpffs, check: impl Fn(&str)) -> bool {
    let mut child = ns
        .command(&example("metrics"))
        .args([METRICS, bpffs.text()])
        .stdout(Stdio::null())
        .spawn()
        .expect("the example starts");
    let mut answer = None;
    let served = wait_until(SOON, || {
        answer = get(ns, METRICS, "/").ok();
        // The first ones may not have what is read in the background.
        let ages = ["\nl4lb_ring_sample_age_", "\nl4lb_table_sample_age_"];
        answer.as_ref().is_some_and(|(_, text)| ages.iter().all(|age| text.contains(age)))
    });
    let _ = child.kill();
    let _ = child.wait();
    if let Some((status, text)) = answer {
        assert_eq!(status, 200);
        check(&text);
    }
    served
}
