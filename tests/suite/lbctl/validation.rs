//! Files and commands are refused for the same reasons, some of which only the host knows.

use std::net::IpAddr;

use l4lb::Balancer;
use l4lb::Instance;
use l4lb::OwnAddress;
use l4lb::RealSpec;
use l4lb::RealState;
use l4lb::Routing;
use l4lb::Table;
use l4lb::Vip;
use l4lb::VipSpec;
use serde_json::json;

use crate::fixtures::Host;
use crate::fixtures::config_file;
use crate::fixtures::json as json_of;
use crate::fixtures::path_of;
use crate::fixtures::vip;
use crate::report::doctor::Patient;

const VIP: &str = "tcp://10.200.1.1:80";
/// Of the host itself.
const OWN: &str = "172.31.0.2";

type Change = Box<dyn Fn(&mut Table) + Sync>;

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn up(weight: u32) -> RealSpec {
    RealSpec::new(weight, RealState::Up)
}

/// Built without its text form, whose parser checks it too.
fn new_vip(at: &str, port: u16, spec: &VipSpec) -> Change {
    let vip = Vip { address: address(at), port, protocol: l4lb::Protocol::Tcp };
    let spec = spec.clone();
    Box::new(move |table| {
        table.vips.insert(vip, spec.clone());
    })
}

fn of_vip(change: impl Fn(&mut VipSpec) + Sync + 'static) -> Change {
    let vip: Vip = VIP.parse().expect("a VIP");
    Box::new(move |table| change(table.vips.get_mut(&vip).expect("it is there")))
}

fn new_real(at: &str) -> Change {
    let at = address(at);
    of_vip(move |spec| {
        spec.reals.insert(at, up(1));
    })
}

fn new_id(id: u32, at: &str) -> Change {
    let at = address(at);
    Box::new(move |table| {
        table.server_ids.insert(id, at);
    })
}

/// Addresses that no service can have, and the reason that the error gives.
const NOBODYS: [(&str, &str); 9] = [
    ("0.0.0.0", "unspecified"),
    ("0.1.2.3", "0.0.0.0/8"),
    ("224.0.0.1", "multicast"),
    ("ff02::1", "multicast"),
    ("127.0.0.1", "loopback"),
    ("169.254.1.1", "link-local"),
    ("fe80::1", "link-local"),
    ("255.255.255.255", "broadcast"),
    ("::ffff:10.0.0.9", "IPv4-mapped"),
];

fn changes() -> Vec<(Change, &'static str)> {
    let plain = VipSpec::default();
    let allowed = VipSpec { allow_own_address: OwnAddress::Allowed, ..VipSpec::default() };
    let mut changes = Vec::new();
    for (at, why) in NOBODYS {
        changes.push((new_vip(at, 80, &plain), why));
        // An IPv6 real is refused for another reason here.
        if address(at).is_ipv4() {
            changes.push((new_id(7, at), why));
            changes.push((new_real(at), why));
        }
    }
    changes.extend([
        (new_real("10.200.1.1"), "the address of a VIP"),
        (new_id(7, "10.200.1.1"), "the address of a VIP"),
        (new_vip("10.0.0.1", 80, &plain), "the address of a VIP"),
        (new_vip("172.31.0.254", 80, &plain), "give the router's own address"),
        (of_vip(|spec| spec.reals.extend([(address("10.0.0.2"), up(65_536))])), "highest weight"),
        (of_vip(|spec| spec.routing.extend([Routing::SourcePrefix])), "not supported"),
        (of_vip(|spec| spec.routing.extend([Routing::QuicConnectionId])), "QUIC runs over UDP"),
        (new_id(0, "10.0.0.1"), "no id"),
        (new_real("fc00::1"), "only packets.encap_source_v4 is set"),
        (new_id(7, "fc00::1"), "only packets.encap_source_v4 is set"),
        (
            Box::new(|table| {
                for n in 0..512_u16 {
                    let vip = Vip { port: 1000 + n, ..VIP.parse().expect("a VIP") };
                    table.vips.insert(vip, VipSpec::default());
                }
            }),
            "513 entries; at most 512",
        ),
        (
            of_vip(|spec| {
                let more = (0..4096_u32).map(|n| ((0x0a01_0000 + n).to_be_bytes().into(), up(1)));
                spec.reals.extend(more);
            }),
            "4097 different reals; at most 4096",
        ),
        (
            Box::new(|table| {
                table.server_ids.extend((1..=65_537).map(|id| (id, address("10.0.0.1"))));
            }),
            "65537 entries; at most 65536",
        ),
        // Reasons that only this host knows.
        (new_vip(OWN, 80, &plain), "this host's own address (interface uplink)"),
        (new_vip(OWN, 0, &allowed), "where programs listen (tcp 0.0.0.0:2222)"),
        (new_vip("172.31.0.255", 80, &allowed), "broadcast address of interface uplink's network"),
        (new_real("172.31.0.255"), "broadcast address"),
        (
            of_vip(|spec| spec.encapsulation = Some(l4lb::Encapsulation::L2)),
            "it is not on the network of uplink",
        ),
    ]);
    changes
}

/// A balancer with a gateway and one IPv4 source, on a host that listens.
fn host_and_config() -> (Host, String, std::net::TcpListener) {
    let host = Host::new();
    host.ns
        .shell("ip neigh replace 172.31.0.254 lladdr 02:00:00:00:00:fe dev uplink nud permanent");
    let listener = host.ns.open(|| std::net::TcpListener::bind("0.0.0.0:2222").expect("listen"));
    let config = Host::config(&format!(
        "\n[packets]\nencap_source_v4 = \"192.0.2.0/24\"\n{}",
        vip(VIP, &["10.0.0.1"])
    ));
    let config =
        config.replace("gateway_mac = \"02:00:00:00:00:fe\"", "gateway = \"172.31.0.254\"");
    (host, config, listener)
}

#[test]
fn files_and_commands_are_refused_alike() {
    let (host, config, _listener) = host_and_config();
    host.lbctl().apply(&config);
    let saved = host.lbctl().ok(&["save"]).stdout;
    host.ns.run(|| {
        let instance = Instance::new(host.bpffs.path(), "default").expect("a name");
        let balancer = Balancer::open(&instance).expect("it runs");
        let before = balancer.save().expect("a configuration");
        for (change, why) in changes() {
            let by_command = balancer.edit(|table| {
                change(table);
                Ok(())
            });
            let by_command = by_command.expect_err(why).to_string();
            let (mut file, mut table) = (before.clone(), Table::from(&before));
            change(&mut table);
            table.write_to(&mut file);
            let by_file = Balancer::plan(&instance, &file).expect_err(why).to_string();
            let by_apply = Balancer::apply(&instance, &file).expect_err(why).to_string();
            assert!(by_command.contains(why), "{why}: {by_command}");
            assert_eq!(by_file, by_apply);
            let (key, what) = by_file.split_once(": ").expect("a key");
            assert_eq!(what, by_command, "{key}");
            assert_eq!(by_file.lines().count(), 1, "{by_file}");
        }
    });
    assert_eq!(host.lbctl().ok(&["save"]).stdout, saved);
}

/// `plan`, `apply`, `serve` and its reload name the file in their error; `vip add` prints the same without it.
#[test]
fn the_hosts_own_address_must_be_allowed() {
    let (host, config, _listener) = host_and_config();
    let own = "tcp://172.31.0.2:80";
    let every = "tcp://172.31.0.2:*";
    let with = |more: &str| config_file(&format!("{config}{more}"));
    let refused = with(&vip(own, &["10.0.0.1"]));
    let path = path_of(&refused);
    let text = std::fs::read_to_string(path).expect("read");
    let at = text
        .lines()
        .position(|line| line == format!("address = \"{OWN}\""))
        .expect("the VIP is there")
        + 1;
    let line = format!(
        "error: {path}:{at}: vips[1].address: {OWN} is this host's own address (interface uplink): packets for the VIP \
         would no longer reach this host's programs; take the address off the host; or, if a routing daemon (BIRD, \
         FRR) announces it from lo, or if this host is also one of the VIP's reals, set allow_own_address = true for \
         the VIP in the file and apply that (a new VIP: lbctl vip add --allow-own-address)\n"
    );
    for command in ["plan", "apply", "serve"] {
        assert_eq!(host.lbctl().exits(1, &[command, "-f", path]).stderr, line, "{command}");
    }
    assert!(!host.has_pins("default"));

    host.lbctl().apply(&config);
    let (_, same) = line.split_once("vips[1].address: ").expect("a key");
    let by_command = host.lbctl().exits(1, &["vip", "add", own]).stderr;
    assert_eq!(by_command, format!("error: {same}"));
    let listens = "(tcp 0.0.0.0:2222)";
    let output = host.lbctl().exits(1, &["vip", "add", every, "--allow-own-address"]);
    assert!(output.stderr.contains(listens), "{output}");

    host.lbctl().ok(&["vip", "add", own, "--allow-own-address"]);
    host.lbctl().ok(&["vip", "add", every, "--allow-own-address=force"]);
    let saved = json_of(&host.lbctl().ok(&["save", "--json"]));
    assert_eq!(saved["vips"][1]["allow_own_address"], json!("force"), "{saved:#}");
    assert_eq!(saved["vips"][2]["allow_own_address"], json!(true), "{saved:#}");
    let saved = config_file(&host.lbctl().ok(&["save"]).stdout);
    host.lbctl().ok(&["plan", "-f", path_of(&saved)]);
    // An address that is routed to the host counts as its own.
    host.ns.shell("ip route add local 10.77.0.0/16 dev lo");
    let output = host.lbctl().exits(1, &["vip", "add", "tcp://10.77.1.1:80"]);
    assert!(output.stderr.contains("own address (local route 10.77.0.0/16)"), "{output}");
    // A real may have one: it is this host.
    host.lbctl().ok(&["real", "add", own, "10.77.1.1"]);
    let listed = host.lbctl().ok(&["real", "list", own]).stdout;
    assert!(listed.contains("local"), "{listed}");
    // Once the permission is withdrawn, the address is refused.
    let output = host.lbctl().exits(1, &["apply", "-f", path]);
    assert_eq!(output.stderr, line);
}

/// The host got the address after the VIP was set up.
#[test]
fn the_host_gets_the_address_of_a_vip() {
    let (host, config, _listener) = host_and_config();
    host.lbctl().apply(&config);
    let file = config_file(&config);
    let path = path_of(&file);
    let running = Patient::new(host.lbctl(), &host.ns, &[]);
    let planned = running.with(&["-f", path]);
    running.is_well("own-address", "host");
    planned.is_well("own-address", "host");
    let mut serve = host.lbctl().spawn(&["serve", "-f", path]);
    serve.wait_for("metrics at");

    host.ns.shell("ip addr add 10.200.1.1/32 dev lo");
    let place = format!("VIP {VIP}");
    for patient in [&running, &planned] {
        patient.finds("own-address", &place, "error", &["10.200.1.1", "interface lo"]);
        patient.is_advised("own-address", &place, "error", "allow_own_address = true");
    }
    let status = json_of(&host.lbctl().exits(1, &["status", "--json", "--check"]));
    let findings = status["condition"]["findings"].as_array().expect("findings");
    let own = findings.iter().find(|finding| finding["finding"]["id"] == "own-address");
    let what = own.expect("it is told")["what"].as_str().expect("text");
    assert!(what.contains("10.200.1.1 is this host's own address"), "{what}");
    serve.signal(nix::sys::signal::Signal::SIGHUP);
    serve.wait_for("not reloaded: ");
    let said = serve.stderr();
    assert!(said.contains(&format!("{path}:")), "{said}");
    assert!(said.contains(": vips[0].address: 10.200.1.1 is this host's"), "{said}");
    serve.stop();
    host.lbctl().exits(1, &["plan", "-f", path]);
    // It prevents no other change, and none that fixes it.
    host.lbctl().ok(&["real", "add", VIP, "10.0.0.2"]);
    host.lbctl().exits(1, &["real", "add", VIP, "172.31.0.255"]);
    let allowed = config.replace("reals = ", "allow_own_address = true\nreals = ");
    host.lbctl().apply(&allowed);
    running.is_well("own-address", "host");
    host.lbctl().ok(&["vip", "delete", VIP]);
}

#[test]
fn a_real_without_a_slot_is_reported() {
    let host = Host::new();
    let reals = ["10.0.0.1, weight = 65535", "10.0.0.2, weight = 1", "10.0.0.3, weight = 65535"];
    let file = config_file(&Host::config(&vip(VIP, &reals)));
    let path = path_of(&file);
    let what = format!(
        "real 10.0.0.2 of {VIP} gets 0.00 % of new flows: compared with the other weights, its weight 1 is too low for \
         one of the 65537 slots of the ring"
    );
    let fix = format!("'lbctl real weight {VIP} 10.0.0.2 2'");
    let planned = Patient::new(host.lbctl(), &host.ns, &["-f", path]);
    planned.is_advised("real-outweighed", &format!("VIP {VIP}"), "warning", &fix);
    let output = host.lbctl().exits(3, &["plan", "-f", path]);
    assert!(output.stderr.contains(&what) && output.stderr.contains(&fix), "{output}");

    host.lbctl().ok(&["apply", "-f", path]);
    let running = planned.with(&[]);
    running.finds("real-outweighed", &format!("VIP {VIP}"), "warning", &[&what]);
    let status = host.lbctl().ok(&["status"]).stdout;
    assert!(status.contains(&what) && status.contains("2/3 (1 of too little weight)"), "{status}");
    let status = json_of(&host.lbctl().ok(&["status", "--json"]));
    let findings = status["condition"]["findings"].as_array().expect("findings");
    let found = findings.iter().find(|finding| finding["problem"] == "outweighed_reals");
    let real = json!({ "vip": VIP, "real": "10.0.0.2", "weight": 1, "needed": 2 });
    assert_eq!(found.expect("it is told")["reals"], json!([real]), "{status:#}");

    let output = host.lbctl().ok(&["real", "weight", VIP, "10.0.0.2", "2"]);
    assert_eq!(output.stderr, "", "{output}");
    running.is_well("real-outweighed", "host");
    let output = host.lbctl().ok(&["real", "weight", VIP, "10.0.0.2", "1"]);
    assert!(output.stderr.contains(&what), "{output}");
    // The same where no real is left at all.
    for real in ["10.0.0.1", "10.0.0.2"] {
        host.lbctl().ok(&["real", "drain", VIP, real]);
    }
    let output = host.lbctl().ok(&["real", "drain", VIP, "10.0.0.3"]);
    assert!(
        output.stderr.contains("no real takes new flows, because all 3 are drained"),
        "{output}"
    );
    assert!(output.stderr.contains("new flows are dropped"), "{output}");
    let one = "tcp://10.200.1.7:80";
    host.lbctl().ok(&["vip", "add", one, "--no-real", "reject"]);
    host.lbctl().ok(&["real", "add", one, "10.0.0.1"]);
    let output = host.lbctl().ok(&["real", "drain", one, "10.0.0.1"]);
    let said = "because its only one is drained, down or of weight 0: new flows are refused;";
    assert!(output.stderr.contains(said), "{output}");
}
