//! Files, as tshark and tcpdump read them.

use std::fs;
use std::io;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::thread;

use l4lb::Verdict;
use l4lb::capture::CapturePoint;
use l4lb::capture::Packet;
use l4lb::capture::Sink as _;
use l4lb::capture::pcapng::PcapngFile;
use l4lb::capture::pcapng::PcapngOptions;
use l4lb::capture::pcapng::PcapngWriter;
use l4lb::capture::pcapng::PointCounts;
use nix::mount::MsFlags;
use nix::mount::mount;
use nix::sched::CloneFlags;
use nix::sched::unshare;

use super::decision;
use super::missing;
use super::packet;
use super::read_by;
use super::segments::CLIENT;
use super::segments::VIP;
use super::written;
use crate::fixtures::frame::eth;

fn frame() -> Vec<u8> {
    eth().ip4(CLIENT, VIP).udp(31337, 4433).data(&[0; 58]).bytes()
}

/// tshark's answer for these fields, a line for each packet, separated by bars.
#[track_caller]
fn fields(file: &[u8], fields: &[&str]) -> Vec<String> {
    let mut arguments = vec!["-r", "-", "-T", "fields", "-E", "separator=|"];
    for field in fields {
        arguments.extend(["-e", field]);
    }
    read_by("tshark", &arguments, file).lines().map(str::to_owned).collect()
}

#[test]
fn tshark_reads_interface_time_queue_and_direction() {
    let entry = Packet { queue: 5, cpu: 3, ..packet(1, &frame()) };
    let exit = Packet {
        at: CapturePoint::Exit,
        decision: Some(decision("ring", Some("udp://10.200.1.1:4433"), Some("10.0.0.1"))),
        ..entry.clone()
    };
    let names =
        ["frame.time_epoch", "frame.interface_name", "frame.interface_queue", "frame.comment"];
    let more =
        ["frame.packet_flags_direction", "frame.verdict.ebpf_xdp", "frame.len", "udp.dstport"];
    assert_eq!(
        fields(&written(&[entry, exit]), &[&names[..], &more[..]].concat()),
        [
            "1800000901.000000001|eth0@entry|5|at=entry cpu=3|0x00000001||100|4433",
            "1800000901.000000001|eth0@exit|5|verdict=tx reason=ring vip=udp://10.200.1.1:4433 real=10.0.0.1 at=exit cpu=3\
             |0x00000002|3|100|4433",
        ]
    );
}

#[test]
fn tshark_reads_every_reason() {
    let packets: Vec<Packet> = (0..)
        .zip(l4lb::reasons())
        .map(|(number, reason)| {
            let vip = (reason.name != "not_vip").then_some("tcp://[fc00:1::1]:*");
            let real = (reason.verdict == Verdict::Tx).then_some("fc00:2::1");
            let decision = Some(decision(reason.name, vip, real));
            Packet { at: CapturePoint::Exit, decision, ..packet(number, &frame()) }
        })
        .collect();
    let expected: Vec<String> = l4lb::reasons()
        .iter()
        .map(|reason| {
            let vip = if reason.name == "not_vip" { "" } else { "vip=tcp://[fc00:1::1]:* " };
            let real = if reason.verdict == Verdict::Tx { "real=fc00:2::1 " } else { "" };
            format!("verdict={} reason={} {vip}{real}at=exit cpu=0", reason.verdict, reason.name)
        })
        .collect();
    assert_eq!(fields(&written(&packets), &["frame.comment"]), expected);
}

#[test]
fn tshark_tells_many_interfaces_apart() {
    let packets: Vec<Packet> = (0..400)
        .map(|number| Packet {
            interface: format!("veth{}", number % 100),
            ifindex: number % 100 + 1,
            at: if number % 200 < 100 { CapturePoint::Entry } else { CapturePoint::Exit },
            ..packet(number, &frame())
        })
        .collect();
    let expected: Vec<String> = (0..400)
        .map(|number| {
            format!("veth{}@{}", number % 100, if number % 200 < 100 { "entry" } else { "exit" })
        })
        .collect();
    assert_eq!(fields(&written(&packets), &["frame.interface_name"]), expected);
}

/// Both say how long the frame was, and what there is of it.
#[test]
fn tshark_and_tcpdump_read_cut_packets() {
    let mut packet = packet(1, &frame());
    packet.data.truncate(64);
    let options = PcapngOptions { snaplen: 64, filter: Some("udp port 4433".to_owned()) };
    let mut file = PcapngWriter::new(Vec::new(), &options).expect("memory takes it");
    file.packet(&packet).expect("memory takes it");
    let counts = PointCounts { ifindex: packet.ifindex, at: packet.at, matched: 5, dropped: 4 };
    file.finish(&[counts]).expect("memory takes it");
    let file = file.into_inner();
    assert_eq!(fields(&file, &["frame.len", "frame.cap_len", "udp.length"]), ["100|64|66"]);
    let line = read_by("tcpdump", &["-n", "-e", "-t", "-r", "-"], &file);
    assert_eq!(
        line,
        "02:00:00:00:00:01 > 02:00:00:00:00:02, ethertype IPv4 (0x0800), length 100: \
         192.0.2.1.31337 > 10.200.1.1.4433: UDP, length 58\n"
    );
    let directory = tempfile::tempdir().expect("a temporary folder");
    let path = directory.path().join("file.pcapng");
    fs::write(&path, &file).expect("the file");
    let output = Command::new("capinfos").arg(&path).output();
    let output = output.unwrap_or_else(|error| missing("capinfos", &error));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    for line in [
        "Name = eth0@entry",
        "Filter string = udp port 4433",
        "Time precision = nanoseconds (9)",
        "Number of stat entries = 1",
        concat!("Capture application: l4lb ", env!("CARGO_PKG_VERSION")),
    ] {
        let line: Vec<&str> = line.split_whitespace().collect();
        let found = said.lines().any(|said| said.split_whitespace().collect::<Vec<_>>() == line);
        assert!(found, "{line:?} is missing:\n{said}");
    }
}

/// Runs `test` in a thread that has a file system of this many bytes, which nobody else sees.
#[track_caller]
fn with_small_disk(bytes: usize, test: impl FnOnce(&Path) + Send) {
    let directory = tempfile::tempdir().expect("a temporary folder");
    let path = directory.path();
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let nothing: Option<&str> = None;
            unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace: the tests need root");
            mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing)
                .expect("mounts of its own");
            let size = format!("size={bytes}");
            mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::empty(), Some(size.as_str()))
                .expect("a tmpfs");
            test(path);
        });
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

#[test]
fn a_full_disk_leaves_whole_packets() {
    const DISK: usize = 1 << 20;
    with_small_disk(DISK, |disk| {
        let path = disk.join("full.pcapng");
        let mut file =
            PcapngFile::create(&path, &PcapngOptions::default()).expect("room for a header");
        let long = eth().ip4(CLIENT, VIP).udp(31337, 4433).filled_to(1513).bytes();
        let error =
            (0..).find_map(|number| file.packet(&packet(number, &long)).err()).expect("an end");
        assert_eq!(error.kind(), io::ErrorKind::StorageFull, "{error}");
        assert!(file.finish(&[]).is_err(), "statistics behind what is missing");
        drop(file);

        let written = fs::read(&path).expect("the file");
        let block = 12 + 20 + long.len().next_multiple_of(4) + 60;
        assert!(written.len() > DISK - 2 * block, "{} of {DISK} bytes are used", written.len());
        let numbers = fields(&written, &["frame.number"]);
        assert!(numbers.len() > DISK / (block + 20), "{} packets", numbers.len());
        let times = fields(&written, &["frame.time_epoch", "frame.cap_len"]);
        let (seconds, nanoseconds) = (1_800_000_900 + times.len() - 1, times.len() - 1);
        assert_eq!(times.last(), Some(&format!("{seconds}.{nanoseconds:09}|1513")));
    });
}

/// No room for what was gathered when it ends, either.
#[test]
fn a_disk_that_is_full_at_the_end_leaves_whole_packets() {
    const DISK: usize = 64 << 10;
    with_small_disk(DISK, |disk| {
        let path = disk.join("full.pcapng");
        let mut file =
            PcapngFile::create(&path, &PcapngOptions::default()).expect("room for a header");
        for number in 0..1000 {
            file.packet(&packet(number, &frame())).expect("the buffer takes it");
        }
        let error = file.finish(&[]).expect_err("no room");
        assert_eq!(error.kind(), io::ErrorKind::StorageFull, "{error}");
        let written = fs::read(&path).expect("the file");
        assert!(written.len() > DISK - 300, "{} of {DISK} bytes are used", written.len());
        let packets = fields(&written, &["frame.cap_len"]);
        assert!(packets.len() > 300 && packets.iter().all(|length| length == "100"), "{packets:?}");
    });
}

#[test]
fn a_disk_that_is_full_before_the_header_is_reported_at_once() {
    with_small_disk(4096, |disk| {
        fs::File::create(disk.join("other"))
            .and_then(|mut file| file.write_all(&[0; 4096]))
            .expect("a page");
        let error = PcapngFile::create(&disk.join("full.pcapng"), &PcapngOptions::default())
            .expect_err("no room");
        assert_eq!(error.kind(), io::ErrorKind::StorageFull, "{error}");
    });
}
