//! What commands do to the running state: plan, apply, save, the imperative ones, and two at once.

use std::io::Write;
use std::time::Duration;

use serde_json::Value;
use serde_json::json;
use tempfile::NamedTempFile;

use crate::fixtures::Host;
use crate::fixtures::Lbctl;
use crate::fixtures::UPLINK;
use crate::fixtures::changes_of;
use crate::fixtures::config_file;
use crate::fixtures::json as json_of;
use crate::fixtures::path_of;
use crate::fixtures::vip;

const PATIENCE: Duration = Duration::from_secs(30);

/// The exit code of `plan`: 0 nothing to change, 3 something.
#[track_caller]
fn plans(lbctl: &Lbctl<'_>, file: &NamedTempFile) -> i32 {
    let output = lbctl.run(&["plan", "-f", path_of(file)]);
    output.code().filter(|code| [0, 3].contains(code)).unwrap_or_else(|| panic!("plan: {output}"))
}

/// VIPs with everything that a VIP can have.
fn rich_vips() -> String {
    [
        vip("tcp://10.200.1.1:80", &["10.0.0.1", "10.0.0.2, weight = 7", "fc00::3, state = \"drain\""]),
        "hash = \"no-source-port\"\n".into(),
        vip("udp://[fc00:1::1]:443", &["10.0.0.1, weight = 0", "fc00::1, state = \"down\""]),
        "hash = \"destination-port\"\nconnection_table = false\nrouting = [\"quic-connection-id\"]\n".into(),
        vip("tcp://10.200.1.2:*", &["10.0.0.9"]),
        "hash = \"source-and-destination-port\"\n".into(),
        vip("tcp://10.200.1.2:81", &[]),
        "\n[[server_ids]]\nid = 1022\nreal = \"10.0.0.1\"\n".into(),
        "\n[[server_ids]]\nid = 70000\nreal = \"10.0.0.77\"\n".into(),
    ]
    .concat()
}

#[test]
fn a_second_apply_changes_nothing() {
    let host = Host::new();
    let file = config_file(&Host::config(&rich_vips()));
    let apply = ["apply", "-f", path_of(&file)];
    let state = || {
        let status = json_of(&host.lbctl().ok(&["status", "--json"]));
        (status["chain"].clone(), status["interfaces"].clone(), host.lbctl().ok(&["save"]).stdout)
    };
    host.lbctl().ok(&apply);
    let before = state();
    let output = host.lbctl().env("LBCTL_KILL_AT_WRITE", "1").ok(&apply);
    assert_eq!(
        output.stdout, "nothing to change\n",
        "and it writes nothing, or it would have been killed"
    );
    assert_eq!(state(), before);
}

#[test]
fn plan_tells_and_changes_nothing() {
    let host = Host::new();
    let old = config_file(&Host::config(&vip("tcp://10.200.1.1:80", &["10.0.0.1", "10.0.0.2"])));
    assert_eq!(plans(&host.lbctl(), &old), 3, "nothing runs as yet");
    assert!(!host.has_pins(""), "plan pins nothing");

    host.lbctl().ok(&["apply", "-f", path_of(&old)]);
    assert_eq!(plans(&host.lbctl(), &old), 0);
    let saved = host.lbctl().ok(&["save"]).stdout;

    let more = [
        "udp_timeout_seconds = 31\n".into(),
        vip("tcp://10.200.1.1:80", &["10.0.0.1", "10.0.0.3"]),
        vip("udp://10.200.1.1:80", &["10.0.0.1"]),
    ];
    let new = config_file(&Host::config(&more.concat()));
    let output =
        host.lbctl().env("LBCTL_KILL_AT_WRITE", "1").exits(3, &["plan", "-f", path_of(&new)]);
    for line in [
        "udp_timeout_seconds 30 → 31",
        "~ vip tcp://10.200.1.1:80",
        "+ vip udp://10.200.1.1:80",
        "- real 10.0.0.2",
    ] {
        assert!(output.stdout.contains(line), "'{line}' is not in {output}");
    }
    assert_eq!(host.lbctl().ok(&["save"]).stdout, saved);

    // One of two reals is another one: its half of the hash space moves, and what Maglev adds to that.
    let plan = json_of(&host.lbctl().exits(3, &["plan", "--json", "-f", path_of(&new)]));
    let vips = changes_of(&plan, "vip");
    let change = vips.iter().find(|vip| vip["action"] == "change").expect("a VIP that changes");
    let moved = change["moved"].as_f64().expect("a number");
    assert!((0.5..0.7).contains(&moved), "{moved}");

    // For programs, the same changes with their values.
    let told = |object: &str, action: &str, key: &str, what: &str| {
        let found = changes_of(&plan, object);
        let found = found.iter().find(|c| c["action"] == action && c[key] == what);
        found.unwrap_or_else(|| panic!("{action} {object} {what} in {plan:#}")).clone()
    };
    let gone = told("real", "remove", "real", "10.0.0.2");
    assert_eq!((&gone["vip"], &gone["old"]["weight"]), (&json!("tcp://10.200.1.1:80"), &json!(1)));
    assert!(gone.get("new").is_none() && gone["text"] == "- real 10.0.0.2", "{gone:#}");
    let timeout = told("setting", "change", "key", "connection_table.udp_timeout_seconds");
    assert_eq!((&timeout["old"], &timeout["new"]), (&json!(30), &json!(31)));
    assert_eq!(timeout["program"], "balancer");
    told("vip", "add", "vip", "udp://10.200.1.1:80");
    let texts: Vec<_> = plan["changes"].as_array().expect("changes").iter().collect();
    for line in
        output.stdout.lines().map(str::trim).filter(|line| line.starts_with(['+', '-', '~']))
    {
        assert!(texts.iter().any(|change| change["text"] == line), "{line} in {plan:#}");
    }
}

/// Reals that hash alike are reported whether anything changes or not.
#[test]
fn a_plan_names_reals_that_hash_alike() {
    const NOTE: &str = "note: reals 10.0.0.1 and 10.0.254.255 hash alike in tcp://10.200.1.1:80\n";
    let host = Host::new();
    let vip = |reals: &[&str]| config_file(&Host::config(&vip("tcp://10.200.1.1:80", reals)));
    let file = vip(&["10.0.254.255", "10.0.0.2", "10.0.0.1"]);
    let plan = host.lbctl().exits(3, &["plan", "-f", path_of(&file)]);
    assert!(plan.stdout.contains(NOTE) && plan.stdout.contains("docs/katran.md"), "{plan}");
    let apply = host.lbctl().ok(&["apply", "-f", path_of(&file)]);
    assert!(!apply.stdout.contains("hash alike") && apply.stderr.is_empty(), "{apply}");
    let plan = host.lbctl().ok(&["plan", "-f", path_of(&file)]);
    assert!(plan.stdout.contains(NOTE), "{plan}");
    let plan = json_of(&host.lbctl().ok(&["plan", "--json", "-f", path_of(&file)]));
    assert_eq!(plan["tied_reals"]["count"], 1, "{plan}");
    let reals = &plan["tied_reals"]["first"][0]["reals"];
    assert_eq!(*reals, serde_json::json!(["10.0.0.1", "10.0.254.255"]), "{plan}");
    let without = vip(&["10.0.254.255", "10.0.0.2"]);
    let plan = host.lbctl().exits(3, &["plan", "-f", path_of(&without)]);
    assert!(!plan.stdout.contains("note:"), "{plan}");
    let plan = json_of(&host.lbctl().exits(3, &["plan", "--json", "-f", path_of(&without)]));
    assert!(plan.get("tied_reals").is_none(), "{plan}");
}

#[test]
fn what_save_prints_plans_to_nothing() {
    let configs = [
        Host::INTERFACE.to_owned(),
        Host::config(&rich_vips()),
        Host::config(&format!(
            "cpus = [0]\nudp_timeout_seconds = 5\nnew_connections_per_second = 9\n\n[packets]\nmax_frame = 1400\n\
             oversize = \"drop\"\nencap_source_v4 = \"192.0.2.0/24\"\nencap_source_v6 = \"2001:db8::1\"\n\
             outer_df = true\nencapsulation = \"gue\"\ngue_port = 6081\ngue_variant = 0\n{}{}encapsulation = \"ipip\"\n",
            vip("tcp://[fc00:1::1]:80", &["10.0.0.1", "fc00::1"]),
            vip(
                "tcp://[fc00:1::1]:81",
                &["10.0.0.1", "10.0.0.2, encapsulation = \"gue\"", "10.0.0.3, local = true"]
            )
        )),
        format!(
            "[metrics]\nlisten = \"127.0.0.1:9999\"\n\n{}",
            Host::config("").replace("native", "generic")
        ),
        Host::config("").replace(
            "gateway_mac",
            "macs = [\"00:00:5e:00:01:33\", \"00:00:5e:00:02:33\"]\ngateway_mac",
        ),
        Host::config(
            &[
                vip("tcp://10.200.1.1:80", &[])
                    + "other_ports = \"drop\"\necho = \"when-usable\"\n",
                vip("udp://10.200.1.1:80", &["10.0.0.1"]) + "no_real = \"reject\"\n",
                vip("tcp://10.200.1.2:*", &[]) + "other_ports = \"pass\"\necho = \"always\"\n",
                vip("tcp://10.200.1.3:1", &[]) + "other_ports = \"reject\"\necho = \"never\"\n",
            ]
            .concat(),
        ),
        Host::config(
            &(vip("tcp://10.200.1.1:80", &["10.0.0.1"])
                + "[[decapsulate]]\naddress = \"10.8.0.1\"\nfrom = [\"10.9.0.0/16\", \"192.0.2.7/32\"]\n\
                   [[decapsulate]]\naddress = \"fc00:8::1\"\nthen = \"router\"\nfrom = [\"::/0\"]\n\
                   [[decapsulate]]\naddress = \"10.8.0.2\"\n"),
        ),
        // No interface: nothing to attach to as yet.
        vip("tcp://10.200.1.1:80", &["10.0.0.1"]),
    ];
    let host = Host::new();
    for config in configs {
        let original = config_file(&config);
        host.lbctl().ok(&["apply", "--yes", "-f", path_of(&original)]);
        let saved = host.lbctl().ok(&["save"]).stdout;
        let as_json = host.lbctl().ok(&["save", "--json"]).stdout;
        let mut json_file = tempfile::Builder::new().suffix(".json").tempfile().expect("a file");
        json_file.write_all(as_json.as_bytes()).expect("write");
        for file in [&original, &config_file(&saved), &json_file] {
            assert_eq!(plans(&host.lbctl(), file), 0, "{config}\nwas saved as\n{saved}");
        }
        // And from nothing it leads to the same.
        host.lbctl().ok(&["down"]);
        host.lbctl().apply(&saved);
        assert_eq!(host.lbctl().ok(&["save"]).stdout, saved);
        assert_eq!(plans(&host.lbctl(), &original), 0, "{config}");
    }
}

/// One command after the other, each with what `save` says of the VIPs afterwards.
#[test]
fn imperative_commands() {
    let host = Host::new();
    host.lbctl().apply(&Host::config(""));
    let (a, b) = ("tcp://10.200.1.1:80", "udp://[fc00:1::2]:*");
    let one = |reals: Value| json!([{ "address": "10.200.1.1", "port": 80, "protocol": "tcp", "reals": reals }]);
    let real = |address: &str, weight: u32| json!({ "address": address, "weight": weight });
    let second = json!({ "address": "fc00:1::2", "port": 0, "protocol": "udp", "reals": [],
        "hash": "destination-port", "connection_table": false, "routing": ["quic-connection-id"] });
    let steps = [
        (vec!["vip", "add", a], one(json!([]))),
        (vec!["real", "add", a, "10.0.0.1"], one(json!([real("10.0.0.1", 1)]))),
        (
            vec!["real", "add", a, "fc00::2", "--weight", "2"],
            one(json!([real("10.0.0.1", 1), real("fc00::2", 2)])),
        ),
        (
            vec!["real", "weight", a, "10.0.0.1", "0"],
            one(json!([real("10.0.0.1", 0), real("fc00::2", 2)])),
        ),
        (
            vec!["real", "drain", a, "fc00::2"],
            one(
                json!([real("10.0.0.1", 0), { "address": "fc00::2", "weight": 2, "state": "drain" }]),
            ),
        ),
        (
            vec!["real", "down", a, "fc00::2"],
            one(
                json!([real("10.0.0.1", 0), { "address": "fc00::2", "weight": 2, "state": "down" }]),
            ),
        ),
        (vec!["real", "up", a, "fc00::2"], one(json!([real("10.0.0.1", 0), real("fc00::2", 2)]))),
        (vec!["real", "delete", a, "10.0.0.1"], one(json!([real("fc00::2", 2)]))),
        (
            vec![
                "vip",
                "add",
                b,
                "--hash",
                "destination-port",
                "--no-connection-table",
                "--quic-connection-id",
            ],
            json!([one(json!([real("fc00::2", 2)]))[0], second]),
        ),
        (vec!["vip", "delete", a], json!([second])),
        (vec!["vip", "delete", b], json!([])),
    ];
    for (command, vips) in steps {
        host.lbctl().ok(&command);
        let saved = json_of(&host.lbctl().ok(&["save", "--json"]));
        assert_eq!(saved["vips"], vips, "after {command:?}");
    }
}

#[test]
fn imperative_commands_refuse() {
    let host = Host::new();
    let a = "tcp://10.200.1.1:80";
    host.lbctl().apply(&Host::config(&vip(a, &["10.0.0.1"])));
    let saved = host.lbctl().ok(&["save"]).stdout;
    for (command, code, words) in [
        (vec!["vip", "add", a], 1, "exists already"),
        (vec!["vip", "delete", "udp://10.200.1.1:80"], 1, "no VIP udp://10.200.1.1:80"),
        (vec!["vip", "add", "tcp://127.0.0.1:80"], 2, "127.0.0.1"),
        (vec!["vip", "add", "sctp://10.200.1.1:80"], 2, "sctp"),
        (vec!["vip", "add", "10.200.1.1:80"], 2, "tcp://"),
        (vec!["real", "add", a, "10.0.0.1"], 1, "has real 10.0.0.1 already"),
        (vec!["real", "add", a, "0.0.0.0"], 1, "0.0.0.0"),
        (vec!["real", "add", a, "10.0.0.2", "--weight", "65536"], 2, "65536 is not in 0..=65535"),
        (vec!["real", "add", "tcp://10.200.1.1:81", "10.0.0.1"], 1, "no VIP tcp://10.200.1.1:81"),
        (vec!["real", "weight", a, "10.0.0.2", "1"], 1, "has no real 10.0.0.2"),
        (vec!["real", "delete", a, "10.0.0.2"], 1, "has no real 10.0.0.2"),
        (vec!["real", "list", "tcp://10.200.1.1:81"], 1, "no VIP tcp://10.200.1.1:81"),
        (vec!["real", "frobnicate", a], 2, "frobnicate"),
        (vec![], 2, "requires a subcommand"),
        (vec!["--instance", "a.b", "save"], 1, "'a.b' is no instance name"),
        (vec!["--instance", "other", "vip", "add", a], 1, "instance 'other' does not run"),
    ] {
        let output = host.lbctl().exits(code, &command);
        assert!(output.stderr.contains(words), "{command:?}: '{words}' is not in {output}");
        assert_eq!(output.stderr.lines().count(), 1, "{command:?}: one line: {output}");
    }
    assert_eq!(host.lbctl().ok(&["save"]).stdout, saved);
}

/// Every report is JSON when asked to.
#[test]
fn reports_for_programs() {
    let host = Host::new();
    let a = "tcp://10.200.1.1:80";
    let file = config_file(&Host::config(&vip(a, &["10.0.0.1", "10.0.0.2"])));
    for (command, key) in [
        (vec!["apply", "-f", path_of(&file)], "/memory/tables/0/bytes"),
        (vec!["plan", "-f", path_of(&file)], "/warnings"),
        (vec!["save"], "/vips/0/reals/1/address"),
        (vec!["status"], "/interfaces/uplink/mode"),
        (vec!["status"], "/vips/0/reals/0/share"),
        (vec!["status"], "/tables/0/used_ipv4"),
        (vec!["status"], "/flood_guards/0/limiting"),
        (vec!["status"], "/memory/0/kernel"),
        (vec!["stats"], "/total/packets"),
        (vec!["stats"], "/vips/tcp:~1~110.200.1.1:80/dropped"),
        (vec!["vip", "list"], "/0/protocol"),
        (vec!["real", "list", a], "/0/reals/0/state"),
        (vec!["real", "weight", a, "10.0.0.1", "3"], "/changes/0/moved"),
        (vec!["vip", "delete", a], "/changes/0/action"),
        (vec!["decap", "attach", UPLINK, "--from", "172.16.0.0/16"], "/interfaces/uplink"),
        (vec!["decap", "status"], "/results/malformed/bytes"),
    ] {
        let output = host.lbctl().ok(&[&["--json"], &command[..]].concat());
        let report = json_of(&output);
        assert!(report.pointer(key).is_some(), "{command:?}: no {key} in {report}");
        assert_eq!(output.stderr, "", "{command:?}");
    }
}

/// Two that write at once both end, and the result is that of one of the two orders.
#[test]
fn two_writers() {
    let host = Host::new();
    let a = config_file(&Host::config(&vip("tcp://10.200.1.1:80", &["10.0.0.1", "10.0.0.2"])));
    let b = vip("tcp://10.200.1.1:80", &["10.0.0.2", "10.0.0.3"])
        + &vip("udp://10.200.1.2:53", &["fc00::1"]);
    let b = config_file(&Host::config(&format!("udp_timeout_seconds = 10\n{b}")));
    let (apply_a, apply_b) = (vec!["apply", "-f", path_of(&a)], vec!["apply", "-f", path_of(&b)]);
    let at_once = |commands: &[&Vec<&str>]| {
        let running: Vec<_> = commands.iter().map(|command| host.lbctl().spawn(command)).collect();
        running.into_iter().map(|running| running.wait(PATIENCE)).collect::<Vec<_>>()
    };
    let down = vec!["down"];
    for round in 0..6 {
        // The first two from nothing.
        for output in at_once(&[&apply_a, &apply_b]) {
            assert_eq!(output.code(), Some(0), "round {round}: {output}");
        }
        assert_eq!(
            plans(&host.lbctl(), &a) + plans(&host.lbctl(), &b),
            3,
            "round {round}: one of the two"
        );

        for output in at_once(&[&apply_a, &down]) {
            assert_eq!(output.code(), Some(0), "round {round}: {output}");
        }
        let there = host.has_pins("default");
        assert_eq!(
            plans(&host.lbctl(), &a),
            if there { 0 } else { 3 },
            "round {round}: all or nothing"
        );
        assert_eq!(host.has_xdp(UPLINK), there, "round {round}");
        host.lbctl().ok(&down);
    }
}

#[test]
fn many_small_writers() {
    let host = Host::new();
    host.lbctl().apply(&Host::config(&vip("tcp://10.200.1.1:80", &[])));
    let add = |n| {
        let real = format!("10.0.0.{n}");
        host.lbctl().spawn(&["real", "add", "tcp://10.200.1.1:80", &real])
    };
    // The last one is asked for twice: one of the two comes too late.
    let running: Vec<_> = (1..=7).chain([7]).map(add).collect();
    let outputs: Vec<_> = running.into_iter().map(|running| running.wait(PATIENCE)).collect();
    let late: Vec<_> = outputs.iter().filter(|output| output.code() != Some(0)).collect();
    assert!(late.len() == 1 && late[0].stderr.contains("has real 10.0.0.7 already"), "{late:?}");
    let saved = json_of(&host.lbctl().ok(&["save", "--json"]));
    let reals = saved["vips"][0]["reals"].as_array().expect("a list");
    assert_eq!(reals.len(), 7, "{saved}");
}
