//! The owner of the folders of pins. In a bpf filesystem that everybody may write to, no other user can lock, make or
//! move them, and `lbctl` trusts no folder that another user could have changed.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use crate::fixtures::Bpffs;
use crate::fixtures::Host;
use crate::fixtures::NOBODY;
use crate::fixtures::Output;
use crate::fixtures::by_way_of;
use crate::fixtures::config_file;
use crate::fixtures::json;
use crate::fixtures::path_of;
use crate::fixtures::vip;

/// A host whose bpf filesystem has this mode.
fn host(mode: &str) -> Host {
    Host { bpffs: Bpffs::in_mode(mode), ..Host::new() }
}

/// Whether a script of somebody who is not root succeeds, in the folder where the bpf filesystem is.
#[track_caller]
fn nobody(host: &Host, script: &str) -> bool {
    let mut shell = Command::new(NOBODY[0]);
    let shell = shell.args(&NOBODY[1..]).args(["sh", "-euc", script]);
    let output = shell.current_dir(host.bpffs.path()).output().expect("run a shell");
    output.status.success()
}

/// Everything below a folder, and its modes, but for pins.
fn folders(path: &Path) -> Vec<(String, u32)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(path).expect("list a folder").flatten() {
        let about = entry.metadata().expect("look at an entry");
        if about.is_dir() {
            found.push((entry.path().display().to_string(), about.mode() & 0o7777));
            found.extend(folders(&entry.path()));
        }
    }
    found
}

#[track_caller]
fn all_closed(host: &Host, when: &str) {
    let l4lb = host.bpffs.path().join("l4lb");
    let mut found = folders(&l4lb);
    found.push(("l4lb".to_owned(), fs::metadata(l4lb).expect("it is there").mode() & 0o7777));
    assert!(found.len() >= 6, "{found:?}");
    let open: Vec<_> = found.iter().filter(|(_, mode)| *mode != 0o700).collect();
    assert!(open.is_empty(), "{when}: {open:?}");
}

/// One command for each entry into the library, read-only ones among them.
fn commands(file: &str) -> Vec<Vec<&str>> {
    [
        &["apply", "-f", file][..],
        &["plan", "-f", file],
        &["serve", "-f", file],
        &["status"],
        &["save"],
        &["stats"],
        &["top", "--json"],
        &["vip", "list"],
        &["vip", "add", "tcp://10.200.1.9:80"],
        &["real", "list"],
        &["flows", "list"],
        &["flows", "delete", "--all"],
        &["trace", "tcp", "192.0.2.1:1024", "10.200.1.1:80"],
        &["chain", "list"],
        &["chain", "remove", "1"],
        &["chain", "move", "1", "2"],
        &["decap", "attach", "uplink"],
        &["decap", "detach"],
        &["decap", "status"],
        &["dump"],
        &["doctor"],
        &["down"],
    ]
    .map(<[_]>::to_vec)
    .into()
}

/// Every command refuses with the same words and does nothing.
#[track_caller]
fn all_refuse(host: &Host, words: &[&str]) {
    let file = config_file(&Host::config(&vip("tcp://10.200.1.1:80", &["10.0.0.1"])));
    let file = path_of(&file);
    let before = folders(host.bpffs.path());
    for command in commands(file) {
        let output: Output = host.lbctl().run(&command);
        // What doctor finds is what it was asked for.
        let told = if command[0] == "doctor" { &output.stdout } else { &output.stderr };
        let refused = output.code() == Some(1) && words.iter().all(|word| told.contains(word));
        // It has no JSON, which it says first.
        assert!(refused || command[0] == "top", "{command:?}: {words:?} expected, not {output}");
    }
    assert_eq!(folders(host.bpffs.path()), before, "nothing is made or removed");
}

#[test]
fn folders_are_roots_alone_whatever_the_umask() {
    for umask in ["000", "022", "077", "777"] {
        let host = host("1777");
        let script = format!("umask {umask}; exec \"$@\"");
        let apply = ["apply", "-f", "lb.toml"];
        let output = by_way_of(&host, &["sh", "-c", &script, "sh"], host.bpffs.text(), &apply);
        assert_eq!(output.code(), Some(0), "umask {umask}: {output}");
        all_closed(&host, umask);
        for script in [
            "ls l4lb",
            "flock --nonblock l4lb true",
            "flock --nonblock l4lb/default true",
            "mv l4lb elsewhere",
            "mv l4lb/default l4lb/other",
            "mkdir l4lb/other",
            "mkdir l4lb/default/captures",
            "rmdir l4lb/default/object",
        ] {
            assert!(!nobody(&host, script), "umask {umask}: {script}");
        }
        assert!(nobody(&host, "mkdir mine; flock --nonblock mine true; rmdir mine"));
        let dump = by_way_of(
            &host,
            &["sh", "-c", &format!("umask {umask}; exec timeout -s INT 2 \"$@\""), "sh"],
            host.bpffs.text(),
            &["dump"],
        );
        assert!(dump.stderr.contains("capturing at entry"), "{dump}");
        host.lbctl().ok(&["down"]);
    }
}

#[test]
fn folders_that_others_made_first_are_not_trusted() {
    let host = host("1777");
    let path = host.bpffs.path().join("l4lb");
    let shown = path.display().to_string();
    for script in ["mkdir l4lb", "mkdir -m 777 l4lb", "mkdir -p l4lb/default/map l4lb/default/prog"]
    {
        assert!(nobody(&host, script), "{script}");
        let remedy = format!("rm -r {shown}");
        all_refuse(&host, &[&shown, "belongs to user 65534", &remedy, "chmod 0700"]);
        fs::remove_dir_all(&path).expect("what it says to do");
    }
    assert!(nobody(&host, "mkdir -p mine/default; ln -s mine l4lb"));
    all_refuse(&host, &[&shown, "is no folder", &format!("rm {shown}")]);
    fs::remove_file(&path).expect("what it says to do");
    host.lbctl().apply(&Host::config(""));
    all_closed(&host, "after a link");
}

/// Files that others made while the folder was writable for everybody are found at any depth, also after it was closed.
#[test]
fn what_others_left_inside_is_not_trusted() {
    let host = host("1777");
    host.lbctl().apply(&Host::config(""));
    let instance = host.bpffs.path().join("l4lb/default");
    let in_instance = |script: &str| {
        let opened = "chmod 777 l4lb l4lb/default l4lb/default/*";
        let closed = "chmod 700 l4lb l4lb/default l4lb/default/*";
        let at = host.bpffs.path().display().to_string();
        host.ns.shell(&format!("cd {at}; {opened}"));
        assert!(nobody(&host, script), "{script}");
        host.ns.shell(&format!("cd {at}; {closed} || true"));
    };
    for (make, remove) in [
        ("mkdir l4lb/default/captures", "captures"),
        ("mkdir l4lb/default/map/folder", "map/folder"),
        ("ln -s /etc l4lb/default/object/link", "object/link"),
    ] {
        in_instance(make);
        let shown = instance.join(remove).display().to_string();
        all_refuse(&host, &[&shown, "belongs to user 65534"]);
        host.ns.shell(&format!("rm -r {shown}"));
        host.lbctl().ok(&["status"]);
    }
}

/// Earlier versions made folders that others can read and lock.
#[test]
fn folders_of_earlier_versions_are_closed_by_the_next_change() {
    let host = host("0755");
    host.lbctl().apply(&Host::config(""));
    let parent = host.bpffs.path().join("l4lb");
    let set = |mode: &str| host.ns.shell(&format!("chmod -R {mode} {}", parent.display()));
    for change in [&["vip", "add", "tcp://10.200.1.1:80"][..], &["decap", "attach", "uplink"]] {
        set("u=rwx,go=rx");
        assert!(nobody(&host, "flock --nonblock l4lb/default true"));
        host.lbctl().ok(&["status"]);
        assert!(
            folders(&parent).iter().all(|(_, mode)| *mode == 0o755),
            "who looks changes nothing"
        );
        let report = json(&host.lbctl().run(&["doctor", "--json"]));
        let findings = report["findings"].as_array().expect("a list");
        let finding = findings.iter().find(|finding| finding["id"] == "exposed-pins");
        let fix = finding.expect("it is found")["fix"]["command"].as_str().expect("a command");
        host.lbctl().ok(change);
        all_closed(&host, "after a change");
        assert!(!nobody(&host, "flock --nonblock l4lb/default true"));
        set("u=rwx,go=rx");
        host.ns.shell(fix);
        all_closed(&host, "after what doctor says");
        assert!(!host.lbctl().run(&["doctor"]).stdout.contains("warning exposed-pins"));
    }
    for mode in ["770", "702", "1777"] {
        host.ns.shell(&format!("chmod {mode} {}", parent.display()));
        let shown = parent.display().to_string();
        all_refuse(&host, &[&shown, "can be written to by others", &format!("chmod 0700 {shown}")]);
        host.ns.shell(&format!("chmod 0700 {shown}"));
    }
    host.lbctl().ok(&["status"]);
}

#[test]
fn a_bpf_filesystem_in_which_others_rename_is_refused() {
    let host = host("0700");
    let mount = host.bpffs.text().to_owned();
    // The kernel mounts it with the sticky bit, whatever mode is asked for.
    host.ns.shell(&format!("chmod 0777 {mount}"));
    let remedy = format!("chmod 0700 {mount}");
    all_refuse(&host, &["without the sticky bit", &remedy]);
    let report = json(&host.lbctl().exits(1, &["doctor", "--json"]));
    assert!(report["findings"].to_string().contains("exposed-pins"), "{report}");
    host.ns.shell(&remedy);
    host.lbctl().apply(&Host::config(""));
    host.ns.shell(&format!("chown 65534 {mount}"));
    all_refuse(&host, &[&mount, "belongs to user 65534", "chown root"]);
}

/// Doctor warns before another user has made a folder.
#[test]
fn doctor_finds_a_bpf_filesystem_that_is_everybodys() {
    let host = host("1777");
    let file = config_file(&Host::config(""));
    let file = path_of(&file);
    let output = host.lbctl().run(&["doctor", "-f", file]);
    assert!(
        output.stdout.contains("warning exposed-pins: host: users other than root can make"),
        "{output}"
    );
    host.ns.shell(&format!("chmod 0700 {}", host.bpffs.text()));
    let output = host.lbctl().run(&["doctor", "-f", file]);
    assert!(!output.stdout.contains("warning exposed-pins"), "{output}");
}
