//! Programs and slots that the chain refuses: one line says why and what to do, and nothing changes.

use crate::fixtures::Host;
use crate::fixtures::Output;
use crate::fixtures::UPLINK;
use crate::fixtures::chain_programs::Built;
use crate::fixtures::json;
use crate::fixtures::path_of;

#[track_caller]
fn refused(output: &Output, words: &[&str]) {
    assert_eq!((output.code(), output.stdout.as_str()), (Some(1), ""), "{output}");
    assert_eq!(output.stderr.lines().count(), 1, "{output}");
    for word in words {
        assert!(output.stderr.contains(word), "'{word}' is not in {output}");
    }
}

#[test]
fn objects_and_slots() {
    let host = Host::new();
    let lbctl = host.lbctl();
    let run = |arguments: &[&str]| lbctl.run(&[&["chain"], arguments].concat());
    let good = Built::tracer("good", &[]);
    let good = good.text();
    let frags = Built::tracer("frags", &["-DSECTION=\"xdp.frags\""]);
    let tc = Built::tracer("tc", &["-DSECTION=\"tc\""]);
    let two = Built::tracer("two", &["-DTWO"]);
    let foreign = Built::tracer("foreign", &["-DFOREIGN"]);
    let larger = Built::tracer("good", &["-DENTRIES=2"]);
    let files = tempfile::TempDir::with_prefix("objects-").expect("a folder");
    let folder = path_of(&files);
    let [pipe, exactly, large] =
        ["pipe", "exactly", "large"].map(|name| format!("{folder}/{name}"));
    nix::unistd::mkfifo(&*pipe, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    for (path, size) in [(&exactly, 4 << 20), (&large, (4 << 20) + 1)] {
        std::fs::write(path, vec![0; size]).expect("write a file");
    }
    let on = ["--interface", UPLINK];
    let insert = |slot: &str, path: &str, more: &[&str]| {
        run(&[&["insert", slot, path], &on[..], more].concat())
    };
    for (path, more, words) in [
        (
            frags.text(),
            &[][..],
            &["'tracer' is SEC(\"xdp.frags\")", "build it as SEC(\"xdp\")"][..],
        ),
        (tc.text(), &[], &["no program of SEC(\"xdp\")"]),
        (two.text(), &[], &["several programs (tracer, another)", "--program"]),
        (two.text(), &["--program", "third"], &["no program 'third'"]),
        (foreign.text(), &[], &["no variable 'l4lb_slot'", "l4lb/chain.h"]),
        ("/proc/self/status".to_owned(), &[], &["no BPF object"]),
        ("/dev/zero".to_owned(), &[], &["/dev/zero: it is no regular file"]),
        (folder.to_owned(), &[], &["it is no regular file"]),
        (pipe, &[], &["it is no regular file"]),
        (exactly, &[], &["no BPF object"]),
        (large, &[], &["it is larger than 4 MiB"]),
        ("/nowhere/x.bpf.o".to_owned(), &[], &["cannot read /nowhere/x.bpf.o: No such file"]),
        (good.clone(), &["--name", "balancer"], &["'balancer' is the name of a program of l4lb"]),
        (good.clone(), &["--name", "7"], &["'7' is no name", "a letter first"]),
        (good.clone(), &["--name", "a.b"], &["'a.b' is no name"]),
    ] {
        refused(&insert("4", &path, more), words);
        assert!(!host.has_pins("default") && !host.has_xdp(UPLINK), "{words:?}");
    }
    refused(&run(&["insert", "4", &good]), &["'default' is on no interface", "--interface"]);
    refused(&insert("0", &good, &[]), &["slot 0 is not for programs: they go into slots 1 to 15"]);
    refused(&insert("16", &good, &[]), &["slot 16 is not for programs"]);
    refused(&run(&["remove", "good"]), &["no program 'good'", "lbctl chain list"]);
    assert!(!host.has_pins("default"));

    lbctl.ok(&["chain", "insert", "4", &good, "--interface", UPLINK]);
    lbctl.ok(&["chain", "insert", "5", &two.text(), "--program", "another"]);
    let before = json(&lbctl.ok(&["chain", "list", "--json"]));
    for (arguments, words) in [
        (&["insert", "5", &good, "--name", "x"][..], &["slot 5 of the chain holds 'two'"][..]),
        (&["insert", "6", &good], &["'good' is in slot 4 already", "lbctl chain move good SLOT"]),
        (
            &["insert", "4", &larger.text()],
            &["map 'seen' of 'good' is defined otherwise", "remove"],
        ),
        (&["insert", "4", &frags.text(), "--name", "good"], &["xdp.frags"]),
        (&["move", "4", "5"], &["slot 5 of the chain holds 'two'"]),
        (&["move", "good", "0"], &["slot 0 is not for programs"]),
        (&["move", "9", "10"], &["no program in slot 9"]),
    ] {
        refused(&run(arguments), words);
        assert_eq!(json(&lbctl.ok(&["chain", "list", "--json"])), before, "{arguments:?}");
    }
    refused(&lbctl.run(&["decap", "status"]), &["does not decapsulate"]);
    lbctl.ok(&["decap", "attach", UPLINK]);
    refused(&run(&["remove", "decap"]), &["'lbctl decap detach' takes it out"]);

    // What our own programs need is said before anything changes.
    lbctl.ok(&["chain", "move", "good", "8"]);
    let file = crate::fixtures::config_file(&Host::config(""));
    let path = path_of(&file);
    for command in ["plan", "apply"] {
        let output = lbctl.run(&[command, "-f", path]);
        refused(&output, &["slot 8 of the chain holds 'good'", "lbctl chain move good SLOT"]);
    }
    assert!(!host.bpffs.path().join("l4lb/default/map/vips").exists());
    // What the refusal said is enough to fix it.
    lbctl.ok(&["chain", "move", "good", "7"]);
    lbctl.ok(&["apply", "-f", path]);
}
