//! The way of checks through the tunnel: attaches the program that encapsulates them (`bpf/healthcheck.bpf.c`) where
//! the host's routes to the VIPs lead, and says why it cannot.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::time::Duration;

use crate::dataplane::balancer::Balancer;
use crate::dataplane::balancer::open_dataplane;
use crate::dataplane::balancer::running_knobs;
use crate::dataplane::health::HealthStore;
use crate::instance::Instance;
use crate::instance::chain::place;
use crate::instance::egress;
use crate::instance::egress::Attachment;
use crate::instance::egress::CHECK_FLOWS;
use crate::instance::egress::Egress;
use crate::instance::egress::STATES;
use crate::instance::egress::attachments;
use crate::instance::links::refuse_other_namespace;
use crate::instance::programs::load_healthcheck;
use crate::kernel::bpf;
use crate::kernel::netlink::LinkFacts;
use crate::kernel::netlink::Ways;
use crate::kernel::netlink::links_blocking;
use crate::kernel::netlink::silent_blocking;
use crate::kernel::netlink::ways_blocking;
use crate::kernel::source::source_to;
use crate::model::abi;
use crate::model::abi::consts;
use crate::model::error::Error;
use crate::model::error::Result;
use crate::model::error::TunnelObstacle;

/// The maps that the program shares with the balancer.
const SHARED: [&str; 4] = ["interfaces", "neighbours", "reals", "vips"];

/// The way of checks through the tunnel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TunnelPath {
    /// The interfaces at which packets of checks are encapsulated.
    pub interfaces: BTreeSet<String>,
    /// The VIP addresses to which checks cannot go through the tunnel, and why.
    pub obstacles: BTreeMap<IpAddr, TunnelObstacle>,
    /// Whether a program was attached, replaced or detached.
    pub changed: bool,
}

/// The mark of sockets whose packets go to the real of an id.
fn mark(first_mark: u32, id: u32) -> u32 {
    first_mark.wrapping_add(id)
}

impl Balancer {
    /// Sees to it that packets of checks to these VIP addresses are encapsulated, and that nothing is left that no
    /// longer is needed. Changes nothing if all is as it should be; with no address, detaches the program everywhere.
    ///
    /// A VIP address to which checks cannot go is no error: see [`TunnelPath::obstacles`].
    pub fn ensure_tunnel(
        instance: &Instance,
        vips: &BTreeSet<IpAddr>,
        first_mark: u32,
    ) -> Result<TunnelPath> {
        instance.check_host()?;
        let wanted = Wanted::find(instance, vips, first_mark)?;
        if wanted.is_there(instance)? {
            return Ok(wanted.path);
        }
        let Some(_lock) = instance.lock_existing()? else { return Ok(TunnelPath::default()) };
        ensure_locked(instance, vips, first_mark, Others::Detach)
    }

    /// Sees to it that packets of a check of one real go through the tunnel to a VIP's address, besides those of the
    /// checks that VIPs have. Returns the mark (`SO_MARK`) of the check's sockets. When the check is over, call
    /// [`Self::release_tunnel`].
    pub fn tunnel_to(&self, vip: IpAddr, real: IpAddr) -> Result<u32> {
        let instance = &self.instance;
        let (mut vips, first_mark) = asked_for(instance)?;
        vips.insert(vip);
        let mut wanted = Wanted::find(instance, &vips, first_mark)?;
        match wanted.path.obstacles.remove(&vip) {
            // The kernel delivers the check as it delivers what a client sends to this real.
            Some(TunnelObstacle::OwnAddress { .. }) if self.local_reals()?.contains(&real) => {}
            Some(obstacle) => return Err(Box::new(obstacle).into()),
            None => {}
        }
        let Some(mark) = self.tunnel_mark(real, first_mark)? else {
            return Err(Box::new(TunnelObstacle::NoSuchReal { vip, real }).into());
        };
        if !wanted.is_there(instance)? {
            let _lock = instance.lock_existing()?;
            ensure_locked(instance, &vips, first_mark, Others::Keep)?;
        }
        Ok(mark)
    }

    /// Detaches the program where no VIP's checks need it.
    pub fn release_tunnel(&self) -> Result<()> {
        let (vips, first_mark) = asked_for(&self.instance)?;
        Self::ensure_tunnel(&self.instance, &vips, first_mark).map(drop)
    }

    /// Why checks cannot go through the tunnel to a VIP's address; `None`: they can, once
    /// [`Self::ensure_tunnel`] was called for it.
    pub fn tunnel_obstacle(&self, vip: IpAddr, first_mark: u32) -> Result<Option<TunnelObstacle>> {
        let wanted = Wanted::find(&self.instance, &[vip].into(), first_mark)?;
        Ok(wanted.path.obstacles.into_values().next())
    }

    /// The mark (`SO_MARK`) of sockets whose packets to a VIP's address go to this real; `None`: no VIP has the real.
    pub fn tunnel_mark(&self, real: IpAddr, first_mark: u32) -> Result<Option<u32>> {
        Ok(self.tunnel_marks(first_mark)?.remove(&real))
    }

    /// The reals that are this host itself. If a VIP's address is one of the host's, checks of these reals need no
    /// tunnel: the kernel delivers them, as it delivers clients' packets, and no other real can be checked that way.
    pub fn local_reals(&self) -> Result<BTreeSet<IpAddr>> {
        let reals = self.dataplane.read_reals()?.into_values();
        let local = reals.filter(|real| real.live && real.way.is_local());
        Ok(local.map(|real| real.address).collect())
    }

    /// The same for all reals.
    pub fn tunnel_marks(&self, first_mark: u32) -> Result<BTreeMap<IpAddr, u32>> {
        let reals = self.dataplane.read_reals()?.into_iter().filter(|(_, real)| real.live);
        Ok(reals.map(|(id, real)| (real.address, mark(first_mark, id))).collect())
    }
}

/// What happens to the program at interfaces where nobody asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Others {
    Detach,
    Keep,
}

/// As [`Balancer::ensure_tunnel`]; the caller has the lock.
fn ensure_locked(
    instance: &Instance,
    vips: &BTreeSet<IpAddr>,
    first_mark: u32,
    others: Others,
) -> Result<TunnelPath> {
    let mut wanted = Wanted::find(instance, vips, first_mark)?;
    if !wanted.is_there(instance)? {
        wanted.make(instance, others)?;
        wanted.path.changed = true;
    }
    Ok(wanted.path)
}

/// The VIP addresses that are checked through the tunnel, and the first mark.
fn asked_for(instance: &Instance) -> Result<(BTreeSet<IpAddr>, u32)> {
    let policies = HealthStore::of(instance).policies()?;
    Ok((policies.tunnel_addresses(), policies.health.first_mark))
}

/// Refuses to remove filters from another network namespace than the instance's. Links can be detached from anywhere.
pub(crate) fn refuse_filters_elsewhere(instance: &Instance) -> Result<()> {
    if egress::has_filters(Egress::Healthcheck, instance)? {
        refuse_other_namespace(instance, &[])
    } else {
        Ok(())
    }
}

/// Adapts the tunnel to what runs since a command changed it. The caller has the lock. What the command was for is
/// done, so an error is a warning.
pub(crate) fn warnings_after_change(instance: &Instance) -> Vec<String> {
    let adapt = || {
        let (vips, first_mark) = asked_for(instance)?;
        if vips.is_empty() && attachments(Egress::Healthcheck, instance)?.is_empty() {
            return Ok(TunnelPath::default());
        }
        ensure_locked(instance, &vips, first_mark, Others::Detach)
    };
    match adapt() {
        Ok(path) => path.obstacles.values().map(ToString::to_string).collect(),
        Err(error) => vec![format!("checks cannot go through the tunnel: {error}")],
    }
}

/// How packets of checks leave the host.
#[derive(Clone, Debug)]
pub(crate) struct Outlook {
    pub(crate) interfaces: Vec<String>,
    pub(crate) source: IpAddr,
}

/// How packets of checks to each of the addresses will leave the host, if the balancer serves these interfaces.
pub(crate) fn outlook(
    served: &[abi::interface],
    vips: &BTreeSet<IpAddr>,
    first_mark: u32,
) -> Result<Vec<(IpAddr, Result<Outlook, TunnelObstacle>)>> {
    let vips: Vec<_> = vips.iter().copied().collect();
    let ways = ways_blocking(&vips, first_mark)?;
    let host = Host::look(served, first_mark, &on_networks(&vips, &ways))?;
    let judged = vips.iter().zip(ways).map(|(vip, ways)| {
        let outlook = host.judge(*vip, &ways).map(|(by, source)| {
            let interfaces = by.into_iter().map(|facts| facts.link.name.clone()).collect();
            Outlook { interfaces, source }
        });
        (*vip, outlook)
    });
    Ok(judged.collect())
}

/// What is to be attached.
#[derive(Debug, Default)]
struct Wanted {
    path: TunnelPath,
    /// The interfaces, by index.
    interfaces: BTreeMap<u32, String>,
    knobs: Option<abi::knobs>,
    options: abi::healthcheck_options,
}

impl Wanted {
    /// Finds out where the routes to the VIPs lead. Empty, if the balancer does not run.
    fn find(instance: &Instance, vips: &BTreeSet<IpAddr>, first_mark: u32) -> Result<Self> {
        let mut wanted = Self {
            options: abi::healthcheck_options {
                build: consts::HEALTHCHECK_HASH,
                first_mark,
                exit: 0,
            },
            ..Self::default()
        };
        let Some(dataplane) = open_dataplane(instance)? else { return Ok(wanted) };
        wanted.knobs = running_knobs(instance)?;
        if vips.is_empty() {
            return Ok(wanted);
        }
        refuse_other_namespace(instance, &[])?;
        let vips: Vec<_> = vips.iter().copied().collect();
        let ways = ways_blocking(&vips, first_mark)?;
        let served = dataplane.read_interfaces()?;
        let host = Host::look(&served, first_mark, &on_networks(&vips, &ways))?;
        for (vip, ways) in vips.iter().zip(&ways) {
            match host.judge(*vip, ways) {
                Ok((by, _)) => {
                    for link in by {
                        if !host.served.contains_key(&link.link.index) {
                            wanted.options.exit = host.exit.unwrap_or_default();
                        }
                        wanted.interfaces.insert(link.link.index, link.link.name.clone());
                    }
                }
                Err(obstacle) => drop(wanted.path.obstacles.insert(*vip, obstacle)),
            }
        }
        wanted.path.interfaces = wanted.interfaces.values().cloned().collect();
        Ok(wanted)
    }

    /// Whether all is attached as it should be, and nothing else.
    fn is_there(&self, instance: &Instance) -> Result<bool> {
        let found = attachments(Egress::Healthcheck, instance)?;
        let here: BTreeSet<_> = found.iter().map(|found| found.ifindex).collect();
        if found.len() != here.len() || !here.iter().eq(self.interfaces.keys()) {
            return Ok(false);
        }
        for attachment in &found {
            match attachment.program {
                Some(program) if self.is_current(instance, program)? => {}
                _ => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Whether a program has the right options, knobs and maps.
    fn is_current(&self, instance: &Instance, program: u32) -> Result<bool> {
        let Some(knobs) = self.knobs else { return Ok(false) };
        let Some(rodata) = place::rodata(program)? else { return Ok(false) };
        let part = |offset: usize| rodata.get(offset..).unwrap_or_default();
        let runs: Option<abi::knobs> =
            abi::from_bytes(part(std::mem::offset_of!(abi::healthcheck_rodata, knobs)));
        let with: Option<abi::healthcheck_options> =
            abi::from_bytes(part(std::mem::offset_of!(abi::healthcheck_rodata, options)));
        let (Some(runs), Some(with)) = (runs, with) else { return Ok(false) };
        if abi::bytes_of(&runs) != abi::bytes_of(&knobs)
            || abi::bytes_of(&with) != abi::bytes_of(&self.options)
        {
            return Ok(false);
        }
        let info = bpf::program_by_id(program)
            .and_then(|program| bpf::program_info(program.as_fd()))
            .map_err(|source| Error::Host {
                operation: "ask the kernel about a program",
                source,
            })?;
        let uses = |name: &str| {
            egress::pinned_map(instance, name).is_some_and(|map| info.maps.contains(&map))
        };
        Ok(SHARED.into_iter().chain([STATES, CHECK_FLOWS]).all(uses))
    }

    /// Attaches what is missing, and detaches what is too much. If it is interrupted, the next call does the rest.
    fn make(&self, instance: &Instance, others: Others) -> Result<()> {
        let needed = !self.interfaces.is_empty() || others == Others::Keep;
        let Some(knobs) = self.knobs.filter(|_| needed) else {
            refuse_filters_elsewhere(instance)?;
            return egress::remove(Egress::Healthcheck, instance);
        };
        let mut loaded = None;
        let mut program = || -> Result<OwnedFd> {
            if loaded.is_none() {
                loaded = Some(load_healthcheck(instance, &knobs, self.options)?);
            }
            let program = loaded.as_ref().map(OwnedFd::try_clone).transpose();
            let program = program
                .map_err(|source| Error::Host { operation: "duplicate a descriptor", source })?;
            program.ok_or(Error::Host {
                operation: "load a program",
                source: std::io::ErrorKind::NotFound.into(),
            })
        };
        let mut there: BTreeMap<u32, Attachment> = BTreeMap::new();
        for attachment in attachments(Egress::Healthcheck, instance)? {
            let is_wanted = self.interfaces.contains_key(&attachment.ifindex)
                && !there.contains_key(&attachment.ifindex);
            if is_wanted && attachment.program.is_some() {
                there.insert(attachment.ifindex, attachment);
            } else if !is_wanted && others == Others::Detach {
                egress::detach(&attachment)?;
            }
        }
        for (ifindex, name) in &self.interfaces {
            match there.get(ifindex) {
                Some(attachment) => {
                    let runs = attachment.program.map(|id| self.is_current(instance, id));
                    if !runs.transpose()?.unwrap_or(false) {
                        egress::replace(attachment, program()?.as_fd())?;
                    }
                }
                None => egress::attach(
                    Egress::Healthcheck,
                    instance,
                    program()?.as_fd(),
                    *ifindex,
                    name,
                )?,
            }
        }
        Ok(())
    }
}

/// What the judgement of a route depends on.
#[derive(Debug)]
struct Host {
    links: BTreeMap<u32, LinkFacts>,
    /// The interfaces that the balancer serves.
    served: BTreeMap<u32, abi::interface>,
    /// The one by which packets go that would leave by another interface.
    exit: Option<u32>,
    first_mark: u32,
    /// The interfaces and VIP addresses for which nobody there answers.
    silent: BTreeSet<(u32, IpAddr)>,
}

/// How long a neighbour may take to answer. One that is there answers within milliseconds. If it is late, the next look
/// finds it: the kernel goes on asking.
const NEIGHBOUR_LIMIT: Duration = Duration::from_secs(1);

/// The interfaces and VIP addresses that are on the interface's network, as the routes say.
fn on_networks(vips: &[IpAddr], ways: &[Ways]) -> BTreeSet<(u32, IpAddr)> {
    let of = |(vip, ways): (&IpAddr, &Ways)| {
        let Ways::By(ways) = ways else { return Vec::new() };
        let here = ways.iter().filter(|way| way.gateway.is_none_or(|gateway| gateway == *vip));
        here.map(|way| (way.interface, *vip)).collect()
    };
    vips.iter().zip(ways).flat_map(of).collect()
}

impl Host {
    fn look(
        served: &[abi::interface],
        first_mark: u32,
        on_networks: &BTreeSet<(u32, IpAddr)>,
    ) -> Result<Self> {
        let links: BTreeMap<_, _> =
            links_blocking()?.into_iter().map(|facts| (facts.link.index, facts)).collect();
        let served = served.iter().map(|entry| (entry.ifindex, *entry));
        let served: BTreeMap<_, _> =
            served.filter(|(ifindex, _)| links.contains_key(ifindex)).collect();
        let can_send =
            |entry: &&abi::interface| entry.own != u64::from(consts::NO_MAC) && entry.mac != [0; 6];
        let exit = served.values().find(can_send).map(|entry| entry.ifindex);
        let silent = silent_blocking(on_networks, NEIGHBOUR_LIMIT)?;
        Ok(Self { links, served, exit, first_mark, silent })
    }

    /// The interfaces by which packets to a VIP's address leave, and the address that they come from.
    fn judge(&self, vip: IpAddr, ways: &Ways) -> Result<(Vec<&LinkFacts>, IpAddr), TunnelObstacle> {
        let ways = match ways {
            Ways::Local => return Err(TunnelObstacle::OwnAddress { vip }),
            Ways::None => return Err(TunnelObstacle::NoRoute { vip, example: self.example(vip) }),
            Ways::By(ways) => ways,
        };
        let mut by = Vec::new();
        for way in ways {
            // A device that has just vanished takes its routes along.
            let Some(facts) = self.links.get(&way.interface) else { continue };
            let interface = facts.link.name.clone();
            if facts.link.mac.is_none() {
                return Err(TunnelObstacle::NotEthernet { vip, interface });
            }
            if !self.served.contains_key(&way.interface) && self.exit.is_none() {
                return Err(TunnelObstacle::NoExit { vip, interface });
            }
            // The kernel would keep the check's packets until it knows a MAC, and then give up.
            if self.silent.contains(&(way.interface, vip)) {
                let example = self.example(vip);
                return Err(TunnelObstacle::NoNeighbour { vip, interface, example });
            }
            by.push(facts);
        }
        match source_to(vip, self.first_mark) {
            Ok(source) if can_be_answered(source) => Ok((by, source)),
            Ok(found) => Err(TunnelObstacle::NoSource { vip, found: Some(found) }),
            Err(error) => Err(match error.raw_os_error() {
                Some(nix::libc::EADDRNOTAVAIL) => TunnelObstacle::NoSource { vip, found: None },
                _ => TunnelObstacle::NoRoute { vip, example: self.example(vip) },
            }),
        }
    }

    /// A route to a VIP's address that would do.
    fn example(&self, vip: IpAddr) -> Option<String> {
        let routes = self.served.iter().filter_map(|(ifindex, entry)| {
            let gateway = IpAddr::from(entry.gateway);
            let usable = gateway.is_ipv4() == vip.is_ipv4() && !gateway.is_unspecified();
            usable.then(|| Some(format!("{gateway} dev {}", self.links.get(ifindex)?.link.name)))?
        });
        routes.into_iter().next()
    }
}

/// Whether other hosts can send to an address.
fn can_be_answered(source: IpAddr) -> bool {
    let link_local = match source {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    !source.is_unspecified() && !source.is_loopback() && !link_local
}
