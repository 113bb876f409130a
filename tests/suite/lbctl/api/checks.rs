//! What a request says about checks and about the health of reals.

use std::fs;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;

use l4lb::Balancer;
use l4lb::CheckChoice;
use l4lb::CheckConfig;
use l4lb::Instance;

use super::client::Server;
use crate::fixtures::Host;
use crate::fixtures::json;
use crate::fixtures::vip;

const VIP: &str = "tcp://10.200.1.1:80";

/// A change is refused for what it brings. What went wrong since stops nobody.
#[test]
fn changes_are_refused_by_the_same_words() {
    let (host, folder) = (Host::new(), tempfile::tempdir().expect("a folder"));
    let program = folder.path().join("check");
    fs::write(&program, "#!/bin/sh\n").expect("write");
    fs::set_permissions(&program, Permissions::from_mode(0o755)).expect("chmod");
    let good = format!("[checks.web]\ntype = \"exec\"\nprogram = \"{}\"\n", program.display());
    let config = format!("\n{good}{}check = \"web\"\n", vip(VIP, &["10.0.0.1"]));
    let server = Server::start(host.lbctl(), &config);

    let absent = folder.path().join("absent");
    let error = format!(
        "check.program: {}: there is no such file: install the program, or correct the path",
        absent.display()
    );
    let edited = host.ns.run(|| {
        let instance = Instance::new(host.bpffs.path(), "default").expect("a name");
        let balancer = Balancer::open(&instance).expect("it runs");
        balancer.edit(|table| {
            let check: CheckConfig = serde_json::from_value(serde_json::json!({
                "type": "exec", "program": absent
            }))
            .expect("a check");
            let spec = table.vips.values_mut().next().expect("a VIP");
            spec.health.check = Some(CheckChoice::Inline(Box::new(check)));
            Ok(())
        })
    });
    assert_eq!(edited.expect_err("refused").to_string(), error);
    let post = |check: &serde_json::Value| {
        let vip = serde_json::json!({
            "address": "10.200.1.7", "port": 80, "protocol": "tcp", "check": check
        });
        server.ask("POST", "/v1/vips", Some(&vip.to_string())).is(400).error()
    };
    assert_eq!(post(&serde_json::json!({ "type": "exec", "program": absent })), error);
    for (check, words) in [
        (serde_json::json!({ "type": "ping" }), "check.type: unknown variant `ping`"),
        (serde_json::json!({ "type": "tcp", "fall": 0 }), "check.fall: 0 is not within 1 to 100"),
        (
            serde_json::json!({ "type": "tcp", "path": "/" }),
            "check.path: a check of type \"tcp\" has no such key",
        ),
        (serde_json::json!("wbe"), "check: no check is called 'wbe' (there are web)"),
    ] {
        let said = post(&check);
        assert!(said.contains(words), "{said}");
    }
    let output = host.lbctl().exits(1, &["vip", "add", "tcp://10.200.1.8:80", "--check", "wbe"]);
    assert!(output.stderr.starts_with("error: check: no check is called 'wbe'"), "{output}");
    host.lbctl().ok(&["vip", "add", "tcp://10.200.1.8:80", "--check", "web"]);

    fs::remove_file(&program).expect("remove");
    host.lbctl().ok(&["real", "drain", VIP, "10.0.0.1"]);
    server.serve.stop();
}

/// A checker of others is heard, whatever its reason is: printable, and no longer than lists can show.
#[test]
fn reasons_become_short_and_printable() {
    let host = Host::new();
    let config = vip(VIP, &["10.0.0.1"]);
    let server = Server::start(host.lbctl(), &config);
    let reason = || {
        let vips = json(&host.lbctl().ok(&["real", "list", "--json"]));
        let text = host.lbctl().ok(&["real", "list"]).stdout;
        assert!(!text.contains(['\u{1b}', '\r', '\u{202e}']), "{text:?}");
        vips[0]["reals"][0]["reason"].as_str().expect("a reason").to_owned()
    };
    let long = "\u{1b}[2Jdisk\nfull\u{202e}".to_owned() + &"x".repeat(100_000);
    host.lbctl().ok(&["real", "health", VIP, "10.0.0.1", "unhealthy", "--reason", &long]);
    let said = reason();
    assert!(said.starts_with("\\u{1b}[2Jdisk\\nfull\\u{202e}xxx") && said.len() <= 80, "{said}");
    let path = "/v1/vips/tcp/10.200.1.1/80/reals/10.0.0.1/health";
    let body = |reason: &str| serde_json::json!({ "health": "unhealthy", "reason": reason });
    let hostile = "\u{0}\r\n\u{7f}".to_owned() + &"ü".repeat(400_000);
    server.ask("PUT", path, Some(&body(&hostile).to_string())).is(200);
    let said = reason();
    assert!(said.starts_with("\\u{0}\\r\\n\\u{7f}ü") && said.len() <= 80, "{said}");
    let huge = body(&"x".repeat(1 << 20)).to_string();
    server.ask("PUT", path, Some(&huge)).is(413);
    server.serve.stop();
}
