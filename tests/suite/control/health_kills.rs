//! `kill -9` while the health of reals is being written, at each write; and how many writes there are.

use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Command;
use std::process::ExitStatus;
use std::process::Stdio;

use l4lb::Balancer;
use l4lb::Flaps;
use l4lb::Health;
use l4lb::HealthResult;
use l4lb::Instance;
use nix::sys::signal::Signal;

use crate::fixtures::Host;
use crate::fixtures::Lbctl;
use crate::fixtures::config_file;
use crate::fixtures::json;
use crate::fixtures::path_of;
use crate::fixtures::vip;

const VIPS: [&str; 2] = ["tcp://10.200.1.1:80", "tcp://10.200.1.2:80"];

/// More writes than any pass has.
const ENOUGH: u32 = 100;

/// Tells [`a_process_that_records`] where the balancer pins, and which reals it is to find unhealthy.
const PINS: &str = "LB_TEST_RECORD_IN";
const FIRST: &str = "LB_TEST_RECORD_FIRST";

fn real(number: u32) -> String {
    format!("10.{}.{}.1", number >> 8, number & 0xff)
}

fn config(vips: &[&str], reals: u32) -> String {
    let reals: Vec<_> = (0..reals).map(real).collect();
    let reals: Vec<_> = reals.iter().map(String::as_str).collect();
    let vips: String =
        vips.iter().map(|name| vip(name, &reals) + "check = { type = \"tcp\" }\n").collect();
    Host::config(&vips)
}

fn results(vips: &[&str], first: u32, health: Health) -> Vec<HealthResult> {
    let result = |(vip, number): (&&str, u32)| HealthResult {
        vip: vip.parse().expect("a VIP"),
        real: real(number).parse().expect("an address"),
        health,
        share: 100,
        reason: "HTTP 503".to_owned(),
        checks: 3,
        flaps: Flaps::default(),
    };
    vips.iter().flat_map(|vip| (0..first).map(move |number| (vip, number))).map(result).collect()
}

fn with<T: Send>(host: &Host, work: impl FnOnce(&Balancer) -> T + Send) -> T {
    host.ns.run(|| work(&open(host.bpffs.path())))
}

fn open(bpffs: &Path) -> Balancer {
    let instance = Instance::new(bpffs, "default").expect("a name");
    Balancer::open(&instance).expect("it runs")
}

/// What [`recording`] runs: `lbctl serve` does the same with the results of checks.
#[test]
#[ignore = "it is a process that other tests start, and kill"]
fn a_process_that_records() {
    let pins = std::env::var_os(PINS).expect("a test has started it");
    let first = std::env::var(FIRST).ok().and_then(|number| number.parse().ok());
    let balancer = open(Path::new(&pins));
    let vips: Vec<_> =
        balancer.table().expect("VIPs").vips.keys().map(ToString::to_string).collect();
    let vips: Vec<_> = vips.iter().map(String::as_str).collect();
    let results = results(&vips, first.expect("a number"), Health::Unhealthy);
    balancer.record_health(&results).expect("recorded");
}

/// Records in a process of its own that the first reals of all VIPs are unhealthy, and kills it before its n-th write.
fn recording(host: &Host, first: u32, kill_at: u32) -> ExitStatus {
    let this = std::env::current_exe().expect("its own path");
    let mut command: Command = host.ns.command(this.to_str().expect("a printable path"));
    command.args(["--exact", "control::health_kills::a_process_that_records", "--ignored"]);
    command.env(PINS, host.bpffs.path()).env(FIRST, first.to_string());
    command.env("LBCTL_KILL_AT_WRITE", kill_at.to_string());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().expect("it starts")
}

/// Fails unless the ring of each VIP, as packets read it, is what follows from what is recorded. Returns which reals
/// of the first VIP get flows.
#[track_caller]
fn rings_follow_records(host: &Host, when: &str) -> Vec<bool> {
    let status = json(&host.lbctl().ok(&["status", "--json"]));
    let rings = with(host, |balancer| balancer.running_rings().expect("the rings"));
    let vips = status["vips"].as_array().expect("VIPs");
    let mut used = Vec::new();
    for (name, of_vip) in VIPS.iter().zip(vips) {
        let ring = &rings[&name.parse().expect("a VIP")];
        let reals = of_vip["reals"].as_array().expect("reals");
        let healthy = reals.iter().filter(|real| real["health"] != "unhealthy").count();
        for real in reals {
            let address = real["address"].as_str().expect("text").parse().expect("an address");
            let is_used = ring.share(address) > 0.0;
            let wanted = real["health"] != "unhealthy" || healthy == 0;
            assert_eq!(is_used, wanted, "{when}: {name}: the ring and {real}");
            let share = real["share"].as_f64().expect("a share");
            assert!((ring.share(address) - share).abs() < 1e-9, "{when}: {name}: {real}");
            if *name == VIPS[0] {
                used.push(is_used);
            }
        }
    }
    used
}

#[test]
fn what_checks_found_is_killed_at_each_write() {
    let host = Host::new();
    let file = config_file(&config(&VIPS, 4));
    let lbctl = host.lbctl();
    let apply = ["apply", "--yes", "-f", path_of(&file)];
    lbctl.ok(&apply);
    let back = || {
        with(&host, |balancer| {
            balancer.record_health(&results(&VIPS, 4, Health::Healthy)).expect("recorded");
        });
        assert_eq!(rings_follow_records(&host, "all healthy"), [true; 4]);
    };
    let next: [(&str, &dyn Fn()); 3] = [
        ("apply", &|| drop(lbctl.ok(&apply))),
        ("the next results, which are none", &|| {
            with(&host, |balancer| drop(balancer.record_health(&[]).expect("recorded")));
        }),
        ("the same results again", &|| {
            let again = results(&VIPS, 2, Health::Unhealthy);
            with(&host, |balancer| drop(balancer.record_health(&again).expect("recorded")));
        }),
    ];
    for (n, (what, next)) in (1..ENOUGH).zip(next.iter().cycle()) {
        back();
        let status = recording(&host, 2, n);
        let when = format!("killed at write {n}, then {what}");
        if status.success() {
            assert_eq!(rings_follow_records(&host, &when), [false, false, true, true]);
            // Records, and the rings of two VIPs.
            assert!(n > 3, "{} writes", n - 1);
            println!("recording has {} writes", n - 1);
            return;
        }
        assert_eq!(status.signal(), Some(Signal::SIGKILL as i32), "{when}: {status}");
        next();
        let used = rings_follow_records(&host, &when);
        assert!(used[2] && used[3], "{when}: {used:?}");
        lbctl.ok(&["plan", "-f", path_of(&file)]);
    }
    panic!("it still writes after {ENOUGH} writes");
}

#[test]
fn what_others_tell_is_killed_at_each_write() {
    let host = Host::new();
    let file = config_file(&config(&VIPS, 4));
    let lbctl = host.lbctl();
    let (vip, real) = (VIPS[0], &*real(0));
    let tell = ["real", "health", vip, real, "unhealthy", "--reason", "disk full"];
    let forget = ["real", "health", vip, real, "auto"];
    lbctl.ok(&["apply", "--yes", "-f", path_of(&file)]);
    at_each_write(&host, &lbctl, &tell, &forget, &[false, true, true, true]);
    at_each_write(&host, &lbctl, &forget, &tell, &[true; 4]);
}

/// Kills a command at each of its writes; afterwards it, `apply` and its opposite must find all in order.
#[track_caller]
fn at_each_write(host: &Host, lbctl: &Lbctl<'_>, command: &[&str], start: &[&str], used: &[bool]) {
    let other = ["real", "weight", VIPS[1], &*real(3)];
    for (n, next) in (1..ENOUGH).zip([command, start, &other].iter().cycle()) {
        lbctl.ok(start);
        let output = lbctl.clone().env("LBCTL_KILL_AT_WRITE", &n.to_string()).run(command);
        let when = format!("{command:?} killed at write {n}, then {next:?}");
        if output.code() == Some(0) {
            assert_eq!(rings_follow_records(host, &when), used);
            assert!(n > 2, "{} writes", n - 1);
            println!("{command:?} has {} writes", n - 1);
            return;
        }
        assert_eq!(output.status.signal(), Some(Signal::SIGKILL as i32), "{when}: {output}");
        // Each time another weight, or it would change nothing.
        let (weight, is_other) = ((n + 1).to_string(), *next == &other[..]);
        let last: &[&str] = if is_other { &[&weight] } else { &[] };
        lbctl.ok(&[*next, last].concat());
        let now = rings_follow_records(host, &when);
        if *next == command {
            assert_eq!(now, used, "{when}");
        }
    }
    panic!("{command:?} still writes after {ENOUGH} writes");
}

/// However many reals fail at once, they are one pass: one write of all records, and one of the ring.
#[test]
fn thousands_that_fail_at_once_are_one_pass() {
    const MANY: u32 = 4095;
    let host = Host::new();
    host.lbctl().apply(&config(&VIPS[..1], MANY + 1));
    let writes = |first: u32| {
        for n in 1..ENOUGH {
            with(&host, |balancer| {
                let well = results(&VIPS[..1], first, Health::Healthy);
                balancer.record_health(&well).expect("recorded");
            });
            let status = recording(&host, first, n);
            if status.success() {
                return n - 1;
            }
            assert_eq!(status.signal(), Some(Signal::SIGKILL as i32), "write {n}: {status}");
        }
        panic!("{first} reals are more than {ENOUGH} writes");
    };
    let (one, many) = (writes(1), writes(MANY));
    println!("1 real that fails: {one} writes; {MANY}: {many}");
    assert!(many <= one + 2, "1 real is {one} writes, and {MANY} are {many}");
    let ring = with(&host, |balancer| balancer.running_rings().expect("the rings"));
    let ring = &ring[&VIPS[0].parse().expect("a VIP")];
    let left: Vec<_> = ring.slots.keys().map(ToString::to_string).collect();
    assert_eq!(left, [real(MANY)], "only the last one is left");
}
