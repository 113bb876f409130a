//! A failed reload is reported to whoever asked for it, and to whoever looks later.

use std::fs;
use std::fs::File;
use std::io;
use std::io::Write as _;
use std::net::TcpListener;
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use l4lb::outside::MOST_OF_MESSAGE;
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::Value;
use tempfile::NamedTempFile;

use crate::fixtures::Host;
use crate::fixtures::METRICS;
use crate::fixtures::Output;
use crate::fixtures::Running;
use crate::fixtures::by_way_of;
use crate::fixtures::config_file;
use crate::fixtures::get;
use crate::fixtures::json;
use crate::fixtures::lock;
use crate::fixtures::path_of;
use crate::fixtures::vip;
use crate::fixtures::wait_until;

const VIP: &str = "tcp://10.200.1.1:80";
const SOON: Duration = Duration::from_secs(20);

/// `lbctl serve` of a file that can be changed.
struct Serve<'h> {
    host: &'h Host,
    file: NamedTempFile,
    running: Running,
}

fn good() -> String {
    Host::config(&vip(VIP, &["10.0.0.1"]))
}

impl<'h> Serve<'h> {
    #[track_caller]
    fn start(host: &'h Host, environment: &[(&str, &str)]) -> Self {
        let file = config_file(&good());
        let mut lbctl = host.lbctl();
        for (key, value) in environment {
            lbctl = lbctl.env(key, value);
        }
        let path = path_of(&file).to_owned();
        let mut running = lbctl.spawn(&["--lock-timeout", "600", "serve", "-f", &path]);
        running.wait_for("metrics at http");
        Self { host, file, running }
    }

    fn write(&self, config: &str) {
        fs::write(self.file.path(), config).expect("write the configuration");
    }

    /// Writes another file and reloads.
    #[track_caller]
    fn reload(&self, config: &str) -> Output {
        self.write(config);
        self.host.lbctl().run(&["reload"])
    }

    /// Fails unless the reload fails, with one line.
    #[track_caller]
    fn fails(&self, config: &str, why: &str) {
        let output = self.reload(config);
        assert_eq!((output.code(), output.stdout.as_str()), (Some(1), ""), "{output}");
        assert_eq!(output.stderr.lines().count(), 1, "{output}");
        assert!(output.stderr.starts_with("error: not reloaded: "), "{output}");
        assert!(output.stderr.contains(why), "not '{why}', but {output}");
    }

    fn ready(&self, query: &str) -> (u16, String) {
        get(&self.host.ns, METRICS, &format!("/readyz{query}")).expect("it answers")
    }

    /// Fails unless status, metrics and endpoint all report the result of the reload.
    #[track_caller]
    fn told(&self, failed: Option<&str>) {
        let (finding, status) = finding(self.host);
        assert_eq!(finding.is_some(), failed.is_some(), "{status:#}");
        if let (Some(finding), Some(why)) = (&finding, failed) {
            assert!(finding["what"].as_str().is_some_and(|what| what.contains(why)), "{finding}");
            assert_eq!(status["condition"]["well"], false);
            let output = self.host.lbctl().exits(1, &["status", "--check"]);
            assert!(output.stdout.contains("the last reload failed ("), "{output}");
            assert!(output.stdout.contains("RELOAD FAILED "), "{output}");
        }
        assert_eq!(status["serve"]["pid"], self.running.pid().as_raw());
        // Forwarding goes on, so the host stays ready: else one bad file would take all its hosts out of the routing.
        let (code, text) = self.ready("");
        assert_eq!((code, text.lines().next()), (200, Some("ready")), "{text}");
        assert_eq!(text.lines().nth(1).is_some(), failed.is_some(), "{text}");
        let (code, text) = self.ready("?strict");
        assert_eq!(code, if failed.is_some() { 503 } else { 200 }, "{text}");
        assert!(text.contains(failed.unwrap_or("ready")), "{text}");
        let series = format!("\nl4lb_reload_success {}\n", u8::from(failed.is_none()));
        let page = || get(&self.host.ns, METRICS, "/metrics").expect("metrics").1;
        // Readings are shared for a second.
        assert!(wait_until(SOON, || page().contains(&series)), "no '{series}' in {}", page());
    }
}

/// What `lbctl status` says about a failed reload, if it does; and all of its output.
#[track_caller]
fn finding(host: &Host) -> (Option<Value>, Value) {
    let status = json(&host.lbctl().ok(&["status", "--json"]));
    let findings = status["condition"]["findings"].as_array().expect("findings").clone();
    (findings.into_iter().find(|finding| finding["problem"] == "reload_failed"), status)
}

#[test]
fn whoever_reloads_hears_the_outcome() {
    let host = Host::new();
    let output = host.lbctl().exits(1, &["reload"]);
    assert!(output.stderr.contains("nobody serves the balancer of instance 'default'"), "{output}");
    let serve = Serve::start(&host, &[]);
    serve.told(None);
    let two = Host::config(&[vip(VIP, &["10.0.0.1"]), vip("udp://10.200.1.2:53", &[])].concat());
    let output = serve.reload(&two);
    assert_eq!((output.code(), output.stdout.as_str()), (Some(0), "reloaded\n"), "{output}");
    assert!(host.lbctl().ok(&["vip", "list"]).stdout.contains("10.200.1.2"));
    serve.told(None);

    let mistake = good().replace("10.0.0.1", "10.0.0.256");
    for (bad, why) in [
        ("[[vips]\n", "unclosed array table"),
        (mistake.as_str(), "vips[0].reals[0].address: "),
        ("colour = \"red\"\n", "colour"),
    ] {
        serve.fails(bad, why);
        serve.told(Some(why));
        assert!(host.lbctl().ok(&["vip", "list"]).stdout.contains("10.200.1.2"), "it goes on");
    }
    let json = json(&{
        let output = host.lbctl().exits(1, &["reload", "--json"]);
        assert_eq!(output.stderr, "");
        output
    });
    assert_eq!((&json["success"], &json["applied"]), (&false.into(), &false.into()));
    assert!(json["at"].as_u64().is_some_and(|at| at > 1_700_000_000), "{json}");

    // A file that is applied by hand is in force, whatever became of the reload.
    let file = config_file(&good());
    host.lbctl().ok(&["apply", "--yes", "-f", file.path().to_str().expect("printable")]);
    // But the file of lbctl serve is not, until it says the same.
    serve.write(&good());
    assert!(wait_until(SOON, || serve.ready("?strict").0 == 200), "{:?}", serve.ready("?strict"));
    serve.told(None);
    serve.fails("nonsense", "key with no value");
    serve.told(Some("key with no value"));
    assert_eq!(serve.reload(&good()).code(), Some(0));
    serve.told(None);

    // Also without pins.
    host.lbctl().ok(&["down"]);
    serve.fails("nonsense", "key with no value");
    assert!(!host.has_pins("default"));
    assert_eq!(serve.reload(&good()).code(), Some(0));
    serve.told(None);

    // Nothing is reported of a process that has ended, or of the next one.
    serve.fails("nonsense", "key with no value");
    let Serve { running, file, .. } = serve;
    running.signal(Signal::SIGKILL);
    running.wait(SOON);
    let (found, status) = finding(&host);
    assert!(found.is_none() && status["serve"].is_null(), "{status:#}");
    host.lbctl().exits(1, &["reload"]);
    fs::write(file.path(), good()).expect("write the configuration");
    let mut running =
        host.lbctl().spawn(&["serve", "-f", file.path().to_str().expect("printable")]);
    running.wait_for("metrics at http");
    Serve { host: &host, file, running }.told(None);
}

/// The message repeats only a bounded, printable part of the file.
#[test]
fn a_message_is_one_short_line() {
    let host = Host::new();
    let serve = Serve::start(&host, &[]);
    let long = format!("\"{}\" = 1\n", "\\u001b[2J\u{202e}x".repeat(10_000));
    let output = serve.reload(&long);
    assert_eq!(output.code(), Some(1));
    assert!(output.stderr.chars().count() <= MOST_OF_MESSAGE + 2, "{}", output.stderr.len());
    let (found, _) = finding(&host);
    for text in [output.stderr, found.expect("a finding")["what"].to_string(), serve.ready("").1] {
        assert!(!text.trim_end().contains(['\u{1b}', '\u{202e}']), "{text}");
    }
}

#[test]
fn each_hears_the_outcome_of_a_reload_that_read_its_file() {
    let host = Host::new();
    let serve = Serve::start(&host, &[]);
    // While the first reads its file, the second comes; then the file says something else.
    fs::remove_file(serve.file.path()).expect("remove the file");
    mkfifo(serve.file.path(), Mode::S_IRWXU).expect("put a pipe there");
    // It is open when somebody reads.
    let open = || File::options().write(true).open(serve.file.path()).expect("open the pipe");
    let first = host.lbctl().spawn(&["reload"]);
    let mut pipe = open();
    let mut second = host.lbctl().spawn(&["reload"]);
    // Wait until the second has asked, however long that takes: the first outcome is not its own.
    std::thread::sleep(Duration::from_secs(1));
    let other = Host::config(&vip(VIP, &["10.0.0.2"]));
    pipe.write_all(other.as_bytes()).expect("write the configuration");
    drop(pipe);
    let first = first.wait(SOON);
    assert_eq!(first.code(), Some(0), "{first}");
    assert!(second.is_running(), "it waits for its own");
    open().write_all(b"nonsense").expect("write the configuration");
    let second = second.wait(SOON);
    assert_eq!(second.code(), Some(1), "{second}");
    assert!(host.lbctl().ok(&["real", "list"]).stdout.contains("10.0.0.2"));
    fs::remove_file(serve.file.path()).expect("remove the pipe");

    // Many at once.
    serve.write(&good());
    let all: Vec<_> = (0..6).map(|_| host.lbctl().spawn(&["reload"])).collect();
    for running in all {
        let output = running.wait(SOON * 2);
        assert_eq!(output.code(), Some(0), "{output}");
    }
}

#[test]
fn every_wait_ends() {
    let host = Host::new();
    let serve = Serve::start(&host, &[]);
    let pid = serve.running.pid();
    fs::remove_file(serve.file.path()).expect("remove the file");
    mkfifo(serve.file.path(), Mode::S_IRWXU).expect("put a pipe there");
    let output = host.lbctl().exits(1, &["reload", "--timeout", "1"]);
    let who = format!("error: process {pid} (");
    assert!(output.stderr.starts_with(&who), "{output}");
    assert!(output.stderr.contains("has not reloaded within 1 s"), "{output}");
    // It answers meanwhile, and ends when it is told to.
    assert_eq!(serve.ready("").0, 200);
    let waiting = host.lbctl().spawn(&["reload"]);
    std::thread::sleep(Duration::from_millis(300));
    serve.running.signal(Signal::SIGTERM);
    assert_eq!(serve.running.wait(SOON).code(), Some(0));
    let output = waiting.wait(SOON);
    assert_eq!(output.code(), Some(1), "{output}");
    let ended = output.stderr.contains("ended before it had reloaded");
    assert!(ended || output.stderr.contains("nobody serves"), "{output}");
    for wrong in ["0", "86401", "x", "-1"] {
        host.lbctl().exits(2, &["reload", &format!("--timeout={wrong}")]);
    }
}

#[test]
fn one_that_cannot_be_reached() {
    let host = Host::new();
    let serve = Serve::start(&host, &[]);
    let unshared = ["unshare", "--pid", "--fork", "--mount-proc"];
    let output = by_way_of(&host, &unshared, host.bpffs.text(), &["reload"]);
    assert_eq!(output.code(), Some(1), "{output}");
    assert!(output.stderr.contains("cannot be seen from here"), "{output}");
    assert!(output.stderr.contains("reload it from there"), "{output}");
    drop(serve);
}

/// The file is in force, and metrics are where they were.
#[test]
fn metrics_that_cannot_move() {
    let host = Host::new();
    let serve = Serve::start(&host, &[]);
    let taken = host.ns.bind(|| TcpListener::bind("127.0.0.1:9850")).expect("listen");
    let listen = "[metrics]\nlisten = \"127.0.0.1:9850\"\n";
    let output = serve.reload(&format!("{}{listen}", Host::config(&vip(VIP, &["10.0.0.2"]))));
    assert_eq!(output.code(), Some(1), "{output}");
    assert!(output.stderr.starts_with("error: reloaded, but for the metrics: "), "{output}");
    assert!(output.stderr.contains("127.0.0.1:9850"), "{output}");
    assert!(host.lbctl().ok(&["real", "list"]).stdout.contains("10.0.0.2"));
    serve.told(None);
    let status = || host.lbctl().ok(&["status"]).stdout;
    assert!(status().contains("reloaded, but for the metrics"));
    assert!(status().contains("NO METRICS where its file says"));
    drop(taken);
    let listens = || host.ns.open(|| TcpStream::connect("127.0.0.1:9850")).is_ok();
    assert!(wait_until(Duration::from_secs(30), listens), "it is tried again");
    assert!(wait_until(Duration::from_secs(30), || !status().contains("NO METRICS")));
}

/// The messages that systemd gets until the reload has its outcome.
#[test]
fn systemd_has_no_reload_under_way_when_the_outcome_is_known() {
    let host = Host::new();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket.set_nonblocking(true).expect("do not wait");
    let serve = Serve::start(&host, &[("NOTIFY_SOCKET", path.to_str().expect("printable"))]);
    let heard = || -> Vec<String> {
        let mut messages = Vec::new();
        loop {
            let mut buffer = [0; 4096];
            match socket.recv(&mut buffer) {
                Ok(length) => {
                    messages.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return messages,
                Err(error) => panic!("{error}"),
            }
        }
    };
    let mut start = Vec::new();
    assert!(wait_until(SOON, || {
        start.extend(heard());
        !start.is_empty()
    }));
    assert_eq!(start, ["READY=1\nSTATUS=serving\n"]);
    for (config, status) in
        [("nonsense".to_owned(), "STATUS=not reloaded: "), (good(), "STATUS=serving\n")]
    {
        serve.reload(&config);
        let messages = heard();
        let [begun, ended] = &messages[..] else { panic!("two, not {messages:?}") };
        assert!(begun.starts_with("RELOADING=1\n"), "{begun}");
        assert!(begun.contains("MONOTONIC_USEC=") && begun.contains("STATUS=reloading"), "{begun}");
        assert!(ended.starts_with("READY=1\n") && ended.contains(status), "{ended}");
        assert_eq!(ended.lines().count(), 2, "{ended}");
    }
}

/// Whoever looks at `systemctl status` or at the metrics sees a failed reload only as long as it counts.
#[test]
fn another_command_heals_the_status() {
    let host = Host::new();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout");
    let serve = Serve::start(&host, &[("NOTIFY_SOCKET", path.to_str().expect("printable"))]);
    let status = |wanted: &str| loop {
        let mut buffer = [0; 4096];
        let length = socket.recv(&mut buffer).unwrap_or_else(|error| panic!("{wanted}: {error}"));
        let message = String::from_utf8_lossy(&buffer[..length]).into_owned();
        if message.contains(wanted) {
            return message;
        }
    };
    status("STATUS=serving\n");
    let metrics = |series: &str| {
        let page = || get(&host.ns, METRICS, "/metrics").expect("metrics").1;
        assert!(wait_until(Duration::from_secs(60), || page().contains(series)), "{series}");
    };
    serve.reload("nonsense");
    status("STATUS=not reloaded: ");
    metrics("\nl4lb_reload_success 0\n");
    metrics("\nl4lb_config_in_sync 0\n");
    fs::write(serve.file.path(), good()).expect("write");
    host.lbctl().ok(&["apply", "-f", serve.file.path().to_str().expect("printable")]);
    status("STATUS=serving\n");
    metrics("\nl4lb_reload_success 1\n");
    metrics("\nl4lb_config_in_sync 1\n");
    // Nor does a file that is another stay untold.
    fs::write(serve.file.path(), good().replace("10.0.0.", "10.0.9.")).expect("write");
    status("STATUS=serving; the file differs from what was applied");
}

/// The reload command that the units for systemd run exists.
#[test]
fn the_units_reload() {
    let host = Host::new();
    let reload = |unit: &str, instance: &str| {
        let line = unit.lines().find_map(|line| line.strip_prefix("ExecReload="));
        let line = line.expect("ExecReload=").replace("%i", instance);
        let mut words = line.split(' ');
        assert_eq!(words.next(), Some("/usr/local/bin/lbctl"));
        host.lbctl().run(&words.collect::<Vec<_>>())
    };
    let balancer = include_str!("../../../examples/systemd/l4lb@.service");
    let decap = include_str!("../../../examples/systemd/l4lb-decap@.service");
    for output in [reload(balancer, "default"), reload(decap, "uplink")] {
        assert_eq!(output.code(), Some(1), "{output}");
        assert!(output.stderr.starts_with("error: nobody serves "), "{output}");
    }
    let _serve = Serve::start(&host, &[]);
    let mut serving = host.lbctl().spawn(&["--lock-timeout", "3", "decap", "serve", "uplink"]);
    serving.wait_for("decapsulating on");
    for output in [reload(balancer, "default"), reload(decap, "uplink")] {
        assert_eq!((output.code(), output.stdout.as_str()), (Some(0), "reloaded\n"), "{output}");
    }

    // New addresses that cannot be taken over, as another command has the lock.
    let held = lock(&host.bpffs.path().join("l4lb/default"));
    host.ns.shell("ip addr add 172.31.0.7/32 dev uplink");
    let output = reload(decap, "uplink");
    assert_eq!(output.code(), Some(1), "{output}");
    assert!(output.stderr.starts_with("error: not reloaded: "), "{output}");
    assert!(output.stderr.contains("is being changed by process"), "{output}");
    drop(held);
    assert_eq!(reload(decap, "uplink").code(), Some(0));
}
