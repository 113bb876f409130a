use std::path::Path;

use super::ConfigReport;
use super::Source;
use super::Sources;

/// What is found in files: the first, and those that it includes. A line is that of `lbctl check`.
fn report(files: &[(&str, &str)]) -> ConfigReport {
    let sources: Vec<_> =
        files.iter().map(|(name, text)| Source::of_file(Path::new(name), text)).collect();
    let mut sources = sources.into_iter();
    let main = sources.next().expect("a file");
    Sources { included: sources.collect(), ..Sources::one(main) }.report()
}

fn lines(files: &[(&str, &str)]) -> Vec<String> {
    report(files).findings.iter().map(ToString::to_string).collect()
}

#[track_caller]
fn assert_found(text: &str, expected: &[&str]) {
    let found = lines(&[("lb.toml", text)]);
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{found}\n{expected}");
    }
    assert_eq!(found.len(), expected.len(), "{found:#?}");
}

const GOOD: &str = r#"[[interfaces]]
name = "eth0"
[[vips]]
address = "10.200.1.1"
port = 80
protocol = "tcp"
reals = [{ address = "10.0.0.1" }]
"#;

#[test]
fn a_good_file_has_no_findings() {
    assert_found(GOOD, &[]);
    assert_eq!(report(&[("lb.toml", GOOD)]).to_string(), "no errors, no warnings\n");
}

/// An error does not hide others, wherever they are, and causes none.
#[test]
fn all_errors_are_found_at_once() {
    assert_found(
        r#"colour = 1
[packet]
max_frame = 1400
[[notify]]
exec = "/bin/true"
[checks]
type = "http"
[checks.web]
type = "http"
pth = "/"
verify = true
interval = 5
[[interfaces]]
name = "eth0"
gatway = "auto"
[[vips]]
adress = "10.200.1.300"
port = "80"
protocol = "tpc"
reals = [{ address = "10.0.0.1", weight = -1 }, { adress = "10.0.0.2" }, 7]
check = "wbe"
[[vips]]
address = "10.200.1.1"
port = 80
protocol = "tcp"
interval = "5s"
min_healthy = 0
reals = [{ address = "10.0.0.1" }, { address = "10.0.0.1" }]
"#,
        &[
            "lb.toml:1:1: error: colour: unknown field `colour`; a file has [[interfaces]], [[vips]],",
            "lb.toml:2:2: error: packet: unknown field `packet`; did you mean [packets]?",
            "lb.toml:4:3: error: notify: a file has one such table, not a list; write [notify] instead of [[notify]]",
            "lb.toml:7:1: error: checks.type: this check has no name; write [checks.NAME] instead of [checks]",
            "lb.toml:10:1: error: checks.web.pth: unknown field `pth`; did you mean `path`?",
            "lb.toml:12:1: error: checks.web.interval: invalid type: integer `5`, expected text in quotes; write interval = \"5s\"",
            "lb.toml:15:1: error: interfaces[0].gatway: unknown field `gatway`; did you mean `gateway`?",
            "lb.toml:17:1: error: vips[0].adress: unknown field `adress`; did you mean `address`?",
            "lb.toml:17:1: error: vips[0].address: '10.200.1.300' is not an IP address; write",
            "lb.toml:18:1: error: vips[0].port: invalid type: string \"80\"",
            "lb.toml:19:1: error: vips[0].protocol: unknown variant `tpc`, expected `tcp` or `udp`; did you mean \"tcp\"?",
            "lb.toml:20:34: error: vips[0].reals[0].weight: invalid value: integer `-1`",
            "lb.toml:20:51: error: vips[0].reals[1].adress: unknown field `adress`; did you mean `address`?",
            "lb.toml:20:74: error: vips[0].reals[2]: invalid type: integer `7`, expected a table",
            "lb.toml:21:1: error: vips[0].check: no check is called 'wbe' (there are web); did you mean \"web\"?",
            "lb.toml:26:1: error: vips[1].interval: unknown field `interval`; it is a key of [checks.NAME]",
            "lb.toml:27:1: error: vips[1].min_healthy: invalid value: integer `0`",
            "lb.toml:28:38: error: vips[1].reals[1].address: 10.0.0.1 is listed twice in tcp://10.200.1.1:80, first on line 28",
        ],
    );
}

/// What is wrong in a syntactical way does not hide the rest either.
#[test]
fn syntax_errors_have_a_place() {
    let found =
        lines(&[("lb.toml", "[[interfaces]]\nname = eth0\n[[vips]]\nadress = \"10.200.1.1\"\n")]);
    assert!(found[0].starts_with("lb.toml:2:8: error: "), "{found:#?}");
    assert!(found[1].starts_with("lb.toml:4:1: error: vips[0].adress"), "{found:#?}");
    assert_eq!(found.len(), 2, "what may be in the broken line is not missing: {found:#?}");
    let found = lines(&[("lb.json", "{\n \"vips\": [,] }")]);
    assert_eq!(found, ["lb.json:2:11: error: expected value"]);
    let found = lines(&[("lb.json", "{\n \"vips\": [ { \"prt\": 1 } ] }")]);
    assert!(
        found.iter().any(|line| line.starts_with("lb.json:2:14: error: vips[0].prt: ")),
        "{found:#?}"
    );
    assert_eq!(
        lines(&[("lb.toml", " \n")]),
        ["lb.toml: error: is empty; to stop balancing, use 'lbctl down'"]
    );
}

#[test]
fn what_hurts_is_a_warning() {
    let vip = |rest: &str| format!("{GOOD}{rest}");
    let real = "10.0.0.1\" }]";
    for (text, place, what) in [
        (GOOD.replace("[{ address = \"10.0.0.1\" }]", "[]"), "lb.toml:3:1", "vips[0]: it has no reals"),
        (GOOD.replace(real, "10.0.0.1\", state = \"drain\" }]"), "lb.toml:7:1", "no real takes new flows"),
        (GOOD.replace(real, "10.0.0.1\", weight = 0 }]"), "lb.toml:7:1", "no real takes new flows"),
        (
            GOOD.replace(real, "10.0.0.1\" }, { address = \"10.0.0.2\", weight = 65535 }, { address = \"10.0.0.3\", weight = 65535 }]"),
            "lb.toml:7:10",
            "rounds to nothing: 10.0.0.1 gets 0.00 % of new flows; give it at least 2",
        ),
        (vip("min_healthy = 2\ncheck = { type = \"tcp\" }"), "lb.toml:8:1", "2 is more than the 1 reals that are up"),
        (vip("slow_start = \"1m\""), "lb.toml:8:1", "the VIP has no check"),
        (vip("check = { type = \"quic\" }"), "lb.toml:8:1", "sends UDP, and this VIP is tcp"),
        (vip("[checks.web]\ntype = \"tcp\""), "lb.toml:8:9", "no VIP uses it"),
        (vip("check = { type = \"tcp\", interval = \"1s\", timeout = \"1s\" }"), "lb.toml:8:42", "as long as interval"),
        (vip("[[server_ids]]\nid = 1\nreal = \"10.0.0.1\""), "lb.toml:8:3", "no VIP looks at ids"),
        (vip("[notify]\nexec = \"/usr/bin/told\""), "lb.toml:9:1", "no VIP has a check"),
        (vip("[metrics]\nlisten = \"10.200.1.1:80\""), "lb.toml:4:1", "listen at another address"),
        (vip("[packets]\nencap_source_v4 = \"10.0.0.0/24\""), "lb.toml:9:1", "has 10.0.0.1"),
        (
            vip("[[vips]]\naddress = \"fc00::1\"\nport = 1\nprotocol = \"udp\"\nreals = [{ address = \"fc00:0::2\" }]\n\
                 [[vips]]\naddress = \"fc00:0:0::1\"\nport = 2\nprotocol = \"udp\"\nreals = [{ address = \"fc00:0::2\" }]"),
            "lb.toml:14:1",
            "fc00:0:0::1 is fc00::1 on line 9; write an address in one way",
        ),
        (GOOD.replace("[[interfaces]]\nname = \"eth0\"\n", ""), "lb.toml", "there are none"),
    ] {
        let found = lines(&[("lb.toml", &text)]);
        assert_eq!(found.len(), 1, "{text}\n{found:#?}");
        assert!(found[0].starts_with(&format!("{place}: warning: ")), "{place}: {}", found[0]);
        assert!(found[0].contains(what), "{what}: {}", found[0]);
    }
}

#[test]
fn included_files_are_named() {
    let vip = |address: &str, rest: &str| {
        format!(
            "[[vips]]\naddress = \"{address}\"\nport = 80\nprotocol = \"tcp\"\nreals = [{{ address = \"10.0.0.1\" }}]\n{rest}"
        )
    };
    let main = format!("include = [\"v/*\"]\n{GOOD}[checks.web]\ntype = \"tcp\"\n");
    let found = lines(&[
        ("lb.toml", &main),
        ("v/a.toml", &vip("10.200.1.2", "check = \"web\"")),
        (
            "v/b.toml",
            &vip(
                "10.200.1.2",
                "prt = 1\n[packets]\nmax_frame = 1400\n[checks.web]\ntype = \"tcp\"\n",
            ),
        ),
        ("v/c.toml", "include = [\"x\"]\n[[vip]]\n"),
    ]);
    for (found, expected) in found.iter().zip([
        "v/b.toml:1:1: error: vips[0]: tcp://10.200.1.2:80 is listed twice, first on v/a.toml:1; remove one of them",
        "v/b.toml:6:1: error: vips[0].prt: unknown field `prt`; did you mean `port`?",
        "v/b.toml:7:2: error: packets: belongs into the file that includes this one, lb.toml: ",
        "v/b.toml:9:9: error: checks.web: lb.toml has a check of this name, too; give one of them another name",
        "v/c.toml:1:1: error: include: an included file includes no others; name them in lb.toml",
        "v/c.toml:2:3: error: vip: unknown field `vip`; did you mean [[vips]]?",
    ]) {
        assert!(found.starts_with(expected), "{found}\n{expected}");
    }
    assert_eq!(found.len(), 6, "{found:#?}");
    assert_eq!(
        lines(&[("lb.toml", &main), ("v/a.toml", &vip("10.200.1.2", "check = \"web\""))]),
        [""; 0]
    );
}

#[test]
fn findings_have_bounds() {
    let many: Vec<_> = (0..1000).map(|n| format!("k{n} = 1\n")).collect();
    let many = many.concat();
    let report = report(&[("lb.toml", &many)]);
    assert_eq!((report.errors, report.findings.len()), (1000, 200));
    assert!(report.to_string().ends_with("1000 errors, 0 warnings; the first 200 are shown\n"));
}

/// More wrong entries than there are examples to put in their place.
#[test]
fn any_number_of_entries_may_be_wrong() {
    let text = "[[server_ids]]\nid = 1\nreal = \"x\"\n".repeat(usize::from(u16::MAX) + 2);
    assert!(lines(&[("lb.toml", &text)]).iter().any(|line| line.contains("server_ids[0].real")));
}

/// A file of another kind may have any number of lines. What is not shown costs little.
#[test]
fn any_number_of_errors_is_bounded_and_has_right_lines() {
    const MANY: usize = 100_000;
    let since = std::time::Instant::now();
    let keys = |from: usize| {
        (from..from + MANY).fold(String::new(), |text, n| text + &format!("k{n} = {n}\n"))
    };
    let text = format!("# keys\n{}", keys(100_000));
    let found = report(&[("lb.toml", &text)]);
    assert_eq!((found.errors, found.findings.len()), (MANY, 200));
    let last = &found.findings[199];
    assert_eq!((last.line, last.column, &*last.key), (Some(201), Some(1), "k100199"));
    assert!(found.to_string().ends_with("100000 errors, 0 warnings; the first 200 are shown\n"));
    // The same in a table, in JSON, and in an included file.
    let text = format!("{GOOD}[packets]\n{}", keys(100_000));
    let found = report(&[("lb.toml", &text)]);
    assert_eq!((found.errors, found.findings.len()), (MANY, 64));
    assert_eq!(found.findings[63].line, Some(8 + 64));
    let members = (100_000..100_000 + MANY).map(|n| format!("\n\"k{n}\": {{ \"x\": [1] }}"));
    let json = format!("{{{}}}", members.collect::<Vec<_>>().join(","));
    let found = report(&[("lb.json", &json)]);
    assert_eq!((found.errors, found.findings[199].line), (MANY, Some(201)));
    let found = report(&[("lb.toml", GOOD), ("vips/a.toml", &keys(100_000))]);
    assert_eq!((found.errors, found.findings[199].line), (MANY, Some(200)));
    // Entries that are wrong, and lines that are no TOML.
    let vips = "[[vips]]\nadress = \"10.200.1.1\"\n".repeat(MANY);
    let found = report(&[("lb.toml", &vips)]);
    assert!(found.errors > MANY && found.findings.len() == 200, "{}", found.errors);
    assert!(found.findings.iter().all(|finding| finding.line.is_some_and(|line| line <= 200)));
    let found = report(&[("lb.toml", &"colour\n".repeat(MANY))]);
    assert!(found.errors >= 1 && found.findings.len() <= 200, "{}", found.errors);
    assert_eq!(found.findings[0].line, Some(1));
    // Most of it is the time of a build that is not optimised.
    assert!(since.elapsed().as_secs() < 60, "{:?}", since.elapsed());
}

#[test]
fn yaml_is_told_in_one_line() {
    let yaml = "vips:\n  - address: 10.200.1.1\n    port: 80\n";
    for name in ["lb.yaml", "lb.YML"] {
        let found = lines(&[(name, yaml)]);
        assert_eq!(found.len(), 1, "{found:#?}");
        assert!(
            found[0].starts_with(&format!("{name}: error: is YAML by its name, which")),
            "{found:#?}"
        );
        let error = Sources::one(Source::of_file(Path::new(name), yaml)).read().expect_err("YAML");
        assert!(error.to_string().contains("write it in TOML, or as JSON"), "{error}");
    }
    // Also an included one; and the name alone is no fault.
    let found = lines(&[("lb.toml", GOOD), ("vips/a.yaml", yaml)]);
    assert!(found.len() == 1 && found[0].starts_with("vips/a.yaml: error: "), "{found:#?}");
    assert!(lines(&[("lb.yaml", GOOD)]).is_empty());
}

#[test]
fn ip_in_ip_beside_gue_has_one_source() {
    let mixed = |source: &str, second: &str| {
        format!(
            "[[interfaces]]\nname = \"eth0\"\n[packets]\nencap_source_v4 = \"{source}\"\n[[vips]]\naddress = \
             \"10.200.1.1\"\nport = 80\nprotocol = \"tcp\"\nencapsulation = \"gue\"\nreals = [{{ address = \
             \"10.0.0.1\" }}, {{ address = \"10.0.0.2\", encapsulation = \"{second}\" }}]\n"
        )
    };
    let place = "lb.toml:4:1: warning: packets.encap_source_v4: IP in IP leaves from this address";
    assert_found(&mixed("192.0.2.7", "ipip"), &[place]);
    assert_found(&mixed("192.0.2.7", "gue"), &[]);
}
