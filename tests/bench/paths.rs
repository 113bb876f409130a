//! The paths of packets that are measured.

use l4lb::Encapsulation;
use l4lb::capture::Points;

use crate::args::Effort;
use crate::frames::Kind;
use crate::programs::DROP;
use crate::programs::PASS;
use crate::programs::TX;
use crate::report::count;

/// A path of packets.
#[derive(Clone, Debug)]
pub(crate) struct Path {
    /// Its name.
    pub(crate) name: String,
    /// What its packets are.
    pub(crate) what: String,
    pub(crate) packets: Kind,
    /// How many flows there are; `None`: every packet is of a new one.
    pub(crate) flows: Option<u32>,
    /// The packets that make the flows known.
    pub(crate) known_by: Option<Kind>,
    /// The reason that the balancer must count.
    pub(crate) reason: &'static str,
    /// Whether the yardstick does something like it.
    pub(crate) yardstick: bool,
    /// What differs from the configuration.
    pub(crate) setting: Setting,
    /// Whether it is measured with every kind of connection table.
    pub(crate) every_table: bool,
    /// Whether it is measured with other programs in the chain, too.
    pub(crate) chains: bool,
}

/// A state that balancers can be in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Setting {
    /// As configured.
    Default,
    /// The balancer remembers every new flow, however many there are.
    Unlimited,
    /// Programs that hand on fill all slots of the chain from the first to the second of these.
    Neighbours(u32, u32),
    /// Packets go to the reals in another way than by IP in IP.
    By(Encapsulation),
    /// Somebody captures.
    Captured(Captured),
}

/// What a capture sees of the packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Captured {
    pub(crate) at: Points,
    /// Whether its filter matches them.
    pub(crate) matches: bool,
}

impl Captured {
    const ALL: [Self; 4] = [
        Self { at: Points::Entry, matches: false },
        Self { at: Points::Entry, matches: true },
        Self { at: Points::Exit, matches: false },
        Self { at: Points::Exit, matches: true },
    ];

    fn name(self) -> &'static str {
        match (self.at, self.matches) {
            (Points::Entry, false) => "dump-entry-other",
            (Points::Entry, true) => "dump-entry",
            (_, false) => "dump-exit-other",
            (_, true) => "dump-exit",
        }
    }

    fn what(self) -> String {
        let at = if self.at == Points::Entry { "entry" } else { "exit" };
        if self.matches {
            format!("captured at {at}")
        } else {
            format!("a capture at {at} whose filter does not match")
        }
    }
}

impl Path {
    /// Packets of flows that the connection table knows.
    fn hit(family: &str, packets: Kind, what: &str, flows: u32) -> Self {
        Self {
            name: format!("{family}-hit-{}", count(flows)),
            what: format!("{what}, known flows: {}", count(flows)),
            packets,
            flows: Some(flows),
            known_by: Some(packets),
            reason: "connection_table",
            yardstick: true,
            setting: Setting::Default,
            every_table: true,
            chains: false,
        }
    }

    /// Packets each of which is of a new flow.
    fn flood(name: &str, packets: Kind, what: &str) -> Self {
        Self {
            name: name.to_owned(),
            what: what.to_owned(),
            flows: None,
            known_by: None,
            reason: "ring",
            ..Self::hit("", packets, "", 0)
        }
    }

    /// Packets that do not reach the connection table.
    fn without_table(name: &str, packets: Kind, reason: &'static str, what: &str) -> Self {
        Self {
            flows: Some(1),
            reason,
            yardstick: false,
            every_table: false,
            ..Self::flood(name, packets, what)
        }
    }

    /// All of them, but [`Path::with_many_flows`].
    pub(crate) fn all(effort: &Effort) -> Vec<Self> {
        let some = effort.flows[1];
        let hit = |flows| Self::hit("tcp4", Kind::Tcp4Ack, "TCP", flows);
        let mut paths: Vec<Self> = effort.flows.into_iter().map(hit).collect();
        paths.extend(Self::of_kinds_of_packets(some));
        let chained = [&hit(1).name, &hit(some).name, "tcp4-stateless", "not-vip"];
        for path in &mut paths {
            path.chains = chained.contains(&path.name.as_str());
        }
        paths.extend(Self::by_other_ways(some));
        paths.extend(Self::handed_on());
        paths.extend(Self::captured(&hit(some)));
        paths
    }

    /// A path for each kind of packets, but TCP of known flows over IPv4. `some`: how many flows are known.
    fn of_kinds_of_packets(some: u32) -> [Self; 10] {
        [
            Self::flood("tcp4-syn-flood", Kind::Tcp4Syn, "SYNs, each of a new flow"),
            Self::flood("tcp4-ack-flood", Kind::Tcp4Ack, "ACKs, each of a new flow"),
            Self {
                setting: Setting::Unlimited,
                ..Self::flood("tcp4-new", Kind::Tcp4Syn, "SYNs of new flows, all remembered")
            },
            Self {
                flows: Some(some),
                yardstick: true,
                ..Self::without_table(
                    "tcp4-stateless",
                    Kind::Tcp4Stateless,
                    "ring",
                    "TCP to a VIP without connection table",
                )
            },
            Self::hit("udp4", Kind::Udp4, "UDP", some),
            Self::hit("tcp6", Kind::Tcp6Ack, "TCP over IPv6", some),
            Self::flood("tcp6-syn-flood", Kind::Tcp6Syn, "SYNs over IPv6, each of a new flow"),
            Self::without_table(
                "icmp4-echo-flood",
                Kind::Echo4,
                "source_limited",
                "echo requests of one source, of which few are answered",
            ),
            Self {
                yardstick: false,
                known_by: Some(Kind::Tcp4Ack),
                reason: "icmp_error",
                name: format!("icmp4-error-{}", count(some)),
                what: format!("ICMP errors, about known flows: {}", count(some)),
                ..Self::hit("", Kind::Error4, "", some)
            },
            Self {
                yardstick: true,
                ..Self::without_table(
                    "not-vip",
                    Kind::Elsewhere4,
                    "not_vip",
                    "TCP to no VIP, passed",
                )
            },
        ]
    }

    /// Packets to no VIP with one program behind the balancer: right behind it, and after six empty slots.
    fn handed_on() -> [Self; 2] {
        [("not-vip-slot-9", 9), ("not-vip-slot-15", 15)].map(|(name, slot)| {
            let what = format!("TCP to no VIP, handed on to a program in slot {slot}");
            let path = Self::without_table(name, Kind::Elsewhere4, "not_vip", &what);
            Self { setting: Setting::Neighbours(slot, slot), ..path }
        })
    }

    /// Known flows by GUE and L2, in all combinations of IP versions; and those without GUE that no other path has.
    fn by_other_ways(some: u32) -> impl Iterator<Item = Self> {
        let kinds = [
            ("tcp4", Kind::Tcp4Ack, "TCP, IPv4 in IPv4"),
            ("tcp4-in-6", Kind::Tcp4To6Ack, "TCP, IPv4 in IPv6"),
            ("tcp6-in-4", Kind::Tcp6To4Ack, "TCP, IPv6 in IPv4"),
            ("tcp6", Kind::Tcp6Ack, "TCP, IPv6 in IPv6"),
            ("udp4", Kind::Udp4, "UDP, IPv4 in IPv4"),
        ];
        // The yardstick has no reals of the other version.
        let alike = |kind| !matches!(kind, Kind::Tcp4To6Ack | Kind::Tcp6To4Ack);
        let hit = move |name: &str, kind, what: &str, setting, way: &str| Self {
            name: format!("{}{way}", Self::hit(name, kind, what, some).name),
            setting,
            yardstick: alike(kind),
            every_table: false,
            ..Self::hit(name, kind, what, some)
        };
        let plain = move |(name, kind, what)| hit(name, kind, what, Setting::Default, "");
        let gue = move |(name, kind, what)| {
            let path = hit(name, kind, what, Setting::By(Encapsulation::Gue), "-gue");
            Self { what: format!("{}, by GUE", path.what), ..path }
        };
        let l2 = move |(name, kind, _)| {
            let what = if name == "tcp4" { "TCP over IPv4" } else { "TCP over IPv6" };
            let path = hit(name, kind, what, Setting::By(Encapsulation::L2), "-l2");
            Self { what: format!("{}, by L2", path.what), ..path }
        };
        let [_, four_in_six, six_in_four, ..] = kinds;
        let plain = [four_in_six, six_in_four].map(plain);
        // L2 knows no versions of reals: those of IPv4 take both.
        let l2 = [kinds[0], kinds[2]].map(l2);
        plain.into_iter().chain(kinds.map(gue)).chain(l2)
    }

    /// This path while somebody captures.
    fn captured(path: &Self) -> impl Iterator<Item = Self> {
        Captured::ALL.into_iter().map(|captured| Self {
            name: format!("{}-{}", path.name, captured.name()),
            what: format!("{}; {}", path.what, captured.what()),
            setting: Setting::Captured(captured),
            every_table: false,
            ..path.clone()
        })
    }

    /// The path that needs larger tables than the others.
    pub(crate) fn with_many_flows(effort: &Effort) -> Self {
        Self::hit("tcp4", Kind::Tcp4Ack, "TCP", effort.many_flows)
    }

    /// The verdict about its packets, `XDP_*`.
    pub(crate) fn verdict(&self) -> u32 {
        match self.packets {
            Kind::Elsewhere4 => PASS,
            Kind::Echo4 => DROP,
            _ => TX,
        }
    }
}
