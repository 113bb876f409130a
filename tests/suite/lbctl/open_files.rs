//! Commands under a low limit of open files: each says how many it lacks, and leaves nothing half done.

use crate::fixtures::Host;
use crate::fixtures::Output;
use crate::fixtures::config_file;
use crate::fixtures::path_of;
use crate::fixtures::vip;

/// `lbctl` on the host, with this limit of open files.
fn run(host: &Host, files: u32, arguments: &[&str]) -> Output {
    let output = host
        .ns
        .command("prlimit")
        .arg(format!("--nofile={files}"))
        .arg(env!("CARGO_BIN_EXE_lbctl"))
        .args(["--bpffs", host.bpffs.text()])
        .args(arguments)
        .output()
        .expect("run prlimit, of util-linux");
    Output {
        status: output.status,
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stdout_bytes: output.stdout,
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

#[test]
fn few_open_files() {
    let host = Host::new();
    let file = config_file(&Host::config(&vip("tcp://10.200.1.1:80", &["10.0.0.1"])));
    let path = path_of(&file);
    let refused = |files: u32, arguments: &[&str]| {
        let output = run(&host, files, arguments);
        assert_eq!(output.code(), Some(1), "{files}: {output}");
        let limit = format!("the process may have only {files} open files (RLIMIT_NOFILE)");
        assert!(output.stderr.contains(&limit), "{files}: {output}");
        assert_eq!(output.stderr.lines().count(), 1, "{files}: {output}");
    };
    // Below, the dynamic linker finds no library.
    for files in (6..64).chain([100, 255, 511]) {
        refused(files, &["apply", "-f", path]);
        assert!(!host.has_pins("default"), "{files}");
    }
    let output = run(&host, 512, &["apply", "-f", path]);
    assert_eq!(output.code(), Some(0), "{output}");
    for files in [6, 7, 12, 24, 48, 200] {
        for command in [
            &["status"][..],
            &["plan", "-f", path],
            &["serve", "-f", path],
            &["doctor"],
            &["dump"],
            &["chain", "list"],
        ] {
            refused(files, command);
        }
    }
    assert!(host.lbctl().ok(&["plan", "-f", path]).stdout.contains("nothing to change"));
    let output = run(&host, 64, &["down"]);
    assert_eq!(output.code(), Some(0), "{output}");
    assert!(!host.has_pins("default"), "forwarding can always be ended");
}
