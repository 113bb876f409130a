//! A file on disk that is not what runs; and `lbctl serve --watch`.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::fixtures::Host;
use crate::fixtures::METRICS;
use crate::fixtures::Running;
use crate::fixtures::UPLINK;
use crate::fixtures::get;
use crate::fixtures::json;
use crate::fixtures::vip;
use crate::fixtures::wait_until;

const SOON: Duration = Duration::from_secs(30);

fn config(real: &str) -> String {
    Host::config(&vip("tcp://10.200.1.1:80", &[real]))
}

fn with_include(real: &str) -> String {
    format!("include = [\"vips/*.toml\"]\n{}", config(real))
}

/// `lbctl serve` of a file in a folder of its own.
fn start(host: &Host, text: &str, options: &[&str]) -> (TempDir, Running) {
    let folder = tempfile::tempdir().expect("a folder");
    fs::create_dir(folder.path().join("vips")).expect("a folder");
    let file = folder.path().join("lb.toml");
    fs::write(&file, text).expect("write");
    let path = file.to_str().expect("printable");
    let mut running = host.lbctl().spawn(&[&["serve", "-f", path], options].concat());
    running.wait_for("metrics at http");
    (folder, running)
}

/// Replaces a file in one step, as editors do.
fn replace(path: &Path, text: &str) {
    let next = path.with_extension("new");
    fs::write(&next, text).expect("write");
    fs::rename(&next, path).expect("rename");
}

fn problem(host: &Host) -> Option<Value> {
    let status = json(&host.lbctl().ok(&["status", "--json"]));
    let findings = status["condition"]["findings"].as_array().expect("findings").clone();
    findings.into_iter().find(|finding| finding["problem"] == "file_differs")
}

/// Waits until the file differs (`Some`: and whether it is valid), or does not, for all who ask.
#[track_caller]
fn told(host: &Host, differs: Option<bool>) {
    let is = || problem(host).map(|found| found["valid"] == true) == differs;
    assert!(wait_until(SOON, is), "{:?}", problem(host));
    let code = get(&host.ns, METRICS, "/readyz?strict").expect("it answers").0;
    assert_eq!(code, if differs.is_some() { 503 } else { 200 });
    assert_eq!(get(&host.ns, METRICS, "/readyz").expect("it answers").0, 200);
    let series = format!("\nl4lb_config_in_sync {}\n", u8::from(differs.is_none()));
    let page = || get(&host.ns, METRICS, "/metrics").expect("metrics").1;
    assert!(wait_until(SOON, || page().contains(&series)), "{series}");
    if differs.is_some() {
        host.lbctl().exits(1, &["status", "--check"]);
    }
}

fn has_real(host: &Host, real: &str) -> bool {
    host.lbctl().ok(&["real", "list"]).stdout.contains(real)
}

#[test]
fn a_file_that_was_not_applied_is_told() {
    let host = Host::new();
    let (folder, mut running) = start(&host, &config("10.0.0.1"), &[]);
    let file = folder.path().join("lb.toml");
    told(&host, None);
    // A comment says nothing else.
    fs::write(&file, format!("# a comment\n{}", config("10.0.0.1"))).expect("write");
    std::thread::sleep(Duration::from_secs(11));
    told(&host, None);
    fs::write(&file, config("10.0.0.2")).expect("write");
    told(&host, Some(true));
    assert!(!has_real(&host, "10.0.0.2"), "nobody has reloaded");
    fs::write(&file, "colour = 1\n").expect("write");
    told(&host, Some(false));
    running.wait_for("colour: unknown field");
    host.lbctl().exits(1, &["reload"]);
    replace(&file, &config("10.0.0.2"));
    host.lbctl().ok(&["reload"]);
    told(&host, None);
    // Commands are meant as they are.
    host.lbctl().ok(&["real", "drain", "tcp://10.200.1.1:80", "10.0.0.2"]);
    assert_eq!(problem(&host), None);
    // Another process applies the file; what concerns lbctl serve needs a reload.
    fs::write(&file, config("10.0.0.3")).expect("write");
    told(&host, Some(true));
    host.lbctl().ok(&["apply", "--yes", "-f", file.to_str().expect("printable")]);
    told(&host, None);
    fs::write(&file, config("10.0.0.3") + "[notify]\nexec = \"/bin/true\"\n").expect("write");
    told(&host, Some(true));
    let apply = ["apply", "-f", file.to_str().expect("printable")];
    let said = host.lbctl().ok(&apply).stderr;
    assert!(
        said.contains("[notify]: lbctl serve goes on with") && said.contains("lbctl reload"),
        "{said}"
    );
    for same in ["[[interfaces]]", "[metrics]", "[control]"] {
        assert!(!said.contains(same), "{said}");
    }
    let plan = json(&host.lbctl().ok(&[&apply[..], &["--json"]].concat()));
    let warning = plan["warnings"][0].as_str().expect("a warning");
    assert!(said.contains(warning), "{plan} {said}");
    std::thread::sleep(Duration::from_secs(6));
    told(&host, Some(true));
    host.lbctl().ok(&["reload"]);
    told(&host, None);
    assert_eq!(host.lbctl().ok(&apply).stderr, "");
    // Nobody serves any longer: nobody is told to reload.
    drop(running);
    fs::write(&file, config("10.0.0.3") + "[metrics]\nlisten = \"127.0.0.1:9999\"\n")
        .expect("write");
    assert_eq!(host.lbctl().ok(&apply).stderr, "");
}

/// `lbctl serve` follows the interfaces that were applied last, whoever did it.
#[test]
fn interfaces_of_another_apply_are_followed() {
    let host = Host::new();
    host.ns.shell(
        "ip link add second mtu 1600 type veth peer name nobody2 mtu 1600
         ip link set second up; ip link set nobody2 up",
    );
    let one = config("10.0.0.1");
    let two = format!("{}{one}", Host::INTERFACE.replace(UPLINK, "second"));
    let (folder, mut running) = start(&host, &two, &[]);
    let file = folder.path().join("lb.toml");
    let apply = |text: &str| {
        fs::write(&file, text).expect("write");
        let said = host.lbctl().ok(&["apply", "-f", file.to_str().expect("printable")]).stderr;
        assert_eq!(said, "", "nothing of it waits for a reload");
        told(&host, None);
    };
    let served = || {
        let status = json(&host.lbctl().ok(&["status", "--json"]));
        status["interfaces"].as_object().expect("interfaces").keys().cloned().collect::<Vec<_>>()
    };
    // One that another command took out stays out.
    apply(&one);
    assert_eq!(served(), [UPLINK]);
    std::thread::sleep(Duration::from_secs(7));
    assert_eq!(served(), [UPLINK], "{}", running.stderr());
    // One that another command has added is followed, though the process has not read of it.
    host.lbctl().ok(&["reload"]);
    apply(&two);
    host.ns.shell("ip link set second mtu 1590");
    running.wait_for("second");
    running.wait_for("MTU 1600 → 1590");
    assert_eq!(served(), ["second", UPLINK]);
}

#[test]
fn serve_watches_its_files() {
    let host = Host::new();
    let (folder, mut running) = start(&host, &with_include("10.0.0.1"), &["--watch"]);
    let file = folder.path().join("lb.toml");
    let wait_for_real = |real: &str| {
        assert!(wait_until(SOON, || has_real(&host, real)), "{real}");
        told(&host, None);
    };
    fs::write(&file, with_include("10.0.0.2")).expect("write");
    wait_for_real("10.0.0.2");
    replace(&file, &with_include("10.0.0.3"));
    wait_for_real("10.0.0.3");
    // An included file appears, changes, and goes.
    let included = folder.path().join("vips/a.toml");
    fs::write(&included, vip("tcp://10.200.1.2:80", &["10.0.1.1"])).expect("write");
    wait_for_real("10.0.1.1");
    replace(&included, &vip("tcp://10.200.1.2:80", &["10.0.1.2"]));
    wait_for_real("10.0.1.2");
    // A broken one is logged once, and changes nothing.
    fs::write(&included, "[[vips]\n").expect("write");
    running.wait_for("the file on disk cannot be applied");
    told(&host, Some(false));
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(running.stderr().matches("the file on disk cannot be applied").count(), 1);
    assert!(has_real(&host, "10.0.1.2"));
    fs::remove_file(&included).expect("remove");
    assert!(wait_until(SOON, || !has_real(&host, "10.0.1.2")));
    told(&host, None);
}
