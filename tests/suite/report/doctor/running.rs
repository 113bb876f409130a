//! A balancer that runs.

use std::os::unix::fs::PermissionsExt;

use libbpf_rs::Link;
use libbpf_rs::MapCore;
use libbpf_rs::MapFlags;
use libbpf_rs::MapHandle;
use libbpf_rs::ProgramHandle;
use tempfile::NamedTempFile;

use super::Patient;
use crate::fixtures::Host;
use crate::fixtures::Serve;
use crate::fixtures::Steady;
use crate::fixtures::Verdict;
use crate::fixtures::XdpLink;
use crate::fixtures::config_file;
use crate::fixtures::packet_from;
use crate::fixtures::path_of;
use crate::fixtures::send_frame;
use crate::fixtures::vip;

const PLACE: &str = "interface uplink";
const INSTANCE: &str = "instance default";
const VIP: &str = "tcp://10.200.1.1:80";

#[test]
fn what_changed_since_the_apply() {
    let host = Host::new();
    let neighbour = |mac: &str| {
        host.ns
            .shell(&format!("ip neigh replace 172.31.0.254 lladdr {mac} dev uplink nud permanent"));
    };
    neighbour("02:00:00:00:00:fe");
    let gateway = "gateway = \"172.31.0.254\"";
    let config = Host::config(&vip(VIP, &["10.0.0.1"]));
    host.lbctl().apply(&config.replace("gateway_mac = \"02:00:00:00:00:fe\"", gateway));
    let patient = Patient::new(host.lbctl(), &host.ns, &[]);
    for id in ["not-attached", "mtu-changed", "gateway-moved", "foreign-program", "generic-mode"] {
        patient.is_well(id, PLACE);
    }
    for id in ["program-not-in-place", "table-too-small", "new-flows-limited", "cpus-without-table"]
    {
        patient.is_well(id, INSTANCE);
    }
    neighbour("02:00:00:00:00:fd");
    let words = &["is 02:00:00:00:00:fd now, but packets are sent to 02:00:00:00:00:fe"];
    patient.is_fixed("gateway-moved", PLACE, "error", words);
    patient.is_well("mac-changed", PLACE);
    host.ns.shell("ip link set uplink address 02:00:00:00:00:03");
    // The kernel forgets its neighbours then.
    neighbour("02:00:00:00:00:fd");
    let words = &["its MAC is 02:00:00:00:00:03 now", "frames to 02:00:00:00:00:02 are balanced"];
    patient.is_fixed("mac-changed", PLACE, "error", words);
    host.ns.shell("ip link set uplink mtu 1550");
    patient.is_fixed("mtu-changed", PLACE, "error", &["1550 now", "told 1600"]);
    host.ns.shell("ip link set uplink mtu 1590");
    patient.is_fixed("mtu-changed", PLACE, "warning", &["1590 now", "told 1550"]);
}

/// The control API, whose folder is open to others until somebody closes it.
#[test]
fn the_control_api_does_not_listen() {
    let host = Host::new();
    let folder = tempfile::tempdir().expect("a folder");
    let (open, socket) = (folder.path().join("open"), folder.path().join("open/a.sock"));
    let mode = |mode| std::fs::set_permissions(&open, std::fs::Permissions::from_mode(mode));
    std::fs::create_dir(&open).and_then(|()| mode(0o777)).expect("a folder that is open");
    let control = format!("[control]\nsocket = \"{}\"\n", socket.display());
    let vip = vip(VIP, &["10.0.0.1"]);
    let serve = Serve::start(host.lbctl(), &Host::config(&format!("{control}{vip}")));
    serve.wait_for("WARN no control API", 1);
    let patient = Patient::new(host.lbctl(), &host.ns, &[]);
    let words = &["no control API: ", "can be written to by others (mode 0777)", "a.sock"];
    patient.finds("control-api", INSTANCE, "warning", words);
    mode(0o755).expect("close it");
    serve.wait_for("control API at ", 1);
    patient.is_well("control-api", INSTANCE);
    serve.stop();
}

#[test]
fn programs_that_are_not_in_their_place() {
    let host = Host::new();
    let file = config_file(&Host::config(""));
    host.lbctl().ok(&["apply", "-f", path_of(&file)]);
    let patient = Patient::new(host.lbctl(), &host.ns, &[]);
    let pins = host.bpffs.path().join("l4lb/default");

    // Somebody takes the program away, and puts another one there.
    Link::open(pins.join("link/uplink")).and_then(|link| link.detach()).expect("detach");
    patient.finds("not-attached", PLACE, "error", &["no program of this instance"]);
    let link = XdpLink::attach(&host.ns, "uplink", Verdict::Pass);
    let patient = patient.with(&["-f", path_of(&file)]);
    patient.finds("not-attached", PLACE, "error", &[]);
    patient.finds("foreign-program", PLACE, "error", &["'test_Pass'"]);
    drop(link);
    host.lbctl().ok(&["apply", "-f", path_of(&file)]);
    let patient = patient.with(&[]);
    patient.is_well("not-attached", PLACE);

    // A program that was to replace the balancer, and did not get there.
    let next = pins.join("prog/balancer:next");
    let program = ProgramHandle::from_pinned_path(pins.join("prog/balancer")).expect("open it");
    program.pin(&next).expect("pin it");
    drop(program);
    patient.is_fixed("program-not-in-place", INSTANCE, "error", &[]);

    host.ns.shell("ip link del uplink");
    patient.is_advised("interface-missing", PLACE, "error", "correct [[interfaces]]");
}

#[test]
fn pins_of_another_build() {
    let host = Host::new();
    host.lbctl().apply(&Host::config(""));
    let control = host.bpffs.path().join("l4lb/default/map/control");
    let control = MapHandle::from_pinned_path(control).expect("open the control record");
    let key = 0_u32.to_ne_bytes();
    let mut value = control.lookup(&key, MapFlags::ANY).expect("read it").expect("it is there");
    value[..4].copy_from_slice(&99_u32.to_ne_bytes());
    control.update(&key, &value, MapFlags::ANY).expect("write it");
    let patient = Patient::new(host.lbctl(), &host.ns, &[]);
    patient.finds("instance-unreadable", INSTANCE, "error", &["ABI version 99"]);
}

#[test]
fn generic_mode() {
    let host = Host::new();
    host.lbctl().apply(&Host::config("").replace("\"native\"", "\"generic\""));
    let patient = Patient::new(host.lbctl(), &host.ns, &[]);
    patient.finds("generic-mode", PLACE, "note", &[]);
    // The kernel itself sees to it that nothing is merged before.
    assert_eq!(patient.find("lro", PLACE), None);
}

#[test]
fn tables_and_limits_that_are_too_small() {
    let host = Host::new();
    let config = |keys: &str| {
        let config = Host::config(&format!("{keys}\n{}", vip(VIP, &["10.0.0.1"])));
        config.replace("entries = 20000\n", "")
    };
    host.lbctl().apply(&config("entries = 64"));
    let patient = Patient::new(host.lbctl(), &host.ns, &[]);
    (0..8).for_each(|client| send_frame(&host.ns, "nobody", &packet_from(client)));
    patient.is_well("table-too-small", INSTANCE);
    // Ten times as many as there is room for, in turns: none finds its entry again.
    let busy = Steady::start(&host.ns, "nobody", |number| packet_from(number % 640));
    patient.is_advised("table-too-small", INSTANCE, "warning", "raise connection_table.entries");
    patient.is_well("new-flows-limited", INSTANCE);
    drop(busy);
    patient.is_well("table-too-small", INSTANCE);

    host.lbctl().apply(&config("entries = 20000\nnew_connections_per_second = 1"));
    let flood = Steady::start(&host.ns, "nobody", packet_from);
    let advice = "raise connection_table.new_connections_per_second";
    patient.is_advised("new-flows-limited", INSTANCE, "warning", advice);
    drop(flood);
    // Once the limit was raised, doctor reports the past ones as a note.
    host.lbctl().apply(&config("entries = 20000\nnew_connections_per_second = 125000"));
    patient.finds("new-flows-limited", INSTANCE, "note", &["none of them in the last second"]);
}

#[test]
fn frames_to_other_macs() {
    let host = Host::new();
    let _pass = XdpLink::attach(&host.ns, "nobody", Verdict::Pass);
    host.lbctl().apply(&Host::config(&vip(VIP, &["10.0.0.1"])));
    let patient = Patient::new(host.lbctl(), &host.ns, &[]);
    patient.is_well("other-mac", INSTANCE);
    let virtual_router = |number| {
        let mut frame = packet_from(number % 8);
        frame[..6].copy_from_slice(&[0, 0, 0x5e, 0, 1, 0x33]);
        frame
    };
    let steady = Steady::start(&host.ns, "nobody", virtual_router);
    patient.is_advised("other-mac", INSTANCE, "warning", "add it to macs of [[interfaces]]");
    let status = || host.lbctl().ok(&["status"]).stdout;
    assert!(status().contains("packets a second for VIPs are not balanced"), "{}", status());
    // As advised.
    let macs = "macs = [\"00:00:5e:00:01:33\"]\ngateway_mac";
    let config = Host::config(&vip(VIP, &["10.0.0.1"])).replace("gateway_mac", macs);
    host.lbctl().apply(&config);
    patient.is_well("other-mac", INSTANCE);
    drop(steady);
}

#[test]
fn cpus_that_come_up() {
    const ONLINE: &str = "/sys/devices/system/cpu/online";
    if std::thread::available_parallelism().map_or(1, std::num::NonZero::get) < 2 {
        eprintln!("skipped: this machine has one CPU, and the test needs two");
        return;
    }
    let host = Host::new();
    let online = NamedTempFile::new().expect("make a file");
    std::fs::write(online.path(), "0\n").expect("write a file");
    let file = config_file(&Host::config(""));
    host.lbctl().finds(ONLINE, online.path()).ok(&["apply", "-f", path_of(&file)]);
    let patient = Patient::new(host.lbctl().finds(ONLINE, online.path()), &host.ns, &[]);
    patient.is_well("cpus-without-table", INSTANCE);
    std::fs::write(online.path(), "0-1\n").expect("write a file");
    patient.is_fixed("cpus-without-table", INSTANCE, "warning", &["CPU 1 may receive packets"]);
    std::fs::write(online.path(), "0\n").expect("write a file");
    patient.finds("idle-tables", INSTANCE, "note", &["CPU 1: a connection table"]);
}

#[test]
fn addresses_to_which_anybody_may_send() {
    let host = Host::new();
    let with = |from: &str| {
        let end = format!("[[decapsulate]]\naddress = \"10.8.0.1\"\n{from}");
        Host::config(&(vip(VIP, &["10.0.0.1"]) + &end))
    };
    host.lbctl().apply(&with(""));
    let patient = Patient::new(host.lbctl(), &host.ns, &[]);
    let advice = "name the outer sources of those who send";
    patient.is_advised("decapsulate-open", "decapsulate 10.8.0.1", "warning", advice);
    host.lbctl().apply(&with("from = [\"10.9.0.0/16\"]\n"));
    patient.is_well("decapsulate-open", "host");
    patient.is_well("decapsulate-loop", INSTANCE);
}
