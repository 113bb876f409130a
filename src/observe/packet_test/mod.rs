//! Packet tests: frames with their verdicts, sent through a private copy of the balancer.
//!
//! The copy has maps of its own and is attached to nothing, so a test never affects what runs.
//!
//! A file holds a configuration and cases. The cases run in order on one copy: later ones meet the flows of earlier
//! ones. The interfaces need a `gateway_mac`; all frames come in by the first of them. Frames to its `macs` are for
//! this host. Without `macs`, frames to any MAC but broadcast and multicast are for this host.
//!
//! ```json
//! { "config": { "interfaces": [ { "name": "eth0", "gateway_mac": "02:00:00:00:00:fe" } ] },
//!   "cases": [ { "name": "the host's own traffic", "input": "AgAAAAACAgAAAAABCAY=",
//!                "action": "XDP_PASS", "output": "AgAAAAACAgAAAAABCAY=", "reason": "not_ip" } ] }
//! ```
//!
//! Beside `config` and `cases`, a file may have `neighbours`: the MACs of reals that are reached by L2, such as
//! `{ "10.0.0.1": "02:00:00:00:01:01" }`. They are behind the first interface. The MACs of others are not known.
//!
//! | key | |
//! | --- | --- |
//! | `name` | what the case shows |
//! | `input` | the frame, in base64: at least 14 bytes, and at most what the kernel puts into one buffer (some 3500 on most) |
//! | `action` | how it must end: `XDP_TX`, `XDP_DROP`, `XDP_PASS` |
//! | `output` | optional: the frame afterwards; not compared when it is dropped |
//! | `reason` | optional: why, by the name of a [reason](crate::reasons) |
//! | `metadata` | optional: bytes of driver metadata in front of the frame, which use up headroom: a multiple of 4 up to 216 (older kernels: up to 32) |
//! | `repeat` | optional: how many times the frame is sent, up to 1000000; the last time is judged |

pub(crate) mod frame;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use nix::sched::CpuSet;
use nix::sched::sched_getaffinity;
use nix::sched::sched_setaffinity;
use nix::unistd::Pid;
use serde::Deserialize;
use serde::Serialize;

use crate::dataplane::Dataplane;
use crate::instance::programs;
use crate::kernel::bpf::random;
use crate::kernel::host::Files;
use crate::kernel::outside::read_text;
use crate::kernel::test_run::LOOPBACK;
use crate::kernel::test_run::SHORTEST_FRAME;
use crate::kernel::test_run::check_frame;
use crate::kernel::test_run::test_run;
use crate::model::abi;
use crate::model::abi::consts;
use crate::model::address::Mac;
use crate::model::config::Config;
use crate::model::config::ConfigError;
use crate::model::config::GatewayAddress;
use crate::model::config::key_of;
use crate::model::connection_tables::Tables;
use crate::model::error::Error;
pub use crate::model::error::PacketTestError;
use crate::model::error::Result;
use crate::model::interface::ResolvedInterface;
use crate::model::reason::Reason;
use crate::model::reason::Verdict;
use crate::model::reason::reasons;
use crate::model::secret::AnswerSecret;
use crate::model::secret::Secret;
use crate::model::text::quote;
use crate::model::vip_table::Table;
pub use crate::observe::packet_test::frame::difference;
use crate::observe::stats::sum_states;
use crate::plan::diff::Running;
use crate::plan::diff::diff;
use crate::plan::knobs;

/// The MTU of the loopback, which the frames come in by.
const TEST_MTU: u32 = 65_536;

/// The most driver metadata that `BPF_PROG_TEST_RUN` takes: all of its 256 bytes of headroom but the 40 that the
/// kernel keeps for itself (`struct xdp_frame`).
const MOST_METADATA: u32 = 216;

/// A fixed secret, so that the same sources share a limit of answers in each run.
const ANSWER_SECRET: [u64; 2] = [0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7345];
/// The most cases of a file.
const MOST_CASES: usize = 100_000;

/// How often a frame can be sent: some seconds.
const MOST_REPEATED: u32 = 1_000_000;

/// A file of packet tests.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    config: Config,
    /// Where the reals of L2 are, all of them behind the first interface.
    #[serde(default)]
    neighbours: BTreeMap<IpAddr, Mac>,
    cases: Vec<Case>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    input: String,
    action: String,
    output: Option<String>,
    /// The reason expected, by name.
    reason: Option<String>,
    /// Bytes of driver metadata in front of the frame; they take headroom away.
    #[serde(default)]
    metadata: u32,
    /// How many times the frame is sent; the last time is judged. For limits, which take many packets to reach.
    #[serde(default = "once")]
    repeat: u32,
}

fn once() -> u32 {
    1
}

/// A file that was checked.
struct Parsed {
    config: Config,
    neighbours: BTreeMap<IpAddr, Mac>,
    cases: Vec<ParsedCase>,
}

#[derive(Clone, Debug)]
struct ParsedCase {
    name: String,
    input: Vec<u8>,
    action: Action,
    output: Option<Vec<u8>>,
    reason: Option<String>,
    metadata: u32,
    repeat: u32,
}

/// An XDP action. The order is the kernel's numbering.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
enum Action {
    #[serde(rename = "XDP_ABORTED")]
    Aborted,
    #[serde(rename = "XDP_DROP")]
    Drop,
    #[serde(rename = "XDP_PASS")]
    Pass,
    #[serde(rename = "XDP_TX")]
    Tx,
    #[serde(rename = "XDP_REDIRECT")]
    Redirect,
}

const ACTIONS: [(Action, &str); 5] = [
    (Action::Aborted, "XDP_ABORTED"),
    (Action::Drop, "XDP_DROP"),
    (Action::Pass, "XDP_PASS"),
    (Action::Tx, "XDP_TX"),
    (Action::Redirect, "XDP_REDIRECT"),
];

impl Action {
    fn name(self) -> &'static str {
        ACTIONS.iter().find(|(action, _)| *action == self).map_or("", |(_, name)| name)
    }
}

/// How one case ended.
#[derive(Clone, Debug, Serialize)]
pub struct CaseResult {
    /// The case's name.
    pub name: String,
    /// What the balancer did: `XDP_*`.
    pub action: String,
    /// The reason; `None`: not exactly one reason was counted.
    pub reason: Option<&'static str>,
    /// What differs from what is expected, in one line or several each. Empty: the case passed.
    pub failures: Vec<String>,
}

/// How the cases of one file ended.
#[derive(Clone, Debug, Serialize)]
pub struct FileResult {
    /// The file.
    pub file: String,
    /// Its cases, in order.
    pub cases: Vec<CaseResult>,
}

impl FileResult {
    /// Cases that passed.
    pub fn passed(&self) -> usize {
        self.cases.iter().filter(|case| case.failures.is_empty()).count()
    }

    /// Cases that failed.
    pub fn failed(&self) -> usize {
        self.cases.len() - self.passed()
    }
}

/// Runs the cases of a file, in order, on one private copy of the balancer. Needs root.
pub fn run_file(path: &Path) -> Result<FileResult> {
    let Parsed { config, neighbours, cases } = read(path)?;
    let sandbox = Sandbox::new(&config)?;
    for (real, mac) in neighbours {
        sandbox.neighbour(real, mac)?;
    }
    for (i, case) in cases.iter().enumerate() {
        check_frame(&case.input).map_err(|wrong| {
            PacketTestError::new(
                path.display().to_string(),
                place(i, &case.name, "input"),
                wrong.to_string(),
            )
        })?;
    }
    let cases = cases.iter().map(|case| sandbox.judge(case)).collect::<Result<_>>()?;
    Ok(FileResult { file: path.display().to_string(), cases })
}

fn read(path: &Path) -> Result<Parsed> {
    let file = path.display().to_string();
    let error = |place: String, what: String| PacketTestError::new(file.clone(), place, what);
    let text = read_text(path)
        .map_err(|source| error(String::new(), format!("cannot be read: {source}")))?;
    let mut deserializer = serde_json::Deserializer::from_str(&text);
    let parsed: File = serde_path_to_error::deserialize(&mut deserializer).map_err(|wrong| {
        let key = key_of(wrong.path());
        error(
            if key.is_empty() { String::new() } else { format!("{key}: ") },
            wrong.inner().to_string(),
        )
    })?;
    deserializer.end().map_err(|wrong| error(String::new(), wrong.to_string()))?;
    if parsed.cases.len() > MOST_CASES {
        let what = format!("{} cases; at most {MOST_CASES} are supported", parsed.cases.len());
        return Err(error("cases: ".to_owned(), what).into());
    }
    parsed.config.check().map_err(|wrong: ConfigError| wrong.in_file(path))?;
    let cases = parsed.cases.iter().enumerate().map(|(i, case)| {
        let place = |key: &str| place(i, &case.name, key);
        let frame = |key: &str, text: &str| {
            let bytes = BASE64
                .decode(text)
                .map_err(|wrong| error(place(key), format!("not base64: {wrong}")))?;
            if bytes.len() < SHORTEST_FRAME {
                let what = Error::FrameTooShort { length: bytes.len() };
                return Err(error(place(key), what.to_string()));
            }
            Ok(bytes)
        };
        let action = ACTIONS.iter().find(|(_, name)| *name == case.action);
        let (action, _) = action.ok_or_else(|| {
            let known = ACTIONS.map(|(_, name)| name).join(", ");
            error(place("action"), format!("'{}' is not one of {known}", quote(&case.action)))
        })?;
        if let Some(reason) = &case.reason
            && !reasons().iter().any(|known| known.name == reason)
        {
            let what = format!("there is no reason '{}'", quote(reason));
            return Err(error(place("reason"), what));
        }
        if case.metadata % 4 != 0 || case.metadata > MOST_METADATA {
            let what = format!("{} is not a multiple of 4 up to {MOST_METADATA}", case.metadata);
            return Err(error(place("metadata"), what));
        }
        if case.repeat == 0 {
            return Err(error(place("repeat"), "0 times leaves no packet to judge".to_owned()));
        }
        if case.repeat > MOST_REPEATED {
            let what = format!("{} times; at most {MOST_REPEATED} are supported", case.repeat);
            return Err(error(place("repeat"), what));
        }
        Ok(ParsedCase {
            name: case.name.clone(),
            input: frame("input", &case.input)?,
            action: *action,
            output: case.output.as_deref().map(|text| frame("output", text)).transpose()?,
            reason: case.reason.clone(),
            metadata: case.metadata,
            repeat: case.repeat,
        })
    });
    let cases = cases.collect::<Result<_, _>>()?;
    Ok(Parsed { config: parsed.config.clone(), neighbours: parsed.neighbours.clone(), cases })
}

/// Where in its file a case's key is.
fn place(case: usize, name: &str, key: &str) -> String {
    format!("cases[{case}] ({}): {key}: ", quote(name))
}

/// Keeps the thread on one CPU, because each CPU has a connection table of its own.
#[derive(Debug)]
struct PinnedToCpu(CpuSet);

impl PinnedToCpu {
    fn new() -> Result<Self> {
        let error =
            |errno: nix::Error| Error::Host { operation: "stay on one CPU", source: errno.into() };
        let this = Pid::from_raw(0);
        let before = sched_getaffinity(this).map_err(error)?;
        let first =
            (0..CpuSet::count()).find(|cpu| before.is_set(*cpu).unwrap_or(false)).unwrap_or(0);
        let mut one = CpuSet::new();
        one.set(first).map_err(error)?;
        sched_setaffinity(this, &one).map_err(error)?;
        Ok(Self(before))
    }
}

impl Drop for PinnedToCpu {
    fn drop(&mut self) {
        let _ = sched_setaffinity(Pid::from_raw(0), &self.0);
    }
}

/// What the balancer did with a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// `XDP_*`
    pub action: &'static str,
    /// Why: the reasons that were counted. There is exactly one unless the program is wrong.
    pub reasons: Vec<&'static Reason>,
    /// The frame afterwards.
    pub frame: Vec<u8>,
}

/// A private copy of the balancer. It has its own maps and is attached to nothing.
///
/// It keeps the thread that made it on one CPU, because each CPU has a connection table of its own.
#[derive(Debug)]
pub struct Sandbox {
    program: std::os::fd::OwnedFd,
    dataplane: Dataplane,
    counted: RefCell<Vec<u64>>,
    _pinned: PinnedToCpu,
}

impl Sandbox {
    /// Loads a copy and fills its maps. All frames come in by the first interface of the configuration. Without one,
    /// they come in by an interface that the balancer does not serve.
    pub fn new(config: &Config) -> Result<Self> {
        crate::kernel::rights::check()?;
        config.check()?;
        let pinned = PinnedToCpu::new()?;
        let cpus = crate::kernel::host::possible_cpus()?;
        let table = &config.connection_table;
        let size = table.kind.size(table.entries.div_ceil(cpus.max(1)));
        let own = (0..cpus).map(|cpu| (cpu, size)).collect();
        let tables = Tables { kind: table.kind, bank: 0, own };
        let secret = Secret::of(random()?);
        let knobs = knobs(config, &tables, secret, AnswerSecret::of(ANSWER_SECRET));
        let loaded = programs::load_balancer(None, consts::SLOT_BALANCER, &knobs)?;
        let sandbox = Self {
            program: loaded.program,
            dataplane: Dataplane::of_loaded(loaded.maps)?,
            counted: RefCell::default(),
            _pinned: pinned,
        };
        sandbox.dataplane.prepare_tables(
            &Tables::default(),
            &tables,
            &knobs,
            &Files::host().nodes(),
        )?;
        sandbox.program(config)?;
        sandbox.counted.replace(sandbox.reasons()?);
        Ok(sandbox)
    }

    fn program(&self, config: &Config) -> Result<()> {
        let running = Running { next_serial: 1, ..Running::default() };
        self.dataplane.write_all(&diff(&running, &Table::from(config)))?;
        if let Some(interface) = config.interfaces.first() {
            let gateway = interface
                .gateway_mac
                .ok_or_else(|| Error::PacketTestGateway { interface: interface.name.clone() })?;
            let entry = ResolvedInterface {
                config: crate::model::config::InterfaceConfig {
                    gateway: None::<GatewayAddress>,
                    ..interface.clone()
                },
                ifindex: LOOPBACK,
                mtu: TEST_MTU,
                // No frame is sent to the loopback's own MAC, so it is not used.
                mac: interface.macs.first().copied(),
                gateway,
                next_hop: None,
                passed_over: Vec::new(),
            };
            self.dataplane.set_interface(&entry.entry())?;
        }
        Ok(())
    }

    /// Says where a real of L2 is: behind the interface by which frames come in. A real that no VIP has is none.
    pub fn neighbour(&self, real: IpAddr, mac: Mac) -> Result<()> {
        let entry = abi::neighbour { ifindex: LOOPBACK, mac: mac.octets(), pad: 0 };
        let reals = self.dataplane.read_reals()?;
        let ids = reals.iter().filter(|(_, found)| found.live && found.address == real);
        ids.map(|(id, _)| id).try_for_each(|id| Ok(self.dataplane.neighbours.set(id, &entry)?))
    }

    fn reasons(&self) -> Result<Vec<u64>> {
        let stats = sum_states(&self.dataplane.cpu_states.get(0)?);
        Ok(stats.reasons.iter().map(|reason| reason.count.packets).collect())
    }

    /// Runs the program over a frame, behind `metadata` bytes of driver metadata (a multiple of 4).
    ///
    /// The frame has at least 14 bytes, and at most what the kernel puts into one buffer for a test run: some 3500
    /// bytes on most kernels. Other lengths are [`Error::FrameTooShort`] or [`Error::FrameTooLong`].
    pub fn run(&self, frame: &[u8], metadata: u32) -> Result<Outcome> {
        let run = test_run(self.program.as_fd(), frame, metadata, LOOPBACK)?;
        let after = self.reasons()?;
        let before = self.counted.replace(after.clone());
        let counted = reasons().iter().zip(before.iter().zip(&after));
        Ok(Outcome {
            action: ACTIONS.get(run.action as usize).map_or("unknown", |(_, name)| name),
            reasons: counted.filter(|(_, (b, a))| b != a).map(|(reason, _)| reason).collect(),
            frame: run.frame,
        })
    }

    fn judge(&self, case: &ParsedCase) -> Result<CaseResult> {
        for _ in 1..case.repeat {
            self.run(&case.input, case.metadata)?;
        }
        let Outcome { action, reasons, frame } = self.run(&case.input, case.metadata)?;
        let mut failures = Vec::new();
        if action != case.action.name() {
            failures.push(format!("action: expected {}, got {action}", case.action.name()));
        }
        let reason = match reasons.as_slice() {
            [reason] => Some(*reason),
            several => {
                failures.push(format!("{} reasons were counted instead of one", several.len()));
                None
            }
        };
        if let Some(reason) = reason {
            let implied = match reason.verdict {
                Verdict::Tx => Action::Tx,
                Verdict::Drop => Action::Drop,
                Verdict::Pass => Action::Pass,
            };
            if implied.name() != action {
                failures.push(format!("reason {} was counted for {action}", reason.name));
            }
            if case.reason.as_ref().is_some_and(|expected| expected != reason.name) {
                failures.push(format!(
                    "reason: expected {}, got {}",
                    case.reason.as_deref().unwrap_or_default(),
                    reason.name
                ));
            }
        }
        // Nobody sees the bytes of a dropped packet.
        if let Some(expected) = case.output.as_ref().filter(|_| action != Action::Drop.name())
            && *expected != frame
        {
            failures.push(crate::observe::packet_test::frame::difference(expected, &frame));
        }
        Ok(CaseResult {
            name: case.name.clone(),
            action: action.to_owned(),
            reason: reason.map(|reason| reason.name),
            failures,
        })
    }
}

/// The table that `lbctl test` prints: a line for each case, and below a failed case what differs.
pub fn render(results: &[FileResult]) -> String {
    let mut text = String::new();
    for result in results {
        let _ = writeln!(text, "{}", result.file);
        let names: Vec<_> = result.cases.iter().map(|case| quote(&case.name)).collect();
        let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
        for (i, (case, name)) in result.cases.iter().zip(&names).enumerate() {
            let verdict = if case.failures.is_empty() { "passed" } else { "FAILED" };
            let _ = writeln!(
                text,
                "  {:>3}  {:<width$}  {:<11}  {:<18}  {verdict}",
                i + 1,
                name,
                case.action,
                case.reason.unwrap_or("-"),
            );
            for failure in case.failures.iter().flat_map(|failure| failure.lines()) {
                let _ = writeln!(text, "         {failure}");
            }
        }
    }
    text
}
