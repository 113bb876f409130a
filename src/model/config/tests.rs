pub(in crate::model::config) mod documented;

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::json;

use super::CheckConfig;
use super::Config;
use super::ConnectionTableConfig;
use super::ControlConfig;
use super::DecapsulateConfig;
use super::HealthConfig;
use super::InterfaceConfig;
use super::MetricsConfig;
use super::NotifyConfig;
use super::PacketsConfig;
use super::RealConfig;
use super::ServerIdConfig;
use super::SourceV4;
use super::SourceV6;
use super::VipConfig;

/// The keys of a table, as serde lists them when it meets an unknown key.
pub(crate) fn keys<T: DeserializeOwned>() -> BTreeSet<String> {
    let Err(error) = serde_json::from_value::<T>(json!({ "no such key": 0 })) else {
        panic!("unknown keys are accepted");
    };
    let error = error.to_string();
    let (_, list) = error.split_once("expected").expect("a list of keys");
    list.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The rows of the table below a heading of docs/config.md: key → default, as JSON.
fn documented(heading: &str) -> BTreeMap<String, Option<Value>> {
    let text = include_str!("../../../docs/config.md");
    let (_, section) = text.split_once(&format!("\n## `{heading}`\n")).expect(heading);
    let section = section.split("\n## ").next().unwrap_or_default();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.map(|row| {
        let mut cells = row.split('|').map(str::trim);
        let key = cells.next().unwrap_or_default().trim_end_matches('`').to_owned();
        let default = cells.next().unwrap_or_default().trim_matches('`');
        let default = (!default.is_empty())
            .then(|| serde_json::from_str(default).unwrap_or_else(|_| panic!("{key}: {default}")));
        (key, default)
    })
    .collect()
}

/// Some editors begin a file with a byte order mark.
#[test]
fn byte_order_marks_are_left_out() {
    let mark = '\u{feff}';
    let toml = format!("{mark}[[interfaces]]\nname = \"eth0\"\n");
    let json = format!("{mark}{{\"interfaces\": [{{\"name\": \"eth0\"}}]}}");
    assert_eq!(Config::from_toml(&toml).unwrap(), Config::from_json(&json).unwrap());
    assert!(Config::from_json(&format!("{mark}{json}")).is_err());
}

#[test]
fn the_reference_lists_every_key() {
    for (heading, keys) in [
        ("[[interfaces]]", keys::<InterfaceConfig>()),
        ("[connection_table]", keys::<ConnectionTableConfig>()),
        ("[packets]", keys::<PacketsConfig>()),
        ("[metrics]", keys::<MetricsConfig>()),
        ("[control]", keys::<ControlConfig>()),
        ("[notify]", keys::<NotifyConfig>()),
        ("[health]", keys::<HealthConfig>()),
        ("[checks.NAME]", keys::<CheckConfig>()),
        ("[[vips]]", keys::<VipConfig>()),
        ("vips.reals", keys::<RealConfig>()),
        ("[[server_ids]]", keys::<ServerIdConfig>()),
        ("[[decapsulate]]", keys::<DecapsulateConfig>()),
    ] {
        let table = heading.trim_matches(['[', ']']);
        let examples = super::explain::tests::keys_of(table);
        assert_eq!(examples, keys, "{heading}: EXAMPLES in src/model/config/explain.rs");
        let documented: BTreeSet<_> = documented(heading).into_keys().collect();
        assert_eq!(documented, keys, "{heading}: the table in docs/config.md");
    }
}

#[test]
fn the_reference_tells_the_defaults() {
    let check = |heading: &str, defaults: &Value| {
        for (key, default) in documented(heading) {
            if let Some(default) = default {
                assert_eq!(defaults.get(&key), Some(&default), "docs/config.md: {heading} {key}");
            }
        }
    };
    check("[connection_table]", &serde_json::to_value(ConnectionTableConfig::default()).unwrap());
    check("[health]", &serde_json::to_value(HealthConfig::default()).unwrap());
    check("[notify]", &serde_json::to_value(NotifyConfig::default()).unwrap());
    let control = ControlConfig::default();
    let (mode, group_may) = (control.mode(), control.group_may);
    check("[control]", &json!({ "socket": control.socket, "mode": mode, "group_may": group_may }));
    check("[metrics]", &serde_json::to_value(MetricsConfig::default()).unwrap());
    let packets = PacketsConfig {
        encap_source_v4: Some(SourceV4::default()),
        encap_source_v6: Some(SourceV6::default()),
        gue_port: Some(PacketsConfig::default().gue_port()),
        ..PacketsConfig::default()
    };
    check("[packets]", &serde_json::to_value(packets).unwrap());

    // Tables in lists: with the required keys only.
    let interface: InterfaceConfig = serde_json::from_value(json!({ "name": "eth0" })).unwrap();
    let gateway = interface.gateway.unwrap_or_default();
    check(
        "[[interfaces]]",
        &json!({ "xdp_mode": interface.xdp_mode, "gateway": gateway, "macs": interface.macs }),
    );
    let least = json!({ "address": "10.200.1.1", "port": 80, "protocol": "tcp" });
    let vip: VipConfig = serde_json::from_value(least).unwrap();
    check(
        "[[vips]]",
        &json!({
            "hash": vip.hash,
            "connection_table": vip.connection_table,
            "routing": vip.routing,
            "allow_own_address": vip.allow_own_address,
            "other_ports": vip.other_ports.unwrap_or_default(),
            "no_real": vip.no_real,
            "echo": vip.echo.unwrap_or_default(),
            "on_failure": vip.on_failure,
            "min_healthy": vip.min_healthy,
            "fail_open": vip.fail_open,
            "flapping": vip.flapping,
            "reals": vip.reals,
        }),
    );
    let tcp: CheckConfig = serde_json::from_value(json!({ "type": "tcp" })).unwrap();
    check(
        "[checks.NAME]",
        &json!({
            "interval": humantime::format_duration(tcp.interval()).to_string(),
            "timeout": humantime::format_duration(tcp.timeout()).to_string(),
            "rise": tcp.rise(),
            "fall": tcp.fall(),
            "via": tcp.via(),
            "method": tcp.method(),
            "path": tcp.path(),
            "headers": tcp.headers,
            "status": tcp.status(),
            "verify": tcp.verify,
            "record": tcp.record(),
            "rcode": tcp.rcode(),
            "silence_ok": tcp.silence_ok,
            "args": tcp.args,
        }),
    );
    let real: RealConfig = serde_json::from_value(json!({ "address": "10.0.0.1" })).unwrap();
    check(
        "vips.reals",
        &json!({ "weight": real.weight, "state": real.state, "local": real.local }),
    );
}

/// A server drops packets from its own address, and from the address of a VIP, which it has as well.
#[test]
fn outer_sources_are_nobodys() {
    let config = |packets: &str, interface: &str| {
        Config::from_toml(&format!(
            r#"
            [packets]
            {packets}
            [[interfaces]]
            name = "eth0"
            {interface}
            [[vips]]
            address = "10.200.1.1"
            port = 80
            protocol = "udp"
            routing = ["quic-connection-id"]
            reals = [ {{ address = "172.16.5.7" }}, {{ address = "10.0.0.1" }} ]
            [[vips]]
            address = "2001:db8::1"
            port = 80
            protocol = "tcp"
            [[server_ids]]
            id = 1
            real = "10.0.0.9"
            "#
        ))
    };
    for (source, key) in [
        (
            "encap_source_v4 = \"10.200.1.1\"",
            "packets.encap_source_v4: 10.200.1.1 is vips[0].address",
        ),
        ("encap_source_v4 = \"10.0.0.1\"", "10.0.0.1 is vips[0].reals[1].address"),
        ("encap_source_v4 = \"10.0.0.1/32\"", "10.0.0.1 is vips[0].reals[1].address"),
        ("encap_source_v4 = \"10.0.0.9\"", "10.0.0.9 is server_ids[0].real"),
        (
            "encap_source_v6 = \"2001:db8::1\"",
            "packets.encap_source_v6: 2001:db8::1 is vips[1].address",
        ),
    ] {
        let error = config(source, "").expect_err(source).to_string();
        assert!(error.contains(key) && error.contains("give one that"), "{error}");
    }
    // A prefix hurts only some flows, and the default must not refuse configurations that worked.
    let warnings = |source: &str| config(source, "").expect(source).shared_sources();
    let default = warnings("");
    assert_eq!(default.len(), 1, "{default:?}");
    for part in [
        "encap_source_v4: 172.16.0.0/16 has 172.16.5.7 (vips[0].reals[0].address),",
        "one flow in 65536",
    ] {
        assert!(default[0].contains(part), "{part}: {default:?}");
    }
    let several =
        warnings("encap_source_v4 = \"10.0.0.0/28\"\nencap_source_v6 = \"2001:db8::/64\"");
    assert!(several[0].contains("10.0.0.1 (vips[0].reals[1].address) and 1 more,"), "{several:?}");
    assert!(several[0].contains("one flow in 16 "), "{several:?}");
    assert!(several[1].contains("2001:db8::/96 has 2001:db8::1 (vips[1].address),"), "{several:?}");
    // The last 32 bits of IPv6 vary, the others do not.
    assert_eq!(
        warnings("encap_source_v4 = \"192.0.2.1\"\nencap_source_v6 = \"2001:db8:0:0:0:1::/96\"")
            .len(),
        0
    );

    let own = "macs = [\"02:00:00:00:00:07\"]\ngateway_mac = \"02:00:00:00:00:07\"";
    let error = config("", own).expect_err("its own MAC").to_string();
    assert!(
        error.contains("interfaces[0].macs[0]: 02:00:00:00:00:07 is gateway_mac too"),
        "{error}"
    );
}

#[test]
fn what_is_written_reads_back() {
    let text = r#"
        [[interfaces]]
        name = "eth0"
        gateway = "fe80::1"
        xdp_mode = "generic"
        [connection_table]
        cpus = [0, 3]
        [packets]
        encap_source_v4 = "192.0.2.7"
        encap_source_v6 = "2001:db8::/96"
        encapsulation = "gue"
        gue_port = 6081
        gue_variant = 0
        gue_icmp_as_katran = false
        [control]
        socket = "/run/l4lb/web.sock"
        mode = "0660"
        group = "operators"
        [notify]
        exec = "/usr/local/bin/told"
        timeout = "3s"
        [[vips]]
        address = "fc00:1::2"
        port = 443
        protocol = "udp"
        hash = "source-and-destination-port"
        connection_table = false
        routing = ["quic-connection-id"]
        allow_own_address = "force"
        other_ports = "reject"
        no_real = "reject"
        echo = "when-usable"
        encapsulation = "l2"
        reals = [
            { address = "fc00::1", weight = 0, state = "drain" },
            { address = "fc00::2", encapsulation = "ipip" },
            { address = "fc00::3", local = true },
        ]
        [[server_ids]]
        id = 7
        real = "10.0.0.1"
        [[decapsulate]]
        address = "10.8.0.1"
        then = "router"
        from = ["10.9.0.0/16", "192.0.2.7"]
    "#;
    let config = Config::from_toml(text).unwrap();
    assert_eq!(Config::from_toml(&config.to_toml().unwrap()).unwrap(), config);
    let json = serde_json::to_string(&config).unwrap();
    assert_eq!(Config::from_json(&json).unwrap(), config);
}

/// A `[[vips]]`, and what follows it.
fn a_vip(rest: &str) -> String {
    format!("[[vips]]\naddress = \"10.200.1.1\"\nport = 80\nprotocol = \"tcp\"\n{rest}")
}

/// Whether an error begins with a place. If this names no line, the error may.
fn is_at(error: &str, place: &str) -> bool {
    let without_line = error.strip_prefix("line ").and_then(|rest| rest.split_once(": "));
    error.starts_with(place) || without_line.is_some_and(|(_, rest)| rest.starts_with(place))
}

/// Asserts that the error is one line that begins with the place.
#[track_caller]
fn assert_refused(text: &str, place: &str, what: &str) {
    let error = Config::from_toml(text).expect_err(text).to_string();
    assert!(is_at(&error, place), "{text}\n{error}");
    assert!(error.contains(what), "{text}\n{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
}

/// A VIP may leave out a setting that all VIPs of its address share, but two VIPs must not set different values.
#[test]
fn vips_of_an_address_agree() {
    let udp = |rest: &str| a_vip(rest).replace("tcp", "udp");
    let elsewhere = |rest: &str| a_vip(rest).replace("10.200.1.1", "10.200.1.2");
    for (key, one, other) in [("other_ports", "pass", "drop"), ("echo", "always", "never")] {
        let says = |choice: &str| format!("{key} = \"{choice}\"\n");
        for fine in [
            a_vip(&says(one)) + &udp(""),
            a_vip("") + &udp(&says(other)),
            a_vip(&says(one)) + &udp(&says(one)),
            a_vip(&says(one)) + &elsewhere(&says(other)),
        ] {
            Config::from_toml(&fine).unwrap();
        }
        let what = format!(
            "udp://10.200.1.1:80 says \"{other}\" and tcp://10.200.1.1:80 \"{one}\"; it is one for all VIPs of an \
             address: say the same, or leave it out"
        );
        assert_refused(
            &(a_vip(&says(one)) + &udp(&says(other))),
            &format!("vips[1].{key}: "),
            &what,
        );
    }
}

#[test]
fn an_error_repeats_what_is_no_address() {
    let vip = a_vip;
    let reals = |list: &str| vip(&format!("reals = [ {list} ]"));
    for (text, place, what) in [
        (
            vip("").replace("10.200.1.1", "10.200.1"),
            "line 2: vips[0].address",
            "'10.200.1' is not an IP address, such as address = \"10.200.1.1\"",
        ),
        (
            reals("{ address = \"web1.example\" }"),
            "line 5: vips[0].reals[0].address",
            "'web1.example' is a host name; only an IP address can be given, such as address = \"10.0.1.1\"",
        ),
        (
            "[metrics]\nlisten = \"localhost:9847\"".to_owned(),
            "line 2: metrics.listen",
            "'localhost:9847' is a host name; only an IP address with a port can be given, such as listen =",
        ),
        (
            "[[server_ids]]\nid = 1\nreal = 7".to_owned(),
            "line 3: server_ids[0].real",
            "expected an IP address in quotes, such as real =",
        ),
    ] {
        assert_refused(&text, place, what);
    }
}

#[test]
fn errors_name_the_place_in_one_line() {
    let vip = a_vip;
    let reals = |list: &str| vip(&format!("reals = [ {list} ]"));
    for (text, place, what) in [
        ("[[vips]".to_owned(), "line 1", ""),
        ("colour = 1".to_owned(), "line 1: colour", "unknown field"),
        ("[packets]\nmax_frame = \"big\"".to_owned(), "line 2: packets.max_frame", "expected a whole number"),
        (vip("portt = 1"), "line 5: vips[0].portt", "unknown field"),
        (vip("").replace("80", "65536"), "line 3: vips[0].port", "expected a whole number from 0 to 65535"),
        (vip("").replace("tcp", "sctp"), "line 4: vips[0].protocol", "sctp"),
        (vip("").replace("10.200.1.1", "0.0.0.0"), "vips[0].address", "unspecified"),
        (format!("{}{}", vip(""), vip("")), "vips[1]", "listed twice"),
        (
            reals("{ address = \"10.0.0.1\" }, { address = \"10.0.0.1\" }"),
            "vips[0].reals[1].address",
            "twice",
        ),
        (reals("{ address = \"10.0.0.1\", weight = -1 }"), "line 5: vips[0].reals[0].weight", "-1"),
        (reals("{ address = \"10.0.0.1\", weight = 65536 }"), "vips[0].reals[0].weight", "highest"),
        (reals("{ address = \"10.0.0.300\" }"), "line 5: vips[0].reals[0].address", "IP address"),
        (reals("{ address = \"10.200.1.1\" }"), "vips[0].reals[0].address", "the address of a VIP"),
        (vip("routing = [\"tcp-server-id\"]"), "vips[0].routing[0]", "not supported"),
        (vip("routing = [\"quic-connection-id\"]"), "vips[0].routing[0]", "UDP"),
        (
            "[[interfaces]]\nname = \"eth0\"\ngateway_mac = \"x\"".to_owned(),
            "line 3: interfaces[0].gateway_mac",
            "MAC",
        ),
        (
            "[[interfaces]]\nname = \"eth0\"\ngateway_mac = \"01:00:5e:00:00:01\"".to_owned(),
            "interfaces[0].gateway_mac",
            "one station",
        ),
        (
            "[[interfaces]]\nname = \"eth0\"\ngateway = \"here\"".to_owned(),
            "line 3: interfaces[0].gateway",
            "auto",
        ),
        ("[[interfaces]]\nname = \"a/b\"".to_owned(), "interfaces[0].name", "no interface name"),
        (
            "[[interfaces]]\nname = \"a\\u0000\\u001b[31m\"".to_owned(),
            "interfaces[0].name",
            "no interface name",
        ),
        (
            "[[interfaces]]\nname = \"a\"\n[[interfaces]]\nname = \"a\"".to_owned(),
            "interfaces[1].name",
            "twice",
        ),
        ("[packets]\nmax_frame = 100".to_owned(), "packets.max_frame", "1294"),
        ("[packets]\nencapsulation = \"vxlan\"".to_owned(), "packets.encapsulation", "`gue`"),
        (
            "[packets]\nencap_source_v6 = \"172.16.0.0/16\"".to_owned(),
            "line 2: packets.encap_source_v6",
            "not IPv6",
        ),
        (
            "[packets]\nencap_source_v4 = \"10.1.2.3/16\"".to_owned(),
            "line 2: packets.encap_source_v4",
            "10.1.0.0/16",
        ),
        ("[connection_table]\nentries = 0".to_owned(), "connection_table.entries", "at least 1"),
        ("[connection_table]\ncpus = []".to_owned(), "connection_table.cpus", "no CPU"),
        ("[connection_table]\ncpus = [1, 1]".to_owned(), "connection_table.cpus", "twice"),
        ("[connection_table]\ncpus = \"all\"".to_owned(), "line 2: connection_table.cpus", "auto"),
        ("[[server_ids]]\nid = 0\nreal = \"10.0.0.1\"".to_owned(), "server_ids[0].id", "no id"),
        (
            format!(
                "[packets]\nencap_source_v4 = \"192.0.2.1\"\n{}",
                reals("{ address = \"fc00::1\" }").replace("10.200.1.1", "fc00:1::1")
            ),
            "vips[0].reals[0].address",
            "encap_source_v6",
        ),
        (
            "[packets]\nencap_source_v4 = \"192.0.2.1\"\n[[server_ids]]\nid = 5\nreal = \"fc00::1\"".to_owned(),
            "server_ids[0].real",
            "encap_source_v6",
        ),
    ] {
        assert_refused(&text, place, what);
    }
}

#[test]
fn addresses_that_nobody_can_have_are_refused() {
    let vip = a_vip;
    let reals = |list: &str| vip(&format!("reals = [ {list} ]"));
    for (text, place, what) in [
        (vip("allow_own_address = \"yes\""), "line 5: vips[0].allow_own_address", "\"force\""),
        (reals("{ address = \"169.254.0.1\" }"), "vips[0].reals[0].address", "link-local"),
        (
            vip("[[server_ids]]\nid = 1\nreal = \"10.200.1.1\""),
            "server_ids[0].real",
            "the address of a VIP",
        ),
        (
            vip("[[interfaces]]\nname = \"a\"\ngateway = \"10.200.1.1\""),
            "interfaces[0].gateway",
            "the address of a VIP",
        ),
        (
            "[packets]\nencap_source_v4 = \"64.0.0.0/2\"".to_owned(),
            "packets.encap_source_v4",
            "127.0.0.0/8, loopback",
        ),
        (
            "[packets]\nencap_source_v4 = \"224.0.0.0/4\"".to_owned(),
            "packets.encap_source_v4",
            "multicast",
        ),
        (
            "[packets]\nencap_source_v6 = \"fe80::/64\"".to_owned(),
            "packets.encap_source_v6",
            "link-local",
        ),
    ] {
        assert_refused(&text, place, what);
    }
}

#[test]
fn macs_are_those_of_stations() {
    let config = |macs: &[&str]| {
        Config::from_toml(&format!("[[interfaces]]\nname = \"eth0\"\nmacs = {macs:?}"))
    };
    let eleven: Vec<_> = (0..11).map(|n| format!("02:00:00:00:00:{n:02x}")).collect();
    let eleven: Vec<_> = eleven.iter().map(String::as_str).collect();
    assert!(config(&eleven[1..]).is_ok());
    let own = "02:00:00:00:00:01";
    for (macs, place, what) in [
        (&[own, "x"][..], "line 3: interfaces[0].macs[1]", "MAC"),
        (&[own, "ff:ff:ff:ff:ff:ff"], "interfaces[0].macs[1]", "one station"),
        (&["01:00:5e:00:00:01"], "interfaces[0].macs[0]", "one station"),
        (&["00:00:00:00:00:00"], "interfaces[0].macs[0]", "one station"),
        (&[own, own], "interfaces[0].macs[1]", "twice"),
        (&eleven, "interfaces[0].macs", "at most 10"),
    ] {
        let error = config(macs).expect_err(what).to_string();
        assert!(is_at(&error, place) && error.contains(what), "{macs:?}: {error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

#[test]
fn limits_are_kept() {
    let with_vips = |count: usize, reals: usize| {
        let mut config = Config::default();
        for v in 0..count {
            let reals: Vec<_> = (0..reals)
                .map(|r| json!({ "address": format!("10.{}.{}.{}", r / 60_000, r / 250 % 240, r % 250 + 1) }))
                .collect();
            let vip = json!({
                "address": format!("10.200.{}.{}", v / 250, v % 250 + 1),
                "port": 80, "protocol": "tcp", "reals": reals
            });
            config.vips.push(serde_json::from_value(vip).unwrap());
        }
        config
    };
    with_vips(512, 100).check().unwrap();
    for (config, what) in [
        (with_vips(513, 1), "at most 512"),
        (with_vips(1, 4097), "at most 4096"),
        (with_vips(512, 129), "at most 65536"),
    ] {
        let error = config.check().unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
    }
}

#[test]
fn a_file_that_is_empty_is_refused() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = Config::from_file(file.path()).unwrap_err().to_string();
    assert!(error.ends_with("is empty; to stop balancing, use 'lbctl down'"), "{error}");
}

/// A user can write what an error says to write.
#[test]
fn what_errors_say_to_write_is_right() {
    let wrong = [
        ("[[interfaces]]\nname = 5", ""),
        ("[packets]\nouter_df = \"yes\"", ""),
        ("[packets]\nmax_frame = \"1514\"", ""),
        ("[metrics]\nlisten = 9847", ""),
        ("[[vips]]\naddress = 5", "port = 80\nprotocol = \"tcp\""),
        ("[[vips]]\naddress = \"10.0\"", "port = 80\nprotocol = \"tcp\""),
        ("[[vips]]\nport = \"80\"", "address = \"10.0.0.1\"\nprotocol = \"tcp\""),
        ("[[vips]]\nport = 70000", "address = \"10.0.0.1\"\nprotocol = \"tcp\""),
        ("[[vips]]\nprotocol = 6", "address = \"10.0.0.1\"\nport = 80"),
        (
            "[[vips]]\nreals = [\"10.0.0.1\"]",
            "address = \"10.0.0.1\"\nport = 80\nprotocol = \"tcp\"",
        ),
    ];
    for (start, rest) in wrong {
        let error = Config::from_toml(&format!("{start}\n{rest}")).unwrap_err().to_string();
        let (_, example) = error.split_once(", such as ").unwrap_or_else(|| panic!("{error}"));
        let (table, _) = start.split_once('\n').unwrap();
        let text = format!("{table}\n{example}\n{rest}");
        assert!(Config::from_toml(&text).is_ok(), "{error}: {text}");
    }
    let error = Config::from_json("{\"packets\": {\"outer_df\": 1}}").unwrap_err().to_string();
    assert!(error.ends_with("without quotes, such as \"outer_df\": true"), "{error}");
}

#[test]
fn a_command_line_is_no_program() {
    let text = "[checks.a]\ntype = \"exec\"\nprogram = \"check --host 10.0.0.1\"\n";
    let error = Config::from_toml(text).expect_err("no path").to_string();
    let says = "write program = \"/path/of/check\" and args = [\"--host\", \"10.0.0.1\"]";
    assert!(error.contains(says), "{error}");
}
