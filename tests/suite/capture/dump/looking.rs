//! Read-only commands beside a capture that was killed.

use std::time::Duration;

use nix::sys::signal::Signal;

use super::dump;
use super::ends::nothing_left;
use super::rig;
use super::vips;
use crate::fixtures::config;
use crate::fixtures::config_file;
use crate::fixtures::lock;
use crate::fixtures::path_of;

/// None of them waits for a command that holds the lock, such as a long apply. Those that promise to change nothing
/// do not even remove what the capture left.
#[test]
fn read_only_commands_neither_wait_nor_change_anything() {
    let rig = rig();
    let capture = dump(&rig, &["--at", "both"]);
    capture.signal(Signal::SIGKILL);
    capture.wait(Duration::from_secs(5));
    let instance = rig.bpffs.path().join("l4lb/default");
    let left = || {
        let folders = std::fs::read_dir(instance.join("captures")).map_or(0, Iterator::count);
        (folders, instance.join("prog/capture").exists())
    };
    assert_eq!(left(), (1, true));
    let file = config_file(&config(&vips()));
    let file = path_of(&file);
    let only_look = [
        &["plan", "-f", file][..],
        &["trace", "tcp", "192.0.2.1:1024", "10.200.1.1:80"],
        &["doctor"],
    ];
    let read = [&["status"][..], &["stats"], &["chain", "list"], &["flows", "list"]];

    let writer = lock(&instance);
    for arguments in only_look.iter().chain(&read) {
        let output = rig.lbctl().spawn(arguments).wait(Duration::from_secs(20));
        assert!(output.code().is_some(), "{arguments:?}: {output}");
        assert_eq!(left(), (1, true), "{arguments:?}");
    }
    drop(writer);
    for arguments in only_look {
        rig.lbctl().run(arguments);
        assert_eq!(left(), (1, true), "{arguments:?}");
    }
    rig.lbctl().ok(&["stats"]);
    nothing_left(&rig);
}
