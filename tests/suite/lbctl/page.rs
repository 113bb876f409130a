//! The status page, and what the metrics endpoint answers of the API for it.

use std::io;
use std::io::Read;
use std::io::Write;
use std::net::TcpListener;
use std::net::TcpStream;
use std::ops::Range;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::thread;
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;

use crate::fixtures::Host;
use crate::fixtures::METRICS;
use crate::fixtures::NetNs;
use crate::fixtures::Serve;
use crate::fixtures::vip;
use crate::fixtures::wait_until;

const WEB: &str = "tcp://10.200.1.1:80";

/// What a real's server could say.
const HOSTILE: &str =
    "503 <img src=x onerror=document.title='owned'><script>document.title='owned'</script>";

fn vips() -> String {
    [WEB, "udp://[fc00:1::2]:443", "tcp://10.200.1.3:8080"]
        .map(|one| vip(one, &["10.0.0.1", "10.0.0.2"]))
        .concat()
}

/// An answer.
struct Reply {
    status: u16,
    /// In small letters.
    head: String,
    body: Vec<u8>,
}

impl Reply {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }
}

/// What the endpoint answers. `headers` end with `\r\n` each.
#[track_caller]
fn ask(ns: &NetNs, request: &str, headers: &str) -> Reply {
    let mut stream = ns.open(|| TcpStream::connect(METRICS)).expect("connect");
    stream.set_read_timeout(Some(Duration::from_secs(40))).expect("set a timeout");
    let bytes = format!("{request} HTTP/1.1\r\n{headers}\r\n");
    stream.write_all(bytes.as_bytes()).expect("send");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("headers");
    let head = String::from_utf8_lossy(&answer[..end]).to_lowercase();
    let status = head.split(' ').nth(1).and_then(|text| text.parse().ok()).expect("a status");
    Reply { status, head, body: answer[end + 4..].to_vec() }
}

#[track_caller]
fn get(ns: &NetNs, path: &str) -> Reply {
    ask(ns, &format!("GET {path}"), "Host: 127.0.0.1:9847\r\n")
}

/// Paths and methods of docs/openapi.json, with the VIP and real of these tests.
fn operations() -> Vec<(String, String)> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/openapi.json");
    let text = std::fs::read_to_string(path).expect("the description");
    let document: Value = serde_json::from_str(&text).expect("JSON");
    let paths = document["paths"].as_object().expect("paths").iter();
    paths
        .flat_map(|(path, methods)| {
            let path = path.replace("{protocol}", "tcp").replace("{address}", "10.200.1.1");
            let path = path.replace("{port}", "80").replace("{real}", "10.0.0.1");
            let methods = methods.as_object().expect("methods").keys();
            let methods = methods.filter(|key| *key != "parameters");
            methods.map(|method| (method.to_uppercase(), path.clone())).collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn the_network_may_read_little_and_change_nothing() {
    let host = Host::new();
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("api.sock");
    let control = format!("\n[control]\nsocket = \"{}\"\n", socket.display());
    let mut serve = Serve::start(host.lbctl(), &Host::config(&(control.clone() + &vips())));
    let (ns, before) = (&host.ns, host.lbctl().ok(&["save", "--json"]).stdout);

    let open = [
        "/v1",
        "/v1/openapi.json",
        "/v1/version",
        "/v1/overview",
        "/v1/vips/tcp/10.200.1.1/80/reals",
    ];
    let shown = socket.display().to_string();
    for (method, path) in operations() {
        let reply =
            ask(ns, &format!("{method} {path}"), "Host: 127.0.0.1\r\nContent-Length: 0\r\n");
        let expected = match method.as_str() {
            "GET" if open.contains(&path.as_str()) => 200,
            "GET" => 403,
            _ => 405,
        };
        assert_eq!(reply.status, expected, "{method} {path}: {}", reply.text());
        assert!(
            reply.status == 200 || reply.text().contains(&shown),
            "{method} {path}: {}",
            reply.text()
        );
    }
    let clients = get(ns, "/v1/flows/count?client=192.0.2.1");
    assert_eq!(clients.status, 403, "{}", clients.text());
    assert_eq!(get(ns, "/v1/nothing").status, 404);
    assert_eq!(get(ns, "/v1/overview?x=1").status, 400);
    assert_eq!(host.lbctl().ok(&["save", "--json"]).stdout, before, "nothing has changed");

    let overview = get(ns, "/v1/overview").json();
    assert_eq!(overview["vips"].as_array().map(Vec::len), Some(3), "{overview:#}");
    assert_eq!(
        (&overview["vips"][0]["reals"], &overview["vips"][0]["usable"]),
        (&2.into(), &2.into())
    );
    let mut judgement = Value::Null;
    let judged = wait_until(Duration::from_secs(20), || {
        judgement = get(ns, "/v1/overview").json()["judgement"].take();
        !judgement.is_null()
    });
    assert!(judged && judgement["condition"]["findings"].is_array(), "{judgement:#}");
    let reals = get(ns, "/v1/vips/tcp/10.200.1.1/80/reals").json();
    assert_eq!(reals[1]["address"], "10.0.0.2", "{reals:#}");
    assert_eq!(get(ns, "/v1/vips/tcp/10.200.1.9/80/reals").status, 404);

    let large = ask(ns, "GET /v1/overview", "Host: 127.0.0.1\r\nAccept-Encoding: br, gzip\r\n");
    assert!(
        large.head.contains("\r\ncontent-encoding: gzip") && large.body.starts_with(&[0x1f, 0x8b])
    );

    // The page goes with a reload, and the paths with it.
    serve.reload(
        &Host::config(&format!("\n[metrics]\npage = false\n{control}{}", vips())),
        "reloaded",
    );
    let index = get(ns, "/");
    assert!(
        index.status == 200 && index.text().contains("/metrics for Prometheus"),
        "{}",
        index.text()
    );
    assert_eq!(get(ns, "/v1/overview").status, 404);
    serve.stop();
}

#[test]
fn browsers_are_told_what_nobody_may_do() {
    let host = Host::new();
    let named = format!("\n[metrics]\nhosts = [\"lb.example.net\"]\n{}", vips());
    let serve = Serve::start(host.lbctl(), &Host::config(&named));
    let ns = &host.ns;
    for path in ["/", "/v1/overview", "/v1/status"] {
        let reply = get(ns, path);
        let policy =
            reply.head.lines().find_map(|line| line.strip_prefix("content-security-policy: "));
        let policy = policy.unwrap_or_else(|| panic!("{path}: {}", reply.head));
        for part in [
            "default-src 'none'",
            "connect-src 'self'",
            "frame-ancestors 'none'",
            "base-uri 'none'",
            "form-action 'none'",
        ] {
            assert!(policy.contains(part) && !policy.contains("unsafe"), "{path}: {policy}");
        }
        for header in [
            "x-content-type-options: nosniff",
            "referrer-policy: no-referrer",
            "cache-control: no-store",
        ] {
            assert!(reply.head.contains(&format!("\r\n{header}")), "{path}: {}", reply.head);
        }
        assert!(!reply.head.contains("access-control"), "{path}: {}", reply.head);
    }
    let page = get(ns, "/");
    assert!(page.head.contains("\r\ncontent-type: text/html; charset=utf-8"), "{}", page.head);
    assert!(ask(ns, "HEAD /", "Host: [::1]\r\n").body.is_empty());
    assert_eq!(ask(ns, "POST /", "Host: localhost\r\nContent-Length: 0\r\n").status, 405);
    for (headers, of_page, of_api) in [
        ("", 200, 200),
        ("Host: lb.example.net:9847\r\n", 200, 200),
        ("Host: evil.example:9847\r\n", 403, 403),
        ("Host: 127.0.0.1\r\nSec-Fetch-Site: cross-site\r\n", 200, 403),
        ("Host: 127.0.0.1\r\nSec-Fetch-Site: same-origin\r\n", 200, 200),
        ("Host: 127.0.0.1\r\nOrigin: http://evil.example\r\n", 200, 403),
    ] {
        // HTTP/1.1 asks for a name, but the server does not insist.
        assert_eq!(ask(ns, "GET /", headers).status, of_page, "{headers}");
        assert_eq!(ask(ns, "GET /v1/overview", headers).status, of_api, "{headers}");
    }
    // Prometheus asks by any name.
    assert_eq!(ask(ns, "GET /metrics", "Host: evil.example\r\n").status, 200);
    serve.stop();
}

/// A browser; `None`: there is none, on a system whose packages have none that runs here. The test is skipped then.
fn browser() -> Option<&'static str> {
    let names = ["chromium-headless-shell", "chromium", "google-chrome"];
    let there = |name: &&str| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|folder| folder.join(name).exists())
    };
    let found = names.into_iter().find(there);
    let debian =
        std::fs::read_to_string("/etc/os-release").unwrap_or_default().contains("\nID=debian\n");
    assert!(
        found.is_some() || !debian,
        "chromium-headless-shell is missing: .ci/setup test installs it"
    );
    if found.is_none() {
        eprintln!("skipped: no chromium-headless-shell, chromium or google-chrome");
    }
    found
}

/// The page after some seconds, as the browser has it then.
#[track_caller]
fn dump(ns: &NetNs, browser: &str, folder: &Path, page: &str) -> String {
    let mut command: Command = ns.command(browser);
    let output = command
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--virtual-time-budget=9000",
            "--dump-dom",
        ])
        .arg(format!("--user-data-dir={}", folder.display()))
        .arg(format!("http://{page}"))
        .output()
        .unwrap_or_else(|error| panic!("{browser}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{browser}: {said}");
    let dom = String::from_utf8_lossy(&output.stdout).into_owned();
    // The script's own source is no part of what it has made.
    let (before, rest) = dom.split_once("<script>").expect("the script");
    let (_, after) = rest.split_once("</script>").expect("its end");
    assert!(!after.contains("<script"), "{after}");
    before.to_owned()
}

#[test]
fn a_browser_shows_it() {
    let Some(browser) = browser() else { return };
    let host = Host::new();
    let profile = tempfile::tempdir().expect("a folder");
    let serve = Serve::start(host.lbctl(), &Host::config(&vips()));
    host.lbctl().ok(&["real", "health", WEB, "10.0.0.2", "unhealthy", "--reason", HOSTILE]);
    // The browser's seconds pass faster than ours.
    let judged = wait_until(Duration::from_secs(40), || {
        let overview = get(&host.ns, "/v1/overview").json();
        overview["judgement"]["condition"]["findings"].to_string().contains("503 <img")
    });
    assert!(judged, "{}", get(&host.ns, "/v1/overview").text());

    let dom = dump(&host.ns, browser, profile.path(), &format!("{METRICS}/#{WEB}"));
    for text in [WEB, "udp://[fc00:1::2]:443", "tcp://10.200.1.3:8080"] {
        assert!(dom.contains(&format!(">{text}</span>")), "{text}: {dom}");
    }
    // What the server said is text, in the open VIP and in the condition.
    assert!(dom.matches("503 &lt;img src=x onerror=").count() >= 2, "{dom}");
    assert!(!dom.contains("<img") && !dom.contains("<title>owned"), "{dom}");
    for text in
        ["✕ unhealthy", "▲ 1 of 2: 1 unhealthy", "Not well: ", "lbctl probe", ">balancer", "uplink"]
    {
        assert!(dom.contains(text), "{text}: {dom}");
    }
    assert!(
        dom.contains("aria-expanded=\"true\"") && dom.contains("aria-live=\"polite\""),
        "{dom}"
    );

    host.lbctl().ok(&["down"]);
    // A reading counts for a second, in which all of the browser's seconds may pass.
    let down = || get(&host.ns, "/v1/overview").status == 503;
    assert!(wait_until(Duration::from_secs(10), down), "{}", get(&host.ns, "/v1/overview").text());
    let dom = dump(&host.ns, browser, profile.path(), METRICS);
    assert!(dom.contains(">Not running</p>") && dom.contains(">default</span>"), "{dom}");
    assert!(dom.contains("lbctl serve</code> with its file brings it up"), "{dom}");
    assert!(!dom.contains(WEB), "{dom}");
    serve.stop();
}

/// Where the page is asked for by way of [`Goes`].
const GOES: &str = "127.0.0.1:9848";

/// Passes on to `lbctl serve` what a browser asks, but as if serve went away: `readings` of the page are answered, then
/// `failures` get `answer` instead, and those after that are answered again.
struct Goes {
    ends: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Goes {
    #[track_caller]
    fn start(ns: &NetNs, readings: usize, failures: usize, answer: &'static str) -> Self {
        let listener = ns.bind(|| TcpListener::bind(GOES)).expect("listen");
        let (ends, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (ending, asking) = (Arc::clone(&ends), Arc::clone(&asked));
        let thread = ns.spawn(move || {
            for client in listener.incoming() {
                if ending.load(Ordering::SeqCst) {
                    return;
                }
                let (client, asking) = (client.expect("accept"), Arc::clone(&asking));
                // A browser opens connections that it does not use, and closes those that it does.
                thread::spawn(move || {
                    let _: io::Result<()> =
                        pass_on(client, &asking, readings..readings + failures, answer);
                });
            }
        });
        Self { ends, asked, thread: Some(thread) }
    }

    /// Ends it. Returns how often the page was read.
    fn stop(mut self, ns: &NetNs) -> usize {
        self.ends.store(true, Ordering::SeqCst);
        drop(ns.open(|| TcpStream::connect(GOES)));
        self.thread.take().expect("not stopped").join().expect("it does not panic");
        self.asked.load(Ordering::SeqCst)
    }
}

fn pass_on(
    mut client: TcpStream,
    asked: &AtomicUsize,
    fails: Range<usize>,
    answer: &str,
) -> io::Result<()> {
    client.set_read_timeout(Some(Duration::from_secs(30)))?;
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte)?;
        request.extend(byte);
    }
    if request.starts_with(b"GET /v1/overview ")
        && fails.contains(&asked.fetch_add(1, Ordering::SeqCst))
    {
        return client.write_all(answer.as_bytes());
    }
    let mut serve = TcpStream::connect(METRICS)?;
    serve.write_all(&request)?;
    io::copy(&mut serve, &mut client)?;
    Ok(())
}

#[test]
fn it_says_since_when_nobody_answers() {
    let Some(browser) = browser() else { return };
    let host = Host::new();
    let profile = tempfile::tempdir().expect("a folder");
    let serve = Serve::start(host.lbctl(), &Host::config(&vips()));
    let ns = &host.ns;
    let classes = |dom: &str| {
        let class = dom.split_once("class=\"").and_then(|(_, rest)| rest.split_once('"'));
        class.expect("a class of the page").0.to_owned()
    };

    // It goes while the page is open: what was read stays, and is said to be old.
    let goes = Goes::start(ns, 2, usize::MAX / 2, "");
    let dom = dump(ns, browser, profile.path(), GOES);
    assert!(goes.stop(ns) > 3, "the page asks again");
    assert!(dom.contains(">No answer since "), "{dom}");
    for text in ["lbctl serve has not answered since ", "systemctl status l4lb@default</code>", WEB]
    {
        assert!(dom.contains(text), "{text}: {dom}");
    }
    assert!(dom.contains(">Values of ") && classes(&dom) == "stale", "{dom}");

    // One answer that gets lost is nothing to tell.
    let goes = Goes::start(ns, 2, 1, "");
    let dom = dump(ns, browser, profile.path(), GOES);
    assert!(goes.stop(ns) > 3, "the page asks again");
    assert!(dom.contains(">Updated ") && !dom.contains("No answer"), "{dom}");
    assert_eq!(classes(&dom), "", "{dom}");

    // Nobody has ever answered.
    let goes = Goes::start(ns, 0, usize::MAX / 2, "");
    let dom = dump(ns, browser, profile.path(), GOES);
    goes.stop(ns);
    assert!(dom.contains(">No answer</p>") && classes(&dom) == "nothing", "{dom}");
    assert!(dom.contains("lbctl serve does not answer</strong>") && !dom.contains(WEB), "{dom}");

    // An answer of another version than the page's.
    let other = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";
    let goes = Goes::start(ns, 0, usize::MAX / 2, other);
    let dom = dump(ns, browser, profile.path(), GOES);
    goes.stop(ns);
    assert!(dom.contains(">Cannot be shown</p>") && dom.contains("Load the page again"), "{dom}");
    serve.stop();
}
