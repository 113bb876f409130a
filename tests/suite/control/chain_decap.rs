//! The chain on a real, and balancer and decapsulation in one chain.

use serde_json::Value;
use serde_json::json;

use crate::fixtures::Host;
use crate::fixtures::Lbctl;
use crate::fixtures::Rig;
use crate::fixtures::UPLINK;
use crate::fixtures::config;
use crate::fixtures::config_file;
use crate::fixtures::goes_on;
use crate::fixtures::http_get;
use crate::fixtures::json as json_of;
use crate::fixtures::path_of;
use crate::fixtures::server;
use crate::fixtures::udp_ask;
use crate::fixtures::vip;

#[track_caller]
fn status(lbctl: &Lbctl<'_>) -> Value {
    json_of(&lbctl.ok(&["decap", "status", "--json"]))
}

#[test]
fn attach_and_detach() {
    let host = Host::new();
    host.ns.shell(
        "ip link add second type veth peer name other; ip link set second up; ip link set other up",
    );
    let lbctl = host.lbctl();
    let here = |expected: Value, addresses: Value| {
        let status = status(&lbctl);
        assert_eq!((&status["interfaces"], &status["addresses"]), (&expected, &addresses));
    };
    let own = json!(["172.31.0.2", "fc00:31::2"]);
    lbctl.ok(&["decap", "attach", UPLINK]);
    here(json!({ "uplink": "native" }), own.clone());
    lbctl.ok(&["decap", "attach", UPLINK]);
    here(json!({ "uplink": "native" }), own.clone());

    // Asked for again, it is as was asked for last.
    lbctl.ok(&["decap", "attach", UPLINK, "--address", "10.9.9.9", "--address", "fc00:9::9"]);
    here(json!({ "uplink": "native" }), json!(["10.9.9.9", "fc00:9::9"]));
    lbctl.ok(&["decap", "attach", UPLINK, "--xdp-mode", "generic"]);
    here(json!({ "uplink": "generic" }), own.clone());
    lbctl.ok(&["decap", "attach", UPLINK, "--xdp-mode", "native"]);
    here(json!({ "uplink": "native" }), own.clone());

    lbctl.ok(&["decap", "attach", "second", "--address", "10.8.8.8"]);
    here(
        json!({ "second": "native", "uplink": "native" }),
        json!(["10.8.8.8", "172.31.0.2", "fc00:31::2"]),
    );
    // An address stays as long as one of them has it.
    for interface in [UPLINK, "second"] {
        lbctl.ok(&["decap", "attach", interface, "--address", "10.7.7.7", "--address", "10.8.8.8"]);
    }
    let both = json!({ "second": "native", "uplink": "native" });
    here(both.clone(), json!(["10.7.7.7", "10.8.8.8"]));
    lbctl.ok(&["decap", "attach", "second", "--address", "10.8.8.8"]);
    here(both, json!(["10.7.7.7", "10.8.8.8"]));
    lbctl.ok(&["decap", "detach", UPLINK]);
    here(json!({ "second": "native" }), json!(["10.8.8.8"]));
    assert!(!host.has_xdp(UPLINK) && host.has_xdp("second"));
    assert_eq!(lbctl.ok(&["decap", "detach", UPLINK]).stdout, "nothing to detach\n");
    here(json!({ "second": "native" }), json!(["10.8.8.8"]));

    // An interface that is gone can be left, too.
    host.ns.shell("ip link del second");
    lbctl.ok(&["decap", "detach"]);
    assert!(!host.has_pins("default"));
}

/// A mode that is not possible, or not for decapsulation to choose, leaves what runs.
#[test]
fn modes_that_cannot_be() {
    let host = Host::new();
    let lbctl = host.lbctl();
    let attach = |mode| ["decap", "attach", UPLINK, "--xdp-mode", mode];
    let runs = |mode: &str| {
        assert_eq!(status(&lbctl)["interfaces"], json!({ UPLINK: mode }));
        assert!(host.has_xdp(UPLINK));
    };
    // Too long for native mode on such an interface.
    host.ns.shell("ip link set uplink mtu 9000; ip link set nobody mtu 9000");
    lbctl.ok(&attach("generic"));
    let output = lbctl.exits(1, &attach("native"));
    assert!(output.stderr.starts_with("error: interface uplink cannot run XDP in native mode"));
    assert_eq!(output.stderr.lines().count(), 1, "{output}");
    runs("generic");

    // The balancer's configuration says how it runs.
    host.ns.shell("ip link set uplink mtu 1600; ip link set nobody mtu 1600");
    let file = config_file(&Host::config("").replace("native", "generic"));
    let path = path_of(&file);
    lbctl.ok(&["apply", "--yes", "-f", path]);
    let output = lbctl.exits(1, &attach("native"));
    let words = "error: interface uplink runs in generic mode for the balancer";
    assert!(output.stderr.starts_with(words), "{output}");
    assert_eq!(output.stderr.lines().count(), 1, "{output}");
    runs("generic");
    lbctl.ok(&attach("generic"));
    lbctl.ok(&attach("auto"));
    runs("generic");
    lbctl.ok(&["plan", "-f", path]);
}

/// Only what is addressed to the given addresses is decapsulated.
#[test]
fn other_destinations_pass() {
    let rig = Rig::new(1);
    let vip_address = "udp://10.200.1.1:53";
    let _echo = rig.topology.serve_udp(&[server(vip_address)]);
    rig.lbctl().apply(&config(&vip(vip_address, &["10.0.0.1"])));
    let ask = || udp_ask(rig.client(), server(vip_address), "?");
    assert!(ask().is_ok());

    let real = Lbctl::new(&rig.bpffs).in_ns(&rig.topology.reals[0].ns);
    real.ok(&["--instance", "real1", "decap", "attach", UPLINK, "--address", "10.0.0.77"]);
    let count = |name: &str| {
        let status = json_of(&real.ok(&["--instance", "real1", "decap", "status", "--json"]));
        status["results"][name]["packets"].as_u64().expect("a number")
    };
    let before = (count("ipv4_in_ipv4"), count("other_destination"));
    assert!(ask().is_err(), "the kernel has no tunnel for it");
    assert_eq!((count("ipv4_in_ipv4"), count("other_destination")), (before.0, before.1 + 1));
    let table = real.ok(&["--instance", "real1", "decap", "status"]).stdout;
    assert!(table.contains("10.0.0.77") && table.contains("other_destination"), "{table}");
}

/// A balancer that is one of its own reals: both programs in one chain, and each leaves the other alone.
#[test]
fn beside_the_balancer() {
    const VIP: &str = "tcp://10.200.1.1:80";
    let rig = Rig::new(1);
    let lbctl = rig.lbctl();
    let file = config_file(&config(&vip(VIP, &["10.0.0.1"])));
    let path = path_of(&file);
    lbctl.ok(&["apply", "--yes", "-f", path]);
    let download = rig.download(VIP);
    let chain = || {
        let status = json_of(&lbctl.ok(&["status", "--json"]));
        let chain = status["chain"].as_array().expect("a list").clone();
        chain
            .iter()
            .map(|slot| slot["name"].as_str().expect("a name").to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(chain(), ["balancer"]);
    lbctl.ok(&["decap", "attach", UPLINK]);
    assert_eq!(chain(), ["balancer", "decap"]);
    lbctl.ok(&["plan", "-f", path]);
    goes_on(&download, "decapsulation comes");
    // What the balancer passes on, decapsulation sees.
    let seen =
        || status(&lbctl)["results"]["not_encapsulated"]["packets"].as_u64().expect("a number");
    let before = seen();
    let own = (rig.topology.balancer.v4, 80).into();
    assert!(http_get(rig.client(), own, "/").is_err(), "nobody listens on the balancer itself");
    assert!(seen() > before);

    lbctl.ok(&["decap", "detach"]);
    assert_eq!(chain(), ["balancer"]);
    goes_on(&download, "decapsulation goes");
    lbctl.ok(&["plan", "-f", path]);

    // The other way round.
    lbctl.ok(&["decap", "attach", UPLINK]);
    lbctl.ok(&["down"]);
    assert_eq!(status(&lbctl)["interfaces"], json!({ "uplink": "native" }));
    lbctl.exits(1, &["save"]);
    lbctl.ok(&["apply", "--yes", "-f", path]);
    assert_eq!(chain(), ["balancer", "decap"]);
    goes_on(&download, "the balancer is back");
    lbctl.ok(&["down"]);
    lbctl.ok(&["decap", "detach"]);
    assert!(!rig.bpffs.path().join("l4lb/default").exists());
}
