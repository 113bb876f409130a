//! `lbctl dump`: tcpdump for packets that XDP programs handle.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::io::BufWriter;
use std::io::IsTerminal as _;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use l4lb::Instance;
use l4lb::capture::Capture;
use l4lb::capture::CaptureCounts;
use l4lb::capture::CaptureOptions;
use l4lb::capture::CapturePoint;
use l4lb::capture::GuePorts;
use l4lb::capture::Packet;
use l4lb::capture::Points;
use l4lb::capture::Sink;
use l4lb::capture::decode::Lines;
use l4lb::capture::pcapng::PcapngFile;
use l4lb::capture::pcapng::PcapngOptions;
use l4lb::capture::pcapng::PcapngWriter;
use l4lb::capture::pcapng::PointCounts;
use l4lb::outside::message;
use nix::poll::PollFd;
use nix::poll::PollFlags;
use nix::poll::PollTimeout;

use crate::Exit;
use crate::Failure;
use crate::Result;
use crate::args::Dump;
use crate::output;
use crate::signals::interruption;

/// How long it may take to notice a signal, or that the reader has gone.
const PAUSE: Duration = Duration::from_millis(100);

/// How many bytes are gathered before they are written.
const BUFFER: usize = 1 << 16;

pub(crate) fn dump(instance: &Instance, args: &Dump, json: bool) -> Result {
    if json {
        let why =
            "dump prints no JSON; use -w - and a tool that reads pcapng, such as tshark -T ek";
        return Err(Failure::Usage(why.to_owned()));
    }
    let options = args.options();
    if !options.at.exit() && !options.decision.is_empty() {
        return Err(Failure::Usage(l4lb::capture::CaptureError::DecisionAtEntry.to_string()));
    }
    if args.writes_to_stdout() && io::stdout().is_terminal() {
        let why = "-w - would write binary data to the terminal; redirect it, or give a file";
        return Err(Failure::Usage(why.to_owned()));
    }
    let interrupted = interruption()
        .map_err(|source| l4lb::Error::Host { operation: "wait for signals", source })?;
    let instance = instance.clone().with_interrupt(Arc::clone(&interrupted));
    let mut capture = Capture::start(&instance, &options)?;
    // Open the file only when the capture is certain to start: an existing file loses its content.
    let mut output = match Output::open(args, &options) {
        Ok(output) => output,
        Err(error) => return Ok(cannot_write(args, &error)),
    };
    output::complain(format_args!(
        "capturing {} in instance '{}'",
        point(options.at),
        instance.name()
    ));

    output.set_gue(capture.gue_ports());
    let mut ended = run(&mut capture, &mut output, args, &interrupted);
    let rest = capture.stop()?;
    let counts = capture.counts()?;
    if !matches!(ended, Ended::Output(_))
        && let Err(error) = output.write(&rest).and_then(|()| output.finish(options.at, &counts))
    {
        ended = Ended::Output(error);
    }
    let CaptureCounts { dropped_by_buffer, left_out_by_sampling, .. } = counts;
    let end = match ended {
        Ended::Failed(error) => {
            output::complain(format_args!("error: {}", message(&error.to_string())));
            Exit::Failed
        }
        Ended::Output(error) => cannot_write(args, &error),
        Ended::Asked => Exit::Done,
    };
    if counts.matched == 0
        && options.at == Points::Exit
        && !options.filter.is_empty()
        && options.inner.is_none()
    {
        output::complain(
            "hint: nothing matched; the expression applies to the outer header of an encapsulated packet, --inner to \
             the packet inside",
        );
    }
    output::complain(format_args!(
        "{} packet{} captured, {dropped_by_buffer} dropped by the buffer, {left_out_by_sampling} left out by \
         sampling",
        output.written,
        if output.written == 1 { "" } else { "s" },
    ));
    Ok(end)
}

fn point(at: Points) -> &'static str {
    match at {
        Points::Entry => "at entry",
        Points::Exit => "at exit",
        Points::Both => "at entry and exit",
    }
}

fn cannot_write(args: &Dump, error: &io::Error) -> Exit {
    // The reader has closed the pipe, and needs no message.
    if error.kind() == io::ErrorKind::BrokenPipe {
        return Exit::Done;
    }
    match args.write.as_deref().filter(|_| !args.writes_to_stdout()) {
        Some(path) => {
            let path = path.display();
            output::complain(format_args!("error: cannot write to {path}: {error}"));
        }
        None => output::complain(format_args!("error: cannot write to standard output: {error}")),
    }
    Exit::Failed
}

/// Why a capture ended.
enum Ended {
    /// As asked for: by a signal, the count or the time.
    Asked,
    /// Packets could not be written.
    Output(io::Error),
    /// The capture failed.
    Failed(l4lb::Error),
}

fn run(capture: &mut Capture, output: &mut Output, args: &Dump, interrupted: &AtomicBool) -> Ended {
    let end = args.duration.and_then(|duration| Instant::now().checked_add(duration));
    loop {
        let left = end.map(|end| end.saturating_duration_since(Instant::now()));
        if left == Some(Duration::ZERO) || interrupted.load(Ordering::Relaxed) {
            return Ended::Asked;
        }
        if output.reader_has_gone() {
            return Ended::Output(io::ErrorKind::BrokenPipe.into());
        }
        let packets = match capture.next_batch(left.map_or(PAUSE, |left| left.min(PAUSE))) {
            Ok(packets) => packets,
            Err(error) => return Ended::Failed(error),
        };
        output.set_gue(capture.gue_ports());
        match output.write(&packets) {
            Ok(()) if output.is_full() => return Ended::Asked,
            Ok(()) => {}
            Err(error) => return Ended::Output(error),
        }
    }
}

/// Where packets go, and how many went there.
struct Output {
    sink: Kind,
    /// Indices of the interfaces that packets came in by.
    interfaces: BTreeSet<u32>,
    written: u64,
    most: Option<u64>,
}

enum Kind {
    Lines(Lines<BufWriter<File>>),
    File(PcapngFile),
    Pipe(PcapngWriter<BufWriter<File>>),
}

impl Output {
    fn open(args: &Dump, options: &CaptureOptions) -> io::Result<Self> {
        // Rust's own buffer would write line by line.
        let stdout = || -> io::Result<_> {
            let stdout = File::from(io::stdout().as_fd().try_clone_to_owned()?);
            Ok(BufWriter::with_capacity(BUFFER, stdout))
        };
        let pcapng = PcapngOptions {
            snaplen: options.snaplen,
            filter: Some(options.filter.clone()).filter(|filter| !filter.is_empty()),
        };
        let sink = match args.write.as_deref() {
            None => Kind::Lines(Lines::new(stdout()?, args.lines())),
            Some(_) if args.writes_to_stdout() => {
                let mut pipe = PcapngWriter::new(stdout()?, &pcapng)?;
                // The reader should see at once that the capture runs.
                pipe.flush()?;
                Kind::Pipe(pipe)
            }
            Some(path) => Kind::File(PcapngFile::create(path, &pcapng)?),
        };
        Ok(Self { sink, interfaces: BTreeSet::new(), written: 0, most: args.count })
    }

    /// Takes these ports for those of GUE from now on.
    fn set_gue(&mut self, gue: GuePorts) {
        if let Kind::Lines(lines) = &mut self.sink {
            lines.set_gue(gue);
        }
    }

    fn sink(&mut self) -> &mut dyn Sink {
        match &mut self.sink {
            Kind::Lines(lines) => lines,
            Kind::File(file) => file,
            Kind::Pipe(pipe) => pipe,
        }
    }

    fn is_full(&self) -> bool {
        self.most.is_some_and(|most| self.written >= most)
    }

    fn write(&mut self, packets: &[Packet]) -> io::Result<()> {
        for packet in packets {
            if self.is_full() {
                break;
            }
            self.sink().packet(packet)?;
            self.interfaces.insert(packet.ifindex);
            self.written += 1;
        }
        self.sink().flush()
    }

    fn finish(&mut self, at: Points, counts: &CaptureCounts) -> io::Result<()> {
        // Counts are for all points and interfaces, so they mean something only if there is one of each.
        let at = match at {
            Points::Entry => Some(CapturePoint::Entry),
            Points::Exit => Some(CapturePoint::Exit),
            Points::Both => None,
        };
        let only = self.interfaces.first().filter(|_| self.interfaces.len() == 1);
        let counts: Vec<_> = only
            .zip(at)
            .map(|(ifindex, at)| PointCounts {
                ifindex: *ifindex,
                at,
                matched: counts.matched - counts.left_out_by_sampling,
                dropped: counts.dropped_by_buffer,
            })
            .into_iter()
            .collect();
        match &mut self.sink {
            Kind::Lines(lines) => lines.flush(),
            Kind::File(file) => file.finish(&counts),
            Kind::Pipe(pipe) => pipe.finish(&counts),
        }
    }

    /// Whether nobody reads standard output any more. Without packets, no write would show it.
    fn reader_has_gone(&self) -> bool {
        if matches!(self.sink, Kind::File(_)) {
            return false;
        }
        let stdout = io::stdout();
        let mut fds = [PollFd::new(stdout.as_fd(), PollFlags::empty())];
        let told = nix::poll::poll(&mut fds, PollTimeout::ZERO);
        told.is_ok() && fds[0].revents().is_some_and(|events| events.contains(PollFlags::POLLERR))
    }
}
