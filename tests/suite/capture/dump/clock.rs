//! Times of packets while somebody sets the clock. The test changes the clock that `lbctl` reads, not the machine's.

use std::fs::File;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use std::time::SystemTime;

use super::elsewhere;
use super::packets;
use super::rig;
use super::send;
use super::word;
use crate::fixtures::wait_until;

/// In front of the C library's: the wall clock is a thousand seconds behind, and two thousand ahead as soon as
/// a file is there.
const CLOCK: &str = r#"
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *time)
{
	int done = syscall(SYS_clock_gettime, clock, time);

	if (!done && clock == CLOCK_REALTIME)
		time->tv_sec += access(getenv("CLOCK_IS_SET"), F_OK) ? -1000 : 2000;
	return done;
}
"#;

#[track_caller]
fn library(folder: &Path) -> PathBuf {
    let (source, library) = (folder.join("clock.c"), folder.join("clock.so"));
    std::fs::write(&source, CLOCK).expect("write the source");
    let status = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .args([&library, &source])
        .status()
        .unwrap_or_else(|error| panic!("cc, of the package gcc: {error}"));
    assert!(status.success(), "cc: {status}");
    library
}

#[test]
fn the_wall_clock_is_set() {
    let rig = rig();
    let folder = tempfile::tempdir().expect("make a folder");
    let library = library(folder.path());
    let is_set = folder.path().join("set");
    let printable = |path: &Path| path.to_str().expect("printable").to_owned();
    let lbctl = rig.lbctl().env("LD_PRELOAD", &printable(&library));
    let lbctl = lbctl.env("CLOCK_IS_SET", &printable(&is_set));
    let file = folder.path().join("packets.pcapng");
    let mut capture = lbctl.spawn(&["dump", "-w", &printable(&file), "udp"]);
    capture.wait_for("capturing");
    let times = || -> Vec<i128> {
        let bytes = std::fs::read(&file).expect("read the file");
        packets(&bytes)
            .into_iter()
            .map(|packet| i128::from(word(packet, 12)) << 32 | i128::from(word(packet, 16)))
            .collect()
    };
    let now = || {
        let now = SystemTime::UNIX_EPOCH.elapsed().expect("it is later");
        i128::try_from(now.as_nanos()).expect("no time soon")
    };

    send(&rig, &elsewhere(7), 1);
    assert!(wait_until(Duration::from_secs(5), || times().len() == 1), "{}", capture.stderr());
    let behind = now() - times()[0];
    File::create(&is_set).expect("make a file");
    // Within a second or so.
    let followed = wait_until(Duration::from_secs(10), || {
        send(&rig, &elsewhere(7), 1);
        times().last().is_some_and(|time| *time > now())
    });
    let ahead = times().last().map_or(0, |time| *time - now());
    capture.stop();
    let second = 1_000_000_000;
    assert!((990..1010).contains(&(behind / second)), "{behind} ns behind");
    assert!(followed && (1990..2010).contains(&(ahead / second)), "{ahead} ns ahead");
}
