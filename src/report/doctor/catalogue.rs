//! What `lbctl doctor` looks for. docs/doctor.md explains each, and a test compares the two.

use std::fmt;

use serde::Serialize;
use serde::Serializer;

/// How much a finding hurts. Worse ones come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Packets are lost, or a command fails.
    Error,
    /// The host is slower than it could be, or loses packets under conditions that one must expect.
    Warning,
    /// Worth knowing.
    Note,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        })
    }
}

macro_rules! finding_ids {
    ($($(#[doc = $doc:literal])* $variant:ident = $name:literal [$($severity:ident),*],)*) => {
        /// What doctor looks for. The names do not change.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum FindingId {
            $($(#[doc = $doc])* $variant,)*
        }

        impl FindingId {
            /// All, in the order of docs/doctor.md.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The name, in kebab case.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// The severities that it can have.
            pub fn severities(self) -> &'static [Severity] {
                match self {
                    $(Self::$variant => &[$(Severity::$severity),*],)*
                }
            }
        }
    };
}

finding_ids! {
    /// The process lacks root's capabilities, so doctor cannot look at much.
    NotRoot = "not-root" [Note],
    /// The kernel is older than what l4lb needs.
    KernelTooOld = "kernel-too-old" [Error],
    /// There is no bpf filesystem for the pins.
    NoBpffs = "no-bpffs" [Error],
    /// There is no sysfs or procfs, which tell what the host has.
    NoSystemFiles = "no-system-files" [Error],
    /// Users other than root can reach the folders of pins.
    ExposedPins = "exposed-pins" [Error, Warning],
    /// The kernel interprets BPF programs.
    JitOff = "jit-off" [Warning],
    /// The kernel blinds constants in BPF programs, in root's too.
    JitHardening = "jit-hardening" [Note],
    /// The maps need more memory than there is.
    MemoryShort = "memory-short" [Error],
    /// A VIP, a real or a gateway has an address that is the balancer's own.
    OwnAddress = "own-address" [Error],
    /// A real is this host, which does not have the VIP's address.
    LocalWithoutVip = "local-without-vip" [Error],
    /// Packets for a real leave, though it has an address of this host.
    OwnRealSent = "own-real-sent" [Warning],
    /// Frames for a real are to go to its own MAC, and it is on no network of an interface.
    RealNotOnLink = "real-not-on-link" [Error],
    /// A real has too little weight for a slot of the ring.
    RealOutweighed = "real-outweighed" [Warning],
    /// Packets to other ports of a VIP's address go in circles.
    OtherPortsForwarded = "other-ports-forwarded" [Warning],
    /// Anybody may send packets in an outer header.
    DecapsulateOpen = "decapsulate-open" [Warning],
    /// Packets by GUE leave from an address that is not this host's.
    GueSourceElsewhere = "gue-source-elsewhere" [Note],
    /// Checks cannot go through the tunnel to a VIP's address.
    TunnelBlocked = "tunnel-blocked" [Error],
    /// The kernel drops the answers of checks that go through the tunnel.
    AnswersFiltered = "answers-filtered" [Error],
    /// Policy routing uses marks of checks.
    MarkRule = "mark-rule" [Warning],
    /// This host cannot run a check, or the program that is told of changes.
    CheckUnusable = "check-unusable" [Error],
    /// A VIP's `min_healthy` is so high that checks never take a real out.
    AlwaysFailsOpen = "always-fails-open" [Warning],
    /// A check takes more than a minute to find a failure.
    SlowDetection = "slow-detection" [Note],
    /// VIPs have checks, and nobody runs them.
    NobodyChecks = "nobody-checks" [Warning],
    /// VIPs have no check: nobody finds out how their reals do.
    NoCheck = "no-check" [Note],
    /// Somebody removed pins of what runs, or put something else in their place.
    LostPins = "lost-pins" [Error],
    /// The pins are those of another build, or cannot be read.
    InstanceUnreadable = "instance-unreadable" [Error],
    /// The chain does not lead to the balancer.
    ProgramNotInPlace = "program-not-in-place" [Error],
    /// Interfaces run the root program, though the chain has one program only.
    ChainDetour = "chain-detour" [Warning],
    /// The maps that the packet path reads do not match the VIPs and reals.
    MapMismatch = "map-mismatch" [Error, Warning],
    /// The MAC of a real is not known, and its packets need it.
    RealMacUnknown = "real-mac-unknown" [Error],
    /// Packets come to CPUs that have no connection table.
    CpusWithoutTable = "cpus-without-table" [Warning],
    /// CPUs with a connection table receive no packets.
    IdleTables = "idle-tables" [Note],
    /// The connection table forgets flows that are in use.
    TableTooSmall = "table-too-small" [Warning],
    /// Packets within connections find no flow, though no connection table is full.
    MissesWithRoom = "misses-with-room" [Warning],
    /// There are, or were, more new flows a second than the balancer remembers.
    NewFlowsLimited = "new-flows-limited" [Warning, Note],
    /// `lbctl serve` cannot listen for the control API.
    ControlApi = "control-api" [Warning],
    /// Packets for VIPs come in frames to MACs that are not this host's.
    OtherMac = "other-mac" [Warning],
    /// Packets go round between sites.
    DecapsulateLoop = "decapsulate-loop" [Warning],
    /// Packets of other sites are dropped.
    DecapsulateRefused = "decapsulate-refused" [Warning],
    /// Reals answer that nothing takes GUE there.
    GuePortUnreachable = "gue-port-unreachable" [Error, Note],
    /// There is no such interface.
    InterfaceMissing = "interface-missing" [Error],
    /// The interface is down, or not connected.
    InterfaceDown = "interface-down" [Error],
    /// The configuration names a bond instead of its members.
    BondInterface = "bond-interface" [Error],
    /// The interface does not run the programs that it should.
    NotAttached = "not-attached" [Error],
    /// The interface runs somebody else's XDP program.
    ForeignProgram = "foreign-program" [Error],
    /// The programs run in generic mode, behind the driver.
    GenericMode = "generic-mode" [Warning, Note],
    /// The driver has no native mode.
    NativeUnsupported = "native-unsupported" [Error, Warning],
    /// Frames may be too long for native mode.
    NativeMtu = "native-mtu" [Error, Warning],
    /// There are too many or too few queues for native mode.
    NativeQueues = "native-queues" [Error, Warning],
    /// Packets that XDP sends share the queues of the host's own traffic.
    SharedTransmitQueues = "shared-transmit-queues" [Warning],
    /// The other end of a veth drops what XDP sends.
    VethPeer = "veth-peer" [Error],
    /// The card merges packets.
    Lro = "lro" [Warning],
    /// The card takes VLAN tags away before XDP sees them.
    VlanOffload = "vlan-offload" [Warning],
    /// Senders at the other end of a veth leave checksums and segments unfinished.
    SenderOffloads = "sender-offloads" [Warning, Note],
    /// There are fewer receive queues than CPUs.
    FewQueues = "few-queues" [Warning, Note],
    /// One CPU serves several receive queues.
    InterruptsOnOneCpu = "interrupts-on-one-cpu" [Warning],
    /// The MTU has no room for the outer header.
    MtuNoRoom = "mtu-no-room" [Error, Warning],
    /// The interface's MTU is not what the packet path was told.
    MtuChanged = "mtu-changed" [Error, Warning],
    /// The interface's MAC is not what the packet path was told.
    MacChanged = "mac-changed" [Error],
    /// The gateway cannot be found.
    GatewayUnresolved = "gateway-unresolved" [Error],
    /// The gateway has another MAC than the packet path was told.
    GatewayMoved = "gateway-moved" [Error],
    /// Nothing takes the outer header off.
    NoDecap = "no-decap" [Error],
    /// Decapsulation is no longer on its interface.
    DecapDetached = "decap-detached" [Error],
    /// Anybody may send encapsulated packets.
    DecapOpen = "decap-open" [Warning],
    /// The host forwards, and inner packets may be for other hosts.
    DecapWide = "decap-wide" [Warning],
    /// Inner packets may come from addresses of the host, because the map has no room for all of them.
    DecapOwnLeftOut = "decap-own-left-out" [Warning],
    /// Segments that clients are asked for are not lowered as was asked.
    DecapMss = "decap-mss" [Error, Warning],
    /// A program listens at a UDP port of GUE.
    DecapGuePort = "decap-gue-port" [Warning],
    /// The addresses of the host have changed since they were read.
    DecapOutdated = "decap-outdated" [Error, Warning],
    /// Inner packets are for a VIP that decapsulation does not let pass.
    DecapVipRefused = "decap-vip-refused" [Error],
    /// Decapsulation has refused packets.
    DecapRefused = "decap-refused" [Note],
    /// Routers have fragmented encapsulated packets.
    DecapFragments = "decap-fragments" [Warning],
    /// Encapsulated packets come for addresses that decapsulation does not serve.
    DecapOtherDestination = "decap-other-destination" [Warning, Note],
    /// Packets come with wrong checksums.
    WrongChecksums = "wrong-checksums" [Warning, Note],
    /// The host does not have the VIP.
    VipMissing = "vip-missing" [Error],
    /// The VIP is on an interface that answers for it on the wire.
    VipOnWire = "vip-on-wire" [Error],
    /// The host has no address that looks like a VIP.
    NoVip = "no-vip" [Note],
    /// The host answers ARP for VIPs.
    ArpIgnore = "arp-ignore" [Error, Warning],
    /// The host sends ARP requests with a VIP as its own address.
    ArpAnnounce = "arp-announce" [Warning],
    /// The reverse path filter drops decapsulated packets.
    RpFilter = "rp-filter" [Error],
    /// There is no route back to clients.
    NoRouteBack = "no-route-back" [Error],
    /// The host asks clients for segments that do not fit once encapsulated.
    Mss = "mss" [Warning],
    /// Packets for a VIP that the host does not have go in circles.
    Forwarding = "forwarding" [Note],
}

impl fmt::Display for FindingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Serialize for FindingId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}
