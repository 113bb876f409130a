//! Maps that do not agree with the VIPs and reals: status, doctor and metrics say so, and the next apply rewrites
//! what is wrong.

use std::net::SocketAddr;
use std::time::Duration;

use libbpf_rs::MapCore;
use libbpf_rs::MapFlags;
use libbpf_rs::MapHandle;
use tempfile::NamedTempFile;

use crate::fixtures::Bpffs;
use crate::fixtures::Host;
use crate::fixtures::HttpClient;
use crate::fixtures::Lbctl;
use crate::fixtures::Rig;
use crate::fixtures::config;
use crate::fixtures::config_file;
use crate::fixtures::goes_on;
use crate::fixtures::http_get;
use crate::fixtures::json;
use crate::fixtures::path_of;
use crate::fixtures::server;
use crate::fixtures::vip;
use crate::fixtures::wait_until;
use crate::report::doctor::Patient;

const VIP: &str = "tcp://10.200.1.1:80";
const OTHER: &str = "tcp://10.200.1.2:80";
const INSTANCE: &str = "instance default";
const PATIENCE: Duration = Duration::from_secs(30);

/// Values of a ring that hold slots, of four each but the last.
const RING_VALUES: u32 = 65537_u32.div_ceil(4);

/// A map of the instance.
#[track_caller]
fn map(bpffs: &Bpffs, name: &str) -> MapHandle {
    let pin = bpffs.path().join("l4lb/default/map").join(name);
    MapHandle::from_pinned_path(pin).expect("open the map")
}

/// What an array of maps holds at an index.
#[track_caller]
fn inner(bpffs: &Bpffs, name: &str, index: u32) -> MapHandle {
    let id = map(bpffs, name).lookup(&index.to_ne_bytes(), MapFlags::ANY).expect("read it");
    let id = id.expect("there is one").try_into().expect("an id");
    MapHandle::from_map_id(u32::from_ne_bytes(id)).expect("open it")
}

fn word(map: &MapHandle, at: u32) -> u64 {
    let value = map.lookup(&at.to_ne_bytes(), MapFlags::ANY).expect("read").expect("a value");
    u64::from_ne_bytes(value.try_into().expect("a word"))
}

#[track_caller]
fn set(map: &MapHandle, at: u32, value: &[u8]) {
    map.update(&at.to_ne_bytes(), value, MapFlags::ANY).expect("write");
}

/// Lets so many slots of a VIP's ring lead nowhere.
fn zero(bpffs: &Bpffs, vip: u32, slots: u32) {
    let ring = inner(bpffs, "rings", vip);
    (0..slots / 4).for_each(|at| set(&ring, at, &[0; 8]));
}

fn plan(lbctl: &Lbctl<'_>, file: &NamedTempFile) -> String {
    lbctl.run(&["plan", "-f", path_of(file)]).stdout
}

/// A host with two VIPs, one of which bars a real.
fn host() -> (Host, NamedTempFile) {
    let host = Host::new();
    let vips = [
        vip(VIP, &["10.0.0.1", "10.0.0.2", "10.0.0.3"]),
        vip(OTHER, &["10.0.0.1", "10.0.0.2, state = \"down\"", "fc00::3"]),
    ];
    let file = config_file(&Host::config(&vips.concat()));
    host.lbctl().ok(&["apply", "-f", path_of(&file)]);
    assert!(plan(&host.lbctl(), &file).contains("nothing to change"));
    (host, file)
}

#[test]
fn a_ring_that_lost_slots() {
    let (host, file) = host();
    let patient = Patient::new(host.lbctl(), &host.ns, &[]);
    patient.is_well("map-mismatch", INSTANCE);
    zero(&host.bpffs, 0, 4_000);

    let said = "(4000 of 65537 slots differ)";
    let line = format!("ring of {VIP} does not match its reals {said}");
    let told = plan(&host.lbctl(), &file);
    assert!(told.contains(&format!("~ {line}: written anew")), "{told}");
    let status = host.lbctl().exits(1, &["status", "--check"]).stdout;
    assert!(status.contains(&line), "{status}");
    let status = json(&host.lbctl().ok(&["status", "--json"]));
    let found = status["condition"]["findings"].as_array().expect("findings");
    let found = found.iter().find(|found| found["problem"] == "map_mismatch").expect("found");
    assert_eq!(
        found["mismatches"],
        serde_json::json!([{"map": "ring", "vip": VIP, "slots": 4000}])
    );

    // Another change of other VIPs does not hide it.
    host.lbctl().ok(&["real", "weight", OTHER, "10.0.0.1", "7"]);
    assert!(plan(&host.lbctl(), &file).contains(said));
    host.lbctl().ok(&["real", "weight", OTHER, "10.0.0.1", "1"]);
    patient.is_fixed("map-mismatch", INSTANCE, "error", &[said]);
    assert!(plan(&host.lbctl(), &file).contains("nothing to change"));

    // There is none at all.
    map(&host.bpffs, "rings").delete(&0_u32.to_ne_bytes()).expect("take the ring out");
    assert!(plan(&host.lbctl(), &file).contains("(65537 of 65537 slots differ)"));
    let applied = host.lbctl().ok(&["apply", "-f", path_of(&file)]).stdout;
    assert!(applied.contains("(65537 of 65537 slots differ)"), "{applied}");
    assert!(plan(&host.lbctl(), &file).contains("nothing to change"));
}

/// A slot that leads to the wrong real is as bad as one that leads nowhere.
#[test]
fn a_single_slot_and_the_bars() {
    let (host, file) = host();
    let before = inner(&host.bpffs, "rings", 1);
    let ring = &inner(&host.bpffs, "rings", 0);
    let old = word(ring, 77);
    set(ring, 77, &(old ^ 3).to_ne_bytes());
    assert!(plan(&host.lbctl(), &file).contains("(1 of 65537 slots differ)"));
    set(ring, 77, &old.to_ne_bytes());
    assert!(plan(&host.lbctl(), &file).contains("nothing to change"));

    // The bars of the other VIP: packets may go to the real that is down.
    let bars = (RING_VALUES..RING_VALUES + 128).find(|at| word(&before, *at) != 0);
    let bars = bars.expect("a real is barred");
    set(&before, bars, &[0; 8]);
    let told = plan(&host.lbctl(), &file);
    assert!(told.contains(&format!("ring of {OTHER} does not bar the reals")), "{told}");
    host.lbctl().ok(&["apply", "-f", path_of(&file)]);
    assert_ne!(word(&inner(&host.bpffs, "rings", 1), bars), 0, "it is barred again");
    assert!(plan(&host.lbctl(), &file).contains("nothing to change"));
    let patient = Patient::new(host.lbctl(), &host.ns, &[]);
    patient.is_well("map-mismatch", INSTANCE);
}

/// A build without checksums wrote the ring: it is compared all the same, and signed when something is changed.
#[test]
fn rings_without_a_checksum() {
    let (host, file) = host();
    let last = RING_VALUES - 1;
    let ring = &inner(&host.bpffs, "rings", 0);
    let signed = word(ring, last);
    assert_ne!(signed >> 16, 0, "it has a checksum");
    set(ring, last, &(signed & 0xffff).to_ne_bytes());
    assert!(plan(&host.lbctl(), &file).contains("nothing to change"));
    let status = host.lbctl().run(&["status"]).stdout;
    assert!(!status.contains("does not match"), "{status}");
    zero(&host.bpffs, 0, 8);
    assert!(plan(&host.lbctl(), &file).contains("(8 of 65537 slots differ)"));
    host.lbctl().ok(&["apply", "-f", path_of(&file)]);
    assert_eq!(word(&inner(&host.bpffs, "rings", 0), last), signed);

    let ring = &inner(&host.bpffs, "rings", 0);
    set(ring, last, &(signed & 0xffff).to_ne_bytes());
    let text = std::fs::read_to_string(file.path()).expect("read the file");
    std::fs::write(file.path(), text + &vip("udp://10.200.1.9:53", &["10.0.0.1"])).expect("write");
    host.lbctl().ok(&["apply", "-f", path_of(&file)]);
    assert_eq!(word(&inner(&host.bpffs, "rings", 0), last), signed, "signed with another change");
}

/// What else packets are handled by, though nobody configured it.
#[test]
fn the_index_and_entries_of_reals() {
    let (host, file) = host();
    let patient = Patient::new(host.lbctl(), &host.ns, &[]);
    let index = inner(&host.bpffs, "vip_index", 0);
    let bucket = |at: u32| index.lookup(&at.to_ne_bytes(), MapFlags::ANY).expect("read");
    let used = (0..index.max_entries())
        .find(|at| bucket(*at).expect("a bucket").iter().any(|byte| *byte != 0))
        .expect("a bucket in use");
    set(&index, used, &vec![0; index.value_size() as usize]);
    let words = &["index of the VIPs does not match the VIPs"];
    patient.is_fixed("map-mismatch", INSTANCE, "error", words);

    // The sum that outer headers begin with: packets to this real would be dropped on the way.
    let reals = map(&host.bpffs, "reals");
    let mut real = reals.lookup(&1_u32.to_ne_bytes(), MapFlags::ANY).expect("read").expect("one");
    real[24] ^= 0x55;
    set(&reals, 1, &real);
    let words = &["entry of real 10.0.0.1 does not match its address"];
    // What would be saved has the address that may be wrong.
    patient.is_advised("map-mismatch", INSTANCE, "error", "lbctl apply --yes -f FILE");
    assert!(plan(&host.lbctl(), &file).contains(words[0]));
    host.lbctl().ok(&["apply", "--yes", "-f", path_of(&file)]);
    patient.is_well("map-mismatch", INSTANCE);
    assert!(plan(&host.lbctl(), &file).contains("nothing to change"));
}

/// Where the address of a real is wrong, only the file knows the right one: `serve` says so and writes nothing.
#[test]
fn serve_does_not_take_a_wrong_address_for_a_right_one() {
    let (host, file) = host();
    let lbctl = host.lbctl().env("LBCTL_REPAIR_MS", "200");
    let mut serve = lbctl.spawn(&["serve", "-f", path_of(&file)]);
    serve.wait_for("metrics at");
    let entry = || {
        let reals = map(&host.bpffs, "reals");
        reals.lookup(&1_u32.to_ne_bytes(), MapFlags::ANY).expect("read").expect("a real")
    };
    let mut wrong = entry();
    wrong[15] ^= 0x40;
    set(&map(&host.bpffs, "reals"), 1, &wrong);
    let told = "does not match its address: run lbctl apply -f FILE, which writes it anew";
    let says = || serve.stderr().contains(told);
    assert!(wait_until(PATIENCE, says), "{}", serve.stderr());
    // Nor does it at the next look.
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(entry(), wrong, "{}", serve.stderr());
    assert!(!serve.stderr().contains("written anew"), "{}", serve.stderr());
    host.lbctl().ok(&["apply", "--yes", "-f", path_of(&file)]);
    assert!(plan(&host.lbctl(), &file).contains("nothing to change"));
    let patient = Patient::new(host.lbctl(), &host.ns, &[]);
    patient.is_well("map-mismatch", INSTANCE);
    let listed = host.lbctl().ok(&["real", "list"]).stdout;
    assert!(listed.contains("10.0.0.1") && !listed.contains("10.0.0.65"), "{listed}");
    assert_eq!(serve.stop().code(), Some(0));
}

/// `serve` finds it by itself, and connections go on.
#[test]
fn serve_fixes_it() {
    let rig = Rig::new(2);
    let file = config_file(&config(&vip(VIP, &["10.0.0.1", "10.0.0.2"])));
    let lbctl = rig.lbctl().env("LBCTL_REPAIR_MS", "200");
    let mut serve = lbctl.spawn(&["serve", "-f", path_of(&file)]);
    serve.wait_for("metrics at");
    let download = rig.download(VIP);
    zero(&rig.bpffs, 0, 4_000);
    serve.wait_for(&format!("ring of {VIP} does not match its reals"));
    serve.wait_for("slots differ): written anew");
    assert!(wait_until(PATIENCE, || rig.lbctl().run(&["status", "--check"]).code() == Some(0)));
    goes_on(&download, "a ring was written anew");
    let metrics = SocketAddr::from(([127, 0, 0, 1], 9847));
    let page = || {
        let answer = http_get(&rig.topology.balancer.ns, metrics, "/metrics");
        answer.expect("it answers").body
    };
    // The first pages may come before the first sample of the rings.
    let series = format!("l4lb_vip_ring_wrong_slots{{vip=\"{VIP}\"}}");
    assert!(wait_until(PATIENCE, || page().contains(&series)), "{}", page());
    assert!(page().contains("\nl4lb_map_repairs_total 1\n"), "{}", page());
    for _ in 0..20 {
        HttpClient::connect(rig.client(), server(VIP)).expect("connect");
    }
    assert_eq!(serve.stop().code(), Some(0));
}
