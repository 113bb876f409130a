//! The command line. This only parses: nothing here asks the system.

mod addresses;
mod answers;
mod batch;
mod check;
mod config_file;
mod decap;
#[cfg(test)]
mod documented;
mod dump;
mod encapsulation;
mod examples;
mod five_tuple;
mod flows;
mod global;
mod help;
mod lab;
mod log;
mod node;
mod probe;
mod real;
mod vip;

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::Parser;
use clap::Subcommand;
use clap::ValueEnum;
use clap::builder::RangedU64ValueParser;
use l4lb::XdpMode;
use l4lb::chain::Which;

use addresses::address;
pub(crate) use batch::BatchFile;
pub(crate) use batch::BatchLine;
pub(crate) use batch::Change;
pub(crate) use check::Check;
pub(crate) use config_file::ConfigFile;
pub(crate) use config_file::Source;
pub(crate) use decap::DecapCommand;
pub(crate) use decap::Serve as DecapServe;
pub(crate) use dump::Dump;
use encapsulation::Encapsulation;
pub(crate) use five_tuple::Header;
pub(crate) use five_tuple::five_tuple;
pub(crate) use flows::FlowsCommand;
pub(crate) use flows::Selectors;
pub(crate) use global::Global;
pub(crate) use help::command;
pub(crate) use lab::HostCommand;
pub(crate) use lab::Lab;
pub(crate) use lab::LabCommand;
pub(crate) use lab::LabFile;
pub(crate) use log::Log;
pub(crate) use log::LogFormat;
pub(crate) use node::NodeCommand;
pub(crate) use node::NodeDrain;
pub(crate) use probe::Kind;
pub(crate) use probe::ProbeArgs;
pub(crate) use real::Drain;
pub(crate) use real::MOST_TARGETS;
pub(crate) use real::RealCommand;
pub(crate) use real::Target;
pub(crate) use real::TellHealth;
pub(crate) use real::Then;
pub(crate) use real::Told;
pub(crate) use vip::VipAdd;
pub(crate) use vip::VipCommand;

const EXIT_CODES: &str = "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 differences (plan).\n\
                          VIPs are written tcp://10.200.1.1:80, udp://[fc00:1::2]:443, tcp://10.200.1.2:*\n\
                          'lbctl COMMAND --help' has examples.";

/// An XDP layer-4 load balancer
#[derive(Debug, Parser)]
#[command(name = "lbctl", version, max_term_width = 100, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Args)]
pub(crate) struct Adopt {
    /// Put the XDP program that an interface has already into this slot of the chain
    #[arg(long, value_name = "SLOT")]
    pub(crate) adopt: Option<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct Apply {
    #[command(flatten)]
    pub(crate) file: ConfigFile,
    #[command(flatten)]
    pub(crate) adopt: Adopt,

    /// All or nothing: change nothing if an interface cannot be served or its gateway does not answer
    #[arg(long)]
    pub(crate) strict: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ApplyOnce {
    #[command(flatten)]
    pub(crate) apply: Apply,

    /// Apply even if established flows break, or more than half of the VIPs or reals are removed
    #[arg(long)]
    pub(crate) yes: bool,

    /// Apply only if the plan is the one with this digest, which 'lbctl plan' prints
    #[arg(long, value_name = "DIGEST", value_parser = digest)]
    pub(crate) expect: Option<String>,

    /// If somebody removed pins and the kernel has freed the objects, take the balancer down and set it up anew
    ///
    /// For about a second no packet is balanced, and flows are forgotten. Objects that are still in use are always
    /// pinned again, without this option and without an interruption.
    #[arg(long)]
    pub(crate) repair: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Check a file by itself: all errors at once, and what is right but hurts
    ///
    /// Exits with 1 if there are errors.
    ///
    /// It needs no rights and asks nothing of this host. plan says what the file would change here, and doctor -f
    /// whether this host is fit for it.
    Check(Check),
    /// Show what apply would change
    ///
    /// Exits with 0 if nothing, and with 3 if something, or if an interface cannot be served.
    Plan(ConfigFile),
    /// Load, attach and program until the kernel matches the file
    ///
    /// Refuses, with exit code 1, changes that would break established flows, or that remove more than half of the VIPs
    /// or of the reals, and more than two: a file that was cut off does that. --yes does them. plan shows them
    /// beforehand.
    ///
    /// If an interface cannot be served, because it is down or its gateway does not answer, the rest is done, and the
    /// exit code is 1. With --strict nothing is done.
    Apply(ApplyOnce),
    /// Apply, then keep running: follow gateways, check reals, answer Prometheus
    ///
    /// SIGHUP reloads. SIGTERM ends it, and the data plane goes on.
    ///
    /// Starting and reloading consent to what the file says: changes that break established flows are made and logged.
    /// But a reload refuses to remove more than half of the VIPs or reals, and more than two: 'lbctl reload --yes' does it.
    ///
    /// It tries again every few seconds to serve interfaces that cannot be served, and to listen for metrics if the
    /// port is taken.
    Serve(Serve),
    /// Have lbctl serve read its file again, and report the outcome
    ///
    /// Exits with 1 if the file was not applied.
    ///
    /// For `ExecReload=` of systemd, which does not learn from SIGHUP that a reload failed.
    Reload(ReloadArgs),
    /// Take the balancer down: remove its pins, and detach unless other programs of the chain stay
    Down {
        /// Do not ask. Only a terminal is asked
        #[arg(long)]
        yes: bool,
    },
    /// Print the running state as a configuration file
    Save,
    /// Say whether it is well, and what to do if not; show interfaces, VIPs, tables
    ///
    /// One look at the instance at this moment, for people and for monitoring (--check). The same live, with rates:
    /// lbctl top. Every counter, without a judgement: lbctl stats. The host around the instance: lbctl doctor. The reals
    /// of VIPs: lbctl real list.
    ///
    /// Exits with 0 whether it is well or not, unless --check is given, and with 1 if the instance does not run.
    #[command(visible_alias = "show")]
    Status(StatusArgs),
    /// List, add, change and delete VIPs
    Vip(VipArgs),
    /// List, add, change and delete reals: weight, drain, down, health, encapsulation
    Real(RealArgs),
    /// Make many changes of VIPs and reals in one transaction: all or none
    ///
    /// Each line of the file is a change, as it is typed behind lbctl: vip add, vip edit, vip delete, real add, real edit,
    /// real delete, real weight, real drain, real undrain, real down, real up. Later lines see what earlier ones did.
    Batch(BatchFile),
    /// Drain this balancer for maintenance
    #[command(subcommand)]
    Node(NodeCommand),
    /// Show the counters of the packet path
    ///
    /// Every counter since the start, or with --watch as rates, without a judgement. Whether it is well: lbctl status. On
    /// a screen, the busiest first: lbctl top. Why the host loses packets: lbctl doctor. docs/metrics.md explains each
    /// reason.
    Stats(StatsArgs),
    /// Watch whether all is well, VIPs, reals and reasons live
    ///
    /// lbctl status and the rates of lbctl stats on a terminal, again every second. One look, or for a script: lbctl
    /// status. Problems of the host and their fixes: lbctl doctor.
    ///
    /// q quits, arrows move, Enter shows the reals of a VIP. VIPs are sorted by their rate; ! puts VIPs without a usable
    /// real first.
    Top {
        /// Time from one reading of the counters to the next
        #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = interval)]
        interval: Duration,
    },
    /// Capture packets: tcpdump for what XDP programs handle
    Dump(Box<Dump>),
    /// List, find, delete and count the flows in the connection tables
    #[command(subcommand)]
    Flows(FlowsCommand),
    /// Decapsulate on a real: take the balancer's outer header off
    #[command(subcommand)]
    Decap(DecapCommand),
    /// Check the reals of a VIP now, and show every step with its time
    ///
    /// Exits with 1 if one is not healthy.
    ///
    /// It runs the VIP's own check, unless told otherwise, and changes no real's health. docs/health.md explains what
    /// it prints.
    Probe(ProbeArgs),
    /// Show where a packet would go, and why, without sending it
    Trace(TraceArgs),
    /// List, insert, move and remove the programs on the interfaces
    #[command(subcommand)]
    Chain(ChainCommand),
    /// List the instances: whether each does well, its VIPs, interfaces, and whether 'lbctl serve' runs
    Instances,
    /// Find problems of this host, and how to fix them
    ///
    /// Exits with 1 if there are errors.
    ///
    /// It looks at the host around the balancer: kernel, NICs, offloads, routes, neighbours. lbctl status and top look at
    /// the instance, and lbctl stats shows its counters.
    ///
    /// Without FILE it looks at the interfaces of the running instance. It changes nothing. Warnings and notes alone
    /// exit with 0. docs/doctor.md has all findings.
    Doctor(Doctor),
    /// Learn it: a network of namespaces with a prompt for each host, and eight lessons; exit leaves nothing (root)
    ///
    /// The network of the machine is not touched. docs/lab.md has the lessons.
    Lab(Lab),
    /// Send the packets of test files through a private copy of the balancer
    Test {
        /// Files of packet tests (JSON)
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Print the versions of lbctl, its maps (ABI), JSON, libbpf and the kernel: what a bug report needs
    Version,
    /// Print the script by which a shell completes commands, VIPs and reals
    ///
    /// Packages and 'make install' put it where the shell looks for it.
    Completions {
        /// The shell
        #[arg(value_enum)]
        shell: Shell,
    },
    /// What the scripts ask: what may stand for the last word
    #[command(hide = true)]
    Complete {
        /// The words behind lbctl
        #[arg(last = true, value_name = "WORD")]
        words: Vec<OsString>,
    },
    /// Write the man pages
    #[command(hide = true)]
    Man {
        /// The folder
        #[arg(value_name = "FOLDER")]
        folder: PathBuf,
    },
}

/// Shells that have a script for completions.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Shell {
    Bash,
    Zsh,
    Fish,
}

#[derive(Debug, Args)]
pub(crate) struct Serve {
    #[command(flatten)]
    pub(crate) apply: Apply,
    /// Reload when the file, or one that it includes, was written; a file with errors is logged, and not applied
    #[arg(long)]
    pub(crate) watch: bool,
    #[command(flatten)]
    pub(crate) log: Log,
}

#[derive(Debug, Args)]
pub(crate) struct ReloadArgs {
    /// Reload even if more than half of the VIPs or reals are removed
    #[arg(long)]
    pub(crate) yes: bool,

    /// How long to wait for the outcome
    #[arg(long, value_name = "SECONDS", default_value_t = 80,
          value_parser = RangedU64ValueParser::<u64>::new().range(1..=86400))]
    pub(crate) timeout: u64,
}

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Show all VIPs, the connection table and flood guard of each CPU, and all of the memory
    #[arg(long)]
    pub(crate) all: bool,
    /// Exit with 1 if it is not well
    #[arg(long)]
    pub(crate) check: bool,
}

#[derive(Debug, Args)]
pub(crate) struct StatsArgs {
    /// Show rates per second, again after each interval [default: 1 second]; with --json an object a line
    ///
    /// Counters that did not change are left out.
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "1",
          value_parser = interval)]
    pub(crate) watch: Option<Duration>,
    /// End after this many intervals
    #[arg(long, value_name = "N", requires = "watch",
          value_parser = RangedU64ValueParser::<u64>::new().range(1..))]
    pub(crate) count: Option<u64>,
}

/// A time such as `90s`, `15m`, `2h 30m`.
fn time(text: &str) -> Result<Duration, &'static str> {
    const LONGEST: Duration = Duration::from_secs(10 * 366 * 24 * 60 * 60);
    let time = humantime::parse_duration(text).ok().filter(|time| *time <= LONGEST);
    time.ok_or("write it like 90s, 15m or 2h; ten years at most")
}

/// A slot of the chain. Which ones may be used, the chain knows.
fn slot(text: &str) -> Result<u32, &'static str> {
    text.parse().map_err(|_| "a slot is a number from 1 to 15, such as 4: lower ones run first")
}

/// The digest of a plan.
fn digest(text: &str) -> Result<String, String> {
    let is_digest =
        text.len() == 16 && text.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
    is_digest
        .then(|| text.to_owned())
        .ok_or_else(|| "write the 16 digits that 'lbctl plan' prints behind 'digest'".to_owned())
}

/// Seconds from one reading of the counters to the next.
fn interval(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.1..=86400.0).contains(seconds));
    seconds
        .map(Duration::from_secs_f64)
        .ok_or_else(|| "write a number of seconds, 0.1 to 86400".to_owned())
}

#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// Look at the interfaces of this configuration file, before it is applied; -: standard input
    #[arg(short = 'f', long = "file", value_name = "FILE", conflicts_with = "real")]
    pub(crate) file: Option<PathBuf>,
    /// Look at this host as a real instead of a balancer
    #[arg(long)]
    pub(crate) real: bool,
    /// A VIP that the real serves [default: the addresses of its loopback interface]
    #[arg(long = "vip", value_name = "ADDRESS", requires = "real", value_parser = address)]
    pub(crate) vips: Vec<IpAddr>,
    /// A way by which packets come to the real [default: IP in IP, and GUE if some came]
    #[arg(
        long = "encapsulation",
        value_enum,
        value_name = "WAY",
        requires = "real",
        value_delimiter = ','
    )]
    pub(crate) ways: Vec<Encapsulation>,
}

/// Of commands that change VIPs and reals.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct DryRun {
    /// Show what a change would do, and change nothing
    #[arg(long, global = true)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct VipArgs {
    #[command(flatten)]
    pub(crate) dry: DryRun,
    #[command(subcommand)]
    pub(crate) command: VipCommand,
}

#[derive(Debug, Args)]
pub(crate) struct RealArgs {
    #[command(flatten)]
    pub(crate) dry: DryRun,
    #[command(subcommand)]
    pub(crate) command: RealCommand,
}

#[derive(Debug, Args)]
#[command(
    override_usage = "lbctl trace [OPTIONS] <VIP> <CLIENT:PORT>\n       lbctl trace [OPTIONS] <PROTOCOL> <CLIENT:PORT> <SERVER:PORT>\n       lbctl trace [OPTIONS] --pcap <FILE>"
)]
pub(crate) struct TraceArgs {
    /// A packet to a VIP, such as <tcp://10.200.1.1:80> 192.0.2.1:31337; or by protocol, client and server, such as tcp
    /// 192.0.2.1:31337 10.200.1.1:80
    #[arg(value_names = five_tuple::NAMES, num_args = 2..=3, conflicts_with = "pcap")]
    pub(crate) packet_to: Vec<Header>,

    /// Trace a packet of a capture (pcap or pcapng) instead; - is standard input
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = ["syn", "payload"]
    )]
    pub(crate) pcap: Option<PathBuf>,

    /// The packet's number in the capture, as Wireshark counts
    #[arg(long, value_name = "NUMBER", default_value_t = 1, requires = "pcap")]
    pub(crate) packet: u64,

    /// Trace a packet that opens a connection, instead of one of an established connection
    #[arg(long)]
    pub(crate) syn: bool,

    /// Bytes of payload, to trace long packets
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    pub(crate) payload: u16,

    /// The interface that it comes in by [default: the first that the balancer serves]
    #[arg(long, value_name = "NAME")]
    pub(crate) interface: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ChainCommand {
    /// List the programs in the order in which they run
    #[command(visible_aliases = ["ls", "show"])]
    List,
    /// Put a program into a slot; a program of the same name there is replaced, and no packet misses it
    Insert {
        /// 1 to 15; lower ones run first. The balancer has 8, decapsulation 12
        #[arg(value_parser = slot)]
        slot: u32,
        /// An object built against l4lb/chain.h, or a pinned program that shares the chain's maps
        #[arg(value_name = "OBJECT.bpf.o|PINNED")]
        source: PathBuf,
        /// Its name in the chain [default: the file's name up to the first dot]
        #[arg(long)]
        name: Option<String>,
        /// The C function of the program, if the object has several
        #[arg(long, value_name = "FUNCTION")]
        program: Option<String>,
        /// An interface to run the chain on, if it does not run there yet
        #[arg(long = "interface", value_name = "INTERFACE")]
        interfaces: Vec<String>,
        /// The XDP mode on these interfaces
        #[arg(long = "xdp-mode", value_enum, default_value_t = Mode::Auto)]
        mode: Mode,
        #[command(flatten)]
        adopt: Adopt,
    },
    /// Take a program out, and remove its maps; after the last one, the chain leaves the interfaces
    #[command(visible_aliases = ["rm", "delete"])]
    Remove {
        /// The program's name or slot
        #[arg(value_name = "SLOT|NAME")]
        program: Which,
    },
    /// Move a program to another slot, which must be empty
    Move {
        /// The program's name or slot
        #[arg(value_name = "SLOT|NAME")]
        program: Which,
        /// The new slot
        #[arg(value_name = "SLOT", value_parser = slot)]
        to: u32,
    },
}

/// `XdpMode`, on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Mode {
    Auto,
    Native,
    Generic,
}

impl From<Mode> for XdpMode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Auto => Self::Auto,
            Mode::Native => Self::Native,
            Mode::Generic => Self::Generic,
        }
    }
}
