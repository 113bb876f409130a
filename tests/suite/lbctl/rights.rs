//! What each command needs: docs/install.md has the table, and each command is run with exactly that.

use crate::fixtures::Host;
use crate::fixtures::by_way_of;

/// Commands that need no rights. They read files, or print.
const NOTHING: [&[&str]; 4] =
    [&["check", "-f", "lb.toml"], &["check", "--schema"], &["version"], &["completions", "bash"]];

/// Commands that need both capabilities, in an order in which they work.
const BOTH: [&[&str]; 16] = [
    &["plan", "-f", "lb.toml"],
    &["apply", "-f", "lb.toml"],
    &["status"],
    &["stats"],
    &["save"],
    &["vip", "list"],
    &["real", "list"],
    &["flows", "count"],
    &["chain", "list"],
    &["doctor"],
    &["trace", "tcp", "192.0.2.1:31337", "10.200.1.1:80"],
    &["node", "drain", "--no-wait"],
    &["decap", "attach", "uplink", "--from", "172.16.0.0/16"],
    &["decap", "status"],
    &["decap", "detach", "uplink"],
    &["down"],
];

/// Whether a text is about rights: those of the library, or the kernel's EPERM and EACCES.
fn is_about_rights(text: &str) -> bool {
    ["without CAP_", "not permitted", "ermission denied"].iter().any(|words| text.contains(words))
}

#[test]
fn each_command_runs_with_exactly_what_the_page_says() {
    let page = include_str!("../../../docs/install.md");
    let row = |needs: &str| {
        let row = page.lines().find(|line| line.starts_with(&format!("| {needs} |")));
        row.unwrap_or_else(|| panic!("no row about {needs}")).to_owned()
    };
    let host = Host::new();
    let run = |sets: &str, command: &[&str]| {
        let bounded = format!("--bounding-set=-all{sets}");
        by_way_of(&host, &["setpriv", &bounded], host.bpffs.text(), command)
    };
    let nothing = row("nothing");
    for command in NOTHING {
        let output = run("", command);
        assert_eq!(output.code(), Some(0), "{command:?}: {output}");
        assert!(nothing.contains(command[0]), "{command:?} is missing in {nothing}");
    }
    let both = row("`CAP_NET_ADMIN` and `CAP_SYS_ADMIN`");
    for command in BOTH {
        for less in [",+net_admin,+bpf,+perfmon", ",+sys_admin"] {
            let output = run(less, command);
            if command == ["doctor"] {
                assert!(is_about_rights(&output.stdout), "it says what it left out: {output}");
                continue;
            }
            assert!(output.code() != Some(0), "{command:?} with {less}: {output}");
            // Commands that only read ask lbctl serve, and there is none.
            let text = &output.stderr;
            assert!(is_about_rights(text) || text.contains("--socket"), "{command:?}: {output}");
        }
        let output = run(",+net_admin,+sys_admin", command);
        assert!(!is_about_rights(&output.stderr), "{command:?}: {output}");
        assert!(both.contains(&format!("`{}", command[0])), "{command:?} is missing in {both}");
    }
}
