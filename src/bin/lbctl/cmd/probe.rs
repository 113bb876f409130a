//! `lbctl probe`

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream;
use l4lb::Balancer;
use l4lb::CheckConfig;
use l4lb::CheckKind;
use l4lb::Error;
use l4lb::Instance;
use l4lb::Protocol;
use l4lb::SentBy;
use l4lb::Table;
use l4lb::Via;
use l4lb::Vip;
use l4lb::config_name;
use l4lb::probe;
use l4lb::probe::Prepared;
use l4lb::probe::Probe;
use l4lb::probe::Report;
use serde::Serialize;

use crate::Exit;
use crate::Failure;
use crate::Result;
use crate::args::Kind;
use crate::args::ProbeArgs;
use crate::daemon::block_on;
use crate::output;

/// How many reals are checked at a time.
const AT_A_TIME: usize = 64;

pub(crate) fn run(instance: &Instance, args: &ProbeArgs, json: bool) -> Result {
    let (balancer, table) = match running(instance) {
        Ok((balancer, table)) => (Some(balancer), table),
        // Whoever says everything needs no balancer, unless for the tunnel.
        Err(_) if says_everything(args) => (None, Table::default()),
        Err(error) => return Err(error.into()),
    };
    let config = check(&table, args)?;
    let reals: Vec<IpAddr> = if args.reals.is_empty() {
        let spec = table.vips.get(&args.vip);
        spec.map(|spec| spec.reals.keys().copied().collect()).unwrap_or_default()
    } else {
        args.reals.clone()
    };
    let prepared = Arc::new(Prepared::new(&config).map_err(Error::from)?);
    let tunnel = balancer.as_ref().filter(|_| config.via() == Via::Tunnel);
    let reports = match tunnel {
        Some(balancer) => open_tunnel(balancer, &table, args.vip, &reals)
            .and_then(|marks| probe_all(&prepared, args.vip, &reals, &marks)),
        None => probe_all(&prepared, args.vip, &reals, &BTreeMap::new()),
    };
    let ways = balancer.as_ref().map(|balancer| ways(balancer, args.vip)).unwrap_or_default();
    // Also after an error: what only this command needed goes.
    let closed = tunnel.map_or(Ok(()), Balancer::release_tunnel);
    let reals = reals.iter().copied().zip(reports?);
    let shown = Probed {
        vip: args.vip,
        kind: config.kind,
        via: config.via(),
        port: config.port.unwrap_or(args.vip.port),
        reals: reals
            .map(|(real, report)| {
                let encapsulation = ways.get(&real).copied().filter(|_| tunnel.is_some());
                ProbedReal { real, encapsulation, report }
            })
            .collect(),
    };
    output::report(&shown, json)?;
    closed?;
    let well = shown.reals.iter().all(|real| real.report.outcome.is_healthy());
    Ok(if well && !shown.reals.is_empty() { Exit::Done } else { Exit::Failed })
}

/// How clients' packets go to the reals of a VIP, and checks through the tunnel with them. What cannot be read is left
/// out: the check says enough.
fn ways(balancer: &Balancer, vip: Vip) -> BTreeMap<IpAddr, SentBy> {
    let vips = balancer.vips().unwrap_or_default();
    let reals = vips.into_iter().filter(|status| status.vip == vip).flat_map(|status| status.reals);
    reals.map(|real| (real.address, real.encapsulation)).collect()
}

/// Checks reals, and returns what was found, in their order.
fn probe_all(
    check: &Arc<Prepared>,
    vip: Vip,
    reals: &[IpAddr],
    marks: &BTreeMap<IpAddr, u32>,
) -> Result<Vec<Report>> {
    let probes: Vec<_> = reals
        .iter()
        .map(|real| Probe {
            check: Arc::clone(check),
            vip,
            real: *real,
            mark: marks.get(real).copied(),
        })
        .collect();
    let runs = probes.iter().map(probe::explain);
    let all = async { Ok(stream::iter(runs).buffered(AT_A_TIME).collect::<Vec<_>>().await) };
    Ok(block_on(all)?)
}

fn running(instance: &Instance) -> l4lb::Result<(Balancer, Table)> {
    let balancer = Balancer::open(instance)?;
    let table = balancer.table()?;
    Ok((balancer, table))
}

/// Whether a check can run without anything that a running balancer knows.
fn says_everything(args: &ProbeArgs) -> bool {
    let Some(kind) = args.kind else { return false };
    let mut config = CheckConfig::new(kind.into());
    config.via = args.via.map(Into::into);
    !args.reals.is_empty() && config.via() == Via::Direct
}

/// The check to run.
fn check(table: &Table, args: &ProbeArgs) -> Result<CheckConfig> {
    let spec = table.vips.get(&args.vip);
    if spec.is_none() && !says_everything(args) {
        return Err(Error::NoSuchVip(args.vip).into());
    }
    let of_vip = spec.and_then(|spec| table.check_of(spec));
    let mut config = match (&args.check, args.kind) {
        (Some(name), _) => table
            .checks
            .get(name)
            .cloned()
            .ok_or_else(|| Failure::Usage(format!("{}, and apply it", table.no_check(name))))?,
        (None, Some(kind)) => of_type(args, kind)?,
        (None, None) => match (of_vip, args.vip.protocol) {
            (Some(check), _) => check.clone(),
            (None, Protocol::Tcp) => CheckConfig::new(CheckKind::Tcp),
            (None, Protocol::Udp) => {
                let what =
                    format!("{} has no check; say which to run, such as --type quic", args.vip);
                return Err(Failure::Usage(what));
            }
        },
    };
    if let Some(via) = args.via {
        config.via = Some(via.into());
    }
    config.port = args.port.or(config.port);
    if config.port.unwrap_or(args.vip.port) == 0 && config.kind != CheckKind::Exec {
        let what = format!("{} is for every port; say which to check: --port PORT", args.vip);
        return Err(Failure::Usage(what));
    }
    Ok(config)
}

/// A check of this type with defaults.
fn of_type(args: &ProbeArgs, kind: Kind) -> Result<CheckConfig> {
    let mut config = CheckConfig::new(kind.into());
    let misplaced = [
        ("--name", args.name.is_some(), CheckKind::Dns),
        ("--program", args.program.is_some(), CheckKind::Exec),
    ];
    for (option, is_given, of) in misplaced {
        if is_given && config.kind != of {
            let what = format!("{option} is for --type {}", config_name(&of));
            return Err(Failure::Usage(what));
        }
    }
    config.name.clone_from(&args.name);
    config.program.clone_from(&args.program);
    Ok(config)
}

/// The marks of reals whose checks go through the tunnel. Makes the tunnel, if nobody has.
fn open_tunnel(
    balancer: &Balancer,
    table: &Table,
    vip: Vip,
    reals: &[IpAddr],
) -> Result<BTreeMap<IpAddr, u32>> {
    // Looking for the way takes a while: all reals of a VIP have the same, but for those that are this host.
    let local = balancer.local_reals()?;
    let first = reals.iter().find(|real| !local.contains(real)).or(reals.first());
    let Some(first) = first else { return Ok(BTreeMap::new()) };
    let mark = balancer.tunnel_to(vip.address, *first)?;
    let mut marks = balancer.tunnel_marks(table.health.first_mark)?;
    marks.insert(*first, mark);
    Ok(marks)
}

#[derive(Debug, Serialize)]
struct Probed {
    vip: Vip,
    #[serde(rename = "type")]
    kind: CheckKind,
    via: Via,
    port: u16,
    reals: Vec<ProbedReal>,
}

#[derive(Debug, Serialize)]
struct ProbedReal {
    real: IpAddr,
    /// How the packets of the check went to it, if they took the way of clients' packets.
    encapsulation: Option<SentBy>,
    #[serde(flatten)]
    report: Report,
}

impl fmt::Display for Probed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = config_name(&self.kind);
        if self.reals.is_empty() {
            return writeln!(f, "{} has no reals", self.vip);
        }
        for (n, ProbedReal { real, encapsulation, report }) in self.reals.iter().enumerate() {
            let way = match (self.via, encapsulation) {
                (Via::Tunnel, Some(SentBy::Gue)) => "through the tunnel, by gue",
                (Via::Tunnel, Some(SentBy::L2)) => "as clients' packets, by l2",
                (Via::Tunnel, Some(SentBy::Local)) => {
                    "as clients' packets, which stay on this host"
                }
                (Via::Tunnel, _) => "through the tunnel",
                _ => "direct",
            };
            let blank = if n == 0 { "" } else { "\n" };
            writeln!(f, "{blank}{} {real}: {kind}, port {}, {way}", self.vip, self.port)?;
            for step in &report.steps {
                let milliseconds = step.at.as_secs_f64() * 1000.0;
                writeln!(f, "  {milliseconds:>9.2} ms  {:<12} {}", step.name, step.text)?;
            }
        }
        Ok(())
    }
}
