//! The errors of the library, one line each: which object, which operation, what to do.

mod capture;
mod chain;
mod check;
pub(crate) mod config;
mod control_api;
mod decap;
mod filter;
mod instance;
mod kind;
mod map;
mod netlink;
mod packet_test;
mod questions;
mod rights;
mod serving;
mod trace;
mod tunnel;
mod words;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use strum::IntoStaticStr;
use strum::VariantNames;

use crate::model::abi::consts;
use crate::model::config::PacketsConfig;
use crate::model::config::XdpMode;
use crate::model::flow_effect::Breaking;
use crate::model::lost_pins::LostPins;

pub use capture::CaptureError;
pub use chain::ChainError;
pub use check::CheckError;
use config::ConfigError;
pub use control_api::ControlApiError;
pub use decap::DecapError;
pub use filter::FilterError;
pub use instance::MINIMUM_KERNEL;
pub use instance::UntrustedFolder;
pub use map::MapError;
pub(crate) use map::MapFailure;
pub use netlink::NetlinkError;
pub use netlink::NetlinkRefusal;
pub use packet_test::PacketTestError;
pub use rights::MissingRights;
pub use serving::ServingError;
pub(crate) use trace::SHORTEST_FRAME;
pub use trace::TracePacketError;
pub use tunnel::TunnelObstacle;
pub(crate) use words::detach_command;
use words::detach_hint;
use words::waited;

/// An operation of this library that failed. Its text is one line.
#[derive(Debug, thiserror::Error, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "snake_case")]
#[non_exhaustive]
pub enum Error {
    /// The configuration is not valid.
    #[error(transparent)]
    Config(#[from] ConfigError),

    /// A check of reals cannot be made.
    #[error(transparent)]
    Check(#[from] CheckError),

    /// A program cannot be put into the chain, or the chain cannot be changed.
    #[error(transparent)]
    Chain(#[from] ChainError),

    /// Another process serves the instance, or no process can reload.
    #[error(transparent)]
    Serving(#[from] ServingError),

    /// The control API of a process that serves cannot be used.
    #[error(transparent)]
    ControlApi(#[from] ControlApiError),

    /// A map could not be read or written.
    #[error(transparent)]
    Map(#[from] MapError),

    /// An interface, route or neighbour is missing or not as needed.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),

    /// BPF and network administration need capabilities that root has.
    #[error("{0}")]
    MissingRights(Box<MissingRights>),

    /// The kernel is too old.
    #[error(
        "kernel {release} is too old: {}.{} or newer is needed", MINIMUM_KERNEL.0, MINIMUM_KERNEL.1
    )]
    KernelTooOld {
        /// As `uname -r` prints it.
        release: String,
    },

    /// Pins need a bpf filesystem.
    #[error(
        "no bpf filesystem at {path}: mount it with 'mount -t bpf -o mode=0700 bpf {path}', or give --mount-bpffs",
        path = path.display()
    )]
    NoBpffs {
        /// Where it was looked for.
        path: PathBuf,
    },

    /// The bpf filesystem could not be mounted.
    #[error("cannot mount a bpf filesystem at {}: {source}", path.display())]
    MountBpffs {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },

    /// A folder of pins that others could have tampered with, or can.
    #[error(transparent)]
    UntrustedFolder(Box<UntrustedFolder>),

    /// Somebody removed pins of an instance that runs.
    #[error(transparent)]
    LostPins(Box<LostPins>),

    /// Another process is changing the instance, and the command does not wait any longer.
    #[error(
        "instance '{instance}' is being changed by {holder}, and {}; wait for that (--lock-timeout SECONDS), \
         or end it if it hangs", waited(*timeout)
    )]
    Locked {
        /// The instance.
        instance: String,
        /// Who has the lock, in words: process id and command, as far as they can be seen.
        holder: String,
        /// How long the command waited.
        timeout: Duration,
    },

    /// A signal came while the instance was being changed by another process.
    #[error(
        "interrupted while instance '{instance}' was being changed by {holder}; nothing is changed"
    )]
    LockInterrupted {
        /// The instance.
        instance: String,
        /// Who has the lock, in words: process id and command, as far as they can be seen.
        holder: String,
    },

    /// No name for an instance.
    #[error("'{0}' is no instance name: use up to 64 letters, digits, '-' and '_'")]
    InstanceName(String),

    /// The instance does not run.
    #[error(
        "instance '{instance}' does not run (no pins in {path}); start it with 'lbctl apply -f FILE'",
        path = path.display()
    )]
    NotRunning {
        /// Its name.
        instance: String,
        /// Where its pins would be.
        path: PathBuf,
    },

    /// The pins were made by a build with other structs.
    #[error(
        "instance '{instance}' runs data of ABI version {running}, this build has version {ours}: use \
         the lbctl that made it, or remove it with 'lbctl down' (its connections are lost)"
    )]
    Abi {
        /// The instance.
        instance: String,
        /// ABI version of the pins.
        running: u32,
        /// ABI version of this build.
        ours: u32,
    },

    /// A pin could not be read, made or removed.
    #[error("cannot {operation} {path}: {source}", path = path.display())]
    Pins {
        /// What was tried.
        operation: &'static str,
        /// The pin or folder.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },

    /// The process may not open enough files.
    #[error(
        "cannot {what}: the process may have only {limit} open files (RLIMIT_NOFILE): raise the limit to 1024 by 'ulimit -n \
         1024' or by LimitNOFILE=1024 of the service"
    )]
    OpenFiles {
        /// What needs them.
        what: String,
        /// How many it may have.
        limit: u64,
    },

    /// The kernel refused a program or its maps.
    #[error("the kernel refused program {program}: {why} (the whole log: RUST_LOG=libbpf=debug)")]
    Load {
        /// The program.
        program: String,
        /// The verifier's or libbpf's last word.
        why: String,
    },

    /// Another XDP program is on the interface.
    #[error(
        "interface {interface} already runs XDP program '{program}' (id {id}), which does not belong to \
         instance '{instance}'; detach it first ({}), or take it into the chain with --adopt SLOT",
        detach_hint(interface, *mode, *link)
    )]
    ForeignProgram {
        /// The interface.
        interface: String,
        /// The program's name.
        program: String,
        /// The program's id.
        id: u32,
        /// How it is attached.
        mode: XdpMode,
        /// The id of the link that holds it there, if one does.
        link: Option<u32>,
        /// This instance.
        instance: String,
    },

    /// Another instance is on the interface.
    #[error(
        "interface {interface} belongs to instance '{owner}'; take it out of that instance first"
    )]
    OtherInstance {
        /// The interface.
        interface: String,
        /// The instance that has it.
        owner: String,
    },

    /// The interface runs a program of an instance whose pins are in another bpf filesystem.
    #[error(
        "interface {interface} runs a program (id {id}) of another instance of l4lb, whose pins are in another bpf \
         filesystem ('findmnt -t bpf' lists them): take it down there ('lbctl --bpffs PATH --instance NAME down'), or, \
         if nobody has its pins any more, '{detach}'"
    )]
    OtherRoot {
        /// The interface.
        interface: String,
        /// The program's id.
        id: u32,
        /// The command that takes it off.
        detach: String,
    },

    /// The instance has its interfaces in another network namespace.
    #[error(
        "instance '{instance}' runs on interface {interface} (index {ifindex}) of another network namespace, not of \
         this one ({here}): run lbctl in that one ('ip netns exec NAME lbctl …', or 'nsenter --net=/proc/PID/ns/net \
         lbctl …'); if the interface has moved there for good, 'bpftool link detach id {link}' ends that, and 'lbctl \
         down' the whole instance"
    )]
    OtherNamespace {
        /// The instance.
        instance: String,
        /// The interface: its name there when the instance was attached to it.
        interface: String,
        /// Its index there.
        ifindex: u32,
        /// The number of the link that holds the program there.
        link: u32,
        /// This namespace, as `readlink /proc/self/ns/net` prints it.
        here: String,
    },

    /// The driver cannot run XDP programs.
    #[error(
        "interface {interface} cannot run XDP in native mode ({source}); set xdp_mode = \"generic\" or \
         \"auto\" for it"
    )]
    NativeMode {
        /// The interface.
        interface: String,
        /// What the kernel said.
        source: io::Error,
    },

    /// Attaching failed for another reason.
    #[error("cannot attach to interface {interface} in {mode} mode: {source}")]
    Attach {
        /// The interface.
        interface: String,
        /// The mode that was tried.
        mode: XdpMode,
        /// What the kernel said.
        source: io::Error,
    },

    /// Checks cannot go through the tunnel to a VIP's address.
    #[error(transparent)]
    Tunnel(#[from] Box<TunnelObstacle>),

    /// The program that encapsulates packets of checks cannot be attached.
    #[error("cannot attach program healthcheck to the way out of interface {interface}: {source}")]
    AttachHealthcheck {
        /// The interface.
        interface: String,
        /// What the kernel said.
        source: io::Error,
    },

    /// The mode that was asked for is not the balancer's mode of the interface.
    #[error(
        "interface {interface} runs in {runs} mode for the balancer of this instance; leave out \
         --xdp-mode, or change xdp_mode in the balancer's configuration"
    )]
    ModeOfBalancer {
        /// The interface.
        interface: String,
        /// The mode that it runs in.
        runs: XdpMode,
    },

    /// The indices of too many interfaces are equal modulo the size of the interface table.
    #[error(
        "the table of interfaces has no place for interface {interface} (index {ifindex}): {} hold all {} places that it \
         can have, because their indices are equal modulo {}; leave one of them out, or give one another index ('ip \
         link set NAME netns OTHER index N' and back, or 'ip link add … index N')",
        in_the_way.join(", "), consts::INTERFACE_PROBES, consts::INTERFACE_PLACES
    )]
    InterfaceTable {
        /// The interface.
        interface: String,
        /// Its index.
        ifindex: u32,
        /// The interfaces that have the places, with their indices.
        in_the_way: Vec<String>,
    },

    /// Interrupted commands left too many reals behind.
    #[error(
        "no ids are left for new reals, because interrupted commands hold too many; apply a smaller change \
         first, such as what 'lbctl save' prints"
    )]
    RealIds,

    /// Much of what runs would be removed, and the caller did not allow it.
    #[error(
        "{0}, as by a file that was cut off; nothing was changed: 'lbctl plan -f FILE' shows all of it; if that is meant, --yes does it"
    )]
    RemovesMuch(crate::model::removals::Removals),

    /// The plan is not the one that the caller has looked at.
    #[error(
        "the plan has the digest {0} now: what runs, or the file, has changed; see 'lbctl plan -f FILE'"
    )]
    OtherPlan(String),

    /// Established flows would break, and the caller did not allow it.
    #[error(
        "established flows would break: {changes}; nothing was changed: 'lbctl plan -f FILE' shows the details, --yes applies \
         it anyway; {}",
        if *.draining_helps {
            "drain the reals first: the longer you wait, the fewer flows break"
        } else {
            "draining reals does not help here: apply it when there are few flows"
        }
    )]
    BreaksFlows {
        /// What breaks them.
        changes: Breaking,
        /// Whether some of them are due to reals that leave a VIP.
        draining_helps: bool,
    },

    /// Established flows may break: they could not be counted, and the caller did not allow it.
    #[error(
        "how many established flows would break is unknown ({why}); nothing was changed: --yes applies it anyway"
    )]
    FlowsUnknown {
        /// Why they could not be counted.
        why: String,
    },

    /// A CPU that the host does not have.
    #[error("connection_table.cpus: this host has no CPU {cpu}; its CPUs are 0 to {last}")]
    NoSuchCpu {
        /// The CPU asked for.
        cpu: u32,
        /// The highest possible one.
        last: u32,
    },

    /// The maps would take more memory than there is.
    #[error(
        "not enough memory: this needs {needed} more than now ({plan}), and {available} are available \
         {place}; {remedy}"
    )]
    Memory {
        /// The memory of the maps, by purpose.
        plan: String,
        /// The memory that is needed in addition.
        needed: String,
        /// The memory that is available.
        available: String,
        /// Where.
        place: String,
        /// What to change in the configuration.
        remedy: String,
    },

    /// The kernel had not enough memory for a map, although the plan fitted.
    #[error("{source}: this needs {needed} more than now ({plan}); {remedy}")]
    OutOfMemory {
        /// What the kernel refused.
        source: Box<Error>,
        /// The memory that is needed in addition.
        needed: String,
        /// The memory of the maps, by purpose.
        plan: String,
        /// What to change in the configuration.
        remedy: &'static str,
    },

    /// No interface exists where a packet could arrive.
    #[error("instance '{instance}' serves no interface that is there; name one with --interface")]
    NoServedInterface {
        /// The instance.
        instance: String,
    },

    /// A packet for a trace cannot be made or read.
    #[error(transparent)]
    TracePacket(#[from] TracePacketError),

    /// A frame without a whole Ethernet header.
    #[error("a frame of {length} bytes; an Ethernet header alone takes {SHORTEST_FRAME}")]
    FrameTooShort {
        /// Its bytes.
        length: usize,
    },

    /// In a test run, a program would see only the beginning of the frame.
    #[error(
        "a frame of {length} bytes; in a test run, a program sees at most {longest} bytes (BPF_PROG_TEST_RUN), \
         and packets for VIPs are too big above {} (packets.max_frame): take a shorter one of the flow, which \
         goes to the same real", PacketsConfig::MAX_FRAME.end()
    )]
    FrameTooLong {
        /// Its bytes.
        length: usize,
        /// The most that it could have.
        longest: usize,
    },

    /// Entries of a table of sets can only be deleted on the CPU that writes to it.
    #[error(
        "cannot run on CPU {cpu} ({source}), and its connection table can only be changed there; run it \
         outside of cpusets that exclude this CPU"
    )]
    NotOnCpu {
        /// The CPU.
        cpu: u32,
        /// Why not.
        source: io::Error,
    },

    /// Another process replaced the connection tables while they were read.
    #[error(
        "another command ('lbctl apply') replaced the connection tables while they were read; read them again"
    )]
    TablesReplaced,

    /// No VIP serves this.
    #[error("no VIP serves {protocol} {destination}; 'lbctl vip list' shows them")]
    NotServed {
        /// The transport protocol.
        protocol: crate::model::address::Protocol,
        /// Address and port that a client would send to.
        destination: std::net::SocketAddr,
    },

    /// An address that no real has.
    #[error("no VIP has or recently had a real {0}; 'lbctl real list' shows the reals")]
    UnknownReal(std::net::IpAddr),

    /// The host refused something else.
    #[error("cannot {operation}: {source}")]
    Host {
        /// What was tried.
        operation: &'static str,
        /// Why it failed.
        source: io::Error,
    },

    /// A VIP that does not exist was named.
    #[error("no VIP {0}; 'lbctl vip list' shows them")]
    NoSuchVip(crate::model::address::Vip),

    /// A real that no VIP has was named.
    #[error("no VIP has a real {0}; 'lbctl real list' shows the reals")]
    RealOfNoVip(std::net::IpAddr),

    /// A real to undrain is down.
    #[error(
        "{real} is down in {vip}, not drained; 'lbctl real up {vip} {real}' lets it take flows"
    )]
    RealIsDown {
        /// The VIP.
        vip: crate::model::address::Vip,
        /// The address.
        real: std::net::IpAddr,
    },

    /// A real's own way of packets is to change in one VIP, and another VIP says otherwise.
    #[error(
        "{other} has {real} too, and the way of packets that a real says is one for all its VIPs: 'lbctl real edit \
         --all {real}' changes it, or 'lbctl vip edit {vip}' that of the VIP"
    )]
    DeliveryElsewhere {
        /// The VIP.
        vip: crate::model::address::Vip,
        /// The address.
        real: std::net::IpAddr,
        /// The other VIP.
        other: crate::model::address::Vip,
    },

    /// A VIP to add exists already.
    #[error("VIP {0} exists already")]
    VipExists(crate::model::address::Vip),

    /// A real that the VIP does not have was named.
    #[error("VIP {vip} has no real {real}; 'lbctl real list {vip}' shows them")]
    NoSuchReal {
        /// The VIP.
        vip: crate::model::address::Vip,
        /// The address.
        real: std::net::IpAddr,
    },

    /// A real to add exists already.
    #[error("VIP {vip} has real {real} already; 'lbctl real weight' changes it")]
    RealExists {
        /// The VIP.
        vip: crate::model::address::Vip,
        /// The address.
        real: std::net::IpAddr,
    },

    /// Somebody changed VIPs, reals or server ids since the caller read them.
    #[error(
        "VIPs or reals were changed since you read them (version {expected}, now {current}): read them again and repeat the \
         change; nothing was changed"
    )]
    TableChanged {
        /// The version that the caller has read, as it named it.
        expected: String,
        /// [`Table::version`](crate::Table::version) of what runs.
        current: String,
    },

    /// Decapsulation cannot be set up or changed.
    #[error(transparent)]
    Decap(#[from] DecapError),

    /// Packet tests cannot ask a gateway for its MAC.
    #[error("config.interfaces[0] ({interface}): packet tests need gateway_mac")]
    PacketTestGateway {
        /// The interface.
        interface: String,
    },

    /// There is no program for a filter of packets.
    #[error(transparent)]
    Filter(#[from] FilterError),

    /// Packets cannot be captured.
    #[error(transparent)]
    Capture(#[from] CaptureError),

    /// A packet-test file that cannot be used.
    #[error(transparent)]
    PacketTest(#[from] PacketTestError),
}

/// A result of this library.
pub type Result<T, E = Error> = std::result::Result<T, E>;
