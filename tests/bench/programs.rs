//! The benchmark's own BPF programs, and running them.
//!
//! They are compiled when the benchmark starts, with the compiler and the flags that `build.rs` chose for the product's
//! programs. So no build of the product waits for them.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::Command;

use libbpf_rs::MapCore;
use libbpf_rs::MapFlags;
use libbpf_rs::MapHandle;
use libbpf_rs::Object;
use libbpf_rs::ObjectBuilder;
use libbpf_rs::OpenObject;
use libbpf_rs::ProgramInput;
use libbpf_rs::ProgramMut;
use libbpf_rs::libbpf_sys;
use nix::time::ClockId;
use tempfile::TempDir;

use crate::Result;
use crate::frames::Packets;
use crate::host::cpu_time;

/// Where the sources are.
const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bench");

/// Where the contract for programs in the chain is, which one of them follows.
const HEADERS: &str = concat!("-I", env!("CARGO_MANIFEST_DIR"), "/include");

/// The sources, by the part of their name before `.bpf.c`.
const NAMES: [&str; 4] = ["neighbour", "trace", "wrapper", "yardstick"];

/// `XDP_DROP`
pub(crate) const DROP: u32 = 1;
/// `XDP_TX`
pub(crate) const TX: u32 = 3;
/// `XDP_PASS`
pub(crate) const PASS: u32 = 2;

/// Room for what a program may put in front of a frame.
const HEADROOM: usize = 256;

/// The compiled programs, by name.
#[derive(Debug)]
pub(crate) struct Programs(BTreeMap<&'static str, Vec<u8>>);

impl Programs {
    /// Compiles them.
    pub(crate) fn compile() -> Result<Self> {
        let folder = TempDir::with_prefix("l4lb-bench-")?;
        let bpf = folder.path().join("bpf");
        fs::create_dir(&bpf)?;
        for (name, text) in libbpf_sys::API_HEADERS {
            fs::write(bpf.join(name), text)?;
        }
        let mut objects = BTreeMap::new();
        for name in NAMES {
            let object = folder.path().join(name);
            let output = Command::new(env!("LB_CLANG"))
                .args(["-g", "-O2", "-target", "bpf", "-fno-stack-protector"])
                .args(env!("LB_CLANG_ARGS").split(' '))
                .arg(HEADERS)
                .arg("-I")
                .arg(folder.path())
                .arg("-c")
                .arg(format!("{SOURCES}/{name}.bpf.c"))
                .arg("-o")
                .arg(&object)
                .output()
                .map_err(|error| format!("{}: {error}", env!("LB_CLANG")))?;
            if !output.status.success() {
                let why = String::from_utf8_lossy(&output.stderr);
                return Err(format!("tests/bench/{name}.bpf.c does not compile:\n{why}").into());
            }
            objects.insert(name, fs::read(object)?);
        }
        Ok(Self(objects))
    }

    /// Opens one, to be configured and loaded.
    pub(crate) fn open(&self, name: &str) -> Result<OpenObject> {
        let object = self.0.get(name).ok_or_else(|| format!("there is no program '{name}'"))?;
        Ok(ObjectBuilder::default().name(name)?.open_memory(object)?)
    }
}

/// Loads an object.
pub(crate) fn load(object: OpenObject) -> Result<Object> {
    let name = object.name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    object.load().map_err(|error| {
        format!("tests/bench/{name}.bpf.c does not load: {error}; RUST_LOG=libbpf=debug tells more")
            .into()
    })
}

/// Sets all read-only data of an object, so that a changed layout is an error.
pub(crate) fn set_rodata(object: &mut OpenObject, bytes: &[u8]) -> Result {
    let mut maps = object.maps_mut();
    let mut map = maps
        .find(|map| map.name().to_string_lossy().ends_with(".rodata"))
        .ok_or("the object has no read-only data")?;
    map.set_initial_value(bytes).map_err(|error| {
        format!("{} bytes of read-only data do not fit: {error}", bytes.len()).into()
    })
}

/// A map of a loaded object.
pub(crate) fn map(object: &Object, name: &str) -> Result<MapHandle> {
    let found = object.maps().find(|map| map.name() == name);
    Ok(MapHandle::try_from(&found.ok_or_else(|| format!("there is no map '{name}'"))?)?)
}

/// A program of a loaded object.
pub(crate) fn program<'o>(object: &'o Object, name: &str) -> Result<ProgramMut<'o>> {
    let found = object.progs_mut().find(|program| program.name() == name);
    Ok(found.ok_or_else(|| format!("there is no program '{name}'"))?)
}

/// Writes one value of a map.
pub(crate) fn set(map: &impl MapCore, key: &[u8], value: &[u8]) -> Result {
    Ok(map.update(key, value, MapFlags::ANY)?)
}

/// Puts a program into a program array.
pub(crate) fn set_program(map: &impl MapCore, at: u32, program: &impl AsFd) -> Result {
    let fd = program.as_fd().as_raw_fd().cast_unsigned();
    set(map, &at.to_ne_bytes(), &fd.to_ne_bytes())
}

/// Opens a pinned program.
pub(crate) fn pinned_program(path: &Path) -> Result<std::os::fd::OwnedFd> {
    libbpf_rs::Program::fd_from_pinned_path(path)
        .map_err(|error| format!("{}: {error}", path.display()).into())
}

/// The number of the first flow that only fills tables before a measurement.
pub(crate) const AGED: u32 = 1 << 31;

/// The number of the first flow that no table knows.
pub(crate) const UNKNOWN: u32 = 3 << 30;

/// Fractions whose multiples are spread evenly, each in an order of its own.
const GOLDEN_RATIO: u32 = 2_654_435_769;
const SQUARE_ROOT_OF_2: u32 = 1_779_033_703;

/// Which flows packets belong to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flows {
    /// The first one's number.
    pub(crate) first: u32,
    /// How many there are; 0: every packet is one of its own.
    pub(crate) count: u32,
    /// 0 if they take turns in order. Otherwise this fraction, in units of 2^-32, is added from turn to turn, which gives
    /// an order that the CPU cannot fetch ahead.
    pub(crate) stride: u32,
    /// Unless in order: how many of them come again. The others come once, and have numbers from `strangers` on.
    pub(crate) known: u32,
    pub(crate) strangers: u32,
    /// Unless in order: the turn to begin with.
    pub(crate) begin: u32,
}

impl Flows {
    /// All of them in order.
    pub(crate) fn in_order(first: u32, count: u32) -> Self {
        Self { first, count, stride: 0, known: count, strangers: 0, begin: 0 }
    }

    /// In scattered order. Programs that use the same entries should begin with different turns; otherwise one finds in
    /// the caches what the other has just used.
    pub(crate) fn shuffled(first: u32, count: u32, begin: u32) -> Self {
        Self { stride: GOLDEN_RATIO, begin, ..Self::in_order(first, count) }
    }

    /// `known` flows that are scattered among others, so that they lie far apart in a table that `count` packets fill. A
    /// few of them may be missing.
    pub(crate) fn scattered(first: u32, known: u32, count: u32, strangers: u32) -> Self {
        Self { stride: SQUARE_ROOT_OF_2, known, strangers, ..Self::in_order(first, count) }
    }

    /// Every packet is of a flow of its own.
    pub(crate) fn new_ones(first: u32) -> Self {
        Self::in_order(first, 0)
    }
}

/// Where packets come in, as the programs see it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ingress {
    /// The interface's index, in the namespace of the calling thread.
    pub(crate) ifindex: u32,
    /// Its receive queue.
    pub(crate) queue: u32,
}

/// A program of the benchmark, ready to handle packets.
#[derive(Debug)]
pub(crate) struct Runner {
    object: Object,
    program: &'static str,
    frame: Vec<u8>,
    ingress: Ingress,
}

/// The result of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    /// CPU time per packet, wrapper included.
    pub(crate) nanoseconds: f64,
    /// The verdict about the last packet, `XDP_*`.
    pub(crate) verdict: u32,
}

impl Runner {
    /// One that hands packets to `subject`; without one, to a program that does nothing.
    pub(crate) fn wrapper(
        programs: &Programs,
        packets: &Packets,
        flows: Flows,
        ingress: Ingress,
        subject: Option<&impl AsFd>,
    ) -> Result<Self> {
        let runner = Self::new(programs, "wrapper", "wrapper", packets, flows, ingress)?;
        let place = runner.map("subject")?;
        match subject {
            Some(subject) => set_program(&place, 0, subject)?,
            None => set_program(&place, 0, &program(&runner.object, "nothing")?)?,
        }
        Ok(runner)
    }

    /// One that sends packets out of the interface that they claim to come in by.
    pub(crate) fn generator(
        programs: &Programs,
        packets: &Packets,
        flows: Flows,
        ingress: Ingress,
    ) -> Result<Self> {
        Self::new(programs, "wrapper", "generator", packets, flows, ingress)
    }

    /// One that hands the packets of a trace to `subject`.
    pub(crate) fn tracer(
        programs: &Programs,
        packets: &Packets,
        ingress: Ingress,
        subject: &impl AsFd,
    ) -> Result<Self> {
        let flows = Flows::new_ones(0);
        let runner = Self::new(programs, "trace", "tracer", packets, flows, ingress)?;
        set_program(&runner.map("subject")?, 0, subject)?;
        Ok(runner)
    }

    fn new(
        programs: &Programs,
        name: &str,
        program: &'static str,
        packets: &Packets,
        flows: Flows,
        ingress: Ingress,
    ) -> Result<Self> {
        let mut object = programs.open(name)?;
        set_rodata(&mut object, &packets.traffic(flows))?;
        Ok(Self { object: load(object)?, program, frame: packets.frame.clone(), ingress })
    }

    /// One of its maps.
    pub(crate) fn map(&self, name: &str) -> Result<MapHandle> {
        map(&self.object, name)
    }

    /// Runs so many packets through, one after the other on this CPU.
    pub(crate) fn run(&self, packets: u32) -> Result<Run> {
        let mut context = self.context();
        let mut output = vec![0; self.frame.len() + HEADROOM];
        let input = ProgramInput {
            context_in: Some(&mut context),
            data_in: Some(&self.frame),
            data_out: Some(&mut output),
            repeat: packets,
            ..ProgramInput::default()
        };
        let program = program(&self.object, self.program)?;
        // The kernel reports whole nanoseconds, and counts interrupts during the run.
        let before = cpu_time(ClockId::CLOCK_THREAD_CPUTIME_ID)?;
        let run = program.test_run(input)?;
        let nanoseconds =
            (cpu_time(ClockId::CLOCK_THREAD_CPUTIME_ID)? - before) / f64::from(packets);
        Ok(Run { nanoseconds, verdict: run.return_value })
    }

    /// Sends so many packets in batches, the way that the kernel sends packets of XDP programs.
    pub(crate) fn send(&self, packets: u32) -> Result {
        let mut context = self.context();
        let input = ProgramInput {
            context_in: Some(&mut context),
            data_in: Some(&self.frame),
            flags: libbpf_sys::BPF_F_TEST_XDP_LIVE_FRAMES,
            repeat: packets,
            ..ProgramInput::default()
        };
        program(&self.object, self.program)?.test_run(input)?;
        Ok(())
    }

    /// `struct xdp_md`
    fn context(&self) -> Vec<u8> {
        let len = u32::try_from(self.frame.len()).unwrap_or(u32::MAX);
        let (data, data_meta, egress) = (0, 0, 0);
        [data, len, data_meta, self.ingress.ifindex, self.ingress.queue, egress]
            .iter()
            .flat_map(|word: &u32| word.to_ne_bytes())
            .collect()
    }
}
