//! tcpdump, tshark and `lbctl` read captures from a pipe and show packets as they come.

use std::io;
use std::io::BufRead as _;
use std::io::BufReader;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::mpsc;
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::Duration;

use l4lb::capture::Packet;
use l4lb::capture::Sink as _;
use l4lb::capture::pcapng::PcapngOptions;
use l4lb::capture::pcapng::PcapngWriter;
use nix::sys::signal::Signal;
use nix::sys::signal::kill;
use nix::unistd::Pid;

use super::missing;
use super::packet;
use super::segments::CLIENT;
use super::segments::VIP;
use crate::capture::dump::elsewhere;
use crate::capture::dump::rig;
use crate::capture::dump::send;
use crate::fixtures::frame::eth;

/// How long a reader may take for its next line.
const PATIENCE: Duration = Duration::from_secs(60);

const TSHARK: [&str; 7] = ["-l", "-r", "-", "-T", "fields", "-e", "frame.comment"];
const TCPDUMP: [&str; 5] = ["-l", "-n", "-t", "-r", "-"];

/// A process of a pipeline; it ends when it is dropped.
struct Process(Child);

impl Process {
    #[track_caller]
    fn end(mut self, what: &str) {
        let status = self.0.wait().expect("a child");
        assert!(status.success(), "{what}: {status}");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A reader at the end of a pipe, whose lines come as they are printed.
struct Live {
    process: Process,
    lines: Receiver<String>,
}

impl Live {
    #[track_caller]
    fn new(program: &str, arguments: &[&str], input: Stdio) -> Self {
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(input)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| missing(program, &error));
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self { process: Process(child), lines }
    }

    #[track_caller]
    fn says(&self, expected: &str) {
        assert_eq!(self.lines.recv_timeout(PATIENCE).as_deref(), Ok(expected));
    }
}

/// Each packet is shown before the next one comes.
#[test]
fn readers_of_a_pipe_show_packets_as_they_come() {
    let frame = eth().ip4(CLIENT, VIP).udp(31337, 4433).data(&[0; 58]).bytes();
    let live_tshark = TSHARK.map(|argument| if argument == "-r" { "-i" } else { argument });
    for (program, arguments) in
        [("tshark", &TSHARK[..]), ("tshark", &live_tshark), ("tcpdump", &TCPDUMP)]
    {
        let mut live = Live::new(program, arguments, Stdio::piped());
        let pipe = io::BufWriter::new(live.process.0.stdin.take().expect("a pipe"));
        let mut file = PcapngWriter::new(pipe, &PcapngOptions::default()).expect("it reads");
        for cpu in 0..5 {
            file.packet(&Packet { cpu, ..packet(cpu, &frame) })
                .and_then(|()| file.flush())
                .expect("it reads");
            if program == "tshark" {
                live.says(&format!("at=entry cpu={cpu}"));
            } else {
                live.says("IP 192.0.2.1.31337 > 10.200.1.1.4433: UDP, length 58");
            }
        }
        file.finish(&[]).expect("it reads");
        drop(file);
        live.process.end(program);
    }
}

/// `lbctl dump -w - | tshark -r -`: each packet is shown before the next one is sent.
#[test]
fn lbctl_at_the_other_end_of_the_pipe() {
    let rig = rig();
    let tshark = ["-e", "frame.interface_name", "-e", "udp.srcport"];
    let tshark = [&TSHARK[..], &tshark, &["-E", "separator=|"]].concat();
    for (program, arguments) in [("tshark", &tshark[..]), ("tcpdump", &TCPDUMP)] {
        let mut command = rig.topology.balancer.ns.command(env!("CARGO_BIN_EXE_lbctl"));
        command.arg("--bpffs").arg(rig.bpffs.path());
        command.args(["dump", "--at", "exit", "-w", "-", "udp"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut lbctl = Process(command.spawn().expect("start lbctl"));
        let pipe = lbctl.0.stdout.take().expect("a pipe");
        let mut stderr = BufReader::new(lbctl.0.stderr.take().expect("a pipe")).lines();
        let first = stderr.next().expect("it says something").expect("text");
        assert!(first.contains("capturing at exit"), "{first}");
        let live = Live::new(program, arguments, Stdio::from(pipe));
        for port in 7..12 {
            send(&rig, &elsewhere(port), 1);
            if program == "tshark" {
                let said = live.lines.recv_timeout(PATIENCE).expect("a line");
                let (comment, rest) = said.split_once('|').expect("three fields");
                assert!(comment.starts_with("verdict=pass reason=not_vip at=exit cpu="), "{said}");
                assert_eq!(rest, format!("uplink@exit|{port}"));
            } else {
                live.says(&format!("IP 192.0.2.1.{port} > 172.31.0.2.9: UDP, length 0"));
            }
        }
        let pid = Pid::from_raw(lbctl.0.id().cast_signed());
        kill(pid, Signal::SIGINT).expect("lbctl runs");
        lbctl.end("lbctl");
        let last = stderr.last().expect("it says something").expect("text");
        assert_eq!(last, "5 packets captured, 0 dropped by the buffer, 0 left out by sampling");
        live.process.end(program);
    }
}
