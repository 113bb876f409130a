//! `kill -9` of `lbctl` at each of its writes to the kernel. Traffic goes on, and the next command completes the
//! change or takes it back.

use std::os::unix::process::ExitStatusExt;

use libbpf_rs::MapCore as _;
use libbpf_rs::MapFlags;
use libbpf_rs::MapHandle;
use nix::sys::signal::Signal;
use tempfile::NamedTempFile;

use crate::fixtures::Download;
use crate::fixtures::Host;
use crate::fixtures::Lbctl;
use crate::fixtures::Leaks;
use crate::fixtures::Rig;
use crate::fixtures::UPLINK;
use crate::fixtures::config;
use crate::fixtures::config_file;
use crate::fixtures::goes_on;
use crate::fixtures::http_get;
use crate::fixtures::json;
use crate::fixtures::path_of;
use crate::fixtures::server;
use crate::fixtures::vip;

/// A VIP that every configuration here has, with real1.
const VIP: &str = "tcp://10.200.1.1:80";

/// More writes than any command here makes.
const ENOUGH: u32 = 400;

/// A command, and what must hold after it; it is told when that is.
type Next<'a> = (&'a [&'a str], &'a dyn Fn(&str));

/// A command that is to be interrupted.
struct Scenario<'a> {
    lbctl: Lbctl<'a>,
    command: &'a [&'a str],
    /// Brings about what the command starts from.
    start: &'a dyn Fn(),
    /// What holds as soon as it has been killed.
    meanwhile: &'a mut dyn FnMut(&str),
    /// What may come next, and what must hold then.
    next: &'a [Next<'a>],
}

impl Scenario<'_> {
    /// Kills the command at its first write, at its second, and so on until it has no more; as often as there
    /// are commands that may come next. Returns how many writes it has.
    #[track_caller]
    fn at_every_write(self) -> u32 {
        for n in 1..ENOUGH {
            for (next, check) in self.next {
                (self.start)();
                let killing = self.lbctl.clone().env("LBCTL_KILL_AT_WRITE", &n.to_string());
                let output = killing.run(self.command);
                if output.code() == Some(0) {
                    return n - 1;
                }
                let when = format!("{:?} killed at write {n}, then {next:?}", self.command);
                assert_eq!(
                    output.status.signal(),
                    Some(Signal::SIGKILL as i32),
                    "{when}: {output}"
                );
                (self.meanwhile)(&when);
                let output = self.lbctl.run(next);
                assert_eq!(output.code(), Some(0), "{when}: {output}");
                check(&when);
            }
        }
        panic!("{:?} still writes after {ENOUGH} writes", self.command);
    }
}

/// Fails unless the kernel is what the file says.
fn plans_nothing(rig: &Rig, file: &NamedTempFile, when: &str) {
    let output = rig.lbctl().run(&["plan", "-f", path_of(file)]);
    assert_eq!(output.code(), Some(0), "{when}: the plan is not empty: {output}");
}

fn answers(rig: &Rig, vip: &str, when: &str) {
    let answer = http_get(rig.client(), server(vip), "/");
    assert!(answer.is_ok(), "{when}: {vip}: {answer:?}");
}

/// Fails unless nothing of the instance is pinned or attached.
fn nothing_left(rig: &Rig, instance: &str, when: &str) {
    let folder = rig.bpffs.path().join("l4lb").join(instance);
    assert!(!folder.exists(), "{when}: {} is still there", folder.display());
    let link = rig.topology.balancer.ns.shell(&format!("ip link show {UPLINK}"));
    assert!(!link.contains("xdp"), "{when}: {link}");
}

/// What must hold of the traffic that a command does not concern.
fn undisturbed<'a>(rig: &'a Rig, download: &'a Download) -> impl FnMut(&str) + 'a {
    let mut leaks = Leaks::watch(rig);
    move |when| {
        answers(rig, VIP, when);
        assert_eq!(leaks.count(), 0, "{when}: packets for VIPs that reached the balancer's kernel");
        goes_on(download, when);
    }
}

/// No packet of [`VIP`] was dropped for lack of a real, however often its reals changed.
fn none_dropped(rig: &Rig) {
    let stats = json(&rig.lbctl().ok(&["stats", "--json"]));
    assert_eq!(stats["vips"][VIP]["dropped"], 0, "{stats}");
}

/// A configuration that an `apply` changes into another one.
struct Change<'a> {
    rig: &'a Rig,
    old: NamedTempFile,
    new: NamedTempFile,
    /// What must hold of traffic under the new one.
    under_new: &'a dyn Fn(&str),
    /// What must hold of traffic under the old one, once that is back.
    under_old: &'a dyn Fn(&str),
    /// What else may come next.
    next: &'a [Next<'a>],
}

impl Change<'_> {
    /// Kills the `apply` of the new configuration at each of its writes. Traffic must not notice, and both an `apply`
    /// of the new configuration and one of the old must work then. Returns how many writes there are.
    #[track_caller]
    fn at_every_write(self, download: &Download) -> u32 {
        let Self { rig, old, new, .. } = &self;
        let apply_old = ["apply", "--yes", "-f", path_of(old)];
        let apply_new = ["apply", "--yes", "-f", path_of(new)];
        let is_new = |when: &str| {
            plans_nothing(rig, new, when);
            (self.under_new)(when);
        };
        let is_old = |when: &str| {
            plans_nothing(rig, old, when);
            (self.under_old)(when);
        };
        let mut next: Vec<Next<'_>> = vec![(&apply_new, &is_new), (&apply_old, &is_old)];
        next.extend(self.next);
        let writes = Scenario {
            lbctl: rig.lbctl(),
            command: &apply_new,
            start: &|| drop(rig.lbctl().ok(&apply_old)),
            meanwhile: &mut undisturbed(rig, download),
            next: &next,
        }
        .at_every_write();
        goes_on(download, "in the end");
        none_dropped(rig);
        writes
    }
}

#[test]
fn first_apply() {
    let rig = Rig::new(2);
    let vips =
        [vip(VIP, &["10.0.0.1", "10.0.0.2"]), vip("udp://[fc00:1::1]:53", &["fc00::2"])].concat();
    let file = config_file(&config(&vips));
    let apply = ["apply", "--yes", "-f", path_of(&file)];
    let writes = Scenario {
        lbctl: rig.lbctl(),
        command: &apply,
        start: &|| drop(rig.lbctl().ok(&["down"])),
        meanwhile: &mut |_| {},
        next: &[
            (&apply, &|when| {
                plans_nothing(&rig, &file, when);
                answers(&rig, VIP, when);
            }),
            (&["down"], &|when| nothing_left(&rig, "default", when)),
        ],
    }
    .at_every_write();
    assert!(writes > 30, "{writes} writes");
}

/// Everything that tables can change into, in one step and back.
#[test]
fn change() {
    let rig = Rig::new(3);
    let server_id =
        |id: u32, real: &str| format!("\n[[server_ids]]\nid = {id}\nreal = \"{real}\"\n");
    let quic = |reals: &[&str]| {
        vip("udp://10.200.1.3:443", reals) + "routing = [\"quic-connection-id\"]\n"
    };
    let old = [
        vip(VIP, &["10.0.0.1", "10.0.0.2"]),
        vip("tcp://10.200.1.2:80", &["10.0.0.2", "10.0.0.1"]),
        vip("tcp://10.200.1.2:81", &["10.0.0.2"]),
        quic(&["10.0.0.1", "10.0.0.2"]),
        server_id(7, "10.0.0.1"),
    ];
    // Real 2 is replaced, by one so heavy that nearly all slots of real 1 move too; one VIP goes, another comes,
    // one only changes.
    let new = [
        vip(VIP, &["10.0.0.1", "10.0.0.3, weight = 30"]),
        vip("tcp://10.200.1.2:81", &["10.0.0.3", "10.0.0.1, state = \"down\""]),
        vip("tcp://[fc00:1::2]:80", &["fc00::1", "10.0.0.3, weight = 2"]),
        quic(&["10.0.0.1, state = \"drain\"", "10.0.0.3"]),
        server_id(7, "10.0.0.3"),
        server_id(8, "fc00::2"),
    ];
    let (old, new) = (config(&old.concat()), config(&new.concat()));
    rig.lbctl().apply(&old);
    let download = stay_with(&rig, "real1");
    let writes = Change {
        rig: &rig,
        old: config_file(&old),
        new: config_file(&new),
        under_new: &|when| answers(&rig, "tcp://[fc00:1::2]:80", when),
        under_old: &|when| answers(&rig, "tcp://10.200.1.2:80", when),
        next: &[],
    }
    .at_every_write(&download);
    assert!(writes > 30, "{writes} writes");
}

/// No real disappears, so rings are overwritten in place, and a kill may leave half a ring.
#[test]
fn change_in_place() {
    let rig = Rig::new(3);
    let old = [
        vip(VIP, &["10.0.0.1", "10.0.0.2", "10.0.0.3"]),
        vip("tcp://10.200.1.2:80", &["10.0.0.2", "10.0.0.3"]),
        vip("udp://10.200.1.3:53", &["10.0.0.1", "10.0.0.2, state = \"down\""]),
    ];
    let new = [
        vip(VIP, &["10.0.0.1, weight = 5", "10.0.0.2, weight = 2", "10.0.0.3, state = \"drain\""]),
        vip("tcp://10.200.1.2:80", &["10.0.0.2, state = \"down\"", "10.0.0.3"]),
        vip("udp://10.200.1.3:53", &["10.0.0.2"]),
    ];
    let (old, new) = (config(&old.concat()), config(&new.concat()));
    rig.lbctl().apply(&old);
    let download = stay_with(&rig, "real1");
    let writes = Change {
        rig: &rig,
        old: config_file(&old),
        new: config_file(&new),
        under_new: &|when| only_from(&rig, "tcp://10.200.1.2:80", "real3", when),
        under_old: &|when| answers(&rig, "tcp://10.200.1.2:80", when),
        next: &[(&["real", "down", VIP, "10.0.0.2"], &|when| {
            rig.lbctl().ok(&["real", "down", VIP, "10.0.0.3"]);
            only_from(&rig, VIP, "real1", when);
        })],
    }
    .at_every_write(&download);
    // Three to each ring.
    assert!(writes > 13, "{writes} writes");
}

/// Fails if any of many connections gets another real.
fn only_from(rig: &Rig, vip: &str, real: &str, when: &str) {
    for _ in 0..12 {
        let answer = http_get(rig.client(), server(vip), "/");
        let from = answer.unwrap_or_else(|error| panic!("{when}: {vip}: {error}")).real;
        assert_eq!(from, real, "{when}: {vip}");
    }
}

/// A download by way of [`VIP`] from this real.
fn stay_with(rig: &Rig, real: &str) -> Download {
    let from_real = || {
        let download = rig.download(VIP);
        (download.real() == real).then_some(download)
    };
    (0..100).find_map(|_| from_real()).expect("one of many connections goes to the real")
}

/// Another program takes the place of the old one, and other tables.
#[test]
fn program_and_tables() {
    let rig = Rig::new(1);
    let vips = vip(VIP, &["10.0.0.1"]);
    let old = config(&vips);
    let more =
        format!("cpus = [0]\nudp_timeout_seconds = 20\n\n[packets]\nmax_frame = 1400\n{vips}");
    let new = config(&more);
    rig.lbctl().apply(&old);
    let download = rig.download(VIP);
    let writes = Change {
        rig: &rig,
        old: config_file(&old),
        new: config_file(&new),
        under_new: &|_| {},
        under_old: &|_| {},
        next: &[],
    }
    .at_every_write(&download);
    assert!(writes > 8, "{writes} writes");
}

/// One command changes the connection tables, and with them the program, and the reals. The ring leads elsewhere only
/// once the new program has the packets: its tables know the flows that began by then, or they would move.
#[test]
fn a_ring_changes_after_the_program() {
    let host = Host::new();
    let file = |entries: u32, real: &str| {
        let config = Host::config(&format!("cpus = [0]\n{}", vip(VIP, &[real])));
        config_file(&config.replace("entries = 20000", &format!("entries = {entries}")))
    };
    let (old, new) = (file(1000, "10.0.0.1"), file(2000, "10.0.0.2"));
    // What a map of maps or programs has at a place: the kernel's id of it.
    let id = |map: &str, at: u32| {
        let pin = host.bpffs.path().join("l4lb/default/map").join(map);
        let map = MapHandle::from_pinned_path(pin).expect("the pin");
        map.lookup(&at.to_ne_bytes(), MapFlags::ANY).expect("read it").expect("something is there")
    };
    let program_and_ring = || (id("chain", 8), id("rings", 0));
    let mut both_changed = false;
    for n in 1..ENOUGH {
        host.lbctl().ok(&["apply", "--yes", "-f", path_of(&old)]);
        let before = program_and_ring();
        let killing = host.lbctl().env("LBCTL_KILL_AT_WRITE", &n.to_string());
        let output = killing.run(&["apply", "--yes", "-f", path_of(&new)]);
        let (program, ring) = program_and_ring();
        let new_program = program != before.0;
        assert!(ring == before.1 || new_program, "killed at write {n}, between ring and program");
        if output.code() == Some(0) {
            assert!(ring != before.1 && new_program, "{output}");
            both_changed = true;
            break;
        }
        assert_eq!(output.status.signal(), Some(Signal::SIGKILL as i32), "write {n}: {output}");
    }
    assert!(both_changed, "{ENOUGH} writes are not enough");
}

#[test]
fn down() {
    let rig = Rig::new(1);
    let file = config_file(&config(&vip(VIP, &["10.0.0.1"])));
    let apply = ["apply", "--yes", "-f", path_of(&file)];
    let writes = Scenario {
        lbctl: rig.lbctl(),
        command: &["down"],
        start: &|| drop(rig.lbctl().ok(&apply)),
        meanwhile: &mut |_| {},
        next: &[
            (&["down"], &|when| nothing_left(&rig, "default", when)),
            (&apply, &|when| {
                plans_nothing(&rig, &file, when);
                answers(&rig, VIP, when);
            }),
        ],
    }
    .at_every_write();
    assert!(writes > 14, "{writes} writes");
}

/// A capture, while it begins and while it ends: whatever command comes next takes away what is left, and
/// another capture can begin.
#[test]
fn dump() {
    let rig = Rig::new(1);
    rig.lbctl().apply(&config(&vip(VIP, &["10.0.0.1"])));
    let download = rig.download(VIP);
    let dump = ["dump", "--at", "both", "--duration", "1ms"];
    let instance = rig.bpffs.path().join("l4lb/default");
    let gone = |when: &str| {
        for left in ["captures", "prog/capture", "prog/capture-next"] {
            assert!(!instance.join(left).exists(), "{when}: {left} is left");
        }
        let status = json(&rig.lbctl().ok(&["status", "--json"]));
        let slots = status["chain"].as_array().expect("a list");
        assert!(slots.iter().all(|slot| slot["slot"] != 0), "{when}: {status}");
    };
    let writes = Scenario {
        lbctl: rig.lbctl(),
        command: &dump,
        start: &|| {},
        meanwhile: &mut undisturbed(&rig, &download),
        next: &[(&["stats"], &gone), (&dump, &gone)],
    }
    .at_every_write();
    assert!(writes > 20, "{writes} writes");
    none_dropped(&rig);
}

/// The real's side, alone in its instance.
#[test]
fn decap() {
    let rig = Rig::new(1);
    rig.lbctl().apply(&config(&vip(VIP, &["10.0.0.1"])));
    let real = Lbctl::new(&rig.bpffs).in_ns(&rig.topology.reals[0].ns);
    let attach = ["--instance", "real1", "decap", "attach", UPLINK];
    let detach = ["--instance", "real1", "decap", "detach"];
    let works = |when: &str| answers(&rig, VIP, when);
    let gone = |when: &str| {
        let folder = rig.bpffs.path().join("l4lb/real1");
        assert!(!folder.exists(), "{when}: {} is still there", folder.display());
        let link = rig.topology.reals[0].ns.shell(&format!("ip link show {UPLINK}"));
        assert!(!link.contains("xdp"), "{when}: {link}");
    };
    for (command, start) in [(&attach[..], &detach[..]), (&detach[..], &attach[..])] {
        let writes = Scenario {
            lbctl: real.clone(),
            command,
            start: &|| drop(real.ok(start)),
            meanwhile: &mut |_| {},
            next: &[(&attach, &works), (&detach, &gone)],
        }
        .at_every_write();
        assert!(writes > 10, "{command:?}: {writes} writes");
    }
}

/// Decapsulation and the balancer share an instance and an interface; each survives the end of the other.
#[test]
fn decap_beside_the_balancer() {
    let rig = Rig::new(1);
    let file = config_file(&config(&vip(VIP, &["10.0.0.1"])));
    let apply = ["apply", "--yes", "-f", path_of(&file)];
    let attach = ["decap", "attach", UPLINK];
    let detach = ["decap", "detach", UPLINK];
    rig.lbctl().ok(&apply);
    let download = rig.download(VIP);
    let attached = |when: &str| {
        let status = json(&rig.lbctl().ok(&["decap", "status", "--json"]));
        assert_eq!(status["interfaces"][UPLINK], "native", "{when}: {status}");
        plans_nothing(&rig, &file, when);
    };
    let detached = |when: &str| {
        assert_eq!(rig.lbctl().run(&["decap", "status"]).code(), Some(1), "{when}");
        plans_nothing(&rig, &file, when);
    };
    for (command, start) in [(&attach[..], &detach[..]), (&detach[..], &attach[..])] {
        Scenario {
            lbctl: rig.lbctl(),
            command,
            start: &|| drop(rig.lbctl().ok(start)),
            meanwhile: &mut undisturbed(&rig, &download),
            next: &[(&attach, &attached), (&detach, &detached)],
        }
        .at_every_write();
    }

    // The balancer's end leaves decapsulation alone.
    rig.lbctl().ok(&attach);
    let still_attached = |when: &str| {
        let status = json(&rig.lbctl().ok(&["decap", "status", "--json"]));
        assert_eq!(status["interfaces"][UPLINK], "native", "{when}: {status}");
        assert_eq!(rig.lbctl().run(&["save"]).code(), Some(1), "{when}: no balancer runs");
    };
    Scenario {
        lbctl: rig.lbctl(),
        command: &["down"],
        start: &|| drop(rig.lbctl().ok(&apply)),
        meanwhile: &mut |when| {
            let status = json(&rig.lbctl().ok(&["decap", "status", "--json"]));
            assert_eq!(status["interfaces"][UPLINK], "native", "{when}: {status}");
        },
        next: &[(&["down"], &still_attached), (&apply, &attached)],
    }
    .at_every_write();
    rig.lbctl().ok(&["down"]);
    rig.lbctl().ok(&detach);
    nothing_left(&rig, "default", "after both ended");
}
