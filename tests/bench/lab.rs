//! Where the benchmark runs: a network namespace and a BPF filesystem of its own, in which balancers
//! are set up by the library, as users set them up.
//!
//! ```text
//! far end ═══ veth, native XDP ═══ near end: root ─► chain ─► balancer
//! ```

use std::fs;
use std::ops::RangeInclusive;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use l4lb::Balancer;
use l4lb::Config;
use l4lb::Encapsulation;
use l4lb::Instance;
use l4lb::Stats;
use l4lb::VipConfig;
use l4lb::capture::Capture;
use l4lb::capture::CaptureOptions;
use nix::net::if_::if_nametoindex;

use crate::Result;
use crate::chain;
use crate::chain::Neighbours;
use crate::fixtures::Bpffs;
use crate::fixtures::NetNs;
use crate::fixtures::Verdict;
use crate::fixtures::XdpLink;
use crate::fixtures::vip;
use crate::frames::PORT;
use crate::frames::STATELESS_VIP4;
use crate::frames::VIP4;
use crate::frames::VIP4_TO_6;
use crate::frames::VIP6;
use crate::frames::VIP6_TO_4;
use crate::frames::real;
use crate::host;
use crate::paths::Captured;
use crate::programs::Ingress;
use crate::programs::Programs;
use crate::programs::pinned_program;

/// Reals of each VIP.
const REALS: u16 = 100;

/// More new connections a second than there can be, so that the balancer remembers all.
const NO_LIMIT: u32 = u32::MAX;

/// How long the reader of a capture waits for packets.
const READER_PAUSE: Duration = Duration::from_millis(100);

/// Where packets of GUE come from.
const SOURCE4: &str = "192.0.2.1";
const SOURCE6: &str = "2001:db8::1";

const GATEWAY_MAC: &str = "02:00:00:00:00:fe";

/// Room for the outer header.
const MTU: u32 = 1600;

/// The namespace and what is in it.
#[derive(Debug)]
pub(crate) struct Lab<'n> {
    pub(crate) ns: &'n NetNs,
    pub(crate) programs: Programs,
    /// The CPUs that the benchmark may use.
    pub(crate) cpus: Vec<u32>,
    bpffs: Bpffs,
}

impl<'n> Lab<'n> {
    /// Makes it, and compiles the benchmark's programs. Call it inside the namespace: the BPF filesystem is mounted for
    /// the calling thread and the threads that it starts, and ends with them.
    pub(crate) fn new(ns: &'n NetNs, cpus: Vec<u32>) -> Result<Self> {
        let programs = Programs::compile()?;
        // Interfaces must be silent: packets that they send by themselves would be measured, too.
        ns.shell("echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6");
        Ok(Self { ns, programs, cpus, bpffs: Bpffs::new() })
    }

    /// An instance that does not exist yet.
    pub(crate) fn instance(&self, name: &str) -> Result<Instance> {
        Ok(Instance::new(self.bpffs.path(), name)?)
    }

    /// A pair of interfaces with a receive queue for each CPU. A program at the far end drops what arrives: without one,
    /// packets that an XDP program sends would not arrive at all.
    pub(crate) fn link(&self, name: &str) -> Link<'_> {
        let (near, far) = (name.to_owned(), format!("{name}-far"));
        let queues = self.cpus.iter().max().map_or(1, |last| last + 1);
        let queues = format!("mtu {MTU} numrxqueues {queues} numtxqueues {queues}");
        self.ns.shell(&format!(
            "ip link add name {near} address 02:00:00:00:00:02 {queues} type veth peer name {far} {queues}
             ip link set {near} up
             ip link set {far} up"
        ));
        let sink = XdpLink::attach(self.ns, &far, Verdict::Drop);
        Link { lab: self, near, far, _sink: sink }
    }
}

/// Two interfaces that are connected. They are removed when it is dropped.
#[derive(Debug)]
pub(crate) struct Link<'l> {
    lab: &'l Lab<'l>,
    pub(crate) near: String,
    pub(crate) far: String,
    _sink: XdpLink,
}

/// One of them.
#[derive(Clone, Copy, Debug)]
pub(crate) enum End {
    Near,
    Far,
}

impl Link<'_> {
    /// The benchmark's programs.
    pub(crate) fn programs(&self) -> &Programs {
        &self.lab.programs
    }

    /// Frames that an end has received, whatever its program made of them.
    pub(crate) fn received(&self, end: End) -> Result<u64> {
        let name = match end {
            End::Near => &self.near,
            End::Far => &self.far,
        };
        let file = format!("/sys/class/net/{name}/statistics/rx_packets");
        Ok(fs::read_to_string(file)?.trim().parse()?)
    }
}

impl Drop for Link<'_> {
    fn drop(&mut self) {
        // Else the namespace takes it along.
        if !thread::panicking() {
            self.lab.ns.shell(&format!("ip link del {}", self.near));
        }
    }
}

/// What `connection_table.kind` may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TableKind {
    SetAssociative,
    Lru,
}

impl TableKind {
    /// Every kind of connection table. Measurements that involve one are made with each.
    pub(crate) const ALL: [Self; 2] = [Self::SetAssociative, Self::Lru];

    /// As the configuration has it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::SetAssociative => "set-associative",
            Self::Lru => "lru",
        }
    }

    /// For names of links, which have 15 bytes at most.
    fn short_name(self) -> &'static str {
        match self {
            Self::SetAssociative => "sets",
            Self::Lru => "lru",
        }
    }

    /// The line of the configuration that asks for it.
    fn key(self) -> String {
        format!("kind = \"{}\"", self.name())
    }
}

/// A balancer on an interface of its own. It is taken down when it is dropped.
#[derive(Debug)]
pub(crate) struct Site<'l> {
    pub(crate) kind: TableKind,
    pub(crate) link: Link<'l>,
    pub(crate) config: Config,
    instance: Instance,
}

impl<'l> Site<'l> {
    /// Sets one up whose connection tables of `kind` have so many entries in all, on these CPUs.
    pub(crate) fn new(
        lab: &'l Lab<'l>,
        name: &str,
        kind: TableKind,
        cpus: &[u32],
        entries: u32,
    ) -> Result<Self> {
        let name = format!("{name}-{}", kind.short_name());
        let link = lab.link(&name);
        let config = Config::from_toml(&format!(
            "{}\n[connection_table]\nentries = {entries}\ncpus = {cpus:?}\n{}\n{}",
            interface(&link.near),
            kind.key(),
            vips()
        ))?;
        let instance = lab.instance(&name)?;
        Balancer::apply(&instance, &config)?;
        Ok(Self { kind, link, config, instance })
    }

    /// Remembers every new connection while `work` runs, however many come. Only the balancer's program is replaced.
    pub(crate) fn without_limit<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let mut config = self.config.clone();
        config.connection_table.new_connections_per_second = NO_LIMIT;
        Balancer::apply(&self.instance, &config)?;
        let done = work();
        Balancer::apply(&self.instance, &self.config)?;
        done
    }

    /// Sends packets to the reals in another way while `work` runs. Flows stay known.
    pub(crate) fn by<T>(
        &self,
        encapsulation: Encapsulation,
        work: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let mut config = self.config.clone();
        if encapsulation == Encapsulation::L2 {
            self.meet_reals();
            // The reals of IPv4 alone are neighbours.
            let near = |vip: &&mut VipConfig| vip.reals.iter().all(|real| real.address.is_ipv4());
            config
                .vips
                .iter_mut()
                .filter(near)
                .for_each(|vip| vip.encapsulation = Some(encapsulation));
        } else {
            config.packets.encapsulation = encapsulation;
        }
        config.packets.encap_source_v4 = Some(SOURCE4.parse()?);
        config.packets.encap_source_v6 = Some(SOURCE6.parse()?);
        Balancer::apply(&self.instance, &config)?;
        let done = work();
        Balancer::apply(&self.instance, &self.config)?;
        done
    }

    /// Makes the reals of IPv4 neighbours on the link, whose MACs the kernel knows.
    fn meet_reals(&self) {
        let near = &self.link.near;
        let neighbour = |number| {
            let real = real(false, number);
            format!(
                "ip neigh replace {real} lladdr 02:00:00:00:01:{number:02x} dev {near} nud permanent\n"
            )
        };
        let neighbours: String = (1..=REALS).map(neighbour).collect();
        self.link
            .lab
            .ns
            .shell(&format!("ip address replace 10.0.255.254/16 dev {near}\n{neighbours}"));
    }

    /// A program that is pinned: `root` begins the chain.
    pub(crate) fn program(&self, name: &str) -> Result<OwnedFd> {
        pinned_program(&self.pin(name))
    }

    /// What the interface runs now: the program of its link.
    pub(crate) fn attached(&self) -> Result<OwnedFd> {
        let link = libbpf_rs::Link::open(self.instance.dir().join("link").join(&self.link.near))?;
        Ok(libbpf_rs::Program::fd_from_id(link.info()?.prog_id)?)
    }

    /// The instance that it is.
    pub(crate) fn instance(&self) -> &Instance {
        &self.instance
    }

    /// `lbctl` of the same build, for it.
    pub(crate) fn lbctl(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lbctl"));
        let bpffs = self.link.lab.bpffs.path();
        command.arg("--bpffs").arg(bpffs).args(["--instance", self.instance.name()]);
        command
    }

    /// How its packets come in.
    pub(crate) fn ingress(&self) -> Result<Ingress> {
        Ok(Ingress { ifindex: if_nametoindex(self.link.near.as_str())?, queue: 0 })
    }

    /// Its counters.
    pub(crate) fn stats(&self) -> Result<Stats> {
        Ok(Balancer::open(&self.instance)?.stats()?)
    }

    /// Fills those of these slots of the chain that are empty while `work` runs, with programs that hand on.
    pub(crate) fn with_neighbours<T>(
        &self,
        slots: RangeInclusive<u32>,
        work: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let neighbours = Neighbours::fill(self, slots)?;
        let done = neighbours.lead(&chain::slots(chain::SLOTS)).and_then(|()| work());
        neighbours.end()?;
        done
    }

    /// Captures while `work` runs. If there is another CPU, the thread that reads the capture runs there.
    pub(crate) fn with_capture<T>(
        &self,
        captured: Captured,
        work: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let filter = if captured.matches { "ip" } else { "udp port 9" };
        let mut options = CaptureOptions::default();
        options.at = captured.at;
        options.filter = filter.into();
        let mut capture = Capture::start(&self.instance, &options)?;
        let ends = AtomicBool::new(false);
        thread::scope(|scope| {
            let reader = scope.spawn(|| -> Result<u64> {
                host::leave_cpu(&self.link.lab.cpus)?;
                let mut packets = 0;
                while !ends.load(Ordering::Relaxed) {
                    packets += capture.next_batch(READER_PAUSE)?.len() as u64;
                }
                capture.stop()?;
                Ok(packets)
            });
            let done = work();
            ends.store(true, Ordering::Relaxed);
            let packets = reader.join().map_err(|_| "the reader of a capture panicked")??;
            if captured.matches == (packets == 0) {
                return Err(format!("a capture got {packets} packets").into());
            }
            done
        })
    }

    /// Where a program is pinned.
    pub(crate) fn pin(&self, name: &str) -> PathBuf {
        self.instance.dir().join("prog").join(name)
    }

    /// Where a map is pinned.
    pub(crate) fn map(&self, name: &str) -> PathBuf {
        self.instance.dir().join("map").join(name)
    }
}

impl Drop for Site<'_> {
    fn drop(&mut self) {
        if let Err(error) = Balancer::down(&self.instance) {
            eprintln!("error: {error}");
        }
    }
}

/// The `[[interfaces]]` of a configuration: frames leave natively, to a gateway that need not be asked for.
pub(crate) fn interface(name: &str) -> String {
    format!(
        "[[interfaces]]\nname = \"{name}\"\nxdp_mode = \"native\"\ngateway_mac = \"{GATEWAY_MAC}\"\n"
    )
}

/// A `[[vips]]` of a configuration, whose reals have these numbers.
pub(crate) fn vip_with(uri: &str, reals: impl IntoIterator<Item = u16>) -> String {
    let v6 = uri.contains('[');
    let reals: Vec<String> = reals.into_iter().map(|number| real(v6, number).to_string()).collect();
    vip(uri, &reals.iter().map(String::as_str).collect::<Vec<_>>())
}

/// What the frames are for.
fn vips() -> String {
    let vip = |uri| vip_with(uri, 1..=REALS);
    let other = |uri, v6| {
        let reals = (1..=REALS).map(|number| real(v6, number).to_string()).collect::<Vec<_>>();
        crate::fixtures::vip(uri, &reals.iter().map(String::as_str).collect::<Vec<_>>())
    };
    [
        vip(&format!("tcp://{VIP4}:{PORT}")),
        vip(&format!("udp://{VIP4}:{PORT}")),
        vip(&format!("tcp://[{VIP6}]:{PORT}")),
        vip(&format!("tcp://{STATELESS_VIP4}:{PORT}")),
        "connection_table = false\n".to_owned(),
        other(&format!("tcp://{VIP4_TO_6}:{PORT}"), true),
        other(&format!("tcp://[{VIP6_TO_4}]:{PORT}"), false),
    ]
    .concat()
}
