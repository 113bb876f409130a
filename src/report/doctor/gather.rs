//! Reads what the checks of a balancer look at, and runs them.

use std::collections::BTreeMap;
use std::path::Path;

use super::FindingId;
use super::Fix;
use super::Missing;
use super::OF_NICS;
use super::Severity;
use super::attachment;
use super::checks;
use super::config;
use super::instance;
use super::instance::Running;
use super::is_root;
use super::nic::Attachment;
use super::nic::Nic;
use super::nic::Peer;
use super::report::Answer;
use super::report::Report;
use super::tunnel;
use crate::control::make_plan;
use crate::control::resolve;
use crate::dataplane::balancer::Balancer;
use crate::dataplane::decap;
use crate::dataplane::interfaces::gateway_of;
use crate::instance::Instance;
use crate::instance::kernel_is_at_least;
use crate::instance::links;
use crate::instance::repair::LostPins;
use crate::kernel::host::Files;
use crate::kernel::host::entries;
use crate::kernel::netlink;
use crate::kernel::netlink::Choice;
use crate::kernel::netlink::Features;
use crate::kernel::netlink::LinkFacts;
use crate::kernel::netlink::NetlinkError;
use crate::kernel::probe;
use crate::kernel::queues;
use crate::model::address::Mac;
use crate::model::config::Config;
use crate::model::config::Cpus;
use crate::model::config::InterfaceConfig;
use crate::model::config::PacketsConfig;
use crate::model::error::Error;
use crate::model::error::detach_command;
use crate::model::interface::ResolvedInterface;
use crate::model::table_cpus::TableCpus;
use crate::observe::interfaces::InterfaceStatus;
use crate::observe::readiness::InterfaceState;
use crate::observe::readiness::LinkState;
use crate::observe::readiness::Unready;
use crate::report::readings::Readings;

/// Since this version of Linux, drivers tell what XDP they have.
const DRIVERS_TELL: (u32, u32) = (6, 3);

/// `NETDEV_XDP_ACT_BASIC`: the driver has native XDP.
const NETDEV_XDP_ACT_BASIC: u64 = 1;

/// What doctor needs to look at a balancer's host.
pub(super) struct Look<'a> {
    instance: &'a Instance,
    files: &'a Files,
    lbctl: String,
    /// The instance cannot be read.
    pub(super) closed: bool,
    /// What is known of gateways; `None`: doctor asks for them.
    observed: Option<&'a [InterfaceState]>,
}

impl<'a> Look<'a> {
    pub(super) fn new(instance: &'a Instance, files: &'a Files, lbctl: String) -> Self {
        Self { instance, files, lbctl, closed: false, observed: None }
    }

    /// Looks at the interfaces of a balancer that runs. It asks no gateway.
    pub(super) fn at_interfaces(
        mut self,
        balancer: &Balancer,
        interfaces: &BTreeMap<String, InterfaceStatus>,
        observed: &'a [InterfaceState],
    ) -> crate::model::error::Result<Report> {
        self.observed = Some(observed);
        let mut report = Report::default();
        let (wanted, links) = (balancer.save()?, netlink::links_blocking()?);
        config::own_addresses(&mut report, &wanted);
        config::own_reals(&mut report, &wanted);
        self.interfaces(&mut report, &wanted, Some(interfaces), &links, &self.reapply(None));
        Ok(report)
    }

    /// The command that brings the instance up to date with the host.
    fn reapply(&self, config: Option<&Config>) -> String {
        let lbctl = &self.lbctl;
        match config {
            Some(_) => format!("{lbctl} apply -f FILE"),
            None => format!("{lbctl} save | {lbctl} apply -f /dev/stdin"),
        }
    }

    pub(super) fn run(&self, report: &mut Report, asked: Option<&Config>) {
        let place = format!("instance {}", self.instance.name());
        let opened = self.open_with_pins(report, &place);
        let (balancer, readable) = match opened {
            Ok(opened) => (opened, Answer::Well),
            Err(error) => (None, unreadable(&error)),
        };
        report.add(FindingId::InstanceUnreadable, &place, (!self.closed).then_some(readable));

        let running = balancer.as_ref().map(|(balancer, status)| (balancer.save(), status));
        let (saved, status) = match running {
            Some((Ok(saved), status)) => (Some(saved), Some(status)),
            _ => (None, None),
        };
        let Some(wanted) = asked.or(saved.as_ref()) else {
            report.add(FindingId::NotAttached, &place, Some(self.nothing_runs()));
            return;
        };
        let wanted = match resolve::own_names(wanted) {
            Ok(wanted) => wanted,
            Err(error) => {
                let why = Missing::because(&error).answer();
                report.add(FindingId::InterfaceMissing, &place, Some(why));
                return;
            }
        };
        let wanted = &*wanted;
        config::own_addresses(report, wanted);
        config::own_reals(report, wanted);
        config::gue_sources(report, wanted);
        config::weights(report, wanted);
        config::open_ends(report, wanted);
        checks::of_config(report, wanted);
        let running = status.filter(|_| asked.is_none()).map(|status| &*status.vips);
        checks::unchecked(report, wanted, running);
        config::forwarded_ports(report, wanted, self.files);
        let reapply = self.reapply(asked);
        let links = match netlink::links_blocking() {
            Ok(links) => links,
            Err(error) => {
                report.add(
                    FindingId::InterfaceMissing,
                    "host",
                    Some(Missing::because(&error).answer()),
                );
                return;
            }
        };
        let served = status.map(|status| &status.interfaces);
        let resolved = self.interfaces(report, wanted, served, &links, &reapply);
        if asked.is_some() && is_root() {
            let named = resolved.iter().map(|at| (at.config.name.as_str(), at.ifindex));
            config::neighbours(report, wanted, &named.collect::<Vec<_>>());
        }
        let entries: Vec<_> = resolved.iter().map(ResolvedInterface::entry).collect();
        tunnel::check(report, wanted, &entries, self.files);
        if let Some(readings) = status {
            checks::of_instance(report, &place, &readings.health, readings.serve.is_some());
            self.lost_interfaces(report, wanted, readings, &links);
        }
        self.tables(report, balancer.as_ref(), asked, &resolved, &place, &reapply);
    }

    /// Looks at interfaces that are served and have lost the program. A saved configuration leaves them out.
    fn lost_interfaces(
        &self,
        report: &mut Report,
        wanted: &Config,
        readings: &Readings,
        links: &[LinkFacts],
    ) {
        for (name, status) in &readings.interfaces {
            if status.mode.is_none() && !wanted.interfaces.iter().any(|i| i.name == *name) {
                let place = format!("interface {name}");
                let is_there = links.iter().any(|link| link.link.name == *name);
                let (id, why) = if status.link == LinkState::OtherNamespace {
                    (FindingId::NotAttached, Unready::OtherNamespace(name.clone()))
                } else if is_there {
                    (FindingId::NotAttached, Unready::NotAttached(name.clone()))
                } else {
                    (FindingId::InterfaceMissing, Unready::InterfaceMissing(name.clone()))
                };
                let command = format!("{} apply -f FILE", self.lbctl);
                report.add(id, &place, Some(attachment::lost(&why, &command)));
            }
        }
    }

    /// Looks at the connection tables of what runs, or of a configuration, and at the CPUs that receive packets.
    fn tables(
        &self,
        report: &mut Report,
        running: Option<&(Balancer, Readings)>,
        asked: Option<&Config>,
        resolved: &[ResolvedInterface],
        place: &str,
        reapply: &str,
    ) {
        let receiving =
            queues::receiving(self.files, resolved.iter().map(ResolvedInterface::target));
        match (running, asked, receiving) {
            (Some((balancer, readings)), None, Ok(receiving)) => {
                let facts = balancer
                    .table_cpus(receiving)
                    .and_then(|cpus| Running::read(balancer, readings, cpus, reapply));
                match facts {
                    Ok(facts) => report.run(instance::CHECKS, place, &facts),
                    Err(error) => {
                        report.add(FindingId::InstanceUnreadable, place, Some(unreadable(&error)));
                    }
                }
            }
            (_, Some(config), Ok(receiving)) => {
                if let Cpus::List(list) = &config.connection_table.cpus {
                    let tables = list.iter().copied().collect();
                    let cpus = TableCpus { auto: false, tables, receiving };
                    let answers = [
                        (FindingId::CpusWithoutTable, instance::cpus_without_table(&cpus, reapply)),
                        (FindingId::IdleTables, instance::idle_tables(&cpus, reapply)),
                    ];
                    for (id, answer) in answers {
                        report.add(id, "host", answer);
                    }
                }
                report.add(FindingId::MemoryShort, "host", Some(self.memory(config, resolved)));
            }
            (_, _, Err(error)) => {
                let why = Missing::because(&error).answer();
                report.add(FindingId::CpusWithoutTable, place, Some(why));
            }
            (None, None, _) => {}
        }
    }

    /// Looks at the interfaces of a configuration.
    fn interfaces(
        &self,
        report: &mut Report,
        wanted: &Config,
        served: Option<&BTreeMap<String, InterfaceStatus>>,
        links: &[LinkFacts],
        reapply: &str,
    ) -> Vec<ResolvedInterface> {
        let mut resolved = Vec::new();
        for interface in &wanted.interfaces {
            let served = served.and_then(|served| served.get(&interface.name));
            let facts = self.nic(interface, wanted, served, links, reapply);
            if let Some(link) = &facts.link {
                resolved.push(ResolvedInterface {
                    config: interface.clone(),
                    ifindex: link.link.index,
                    mtu: link.link.mtu,
                    mac: link.link.mac,
                    gateway: facts.gateway.clone().unwrap_or_default(),
                    next_hop: None,
                    passed_over: Vec::new(),
                });
            }
            let place = format!("interface {}", interface.name);
            for checks in OF_NICS {
                report.run(checks, &place, &facts);
            }
        }
        resolved
    }

    /// Why doctor looks at no interface.
    fn nothing_runs(&self) -> Answer {
        let lbctl = &self.lbctl;
        if !is_root() {
            return Missing::not_root().answer();
        }
        if !self.files.has_sysfs() || !self.files.has_procfs() {
            return Answer::Unknown("without sysfs and procfs it cannot be read".to_owned());
        }
        Answer::Unknown(if decap::is_attached(self.instance) {
            format!("it has no balancer, but decapsulates: '{lbctl} doctor --real' looks at that")
        } else {
            format!("it does not run: '{lbctl} doctor -f FILE' looks at what it will need")
        })
    }

    /// As [`Self::open`]; adds a finding if pins are lost.
    fn open_with_pins(
        &self,
        report: &mut Report,
        place: &str,
    ) -> crate::model::error::Result<Option<(Balancer, Readings)>> {
        let opened = if self.closed { Ok(None) } else { self.open() };
        let (answer, opened) = match opened {
            Err(Error::LostPins(lost)) => (Some(lost_pins(&lost, &self.lbctl)), Ok(None)),
            opened => ((!self.closed).then_some(Answer::Well), opened),
        };
        report.add(FindingId::LostPins, place, answer);
        opened
    }

    /// The balancer, if it runs.
    fn open(&self) -> crate::model::error::Result<Option<(Balancer, Readings)>> {
        match Balancer::open(self.instance) {
            Ok(balancer) => {
                let readings = Readings::take(&balancer)?;
                Ok(Some((balancer, readings)))
            }
            Err(Error::NotRunning { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn memory(&self, config: &Config, resolved: &[ResolvedInterface]) -> Answer {
        if !is_root() {
            return Missing::not_root().answer();
        }
        match make_plan::check_fit(self.instance, config, resolved) {
            Ok(()) => Answer::Well,
            Err(error @ Error::Memory { .. }) => Answer::hurts(
                Severity::Error,
                error.to_string(),
                "an apply refuses; the kernel charges maps to the control group of the process that makes them, and memlock does not count",
                Fix::Advice(
                    "lower what the line above names, or give the host or the control group more memory"
                        .to_owned(),
                ),
            ),
            Err(error) => Missing::because(&error).answer(),
        }
    }

    fn nic(
        &self,
        config: &InterfaceConfig,
        wanted: &Config,
        served: Option<&InterfaceStatus>,
        links: &[LinkFacts],
        reapply: &str,
    ) -> Nic {
        let name = &config.name;
        let attachment = attachment_of(served);
        // In this namespace, another interface may have the name.
        let is_here = attachment != Attachment::Elsewhere;
        let link = links.iter().find(|link| is_here && link.link.name == *name).cloned();
        let index = link.as_ref().map(|link| link.link.index);
        let known = index.is_some_and(|index| self.files.knows_interface(name, index));
        let mut nic = Nic {
            name: name.clone(),
            asked: config.xdp_mode,
            attachment,
            foreign: index.and_then(|index| self.foreign(name, index)),
            driver: self.driver(name, link.as_ref(), known),
            native: native(index),
            features: netlink::features_blocking(name).map_err(|error| Missing::because(&error)),
            channels: netlink::channels_blocking(name).map_err(|error| Missing::because(&error)),
            interrupts: None,
            online: self.files.online_cpus().unwrap_or_default(),
            vlans: if known { self.vlans(name) } else { Vec::new() },
            peer: link.as_ref().and_then(|link| peer(link, links, &self.files.proc)),
            gateway: match self.observed {
                Some(observed) => seen_gateway(observed, name),
                None => gateway(config, served, link.as_ref()),
            },
            told: served.cloned(),
            longest: wanted.packets.max_frame - PacketsConfig::ETHERNET_HEADER,
            balances_v6: wanted.vips.iter().any(|vip| vip.address.is_ipv6()),
            overhead: wanted.largest_overhead().unwrap_or(0),
            lbctl: super::lbctl_at(self.instance),
            reapply: reapply.to_owned(),
            link,
        };
        if known {
            nic.interrupts = self.files.receive_interrupts(name, nic.is_generic());
        }
        nic
    }

    fn foreign(&self, name: &str, index: u32) -> Option<(String, Option<String>)> {
        if self.closed {
            return None;
        }
        let links = links::links(self.instance).ok()?;
        let ours = |link: &links::Link| link.ifindex() == Some(index);
        if links.values().any(ours) {
            return None;
        }
        let refusal = match links::Foreign::find(self.instance, name, index) {
            Ok(foreign) => foreign?.refusal(self.instance),
            Err(error) => error,
        };
        match refusal {
            Error::ForeignProgram { interface, program, id, mode, link, .. } => Some((
                format!("it runs XDP program '{program}' (id {id}), which is not this instance's"),
                Some(detach_command(&interface, mode, link)),
            )),
            error => Some((error.to_string(), None)),
        }
    }

    fn driver(&self, name: &str, link: Option<&LinkFacts>, known: bool) -> String {
        let driver = self.files.interface(name).join("device/driver");
        let driver = known.then(|| driver.canonicalize().ok()).flatten();
        let driver = driver.and_then(|path| Some(path.file_name()?.to_str()?.to_owned()));
        driver.or_else(|| link?.kind.clone()).unwrap_or_default()
    }

    /// The VLAN interfaces on top of an interface.
    fn vlans(&self, name: &str) -> Vec<String> {
        let uppers = entries(&self.files.interface(name)).into_iter();
        let uppers = uppers.filter_map(|(entry, _)| Some(entry.strip_prefix("upper_")?.to_owned()));
        let vlan = |upper: &String| self.files.proc.join("net/vlan").join(upper).exists();
        uppers.filter(vlan).collect()
    }
}

fn attachment_of(served: Option<&InterfaceStatus>) -> Attachment {
    match served {
        None => Attachment::NotYet,
        Some(InterfaceStatus { link: LinkState::OtherNamespace, .. }) => Attachment::Elsewhere,
        Some(InterfaceStatus { mode: None, .. }) => Attachment::Lost,
        Some(InterfaceStatus { mode: Some(mode), .. }) => Attachment::Runs(*mode),
    }
}

fn native(index: Option<u32>) -> Result<bool, Missing> {
    let (Some(index), Ok(true)) = (index, kernel_is_at_least(DRIVERS_TELL)) else {
        let (major, minor) = DRIVERS_TELL;
        return Err(Missing::new(format!("drivers tell from Linux {major}.{minor} on")));
    };
    let features = probe::driver_features(index).map_err(|error| Missing::because(&error))?;
    Ok(features & NETDEV_XDP_ACT_BASIC != 0)
}

/// Asks for the gateway. If the instance found it by the routes, this asks for the one in use, and for no other.
fn gateway(
    config: &InterfaceConfig,
    served: Option<&InterfaceStatus>,
    link: Option<&LinkFacts>,
) -> Result<Mac, Missing> {
    if !link.is_some_and(|link| link.link.up && link.link.carrier) {
        let why = "the interface is down".to_owned();
        return Err(Missing { why, is_a_matter_of_rights: true });
    }
    if !is_root() {
        return Err(Missing::not_root());
    }
    let same = |runs: &&InterfaceStatus| gateway_of(&runs.config) == gateway_of(config);
    let next_hop = served.filter(same).and_then(|runs| runs.next_hop);
    let found = resolve::resolve_all(&[(config.clone(), next_hop)], Choice::Keep);
    let found = found.and_then(|found| found.into_iter().next().transpose());
    match found.map_err(|error| Missing::because(&error))? {
        Some(resolved) => Ok(resolved.gateway),
        None => Err(Missing::new("it was not asked for".to_owned())),
    }
}

/// What is known of a gateway without asking for it: whether its MAC is known to be wrong, and whether the gateway
/// will be found again.
fn seen_gateway(observed: &[InterfaceState], name: &str) -> Result<Mac, Missing> {
    let state = observed.iter().find(|state| state.interface == *name);
    if let Some(state) = state.filter(|state| !state.routed && state.unready().is_none()) {
        let interface = state.interface.clone();
        return Err(Missing::because(&NetlinkError::NoDefaultRoute { interface }));
    }
    let why = "it is not asked for".to_owned();
    Err(Missing { why, is_a_matter_of_rights: true })
}

/// The other end of a veth.
fn peer(link: &LinkFacts, links: &[LinkFacts], proc: &Path) -> Option<Result<Peer, Missing>> {
    if link.kind.as_deref() != Some("veth") {
        return None;
    }
    let index = link.lower?;
    let found = match link.lower_namespace {
        None => Ok(links.iter().find(|other| other.link.index == index).cloned()),
        Some(namespace) => {
            netlink::peer_blocking(index, namespace).map_err(|error| Missing::because(&error))
        }
    };
    let here = link.lower_namespace.is_none();
    Some(found.and_then(|peer| {
        let peer = peer.ok_or_else(|| Missing::new("its other end cannot be seen from here"))?;
        let name = peer.link.name;
        let channels = here
            .then(|| netlink::channels_blocking(&name).map_err(|error| Missing::because(&error)));
        let tx_queues = channels.transpose()?.map(|channels| channels.tx + channels.combined);
        let (features, shell) = peer_features(&name, link.lower_namespace, proc);
        let (mtu, native_xdp) = (peer.link.mtu, peer.native_xdp);
        Ok(Peer { name, mtu, native_xdp, tx_queues, features, shell })
    }))
}

/// The offloads of a veth's other end, and what to put before a command that changes them.
fn peer_features(
    name: &str,
    namespace: Option<i32>,
    proc: &Path,
) -> (Result<Features, Missing>, Option<String>) {
    let Some(number) = namespace else {
        let features = netlink::features_blocking(name).map_err(|error| Missing::because(&error));
        return (features, Some(String::new()));
    };
    if !is_root() {
        return (Err(Missing::not_root()), None);
    }
    match netlink::namespace_blocking(number, proc) {
        Ok(Some(namespace)) => {
            let features = namespace.run(|| netlink::features_blocking(name));
            let shell = format!("{} ", namespace.shell());
            (features.map_err(|error| Missing::because(&error)), Some(shell))
        }
        Ok(None) => {
            let why =
                "the namespace has no name, and no process that is visible from here is in it";
            (Err(Missing::new(why)), None)
        }
        Err(error) => (Err(Missing::because(&error)), None),
    }
}

pub(super) fn lost_pins(lost: &LostPins, lbctl: &str) -> Answer {
    Answer::hurts(
        Severity::Error,
        lost.what(),
        "no command can read or change the instance; traffic goes on, except for programs that the line above names",
        Fix::Advice(lost.remedy(lbctl)),
    )
}

fn unreadable(error: &Error) -> Answer {
    Answer::hurts(
        Severity::Error,
        error.to_string(),
        "no command of this build can change it; it goes on forwarding",
        Fix::Advice("use the lbctl that made it, or take it down with that lbctl".to_owned()),
    )
}
