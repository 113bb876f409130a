//! Addresses at which tunnels end: what plans say of them, and what commands leave.

use serde_json::Value;
use serde_json::json;

use crate::fixtures::Host;
use crate::fixtures::changes_of;
use crate::fixtures::config_file;
use crate::fixtures::json as json_of;
use crate::fixtures::path_of;
use crate::fixtures::vip;

const VIP: &str = "tcp://10.200.1.1:80";

fn with(rest: &str) -> String {
    Host::config(&(vip(VIP, &["10.0.0.1"]) + rest))
}

fn end(rest: &str) -> String {
    with(&format!("[[decapsulate]]\naddress = \"10.8.0.1\"\n{rest}"))
}

fn planned(host: &Host, config: &str) -> Value {
    let file = config_file(config);
    json_of(&host.lbctl().exits(3, &["plan", "--json", "-f", path_of(&file)]))
}

/// The only change of an address, and the value of a key of the program that changes with it.
fn change(plan: &Value) -> Value {
    let changes = changes_of(plan, "decapsulate");
    assert_eq!(changes.len(), 1, "{plan}");
    changes[0].clone()
}

#[test]
fn changes_are_told_and_made() {
    let host = Host::new();
    host.lbctl().apply(&with(""));
    let apply = |config: &str| {
        host.lbctl().ok(&["apply", "--yes", "-f", path_of(&config_file(config))]);
        host.lbctl().ok(&["save"]).stdout
    };

    let open = end("");
    let plan = planned(&host, &open);
    let added = change(&plan);
    assert_eq!((&added["action"], &added["address"]), (&json!("add"), &json!("10.8.0.1")));
    assert_eq!(added["new"], json!({ "then": "balance" }));
    assert_eq!(added["text"], "+ decapsulate 10.8.0.1: then balance, from anywhere");
    assert_eq!(added["flows"]["moved"]["flows"], 0);
    assert_eq!(plan["needs_yes"], false);
    let settings = changes_of(&plan, "setting");
    let program = settings.iter().find(|setting| setting["key"] == "decapsulate");
    assert_eq!(program.map(|setting| &setting["new"]), Some(&json!(true)), "{plan}");
    assert!(apply(&open).contains("[[decapsulate]]\naddress = \"10.8.0.1\""));

    let chosen = end("then = \"router\"\nfrom = [\"10.9.0.0/16\"]\n");
    let plan = planned(&host, &chosen);
    assert_eq!(
        change(&plan)["text"],
        "~ decapsulate 10.8.0.1: then balance, from anywhere → then router, from 10.9.0.0/16"
    );
    // The program stays.
    assert!(changes_of(&plan, "program").is_empty(), "{plan}");
    let saved = apply(&chosen);
    assert!(saved.contains("then = \"router\"\nfrom = [\"10.9.0.0/16\"]"), "{saved}");

    // Commands about VIPs leave them.
    host.lbctl().ok(&["real", "add", VIP, "10.0.0.2"]);
    assert!(host.lbctl().ok(&["save"]).stdout.contains("[[decapsulate]]"));
    host.lbctl().ok(&["real", "delete", VIP, "10.0.0.2"]);

    let plan = planned(&host, &with(""));
    let removed = change(&plan);
    assert_eq!(removed["action"], "remove");
    assert_eq!(removed["text"], "- decapsulate 10.8.0.1");
    assert!(!apply(&with("")).contains("decapsulate"));
}

/// What no file may say, no other way in takes.
#[test]
fn a_vip_has_another_address() {
    let host = Host::new();
    host.lbctl().apply(&end(""));
    let refused = host.lbctl().exits(1, &["vip", "add", "tcp://10.8.0.1:80"]);
    assert!(
        refused.stderr.contains("10.8.0.1 is the address of tcp://10.8.0.1:80 too"),
        "{refused}"
    );
    let refused = host.lbctl().exits(1, &["real", "add", VIP, "10.8.0.1"]);
    assert!(refused.stderr.contains("10.8.0.1 is a real too"), "{refused}");
}
