//! What `lbctl dump` prints and writes, compared with what tcpdump and tshark say of the same packets.

mod gue;
mod lines;
mod live;
mod pcapng;
mod segments;

use std::fs::File;
use std::io;
use std::io::Seek as _;
use std::io::Write as _;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::SystemTime;

use l4lb::capture::CapturePoint;
use l4lb::capture::Decision;
use l4lb::capture::Packet;
use l4lb::capture::Sink as _;
use l4lb::capture::pcapng::PcapngOptions;
use l4lb::capture::pcapng::PcapngWriter;

/// Ends the test because a reader could not be started.
#[track_caller]
fn missing(program: &str, error: &io::Error) -> ! {
    let package = if program == "capinfos" { "wireshark-common" } else { program };
    panic!("{program}, of the package {package}, which 'make setup' installs: {error}");
}

/// A packet that came in by eth0, `number` seconds and as many nanoseconds after a quarter past three in the night.
fn packet(number: u32, frame: &[u8]) -> Packet {
    Packet {
        time: SystemTime::UNIX_EPOCH
            + Duration::from_secs(1_800_000_900)
            + Duration::new(number.into(), number),
        at: CapturePoint::Entry,
        interface: "eth0".to_owned(),
        ifindex: 2,
        queue: 0,
        cpu: 0,
        length: u32::try_from(frame.len()).expect("frames are shorter"),
        data: frame.to_vec(),
        decision: None,
    }
}

/// One of `packet`'s reasons, with a VIP and a real as far as there can be some.
fn decision(reason: &str, vip: Option<&str>, real: Option<&str>) -> Decision {
    Decision {
        reason: l4lb::reasons().iter().find(|known| known.name == reason).expect("a reason"),
        vip: vip.map(|vip| vip.parse().expect("a VIP")),
        real: real.map(|real| real.parse().expect("an address")),
    }
}

/// The packets as a file.
fn written(packets: &[Packet]) -> Vec<u8> {
    let mut file = PcapngWriter::new(Vec::new(), &PcapngOptions::default()).expect("the header");
    for packet in packets {
        file.packet(packet).expect("memory takes it");
    }
    file.finish(&[]).expect("memory takes it");
    file.into_inner()
}

/// What a reader of the file on its standard input prints, without what it says on standard error.
#[track_caller]
fn read_by(program: &str, arguments: &[&str], file: &[u8]) -> String {
    let mut input = tempfile();
    input.write_all(file).and_then(|()| input.rewind()).expect("a temporary file");
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::from(input))
        .output()
        .unwrap_or_else(|error| missing(program, &error));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[track_caller]
fn tempfile() -> File {
    tempfile::tempfile().expect("a temporary file")
}
