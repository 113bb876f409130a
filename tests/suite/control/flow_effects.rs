//! What `plan` says about flows is what the change does to them.

use std::net::IpAddr;
use std::net::SocketAddr;
use std::time::Duration;

use l4lb::Vip;
use libbpf_rs::MapCore;
use libbpf_rs::MapFlags;
use libbpf_rs::MapHandle;
use nix::sys::signal::Signal;
use serde_json::Value;
use serde_json::json;

use crate::fixtures::Host;
use crate::fixtures::Injector;
use crate::fixtures::config_file;
use crate::fixtures::inject::frame;
use crate::fixtures::json as json_of;
use crate::fixtures::path_of;
use crate::fixtures::vip;
use crate::fixtures::wait_until;

const KINDS: [&str; 2] = ["set-associative", "lru"];
const TCP: &str = "tcp://10.200.1.1:80";
const TCP6: &str = "tcp://[fc00:1::1]:80";
const UDP: &str = "udp://10.200.1.1:443";
const EVERY: &str = "tcp://10.200.1.1:*";
const TWO: [&str; 2] = ["10.0.0.1", "10.0.0.2"];
const THREE: [&str; 3] = ["10.0.0.1", "10.0.0.2", "10.0.0.3"];

/// A flow, and the real that it goes to.
type Sent = (Vip, SocketAddr, u16, Option<IpAddr>);

/// A balancer with flows.
struct Lab {
    host: Host,
    kind: &'static str,
    flows: Vec<Sent>,
}

impl Lab {
    fn new(kind: &'static str, vips: &str) -> Self {
        let lab = Self { host: Host::new(), kind, flows: Vec::new() };
        lab.host.lbctl().apply(&lab.config(vips));
        lab
    }

    fn config(&self, vips: &str) -> String {
        Host::config(&format!("kind = \"{}\"\ncpus = [0]\n{vips}", self.kind))
    }

    fn send(&self, vip: &Vip, from: SocketAddr, port: u16) -> Option<IpAddr> {
        Injector::new(&self.host).send(0, &frame(vip, from, port))
    }

    /// Forty flows, of twenty clients.
    fn establish(mut self, uri: &str) -> Self {
        let vip: Vip = uri.parse().expect("a VIP");
        let injector = Injector::new(&self.host);
        let flows: Vec<Sent> = injector.on(0, |send| {
            let flow = |n: u16| {
                let client: IpAddr = match vip.address {
                    IpAddr::V4(_) => [192, 0, 2, (n % 20 + 1).to_be_bytes()[1]].into(),
                    IpAddr::V6(_) => [0x2001, 0xdb8, 0, 0, 0, 0, 0, n % 20 + 1].into(),
                };
                let (from, port) = (
                    SocketAddr::new(client, 2000 + n),
                    if vip.port == 0 { 80 + n % 2 } else { vip.port },
                );
                (vip, from, port, send(&frame(&vip, from, port)))
            };
            (0..40).map(flow).collect()
        });
        assert!(flows.iter().all(|(.., real)| real.is_some()), "{uri}: sent to reals");
        self.flows.extend(flows);
        self
    }

    fn of_real(&self, real: &str) -> u64 {
        let real: IpAddr = real.parse().expect("an address");
        self.flows.iter().filter(|(.., at)| *at == Some(real)).count() as u64
    }

    /// How many flows go elsewhere by now.
    fn strayed(&self) -> u64 {
        let injector = Injector::new(&self.host);
        let strays = injector.on(0, |send| {
            let stray = |(vip, from, port, real): &&Sent| send(&frame(vip, *from, *port)) != *real;
            self.flows.iter().filter(stray).count()
        });
        strays as u64
    }

    /// What the plan to a configuration says of a change.
    #[track_caller]
    fn planned(&self, config: &str, change: &Value) -> Value {
        let file = config_file(config);
        let path = path_of(&file);
        let plan = json_of(&self.host.lbctl().exits(3, &["plan", "-f", path, "--json"]));
        let changes = plan["changes"].as_array().expect("a list").iter();
        let mut changes = changes.filter(|change| change["flows"].is_object());
        let found = changes.find(|found| match change.as_object() {
            None => found["object"] == *change,
            Some(keys) => keys.iter().all(|(key, value)| found[key] == *value),
        });
        let found = found.unwrap_or_else(|| panic!("nothing of {change} in {plan:#}"));
        let found = found["flows"].clone();
        let text = self.host.lbctl().exits(3, &["plan", "-f", path]).stdout;
        let line = format!("\n    flows: {}\n", found["text"].as_str().expect("text"));
        assert!(text.contains(&line), "{line} in {text}");
        found
    }

    /// Applies a configuration that moves flows, without consent if the plan says that none move, and checks the plan.
    #[track_caller]
    fn change(&self, vips: &str, change: &Value) -> Value {
        let config = self.config(vips);
        let effect = self.planned(&config, change);
        let moved = &effect["moved"];
        assert_eq!(moved["precision"], "exact", "{effect:#}");
        let file = config_file(&config);
        let path = path_of(&file);
        if moved["flows"] != 0 {
            let saved = self.host.lbctl().ok(&["save"]).stdout;
            let output = self.host.lbctl().exits(1, &["apply", "-f", path]);
            let said = format!("error: established flows would break: {} of ", moved["flows"]);
            let text = self.host.lbctl().exits(3, &["plan", "-f", path]).stdout;
            let last = text.lines().last().unwrap_or_default();
            let wants = format!("apply refuses this without --yes: {} of ", moved["flows"]);
            assert!(
                last.starts_with(&wants) && last.ends_with(" established flows break"),
                "{text}"
            );
            assert!(
                output.stderr.starts_with(&said) && output.stderr.contains("--yes"),
                "{output}"
            );
            assert_eq!(
                (output.stderr.lines().count(), output.stdout.as_str()),
                (1, ""),
                "{output}"
            );
            assert_eq!(self.host.lbctl().ok(&["save"]).stdout, saved, "nothing was changed");
            self.host.lbctl().ok(&["apply", "--yes", "-f", path]);
        } else {
            self.host.lbctl().ok(&["apply", "-f", path]);
        }
        assert_eq!(json!(self.strayed()), moved["flows"], "{effect:#}");
        effect
    }
}

fn of(uri: &str) -> Value {
    json!({ "vip": uri })
}

fn established(flows: u64) -> Value {
    json!({ "flows": flows, "precision": "exact" })
}

#[test]
fn reals_come_and_go() {
    for (kind, uri) in [(KINDS[0], TCP), (KINDS[1], TCP), (KINDS[0], TCP6)] {
        let lab = |reals: &[&str]| Lab::new(kind, &vip(uri, reals)).establish(uri);
        // New flows move, established ones stay.
        let more = lab(&TWO).change(&vip(uri, &THREE), &of(uri));
        assert_eq!(more["moved"], established(0), "{more:#}");
        assert_eq!(more["established"], established(40), "{more:#}");
        assert!((0.3..0.6).contains(&more["new_moved"].as_f64().expect("a share")), "{more:#}");
        let what = more["text"].as_str().expect("text");
        assert!(what.contains("all of 40 established flows stay"), "{what}");
        for third in ["10.0.0.3, weight = 5", "10.0.0.3, state = \"drain\"", "10.0.0.3, weight = 0"]
        {
            let lab = lab(&THREE);
            let stays = lab.change(&vip(uri, &["10.0.0.1", "10.0.0.2", third]), &of(uri));
            assert_eq!(stays["moved"], established(0), "{stays:#}");
            let on_it = lab.of_real("10.0.0.3");
            assert_eq!(
                stays["reals"],
                json!([{ "real": "10.0.0.3", "established": on_it, "moved": 0 }]),
                "{stays:#}"
            );
        }
        // A real that goes, or goes down, takes its flows with it.
        for last in [None, Some("10.0.0.3, state = \"down\"")] {
            let lab = lab(&THREE);
            let reals: Vec<_> = TWO.into_iter().chain(last).collect();
            let goes = lab.change(&vip(uri, &reals), &of(uri));
            let on_it = lab.of_real("10.0.0.3");
            assert!(on_it > 0);
            assert_eq!(goes["moved"], established(on_it), "{goes:#}");
            assert_eq!(
                goes["reals"],
                json!([{ "real": "10.0.0.3", "established": on_it, "moved": on_it }]),
                "{goes:#}"
            );
        }
    }
}

#[test]
fn vips_come_and_go() {
    for kind in KINDS {
        let one = vip(TCP, &TWO);
        let gone = Lab::new(kind, &one).establish(TCP).change("", &of(TCP));
        assert_eq!(gone["moved"], established(40), "{gone:#}");
        // Another one takes them over, by a ring of the same reals: those that a change of them moved go back.
        let (both, every) = (format!("{}{}", vip(TCP, &TWO), vip(EVERY, &TWO)), vip(EVERY, &TWO));
        let lab = Lab::new(kind, &both).establish(TCP);
        let over = lab.change(&every, &of(TCP));
        assert!(over["text"].as_str().expect("text").ends_with(&format!("elsewhere by {EVERY}")));
        // And back: a VIP of every port remembers the port only where it counts.
        let lab = Lab::new(kind, &every).establish(EVERY);
        let effect = lab.planned(&lab.config(&both), &of(TCP));
        assert_eq!(effect["moved"], json!({ "flows": 40, "precision": "at_most" }), "{effect:#}");
        let with_port = every + "hash = \"source-and-destination-port\"\n";
        let lab = Lab::new(kind, &with_port).establish(EVERY);
        let effect = lab.change(&(with_port + &vip(TCP, &["10.0.0.1"])), &of(TCP));
        assert_eq!(effect["established"]["flows"], 20, "those of port 80: {effect:#}");
    }
}

#[test]
fn other_keys() {
    let hashed = |uri: &str, hash: &str| vip(uri, &TWO) + &format!("hash = \"{hash}\"\n");
    for kind in KINDS {
        for after in ["no-source-port", "destination-port"] {
            let lab = Lab::new(kind, &hashed(TCP, "5-tuple")).establish(TCP);
            let effect = lab.change(&hashed(TCP, after), &of(TCP));
            assert!(
                effect["moved"]["flows"].as_u64().is_some_and(|n| (1..40).contains(&n)),
                "{effect:#}"
            );
            assert!(
                (effect["new_moved"].as_f64().expect("a share") - 0.5).abs() < 0.01,
                "{effect:#}"
            );
        }
        // There and back, with other reals meanwhile: what was long ago is not found.
        let three = |hash: &str| vip(TCP, &THREE) + &format!("hash = \"{hash}\"\n");
        let lab = Lab::new(kind, &hashed(TCP, "5-tuple")).establish(TCP);
        lab.change(&three("5-tuple"), &of(TCP));
        lab.change(&three("no-source-port"), &of(TCP));
        lab.host.lbctl().apply(&lab.config(&three("5-tuple")));
        let gone = json_of(&lab.host.lbctl().ok(&["flows", "count", "--json"]));
        assert_eq!(gone["live"], 0, "{kind}: {gone:#}");
        let strayed = lab.strayed();
        let by_ring = Lab::new(kind, &three("5-tuple")).establish(TCP);
        let differ = lab.flows.iter().zip(&by_ring.flows).filter(|(a, b)| a.3 != b.3).count();
        assert_eq!(strayed, differ as u64, "{kind}: all go by the ring");
        assert!(strayed > 0, "{kind}: some would be where they were");
        // The same keys, by another name.
        let lab = Lab::new(kind, &hashed(TCP, "5-tuple")).establish(TCP);
        let effect = lab.change(&hashed(TCP, "source-and-destination-port"), &of(TCP));
        assert_eq!((&effect["moved"]["flows"], &effect["new_moved"]), (&json!(0), &json!(0.0)));
        // The plan estimates flows without entries by the shares of the reals: a half.
        for (uri, before, after, flows, half) in [
            (TCP, "no-source-port", "5-tuple", 20, 10),
            (TCP, "destination-port", "5-tuple", 1, 1),
            (EVERY, "5-tuple", "source-and-destination-port", 40, 20),
        ] {
            let lab = Lab::new(kind, &hashed(uri, before)).establish(uri);
            let effect = lab.planned(&lab.config(&hashed(uri, after)), &of(uri));
            assert_eq!(effect["established"]["flows"], flows, "{before}: {effect:#}");
            let half = json!({ "flows": half, "precision": "about" });
            assert_eq!(effect["moved"], half, "{before}: {effect:#}");
        }
    }
}

#[test]
fn remembered_or_not() {
    for kind in KINDS {
        let stateless = |reals: &[&str]| vip(TCP, reals) + "connection_table = false\n";
        // Table and ring differ about what was established before there were three.
        let lab = Lab::new(kind, &vip(TCP, &TWO)).establish(TCP);
        lab.host.lbctl().apply(&lab.config(&vip(TCP, &THREE)));
        let off = lab.change(&stateless(&THREE), &of(TCP));
        assert!(off["moved"]["flows"].as_u64().is_some_and(|n| n > 0), "{off:#}");
        // Without a table nobody knows, and the file has consented.
        let moves = lab.planned(&lab.config(&stateless(&TWO)), &of(TCP));
        assert_eq!(
            (&moves["established"], &moves["moved"]),
            (&Value::Null, &Value::Null),
            "{moves:#}"
        );
        assert!(moves["text"].as_str().expect("text").contains("move as new ones do"), "{moves:#}");
        let moves = lab.planned(&lab.config(&vip(TCP, &TWO)), &of(TCP));
        assert_eq!(moves["moved"], Value::Null, "the ring changes, too: {moves:#}");
        // What was in the table stays forgotten: those that moved stay where they are by now.
        let strayed = lab.strayed();
        let config = lab.config(&vip(TCP, &THREE));
        let on = lab.planned(&config, &of(TCP));
        assert_eq!(on["moved"], established(0), "{on:#}");
        lab.host.lbctl().apply(&config);
        assert_eq!(
            (json!(lab.strayed()), json!(strayed)),
            (off["moved"]["flows"].clone(), off["moved"]["flows"].clone())
        );
    }
}

#[test]
fn ids_in_packets() {
    let config = |lab: &Lab, routing: &str, ids: &str| {
        lab.config(&format!("{}routing = [{routing}]\n{ids}", vip(UDP, &TWO)))
    };
    let id = |real: &str| format!("[[server_ids]]\nid = 7\nreal = \"{real}\"\n");
    let lab = Lab::new(KINDS[0], &vip(UDP, &TWO)).establish(UDP);
    let routed = config(&lab, "\"quic-connection-id\"", &id("10.0.0.1"));
    let on = lab.planned(&routed, &of(UDP));
    assert_eq!(on["moved"], established(0), "{on:#}");
    assert!(on["text"].as_str().expect("text").contains("how many is not known"), "{on:#}");
    let new = lab.planned(&routed, &json!({ "server_id": 7 }));
    assert_eq!(new["moved"], Value::Null, "{new:#}");
    lab.host.lbctl().apply(&routed);
    let other = config(&lab, "\"quic-connection-id\"", &id("10.0.0.2"));
    let other = lab.planned(&other, &json!({ "server_id": 7 }));
    let all = json!({ "flows": lab.of_real("10.0.0.1"), "precision": "at_most" });
    assert_eq!(other["moved"], all, "{other:#}");
    let none = lab.planned(&config(&lab, "\"quic-connection-id\"", ""), &json!({ "server_id": 7 }));
    assert_eq!(none["moved"], established(0), "{none:#}");
}

#[test]
fn tables_and_programs() {
    let one = vip(TCP, &TWO);
    for kind in KINDS {
        let lab = Lab::new(kind, &one).establish(TCP);
        let table = json!("connection_table");
        let other = KINDS.into_iter().find(|other| *other != kind).expect("another kind");
        let moved = lab.planned(&lab.config(&one).replace(kind, other), &table);
        assert_eq!(moved["text"], "40 established flows are copied", "{moved:#}");
        // A set of four, or four in all.
        let few = lab.config(&one).replace("entries = 20000", "entries = 4");
        let few = lab.planned(&few, &table);
        let what = few["text"].as_str().expect("text");
        assert!(what.starts_with("of 40 established flows, about 36 find no room"), "{what}");
        assert_eq!(few["moved"]["flows"], 0, "the ring sends them to the same reals: {few:#}");
        // After a change of the reals it does not.
        lab.host.lbctl().apply(&lab.config(&vip(TCP, &THREE)));
        let few = lab.config(&vip(TCP, &THREE)).replace("entries = 20000", "entries = 4");
        let few = lab.planned(&few, &table);
        assert!(few["moved"]["flows"].as_u64().is_some_and(|n| (1..36).contains(&n)), "{few:#}");
        assert_eq!(few["moved"]["precision"], "about");

        let packets = "\n[packets]\nmax_frame = 1400\noversize = \"drop\"\nencap_source_v4 = \"192.0.2.0/24\"\n";
        let program =
            lab.planned(&lab.config(&format!("{packets}{}", vip(TCP, &THREE))), &json!("program"));
        assert_eq!(program["moved"], established(0), "{program:#}");
        let what = program["text"].as_str().expect("text");
        for words in
            ["flows stay where they are", "more than 1400 bytes", "only for the former sources"]
        {
            assert!(what.contains(words), "'{words}' in {what}");
        }
        let generic = lab.config(&vip(TCP, &THREE)).replace("\"native\"", "\"generic\"");
        let reattached = lab.planned(&generic, &json!({ "interface": "uplink" }));
        assert!(reattached["text"].as_str().expect("text").contains("for some milliseconds"));
        let gone = lab.config(&vip(TCP, &THREE)).replace(Host::INTERFACE, "");
        let gone = lab.planned(&gone, &json!({ "interface": "uplink" }));
        assert_eq!(gone["moved"], json!({ "flows": 40, "precision": "at_most" }), "{gone:#}");
    }
}

/// A larger table of the same kind has room for all that the smaller one had, and wants no consent.
#[test]
fn larger_tables() {
    for kind in KINDS {
        let lab = Lab::new(kind, &vip(TCP, &TWO)).establish(TCP);
        let three = lab.config(&vip(TCP, &THREE));
        let sized =
            |entries: u32| three.replace("entries = 20000", &format!("entries = {entries}"));
        lab.host.lbctl().apply(&sized(60));
        let held = json_of(&lab.host.lbctl().ok(&["flows", "count", "--json"]))["entries"].clone();
        let larger = lab.planned(&sized(120), &json!("connection_table"));
        assert_eq!(larger["text"], format!("{held} established flows are copied"));
        let file = config_file(&sized(120));
        lab.host.lbctl().ok(&["apply", "-f", path_of(&file)]);
        let after = json_of(&lab.host.lbctl().ok(&["flows", "count", "--json"]))["entries"].clone();
        assert_eq!(after, held, "{kind}");
    }
}

#[test]
fn silent_udp_flows() {
    for kind in KINDS {
        let lab = Lab::new(kind, &vip(UDP, &TWO)).establish(UDP);
        lab.host.lbctl().apply(&lab.config(&vip(UDP, &THREE)));
        let silent = || {
            let list =
                lab.host.lbctl().ok(&["flows", "list", "--older-than", "5s", "--json"]).stdout;
            list.lines().count() == 40
        };
        assert!(wait_until(Duration::from_secs(60), silent));
        let shorter = |vips: &str| lab.config(&format!("udp_timeout_seconds = 3\n{vips}"));
        let effect = lab.planned(&shorter(&vip(UDP, &THREE)), &json!("program"));
        assert_eq!(effect["moved"]["precision"], "exact", "{effect:#}");
        let what = effect["text"].as_str().expect("text");
        assert!(
            what.starts_with("40 UDP flows that were silent for more than 3 s are forgotten"),
            "{what}"
        );
        lab.host.lbctl().apply(&shorter(&vip(UDP, &THREE)));
        assert_eq!(json!(lab.strayed()), effect["moved"]["flows"], "{effect:#}");
    }
}

/// Changes that move no flow need no consent. An imperative command is consent, as is a reload, and says what moves.
#[test]
fn changes_that_need_consent() {
    let lab = Lab::new(KINDS[0], &vip(TCP, &THREE));
    let apply = |reals: &[&str]| {
        let file = config_file(&lab.config(&vip(TCP, reals)));
        lab.host.lbctl().run(&["apply", "-f", path_of(&file)])
    };
    assert_eq!(apply(&TWO).code(), Some(0));
    assert_eq!(apply(&THREE).code(), Some(0));
    let plan = |lab: &Lab, vips: &str| {
        let file = config_file(&lab.config(vips));
        let path = path_of(&file);
        let text = lab.host.lbctl().exits(3, &["plan", "-f", path]).stdout;
        let json = json_of(&lab.host.lbctl().exits(3, &["plan", "-f", path, "--json"]));
        (text, json["needs_yes"].clone())
    };
    let (text, needs_yes) = plan(&lab, &vip(TCP, &TWO));
    assert!(!text.contains("--yes") && needs_yes == json!(false), "{text}");
    let lab = Lab::new(KINDS[0], &vip(TCP, &THREE)).establish(TCP);
    let [first, second] = ["10.0.0.1", "10.0.0.2"].map(|real| lab.of_real(real));
    let (text, needs_yes) = plan(&lab, &vip(TCP, &["10.0.0.2", "10.0.0.3"]));
    let last =
        format!("\napply refuses this without --yes: {first} of 40 established flows break\n");
    assert!(text.ends_with(&last) && needs_yes == json!(true), "{text}");
    // The refusal's advice helps with this change.
    let hash = vip(TCP, &THREE) + "hash = \"destination-port\"\n";
    for (vips, help) in [
        (vip(TCP, &["10.0.0.2", "10.0.0.3"]), "drain the reals first"),
        (hash, "draining reals does not help"),
        (String::new(), "1 of 1 VIPs and 3 of 3 reals are removed"),
    ] {
        let file = config_file(&lab.config(&vips));
        let path = path_of(&file);
        let refused = lab.host.lbctl().exits(1, &["apply", "-f", path]).stderr;
        assert!(refused.contains("'lbctl plan -f FILE'"), "{refused}");
        assert!(refused.contains(help), "{refused}");
    }
    let down = json_of(&lab.host.lbctl().ok(&["real", "down", TCP, "10.0.0.1", "--json"]));
    assert_eq!(down["changes"][0]["flows"]["moved"], established(first), "{down:#}");
    let gone = lab.host.lbctl().ok(&["real", "delete", TCP, "10.0.0.2"]).stdout;
    assert!(gone.contains(&format!("; 10.0.0.2: {second} of {second} move\n")), "{gone}");
    let third = lab.host.lbctl().ok(&["flows", "count", "--by", "real", "--json"]);
    assert_eq!(json_of(&third)["live"], 40 - first - second);

    let lab = Lab::new(KINDS[0], &vip(TCP, &THREE)).establish(TCP);
    let file = config_file(&lab.config(&vip(TCP, &THREE)));
    let path = path_of(&file);
    let mut serve = lab.host.lbctl().spawn(&["serve", "-f", path]);
    serve.wait_for("metrics at");
    std::fs::write(file.path(), lab.config(&vip(TCP, &TWO))).expect("write");
    serve.signal(Signal::SIGHUP);
    serve.wait_for(&format!("{} established flows broke: vip {TCP}", lab.of_real("10.0.0.3")));
    serve.wait_for("reloaded");
    serve.stop();
}

/// A table that nobody can map any more: flows cannot be counted.
#[track_caller]
fn freeze(host: &Host) {
    let pin = host.bpffs.path().join("l4lb/default/map/flows4");
    let outer = MapHandle::from_pinned_path(pin).expect("open the pin");
    let ids = (0..outer.max_entries()).filter_map(|key| {
        let id = outer.lookup(&key.to_ne_bytes(), MapFlags::ANY).expect("look it up")?;
        Some(u32::from_ne_bytes(id.try_into().expect("an id")))
    });
    let frozen =
        ids.map(|id| MapHandle::from_map_id(id).expect("a table").freeze().expect("freeze"));
    assert_eq!(frozen.count(), 1);
}

/// Where flows cannot be counted, urgent commands act, and those that need consent ask for it.
#[test]
fn what_cannot_be_counted_is_unknown() {
    let lab = Lab::new(KINDS[0], &vip(TCP, &THREE)).establish(TCP);
    freeze(&lab.host);
    let lbctl = || lab.host.lbctl();
    let unknown = "how many established flows move is unknown: ";
    let down = lbctl().ok(&["real", "down", TCP, "10.0.0.3"]);
    assert!(down.stderr.contains(unknown), "{down}");
    assert!(lbctl().ok(&["save"]).stdout.contains("state = \"down\""));
    let drain = json_of(&lbctl().ok(&["--json", "real", "drain", TCP, "10.0.0.2"]));
    assert!(drain["flows_unknown"].is_string(), "{drain:#}");
    assert!(drain["changes"][0].get("flows").is_none(), "{drain:#}");

    let file = config_file(&lab.config(&vip(TCP, &TWO)));
    let path = path_of(&file);
    let plan = lbctl().exits(3, &["plan", "-f", path]);
    assert!(plan.stderr.contains(unknown), "{plan}");
    let saved = lbctl().ok(&["save"]).stdout;
    let refused = lbctl().exits(1, &["apply", "-f", path]).stderr;
    assert!(refused.starts_with("error: how many established flows would break is unknown ("));
    assert!(refused.contains("--yes") && refused.lines().count() == 1, "{refused}");
    assert_eq!(lbctl().ok(&["save"]).stdout, saved, "nothing was changed");
    lbctl().ok(&["apply", "--yes", "-f", path]);
    assert!(!lbctl().ok(&["save"]).stdout.contains("10.0.0.3"));
}
