//! Checks that make no sense, or that this host cannot run: one line says where, why and what to do, whoever asks.

use std::fs;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use l4lb::Balancer;
use l4lb::Config;
use l4lb::Instance;
use tempfile::TempDir;

use crate::fixtures::Host;
use crate::fixtures::vip;

const VIP: &str = "tcp://10.200.1.1:80";

/// Something wrong: what `[checks.web]` or the VIP says, and what the error says behind the line.
#[derive(Debug)]
struct Case {
    check: String,
    of_vip: String,
    /// The line that the error names has this.
    line: String,
    error: String,
}

/// A check with these keys. The line is that of the first key behind the type.
fn check(keys: &str, error: &str) -> Case {
    let line = keys.lines().nth(1).or_else(|| keys.lines().next()).unwrap_or_default().to_owned();
    Case {
        check: keys.to_owned(),
        of_vip: "check = \"web\"".to_owned(),
        line,
        error: error.to_owned(),
    }
}

/// A check that lacks something. The line is that of its table.
fn lacking(kind: &str, error: &str) -> Case {
    Case { line: "[checks.web]".to_owned(), ..check(&format!("type = \"{kind}\""), error) }
}

/// A VIP with these keys, and a good check.
fn of_vip(keys: &str, error: &str) -> Case {
    let (check, line) = ("type = \"tcp\"".to_owned(), keys.to_owned());
    Case { check, of_vip: keys.to_owned(), line, error: error.to_owned() }
}

/// What a file says wrong, whatever the host has.
fn pure() -> Vec<Case> {
    vec![
        check("type = \"ping\"", "checks.web.type: unknown variant `ping`, expected one of `tcp`"),
        lacking("dns", "checks.web.name: a check of type \"dns\" needs the name to ask for"),
        lacking("udp", "checks.web.send: a check of type \"udp\" needs what to send, such as"),
        lacking("exec", "checks.web.program: a check of type \"exec\" needs the program, such as"),
        lacking("agent", "checks.web.port: a check of type \"agent\" needs the port that"),
        check("type = \"tcp\"\nport = 0", "checks.web.port: 0 is no port that can be checked"),
        check("type = \"tcp\"\nport = 65536", "checks.web.port: invalid value: integer `65536`"),
        check(
            "type = \"tcp\"\ntimeout = \"6s\"",
            "checks.web.timeout: 6s is longer than interval, 5s: runs would overlap",
        ),
        check("type = \"tcp\"\nfast_interval = \"10s\"", "checks.web.fast_interval: 10s is longer"),
        check(
            "type = \"tcp\"\npath = \"/x\"",
            "checks.web.path: a check of type \"tcp\" has no such key; \
               those of type \"http\" and \"https\" have it",
        ),
        check(
            "type = \"tcp\"\nverify = true",
            "checks.web.verify: a check of type \"tcp\" has no such key",
        ),
        check(
            "type = \"http\"\nprogram = \"/bin/true\"",
            "checks.web.program: a check of type \"http\" has no such key",
        ),
        check("type = \"tcp\"\nrise = 0", "checks.web.rise: 0 is not within 1 to 100"),
        check("type = \"tcp\"\nfall = 0", "checks.web.fall: 0 is not within 1 to 100"),
        check("type = \"tcp\"\nfall = 101", "checks.web.fall: 101 is not within 1 to 100"),
        check("type = \"tcp\"\nfall = -1", "checks.web.fall: invalid value: integer `-1`"),
        check(
            "type = \"tcp\"\ninterval = \"-5s\"",
            "checks.web.interval: invalid value: string \"-5s\", expected a time with its unit, such as",
        ),
        check(
            "type = \"tcp\"\ninterval = 5",
            "checks.web.interval: invalid type: integer `5`, expected text in quotes, such as interval = \"5s\"",
        ),
        check(
            "type = \"tcp\"\ninterval = \"0s\"",
            "checks.web.interval: 0s is not within 100ms to 1day",
        ),
        check(
            "type = \"tcp\"\ninterval = \"2days\"",
            "checks.web.interval: 2days is not within 100ms to 1day",
        ),
        check(
            "type = \"tcp\"\ninterval = \"99999999999999999999s\"",
            "checks.web.interval: invalid value: string",
        ),
        check("type = \"tcp\"\ninterval = \"500000000000years\"", "checks.web.interval: "),
        check(
            "type = \"exec\"\nprogram = \"check\"",
            "checks.web.program: 'check' is no absolute path",
        ),
        check(
            "type = \"tls\"\nca_file = \"/etc/ca.pem\"",
            "checks.web.ca_file: nothing is verified: set verify = true",
        ),
        of_vip(
            "check = \"wbe\"",
            "vips[0].check: no check is called 'wbe' (there are web); did you mean \"web\"?",
        ),
        of_vip("check = { type = \"ping\" }", "vips[0].check.type: unknown variant `ping`"),
        of_vip(
            "check = { type = \"dns\" }",
            "vips[0].check.name: a check of type \"dns\" needs the name",
        ),
        of_vip(
            "min_healthy = 0",
            "vips[0].min_healthy: invalid value: integer `0`, expected a number of reals, 1 or more, or",
        ),
        of_vip(
            "min_healthy = \"0%\"",
            "vips[0].min_healthy: invalid value: string \"0%\", expected a number",
        ),
        of_vip(
            "min_healthy = \"101%\"",
            "vips[0].min_healthy: invalid value: string \"101%\", expected a number",
        ),
        of_vip(
            "min_healthy = 5000",
            "vips[0].min_healthy: 5000 is more than a VIP can have; or write a percentage",
        ),
        of_vip(
            "slow_start = \"-1s\"",
            "vips[0].slow_start: invalid value: string \"-1s\", expected a time",
        ),
        of_vip("slow_start = \"9days\"", "vips[0].slow_start: 9days is not within 100ms to 1day"),
        of_vip(
            "flapping = { failures = 0 }",
            "vips[0].flapping.failures: 0 is not within 1 to 1000",
        ),
        of_vip(
            "flapping = { hold = \"1h\" }",
            "vips[0].flapping.hold_at_most: 30m is below hold, 1h",
        ),
    ]
}

/// What only this host cannot run. The folder has a program that everybody may write to, and files that are none.
fn of_host(folder: &Path) -> Vec<Case> {
    for (name, mode) in [("plain", 0o644), ("open", 0o757)] {
        let path = folder.join(name);
        fs::write(&path, "#!/bin/sh\n").expect("write");
        fs::set_permissions(&path, Permissions::from_mode(mode)).expect("chmod");
    }
    let folder = folder.display();
    let exec = |name: &str, why: &str| {
        let keys = format!("type = \"exec\"\nprogram = \"{folder}/{name}\"");
        check(&keys, &format!("checks.web.program: {folder}/{name}: {why}"))
    };
    let ca = |name: &str, why: &str| {
        let keys = format!("type = \"tls\"\nca_file = \"{folder}/{name}\"\nverify = true");
        check(&keys, &format!("checks.web.ca_file: {folder}/{name}: {why}"))
    };
    let inline = format!("check = {{ type = \"exec\", program = \"{folder}/no\" }}");
    vec![
        exec("no", "there is no such file: install the program, or correct the path"),
        exec("plain", &format!("it is not executable: chmod +x {folder}/plain")),
        exec("open", "every user can change what lbctl serve would run (mode 0757): chmod o-w"),
        exec("", "it is a folder: name the program in it"),
        ca(
            "no",
            "there is no such file: put the certificates to trust there (PEM), or leave ca_file",
        ),
        ca("plain", "it has no certificate (PEM, -----BEGIN CERTIFICATE-----)"),
        ca("", "it is a folder: name a file in it"),
        check("type = \"dns\"\nname = \"a..b\"", "checks.web.name: "),
        check("type = \"dns\"\nrecord = \"QQ\"\nname = \"a.example\"", "checks.web.record: "),
        of_vip(&inline, &format!("vips[0].check.program: {folder}/no: there is no such file")),
    ]
}

fn text_of(case: &Case, port: &str) -> String {
    let vip = vip(&format!("tcp://10.200.1.1:{port}"), &["10.0.0.1"]);
    Host::config(&format!("\n[checks.web]\n{}\n{vip}{}\n", case.check, case.of_vip))
}

/// The number of the line that has this text alone.
fn line_of(text: &str, line: &str) -> usize {
    text.lines().position(|found| found == line).unwrap_or_else(|| panic!("'{line}' in {text}")) + 1
}

/// Runs plan and apply, which must say this in one line, and returns the text behind `error: FILE`.
#[track_caller]
fn refused(host: &Host, folder: &TempDir, text: &str) -> String {
    let file = folder.path().join("lb.toml");
    fs::write(&file, text).expect("write");
    let path = file.to_str().expect("a printable path");
    let output = host.lbctl().exits(1, &["plan", "-f", path]);
    assert_eq!(output.stderr.lines().count(), 1, "one line: {output}");
    assert_eq!(host.lbctl().exits(1, &["apply", "-f", path]).stderr, output.stderr, "{text}");
    let said = output.stderr.trim_end().strip_prefix(&format!("error: {path}"));
    said.unwrap_or_else(|| panic!("the file is not named: {output}")).to_owned()
}

#[test]
fn a_file_is_refused_with_its_line_and_by_the_library_alike() {
    let (host, folder) = (Host::new(), tempfile::tempdir().expect("a folder"));
    for case in pure() {
        let text = text_of(&case, "80");
        let line = line_of(&text, &case.line);
        let said = refused(&host, &folder, &text);
        let begin = format!(":{line}: {}", case.error);
        assert!(said.starts_with(&begin), "{said}\nbut not\n{begin}");
        let error = Config::from_toml(&text).expect_err("the same").to_string();
        assert_eq!(error, format!("line {}", &said[1..]));
    }
    let no_port = Case { line: "check = \"web\"".to_owned(), ..check("type = \"tcp\"", "") };
    let text = text_of(&no_port, "*");
    let said = refused(&host, &folder, &text);
    let line = line_of(&text, &no_port.line);
    let begin = format!(
        ":{line}: vips[0].check: tcp://10.200.1.1:* has every port, so nobody knows which to check"
    );
    assert!(said.starts_with(&begin), "{said}");
    let many: Vec<_> = (0..3000).map(|n| format!("[checks.c{n}]\ntype = \"tcp\"\n")).collect();
    let many = many.concat();
    let said = refused(&host, &folder, &Host::config(&format!("\n{many}")));
    assert!(said.contains(": checks: 3000 entries; at most 512 are supported"), "{said}");
    assert!(!host.has_pins("default"));
}

#[test]
fn what_this_host_cannot_run_is_refused_by_files_and_by_the_library_alike() {
    let (host, folder) = (Host::new(), tempfile::tempdir().expect("a folder"));
    for case in of_host(folder.path()) {
        let text = text_of(&case, "80");
        let said = refused(&host, &folder, &text);
        let begin = format!(":{}: {}", line_of(&text, &case.line), case.error);
        assert!(said.starts_with(&begin), "{said}\nbut not\n{begin}");
        let config = Config::from_toml(&text).expect("only the host refuses it");
        let planned = host.ns.run(|| {
            let instance = Instance::new(host.bpffs.path(), "default").expect("a name");
            Balancer::plan(&instance, &config).map(drop)
        });
        let error = planned.expect_err("refused").to_string();
        assert!(said.ends_with(&format!(": {error}")), "{error}");
    }
    let notify = format!("\n[notify]\nexec = \"{}/no\"\n", folder.path().display());
    let said = refused(&host, &folder, &Host::config(&notify));
    assert!(said.contains(": notify.exec: ") && said.contains("no such file"), "{said}");
    assert!(!host.has_pins("default"));
}
